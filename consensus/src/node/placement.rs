//! Which replicas run here: they start and stop as topics come and go.
//!
//! A topic may bring thousands of partitions at once, and each begins with a block of its own, for which four nodes vote.
//! Started all together they would make each other miss the view timer, and the view changes would keep them so; therefore
//! only so many are on the way to their first block at a time. Every node starts them in the same order, so that those under
//! way are the same everywhere.

use super::{NodeError, Shared};
use crate::replica::Progress;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;
use waybill_ledger::contract::SystemState;
use waybill_types::{Codec, LedgerId};

/// Replicas that are on the way to their first block at a time.
const BEGINNING_MAX: usize = 64;
/// How long the others wait for one that does not begin, as where too few nodes are up.
const BEGINNING_WAIT: Duration = Duration::from_secs(2);

/// Starts and stops replicas as topics come and go, until the node stops; then stops them all.
pub(super) async fn follow_topics(shared: Arc<Shared>) {
    let mut changed = shared.system_changed.subscribe();
    let mut stop = shared.stopped();
    loop {
        if let Err(error) = start_placed(shared.clone()).await {
            tracing::error!(%error, "a partition cannot be started");
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    for running in &shared.replicas {
        running.stop.send_replace(true);
    }
}

/// Starts every replica that is placed here and does not run yet; stops those whose topic is gone.
pub(super) async fn start_placed(shared: Arc<Shared>) -> Result<(), NodeError> {
    tokio::task::spawn_blocking(move || {
        let _runtime = Handle::current().enter();
        if !shared.replicas.contains_key(&LedgerId::SYSTEM) {
            let body = shared.genesis.system_body().to_bytes();
            let membership = shared.genesis.system_membership();
            shared.start_replica(LedgerId::SYSTEM, shared.genesis.system_cluster(), membership, body)?;
        }
        let system = shared.global.system();
        shared.stop_deleted(&system);
        shared.start_topics(&system)
    })
    .await
    .unwrap_or(Ok(()))
}

impl Shared {
    fn stop_deleted(&self, system: &SystemState) {
        self.replicas.retain(|ledger, running| {
            let lives = *ledger == LedgerId::SYSTEM || system.topic(ledger.topic).is_some();
            if !lives {
                running.stop.send_replace(true);
                self.by_cluster.remove(&running.handle.cluster);
            }
            lives
        });
    }

    fn start_topics(&self, system: &SystemState) -> Result<(), NodeError> {
        let mut beginning = Beginning::new(self.stopped());
        for topic in system.topics() {
            for ledger in topic.ledgers() {
                let placed = system.membership(ledger).filter(|members| members.index_of(self.me()).is_some());
                let (Some(membership), false) = (placed, self.replicas.contains_key(&ledger)) else { continue };
                let (Some(body), Some(cluster)) = (system.first_body(ledger), system.cluster(self.network, ledger))
                else {
                    continue;
                };
                if beginning.wait_for_room_or_stop() {
                    return Ok(());
                }
                if let Some(replica) = self.start_replica(ledger, cluster, membership, body.to_bytes())? {
                    beginning.add(replica.progress());
                }
            }
        }
        Ok(())
    }
}

/// The replicas that have been started and have no block yet, the oldest first.
struct Beginning {
    replicas: VecDeque<(Instant, watch::Receiver<Progress>)>,
    stop: watch::Receiver<bool>,
}

impl Beginning {
    fn new(stop: watch::Receiver<bool>) -> Self {
        Self { replicas: VecDeque::new(), stop }
    }

    fn add(&mut self, progress: watch::Receiver<Progress>) {
        self.replicas.push_back((Instant::now(), progress));
    }

    /// Waits until one more may start. True if the node stops instead.
    fn wait_for_room_or_stop(&mut self) -> bool {
        while self.replicas.len() >= BEGINNING_MAX
            && let Some((started, mut progress)) = self.replicas.pop_front()
        {
            let stop = &mut self.stop;
            Handle::current().block_on(async move {
                let begun = progress.wait_for(|progress| progress.executed > 0 || progress.halted);
                let deadline = (started + BEGINNING_WAIT).into();
                tokio::select! {
                    _ = tokio::time::timeout_at(deadline, begun) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        }
        *self.stop.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as may begin at a time, each with this progress, and what stops the node.
    fn full() -> (Beginning, Vec<watch::Sender<Progress>>, watch::Sender<bool>) {
        let stop = watch::Sender::new(false);
        let mut beginning = Beginning::new(stop.subscribe());
        let progress = || watch::Sender::new(Progress::default());
        let replicas: Vec<_> = std::iter::repeat_with(progress).take(BEGINNING_MAX).collect();
        for replica in &replicas {
            // So late that no test sees its time run out, but the one that says so.
            let started = Instant::now() + Duration::from_secs(3_600);
            beginning.replicas.push_back((started, replica.subscribe()));
        }
        (beginning, replicas, stop)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn the_next_starts_once_the_oldest_has_a_block() {
        let (mut beginning, replicas, _stop) = full();
        let runtime = runtime();
        let waiting = runtime.spawn_blocking(move || (beginning.wait_for_room_or_stop(), beginning.replicas.len()));
        replicas[0].send_modify(|progress| progress.executed = 1);
        assert_eq!(runtime.block_on(waiting).ok(), Some((false, BEGINNING_MAX - 1)));
    }

    #[test]
    fn one_that_never_begins_holds_the_others_for_a_limited_time() {
        let (mut beginning, _replicas, _stop) = full();
        beginning.replicas[0].0 = Instant::now() - BEGINNING_WAIT;
        let stopped =
            runtime().block_on(async { tokio::task::spawn_blocking(move || beginning.wait_for_room_or_stop()).await });
        assert_eq!(stopped.ok(), Some(false));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let (mut beginning, _replicas, stop) = full();
        let runtime = runtime();
        let waiting = runtime.spawn_blocking(move || beginning.wait_for_room_or_stop());
        stop.send_replace(true);
        assert_eq!(runtime.block_on(waiting).ok(), Some(true));
    }
}

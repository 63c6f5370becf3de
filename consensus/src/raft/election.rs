//! When to stand for leader.
//!
//! openraft's own elections are switched off. It draws a member's election time-out once, when it starts, and checks it at ticks that
//! are longer than the differences between members (openraft pull request 1838; not in any 0.9): two members can split every vote.
//! Here each campaign draws anew.
//!
//! And here a member asks before it campaigns whether the others would vote for it (Ongaro's dissertation, section 9.6,
//! "pre-vote"): they would not while they hear a leader, or if their logs go further. So a member that was cut off does not come
//! back with a high term and depose a leader that everybody else can hear.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::log::LogStore;
use super::message::{Request, Response};
use super::network::Members;
use super::options::Options;
use super::types::{LogId, Metrics, Raft};

/// When this member last heard what makes it wait.
#[derive(Debug)]
pub(super) struct Contact {
    heard: Mutex<Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// From a leader.
    leader_at: Option<Instant>,
    /// From a leader or a candidate that this member voted for, or its own campaign.
    anything_at: Instant,
}

impl Contact {
    pub fn new() -> Self {
        Self { heard: Mutex::new(Heard { leader_at: None, anything_at: Instant::now() }) }
    }

    /// An append or a snapshot of a leader was accepted.
    pub fn on_leader(&self) {
        let now = Instant::now();
        *self.heard.lock() = Heard { leader_at: Some(now), anything_at: now };
    }

    /// This member has voted for somebody, or stood itself.
    pub fn on_vote(&self) {
        self.heard.lock().anything_at = Instant::now();
    }

    fn anything_at(&self) -> Instant {
        self.heard.lock().anything_at
    }

    fn leader_within(&self, lease: Duration) -> bool {
        self.heard.lock().leader_at.is_some_and(|at| at.elapsed() < lease)
    }
}

/// Decides when this member campaigns.
pub(super) struct Election {
    pub id: u64,
    pub raft: Raft,
    pub log: LogStore,
    pub members: Members,
    pub contact: Arc<Contact>,
    pub options: Options,
}

impl Election {
    /// Runs until the group stops.
    pub async fn drive(self) {
        let mut metrics = self.raft.metrics();
        // At once the first time: the only member of a group has nobody to wait for, and the others are asked first.
        let mut patience = Duration::ZERO;
        loop {
            let view = View::of(&metrics.borrow_and_update(), self.id);
            if let Some(why) = stopped(&metrics) {
                tracing::error!(group = %self.options.name, node = self.id, why, "this member of the Raft group has stopped");
                return;
            }
            if view.leads || !view.votes {
                self.contact.on_vote();
                patience = self.draw(self.options.election_min, self.options.election_max);
                // Also when it has stopped.
                let _changed = metrics.changed().await;
                continue;
            }
            if !self.wait_for(patience, &mut metrics).await {
                continue;
            }
            patience = self.campaign(&view).await;
        }
    }

    /// True when nothing was heard for `patience`; false when something changed meanwhile.
    async fn wait_for(&self, patience: Duration, metrics: &mut watch::Receiver<Metrics>) -> bool {
        let deadline = self.contact.anything_at() + patience;
        tokio::select! {
            () = sleep_until(deadline) => self.contact.anything_at() + patience <= Instant::now(),
            _ = metrics.changed() => false,
        }
    }

    /// Stands for leader if enough others would vote for this member. Returns how long to wait before the next time.
    async fn campaign(&self, view: &View) -> Duration {
        self.contact.on_vote();
        if !self.poll(view).await {
            // Asking costs the others nothing: soon again.
            return self.draw(self.options.heartbeat, self.options.heartbeat * 2);
        }
        tracing::info!(group = %self.options.name, node = self.id, "standing for leader");
        self.contact.on_vote();
        if self.raft.trigger().elect().await.is_err() {
            tracing::debug!(group = %self.options.name, "the group has stopped");
        }
        self.draw(self.options.election_min, self.options.election_max)
    }

    async fn poll(&self, view: &View) -> bool {
        let mut granted = vec![self.id];
        let mut asked = JoinSet::new();
        let last_log_id = self.log.last_log_id();
        for member in view.others(self.id) {
            let (members, wait) = (self.members.clone(), self.options.election_min);
            asked.spawn(async move {
                let answer = members.ask(member, &Request::Poll(last_log_id), wait).await;
                matches!(answer, Ok(Response::Poll(true))).then_some(member)
            });
        }
        while !view.is_quorum(&granted) {
            match asked.join_next().await {
                Some(Ok(Some(member))) => granted.push(member),
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    /// A time between `min` and `max`.
    fn draw(&self, min: Duration, max: Duration) -> Duration {
        let mut random = [0; 4];
        if SystemRandom::new().fill(&mut random).is_err() {
            // Members then differ by their numbers at least.
            random = [(self.id as u8).wrapping_mul(37); 4];
        }
        let fraction = f64::from(u32::from_le_bytes(random)) / (f64::from(u32::MAX) + 1.0);
        min + max.saturating_sub(min).mul_f64(fraction)
    }
}

/// Whether this member would vote for one whose log ends with `last_log_id`.
pub(super) fn would_vote(
    metrics: &Metrics,
    contact: &Contact,
    log: &LogStore,
    last_log_id: Option<LogId>,
    lease: Duration,
) -> bool {
    let leads = metrics.current_leader == Some(metrics.id);
    let followed = metrics.millis_since_quorum_ack.is_some_and(|ms| Duration::from_millis(ms) < lease);
    let has_leader = if leads { followed } else { contact.leader_within(lease) };
    !has_leader && last_log_id >= log.last_log_id()
}

/// What an election depends on.
struct View {
    leads: bool,
    votes: bool,
    /// One set of voters, or two while the membership changes: each must have its majority.
    configs: Vec<std::collections::BTreeSet<u64>>,
}

impl View {
    fn of(metrics: &Metrics, id: u64) -> Self {
        let configs = metrics.membership_config.membership().get_joint_config().clone();
        Self {
            leads: metrics.current_leader == Some(id),
            votes: configs.iter().any(|voters| voters.contains(&id)),
            configs,
        }
    }

    fn others(&self, id: u64) -> std::collections::BTreeSet<u64> {
        self.configs.iter().flatten().copied().filter(|member| *member != id).collect()
    }

    fn is_quorum(&self, granted: &[u64]) -> bool {
        let majority = |voters: &std::collections::BTreeSet<u64>| {
            granted.iter().filter(|member| voters.contains(member)).count() > voters.len() / 2
        };
        self.configs.iter().all(majority)
    }
}

/// Waits until `metrics` changes, at most for `wait`.
pub(super) async fn changed_within(metrics: &mut watch::Receiver<Metrics>, wait: Duration) {
    let until = Instant::now() + wait;
    // Of a group that has stopped nothing changes any more. Who did not notice must not try again without a pause.
    if let Ok(Err(_stopped)) = timeout_at(until, metrics.changed()).await {
        sleep_until(until).await;
    }
}

/// Why a group has stopped, if it has.
pub(super) fn stopped(metrics: &watch::Receiver<Metrics>) -> Option<String> {
    let said = metrics.borrow().running_state.as_ref().err().map(ToString::to_string);
    // When openraft's task panics, it only lets go of its end.
    said.or_else(|| metrics.has_changed().is_err().then(|| "panicked".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn view(configs: &[&[u64]]) -> View {
        let configs = configs.iter().map(|voters| voters.iter().copied().collect::<BTreeSet<_>>()).collect();
        View { leads: false, votes: true, configs }
    }

    #[test]
    fn a_quorum_is_a_majority_of_every_config() {
        assert!(view(&[&[1]]).is_quorum(&[1]));
        assert!(!view(&[&[1, 2, 3, 4]]).is_quorum(&[1, 2]));
        assert!(view(&[&[1, 2, 3, 4]]).is_quorum(&[1, 2, 4]));
        assert!(!view(&[&[1, 2, 3], &[4, 5, 6]]).is_quorum(&[1, 2, 4]));
        assert!(view(&[&[1, 2, 3], &[3, 4, 5]]).is_quorum(&[1, 3, 4]));
        assert_eq!(view(&[&[1, 2], &[2, 3]]).others(2), BTreeSet::from([1, 3]));
    }

    #[test]
    fn a_leader_counts_as_heard_for_its_lease_and_a_vote_does_not() {
        let contact = Contact::new();
        contact.on_vote();
        assert!(!contact.leader_within(Duration::from_secs(3600)));
        contact.on_leader();
        assert!(contact.leader_within(Duration::from_secs(3600)));
        assert!(!contact.leader_within(Duration::ZERO));
    }
}

//! Pulling ahead: what other organisations send is fetched as soon as our own ledger has it.
//!
//! One bounded queue and one task per connector, so that a partner that is away delays nobody else's. What finds its
//! queue full stays where it is, and is pulled when a consumer asks for it.

use crate::consignment::Consignment;
use crate::deliver::{Cause, Delivery};
use crate::options::PrefetchOptions;
use dashmap::DashMap;
use metrics::counter;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use waybill_types::NodeId;

/// Groups of one connector that are fetched at the same time: while one is on its way the next is made ready.
const GROUPS_AT_ONCE: usize = 2;

/// Batches in a group.
const GROUP_BATCHES_MAX: usize = 1024;

/// What became of an announced batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It will be pulled.
    Queued,
    /// It is in this node's own outbox.
    Own,
    /// Too much waits already: it will be pulled when it is asked for.
    Lazy,
}

#[derive(Debug)]
pub(crate) struct Prefetch {
    delivery: Arc<Delivery>,
    options: PrefetchOptions,
    queues: DashMap<NodeId, mpsc::Sender<Consignment>>,
}

impl Prefetch {
    pub fn new(delivery: Arc<Delivery>, options: PrefetchOptions) -> Self {
        Prefetch { delivery, options, queues: DashMap::new() }
    }

    pub fn announce(&self, batch: Consignment) -> Announced {
        if batch.connector == self.delivery.node {
            return Announced::Own;
        }
        let queue = self.queues.entry(batch.connector).or_insert_with(|| self.start_queue());
        match queue.try_send(batch) {
            Ok(()) => Announced::Queued,
            Err(_) => {
                counter!("waybill_connector_prefetch_skipped_total").increment(1);
                Announced::Lazy
            }
        }
    }

    fn start_queue(&self) -> mpsc::Sender<Consignment> {
        let (sender, batches) = mpsc::channel(self.options.queue_per_peer_limit.max(1));
        self.delivery.tasks.spawn(drive(self.delivery.clone(), batches, self.options.clone()));
        sender
    }
}

/// Fetches what one connector's queue brings.
async fn drive(delivery: Arc<Delivery>, mut batches: mpsc::Receiver<Consignment>, options: PrefetchOptions) {
    let groups = Arc::new(Semaphore::new(GROUPS_AT_ONCE));
    loop {
        let mut group = Vec::new();
        if batches.recv_many(&mut group, GROUP_BATCHES_MAX).await == 0 {
            return;
        }
        let Ok(turn) = groups.clone().acquire_owned().await else { return };
        let waiting = delivery.fetch(group, Instant::now() + options.deadline, Cause::Ahead);
        delivery.tasks.spawn(async move {
            for waiting in waiting {
                // Failures were logged and counted where they happened; a consumer's request tries again.
                let _ = waiting.outcome().await;
            }
            drop(turn);
        });
    }
}

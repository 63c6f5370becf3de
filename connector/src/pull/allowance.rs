//! How much may be on its way: per partner, in all, and per second.

use super::PullError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use waybill_types::NodeId;

/// Bytes that may be on their way. A request for more than all of them waits for all of them, and is alone then.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget {
    bytes: Arc<Semaphore>,
    limit: usize,
}

impl ByteBudget {
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, u32::MAX as usize);
        ByteBudget { bytes: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Waits for its turn: first come, first served. None only if the budget was closed, which nobody does.
    pub async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let bytes = bytes.clamp(1, self.limit as u64) as u32;
        self.bytes.clone().acquire_many_owned(bytes).await.ok()
    }

    #[cfg(test)]
    pub fn available(&self) -> usize {
        self.bytes.available_permits()
    }
}

/// What a request holds while its payloads are on their way. The partner's part is taken first, so that a partner whose
/// requests pile up waits in its own queue and not at the head of everybody's.
#[derive(Debug)]
pub(crate) struct Hold {
    _of_peer: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Hold {
    pub async fn take(of_peer: &ByteBudget, of_all: &ByteBudget, bytes: u64, node: NodeId) -> Result<Self, PullError> {
        let closed = || PullError::PeerUnavailable { node, reason: "the connector is shutting down".into() };
        let of_peer = of_peer.take(bytes).await.ok_or_else(closed)?;
        let of_all = of_all.take(bytes).await.ok_or_else(closed)?;
        Ok(Hold { _of_peer: of_peer, _of_all: of_all })
    }
}

/// What was not used may be caught up on for this long.
const BURST: Duration = Duration::from_millis(100);

/// A cap on bytes per second.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    next: Mutex<Instant>,
}

impl Pace {
    pub fn new(bytes_per_second: u64) -> Self {
        Pace { bytes_per_second: bytes_per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits until so many more bytes may have been read.
    pub async fn take(&self, bytes: usize) {
        let costs = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second);
        let at = {
            let mut next = self.next.lock();
            let now = Instant::now();
            let start = (*next).max(now.checked_sub(BURST).unwrap_or(now));
            *next = start + costs;
            *next
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_per_second_are_capped_for_all_together() {
        let pace = Arc::new(Pace::new(1_000_000));
        let started = Instant::now();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let pace = pace.clone();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        pace.take(50_000).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1_900) && took <= Duration::from_millis(2_010), "{took:?}");
    }

    #[tokio::test]
    async fn more_than_everything_waits_for_everything() {
        let budget = ByteBudget::new(100);
        let all = budget.take(1_000_000).await.unwrap();
        assert_eq!(budget.available(), 0);
        drop(all);
        let first = budget.take(60).await.unwrap();
        let second = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(60).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
    }
}

//! What consumer groups have passed goes on the partitions' ledgers, batched: only the newest offset of each group and
//! partition counts (the paper's steps 19 to 22).
//!
//! The organisation's own ledger has the truth; what was not on the partition's ledger when the node stopped is found
//! again when it starts.

use crate::server::stopped;
use parking_lot::Mutex;
use ring::hmac;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use waybill_consensus::node::Node;
use waybill_types::transaction::Commit;
use waybill_types::{Digest, LedgerId, Offset, TopicId, Transaction};

/// Commits gather for so long.
const LINGER: Duration = Duration::from_millis(100);
/// Groups and partitions that wait to be ledgered; beyond it the oldest news is dropped, and found again at a restart.
const PENDING_MAX: usize = 1_000_000;

/// Gathers commits for the ledgers.
pub struct Commits {
    /// Group names go on ledgers as HMAC under this key (decision 15).
    key: hmac::Key,
    pending: Mutex<HashMap<(LedgerId, String), Offset>>,
    some: Notify,
}

impl Commits {
    /// With the organisation's key for group names.
    pub fn new(key: &[u8]) -> Self {
        Commits {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            pending: Mutex::new(HashMap::new()),
            some: Notify::new(),
        }
    }

    /// A group has committed `offset`.
    pub fn passed(&self, group: &str, topic: TopicId, partition: u32, offset: Offset) {
        let key = (LedgerId::new(topic, partition), group.to_string());
        let mut pending = self.pending.lock();
        if pending.len() < PENDING_MAX || pending.contains_key(&key) {
            pending.insert(key, offset);
            self.some.notify_one();
        } else {
            metrics::counter!("waybill_commits_dropped_total").increment(1);
        }
    }

    /// What stands for the group's name on ledgers.
    pub fn group_digest(&self, group: &str) -> Digest {
        let tag = hmac::sign(&self.key, group.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Digest(bytes)
    }

    /// Puts what gathers on the ledgers until the node stops.
    pub async fn drive(self: Arc<Self>, node: Node, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = all_stored(&node) => self.remember_unledgered(&node),
            () = stopped(&mut stop) => return,
        }
        loop {
            tokio::select! {
                () = self.some.notified() => {}
                () = stopped(&mut stop) => break,
            }
            tokio::select! {
                () = tokio::time::sleep(LINGER) => {}
                () = stopped(&mut stop) => {}
            }
            self.submit(&node);
        }
        self.submit(&node);
    }

    fn submit(&self, node: &Node) {
        let pending = std::mem::take(&mut *self.pending.lock());
        for ((ledger, group), offset) in pending {
            let Some(replica) = node.replica(ledger) else { continue };
            let commit = Commit { group: self.group_digest(&group), offset };
            // Its outcome is nobody's to wait for: the receipt will show it.
            if let Err(error) = replica.submit(Transaction::Commit(commit)) {
                tracing::debug!(%ledger, %error, "a commit waits for the next one");
                self.passed(&group, ledger.topic, ledger.partition, offset);
            }
        }
    }

    /// A commit may have reached the organisation's ledger and not the partition's before the node stopped.
    fn remember_unledgered(&self, node: &Node) {
        let organisation = node.organisation();
        for group in organisation.groups() {
            for (topic, partition, committed) in organisation.committed_all(&group) {
                let Some(replica) = node.replica(LedgerId::new(topic, partition)) else { continue };
                let passed = committed.offset - 1;
                let ledgered =
                    passed < 0 || replica.reader.commits(passed).is_ok_and(|orgs| orgs.contains_key(node.org()));
                if !ledgered {
                    self.passed(&group, topic, partition, committed.offset);
                }
            }
        }
    }
}

/// Until all that the organisation's ledger held when the node stopped is here again.
async fn all_stored(node: &Node) {
    const PATIENCE: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_secs(1);
    while let Err(error) = node.organisation_barrier(PATIENCE).await {
        tracing::debug!(%error, "the organisation's ledger is not here yet");
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_offset_of_a_group_counts_and_names_do_not_show() {
        let commits = Commits::new(b"secret");
        commits.passed("audit", TopicId([1; 16]), 0, 5);
        commits.passed("audit", TopicId([1; 16]), 0, 9);
        let pending = commits.pending.lock();
        assert_eq!(pending.values().copied().collect::<Vec<_>>(), [9]);
        assert_ne!(commits.group_digest("audit"), Commits::new(b"other").group_digest("audit"));
    }
}

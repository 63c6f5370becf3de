//! Keeping the log short, and telling how the group stands.
//!
//! openraft makes a snapshot every so many entries. The global ledger's entries range from a hundred bytes to a megabyte, and its
//! snapshot is the whole ledger, so that rule would either pin gigabytes of the journal or write the ledger again and again.
//! Here a snapshot is due when the log since the last one is long, **and** not small beside that one: so all snapshots
//! together write a small multiple of what the log did, however large the state grows.

use std::sync::Arc;

use openraft::LogIdOptionExt;

use super::log::LogStore;
use super::options::Options;
use super::snapshot::Snapshots;
use super::types::{Metrics, Raft};

/// The log since the last snapshot must have at least this fraction of its bytes.
const SNAPSHOT_FRACTION: u64 = 4;

/// Decides when to make snapshots and to purge the log.
pub(super) struct Housekeeping {
    pub raft: Raft,
    pub log: LogStore,
    pub snapshots: Arc<Snapshots>,
    pub options: Options,
}

impl Housekeeping {
    /// Runs until the group stops.
    pub async fn drive(self) {
        let gauges = Gauges::new(&self.options.name);
        let mut metrics = self.raft.metrics();
        // The snapshot that was there when one was asked for: nothing more is asked for until another one is.
        let mut asked_after = None;
        loop {
            let (applied, snapshot) = {
                let metrics = metrics.borrow_and_update();
                gauges.set(&metrics, &self.log);
                (metrics.last_applied, metrics.snapshot)
            };
            let Some(applied) = applied else {
                if metrics.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if asked_after != Some(snapshot) && self.is_due(snapshot.index(), applied.index) {
                asked_after = Some(snapshot);
                if self.raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
            if let (Some(snapshot), Some(excess)) = (snapshot, self.log.last_beyond(self.options.kept_bytes)) {
                // Never beyond the snapshot; and nothing is asked for that is being done already.
                let upto = excess.min(snapshot.index);
                if self.log.purged_index() < Some(upto) && self.raft.trigger().purge_log(upto).await.is_err() {
                    return;
                }
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    fn is_due(&self, snapshot: Option<u64>, applied: u64) -> bool {
        let entries = applied.saturating_sub(snapshot.unwrap_or(0));
        let bytes = self.log.bytes_between(snapshot, applied);
        let long = entries >= self.options.snapshot_after_entries.max(1) || bytes >= self.options.snapshot_after_bytes;
        let last_bytes = self.snapshots.newest().map_or(0, |newest| newest.file_bytes());
        long && bytes >= last_bytes / SNAPSHOT_FRACTION
    }
}

/// What operators see of a group.
struct Gauges {
    leads: metrics::Gauge,
    term: metrics::Gauge,
    last_index: metrics::Gauge,
    applied_index: metrics::Gauge,
    snapshot_index: metrics::Gauge,
    log_bytes: metrics::Gauge,
}

impl Gauges {
    fn new(name: &str) -> Self {
        let group = || name.to_owned();
        Self {
            leads: metrics::gauge!("waybill_raft_leads", "group" => group()),
            term: metrics::gauge!("waybill_raft_term", "group" => group()),
            last_index: metrics::gauge!("waybill_raft_last_index", "group" => group()),
            applied_index: metrics::gauge!("waybill_raft_applied_index", "group" => group()),
            snapshot_index: metrics::gauge!("waybill_raft_snapshot_index", "group" => group()),
            log_bytes: metrics::gauge!("waybill_raft_log_bytes", "group" => group()),
        }
    }

    fn set(&self, metrics: &Metrics, log: &LogStore) {
        let float = |index: Option<u64>| index.unwrap_or(0) as f64;
        self.leads.set(if metrics.current_leader == Some(metrics.id) { 1.0 } else { 0.0 });
        self.term.set(metrics.current_term as f64);
        self.last_index.set(float(metrics.last_log_index));
        self.applied_index.set(float(metrics.last_applied.index()));
        self.snapshot_index.set(float(metrics.snapshot.index()));
        self.log_bytes.set(log.bytes_between(None, u64::MAX) as f64);
    }
}

//! Time-outs and limits of a group.

use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;

/// How a group behaves. [`Options::new`] has the defaults, which suit links between companies.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the group in log lines.
    pub name: String,
    /// How long a leader waits for the answer to an append. It sends a heartbeat every 1.5 times this (openraft's tick).
    pub heartbeat: Duration,
    /// A follower that has not heard its leader for a time drawn between this...
    pub election_min: Duration,
    /// ... and this stands for leader. For as long as `election_min` after hearing a leader it votes for nobody else.
    pub election_max: Duration,
    /// A snapshot is made when so many entries were applied since the last...
    pub snapshot_after_entries: u64,
    /// ... or so many bytes of them; but not while they are few beside the bytes of the last snapshot.
    pub snapshot_after_bytes: u64,
    /// So many entries stay in the log although a snapshot covers them, so that a member that was away shortly needs no snapshot...
    pub kept_entries: u64,
    /// ... but not more than so many bytes.
    pub kept_bytes: u64,
    /// Bytes of entries in one append; a single larger entry goes alone.
    pub append_bytes_limit: u64,
    /// How long an append with entries may be on its way, over a slow link.
    pub append_timeout: Duration,
    /// Bytes of recent entries kept in memory; older ones are read back from the journal.
    pub cache_bytes_limit: u64,
    /// Committed entries that wait to be applied; beyond, appends of a leader have to wait.
    pub backlog_bytes_limit: u64,
    /// Bytes of a snapshot that are sent at once.
    pub snapshot_chunk_bytes: u64,
    /// How long the answer to a chunk may take; installing the whole snapshot counts as part of the last.
    pub snapshot_timeout: Duration,
    /// Commands that wait to be proposed.
    pub waiting_commands_limit: usize,
    /// Their bytes.
    pub waiting_bytes_limit: usize,
}

impl Options {
    /// Heartbeat 250 ms, elections after 1 to 2 s, a snapshot every 10,000 entries or 256 MiB with 1,000 or 64 MiB kept, appends
    /// of 1 MiB.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_secs(1),
            election_max: Duration::from_secs(2),
            snapshot_after_entries: 10_000,
            snapshot_after_bytes: 256 << 20,
            kept_entries: 1_000,
            kept_bytes: 64 << 20,
            append_bytes_limit: 1 << 20,
            append_timeout: Duration::from_secs(10),
            cache_bytes_limit: 8 << 20,
            backlog_bytes_limit: 32 << 20,
            snapshot_chunk_bytes: 1 << 20,
            snapshot_timeout: Duration::from_secs(60),
            waiting_commands_limit: 4096,
            waiting_bytes_limit: 64 << 20,
        }
    }

    pub(super) fn to_openraft(&self) -> Result<Arc<openraft::Config>, String> {
        let election_ms = millis(self.election_min);
        let config = openraft::Config {
            cluster_name: self.name.clone(),
            heartbeat_interval: millis(self.heartbeat),
            // Elections are ours. What openraft takes from these two is how long a vote request may take, and the lease for which
            // a follower votes for nobody but the leader that it heard: one more than the shortest election timeout.
            enable_elect: false,
            election_timeout_min: election_ms,
            election_timeout_max: election_ms.saturating_add(1),
            install_snapshot_timeout: millis(self.snapshot_timeout),
            snapshot_max_chunk_size: self.snapshot_chunk_bytes,
            // Ours too: see `housekeeping`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.kept_entries,
            replication_lag_threshold: self.snapshot_after_entries.saturating_add(self.kept_entries),
            ..openraft::Config::default()
        };
        config.validate().map(Arc::new).map_err(|error| error.to_string())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

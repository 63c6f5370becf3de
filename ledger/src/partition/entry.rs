//! One batch's place on a partition's ledger.

use waybill_types::transaction::Send;
use waybill_types::{Height, LedgerId, NodeId, Offset, OrgId};

/// A batch that was appended: what the ledger knows of it, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub ledger: LedgerId,
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// The block.
    pub height: Height,
    /// The index of its leaf in the ledger's Merkle tree.
    pub leaf_index: u64,
    /// The block's executed time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Whether the topic was set to `LogAppendTime` when the batch was appended: its records then bear `time_ms`.
    pub log_append_time: bool,
    /// The organisation that sent it.
    pub sender: OrgId,
    /// That organisation's node, whose connector has the payload.
    pub origin: NodeId,
    /// What was sent.
    pub send: Send,
}

impl Entry {
    /// The offset of the batch's last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.send.record_count)).saturating_sub(1)
    }

    /// The largest timestamp of its records as consumers see them, in milliseconds since 1970.
    pub fn max_timestamp_ms(&self) -> i64 {
        if self.log_append_time { i64::try_from(self.time_ms).unwrap_or(i64::MAX) } else { self.send.max_timestamp_ms }
    }
}

//! What the ledger says of one batch: enough to find its payload, to check it and to know whom to ask for it.

use waybill_ledger::contract::Grant;
use waybill_types::{Commitment, LedgerId, NodeId, Offset, OrgId};

/// One batch as its ledger describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consignment {
    /// The ledger it is on.
    pub ledger: LedgerId,
    /// The offset of its first record.
    pub first: Offset,
    /// The offset of its last record.
    pub last: Offset,
    /// Who sent it.
    pub sender: OrgId,
    /// The node whose connector holds the payload.
    pub connector: NodeId,
    /// What the payload must make.
    pub commitment: Commitment,
    /// The canonical batch's size in bytes.
    pub size_bytes: u32,
}

impl From<&Grant> for Consignment {
    fn from(grant: &Grant) -> Self {
        let entry = grant.entry();
        Consignment {
            ledger: entry.ledger,
            first: entry.base_offset,
            last: entry.last_offset(),
            sender: entry.sender.clone(),
            connector: entry.send.connector,
            commitment: entry.send.commitment,
            size_bytes: entry.send.size_bytes,
        }
    }
}

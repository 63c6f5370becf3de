//! What the connector asks its own node before it hands out a byte. It trusts no other node's answer.

use waybill_ledger::contract::Grant;
use waybill_types::{LedgerId, Offset, OrgId};

/// The node's ledgers, as its connector needs them. Asked for every batch and again for every chunk of a long one, so
/// an answer must be quick and must know of a revocation at once.
pub trait Permissions: Send + Sync + 'static {
    /// Whether `org` may have the batch whose first record has this offset, by the node's own copy of the ledger.
    fn authorise(&self, org: &OrgId, ledger: LedgerId, offset: Offset) -> Result<Grant, Refusal>;
}

/// Why a batch is not handed out. The codes travel between connectors: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The contract does not allow this organisation to read it.
    #[error("this organisation may not read this topic")]
    Denied,
    /// The node has no such ledger. It may come.
    #[error("this node does not know the partition")]
    UnknownLedger,
    /// The node's copy of the ledger does not reach so far yet.
    #[error("this node has not reached the offset yet")]
    NotReached,
    /// No batch begins at this offset.
    #[error("no batch begins at this offset")]
    NoBatch,
    /// The offset lies before the log start.
    #[error("the offset lies before the log start")]
    Gone,
}

impl Refusal {
    /// The name in answers, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::Denied => "denied",
            Refusal::UnknownLedger => "unknown-ledger",
            Refusal::NotReached => "not-reached",
            Refusal::NoBatch => "no-batch",
            Refusal::Gone => "gone",
        }
    }
}

//! Permission to hand out one batch's bytes, as a value that only the check can make.

use super::rights::may_read;
use crate::partition::Entry;
use std::sync::Arc;
use waybill_types::OrgId;
use waybill_types::transaction::Config;

/// Proof that the contract has allowed `reader` this batch. Connectors hand out bytes against one and nothing else.
#[derive(Clone, Debug)]
pub struct Grant {
    reader: OrgId,
    entry: Arc<Entry>,
    config_version: u32,
}

impl Grant {
    /// Who may have the bytes.
    pub fn reader(&self) -> &OrgId {
        &self.reader
    }

    /// The batch.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The version of the configuration that allowed it.
    pub fn config_version(&self) -> u32 {
        self.config_version
    }
}

/// Why a reader gets no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The organisation is neither the owner nor a reader.
    #[error("the organisation may not read this topic")]
    NotAReader,
    /// The configuration and the entry belong to different ledgers.
    #[error("the configuration is of another ledger than the batch")]
    OtherLedger,
}

/// The reasons that a [`Refuse`](waybill_types::transaction::Refuse) transaction can give. The numbers are on ledgers:
/// never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RefuseReason {
    /// The organisation may not read this topic.
    NotAReader = 1,
    /// The request names no batch of this ledger.
    UnknownBatch = 2,
    /// The sender has the batch no more.
    PayloadMissing = 3,
    /// The sender's copy is damaged.
    PayloadCorrupt = 4,
}

impl RefuseReason {
    /// The reason with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        use RefuseReason::*;
        [NotAReader, UnknownBatch, PayloadMissing, PayloadCorrupt].into_iter().find(|reason| *reason as u16 == number)
    }
}

impl From<Denied> for RefuseReason {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotAReader => RefuseReason::NotAReader,
            Denied::OtherLedger => RefuseReason::UnknownBatch,
        }
    }
}

/// Decides whether `org` may have the bytes of `entry` now. Asked on every fetch and every pull, so that a revocation
/// takes effect at once.
pub fn authorise(config: &Config, org: &OrgId, entry: &Arc<Entry>) -> Result<Grant, Denied> {
    if config.ledger != entry.ledger {
        return Err(Denied::OtherLedger);
    }
    if !may_read(config, org) {
        return Err(Denied::NotAReader);
    }
    Ok(Grant { reader: org.clone(), entry: entry.clone(), config_version: config.version })
}

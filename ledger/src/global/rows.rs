//! The values behind the global ledger's keys.

use crate::contract::Topic;
use crate::partition::Tip;
use waybill_types::codec_struct;

/// A ledger as far as it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LedgerRow {
    pub tip: Tip,
    /// How many commands about it were rejected.
    pub rejected: u64,
}
codec_struct!(LedgerRow { tip, rejected });

/// A topic that was created, whether or not it was deleted since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    /// The topic.
    pub topic: Topic,
    /// The leaf of the system ledger that created it, or gave it the last of its partitions.
    pub leaf_index: u64,
}
codec_struct!(KnownTopic { topic, leaf_index });

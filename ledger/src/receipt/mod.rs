//! Receipts: one file that proves what happened to one offset, and verifies offline against the genesis alone.
//!
//! # Format
//! UTF-8 text, each line ended by a newline, in the spirit of C2SP `tlog-proof`:
//!
//! ```text
//! waybill-receipt@v1
//! network <name> <digest of the genesis>
//! topic <name> <topic id>
//! partition <index>
//! offset <offset>
//!
//! created <owner>             the transaction that created the topic, on the system ledger, or that gave it more partitions
//! entry <base64>              the encoded Merkle leaf: time, transaction, outcome, the envelope's header
//! signature <base64>          the actor's Ed25519 signature over the envelope's header
//! branch <base64>             from the transaction to the envelope's root; no line where it is alone in it
//! index <index>               the leaf's index in the ledger's tree,
//! <base64>                    and its inclusion path, as in a tlog-proof
//!
//! waybill/...                 the system ledger's checkpoint: a C2SP signed note under the genesis' replicas
//!
//! sent <organisation>         then retrieved, received, committed, refused, each like `created`,
//! ...                         by level, then by name of organisation
//!
//! waybill/...                 the partition's checkpoint, under the replicas that the topic's creation names
//!
//! digest <hex>                over all bytes before this line
//! ```
//!
//! A section's `index` line and path, an empty line and the note after it are the body of a C2SP `tlog-proof`.
//!
//! # What rests on what
//! Genesis -> system ledger's certificate -> topic's creation -> partition's replicas and first body -> cluster ->
//! partition's certificate -> leaf -> envelope's signature by the actor's own key. The digest line at the end rests on
//! nothing: it only tells a damaged file from a forged one. Parsing is strict, and rendering what was parsed must give
//! the file back, so that no bit has a second spelling.
//!
//! # What can grow
//! Asking twice gives the same bytes while the evidence is the same. When a further organisation retrieves, receives,
//! commits or is refused, a section is added; the checkpoint is then the first one that covers the newest section. An
//! organisation's evidence at a level, once there, stays the earliest one.

mod export;
mod note;
mod proof;
mod reader;
mod story;
mod text;
mod utc;
mod verify;

pub use export::{Deliveries, ExportError, LedgerSource, SourceError, SystemSource, export};
pub use note::{Cosignature, Note};
pub use proof::Proof;
pub use story::{Event, Story};
pub use text::ParseError;
pub use verify::{VerifyError, verify};

pub(crate) use story::refusal;
pub(crate) use utc::utc;

use core::fmt;
use waybill_types::{NetworkId, Offset, OrgId, TopicId};

/// The largest receipt that is read, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 1 << 20;

/// Everything that a receipt file holds. Nothing in it is proved before [`verify`] has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The network's name, for people.
    pub network_name: String,
    /// The genesis' digest.
    pub network: NetworkId,
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The offset that this is about.
    pub offset: Offset,
    /// Who created the topic and owns it.
    pub owner: OrgId,
    /// The transaction that created the topic, or the last that gave it more partitions.
    pub created: Proof,
    /// The system ledger's checkpoint over it.
    pub system_note: Note,
    /// What happened to the offset, by level and organisation.
    pub evidence: Vec<Evidence>,
    /// The partition's checkpoint over it.
    pub partition_note: Note,
}

/// One thing that happened to the offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What.
    pub level: Level,
    /// Whom it is about: the sender, or the organisation that retrieved, received, committed or was refused.
    pub org: OrgId,
    /// The transaction.
    pub proof: Proof,
}

/// How far a delivery came, for one organisation. The numbers are in stored keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// The batch is on the ledger.
    Sent = 1,
    /// The sender served it on a signed request.
    Retrieved = 2,
    /// The receiver's connector verified the bytes, and signed that.
    Received = 3,
    /// A consumer group of the receiver passed it.
    Committed = 4,
    /// The organisation was refused it.
    Refused = 5,
}

impl Level {
    /// All levels, in the order in which receipts list them.
    pub const ALL: [Level; 5] = [Level::Sent, Level::Retrieved, Level::Received, Level::Committed, Level::Refused];

    /// The word for it, in receipts and in audits.
    pub const fn word(self) -> &'static str {
        match self {
            Level::Sent => "sent",
            Level::Retrieved => "retrieved",
            Level::Received => "received",
            Level::Committed => "committed",
            Level::Refused => "refused",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

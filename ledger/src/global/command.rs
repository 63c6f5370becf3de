//! What Raft carries to the global ledger, and the answers.

use core::fmt;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::{Block, Certificate, Height, LedgerId, codec_enum, codec_struct};

/// How many blocks one command can carry.
pub const BLOCKS_PER_ANCHOR_MAX: usize = 4096;

/// How many bytes one command can have.
pub const ANCHOR_BYTES_MAX: usize = 64 << 20;

/// One entry of the global ledger's Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Certified blocks of one ledger.
    Anchor(Anchor),
}
codec_enum!(Command { 1 => Anchor });

/// Consecutive blocks, and a certificate over the last of them. Those that are known already are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The ledger.
    pub ledger: LedgerId,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// Covers the last block, and by its header's link all before.
    pub certificate: Certificate,
}
codec_struct!(Anchor { ledger, blocks, certificate });

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ledger reaches to this height now; it may have before.
    Anchored(Height),
    /// Nothing was taken over.
    Rejected(Rejected),
}
codec_enum!(Answer { 1 => Anchored, 2 => Rejected });

/// Why a command was not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where the ledger's chain ends.
    pub height: Height,
    /// The kind of reason.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
}
codec_struct!(Rejected { height, reason, detail });

/// Kinds of reasons why a command is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The bytes are not a command, or too many.
    Malformed = 1,
    /// No blocks, too many, or not consecutive ones.
    NoRange = 2,
    /// The system ledger's blocks here know no such ledger: try again when they do.
    UnknownLedger = 3,
    /// Blocks are missing between the chain's end and the first block given.
    Gap = 4,
    /// Another block is already there.
    Conflict = 5,
    /// The blocks or the certificate do not verify.
    Unproved = 6,
}

impl Codec for Reason {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        use Reason::*;
        let number = u8::decode(input)?;
        let known = [Malformed, NoRange, UnknownLedger, Gap, Conflict, Unproved];
        known.into_iter().find(|reason| *reason as u8 == number).ok_or(DecodeError::UnknownTag(number))
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (the ledger ends at height {})", self.detail, self.height)
    }
}

impl std::error::Error for Rejected {}

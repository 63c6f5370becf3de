//! What PBFT orders (a [`Body`]) and what execution derives from it (a [`Block`]).
//!
//! PBFT votes on the digest of the body. Header, outcomes and offsets are derived when the body executes, in order,
//! so that a null request in a view change is just an empty block and the pipeline stays deep.

use crate::codec::{Reader, decode_items};
use crate::digest::{Digest, Hasher};
use crate::envelope::{Envelope, EnvelopeHeader};
use crate::ids::{Height, LedgerId, Offset};
use crate::merkle;
use crate::transaction::{Config, Transaction};
use crate::{Codec, DecodeError, codec_struct};
use alloc::vec::Vec;
use bytes::Bytes;

/// What the primary proposes for one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The primary's clock, in milliseconds since 1970. Executed time is the larger of this and the block before.
    pub proposed_time_ms: u64,
    /// Asks for a checkpoint after this block (also made at every K-th block).
    pub checkpoint: bool,
    /// The ledger's configuration: in the first block, and only there.
    pub config: Option<Config>,
    /// The envelopes, in the order of their execution.
    pub envelopes: Vec<Envelope>,
}
codec_struct!(Body { proposed_time_ms, checkpoint, config, envelopes });

impl Body {
    /// Decodes a body whose digest a quorum has agreed on: correct replicas among it have decoded it before, and have
    /// checked that the envelopes' roots are those of their transactions. It is not checked again here, since that is to
    /// hash every transaction once more. For everything else there is [`Codec::from_bytes`].
    pub fn from_agreed(encoded: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::new(encoded.clone());
        let body = Body {
            proposed_time_ms: Codec::decode(&mut input)?,
            checkpoint: Codec::decode(&mut input)?,
            config: Codec::decode(&mut input)?,
            envelopes: decode_items(&mut input, Envelope::decode_agreed)?,
        };
        input.finish()?;
        Ok(body)
    }

    /// The digest that PBFT votes on, over the body's bytes as they were received.
    pub fn digest(encoded: &[u8]) -> Digest {
        Hasher::digest(b"waybill-body-v1", encoded)
    }
}

/// What execution derived. Its hash is the chain head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The ledger.
    pub ledger: LedgerId,
    /// The place in the chain, from 1; also the PBFT sequence.
    pub height: Height,
    /// The hash of the header before; zero for the first.
    pub previous: Digest,
    /// The digest of the body.
    pub body: Digest,
    /// Executed time, in milliseconds since 1970; never falls.
    pub time_ms: u64,
    /// The offset that the next batch will get.
    pub next_offset: Offset,
    /// How many leaves the ledger's Merkle tree has after this block.
    pub tree_size: u64,
    /// The root of that tree.
    pub tree_root: Digest,
}
codec_struct!(Header { ledger, height, previous, body, time_ms, next_offset, tree_size, tree_root });

impl Header {
    /// The chain head after this block.
    pub fn hash(&self) -> Digest {
        Hasher::digest(b"waybill-header-v1", &self.to_bytes())
    }
}

/// A block as nodes copy it: the header, the body as it was voted on, and what became of each transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What execution derived.
    pub header: Header,
    /// The encoded [`Body`].
    pub body: Bytes,
    /// One outcome per executed transaction, in order (the configuration of the first block included).
    pub outcomes: Vec<Outcome>,
}
codec_struct!(Block { header, body, outcomes });

/// What became of a transaction. Rejections are recorded too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A batch got its offset.
    Appended {
        /// The offset of the batch's first record.
        base_offset: Offset,
    },
    /// An idempotent producer repeated a batch; this is the offset that it got the first time.
    Duplicate {
        /// The offset of the batch's first record.
        base_offset: Offset,
    },
    /// Any other transaction was accepted.
    Recorded,
    /// The contract refused it.
    Rejected(Rejection),
}

/// Why a contract refused a transaction. The numbers are on ledgers: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Rejection {
    /// The origin's organisation may not do this here.
    NotAuthorised = 1,
    /// An idempotent producer left a gap (Kafka: OUT_OF_ORDER_SEQUENCE_NUMBER).
    OutOfOrderSequence = 2,
    /// An idempotent producer was fenced by a newer epoch (Kafka: INVALID_PRODUCER_EPOCH).
    ProducerFenced = 3,
    /// The sequence is older than what is remembered (Kafka: DUPLICATE_SEQUENCE_NUMBER).
    DuplicateSequence = 4,
    /// The batch is above the topic's `max.message.bytes`.
    TooLarge = 5,
    /// The transaction makes no sense on this ledger or in this state.
    Invalid = 6,
    /// A topic of this name exists.
    TopicExists = 7,
    /// No such topic.
    UnknownTopic = 8,
    /// A configuration that is not one newer than the current one.
    StaleVersion = 9,
    /// An offset range that this ledger has not reached.
    OffsetOutOfRange = 10,
    /// A batch whose timestamps lie too far in the ledger's future (Kafka: INVALID_TIMESTAMP).
    InvalidTimestamp = 11,
}

impl Rejection {
    /// The rejection with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        use Rejection::*;
        [
            NotAuthorised,
            OutOfOrderSequence,
            ProducerFenced,
            DuplicateSequence,
            TooLarge,
            Invalid,
            TopicExists,
            UnknownTopic,
            StaleVersion,
            OffsetOutOfRange,
            InvalidTimestamp,
        ]
        .into_iter()
        .find(|rejection| *rejection as u16 == number)
    }
}

impl Codec for Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Appended { base_offset } => (1u8, *base_offset).encode(out),
            Outcome::Duplicate { base_offset } => (2u8, *base_offset).encode(out),
            Outcome::Recorded => 3u8.encode(out),
            Outcome::Rejected(rejection) => (4u8, *rejection as u16).encode(out),
        }
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match u8::decode(input)? {
            1 => Outcome::Appended { base_offset: Offset::decode(input)? },
            2 => Outcome::Duplicate { base_offset: Offset::decode(input)? },
            3 => Outcome::Recorded,
            4 => Outcome::Rejected(
                Rejection::from_number(u16::decode(input)?).ok_or(DecodeError::Invalid("unknown rejection"))?,
            ),
            tag => return Err(DecodeError::UnknownTag(tag)),
        })
    }
}

/// A leaf of the ledger's Merkle tree: what happened, and what came of it. A receipt proves leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The block.
    pub height: Height,
    /// The block's executed time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The envelope and the transaction's place in it; none for the first block's configuration.
    pub origin: Option<(EnvelopeHeader, u32)>,
    /// What was asked.
    pub transaction: Transaction,
    /// What came of it.
    pub outcome: Outcome,
}
codec_struct!(Leaf { height, time_ms, origin, transaction, outcome });

impl Leaf {
    /// The leaf's hash in the tree.
    pub fn hash(&self) -> Digest {
        merkle::leaf_hash(&self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreed_body_is_the_same_and_only_its_roots_are_not_looked_at() {
        use crate::keys::Signature;
        use crate::transaction::{Commit, Transaction};
        use crate::{ClusterId, NodeId};
        let commit = |offset| Transaction::Commit(Commit { group: Digest::ZERO, offset });
        let envelope = |number| {
            let transactions = (0..3).map(commit).collect();
            Envelope::new(ClusterId(Digest::ZERO), NodeId(1), 0, number, transactions, |_| Signature([7; 64]))
        };
        let body =
            Body { proposed_time_ms: 5, checkpoint: true, config: None, envelopes: (0..3).map(envelope).collect() };
        let bytes = body.to_bytes();
        assert_eq!(Body::from_agreed(&bytes), Ok(body.clone()));
        for length in 0..bytes.len() {
            let cut = bytes.slice(..length);
            assert_eq!(Body::from_agreed(&cut), Err(DecodeError::Truncated));
        }
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        assert_eq!(Body::from_agreed(&longer), Err(DecodeError::TrailingBytes));
        let mut other = body.clone();
        other.envelopes[1].header.root = Digest::ZERO;
        assert_eq!(Body::from_agreed(&other.to_bytes()), Ok(other.clone()));
        assert!(Body::from_bytes(&other.to_bytes()).is_err());
        other.envelopes[1].header.count = 4;
        assert!(Body::from_agreed(&other.to_bytes()).is_err());
    }

    #[test]
    fn rejections_keep_their_numbers() {
        for number in 1..=11 {
            assert_eq!(Rejection::from_number(number).map(|rejection| rejection as u16), Some(number));
        }
        assert_eq!(Rejection::from_number(0), None);
        assert_eq!(Rejection::from_number(12), None);
    }
}

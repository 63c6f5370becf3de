//! A signed group of transactions of one node, and in which order envelopes execute.
//!
//! An Ed25519 verification costs every replica about 35 us, so a node signs the Merkle root of a *group* once
//! (RFC 6962 tree over the encoded transactions). A receipt carries that signature and one transaction's path.

use crate::codec::{Codec, DecodeError, Reader};
use crate::codec_struct;
use crate::digest::Digest;
use crate::ids::{ClusterId, NodeId};
use crate::keys::{PublicKey, Signature};
use crate::merkle;
use crate::transaction::Transaction;
use alloc::{collections::BTreeMap, vec::Vec};

/// What an origin signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// The cluster that is to order it: an envelope counts nowhere else.
    pub cluster: ClusterId,
    /// The node that speaks.
    pub origin: NodeId,
    /// Grows with each start of the origin, so that it can number from 0 again.
    pub incarnation: u64,
    /// The place among the origin's envelopes in this incarnation, from 0, without gaps.
    pub number: u64,
    /// How many transactions follow.
    pub count: u32,
    /// The Merkle root over the encoded transactions.
    pub root: Digest,
}
codec_struct!(EnvelopeHeader { cluster, origin, incarnation, number, count, root });

impl EnvelopeHeader {
    /// The bytes under the signature.
    pub fn preimage(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(b"waybill-envelope-v1\0");
        self.encode(&mut bytes);
        bytes
    }
}

/// A signed group of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What is signed.
    pub header: EnvelopeHeader,
    /// The origin's signature over [`EnvelopeHeader::preimage`].
    pub signature: Signature,
    /// The transactions, at least one.
    pub transactions: Vec<Transaction>,
}

impl Codec for Envelope {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.signature.encode(out);
        self.transactions.encode(out);
    }
    /// Checks what can be checked without a key: count and root fit the transactions.
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let envelope = Self::decode_agreed(input)?;
        if envelope.header.root != merkle::root(&leaf_hashes(&envelope.transactions)) {
            return Err(DecodeError::Invalid("an envelope's root differs from its transactions"));
        }
        Ok(envelope)
    }
}

impl Envelope {
    /// Takes an envelope off the front of a body that was decoded before, and whose root was checked then.
    pub(crate) fn decode_agreed(input: &mut Reader) -> Result<Self, DecodeError> {
        let envelope = Envelope {
            header: Codec::decode(input)?,
            signature: Codec::decode(input)?,
            transactions: Codec::decode(input)?,
        };
        if envelope.transactions.is_empty() || envelope.header.count as usize != envelope.transactions.len() {
            return Err(DecodeError::Invalid("an envelope's count differs from its transactions"));
        }
        Ok(envelope)
    }

    /// Groups and signs transactions.
    pub fn new(
        cluster: ClusterId,
        origin: NodeId,
        incarnation: u64,
        number: u64,
        transactions: Vec<Transaction>,
        sign: impl FnOnce(&[u8]) -> Signature,
    ) -> Self {
        let root = merkle::root(&leaf_hashes(&transactions));
        let header = EnvelopeHeader { cluster, origin, incarnation, number, count: transactions.len() as u32, root };
        Envelope { signature: sign(&header.preimage()), header, transactions }
    }

    /// Whether the origin's key made the signature. The root was checked when the envelope was decoded.
    #[must_use]
    pub fn verifies(&self, key: &PublicKey) -> bool {
        key.verifies(&self.header.preimage(), &self.signature)
    }

    /// The path from a transaction to the signed root.
    pub fn path(&self, index: usize) -> Vec<Digest> {
        merkle::path(&leaf_hashes(&self.transactions), index)
    }
}

/// The leaves of an envelope's tree.
fn leaf_hashes(transactions: &[Transaction]) -> Vec<Digest> {
    let mut buffer = Vec::with_capacity(256);
    transactions
        .iter()
        .map(|transaction| {
            buffer.clear();
            transaction.encode(&mut buffer);
            merkle::leaf_hash(&buffer)
        })
        .collect()
}

/// How far each origin has come: an envelope executes once, in the order of its origin's numbers, and a new
/// incarnation ends the one before. It is part of the contract's state, and the PBFT core keeps a copy to propose by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    next: BTreeMap<NodeId, (u64, u64)>,
}

impl Origins {
    /// Whether an envelope is the next of its origin.
    #[must_use]
    pub fn expects(&self, header: &EnvelopeHeader) -> bool {
        let (incarnation, number) = self.next_of(header.origin);
        (header.incarnation == incarnation && header.number == number)
            || (header.incarnation > incarnation && header.number == 0)
    }

    /// Notes that an envelope executes; false, and nothing noted, if it is not the next of its origin.
    #[must_use]
    pub fn advance(&mut self, header: &EnvelopeHeader) -> bool {
        let expected = self.expects(header);
        if expected {
            self.next.insert(header.origin, (header.incarnation, header.number + 1));
        }
        expected
    }

    /// The origin's incarnation and next number; (0, 0) before its first envelope.
    pub fn next_of(&self, origin: NodeId) -> (u64, u64) {
        self.next.get(&origin).copied().unwrap_or((0, 0))
    }
}

impl Codec for Origins {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.next.len() as u32).encode(out);
        for (origin, next) in &self.next {
            origin.encode(out);
            next.encode(out);
        }
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let pairs: Vec<(NodeId, (u64, u64))> = Codec::decode(input)?;
        if !pairs.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(DecodeError::Invalid("origins are not in ascending order"));
        }
        Ok(Origins { next: pairs.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(incarnation: u64, number: u64) -> EnvelopeHeader {
        EnvelopeHeader {
            cluster: ClusterId(Digest::ZERO),
            origin: NodeId(1),
            incarnation,
            number,
            count: 1,
            root: Digest::ZERO,
        }
    }

    #[test]
    fn an_envelope_executes_once_and_in_order() {
        let mut origins = Origins::default();
        assert!(!origins.advance(&header(5, 1)), "a gap");
        assert!(origins.advance(&header(5, 0)));
        assert!(!origins.advance(&header(5, 0)), "a repetition");
        assert!(origins.advance(&header(5, 1)));
        assert!(origins.advance(&header(6, 0)), "a new incarnation");
        assert!(!origins.advance(&header(5, 2)), "the old incarnation has ended");
        assert_eq!(Origins::from_bytes(&origins.to_bytes()), Ok(origins));
    }
}

//! Who and what: organisations, nodes, topics, ledgers and the PBFT clusters that order them.

use crate::codec::{Codec, DecodeError, Reader};
use crate::codec_struct;
use crate::digest::{Digest, Hasher};
use alloc::{sync::Arc, vec::Vec};
use bytes::Bytes;
use core::fmt;

/// An organisation's name: 1 to 63 of `a-z`, `0-9` and `-`, as in a DNS label, because it is one in certificates.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrgId(Arc<str>);

impl OrgId {
    /// Accepts a well-formed name.
    pub fn new(name: &str) -> Result<Self, DecodeError> {
        let well_formed = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !name.starts_with('-')
            && !name.ends_with('-');
        if well_formed {
            Ok(OrgId(Arc::from(name)))
        } else {
            Err(DecodeError::Invalid("an organisation's name is 1 to 63 of a-z, 0-9 and '-', not at its ends"))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Codec for OrgId {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.len() as u32).encode(out);
        out.extend_from_slice(self.0.as_bytes());
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let name = Bytes::decode(input)?;
        OrgId::new(core::str::from_utf8(&name).map_err(|_| DecodeError::Invalid("text is not UTF-8"))?)
    }
}

/// A node: one process of one organisation. It is also the node's Kafka broker id, so it stays below 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);
impl Codec for NodeId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(NodeId(u32::decode(input)?))
    }
}
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A topic's id, chosen at random when the topic is created (Kafka's topic id, KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);
impl Codec for TopicId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(TopicId(input.array()?))
    }
}
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One local ledger: a partition of a topic, or the system ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId {
    /// The topic, or [`LedgerId::SYSTEM`]'s reserved one.
    pub topic: TopicId,
    /// The partition's index in its topic, from 0.
    pub partition: u32,
}
codec_struct!(LedgerId { topic, partition });

impl LedgerId {
    /// The system ledger (`__system`): organisations, nodes, topics, permissions.
    pub const SYSTEM: LedgerId = LedgerId { topic: TopicId(*b"waybill-system\0\0"), partition: 0 };

    /// A partition of a topic.
    pub const fn new(topic: TopicId, partition: u32) -> Self {
        LedgerId { topic, partition }
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == LedgerId::SYSTEM { write!(f, "__system") } else { write!(f, "{}-{}", self.topic, self.partition) }
    }
}

/// A network: the digest of its genesis. Every signature of the network starts from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub Digest);
impl Codec for NetworkId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(NetworkId(Digest::decode(input)?))
    }
}

/// A PBFT cluster: network, ledger and the content of the ledger's first block. Replicas that were told different
/// beginnings are different clusters, and no vote of one counts in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub Digest);
impl Codec for ClusterId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(ClusterId(Digest::decode(input)?))
    }
}

impl ClusterId {
    /// The cluster that orders `ledger` of `network`, whose first body has this digest.
    pub fn new(network: NetworkId, ledger: LedgerId, first_body: Digest) -> Self {
        let mut preimage = Vec::new();
        network.encode(&mut preimage);
        ledger.encode(&mut preimage);
        first_body.encode(&mut preimage);
        ClusterId(Hasher::digest(b"waybill-cluster-v1", &preimage))
    }
}

/// Which set of replicas orders a ledger; it grows by one at each reconfiguration, from 1.
pub type Epoch = u32;
/// A block's place in its chain, from 1. It equals the PBFT sequence that ordered it.
pub type Height = u64;
/// A Kafka record offset.
pub type Offset = i64;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_organisation_is_a_dns_label() {
        for good in ["a", "acme", "hospital-b", "4711"] {
            assert_eq!(OrgId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "Acme", "a.b", "a b", &"x".repeat(64)] {
            assert!(OrgId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_system_ledger_has_a_name() {
        assert_eq!(LedgerId::SYSTEM.to_string(), "__system");
        assert_eq!(LedgerId::new(TopicId([1; 16]), 3).to_string(), "01010101010101010101010101010101-3");
    }
}

//! The global ledger's keys in sled. Numbers are big-endian, so that a kind's keys of one ledger ascend with them.

use crate::keys::GLOBAL;
use crate::receipt::Level;
use waybill_types::{Codec, Height, LedgerId, Offset, OrgId, TopicId};

/// The first bytes of the keys' kinds; all lie from [`GLOBAL`] on, and below the organisation ledger's.
const NETWORK: u8 = GLOBAL;
const APPLIED: u8 = GLOBAL + 1;
const REJECTED_ELSEWHERE: u8 = GLOBAL + 2;
pub(super) const LEDGER: u8 = GLOBAL + 3;
const BLOCK: u8 = GLOBAL + 4;
const CERTIFICATE: u8 = GLOBAL + 5;
const HASHES: u8 = GLOBAL + 6;
const BLOCK_OF_LEAF: u8 = GLOBAL + 7;
pub(super) const TOPIC: u8 = GLOBAL + 8;
const SENT: u8 = GLOBAL + 9;
const DELIVERED: u8 = GLOBAL + 10;

/// A key of the global ledger. But for the first four kinds each is written once and never deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// Which network this is.
    Network,
    /// Raft's log id of the last command.
    Applied,
    /// How many commands were rejected that are about no known ledger.
    RejectedElsewhere,
    /// A ledger's tip, and how many commands about it were rejected.
    Ledger(LedgerId),
    /// A block, encoded.
    Block(LedgerId, Height),
    /// The certificate of a height.
    Certificate(LedgerId, Height),
    /// Hashes of a level of the Merkle tree's tiles, from a place of that level on, all of one tile.
    Hashes(LedgerId, u8, u64),
    /// The first leaf of each block that has leaves; the value is the height.
    BlockOfLeaf(LedgerId, u64),
    /// A topic that was ever created.
    Topic(TopicId),
    /// A batch, by its base offset.
    Sent(LedgerId, Offset),
    /// What an organisation got, from an offset on; see [`super::deliveries`].
    Delivered(LedgerId, Track<'a>, Offset),
}

/// One organisation's evidence of one level on a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Track<'a> {
    pub level: Level,
    /// Whom it is about.
    pub org: &'a OrgId,
    /// Who says so, where it is somebody else. Nobody's report can hide another's.
    pub by: Option<&'a OrgId>,
}

impl Key<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut key = self.prefix();
        match self {
            Key::Network | Key::Applied | Key::RejectedElsewhere | Key::Ledger(_) | Key::Topic(_) => {}
            Key::Block(_, number) | Key::Certificate(_, number) => number.encode(&mut key),
            Key::Hashes(_, _, number) | Key::BlockOfLeaf(_, number) => number.encode(&mut key),
            // Offsets of batches are never negative.
            Key::Sent(_, offset) | Key::Delivered(_, _, offset) => offset.encode(&mut key),
        }
        key
    }

    /// The key without the number at its end: what all keys share among which a number is searched.
    pub(super) fn prefix(&self) -> Vec<u8> {
        match self {
            Key::Network => vec![NETWORK],
            Key::Applied => vec![APPLIED],
            Key::RejectedElsewhere => vec![REJECTED_ELSEWHERE],
            Key::Ledger(ledger) => of(LEDGER, ledger),
            Key::Block(ledger, _) => of(BLOCK, ledger),
            Key::Certificate(ledger, _) => of(CERTIFICATE, ledger),
            Key::Hashes(ledger, level, _) => of(HASHES, &(*ledger, *level)),
            Key::BlockOfLeaf(ledger, _) => of(BLOCK_OF_LEAF, ledger),
            Key::Topic(topic) => of(TOPIC, topic),
            Key::Sent(ledger, _) => of(SENT, ledger),
            Key::Delivered(ledger, track, _) => {
                let mut key = of(DELIVERED, &(*ledger, track.level as u8));
                track.org.encode(&mut key);
                track.by.cloned().encode(&mut key);
                key
            }
        }
    }
}

fn of(kind: u8, rest: &impl Codec) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(kind);
    rest.encode(&mut key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_in_the_global_range_and_ascend() {
        let ledger = LedgerId::new(TopicId([0xff; 16]), u32::MAX);
        let org = OrgId::new("acme").unwrap();
        let track = Track { level: Level::Received, org: &org, by: Some(&org) };
        let keys = |number: u64| {
            let offset = number as i64;
            [
                Key::Network,
                Key::Applied,
                Key::RejectedElsewhere,
                Key::Ledger(ledger),
                Key::Block(ledger, number),
                Key::Certificate(ledger, number),
                Key::Hashes(ledger, 1, number),
                Key::BlockOfLeaf(ledger, number),
                Key::Topic(ledger.topic),
                Key::Sent(ledger, offset),
                Key::Delivered(ledger, track, offset),
            ]
        };
        for (low, high) in keys(255).iter().zip(&keys(256)) {
            assert!(low.encode() <= high.encode());
            assert_eq!(low.prefix(), high.prefix());
            assert!((GLOBAL..crate::keys::ORGANISATION).contains(&low.encode()[0]));
        }
        let all: Vec<_> = keys(1).iter().map(Key::encode).collect();
        assert!(all.is_sorted_by(|left, right| left < right), "kinds are distinct");
    }
}

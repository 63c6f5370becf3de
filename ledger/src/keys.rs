//! Every key that is stored in sled, with its meaning and its life.
//!
//! A node has one tree for all its ledgers. A key is a byte that says its kind, the ledger, and numbers in big-endian
//! order, so that the keys of one kind and ledger are one ascending range. All of it is derived from the journal:
//! it may be deleted as a whole at any time while the node does not run.
//!
//! | first byte | whose |
//! |---|---|
//! | `0x01` to `0x3f` | the partitions' ([`Key`]) |
//! | [`GLOBAL`] to `0x7f` | the global ledger's |
//! | [`ORGANISATION`] and above | the organisation ledger's |

use bytes::Bytes;
use waybill_types::{Codec, Height, LedgerId, Offset, OrgId};

/// The first byte of the global ledger's keys, and those up to `0x7f`.
pub const GLOBAL: u8 = 0x40;
/// The first byte of the organisation ledger's keys, and those above.
pub const ORGANISATION: u8 = 0x80;

/// A key of a partition's ledger. Each is written by a flush, up to a stable checkpoint, and never above it; none is
/// deleted but with its ledger. The values are in `partition::rows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Where the chain ends in sled. Overwritten by each flush; small, since a start reads those of all ledgers.
    Applied(LedgerId),
    /// The contract's state there. Overwritten by each flush.
    Contract(LedgerId),
    /// A block: its header, its body's position in the journal, its outcomes. Written once.
    Block(LedgerId, Height),
    /// A run of batches, by the base offset of the first. Written once.
    Entries(LedgerId, Offset),
    /// A tile of the Merkle tree: level and index. Rewritten until it is full.
    Tile(LedgerId, u8, u64),
    /// The first leaf of each block that has leaves; the value is the block's height. Written once.
    BlockOfLeaf(LedgerId, u64),
    /// The certificate of a stable checkpoint. Written once.
    Certificate(LedgerId, Height),
    /// What was delivered, see [`Delivered`]. Written once: the first evidence stays the one that is shown.
    Delivered(LedgerId, Delivered<'a>),
}

/// Evidence for a range of offsets, as `partition::deliveries` cuts and finds it; the value is the index of the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// Whose evidence, and of what.
    pub track: Track<'a>,
    /// The binary tree's node that the range is kept at: nodes of a level have 2^level offsets.
    pub level: u8,
    /// The node's place in its level.
    pub index: u64,
    /// Which half of the node it is about.
    pub half: Half,
    /// How far the range reaches from the node's middle: its first offset on the left, its last on the right.
    pub reach: u64,
}

/// One organisation's evidence of one kind. What one organisation says of another counts only where it may speak, so
/// it is kept apart from what others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track<'a> {
    /// What kind of evidence.
    pub kind: DeliveryKind,
    /// Who says so, if not the receiver itself.
    pub by: Option<&'a OrgId>,
    /// The receiver.
    pub org: &'a OrgId,
}

/// A half of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Half {
    /// The lower offsets.
    Left = 0,
    /// The upper offsets.
    Right = 1,
}

/// The levels of evidence that a delivery leaves on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum DeliveryKind {
    /// The sender's connector served it.
    Retrieved = 1,
    /// The receiver's connector verified and stored it.
    Received = 2,
    /// A consumer group passed it.
    Committed = 3,
}

/// The first bytes of the keys' kinds.
mod kind {
    pub const APPLIED: u8 = 0x01;
    pub const BLOCK: u8 = 0x02;
    pub const ENTRIES: u8 = 0x03;
    pub const TILE: u8 = 0x04;
    pub const BLOCK_OF_LEAF: u8 = 0x05;
    pub const CERTIFICATE: u8 = 0x06;
    pub const DELIVERED: u8 = 0x07;
    pub const CONTRACT: u8 = 0x08;
    /// The first is what makes the others count: it is deleted first.
    pub const ALL: [u8; 8] = [APPLIED, BLOCK, ENTRIES, TILE, BLOCK_OF_LEAF, CERTIFICATE, DELIVERED, CONTRACT];
}

impl Key<'_> {
    /// The key's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Key::Applied(ledger) => start(kind::APPLIED, *ledger),
            Key::Block(ledger, height) => numbered(kind::BLOCK, *ledger, *height),
            Key::Contract(ledger) => start(kind::CONTRACT, *ledger),
            Key::Entries(ledger, offset) => numbered(kind::ENTRIES, *ledger, *offset as u64),
            Key::Tile(ledger, level, index) => {
                let mut key = start(kind::TILE, *ledger);
                key.push(*level);
                index.encode(&mut key);
                key
            }
            Key::BlockOfLeaf(ledger, leaf) => numbered(kind::BLOCK_OF_LEAF, *ledger, *leaf),
            Key::Certificate(ledger, height) => numbered(kind::CERTIFICATE, *ledger, *height),
            Key::Delivered(ledger, delivered) => {
                let mut key = delivered.half_prefix(*ledger);
                delivered.reach.encode(&mut key);
                key
            }
        }
    }
}

impl Delivered<'_> {
    /// What all evidence of one track for one half of a node starts with; the reach follows.
    pub fn half_prefix(&self, ledger: LedgerId) -> Vec<u8> {
        let mut key = self.track.prefix(ledger);
        key.push(self.level);
        self.index.encode(&mut key);
        key.push(self.half as u8);
        key
    }
}

impl Track<'_> {
    /// What all evidence of the track starts with.
    pub fn prefix(&self, ledger: LedgerId) -> Vec<u8> {
        let mut key = tracks_prefix(ledger, self.kind, self.by);
        push_org(Some(self.org), &mut key);
        key
    }
}

/// What all evidence of one kind that `by` gives starts with; the receiver follows, see [`receiver_in`].
pub fn tracks_prefix(ledger: LedgerId, kind: DeliveryKind, by: Option<&OrgId>) -> Vec<u8> {
    let mut key = start(kind::DELIVERED, ledger);
    key.push(kind as u8);
    push_org(by, &mut key);
    key
}

/// The receiver in a [`Key::Delivered`] that starts with `tracks_prefix`.
pub fn receiver_in(key: &[u8], tracks_prefix: &[u8]) -> Option<OrgId> {
    let (length, rest) = key.strip_prefix(tracks_prefix)?.split_first()?;
    OrgId::new(std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?).ok()
}

/// An organisation's name has at most 63 bytes; a length of 0 says that there is none.
fn push_org(org: Option<&OrgId>, key: &mut Vec<u8>) {
    let name = org.map_or("", OrgId::as_str);
    key.push(name.len() as u8);
    key.extend_from_slice(name.as_bytes());
}

/// What the keys [`Key::Applied`] of all ledgers start with.
pub fn applied_prefix() -> [u8; 1] {
    [kind::APPLIED]
}

/// The ledger of a [`Key::Applied`].
pub fn applied_ledger(key: &[u8]) -> Option<LedgerId> {
    LedgerId::from_bytes(&Bytes::copy_from_slice(key.strip_prefix(&applied_prefix())?)).ok()
}

/// The number at the end of a key that ends with one.
pub fn trailing_number(key: &[u8]) -> Option<u64> {
    let bytes = key.get(key.len().checked_sub(8)?..)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// What all keys of a partition's ledger start with, kind by kind: to delete a ledger.
pub fn prefixes(ledger: LedgerId) -> impl Iterator<Item = Vec<u8>> {
    kind::ALL.into_iter().map(move |kind| start(kind, ledger))
}

fn start(kind: u8, ledger: LedgerId) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(kind);
    ledger.encode(&mut key);
    key
}

fn numbered(kind: u8, ledger: LedgerId, number: u64) -> Vec<u8> {
    let mut key = start(kind, ledger);
    number.encode(&mut key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_types::TopicId;

    const LEDGER: LedgerId = LedgerId { topic: TopicId([7; 16]), partition: 2 };

    #[test]
    fn keys_of_a_kind_ascend_with_their_numbers_and_stay_within_their_ledger() {
        let offsets = [0, 1, 255, 256, 1 << 40];
        let keys: Vec<_> = offsets.iter().map(|offset| Key::Entries(LEDGER, *offset).encode()).collect();
        assert!(keys.is_sorted_by(|left, right| left < right));
        let next = Key::Entries(LedgerId { partition: 3, ..LEDGER }, 0).encode();
        assert!(keys.iter().all(|key| *key < next));
        assert_eq!(
            keys.iter().map(|key| trailing_number(key)).collect::<Option<Vec<_>>>().unwrap(),
            [0, 1, 255, 256, 1 << 40]
        );
    }

    #[test]
    fn every_kind_is_found_by_a_prefix_of_its_ledger_and_lies_below_the_global_ledger() {
        let (org, sender) = (OrgId::new("acme").unwrap(), OrgId::new("globex").unwrap());
        let track = Track { kind: DeliveryKind::Retrieved, by: Some(&sender), org: &org };
        let delivered = Delivered { track, level: 3, index: 9, half: Half::Right, reach: 77 };
        let keys = [
            Key::Applied(LEDGER),
            Key::Contract(LEDGER),
            Key::Block(LEDGER, 1),
            Key::Entries(LEDGER, 1),
            Key::Tile(LEDGER, 1, 1),
            Key::BlockOfLeaf(LEDGER, 1),
            Key::Certificate(LEDGER, 1),
            Key::Delivered(LEDGER, delivered),
        ];
        for key in &keys {
            let bytes = key.encode();
            assert!(prefixes(LEDGER).any(|prefix| bytes.starts_with(&prefix)), "{key:?}");
            assert!(bytes[0] < GLOBAL);
        }
        assert_eq!(applied_ledger(&keys[0].encode()), Some(LEDGER));
        assert_eq!(applied_ledger(&keys[1].encode()), None);
        let key = keys[7].encode();
        assert_eq!((trailing_number(&key), key.starts_with(&delivered.half_prefix(LEDGER))), (Some(77), true));
        let tracks = tracks_prefix(LEDGER, DeliveryKind::Retrieved, Some(&sender));
        assert_eq!(receiver_in(&key, &tracks), Some(org));
        assert_eq!(receiver_in(&key, &tracks_prefix(LEDGER, DeliveryKind::Retrieved, None)), None);
    }
}

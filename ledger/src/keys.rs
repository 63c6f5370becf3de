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

use waybill_types::{Codec, Height, LedgerId, Offset, OrgId};

/// The first byte of the global ledger's keys, and those up to `0x7f`.
pub const GLOBAL: u8 = 0x40;
/// The first byte of the organisation ledger's keys, and those above.
pub const ORGANISATION: u8 = 0x80;

/// A key of a partition's ledger. Each is written by a flush, up to a stable checkpoint, and never above it; none is
/// deleted but with its ledger. The values are in `partition::rows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// The state after the last block that is in sled: chain tip and contract. Overwritten by each flush.
    Applied(LedgerId),
    /// A block: its header, its body's position in the journal, its outcomes. Written once.
    Block(LedgerId, Height),
    /// A batch, by its base offset. Written once.
    Entry(LedgerId, Offset),
    /// A tile of the Merkle tree: level and index. Rewritten until it is full.
    Tile(LedgerId, u8, u64),
    /// The first leaf of each block that has leaves; the value is the block's height. Written once.
    BlockOfLeaf(LedgerId, u64),
    /// The certificate of a stable checkpoint. Written once.
    Certificate(LedgerId, Height),
    /// What was delivered, see [`Delivered`]. Written once: the first evidence stays the one that is shown.
    Delivered(LedgerId, Delivered<'a>),
}

/// An organisation's evidence for the aligned range of offsets `index * 2^level ..(index + 1) * 2^level`; the value is
/// the index of the leaf.
///
/// Any range of offsets is the union of at most two such aligned ranges per level, and any offset lies in exactly one
/// per level. So overlapping, repeated and unordered reports cost a bounded number of keys, and a look-up is one short
/// scan per level, however the reports were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// What kind of evidence.
    pub kind: DeliveryKind,
    /// The aligned range's size is 2^level.
    pub level: u8,
    /// The aligned range's place among those of its level.
    pub index: u64,
    /// The receiver.
    pub org: &'a OrgId,
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
    pub const ENTRY: u8 = 0x03;
    pub const TILE: u8 = 0x04;
    pub const BLOCK_OF_LEAF: u8 = 0x05;
    pub const CERTIFICATE: u8 = 0x06;
    pub const DELIVERED: u8 = 0x07;
    pub const ALL: [u8; 7] = [APPLIED, BLOCK, ENTRY, TILE, BLOCK_OF_LEAF, CERTIFICATE, DELIVERED];
}

/// The byte of the kind, and a ledger.
const PREFIX_BYTES: usize = 21;

impl Key<'_> {
    /// The key's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Key::Applied(ledger) => start(kind::APPLIED, *ledger),
            Key::Block(ledger, height) => numbered(kind::BLOCK, *ledger, *height),
            Key::Entry(ledger, offset) => numbered(kind::ENTRY, *ledger, *offset as u64),
            Key::Tile(ledger, level, index) => {
                let mut key = start(kind::TILE, *ledger);
                key.push(*level);
                index.encode(&mut key);
                key
            }
            Key::BlockOfLeaf(ledger, leaf) => numbered(kind::BLOCK_OF_LEAF, *ledger, *leaf),
            Key::Certificate(ledger, height) => numbered(kind::CERTIFICATE, *ledger, *height),
            Key::Delivered(ledger, delivered) => {
                let mut key = delivered_prefix(*ledger, delivered.kind, delivered.level, delivered.index);
                key.extend_from_slice(delivered.org.as_str().as_bytes());
                key
            }
        }
    }
}

/// What all keys of one aligned range's evidence start with; the organisation follows.
pub fn delivered_prefix(ledger: LedgerId, kind: DeliveryKind, level: u8, index: u64) -> Vec<u8> {
    let mut key = start(kind::DELIVERED, ledger);
    key.push(kind as u8);
    key.push(level);
    index.encode(&mut key);
    key
}

/// The organisation at the end of a [`Key::Delivered`].
pub fn delivered_org(key: &[u8]) -> Option<OrgId> {
    let org = key.get(PREFIX_BYTES + 2 + 8..)?;
    OrgId::new(std::str::from_utf8(org).ok()?).ok()
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
        let keys: Vec<_> = offsets.iter().map(|offset| Key::Entry(LEDGER, *offset).encode()).collect();
        assert!(keys.is_sorted_by(|left, right| left < right));
        let next = Key::Entry(LedgerId { partition: 3, ..LEDGER }, 0).encode();
        assert!(keys.iter().all(|key| *key < next));
        assert_eq!(
            keys.iter().map(|key| trailing_number(key)).collect::<Option<Vec<_>>>().unwrap(),
            [0, 1, 255, 256, 1 << 40]
        );
    }

    #[test]
    fn every_kind_is_found_by_a_prefix_of_its_ledger_and_lies_below_the_global_ledger() {
        let org = OrgId::new("acme").unwrap();
        let delivered = Delivered { kind: DeliveryKind::Received, level: 3, index: 9, org: &org };
        let keys = [
            Key::Applied(LEDGER),
            Key::Block(LEDGER, 1),
            Key::Entry(LEDGER, 1),
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
        assert_eq!(delivered_org(&keys[6].encode()), Some(org));
    }
}

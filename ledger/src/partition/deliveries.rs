//! Which leaf proves that an offset reached an organisation: the first one that does, for each kind of evidence.
//!
//! Reports cover ranges that may overlap, repeat and come in any order, and whoever makes them may mean harm. A range
//! is kept at one node of the binary tree over all offsets: the smallest that contains it. So it contains the node's
//! middle, and to the left of it only its first offset matters, to the right only its last. Of what is already kept at a
//! node, a new report is worth keeping only if it reaches further; then the later a report, the further it reaches, and
//! the first one that covers an offset is the one that reaches just far enough.
//!
//! So a report costs at most two rows and two look-ups, whatever was reported before, and a search two look-ups per
//! level and organisation.

use super::overlay::Delivery;
use crate::keys::{self, Delivered, DeliveryKind, Half, Key, Track};
use std::collections::BTreeMap;
use waybill_types::{LedgerId, Offset, OrgId};

/// A node of the tree over all offsets: those whose higher bits are `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    level: u8,
    index: u64,
}

impl Node {
    /// The smallest node that contains `first..=last`; none for an empty or negative range.
    fn of_range(first: Offset, last: Offset) -> Option<Node> {
        let (first, last) = (u64::try_from(first).ok()?, u64::try_from(last).ok()?);
        (first <= last).then(|| {
            let level = bits(first ^ last);
            Node { level, index: first >> level }
        })
    }

    /// All nodes that contain `offset` and can have ranges below `end`.
    fn all_of(offset: u64, end: u64) -> impl Iterator<Item = Node> {
        (0..=bits(end.saturating_sub(1))).map(move |level| Node { level, index: offset >> level })
    }

    /// The half that has `offset`. A node of a single offset has no right one.
    fn half_of(self, offset: u64) -> Half {
        match self.level.checked_sub(1) {
            Some(below) if (offset >> below) & 1 == 1 => Half::Right,
            _ => Half::Left,
        }
    }

    /// A range's rows at its node.
    fn rows(self, first: u64, last: u64) -> impl Iterator<Item = (Half, u64)> {
        let right = (self.half_of(last) == Half::Right).then_some((Half::Right, last));
        [(Half::Left, first)].into_iter().chain(right)
    }

    fn delivered<'a>(self, track: Track<'a>, half: Half, reach: u64) -> Delivered<'a> {
        Delivered { track, level: self.level, index: self.index, half, reach }
    }
}

/// How many bits it takes to write a number below 2^63.
fn bits(number: u64) -> u8 {
    (u64::BITS - number.leading_zeros()) as u8
}

/// The rows that a flush adds for deliveries, which are given in the order of their leaves.
pub(super) fn new_rows(
    db: &sled::Tree,
    ledger: LedgerId,
    deliveries: &[Delivery],
) -> Result<Vec<(Vec<u8>, u64)>, sled::Error> {
    let (mut rows, mut reached) = (Vec::new(), BTreeMap::new());
    for delivery in deliveries {
        let Some(node) = Node::of_range(delivery.first, delivery.last) else { continue };
        for (half, reach) in node.rows(delivery.first as u64, delivery.last as u64) {
            let delivered = node.delivered(delivery.track(), half, reach);
            let prefix = delivered.half_prefix(ledger);
            let before = match reached.get(&prefix) {
                Some(before) => Some(*before),
                None => farthest(db, &prefix, half)?,
            };
            let reaches_further = before.is_none_or(|before| match half {
                Half::Left => reach < before,
                Half::Right => reach > before,
            });
            if reaches_further {
                rows.push((Key::Delivered(ledger, delivered).encode(), delivery.leaf_index));
                reached.insert(prefix, reach);
            }
        }
    }
    Ok(rows)
}

/// How far the ranges at a half of a node reach.
fn farthest(db: &sled::Tree, prefix: &[u8], half: Half) -> Result<Option<u64>, sled::Error> {
    let mut rows = db.scan_prefix(prefix);
    let row = match half {
        Half::Left => rows.next(),
        Half::Right => rows.next_back(),
    };
    Ok(row.transpose()?.and_then(|(key, _)| keys::trailing_number(&key)))
}

/// The first evidence of one kind, said by `by`, that covers `offset`, for each receiver; `end` is the next offset.
/// None in the answer's place: a row is damaged.
pub(super) fn stored(
    db: &sled::Tree,
    ledger: LedgerId,
    (kind, by): (DeliveryKind, Option<&OrgId>),
    offset: u64,
    end: u64,
) -> Result<Option<BTreeMap<OrgId, u64>>, sled::Error> {
    let mut leaves = BTreeMap::new();
    let tracks = keys::tracks_prefix(ledger, kind, by);
    let mut next = db.scan_prefix(&tracks).next().transpose()?;
    while let Some((key, _)) = next {
        let Some(org) = keys::receiver_in(&key, &tracks) else { return Ok(None) };
        let track = Track { kind, by, org: &org };
        for node in Node::all_of(offset, end) {
            let Some(row) = covering(db, ledger, node, track, offset)? else { continue };
            let Some(leaf_index) = keys::trailing_number(&row) else { return Ok(None) };
            let first = leaves.entry(org.clone()).or_insert(leaf_index);
            *first = leaf_index.min(*first);
        }
        // No level is 255: the next receiver's keys are behind.
        let mut behind = track.prefix(ledger);
        behind.push(u8::MAX);
        next = db.range(behind..).next().transpose()?.filter(|(key, _)| key.starts_with(&tracks));
    }
    Ok(Some(leaves))
}

/// The row of the range at `node` that reaches just far enough to cover `offset`.
fn covering(
    db: &sled::Tree,
    ledger: LedgerId,
    node: Node,
    track: Track<'_>,
    offset: u64,
) -> Result<Option<sled::IVec>, sled::Error> {
    let half = node.half_of(offset);
    let key = |reach| Key::Delivered(ledger, node.delivered(track, half, reach)).encode();
    let row = match half {
        Half::Left => db.range(key(0)..=key(offset)).next_back(),
        Half::Right => db.range(key(offset)..=key(u64::MAX)).next(),
    };
    Ok(row.transpose()?.map(|(_, leaf_index)| leaf_index))
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::{LEDGER, memory_db, org};
    use super::*;
    use proptest::prelude::*;

    const KIND: DeliveryKind = DeliveryKind::Retrieved;

    fn delivery(by: Option<&str>, to: &str, first: Offset, last: Offset, leaf_index: u64) -> Delivery {
        Delivery { kind: KIND, by: by.map(org), org: org(to), first, last, height: 1, leaf_index }
    }

    fn write(db: &sled::Tree, deliveries: &[Delivery]) -> usize {
        let rows = new_rows(db, LEDGER, deliveries).unwrap();
        rows.iter().for_each(|(key, leaf)| drop(db.insert(key, &leaf.to_be_bytes()).unwrap()));
        rows.len()
    }

    fn found(db: &sled::Tree, by: Option<&str>, offset: u64, end: u64) -> BTreeMap<OrgId, u64> {
        stored(db, LEDGER, (KIND, by.map(org).as_ref()), offset, end).unwrap().unwrap()
    }

    #[test]
    fn a_range_is_kept_at_the_smallest_node_that_has_it() {
        let node = |level, index| Some(Node { level, index });
        assert_eq!(Node::of_range(5, 5), node(0, 5));
        assert_eq!(Node::of_range(4, 5), node(1, 2));
        assert_eq!(Node::of_range(3, 4), node(3, 0));
        assert_eq!(Node::of_range(9, 10), node(2, 2));
        assert_eq!(Node::of_range(0, Offset::MAX), node(63, 0));
        assert_eq!((Node::of_range(5, 4), Node::of_range(-1, 4)), (None, None));
        assert_eq!(
            Node::all_of(5, 6).collect::<Vec<_>>(),
            [(0, 5), (1, 2), (2, 1), (3, 0)].map(|(level, index)| Node { level, index })
        );
    }

    #[test]
    fn what_one_says_hides_nothing_that_another_says() {
        let db = memory_db();
        let said = [delivery(Some("liar"), "reader", 0, 99, 1), delivery(Some("sender"), "reader", 0, 9, 2)];
        assert_eq!(write(&db, &said), 4);
        assert_eq!(found(&db, Some("sender"), 5, 100), BTreeMap::from([(org("reader"), 2)]));
        assert_eq!(found(&db, Some("sender"), 50, 100), BTreeMap::new());
        assert_eq!(found(&db, None, 5, 100), BTreeMap::new());
    }

    #[test]
    fn reports_that_say_nothing_new_cost_nothing() {
        let db = memory_db();
        let all = delivery(None, "reader", 0, 999, 1);
        assert_eq!(write(&db, std::slice::from_ref(&all)), 2);
        let again: Vec<_> = (2..100).map(|leaf_index| Delivery { leaf_index, ..all.clone() }).collect();
        assert_eq!(write(&db, &again), 0);
        // However a range is cut, however it lies: two rows at most.
        for (number, (first, last)) in [(0, 1 << 40), (1, (1 << 40) - 1), (12_345, 1 << 62)].into_iter().enumerate() {
            assert!(write(&db, &[delivery(None, "reader", first, last, 200 + number as u64)]) <= 2);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_first_report_of_each_offset_is_found(
            reports in prop::collection::vec((0usize..2, 0usize..3, 0i64..70, 0i64..70), 1..60),
            flushes in prop::collection::vec(1usize..20, 1..8),
        ) {
            let (db, by) = (memory_db(), [None, Some("sender")]);
            let to = ["a", "ab", "b"];
            let deliveries: Vec<_> = (0..).zip(&reports)
                .map(|(leaf, (said, whom, first, last))| delivery(by[*said], to[*whom], *first, *last, leaf))
                .collect();
            let mut rest = &deliveries[..];
            for count in flushes.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(count.min(rest.len()));
                prop_assert!(write(&db, now) <= 2 * now.len());
                rest = later;
            }
            for (offset, by) in (0..70).flat_map(|offset| by.map(|by| (offset, by))) {
                let mut expected = BTreeMap::new();
                for delivery in deliveries.iter().filter(|delivery| delivery.by == by.map(org)) {
                    if (delivery.first..=delivery.last).contains(&offset) {
                        expected.entry(delivery.org.clone()).or_insert(delivery.leaf_index);
                    }
                }
                prop_assert_eq!(found(&db, by, offset as u64, 70), expected);
            }
        }
    }
}

//! Which leaf proves that an offset reached an organisation: the first one that does, for each kind of evidence.
//!
//! Reports cover ranges that may overlap, repeat and come in any order. A range is cut into aligned ones (see
//! [`Delivered`](crate::keys::Delivered)), as a segment tree does it: at most two per level, so the cost of a report
//! grows with the logarithm of its length, and no report, however cut, makes another one slow to find.

use waybill_types::Offset;

/// Aligned ranges grow to 2^62 offsets: all that there can be.
pub(super) const LEVELS: u8 = 63;

/// Cuts `first..=last` into aligned ranges, given as level and index. Nothing for an empty or negative range.
pub(super) fn aligned_ranges(first: Offset, last: Offset) -> Vec<(u8, u64)> {
    let mut ranges = Vec::new();
    let (Ok(mut at), Ok(last)) = (u64::try_from(first), u64::try_from(last)) else { return ranges };
    while at <= last {
        let left = last - at + 1;
        let level = at.trailing_zeros().min(left.ilog2()).min(u32::from(LEVELS) - 1);
        ranges.push((level as u8, at >> level));
        at += 1 << level;
    }
    ranges
}

/// The aligned ranges that contain `offset`, up to the size that any report below `end` can have.
pub(super) fn ranges_of(offset: Offset, end: Offset) -> impl Iterator<Item = (u8, u64)> {
    let offset = u64::try_from(offset).unwrap_or(0);
    let levels = match u64::try_from(end) {
        Ok(end) if end > 0 => end.ilog2() as u8 + 1,
        _ => 0,
    };
    (0..levels.min(LEVELS)).map(move |level| (level, offset >> level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_cut_where_powers_of_two_end() {
        assert_eq!(aligned_ranges(0, 7), [(3, 0)]);
        assert_eq!(aligned_ranges(1, 6), [(0, 1), (1, 1), (1, 2), (0, 6)]);
        assert_eq!(aligned_ranges(5, 5), [(0, 5)]);
        assert_eq!(aligned_ranges(5, 4), []);
        assert_eq!(aligned_ranges(-1, 4), []);
        assert!(aligned_ranges(1, i64::MAX).len() <= 2 * usize::from(LEVELS));
    }

    proptest! {
        #[test]
        fn an_offset_is_found_in_a_range_exactly_if_it_lies_there(
            first in 0i64..5000, length in 1i64..3000, offset in 0i64..9000, beyond in 1i64..5000,
        ) {
            let last = first + length - 1;
            let ranges = aligned_ranges(first, last);
            let found = ranges_of(offset, last + beyond).filter(|range| ranges.contains(range)).count();
            prop_assert_eq!(found, usize::from((first..=last).contains(&offset)));
        }
    }
}

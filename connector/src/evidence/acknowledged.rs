//! Which offsets have been acknowledged since this process started, so that a batch that is pulled ahead and asked for
//! as well is acknowledged once.

use std::collections::BTreeMap;
use std::collections::HashMap;
use waybill_types::{LedgerId, Offset};

/// Ranges remembered for one ledger. Contiguous ones are one; the oldest are forgotten first.
const RANGES_PER_LEDGER_MAX: usize = 1024;

/// Ledgers remembered. Forgetting costs a repeated `Receive` at most, which is true all the same.
const LEDGERS_MAX: usize = 16_384;

/// Sets of offsets, by ledger, as ranges.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    ledgers: HashMap<LedgerId, BTreeMap<Offset, Offset>>,
}

impl Acknowledged {
    /// Notes a batch; false if it was noted before.
    pub fn insert(&mut self, ledger: LedgerId, first: Offset, last: Offset) -> bool {
        if self.ledgers.len() >= LEDGERS_MAX && !self.ledgers.contains_key(&ledger) {
            self.ledgers.clear();
        }
        let ranges = self.ledgers.entry(ledger).or_default();
        let before = ranges.range(..=first).next_back().map(|(first, last)| (*first, *last));
        let (mut start, mut end) = (first, last);
        if let Some((range_start, range_end)) = before {
            if range_end >= first {
                return false;
            }
            if range_end.checked_add(1) == Some(first) {
                start = range_start;
            }
        }
        if let Some(range_end) = last.checked_add(1).and_then(|next| ranges.remove(&next)) {
            end = range_end;
        }
        ranges.insert(start, end);
        if ranges.len() > RANGES_PER_LEDGER_MAX {
            ranges.pop_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_types::TopicId;

    const LEDGER: LedgerId = LedgerId::new(TopicId([1; 16]), 0);
    const OTHER: LedgerId = LedgerId::new(TopicId([1; 16]), 1);

    #[test]
    fn a_batch_is_news_once_and_neighbours_become_one_range() {
        let mut acknowledged = Acknowledged::default();
        assert!(acknowledged.insert(LEDGER, 0, 4));
        assert!(acknowledged.insert(LEDGER, 10, 14));
        assert!(acknowledged.insert(LEDGER, 5, 9));
        assert!(acknowledged.insert(OTHER, 5, 9));
        for (first, last) in [(0, 4), (5, 9), (10, 14)] {
            assert!(!acknowledged.insert(LEDGER, first, last), "{first}..={last}");
        }
        assert_eq!(acknowledged.ledgers[&LEDGER], BTreeMap::from([(0, 14)]));
    }

    #[test]
    fn memory_is_bounded_however_scattered_the_offsets() {
        let mut acknowledged = Acknowledged::default();
        for number in 0..3000 {
            assert!(acknowledged.insert(LEDGER, 2 * number, 2 * number));
        }
        assert_eq!(acknowledged.ledgers[&LEDGER].len(), RANGES_PER_LEDGER_MAX);
        assert!(!acknowledged.insert(LEDGER, 5998, 5998));
    }
}

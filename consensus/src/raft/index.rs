//! Where each entry of a log is, and the most recent entries themselves.

use std::collections::VecDeque;
use std::ops::Range;

use waybill_ledger::journal::Position;

use super::record::Base;
use super::types::{Entry, LogId};

/// What is known of one entry.
#[derive(Debug)]
pub(super) struct Slot {
    pub log_id: LogId,
    /// Where it is in the journal; unknown while it is being written.
    pub position: Option<Position>,
    /// Bytes of its record.
    pub bytes: u64,
    /// Bytes of all entries before it since the index was made: a difference of two tells the bytes between.
    bytes_before: u64,
    /// The entry, if it is recent, and always while it is being written.
    entry: Option<Entry>,
}

/// An entry that was asked for.
pub(super) enum Found {
    Cached(Entry),
    Stored(LogId, Position),
}

/// The entries do not follow each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} was to follow entry {last}")]
pub(super) struct Gap {
    pub last: u64,
    pub found: u64,
}

/// The live part of a log: `purged` and everything after it.
#[derive(Debug)]
pub(super) struct Index {
    slots: VecDeque<Slot>,
    /// Index of the first slot.
    first: u64,
    /// Vote, committed and purged as they were last set.
    pub base: Base,
    /// Position of the oldest record that is needed to know `base`.
    pub base_at: Option<Position>,
    bytes_total: u64,
    cached_bytes: u64,
    cached_bytes_limit: u64,
    /// No slot before this index has its entry cached.
    cached_from: u64,
}

impl Index {
    pub fn new(base: Base, base_at: Option<Position>, cached_bytes_limit: u64) -> Self {
        let first = base.purged.map_or(0, |purged| purged.index + 1);
        Self {
            slots: VecDeque::new(),
            first,
            base,
            base_at,
            bytes_total: 0,
            cached_bytes: 0,
            cached_bytes_limit,
            cached_from: first,
        }
    }

    /// Adds an entry that recovery found.
    pub fn push_stored(&mut self, log_id: LogId, position: Position, bytes: u64) -> Result<(), Gap> {
        self.push(Slot { log_id, position: Some(position), bytes, bytes_before: 0, entry: None })?;
        self.cached_from = self.next();
        Ok(())
    }

    /// Adds an entry that is about to be written.
    pub fn push_new(&mut self, entry: Entry, bytes: u64) -> Result<(), Gap> {
        self.push(Slot { log_id: entry.log_id, position: None, bytes, bytes_before: 0, entry: Some(entry) })?;
        self.cached_bytes += bytes;
        Ok(())
    }

    fn push(&mut self, mut slot: Slot) -> Result<(), Gap> {
        let found = slot.log_id.index;
        if self.slots.is_empty() {
            self.first = found;
            self.cached_from = found;
        } else if found != self.next() {
            return Err(Gap { last: self.next() - 1, found });
        }
        slot.bytes_before = self.bytes_total;
        self.bytes_total += slot.bytes;
        self.slots.push_back(slot);
        Ok(())
    }

    /// The entry has been written; it need not be kept in memory any more.
    pub fn settle(&mut self, log_id: &LogId, position: Position) {
        match self.slot_mut(log_id.index) {
            Some(slot) if slot.log_id == *log_id => slot.position = Some(position),
            // Truncated or purged meanwhile.
            _ => return,
        }
        self.evict();
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.cached_bytes_limit {
            let at = self.cached_from;
            let Some(slot) = self.slot_mut(at).filter(|slot| slot.position.is_some()) else { return };
            let freed = if slot.entry.take().is_some() { slot.bytes } else { 0 };
            self.cached_bytes -= freed;
            self.cached_from += 1;
        }
    }

    /// Drops the entries from `since` on.
    pub fn truncate(&mut self, since: u64) {
        while self.slots.back().is_some_and(|slot| slot.log_id.index >= since) {
            let slot = self.slots.pop_back();
            self.forget(slot);
        }
        self.bytes_total = self.slots.back().map_or(self.bytes_total, |slot| slot.bytes_before + slot.bytes);
        self.cached_from = self.cached_from.min(self.next());
    }

    /// Drops the entries up to `upto`.
    pub fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|slot| slot.log_id.index <= upto.index) {
            let slot = self.slots.pop_front();
            self.forget(slot);
        }
        let purged = self.base.purged.map_or(upto, |purged| purged.max(upto));
        self.base.purged = Some(purged);
        self.first = self.slots.front().map_or(purged.index + 1, |slot| slot.log_id.index);
        self.cached_from = self.cached_from.max(self.first);
    }

    fn forget(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot.filter(|slot| slot.entry.is_some()) {
            self.cached_bytes -= slot.bytes;
        }
    }

    /// The index after the last entry.
    pub fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub fn last_log_id(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.base.purged)
    }

    /// What there is of `range`, up to `bytes_limit` but at least one entry.
    pub fn find(&self, range: Range<u64>, bytes_limit: u64) -> Vec<Found> {
        let (start, end) = (range.start.max(self.first), range.end.min(self.next()));
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let Some(slot) = self.slot(index) else { break };
            bytes += slot.bytes;
            if bytes > bytes_limit && !found.is_empty() {
                break;
            }
            match (&slot.entry, slot.position) {
                (Some(entry), _) => found.push(Found::Cached(entry.clone())),
                (None, Some(position)) => found.push(Found::Stored(slot.log_id, position)),
                // Not cached and not written: there is no such slot.
                (None, None) => break,
            }
        }
        found
    }

    /// Bytes of the entries after index `after`, up to `upto`.
    pub fn bytes_between(&self, after: Option<u64>, upto: u64) -> u64 {
        let from = after.map_or(0, |after| after + 1).max(self.first);
        match (self.slot(from), self.slot(upto.min(self.next().saturating_sub(1)))) {
            (Some(from), Some(upto)) => (upto.bytes_before + upto.bytes).saturating_sub(from.bytes_before),
            _ => 0,
        }
    }

    /// Index of the last entry after which there are still `bytes` of entries or more.
    pub fn last_beyond(&self, bytes: u64) -> Option<u64> {
        let beyond = self.slots.partition_point(|slot| self.bytes_total - slot.bytes_before - slot.bytes >= bytes);
        self.slots.get(beyond.checked_sub(1)?).map(|slot| slot.log_id.index)
    }

    /// The oldest record that is still needed.
    pub fn oldest_position(&self) -> Option<Position> {
        self.slots.iter().filter_map(|slot| slot.position).chain(self.base_at).min()
    }

    /// Entries whose records are in segments before `segment`.
    pub fn stored_before(&self, segment: u64) -> Vec<(LogId, Position)> {
        let stored = self.slots.iter().filter_map(|slot| Some((slot.log_id, slot.position?)));
        stored.filter(|(_, position)| position.segment < segment).collect()
    }

    /// Whether an entry with this id cannot be, since another is committed in its place.
    pub fn contradicts_committed(&self, log_id: &LogId) -> bool {
        let committed = self.base.committed.max(self.base.purged);
        if committed.is_none_or(|committed| committed.index < log_id.index) {
            return false;
        }
        match self.slot(log_id.index) {
            Some(slot) => slot.log_id != *log_id,
            // Which one was there is forgotten, but not that no later leader made it.
            None => self.base.purged.is_some_and(|purged| purged.leader_id < log_id.leader_id),
        }
    }

    pub fn contains(&self, log_id: &LogId) -> bool {
        self.slot(log_id.index).is_some_and(|slot| slot.log_id == *log_id)
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, 1), index)
    }

    fn entry(term: u64, index: u64) -> Entry {
        Entry { log_id: log_id(term, index), payload: EntryPayload::Blank }
    }

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    fn filled(count: u64) -> Index {
        let mut index = Index::new(Base::default(), None, 25);
        (0..count).for_each(|i| index.push_new(entry(1, i), 10).unwrap());
        index
    }

    fn cached(index: &Index) -> Vec<bool> {
        index.find(0..100, u64::MAX).iter().map(|found| matches!(found, Found::Cached(_))).collect()
    }

    #[test]
    fn only_written_entries_leave_the_cache_and_the_oldest_first() {
        let mut index = filled(5);
        assert_eq!(cached(&index), [true; 5]);
        // The second is written before the first: nothing may go yet.
        index.settle(&log_id(1, 1), at(20));
        assert_eq!(cached(&index), [true; 5]);
        index.settle(&log_id(1, 0), at(10));
        assert_eq!(cached(&index), [false, false, true, true, true]);
        index.settle(&log_id(1, 2), at(30));
        assert_eq!(cached(&index), [false, false, false, true, true]);
        assert_eq!(index.oldest_position(), Some(at(10)));
    }

    #[test]
    fn a_late_callback_of_a_truncated_entry_does_not_touch_its_successor() {
        let mut index = filled(3);
        index.truncate(1);
        assert_eq!(index.last_log_id(), Some(log_id(1, 0)));
        index.push_new(entry(2, 1), 10).unwrap();
        index.settle(&log_id(1, 1), at(20));
        assert_eq!(index.oldest_position(), None);
        assert!(index.contains(&log_id(2, 1)) && !index.contains(&log_id(1, 1)));
    }

    #[test]
    fn purging_beyond_the_end_leaves_an_empty_log_that_goes_on_after_it() {
        let mut index = filled(3);
        index.purge(log_id(1, 1));
        assert_eq!(index.find(0..100, u64::MAX).len(), 1);
        index.purge(log_id(3, 20));
        assert_eq!((index.last_log_id(), index.next()), (Some(log_id(3, 20)), 21));
        assert_eq!(index.cached_bytes, 0);
        index.push_new(entry(3, 21), 10).unwrap();
        assert_eq!(index.push_new(entry(3, 23), 10), Err(Gap { last: 21, found: 23 }));
    }

    #[test]
    fn nothing_else_can_be_in_the_place_of_what_is_committed() {
        let mut index = filled(5);
        assert!(!index.contradicts_committed(&log_id(9, 0)));
        index.base.committed = Some(log_id(1, 3));
        index.purge(log_id(1, 1));
        let contradicting = |term| (0..5).map(|i| index.contradicts_committed(&log_id(term, i))).collect::<Vec<_>>();
        assert_eq!(contradicting(1), [false; 5]);
        assert_eq!(contradicting(2), [true, true, true, true, false]);
        assert_eq!(contradicting(0), [false, false, true, true, false], "of what is purged only the end is known");
    }

    #[test]
    fn reads_are_bounded_in_bytes_but_give_at_least_one() {
        let index = filled(5);
        assert_eq!(index.find(1..5, 25).len(), 2);
        assert_eq!(index.find(1..5, 1).len(), 1);
        assert_eq!(index.find(7..9, 25).len(), 0);
        assert_eq!(index.bytes_between(None, 4), 50);
        assert_eq!(index.bytes_between(Some(1), 3), 20);
        assert_eq!(index.bytes_between(Some(3), 3), 0);
        assert_eq!(index.bytes_between(Some(4), 9), 0);
        assert_eq!(index.bytes_between(None, u64::MAX), 50);
        let last_beyond = [0, 1, 10, 11, 40, 41].map(|bytes| index.last_beyond(bytes));
        assert_eq!(last_beyond, [Some(4), Some(3), Some(3), Some(2), Some(0), None]);
    }

    #[test]
    fn bytes_are_counted_right_after_a_truncation() {
        let mut index = filled(5);
        index.truncate(2);
        index.push_new(entry(2, 2), 7).unwrap();
        assert_eq!(index.bytes_between(None, 2), 27);
        assert_eq!(index.cached_bytes, 27);
    }
}

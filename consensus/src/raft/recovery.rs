//! Finding a group's log again in what the journal contains.

use std::collections::BTreeMap;
use std::sync::Arc;

use waybill_ledger::journal::{Journal, Position, StreamId, Visited};
use waybill_types::codec::DecodeError;

use super::index::{Gap, Index};
use super::log::LogStore;
use super::options::Options;
use super::record::{Base, ENTRY_PREFIX_BYTES, Head};
use super::types::LogId;

/// Gathers a group's records while the journal is opened. It keeps where entries are, not what is in them.
#[derive(Debug, Default)]
pub struct LogRecovery {
    /// By index. A map, because entries that were [moved](LogStore::move_out_of) come again, after later ones.
    entries: BTreeMap<u64, (LogId, Position, u64)>,
    base: Base,
    vote_at: Option<Position>,
    purged_at: Option<Position>,
}

/// Why a group's log cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The journal gives a record that is not one of a Raft log.
    #[error("the record at {position} is not of a Raft log: {source}")]
    Malformed {
        /// The record.
        position: Position,
        /// What is wrong.
        source: DecodeError,
    },
    /// The record cannot be read.
    #[error("the record at {position} cannot be read: {source}")]
    Unreadable {
        /// The record.
        position: Position,
        /// What the system said.
        source: std::io::Error,
    },
    /// Entries are missing between others.
    #[error("the log has a gap: entry {found} follows entry {last}")]
    Gap {
        /// The last entry before the gap.
        last: u64,
        /// The first after it.
        found: u64,
    },
}

impl LogRecovery {
    /// Takes in the stream's next record; the records come in the order in which they were appended.
    pub fn visit(&mut self, record: &mut Visited<'_>) -> Result<(), RecoverError> {
        let position = record.position;
        let unreadable = |source| RecoverError::Unreadable { position, source };
        let prefix = record.prefix(ENTRY_PREFIX_BYTES).map_err(unreadable)?;
        let head = if Head::is_entry(&prefix) { prefix } else { record.payload().map_err(unreadable)? };
        let head = Head::decode(&head).map_err(|source| RecoverError::Malformed { position, source })?;
        self.take_in(position, u64::from(record.length), head);
        Ok(())
    }

    fn take_in(&mut self, position: Position, bytes: u64, head: Head) {
        match head {
            Head::Entry(log_id) => {
                let index = log_id.index;
                if self.entries.get(&index).is_some_and(|(known, ..)| *known != log_id) {
                    self.entries.split_off(&index);
                }
                self.entries.insert(index, (log_id, position, bytes));
            }
            Head::Vote(vote) => {
                self.base.vote = Some(vote);
                self.vote_at = Some(position);
            }
            Head::Committed(log_id) => self.base.committed = Some(log_id),
            Head::Truncated(since) => drop(self.entries.split_off(&since)),
            Head::Base(base) => {
                if let Some(purged) = base.purged {
                    self.entries = self.entries.split_off(&(purged.index + 1));
                }
                self.base = base;
                self.vote_at = Some(position);
                self.purged_at = Some(position);
            }
        }
    }

    /// The log, when the journal is open.
    pub fn finish(self, journal: Arc<Journal>, stream: StreamId, options: &Options) -> Result<LogStore, RecoverError> {
        let index = self.into_index(options.cache_bytes_limit)?;
        Ok(LogStore::new(journal, stream, index, options))
    }

    fn into_index(mut self, cache_bytes_limit: u64) -> Result<Index, RecoverError> {
        let last = self.entries.last_key_value().map(|(_, (log_id, ..))| *log_id).or(self.base.purged);
        // It is written lazily, beside entries that were synced, so it is never ahead of them; but nothing must depend on that.
        self.base.committed = self.base.committed.min(last);
        let base_at = self.vote_at.into_iter().chain(self.purged_at).min();
        let mut index = Index::new(self.base, base_at, cache_bytes_limit);
        let mut last = self.base.purged.map(|purged| purged.index);
        for (found, (log_id, position, bytes)) in self.entries {
            if let Some(last) = last.filter(|last| last + 1 != found) {
                return Err(RecoverError::Gap { last, found });
            }
            last = Some(found);
            index
                .push_stored(log_id, position, bytes)
                .map_err(|Gap { last, found }| RecoverError::Gap { last, found })?;
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::super::types::Vote;
    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, 1), index)
    }

    fn recovered(heads: Vec<Head>) -> Result<Index, RecoverError> {
        let mut recovery = LogRecovery::default();
        for (offset, head) in heads.into_iter().enumerate() {
            recovery.take_in(Position { segment: 1, offset: offset as u32 }, 10, head);
        }
        recovery.into_index(1000)
    }

    fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<Head> {
        range.map(|index| Head::Entry(log_id(term, index))).collect()
    }

    #[test]
    fn what_was_truncated_stays_away_and_what_replaced_it_is_there() {
        let mut heads = entries(1, 0..5);
        heads.push(Head::Truncated(3));
        heads.extend(entries(2, 3..4));
        let index = recovered(heads).unwrap();
        assert_eq!(index.last_log_id(), Some(log_id(2, 3)));
        assert_eq!(index.next(), 4);
    }

    #[test]
    fn a_base_drops_what_it_purges_and_later_votes_count() {
        let mut heads = entries(1, 0..5);
        heads.push(Head::Base(Base { vote: Some(Vote::new(4, 1)), committed: None, purged: Some(log_id(1, 2)) }));
        heads.push(Head::Vote(Vote::new(5, 1)));
        heads.push(Head::Committed(log_id(1, 99)));
        let index = recovered(heads).unwrap();
        assert_eq!(index.base.vote, Some(Vote::new(5, 1)));
        assert_eq!(index.base.purged, Some(log_id(1, 2)));
        assert_eq!(index.base.committed, Some(log_id(1, 4)), "not beyond the log");
        assert_eq!(index.base_at, Some(Position { segment: 1, offset: 5 }));
        assert_eq!(index.stored_before(2).len(), 2);
    }

    #[test]
    fn entries_that_were_moved_fit_in_before_later_ones() {
        let mut heads = entries(1, 3..6);
        heads.push(Head::Base(Base { vote: None, committed: None, purged: Some(log_id(1, 0)) }));
        heads.extend(entries(1, 1..4));
        let index = recovered(heads).unwrap();
        assert_eq!(index.next(), 6);
        let first = index.stored_before(2).first().copied();
        assert_eq!(first, Some((log_id(1, 1), Position { segment: 1, offset: 4 })));
    }

    #[test]
    fn a_gap_is_an_error() {
        let mut heads = entries(1, 0..3);
        heads.extend(entries(1, 4..5));
        assert!(matches!(recovered(heads), Err(RecoverError::Gap { last: 2, found: 4 })));
        let after_purge =
            vec![Head::Base(Base { purged: Some(log_id(1, 2)), ..Base::default() }), Head::Entry(log_id(1, 4))];
        assert!(matches!(recovered(after_purge), Err(RecoverError::Gap { last: 2, found: 4 })));
    }
}

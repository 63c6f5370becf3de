//! openraft's log on a stream of the node's journal.
//!
//! All writes go through the journal's one queue, so they reach the disk in the order in which they were made: a crash loses a
//! suffix of them, never one in the middle. What openraft must be able to rely on is synced before it is told: votes and entries.
//! A truncation or a purge that a crash loses is made again.

use std::fmt::Debug;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use waybill_ledger::journal::{AppendError, Journal, Position, ReadError, StreamId};
use waybill_types::codec::DecodeError;

use super::index::{Found, Index};
use super::options::Options;
use super::record;
use super::types::{Entry, LogId, StorageError, StorageIOError, TypeConfig, Vote};

/// How soon to try again when the journal's queue is full.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// A group's log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    journal: Arc<Journal>,
    stream: StreamId,
    append_bytes_limit: u64,
    /// Locked shortly, and while records are queued whose order in the journal must be that of the changes here.
    index: Mutex<Index>,
}

impl LogStore {
    pub(super) fn new(journal: Arc<Journal>, stream: StreamId, index: Index, options: &Options) -> Self {
        let append_bytes_limit = options.append_bytes_limit;
        Self { shared: Arc::new(Shared { journal, stream, append_bytes_limit, index: Mutex::new(index) }) }
    }

    /// The oldest record of the journal that this log still needs; segments before it can be removed as far as it is concerned.
    pub fn oldest_needed(&self) -> Option<Position> {
        self.shared.index.lock().oldest_position()
    }

    /// Writes again what this log needs of segments before `segment`, so that they can be removed: a group without traffic must
    /// not hold the whole node's journal. Blocks on reads. When it returns and the journal has been synced, `oldest_needed` has
    /// moved.
    pub fn move_out_of(&self, segment: u64) -> Result<(), MoveError> {
        let shared = &self.shared;
        let stored = {
            let index = shared.index.lock();
            if index.base_at.is_some_and(|at| at.segment < segment) {
                shared.queue_base(&index)?;
            }
            index.stored_before(segment)
        };
        for (log_id, position) in stored {
            let record = match shared.journal.read(position) {
                Ok(record) => record,
                Err(error) if shared.index.lock().contains(&log_id) => return Err(error.into()),
                Err(_) => continue,
            };
            // Under the lock, so that no truncation of this entry can come before its copy.
            let index = shared.index.lock();
            if index.contains(&log_id) {
                let settled = Arc::clone(shared);
                shared.journal.append(shared.stream, vec![record], move |position| {
                    settled.index.lock().settle(&log_id, position);
                })?;
            }
            drop(index);
        }
        Ok(())
    }

    /// True as long as nothing was ever put into this log.
    pub(super) fn is_pristine(&self) -> bool {
        let index = self.shared.index.lock();
        index.last_log_id().is_none() && index.base.vote.is_none()
    }

    /// Index of the last entry that is no longer there.
    pub(super) fn purged_index(&self) -> Option<u64> {
        self.shared.index.lock().base.purged.map(|purged| purged.index)
    }

    /// Whether an entry with this id cannot be, since another is committed in its place.
    pub(super) fn contradicts_committed(&self, log_id: &LogId) -> bool {
        self.shared.index.lock().contradicts_committed(log_id)
    }

    pub(super) fn last_log_id(&self) -> Option<LogId> {
        self.shared.index.lock().last_log_id()
    }

    /// Bytes of the entries after index `after`, up to `upto`.
    pub(super) fn bytes_between(&self, after: Option<u64>, upto: u64) -> u64 {
        self.shared.index.lock().bytes_between(after, upto)
    }

    /// Index of the last entry after which there are still `bytes` of entries or more.
    pub(super) fn last_beyond(&self, bytes: u64) -> Option<u64> {
        self.shared.index.lock().last_beyond(bytes)
    }

    /// Bytes of entries that are committed and lie after index `applied`.
    pub(super) fn backlog_bytes(&self, applied: Option<u64>) -> u64 {
        let index = self.shared.index.lock();
        index.base.committed.map_or(0, |committed| index.bytes_between(applied, committed.index))
    }

    /// Appends entries; `done` runs when they are synced.
    pub(super) async fn append_entries(
        &self,
        entries: Vec<Entry>,
        done: impl FnOnce() + Send + 'static,
    ) -> Result<(), StorageError> {
        let records: Vec<_> = entries.iter().map(|entry| (self.shared.stream, record::entry(entry))).collect();
        let log_ids: Arc<[LogId]> = entries.iter().map(|entry| entry.log_id).collect();
        self.index_new(entries, &records)?;
        // The journal drops the callback when it has no room.
        let done = Arc::new(Mutex::new(Some(done)));
        with_room(|| {
            let (shared, log_ids, done) = (Arc::clone(&self.shared), Arc::clone(&log_ids), Arc::clone(&done));
            self.shared.journal.append_batch(records.clone(), move |positions| {
                let mut index = shared.index.lock();
                log_ids.iter().zip(positions).for_each(|(log_id, position)| index.settle(log_id, *position));
                drop(index);
                if let Some(done) = done.lock().take() {
                    done();
                }
            })
        })
        .await
        .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }

    fn index_new(&self, entries: Vec<Entry>, records: &[(StreamId, Vec<Bytes>)]) -> Result<(), StorageError> {
        let mut index = self.shared.index.lock();
        for (entry, (_, parts)) in entries.into_iter().zip(records) {
            let bytes = parts.iter().map(|part| part.len() as u64).sum();
            let log_id = entry.log_id;
            let pushed = index.push_new(entry, bytes);
            pushed.map_err(|gap| StorageIOError::write_log_entry(log_id, AnyError::new(&gap)))?;
        }
        Ok(())
    }

    /// The entries of `range` that are there, up to `bytes_limit` but at least one.
    async fn read_entries(&self, range: Range<u64>, bytes_limit: u64) -> Result<Vec<Entry>, StorageError> {
        let found = self.shared.index.lock().find(range, bytes_limit);
        if found.iter().all(|found| matches!(found, Found::Cached(_))) {
            return Ok(found.into_iter().filter_map(Found::into_cached).collect());
        }
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || shared.read_found(found)).await;
        read.map_err(|error| StorageIOError::read_logs(AnyError::new(&error)))?
    }
}

impl Found {
    fn into_cached(self) -> Option<Entry> {
        match self {
            Found::Cached(entry) => Some(entry),
            Found::Stored(..) => None,
        }
    }
}

impl Shared {
    fn read_found(&self, found: Vec<Found>) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::with_capacity(found.len());
        for found in found {
            match found {
                Found::Cached(entry) => entries.push(entry),
                Found::Stored(log_id, position) => match self.read_entry(&log_id, position) {
                    Ok(entry) => entries.push(entry),
                    // Purged meanwhile, and its segment removed: it is no longer there, and neither are those before it.
                    Err(_) if !self.index.lock().contains(&log_id) => return Ok(Vec::new()),
                    Err(error) => return Err(StorageIOError::read_log_entry(log_id, AnyError::new(&error)).into()),
                },
            }
        }
        Ok(entries)
    }

    fn read_entry(&self, log_id: &LogId, position: Position) -> Result<Entry, EntryError> {
        let entry = record::decode_entry(&self.journal.read(position)?)?;
        if entry.log_id == *log_id { Ok(entry) } else { Err(EntryError::Another { found: entry.log_id }) }
    }

    /// Queues a record of vote, committed and purged, which makes all earlier ones superfluous.
    fn queue_base(self: &Arc<Self>, index: &Index) -> Result<(), AppendError> {
        let shared = Arc::clone(self);
        self.journal.append(self.stream, record::base(&index.base), move |position| {
            // Later votes that are on their way only make this position older than it must be.
            shared.index.lock().base_at = Some(position);
        })
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read_entries(half_open(&range), u64::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read_entries(start..end, self.shared.append_bytes_limit).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let index = self.shared.index.lock();
        Ok(LogState { last_purged_log_id: index.base.purged, last_log_id: index.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let write_vote = |error: AnyError| StorageError::from(StorageIOError::write_vote(error));
        self.shared.index.lock().base.vote = Some(*vote);
        let (done, saved) = oneshot::channel();
        let done = Arc::new(Mutex::new(Some(done)));
        with_room(|| {
            let (shared, done) = (Arc::clone(&self.shared), Arc::clone(&done));
            self.shared.journal.append(self.shared.stream, record::vote(vote), move |position| {
                // Where the last base record is, this vote does not say: the older of the two is needed.
                shared.index.lock().base_at.get_or_insert(position);
                if let Some(done) = done.lock().take() {
                    let _caller_may_be_gone = done.send(());
                }
            })
        })
        .await
        .map_err(|error| write_vote(AnyError::new(&error)))?;
        saved.await.map_err(|error| write_vote(AnyError::new(&error)))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.shared.index.lock().base.vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.shared.index.lock().base.committed = committed;
        let Some(committed) = committed else { return Ok(()) };
        with_room(|| self.shared.journal.append_lazily(self.shared.stream, record::committed(&committed), |_| {}))
            .await
            .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.shared.index.lock().base.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.append_entries(entries, move || callback.log_io_completed(Ok(()))).await
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        with_room(|| {
            let mut index = self.shared.index.lock();
            self.shared.journal.append(self.shared.stream, record::truncated(log_id.index), |_| {})?;
            index.truncate(log_id.index);
            Ok(())
        })
        .await
        .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        with_room(|| {
            let mut index = self.shared.index.lock();
            index.purge(log_id);
            self.shared.queue_base(&index)
        })
        .await
        .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }
}

/// Why records cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The journal refuses the copy.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The journal cannot read the record.
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error("entry {found} is there instead")]
    Another { found: LogId },
}

/// Repeats an append while the journal's queue is full: the disk is slower than its users, and this one can wait.
async fn with_room(mut append: impl FnMut() -> Result<(), AppendError>) -> Result<(), AppendError> {
    loop {
        match append() {
            Err(AppendError::QueueFull { .. }) => tokio::time::sleep(FULL_QUEUE_PAUSE).await,
            done => return done,
        }
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

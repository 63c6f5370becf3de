//! The store on disk: the journal's segment files, group commit, an index in sled.
//!
//! A record is `canonical batch | salt[32] | commitment[32]`; its stream id is the first half of the commitment, so
//! that the index can be rebuilt from record headers. The salt stands behind the batch here too.
//!
//! A payload that was damaged on the disk is an error to whoever reads it, and to nobody else: the store opens and
//! serves all others. If segments are gone, and with them payloads that were kept, the index knows: the store opens
//! with an error in the log that names them, and counts them in `waybill_connector_lost_payloads_total`.

use super::index::{Found, Index, Key};
use super::{Kept, Pending, Reading, Record, Store, StoreError};
use bytes::{BufMut, Bytes, BytesMut};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};
use waybill_ledger::journal::{self, AppendError, Journal, Position, ReadError, Scan, SyncMode};
use waybill_types::{Commitment, Digest, Salt};

/// Salt and commitment.
const TRAILER_BYTES: usize = 64;

/// What a disk store may use.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The length of a segment file.
    pub segment_bytes: u64,
    /// Payload bytes on their way to the disk; above it, keeping waits.
    pub queue_bytes_limit: usize,
    /// Positions in memory; at most about 75 bytes each. When there are half as many, they go to the index on disk together.
    pub index_recent_limit: usize,
    /// Whether a payload counts as kept only when it is synced.
    pub sync: bool,
}

impl Default for DiskOptions {
    fn default() -> Self {
        DiskOptions { segment_bytes: 64 << 20, queue_bytes_limit: 64 << 20, index_recent_limit: 1 << 16, sync: true }
    }
}

/// Why a disk store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The segment files.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// The index, which may be deleted: it is rebuilt.
    #[error("the index cannot be written: {0}")]
    Index(#[from] sled::Error),
}

/// Payloads in segment files.
#[derive(Debug)]
pub struct DiskStore {
    journal: Arc<Journal>,
    index: Arc<Index>,
    queue: Arc<Semaphore>,
    queue_bytes_limit: usize,
    lost_payloads: u64,
}

impl DiskStore {
    /// Opens the store in `dir`; `name` is for metrics and messages, `tree` for this store's index alone. Blocks.
    pub fn open(name: &str, dir: &Path, tree: sled::Tree, options: &DiskOptions) -> Result<Self, OpenError> {
        let index = Index::new(tree, options.index_recent_limit);
        let opened = match index.is_rebuilding()? {
            true => None,
            false => open_fitting(name, dir, &index, options)?,
        };
        let (journal, lost_payloads) = match opened {
            Some(journal) => (journal, 0),
            None => rebuild(name, dir, &index, options)?,
        };
        let queue_bytes_limit = options.queue_bytes_limit.clamp(1, u32::MAX as usize);
        let queue = Arc::new(Semaphore::new(queue_bytes_limit));
        Ok(DiskStore { journal: Arc::new(journal), index: Arc::new(index), queue, queue_bytes_limit, lost_payloads })
    }

    /// How many payloads that had been kept were found to be gone when the store was opened.
    pub fn lost_payloads(&self) -> u64 {
        self.lost_payloads
    }

    async fn append(&self, record: Record) -> Result<(), StoreError> {
        let size_bytes = record.size_bytes();
        if u32::try_from(size_bytes + TRAILER_BYTES).is_err() {
            return Err(StoreError::TooLarge { size_bytes });
        }
        self.move_positions();
        if !self.index.has_room() {
            self.room_in_index().await;
        }
        let room = self.queue.clone().acquire_many_owned(size_bytes.clamp(1, self.queue_bytes_limit) as u32).await;
        let room = room.map_err(|_| closed())?;
        let key = Key::from(&record.commitment);
        let mut parts = record.parts;
        parts.push(trailer(&record.salt, &record.commitment));
        let (durable, is_durable) = oneshot::channel();
        let index = self.index.clone();
        let appended = self.journal.append(key.stream(), parts, move |position| {
            index.insert(key, position);
            drop(room);
            // Nobody may be waiting any more; the payload is kept all the same.
            let _ = durable.send(());
        });
        appended.map_err(|error| match error {
            AppendError::RecordTooLarge { .. } => StoreError::TooLarge { size_bytes },
            AppendError::QueueFull { .. } | AppendError::Closed => StoreError::Unavailable(error.to_string()),
        })?;
        is_durable.await.map_err(|_| closed())
    }

    async fn room_in_index(&self) {
        loop {
            let moved = self.index.moved();
            self.move_positions();
            if self.index.has_room() {
                return;
            }
            moved.await;
        }
    }

    /// Lets positions go to sled when memory holds enough of them, on a thread where it delays nobody.
    fn move_positions(&self) {
        if self.index.claim_move() {
            let index = self.index.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = index.move_to_sled() {
                    tracing::error!(%error, "the payload index cannot be written; it will be rebuilt at the next start");
                }
            });
        }
    }

    /// Runs `work` with each payload's position on a thread that may block: one change of threads for all of them.
    async fn at<T: Send + 'static>(
        &self,
        commitments: Vec<Commitment>,
        work: impl Fn(&Journal, Position, &Commitment) -> Result<Option<T>, StoreError> + Send + 'static,
    ) -> Vec<Result<Option<T>, StoreError>> {
        let (index, journal, count) = (self.index.clone(), self.journal.clone(), commitments.len());
        let read = move |commitment: &Commitment| match index.position(Key::from(commitment)) {
            Ok(Some(position)) => work(&journal, position, commitment),
            Ok(None) => Ok(None),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        };
        let task = tokio::task::spawn_blocking(move || commitments.iter().map(read).collect());
        task.await.unwrap_or_else(|_| (0..count).map(|_| Err(closed())).collect())
    }
}

impl Store for DiskStore {
    fn keep(&self, record: Record) -> Pending<'_, Result<(), StoreError>> {
        Box::pin(self.append(record))
    }

    fn read(&self, commitments: Vec<Commitment>) -> Pending<'_, Vec<Reading>> {
        Box::pin(self.at(commitments, |journal, position, commitment| match journal.read(position) {
            Ok(record) => split(record, commitment).map(Some),
            Err(error) => gone_or(error),
        }))
    }

    fn salt(&self, commitment: Commitment) -> Pending<'_, Result<Option<Salt>, StoreError>> {
        let salts = self.at(vec![commitment], |journal, position, commitment| {
            let trailer = journal.payload_bytes(position).and_then(|length| {
                let from = u64::from(length).saturating_sub(TRAILER_BYTES as u64);
                journal.read_range(position, from, TRAILER_BYTES)
            });
            match trailer {
                Ok(trailer) => split(trailer, commitment).map(|kept| Some(kept.salt)),
                Err(error) => gone_or(error),
            }
        });
        Box::pin(async move { salts.await.pop().unwrap_or(Ok(None)) })
    }

    fn close(&self) -> Pending<'_, ()> {
        let (journal, index) = (self.journal.clone(), self.index.clone());
        self.queue.close();
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || {
                journal.close();
                index.move_to_sled()
            });
            if let Ok(Err(error)) = task.await {
                tracing::error!(%error, "the payload index cannot be written; it will be rebuilt at the next start");
            }
        })
    }
}

/// Opens the journal from the index' mark on; none if the two do not fit.
fn open_fitting(name: &str, dir: &Path, index: &Index, options: &DiskOptions) -> Result<Option<Journal>, OpenError> {
    let mark = index.mark()?;
    match open_journal(name, dir, mark, index, options) {
        Ok((journal, fits)) => Ok((fits || mark.is_none()).then_some(journal)),
        Err(OpenError::Journal(journal::OpenError::EndsBefore { end, scan_from, .. })) => {
            tracing::error!(store = name, %end, index = %scan_from, "the segments end before what the index knows of");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Opens the journal and notes in the index what is at `mark` and behind it; tells whether the record at the mark is
/// the one that the index has there. It was there when the mark was made: if another is there now, or none, the index
/// is of another journal, or records are gone.
fn open_journal(
    name: &str,
    dir: &Path,
    mark: Option<Position>,
    index: &Index,
    options: &DiskOptions,
) -> Result<(Journal, bool), OpenError> {
    let mut fits = false;
    let journal_options = journal::Options {
        segment_bytes: options.segment_bytes,
        sync: if options.sync { SyncMode::Always } else { SyncMode::Os },
        scan: Scan::Headers,
        scan_from: mark,
        // Never met: the semaphore lets less in, and the journal lets go of bytes before it says that they are durable.
        queue_bytes_limit: 2 * options.queue_bytes_limit as u64 + (64 << 20),
        // A spare keeps the bytes of payloads that retention has removed.
        spare_segments: 0,
        ..journal::Options::new(name)
    };
    let journal = Journal::open(dir, journal_options, &mut |record| {
        let key = Key::from(record.stream);
        if mark == Some(record.position) {
            fits = index.fits(key, record.position)?;
        }
        index.insert(key, record.position);
        if index.claim_move() {
            index.move_to_sled()?;
        }
        Ok(())
    })?;
    Ok((journal, fits))
}

/// Opens the journal and makes the index fit it; tells how many payloads it knew of that are gone.
fn rebuild(name: &str, dir: &Path, index: &Index, options: &DiskOptions) -> Result<(Journal, u64), OpenError> {
    tracing::warn!(store = name, "the payload index does not fit the segments and is rebuilt");
    index.begin_rebuild()?;
    let (journal, _) = open_journal(name, dir, None, index, options)?;
    let find = |key, position| find(&journal, key, position);
    let lost = index.lost(&find)?;
    let total = metrics::counter!("waybill_connector_lost_payloads_total", "store" => name.to_owned());
    total.increment(lost.count);
    if let Some((first, last)) = lost.between {
        let (payloads, commitments) = (lost.count, &lost.named);
        tracing::error!(
            store = name, payloads, %first, %last, ?commitments,
            "payloads that were kept are gone from the segments between these positions, and cannot be served; \
             the commitments of some begin like this"
        );
    }
    index.finish_rebuild(&find)?;
    Ok((journal, lost.count))
}

/// Whether the payload is where the index has it.
fn find(journal: &Journal, key: Key, position: Position) -> Found {
    match journal.stream(position) {
        Ok(stream) if Key::from(stream) == key => Found::Payload,
        Ok(_) | Err(ReadError::Corrupt { .. }) => Found::Nothing,
        // Retention removes from the front.
        Err(ReadError::UnknownSegment { .. }) if position.segment < *journal.segment_numbers().start() => {
            Found::Removed
        }
        Err(ReadError::UnknownSegment { .. }) => Found::Nothing,
        // Kept in the index: reading it will fail, or not any more.
        Err(ReadError::Io { .. }) => Found::Payload,
    }
}

fn trailer(salt: &Salt, commitment: &Commitment) -> Bytes {
    let mut trailer = BytesMut::with_capacity(TRAILER_BYTES);
    trailer.put_slice(&salt.0);
    trailer.put_slice(&commitment.0.0);
    trailer.freeze()
}

/// Takes a record apart.
fn split(mut record: Bytes, expected: &Commitment) -> Result<Kept, StoreError> {
    let Some(batch_bytes) = record.len().checked_sub(TRAILER_BYTES) else {
        return Err(StoreError::Corrupt("the record is shorter than its trailer".into()));
    };
    let trailer = record.split_off(batch_bytes);
    let (mut salt, mut commitment) = ([0; 32], [0; 32]);
    salt.copy_from_slice(&trailer[..32]);
    commitment.copy_from_slice(&trailer[32..]);
    if Commitment(Digest(commitment)) != *expected {
        return Err(StoreError::Corrupt("the record is of another payload".into()));
    }
    Ok(Kept { batch: record, salt: Salt(salt) })
}

/// A segment that retention removed holds nothing any more; everything else is an error.
fn gone_or<T>(error: ReadError) -> Result<Option<T>, StoreError> {
    match error {
        ReadError::UnknownSegment { .. } => Ok(None),
        ReadError::Corrupt { .. } => Err(StoreError::Corrupt(error.to_string())),
        ReadError::Io { .. } => Err(StoreError::Unavailable(error.to_string())),
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("closed".into())
}

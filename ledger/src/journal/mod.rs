//! The journal: one append-only log per node that carries many streams (votes and blocks of all partitions, Raft logs), and, in a
//! directory of its own, the payloads of a connector's disk store.
//!
//! It is synchronous and never awaits. [`append`](Journal::append) queues and returns; one thread takes everything that is queued,
//! writes it with one vectored call, syncs once, and then runs the callbacks in the order of the appends. So the cost of a sync is
//! shared by all that came while the one before ran (group commit), over all streams.
//!
//! # Files
//! A journal is a directory of segments, `<number in 16 hex digits>.segment`, numbered without gaps, of
//! [`Options::segment_bytes`] each. Their blocks are reserved when they are created. A record that is larger gets a segment of its
//! own size. Files of removed segments may be kept and written again ([`Options::spare_segments`]): the file system then neither frees nor
//! allocates, and has nothing to note about their blocks at a sync. What they still contain belongs to another nonce.
//!
//! ```text
//! segment   0      8        16      24    28             4096
//!           | magic | number | nonce | crc | zeros        | record | record | ... | end mark | unused: zeros, or stale
//!           "WAYBJRN1"  random, of this segment
//!
//! record    0       4       8       16                32       36        40       44       48
//!           | magic | crc   | nonce | stream          | length | payload | offset | synced | payload ... | zeros to a
//!           | WBJR  | of    |       | (16 bytes)      |        | crc     |        |        |             | multiple of 8
//!                     header
//! ```
//!
//! Integers are little-endian, checksums CRC-32C. The header's covers the header without itself, the payload's the payload; both
//! are needed, since a scan may skip payloads. `nonce` and `offset` tie a record to its place in its segment's present life: neither
//! what a recycled file still holds, nor a piece of a journal inside somebody's payload, is ever taken for a record. A magic of `WBJM`
//! is a mark (an orderly close writes one), `WBJE` the end mark of a segment; both have no payload.
//!
//! # Torn or corrupt?
//! When a machine stops, what was written and not yet synced may be on the disk in part, *and in any order*: of a group of ten records
//! the third may be missing while the tenth is there. Nobody was told that they are durable, so they may be cut off. The same picture
//! in records that *were* synced means that acknowledged data is gone; to cut those off would be to forget a vote. Zeros behind the
//! last record, reserved or stale, look the same in both cases. What tells them apart is `synced`:
//!
//! > `synced = S` in a record says: when this was written, all of this segment before offset S had been synced.
//!
//! So recovery walks to the first offset X that holds no valid record and looks for valid record *headers* anywhere behind it (whether
//! their payloads are whole does not matter: the header alone shows that it was written, and when).
//!
//! - One of them has `synced > X`: X had been synced before. **Corrupt**: the journal does not open, the error names file and offset.
//! - None has: each of them was written before a sync that would have covered X, that is, in the same unsynced group, or lazily.
//!   **Torn**: the file is cut off at X, with a warning, and filled up with zeros.
//!
//! In a [scan of headers](Scan::Headers) the second case is narrower. Its caller keeps payloads that do not depend on each other, and
//! reads them one by one: a damaged one must be an error to whoever reads it, not to everybody who wants another. So a record whose
//! header is valid is shown to the visitor whatever its payload is, if a later header has `synced` behind the record's end; the damage
//! is an error in the log, a metric (`waybill_journal_damaged_payloads_total`), and [`ReadError::Corrupt`] to its readers. Should that
//! later header itself be torn off, a mark takes its place first. Damage to the headers, which the scan needs to go from record to
//! record, stays corrupt; and [in full](Scan::Full), as for votes, any damage does.
//!
//! The group's number would not do: when the header at X is destroyed nobody knows which group it was of, the last synced one or the first
//! unsynced. An offset answers that. In a segment that has a successor everything up to its end mark was synced before the
//! successor was created, so there anything invalid is corrupt.
//!
//! Two limits, which no format without a second sync per group removes: damage to the *last* group, after it was synced and before
//! another was written, cannot be told from a tear, and is cut off with the warning. (An orderly close ends with a mark, whose `synced`
//! covers it.) And a record shares a disk block with its neighbours, so it is relied upon, as in any log that packs records, that a
//! device does not destroy bytes of a block by writing the same bytes to them again.
//!
//! What is found beyond the greatest `synced` is written again and synced before the journal opens: it may have been in the
//! page cache only, marked clean by a sync that failed.
//!
//! # Failures
//! A failed write or sync while the journal runs, a full disk when a segment is created included, ends the process, with one line in
//! the log. Damage found at opening is an [`OpenError`], damage found by reading a [`ReadError`].
//!
//! # Deliberately absent
//! An index (a caller keeps [`Position`]s), atomicity of a batch across a crash (a prefix of it may survive: put into one
//! record what must stay together), erasure of single records, asynchronous anything.

mod directory;
mod error;
mod format;
mod group;
mod queue;
mod read;
mod recovery;
mod scan;
mod segments;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};

use bytes::Bytes;
use parking_lot::Mutex;

pub use error::{AppendError, OpenError, ReadError};
pub use format::{Position, RECORD_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, StreamId};
pub use scan::Visited;

use directory::DirectoryLock;
use queue::{Draft, Entry, Queue};
use segments::Segments;
use writer::Writer;

/// When an append counts as done.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// When it has been synced: it survives a power failure.
    Always,
    /// When it has been written: it survives the process, and the machine from the system's next write-back on. A segment is synced
    /// when it is full, and by [`Journal::sync`] and [`Journal::close`].
    Os,
}

/// How much of the records [`Journal::open`] reads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Everything, every checksum verified.
    Full,
    /// Of full segments only the headers: payloads are verified when they are read. The last segment is verified nevertheless, to find
    /// a torn tail; a payload in it that was damaged after it had been synced is left to its readers too.
    Headers,
}

/// How a journal behaves. [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the journal in metrics and messages.
    pub name: String,
    /// Length of a segment's file, [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// When an append counts as done.
    pub sync: SyncMode,
    /// How much opening reads.
    pub scan: Scan,
    /// The visitor sees the records from here on only, and full segments before are not read at all: for a caller that has
    /// the state up to there by other means. It is the position of a record; a journal that ends before it does not open.
    pub scan_from: Option<Position>,
    /// Appends are refused while more than this waits to be written.
    pub queue_bytes_limit: u64,
    /// Full segments to leave in the page cache; those before are read from the disk. Without a limit a journal takes all memory that
    /// is free, and each of its writes waits for fresh memory instead of using some again.
    pub cached_segments: u64,
    /// Files of removed segments to keep for reuse. Zero where removing must destroy: a spare keeps its bytes until it is written
    /// again.
    pub spare_segments: usize,
}

impl Options {
    /// 64 MiB segments, four of them cached, synced, scanned in full, 256 MiB of queue, two spares.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            segment_bytes: 64 << 20,
            sync: SyncMode::Always,
            scan: Scan::Full,
            scan_from: None,
            queue_bytes_limit: 256 << 20,
            cached_segments: 4,
            spare_segments: 2,
        }
    }
}

/// Sees each record at opening, in the order of the appends. Its error ends the opening.
pub type Visitor<'v> = dyn FnMut(Visited<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'v;

/// An open journal. Share it by `Arc`; its methods may be called from any thread. Appending never blocks on the disk; opening,
/// reading, removing and closing do.
#[derive(Debug)]
pub struct Journal {
    queue: Arc<Queue>,
    segments: Arc<Segments>,
    writer: Mutex<Option<JoinHandle<()>>>,
    writer_thread: ThreadId,
    _lock: Arc<DirectoryLock>,
}

impl Journal {
    /// Opens the journal in `dir`, which is created if it is missing, and shows what it contains to `visit`. If this fails, whatever
    /// the visitor has built is of no use; no record that is in the journal's files was touched.
    pub fn open(dir: &Path, options: Options, visit: &mut Visitor<'_>) -> Result<Self, OpenError> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes) {
            let (option, value) = ("segment_bytes", options.segment_bytes);
            return Err(OpenError::Option { option, value, limits: "8 KiB to 2 GiB" });
        }
        let lock = Arc::new(DirectoryLock::acquire(dir)?);
        let segments = Segments::new(dir, directory::list(dir)?, options.spare_segments);
        let segments = Arc::new(segments.map_err(OpenError::io("delete spares in", dir))?);
        let tail = recovery::recover(&segments, &options, visit)?;
        let queue = Arc::new(Queue::new(options.queue_bytes_limit));
        let name = format!("journal-{}", options.name);
        let writer = Writer::new(Arc::clone(&segments), Arc::clone(&queue), options, tail);
        let held = Arc::clone(&lock);
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            writer.drive();
            drop(held);
        });
        let thread = spawned.map_err(OpenError::io("start the writer thread of", dir))?;
        let writer_thread = thread.thread().id();
        Ok(Self { queue, segments, writer: Mutex::new(Some(thread)), writer_thread, _lock: lock })
    }

    /// Appends the concatenation of `parts` as one record. Large parts are not copied on their way to the system. `done` runs on
    /// the writer thread, after the record is as durable as [`Options::sync`] says; it must be quick, for all others wait behind it.
    pub fn append(
        &self,
        stream: StreamId,
        parts: Vec<Bytes>,
        done: impl FnOnce(Position) + Send + 'static,
    ) -> Result<(), AppendError> {
        let draft = Draft::new(stream, parts)?;
        self.queue.push(Entry::Record { draft, sync: true, done: Box::new(done) })
    }

    /// Appends several records, one after the other with nothing between them; `done` gets their positions in the same order.
    /// All or none are queued. After a crash a prefix of them may be there, if `done` had not run.
    pub fn append_batch(
        &self,
        records: Vec<(StreamId, Vec<Bytes>)>,
        done: impl FnOnce(&[Position]) + Send + 'static,
    ) -> Result<(), AppendError> {
        let drafts = records.into_iter().map(|(stream, parts)| Draft::new(stream, parts)).collect::<Result<_, _>>()?;
        self.queue.push(Entry::Batch { drafts, done: Box::new(done) })
    }

    /// Appends a record that is worth no sync of its own: `done` runs when it is written, and it becomes durable with the next sync.
    /// It keeps its place among the other appends.
    pub fn append_lazily(
        &self,
        stream: StreamId,
        parts: Vec<Bytes>,
        done: impl FnOnce(Position) + Send + 'static,
    ) -> Result<(), AppendError> {
        let draft = Draft::new(stream, parts)?;
        self.queue.push(Entry::Record { draft, sync: false, done: Box::new(done) })
    }

    /// Runs `done` on the writer thread when everything appended before is synced, whatever [`Options::sync`] says.
    pub fn sync(&self, done: impl FnOnce() + Send + 'static) -> Result<(), AppendError> {
        self.queue.push(Entry::Barrier { done: Box::new(done) })
    }

    /// The payload of the record at `position`, its checksum verified. Any record can be read whose callback has run.
    pub fn read(&self, position: Position) -> Result<Bytes, ReadError> {
        read::read(&self.segments, position)
    }

    /// Up to `length` bytes of a payload from its byte `from` on; fewer, or none, where the payload ends. The record's header is
    /// verified, the bytes are not: a checksum of the whole cannot tell about a part. Whoever assembles parts must check the whole.
    pub fn read_range(&self, position: Position, from: u64, length: usize) -> Result<Bytes, ReadError> {
        read::read_range(&self.segments, position, from, length)
    }

    /// The length of the payload of the record at `position`.
    pub fn payload_bytes(&self, position: Position) -> Result<u32, ReadError> {
        read::length(&self.segments, position)
    }

    /// Whose record the one at `position` is.
    pub fn stream(&self, position: Position) -> Result<StreamId, ReadError> {
        read::stream(&self.segments, position)
    }

    /// Bytes that wait to be written or synced.
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Numbers of the oldest and the newest segment.
    pub fn segment_numbers(&self) -> RangeInclusive<u64> {
        self.segments.numbers_range()
    }

    /// Removes all segments before the one that `position` is in, and returns how many; records before `position` in that segment
    /// stay. The segment that is being written is never removed. Blocks for a few milliseconds per segment.
    pub fn remove_segments_before(&self, position: Position) -> io::Result<usize> {
        self.segments.remove_before(position.segment)
    }

    /// Takes no more appends, waits until those before are written, synced and told, and ends the writer thread. What is written can
    /// still be read. The directory stays locked until the journal is dropped, which closes it too.
    pub fn close(&self) {
        self.queue.close();
        if std::thread::current().id() == self.writer_thread {
            // The last owner may be a callback. The writer ends, and unlocks the directory, when it has written what is left.
            return;
        }
        // The lock is held while waiting, so that a second caller waits as well.
        if self.writer.lock().take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the journal's writer thread panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

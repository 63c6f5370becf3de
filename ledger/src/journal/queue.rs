//! What waits for the writer thread: bounded, in the order of the appends.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::error::AppendError;
use super::format::{self, Position, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, StreamId};

/// A record on its way to the disk.
pub(super) struct Draft {
    pub stream: StreamId,
    pub parts: Vec<Bytes>,
    pub length: u32,
    pub crc: u32,
}

impl Draft {
    /// Sums up the parts, on the caller's thread: the writer has one core, the callers have the others.
    pub fn new(stream: StreamId, parts: Vec<Bytes>) -> Result<Self, AppendError> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= RECORD_BYTES_MAX);
        let Some(length) = length else { return Err(AppendError::RecordTooLarge { bytes }) };
        let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        Ok(Self { stream, parts, length, crc })
    }

    pub fn framed_bytes(&self) -> u64 {
        format::framed_bytes(u64::from(self.length))
    }
}

pub(super) type OneDone = Box<dyn FnOnce(Position) + Send>;
pub(super) type ManyDone = Box<dyn FnOnce(&[Position]) + Send>;
pub(super) type BarrierDone = Box<dyn FnOnce() + Send>;

/// One call of the journal's interface.
pub(super) enum Entry {
    Record { draft: Draft, sync: bool, done: OneDone },
    Batch { drafts: Vec<Draft>, done: ManyDone },
    Barrier { done: BarrierDone },
}

impl Entry {
    /// Bytes that it will take in the segment. What takes none counts as a header, so that the queue's limit bounds its length too.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Entry::Record { draft, .. } => draft.framed_bytes(),
            Entry::Batch { drafts, .. } => drafts.iter().map(Draft::framed_bytes).sum(),
            Entry::Barrier { .. } => 0,
        };
        bytes.max(RECORD_HEADER_BYTES)
    }
}

pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// Bytes of entries that are queued or being written; it grows under the lock only, so that the limit is exact.
    bytes: AtomicU64,
    bytes_limit: u64,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    closed: bool,
    writer_waits: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("bytes", &self.bytes())
            .field("bytes_limit", &self.bytes_limit)
            .finish_non_exhaustive()
    }
}

impl Queue {
    pub fn new(bytes_limit: u64) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), bytes: AtomicU64::new(0), bytes_limit }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds an entry, unless it goes beyond the limit. A single entry above the limit is taken when nothing else waits, or it could
    /// never be written.
    pub fn push(&self, entry: Entry) -> Result<(), AppendError> {
        let entry_bytes = entry.bytes();
        let mut state = self.state.lock();
        if state.closed {
            return Err(AppendError::Closed);
        }
        let queued_bytes = self.bytes();
        if queued_bytes > 0 && queued_bytes + entry_bytes > self.bytes_limit {
            return Err(AppendError::QueueFull { queued_bytes, limit: self.bytes_limit });
        }
        self.bytes.fetch_add(entry_bytes, Ordering::Relaxed);
        state.entries.push_back(entry);
        let wake = std::mem::take(&mut state.writer_waits);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Moves all that waits into `taken`. Sleeps while there is nothing in either; false when there never will be again.
    pub fn take(&self, taken: &mut VecDeque<Entry>) -> bool {
        let mut state = self.state.lock();
        while state.entries.is_empty() && taken.is_empty() {
            if state.closed {
                return false;
            }
            state.writer_waits = true;
            self.filled.wait(&mut state);
        }
        if taken.is_empty() {
            std::mem::swap(&mut state.entries, taken);
        } else {
            taken.append(&mut state.entries);
        }
        true
    }

    /// The writer is done with entries of so many bytes.
    pub fn release(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// No entry is taken any more; those that are in are written.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }
}

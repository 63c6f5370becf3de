//! The one thread that writes: takes what waits, writes it, syncs once, tells everybody.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::error::fatal;
use super::format::{self, BLOCK_BYTES, FIRST_RECORD, Kind, Position, RECORD_HEADER_BYTES, RecordHeader, StreamId};
use super::group::Group;
use super::queue::{BarrierDone, Draft, Entry, ManyDone, OneDone, Queue};
use super::segments::{Segment, Segments};
use super::{Options, SyncMode};

/// More than this is not written before the next sync: what came first is told first, and whoever waits for room in the queue gets
/// some while the rest is written. The disk is at full speed well below.
const GROUP_BYTES_MAX: u64 = 16 << 20;

/// A sealed segment whose unused part is more than this fraction of [`Options::segment_bytes`] gives it back to the file system.
const UNUSED_FRACTION: u64 = 8;

/// Where the journal goes on: what recovery found.
#[derive(Debug)]
pub(super) struct Tail {
    pub segment: Arc<Segment>,
    /// Offset of the next record; all before it is synced.
    pub end: u64,
    /// Length of the file.
    pub capacity: u64,
}

pub(super) struct Writer {
    segments: Arc<Segments>,
    queue: Arc<Queue>,
    options: Options,
    segment: Arc<Segment>,
    /// Offset of the next record.
    end: u64,
    capacity: u64,
    /// Everything before this offset is synced.
    synced: u64,
    /// What of the current group is still to be written; it ends at `end`.
    group: Group,
    group_at: u64,
    sync_seconds: metrics::Histogram,
    bytes_total: metrics::Counter,
}

enum Completion {
    One(OneDone, Position),
    Many(ManyDone, Vec<Position>),
    Barrier(BarrierDone),
}

impl Writer {
    pub fn new(segments: Arc<Segments>, queue: Arc<Queue>, options: Options, tail: Tail) -> Self {
        let label = [metrics::Label::new("journal", options.name.clone())];
        let Tail { segment, end, capacity } = tail;
        Self {
            segments,
            queue,
            segment,
            end,
            capacity,
            synced: end,
            group: Group::default(),
            group_at: end,
            sync_seconds: metrics::histogram!("waybill_journal_sync_seconds", label.iter()),
            bytes_total: metrics::counter!("waybill_journal_bytes_total", label.iter()),
            options,
        }
    }

    /// Runs until the queue is closed and empty.
    pub fn drive(mut self) {
        let _guard = AbortOnPanic;
        let mut taken = VecDeque::new();
        let mut completions = Vec::new();
        while self.queue.take(&mut taken) {
            self.write_group(&mut taken, &mut completions);
        }
        self.mark_clean_end();
    }

    /// One write and one sync for what is in `taken`, up to [`GROUP_BYTES_MAX`].
    fn write_group(&mut self, taken: &mut VecDeque<Entry>, completions: &mut Vec<Completion>) {
        let (mut group_bytes, mut sync) = (0, false);
        while let Some(entry) = taken.pop_front() {
            group_bytes += entry.bytes();
            sync |= self.needs_sync(&entry);
            completions.push(self.place_entry(entry));
            if taken.front().is_some_and(|next| group_bytes + next.bytes() > GROUP_BYTES_MAX) {
                break;
            }
        }
        self.flush();
        if sync {
            self.sync();
        }
        self.queue.release(group_bytes);
        completions.drain(..).for_each(complete);
    }

    fn needs_sync(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Record { sync, .. } => *sync && self.options.sync == SyncMode::Always,
            Entry::Batch { .. } => self.options.sync == SyncMode::Always,
            Entry::Barrier { .. } => true,
        }
    }

    fn place_entry(&mut self, entry: Entry) -> Completion {
        match entry {
            Entry::Record { draft, done, .. } => Completion::One(done, self.place(draft)),
            Entry::Batch { drafts, done } => {
                Completion::Many(done, drafts.into_iter().map(|draft| self.place(draft)).collect())
            }
            Entry::Barrier { done } => Completion::Barrier(done),
        }
    }

    /// Gives the record its place, in a new segment if this one has no room for it and its end mark.
    fn place(&mut self, draft: Draft) -> Position {
        if self.end + draft.framed_bytes() + RECORD_HEADER_BYTES > self.capacity {
            self.rotate(draft.framed_bytes());
        }
        let position = Position { segment: self.segment.number, offset: offset_u32(self.end) };
        let padding = draft.framed_bytes() - RECORD_HEADER_BYTES - u64::from(draft.length);
        self.push_header(Kind::Record, draft.stream, draft.length, draft.crc);
        for part in draft.parts {
            self.group.push(part);
        }
        self.group.push_copy(&[0; 8][..padding as usize]);
        self.end += u64::from(draft.length) + padding;
        position
    }

    fn push_header(&mut self, kind: Kind, stream: StreamId, length: u32, payload_crc: u32) {
        let (offset, synced) = (offset_u32(self.end), offset_u32(self.synced));
        let nonce = self.segment.nonce;
        let header = RecordHeader { kind, nonce, stream, length, payload_crc, offset, synced };
        self.group.push_copy(&header.to_bytes());
        self.end += RECORD_HEADER_BYTES;
    }

    fn push_mark(&mut self, kind: Kind) {
        self.push_header(kind, StreamId([0; 16]), 0, 0);
    }

    /// Seals the segment and goes on in the next. The sync stands between: recovery relies on it that a segment which has a
    /// successor is whole.
    fn rotate(&mut self, record_bytes: u64) {
        self.push_mark(Kind::End);
        self.flush();
        self.sync();
        self.give_back_unused();
        let number = self.segment.number + 1;
        let needed = FIRST_RECORD + record_bytes + RECORD_HEADER_BYTES;
        let capacity = needed.next_multiple_of(BLOCK_BYTES).max(self.options.segment_bytes);
        let reuse = capacity == self.options.segment_bytes;
        match self.segments.create(number, capacity, reuse) {
            Ok(segment) => self.segment = segment,
            Err(error) => fatal(&self.options.name, "create the next segment", self.segments.dir(), &error),
        }
        if let Some(cold) = number.checked_sub(self.options.cached_segments.saturating_add(1)) {
            self.segments.drop_from_page_cache(cold);
        }
        self.capacity = capacity;
        self.end = FIRST_RECORD;
        self.synced = FIRST_RECORD;
        self.group_at = FIRST_RECORD;
    }

    /// Matters where payloads are large: the last one that did not fit may have left half a segment unused.
    fn give_back_unused(&self) {
        let used = self.end.next_multiple_of(BLOCK_BYTES);
        let unused = self.capacity.saturating_sub(used);
        if unused > self.options.segment_bytes / UNUSED_FRACTION
            && let Err(error) = self.segment.file.set_len(used)
        {
            fatal(&self.options.name, "shorten the sealed segment", &self.segment.path, &error);
        }
    }

    /// Writes the group, and zeros up to the end of the last block: a block that is begun and not in the page cache, as in a reused
    /// file, would have to be read first.
    fn flush(&mut self) {
        if self.group.is_empty() {
            return;
        }
        let block_end = self.end.next_multiple_of(BLOCK_BYTES).min(self.capacity);
        self.group.push_copy(&[0; BLOCK_BYTES as usize][..block_end.saturating_sub(self.end) as usize]);
        if let Err(error) = self.group.write_to(&self.segment.file, self.group_at) {
            fatal(&self.options.name, "write", &self.segment.path, &error);
        }
        self.bytes_total.increment(self.end - self.group_at);
        self.group_at = self.end;
    }

    fn sync(&mut self) {
        if self.synced == self.end {
            return;
        }
        let started = Instant::now();
        if let Err(error) = self.segment.file.sync_data() {
            fatal(&self.options.name, "sync", &self.segment.path, &error);
        }
        self.sync_seconds.record(started.elapsed());
        self.synced = self.end;
    }

    /// After an orderly close nothing is taken for a torn tail: the mark's `synced` vouches for all before it.
    fn mark_clean_end(&mut self) {
        self.sync();
        if self.end + 2 * RECORD_HEADER_BYTES <= self.capacity {
            self.push_mark(Kind::Mark);
            self.flush();
            self.sync();
        }
    }
}

/// A callback that panics must not take the journal, and everybody else's callbacks, with it.
fn complete(completion: Completion) {
    let outcome = catch_unwind(AssertUnwindSafe(|| match completion {
        Completion::One(done, position) => done(position),
        Completion::Many(done, positions) => done(&positions),
        Completion::Barrier(done) => done(),
    }));
    if outcome.is_err() {
        tracing::error!("a completion callback of the journal panicked");
    }
}

/// Offsets fit: segments end below [`format::SEGMENT_BYTES_MAX`], or after one record of at most [`format::RECORD_BYTES_MAX`].
fn offset_u32(offset: u64) -> u32 {
    debug_assert!(offset <= format::SEGMENT_BYTES_MAX.max(format::RECORD_BYTES_MAX + 2 * FIRST_RECORD));
    offset as u32
}

/// A journal without its writer would leave every append waiting for ever.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fatal(
                "?",
                "go on writing",
                "".as_ref(),
                &io::Error::other("the writer thread panicked: a defect of the journal"),
            );
        }
    }
}

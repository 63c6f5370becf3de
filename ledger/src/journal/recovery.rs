//! Opening what is there: every record is shown to the visitor, a torn tail is cut off, a corrupt middle is refused. How the two are
//! told apart is in the module's documentation.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::OpenError;
use super::format::{BLOCK_BYTES, FIRST_RECORD, Kind, Position, RECORD_HEADER_BYTES, RecordHeader, StreamId};
use super::read::read_up_to;
use super::scan::{SegmentReader, Visited};
use super::segments::{Segment, SegmentError, Segments};
use super::writer::Tail;
use super::{Options, Scan, Visitor, directory};

/// Copied at once when the tail is written again.
const COPY_BYTES: u64 = 1 << 20;

/// Damaged payloads that get a line of their own in the log; the others are counted.
const DAMAGED_NAMED_MAX: u64 = 16;

pub(super) fn recover(segments: &Segments, options: &Options, visit: &mut Visitor<'_>) -> Result<Tail, OpenError> {
    let mut recovery = Recovery { segments, options, visit };
    let numbers = segments.numbers();
    let Some((last, sealed)) = numbers.split_last() else {
        recovery.check_scan_from(Position { segment: 1, offset: FIRST_RECORD as u32 })?;
        return recovery.create(1);
    };
    let scan_from = options.scan_from.map_or(0, |position| position.segment);
    for number in sealed.iter().filter(|number| **number >= scan_from) {
        recovery.scan_sealed(*number)?;
    }
    recovery.scan_last(*last)
}

struct Recovery<'a, 'v> {
    segments: &'a Segments,
    options: &'a Options,
    visit: &'a mut Visitor<'v>,
}

impl Recovery<'_, '_> {
    fn create(&self, number: u64) -> Result<Tail, OpenError> {
        let capacity = self.options.segment_bytes;
        let created = self.segments.create(number, capacity, true);
        let segment = created.map_err(OpenError::io("create a segment in", self.segments.dir()))?;
        Ok(Tail { segment, end: FIRST_RECORD, capacity })
    }

    /// A segment that has a successor was synced to its end mark before the successor was created: all of it must be valid.
    fn scan_sealed(&mut self, number: u64) -> Result<(), OpenError> {
        let mut reader = self.reader(number)?;
        let path = reader.segment.path.clone();
        let mut at = FIRST_RECORD;
        loop {
            let Some(header) = reader.header_at(at).map_err(OpenError::io("read", &path))? else {
                return Err(corrupt(
                    &path,
                    at,
                    "no valid record header is here, although the journal goes on behind it",
                ));
            };
            match header.kind {
                Kind::End => return Ok(()),
                Kind::Mark => {}
                Kind::Record if self.options.scan == Scan::Headers => self.show(&mut reader, header, None)?,
                Kind::Record => match reader.payload(&header).map_err(OpenError::io("read", &path))? {
                    Some(payload) => self.show(&mut reader, header, Some(payload))?,
                    None => return Err(corrupt(&path, at, "the payload of this record fails its checksum")),
                },
            }
            at = header.next_at();
        }
    }

    /// In the last segment every checksum is verified whatever the scan, since the last writes may be torn.
    fn scan_last(&mut self, number: u64) -> Result<Tail, OpenError> {
        let mut reader = self.reader(number)?;
        let path = reader.segment.path.clone();
        let (mut at, mut synced, mut sealed) = (FIRST_RECORD, FIRST_RECORD, false);
        let mut damaged = Damaged::default();
        while !sealed {
            let Some(header) = reader.header_at(at).map_err(OpenError::io("read", &path))? else { break };
            let valid = match self.options.scan {
                Scan::Headers => reader.verify(&header).map(|valid| valid.then_some(None)),
                Scan::Full => reader.payload(&header).map(|payload| payload.map(Some)),
            };
            let payload = match valid.map_err(OpenError::io("read", &path))? {
                Some(payload) => payload,
                None if self.options.scan == Scan::Full => break,
                None if damaged.note(&mut reader, &header).map_err(OpenError::io("read", &path))? => None,
                None => break,
            };
            match header.kind {
                Kind::Record => self.show(&mut reader, header, payload)?,
                Kind::Mark => {}
                Kind::End => sealed = true,
            }
            synced = synced.max(u64::from(header.synced));
            at = header.next_at();
        }
        let torn = !sealed && is_torn(&mut reader, at)?;
        self.check_scan_from(Position { segment: number, offset: at as u32 })?;
        damaged.report(&self.options.name, &path);
        write_again(&reader, synced, at).map_err(OpenError::io("write", &path))?;
        if sealed {
            reader.segment.file.sync_all().map_err(OpenError::io("sync", &path))?;
            return self.create(number + 1);
        }
        if damaged.last_end > synced {
            at = mark_again(&reader, at).map_err(OpenError::io("write", &path))?;
        }
        let capacity = make_room(&reader, at, torn, self.options.segment_bytes);
        let capacity = capacity.map_err(OpenError::io("make room in", &path))?;
        Ok(Tail { segment: reader.segment, end: at, capacity })
    }

    /// A caller whose state goes further than the journal would build on records that are gone.
    fn check_scan_from(&self, end: Position) -> Result<(), OpenError> {
        match self.options.scan_from {
            Some(scan_from) if scan_from >= end => {
                Err(OpenError::EndsBefore { dir: self.segments.dir().to_owned(), end, scan_from })
            }
            _ => Ok(()),
        }
    }

    fn show(
        &mut self,
        reader: &mut SegmentReader,
        header: RecordHeader,
        payload: Option<bytes::Bytes>,
    ) -> Result<(), OpenError> {
        let position = Position { segment: reader.segment.number, offset: header.offset };
        if self.options.scan_from.is_some_and(|from| position < from) {
            return Ok(());
        }
        let dir = self.segments.dir();
        (self.visit)(Visited::new(reader, header, payload)).map_err(|source| OpenError::Visitor {
            dir: dir.to_owned(),
            position,
            source,
        })
    }

    fn reader(&self, number: u64) -> Result<SegmentReader, OpenError> {
        let segment = self.segments.open(number).map_err(|error| match error {
            SegmentError::Unknown => OpenError::MissingSegment { dir: self.segments.dir().to_owned(), segment: number },
            SegmentError::Header { file, what } => corrupt(&file, 0, what),
            SegmentError::Io { file, source } => OpenError::io("open", &file)(source),
        })?;
        let path = segment.path.clone();
        SegmentReader::new(segment, self.options.scan == Scan::Full).map_err(OpenError::io("read", &path))
    }
}

fn corrupt(file: &Path, offset: u64, what: &'static str) -> OpenError {
    OpenError::Corrupt { file: file.to_owned(), offset, what }
}

/// Payloads of the last segment that were whole when they were synced and are not now. A scan of headers leaves them to their readers,
/// as it does in full segments.
#[derive(Default)]
struct Damaged {
    count: u64,
    /// Where the last of them ends.
    last_end: u64,
    /// The greatest `synced` behind the first of them. It serves for the others too: who has it lies behind everything before it.
    proven: Option<u64>,
}

impl Damaged {
    /// Takes note of the record, whose payload fails its checksum, if a later header proves that it had been synced. Otherwise it may
    /// be torn.
    fn note(&mut self, reader: &mut SegmentReader, header: &RecordHeader) -> io::Result<bool> {
        let proven = match self.proven {
            Some(proven) => proven,
            None => *self.proven.insert(reader.headers_behind(header.next_at())?.synced_max),
        };
        if proven < header.next_at() {
            return Ok(false);
        }
        self.count += 1;
        self.last_end = header.next_at();
        if self.count <= DAMAGED_NAMED_MAX {
            let (file, offset, stream) = (reader.segment.path.display(), header.offset, header.stream);
            tracing::error!(%file, offset, ?stream, "the payload of this record was damaged after it had been synced");
        }
        Ok(true)
    }

    fn report(&self, journal: &str, path: &Path) {
        let name = [metrics::Label::new("journal", journal.to_owned())];
        metrics::counter!("waybill_journal_damaged_payloads_total", name.iter()).increment(self.count);
        if self.count > DAMAGED_NAMED_MAX {
            let (file, count) = (path.display(), self.count);
            tracing::error!(%file, count, "so many payloads in all were damaged after they had been synced");
        }
    }
}

/// Whether what is at `at`, where no valid record is, remains of an unfinished write; an error if it had once been synced.
fn is_torn(reader: &mut SegmentReader, at: u64) -> Result<bool, OpenError> {
    let path = reader.segment.path.clone();
    let behind = reader.headers_behind(at).map_err(OpenError::io("read", &path))?;
    if behind.synced_max > at {
        return Err(corrupt(&path, at, "this had been synced, as later records prove, and is not a valid record now"));
    }
    let torn = behind.count > 0 || reader.damaged_header_at(at).map_err(OpenError::io("read", &path))?;
    if torn {
        let (file, headers) = (path.display(), behind.count);
        tracing::warn!(%file, offset = at, headers, "the end of the journal is torn: what no record proves to have been synced is cut off");
    }
    Ok(torn)
}

/// Writes again what no record proves to have been synced. It may be in the page cache alone: after a failed sync, which ended the
/// process before this one, the kernel takes such pages for clean and a further sync would leave them out.
fn write_again(reader: &SegmentReader, synced: u64, end: u64) -> io::Result<()> {
    let mut at = synced;
    while at < end {
        let mut bytes = vec![0; (end - at).min(COPY_BYTES) as usize];
        let have = read_up_to(&reader.segment.file, &mut bytes, at)?;
        reader.segment.file.write_all_at(&bytes[..have], at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// What proved that a damaged payload had been synced lies in the torn tail and goes with it. A mark takes its place before: without
/// one the next opening would take the damage for a tear, and cut off the whole records behind it. Returns the mark's end.
fn mark_again(reader: &SegmentReader, at: u64) -> io::Result<u64> {
    let Segment { nonce, file, .. } = reader.segment.as_ref();
    file.sync_all()?;
    let (stream, offset) = (StreamId([0; 16]), at as u32);
    let mark =
        RecordHeader { kind: Kind::Mark, nonce: *nonce, stream, length: 0, payload_crc: 0, offset, synced: offset };
    // Where it goes a torn record began, so it meets no header that proves anything, however little of it a crash lets through.
    file.write_all_at(&mark.to_bytes(), at)?;
    file.sync_all()?;
    Ok(mark.next_at())
}

/// Cuts off a torn tail, gives the file its length, and syncs all that was done to it. Returns the length.
fn make_room(reader: &SegmentReader, end: u64, torn: bool, segment_bytes: u64) -> io::Result<u64> {
    let file = &reader.segment.file;
    if torn {
        // Zeros from here on: a leftover record that lies exactly where a later one happens to end would otherwise count as valid.
        file.set_len(end)?;
    }
    let needed = (end + RECORD_HEADER_BYTES).next_multiple_of(BLOCK_BYTES);
    let capacity = reader.file_bytes.max(segment_bytes).max(needed);
    directory::preallocate(file, capacity)?;
    file.sync_all()?;
    Ok(capacity)
}

//! Reading a segment from its beginning to its end.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{FIRST_RECORD, Position, RECORD_HEADER_BYTES, RecordHeader, StreamId};
use super::read::read_up_to;
use super::segments::Segment;

/// Read at once where everything is read.
const WINDOW_BYTES_FULL: usize = 1 << 20;

/// Read at once where large payloads are skipped.
const WINDOW_BYTES_HEADERS: usize = 16 << 10;

/// Most of what is behind a tail.
const ZEROS: [u8; 512] = [0; 512];

/// A record that recovery found.
pub struct Visited<'a> {
    /// Where it is.
    pub position: Position,
    /// Whose it is.
    pub stream: StreamId,
    /// Its payload's length in bytes.
    pub length: u32,
    payload: Option<Bytes>,
    header: RecordHeader,
    reader: &'a mut SegmentReader,
}

impl<'a> Visited<'a> {
    pub(super) fn new(reader: &'a mut SegmentReader, header: RecordHeader, payload: Option<Bytes>) -> Self {
        let position = Position { segment: reader.segment.number, offset: header.offset };
        Self { position, stream: header.stream, length: header.length, payload, header, reader }
    }

    /// The whole payload. In a [full scan](super::Scan::Full) it is at hand, in a scan of headers it is read and verified now.
    pub fn payload(&mut self) -> io::Result<Bytes> {
        if let Some(payload) = &self.payload {
            return Ok(payload.clone());
        }
        let payload = self.reader.payload(&self.header)?;
        let payload =
            payload.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the payload fails its checksum"))?;
        self.payload = Some(payload.clone());
        Ok(payload)
    }

    /// The first `length` bytes of the payload, or all of it if it is shorter. In a scan of headers nothing verifies them.
    pub fn prefix(&mut self, length: usize) -> io::Result<Bytes> {
        let length = length.min(self.length as usize);
        match &self.payload {
            Some(payload) => Ok(payload.slice(..length)),
            None => self.reader.copy(self.header.payload_at(), length),
        }
    }
}

/// Reads one segment forward, through a window.
pub(super) struct SegmentReader {
    pub segment: Arc<Segment>,
    pub file_bytes: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
}

impl SegmentReader {
    pub fn new(segment: Arc<Segment>, full: bool) -> io::Result<Self> {
        let file_bytes = segment.file.metadata()?.len();
        let window_bytes = if full { WINDOW_BYTES_FULL } else { WINDOW_BYTES_HEADERS };
        Ok(Self { segment, file_bytes, window: Vec::new(), window_at: 0, window_bytes })
    }

    /// The header at `offset`, if one is there and its record lies within the file. The payload is not looked at.
    pub fn header_at(&mut self, offset: u64) -> io::Result<Option<RecordHeader>> {
        let (nonce, file_bytes) = (self.segment.nonce, self.file_bytes);
        let bytes = self.bytes(offset, RECORD_HEADER_BYTES as usize)?;
        let header = RecordHeader::parse(bytes, nonce, offset);
        Ok(header.filter(|header| header.payload_at() + u64::from(header.length) <= file_bytes))
    }

    /// Whether the damaged header of a record of this segment is at `offset`. What a recycled file still holds from its former life
    /// has another nonce.
    pub fn damaged_header_at(&mut self, offset: u64) -> io::Result<bool> {
        let nonce = self.segment.nonce.to_le_bytes();
        Ok(self.bytes(offset, RECORD_HEADER_BYTES as usize)?.get(8..16) == Some(&nonce))
    }

    /// A copy of the record's payload, or nothing if its checksum is wrong. Always a copy: a slice of the window would keep the whole
    /// window in memory for as long as its holder keeps the record.
    pub fn payload(&mut self, header: &RecordHeader) -> io::Result<Option<Bytes>> {
        let payload = self.copy(header.payload_at(), header.length as usize)?;
        let whole = payload.len() == header.length as usize && crc32c::crc32c(&payload) == header.payload_crc;
        Ok(whole.then_some(payload))
    }

    /// Whether the record's payload fits its checksum, in constant memory.
    pub fn verify(&mut self, header: &RecordHeader) -> io::Result<bool> {
        let (mut crc, mut at, end) = (0, header.payload_at(), header.payload_at() + u64::from(header.length));
        while at < end {
            let wanted = (end - at).min(self.window_bytes as u64) as usize;
            let bytes = self.bytes(at, wanted)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            crc = crc32c::crc32c_append(crc, bytes);
            at += bytes.len() as u64;
        }
        Ok(crc == header.payload_crc)
    }

    /// Bytes of the file, fewer than asked for where it ends.
    pub fn copy(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        if length <= self.window_bytes {
            return Ok(Bytes::copy_from_slice(self.bytes(offset, length)?));
        }
        let length = length.min(self.file_bytes.saturating_sub(offset) as usize);
        let mut bytes = vec![0; length];
        self.segment.file.read_exact_at(&mut bytes, offset)?;
        Ok(Bytes::from(bytes))
    }

    /// Bytes through the window, at most as many as it has; fewer than asked for where the file ends.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + length as u64 > window_end {
            self.window.resize(self.window_bytes, 0);
            let have = read_up_to(&self.segment.file, &mut self.window, offset)?;
            self.window.truncate(have);
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        let to = (from + length).min(self.window.len());
        Ok(&self.window[from.min(to)..to])
    }

    /// Valid headers at or behind `from`: how many, and the greatest `synced` among them. After something that is no record this tells
    /// what had been there: see the module's documentation.
    pub fn headers_behind(&mut self, from: u64) -> io::Result<HeadersBehind> {
        let mut behind = HeadersBehind { count: 0, synced_max: 0 };
        let mut at = from.max(FIRST_RECORD);
        let nonce = self.segment.nonce;
        while at + RECORD_HEADER_BYTES <= self.file_bytes {
            let wanted = self.window_bytes;
            let bytes = self.bytes(at, wanted)?;
            if bytes.len() < RECORD_HEADER_BYTES as usize {
                break;
            }
            let mut index = 0;
            while index + RECORD_HEADER_BYTES as usize <= bytes.len() {
                if bytes[index..].starts_with(&ZEROS) {
                    index += ZEROS.len();
                    continue;
                }
                // Nearly all that this looks at is zeros or stale: one comparison decides.
                if bytes[index..].starts_with(b"WBJ")
                    && let Some(header) = RecordHeader::parse(&bytes[index..], nonce, at + index as u64)
                {
                    behind.count += 1;
                    behind.synced_max = behind.synced_max.max(u64::from(header.synced));
                }
                index += 8;
            }
            at += index as u64;
        }
        Ok(behind)
    }
}

/// What [`SegmentReader::headers_behind`] found.
#[derive(Debug)]
pub(super) struct HeadersBehind {
    pub count: u64,
    pub synced_max: u64,
}

//! Reading a record whose position is known.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::ReadError;
use super::format::{Kind, Position, RECORD_HEADER_BYTES, RecordHeader, StreamId};
use super::segments::{Segment, SegmentError, Segments};

/// Read at first: the header and, of most records that are not payloads, all the rest.
const FIRST_READ_BYTES: usize = 4096;

/// The whole payload, its checksum verified.
pub(super) fn read(segments: &Segments, position: Position) -> Result<Bytes, ReadError> {
    let segment = open(segments, position)?;
    let mut first = [0; FIRST_READ_BYTES];
    let first = &mut first;
    let have = read_up_to(&segment.file, first, u64::from(position.offset)).map_err(io_error(&segment))?;
    let header = record_header(&segment, position, &first[..have])?;
    let length = header.length as usize;
    let begun = &first[RECORD_HEADER_BYTES as usize..have];
    let payload = if length <= begun.len() {
        Bytes::copy_from_slice(&begun[..length])
    } else {
        let mut payload = vec![0; length];
        payload[..begun.len()].copy_from_slice(begun);
        let rest_at = header.payload_at() + begun.len() as u64;
        segment.file.read_exact_at(&mut payload[begun.len()..], rest_at).map_err(io_error(&segment))?;
        Bytes::from(payload)
    };
    if crc32c::crc32c(&payload) != header.payload_crc {
        return Err(corrupt(&segment, position, "the payload fails its checksum"));
    }
    Ok(payload)
}

/// Up to `length` bytes of the payload, from its byte `from` on.
pub(super) fn read_range(
    segments: &Segments,
    position: Position,
    from: u64,
    length: usize,
) -> Result<Bytes, ReadError> {
    let segment = open(segments, position)?;
    let header = read_header(&segment, position)?;
    let from = from.min(u64::from(header.length));
    let mut bytes = vec![0; (u64::from(header.length) - from).min(length as u64) as usize];
    segment.file.read_exact_at(&mut bytes, header.payload_at() + from).map_err(io_error(&segment))?;
    Ok(Bytes::from(bytes))
}

/// Whose record it is.
pub(super) fn stream(segments: &Segments, position: Position) -> Result<StreamId, ReadError> {
    let segment = open(segments, position)?;
    Ok(read_header(&segment, position)?.stream)
}

/// The payload's length.
pub(super) fn length(segments: &Segments, position: Position) -> Result<u32, ReadError> {
    let segment = open(segments, position)?;
    Ok(read_header(&segment, position)?.length)
}

fn read_header(segment: &Segment, position: Position) -> Result<RecordHeader, ReadError> {
    let mut bytes = [0; RECORD_HEADER_BYTES as usize];
    let have = read_up_to(&segment.file, &mut bytes, u64::from(position.offset)).map_err(io_error(segment))?;
    record_header(segment, position, &bytes[..have])
}

fn record_header(segment: &Segment, position: Position, bytes: &[u8]) -> Result<RecordHeader, ReadError> {
    RecordHeader::parse(bytes, segment.nonce, u64::from(position.offset))
        .filter(|header| header.kind == Kind::Record)
        .ok_or_else(|| corrupt(segment, position, "no valid record header is there"))
}

fn open(segments: &Segments, position: Position) -> Result<Arc<Segment>, ReadError> {
    segments.open(position.segment).map_err(|error| match error {
        SegmentError::Unknown => ReadError::UnknownSegment { position },
        SegmentError::Header { file, what } => ReadError::Corrupt { file, position, what },
        SegmentError::Io { file, source } => ReadError::Io { file, source },
    })
}

fn corrupt(segment: &Segment, position: Position, what: &'static str) -> ReadError {
    ReadError::Corrupt { file: segment.path.clone(), position, what }
}

fn io_error(segment: &Segment) -> impl FnOnce(io::Error) -> ReadError + '_ {
    |source| ReadError::Io { file: segment.path.clone(), source }
}

/// Fills `buffer` unless the file ends before; returns the bytes read.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

//! The records of a batch, one after the other, as a bounded stream: for what the header alone does not tell.

use std::io::{self, Read};

use thiserror::Error;

use super::decompress::{Limited, reader};
use super::header::Codec;
use super::{BatchError, Canonical};

/// The most that is decompressed of one batch: as much as the largest request can hold without compression.
pub const DECOMPRESSED_BYTES_LIMIT: u64 = 128 * 1024 * 1024;

/// What is read of a record. Its key, value and headers are stepped over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// Its offset less the batch's base offset.
    pub(super) offset_delta: i32,
    /// As the producer gave it, in milliseconds since 1970.
    pub(super) timestamp_ms: i64,
    /// Whether it has a key, be it an empty one.
    pub(super) has_key: bool,
}

/// Why records could not be read. The producer made them so: the checksum has been checked before.
#[derive(Debug, Error)]
pub enum RecordsError {
    /// The codec does not exist.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records do not decompress, or are not records.
    #[error("records of a {codec:?} batch: {reason}")]
    Unreadable {
        /// How they are compressed.
        codec: Codec,
        /// What went wrong.
        reason: io::Error,
    },
}

/// The records of a batch. Decompresses as it goes, and ends after the first error.
pub(super) struct Records<'a> {
    from: Limited<Box<dyn Read + 'a>>,
    codec: Codec,
    base_timestamp_ms: i64,
    left: i32,
}

impl<'a> Records<'a> {
    pub(super) fn of(batch: &'a Canonical) -> Result<Self, RecordsError> {
        let header = batch.header();
        let codec = header.codec()?;
        let plain = reader(codec, &batch.records).map_err(|reason| RecordsError::Unreadable { codec, reason })?;
        let from = Limited::new(plain, DECOMPRESSED_BYTES_LIMIT);
        Ok(Self { from, codec, base_timestamp_ms: header.base_timestamp_ms, left: header.record_count })
    }

    /// Whether nothing follows behind the last record.
    pub(super) fn check_end(mut self) -> Result<(), RecordsError> {
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.unreadable(io::Error::other("bytes behind the last record"))),
            Err(reason) => Err(self.unreadable(reason)),
        }
    }

    fn unreadable(&self, reason: io::Error) -> RecordsError {
        RecordsError::Unreadable { codec: self.codec, reason }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = read_record(&mut self.from, self.base_timestamp_ms).map_err(|reason| self.unreadable(reason));
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

fn read_record(from: &mut impl Read, base_timestamp_ms: i64) -> io::Result<Record> {
    let length = read_varlong(from)?;
    let length = u64::try_from(length).map_err(|_| io::Error::other(format!("record of {length} bytes")))?;
    let mut record = from.take(length);
    let mut attributes = [0];
    record.read_exact(&mut attributes)?;
    let timestamp_delta = read_varlong(&mut record)?;
    let offset_delta = read_varlong(&mut record)?;
    let key_bytes = read_varlong(&mut record)?;
    let rest = record.limit();
    if io::copy(&mut record, &mut io::sink())? < rest {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Record {
        offset_delta: i32::try_from(offset_delta)
            .map_err(|_| io::Error::other(format!("record with offset delta {offset_delta}")))?,
        timestamp_ms: base_timestamp_ms.saturating_add(timestamp_delta),
        has_key: key_bytes >= 0,
    })
}

fn read_varlong(from: &mut impl Read) -> io::Result<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(io::Error::other("variable-length integer without an end"))
}

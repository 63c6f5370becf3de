//! A batch on its way to a consumer: the canonical bytes under the offset that the ledger gave them.

use bytes::{Bytes, BytesMut};
use crc32c::{crc32c, crc32c_combine};

use super::header::{CHECKED_FROM, HEADER_BYTES, Header};

/// A batch with its final header in front of records that are still a slice of where they were stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamped {
    header: [u8; HEADER_BYTES],
    records: Bytes,
}

impl Stamped {
    pub(super) fn new(header: &Header, records: Bytes) -> Self {
        Self { header: header.write(), records }
    }

    /// A batch whose timestamps are the broker's: `message.timestamp.type=LogAppendTime`.
    ///
    /// Consumers then take the header's maximum for every record's timestamp. The records are not read: the checksum is
    /// moved from the old header to the new one (CRCs are linear), so a batch that was damaged stays recognisably so.
    pub(super) fn with_log_append_time(old: &Header, time_ms: i64, records: Bytes) -> Self {
        let mut new = *old;
        new.set_log_append_time(time_ms);
        let checked = |header: &Header| crc32c(&header.write()[CHECKED_FROM..]);
        new.crc ^= crc32c_combine(checked(old) ^ checked(&new), 0, records.len());
        Self::new(&new, records)
    }

    /// The batch in two pieces, for a vectored write.
    pub fn chunks(&self) -> [&[u8]; 2] {
        [&self.header, &self.records]
    }

    /// The header, and the records as the slice they are.
    pub fn into_parts(self) -> ([u8; HEADER_BYTES], Bytes) {
        (self.header, self.records)
    }

    /// How many bytes the two pieces have.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch in one piece. Copies the records.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size_bytes());
        self.chunks().into_iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes.freeze()
    }
}

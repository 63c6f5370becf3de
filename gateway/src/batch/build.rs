//! A writer of record batches, for tests and tools. The brokers of this crate never write records.

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::crc32c;

use super::header::{CHECKED_FROM, Codec, HEADER_BYTES, Header, LENGTH_END};

/// Collects records and writes them as one version 2 batch.
#[derive(Clone, Debug)]
pub struct Builder {
    header: Header,
    records: BytesMut,
    compressed: Option<Bytes>,
}

impl Builder {
    /// A batch without records whose timestamps are relative to the given one.
    pub fn new(base_timestamp_ms: i64) -> Self {
        let header = Header {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp_ms,
            max_timestamp_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { header, records: BytesMut::new(), compressed: None }
    }

    /// Appends a record without headers.
    #[must_use]
    pub fn record(mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let mut body = BytesMut::new();
        body.put_u8(0);
        put_varlong(&mut body, timestamp_ms.wrapping_sub(self.header.base_timestamp_ms));
        put_varlong(&mut body, self.header.record_count.into());
        for part in [key, value] {
            put_varlong(&mut body, part.map_or(-1, |bytes| bytes.len() as i64));
            body.put_slice(part.unwrap_or_default());
        }
        put_varlong(&mut body, 0);
        put_varlong(&mut self.records, body.len() as i64);
        self.records.put_slice(&body);
        self.header.max_timestamp_ms = self.header.max_timestamp_ms.max(timestamp_ms);
        self.header.last_offset_delta += 1;
        self.header.record_count += 1;
        self
    }

    /// Names the idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Replaces the records' bytes by what `compress` makes of them.
    #[must_use]
    pub fn compress(mut self, codec: Codec, compress: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        self.header.attributes |= codec.id();
        self.compressed = Some(Bytes::from(compress(&self.records)));
        self
    }

    /// Changes any field of the header but the length and the checksum, which [`Builder::build`] sets.
    #[must_use]
    pub fn header(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    /// The batch's bytes.
    pub fn build(mut self) -> Bytes {
        let records = self.compressed.unwrap_or_else(|| self.records.freeze());
        self.header.batch_length = i32::try_from(HEADER_BYTES - LENGTH_END + records.len()).unwrap_or(i32::MAX);
        let mut checked = self.header.write()[CHECKED_FROM..].to_vec();
        checked.extend_from_slice(&records);
        self.header.crc = crc32c(&checked);
        let mut bytes = BytesMut::from(&self.header.write()[..CHECKED_FROM]);
        bytes.extend_from_slice(&checked);
        bytes.freeze()
    }
}

fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

//! Record batches: checked, made canonical, stamped, and not decompressed on the way.
//!
//! A batch is opaque to everyone but producer and consumer, except for the 61 bytes of its header. [`produced`] turns
//! what a producer sent into a [`Canonical`] batch: checksum right, rules of Kafka kept, base offset and leader epoch
//! zeroed. Kafka's checksum covers neither of these, so the bytes that are hashed, stored and pulled are the same
//! whatever offset the ledger gives them, and [`Canonical::stamp`] restores a valid batch by changing 12 bytes.
//!
//! The header is held apart from the records, which stay a slice of the frame, the file or the pull that brought
//! them: hashing, storing and sending take [`Canonical::chunks`] and [`Stamped::chunks`] as they are.
//!
//! Records are read in two places only, both bounded: [`first_at_or_after`], for ListOffsets by timestamp, and
//! [`RecordRules`], for topics that demand something of each record, as compacted ones do.

pub mod build;
mod decompress;
mod header;
mod records;
mod rules;
mod search;
mod stamp;

use bytes::{Buf, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};
use thiserror::Error;

use header::{CHECKED_FROM, LENGTH_END};

pub use header::{Codec, HEADER_BYTES, Header};
pub use records::{DECOMPRESSED_BYTES_LIMIT, RecordsError};
pub use rules::{FAULTS_NAMED_MAX, Fault, FaultKind, RecordRules};
pub use search::{Found, first_at_or_after};
pub use stamp::Stamped;

/// The least that a record takes: length, attributes, two deltas, key and value lengths, number of headers.
const RECORD_BYTES_MIN: usize = 7;

/// Why bytes are not a batch that can be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BatchError {
    /// No batch at all.
    #[error("no record batch")]
    Empty,
    /// Kafka allows one batch per partition and request.
    #[error("more than one record batch for a partition")]
    Several,
    /// The bytes end within a batch.
    #[error("record batch ends early")]
    Truncated,
    /// The batch length is too small for a header.
    #[error("record batch of length {0}")]
    Length(i32),
    /// The message formats 0 and 1, from before Kafka 0.11, or none that exists.
    #[error("record batch of format {0}, only format 2 is taken")]
    Magic(i8),
    /// The bytes were changed after the producer made the batch.
    #[error("record batch with checksum {stated:08x}, computed {computed:08x}")]
    Checksum {
        /// What the header says.
        stated: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A codec that does not exist.
    #[error("unknown codec {0}")]
    Codec(i16),
    /// The number of records is not positive, or not what offsets or size allow.
    #[error("record batch of {count} records up to offset delta {last_offset_delta}")]
    Count {
        /// What the header counts.
        count: i32,
        /// What its offsets say.
        last_offset_delta: i32,
    },
    /// Control batches are the broker's to write.
    #[error("control batch from a client")]
    Control,
    /// A transactional batch without a producer id, or a producer id without a sequence number.
    #[error("producer {id} with sequence {sequence}")]
    Sequence {
        /// The producer id.
        id: i64,
        /// The first sequence number.
        sequence: i32,
    },
    /// Only brokers may say that timestamps are theirs.
    #[error("timestamp type LogAppendTime from a client")]
    TimestampType,
}

/// What the ledger and the contracts need to know of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// How many records, and therefore how many offsets.
    pub record_count: u32,
    /// What the records' timestamps are relative to, in milliseconds since 1970; usually the first record's.
    pub base_timestamp_ms: i64,
    /// The latest of the records' timestamps.
    pub max_timestamp_ms: i64,
    /// The idempotent or transactional producer.
    pub producer: Option<Producer>,
    /// How the records are compressed.
    pub codec: Codec,
    /// Whether the records belong to a transaction.
    pub transactional: bool,
    /// Whether this is a transaction's marker.
    pub control: bool,
    /// The size of the whole batch.
    pub size_bytes: u32,
}

/// Which producer sent a batch, and as which one in its sequence (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    /// The id from InitProducerId.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of the first record.
    pub base_sequence: i32,
}

/// A well-formed batch whose base offset and leader epoch are zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canonical {
    header: Header,
    encoded: [u8; HEADER_BYTES],
    records: Bytes,
    facts: Facts,
}

/// Checks what a producer sent for one partition, as Kafka would.
pub fn produced(records: Bytes) -> Result<Canonical, BatchError> {
    let mut rest = records;
    let batch = split_first(&mut rest)?.ok_or(BatchError::Empty)?;
    if !rest.is_empty() {
        return Err(BatchError::Several);
    }
    batch.check_crc()?;
    batch.check_client_rules()?;
    Ok(batch)
}

/// Splits a run of batches; ends after the first error. Checksums are not computed.
pub fn split(mut run: Bytes) -> impl Iterator<Item = Result<Canonical, BatchError>> {
    std::iter::from_fn(move || {
        let next = split_first(&mut run).transpose()?;
        if next.is_err() {
            run.clear();
        }
        Some(next)
    })
}

impl Canonical {
    /// Takes bytes from a store or another organisation for exactly one batch.
    ///
    /// The caller has verified them against their commitment; here only their form is checked, not the checksum.
    pub fn from_stored(bytes: Bytes) -> Result<Self, BatchError> {
        let mut rest = bytes;
        let batch = split_first(&mut rest)?.ok_or(BatchError::Empty)?;
        if rest.is_empty() { Ok(batch) } else { Err(BatchError::Several) }
    }

    /// The same, for a batch whose header and records are kept apart.
    pub fn from_parts(header: &[u8], records: Bytes) -> Result<Self, BatchError> {
        let header = Header::read(header)?;
        let stated = usize::try_from(header.batch_length).ok();
        if stated != Some(HEADER_BYTES - LENGTH_END + records.len()) {
            return Err(BatchError::Length(header.batch_length));
        }
        Self::of(header, records)
    }

    /// What is to be known of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The header, with base offset and leader epoch zero.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The canonical bytes in two pieces, for hashing and vectored writes.
    pub fn chunks(&self) -> [&[u8]; 2] {
        [&self.encoded, &self.records]
    }

    /// The canonical bytes as a header and the slice that holds the records.
    pub fn into_parts(self) -> ([u8; HEADER_BYTES], Bytes) {
        (self.encoded, self.records)
    }

    /// The canonical bytes in one piece. Copies the records.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + self.records.len());
        self.chunks().into_iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes.freeze()
    }

    /// The batch as a consumer is to see it, at its place in the partition.
    pub fn stamp(&self, base_offset: i64, leader_epoch: i32) -> Stamped {
        Stamped::new(&Header { base_offset, leader_epoch, ..self.header }, self.records.clone())
    }

    /// Like [`Canonical::stamp`], for a topic with `message.timestamp.type=LogAppendTime`.
    pub fn stamp_with_log_append_time(&self, base_offset: i64, leader_epoch: i32, time_ms: i64) -> Stamped {
        let header = Header { base_offset, leader_epoch, ..self.header };
        Stamped::with_log_append_time(&header, time_ms, self.records.clone())
    }

    /// Whether the bytes are those the producer made.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c_append(crc32c(&self.encoded[CHECKED_FROM..]), &self.records);
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum { stated: self.header.crc, computed })
        }
    }

    fn of(header: Header, records: Bytes) -> Result<Self, BatchError> {
        let header = Header { base_offset: 0, leader_epoch: 0, ..header };
        let facts = Facts::of(&header, records.len())?;
        Ok(Self { header, encoded: header.write(), records, facts })
    }

    /// What a broker may write and a client may not.
    fn check_client_rules(&self) -> Result<(), BatchError> {
        let Header { producer_id: id, base_sequence: sequence, .. } = self.header;
        if self.header.is_control() {
            return Err(BatchError::Control);
        }
        if self.header.is_log_append_time() {
            return Err(BatchError::TimestampType);
        }
        if (id >= 0 && sequence < 0) || (id < 0 && self.header.is_transactional()) {
            return Err(BatchError::Sequence { id, sequence });
        }
        Ok(())
    }
}

fn split_first(run: &mut Bytes) -> Result<Option<Canonical>, BatchError> {
    if run.is_empty() {
        return Ok(None);
    }
    let header = Header::read(run)?;
    let behind_length = usize::try_from(header.batch_length)
        .ok()
        .filter(|&bytes| bytes >= HEADER_BYTES - LENGTH_END)
        .ok_or(BatchError::Length(header.batch_length))?;
    if run.len() - LENGTH_END < behind_length {
        return Err(BatchError::Truncated);
    }
    let mut records = run.split_to(LENGTH_END + behind_length);
    records.advance(HEADER_BYTES);
    Canonical::of(header, records).map(Some)
}

impl Facts {
    fn of(header: &Header, records_bytes: usize) -> Result<Self, BatchError> {
        let codec = header.codec()?;
        let wrong = BatchError::Count { count: header.record_count, last_offset_delta: header.last_offset_delta };
        let record_count = u32::try_from(header.record_count).ok().filter(|&count| count > 0).ok_or(wrong)?;
        // Records that a producer numbered have no gaps. Compressed ones cannot be counted from here.
        let too_many = codec == Codec::None && records_bytes / RECORD_BYTES_MIN < record_count as usize;
        if header.last_offset_delta != header.record_count - 1 || too_many {
            return Err(wrong);
        }
        let size_bytes = u32::try_from(HEADER_BYTES + records_bytes).map_err(|_| BatchError::Truncated)?;
        Ok(Self {
            record_count,
            base_timestamp_ms: header.base_timestamp_ms,
            max_timestamp_ms: header.max_timestamp_ms,
            producer: (header.producer_id >= 0).then_some(Producer {
                id: header.producer_id,
                epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
            }),
            codec,
            transactional: header.is_transactional(),
            control: header.is_control(),
            size_bytes,
        })
    }
}

#[cfg(test)]
mod tests;

//! The 61 bytes in front of a version 2 record batch (KIP-98), field by field.

use super::BatchError;

/// The length of a batch without its records.
pub const HEADER_BYTES: usize = 61;

/// Where the batch length starts to count.
pub(super) const LENGTH_END: usize = 12;
/// Where the checksum starts to count: base offset, length, leader epoch, magic and the checksum itself are outside.
pub(super) const CHECKED_FROM: usize = 21;

const MAGIC_AT: usize = 16;
const MAGIC: i8 = 2;

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// How a batch's records are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// One raw block, or many in the framing of snappy-java.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878 (KIP-110); clients must speak Produce 7 and Fetch 10 for it.
    Zstd,
}

/// The fields of a batch header, as they are on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The offset of the first record. Not covered by the checksum.
    pub base_offset: i64,
    /// The number of bytes behind this field.
    pub batch_length: i32,
    /// The partition's leader epoch when the batch was appended. Not covered by the checksum.
    pub leader_epoch: i32,
    /// CRC-32C of everything behind it.
    pub crc: u32,
    /// Codec, kind of timestamp, transactional, control.
    pub attributes: i16,
    /// The last record's offset less the first one's.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// The latest of the records' timestamps.
    pub max_timestamp_ms: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl Header {
    /// Reads the header of a batch of the only format served, version 2.
    ///
    /// The older formats have their version at the same place, so that they can be told apart.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let magic = bytes.get(MAGIC_AT).copied().ok_or(BatchError::Truncated)?.cast_signed();
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(BatchError::Truncated)?;
        Ok(Self {
            base_offset: i64::from_be_bytes(part(bytes, 0)),
            batch_length: i32::from_be_bytes(part(bytes, 8)),
            leader_epoch: i32::from_be_bytes(part(bytes, 12)),
            crc: u32::from_be_bytes(part(bytes, 17)),
            attributes: i16::from_be_bytes(part(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(part(bytes, 23)),
            base_timestamp_ms: i64::from_be_bytes(part(bytes, 27)),
            max_timestamp_ms: i64::from_be_bytes(part(bytes, 35)),
            producer_id: i64::from_be_bytes(part(bytes, 43)),
            producer_epoch: i16::from_be_bytes(part(bytes, 51)),
            base_sequence: i32::from_be_bytes(part(bytes, 53)),
            record_count: i32::from_be_bytes(part(bytes, 57)),
        })
    }

    /// The header's bytes.
    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut rest = &mut bytes[..];
        for field in [
            &self.base_offset.to_be_bytes()[..],
            &self.batch_length.to_be_bytes(),
            &self.leader_epoch.to_be_bytes(),
            &MAGIC.to_be_bytes(),
            &self.crc.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp_ms.to_be_bytes(),
            &self.max_timestamp_ms.to_be_bytes(),
            &self.producer_id.to_be_bytes(),
            &self.producer_epoch.to_be_bytes(),
            &self.base_sequence.to_be_bytes(),
            &self.record_count.to_be_bytes(),
        ] {
            let (place, behind) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = behind;
        }
        bytes
    }

    /// The codec, or the number that stands in its place.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        match self.attributes & CODEC_MASK {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(BatchError::Codec(other)),
        }
    }

    /// Whether the timestamps are the broker's (`message.timestamp.type=LogAppendTime`).
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether the records belong to a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are a transaction's markers, which only brokers write.
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    pub(super) const fn set_log_append_time(&mut self, time_ms: i64) {
        self.attributes |= LOG_APPEND_TIME_BIT;
        self.max_timestamp_ms = time_ms;
    }
}

impl Codec {
    /// The number in a batch's attributes.
    pub const fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// `N` bytes at a constant place, which is always inside.
fn part<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

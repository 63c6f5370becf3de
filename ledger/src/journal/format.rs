//! The bytes of a segment file: its header, and the header in front of each record. The picture is in the module's documentation.

use std::fmt;

/// What the page cache and the disk handle as one.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// Where the first record of a segment begins. The segment's own header has the block before it to itself, so that no later write
/// touches the block that it is in.
pub(super) const FIRST_RECORD: u64 = BLOCK_BYTES;

/// Bytes in front of every record's payload.
pub(super) const RECORD_HEADER_BYTES: u64 = 48;

/// The longest payload of one record: 1 GiB. An offset in a segment must fit 32 bits whatever the last record's length.
pub const RECORD_BYTES_MAX: u64 = 1 << 30;

/// The largest segment that [`Options::segment_bytes`](super::Options::segment_bytes) may ask for: 2 GiB.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;

/// The smallest segment that [`Options::segment_bytes`](super::Options::segment_bytes) may ask for: 8 KiB.
pub const SEGMENT_BYTES_MIN: u64 = 8192;

const SEGMENT_HEADER_BYTES: usize = 32;
const SEGMENT_MAGIC: [u8; 8] = *b"WAYBJRN1";

/// Where a record is: its segment and the offset of its header in the segment's file. Positions order as the records were appended,
/// and so do their [encoded](Position::to_bytes) bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment's number; the first segment of a journal is 1.
    pub segment: u64,
    /// Bytes from the beginning of the segment's file.
    pub offset: u32,
}

impl Position {
    /// Length of an encoded position.
    pub const BYTES: usize = 12;

    /// Twelve bytes, big-endian, so that they sort as positions do.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.segment.to_be_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// The inverse of [`to_bytes`](Self::to_bytes). Any twelve bytes are a position; whether a record is there, reading tells.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, o0, o1, o2, o3] = bytes;
        Self {
            segment: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            offset: u32::from_be_bytes([o0, o1, o2, o3]),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// Whose record it is: the journal carries many streams and does not care what they mean.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub [u8; 16]);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a record header stands for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record of a stream.
    Record,
    /// Written by an orderly close: proves, through `synced`, that all before it had been synced.
    Mark,
    /// The last of a segment: the journal goes on in the next one.
    End,
}

impl Kind {
    fn magic(self) -> [u8; 4] {
        match self {
            Kind::Record => *b"WBJR",
            Kind::Mark => *b"WBJM",
            Kind::End => *b"WBJE",
        }
    }

    fn from_magic(magic: &[u8]) -> Option<Self> {
        match magic {
            b"WBJR" => Some(Kind::Record),
            b"WBJM" => Some(Kind::Mark),
            b"WBJE" => Some(Kind::End),
            _ => None,
        }
    }
}

/// What stands in front of a record.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub kind: Kind,
    /// The nonce of the segment that it was written to.
    pub nonce: u64,
    pub stream: StreamId,
    /// Bytes of payload.
    pub length: u32,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Its own offset in the file.
    pub offset: u32,
    /// Everything of this segment before this offset was synced before this record was written.
    pub synced: u32,
}

impl RecordHeader {
    pub fn to_bytes(self) -> [u8; RECORD_HEADER_BYTES as usize] {
        let mut bytes = [0; RECORD_HEADER_BYTES as usize];
        bytes[0..4].copy_from_slice(&self.kind.magic());
        bytes[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.stream.0);
        bytes[32..36].copy_from_slice(&self.length.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.offset.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.synced.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at `offset` of the segment with this nonce, if `bytes` begins with one.
    pub fn parse(bytes: &[u8], nonce: u64, offset: u64) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES as usize)?;
        let kind = Kind::from_magic(&bytes[0..4])?;
        let header = Self {
            kind,
            nonce: u64_at(bytes, 8),
            stream: StreamId(array_at(bytes, 16)),
            length: u32_at(bytes, 32),
            payload_crc: u32_at(bytes, 36),
            offset: u32_at(bytes, 40),
            synced: u32_at(bytes, 44),
        };
        let valid = header.nonce == nonce
            && u64::from(header.offset) == offset
            && u64::from(header.length) <= RECORD_BYTES_MAX
            && u32_at(bytes, 4) == header_crc(bytes);
        valid.then_some(header)
    }

    /// Offset of the payload's first byte.
    pub fn payload_at(&self) -> u64 {
        u64::from(self.offset) + RECORD_HEADER_BYTES
    }

    /// Offset of whatever follows the record.
    pub fn next_at(&self) -> u64 {
        u64::from(self.offset) + framed_bytes(u64::from(self.length))
    }
}

/// Room that a payload takes in a segment: its header, itself, and zeros up to a multiple of eight.
pub(super) fn framed_bytes(payload_bytes: u64) -> u64 {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// The block at the beginning of a segment's file.
pub(super) fn segment_header(number: u64, nonce: u64) -> [u8; FIRST_RECORD as usize] {
    let mut block = [0; FIRST_RECORD as usize];
    block[0..8].copy_from_slice(&SEGMENT_MAGIC);
    block[8..16].copy_from_slice(&number.to_le_bytes());
    block[16..24].copy_from_slice(&nonce.to_le_bytes());
    let crc = crc32c::crc32c(&block[..24]);
    block[24..28].copy_from_slice(&crc.to_le_bytes());
    block
}

/// The segment's nonce, or what is wrong with its header.
pub(super) fn parse_segment_header(block: &[u8], number: u64) -> Result<u64, &'static str> {
    let Some(header) = block.get(..SEGMENT_HEADER_BYTES) else {
        return Err("the file is too short for a segment");
    };
    if header[0..8] != SEGMENT_MAGIC {
        return Err("this is not a segment of this version of the journal");
    }
    if crc32c::crc32c(&header[..24]) != u32_at(header, 24) {
        return Err("the segment's header fails its checksum");
    }
    if u64_at(header, 8) != number {
        return Err("the segment's header does not carry the number in the file's name");
    }
    Ok(u64_at(header, 16))
}

/// The checksum of a record header covers all of it but itself.
fn header_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[0..4]), &bytes[8..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// `N` bytes from `at` on; the callers have checked that they are there.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            kind: Kind::Record,
            nonce: 0x0102_0304_0506_0708,
            stream: StreamId(*b"0123456789abcdef"),
            length: 5,
            payload_crc: crc32c::crc32c(b"hello"),
            offset: 4096,
            synced: 4096,
        }
    }

    #[test]
    fn record_header_golden_bytes() {
        let hex: String = header().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "57424a52",                         // magic
            "cfd12612",                         // the header's checksum
            "0807060504030201",                 // nonce
            "30313233343536373839616263646566", // stream
            "05000000",                         // length
            "4cbb719a",                         // the payload's checksum
            "00100000",                         // offset
            "00100000",                         // synced
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn segment_header_golden_bytes() {
        let block = segment_header(7, 9);
        let hex: String = block[..32].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "574159424a524e31070000000000000009000000000000000bf0de2200000000");
        assert!(block[32..].iter().all(|byte| *byte == 0));
        assert_eq!(parse_segment_header(&block, 7), Ok(9));
        assert!(parse_segment_header(&block, 8).is_err());
    }

    #[test]
    fn a_record_header_is_refused_in_another_place_or_segment_and_with_any_bit_flipped() {
        let (header, bytes) = (header(), header().to_bytes());
        assert_eq!(RecordHeader::parse(&bytes, header.nonce, 4096), Some(header));
        assert_eq!(RecordHeader::parse(&bytes, header.nonce + 1, 4096), None);
        assert_eq!(RecordHeader::parse(&bytes, header.nonce, 4104), None);
        assert_eq!(RecordHeader::parse(&bytes[..47], header.nonce, 4096), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::parse(&flipped, header.nonce, 4096), None, "bit {bit}");
        }
    }

    #[test]
    fn positions_encode_in_their_order() {
        let positions =
            [(1, 4096), (1, 70_000), (2, 4096), (300, 0)].map(|(segment, offset)| Position { segment, offset });
        assert_eq!(positions[3].to_bytes(), [0, 0, 0, 0, 0, 0, 1, 44, 0, 0, 0, 0]);
        assert!(positions.iter().all(|position| Position::from_bytes(position.to_bytes()) == *position));
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes()));
    }
}

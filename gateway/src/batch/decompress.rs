//! The four codecs as bounded streams.
//!
//! What a compressed batch claims about itself (the window of a zstd frame, the length of a snappy block) is checked
//! before memory is taken for it; [`Limited`] ends a stream that unfolds too far.

use std::io::{self, Read};

use super::header::Codec;
use super::records::DECOMPRESSED_BYTES_LIMIT;
use crate::frame::ReadError;
use crate::frame::reader::Reader;

/// What snappy-java writes in front of its blocks; eight bytes of version numbers follow.
const SNAPPY_JAVA_MAGIC: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_JAVA_HEADER_BYTES: usize = 16;

/// The largest part of its output that a zstd frame may refer back to. Up to level 19 that is at most 8 MiB, or all of
/// a small batch.
const ZSTD_WINDOW_BYTES_LIMIT: u64 = 32 * 1024 * 1024;

/// No snappy block unfolds further: its densest element makes 64 bytes out of 3.
const SNAPPY_RATIO_MAX: u64 = 22;

/// The decompressed bytes.
pub(super) fn reader<'a>(codec: Codec, compressed: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match codec {
        Codec::None => Box::new(compressed),
        Codec::Gzip => Box::new(io::BufReader::new(flate2::read::MultiGzDecoder::new(compressed))),
        Codec::Snappy => Box::new(SnappyBlocks::new(compressed)),
        Codec::Lz4 => Box::new(io::BufReader::new(lz4_flex::frame::FrameDecoder::new(compressed))),
        Codec::Zstd => {
            check_zstd_window(compressed)?;
            let decoder = ruzstd::decoding::StreamingDecoder::new(compressed).map_err(io::Error::other)?;
            Box::new(io::BufReader::new(decoder))
        }
    })
}

/// A stream that is an error beyond its limit, where `Read::take` would look like its end.
pub(super) struct Limited<R> {
    inner: R,
    bytes_left: u64,
}

impl<R: Read> Limited<R> {
    pub(super) fn new(inner: R, bytes_limit: u64) -> Self {
        Self { inner, bytes_left: bytes_limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.bytes_left = self.bytes_left.checked_sub(read as u64).ok_or_else(beyond_limit)?;
        Ok(read)
    }
}

fn beyond_limit() -> io::Error {
    io::Error::other(format!("decompresses beyond the limit of {DECOMPRESSED_BYTES_LIMIT} bytes"))
}

/// One raw snappy block, or the blocks of snappy-java, decompressed one at a time.
struct SnappyBlocks<'a> {
    blocks: Reader<'a>,
    framed: bool,
    plain: io::Cursor<Vec<u8>>,
}

impl<'a> SnappyBlocks<'a> {
    fn new(compressed: &'a [u8]) -> Self {
        let framed = compressed.starts_with(SNAPPY_JAVA_MAGIC);
        let blocks = if framed { compressed.get(SNAPPY_JAVA_HEADER_BYTES..).unwrap_or_default() } else { compressed };
        Self { blocks: Reader::new(blocks), framed, plain: io::Cursor::default() }
    }

    fn next_block(&mut self) -> io::Result<Vec<u8>> {
        let bytes = if self.framed {
            let length = self.blocks.int32().map_err(io::Error::other)?;
            usize::try_from(length).map_err(io::Error::other)?
        } else {
            self.blocks.remaining()
        };
        let block = self.blocks.take(bytes).map_err(io::Error::other)?;
        let claimed = snap::raw::decompress_len(block).map_err(io::Error::other)? as u64;
        if claimed > DECOMPRESSED_BYTES_LIMIT.min(SNAPPY_RATIO_MAX * block.len() as u64) {
            return Err(beyond_limit());
        }
        snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)
    }
}

impl Read for SnappyBlocks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.plain.read(out)?;
            if read > 0 || out.is_empty() || self.blocks.remaining() == 0 {
                return Ok(read);
            }
            self.plain = io::Cursor::new(self.next_block()?);
        }
    }
}

/// The decoder keeps as much of its output in memory as the frame's window: up to a limit.
fn check_zstd_window(frame: &[u8]) -> io::Result<()> {
    let window = zstd_window(&mut Reader::new(frame)).map_err(io::Error::other)?;
    if window > ZSTD_WINDOW_BYTES_LIMIT {
        return Err(io::Error::other(format!("zstd window of {window} bytes")));
    }
    Ok(())
}

/// The window size in a frame header (RFC 8878, 3.1.1.1).
fn zstd_window(header: &mut Reader<'_>) -> Result<u64, ReadError> {
    let _magic: [u8; 4] = header.array()?;
    let [descriptor] = header.array()?;
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let [window] = header.array()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Ok(base + (base / 8) * u64::from(window & 7));
    }
    let dictionary_id_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    header.take(dictionary_id_bytes)?;
    let mut size = [0; 8];
    let size_bytes = 1 << (descriptor >> 6);
    size[..size_bytes].copy_from_slice(header.take(size_bytes)?);
    Ok(u64::from_le_bytes(size).saturating_add(if size_bytes == 2 { 256 } else { 0 }))
}

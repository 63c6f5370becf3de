//! Which record of a batch is the first at or after a time (ListOffsets by timestamp).

use super::Canonical;
use super::records::{Record, Records, RecordsError};

/// A record's place in its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its offset less the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// The first record with a timestamp at or after `timestamp_ms`, if the batch has one.
///
/// Decompresses as a stream and stops at the record. Where the records cannot be read, the batch's first offset is a
/// safe answer: no record at or after the time lies before it.
pub fn first_at_or_after(batch: &Canonical, timestamp_ms: i64) -> Result<Option<Found>, RecordsError> {
    let header = batch.header();
    if header.max_timestamp_ms < timestamp_ms {
        return Ok(None);
    }
    if header.is_log_append_time() {
        return Ok(Some(Found { offset_delta: 0, timestamp_ms: header.max_timestamp_ms }));
    }
    for record in Records::of(batch)? {
        let Record { offset_delta, timestamp_ms: time_ms, .. } = record?;
        if time_ms >= timestamp_ms {
            return Ok(Some(Found { offset_delta, timestamp_ms: time_ms }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    //! Every codec finds the same records; nothing that a producer can compress makes a search expensive.

    use super::super::build::Builder;
    use super::super::header::Codec;
    use super::*;
    use bytes::Bytes;
    use std::io::Write;

    type Compress = fn(&[u8]) -> Vec<u8>;

    const TIMES: [i64; 6] = [1_000, 1_010, 1_005, 1_020, 1_020, 1_015];

    fn builder() -> Builder {
        TIMES.iter().fold(Builder::new(1_000), |builder, &time| builder.record(time, None, Some(&[b'x'; 3_000])))
    }

    fn batch(builder: Builder) -> Canonical {
        super::super::produced(builder.build()).expect("a batch")
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).and_then(|()| encoder.finish()).expect("compresses")
    }

    fn lz4(plain: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(plain).expect("compresses");
        encoder.finish().expect("compresses")
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn snappy_raw(plain: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(plain).expect("compresses")
    }

    /// The framing of snappy-java: a magic, two version numbers, then blocks behind their lengths.
    fn snappy_java(plain: &[u8]) -> Vec<u8> {
        let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for block in plain.chunks(4_096) {
            let block = snappy_raw(block);
            framed.extend((block.len() as u32).to_be_bytes());
            framed.extend(block);
        }
        framed
    }

    fn every_codec() -> [(Codec, Compress); 6] {
        [
            (Codec::None, <[u8]>::to_vec),
            (Codec::Gzip, gzip),
            (Codec::Snappy, snappy_raw),
            (Codec::Snappy, snappy_java),
            (Codec::Lz4, lz4),
            (Codec::Zstd, zstd),
        ]
    }

    #[test]
    fn every_codec_finds_the_first_record_at_or_after_a_time() {
        for (codec, compress) in every_codec() {
            let batch = batch(builder().compress(codec, compress));
            let at = |time| {
                first_at_or_after(&batch, time).expect("readable").map(|found| (found.offset_delta, found.timestamp_ms))
            };
            assert_eq!(at(i64::MIN), Some((0, 1_000)), "{codec:?}");
            assert_eq!(at(1_000), Some((0, 1_000)), "{codec:?}");
            assert_eq!(at(1_001), Some((1, 1_010)), "{codec:?}");
            assert_eq!(at(1_011), Some((3, 1_020)), "{codec:?}");
            assert_eq!(at(1_020), Some((3, 1_020)), "{codec:?}");
            assert_eq!(at(1_021), None, "{codec:?}");
        }
    }

    /// The encoders above are those of the decoders' authors; these bytes are from the reference tools (`zstd -19`,
    /// `lz4`), of sixty records that differ enough to need entropy coding.
    #[test]
    fn what_the_reference_tools_compress_is_read() {
        for (codec, golden) in [
            (Codec::Zstd, &include_bytes!("golden/records.zst")[..]),
            (Codec::Lz4, &include_bytes!("golden/records.lz4")[..]),
        ] {
            let sixty = (0..60).fold(Builder::new(1_000), |builder, n: i64| {
                let key = format!("customer-{}", n % 7);
                let value = format!("order {n} of {} pieces, {} shipped", n * 37 % 101, n * 17 % 13);
                builder.record(1_000 + n * n, Some(key.as_bytes()), Some(value.as_bytes()))
            });
            let batch = batch(sixty.compress(codec, |_| golden.to_vec()));
            let found = first_at_or_after(&batch, 1_000 + 58 * 58 + 1).expect("readable");
            assert_eq!(found, Some(Found { offset_delta: 59, timestamp_ms: 1_000 + 59 * 59 }), "{codec:?}");
        }
    }

    #[test]
    fn records_under_the_brokers_time_are_all_at_that_time() {
        let stamped = batch(builder()).stamp_with_log_append_time(0, 0, 9_000).to_bytes();
        let batch = Canonical::from_stored(stamped).expect("a batch");
        let found = first_at_or_after(&batch, 8_999).expect("readable").expect("found");
        assert_eq!(found, Found { offset_delta: 0, timestamp_ms: 9_000 });
        assert_eq!(first_at_or_after(&batch, 9_001).expect("readable"), None);
    }

    #[test]
    fn a_maximum_that_no_record_has_finds_nothing() {
        let batch = batch(builder().header(|header| header.max_timestamp_ms = 99_999));
        assert_eq!(first_at_or_after(&batch, 50_000).expect("readable"), None);
    }

    #[test]
    fn a_bomb_is_cut_off_at_the_limit() {
        for (codec, compress) in [(Codec::Gzip, gzip as Compress), (Codec::Lz4, lz4)] {
            // One record that claims 200 MB, of zeros.
            let bomb = |_: &[u8]| {
                let mut plain = vec![0; 200_000_000];
                plain[..5].copy_from_slice(&[0x80, 0x88, 0xde, 0xbe, 0x01]);
                compress(&plain)
            };
            let bomb = batch(Builder::new(0).record(5, None, None).compress(codec, bomb));
            let error = first_at_or_after(&bomb, 1).expect_err("too much");
            assert!(error.to_string().contains("limit"), "{error}");
        }
    }

    #[test]
    fn a_zstd_window_beyond_the_limit_is_refused_before_anything_is_decoded() {
        // Magic, no single segment, window descriptor of 2^(10 + 30) bytes.
        let frame = |_: &[u8]| vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf0, 0x01, 0x00, 0x00];
        let batch = batch(Builder::new(0).record(5, None, None).compress(Codec::Zstd, frame));
        let error = first_at_or_after(&batch, 1).expect_err("refused");
        assert!(error.to_string().contains("window"), "{error}");
    }

    #[test]
    fn a_snappy_block_beyond_the_limit_is_refused_before_it_is_allocated() {
        let block = |_: &[u8]| vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        let batch = batch(Builder::new(0).record(5, None, None).compress(Codec::Snappy, block));
        assert!(first_at_or_after(&batch, 1).expect_err("refused").to_string().contains("limit"));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for (codec, compress) in every_codec() {
            let whole = builder().compress(codec, compress).build();
            for seed in 0..300_usize {
                let mut bytes = whole.to_vec();
                let at = super::super::HEADER_BYTES + seed * 7919 % (bytes.len() - super::super::HEADER_BYTES);
                bytes[at] ^= 1 << (seed % 8);
                let batch = Canonical::from_stored(Bytes::from(bytes)).expect("well formed");
                let _ = first_at_or_after(&batch, 1_020);
            }
            let cut = builder().compress(codec, |plain| {
                let mut compressed = compress(plain);
                compressed.truncate(compressed.len() / 2);
                compressed
            });
            let cut = Canonical::from_stored(cut.build()).expect("well formed");
            assert!(first_at_or_after(&cut, 1_020).is_err(), "{codec:?}");
        }
    }
}

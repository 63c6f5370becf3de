//! ListOffsets by timestamp: the first *record*, found inside batches whatever their codec.

use crate::client::Client;
use crate::network::globex;
use crate::requests::*;
use crate::table::zstd;
use std::io::Write;
use waybill_gateway::batch::Codec;
use waybill_gateway::batch::build::Builder;

/// Not in order: the first record at or after a time is not the one with the smallest such time.
const TIMES: [i64; 5] = [1_000, 1_010, 1_005, 1_020, 1_015];

type Compress = fn(&[u8]) -> Vec<u8>;

fn builder(base_ms: i64) -> Builder {
    let times = TIMES.iter().map(|time| base_ms + time);
    times.fold(Builder::new(base_ms + TIMES[0]), |builder, time| builder.record(time, None, Some(&[b'x'; 300])))
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("compresses")
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).expect("compresses")
}

fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(plain).expect("compresses");
    encoder.finish().expect("compresses")
}

#[test]
fn records_are_found_inside_batches_of_every_codec_by_both_organisations() {
    let name = "offsets-codecs";
    let mut owner = acme_with_topic(name);
    let mut reader = Client::connect(globex());
    wait_until_known(&mut reader, name);
    let codecs: [(Codec, Compress); 4] =
        [(Codec::Gzip, gzip), (Codec::Snappy, snappy), (Codec::Lz4, lz4), (Codec::Zstd, zstd)];
    append(&mut owner, name, builder(0).build());
    for (place, (codec, compress)) in codecs.into_iter().enumerate() {
        append(&mut owner, name, builder(10_000 * (place as i64 + 1)).compress(codec, compress).build());
    }
    // The reader's node has executed it all.
    eventually("the reader has it", || listed(&mut reader, 8, &list_offsets_request(name, 0, -1)).offset == 25);
    for client in [&mut owner, &mut reader] {
        let mut find = |timestamp| {
            let found = listed(client, 8, &list_offsets_request(name, 0, timestamp));
            (found.error_code, found.offset, found.timestamp)
        };
        for batch in 0..5 {
            let (base_ms, base) = (10_000 * batch, 5 * batch);
            for (timestamp, delta, time) in [(1_000, 0, 1_000), (1_001, 1, 1_010), (1_006, 1, 1_010), (1_011, 3, 1_020)]
            {
                assert_eq!(find(base_ms + timestamp), (0, base + delta, base_ms + time), "batch {batch}");
            }
        }
        assert_eq!(find(0), (0, 0, 1_000));
        assert_eq!(find(41_021), (0, -1, -1));
        assert_eq!(find(-3), (0, 23, 41_020), "the latest time, not the latest record");
    }
}

#[test]
fn an_empty_partition_has_ends_and_no_times() {
    let name = "offsets-empty";
    let mut client = acme_with_topic(name);
    for (timestamp, offset) in [(-1, 0), (-2, 0), (-3, -1), (-4, 0), (0, -1), (i64::MAX, -1)] {
        let found = listed(&mut client, 8, &list_offsets_request(name, 0, timestamp));
        assert_eq!((found.error_code, found.offset, found.timestamp), (0, offset, -1), "{timestamp}");
    }
}

#[test]
fn append_time_counts_where_the_topic_says_so_at_both_organisations() {
    let name = "offsets-append-time";
    let mut owner = acme_with(creatable(name).with_configs(vec![config("message.timestamp.type", "LogAppendTime")]));
    let mut reader = Client::connect(globex());
    wait_until_known(&mut reader, name);
    let mut append = |records| {
        let produced = produce(&mut owner, name, records);
        assert_eq!(produced.error_code, 0, "{:?}", produced.error_message);
        assert!(produced.log_append_time_ms > 1_500_000_000_000, "{} is no time of today", produced.log_append_time_ms);
        produced.log_append_time_ms
    };
    let first = append(builder(0).build());
    std::thread::sleep(std::time::Duration::from_millis(5));
    let second = append(builder(0).compress(Codec::Gzip, gzip).build());
    assert!(second > first);
    eventually("the reader has it", || listed(&mut reader, 8, &list_offsets_request(name, 0, -1)).offset == 10);
    let whole = fetch_request(name, vec![fetch_partition(0, 0)]).with_max_wait_ms(30_000).with_min_bytes(1_000);
    let seen = [&mut owner, &mut reader].map(|client| {
        let records = fetched(client, 12, &whole).records.expect("records");
        let batches: Vec<_> = waybill_gateway::batch::split(records.clone()).collect();
        let [Ok(one), Ok(other)] = &batches[..] else { panic!("two batches") };
        for (batch, time) in [(one, first), (other, second)] {
            assert!(batch.header().is_log_append_time());
            assert_eq!((batch.facts().max_timestamp_ms, batch.check_crc()), (time, Ok(())));
        }
        for (timestamp, expected) in [
            (0, (0, first)),
            (first, (0, first)),
            (first + 1, (5, second)),
            (second, (5, second)),
            (second + 1, (-1, -1)),
            (-3, (5, second)),
        ] {
            let found = listed(client, 8, &list_offsets_request(name, 0, timestamp));
            assert_eq!((found.offset, found.timestamp), expected, "{timestamp}");
        }
        records
    });
    assert_eq!(seen[0], seen[1], "byte for byte");
}

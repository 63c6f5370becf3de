//! Batches from a producer to a consumer: what is taken, what is refused and why, and that stamping changes what it
//! should and nothing else.

use super::build::Builder;
use super::*;
use kafka_protocol::records::{Compression, RecordBatchDecoder, TimestampType};
use proptest::prelude::*;

const ORDERS: [&[u8]; 3] = [b"first", b"second", b"third"];

fn three() -> Builder {
    ORDERS
        .iter()
        .zip(1_000..)
        .fold(Builder::new(1_000), |builder, (value, time)| builder.record(time, Some(b"key"), Some(value)))
}

/// The bytes as a foreign consumer sees them: it checks the CRC itself.
fn read_by_reference(bytes: Bytes) -> Vec<kafka_protocol::records::Record> {
    RecordBatchDecoder::decode(&mut bytes.clone()).expect("a batch").records
}

#[test]
fn a_golden_batch() {
    // Written by hand from the specification: one record, key null, value "hi".
    let bytes = Builder::new(1_700_000_000_000).record(1_700_000_000_000, None, Some(b"hi")).build();
    let golden = [
        "0000000000000000",
        "0000003a",
        "ffffffff",
        "02",
        "bbcc4115",
        "0000",
        "00000000",
        "0000018bcfe56800",
        "0000018bcfe56800",
        "ffffffffffffffff",
        "ffff",
        "ffffffff",
        "00000001",
        "10",
        "00",
        "00",
        "00",
        "01",
        "04",
        "6869",
        "00",
    ];
    assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), golden.concat());
    assert_eq!(read_by_reference(bytes)[0].value.as_deref(), Some(&b"hi"[..]));
}

#[test]
fn what_a_producer_sends_is_made_canonical() {
    let sent = three().producer(7, 1, 40).header(|header| header.base_offset = 55).build();
    let batch = produced(sent.clone()).expect("taken");
    assert_eq!(
        batch.facts(),
        &Facts {
            record_count: 3,
            base_timestamp_ms: 1_000,
            max_timestamp_ms: 1_002,
            producer: Some(Producer { id: 7, epoch: 1, base_sequence: 40 }),
            codec: Codec::None,
            transactional: false,
            control: false,
            size_bytes: sent.len() as u32,
        }
    );
    let canonical = batch.to_bytes();
    assert_eq!(canonical[..8], [0; 8]);
    assert_eq!(canonical[12..16], [0; 4]);
    assert_eq!(canonical[8..12], sent[8..12]);
    assert_eq!(canonical[16..], sent[16..]);
    assert_eq!(batch.chunks().concat(), canonical);
    assert_eq!(batch.chunks()[1].as_ptr(), sent[HEADER_BYTES..].as_ptr(), "the records are not copied");
}

#[test]
fn the_canonical_form_does_not_depend_on_offset_or_epoch() {
    let at = |offset, epoch| {
        three().header(|header| {
            header.base_offset = offset;
            header.leader_epoch = epoch;
        })
    };
    assert_eq!(produced(at(0, -1).build()), produced(at(i64::MAX, 9).build()));
}

#[test]
fn a_stamped_batch_is_valid_at_its_offset() {
    let batch = Canonical::from_stored(produced(three().build()).expect("taken").to_bytes()).expect("stored");
    let stamped = batch.stamp(100, 5);
    assert_eq!(stamped.to_bytes(), stamped.chunks().concat());
    assert_eq!(stamped.size_bytes(), batch.facts().size_bytes as usize);
    let header = Header::read(&stamped.to_bytes()).expect("a header");
    assert_eq!((header.base_offset, header.leader_epoch), (100, 5));
    let records = read_by_reference(stamped.to_bytes());
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [100, 101, 102]);
    assert_eq!(records.iter().map(|record| record.value.as_deref().expect("a value")).collect::<Vec<_>>(), ORDERS);
    assert!(records.iter().all(|record| record.partition_leader_epoch == 5));
}

#[test]
fn log_append_time_sets_bit_maximum_and_checksum() {
    let batch = produced(three().build()).expect("taken");
    let stamped = batch.stamp_with_log_append_time(7, 2, 5_000).to_bytes();
    let header = Header::read(&stamped).expect("a header");
    assert!(header.is_log_append_time());
    assert_eq!((header.base_offset, header.leader_epoch), (7, 2));
    assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (1_000, 5_000));
    assert_eq!(header.crc, crc32c(&stamped[CHECKED_FROM..]));
    let records = read_by_reference(stamped.clone());
    assert!(records.iter().all(|record| record.timestamp_type == TimestampType::LogAppend));
    assert_eq!(produced(stamped), Err(BatchError::TimestampType), "a client may not say so");
}

#[test]
fn log_append_time_does_not_hide_damage() {
    let mut damaged = produced(three().build()).expect("taken").to_bytes().to_vec();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let batch = Canonical::from_stored(damaged.into()).expect("well formed");
    let stamped = batch.stamp_with_log_append_time(0, 0, 9).to_bytes();
    let again = Canonical::from_stored(stamped).expect("well formed");
    assert!(matches!(again.check_crc(), Err(BatchError::Checksum { .. })));
}

#[test]
fn refusals_say_what_is_wrong() {
    let refusal = |bytes: Bytes| produced(bytes).expect_err("refused");
    let changed = |change: fn(&mut Header)| refusal(three().header(change).build());
    assert_eq!(refusal(Bytes::new()), BatchError::Empty);
    assert_eq!(refusal(Bytes::from([three().build(), three().build()].concat())), BatchError::Several);
    for cut in [1, 16, 17, 60, 61, 90] {
        assert_eq!(refusal(three().build().slice(..cut)), BatchError::Truncated, "{cut}");
    }
    assert_eq!(changed(|header| header.attributes = 5), BatchError::Codec(5));
    assert_eq!(changed(|header| header.attributes = 1 << 5), BatchError::Control);
    assert_eq!(changed(|header| header.attributes = 1 << 3), BatchError::TimestampType);
    assert_eq!(changed(|header| header.attributes = 1 << 4), BatchError::Sequence { id: -1, sequence: -1 });
    assert_eq!(changed(|header| header.producer_id = 8), BatchError::Sequence { id: 8, sequence: -1 });
}

#[test]
fn counts_must_agree_with_offsets_and_size() {
    for (count, last_offset_delta) in [(0, -1), (-1, -2), (3, 3), (2, 2), (i32::MIN, i32::MAX), (100, 99)] {
        let batch = three().header(|header| {
            header.record_count = count;
            header.last_offset_delta = last_offset_delta;
        });
        assert_eq!(produced(batch.build()), Err(BatchError::Count { count, last_offset_delta }));
    }
}

#[test]
fn old_formats_and_impossible_lengths_are_told_apart() {
    let with = |at: usize, value: &[u8]| {
        let mut bytes = three().build().to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        produced(bytes.into()).expect_err("refused")
    };
    for magic in [0, 1, 3, -1] {
        assert_eq!(with(16, &[magic as u8]), BatchError::Magic(magic));
    }
    for length in [-1, 0, 48, i32::MIN] {
        assert_eq!(with(8, &length.to_be_bytes()), BatchError::Length(length));
    }
    assert_eq!(with(8, &i32::MAX.to_be_bytes()), BatchError::Truncated);
}

#[test]
fn every_flipped_bit_under_the_checksum_is_noticed() {
    let good = three().build();
    for bit in 17 * 8..good.len() * 8 {
        let mut bytes = good.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(produced(bytes.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_run_is_split_into_its_batches() {
    let run = Bytes::from([three().build(), three().producer(1, 0, 0).build()].concat());
    let batches: Vec<_> = split(run.clone()).collect::<Result<_, _>>().expect("two batches");
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].facts().producer.map(|producer| producer.id), Some(1));
    let torn: Vec<_> = split(run.slice(..run.len() - 1)).collect();
    assert!(matches!(torn[..], [Ok(_), Err(BatchError::Truncated)]));
}

#[test]
fn what_the_reference_writes_is_taken() {
    use kafka_protocol::records::{RecordBatchEncoder, RecordEncodeOptions};
    let records = read_by_reference(produced(three().build()).expect("taken").stamp(0, 0).to_bytes());
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("encodes");
    assert_eq!(produced(bytes.freeze()).expect("taken").facts().record_count, 3);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        magic_2: bool,
        length in -1_i32..200,
    ) {
        let mut bytes = bytes;
        if magic_2 && bytes.len() > 16 {
            bytes[16] = 2;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }
        let bytes = Bytes::from(bytes);
        let _ = produced(bytes.clone());
        for batch in split(bytes).flatten() {
            let _ = first_at_or_after(&batch, 0);
            let _ = batch.stamp_with_log_append_time(-1, -1, i64::MIN);
        }
    }

    #[test]
    fn a_header_survives_the_round_trip(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES)) {
        let mut bytes = bytes;
        bytes[16] = 2;
        prop_assert_eq!(&Header::read(&bytes).expect("a header").write()[..], &bytes[..]);
    }

    #[test]
    fn the_moved_checksum_is_the_computed_one(
        value in proptest::collection::vec(any::<u8>(), 0..5_000),
        time_ms: i64,
    ) {
        let batch = produced(Builder::new(0).record(3, None, Some(&value)).build()).expect("taken");
        let stamped = batch.stamp_with_log_append_time(1, 2, time_ms).to_bytes();
        prop_assert_eq!(Header::read(&stamped).expect("a header").crc, crc32c(&stamped[CHECKED_FROM..]));
    }
}

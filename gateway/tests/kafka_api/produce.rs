//! Produce beyond its versions: the topic's own limit, what only brokers may claim, order over partitions.

use crate::client::Client;
use crate::network::acme;
use crate::requests::*;
use crate::table::zstd;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use std::time::{SystemTime, UNIX_EPOCH};
use waybill_gateway::batch::Codec;
use waybill_gateway::batch::build::Builder;

#[test]
fn the_limit_of_a_topic_is_exact() {
    let name = "produce-limit";
    let exact = batch(&["fits"]);
    let limit = exact.len().to_string();
    let mut client = acme_with(creatable(name).with_configs(vec![config("max.message.bytes", &limit)]));
    assert_eq!(append(&mut client, name, exact), 0);
    let refused = produce(&mut client, name, batch(&["fits-"]));
    assert_eq!(refused.error_code, code::MESSAGE_TOO_LARGE);
    let reason = refused.error_message.expect("a reason").to_string();
    assert!(reason.contains("max.message.bytes") && reason.contains(&limit), "{reason}");
}

#[test]
fn the_default_limit_is_exact_and_counts_what_is_compressed() {
    const DEFAULT: usize = 1_048_588;
    let name = "produce-default-limit";
    let mut client = acme_with_topic(name);
    let of_bytes = |bytes: usize| {
        const NEARLY: usize = 1_048_000;
        let overhead = batch_from(1, &[&"x".repeat(NEARLY)]).build().len() - NEARLY;
        let batch = batch_from(1, &[&"x".repeat(bytes - overhead)]).build();
        assert_eq!(batch.len(), bytes);
        batch
    };
    assert_eq!(append(&mut client, name, of_bytes(DEFAULT)), 0);
    assert_eq!(produce(&mut client, name, of_bytes(DEFAULT + 1)).error_code, code::MESSAGE_TOO_LARGE);
    let packed = batch_from(1, &[&"x".repeat(4 * DEFAULT)]).compress(Codec::Zstd, zstd).build();
    assert!(packed.len() < DEFAULT);
    assert_eq!(append(&mut client, name, packed), 1);
}

#[test]
fn a_compacted_topic_refuses_a_batch_with_a_record_without_a_key_and_names_the_record() {
    let name = "produce-compacted";
    for (policy, name) in [("compact", name.to_string()), ("compact,delete", format!("{name}-and-deleted"))] {
        let mut client = acme_with(creatable(&name).with_configs(vec![config("cleanup.policy", policy)]));
        assert_eq!(append(&mut client, &name, batch(&["has a key"])), 0);
        let keyless = || {
            let builder = Builder::new(1).record(1, Some(b"key"), Some(b"good")).record(2, None, Some(b"bad"));
            builder.record(3, Some(b""), None).record(4, None, None)
        };
        for records in [keyless().build(), keyless().compress(Codec::Zstd, zstd).build()] {
            let refused = produce(&mut client, &name, records.clone());
            assert_eq!((refused.error_code, refused.base_offset), (code::INVALID_RECORD, -1));
            assert!(refused.error_message.expect("a reason").contains("key"));
            let named: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(named, [1, 3]);
            assert!(refused.record_errors.iter().all(|error| error.batch_index_error_message.is_some()));
            // A version that cannot name records refuses all the same.
            let old = client.ask(7, &produce_request(&name, 0, records)).responses[0].partition_responses[0].clone();
            assert_eq!((old.error_code, old.record_errors.len()), (code::INVALID_RECORD, 0));
        }
        let unreadable = Builder::new(1).record(1, Some(b"key"), None).compress(Codec::Zstd, <[u8]>::to_vec).build();
        assert_eq!(produce(&mut client, &name, unreadable).error_code, code::INVALID_RECORD);
        let packed = batch_from(1, &["also", "with"]).compress(Codec::Zstd, zstd).build();
        assert_eq!(append(&mut client, &name, packed), 1, "nothing of what was refused is there");
    }
    let mut client = acme_with_topic("produce-not-compacted");
    assert_eq!(append(&mut client, "produce-not-compacted", Builder::new(1).record(1, None, None).build()), 0);
}

#[test]
fn times_beyond_a_topics_bounds_are_refused_and_the_records_named() {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let name = "produce-times";
    let bounds = [("message.timestamp.before.max.ms", "600000"), ("message.timestamp.after.max.ms", "60000")];
    let bounds = bounds.map(|(name, value)| config(name, value)).to_vec();
    let mut client = acme_with(creatable(name).with_configs(bounds.clone()));
    let at = |times: &[i64]| {
        let records =
            times.iter().fold(Builder::new(now_ms), |builder, time| builder.record(now_ms + time, None, None));
        records.build()
    };
    assert_eq!(append(&mut client, name, at(&[-500_000, 0, 30_000])), 0);
    for (times, named) in [(&[0, -700_000, 1][..], 1), (&[0, 1, 120_000], 2)] {
        let refused = produce(&mut client, name, at(times));
        assert_eq!(refused.error_code, code::INVALID_TIMESTAMP, "{times:?}");
        let errors: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(errors, [named], "{times:?}");
    }
    // The default is Kafka's: any age, and an hour ahead.
    let name = "produce-default-times";
    assert_eq!(create(&mut client, creatable(name)).error_code, 0);
    assert_eq!(append(&mut client, name, at(&[-now_ms, 3_000_000])), 0);
    assert_eq!(produce(&mut client, name, at(&[4_000_000])).error_code, code::INVALID_TIMESTAMP);
    // Where the ledger's time is the records', their own does not count.
    let name = "produce-no-times";
    let append_time = [bounds, vec![config("message.timestamp.type", "LogAppendTime")]].concat();
    assert_eq!(create(&mut client, creatable(name).with_configs(append_time)).error_code, 0);
    assert_eq!(append(&mut client, name, at(&[-now_ms, 4_000_000])), 0);
}

#[test]
fn what_only_brokers_may_write_is_refused() {
    const CONTROL: i16 = 1 << 5;
    const TRANSACTIONAL: i16 = 1 << 4;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    let name = "produce-attributes";
    let mut client = acme_with_topic(name);
    let with = |attributes: i16| batch_from(1, &["x"]).header(|header| header.attributes = attributes).build();
    for (what, records, expected) in [
        ("control", with(CONTROL), code::INVALID_RECORD),
        ("append time", with(LOG_APPEND_TIME), code::INVALID_TIMESTAMP),
        ("transactional without an id", with(TRANSACTIONAL), code::INVALID_RECORD),
        ("unknown codec", with(7), code::UNSUPPORTED_COMPRESSION_TYPE),
        ("no records", Builder::new(1).build(), code::INVALID_RECORD),
        (
            "more records than bytes",
            batch_from(1, &["x"])
                .header(|header| {
                    header.record_count = 1_000;
                    header.last_offset_delta = 999;
                })
                .build(),
            code::INVALID_RECORD,
        ),
    ] {
        let refused = produce(&mut client, name, records);
        assert_eq!(refused.error_code, expected, "{what}");
        assert!(refused.error_message.is_some(), "{what}");
    }
    assert_eq!(listed(&mut client, 8, &list_offsets_request(name, 0, -1)).offset, 0);
}

#[test]
fn partitions_of_one_request_stand_each_for_itself() {
    let name = "produce-partitions";
    let mut client = acme_with(creatable(name).with_num_partitions(3));
    let data = |index: i32, records| PartitionProduceData::default().with_index(index).with_records(records);
    let request = |round: i32| {
        let partitions = (0..3).map(|index| data(index, Some(batch(&[&format!("{round} {index}")])))).collect();
        let topic = TopicProduceData::default().with_name(topic(name)).with_partition_data(partitions);
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
    };
    for round in 0..20 {
        client.send(9, &request(round));
    }
    for round in 0..20 {
        let (_, response) = client.receive::<ProduceRequest>(9);
        let answered = response.responses[0].partition_responses.iter();
        let answered: Vec<_> = answered.map(|part| (part.index, part.error_code, part.base_offset)).collect();
        assert_eq!(answered, [(0, 0, round), (1, 0, round), (2, 0, round)]);
    }
    let mut spoiled = request(20);
    spoiled.topic_data[0].partition_data[1] = data(1, None);
    let response = client.ask(9, &spoiled);
    let codes: Vec<i16> = response.responses[0].partition_responses.iter().map(|part| part.error_code).collect();
    assert_eq!(codes, [0, code::INVALID_RECORD, 0]);
}

#[test]
fn an_empty_request_is_answered() {
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000);
    assert_eq!(Client::connect(acme()).ask(9, &request).responses.len(), 0);
}

//! Fetch beyond its versions: waiting, limits, and what ends a wait.

use crate::client::Client;
use crate::network::{acme, globex};
use crate::requests::*;
use crate::table::zstd;
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest};
use std::time::{Duration, Instant};
use waybill_gateway::batch::Codec;

/// Longer than any test.
const LONG_MS: i32 = 50_000;

#[test]
fn an_empty_answer_comes_when_the_time_is_up() {
    let name = "fetch-empty";
    let mut client = acme_with_topic(name);
    let wait = fetch_request(name, vec![fetch_partition(0, 0)]).with_max_wait_ms(300);
    let started = Instant::now();
    let answered = fetched(&mut client, 12, &wait);
    assert!((300..5_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert_eq!((answered.error_code, answered.high_watermark, answered.records), (0, 0, Some(Bytes::new())));
}

#[test]
fn what_asks_for_nothing_waits_for_nothing() {
    let name = "fetch-nothing";
    let mut client = acme_with_topic(name);
    let long = fetch_request(name, vec![fetch_partition(0, 0)]).with_max_wait_ms(LONG_MS);
    let started = Instant::now();
    assert_eq!(fetched(&mut client, 12, &long.clone().with_min_bytes(0)).error_code, 0);
    assert_eq!(client.ask(12, &long.clone().with_topics(Vec::new())).responses.len(), 0);
    // Nobody waits for more than fits.
    assert_eq!(fetched(&mut client, 12, &long.with_max_bytes(0)).error_code, 0);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_waiting_fetch_is_woken_by_enough_bytes_here_and_at_another_organisation() {
    let name = "fetch-woken";
    let mut producer = acme_with_topic(name);
    let mut readers = [Client::connect(acme()), Client::connect(globex())];
    wait_until_known(&mut readers[1], name);
    let (one, two) = (batch(&["one"]), batch(&["two"]));
    let both: Bytes = [at_offset(0, &one), at_offset(1, &two)].concat().into();
    let wait = fetch_request(name, vec![fetch_partition(0, 0)]).with_max_wait_ms(LONG_MS);
    let wait = wait.with_min_bytes(both.len() as i32);
    let started = Instant::now();
    for reader in &mut readers {
        reader.send(12, &wait);
    }
    append(&mut producer, name, one);
    append(&mut producer, name, two);
    for reader in &mut readers {
        let (_, answer) = reader.receive::<FetchRequest>(12);
        assert_eq!(answer.responses[0].partitions[0].records.as_ref(), Some(&both));
    }
    assert!(started.elapsed() < Duration::from_millis(LONG_MS as u64));
}

#[test]
fn limits_cut_between_batches_and_never_the_first_one() {
    let name = "fetch-limits";
    let mut client = acme_with(creatable(name).with_num_partitions(2));
    let batches = [batch(&["a"]), batch(&["bb"]), batch(&["ccc"])];
    for (offset, batch) in batches.iter().enumerate() {
        assert_eq!(append(&mut client, name, batch.clone()), offset as i64);
    }
    let other = batch(&["other partition"]);
    let produced = client.ask(9, &produce_request(name, 1, other.clone()));
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let size = |upto: usize| batches[..upto].iter().map(Bytes::len).sum::<usize>() as i32;
    let mut counts = |partition_max: i32, max: i32| {
        let partitions = [0, 1].map(|partition| fetch_partition(partition, 0).with_partition_max_bytes(partition_max));
        let request = fetch_request(name, partitions.to_vec()).with_max_bytes(max);
        let answer = client.ask(12, &request);
        let bytes = answer.responses[0].partitions.iter().map(|partition| partition.records.as_ref().map(Bytes::len));
        bytes.map(|bytes| bytes.expect("records") as i32).collect::<Vec<_>>()
    };
    let (first, rest) = (size(1), other.len() as i32);
    assert_eq!(counts(1, 1), [first, 0], "the first batch of the answer is whole");
    assert_eq!(counts(0, 0), [first, 0]);
    assert_eq!(counts(-1, -1), [first, 0]);
    assert_eq!(counts(1, 1 << 20), [first, 0]);
    assert_eq!(counts(size(2), 1 << 20), [size(2), rest]);
    assert_eq!(counts(size(3) - 1, 1 << 20), [size(2), rest]);
    assert_eq!(counts(1 << 20, size(3)), [size(3), 0]);
    assert_eq!(counts(1 << 20, size(3) + rest), [size(3), rest]);
    assert_eq!(counts(i32::MAX, i32::MAX), [size(3), rest]);
}

#[test]
fn the_first_partition_that_has_something_gives_a_whole_batch_whatever_the_limits() {
    let name = "fetch-first";
    let mut client = acme_with(creatable(name).with_num_partitions(3));
    let large = batch(&[&"x".repeat(10_000)]);
    for partition in [1, 2] {
        let produced = client.ask(9, &produce_request(name, partition, large.clone()));
        assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    }
    for (partition_max, max) in [(1, 1), (0, 0), (1, 1 << 20), (1 << 20, 1)] {
        let partitions = (0..3).map(|index| fetch_partition(index, 0).with_partition_max_bytes(partition_max));
        let answer = client.ask(12, &fetch_request(name, partitions.collect()).with_max_bytes(max));
        let records = answer.responses[0].partitions.iter().map(|part| part.records.clone().unwrap_or_default());
        let expected = [Bytes::new(), at_offset(0, &large), Bytes::new()];
        assert_eq!(records.collect::<Vec<_>>(), expected, "{partition_max} {max}");
    }
}

#[test]
fn an_offset_that_does_not_exist_is_out_of_range_once_the_node_has_caught_up() {
    let name = "fetch-range";
    let mut client = acme_with_topic(name);
    append(&mut client, name, batch(&["a"]));
    let mut code_at =
        |offset| fetched(&mut client, 12, &fetch_request(name, vec![fetch_partition(0, offset)])).error_code;
    assert_eq!(code_at(-1), code::OFFSET_OUT_OF_RANGE);
    // A node that has just started may not have executed again what it acknowledged: it says so, and not "never".
    eventually("the node is settled", || match code_at(2) {
        code::OFFSET_NOT_AVAILABLE => false,
        code => {
            assert_eq!(code, code::OFFSET_OUT_OF_RANGE);
            true
        }
    });
}

#[test]
fn a_fetch_that_waits_is_told_when_its_topic_is_deleted() {
    let name = "fetch-deleted";
    let mut client = acme_with_topic(name);
    let mut readers = [Client::connect(acme()), Client::connect(globex())];
    wait_until_known(&mut readers[1], name);
    let wait = fetch_request(name, vec![fetch_partition(0, 0)]).with_max_wait_ms(LONG_MS);
    let started = Instant::now();
    for reader in &mut readers {
        reader.send(12, &wait);
    }
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic(name)]).with_timeout_ms(30_000);
    assert_eq!(client.ask(5, &delete).responses[0].error_code, 0);
    for reader in &mut readers {
        let (_, answer) = reader.receive::<FetchRequest>(12);
        assert_eq!(answer.responses[0].partitions[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert!(started.elapsed() < Duration::from_millis(LONG_MS as u64));
}

#[test]
fn a_topic_of_zstd_is_kept_from_clients_that_may_not_know_it() {
    let (any, zstd_only) = ("fetch-any-codec", "fetch-zstd");
    let mut client = acme_with_topic(any);
    let setting = vec![config("compression.type", "zstd")];
    assert_eq!(create(&mut client, creatable(zstd_only).with_configs(setting)).error_code, 0);
    let packed = batch_from(1, &["packed"]).compress(Codec::Zstd, zstd).build();
    for name in [any, zstd_only] {
        append(&mut client, name, packed.clone());
    }
    let from_start = |name| fetch_request(name, vec![fetch_partition(0, 0)]);
    for version in [4, 9, 10] {
        let answer = fetched(&mut client, version, &from_start(any));
        assert_eq!((answer.error_code, answer.records), (0, Some(at_offset(0, &packed))), "version {version}");
    }
    let old = fetched(&mut client, 9, &from_start(zstd_only));
    assert_eq!((old.error_code, old.records), (code::UNSUPPORTED_COMPRESSION_TYPE, Some(Bytes::new())));
    let new = fetched(&mut client, 10, &from_start(zstd_only));
    assert_eq!((new.error_code, new.records), (0, Some(at_offset(0, &packed))));
}

#[test]
fn a_session_that_is_asked_for_is_not_given() {
    let name = "fetch-session";
    let mut client = acme_with_topic(name);
    let request = fetch_request(name, vec![fetch_partition(0, 0)]);
    let asked = client.ask(12, &request.clone().with_session_epoch(0));
    assert_eq!((asked.error_code, asked.session_id, asked.responses.len()), (0, 0, 1));
    // The end of a session that never was is a whole fetch too: kafka-go's client asks so.
    for epoch in [-1, 0] {
        let ended = client.ask(12, &request.clone().with_session_id(-1).with_session_epoch(epoch));
        assert_eq!((ended.error_code, ended.session_id, ended.responses.len()), (0, 0, 1));
    }
    let going_on = client.ask(12, &request.with_session_epoch(1));
    assert_eq!((going_on.error_code, going_on.responses.len()), (code::FETCH_SESSION_ID_NOT_FOUND, 0));
}

#[test]
fn one_answer_holds_several_topics_and_one_error_spoils_no_other() {
    let names = ["fetch-several-a", "fetch-several-b"];
    let mut client = acme_with_topic(names[0]);
    assert_eq!(create(&mut client, creatable(names[1])).error_code, 0);
    let values = names.map(|name| batch(&[name]));
    for (name, batch) in names.iter().zip(&values) {
        append(&mut client, name, batch.clone());
    }
    let part = |name| FetchTopic::default().with_topic(topic(name)).with_partitions(vec![fetch_partition(0, 0)]);
    let topics = vec![part(names[0]), part("fetch-several-unknown"), part(names[1])];
    let answer = client.ask(12, &fetch_request(names[0], Vec::new()).with_topics(topics).with_max_wait_ms(LONG_MS));
    let partition = |index: usize| {
        let partition = &answer.responses[index].partitions[0];
        (partition.error_code, partition.records.clone().unwrap_or_default())
    };
    assert_eq!(partition(0), (0, at_offset(0, &values[0])));
    assert_eq!(partition(1), (code::UNKNOWN_TOPIC_OR_PARTITION, Bytes::new()));
    assert_eq!(partition(2), (0, at_offset(0, &values[1])));
}

//! The Rust client of librdkafka 2.12: idempotent producers, every shape of record, admin calls, offsets.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use waybill_compat_tests::librdkafka::{
    self, Read, Record, config, create_topic, delete_topic, produce, read_all, texts,
};
use waybill_compat_tests::network::{Data, Network};
use waybill_compat_tests::wait::{LIMIT, eventually};

const IDEMPOTENT: &[(&str, &str)] = &[("enable.idempotence", "true"), ("message.max.bytes", "8000000")];

/// Five thousand records of every shape a client can make, spread over three partitions.
fn every_shape() -> Vec<Record> {
    let shape = |number: usize| Record {
        partition: i32::try_from(number % 3).expect("a small number"),
        key: (!number.is_multiple_of(5)).then(|| format!("key-{}", number % 40).into_bytes()),
        value: match number % 7 {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(format!("value {number}").into_bytes()),
        },
        headers: match number % 4 {
            0 => Vec::new(),
            1 => vec![("trace".into(), Some(number.to_be_bytes().to_vec()))],
            _ => {
                vec![("same".into(), Some(b"first".to_vec())), ("same".into(), Some(Vec::new())), ("same".into(), None)]
            }
        },
        timestamp_ms: 1_700_000_000_000 + i64::try_from(number).expect("a small number"),
    };
    (0..5_000).map(shape).collect()
}

/// A record whose value is `bytes` long and differs from its neighbours.
fn large(number: u8, bytes: usize) -> Record {
    let value = (0..bytes).map(|index| (index / 251) as u8 ^ (index % 251) as u8 ^ number).collect();
    Record { partition: 1, value: Some(value), timestamp_ms: 1_700_000_100_000, ..Record::default() }
}

fn of_partition(read: &[Read], partition: i32) -> Vec<Record> {
    let of: Vec<&Read> = read.iter().filter(|read| read.record.partition == partition).collect();
    assert!(
        of.iter().map(|read| read.offset).eq(0..of.len() as i64),
        "offsets of partition {partition} are dense from 0"
    );
    of.into_iter().map(|read| read.record.clone()).collect()
}

#[test]
fn five_thousand_records_of_every_shape_arrive_in_order_of_their_partition() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    assert_eq!(create_topic(acme, "shapes", 3, &[("max.message.bytes", "8000000")]), Ok("shapes".into()));
    let again = create_topic(globex, "shapes", 3, &[]);
    assert_eq!(
        again,
        Err(("shapes".into(), RDKafkaErrorCode::TopicAlreadyExists)),
        "one name, one topic, network-wide"
    );

    let mut records = every_shape();
    produce(acme, "shapes", IDEMPOTENT, &records);
    let large: Vec<Record> = [(1, 1_000_000), (2, 3_000_000), (3, 5_000_000)].map(|(n, size)| large(n, size)).to_vec();
    produce(acme, "shapes", IDEMPOTENT, &large);
    records.extend(large);

    for broker in [globex, acme] {
        let read = read_all(broker, "shapes", &[0, 1, 2], records.len());
        assert_eq!(read.len(), records.len());
        for partition in 0..3 {
            let sent = records.iter().filter(|record| record.partition == partition);
            let arrived = of_partition(&read, partition);
            for (sent, arrived) in sent.zip(&arrived) {
                assert!(sent == arrived, "sent {} arrived {}", brief(sent), brief(arrived));
            }
        }
    }
    network.terminate();
}

fn brief(record: &Record) -> String {
    let bytes = record.value.as_ref().map(Vec::len);
    let short = Record { value: record.value.clone().filter(|value| value.len() < 100), ..record.clone() };
    format!("{short:?} of {bytes:?} bytes")
}

#[test]
fn topics_are_created_described_and_deleted_through_the_admin_api() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    assert_eq!(create_topic(acme, "short-lived", 2, &[]), Ok("short-lived".into()));

    let client: BaseConsumer = config(globex, &[("allow.auto.create.topics", "false")]).create().expect("a client");
    let partitions = || {
        let metadata = client.fetch_metadata(Some("short-lived"), Duration::from_secs(10)).expect("metadata");
        let topic = &metadata.topics()[0];
        if topic.error().is_some() { 0 } else { topic.partitions().len() }
    };
    eventually("globex sees two partitions", LIMIT, || (partitions() == 2).then_some(()));
    let record = Record { value: Some(b"gone soon".to_vec()), ..Record::default() };
    produce(acme, "short-lived", &[], &[record]);

    let by_a_stranger = delete_topic(globex, "short-lived");
    assert_eq!(
        by_a_stranger,
        Err(("short-lived".into(), RDKafkaErrorCode::TopicAuthorizationFailed)),
        "the owner deletes, nobody else"
    );
    assert_eq!(delete_topic(acme, "short-lived"), Ok("short-lived".into()));
    eventually("the topic is gone at globex", LIMIT, || (partitions() == 0).then_some(()));
    assert_eq!(delete_topic(acme, "never-was"), Err(("never-was".into(), RDKafkaErrorCode::UnknownTopicOrPartition)));
    let refused = create_topic(acme, "not/a/name", 1, &[]);
    assert_eq!(refused, Err(("not/a/name".into(), RDKafkaErrorCode::InvalidTopic)));
    network.terminate();
}

#[test]
fn only_the_owner_writes() {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 1, &[]).is_ok());
    let producer = librdkafka::producer(network.kafka("globex"), &[("message.timeout.ms", "20000")]);
    let record = Record { value: Some(b"forged".to_vec()), ..Record::default() };
    librdkafka::send(&producer, "orders", 0, &record);
    producer.flush(LIMIT).expect("an answer");
    let refusal = [(0, KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed))];
    assert_eq!(producer.context().failures(), refusal);
    network.terminate();
}

#[test]
fn acks_0_1_and_all_arrive_and_offsets_are_found_by_time() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    assert!(create_topic(acme, "acks", 1, &[]).is_ok());
    let mut expected = Vec::new();
    for (batch, acks) in ["0", "1", "all"].into_iter().enumerate() {
        let records: Vec<Record> = (0..100)
            .map(|number| Record {
                value: Some(format!("acks={acks} {number}").into_bytes()),
                timestamp_ms: 1_700_000_000_000 + i64::try_from(batch * 100 + number).expect("small") * 1_000,
                ..Record::default()
            })
            .collect();
        produce(acme, "acks", &[("acks", acks), ("enable.idempotence", "false")], &records);
        expected
            .extend(records.iter().map(|record| String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned()));
        // With acks=0 the client counts a record as delivered when it has left: wait until it can be read.
        assert_eq!(texts(&read_all(acme, "acks", &[0], expected.len())), expected);
    }
    assert_eq!(texts(&read_all(globex, "acks", &[0], 300)), expected);

    let client: BaseConsumer = config(globex, &[("group.id", "times")]).create().expect("a client");
    assert_eq!(client.fetch_watermarks("acks", 0, LIMIT).expect("watermarks"), (0, 300));
    let offset_at = |timestamp_ms: i64| {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset("acks", 0, Offset::Offset(timestamp_ms)).expect("an offset");
        let found = client.offsets_for_times(wanted, LIMIT).expect("offsets");
        found.find_partition("acks", 0).expect("the partition").offset()
    };
    // The first record at or after the time, in the middle of a batch as well; behind the last one, the end.
    assert_eq!(offset_at(1_600_000_000_000), Offset::Offset(0));
    assert_eq!(offset_at(1_700_000_000_000 + 42_000), Offset::Offset(42));
    assert_eq!(offset_at(1_700_000_000_000 + 142_001), Offset::Offset(143));
    assert_eq!(offset_at(1_700_000_000_000 + 299_000), Offset::Offset(299));
    assert_eq!(offset_at(1_800_000_000_000), Offset::End);
    network.terminate();
}

#[test]
fn a_record_above_the_topics_limit_is_refused_by_name() {
    let data = Data::new();
    let network = data.start();
    let acme = network.kafka("acme");
    assert!(create_topic(acme, "small", 1, &[("max.message.bytes", "100000")]).is_ok());
    let producer = librdkafka::producer(acme, &[("message.max.bytes", "8000000"), ("message.timeout.ms", "30000")]);
    let too_large = Record { partition: 0, ..large(1, 200_000) };
    librdkafka::send(&producer, "small", 0, &too_large);
    producer.flush(LIMIT).expect("an answer");
    let refusal = [(0, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge))];
    assert_eq!(producer.context().failures(), refusal);
    network.terminate();
}

#[test]
fn each_gateway_names_itself_alone_and_the_cluster_keeps_its_name() {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 3, &[]).is_ok());
    let seen = |network: &Network<'_>| -> Vec<(String, i32)> {
        let one = |organisation: &&str| {
            let address = network.kafka(organisation);
            let client: BaseConsumer = config(address, &[]).create().expect("a client");
            let metadata = eventually("the topic is known", LIMIT, || {
                let metadata = client.fetch_metadata(Some("orders"), LIMIT).ok()?;
                (metadata.topics()[0].partitions().len() == 3).then_some(metadata)
            });
            let [broker] = metadata.brokers() else {
                panic!("{organisation} names {} brokers", metadata.brokers().len())
            };
            assert_eq!(format!("{}:{}", broker.host(), broker.port()), address);
            let partitions = metadata.topics()[0].partitions();
            assert!(partitions.iter().all(|partition| partition.leader() == broker.id()), "leads for its clients");
            let cluster = client.client().fetch_cluster_id(LIMIT).expect("a cluster id");
            (cluster, broker.id())
        };
        ["acme", "globex"].iter().map(one).collect()
    };
    let before = seen(&network);
    assert_eq!(before[0].0, before[1].0, "one network, one cluster");
    assert_ne!(before[0].1, before[1].1, "node ids differ");
    network.kill();
    let network = data.start();
    assert_eq!(seen(&network), before, "names and ids survive a kill");
    network.terminate();
}

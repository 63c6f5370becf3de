//! librdkafka through its Rust client: what the stories share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

pub use crate::records::{Read, Record};
use crate::wait::LIMIT;

/// A client's configuration: the broker and further settings.
pub fn config(broker: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("broker.address.family", "v4");
    // Waiting is what these tests do while a network restarts; not for the default of up to ten seconds.
    config.set("reconnect.backoff.max.ms", "1000");
    config.extend(settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
    config
}

/// What a producer's records came to: by the number each was sent with.
#[derive(Debug, Default)]
pub struct Deliveries {
    ended: Mutex<BTreeMap<usize, Result<i64, KafkaError>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let ended = result.as_ref().map(Message::offset).map_err(|(error, _)| error.clone());
        let before = self.ended.lock().expect("no panic under this lock").insert(number, ended);
        assert!(before.is_none(), "record {number} was reported twice");
    }
}

impl Deliveries {
    /// How many records have been acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        self.ended.lock().expect("no panic under this lock").values().filter(|ended| ended.is_ok()).count()
    }

    /// The numbers of the records that were acknowledged.
    pub fn acknowledged(&self) -> BTreeSet<usize> {
        let ended = self.ended.lock().expect("no panic under this lock");
        ended.iter().filter(|(_, ended)| ended.is_ok()).map(|(&number, _)| number).collect()
    }

    /// What went wrong, by record.
    pub fn failures(&self) -> Vec<(usize, KafkaError)> {
        let ended = self.ended.lock().expect("no panic under this lock");
        ended.iter().filter_map(|(&number, ended)| Some((number, ended.as_ref().err()?.clone()))).collect()
    }
}

/// A producer that remembers what became of each record.
pub fn producer(broker: &str, settings: &[(&str, &str)]) -> BaseProducer<Deliveries> {
    config(broker, settings).create_with_context(Deliveries::default()).expect("a producer's configuration")
}

/// Hands a record to the producer, waiting while its queue is full.
pub fn send(producer: &BaseProducer<Deliveries>, topic: &str, number: usize, record: &Record) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(rdkafka::message::Header { key, value: value.as_deref() })
    });
    let mut message = BaseRecord::with_opaque_to(topic, number).partition(record.partition).headers(headers);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    if record.timestamp_ms != 0 {
        message.timestamp = Some(record.timestamp_ms);
    }
    let started = Instant::now();
    loop {
        match producer.send(message) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => message = again,
            Err((error, _)) => panic!("record {number}: {error}"),
        }
        assert!(started.elapsed() < LIMIT, "the producer's queue stays full");
        producer.poll(Duration::from_millis(50));
    }
    producer.poll(Duration::ZERO);
}

/// Sends every record and waits until each is acknowledged.
#[track_caller]
pub fn produce(broker: &str, topic: &str, settings: &[(&str, &str)], records: &[Record]) {
    let producer = producer(broker, settings);
    for (number, record) in records.iter().enumerate() {
        send(&producer, topic, number, record);
    }
    producer.flush(LIMIT).expect("all records delivered");
    assert_eq!(producer.context().failures(), []);
    assert_eq!(producer.context().acknowledged_count(), records.len());
}

/// A consumer in a group, from the beginning, committing only when told.
pub fn group_consumer(broker: &str, group: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = config(
        broker,
        &[
            ("group.id", group),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("topic.metadata.refresh.interval.ms", "2000"),
        ],
    )
    .create()
    .expect("a consumer's configuration");
    consumer.subscribe(&[topic]).expect("a subscription");
    consumer
}

/// A consumer outside any group, at the first offset of these partitions.
pub fn reader(broker: &str, topic: &str, partitions: &[i32]) -> BaseConsumer {
    let consumer: BaseConsumer = config(
        broker,
        &[
            // librdkafka wants a name here even where no group is joined.
            ("group.id", "reader"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("enable.partition.eof", "true"),
            // The end of a partition is told when a fetch comes back empty.
            ("fetch.wait.max.ms", "50"),
            ("message.max.bytes", "20000000"),
            ("fetch.message.max.bytes", "8000000"),
        ],
    )
    .create()
    .expect("a consumer's configuration");
    let mut assignment = TopicPartitionList::new();
    for &partition in partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&assignment).expect("an assignment");
    consumer
}

/// Reads partitions from their beginning: until `at_least` records have come and every partition is at its end.
#[track_caller]
pub fn read_all(broker: &str, topic: &str, partitions: &[i32], at_least: usize) -> Vec<Read> {
    let consumer = reader(broker, topic, partitions);
    let (mut read, mut at_end, mut last_error) = (Vec::new(), BTreeSet::new(), None);
    let started = Instant::now();
    while read.len() < at_least || at_end.len() < partitions.len() {
        assert!(
            started.elapsed() < LIMIT,
            "{} of {at_least} records of {topic} came from {broker}; ends seen: {at_end:?}; last error: {last_error:?}",
            read.len()
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                at_end.remove(&message.partition());
                read.push(owned(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition);
            }
            // A topic that this node has not heard of yet, a leader not yet known: the client tries again.
            Some(Err(error)) => last_error = Some(error),
            None => {}
        }
    }
    read
}

/// A consumed message with its own memory.
pub fn owned(message: &BorrowedMessage<'_>) -> Read {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    let record = Record {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
    };
    Read { offset: message.offset(), record }
}

/// The values of the records as text, for stories whose values are numbers or words.
pub fn texts(read: &[Read]) -> Vec<String> {
    read.iter()
        .map(|read| String::from_utf8_lossy(read.record.value.as_deref().unwrap_or_default()).into_owned())
        .collect()
}

/// A group's committed offsets, by partition.
pub fn committed(broker: &str, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = config(broker, &[("group.id", group)]).create().expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(topic, 0, partitions - 1);
    let committed = consumer.committed_offsets(wanted, LIMIT).expect("committed offsets");
    let offset = |partition| match committed.find_partition(topic, partition).expect("as asked").offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    (0..partitions).map(offset).collect()
}

/// Commits offsets for a group that has no members, as tools do.
pub fn commit(broker: &str, group: &str, topic: &str, offsets: &[i64]) {
    let consumer: BaseConsumer = config(broker, &[("group.id", group)]).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for (partition, &offset) in (0..).zip(offsets) {
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    }
    consumer.commit(&list, CommitMode::Sync).expect("a commit");
}

/// Creates a topic through the admin API.
pub fn create_topic(broker: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> TopicResult {
    let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let wanted = settings.iter().fold(wanted, |wanted, (key, value)| wanted.set(key, value));
    let (admin, runtime) = admin(broker);
    let results = runtime.block_on(admin.create_topics([&wanted], &admin_options()));
    results.expect("an answer to CreateTopics").remove(0)
}

/// Deletes a topic through the admin API.
pub fn delete_topic(broker: &str, topic: &str) -> TopicResult {
    let (admin, runtime) = admin(broker);
    let results = runtime.block_on(admin.delete_topics(&[topic], &admin_options()));
    results.expect("an answer to DeleteTopics").remove(0)
}

fn admin(broker: &str) -> (AdminClient<DefaultClientContext>, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    (config(broker, &[]).create().expect("an admin client's configuration"), runtime)
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(Duration::from_secs(60))).operation_timeout(Some(Duration::from_secs(30)))
}

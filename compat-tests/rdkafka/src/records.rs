//! Records from a file into a topic, and from a topic into a file.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::task::{self, Consume, Octets, PATIENCE, Place, Produce, Record, Result};
use crate::{MESSAGE_BYTES_MAX, Refusable};

pub type Producing = FutureProducer<Refusable>;
pub type Reading = BaseConsumer<Refusable>;

pub fn produce(config: ClientConfig, job: &Produce) -> Result<()> {
    let records = task::read_records(&job.records)?;
    let producer = producer(config, &job.codec, job.idempotent)?;
    let places = send(&producer, &job.topic, &records)?;
    task::write_lines(&job.out, &places)
}

pub fn consume(config: ClientConfig, job: &Consume) -> Result<()> {
    let consumer = reader(config, &job.topic, job.partitions)?;
    let mut read = Vec::new();
    let (mut progress, mut last_error) = (Instant::now(), None);
    while read.len() < job.count {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                read.push(record(&message));
                progress = Instant::now();
            }
            // A leader that is not known yet: the client tries again by itself.
            Some(Err(error)) => last_error = Some(error),
            None => {}
        }
        if progress.elapsed() > PATIENCE {
            return Err(format!("{} of {} records came; the last error: {last_error:?}", read.len(), job.count).into());
        }
    }
    task::write_lines(&job.out, &read)
}

/// A producer that waits for the brokers' acknowledgement and keeps the order of what it is given.
pub fn producer(mut config: ClientConfig, codec: &str, idempotent: bool) -> Result<Producing> {
    config.set("acks", "all");
    config.set("compression.type", codec);
    config.set("enable.idempotence", if idempotent { "true" } else { "false" });
    config.set("message.timeout.ms", PATIENCE.as_millis().to_string());
    if !idempotent {
        // Only the idempotent producer keeps the order of requests of which an earlier one has to be sent again.
        config.set("max.in.flight.requests.per.connection", "1");
    }
    Ok(config.create_with_context(Refusable)?)
}

/// Sends records in their order and waits for all acknowledgements.
pub fn send(producer: &Producing, topic: &str, records: &[Record]) -> Result<Vec<Place>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let waiting: Vec<DeliveryFuture> =
        records.iter().map(|record| enqueue(producer, topic, record)).collect::<Result<_>>()?;
    let mut places = Vec::with_capacity(records.len());
    for delivery in waiting {
        let delivered = runtime.block_on(delivery)?.map_err(|(error, _)| error)?;
        places.push(Place { partition: delivered.partition, offset: delivered.offset });
    }
    Ok(places)
}

fn enqueue(producer: &Producing, topic: &str, record: &Record) -> Result<DeliveryFuture> {
    let mut wanted = FutureRecord::<[u8], [u8]>::to(topic).partition(record.partition).timestamp(record.timestamp);
    wanted.key = record.key.as_ref().map(|octets| octets.0.as_slice());
    wanted.payload = record.value.as_ref().map(|octets| octets.0.as_slice());
    if !record.headers.is_empty() {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_ref().map(|octets| &octets.0) })
        });
        wanted = wanted.headers(headers);
    }
    let started = Instant::now();
    loop {
        match producer.send_result(wanted) {
            Ok(delivery) => return Ok(delivery),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused))
                if started.elapsed() < PATIENCE =>
            {
                producer.poll(Duration::from_millis(10));
                wanted = refused;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// A consumer without a group, at the beginning of every partition.
fn reader(mut config: ClientConfig, topic: &str, partitions: i32) -> Result<Reading> {
    // librdkafka wants a name here even where no group is joined.
    config.set("group.id", "unused");
    config.set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "earliest");
    config.set("check.crcs", "true");
    config.set("fetch.message.max.bytes", MESSAGE_BYTES_MAX);
    let consumer: Reading = config.create_with_context(Refusable)?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let octets = |bytes: &[u8]| Octets(bytes.to_vec());
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(octets))).collect()
    });
    Record {
        partition: message.partition(),
        offset: Some(message.offset()),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(octets),
        value: message.payload().map(octets),
        headers,
    }
}

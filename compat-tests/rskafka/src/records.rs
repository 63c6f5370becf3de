//! Records from a file into a topic, and from a topic into a file.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::DateTime;
use rskafka::client::Client;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::record::RecordAndOffset;

use crate::patiently;
use crate::task::{self, Consume, Octets, PATIENCE, Place, Produce, Record, Result};

/// A batch is closed before it exceeds this, unless one record alone does: a topic's usual `max.message.bytes` is 1 MiB.
const BATCH_BYTES_MAX: usize = 500_000;
const BATCH_RECORDS_MAX: usize = 500;

/// Room for the largest record of the stories.
const FETCH_BYTES_MAX: i32 = 50_000_000;

pub async fn produce(client: &Client, job: &Produce) -> Result<()> {
    let compression = compression(&job.codec)?;
    // This client sends one batch of one partition at a time; the order within the partitions is the file's.
    let mut by_partition: BTreeMap<i32, Vec<(usize, rskafka::record::Record)>> = BTreeMap::new();
    let records = task::read_records(&job.records)?;
    let mut places = vec![None; records.len()];
    for (index, record) in records.into_iter().enumerate() {
        by_partition.entry(record.partition).or_default().push((index, expressed(record)?));
    }
    for (partition, records) in by_partition {
        let to = partition_client(client, &job.topic, partition).await?;
        for batch in batches(records) {
            let (indexes, batch): (Vec<usize>, Vec<_>) = batch.into_iter().unzip();
            let offsets = patiently("produce", to.produce(batch, compression)).await?;
            for (index, offset) in indexes.into_iter().zip(offsets) {
                places[index] = Some(Place { partition, offset });
            }
        }
    }
    let places: Option<Vec<Place>> = places.into_iter().collect();
    task::write_lines(&job.out, &places.ok_or("a record was acknowledged without an offset")?)
}

pub async fn consume(client: &Client, job: &Consume) -> Result<()> {
    let mut positions = Vec::new();
    for partition in 0..job.partitions {
        positions.push((partition_client(client, &job.topic, partition).await?, 0_i64));
    }
    let mut read = Vec::new();
    let mut progress = Instant::now();
    while read.len() < job.count {
        for (from, offset) in &mut positions {
            let fetch = from.fetch_records(*offset, 1..FETCH_BYTES_MAX, 100);
            let (records, _high_watermark) = patiently("fetch", fetch).await?;
            for record in records {
                *offset = record.offset + 1;
                progress = Instant::now();
                read.push(told(from.partition(), record));
            }
        }
        if progress.elapsed() > PATIENCE {
            return Err(format!("{} of {} records came", read.len(), job.count).into());
        }
    }
    task::write_lines(&job.out, &read)
}

/// A client of one partition; a topic that is not known yet is waited for.
pub async fn partition_client(client: &Client, topic: &str, partition: i32) -> Result<PartitionClient> {
    patiently("find the leader", client.partition_client(topic, partition, UnknownTopicHandling::Retry)).await
}

fn compression(codec: &str) -> Result<Compression> {
    match codec {
        "none" => Ok(Compression::NoCompression),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        other => Err(format!("no such codec: {other}").into()),
    }
}

/// The record as this client knows records. What it would lose on the way is refused.
fn expressed(record: Record) -> Result<rskafka::record::Record> {
    let names: Vec<&String> = record.headers.iter().map(|(name, _)| name).collect();
    if !names.is_sorted_by(|one, next| one < next) {
        return Err(format!("rskafka keeps headers as a map and would change these: {names:?}").into());
    }
    let with_value = |(name, value): (String, Option<Octets>)| {
        let value = value.ok_or_else(|| format!("rskafka has no headers without a value: {name}"))?;
        Ok((name, value.0))
    };
    Ok(rskafka::record::Record {
        key: record.key.map(|octets| octets.0),
        value: record.value.map(|octets| octets.0),
        headers: record.headers.into_iter().map(with_value).collect::<Result<_>>()?,
        timestamp: DateTime::from_timestamp_millis(record.timestamp).ok_or("a timestamp beyond chrono's range")?,
    })
}

fn told(partition: i32, read: RecordAndOffset) -> Record {
    let headers = read.record.headers.into_iter().map(|(name, value)| (name, Some(Octets(value)))).collect();
    Record {
        partition,
        offset: Some(read.offset),
        timestamp: read.record.timestamp.timestamp_millis(),
        key: read.record.key.map(Octets),
        value: read.record.value.map(Octets),
        headers,
    }
}

fn batches(records: Vec<(usize, rskafka::record::Record)>) -> Vec<Vec<(usize, rskafka::record::Record)>> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (index, record) in records {
        let more = record.approximate_size();
        if !batch.is_empty() && (bytes + more > BATCH_BYTES_MAX || batch.len() == BATCH_RECORDS_MAX) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += more;
        batch.push((index, record));
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

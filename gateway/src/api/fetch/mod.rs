//! Fetch, versions 4 to 12: waits for `min_bytes` up to `max_wait_ms`, then answers with what is there.
//!
//! - The first batch of the answer is whole, whatever the limits (KIP-74); an offset inside a batch returns the batch.
//! - Sessions (KIP-227) are not kept: the answer's session id is 0, and clients go on without.
//! - A node that is behind never says that an offset is out of range; see [`Refusal::GatewayBehind`].
//! - Permission is checked for every batch at every fetch: a revocation takes effect at once.

mod encode;

use crate::api::Context;
use crate::batch::{Codec, Header, Stamped};
use crate::broker::{Broker, Partition};
use crate::connection::ConnectionError;
use crate::deliver;
use crate::error::Refusal;
use crate::response::Response;
use crate::server::stopped;
use encode::{FetchedPartition, FetchedTopic};
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use waybill_consensus::replica::Progress;
use waybill_ledger::contract::may_read;
use waybill_ledger::partition::ReadError;

/// Stands for "no session" (KIP-227).
const NO_SESSION: i32 = 0;
/// Asks for a new session, which we answer without giving one; -1 wants none. What is higher goes on with one.
const FIRST_SESSION_EPOCH: i32 = 0;
/// The first version whose clients know zstd.
const ZSTD_SINCE: i16 = 10;
/// The longest a fetch waits for new batches.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How long a fetch may wait for a payload from another organisation beyond the client's own limit, so that a client
/// that waits for nothing gets something.
const PULL_WAIT_MIN: Duration = Duration::from_millis(500);
/// The most that one response carries, whatever the client asks for.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Waits and answers.
pub async fn handle(
    broker: &Arc<Broker>,
    context: &Context,
    request: FetchRequest,
    mut stop: watch::Receiver<bool>,
) -> Result<Response, ConnectionError> {
    if request.session_id != NO_SESSION || request.session_epoch > FIRST_SESSION_EPOCH {
        return Ok(encode::refused(context, Refusal::FetchSessionUnknown));
    }
    let started = Instant::now();
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = started + wait;
    // Nobody waits for more than the answer may carry, as in Kafka.
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max(&request));
    loop {
        // Subscribed before the look, so that nothing that comes between look and wait is missed.
        let mut topics = broker.consensus.system_changed();
        let mut progress = subscriptions(broker, &request);
        let last = Instant::now() >= deadline || *stop.borrow();
        if last || is_worth_reading(broker, &request, min_bytes) {
            let answer = look(broker, context.version, &request, deadline.max(started + PULL_WAIT_MIN)).await;
            let asked_for_none = answer.topics.iter().all(|topic| topic.partitions.is_empty());
            if last || asked_for_none || answer.bytes >= min_bytes || answer.refused || Instant::now() >= deadline {
                return Ok(encode::response(context, answer.topics));
            }
        }
        let mut changes: FuturesUnordered<_> = progress.iter_mut().map(next_change).collect();
        tokio::select! {
            Some(()) = changes.next(), if !changes.is_empty() => {}
            // A topic that is deleted meanwhile is to be told of at once.
            Ok(()) = topics.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

/// The most that the answer may carry.
fn bytes_max(request: &FetchRequest) -> usize {
    usize::try_from(request.max_bytes).unwrap_or(0).min(RESPONSE_BYTES_MAX)
}

struct Answer {
    topics: Vec<FetchedTopic>,
    bytes: usize,
    refused: bool,
}

fn subscriptions(broker: &Broker, request: &FetchRequest) -> Vec<watch::Receiver<Progress>> {
    let partitions = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().filter_map(|partition| broker.partition(&topic.topic, partition.partition).ok())
    });
    let subscribe = |partition: Partition| {
        let mut progress = partition.replica.progress();
        // What happened before is seen by the look; else the wait would end at once, every time.
        progress.mark_unchanged();
        progress
    };
    partitions.map(subscribe).collect()
}

/// A replica that has stopped has nothing new, now or ever.
async fn next_change(progress: &mut watch::Receiver<Progress>) {
    if progress.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Whether the ledgers say that there is enough to answer with, or something to refuse: payloads are not read for less.
fn is_worth_reading(broker: &Broker, request: &FetchRequest, min_bytes: usize) -> bool {
    if request.topics.iter().all(|topic| topic.partitions.is_empty()) {
        return true;
    }
    let mut bytes = 0;
    for topic in &request.topics {
        for wanted in &topic.partitions {
            let Ok(partition) = broker.partition(&topic.topic, wanted.partition) else { return true };
            if bytes >= min_bytes || check(broker, &partition, wanted).is_err() {
                return true;
            }
            let limit = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(min_bytes - bytes);
            match bytes_from(&partition, wanted.fetch_offset, limit) {
                Ok(found) => bytes += found,
                Err(_) => return true,
            }
        }
    }
    bytes >= min_bytes
}

/// The bytes that a partition has from an offset on, counted until there are `enough`, but at least one batch.
fn bytes_from(partition: &Partition, offset: i64, enough: usize) -> Result<usize, ReadError> {
    const ENTRIES_AT_ONCE: usize = 64;
    let reader = &partition.replica.reader;
    let (mut bytes, mut next) = (0, offset);
    while next < reader.high_watermark() {
        let entries = reader.entries(next, ENTRIES_AT_ONCE)?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            bytes += entry.send.size_bytes as usize;
            if bytes >= enough {
                return Ok(bytes);
            }
            next = entry.last_offset() + 1;
        }
    }
    Ok(bytes)
}

async fn look(broker: &Broker, version: i16, request: &FetchRequest, deadline: Instant) -> Answer {
    let mut answer = Answer { topics: Vec::with_capacity(request.topics.len()), bytes: 0, refused: false };
    let bytes_max = bytes_max(request);
    for topic in &request.topics {
        let mut fetched = FetchedTopic { name: topic.topic.clone(), partitions: Vec::new() };
        for wanted in &topic.partitions {
            let left = bytes_max.saturating_sub(answer.bytes);
            let first_whole = answer.bytes == 0;
            let mut partition = match broker.partition(&topic.topic, wanted.partition) {
                Ok(partition) => fetch(broker, &partition, wanted, left, first_whole, deadline).await,
                Err(refusal) => FetchedPartition::refused(wanted.partition, refusal),
            };
            if version < ZSTD_SINCE {
                stop_before_zstd(&mut partition);
            }
            answer.bytes += partition.batches.iter().map(Stamped::size_bytes).sum::<usize>();
            answer.refused |= partition.refusal.is_some();
            fetched.partitions.push(partition);
        }
        answer.topics.push(fetched);
    }
    answer
}

async fn fetch(
    broker: &Broker,
    partition: &Partition,
    wanted: &FetchPartition,
    bytes_left: usize,
    first_whole: bool,
    deadline: Instant,
) -> FetchedPartition {
    let reader = &partition.replica.reader;
    let mut fetched = FetchedPartition {
        index: wanted.partition,
        refusal: None,
        high_watermark: reader.high_watermark(),
        log_start_offset: reader.log_start_offset(),
        batches: Vec::new(),
    };
    if let Err(refusal) = check(broker, partition, wanted) {
        fetched.refusal = Some(refusal);
        return fetched;
    }
    let bytes_max = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(bytes_left);
    match deliver::read(broker, partition, wanted.fetch_offset, bytes_max, first_whole, deadline).await {
        Ok(batches) => fetched.batches = batches,
        // Nothing is wrong with the request: the consumer asks again, and meanwhile gets other partitions' data.
        Err(Refusal::PayloadUnreachable) => {}
        Err(refusal) => fetched.refusal = Some(refusal),
    }
    fetched
}

/// A client of an old version cannot decompress zstd and would take it for damage (KIP-110).
fn stop_before_zstd(fetched: &mut FetchedPartition) {
    let is_zstd = |batch: &Stamped| {
        let [header, _] = batch.chunks();
        Header::read(header).and_then(|header| header.codec()) == Ok(Codec::Zstd)
    };
    let Some(first) = fetched.batches.iter().position(is_zstd) else { return };
    fetched.batches.truncate(first);
    if first == 0 {
        fetched.refusal = Some(Refusal::UnsupportedCompression);
    }
}

fn check(broker: &Broker, partition: &Partition, wanted: &FetchPartition) -> Result<(), Refusal> {
    let reader = &partition.replica.reader;
    let config = partition.config()?;
    if !may_read(&config, &broker.org) || broker.connector.is_none() {
        return Err(Refusal::TopicDenied);
    }
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    if wanted.fetch_offset < reader.log_start_offset() {
        return Err(Refusal::OffsetOutOfRange);
    }
    if wanted.fetch_offset > reader.high_watermark() {
        return Err(if broker.is_settled() { Refusal::OffsetOutOfRange } else { Refusal::GatewayBehind });
    }
    Ok(())
}

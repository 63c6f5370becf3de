//! Fetch, versions 4 to 12: waits for `min_bytes` up to `max_wait_ms`, then answers with what is there.
//!
//! - The first batch of the answer is whole, whatever the limits (KIP-74); an offset inside a batch returns the batch.
//! - Sessions (KIP-227) are not kept: the answer's session id is 0, and clients go on without.
//! - A node that is behind never says that an offset is out of range; see [`Refusal::GatewayBehind`].
//! - Permission is checked for every batch at every fetch: a revocation takes effect at once.

mod encode;

use crate::api::Context;
use crate::batch::Stamped;
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
    if request.session_id != 0 {
        return Ok(encode::refused(context, Refusal::FetchSessionUnknown));
    }
    let started = Instant::now();
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = started + wait;
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    loop {
        // Subscribed before the look, so that nothing that comes between look and wait is missed.
        let mut progress = subscriptions(broker, &request);
        let answer = look(broker, &request, deadline.max(started + PULL_WAIT_MIN)).await;
        if answer.bytes >= min_bytes.max(1) || answer.refused || Instant::now() >= deadline {
            return Ok(encode::response(context, answer.topics));
        }
        let mut changes: FuturesUnordered<_> = progress.iter_mut().map(|progress| progress.changed()).collect();
        tokio::select! {
            Some(_) = changes.next(), if !changes.is_empty() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = stopped(&mut stop) => return Ok(encode::response(context, answer.topics)),
        }
    }
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
    partitions.map(|partition| partition.replica.progress()).collect()
}

async fn look(broker: &Broker, request: &FetchRequest, deadline: Instant) -> Answer {
    let mut answer = Answer { topics: Vec::with_capacity(request.topics.len()), bytes: 0, refused: false };
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(RESPONSE_BYTES_MAX);
    for topic in &request.topics {
        let mut fetched = FetchedTopic { name: topic.topic.clone(), partitions: Vec::new() };
        for wanted in &topic.partitions {
            let left = bytes_max.saturating_sub(answer.bytes);
            let first_whole = answer.bytes == 0;
            let partition = match broker.partition(&topic.topic, wanted.partition) {
                Ok(partition) => fetch(broker, &partition, wanted, left, first_whole, deadline).await,
                Err(refusal) => FetchedPartition::refused(wanted.partition, refusal),
            };
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

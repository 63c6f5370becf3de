//! Fetch, versions 4 to 12: waits for `min_bytes` up to `max_wait_ms`, then answers with what is there.
//!
//! - The first batch of the answer is whole, whatever the limits (KIP-74); an offset inside a batch returns the batch.
//! - Sessions (KIP-227) are not kept: the answer's session id is 0, and clients go on without.
//! - A node that is behind never says that an offset is out of range; see [`Refusal::GatewayBehind`].
//! - Permission is checked for every batch at every fetch: a revocation takes effect at once.

mod encode;
mod plan;

use crate::api::Context;
use crate::batch::Stamped;
use crate::broker::{Broker, Partition};
use crate::connection::ConnectionError;
use crate::deliver;
use crate::error::Refusal;
use crate::response::Response;
use crate::server::stopped;
use encode::{FetchedPartition, FetchedTopic};
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use kafka_protocol::messages::FetchRequest;
use plan::{Plan, PlannedPartition};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use waybill_consensus::replica::Progress;

/// Asks for a new session (KIP-227), whatever id it names, which we answer without giving one; -1 wants none. What is higher
/// goes on with one.
const FIRST_SESSION_EPOCH: i32 = 0;
/// The first version whose clients are sure to know zstd.
const ZSTD_SINCE: i16 = 10;
/// The longest a fetch waits for new batches.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How long a fetch may wait for a payload from another organisation beyond the client's own limit, so that a client
/// that waits for nothing gets something.
const PULL_WAIT_MIN: Duration = Duration::from_millis(500);
/// Partitions of one fetch that are read at a time: those whose senders do not answer hold up only so many others.
const READ_AT_ONCE: usize = 16;

/// Waits and answers.
pub async fn handle(
    broker: &Arc<Broker>,
    context: &Context,
    request: FetchRequest,
    mut stop: watch::Receiver<bool>,
) -> Result<Response, ConnectionError> {
    if request.session_epoch > FIRST_SESSION_EPOCH {
        return Ok(encode::refused(context, Refusal::FetchSessionUnknown));
    }
    let started = Instant::now();
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = started + wait;
    // Nobody waits for more than the answer may carry, as in Kafka.
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(plan::bytes_max(&request));
    loop {
        // Subscribed before the look, so that nothing that comes between look and wait is missed.
        let mut topics = broker.consensus.system_changed();
        let mut progress = subscriptions(broker, &request);
        let plan = Plan::make(broker, &request);
        let at_once = plan.is_empty() || plan.refused || *stop.borrow();
        if at_once || plan.bytes >= min_bytes || Instant::now() >= deadline {
            let answer = read(broker, context.version, plan, deadline.max(started + PULL_WAIT_MIN)).await;
            if at_once || answer.bytes >= min_bytes || answer.refused || Instant::now() >= deadline {
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

/// A replica that has stopped has nothing new, now or ever.
async fn next_change(progress: &mut watch::Receiver<Progress>) {
    if progress.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Reads the payloads of a plan, several partitions at a time.
async fn read(broker: &Broker, version: i16, plan: Plan, deadline: Instant) -> Answer {
    let mut answer = Answer { topics: Vec::with_capacity(plan.topics.len()), bytes: 0, refused: false };
    let (names, partitions): (Vec<_>, Vec<_>) =
        plan.topics.into_iter().map(|topic| ((topic.name, topic.partitions.len()), topic.partitions)).unzip();
    let reading = partitions.into_iter().flatten().map(|planned| read_partition(broker, version, planned, deadline));
    let mut fetched = stream::iter(reading).buffered(READ_AT_ONCE);
    for (name, count) in names {
        let mut topic = FetchedTopic { name, partitions: Vec::with_capacity(count) };
        while topic.partitions.len() < count {
            let Some(partition) = fetched.next().await else { break };
            answer.bytes += partition.batches.iter().map(Stamped::size_bytes).sum::<usize>();
            answer.refused |= partition.refusal.is_some_and(|refusal| !plan::may_pass(refusal));
            topic.partitions.push(partition);
        }
        answer.topics.push(topic);
    }
    answer
}

async fn read_partition(
    broker: &Broker,
    version: i16,
    planned: PlannedPartition,
    deadline: Instant,
) -> FetchedPartition {
    let found = match planned.found {
        Ok(found) => found,
        Err(refusal) => return FetchedPartition::refused(planned.index, refusal),
    };
    if version < ZSTD_SINCE && is_zstd(&found.partition) {
        return FetchedPartition::refused(planned.index, Refusal::UnsupportedCompression);
    }
    let mut fetched = FetchedPartition {
        index: planned.index,
        refusal: None,
        high_watermark: found.high_watermark,
        log_start_offset: found.log_start_offset,
        batches: Vec::new(),
    };
    if found.bytes == 0 {
        return fetched;
    }
    match deliver::read(broker, &found.partition, planned.offset, found.bytes, false, deadline).await {
        Ok(batches) => fetched.batches = batches,
        // Nothing is wrong with the request: the consumer asks again, and meanwhile gets other partitions' data.
        Err(Refusal::PayloadUnreachable) => {}
        Err(refusal) => fetched.refusal = Some(refusal),
    }
    fetched
}

/// Whether the topic says that its batches are zstd's, of which clients of old versions know nothing (KIP-110). As in
/// Kafka the setting counts, and no batch is looked at: some clients know zstd and fetch with version 4 (rskafka).
fn is_zstd(partition: &Partition) -> bool {
    partition.topic.settings.iter().any(|(name, value)| name == "compression.type" && value == "zstd")
}

//! What a fetch's answer is to hold, as far as this node's ledgers say: they know every batch's size. Payloads are read
//! only for a plan that is worth it, and no partition then waits for another's.

use crate::broker::{Broker, Partition};
use crate::error::Refusal;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{FetchRequest, TopicName};
use waybill_ledger::contract::may_read;

/// The most that one response carries, whatever the client asks for.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// How many entries are looked up at a time.
const ENTRIES_AT_ONCE: usize = 64;

/// The plan of one answer.
pub(super) struct Plan {
    pub(super) topics: Vec<PlannedTopic>,
    /// All batches of the answer together.
    pub(super) bytes: usize,
    /// Whether a partition is refused for good: that is to be told at once.
    pub(super) refused: bool,
}

pub(super) struct PlannedTopic {
    pub(super) name: TopicName,
    pub(super) partitions: Vec<PlannedPartition>,
}

/// A partition that may be read, or why it may not.
pub(super) struct PlannedPartition {
    pub(super) index: i32,
    pub(super) offset: i64,
    pub(super) found: Result<Found, Refusal>,
}

pub(super) struct Found {
    pub(super) partition: Partition,
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
    /// The batches from the offset on that fit: all of them whole.
    pub(super) bytes: usize,
}

/// The most that the answer may carry, but for a first batch that is larger.
pub(super) fn bytes_max(request: &FetchRequest) -> usize {
    limit(request.max_bytes).min(RESPONSE_BYTES_MAX)
}

impl Plan {
    /// Goes through the partitions in the client's order until the answer is full.
    pub(super) fn make(broker: &Broker, request: &FetchRequest) -> Self {
        let mut plan = Plan { topics: Vec::with_capacity(request.topics.len()), bytes: 0, refused: false };
        let bytes_max = bytes_max(request);
        for topic in &request.topics {
            let partitions = topic.partitions.iter().map(|wanted| {
                let left = limit(wanted.partition_max_bytes).min(bytes_max.saturating_sub(plan.bytes));
                let found = broker
                    .partition(&topic.topic, wanted.partition)
                    .and_then(|partition| find(broker, partition, wanted, left, plan.bytes == 0));
                match &found {
                    Ok(found) => plan.bytes += found.bytes,
                    Err(refusal) => plan.refused |= !may_pass(*refusal),
                }
                PlannedPartition { index: wanted.partition, offset: wanted.fetch_offset, found }
            });
            let partitions = partitions.collect();
            plan.topics.push(PlannedTopic { name: topic.topic.clone(), partitions });
        }
        plan
    }

    /// Whether no partition was asked for at all.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.iter().all(|topic| topic.partitions.is_empty())
    }
}

/// Whether waiting may help. The client is told when its time is up, not before: it would ask again at once.
pub(super) fn may_pass(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::GatewayBehind | Refusal::PayloadDamaged | Refusal::StoreUnavailable)
}

/// A client's limit; a negative one is none at all.
fn limit(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn find(
    broker: &Broker,
    partition: Partition,
    wanted: &FetchPartition,
    bytes_max: usize,
    first_whole: bool,
) -> Result<Found, Refusal> {
    let config = partition.config()?;
    if !may_read(&config, &broker.org) || broker.connector.is_none() {
        return Err(Refusal::TopicDenied);
    }
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    let reader = &partition.replica.reader;
    let (log_start_offset, high_watermark) = (reader.log_start_offset(), reader.high_watermark());
    if wanted.fetch_offset < log_start_offset {
        return Err(Refusal::OffsetOutOfRange);
    }
    if wanted.fetch_offset > high_watermark {
        return Err(if broker.is_settled() { Refusal::OffsetOutOfRange } else { Refusal::GatewayBehind });
    }
    let bytes = fitting(&partition, wanted.fetch_offset..high_watermark, bytes_max, first_whole)?;
    Ok(Found { partition, high_watermark, log_start_offset, bytes })
}

/// The bytes of the batches from an offset on that fit; the first one fits by decree if `first_whole` says so.
fn fitting(
    partition: &Partition,
    offsets: std::ops::Range<i64>,
    bytes_max: usize,
    first_whole: bool,
) -> Result<usize, Refusal> {
    let (mut bytes, mut next) = (0, offsets.start);
    while next < offsets.end {
        let entries = partition.replica.reader.entries(next, ENTRIES_AT_ONCE).map_err(|error| {
            tracing::error!(%error, "the ledger cannot be read");
            Refusal::Internal
        })?;
        let Some(last) = entries.last() else { break };
        next = last.last_offset() + 1;
        for entry in entries.iter().take_while(|entry| entry.base_offset < offsets.end) {
            let with_this = bytes + entry.send.size_bytes as usize;
            let decreed = bytes == 0 && first_whole;
            if with_this > bytes_max && !decreed {
                return Ok(bytes);
            }
            bytes = with_this;
        }
    }
    Ok(bytes)
}

//! ListOffsets, versions 1 to 8: the first offset (-2), the next (-1), that of the largest timestamp (-3), or the first
//! *record* at or after a time. The ledger knows each batch's largest timestamp; inside the batch the records are read.

use crate::api::{Context, records};
use crate::batch::{self, Found};
use crate::broker::{Broker, Partition};
use crate::deliver;
use crate::error::Refusal;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waybill_ledger::contract::{may_read, may_write};
use waybill_ledger::partition::Entry;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The first offset that is on this node's disk: for us the earliest.
const EARLIEST_LOCAL: i64 = -4;

/// How long the payloads of one request may take in which timestamps are looked for.
const PAYLOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The first version whose answer has a leader epoch; before it `kafka-protocol` refuses to encode one.
const LEADER_EPOCH_SINCE: i16 = 4;

/// Answers for each partition.
pub async fn handle(broker: &Broker, context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let deadline = Instant::now() + PAYLOAD_TIMEOUT;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let found = match broker.partition(&topic.name, wanted.partition_index) {
                Ok(partition) => find(broker, context, &partition, wanted, deadline).await,
                Err(refusal) => Err(refusal),
            };
            let response = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            partitions.push(match found {
                Ok((offset, timestamp, epoch)) => {
                    let epoch = if context.version >= LEADER_EPOCH_SINCE { epoch } else { -1 };
                    response.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
                }
                Err(refusal) => response.with_error_code(refusal.code()).with_offset(-1).with_timestamp(-1),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Offset, timestamp (-1 where none was asked for) and leader epoch.
async fn find(
    broker: &Broker,
    context: &Context,
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    deadline: Instant,
) -> Result<(i64, i64, i32), Refusal> {
    let reader = &partition.replica.reader;
    let epoch = partition.leader_epoch();
    let config = partition.config()?;
    // Who may only write learns of the log's ends, but nothing of what is in it.
    let of_content = !matches!(wanted.timestamp, LATEST | EARLIEST | EARLIEST_LOCAL);
    if !may_read(&config, &broker.org) && (of_content || !may_write(&config, &broker.org)) {
        return Err(Refusal::TopicDenied);
    }
    if !is_known(wanted.timestamp, context.version) {
        return Err(Refusal::UnsupportedVersion);
    }
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    let by_time = |timestamp| {
        reader.entry_for_timestamp(timestamp).map_err(|error| {
            tracing::error!(%error, "the ledger cannot be read");
            Refusal::Internal
        })
    };
    match wanted.timestamp {
        LATEST => Ok((reader.high_watermark(), -1, epoch)),
        EARLIEST | EARLIEST_LOCAL => Ok((reader.log_start_offset(), -1, epoch)),
        MAX_TIMESTAMP => {
            let Some(timestamp) = reader.max_timestamp_ms() else { return Ok((-1, -1, -1)) };
            let Some(entry) = by_time(timestamp)? else { return Ok((-1, -1, -1)) };
            locate(broker, partition, &entry, timestamp, deadline).await
        }
        timestamp => match by_time(timestamp)? {
            Some(entry) => locate(broker, partition, &entry, timestamp, deadline).await,
            None => Ok((-1, -1, -1)),
        },
    }
}

/// Negative timestamps have a meaning each, and came one after the other.
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        0.. | LATEST | EARLIEST => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        _ => false,
    }
}

/// The first record of the batch at or after the time.
async fn locate(
    broker: &Broker,
    partition: &Partition,
    entry: &Arc<Entry>,
    timestamp_ms: i64,
    deadline: Instant,
) -> Result<(i64, i64, i32), Refusal> {
    let epoch = partition.leader_epoch();
    if entry.log_append_time {
        return Ok((entry.base_offset, entry.max_timestamp_ms(), epoch));
    }
    let batch = deliver::payload(broker, partition, entry, deadline).await?;
    match records::look_into(&batch, move |batch| batch::first_at_or_after(batch, timestamp_ms)).await? {
        Ok(Some(Found { offset_delta, timestamp_ms })) => {
            Ok((entry.base_offset + i64::from(offset_delta), timestamp_ms, epoch))
        }
        // The header claims a later time than any record has: the batch's end is the closest truth.
        Ok(None) => Ok((entry.last_offset(), entry.max_timestamp_ms(), epoch)),
        Err(error) => {
            tracing::warn!(ledger = %entry.ledger, offset = entry.base_offset, %error, "records cannot be read");
            Ok((entry.base_offset, entry.max_timestamp_ms(), epoch))
        }
    }
}

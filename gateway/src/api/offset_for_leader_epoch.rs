//! OffsetForLeaderEpoch, versions 2 to 4 (KIP-320): where an epoch ends, by which a consumer notices a log that was cut.
//!
//! What PBFT has ordered is never cut, and until partitions are reconfigured each has one epoch, that of its first
//! replicas: it begins at the first offset and ends at the high watermark.

use crate::broker::{Broker, Partition};
use crate::error::Refusal;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use std::cmp::Ordering;

/// Kafka's "no such epoch", and its end.
const UNDEFINED: (i32, i64) = (-1, -1);

/// Answers for each partition.
pub fn handle(broker: &Broker, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = broker
                .partition(&topic.topic, wanted.partition)
                .and_then(|partition| end_of_epoch(broker, &partition, wanted));
            let (refusal, (epoch, end_offset)) = match found {
                Ok(found) => (None, found),
                Err(refusal) => (Some(refusal), UNDEFINED),
            };
            EpochEndOffset::default()
                .with_partition(wanted.partition)
                .with_error_code(refusal.map_or(0, Refusal::code))
                .with_leader_epoch(epoch)
                .with_end_offset(end_offset)
        });
        OffsetForLeaderTopicResult::default().with_partitions(partitions.collect()).with_topic(topic.topic)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn end_of_epoch(
    broker: &Broker,
    partition: &Partition,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), Refusal> {
    if !broker.may_see(&partition.topic) {
        return Err(Refusal::TopicDenied);
    }
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    let reader = &partition.replica.reader;
    Ok(match wanted.leader_epoch.cmp(&partition.leader_epoch()) {
        _ if wanted.leader_epoch < 0 => UNDEFINED,
        // From before the first epoch: it ended where the first began.
        Ordering::Less => (wanted.leader_epoch, reader.log_start_offset()),
        Ordering::Equal => (wanted.leader_epoch, reader.high_watermark()),
        Ordering::Greater => UNDEFINED,
    })
}

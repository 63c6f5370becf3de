//! OffsetCommit 2 to 8 and OffsetFetch 1 to 8: stored in the organisation's own ledger, answered when its nodes have it.
//! What was passed then goes on the partitions' ledgers as `Commit`, batched ([`crate::commits`]).

use crate::api::groups::code;
use crate::api::{Context, operations};
use crate::broker::Broker;
use crate::coordinator::NO_TOKEN;
use crate::error::Refusal;
use crate::group::{Commit, Identity};
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use waybill_ledger::contract::Topic;
use waybill_ledger::organisation::{
    Answer, Command, CommitOffsets, CommittedOffset, OFFSET_METADATA_BYTES_MAX, OffsetCommit, OffsetOutcome,
};

/// Where an entry of the request stands in the command, or why it is not in it.
type Placed = (i32, Result<usize, Refusal>);

/// Stores a group's positions.
pub async fn commit(broker: &Broker, context: &Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let identity = Identity {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
        generation: request.generation_id_or_member_epoch,
    };
    let refused = |code: i16| {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    };
    match broker.groups.may_commit(&request.group_id, Commit { token: NO_TOKEN, identity }).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return refused(code(error)),
        Err(refusal) => return refused(refusal.code()),
    }
    tracing::trace!(group = %request.group_id.0, client = %context.client_id, "offsets committed");
    let (entries, placed) = entries(broker, &request.topics);
    let command = CommitOffsets { group: request.group_id.to_string(), entries: entries.clone() };
    let outcomes = if entries.is_empty() { Ok(Vec::new()) } else { store(broker, command).await };
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(refusal) => return refused(refusal.code()),
    };
    for (entry, outcome) in entries.iter().zip(&outcomes) {
        // A negative offset forgets the position: nothing was passed.
        if *outcome == OffsetOutcome::Committed && entry.committed.offset >= 0 {
            broker.commits.passed(&request.group_id, entry.topic, entry.partition, entry.committed.offset);
        }
    }
    let topics = request.topics.iter().zip(placed).map(|(topic, placed)| {
        let partitions = placed.into_iter().map(|(index, place)| {
            let outcome = place.and_then(|place| outcomes.get(place).map_or(Err(Refusal::Internal), refusal_of));
            let code = outcome.err().map_or(0, Refusal::code);
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn entries(broker: &Broker, topics: &[OffsetCommitRequestTopic]) -> (Vec<OffsetCommit>, Vec<Vec<Placed>>) {
    let system = broker.system();
    let now_ms = broker.consensus.clock().now_ms() as i64;
    let mut entries = Vec::new();
    let mut placed = Vec::new();
    for topic in topics {
        let known = system.topic_named(&topic.name);
        let mut places = Vec::new();
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let metadata = partition.committed_metadata.as_ref().map(|text| text.to_string()).unwrap_or_default();
            let place = match known.filter(|topic| exists(topic, index)) {
                None => Err(Refusal::UnknownTopicOrPartition),
                Some(topic) if !operations::may_read(broker, topic) => Err(Refusal::TopicDenied),
                Some(_) if metadata.len() > OFFSET_METADATA_BYTES_MAX => Err(Refusal::OffsetMetadataTooLarge),
                Some(topic) => {
                    let committed = CommittedOffset {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata,
                        time_ms: now_ms,
                    };
                    entries.push(OffsetCommit { topic: topic.id, partition: index as u32, committed });
                    Ok(entries.len() - 1)
                }
            };
            places.push((index, place));
        }
        placed.push(places);
    }
    (entries, placed)
}

fn exists(topic: &Arc<Topic>, index: i32) -> bool {
    usize::try_from(index).is_ok_and(|index| index < topic.partitions.len())
}

async fn store(broker: &Broker, command: CommitOffsets) -> Result<Vec<OffsetOutcome>, Refusal> {
    let group = command.group.clone();
    match broker.write_organisation(Command::CommitOffsets(command)).await? {
        Answer::OffsetsCommitted(outcomes) => Ok(outcomes),
        other => {
            tracing::error!(group, answer = ?other, "the organisation's ledger refuses offsets");
            Err(Refusal::CoordinatorUnavailable)
        }
    }
}

fn refusal_of(outcome: &OffsetOutcome) -> Result<(), Refusal> {
    match outcome {
        OffsetOutcome::Committed => Ok(()),
        OffsetOutcome::MetadataTooLarge => Err(Refusal::OffsetMetadataTooLarge),
        other => {
            tracing::warn!(?other, "an offset was not taken");
            Err(Refusal::InvalidRequest)
        }
    }
}

/// One partition's stored position, as both forms of the answer need it.
struct Position {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
}

/// Reads a group's positions. What was never committed is offset -1 without an error, also for an unknown group.
///
/// After a start that would be a lie until all is here, and consumers would begin anew: they are told to ask again.
pub async fn fetch(broker: &Broker, context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    match broker.groups.loaded().await {
        Ok(()) => stored(broker, context, request),
        Err(refusal) => not_loaded(context.version, request, refusal.code()),
    }
}

/// The error stands where the version has room for it: with each partition, with the whole, with each group.
fn not_loaded(version: i16, request: OffsetFetchRequest, code: i16) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    if version >= 8 {
        let groups = request.groups.into_iter();
        let groups =
            groups.map(|group| OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(code));
        return response.with_groups(groups.collect());
    }
    if version >= 2 {
        return response.with_error_code(code);
    }
    let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
        let partitions = topic.partition_indexes.into_iter().map(|index| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(-1)
                .with_error_code(code)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

fn stored(broker: &Broker, context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if context.version < 8 {
        let wanted = request
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect::<Vec<_>>());
        let topics = positions(broker, &request.group_id, wanted).into_iter().map(|(name, positions)| {
            let partitions = positions.into_iter().map(|position| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(position.index)
                    .with_committed_offset(position.offset)
                    .with_committed_leader_epoch(position.leader_epoch)
                    .with_metadata(Some(position.metadata))
            });
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.into_iter().map(|group| {
        let wanted = group
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect::<Vec<_>>());
        let topics = positions(broker, &group.group_id, wanted).into_iter().map(|(name, positions)| {
            let partitions = positions.into_iter().map(|position| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(position.index)
                    .with_committed_offset(position.offset)
                    .with_committed_leader_epoch(position.leader_epoch)
                    .with_metadata(Some(position.metadata))
            });
            OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
        });
        OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics.collect())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

fn positions(
    broker: &Broker,
    group: &GroupId,
    wanted: Option<Vec<(TopicName, Vec<i32>)>>,
) -> Vec<(TopicName, Vec<Position>)> {
    let system = broker.system();
    let ledger = broker.consensus.organisation();
    let position = |index: i32, committed: Option<CommittedOffset>| match committed {
        Some(committed) => Position {
            index,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: StrBytes::from_string(committed.metadata),
        },
        None => Position { index, offset: -1, leader_epoch: -1, metadata: StrBytes::default() },
    };
    if let Some(wanted) = wanted {
        let read = |(name, indexes): (TopicName, Vec<i32>)| {
            let topic = system.topic_named(&name);
            let committed = |index: i32| {
                let partition = u32::try_from(index).ok()?;
                ledger.committed(group, topic?.id, partition)
            };
            let positions = indexes.into_iter().map(|index| position(index, committed(index))).collect();
            (name, positions)
        };
        return wanted.into_iter().map(read).collect();
    }
    let mut topics: Vec<(TopicName, Vec<Position>)> = Vec::new();
    for (id, partition, committed) in ledger.committed_all(group) {
        let Some(topic) = system.topic(id) else { continue };
        let position = position(partition as i32, Some(committed));
        match topics.last_mut() {
            Some((name, positions)) if **name == *topic.name => positions.push(position),
            _ => topics.push((TopicName(StrBytes::from_string(topic.name.clone())), vec![position])),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
    use kafka_protocol::protocol::Encodable;

    #[test]
    fn an_answer_before_groups_are_loaded_is_an_error_in_every_version_and_never_no_offset() {
        let code = Refusal::CoordinatorLoading.code();
        let topic = OffsetFetchRequestTopic::default().with_partition_indexes(vec![0, 1]);
        for version in 1..=8 {
            let request = if version < 8 {
                OffsetFetchRequest::default().with_topics(Some(vec![topic.clone()]))
            } else {
                OffsetFetchRequest::default().with_groups(vec![OffsetFetchRequestGroup::default()])
            };
            let response = not_loaded(version, request, code);
            let of_partitions = response.topics.iter().flat_map(|topic| topic.partitions.iter());
            let codes: Vec<i16> = match version {
                1 => of_partitions.map(|partition| partition.error_code).collect(),
                2..8 => vec![response.error_code],
                _ => response.groups.iter().map(|group| group.error_code).collect(),
            };
            assert!(!codes.is_empty() && codes.iter().all(|found| *found == code), "version {version}: {codes:?}");
            response.encode(&mut BytesMut::new(), version).expect("it can be said in this version");
        }
    }
}

//! OffsetDelete, version 0 (KIP-496): a group without members forgets its positions in some partitions.
//!
//! Kafka lets a consumer group with members forget topics that none of them subscribes to. What members say about
//! themselves is opaque here, so a group has to be empty.

use crate::broker::Broker;
use crate::error::Refusal;
use crate::group::GroupError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use waybill_ledger::organisation::{Answer, Command, DeleteOffsets};
use waybill_types::TopicId;

/// Deletes the positions together.
pub async fn handle(broker: &Broker, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut partitions = Vec::new();
    let system = broker.system();
    let topics = request.topics.into_iter().map(|topic| {
        let known = system.topic_named(&topic.name);
        let answers = topic.partitions.iter().map(|wanted| {
            let index = u32::try_from(wanted.partition_index).ok();
            let found = known.zip(index).filter(|(topic, index)| (*index as usize) < topic.partitions.len());
            let refusal = if found.is_some() { None } else { Some(Refusal::UnknownTopicOrPartition) };
            partitions.extend(found.map(|(topic, index)| (topic.id, index)));
            OffsetDeleteResponsePartition::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(refusal.map_or(0, Refusal::code))
        });
        OffsetDeleteResponseTopic::default().with_partitions(answers.collect()).with_name(topic.name)
    });
    let topics = topics.collect();
    match delete(broker, &request.group_id, partitions).await {
        Ok(()) => OffsetDeleteResponse::default().with_topics(topics),
        Err(refusal) => OffsetDeleteResponse::default().with_error_code(refusal.code()),
    }
}

async fn delete(broker: &Broker, group: &str, partitions: Vec<(TopicId, u32)>) -> Result<(), Refusal> {
    let known = broker.groups.describe(group).await?.ok_or(Refusal::UnknownGroup)?;
    if !known.members.is_empty() {
        return Err(Refusal::Group(GroupError::NotEmpty));
    }
    let delete = DeleteOffsets { group: group.to_string(), partitions };
    match broker.write_organisation(Command::DeleteOffsets(delete)).await? {
        Answer::OffsetsDeleted(_) => Ok(()),
        other => {
            tracing::error!(group, answer = ?other, "the organisation's ledger deletes no offsets");
            Err(Refusal::CoordinatorUnavailable)
        }
    }
}

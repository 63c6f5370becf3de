//! Metadata, versions 0 to 12: the organisation's own gateways, and topics with one of them as leader (decision 9).
//!
//! A topic that does not exist is created when the client and the node's settings allow it.

use crate::api::Context;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::{self, NewTopic};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::time::Duration;
use waybill_ledger::contract::Topic;

/// How long a request waits for a topic that it creates.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);
/// "Not asked for", in the bit field of authorised operations (KIP-430).
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Answers with brokers and topics.
pub async fn handle(broker: &Broker, context: &Context, request: MetadataRequest) -> MetadataResponse {
    let node = BrokerId(broker.node.0 as i32);
    let topics = match request.topics {
        // Version 0 has no null: an empty list means all.
        None => all(broker),
        Some(wanted) if wanted.is_empty() && context.version == 0 => all(broker),
        Some(wanted) => {
            let may_create = request.allow_auto_topic_creation && broker.settings.auto_create_topics;
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                topics.push(match topic.name {
                    Some(name) if !name.is_empty() || topic.topic_id.is_nil() => named(broker, name, may_create).await,
                    _ => by_id(broker, topic.topic_id),
                });
            }
            topics
        }
    };
    MetadataResponse::default()
        .with_brokers(vec![
            MetadataResponseBroker::default()
                .with_node_id(node)
                .with_host(StrBytes::from_string(broker.settings.advertised_host.clone()))
                .with_port(i32::from(broker.settings.advertised_port)),
        ])
        .with_cluster_id(Some(StrBytes::from_string(broker.cluster_id())))
        .with_controller_id(node)
        .with_cluster_authorized_operations(OPERATIONS_NOT_ASKED)
        .with_topics(topics)
}

fn all(broker: &Broker) -> Vec<MetadataResponseTopic> {
    let system = broker.system();
    system.topics().filter(|topic| broker.may_see(topic)).map(|topic| described(broker, topic)).collect()
}

async fn named(broker: &Broker, name: TopicName, may_create: bool) -> MetadataResponseTopic {
    let known = broker.system().topic_named(&name).cloned();
    let topic = match known {
        Some(topic) => Ok(topic),
        None if may_create => topics::create(broker, NewTopic::named(&name), CREATE_TIMEOUT).await,
        None => Err(topics::check_name(&name).err().unwrap_or(topics::Failure::from(Refusal::UnknownTopicOrPartition))),
    };
    match topic {
        Ok(topic) => described(broker, &topic),
        Err(failure) => refused(failure.refusal).with_name(Some(name)),
    }
}

fn by_id(broker: &Broker, id: uuid::Uuid) -> MetadataResponseTopic {
    let system = broker.system();
    match system.topic(waybill_types::TopicId(*id.as_bytes())) {
        Some(topic) => described(broker, topic),
        None => refused(Refusal::UnknownTopicId).with_topic_id(id),
    }
}

fn refused(refusal: Refusal) -> MetadataResponseTopic {
    // A topic that is being created: clients ask again after this code, as they do with Kafka.
    let code = if refusal == Refusal::RequestTimedOut {
        kafka_protocol::error::ResponseError::LeaderNotAvailable.code()
    } else {
        refusal.code()
    };
    MetadataResponseTopic::default().with_error_code(code).with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
}

fn described(broker: &Broker, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let id = |node: &waybill_types::NodeId| BrokerId(node.0 as i32);
    let partitions = topic.partitions.iter().enumerate().map(|(index, replicas)| {
        let started = broker.partition_of(topic, index as i32).is_ok();
        let code = if started { 0 } else { kafka_protocol::error::ResponseError::LeaderNotAvailable.code() };
        // The leader must be among the replicas for clients that check it, and is our own gateway for all.
        let mut nodes: Vec<BrokerId> = replicas.iter().map(id).collect();
        let leader = id(&broker.node);
        nodes.sort_by_key(|node| *node != leader);
        MetadataResponsePartition::default()
            .with_error_code(code)
            .with_partition_index(index as i32)
            .with_leader_id(leader)
            .with_leader_epoch(
                broker.partition_of(topic, index as i32).map_or(-1, |partition| partition.leader_epoch()),
            )
            .with_replica_nodes(nodes.clone())
            .with_isr_nodes(nodes)
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid::Uuid::from_bytes(topic.id.0))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
}

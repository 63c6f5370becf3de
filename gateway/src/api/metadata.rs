//! Metadata, versions 0 to 12: the organisation's own gateways, and topics with one of them as leader (decision 9).
//!
//! A topic that does not exist is created when the client and the node's settings allow it.

use crate::api::{Context, operations};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::{self, Failure};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use waybill_ledger::contract::Topic;

/// How long a request waits for a topic that it creates.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);
/// The versions that can ask for the authorised operations on the cluster; DescribeCluster took that over.
const CLUSTER_OPERATIONS: RangeInclusive<i16> = 8..=10;
/// The first version that can ask for the authorised operations on topics (KIP-430).
const TOPIC_OPERATIONS_SINCE: i16 = 8;
/// The first version that can ask by id (KIP-516); versions 10 and 11 only show ids.
const BY_ID_SINCE: i16 = 12;

/// Answers with brokers and topics.
pub async fn handle(broker: &Broker, context: &Context, request: MetadataRequest) -> MetadataResponse {
    let node = BrokerId(broker.node.0 as i32);
    let mut topics = match request.topics {
        // Version 0 has no null: an empty list means all.
        None => all(broker),
        Some(wanted) if wanted.is_empty() && context.version == 0 => all(broker),
        Some(wanted) => {
            let may_create = request.allow_auto_topic_creation && broker.settings.auto_create_topics;
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                topics.push(match (topic.name, topic.topic_id) {
                    (Some(name), id) if id.is_nil() => named(broker, name, may_create).await,
                    (None, id) if context.version >= BY_ID_SINCE => by_id(broker, id),
                    (name, id) => {
                        refused(Refusal::InvalidRequest).with_name(Some(name.unwrap_or_default())).with_topic_id(id)
                    }
                });
            }
            topics
        }
    };
    if !request.include_topic_authorized_operations || context.version < TOPIC_OPERATIONS_SINCE {
        topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = operations::NOT_ASKED);
    }
    let cluster_operations =
        if request.include_cluster_authorized_operations && CLUSTER_OPERATIONS.contains(&context.version) {
            operations::on_cluster(broker)
        } else {
            operations::NOT_ASKED
        };
    let brokers = context.listener.nodes().map(|(node, address)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.0 as i32))
            .with_host(StrBytes::from_string(address.host.clone()))
            .with_port(i32::from(address.port))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_string(broker.cluster_id())))
        .with_controller_id(node)
        .with_cluster_authorized_operations(cluster_operations)
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
        None => match topics::check_name(&name) {
            Ok(()) if may_create => topics::ensure(broker, &name, CREATE_TIMEOUT).await,
            Ok(()) => Err(Failure::from(Refusal::UnknownTopicOrPartition)),
            Err(failure) => Err(failure),
        },
    };
    match topic {
        Ok(topic) if broker.may_see(&topic) => described(broker, &topic),
        Ok(_) => refused(Refusal::TopicDenied).with_name(Some(name)),
        Err(failure) => refused(failure.refusal).with_name(Some(name)),
    }
}

fn by_id(broker: &Broker, id: uuid::Uuid) -> MetadataResponseTopic {
    let system = broker.system();
    match system.topic(waybill_types::TopicId(*id.as_bytes())) {
        Some(topic) if broker.may_see(topic) => described(broker, topic),
        Some(_) => refused(Refusal::TopicDenied).with_topic_id(id),
        None => refused(Refusal::UnknownTopicId).with_topic_id(id),
    }
}

fn refused(refusal: Refusal) -> MetadataResponseTopic {
    // A topic that is being created: clients ask again after this code, as they do with Kafka.
    let code =
        if refusal == Refusal::RequestTimedOut { ResponseError::LeaderNotAvailable.code() } else { refusal.code() };
    MetadataResponseTopic::default().with_error_code(code).with_name(None)
}

fn described(broker: &Broker, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let id = |node: &waybill_types::NodeId| BrokerId(node.0 as i32);
    let partitions = topic.partitions.iter().enumerate().map(|(index, replicas)| {
        let started = broker.partition_of(topic, index as i32);
        // A replica of ours that does not serve yet says so itself, with NOT_LEADER_OR_FOLLOWER, after which every client asks
        // again; rskafka keeps an answer without a leader until it gives up.
        let code = if replicas.contains(&broker.node) { 0 } else { ResponseError::LeaderNotAvailable.code() };
        // The leader must be among the replicas for clients that check it, and is our own gateway for all.
        let mut nodes: Vec<BrokerId> = replicas.iter().map(id).collect();
        let leader = id(&broker.node);
        nodes.sort_by_key(|node| *node != leader);
        MetadataResponsePartition::default()
            .with_error_code(code)
            .with_partition_index(index as i32)
            .with_leader_id(leader)
            .with_leader_epoch(started.map_or(-1, |partition| partition.leader_epoch()))
            .with_replica_nodes(nodes.clone())
            .with_isr_nodes(nodes)
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid::Uuid::from_bytes(topic.id.0))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations::on_topic(broker, topic))
}

//! DeleteTopics, versions 1 to 6: by name, from version 6 also by id. Only the owner may delete a topic.

use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::{self, Failure};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;
use waybill_types::TopicId;

/// Deletes the topics, one after the other.
pub async fn handle(broker: &Broker, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let timeout = Duration::from_millis(request.timeout_ms.clamp(1_000, 120_000) as u64);
    let by_name = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let mut results = Vec::new();
    for wanted in request.topics.into_iter().chain(by_name) {
        results.push(delete(broker, wanted, timeout).await);
    }
    DeleteTopicsResponse::default().with_responses(results)
}

async fn delete(broker: &Broker, wanted: DeleteTopicState, timeout: Duration) -> DeletableTopicResult {
    let system = broker.system();
    let topic = match &wanted.name {
        Some(name) => system.topic_named(name),
        None => system.topic(TopicId(*wanted.topic_id.as_bytes())),
    };
    let unknown = if wanted.name.is_some() { Refusal::UnknownTopicOrPartition } else { Refusal::UnknownTopicId };
    let result = DeletableTopicResult::default().with_name(wanted.name).with_topic_id(wanted.topic_id);
    let Some(topic) = topic else { return result.with_error_code(unknown.code()) };
    let result = result
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid::Uuid::from_bytes(topic.id.0));
    match topics::delete(broker, topic, timeout).await {
        Ok(()) => result,
        Err(Failure { refusal, reason }) => {
            result.with_error_code(refusal.code()).with_error_message(reason.map(Into::into))
        }
    }
}

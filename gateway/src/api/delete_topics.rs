//! DeleteTopics, versions 1 to 6: by name, from version 6 also by id. Only the owner may delete a topic.

use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::{self, Failure};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::HashMap;
use std::time::Duration;
use waybill_types::TopicId;

/// The longest that a request may wait.
const TIMEOUT_MAX_MS: i32 = 120_000;

/// Deletes the topics, one after the other. A topic that is named more than once is refused once.
pub async fn handle(broker: &Broker, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let timeout = Duration::from_millis(request.timeout_ms.clamp(1_000, TIMEOUT_MAX_MS) as u64);
    let by_name = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let wanted: Vec<_> = request.topics.into_iter().chain(by_name).collect();
    let mut named: HashMap<_, usize> = HashMap::new();
    wanted.iter().for_each(|topic| *named.entry(key(topic)).or_default() += 1);
    let mut results = Vec::with_capacity(named.len());
    for topic in wanted {
        let result = DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        results.push(match named.remove(&key(&topic)) {
            None => continue,
            Some(1) => delete(broker, &topic, result, timeout).await,
            Some(_) => refused(result, Refusal::InvalidRequest, Some("Duplicate topic.".to_string())),
        });
    }
    DeleteTopicsResponse::default().with_responses(results)
}

fn key(topic: &DeleteTopicState) -> (Option<String>, uuid::Uuid) {
    (topic.name.as_ref().map(|name| name.to_string()), topic.topic_id)
}

fn refused(result: DeletableTopicResult, refusal: Refusal, reason: Option<String>) -> DeletableTopicResult {
    result.with_error_code(refusal.code()).with_error_message(reason.map(Into::into))
}

async fn delete(
    broker: &Broker,
    wanted: &DeleteTopicState,
    result: DeletableTopicResult,
    timeout: Duration,
) -> DeletableTopicResult {
    let system = broker.system();
    let (topic, unknown) = match &wanted.name {
        Some(_) if !wanted.topic_id.is_nil() => {
            let reason = "a topic is deleted by name or by id, not by both".to_string();
            return refused(result, Refusal::InvalidRequest, Some(reason));
        }
        Some(name) => (system.topic_named(name), Refusal::UnknownTopicOrPartition),
        None => (system.topic(TopicId(*wanted.topic_id.as_bytes())), Refusal::UnknownTopicId),
    };
    let Some(topic) = topic else { return refused(result, unknown, None) };
    let result = result
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid::Uuid::from_bytes(topic.id.0));
    match topics::delete(broker, topic, timeout).await {
        Ok(()) => result,
        Err(Failure { refusal, reason }) => refused(result, refusal, reason),
    }
}

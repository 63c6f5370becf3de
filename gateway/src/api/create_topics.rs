//! CreateTopics, versions 2 to 7: a transaction on the system ledger per topic.
//!
//! A replication factor below the default gets the default, and the answer says what it got (decision 13).

use crate::api::describe_configs::topic_settings;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::{self, Failure, NewTopic, settings};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest that a request may wait.
const TIMEOUT_MAX_MS: i32 = 120_000;

/// Creates, or only checks, the topics. A topic that is named more than once is refused once.
pub async fn handle(broker: &Broker, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let timeout = Duration::from_millis(request.timeout_ms.clamp(1_000, TIMEOUT_MAX_MS) as u64);
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    request.topics.iter().for_each(|topic| *named.entry(topic.name.to_string()).or_default() += 1);
    let mut results = Vec::with_capacity(named.len());
    for topic in request.topics {
        let outcome = match named.remove(&*topic.name.0) {
            None => continue,
            Some(1) => create(broker, &topic, request.validate_only, timeout).await,
            Some(_) => {
                Err(Failure { refusal: Refusal::InvalidRequest, reason: Some("Duplicate topic name.".to_string()) })
            }
        };
        let result = outcome.unwrap_or_else(|failure| {
            CreatableTopicResult::default()
                .with_error_code(failure.refusal.code())
                .with_error_message(failure.reason.map(Into::into))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(None)
        });
        results.push(result.with_name(topic.name));
    }
    CreateTopicsResponse::default().with_topics(results)
}

async fn create(
    broker: &Broker,
    topic: &CreatableTopic,
    validate_only: bool,
    timeout: Duration,
) -> Result<CreatableTopicResult, Failure> {
    if !topic.assignments.is_empty() {
        let reason = Some("replicas are placed by the network: leave the assignment out".to_string());
        return Err(Failure { refusal: Refusal::InvalidReplicaAssignment, reason });
    }
    let given = topic.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref()));
    settings::check(given.clone())
        .map_err(|reason| Failure { refusal: Refusal::InvalidConfig, reason: Some(reason) })?;
    let new = NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        settings: given.filter_map(|(name, value)| Some((name.to_string(), value?.to_string()))).collect(),
    };
    let configs = topic_settings(&new.settings).map(|setting| {
        CreatableTopicConfigs::default()
            .with_name(setting.name.into())
            .with_value(Some(setting.value.to_string().into()))
            .with_read_only(setting.read_only)
            .with_config_source(setting.source as i8)
    });
    let configs = configs.collect();
    let (id, partitions) = if validate_only {
        let planned = topics::plan(broker, &new)?;
        (uuid::Uuid::nil(), planned.partitions)
    } else {
        let created = topics::create(broker, new, timeout).await?;
        (uuid::Uuid::from_bytes(created.id.0), created.partitions.clone())
    };
    Ok(CreatableTopicResult::default()
        .with_error_message(None)
        .with_topic_id(id)
        .with_num_partitions(partitions.len() as i32)
        .with_replication_factor(partitions.first().map_or(0, |replicas| replicas.len() as i16))
        .with_configs(Some(configs)))
}

//! CreatePartitions, versions 0 to 3 (KIP-195): a transaction on the system ledger per topic, after which the topic has so
//! many partitions. Only the owner may enlarge a topic.

use crate::broker::Broker;
use crate::error::Refusal;
use crate::topics::{self, Failure};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest that a request may wait.
const TIMEOUT_MAX_MS: i32 = 120_000;

/// Enlarges, or only checks, the topics, one after the other. A topic that is named more than once is refused once.
pub async fn handle(broker: &Broker, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let timeout = Duration::from_millis(request.timeout_ms.clamp(1_000, TIMEOUT_MAX_MS) as u64);
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    request.topics.iter().for_each(|topic| *named.entry(topic.name.to_string()).or_default() += 1);
    let mut results = Vec::with_capacity(named.len());
    for topic in request.topics {
        let outcome = match named.remove(&*topic.name.0) {
            None => continue,
            Some(1) => enlarge(broker, &topic, request.validate_only, timeout).await,
            Some(_) => {
                Err(Failure { refusal: Refusal::InvalidRequest, reason: Some("Duplicate topic name.".to_string()) })
            }
        };
        let result = CreatePartitionsTopicResult::default().with_name(topic.name).with_error_message(None);
        results.push(match outcome {
            Ok(()) => result,
            Err(Failure { refusal, reason }) => {
                result.with_error_code(refusal.code()).with_error_message(reason.map(Into::into))
            }
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn enlarge(
    broker: &Broker,
    wanted: &CreatePartitionsTopic,
    validate_only: bool,
    timeout: Duration,
) -> Result<(), Failure> {
    let known = broker.system().topic_named(&wanted.name).cloned();
    let topic = known.ok_or_else(|| Failure {
        refusal: Refusal::UnknownTopicOrPartition,
        reason: Some(format!("there is no topic '{}'", wanted.name.as_str())),
    })?;
    if wanted.assignments.is_some() {
        let reason = Some("replicas are placed by the network: leave the assignment out".to_string());
        return Err(Failure { refusal: Refusal::InvalidReplicaAssignment, reason });
    }
    let planned = topics::plan_further(broker, &topic, wanted.count)?;
    if validate_only {
        return Ok(());
    }
    topics::enlarge(broker, planned, timeout).await
}

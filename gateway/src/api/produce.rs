//! Produce, versions 3 to 11; 0 to 2 are advertised for librdkafka's sake and refused per partition.
//!
//! Every partition of a request stands for itself: one that is refused does not touch the others. The answer waits
//! until each accepted batch is executed by our own replica, whatever `acks` says, except 0: that gets no answer, and a
//! failure closes the connection.
//!
//! Batches stay closed, except for topics that demand something of each record: a compacted one a key, and others a
//! timestamp within bounds. A batch with a record that breaks such a rule is refused whole, and the records are named.

use crate::api::{Context, records};
use crate::batch::{self, BatchError, Canonical, Codec, Fault, FaultKind};
use crate::broker::{Broker, Partition};
use crate::connection::ConnectionError;
use crate::error::Refusal;
use crate::publish::{Publication, acknowledge};
use crate::request::{PRODUCE_FIRST_SERVED, encode_old_produce_response};
use crate::response::Response;
use crate::topics::settings::record_rules;
use crate::versions::Api;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waybill_ledger::contract::may_write;

/// The first version in which batches may be compressed with zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// The first version whose answer names records and reasons (KIP-467).
const RECORD_ERRORS_SINCE: i16 = 8;

/// A client that gives no sensible time-out gets this one.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

type Answer = Pin<Box<dyn Future<Output = Result<Option<Response>, ConnectionError>> + Send>>;

/// A batch that was taken, with what its acknowledgement says besides the offset.
struct Taken {
    publication: Publication,
    partition: Partition,
}

/// Gives each batch its place in its partition's queue. Waits only for room in the node's memory.
pub async fn begin(broker: Arc<Broker>, context: Context, request: ProduceRequest) -> Answer {
    let refused = refusal_of_all(&context, &request);
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            let taken = match refused {
                Some(refusal) => Err(refusal.into()),
                None => take(&broker, &context, &topic.name, data).await,
            };
            partitions.push((index, taken));
        }
        topics.push((topic.name, partitions));
    }
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64).clamp(TIMEOUT_MIN, TIMEOUT_MAX);
    let deadline = Instant::now() + timeout;
    Box::pin(finish(context, request.acks, topics, deadline))
}

fn refusal_of_all(context: &Context, request: &ProduceRequest) -> Option<Refusal> {
    if context.version < PRODUCE_FIRST_SERVED {
        Some(Refusal::UnsupportedVersion)
    } else if !matches!(request.acks, -1..=1) {
        Some(Refusal::InvalidRequiredAcks)
    } else {
        None
    }
}

/// Why a batch is not taken, for the client's program, for people, and for the records that are to blame.
struct Refused {
    refusal: Refusal,
    reason: Option<String>,
    faults: Vec<Fault>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused { refusal, reason: None, faults: Vec::new() }
    }
}

impl From<BatchError> for Refused {
    fn from(error: BatchError) -> Self {
        Refused::because(error.into(), error.to_string())
    }
}

impl Refused {
    fn because(refusal: Refusal, reason: impl Into<String>) -> Self {
        Refused { refusal, reason: Some(reason.into()), faults: Vec::new() }
    }

    /// As Kafka does: a time out of bounds outweighs a missing key.
    fn for_records(faults: Vec<Fault>) -> Self {
        let late = faults.iter().any(|fault| matches!(fault.kind, FaultKind::Timestamp(_)));
        let refusal = if late { Refusal::InvalidTimestamp } else { Refusal::InvalidRecord };
        let reason =
            faults.first().map(|first| format!("the batch is refused for its record {}: {}", first.index, first.kind));
        Refused { refusal, reason, faults }
    }
}

async fn take(
    broker: &Arc<Broker>,
    context: &Context,
    topic: &TopicName,
    data: PartitionProduceData,
) -> Result<Taken, Refused> {
    let partition = broker.partition(topic, data.index)?;
    let config = partition.config()?;
    if !may_write(&config, &broker.org) {
        return Err(Refused::because(Refusal::TopicDenied, format!("{} may not write to this topic", broker.org)));
    }
    if broker.connector.is_none() {
        return Err(Refused::because(
            Refusal::TopicDenied,
            format!("{} has no connector: it only witnesses", broker.org),
        ));
    }
    let canonical = batch::produced(data.records.unwrap_or_default())?;
    let facts = *canonical.facts();
    if facts.size_bytes > config.batch_bytes_limit {
        let reason =
            format!("a batch of {} bytes, max.message.bytes is {}", facts.size_bytes, config.batch_bytes_limit);
        return Err(Refused::because(Refusal::BatchTooLarge, reason));
    }
    if facts.codec == Codec::Zstd && context.version < ZSTD_SINCE {
        let reason = format!("zstd needs Produce {ZSTD_SINCE} or later");
        return Err(Refused::because(Refusal::UnsupportedCompression, reason));
    }
    if facts.transactional {
        return Err(Refused::because(Refusal::InvalidRequest, "transactions are not served yet"));
    }
    let room = broker.room_for_batch(facts.size_bytes).await?;
    check_records(broker, &partition, config.log_append_time, &canonical).await?;
    metrics::counter!("waybill_produced_bytes_total").increment(u64::from(facts.size_bytes));
    metrics::counter!("waybill_produced_records_total").increment(u64::from(facts.record_count));
    let publication = broker.publisher(&partition)?.publish(canonical, room)?;
    Ok(Taken { publication, partition })
}

/// Checks what the topic demands of each record; most topics demand nothing.
async fn check_records(
    broker: &Broker,
    partition: &Partition,
    log_append_time: bool,
    canonical: &Canonical,
) -> Result<(), Refused> {
    let now_ms = broker.consensus.clock().now_ms() as i64;
    let rules = record_rules(&partition.topic.settings, log_append_time, now_ms);
    if !rules.need_records(canonical.header()) {
        return Ok(());
    }
    match records::look_into(canonical, move |batch| rules.faults(batch)).await? {
        Ok(faults) if faults.is_empty() => Ok(()),
        Ok(faults) => Err(Refused::for_records(faults)),
        Err(error) => Err(Refused::because(Refusal::InvalidRecord, error.to_string())),
    }
}

type Topics = Vec<(TopicName, Vec<(i32, Result<Taken, Refused>)>)>;

async fn finish(
    context: Context,
    acks: i16,
    topics: Topics,
    deadline: Instant,
) -> Result<Option<Response>, ConnectionError> {
    let mut body = ProduceResponse::default();
    let mut failed = None;
    for (name, partitions) in topics {
        let mut answered = TopicProduceResponse::default().with_name(name);
        for (index, taken) in partitions {
            let response = match taken {
                Ok(taken) => acknowledged(context.version, index, taken, deadline).await,
                Err(reason) => refused(context.version, index, reason),
            };
            if response.error_code != 0 {
                failed = Some("see the topic's limits and permissions");
            }
            answered.partition_responses.push(response);
        }
        body.responses.push(answered);
    }
    if acks == 0 {
        return failed.map_or(Ok(None), |reason| Err(ConnectionError::Unacknowledged(reason)));
    }
    if context.version < PRODUCE_FIRST_SERVED {
        let mut out = Response::start(Api::Produce, context.version, context.correlation_id, 64);
        encode_old_produce_response(&body, context.version, &mut out);
        return Ok(Some(Response::finish(out, Vec::new())));
    }
    Ok(Some(context.answer(Api::Produce, &body)?))
}

async fn acknowledged(version: i16, index: i32, taken: Taken, deadline: Instant) -> PartitionProduceResponse {
    let Taken { publication, partition } = taken;
    let executed = match tokio::time::timeout_at(deadline, publication.executed()).await {
        Ok(Ok(executed)) => executed,
        Ok(Err(refusal)) => return refused(version, index, refusal.into()),
        Err(_) => {
            let reason = "the partition's cluster did not answer in time";
            return refused(version, index, Refused::because(Refusal::RequestTimedOut, reason));
        }
    };
    match acknowledge(executed.outcome) {
        Ok(base_offset) => {
            let reader = &partition.replica.reader;
            let append_time_ms = if partition.config().is_ok_and(|config| config.log_append_time) {
                executed.time_ms as i64
            } else {
                -1
            };
            PartitionProduceResponse::default()
                .with_index(index)
                .with_base_offset(base_offset)
                .with_log_append_time_ms(append_time_ms)
                .with_log_start_offset(reader.log_start_offset())
        }
        Err(refusal) => refused(version, index, refusal.into()),
    }
}

fn refused(version: i16, index: i32, refused: Refused) -> PartitionProduceResponse {
    let Refused { refusal, reason, faults } = refused;
    metrics::counter!("waybill_produce_refused_total", "reason" => format!("{refusal:?}")).increment(1);
    let faults = faults.into_iter().filter(|_| version >= RECORD_ERRORS_SINCE).map(|fault| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(fault.index)
            .with_batch_index_error_message(Some(fault.kind.to_string().into()))
    });
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(refusal.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
        .with_record_errors(faults.collect())
        .with_error_message(reason.map(Into::into))
}

//! Produce, versions 3 to 11; 0 to 2 are advertised for librdkafka's sake and refused per partition.
//!
//! Every partition of a request stands for itself: one that is refused does not touch the others. The answer waits
//! until each accepted batch is executed by our own replica, whatever `acks` says, except 0: that gets no answer, and a
//! failure closes the connection.

use crate::api::Context;
use crate::batch::{self, Codec};
use crate::broker::{Broker, Partition};
use crate::connection::ConnectionError;
use crate::error::Refusal;
use crate::publish::{Publication, acknowledge};
use crate::request::{PRODUCE_FIRST_SERVED, encode_old_produce_response};
use crate::response::Response;
use crate::versions::Api;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waybill_ledger::contract::may_write;

/// The first version in which batches may be compressed with zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

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
                Some(refusal) => Err((refusal, None)),
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

type Refused = (Refusal, Option<String>);

async fn take(
    broker: &Arc<Broker>,
    context: &Context,
    topic: &TopicName,
    data: PartitionProduceData,
) -> Result<Taken, Refused> {
    let plain = |refusal: Refusal| (refusal, None);
    let partition = broker.partition(topic, data.index).map_err(plain)?;
    let config = partition.config().map_err(plain)?;
    if !may_write(&config, &broker.org) {
        return Err((Refusal::TopicDenied, Some(format!("{} may not write to this topic", broker.org))));
    }
    if broker.connector.is_none() {
        return Err((Refusal::TopicDenied, Some(format!("{} has no connector: it only witnesses", broker.org))));
    }
    let canonical = batch::produced(data.records.unwrap_or_default())
        .map_err(|error| (Refusal::from(error), Some(error.to_string())))?;
    let facts = canonical.facts();
    if facts.size_bytes > config.batch_bytes_limit {
        let reason =
            format!("a batch of {} bytes, max.message.bytes is {}", facts.size_bytes, config.batch_bytes_limit);
        return Err((Refusal::BatchTooLarge, Some(reason)));
    }
    if facts.codec == Codec::Zstd && context.version < ZSTD_SINCE {
        let reason = format!("zstd needs Produce {ZSTD_SINCE} or later");
        return Err((Refusal::UnsupportedCompression, Some(reason)));
    }
    if facts.transactional {
        return Err((Refusal::InvalidRequest, Some("transactions are not served yet".into())));
    }
    let room = broker.room_for_batch(facts.size_bytes).await.map_err(plain)?;
    metrics::counter!("waybill_produced_bytes_total").increment(u64::from(facts.size_bytes));
    metrics::counter!("waybill_produced_records_total").increment(u64::from(facts.record_count));
    let publication = broker.publisher(&partition).map_err(plain)?.publish(canonical, room).map_err(plain)?;
    Ok(Taken { publication, partition })
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
                Ok(taken) => acknowledged(index, taken, deadline).await,
                Err((refusal, reason)) => refused(index, refusal, reason),
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

async fn acknowledged(index: i32, taken: Taken, deadline: Instant) -> PartitionProduceResponse {
    let Taken { publication, partition } = taken;
    let executed = match tokio::time::timeout_at(deadline, publication.executed()).await {
        Ok(Ok(executed)) => executed,
        Ok(Err(refusal)) => return refused(index, refusal, None),
        Err(_) => {
            return refused(
                index,
                Refusal::RequestTimedOut,
                Some("the partition's cluster did not answer in time".into()),
            );
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
        Err(refusal) => refused(index, refusal, None),
    }
}

fn refused(index: i32, refusal: Refusal, reason: Option<String>) -> PartitionProduceResponse {
    metrics::counter!("waybill_produce_refused_total", "reason" => format!("{refusal:?}")).increment(1);
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(refusal.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
        .with_error_message(reason.map(Into::into))
}

//! InitProducerId, versions 0 to 4: a fresh id for an idempotent producer, unique in the network (organisation prefix and
//! the organisation ledger's counter), with epoch 0. Transactional ids are not served yet.

use crate::broker::Broker;
use crate::error::Refusal;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

/// Hands out an id. As in Kafka, a producer that names the id and epoch it had gets a new one all the same.
pub async fn handle(broker: &Broker, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let id = match request.transactional_id {
        None => broker.next_producer_id().await,
        Some(id) if id.is_empty() => Err(Refusal::InvalidRequest),
        Some(_) => Err(Refusal::TransactionsNotServed),
    };
    match id {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(refusal) => InitProducerIdResponse::default()
            .with_error_code(refusal.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

//! InitProducerId, versions 0 to 4: a fresh id for an idempotent producer, unique in the network (organisation prefix and
//! the organisation ledger's counter), with epoch 0. Transactional ids are not served yet.

use crate::broker::Broker;
use crate::error::Refusal;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

/// Hands out an id.
pub async fn handle(broker: &Broker, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |code: i16| {
        InitProducerIdResponse::default().with_error_code(code).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        // Fatal for the client, with a message that names the cause; a retriable code would make it ask for ever.
        return refused(ResponseError::TransactionalIdAuthorizationFailed.code());
    }
    match broker.next_producer_id().await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(refusal) => refused(Refusal::code(refusal)),
    }
}

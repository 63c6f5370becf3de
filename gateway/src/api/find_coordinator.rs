//! FindCoordinator, versions 0 to 4: with one node per organisation the coordinator is the node that was asked.

use crate::api::Context;
use crate::broker::Broker;
use crate::error::Refusal;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The first version that asks for several at once, and answers so.
const SEVERAL_SINCE: i16 = 4;

/// Names this node for groups.
pub fn handle(broker: &Broker, context: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let refused = match request.key_type {
        GROUP => None,
        TRANSACTION => Some((
            Refusal::TransactionsNotServed,
            StrBytes::from_static_str("only consumer groups have a coordinator here: transactions are not served yet"),
        )),
        _ => Some((Refusal::InvalidRequest, StrBytes::from_static_str("no such kind of coordinator"))),
    };
    let own = context.own_address(broker);
    let found = match refused {
        None => Coordinator::default()
            .with_error_message(None)
            .with_node_id(BrokerId(broker.node.0 as i32))
            .with_host(StrBytes::from_string(own.host))
            .with_port(i32::from(own.port)),
        Some((refusal, reason)) => Coordinator::default()
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(refusal.code())
            .with_error_message(Some(reason)),
    };
    if context.version >= SEVERAL_SINCE {
        let coordinators = request.coordinator_keys.into_iter().map(|key| found.clone().with_key(key));
        return FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    }
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

//! FindCoordinator, versions 0 to 4: with one node per organisation the coordinator is the node that was asked.

use crate::api::Context;
use crate::broker::Broker;
use crate::error::Refusal;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

const GROUP: i8 = 0;

/// Names this node for groups.
pub fn handle(broker: &Broker, context: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let refusal = (request.key_type != GROUP).then_some(Refusal::CoordinatorUnavailable);
    let reason = refusal.map(|_| {
        StrBytes::from_static_str("only consumer groups have a coordinator here: transactions are not served yet")
    });
    let (node, host, port) = match refusal {
        None => (
            BrokerId(broker.node.0 as i32),
            StrBytes::from_string(broker.settings.advertised_host.clone()),
            i32::from(broker.settings.advertised_port),
        ),
        Some(_) => (BrokerId(-1), StrBytes::default(), -1),
    };
    let code = refusal.map_or(0, Refusal::code);
    if context.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_error_message(reason)
            .with_node_id(node)
            .with_host(host)
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(node)
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(code)
            .with_error_message(reason.clone())
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

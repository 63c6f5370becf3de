//! DescribeCluster, versions 0 to 2 (KIP-700, KIP-919, KIP-1073): the organisation's own gateways, as in Metadata.

use crate::api::{Context, operations};
use crate::broker::Broker;
use crate::error::Refusal;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// The first version that says what kind of endpoint it asks.
const ENDPOINT_TYPE_SINCE: i16 = 1;

/// Names cluster, controller and brokers.
pub fn handle(broker: &Broker, context: &Context, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let endpoint_type = if context.version < ENDPOINT_TYPE_SINCE { BROKERS } else { request.endpoint_type };
    let refused = match endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((Refusal::MismatchedEndpointType, "this is a broker: there are no controllers to ask")),
        _ => Some((Refusal::UnsupportedEndpointType, "no such kind of endpoint")),
    };
    if let Some((refusal, reason)) = refused {
        return DescribeClusterResponse::default()
            .with_error_code(refusal.code())
            .with_error_message(Some(StrBytes::from_static_str(reason)));
    }
    let node = BrokerId(broker.node.0 as i32);
    let operations = if request.include_cluster_authorized_operations {
        operations::on_cluster(broker)
    } else {
        operations::NOT_ASKED
    };
    let brokers = context.listener.nodes().map(|(node, address)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(node.0 as i32))
            .with_host(StrBytes::from_string(address.host.clone()))
            .with_port(i32::from(address.port))
    });
    DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(broker.cluster_id()))
        .with_controller_id(node)
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}

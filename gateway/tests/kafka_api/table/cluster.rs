//! ApiVersions, FindCoordinator, InitProducerId, DescribeCluster.

use super::Clients;
use crate::client::Client;
use crate::network::{acme, network};
use crate::requests::*;
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, DescribeClusterRequest, FindCoordinatorRequest, InitProducerIdRequest, ProducerId,
    TransactionalId,
};
use waybill_gateway::versions::TABLE;

pub(super) fn api_versions(version: i16, clients: &mut Clients) {
    let request = ApiVersionsRequest::default();
    let request = if version < 3 {
        request
    } else {
        request.with_client_software_name(text("kafka-api-test")).with_client_software_version(text("1"))
    };
    let response = clients.owner.ask(version, &request);
    assert_eq!(response.error_code, 0);
    let listed: Vec<_> = response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    let table: Vec<_> = TABLE.iter().map(|row| (row.api.key(), row.min, row.max)).collect();
    assert_eq!(listed, table);
}

pub(super) fn find_coordinator(version: i16, clients: &mut Clients) {
    let request = |kind: i8| {
        let request = FindCoordinatorRequest::default();
        let request = if version == 0 { request } else { request.with_key_type(kind) };
        if version < 4 {
            request.with_key(text("g"))
        } else {
            request.with_coordinator_keys(vec![text("g"), text("h")])
        }
    };
    let mut ask = |kind| {
        let response = clients.owner.ask(version, &request(kind));
        if version < 4 {
            let node = (response.node_id, response.host.to_string(), response.port);
            // Version 0 has no message, which comes out as an empty one.
            let reason = response.error_message.is_some_and(|reason| !reason.is_empty());
            return (response.error_code, node, reason);
        }
        let [first, second] = &response.coordinators[..] else { panic!("two answers") };
        assert_eq!((first.key.as_str(), second.key.as_str()), ("g", "h"));
        let node = (first.node_id, first.host.to_string(), first.port);
        (first.error_code, node, first.error_message.is_some())
    };
    let endpoint = &network().acme;
    let node = (BrokerId(endpoint.node as i32), "127.0.0.1".to_string(), i32::from(endpoint.kafka.port()));
    assert_eq!(ask(0), (0, node, false));
    if version >= 1 {
        let nowhere = (BrokerId(-1), String::new(), -1);
        assert_eq!(ask(1), (code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, nowhere.clone(), true));
        assert_eq!(ask(9), (code::INVALID_REQUEST, nowhere, true));
    }
}

pub(super) fn init_producer_id(version: i16, clients: &mut Clients) {
    let request = InitProducerIdRequest::default().with_transaction_timeout_ms(60_000).with_transactional_id(None);
    let mut again = Client::connect(acme());
    let ids = [&mut clients.owner, &mut again, &mut clients.reader].map(|client| {
        let response = client.ask(version, &request);
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        response.producer_id.0
    });
    assert!(ids[0] != ids[1] && ids.iter().all(|id| *id >= 0));
    assert_ne!(ids[0] >> 48, ids[2] >> 48, "organisations do not share ids");
    if version >= 3 {
        let known = request.clone().with_producer_id(ProducerId(ids[0])).with_producer_epoch(3);
        let response = clients.owner.ask(version, &known);
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert_ne!(response.producer_id.0, ids[0], "as in Kafka, a fresh one");
    }
    let transactional = request.with_transactional_id(Some(TransactionalId(text("t"))));
    let refused = clients.owner.ask(version, &transactional);
    assert_eq!((refused.error_code, refused.producer_id.0), (code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1));
}

pub(super) fn describe_cluster(version: i16, clients: &mut Clients) {
    let endpoint = &network().acme;
    let asked = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let response = clients.owner.ask(version, &asked);
    assert_eq!((response.error_code, response.endpoint_type, response.cluster_id.len()), (0, 1, 22));
    assert_eq!(response.controller_id, BrokerId(endpoint.node as i32));
    let [broker] = &response.brokers[..] else { panic!("one gateway") };
    assert_eq!((broker.broker_id, broker.port), (response.controller_id, i32::from(endpoint.kafka.port())));
    assert!(!broker.is_fenced);
    assert_ne!(response.cluster_authorized_operations, i32::MIN);
    let same = clients.reader.ask(version, &DescribeClusterRequest::default());
    assert_eq!((same.cluster_id, same.cluster_authorized_operations), (response.cluster_id, i32::MIN));
    if version >= 1 {
        for (kind, expected) in [(2, code::MISMATCHED_ENDPOINT_TYPE), (5, code::UNSUPPORTED_ENDPOINT_TYPE)] {
            let refused = clients.owner.ask(version, &asked.clone().with_endpoint_type(kind));
            assert_eq!((refused.error_code, refused.brokers.len()), (expected, 0));
        }
    }
}

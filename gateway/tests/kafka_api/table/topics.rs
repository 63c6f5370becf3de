//! Metadata, CreateTopics, CreatePartitions, DeleteTopics, DescribeConfigs.

use super::Clients;
use super::data::Topic;
use crate::client::Client;
use crate::network::{network, secured};
use crate::requests::*;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, DeleteTopicsRequest, DescribeConfigsRequest, MetadataRequest,
};
use uuid::Uuid;
use waybill_gateway::dev::Secured;

const NOT_ASKED: i32 = i32::MIN;

pub(super) fn metadata(version: i16, clients: &mut Clients, data: &Topic) {
    let endpoint = &network().acme;
    let response = clients.owner.ask(version, &named(data.name));
    let [broker] = &response.brokers[..] else { panic!("one gateway") };
    assert_eq!(broker.node_id, BrokerId(endpoint.node as i32));
    assert_eq!((broker.host.as_str(), broker.port), ("127.0.0.1", i32::from(endpoint.kafka.port())));
    assert_eq!(response.controller_id, if version < 1 { BrokerId(-1) } else { broker.node_id });
    assert_eq!(response.cluster_id.map(|id| id.len()), (version >= 2).then_some(22));
    assert_eq!(response.cluster_authorized_operations, NOT_ASKED);
    let [topic] = &response.topics[..] else { panic!("one topic") };
    assert_eq!((topic.error_code, topic.name.as_deref().map(|name| name.as_str())), (0, Some(data.name)));
    assert_eq!(topic.topic_id.is_nil(), version < 10);
    assert_eq!((topic.is_internal, topic.topic_authorized_operations), (false, NOT_ASKED));
    let [partition] = &topic.partitions[..] else { panic!("one partition") };
    assert_eq!((partition.error_code, partition.partition_index), (0, 0));
    assert_eq!((partition.leader_id, partition.leader_epoch), (broker.node_id, if version < 7 { -1 } else { EPOCH }));
    assert_eq!(partition.replica_nodes.len(), 4);
    assert_eq!(partition.isr_nodes, partition.replica_nodes);
    assert!(partition.replica_nodes.contains(&broker.node_id) && partition.offline_replicas.is_empty());

    let reader = clients.reader.ask(version, &named(data.name));
    assert_eq!(reader.topics[0].partitions[0].leader_id, BrokerId(network().globex.node as i32));
    let denied = clients.witness.ask(version, &named(data.name));
    assert_eq!(denied.topics[0].error_code, code::TOPIC_AUTHORIZATION_FAILED);
    let invalid = clients.owner.ask(version, &named("no/name"));
    assert_eq!(invalid.topics[0].error_code, code::INVALID_TOPIC);
    metadata_of_all(version, clients, data);
    metadata_creates(version, clients);
    if version >= 8 {
        authorised_operations(version, clients, data);
    }
    if version >= 10 {
        metadata_by_id(version, clients, data);
    }
}

fn metadata_of_all(version: i16, clients: &mut Clients, data: &Topic) {
    let all = MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None });
    let shown = |client: &mut Client| {
        let topics = client.ask(version, &all).topics;
        topics.iter().any(|topic| topic.name.as_ref().is_some_and(|name| name.as_str() == data.name))
    };
    assert!(shown(&mut clients.owner) && shown(&mut clients.reader));
    assert!(!shown(&mut clients.witness), "what one may not read is not listed");
    if version >= 1 {
        let none = clients.owner.ask(version, &MetadataRequest::default().with_topics(Some(Vec::new())));
        assert_eq!((none.topics.len(), none.brokers.len()), (0, 1));
    }
}

fn metadata_creates(version: i16, clients: &mut Clients) {
    if version >= 4 {
        let name = format!("table-never-{version}");
        let request = named(&name).with_allow_auto_topic_creation(false);
        let unknown = clients.owner.ask(version, &request);
        assert_eq!(unknown.topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(described(&mut clients.owner, &name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let name = format!("table-auto-{version}");
    let created = clients.owner.ask(version, &named(&name));
    assert_eq!((created.topics[0].error_code, created.topics[0].partitions.len()), (0, 1));
    assert_eq!(created.topics[0].partitions[0].error_code, 0, "it can be written to at once");
    assert_eq!(append(&mut clients.owner, &name, batch(&["first"])), 0);
}

fn authorised_operations(version: i16, clients: &mut Clients, data: &Topic) {
    const DESCRIBES: i32 = 1 << 8 | 1 << 10;
    let request = named(data.name).with_include_topic_authorized_operations(true);
    let request = if version <= 10 { request.with_include_cluster_authorized_operations(true) } else { request };
    for (client, of_cluster, of_topic) in [
        (&mut clients.owner, DESCRIBES | 1 << 5 | 1 << 12, DESCRIBES | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7),
        (&mut clients.reader, DESCRIBES | 1 << 5 | 1 << 12, DESCRIBES | 1 << 3),
        (&mut clients.witness, DESCRIBES, NOT_ASKED),
    ] {
        let response = client.ask(version, &request);
        assert_eq!(response.cluster_authorized_operations, if version <= 10 { of_cluster } else { NOT_ASKED });
        assert_eq!(response.topics[0].topic_authorized_operations, of_topic);
    }
}

fn metadata_by_id(version: i16, clients: &mut Clients, data: &Topic) {
    let id = described(&mut clients.owner, data.name).topic_id;
    let by_id = |id| {
        let name = (version < 12).then(|| topic(""));
        let wanted = MetadataRequestTopic::default().with_topic_id(id).with_name(name);
        MetadataRequest::default().with_topics(Some(vec![wanted]))
    };
    let found = clients.owner.ask(version, &by_id(id)).topics[0].clone();
    if version < 12 {
        assert_eq!(found.error_code, code::INVALID_REQUEST, "ids are shown, and not yet asked for");
        return;
    }
    assert_eq!((found.error_code, found.topic_id), (0, id));
    assert_eq!(found.name.as_deref().map(|name| name.as_str()), Some(data.name));
    let other = Uuid::from_u128(7);
    let unknown = clients.owner.ask(version, &by_id(other)).topics[0].clone();
    assert_eq!((unknown.error_code, unknown.topic_id, unknown.name), (code::UNKNOWN_TOPIC_ID, other, None));
    let denied = clients.witness.ask(version, &by_id(id)).topics[0].clone();
    assert_eq!((denied.error_code, denied.name), (code::TOPIC_AUTHORIZATION_FAILED, None));
}

pub(super) fn create_topics(version: i16, clients: &mut Clients) {
    let name = format!("table-created-{version}");
    let wanted = creatable(&name).with_num_partitions(2).with_replication_factor(1);
    let wanted = wanted.with_configs(vec![config("max.message.bytes", "2000")]);
    let checked = clients.owner.ask(version, &create_request(vec![wanted.clone()]).with_validate_only(true));
    assert_eq!((checked.topics[0].error_code, checked.topics[0].topic_id), (0, Uuid::nil()));
    assert_eq!(described(&mut clients.owner, &name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let response = clients.owner.ask(version, &create_request(vec![wanted.clone(), creatable("no/name")]));
    let [created, invalid] = &response.topics[..] else { panic!("two topics") };
    assert_eq!((created.name.as_str(), created.error_code), (name.as_str(), 0), "{:?}", created.error_message);
    assert_eq!((created.topic_id.is_nil(), created.error_message.is_none()), (version < 7, true));
    if version >= 5 {
        assert_eq!((created.num_partitions, created.replication_factor), (2, 4), "it says what it got");
        let configs = created.configs.as_ref().expect("settings");
        let limit = configs.iter().find(|config| config.name.as_str() == "max.message.bytes").expect("the limit");
        assert_eq!((limit.value.as_deref(), limit.config_source, limit.read_only), (Some("2000"), 1, false));
    }
    assert_eq!((invalid.error_code, invalid.error_message.is_some()), (code::INVALID_TOPIC, true));
    wait_until_known(&mut clients.reader, &name);
    assert_eq!(described(&mut clients.reader, &name).partitions.len(), 2);
    let again = clients.owner.ask(version, &create_request(vec![wanted]));
    assert_eq!(again.topics[0].error_code, code::TOPIC_ALREADY_EXISTS);
    let witness = clients.witness.ask(version, &create_request(vec![creatable("table-of-a-witness")]));
    assert_eq!(witness.topics[0].error_code, code::TOPIC_AUTHORIZATION_FAILED);
}

pub(super) fn create_partitions(version: i16, clients: &mut Clients) {
    let name = format!("table-enlarged-{version}");
    assert_eq!(create(&mut clients.owner, creatable(&name)).error_code, 0);
    let request =
        |count| CreatePartitionsRequest::default().with_timeout_ms(30_000).with_topics(vec![enlarged(&name, count)]);
    let result = |client: &mut Client, request: &CreatePartitionsRequest| {
        let results = client.ask(version, request).results;
        let [result] = &results[..] else { panic!("one topic") };
        assert_eq!((result.name.as_str(), result.error_message.is_some()), (name.as_str(), result.error_code != 0));
        result.error_code
    };
    assert_eq!(result(&mut clients.owner, &request(3).with_validate_only(true)), 0);
    assert_eq!(described(&mut clients.owner, &name).partitions.len(), 1);
    assert_eq!(result(&mut clients.owner, &request(3)), 0);
    let topic = described(&mut clients.owner, &name);
    assert_eq!(topic.partitions.iter().map(|partition| partition.error_code).collect::<Vec<_>>(), [0; 3]);
    assert_eq!(result(&mut clients.owner, &request(3)), code::INVALID_PARTITIONS, "it has them");
    wait_until_known(&mut clients.reader, &name);
    assert_eq!(result(&mut clients.reader, &request(4)), code::TOPIC_AUTHORIZATION_FAILED);
}

pub(super) fn delete_topics(version: i16, clients: &mut Clients) {
    let name = format!("table-deleted-{version}");
    let created = create(&mut clients.owner, creatable(&name));
    assert_eq!(created.error_code, 0);
    let request = |name: &str| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        if version < 6 {
            return request.with_topic_names(vec![topic(name)]);
        }
        request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic(name)))])
    };
    wait_until_known(&mut clients.reader, &name);
    let refused = clients.reader.ask(version, &request(&name)).responses[0].clone();
    assert_eq!(refused.error_code, code::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(refused.error_message.is_some(), version >= 5);
    let deleted = clients.owner.ask(version, &request(&name)).responses[0].clone();
    assert_eq!((deleted.error_code, deleted.name.as_deref().map(|name| name.as_str())), (0, Some(name.as_str())));
    assert_eq!(deleted.topic_id, if version < 6 { Uuid::nil() } else { created.topic_id });
    assert_eq!(described(&mut clients.owner, &name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let unknown = clients.owner.ask(version, &request(&name)).responses[0].clone();
    assert_eq!(unknown.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

pub(super) fn describe_configs(version: i16, clients: &mut Clients, data: &Topic) {
    let resource = |kind: i8, name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    let own = network().acme.node.to_string();
    let resources = vec![
        resource(2, data.name),
        resource(4, &own),
        resource(2, "table-unknown"),
        resource(4, "99"),
        resource(3, ""),
    ];
    let request = DescribeConfigsRequest::default().with_resources(resources).with_include_synonyms(true);
    let request = if version >= 3 { request.with_include_documentation(true) } else { request };
    let response = clients.owner.ask(version, &request);
    let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
    let refused = [code::UNKNOWN_TOPIC_OR_PARTITION, code::INVALID_REQUEST, code::INVALID_REQUEST];
    assert_eq!(codes, [&[0, 0][..], &refused].concat());
    assert!(response.results[2..].iter().all(|result| result.error_message.is_some() && result.configs.is_empty()));
    let limit = response.results[0].configs.iter().find(|config| config.name.as_str() == "max.message.bytes");
    let limit = limit.expect("the limit");
    assert_eq!((limit.value.as_deref(), limit.read_only, limit.config_source), (Some("1048588"), false, 5));
    let [synonym] = &limit.synonyms[..] else { panic!("the broker's default") };
    assert_eq!(
        (synonym.name.as_str(), synonym.value.as_deref(), synonym.source),
        ("message.max.bytes", Some("1048588"), 5)
    );
    assert_eq!(limit.config_type, if version < 3 { 0 } else { 3 });
    assert_eq!(limit.documentation.as_ref().is_some_and(|text| !text.is_empty()), version >= 3);
    let listeners = response.results[1].configs.iter().find(|config| config.name.as_str() == "advertised.listeners");
    let listeners = listeners.expect("the listener");
    let Secured { ssl, sasl_plaintext, sasl_ssl, .. } = secured();
    let plain = network().acme.kafka;
    let expected = format!("PLAINTEXT://{plain},SSL://{ssl},SASL_PLAINTEXT://{sasl_plaintext},SASL_SSL://{sasl_ssl}");
    assert_eq!(
        (listeners.value.as_deref(), listeners.read_only, listeners.config_source),
        (Some(expected.as_str()), true, 4)
    );
    let denied = clients.witness.ask(version, &request);
    assert_eq!(denied.results[0].error_code, code::TOPIC_AUTHORIZATION_FAILED);
}

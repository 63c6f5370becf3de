//! CreateTopics, CreatePartitions and DeleteTopics beyond their versions: every way to be refused, and what a name used again means.

use crate::client::Client;
use crate::network::{acme, globex};
use crate::requests::*;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, DeleteTopicsRequest};
use uuid::Uuid;

#[test]
fn replication_factors_are_those_of_pbft() {
    let mut client = Client::connect(acme());
    let mut got = |factor: i16| {
        let name = format!("topics-factor-{factor}");
        let created = create(&mut client, creatable(&name).with_replication_factor(factor));
        (created.error_code, created.replication_factor)
    };
    for factor in [-1, 1, 2, 3, 4] {
        assert_eq!(got(factor), (0, 4), "factor {factor}");
    }
    for factor in [0, -2, 5, 7, i16::MAX] {
        assert_eq!(got(factor), (code::INVALID_REPLICATION_FACTOR, -1), "factor {factor}");
    }
}

#[test]
fn partitions_have_bounds_and_a_default() {
    let mut client = Client::connect(acme());
    for partitions in [0, -2, 10_001, i32::MAX, i32::MIN] {
        let refused = create(&mut client, creatable("topics-partitions").with_num_partitions(partitions));
        assert_eq!(refused.error_code, code::INVALID_PARTITIONS, "{partitions}");
        assert!(refused.error_message.is_some());
    }
    let created = create(&mut client, creatable("topics-partitions").with_num_partitions(-1));
    assert_eq!((created.error_code, created.num_partitions), (0, 1));
}

#[test]
fn bad_names_are_refused_with_a_reason() {
    let mut client = Client::connect(acme());
    for name in ["", ".", "..", "a b", "a/b", "\u{e9}", "__system", &"x".repeat(250)] {
        let refused = create(&mut client, creatable(name));
        assert_eq!((refused.error_code, refused.error_message.is_some()), (code::INVALID_TOPIC, true), "{name}");
    }
}

#[test]
fn settings_are_checked_before_anything_is_created() {
    let name = "topics-settings";
    let mut client = Client::connect(acme());
    let null = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(None);
    for (what, configs) in [
        ("unknown", vec![config("no.such.setting", "1")]),
        ("not a number", vec![config("max.message.bytes", "big")]),
        ("not one of", vec![config("message.timestamp.type", "Never")]),
        ("twice", vec![config("retention.ms", "1"), config("retention.ms", "2")]),
        ("null", vec![null]),
        ("no tiered storage", vec![config("remote.storage.enable", "true")]),
        ("beyond the ledger's bound", vec![config("message.timestamp.after.max.ms", "9223372036854775807")]),
    ] {
        let refused = create(&mut client, creatable(name).with_configs(configs));
        assert_eq!((refused.error_code, refused.error_message.is_some()), (code::INVALID_CONFIG, true), "{what}");
    }
    assert_eq!(described(&mut client, name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    // What existing tools give is taken, also where it changes nothing.
    let usual = [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.insync.replicas", "2")];
    let usual = usual.map(|(name, value)| config(name, value)).to_vec();
    assert_eq!(create(&mut client, creatable(name).with_configs(usual)).error_code, 0);
}

#[test]
fn a_topic_named_twice_is_refused_once_and_the_others_are_created() {
    let mut client = Client::connect(acme());
    let topics = vec![creatable("topics-twice"), creatable("topics-once"), creatable("topics-twice")];
    let response = client.ask(7, &create_request(topics));
    let results: Vec<_> = response.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect();
    assert_eq!(results, [("topics-twice".to_string(), code::INVALID_REQUEST), ("topics-once".to_string(), 0)]);
    assert_eq!(described(&mut client, "topics-twice").error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn replicas_are_placed_by_the_network() {
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let wanted = creatable("topics-placed").with_num_partitions(-1).with_assignments(vec![assignment]);
    assert_eq!(create(&mut Client::connect(acme()), wanted).error_code, code::INVALID_REPLICA_ASSIGNMENT);
}

/// The codes of enlarging topics, in the order of the answer.
fn enlarge(client: &mut Client, topics: Vec<CreatePartitionsTopic>) -> Vec<i16> {
    let request = CreatePartitionsRequest::default().with_timeout_ms(30_000).with_topics(topics);
    client.ask(3, &request).results.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn only_more_partitions_can_be_had_and_they_are_placed_by_the_network() {
    let name = "topics-enlarged-not";
    let mut client = Client::connect(acme());
    assert_eq!(create(&mut client, creatable(name).with_num_partitions(2)).error_code, 0);
    for count in [2, 1, 0, -1, i32::MIN, 10_001, i32::MAX] {
        assert_eq!(enlarge(&mut client, vec![enlarged(name, count)]), [code::INVALID_PARTITIONS], "{count}");
    }
    let unknown = enlarge(&mut client, vec![enlarged("topics-enlarged-unknown", 2), enlarged("no/name", 2)]);
    assert_eq!(unknown, [code::UNKNOWN_TOPIC_OR_PARTITION; 2]);
    let placed = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let placed = enlarged(name, 3).with_assignments(Some(vec![placed]));
    assert_eq!(enlarge(&mut client, vec![placed]), [code::INVALID_REPLICA_ASSIGNMENT]);
    let twice = vec![enlarged(name, 3), enlarged(name, 4)];
    assert_eq!(enlarge(&mut client, twice), [code::INVALID_REQUEST]);
    assert_eq!(described(&mut client, name).partitions.len(), 2);
}

#[test]
fn a_further_partition_carries_records_and_the_first_keeps_its_own() {
    let name = "topics-enlarged";
    let (mut owner, mut reader) = (acme_with_topic(name), Client::connect(globex()));
    let kept = batch(&["kept"]);
    assert_eq!(append(&mut owner, name, kept.clone()), 0);
    assert_eq!(enlarge(&mut owner, vec![enlarged(name, 3)]), [0]);
    let new = batch(&["new"]);
    let produced = owner.ask(9, &produce_request(name, 2, new.clone()));
    let partition = produced.responses[0].partition_responses[0].clone();
    assert_eq!((partition.error_code, partition.base_offset), (0, 0), "it can be written to at once");
    eventually("three partitions at the other organisation", || described(&mut reader, name).partitions.len() == 3);
    wait_until_known(&mut reader, name);
    assert_eq!(records_from(&mut reader, name, 0), at_offset(0, &kept));
    let read = fetched(&mut reader, 12, &fetch_request(name, vec![fetch_partition(2, 0)]));
    assert_eq!((read.error_code, read.records), (0, Some(at_offset(0, &new))));
}

fn deleted(client: &mut Client, topics: Vec<DeleteTopicState>) -> Vec<i16> {
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(topics);
    client.ask(6, &request).responses.iter().map(|topic| topic.error_code).collect()
}

fn by_name(name: &str) -> DeleteTopicState {
    DeleteTopicState::default().with_name(Some(topic(name)))
}

fn by_id(id: Uuid) -> DeleteTopicState {
    DeleteTopicState::default().with_name(None).with_topic_id(id)
}

#[test]
fn only_the_owner_deletes_by_name_or_by_id() {
    let names = ["topics-delete-a", "topics-delete-b", "topics-delete-c"];
    let (mut owner, mut other) = (Client::connect(acme()), Client::connect(globex()));
    let ids = names.map(|name| create(&mut owner, creatable(name)).topic_id);
    names.iter().for_each(|name| wait_until_known(&mut other, name));
    let denied = vec![by_name(names[0]), by_id(ids[1])];
    assert_eq!(deleted(&mut other, denied), [code::TOPIC_AUTHORIZATION_FAILED; 2]);
    let odd = vec![
        by_name(names[0]).with_topic_id(ids[0]),
        by_id(Uuid::from_u128(5)),
        by_name("topics-delete-unknown"),
        by_name(names[2]),
        by_name(names[2]),
    ];
    let expected =
        [code::INVALID_REQUEST, code::UNKNOWN_TOPIC_ID, code::UNKNOWN_TOPIC_OR_PARTITION, code::INVALID_REQUEST];
    assert_eq!(deleted(&mut owner, odd), expected);
    assert_eq!(deleted(&mut owner, vec![by_name(names[0]), by_id(ids[1])]), [0, 0]);
    for name in &names[..2] {
        assert_eq!(described(&mut owner, name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert_eq!(described(&mut owner, names[2]).error_code, 0);
}

#[test]
fn a_name_used_again_is_another_topic() {
    let name = "topics-again";
    let mut client = Client::connect(acme());
    let first = create(&mut client, creatable(name));
    append(&mut client, name, batch(&["old"]));
    assert_eq!(deleted(&mut client, vec![by_name(name)]), [0]);
    assert_eq!(produce(&mut client, name, batch(&["lost"])).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let second = create(&mut client, creatable(name));
    assert_eq!(second.error_code, 0);
    assert_ne!(second.topic_id, first.topic_id);
    let new = batch(&["new"]);
    assert_eq!(append(&mut client, name, new.clone()), 0);
    assert_eq!(records_from(&mut client, name, 0), at_offset(0, &new));
}

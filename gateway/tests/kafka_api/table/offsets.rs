//! OffsetCommit, OffsetFetch, OffsetDelete.

use super::Clients;
use super::data::Topic;
use crate::groups::Member;
use crate::requests::*;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};

type Stored = Vec<(String, i32, i64, i32, String)>;

fn commit_request(version: i16, group_name: &str, topics: &[(&str, i32, i64, &str)]) -> OffsetCommitRequest {
    let topics = topics.iter().map(|(name, partition, offset, note)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text(note)));
        let partition = if version < 6 { partition } else { partition.with_committed_leader_epoch(EPOCH) };
        OffsetCommitRequestTopic::default().with_name(topic(name)).with_partitions(vec![partition])
    });
    OffsetCommitRequest::default()
        .with_group_id(group(group_name))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect())
}

pub(super) fn offset_commit(version: i16, clients: &mut Clients, data: &Topic) {
    let name = format!("table-commit-{version}");
    let note = "n".repeat(4097);
    let topics = [
        (data.name, 0, 4, "a note"),
        (data.name, 1, 4, ""),
        ("table-unknown", 0, 4, ""),
        (data.name, 0, 3, note.as_str()),
    ];
    let response = clients.owner.ask(version, &commit_request(version, &name, &topics));
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    let unknown = code::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [0, unknown, unknown, code::OFFSET_METADATA_TOO_LARGE]);
    let epoch = if version < 6 { -1 } else { EPOCH };
    let expected = vec![(data.name.to_string(), 0, 4, epoch, "a note".to_string())];
    assert_eq!(stored(8, clients, &name, None), (0, expected));
    let mut code_of =
        |request: &OffsetCommitRequest| clients.owner.ask(version, request).topics[0].partitions[0].error_code;
    let good = commit_request(version, &name, &topics[..1]);
    assert_eq!(code_of(&good.clone().with_member_id(text("nobody"))), 0, "as in Kafka: nobody else is there");
    assert_eq!(code_of(&good.clone().with_generation_id_or_member_epoch(3)), code::UNKNOWN_MEMBER_ID);
    assert_eq!(code_of(&good.clone().with_group_id(group(""))), code::INVALID_GROUP_ID);
    assert_eq!(code_of(&good.clone().with_group_id(group(&"g".repeat(1025)))), code::INVALID_GROUP_ID);
    let denied = clients.witness.ask(version, &good);
    assert_eq!(denied.topics[0].partitions[0].error_code, code::TOPIC_AUTHORIZATION_FAILED);
}

/// The error of the whole and what is stored; none for all topics.
fn stored(version: i16, clients: &mut Clients, name: &str, wanted: Option<&[(&str, i32)]>) -> (i16, Stored) {
    if version < 8 {
        let topics = wanted.map(|wanted| {
            let topics = wanted.iter().map(|(name, partition)| {
                OffsetFetchRequestTopic::default().with_name(topic(name)).with_partition_indexes(vec![*partition])
            });
            topics.collect()
        });
        let request = OffsetFetchRequest::default().with_group_id(group(name)).with_topics(topics);
        let response = clients.owner.ask(version, &request);
        let partitions = response.topics.into_iter().flat_map(|topic| {
            topic.partitions.into_iter().map(move |partition| {
                assert_eq!(partition.error_code, 0);
                let metadata = partition.metadata.expect("a note").to_string();
                let (index, epoch) = (partition.partition_index, partition.committed_leader_epoch);
                (topic.name.to_string(), index, partition.committed_offset, epoch, metadata)
            })
        });
        return (response.error_code, partitions.collect());
    }
    let topics = wanted.map(|wanted| {
        let topics = wanted.iter().map(|(name, partition)| {
            OffsetFetchRequestTopics::default().with_name(topic(name)).with_partition_indexes(vec![*partition])
        });
        topics.collect()
    });
    let other = OffsetFetchRequestGroup::default().with_group_id(group("table-nobody")).with_topics(None);
    let asked = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics);
    let response = clients.owner.ask(version, &OffsetFetchRequest::default().with_groups(vec![other, asked]));
    let [other, asked] = &response.groups[..] else { panic!("two groups") };
    assert_eq!((other.group_id.as_str(), other.error_code, other.topics.len()), ("table-nobody", 0, 0));
    assert_eq!(asked.group_id.as_str(), name);
    let partitions = asked.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            assert_eq!(partition.error_code, 0);
            let metadata = partition.metadata.as_ref().expect("a note").to_string();
            let (index, epoch) = (partition.partition_index, partition.committed_leader_epoch);
            (topic.name.to_string(), index, partition.committed_offset, epoch, metadata)
        })
    });
    (asked.error_code, partitions.collect())
}

pub(super) fn offset_fetch(version: i16, clients: &mut Clients, data: &Topic) {
    let name = format!("table-fetch-{version}");
    let committed = clients.owner.ask(8, &commit_request(8, &name, &[(data.name, 0, 2, "seen")]));
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let epoch = if version < 5 { -1 } else { EPOCH };
    let entry = (data.name.to_string(), 0, 2, epoch, "seen".to_string());
    let none = |name: &str, partition| (name.to_string(), partition, -1, -1, String::new());
    let wanted = [(data.name, 0), (data.name, 5), ("table-unknown", 0)];
    let expected = vec![entry.clone(), none(data.name, 5), none("table-unknown", 0)];
    assert_eq!(stored(version, clients, &name, Some(&wanted)), (0, expected));
    let unknown = stored(version, clients, "table-nobody", Some(&wanted[..1]));
    assert_eq!(unknown, (0, vec![none(data.name, 0)]), "an unknown group has no offsets and makes no error");
    if version >= 2 {
        assert_eq!(stored(version, clients, &name, None), (0, vec![entry]));
    }
}

pub(super) fn offset_delete(version: i16, clients: &mut Clients, data: &Topic) {
    let name = format!("table-forget-{version}");
    let committed = clients.owner.ask(8, &commit_request(8, &name, &[(data.name, 0, 2, "")]));
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let partitions = [0, 5].map(|index| OffsetDeleteRequestPartition::default().with_partition_index(index));
    let forget = OffsetDeleteRequestTopic::default().with_name(topic(data.name)).with_partitions(partitions.to_vec());
    let request = OffsetDeleteRequest::default().with_group_id(group(&name)).with_topics(vec![forget]);
    let response = clients.owner.ask(version, &request);
    assert_eq!(response.error_code, 0);
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [0, code::UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(stored(8, clients, &name, None), (0, Vec::new()));
    let unknown = clients.owner.ask(version, &request);
    assert_eq!(unknown.error_code, code::GROUP_ID_NOT_FOUND, "a group of nothing is no group");
    let busy = Member::join(&mut clients.owner, &name);
    assert_eq!(clients.owner.ask(version, &request).error_code, code::NON_EMPTY_GROUP);
    busy.leave(&mut clients.owner);
}

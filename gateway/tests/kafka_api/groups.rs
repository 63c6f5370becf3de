//! Consumer groups over the wire: two members, a static one, rebalances, commits, and groups that are deleted.

use crate::client::Client;
use crate::network::{acme, globex};
use crate::requests::*;
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseTopics;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::time::Duration;

/// A member of a group, as its client knows itself.
pub struct Member {
    pub group: String,
    pub id: StrBytes,
    pub generation: i32,
    instance: Option<StrBytes>,
}

pub fn join_request(name: &str, version: i16) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"subscription"));
    let request = JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version < 1 { request } else { request.with_rebalance_timeout_ms(30_000) }
}

pub fn leave_request(version: i16, name: &str, member_id: &str) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group(name));
    if version < 3 {
        return request.with_member_id(text(member_id));
    }
    request.with_members(vec![MemberIdentity::default().with_member_id(text(member_id))])
}

impl Member {
    /// The first and only member: its group is complete at once.
    pub fn join(client: &mut Client, name: &str) -> Self {
        let id = Self::id_for(client, name);
        let request = join_request(name, 9).with_member_id(id);
        Self::joined(name, None, &client.ask(9, &request))
    }

    /// An id to join with (KIP-394).
    fn id_for(client: &mut Client, name: &str) -> StrBytes {
        let first = client.ask(9, &join_request(name, 9));
        assert_eq!(first.error_code, code::MEMBER_ID_REQUIRED);
        first.member_id
    }

    /// What a JoinGroup that succeeded makes of its client.
    pub fn joined(name: &str, instance: Option<&str>, response: &JoinGroupResponse) -> Self {
        assert_eq!(response.error_code, 0);
        Member {
            group: name.to_string(),
            id: response.member_id.clone(),
            generation: response.generation_id,
            instance: instance.map(text),
        }
    }

    fn sync_request(&self, assignments: &[(StrBytes, &str)]) -> SyncGroupRequest {
        let assignments = assignments.iter().map(|(id, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(id.clone())
                .with_assignment(Bytes::copy_from_slice(assignment.as_bytes()))
        });
        SyncGroupRequest::default()
            .with_group_id(group(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.clone())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.collect())
    }

    /// Its error and its assignment.
    pub fn sync(&mut self, client: &mut Client, assignments: &[(StrBytes, &str)]) -> (i16, String) {
        let synced = client.ask(5, &self.sync_request(assignments));
        (synced.error_code, String::from_utf8(synced.assignment.to_vec()).expect("text"))
    }

    pub fn heartbeat(&self, client: &mut Client) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.clone());
        client.ask(4, &request).error_code
    }

    /// Joins again, as heartbeats tell it to.
    fn rejoin_request(&self) -> JoinGroupRequest {
        join_request(&self.group, 9).with_member_id(self.id.clone()).with_group_instance_id(self.instance.clone())
    }

    pub fn leave(&self, client: &mut Client) {
        let left = client.ask(5, &leave_request(5, &self.group, &self.id));
        assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    }

    fn commit(&self, client: &mut Client, generation: i32, name: &str, offset: i64) -> i16 {
        let member_id = if generation < 0 { text("") } else { self.id.clone() };
        commit(client, &self.group, generation, member_id, name, offset)
    }
}

/// Commits with a note.
pub fn commit_noted(client: &mut Client, member: &Member, name: &str, offset: i64, note: &str) -> i16 {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_metadata(Some(text(note)));
    let topic = OffsetCommitRequestTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(&member.group))
        .with_generation_id_or_member_epoch(member.generation)
        .with_member_id(member.id.clone())
        .with_topics(vec![topic]);
    client.ask(8, &request).topics[0].partitions[0].error_code
}

/// All that a group has committed, with the notes.
pub fn committed_noted(client: &mut Client, name: &str) -> Vec<(String, i64, String)> {
    let wanted = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(None);
    let response = client.ask(8, &OffsetFetchRequest::default().with_groups(vec![wanted]));
    let topics = response.groups[0].topics.iter();
    let entry = |topic: &OffsetFetchResponseTopics| {
        let partition = &topic.partitions[0];
        let note = partition.metadata.as_ref().expect("a note").to_string();
        (topic.name.to_string(), partition.committed_offset, note)
    };
    topics.map(entry).collect()
}

fn commit(client: &mut Client, group_name: &str, generation: i32, member_id: StrBytes, name: &str, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(group_name))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member_id)
        .with_topics(vec![topic]);
    client.ask(8, &request).topics[0].partitions[0].error_code
}

/// All that a group has committed, by topic.
fn committed(client: &mut Client, name: &str) -> Vec<(String, i64)> {
    committed_noted(client, name).into_iter().map(|(topic, offset, _)| (topic, offset)).collect()
}

#[test]
fn two_members_share_rebalance_and_commit() {
    let (topic, name) = ("groups-shared", "groups-two");
    let mut first = acme_with_topic(topic);
    let mut second = Client::connect(acme());
    let mut leader = Member::join(&mut first, name);
    assert_eq!(leader.sync(&mut first, &[(leader.id.clone(), "all")]), (0, "all".into()));
    assert_eq!(leader.heartbeat(&mut first), 0);

    // A second member: the first hears of it, joins again, and assigns.
    let id = Member::id_for(&mut second, name);
    second.send(9, &join_request(name, 9).with_member_id(id.clone()));
    eventually("the rebalance", || leader.heartbeat(&mut first) == code::REBALANCE_IN_PROGRESS);
    assert_eq!(leader.commit(&mut first, 1, topic, 1), 0, "until it joins again it may commit what it has done");
    let rejoined = first.ask(9, &leader.rejoin_request());
    leader = Member::joined(name, None, &rejoined);
    let (_, joined) = second.receive::<JoinGroupRequest>(9);
    let mut follower = Member::joined(name, None, &joined);
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!((&rejoined.leader, &joined.leader), (&leader.id, &leader.id));
    assert_eq!((rejoined.members.len(), joined.members.len()), (2, 0), "only the leader sees the others");

    // The follower waits for the leader's assignment.
    second.send(5, &follower.sync_request(&[]));
    let shares = [(leader.id.clone(), "left"), (follower.id.clone(), "right")];
    assert_eq!(leader.sync(&mut first, &shares), (0, "left".into()));
    let (_, synced) = second.receive::<SyncGroupRequest>(5);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"right"[..]));

    assert_eq!(leader.commit(&mut first, 2, topic, 2), 0);
    assert_eq!(leader.commit(&mut first, 1, topic, 3), code::ILLEGAL_GENERATION);
    assert_eq!(leader.commit(&mut first, -1, topic, 3), code::UNKNOWN_MEMBER_ID, "reset tools wait for an empty group");
    assert_eq!(committed(&mut second, name), [(topic.to_string(), 2)]);

    // An unchanged follower that joins again disturbs nobody.
    let again = second.ask(9, &follower.rejoin_request());
    assert_eq!((again.error_code, again.generation_id), (0, 2));
    assert_eq!(follower.sync(&mut second, &[]), (0, "right".into()));
    assert_eq!(leader.heartbeat(&mut first), 0);

    // The follower goes, the leader goes on alone; then the group is empty, and tools may set offsets.
    follower.leave(&mut second);
    assert_eq!(follower.heartbeat(&mut second), code::UNKNOWN_MEMBER_ID);
    assert_eq!(leader.heartbeat(&mut first), code::REBALANCE_IN_PROGRESS);
    let alone = first.ask(9, &leader.rejoin_request());
    leader = Member::joined(name, None, &alone);
    assert_eq!((leader.generation, alone.members.len()), (3, 1));
    assert_eq!(leader.sync(&mut first, &[(leader.id.clone(), "all")]), (0, "all".into()));
    leader.leave(&mut first);
    assert_eq!(leader.commit(&mut first, -1, topic, 0), 0);
    assert_eq!(committed(&mut second, name), [(topic.to_string(), 0)]);
    assert_eq!(committed(&mut Client::connect(globex()), name), [], "groups are each organisation's own");
}

#[test]
fn a_member_that_falls_silent_is_dropped_and_the_other_goes_on() {
    let name = "groups-silent";
    let (mut first, mut second) = (Client::connect(acme()), Client::connect(acme()));
    let shortest = |request: JoinGroupRequest| request.with_session_timeout_ms(6_000);
    let id = Member::id_for(&mut first, name);
    let joined = first.ask(9, &shortest(join_request(name, 9)).with_member_id(id));
    let mut leader = Member::joined(name, None, &joined);
    assert_eq!(leader.sync(&mut first, &[(leader.id.clone(), "all")]).0, 0);
    let id = Member::id_for(&mut second, name);
    second.send(9, &shortest(join_request(name, 9)).with_member_id(id));
    eventually("the rebalance", || leader.heartbeat(&mut first) == code::REBALANCE_IN_PROGRESS);
    leader = Member::joined(name, None, &first.ask(9, &shortest(leader.rejoin_request())));
    let (_, joined) = second.receive::<JoinGroupRequest>(9);
    let lost = Member::joined(name, None, &joined);
    // It is in the generation, never asks for its share, and its process is gone.
    drop(second);
    let shares = [(leader.id.clone(), "left"), (lost.id.clone(), "right")];
    assert_eq!(leader.sync(&mut first, &shares), (0, "left".into()));
    eventually("the rebalance without it", || leader.heartbeat(&mut first) == code::REBALANCE_IN_PROGRESS);
    let alone = first.ask(9, &shortest(leader.rejoin_request()));
    assert_eq!((alone.error_code, alone.generation_id, alone.members.len()), (0, 3, 1));
    assert_eq!(lost.heartbeat(&mut first), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_static_member_comes_back_to_its_assignment_and_fences_its_former_self() {
    let name = "groups-static";
    let (mut before, mut after) = (Client::connect(acme()), Client::connect(acme()));
    let join = join_request(name, 9).with_group_instance_id(Some(text("desk-1")));
    let mut old = Member::joined(name, Some("desk-1"), &before.ask(9, &join));
    assert_eq!(old.sync(&mut before, &[(old.id.clone(), "its share")]), (0, "its share".into()));

    let back = after.ask(9, &join);
    let mut new = Member::joined(name, Some("desk-1"), &back);
    assert_eq!((new.generation, back.skip_assignment), (1, true), "no rebalance, and nothing to assign");
    assert_ne!(new.id, old.id);
    assert_eq!(new.sync(&mut after, &[]), (0, "its share".into()));
    assert_eq!(old.heartbeat(&mut before), code::FENCED_INSTANCE_ID);
    assert_eq!(old.sync(&mut before, &[]).0, code::FENCED_INSTANCE_ID);
    assert_eq!(new.heartbeat(&mut after), 0);

    // An administrator removes it by its name alone.
    let gone = MemberIdentity::default().with_group_instance_id(Some(text("desk-1")));
    let nobody = MemberIdentity::default().with_group_instance_id(Some(text("desk-2")));
    let request = LeaveGroupRequest::default().with_group_id(group(name)).with_members(vec![gone, nobody]);
    let left = before.ask(5, &request);
    let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
    assert_eq!((left.error_code, codes), (0, vec![0, code::UNKNOWN_MEMBER_ID]));
    assert_eq!(new.heartbeat(&mut after), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_that_was_deleted_begins_anew_at_once() {
    let (topic, name) = ("groups-deleted", "groups-deleted");
    let mut client = acme_with_topic(topic);
    let mut member = Member::join(&mut client, name);
    assert_eq!(member.sync(&mut client, &[(member.id.clone(), "all")]).0, 0);
    assert_eq!(member.commit(&mut client, 1, topic, 7), 0);
    member.leave(&mut client);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(name)]);
    assert_eq!(client.ask(2, &delete).results[0].error_code, 0);
    assert_eq!(committed(&mut client, name), []);
    let mut member = Member::join(&mut client, name);
    assert_eq!(member.generation, 1);
    assert_eq!(member.sync(&mut client, &[(member.id.clone(), "again")]), (0, "again".into()));
    assert_eq!(client.ask(2, &delete).results[0].error_code, code::NON_EMPTY_GROUP);
}

#[test]
fn offsets_without_members_make_a_group_that_can_be_deleted() {
    let (topic, name) = ("groups-simple", "groups-simple");
    let mut client = acme_with_topic(topic);
    assert_eq!(commit(&mut client, name, -1, text(""), topic, 3), 0);
    assert_eq!(commit(&mut client, name, -1, text(""), topic, 2), 0, "a reset goes back");
    assert_eq!(committed(&mut client, name), [(topic.to_string(), 2)]);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(name)]);
    assert_eq!(client.ask(2, &delete).results[0].error_code, 0);
    assert_eq!(committed(&mut client, name), []);
}

#[test]
fn a_member_of_another_kind_or_without_a_common_protocol_is_kept_out() {
    let name = "groups-kinds";
    let mut client = Client::connect(acme());
    let member = Member::join(&mut client, name);
    let sticky = JoinGroupRequestProtocol::default().with_name(text("sticky"));
    for request in [
        join_request(name, 3).with_protocol_type(text("connect")),
        join_request(name, 3).with_protocols(vec![sticky]),
        join_request(name, 3).with_protocols(Vec::new()),
    ] {
        assert_eq!(client.ask(3, &request).error_code, code::INCONSISTENT_GROUP_PROTOCOL);
    }
    assert_eq!(member.heartbeat(&mut client), 0, "and nobody in it notices");
}

#[test]
fn offsets_go_with_their_topic_at_every_organisation() {
    let (topic, kept, name) = ("groups-forgotten", "groups-kept", "groups-forgetful");
    let mut owner = acme_with_topic(topic);
    assert_eq!(create(&mut owner, creatable(kept)).error_code, 0);
    let mut reader = Client::connect(globex());
    for topic in [topic, kept] {
        wait_until_known(&mut reader, topic);
    }
    for client in [&mut owner, &mut reader] {
        for topic in [topic, kept] {
            assert_eq!(commit(client, name, -1, text(""), topic, 0), 0);
        }
        assert_eq!(commit(client, "groups-of-nothing", -1, text(""), topic, 0), 0);
    }
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![crate::requests::topic(topic)]);
    assert_eq!(owner.ask(5, &delete.with_timeout_ms(30_000)).responses[0].error_code, 0);
    for client in [&mut owner, &mut reader] {
        eventually("the group is gone", || {
            let groups = client.ask(4, &ListGroupsRequest::default()).groups;
            groups.iter().all(|group| group.group_id.as_str() != "groups-of-nothing")
        });
        assert_eq!(committed(client, name), [(kept.to_string(), 0)]);
    }
}

#[test]
fn metadata_and_assignments_are_opaque_and_groups_need_not_be_consumers() {
    let name = "groups-connect";
    let mut client = Client::connect(acme());
    let opaque: Bytes = (0..=255).cycle().take(5_000).collect();
    let backwards: Bytes = opaque.iter().rev().copied().collect();
    let protocol = JoinGroupRequestProtocol::default().with_name(text("sessioned")).with_metadata(opaque.clone());
    let request = join_request(name, 9).with_protocol_type(text("connect")).with_protocols(vec![protocol]);
    let id = client.ask(9, &request).member_id;
    let joined = client.ask(9, &request.with_member_id(id.clone()));
    assert_eq!((joined.error_code, joined.protocol_type.as_deref()), (0, Some("connect")));
    assert_eq!(joined.members[0].metadata, opaque);
    let assignment =
        SyncGroupRequestAssignment::default().with_member_id(id.clone()).with_assignment(backwards.clone());
    let sync = SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(id)
        .with_protocol_type(Some(text("connect")))
        .with_protocol_name(Some(text("sessioned")))
        .with_assignments(vec![assignment]);
    let synced = client.ask(5, &sync);
    assert_eq!((synced.error_code, &synced.assignment), (0, &backwards));
    let described = client.ask(5, &DescribeGroupsRequest::default().with_groups(vec![group(name)])).groups[0].clone();
    assert_eq!((described.protocol_type.as_str(), described.protocol_data.as_str()), ("connect", "sessioned"));
    let shown = &described.members[0];
    assert_eq!((&shown.member_metadata, &shown.member_assignment), (&opaque, &backwards));
}

/// What the threads of the next test are to do, and what they have.
#[derive(Default)]
struct Stage {
    /// Members with a higher number leave.
    members: AtomicU8,
    /// Each one's generation while it is settled, else 0.
    generations: [AtomicI32; 5],
}

impl Stage {
    /// Waits until so many members, and nobody else, are in one generation after `before`; which it is.
    fn settle(&self, members: usize, before: i32) -> i32 {
        self.members.store(members as u8, Ordering::SeqCst);
        let generation = |index: usize| self.generations[index].load(Ordering::SeqCst);
        eventually(&format!("{members} members settle"), || {
            let all = generation(0);
            all > before && (0..5).all(|index| generation(index) == if index < members { all } else { 0 })
        });
        generation(0)
    }

    /// A member as clients have them: joins, shares out if it leads, syncs, heartbeats, and joins again when told to.
    fn play(&self, name: &str, index: usize) {
        let mut client = Client::connect(acme());
        let request = join_request(name, 9).with_session_timeout_ms(6_000);
        let mut id = text("");
        'join: while index < usize::from(self.members.load(Ordering::SeqCst)) {
            self.generations[index].store(0, Ordering::SeqCst);
            let joined = client.ask(9, &request.clone().with_member_id(id.clone()));
            match joined.error_code {
                0 => {}
                code::MEMBER_ID_REQUIRED => {
                    id = joined.member_id;
                    continue;
                }
                code::UNKNOWN_MEMBER_ID => {
                    id = text("");
                    continue;
                }
                other => panic!("join: {other}"),
            }
            let mut member = Member::joined(name, None, &joined);
            let shares: Vec<_> =
                joined.members.iter().map(|other| (other.member_id.clone(), other.member_id.as_str())).collect();
            match member.sync(&mut client, &shares) {
                (0, share) => assert_eq!(share, id.as_str(), "generation {}: somebody else's share", member.generation),
                (code::REBALANCE_IN_PROGRESS | code::ILLEGAL_GENERATION | code::UNKNOWN_MEMBER_ID, _) => continue,
                (other, _) => panic!("sync: {other}"),
            }
            self.generations[index].store(member.generation, Ordering::SeqCst);
            while index < usize::from(self.members.load(Ordering::SeqCst)) {
                match member.heartbeat(&mut client) {
                    0 => std::thread::sleep(Duration::from_millis(10)),
                    code::REBALANCE_IN_PROGRESS | code::ILLEGAL_GENERATION | code::UNKNOWN_MEMBER_ID => continue 'join,
                    other => panic!("heartbeat: {other}"),
                }
            }
            // Every other one says goodbye; the rest are just gone.
            if index % 2 == 1 {
                member.leave(&mut client);
            }
        }
        self.generations[index].store(0, Ordering::SeqCst);
    }
}

/// Sends everybody home, also when the test fails.
struct Curtain<'a>(&'a Stage);

impl Drop for Curtain<'_> {
    fn drop(&mut self) {
        self.0.members.store(0, Ordering::SeqCst);
    }
}

#[test]
fn members_that_come_and_go_at_once_settle_on_one_generation() {
    let name = "groups-crowd";
    let stage = &Stage::default();
    stage.members.store(5, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let _curtain = Curtain(stage);
        for index in 0..5 {
            scope.spawn(move || stage.play(name, index));
        }
        let all = stage.settle(5, 0);
        stage.settle(2, all);
    });
}

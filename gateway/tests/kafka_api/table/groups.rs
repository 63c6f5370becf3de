//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup, DescribeGroups, ListGroups, DeleteGroups.

use super::Clients;
use crate::client::Client;
use crate::groups::{Member, join_request, leave_request};
use crate::network::acme;
use crate::requests::*;
use bytes::Bytes;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, LeaveGroupRequest, ListGroupsRequest,
    SyncGroupRequest,
};

pub(super) fn join_group(version: i16, clients: &mut Clients) {
    let name = format!("table-join-{version}");
    let request = join_request(&name, version);
    let first = clients.owner.ask(version, &request);
    let joined = if version < 4 {
        first
    } else {
        assert_eq!((first.error_code, first.generation_id), (code::MEMBER_ID_REQUIRED, -1));
        assert!(!first.member_id.is_empty());
        clients.owner.ask(version, &request.clone().with_member_id(first.member_id))
    };
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
    assert_eq!((joined.leader.as_str(), joined.skip_assignment), (joined.member_id.as_str(), false));
    let [member] = &joined.members[..] else { panic!("one member") };
    assert_eq!((&member.member_id, &member.metadata[..]), (&joined.member_id, &b"subscription"[..]));
    for (what, request, expected) in [
        ("stranger", request.clone().with_member_id(text("nobody")), code::UNKNOWN_MEMBER_ID),
        ("session", request.clone().with_session_timeout_ms(1), code::INVALID_SESSION_TIMEOUT),
        ("group", request.clone().with_group_id(group("")), code::INVALID_GROUP_ID),
        ("type", request.clone().with_protocol_type(text("connect")), code::INCONSISTENT_GROUP_PROTOCOL),
    ] {
        let refused = clients.owner.ask(version, &request);
        assert_eq!((refused.error_code, refused.generation_id), (expected, -1), "{what}");
        assert_eq!(refused.protocol_name.is_none(), version >= 7, "{what}");
    }
}

pub(super) fn sync_group(version: i16, clients: &mut Clients) {
    let member = Member::join(&mut clients.owner, &format!("table-sync-{version}"));
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.id.clone())
        .with_assignment(Bytes::from_static(b"all of it"));
    let request = SyncGroupRequest::default()
        .with_group_id(group(&member.group))
        .with_generation_id(member.generation)
        .with_member_id(member.id.clone())
        .with_assignments(vec![assignment]);
    let request = if version < 5 {
        request
    } else {
        request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
    };
    let synced = clients.owner.ask(version, &request);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all of it"[..]));
    let named = (synced.protocol_type.as_deref(), synced.protocol_name.as_deref());
    assert_eq!(named, if version < 5 { (None, None) } else { (Some("consumer"), Some("range")) });
    let mut refused = vec![
        (request.clone().with_generation_id(9), code::ILLEGAL_GENERATION),
        (request.clone().with_member_id(text("nobody")), code::UNKNOWN_MEMBER_ID),
        (request.clone().with_group_id(group("")), code::INVALID_GROUP_ID),
    ];
    if version >= 5 {
        refused.push((request.with_protocol_name(Some(text("sticky"))), code::INCONSISTENT_GROUP_PROTOCOL));
    }
    for (request, expected) in refused {
        let answer = clients.owner.ask(version, &request);
        assert_eq!((answer.error_code, answer.assignment), (expected, Bytes::new()));
    }
}

pub(super) fn heartbeat(version: i16, clients: &mut Clients) {
    let member = Member::join(&mut clients.owner, &format!("table-heartbeat-{version}"));
    let request = HeartbeatRequest::default()
        .with_group_id(group(&member.group))
        .with_generation_id(member.generation)
        .with_member_id(member.id.clone());
    for (request, expected) in [
        (request.clone(), 0),
        (request.clone().with_generation_id(9), code::ILLEGAL_GENERATION),
        (request.clone().with_member_id(text("nobody")), code::UNKNOWN_MEMBER_ID),
        (request.clone().with_group_id(group("table-nobody")), code::UNKNOWN_MEMBER_ID),
        (request.with_group_id(group("")), code::INVALID_GROUP_ID),
    ] {
        assert_eq!(clients.owner.ask(version, &request).error_code, expected);
    }
}

pub(super) fn leave_group(version: i16, clients: &mut Clients) {
    let member = Member::join(&mut clients.owner, &format!("table-leave-{version}"));
    let mut leave = |request: &LeaveGroupRequest| {
        let response = clients.owner.ask(version, request);
        if version < 3 {
            return response.error_code;
        }
        assert_eq!(response.error_code, 0);
        let [left] = &response.members[..] else { panic!("one member") };
        assert_eq!(left.member_id, request.members[0].member_id);
        left.error_code
    };
    assert_eq!(leave(&leave_request(version, &member.group, "nobody")), code::UNKNOWN_MEMBER_ID);
    assert_eq!(leave(&leave_request(version, &member.group, &member.id)), 0);
    assert_eq!(leave(&leave_request(version, &member.group, &member.id)), code::UNKNOWN_MEMBER_ID);
    let invalid = clients.owner.ask(version, &leave_request(version, "", &member.id));
    assert_eq!(invalid.error_code, code::INVALID_GROUP_ID);
}

pub(super) fn describe_groups(version: i16, clients: &mut Clients) {
    let mut member = Member::join(&mut clients.owner, &format!("table-describe-{version}"));
    assert_eq!(member.sync(&mut clients.owner, &[(member.id.clone(), "mine")]), (0, "mine".into()));
    let request =
        DescribeGroupsRequest::default().with_groups(vec![group(&member.group), group("table-nobody"), group("")]);
    let request = if version < 3 { request } else { request.with_include_authorized_operations(true) };
    let response = clients.owner.ask(version, &request);
    let [known, unknown, invalid] = &response.groups[..] else { panic!("three groups") };
    assert_eq!(
        (known.error_code, known.group_id.as_str(), known.group_state.as_str()),
        (0, member.group.as_str(), "Stable")
    );
    assert_eq!((known.protocol_type.as_str(), known.protocol_data.as_str()), ("consumer", "range"));
    let operations = if version < 3 { i32::MIN } else { 1 << 3 | 1 << 6 | 1 << 8 };
    assert_eq!(known.authorized_operations, operations);
    let [shown] = &known.members[..] else { panic!("one member") };
    assert_eq!((&shown.member_id, shown.client_id.as_str()), (&member.id, "kafka-api-test"));
    assert_eq!(shown.client_host.as_str(), "/127.0.0.1");
    assert_eq!((&shown.member_metadata[..], &shown.member_assignment[..]), (&b"subscription"[..], &b"mine"[..]));
    let expected = if version < 6 { 0 } else { code::GROUP_ID_NOT_FOUND };
    assert_eq!((unknown.error_code, unknown.group_state.as_str()), (expected, "Dead"));
    assert_eq!(unknown.error_message.is_some(), version >= 6);
    assert_eq!(invalid.error_code, code::INVALID_GROUP_ID);
}

pub(super) fn list_groups(version: i16, clients: &mut Clients) {
    let mut member = Member::join(&mut clients.owner, &format!("table-list-{version}"));
    assert_eq!(member.sync(&mut clients.owner, &[(member.id.clone(), "mine")]), (0, "mine".into()));
    let mut listed = |request: &ListGroupsRequest| {
        let response = clients.owner.ask(version, request);
        assert_eq!(response.error_code, 0);
        response.groups.into_iter().find(|found| found.group_id.as_str() == member.group)
    };
    let found = listed(&ListGroupsRequest::default()).expect("the group");
    assert_eq!(found.protocol_type.as_str(), "consumer");
    assert_eq!(found.group_state.as_str(), if version < 4 { "" } else { "Stable" });
    assert_eq!(found.group_type.as_str(), if version < 5 { "" } else { "classic" });
    if version >= 4 {
        let in_state = |state: &str| ListGroupsRequest::default().with_states_filter(vec![text(state)]);
        assert!(listed(&in_state("stable")).is_some());
        assert!(listed(&in_state("Empty")).is_none());
    }
    if version >= 5 {
        let of_type = |kind: &str| ListGroupsRequest::default().with_types_filter(vec![text(kind)]);
        assert!(listed(&of_type("Classic")).is_some());
        assert!(listed(&of_type("consumer")).is_none());
    }
    let elsewhere = clients.reader.ask(version, &ListGroupsRequest::default());
    assert!(elsewhere.groups.iter().all(|found| found.group_id.as_str() != member.group), "groups are one's own");
}

pub(super) fn delete_groups(version: i16, clients: &mut Clients) {
    let member = Member::join(&mut clients.owner, &format!("table-gone-{version}"));
    let request =
        DeleteGroupsRequest::default().with_groups_names(vec![group(&member.group), group("table-nobody"), group("")]);
    let mut codes = || {
        let results = clients.owner.ask(version, &request).results;
        results.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    let others = [code::GROUP_ID_NOT_FOUND, code::INVALID_GROUP_ID];
    assert_eq!(codes(), [&[code::NON_EMPTY_GROUP][..], &others].concat());
    member.leave(&mut Client::connect(acme()));
    assert_eq!(codes(), [&[0][..], &others].concat());
    assert_eq!(codes(), [&[code::GROUP_ID_NOT_FOUND][..], &others].concat());
}

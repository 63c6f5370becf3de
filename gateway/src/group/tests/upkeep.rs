//! Leaving, committing, describing, deleting, unloading, restarting.

use super::*;

#[test]
fn a_member_that_leaves_is_gone_at_once() {
    let mut story = Story::stable(&["a", "b"]);
    story.leave("a");
    story.leave("a");
    story.join("b");
    story.expect(
        "a leaves
             a <- leave ok
         a leaves
             a <- leave unknown member
         b joins
             b <- join generation 3 range, leader of [b]",
    );
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.leave("a");
    story.expect(
        "a joins
         a leaves
             a <- join unknown member
             a <- leave ok",
    );
    assert!(story.unanswered().is_empty());
}

#[test]
fn the_last_one_to_leave_empties_the_group() {
    let mut story = Story::stable(&["a"]);
    story.leave("a");
    story.persisted(true);
    story.join("a");
    story.expect(
        "a leaves
             a <- leave ok
             persist generation 2 []
         persisted
         a joins
             a <- join unknown member",
    );
}

#[test]
fn an_id_handed_out_can_be_given_back() {
    let mut story = Story::stable(&["a"]);
    story.join_with("b", |join| join.requires_member_id = true);
    story.join("a");
    story.leave("b");
    story.expect(
        "b joins
             b <- join member id required
         a joins
         b leaves
             b <- leave ok
             a <- join generation 2 range, leader of [a]",
    );
}

#[test]
fn members_commit_in_their_generation() {
    let mut story = Story::stable(&["a", "b"]);
    story.commit_with("a", |_| {});
    story.commit_with("a", |identity| identity.generation = 1);
    story.commit_with("a", |identity| identity.member_id = "nobody".to_owned());
    story.join("a");
    story.commit_with("b", |_| {});
    story.join("b");
    story.commit_with("b", |_| {});
    story.expect(
        "a commits
             a <- commit ok
         a commits
             a <- commit illegal generation
         a commits
             a <- commit unknown member
         a joins
         b commits
             b <- commit ok
         b joins
             a <- join generation 3 range, leader of [a b]
             b <- join generation 3 range, follower []
         b commits
             b <- commit rebalance in progress",
    );
}

#[test]
fn outsiders_commit_only_while_nobody_is_there() {
    let outside = |identity: &mut Identity| {
        identity.member_id.clear();
        identity.generation = -1;
    };
    let mut story = Story::new(limits());
    story.commit_with("tool", outside);
    story.join("a");
    story.commit_with("tool", outside);
    story.sync("a", "");
    story.persisted(true);
    story.commit_with("tool", outside);
    story.leave("a");
    story.commit_with("tool", outside);
    story.commit_with("a", |_| {});
    story.expect(
        "tool commits
             tool <- commit ok
         a joins
             a <- join generation 1 range, leader of [a]
         tool commits
             tool <- commit unknown member
         a syncs
             persist generation 1 [a]
         persisted
             a <- sync
         tool commits
             tool <- commit unknown member
         a leaves
             a <- leave ok
             persist generation 2 []
         tool commits
             tool <- commit ok
         a commits
             a <- commit unknown member",
    );
}

#[test]
fn a_restart_keeps_generation_members_and_assignments() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.sync("b", "");
    story.sync("a", "a=1 b=2");
    story.persisted(true);
    story.skip();
    let encoded = story.stored.as_ref().expect("persisted").encode();
    assert_eq!(GroupMetadata::decode(&encoded).as_ref(), Ok(story.stored.as_ref().expect("persisted")));
    story.restart();
    story.heartbeat("a");
    story.commit_with("b", |_| {});
    story.sync("b", "");
    story.join("b");
    story.expect(
        "restart
         a heartbeats
             a <- heartbeat ok
         b commits
             b <- commit ok
         b syncs
             b <- sync 2
         b joins
             b <- join generation 3 range, follower []",
    );
    story.join("a");
    story.join("b");
    story.expect(
        "a joins
         b joins
             a <- join generation 4 range, leader of [a b]
             b <- join generation 4 range, follower []",
    );
}

#[test]
fn after_a_restart_sessions_begin_anew() {
    let mut story = Story::stable(&["a"]);
    story.wait(9_000);
    story.restart();
    story.wait(9_999);
    assert_eq!(story.group.state_name(), "Stable");
    story.wait(1);
    assert_eq!(story.group.state_name(), "Empty");
}

#[test]
fn an_unfinished_generation_is_not_restored() {
    let mut story = Story::stable(&["a"]);
    story.join("b");
    story.join("a");
    story.skip();
    story.restart();
    story.sync_with("a", "", |sync| sync.identity.generation = 2);
    story.heartbeat_with("b", |identity| identity.generation = 2);
    story.join("a");
    story.expect(
        "restart
         a syncs
             a <- sync illegal generation
         b heartbeats
             b <- heartbeat unknown member
         a joins
             a <- join generation 2 range, leader of [a]",
    );
}

#[test]
fn a_description_shows_what_is_settled() {
    let mut story = Story::stable(&["a", "b"]);
    let described = story.group.describe();
    assert_eq!(
        (described.state, &described.protocol[..], &described.protocol_type[..]),
        ("Stable", "range", "consumer")
    );
    assert_eq!(described.members.iter().map(|member| &member.metadata[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
    story.join("a");
    let described = story.group.describe();
    assert_eq!((described.state, &described.protocol[..]), ("PreparingRebalance", ""));
    assert!(described.members.iter().all(|member| member.metadata.is_empty()));
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut story = Story::stable(&["a"]);
    assert_eq!(story.group.delete(), Err(GroupError::NotEmpty));
    story.leave("a");
    assert_eq!(story.group.delete(), Ok(()));
    assert_eq!(story.group.delete(), Err(GroupError::Gone));
    story.skip();
    story.join("a");
    story.sync("a", "");
    story.heartbeat("a");
    story.leave("a");
    story.commit_with("a", |_| {});
    story.expect(
        "a joins
             a <- join the group is gone
         a syncs
             a <- sync the group is gone
         a heartbeats
             a <- heartbeat the group is gone
         a leaves
             a <- leave the group is gone
         a commits
             a <- commit the group is gone",
    );
}

#[test]
fn unloading_sends_everybody_elsewhere() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.happens("unload", Input::Unload);
    story.heartbeat("b");
    story.expect(
        "a joins
         unload
             a <- join not the coordinator
         b heartbeats
             b <- heartbeat the group is gone",
    );
    assert_eq!(story.group.next_timeout(), None);
}

#[test]
fn generations_never_become_negative() {
    let metadata = GroupMetadata { generation: i32::MAX, ..GroupMetadata::default() };
    let mut story = Story::new(limits());
    story.group = Group::restore(limits(), 0, metadata);
    story.join("a");
    story.expect(
        "a joins
             a <- join generation 1 range, leader of [a]",
    );
}

#[test]
fn long_client_names_make_no_long_member_ids() {
    let mut story = Story::new(limits());
    story.join_with("a", |join| join.client_id = "ü".repeat(30_000));
    assert_eq!(story.id("a").chars().count(), 255 + 1 + 36);
}

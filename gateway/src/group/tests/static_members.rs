//! Members with names of their own (KIP-345, KIP-814): restarted without a rebalance, fenced when doubled.

use super::*;

fn stable_static(names: &[&str]) -> Story {
    let mut story = Story::new(limits());
    for name in names {
        story.join_static(name, "");
    }
    for name in names {
        if story.group.state_name() == "PreparingRebalance" {
            let waits = story.group.members.get(&story.id(name)).is_some_and(|member| member.join.is_some());
            if !waits {
                story.join_static(name, name);
            }
        }
    }
    story.sync(names[0], &names.iter().map(|name| format!("{name}={name}s-work ")).collect::<String>());
    for name in &names[1..] {
        story.sync(name, "");
    }
    story.persisted(true);
    story.skip();
    story
}

#[test]
fn a_restarted_follower_keeps_its_assignment_without_a_rebalance() {
    let mut story = stable_static(&["a", "b"]);
    let old_id = story.id("b");
    story.join_static("b", "");
    story.expect(
        "b joins
             persist generation 2 [a ?]",
    );
    story.persisted(true);
    story.sync("b", "");
    story.expect(
        "persisted
             b <- join generation 2 range, follower []
         b syncs
             b <- sync bs-work",
    );
    assert_ne!(story.id("b"), old_id);
}

#[test]
fn a_restarted_leader_is_told_not_to_assign() {
    let mut story = stable_static(&["a", "b"]);
    story.join_static("a", "");
    story.persisted(true);
    story.expect(
        "a joins
             persist generation 2 [? b]
         persisted
             a <- join generation 2 range, leader of [a b], not to assign",
    );
}

#[test]
fn a_restarted_leader_before_version_9_is_told_that_another_leads() {
    let mut story = stable_static(&["a", "b"]);
    let join = Join {
        instance_id: Some("a".to_owned()),
        member_id: String::new(),
        can_skip_assignment: false,
        ..story.join_request("a")
    };
    story.happens("a joins", Input::Join(join));
    story.persisted(true);
    story.expect(
        "a joins
             persist generation 2 [? b]
         persisted
             a <- join generation 2 range, follower []",
    );
}

#[test]
fn the_former_process_is_fenced_off() {
    let mut story = stable_static(&["a", "b"]);
    let old_id = story.id("b");
    story.join_static("b", "");
    story.persisted(true);
    story.skip();
    let named = |identity: &mut Identity| {
        identity.member_id = old_id.clone();
        identity.instance_id = Some("b".to_owned());
    };
    story.heartbeat_with("b", named);
    story.commit_with("b", named);
    story.sync_with("b", "", |sync| named(&mut sync.identity));
    story.join_static("b", &old_id);
    story.heartbeat_with("b", |identity| identity.member_id = old_id.clone());
    story.expect(
        "b heartbeats
             b <- heartbeat another member has this instance id
         b commits
             b <- commit another member has this instance id
         b syncs
             b <- sync another member has this instance id
         b joins
             b <- join another member has this instance id
         b heartbeats
             b <- heartbeat unknown member",
    );
}

#[test]
fn a_doubled_instance_answers_the_waiting_one() {
    let mut story = stable_static(&["a", "b"]);
    story.join_static("a", "a");
    story.join_static("b", "b");
    story.sync("b", "");
    story.skip();
    story.join_static("b", "");
    story.expect(
        "b joins
             b <- sync another member has this instance id",
    );
    assert_eq!(story.group.state_name(), "PreparingRebalance", "the leader is assigning to the old id");
}

#[test]
fn an_absent_static_member_stays_in_the_next_generation_until_its_session_ends() {
    let mut story = stable_static(&["a", "b"]);
    story.join_with("c", |_| {});
    story.join_static("a", "a");
    story.expect(
        "c joins
         a joins",
    );
    // b's session ends after 10 s: until then its name is kept, and the others wait for it.
    story.wait(9_999);
    story.expect("9999 ms pass");
    story.wait(1);
    story.expect(
        "1 ms pass
             a <- join generation 3 range, leader of [a c]
             c <- join generation 3 range, follower []",
    );
}

#[test]
fn an_absent_static_member_does_not_hold_up_the_rebalance_beyond_its_time() {
    let mut story = Story::new(limits());
    for name in ["a", "b"] {
        story.join_with(name, |join| {
            join.instance_id = Some(name.to_owned());
            join.session_timeout_ms = 1_000_000;
        });
    }
    story.join_static("a", "a");
    story.sync("a", "");
    story.sync("b", "");
    story.persisted(true);
    story.skip();
    story.join_with("a", |join| {
        join.instance_id = Some("a".to_owned());
        join.session_timeout_ms = 1_000_000;
    });
    story.wait(60_000);
    story.expect(
        "a joins
         60000 ms pass
             a <- join generation 3 range, leader of [a b]",
    );
    story.sync("a", "a=1 b=2");
    story.persisted(true);
    story.wait(100_000);
    story.skip();
    assert_eq!(story.group.describe().members.len(), 2, "b's name is kept, though it has not been heard of");
}

#[test]
fn with_only_absent_static_members_the_group_waits_on() {
    let mut story = stable_static(&["a", "b"]);
    story.join_with("c", |join| join.requires_member_id = true);
    story.join("c");
    story.wait(5_000);
    for name in ["a", "b"] {
        story.heartbeat(name);
    }
    story.leave("c");
    story.skip();
    story.wait(10_000);
    assert_eq!(story.group.state_name(), "Empty");
    story.expect(
        "10000 ms pass
             persist generation 3 []",
    );
}

#[test]
fn an_administrator_removes_a_static_member_by_its_name() {
    let mut story = stable_static(&["a", "b"]);
    let members = vec![(String::new(), Some("b".to_owned())), (String::new(), Some("z".to_owned()))];
    let token = story.token("admin");
    story.happens("admin removes b and z", Input::Leave(Leave { token, members }));
    story.expect(
        "admin removes b and z
             admin <- leave ok, unknown member",
    );
    assert_eq!(story.group.state_name(), "PreparingRebalance");
}

#[test]
fn a_restart_whose_new_id_cannot_be_persisted_is_tried_again() {
    let mut story = stable_static(&["a", "b"]);
    story.join_static("b", "");
    story.persisted(false);
    story.join_static("b", "");
    story.persisted(true);
    story.expect(
        "b joins
             persist generation 2 [a ?]
         not persisted
             b <- join coordinator unavailable
         b joins
             persist generation 2 [a ?]
         persisted
             b <- join generation 2 range, follower []",
    );
}

#[test]
fn a_rebalance_that_begins_while_a_new_id_is_persisted_counts_the_member_as_joined() {
    let mut story = stable_static(&["a", "b"]);
    story.join_static("b", "");
    story.join("c");
    story.join_static("a", "a");
    story.expect(
        "b joins
             persist generation 2 [a ?]
         c joins
         a joins
             a <- join generation 3 range, leader of [a b c]
             b <- join generation 3 range, follower []
             c <- join generation 3 range, follower []",
    );
}

#[test]
fn a_restarted_member_that_changes_the_chosen_protocol_brings_a_rebalance() {
    let mut story = Story::new(limits());
    story.join_with("a", |join| {
        join.instance_id = Some("a".to_owned());
        join.protocols = vec![protocol("range", "a"), protocol("sticky", "a")];
    });
    story.settle(&["a"]);
    story.skip();
    story.join_with("a", |join| {
        join.instance_id = Some("a".to_owned());
        join.member_id.clear();
        join.protocols = vec![protocol("sticky", "a")];
    });
    story.expect(
        "a joins
             a <- join generation 2 sticky, leader of [a]",
    );
}

#[test]
fn a_restarted_member_finds_its_place_in_a_full_group() {
    let mut story = stable_static(&["a", "b", "c", "d"]);
    story.join_static("d", "");
    story.persisted(true);
    story.expect(
        "d joins
             persist generation 2 [a b c ?]
         persisted
             d <- join generation 2 range, follower []",
    );
}

//! Members that join again: unchanged, changed, twice, in the middle of a rebalance.

use super::*;

#[test]
fn an_unchanged_follower_of_a_stable_group_gets_the_current_generation() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("b");
    story.sync("b", "");
    story.expect(
        "b joins
             b <- join generation 2 range, follower []
         b syncs
             b <- sync",
    );
    assert_eq!(story.group.state_name(), "Stable");
}

#[test]
fn a_leader_that_rejoins_wants_to_assign_again() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.expect(
        "a joins
         b joins
             a <- join generation 3 range, leader of [a b]
             b <- join generation 3 range, follower []",
    );
}

#[test]
fn a_follower_with_another_subscription_brings_a_rebalance() {
    let mut story = Story::stable(&["a", "b"]);
    story.join_with("b", |join| join.protocols = vec![protocol("range", "more")]);
    story.join("a");
    story.expect(
        "b joins
         a joins
             a <- join generation 3 range, leader of [a more]
             b <- join generation 3 range, follower []",
    );
}

#[test]
fn whoever_lost_the_answer_to_its_join_gets_it_again() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.skip();
    story.join("a");
    story.join("b");
    story.expect(
        "a joins
             a <- join generation 3 range, leader of [a b]
         b joins
             b <- join generation 3 range, follower []",
    );
    assert_eq!(story.group.state_name(), "CompletingRebalance");
}

#[test]
fn another_subscription_while_the_leader_assigns_begins_anew() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.sync("b", "");
    story.skip();
    story.join_with("b", |join| join.protocols = vec![protocol("range", "more")]);
    story.sync("a", "a=1 b=2");
    story.join("a");
    story.expect(
        "b joins
             b <- sync rebalance in progress
         a syncs
             a <- sync rebalance in progress
         a joins
             a <- join generation 4 range, leader of [a more]
             b <- join generation 4 range, follower []",
    );
}

#[test]
fn a_member_that_comes_while_assignments_are_persisted_is_not_overtaken() {
    let mut story = Story::stable(&["a"]);
    story.join("a");
    story.sync("a", "a=1");
    story.skip();
    story.join("b");
    story.persisted(true);
    story.expect(
        "b joins
             a <- sync rebalance in progress
         persisted",
    );
    assert_eq!(story.group.state_name(), "PreparingRebalance");
}

#[test]
fn a_second_join_of_a_waiting_member_answers_the_first() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("a");
    story.expect(
        "a joins
         a joins
             a <- join rebalance in progress",
    );
    story.join("b");
    story.expect(
        "b joins
             a <- join generation 3 range, leader of [a b]
             b <- join generation 3 range, follower []",
    );
}

#[test]
fn a_second_sync_of_a_waiting_member_answers_the_first() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.skip();
    story.sync("b", "");
    story.sync("b", "");
    story.sync("a", "b=2");
    story.sync("a", "b=3");
    story.expect(
        "b syncs
         b syncs
             b <- sync rebalance in progress
         a syncs
             persist generation 3 [a b]
         a syncs
             a <- sync rebalance in progress",
    );
    story.persisted(true);
    story.expect(
        "persisted
             a <- sync
             b <- sync 2",
    );
}

#[test]
fn assignments_that_cannot_be_persisted_are_nobodys() {
    let mut story = Story::stable(&["a"]);
    story.join("a");
    story.sync("a", "a=1");
    story.skip();
    story.persisted(false);
    story.heartbeat("a");
    story.expect(
        "not persisted
             a <- sync coordinator unavailable
         a heartbeats
             a <- heartbeat rebalance in progress",
    );
}

#[test]
fn a_sync_of_another_generation_or_protocol_is_refused() {
    let mut story = Story::stable(&["a"]);
    story.join("a");
    story.skip();
    story.sync_with("a", "", |sync| sync.identity.generation = 1);
    story.sync_with("a", "", |sync| sync.protocol_type = Some("connect".to_owned()));
    story.sync_with("a", "", |sync| sync.protocol = Some("sticky".to_owned()));
    story.sync_with("a", "", |sync| sync.identity.member_id = "nobody".to_owned());
    story.expect(
        "a syncs
             a <- sync illegal generation
         a syncs
             a <- sync inconsistent group protocol
         a syncs
             a <- sync inconsistent group protocol
         a syncs
             a <- sync unknown member",
    );
    story.sync_with("a", "a=1", |sync| {
        sync.protocol_type = Some("consumer".to_owned());
        sync.protocol = Some("range".to_owned());
    });
    story.persisted(true);
    story.expect(
        "a syncs
             persist generation 2 [a]
         persisted
             a <- sync 1",
    );
}

#[test]
fn a_member_may_drop_a_protocol_that_only_it_kept() {
    let mut story = Story::new(limits());
    story.join_with("a", |join| join.protocols = vec![protocol("range", "")]);
    story.settle(&["a"]);
    story.skip();
    story.join_with("a", |join| join.protocols = vec![protocol("sticky", "a")]);
    story.expect(
        "a joins
             a <- join generation 2 sticky, leader of [a]",
    );
}

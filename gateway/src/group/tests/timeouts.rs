//! Members that fall silent: in a stable group, before joining, before syncing, on their first join.

use super::*;

#[test]
fn a_silent_member_is_dropped_and_the_others_rebalance() {
    let mut story = Story::stable(&["a", "b"]);
    story.wait(6_000);
    story.heartbeat("a");
    story.wait(4_000);
    story.heartbeat("a");
    story.expect(
        "6000 ms pass
         a heartbeats
             a <- heartbeat ok
         4000 ms pass
         a heartbeats
             a <- heartbeat rebalance in progress",
    );
    story.heartbeat("b");
    story.join("a");
    story.expect(
        "b heartbeats
             b <- heartbeat unknown member
         a joins
             a <- join generation 3 range, leader of [a]",
    );
}

#[test]
fn a_group_whose_last_member_falls_silent_is_empty_in_a_new_generation() {
    let mut story = Story::stable(&["a"]);
    story.wait(10_000);
    story.expect(
        "10000 ms pass
             persist generation 2 []",
    );
    assert_eq!(story.group.state_name(), "Empty");
    assert_eq!(story.group.next_timeout(), None);
    assert!(story.group.is_vacant());
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_left_behind() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    for _ in 0..12 {
        story.wait(5_000);
        if story.group.state_name() == "PreparingRebalance" {
            story.heartbeat("b");
        }
    }
    assert_eq!(story.group.state_name(), "CompletingRebalance");
    story.skip();
    story.sync("a", "a=all");
    story.persisted(true);
    story.join("b");
    story.expect(
        "a syncs
             persist generation 3 [a]
         persisted
             a <- sync all
         b joins
             b <- join unknown member",
    );
}

#[test]
fn a_leader_lost_while_the_group_rejoins_is_replaced() {
    let mut story = Story::stable(&["a", "b", "c"]);
    story.join_with("c", |join| join.protocols = vec![protocol("range", "more")]);
    story.join("b");
    story.wait(10_000);
    story.expect(
        "c joins
         b joins
         10000 ms pass
             b <- join generation 3 range, leader of [b more]
             c <- join generation 3 range, follower []",
    );
}

#[test]
fn a_leader_that_never_assigns_is_dropped() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.sync("b", "");
    story.skip();
    // It heartbeats all the while, and its session would never end.
    for _ in 0..12 {
        story.wait(5_000);
        story.heartbeat("a");
    }
    assert_eq!(story.group.state_name(), "PreparingRebalance");
    story.skip();
    story.join("b");
    story.expect(
        "b joins
             b <- join generation 4 range, leader of [b]",
    );
}

#[test]
fn a_leader_lost_before_it_assigns_lets_its_followers_begin_anew() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.sync("b", "");
    story.skip();
    story.wait(10_000);
    story.join("b");
    story.sync("b", "b=all");
    story.persisted(true);
    story.expect(
        "10000 ms pass
             b <- sync rebalance in progress
         b joins
             b <- join generation 4 range, leader of [b]
         b syncs
             persist generation 4 [b]
         persisted
             b <- sync all",
    );
}

#[test]
fn a_follower_that_never_asks_for_its_assignment_is_dropped() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    story.join("b");
    story.sync("a", "");
    story.persisted(true);
    story.skip();
    for _ in 0..12 {
        story.wait(5_000);
        story.heartbeat("a");
        story.heartbeat("b");
    }
    assert_eq!(story.group.describe().members.len(), 1);
    assert_eq!(story.group.state_name(), "PreparingRebalance");
}

#[test]
fn who_waits_for_the_group_is_not_expected_to_heartbeat() {
    let mut story = Story::stable(&["a", "b"]);
    story.join("a");
    for _ in 0..10 {
        story.wait(5_000);
        story.heartbeat("b");
    }
    story.skip();
    story.join("b");
    story.sync("b", "");
    story.wait(9_000);
    story.sync("a", "");
    story.wait(20_000);
    story.persisted(true);
    story.expect(
        "b joins
             a <- join generation 3 range, leader of [a b]
             b <- join generation 3 range, follower []
         b syncs
         9000 ms pass
         a syncs
             persist generation 3 [a b]
         20000 ms pass
         persisted
             a <- sync
             b <- sync",
    );
}

#[test]
fn a_new_member_that_went_away_while_it_waited_is_told_to_start_over() {
    let mut story = Story::new(limits());
    let slow = |join: &mut Join| {
        join.rebalance_timeout_ms = 1_000_000;
        join.session_timeout_ms = 1_800_000;
    };
    story.join_with("a", slow);
    story.sync("a", "");
    story.persisted(true);
    story.join("b");
    story.skip();
    story.wait(300_000);
    story.expect(
        "300000 ms pass
             b <- join unknown member",
    );
}

#[test]
fn an_id_handed_out_and_never_used_expires() {
    let mut story = Story::new(limits());
    story.join_with("a", |join| join.requires_member_id = true);
    assert!(!story.group.is_vacant());
    story.wait(10_000);
    assert!(story.group.is_vacant());
    assert_eq!(story.group.next_timeout(), None);
}

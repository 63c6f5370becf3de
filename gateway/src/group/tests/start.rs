//! First generations: one member, several, the initial delay, member ids handed out, protocols chosen.

use super::*;

#[test]
fn a_member_alone_gets_its_assignment_once_it_is_persisted() {
    let mut story = Story::new(limits());
    story.join("a");
    story.sync("a", "a=work");
    story.expect(
        "a joins
             a <- join generation 1 range, leader of [a]
         a syncs
             persist generation 1 [a]",
    );
    assert_eq!(story.unanswered(), ["a"]);
    assert_eq!(story.group.state_name(), "CompletingRebalance");
    story.persisted(true);
    story.heartbeat("a");
    story.expect(
        "persisted
             a <- sync work
         a heartbeats
             a <- heartbeat ok",
    );
    assert_eq!(story.group.state_name(), "Stable");
}

#[test]
fn a_second_member_brings_the_second_generation() {
    let mut story = Story::stable(&["a"]);
    story.join("b");
    story.heartbeat("a");
    story.join("a");
    story.sync("b", "");
    story.sync("a", "a=1 b=2");
    story.persisted(true);
    story.expect(
        "b joins
         a heartbeats
             a <- heartbeat rebalance in progress
         a joins
             a <- join generation 2 range, leader of [a b]
             b <- join generation 2 range, follower []
         b syncs
         a syncs
             persist generation 2 [a b]
         persisted
             a <- sync 1
             b <- sync 2",
    );
}

#[test]
fn since_version_4_an_id_is_handed_out_first() {
    let mut story = Story::new(limits());
    story.join_with("a", |join| join.requires_member_id = true);
    assert_eq!(story.group.state_name(), "Empty");
    story.join_with("a", |join| join.requires_member_id = true);
    story.expect(
        "a joins
             a <- join member id required
         a joins
             a <- join generation 1 range, leader of [a]",
    );
    assert!(story.id("a").starts_with("a-00000000-0000-0000-0000-"), "{}", story.id("a"));
}

#[test]
fn a_rebalance_waits_for_ids_handed_out_until_they_expire() {
    let mut story = Story::stable(&["a"]);
    story.join_with("b", |join| join.requires_member_id = true);
    story.join("a");
    story.heartbeat("a");
    story.expect(
        "b joins
             b <- join member id required
         a joins
         a heartbeats
             a <- heartbeat rebalance in progress",
    );
    story.wait(10_000);
    story.expect(
        "10000 ms pass
             a <- join generation 2 range, leader of [a]",
    );
    story.join("b");
    story.expect(
        "b joins
             b <- join unknown member",
    );
}

#[test]
fn an_empty_group_waits_for_more_members_to_come() {
    let mut story = Story::new(Limits { initial_rebalance_delay_ms: 3_000, ..limits() });
    story.join("a");
    story.wait(2_000);
    story.join("b");
    story.wait(3_000);
    story.expect(
        "a joins
         2000 ms pass
         b joins
         3000 ms pass",
    );
    story.wait(1_000);
    story.expect(
        "1000 ms pass
             a <- join generation 1 range, leader of [a b]
             b <- join generation 1 range, follower []",
    );
}

#[test]
fn the_initial_wait_ends_with_the_rebalance_timeout() {
    let mut story = Story::new(Limits { initial_rebalance_delay_ms: 3_000, ..limits() });
    story.join_with("a", |join| join.rebalance_timeout_ms = 4_000);
    story.wait(2_999);
    story.join_with("b", |join| join.rebalance_timeout_ms = 4_000);
    story.wait(1);
    story.expect(
        "a joins
         2999 ms pass
         b joins
         1 ms pass",
    );
    story.wait(1_000);
    assert_eq!(story.group.state_name(), "CompletingRebalance");
}

#[test]
fn the_protocol_is_what_most_members_prefer_of_what_all_support() {
    let mut story = Story::new(Limits { initial_rebalance_delay_ms: 1, ..limits() });
    for (name, protocols) in [("a", "sticky range"), ("b", "range roundrobin sticky"), ("c", "roundrobin range sticky")]
    {
        story.join_with(name, |join| {
            join.protocols = protocols.split(' ').map(|name| protocol(name, name)).collect();
        });
    }
    story.wait(2);
    story.expect(
        "a joins
         b joins
         c joins
         2 ms pass
             a <- join generation 1 range, leader of [range range range]
             b <- join generation 1 range, follower []
             c <- join generation 1 range, follower []",
    );
}

#[test]
fn a_tie_goes_to_the_member_that_came_first() {
    let mut story = Story::new(Limits { initial_rebalance_delay_ms: 1, ..limits() });
    for (name, protocols) in [("b", ["sticky", "range"]), ("a", ["range", "sticky"])] {
        story.join_with(name, |join| join.protocols = protocols.map(|name| protocol(name, "")).to_vec());
    }
    story.wait(2);
    assert_eq!(story.group.protocol.as_deref(), Some("sticky"));
}

#[test]
fn members_without_a_common_protocol_or_type_do_not_mix() {
    let mut story = Story::stable(&["a"]);
    story.join_with("b", |join| join.protocols = vec![protocol("sticky", "")]);
    story.join_with("b", |join| join.protocol_type = "connect".to_owned());
    story.join_with("b", |join| join.protocols.clear());
    story.expect(
        "b joins
             b <- join inconsistent group protocol
         b joins
             b <- join inconsistent group protocol
         b joins
             b <- join inconsistent group protocol",
    );
    assert_eq!(story.group.state_name(), "Stable");
}

#[test]
fn an_empty_group_takes_any_protocol_type_but_not_none() {
    let mut story = Story::new(limits());
    story.join_with("a", |join| join.protocol_type.clear());
    story.join_with("w", |join| {
        join.protocol_type = "connect".to_owned();
        join.protocols = vec![protocol("sessioned", "w")];
    });
    story.expect(
        "a joins
             a <- join inconsistent group protocol
         w joins
             w <- join generation 1 sessioned, leader of [w]",
    );
    assert_eq!(story.group.describe().protocol_type, "connect");
}

#[test]
fn session_timeouts_have_bounds() {
    let mut story = Story::new(limits());
    for timeout_ms in [-1, 5_999, 1_800_001] {
        story.join_with("a", |join| join.session_timeout_ms = timeout_ms);
        story.expect(
            "a joins
                 a <- join invalid session timeout",
        );
    }
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut story = Story::stable(&["a", "b", "c", "d"]);
    story.join("e");
    story.expect(
        "e joins
             e <- join group is full",
    );
}

#[test]
fn ids_handed_out_are_as_few_as_members() {
    let mut story = Story::new(limits());
    for name in ["a", "b", "c", "d", "e"] {
        story.skip();
        story.join_with(name, |join| join.requires_member_id = true);
    }
    story.expect(
        "e joins
             e <- join group is full",
    );
}

#[test]
fn under_a_lowered_limit_the_first_to_rejoin_stay() {
    let mut story = Story::stable(&["a", "b", "c"]);
    story.group.limits.members_max = 2;
    story.join("a");
    story.join_with("b", |_| {});
    story.join("c");
    story.expect(
        "a joins
         b joins
         c joins
             a <- join generation 3 range, leader of [a b]
             b <- join generation 3 range, follower []
             c <- join group is full",
    );
}

#[test]
fn metadata_beyond_the_limit_is_refused() {
    let mut story = Story::new(Limits { member_bytes_max: 10, assignment_bytes_max: 10, ..limits() });
    story.join_with("a", |join| join.protocols = vec![protocol("range", "123456")]);
    story.join("a");
    story.sync("a", "a=12345678901");
    story.expect(
        "a joins
             a <- join metadata or assignments too large
         a joins
             a <- join generation 1 range, leader of [a]
         a syncs
             a <- sync metadata or assignments too large",
    );
}

#[test]
fn stored_metadata_keeps_no_frame_alive() {
    let frame = Bytes::from(vec![b'x'; 1_000]);
    let mut story = Story::new(limits());
    story.join_with("a", |join| join.protocols[0].metadata = frame.slice(10..20));
    let member = story.group.members.iter().next().expect("a member");
    assert_eq!(member.metadata("range"), frame.slice(10..20));
    assert!(frame.is_unique());
}

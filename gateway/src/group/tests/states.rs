//! What every request gets in every state: the table of Kafka's `GroupMetadataManager` (4.x, classic protocol).
//!
//! The group has, where it has members, a leader `a` and a follower `b` in generation 2 (3 while the leader assigns); in
//! `PreparingRebalance` a newcomer `n` has just begun the next. "waits" is no answer yet.

use super::*;

const STATES: [&str; 5] = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"];

/// A group in a state, reached by what clients do.
fn in_state(state: &str) -> Story {
    let mut story = match state {
        "Dead" => {
            let mut story = in_state("Empty");
            assert_eq!(story.group.delete(), Ok(()));
            story
        }
        "Empty" => {
            let mut story = in_state("Stable");
            story.leave("a");
            story.leave("b");
            story
        }
        "Stable" => Story::stable(&["a", "b"]),
        "PreparingRebalance" => {
            let mut story = in_state("Stable");
            story.join("n");
            story
        }
        _ => {
            let mut story = in_state("Stable");
            story.join("a");
            story.join("b");
            story
        }
    };
    assert_eq!(story.group.state_name(), state);
    story.skip();
    story
}

/// What the group says to `who` about the last request: its answer, or that it waits.
fn answer(story: &mut Story, who: &str) -> String {
    let script = std::mem::take(&mut story.script);
    let mine = script.lines().rev().find_map(|line| line.trim().strip_prefix(&format!("{who} <- ")));
    mine.map_or_else(|| "waits".to_owned(), str::to_owned)
}

/// Each event in a fresh group in each state; the answers are those to requests of this kind.
#[track_caller]
fn table(kind: &str, what: &str, who: &str, answers: [&str; 5], event: impl Fn(&mut Story)) {
    for (state, expected) in STATES.into_iter().zip(answers) {
        let mut story = in_state(state);
        event(&mut story);
        let expected = if expected == "waits" { expected.to_owned() } else { format!("{kind} {expected}") };
        assert_eq!(answer(&mut story, who), expected.trim_end(), "{what} in {state}");
    }
}

const GONE: &str = "the group is gone";
const UNKNOWN: &str = "unknown member";
const ILLEGAL: &str = "illegal generation";
const REBALANCE: &str = "rebalance in progress";

#[test]
fn joining() {
    let join = |what, who: &'static str, answers, change: fn(&mut Join)| {
        table("join", what, who, answers, |story| story.join_with(who, change));
    };
    let first = "generation 4 range, leader of [x]";
    join("a newcomer", "x", [first, "waits", "waits", "waits", GONE], |_| {});
    let id = "member id required";
    join("a newcomer of version 4", "x", [id, id, id, id, GONE], |join| join.requires_member_id = true);
    join("a stranger with an id", "x", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, GONE], |join| {
        join.member_id = "nobody".to_owned();
    });
    let again = "generation 3 range, leader of [a b]";
    join("the leader, unchanged", "a", [UNKNOWN, "waits", again, "waits", GONE], |_| {});
    let (current, new) = ("generation 2 range, follower []", "generation 3 range, follower []");
    join("a follower, unchanged", "b", [UNKNOWN, "waits", new, current, GONE], |_| {});
    join("a follower, changed", "b", [UNKNOWN, "waits", "waits", "waits", GONE], |join| {
        join.protocols = vec![protocol("range", "more")];
    });
    let mismatch = "inconsistent group protocol";
    join(
        "another protocol type",
        "x",
        ["generation 4 range, leader of [x]", mismatch, mismatch, mismatch, GONE],
        |join| join.protocol_type = "connect".to_owned(),
    );
    join(
        "no common protocol",
        "x",
        ["generation 4 sticky, leader of [x]", mismatch, mismatch, mismatch, GONE],
        |join| join.protocols = vec![protocol("sticky", "x")],
    );
    join("no protocol at all", "x", [mismatch, mismatch, mismatch, mismatch, GONE], |join| join.protocols.clear());
    let session = "invalid session timeout";
    join("a session out of bounds", "x", [session, session, session, session, GONE], |join| {
        join.session_timeout_ms = 1;
    });
}

#[test]
fn syncing() {
    let sync = |what, who: &'static str, answers, change: fn(&mut Sync)| {
        table("sync", what, who, answers, |story| story.sync_with(who, "a=1 b=2", change));
    };
    sync("the leader", "a", [UNKNOWN, REBALANCE, "waits", "", GONE], |_| {});
    sync("a follower", "b", [UNKNOWN, REBALANCE, "waits", "", GONE], |_| {});
    sync("another generation", "b", [UNKNOWN, ILLEGAL, ILLEGAL, ILLEGAL, GONE], |sync| sync.identity.generation = 1);
    sync("a stranger", "x", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, GONE], |_| {});
    let mismatch = "inconsistent group protocol";
    sync("another protocol", "b", [UNKNOWN, mismatch, mismatch, mismatch, GONE], |sync| {
        sync.protocol = Some("sticky".to_owned());
    });
    sync("an unknown instance", "b", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, GONE], |sync| {
        sync.identity.instance_id = Some("b".to_owned());
    });
}

#[test]
fn heartbeating() {
    let heartbeat = |what, who: &'static str, answers, change: fn(&mut Identity)| {
        table("heartbeat", what, who, answers, |story| story.heartbeat_with(who, change));
    };
    heartbeat("a member", "b", [UNKNOWN, REBALANCE, "ok", "ok", GONE], |_| {});
    heartbeat("another generation", "b", [UNKNOWN, ILLEGAL, ILLEGAL, ILLEGAL, GONE], |identity| {
        identity.generation = 1;
    });
    heartbeat("a stranger", "x", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, GONE], |_| {});
}

#[test]
fn committing() {
    let commit = |what, who: &'static str, answers, change: fn(&mut Identity)| {
        table("commit", what, who, answers, |story| story.commit_with(who, change));
    };
    commit("a member", "b", [UNKNOWN, "ok", REBALANCE, "ok", GONE], |_| {});
    commit("another generation", "b", [UNKNOWN, ILLEGAL, ILLEGAL, ILLEGAL, GONE], |identity| identity.generation = 1);
    commit("a stranger", "x", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, GONE], |identity| {
        identity.member_id = "nobody".to_owned();
    });
    commit("a tool", "x", ["ok", UNKNOWN, UNKNOWN, UNKNOWN, GONE], |identity| {
        identity.member_id.clear();
        identity.generation = -1;
    });
    commit("a tool that has a name", "x", ["ok", UNKNOWN, UNKNOWN, UNKNOWN, GONE], |identity| {
        identity.member_id.clear();
        identity.instance_id = Some("desk".to_owned());
        identity.generation = -1;
    });
    commit("a member that knows no generation", "b", ["ok", ILLEGAL, ILLEGAL, ILLEGAL, GONE], |identity| {
        identity.generation = -1;
    });
}

#[test]
fn leaving() {
    table("leave", "a member", "b", [UNKNOWN, "ok", "ok", "ok", GONE], |story| story.leave("b"));
    table("leave", "a stranger", "x", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, GONE], |story| story.leave("x"));
    for (state, after) in
        STATES.into_iter().zip(["Empty", "PreparingRebalance", "PreparingRebalance", "PreparingRebalance", "Dead"])
    {
        let mut story = in_state(state);
        story.leave("b");
        assert_eq!(story.group.state_name(), after, "after {state}");
    }
}

#[test]
fn whoever_waits_is_answered_once_the_state_changes() {
    let mut story = in_state("CompletingRebalance");
    story.sync("b", "");
    story.skip();
    story.leave("a");
    story.expect(
        "a leaves
             a <- leave ok
             b <- sync rebalance in progress",
    );
    story.join("b");
    story.expect(
        "b joins
             b <- join generation 4 range, leader of [b]",
    );
}

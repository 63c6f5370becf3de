//! View changes (4.4) and their liveness (4.5.2).

use super::cluster::Cluster;
use super::normal::{pre_prepare, signed};
use crate::io::{Event, Reason};
use crate::message::{Message, Status, ViewChange, ViewChangeContent};
use crate::vote::Kind;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::{Body, Codec};

fn views(cluster: &Cluster) -> Vec<u64> {
    cluster.nodes.iter().filter_map(|node| Some(node.replica.as_ref()?.view())).collect()
}

fn wish(view: u64, wish: u64) -> Message {
    Message::Status(Status { view, changing: false, wish, stable: 0, executed: 0, slots: Bytes::new() })
}

#[test]
fn a_primary_that_stops_is_replaced_and_catches_up_when_it_returns() {
    let mut cluster = Cluster::new(4);
    let stopped = cluster.primary_of(0);
    let origin = (stopped + 1) % 4;
    cluster.cut_off(&[stopped]);
    cluster.submit(origin);
    assert!(cluster.effective(origin).is_empty());
    let before = cluster.now;
    cluster.pass(1_500);
    assert_eq!(cluster.effective(origin), [(origin as u32, 0)], "complaint and timeout, then the next view");
    assert_eq!(cluster.replica(origin).view(), 1);
    assert!(cluster.now - before < 2_000, "the gap after a primary stops is below 2 s");
    assert!(cluster.replica(stopped).is_voting(), "alone it wishes for nothing that it could give up");
    cluster.heal();
    cluster.pass(600);
    assert_eq!(views(&cluster), [1; 4]);
    assert_eq!(cluster.effective(stopped).len(), 1);
    cluster.assert_agreement();
    assert!(cluster.nodes.iter().all(|node| node.replica.as_ref().unwrap().next_timeout().is_none()));
}

#[test]
fn two_faulty_primaries_in_a_row_are_replaced_with_seven_replicas() {
    let mut cluster = Cluster::new(7);
    let faulty = [cluster.primary_of(0), cluster.primary_of(1)];
    let origin = cluster.primary_of(3);
    cluster.cut_off(&faulty);
    cluster.submit(origin);
    cluster.pass(5_000);
    assert_eq!(cluster.effective(origin), [(origin as u32, 0)]);
    assert_eq!(cluster.replica(origin).view(), 2);
}

#[test]
fn one_replica_alone_forces_nothing_and_goes_on_voting() {
    let mut cluster = Cluster::new(4);
    let lonely = (cluster.primary_of(0) + 1) % 4;
    cluster.cut_off(&[lonely]);
    cluster.submit(lonely);
    cluster.pass(5_000);
    let wished = Event::ViewWished { view: 1, reason: Reason::Submission };
    assert!(cluster.nodes[lonely].events.contains(&wished));
    assert!(cluster.replica(lonely).is_voting());
    cluster.heal();
    cluster.pass(600);
    assert_eq!(views(&cluster), [0; 4], "its wish moves nobody");
    // And with another one gone, its vote is needed and it is there.
    cluster.cut_off(&[(lonely + 1) % 4]);
    cluster.submit(lonely);
    assert_eq!(cluster.effective(lonely).len(), 2);
    assert_eq!(views(&cluster), [0; 4]);
}

#[test]
fn more_than_f_wishes_are_joined_and_the_faulty_ones_cannot_choose_the_view() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let others: Vec<usize> = (0..4).filter(|index| *index != primary).collect();
    cluster.pass_only(|_, _, _| false);
    cluster.inject(others[0], others[2], &wish(0, u64::MAX));
    assert!(cluster.nodes[others[2]].events.iter().all(|event| !matches!(event, Event::ViewWished { .. })));
    cluster.inject(others[1], others[2], &wish(0, 3));
    let joined = Event::ViewWished { view: 3, reason: Reason::Joined };
    assert!(cluster.nodes[others[2]].events.contains(&joined), "the lower of two, since one may be faulty");
    assert_eq!(cluster.replica(others[2]).view(), 3, "and three of four are a quorum");
    assert!(!cluster.replica(others[2]).is_voting());
}

#[test]
fn a_batch_that_one_replica_executed_comes_back_in_every_later_view() {
    let mut cluster = Cluster::new(4);
    let lucky = cluster.primary_of(3);
    let at = cluster.heights()[0] + 1;
    // Only one replica sees the commits.
    cluster.pass_only(move |_, to, message| usize::from(to) == lucky || !matches!(message, Message::Commit(_)));
    cluster.submit(lucky);
    assert_eq!(cluster.nodes[lucky].ledger.height(), at);
    let head = cluster.nodes[lucky].ledger.block(at).unwrap().head;
    // It falls silent; the others go through views in which nobody gets as far as a commit.
    cluster.pass_only(move |from, to, message| {
        usize::from(from) != lucky && usize::from(to) != lucky && !matches!(message, Message::Commit(_))
    });
    cluster.pass(8_000);
    assert!(cluster.replica((lucky + 1) % 4).view() >= 3);
    assert_eq!(cluster.nodes.iter().filter(|node| node.ledger.height() >= at).count(), 1);
    cluster.heal();
    cluster.pass(20_000);
    for index in 0..4 {
        assert_eq!(cluster.nodes[index].ledger.block(at).unwrap().head, head, "replica {index}");
        assert_eq!(cluster.effective(index), [(lucky as u32, 0)]);
    }
    cluster.assert_agreement();
}

#[test]
fn a_gap_between_two_prepared_sequences_becomes_a_null_request_and_nothing_is_lost() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let others: Vec<usize> = (0..4).filter(|index| *index != primary).collect();
    let at = cluster.heights()[0] + 1;
    // Three proposals are under way. The second one's prepares are all lost, and so are all commits.
    cluster.pass_only(move |_, _, message| match message {
        Message::Prepare(prepare) => prepare.sequence != at + 1,
        Message::Commit(_) | Message::Status(_) => false,
        _ => true,
    });
    for index in [primary, others[0], others[1]] {
        cluster.submit(index);
    }
    cluster.pass_only(move |from, to, message| {
        let stale = match message {
            Message::Prepare(prepare) => prepare.view == 0,
            Message::Commit(commit) => commit.view == 0,
            _ => false,
        };
        usize::from(from) != primary && usize::from(to) != primary && !stale
    });
    cluster.pass(1_500);
    let blocks = cluster.nodes[others[2]].ledger.blocks();
    assert!(blocks[at as usize].effective.is_empty(), "null");
    assert_eq!(blocks[at as usize].body, Body::default().to_bytes());
    assert_eq!(blocks[at as usize - 1].effective, [(waybill_types::NodeId(primary as u32), 1, 0)]);
    assert_eq!(blocks[at as usize + 1].effective, [(waybill_types::NodeId(others[1] as u32), 1, 0)]);
    cluster.pass(2_000);
    let effective = cluster.effective(others[2]);
    assert_eq!(effective.len(), 3, "the one in the gap was submitted again: {effective:?}");
    cluster.heal();
    cluster.pass(1_000);
    cluster.assert_agreement();
}

#[test]
fn the_first_body_is_never_replaced_by_a_null_request() {
    let mut cluster = Cluster::stopped(4, |_| {});
    let primary = cluster.primary_of(0);
    cluster.cut_off(&[primary]);
    for index in 0..4 {
        cluster.start(index);
    }
    cluster.run();
    cluster.pass(1_500);
    let other = (primary + 1) % 4;
    assert_eq!(cluster.nodes[other].ledger.block(1).unwrap().body, cluster.nodes[other].config.first_body);
    assert_eq!(cluster.replica(other).view(), 1);
}

#[test]
fn the_timeout_doubles_with_each_failed_view_saturates_and_is_reset_by_progress() {
    let mut cluster = Cluster::with(4, |config| config.timing.view_timeout_doublings_max = 3);
    let origin = 0;
    cluster.pass_only(|_, _, message| !matches!(message, Message::NewView(_) | Message::PrePrepare(_)));
    cluster.submit(origin);
    let mut entered = Vec::new();
    let mut view = 0;
    for _ in 0..60_000 {
        cluster.pass(1);
        if cluster.replica(origin).view() > view {
            view = cluster.replica(origin).view();
            entered.push(cluster.now);
        }
    }
    let gaps: Vec<u64> = entered.windows(2).map(|pair| (pair[1] - pair[0]).div_ceil(500) * 500).collect();
    assert_eq!(gaps[..6], [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    cluster.heal();
    cluster.pass(20_000);
    assert_eq!(cluster.effective(origin).len(), 1);
    let stopped = usize::from(cluster.replica(origin).primary());
    let origin = (stopped + 1) % 4;
    cluster.cut_off(&[stopped]);
    cluster.submit(origin);
    cluster.pass(1_500);
    assert!(cluster.effective(origin).len() >= 2, "the first timeout again");
}

#[test]
fn a_primary_that_censors_one_origin_loses_its_view_although_all_else_goes_on() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let (censored, other) = ((primary + 1) % 4, (primary + 2) % 4);
    // The primary hears nothing of this origin's, from anyone.
    let is_censored = move |message: &Message| match message {
        Message::Submit(envelope) | Message::Complain(envelope) => envelope.header.origin.0 as usize == censored,
        _ => false,
    };
    cluster.pass_only(move |_, to, message| usize::from(to) != primary || !is_censored(message));
    cluster.submit(censored);
    for _ in 0..30 {
        cluster.submit(other);
        cluster.pass(50);
    }
    assert!(cluster.effective(other).contains(&(censored as u32, 0)));
    assert_eq!(cluster.replica(other).view(), 1);
    assert!(cluster.effective(other).iter().filter(|(origin, _)| *origin as usize == other).count() == 30);
}

#[test]
fn a_complaint_about_a_gap_starts_no_timer() {
    let mut cluster = Cluster::new(4);
    let origin = 3;
    let _first = cluster.envelope(origin);
    let second = cluster.envelope(origin);
    cluster.inject(origin, 0, &Message::Complain(second));
    assert_eq!(cluster.replica(0).next_timeout(), None);
    assert!(cluster.nodes[0].events.iter().any(|event| matches!(event, Event::SubmissionDropped { .. })));
}

#[test]
fn a_view_change_counts_for_its_signer_only() {
    let mut cluster = Cluster::new(4);
    cluster.pass_only(|_, _, _| false);
    let content = ViewChangeContent { stable: None, prepared: vec![] }.to_bytes();
    let signature = signed(&cluster, 1, Kind::ViewChange, 5, 0, &ViewChange::digest(&content));
    let of_one = ViewChange { replica: 1, view: 5, content, signature };
    let as_two = ViewChange { replica: 2, ..of_one.clone() };
    cluster.inject(2, 0, &Message::ViewChange(of_one));
    cluster.inject(2, 0, &Message::ViewChange(as_two));
    let blamed = |event: &&Event| matches!(event, Event::PeerMisbehaved { peer: 2, .. });
    assert_eq!(cluster.nodes[0].events.iter().filter(blamed).count(), 2);
}

#[test]
fn a_proposal_that_overtakes_the_opening_of_its_view_is_not_lost() {
    let mut cluster = Cluster::new(4);
    let late = cluster.primary_of(2);
    let primary = cluster.primary_of(1);
    let origin = cluster.primary_of(3);
    cluster.cut_off(&[cluster.primary_of(0)]);
    cluster.submit(origin);
    let stopped = cluster.primary_of(0);
    cluster.pass_only(move |from, to, message| {
        let opening = matches!(message, Message::NewView(_)) && usize::from(to) == late;
        usize::from(from) != stopped && usize::from(to) != stopped && !opening
    });
    cluster.pass(1_500);
    assert!(!cluster.replica(late).is_voting(), "it waits for the opening");
    let at = cluster.heights()[primary];
    cluster.heal();
    cluster.pass(600);
    assert!(cluster.nodes[late].ledger.height() > at);
    assert!(cluster.replica(late).is_voting());
    let stray = pre_prepare(&cluster, 9, at + 9, Body::default().to_bytes());
    cluster.inject(primary, late, &stray);
    assert_eq!(cluster.replica(late).view(), 1, "a proposal of a far view moves nobody");
}

#[test]
fn a_primary_that_is_behind_its_view_proposes_nothing_that_was_decided_before() {
    let mut cluster = Cluster::new(4);
    cluster.fetches_blocks = false;
    let (first, behind) = (cluster.primary_of(0), cluster.primary_of(1));
    let others: Vec<usize> = (0..4).filter(|index| ![first, behind].contains(index)).collect();
    // The next primary misses a block that the others execute and cover.
    cluster.cut_off(&[behind]);
    cluster.submit(others[0]);
    cluster.pass(50);
    let decided = cluster.heights()[others[0]];
    assert_eq!(cluster.replica(others[0]).stable(), decided);
    assert!(cluster.nodes[behind].ledger.height() < decided);
    // The first primary stops; the behind one takes over, and hears of the checkpoint in a view change.
    cluster.cut_off(&[first]);
    cluster.submit(others[1]);
    cluster.submit(behind);
    cluster.pass(1_500);
    assert_eq!(cluster.replica(others[0]).view(), 1);
    assert_eq!(cluster.nodes[behind].need_sync.last().map(|wanted| wanted.checkpoint.height), Some(decided));
    let proposed = |(_, message): &(crate::To, Message)| match message {
        Message::PrePrepare(proposal) => Some(proposal.sequence),
        _ => None,
    };
    assert!(cluster.nodes[behind].sent.iter().filter_map(proposed).next().is_none());
    // Were it to, nobody would agree.
    let stale = pre_prepare(&cluster, 1, decided, Body { checkpoint: true, ..Body::default() }.to_bytes());
    cluster.inject(behind, others[0], &stale);
    cluster.start(behind);
    assert!(cluster.nodes[behind].sent.iter().filter_map(proposed).next().is_none(), "nor after a restart");
    cluster.fetches_blocks = true;
    cluster.pass(2_000);
    assert_eq!(cluster.effective(others[0]).len(), 3, "its own too: it had complained");
    cluster.heal();
    cluster.pass(1_000);
    cluster.assert_agreement();
}

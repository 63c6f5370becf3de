//! Restarts: a replica says again what it has said, and nothing that contradicts it.

use super::cluster::{Cluster, body};
use super::normal::pre_prepare;
use crate::io::{Input, Restored};
use crate::message::Message;
use crate::record;
use crate::replica::Replica;
use crate::simulator::keys::Keys;
use crate::{Sequence, StartError};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::{Body, Codec};

/// The votes on a sequence that a node has sent, encoded.
fn votes(cluster: &Cluster, index: usize, at: Sequence) -> Vec<Bytes> {
    let on = |message: &Message| match message {
        Message::PrePrepare(vote) => vote.sequence == at,
        Message::Prepare(vote) => vote.sequence == at,
        Message::Commit(vote) => vote.sequence == at,
        _ => false,
    };
    cluster.nodes[index].sent.iter().filter(|(_, message)| on(message)).map(|(_, message)| message.to_bytes()).collect()
}

#[test]
fn a_restarted_replica_sends_identical_votes() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let late = (primary + 1) % 4;
    let at = cluster.heights()[0] + 1;
    cluster.cut_off(&[late]);
    cluster.submit(primary);
    for index in (0..4).filter(|index| *index != late) {
        let before = votes(&cluster, index, at);
        assert!(!before.is_empty());
        cluster.nodes[index].sent.clear();
        cluster.start(index);
        cluster.pass_only(|_, _, _| true);
        cluster.input(late, Input::Reconnected { peer: index as u8 });
        cluster.run();
        assert_eq!(votes(&cluster, index, at), before, "replica {index}");
        cluster.cut_off(&[late]);
    }
    cluster.heal();
    cluster.pass(600);
    assert_eq!(cluster.effective(late).len(), 1);
}

#[test]
fn a_restarted_backup_accepts_no_second_proposal_in_the_same_view() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let backup = (primary + 1) % 4;
    let at = cluster.heights()[0] + 1;
    let envelope = cluster.envelope(primary);
    cluster.pass_only(|_, _, _| false);
    let first = pre_prepare(&cluster, 0, at, body(vec![envelope.clone()]));
    cluster.inject(primary, backup, &first);
    cluster.start(backup);
    cluster.nodes[backup].sent.clear();
    let mut other = Body { proposed_time_ms: super::cluster::NOW_MS, ..Body::default() };
    other.envelopes = vec![envelope];
    other.checkpoint = true;
    let second = pre_prepare(&cluster, 0, at, other.to_bytes());
    cluster.inject(primary, backup, &second);
    assert!(votes(&cluster, backup, at).is_empty());
    assert_eq!(cluster.nodes[backup].evidence.len(), 1);
}

#[test]
fn a_replica_that_asked_for_a_view_does_not_vote_below_it_after_a_restart() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let backup = cluster.primary_of(2);
    cluster.pass_only(|_, _, message| !matches!(message, Message::PrePrepare(_) | Message::NewView(_)));
    cluster.submit(backup);
    cluster.pass(1_450);
    assert_eq!(cluster.replica(backup).view(), 1);
    let asked = |cluster: &Cluster| {
        let sent = cluster.nodes[backup].sent.iter();
        let asked = sent.filter(|(_, message)| matches!(message, Message::ViewChange(_)));
        asked.map(|(_, message)| message.to_bytes()).next()
    };
    let before = asked(&cluster);
    assert!(before.is_some());
    cluster.nodes[backup].sent.clear();
    cluster.start(backup);
    assert_eq!((cluster.replica(backup).view(), cluster.replica(backup).is_voting()), (1, false));
    cluster.input(backup, Input::Reconnected { peer: primary as u8 });
    cluster.inject(
        primary,
        backup,
        &Message::Status(crate::message::Status {
            view: 0,
            changing: false,
            wish: 0,
            stable: 0,
            executed: 0,
            slots: Bytes::new(),
        }),
    );
    assert_eq!(asked(&cluster), before, "the same request, byte for byte");
}

#[test]
fn what_one_replica_executed_survives_the_restart_of_all_others() {
    let mut cluster = Cluster::new(4);
    let lucky = cluster.primary_of(3);
    let at = cluster.heights()[0] + 1;
    cluster.pass_only(move |_, to, message| usize::from(to) == lucky || !matches!(message, Message::Commit(_)));
    cluster.submit(lucky);
    let head = cluster.nodes[lucky].ledger.block(at).unwrap().head;
    // The others have prepared it. They restart, and must bring it into the next view without the lucky one.
    cluster.cut_off(&[lucky]);
    let others: Vec<usize> = (0..4).filter(|index| *index != lucky).collect();
    others.iter().for_each(|index| cluster.start(*index));
    cluster.pass_only(move |from, to, message| {
        let stale = match message {
            Message::Prepare(prepare) => prepare.view == 0,
            Message::Commit(commit) => commit.view == 0,
            _ => false,
        };
        usize::from(from) != lucky && usize::from(to) != lucky && !stale
    });
    let second = cluster.primary_of(1);
    cluster.submit(second);
    cluster.pass(3_000);
    for index in others {
        assert!(cluster.replica(index).view() >= 1);
        assert_eq!(cluster.nodes[index].ledger.block(at).unwrap().head, head, "replica {index}");
    }
}

#[test]
fn all_replicas_restart_at_once_in_the_middle_of_everything() {
    for lost in 0..3 {
        let mut cluster = Cluster::new(4);
        // Whatever is under way is lost at one of the phases.
        cluster.pass_only(move |_, _, message| match message {
            Message::PrePrepare(_) => lost > 0,
            Message::Prepare(_) => lost > 1,
            Message::Commit(_) => false,
            _ => true,
        });
        let height = cluster.heights()[0];
        let primary = cluster.primary_of(0);
        cluster.submit(primary);
        for index in 0..4 {
            cluster.start(index);
        }
        cluster.heal();
        cluster.pass(3_000);
        cluster.assert_agreement();
        assert_eq!(cluster.effective(0), [(primary as u32, 0)], "it was durable at the primary, lost = {lost}");
        assert!(cluster.heights().iter().all(|reached| *reached > height));
    }
}

#[test]
fn checkpoint_votes_that_died_with_everyone_are_replaced() {
    let mut cluster = Cluster::new(4);
    cluster.pass_only(|_, _, message| !matches!(message, Message::Checkpoint(_)));
    cluster.submit(0);
    cluster.pass(5);
    let stable = cluster.replica(0).stable();
    for index in 0..4 {
        // The record of its checkpoint was not durable: the body's flag is spent.
        cluster.nodes[index].records.pop();
        cluster.start(index);
    }
    cluster.heal();
    cluster.pass(900);
    assert!((0..4).all(|index| cluster.replica(index).stable() > stable));
    assert!((0..4).all(|index| cluster.replica(index).next_timeout().is_none()));
    assert!((0..4).all(|index| cluster.replica(index).view() == 0));
}

#[test]
fn only_needed_records_are_needed() {
    let mut cluster = Cluster::with(4, |config| config.checkpoint_interval = 4);
    let stopped = cluster.primary_of(0);
    let origin = (stopped + 1) % 4;
    cluster.cut_off(&[stopped]);
    for _ in 0..9 {
        cluster.submit(origin);
    }
    cluster.pass(3_000);
    let node = &mut cluster.nodes[origin];
    let stable = node.stable.as_ref().unwrap().checkpoint.height;
    let all = node.records.len();
    node.records.retain(|record| record::needed(record, stable));
    assert!(node.records.len() < all / 2);
    cluster.start(origin);
    assert_eq!((cluster.replica(origin).view(), cluster.replica(origin).is_voting()), (1, true));
    cluster.heal();
    cluster.submit(origin);
    cluster.pass(600);
    cluster.assert_agreement();
    assert_eq!(cluster.effective(origin).len(), 10);
}

#[test]
fn bodies_can_be_read_back_from_the_records_that_hold_them() {
    let mut cluster = Cluster::new(4);
    cluster.submit(2);
    for node in &cluster.nodes {
        for height in 1..=node.ledger.height() {
            let body = &node.ledger.block(height).unwrap().body;
            let stored = node.records.iter().filter_map(record::accepted);
            let found = stored.filter(|stored| stored.sequence == height && stored.body == *body).count();
            assert_eq!(found, 1, "once");
        }
    }
}

#[test]
fn a_corrupt_record_or_certificate_refuses_to_start() {
    let cluster = Cluster::new(4);
    let node = &cluster.nodes[1];
    let start = |restored: Restored| {
        Replica::start(node.config.clone(), Keys::of(1, false), restored, 0, &mut vec![]).map(|_| ())
    };
    let good = Restored {
        stable: node.stable.clone(),
        executed: node.ledger.height(),
        origins: node.ledger.origins(),
        records: node.records.clone(),
    };
    assert_eq!(start(good.clone()), Ok(()));
    let mut torn = good.clone();
    torn.records[0] = torn.records[0].slice(..torn.records[0].len() - 1);
    assert!(matches!(start(torn), Err(StartError::Record(_))));
    let mut forged = good;
    forged.stable.as_mut().unwrap().checkpoint.height += 1000;
    assert_eq!(start(forged), Err(StartError::Stable));
}

#[test]
fn a_ledger_that_lost_certified_blocks_asks_for_them_and_breaks_no_promise() {
    let mut cluster = Cluster::with(4, |config| config.checkpoint_interval = 2);
    for _ in 0..12 {
        cluster.submit(0);
    }
    cluster.pass(100);
    let height = cluster.heights()[1];
    cluster.nodes[1].ledger.truncate(3);
    cluster.fetches_blocks = false;
    cluster.start(1);
    assert_eq!(cluster.replica(1).stable(), height, "what it promised above stays promised");
    assert_eq!(cluster.nodes[1].need_sync.last().unwrap().checkpoint.height, height);
}

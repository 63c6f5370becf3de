//! Checkpoints (4.3), catch-up, divergence.

use super::cluster::Cluster;
use crate::Signatures;
use crate::message::{CheckpointVote, Message};
use crate::simulator::keys::Keys;
use waybill_types::{Certificate, Digest};

#[test]
fn an_idle_ledger_is_covered_although_no_body_asked_for_it() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    // A second submission within the idle time gets no flag of its own.
    cluster.submit(primary);
    cluster.submit(primary);
    let height = cluster.heights()[0];
    assert!(cluster.replica(0).stable() < height);
    cluster.pass(30);
    assert_eq!(cluster.heights()[0], height + 1, "an empty body covers it");
    assert_eq!(cluster.replica(0).stable(), height + 1);
    assert_eq!(cluster.replica(0).next_timeout(), None);
}

#[test]
fn flags_are_rare_under_load_and_every_kth_height_is_covered() {
    let mut cluster = Cluster::with(4, |config| config.checkpoint_interval = 4);
    for _ in 0..20 {
        cluster.submit(1);
    }
    let blocks = cluster.nodes[0].ledger.blocks();
    let asked = blocks.iter().enumerate().filter(|(at, block)| block.checkpoint && (at + 1) % 4 != 0).count();
    assert!(asked <= 2, "{asked} flags");
    assert!(cluster.heights()[0] >= 20);
    assert!(cluster.replica(0).stable() + 4 > cluster.heights()[0]);
}

#[test]
fn a_lost_last_commit_leaves_nobody_waiting() {
    let mut cluster = Cluster::new(4);
    let late = (cluster.primary_of(0) + 1) % 4;
    cluster.pass_only(move |_, to, message| usize::from(to) != late || !matches!(message, Message::Commit(_)));
    cluster.submit(0);
    let height = cluster.heights().into_iter().max().unwrap();
    assert_eq!(cluster.nodes[late].ledger.height(), height - 1);
    cluster.pass_only(|_, _, _| true);
    cluster.pass(600);
    assert!(cluster.nodes[late].ledger.height() >= height);
    assert!(cluster.nodes.iter().all(|node| node.replica.as_ref().unwrap().view() == 0));
}

#[test]
fn a_lost_last_checkpoint_leaves_nobody_waiting() {
    let mut cluster = Cluster::new(4);
    let late = (cluster.primary_of(0) + 1) % 4;
    cluster.pass_only(move |_, to, message| usize::from(to) != late || !matches!(message, Message::Checkpoint(_)));
    cluster.submit(0);
    cluster.pass(100);
    assert!(cluster.replica(late).stable() < cluster.nodes[late].ledger.height());
    cluster.pass_only(|_, _, _| true);
    cluster.pass(600);
    assert_eq!(cluster.replica(late).stable(), cluster.nodes[late].ledger.height());
    assert!(cluster.nodes.iter().all(|node| node.replica.as_ref().unwrap().next_timeout().is_none()));
}

#[test]
fn a_replica_beyond_the_reach_of_votes_asks_for_blocks_and_goes_on_after_them() {
    let mut cluster = Cluster::with(4, |config| config.checkpoint_interval = 2);
    let late = (cluster.primary_of(0) + 1) % 4;
    let other = (late + 1) % 4;
    cluster.cut_off(&[late]);
    for _ in 0..10 {
        cluster.submit(other);
    }
    cluster.pass(100);
    cluster.fetches_blocks = false;
    cluster.heal();
    cluster.pass(300);
    let certificate = cluster.nodes[late].need_sync.last().cloned().expect("it asks for blocks");
    assert_eq!(Some(&certificate), cluster.nodes[other].stable.as_ref());
    let executed = certificate.checkpoint.height;
    assert!(cluster.nodes[late].ledger.height() < executed, "votes do not reach that far");
    cluster.fetches_blocks = true;
    cluster.run();
    assert_eq!(cluster.replica(late).stable(), executed);
    cluster.submit(late);
    cluster.pass(100);
    assert_eq!(cluster.effective(late).len(), 11);
    cluster.assert_agreement();
    assert!(cluster.nodes.iter().all(|node| node.replica.as_ref().unwrap().view() == 0));
}

#[test]
fn a_replica_that_computed_something_else_than_a_quorum_stops_and_says_so() {
    let mut cluster = Cluster::new(4);
    let odd = 2;
    cluster.pass_only(move |_, to, message| usize::from(to) != odd || !matches!(message, Message::Checkpoint(_)));
    cluster.submit(0);
    cluster.pass(100);
    let node = &cluster.nodes[odd];
    let mut checkpoint = node.ledger.checkpoint(&node.config, node.ledger.height()).unwrap();
    assert!(cluster.replica(odd).stable() < checkpoint.height, "its own vote alone makes nothing stable");
    checkpoint.state_root = Digest([0xbb; 32]);
    for from in [0, 1, 3] {
        let signature = Keys::of(from, false).sign(checkpoint.text().as_bytes());
        let vote = CheckpointVote { checkpoint: checkpoint.clone(), signature };
        cluster.inject(usize::from(from), odd, &Message::Checkpoint(vote));
    }
    assert!(cluster.nodes[odd].diverged);
    assert_eq!(cluster.replica(odd).next_timeout(), None);
    let before = cluster.nodes[odd].sent.len();
    cluster.submit(odd);
    assert_eq!(cluster.nodes[odd].sent.len(), before, "it says nothing any more");
}

#[test]
fn a_certificate_needs_a_quorum_of_distinct_members_and_their_signatures() {
    let mut cluster = Cluster::new(4);
    let node = &cluster.nodes[0];
    let mut checkpoint = node.ledger.checkpoint(&node.config, node.ledger.height()).unwrap();
    checkpoint.height += 100;
    let sign = |index: u8| (index, Keys::of(index, false).sign(checkpoint.text().as_bytes()));
    let bad = [
        alloc::vec![sign(0), sign(1)],
        alloc::vec![sign(0), sign(1), sign(1)],
        alloc::vec![sign(0), sign(2), sign(1)],
        alloc::vec![sign(0), sign(1), sign(9)],
        alloc::vec![sign(0), sign(1), (2, sign(1).1)],
    ];
    cluster.fetches_blocks = false;
    for signatures in bad {
        let certificate = Certificate { checkpoint: checkpoint.clone(), signatures };
        cluster.inject(1, 2, &Message::Stable(certificate));
        assert!(cluster.nodes[2].need_sync.is_empty());
    }
    let mut other_epoch = checkpoint.clone();
    other_epoch.epoch = 2;
    let signatures = (0..3).map(|index| (index, Keys::of(index, false).sign(other_epoch.text().as_bytes()))).collect();
    cluster.inject(1, 2, &Message::Stable(Certificate { checkpoint: other_epoch, signatures }));
    assert!(cluster.nodes[2].need_sync.is_empty());
    let signatures = alloc::vec![sign(0), sign(1), sign(3)];
    cluster.inject(1, 2, &Message::Stable(Certificate { checkpoint, signatures }));
    assert_eq!(cluster.nodes[2].need_sync.len(), 1);
}

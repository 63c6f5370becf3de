//! Normal-case operation (4.2): what counts towards a quorum, and what must be durable first.

use super::cluster::{Cluster, body, envelope};
use crate::Sequence;
use crate::io::{Event, Signatures};
use crate::message::{Commit, Message, PrePrepare, Prepare};
use crate::vote::{Kind, preimage};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::{Body, Codec, Digest, Signature};

/// Node `index` signs a vote.
pub(super) fn signed(
    cluster: &Cluster,
    index: usize,
    kind: Kind,
    view: u64,
    at: Sequence,
    digest: &Digest,
) -> Signature {
    let node = &cluster.nodes[index];
    let scope = (node.config.network, node.config.cluster, node.config.membership.epoch);
    node.keys.sign(&preimage(kind, scope, view, at, digest))
}

/// A proposal of the primary of its view.
pub(super) fn pre_prepare(cluster: &Cluster, view: u64, sequence: Sequence, body: Bytes) -> Message {
    let digest = Body::digest(&body);
    let signature = signed(cluster, cluster.primary_of(view), Kind::PrePrepare, view, sequence, &digest);
    Message::PrePrepare(PrePrepare { view, sequence, digest, signature, body })
}

/// A prepare of `from`.
pub(super) fn prepare(cluster: &Cluster, from: usize, view: u64, sequence: Sequence, digest: Digest) -> Message {
    let proposal = signed(cluster, cluster.primary_of(view), Kind::PrePrepare, view, sequence, &digest);
    let signature = signed(cluster, from, Kind::Prepare, view, sequence, &digest);
    Message::Prepare(Prepare { view, sequence, digest, proposal, signature })
}

fn has_sent(cluster: &Cluster, index: usize, wanted: impl Fn(&Message) -> bool) -> bool {
    cluster.nodes[index].sent.iter().any(|(_, message)| wanted(message))
}

/// The primary, and the backups in order.
fn roles(cluster: &Cluster) -> (usize, Vec<usize>) {
    let primary = cluster.primary_of(0);
    (primary, (0..cluster.nodes.len()).filter(|index| *index != primary).collect())
}

#[test]
fn a_submission_executes_everywhere_is_covered_and_then_nobody_waits() {
    for n in [1, 4, 7] {
        let mut cluster = Cluster::new(n);
        let height = cluster.heights()[0];
        for index in 0..n {
            cluster.submit(index);
        }
        cluster.pass(100);
        cluster.assert_agreement();
        assert_eq!(cluster.effective(n - 1).len(), n);
        for index in 0..n {
            assert!(cluster.nodes[index].ledger.height() > height);
            assert_eq!(cluster.replica(index).stable(), cluster.nodes[index].ledger.height(), "n = {n}");
            assert_eq!(cluster.replica(index).next_timeout(), None, "idle costs nothing, n = {n}");
        }
    }
}

#[test]
fn the_first_body_is_proposed_at_once_and_no_other_is_accepted() {
    let mut cluster = Cluster::stopped(4, |_| {});
    let (primary, backups) = roles(&cluster);
    cluster.start(backups[0]);
    let other = pre_prepare(&cluster, 0, 1, Body { proposed_time_ms: 2, ..Body::default() }.to_bytes());
    cluster.inject(primary, backups[0], &other);
    let refused = |event: &Event| matches!(event, Event::ProposalRefused { sequence: 1, .. });
    assert!(cluster.nodes[backups[0]].events.iter().any(refused));
    assert!(!has_sent(&cluster, backups[0], |message| matches!(message, Message::Prepare(_))));
    assert!(cluster.replica(backups[0]).next_timeout().is_some(), "every replica waits for the first body");
}

#[test]
fn a_prepare_of_the_primary_or_a_repeated_one_does_not_count() {
    let mut cluster = Cluster::new(4);
    let (primary, backups) = roles(&cluster);
    cluster.pass_only(|_, _, _| false);
    let at = cluster.heights()[0] + 1;
    let envelope = cluster.envelope(primary);
    let body = body(vec![envelope]);
    let digest = Body::digest(&body);
    let proposal = pre_prepare(&cluster, 0, at, body);
    cluster.inject(primary, backups[0], &proposal);
    let commits = |message: &Message| matches!(message, Message::Commit(commit) if commit.sequence == at);
    // Its own prepare is one of the two that it needs besides the proposal.
    let repeated = prepare(&cluster, backups[0], 0, at, digest);
    cluster.inject(primary, backups[0], &prepare(&cluster, primary, 0, at, digest));
    cluster.inject(backups[1], backups[0], &repeated);
    assert!(!has_sent(&cluster, backups[0], commits), "a prepare that another has signed");
    cluster.inject(backups[1], backups[0], &prepare(&cluster, backups[1], 1, at, digest));
    cluster.inject(backups[1], backups[0], &prepare(&cluster, backups[1], 0, at, Digest([1; 32])));
    assert!(!has_sent(&cluster, backups[0], commits), "prepares of another view and digest");
    cluster.inject(backups[2], backups[0], &prepare(&cluster, backups[2], 0, at, digest));
    assert!(has_sent(&cluster, backups[0], commits));
}

#[test]
fn commits_count_once_per_replica_and_only_of_one_view() {
    let mut cluster = Cluster::new(4);
    let (primary, backups) = roles(&cluster);
    cluster.pass_only(|_, _, _| false);
    let at = cluster.heights()[0] + 1;
    let envelope = cluster.envelope(primary);
    let body = body(vec![envelope]);
    let digest = Body::digest(&body);
    let proposal = pre_prepare(&cluster, 0, at, body);
    cluster.inject(primary, backups[0], &proposal);
    let commit = |view| Message::Commit(Commit { view, sequence: at, digest });
    for _ in 0..3 {
        cluster.inject(primary, backups[0], &commit(0));
    }
    cluster.inject(backups[1], backups[0], &commit(0));
    cluster.inject(backups[2], backups[0], &commit(1));
    assert_eq!(cluster.nodes[backups[0]].ledger.height(), at - 1);
    cluster.inject(backups[1], backups[0], &commit(1));
    assert_eq!(cluster.nodes[backups[0]].ledger.height(), at - 1, "two of each view are no quorum");
    cluster.inject(primary, backups[0], &commit(1));
    assert_eq!(cluster.nodes[backups[0]].ledger.height(), at, "a quorum of another view decides too");
}

#[test]
fn commits_may_come_before_prepares_and_later_sequences_before_earlier_ones() {
    let mut cluster = Cluster::new(4);
    let (primary, backups) = roles(&cluster);
    cluster.pass_only(|_, _, _| false);
    let at = cluster.heights()[0] + 1;
    let envelopes = [cluster.envelope(primary), cluster.envelope(primary)];
    let bodies = envelopes.map(|envelope| body(vec![envelope]));
    for (sequence, body) in [(at + 1, bodies[1].clone()), (at, bodies[0].clone())] {
        let digest = Body::digest(&body);
        for from in [primary, backups[1], backups[2]] {
            cluster.inject(from, backups[0], &Message::Commit(Commit { view: 0, sequence, digest }));
        }
        let proposal = pre_prepare(&cluster, 0, sequence, body);
        cluster.inject(primary, backups[0], &proposal);
    }
    assert_eq!(cluster.nodes[backups[0]].ledger.height(), at + 1);
}

#[test]
fn nothing_is_said_or_executed_before_it_is_durable() {
    let mut cluster = Cluster::new(4);
    let (primary, backups) = roles(&cluster);
    let height = cluster.heights()[0];
    cluster.nodes.iter_mut().for_each(|node| node.slow_disk = true);
    cluster.nodes.iter_mut().for_each(|node| node.sent.clear());
    cluster.submit(primary);
    assert!(cluster.nodes[primary].sent.is_empty(), "the proposal is not durable");
    cluster.sync_disk(primary);
    cluster.run();
    for backup in &backups {
        assert!(cluster.nodes[*backup].sent.is_empty(), "the acceptance is not durable");
    }
    backups.iter().for_each(|backup| cluster.sync_disk(*backup));
    cluster.run();
    let commits = |message: &Message| matches!(message, Message::Commit(_));
    assert!((0..4).all(|index| !has_sent(&cluster, index, commits)), "the certificates are not durable");
    backups.iter().for_each(|backup| cluster.sync_disk(*backup));
    cluster.run();
    assert_eq!(cluster.nodes[backups[0]].ledger.height(), height + 1);
    assert_eq!(cluster.nodes[primary].ledger.height(), height + 1, "three others have committed what it has stored");
}

#[test]
fn an_own_vote_counts_when_it_is_durable_and_not_before() {
    let mut cluster = Cluster::new(4);
    let (primary, backups) = roles(&cluster);
    let height = cluster.heights()[0];
    let slow = backups[0];
    cluster.nodes[slow].slow_disk = true;
    // Without the third backup the slow one's own votes are needed everywhere.
    cluster.cut_off(&[backups[2]]);
    cluster.submit(primary);
    assert_eq!(cluster.nodes[primary].ledger.height(), height);
    cluster.sync_disk(slow);
    cluster.run();
    assert_eq!(cluster.nodes[primary].ledger.height(), height, "its commit is not durable");
    assert_eq!(cluster.nodes[slow].ledger.height(), height, "nor does it count its own");
    cluster.sync_disk(slow);
    cluster.run();
    assert_eq!(cluster.nodes[primary].ledger.height(), height + 1);
    assert_eq!(cluster.nodes[slow].ledger.height(), height + 1);
}

#[test]
fn an_equivocating_primary_is_caught_by_those_whom_it_tells_different_things() {
    let mut cluster = Cluster::new(4);
    let (primary, backups) = roles(&cluster);
    let at = cluster.heights()[0] + 1;
    let envelope = cluster.envelope(primary);
    let bodies = [body(vec![envelope.clone()]), Body { checkpoint: true, ..Body::default() }.to_bytes()];
    let Ok(mut flagged) = Body::from_bytes(&bodies[0]) else { panic!("not a body") };
    flagged.checkpoint = true;
    let proposals = [pre_prepare(&cluster, 0, at, bodies[0].clone()), pre_prepare(&cluster, 0, at, flagged.to_bytes())];
    cluster.inject(primary, backups[0], &proposals[0]);
    cluster.inject(primary, backups[1], &proposals[1]);
    cluster.inject(primary, backups[2], &proposals[1]);
    cluster.run();
    for backup in &backups {
        let evidence = &cluster.nodes[*backup].evidence;
        assert_eq!(evidence.len(), 1, "once per replica and place");
        assert_eq!((usize::from(evidence[0].replica), evidence[0].kind), (primary, Kind::PrePrepare));
        for (digest, signature) in [evidence[0].first, evidence[0].second] {
            assert_eq!(signed(&cluster, primary, Kind::PrePrepare, 0, at, &digest), signature, "it convinces others");
        }
    }
    cluster.assert_agreement();
}

#[test]
fn a_backup_that_the_primary_omits_fetches_the_body_by_its_digest() {
    let mut cluster = Cluster::new(4);
    let (_, backups) = roles(&cluster);
    let omitted = backups[1];
    cluster.pass_only(move |_, to, message| !(usize::from(to) == omitted && matches!(message, Message::PrePrepare(_))));
    cluster.submit(omitted);
    cluster.pass(500);
    assert_eq!(cluster.effective(omitted).len(), 1);
    assert!(has_sent(&cluster, omitted, |message| matches!(message, Message::Fetch(_))));
    assert!(cluster.nodes.iter().all(|node| node.replica.as_ref().unwrap().view() == 0));
}

#[test]
fn a_backup_refuses_what_no_correct_primary_proposes() {
    let cluster = Cluster::new(4);
    let (primary, backups) = roles(&cluster);
    let node = &cluster.nodes[primary];
    let at = node.ledger.height() + 1;
    let origin = primary as u32;
    let good = envelope(&node.config, &node.keys, origin, 0);
    let body_of = |envelopes| Body { proposed_time_ms: super::cluster::NOW_MS, envelopes, ..Body::default() };
    let mut other_cluster = node.config.clone();
    other_cluster.cluster = waybill_types::ClusterId(Digest([3; 32]));
    let mut unsigned = good.clone();
    unsigned.signature = Signature([0; 64]);
    let cases = [
        ("empty, unflagged", body_of(vec![])),
        ("too early", Body { proposed_time_ms: super::cluster::NOW_MS - 61_000, ..body_of(vec![good.clone()]) }),
        ("too late", Body { proposed_time_ms: super::cluster::NOW_MS + 61_000, ..body_of(vec![good.clone()]) }),
        ("a gap", body_of(vec![envelope(&node.config, &node.keys, origin, 1)])),
        ("twice", body_of(vec![good.clone(), good.clone()])),
        ("for another cluster", body_of(vec![envelope(&other_cluster, &node.keys, origin, 0)])),
        ("of an unknown origin", body_of(vec![envelope(&node.config, &node.keys, 99, 0)])),
        ("not signed", body_of(vec![unsigned])),
        ("of another's key", body_of(vec![envelope(&node.config, &node.keys, backups[0] as u32, 0)])),
        (
            "more than the limit",
            body_of((0..5).map(|number| envelope(&node.config, &node.keys, origin, number)).collect()),
        ),
    ];
    for (what, body) in cases {
        let mut cluster = Cluster::with(4, |config| config.limits.body_envelopes = 4);
        let proposal = pre_prepare(&cluster, 0, at, body.to_bytes());
        cluster.inject(primary, backups[0], &proposal);
        let refused = |event: &Event| matches!(event, Event::ProposalRefused { sequence, .. } if *sequence == at);
        assert!(cluster.nodes[backups[0]].events.iter().any(refused), "{what}");
        assert!(!has_sent(
            &cluster,
            backups[0],
            |message| matches!(message, Message::Prepare(it) if it.sequence == at)
        ));
        cluster.pass(1_100);
        assert!(
            has_sent(&cluster, backups[0], |message| matches!(message, Message::Status(it) if it.wish == 1)),
            "{what}"
        );
    }
}

#[test]
fn a_shell_may_move_a_replica_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<crate::Replica<crate::simulator::keys::Keys>>();
}

#[test]
fn batches_grow_when_the_window_is_full() {
    let mut cluster = Cluster::with(4, |config| config.limits.window = 2);
    let (primary, backups) = roles(&cluster);
    let height = cluster.heights()[0];
    for _ in 0..10 {
        let envelope = cluster.envelope(primary);
        cluster.input(primary, crate::Input::Submit(envelope));
    }
    cluster.run();
    let sizes: Vec<usize> = cluster.nodes[backups[0]].ledger.blocks()[height as usize..]
        .iter()
        .map(|block| block.effective.len())
        .collect();
    assert_eq!(sizes, [1, 1, 8], "two alone fill the window, the rest goes together");
}

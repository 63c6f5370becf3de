//! What a view change proves and what a new view must propose (4.4), as functions.

use crate::config::Config;
use crate::io::Signatures;
use crate::message::{NewView, NewViewContent, Prepared, Proposal, ViewChange, ViewChangeContent};
use crate::new_view::{Claim, choose, is_prepared, prove, verify_opening};
use crate::simulator::Plan;
use crate::simulator::keys::Keys as Node;
use crate::vote::{Keys, Kind, preimage};
use crate::{ReplicaIndex, Sequence, View};
use alloc::vec;
use alloc::vec::Vec;
use waybill_types::{Body, Certificate, Checkpoint, Codec, Digest, Signature};

const A: Digest = Digest([0xa; 32]);
const B: Digest = Digest([0xb; 32]);

fn config() -> Config {
    let mut plan = Plan::from_seed(0, 4);
    plan.checkpoint_interval = 8;
    plan.config(0)
}

fn keys(config: &Config) -> Keys<Node> {
    Keys::new(Node::of(0, false), config)
}

fn sign(
    config: &Config,
    index: ReplicaIndex,
    kind: Kind,
    view: View,
    sequence: Sequence,
    digest: &Digest,
) -> Signature {
    let scope = (config.network, config.cluster, config.membership.epoch);
    Node::of(index, false).sign(&preimage(kind, scope, view, sequence, digest))
}

fn backups(config: &Config, view: View) -> Vec<ReplicaIndex> {
    (0..4).filter(|index| *index != config.primary(view)).collect()
}

fn prepared(config: &Config, view: View, sequence: Sequence, digest: Digest) -> Prepared {
    let signers = &backups(config, view)[..2];
    let prepares =
        signers.iter().map(|index| (*index, sign(config, *index, Kind::Prepare, view, sequence, &digest))).collect();
    let proposal = sign(config, config.primary(view), Kind::PrePrepare, view, sequence, &digest);
    Prepared { view, sequence, digest, proposal, prepares }
}

fn stable(config: &Config, height: Sequence) -> Certificate {
    let checkpoint = Checkpoint {
        network: config.network,
        ledger: config.ledger,
        cluster: config.cluster,
        epoch: 1,
        height,
        head: A,
        time_ms: 0,
        tree_size: height,
        tree_root: A,
        state_root: A,
    };
    let text = checkpoint.text();
    let signatures = (0..3).map(|index| (index, Node::of(index, false).sign(text.as_bytes()))).collect();
    Certificate { checkpoint, signatures }
}

fn view_change(config: &Config, replica: ReplicaIndex, view: View, content: &ViewChangeContent) -> ViewChange {
    let content = content.to_bytes();
    let signature = sign(config, replica, Kind::ViewChange, view, 0, &ViewChange::digest(&content));
    ViewChange { replica, view, content, signature }
}

fn claim(low: Sequence, prepared: Vec<Prepared>) -> Claim {
    Claim { low, stable: (low > 0).then(|| stable(&config(), low)), prepared }
}

#[test]
fn a_prepared_certificate_holds_with_a_quorum_of_one_view_sequence_and_digest() {
    let config = config();
    let mut keys = keys(&config);
    let good = prepared(&config, 2, 5, A);
    assert!(is_prepared(&config, &mut keys, &good));
    let primary = config.primary(2);
    let change = |what: fn(&mut Prepared)| {
        let mut bad = good.clone();
        what(&mut bad);
        bad
    };
    let mut with_primary = good.clone();
    with_primary.prepares[0] = (primary, sign(&config, primary, Kind::Prepare, 2, 5, &A));
    with_primary.prepares.sort_by_key(|prepare| prepare.0);
    let mut mixed_views = good.clone();
    let signer = mixed_views.prepares[0].0;
    mixed_views.prepares[0].1 = sign(&config, signer, Kind::Prepare, 1, 5, &A);
    let mut mixed_kinds = good.clone();
    mixed_kinds.prepares[0].1 = sign(&config, signer, Kind::PrePrepare, 2, 5, &A);
    let bad = [
        ("one too few", change(|it| it.prepares.truncate(1))),
        ("one twice", change(|it| it.prepares[1] = it.prepares[0])),
        ("not in order", change(|it| it.prepares.reverse())),
        ("another digest", change(|it| it.digest = B)),
        ("another sequence", change(|it| it.sequence += 1)),
        ("another view", change(|it| it.view += 4)),
        ("no member", change(|it| it.prepares[1].0 = 9)),
        ("another's signature", change(|it| it.prepares[0].1 = it.prepares[1].1)),
        ("a forged proposal", change(|it| it.proposal = Signature([0; 64]))),
        ("the primary's prepare", with_primary),
        ("views mixed", mixed_views),
        ("kinds mixed", mixed_kinds),
    ];
    for (what, certificate) in bad {
        assert!(!is_prepared(&config, &mut keys, &certificate), "{what}");
    }
}

#[test]
fn a_view_change_proves_its_checkpoint_and_certificates_above_it() {
    let config = config();
    let mut keys = keys(&config);
    let mut proves = |stable: Option<Certificate>, prepared: Vec<Prepared>| {
        let message = view_change(&config, 1, 3, &ViewChangeContent { stable, prepared });
        prove(&config, &mut keys, &message).is_some()
    };
    let at = |view, sequence| prepared(&config, view, sequence, A);
    assert!(proves(None, vec![]));
    assert!(proves(Some(stable(&config, 8)), vec![at(2, 9), at(0, 24)]));
    assert!(!proves(Some(stable(&config, 8)), vec![at(2, 8)]), "at the checkpoint");
    assert!(!proves(Some(stable(&config, 8)), vec![at(2, 25)]), "above the high watermark");
    assert!(!proves(None, vec![at(3, 1)]), "of the view asked for");
    assert!(!proves(None, vec![at(1, 2), at(1, 1)]), "not in order");
    assert!(!proves(None, vec![at(1, 2), at(2, 2)]), "one sequence twice");
    let mut forged = at(1, 2);
    forged.prepares[1].1 = forged.prepares[0].1;
    assert!(!proves(None, vec![at(1, 1), forged]), "a forged certificate among good ones");
    let mut short = stable(&config, 8);
    short.signatures.pop();
    assert!(!proves(Some(short), vec![]), "a checkpoint without a quorum");
    let mut moved = stable(&config, 8);
    moved.checkpoint.height = 9;
    assert!(!proves(Some(moved), vec![]), "a checkpoint that was changed");
    let mut other = stable(&config, 8);
    other.checkpoint.epoch = 2;
    let text = other.checkpoint.text();
    other.signatures = (0..3).map(|index| (index, Node::of(index, false).sign(text.as_bytes()))).collect();
    assert!(!proves(Some(other), vec![]), "a checkpoint of another epoch");
}

#[test]
fn a_new_view_starts_at_the_highest_proven_checkpoint_and_fills_gaps_with_null_requests() {
    let config = config();
    let null = Body::digest(&Body::default().to_bytes());
    let at = |view, sequence, digest| prepared(&config, view, sequence, digest);
    let cases = [
        ("nothing is prepared", vec![claim(0, vec![]), claim(4, vec![]), claim(4, vec![])], 4, vec![]),
        (
            "what lies below min-s is forgotten",
            vec![claim(0, vec![at(0, 2, A), at(0, 4, A)]), claim(3, vec![]), claim(0, vec![])],
            3,
            vec![(4, A)],
        ),
        (
            "the certificate of the highest view counts",
            vec![claim(3, vec![at(1, 4, A)]), claim(3, vec![at(2, 4, B)]), claim(3, vec![at(0, 4, A)])],
            3,
            vec![(4, B)],
        ),
        (
            "a gap is null",
            vec![claim(3, vec![at(0, 4, A)]), claim(3, vec![at(0, 6, B)]), claim(3, vec![])],
            3,
            vec![(4, A), (5, null), (6, B)],
        ),
        (
            "a gap at the first sequence is the first body",
            vec![claim(0, vec![at(0, 2, A)]), claim(0, vec![]), claim(0, vec![])],
            0,
            vec![(1, config.first_digest()), (2, A)],
        ),
    ];
    for (what, claims, min, expected) in cases {
        let (stable, chosen) = choose(&config, &claims);
        assert_eq!(stable.map_or(0, |certificate| certificate.checkpoint.height), min, "{what}");
        assert_eq!(chosen, expected, "{what}");
    }
}

/// The opening of view 1 after A was prepared at 2, at one replica.
fn opening(config: &Config, change: impl Fn(&mut Vec<ViewChange>, &mut Vec<Proposal>)) -> NewView {
    let with = ViewChangeContent { stable: None, prepared: vec![prepared(config, 0, 2, A)] };
    let without = ViewChangeContent { stable: None, prepared: vec![] };
    let mut view_changes = vec![
        view_change(config, 0, 1, &without),
        view_change(config, 1, 1, &with),
        view_change(config, 3, 1, &without),
    ];
    let primary = config.primary(1);
    let propose = |(sequence, digest)| Proposal {
        sequence,
        digest,
        signature: sign(config, primary, Kind::PrePrepare, 1, sequence, &digest),
    };
    let mut proposals = [(1, config.first_digest()), (2, A)].map(propose).to_vec();
    change(&mut view_changes, &mut proposals);
    let content = NewViewContent { view_changes, proposals }.to_bytes();
    let signature = sign(config, primary, Kind::NewView, 1, 0, &NewView::digest(&content));
    NewView { view: 1, content, signature }
}

#[test]
fn every_replica_recomputes_what_a_new_view_proposes() {
    let config = config();
    let mut keys = keys(&config);
    let mut verifies = |message: &NewView| verify_opening(&config, &mut keys, message);
    let good = opening(&config, |_, _| {});
    assert_eq!(verifies(&good).unwrap().1.len(), 2);
    let null = Body::digest(&Body::default().to_bytes());
    let primary = config.primary(1);
    let other_view = view_change(&config, 3, 2, &ViewChangeContent { stable: None, prepared: vec![] });
    let bad = [
        (
            "null instead of what was prepared",
            opening(&config, |_, proposals| {
                proposals[1].digest = null;
                proposals[1].signature = sign(&config, primary, Kind::PrePrepare, 1, 2, &null);
            }),
        ),
        ("one left out", opening(&config, |_, proposals| proposals.truncate(1))),
        (
            "one too many",
            opening(&config, |_, proposals| {
                let signature = sign(&config, primary, Kind::PrePrepare, 1, 3, &A);
                proposals.push(Proposal { sequence: 3, digest: A, signature });
            }),
        ),
        ("a proposal not signed", opening(&config, |_, proposals| proposals[1].signature = Signature([0; 64]))),
        ("no quorum", opening(&config, |view_changes, _| view_changes.truncate(2))),
        ("one view change twice", opening(&config, |view_changes, _| view_changes[2] = view_changes[1].clone())),
        ("not in order", opening(&config, |view_changes, _| view_changes.reverse())),
        ("a view change of another view", opening(&config, |view_changes, _| view_changes[2] = other_view.clone())),
        (
            "a stripped view change",
            opening(&config, |view_changes, proposals| {
                view_changes[1].content = view_changes[0].content.clone();
                proposals.clear();
            }),
        ),
    ];
    for (what, message) in bad {
        assert!(verifies(&message).is_err(), "{what}");
    }
    let mut by_another = good.clone();
    by_another.signature = sign(&config, (primary + 1) % 4, Kind::NewView, 1, 0, &NewView::digest(&by_another.content));
    assert!(verifies(&by_another).is_err());
    let mut shifted = good;
    shifted.view = 5;
    assert!(verifies(&shifted).is_err(), "the same content for a later view of the same primary");
}

//! What becomes of bodies, the odd ones too, and of certificates.

use super::super::{ApplyError, CertifiedError, Partition};
use super::fixture::*;
use crate::contract::BeginError;
use crate::journal::Position;
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;
use waybill_types::transaction::Config;
use waybill_types::*;

fn fresh(cluster: ClusterId) -> Partition {
    let open =
        Partition::open(memory_db(), network(), LEDGER, cluster, membership(), INTERVAL, Arc::<FakeJournal>::default());
    open.unwrap().0
}

fn nowhere() -> Position {
    FakeJournal::position(0)
}

#[test]
fn batches_get_offsets_and_everything_gets_an_answer() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let body = bodies.body(
        false,
        vec![
            (OWNER, vec![send(OWNER, 3), send(OWNER, 1)]),
            (READER, vec![send(READER, 1)]),
            (WRITER, vec![send(WRITER, 2)]),
        ],
    );
    let applied = replica.apply(body);
    let outcomes = [
        Outcome::Appended { base_offset: 0 },
        Outcome::Appended { base_offset: 3 },
        Outcome::Rejected(Rejection::NotAuthorised),
        Outcome::Appended { base_offset: 4 },
    ];
    assert_eq!(applied.outcomes, outcomes);
    let answers: Vec<_> = applied.answers().map(|(header, place, outcome)| (header.origin, place, outcome)).collect();
    assert_eq!(
        answers,
        [(OWNER, 0, outcomes[0]), (OWNER, 1, outcomes[1]), (READER, 0, outcomes[2]), (WRITER, 0, outcomes[3])]
    );
    let entries: Vec<_> =
        applied.entries.iter().map(|entry| (entry.base_offset, entry.last_offset(), entry.leaf_index)).collect();
    assert_eq!(entries, [(0, 2, 1), (3, 3, 2), (4, 5, 4)], "leaf 0 is the configuration");
    assert_eq!((applied.entries[2].sender.as_str(), applied.entries[2].origin), ("writer", WRITER));
    assert_eq!((applied.header.next_offset, applied.header.tree_size), (6, 5));
    assert_eq!(replica.reader.high_watermark(), 6);
}

#[test]
fn a_null_body_is_an_empty_block_and_time_never_falls() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    bodies.time_ms = 5000;
    let before = replica.apply(bodies.body(false, vec![(OWNER, vec![send(OWNER, 1)])])).header;
    for null in [Bytes::new(), Body::default().to_bytes()] {
        let applied = replica.apply(null);
        assert_eq!(applied.header.time_ms, 5001);
        assert_eq!((applied.header.tree_size, applied.header.tree_root), (before.tree_size, before.tree_root));
        assert!(applied.outcomes.is_empty() && applied.checkpoint.is_none());
    }
}

#[test]
fn an_envelope_executes_once_in_order_and_in_its_own_cluster() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let first = bodies.envelope(OWNER, vec![send(OWNER, 1)]);
    let second = bodies.envelope(OWNER, vec![send(OWNER, 1), send(OWNER, 1)]);
    let foreign = Envelope::new(ClusterId(Digest::ZERO), READER, 1, 0, vec![commit(0)], |bytes| sign(READER, bytes));
    let body = |envelopes: &[&Envelope]| {
        let envelopes = envelopes.iter().map(|envelope| (*envelope).clone()).collect();
        Body { proposed_time_ms: 1001, checkpoint: false, config: None, envelopes }.to_bytes()
    };
    let applied = replica.apply(body(&[&second, &foreign, &first, &first, &second]));
    assert_eq!(applied.outcomes.len(), 3);
    let executed: Vec<_> = applied.envelopes.iter().map(|envelope| envelope.header).collect();
    assert_eq!(executed, [first.header, second.header]);
    assert_eq!(applied.skipped, [second.header, foreign.header, first.header]);
    assert_eq!(replica.reader.leaves(2).unwrap().unwrap().len(), 3);
    assert_eq!(replica.apply(body(&[&first])).outcomes, []);
}

#[test]
fn checkpoints_fall_where_the_body_asks_and_at_every_interval() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let mut heights = Vec::new();
    for height in 2..=20 {
        let applied = replica.apply(bodies.body(height == 5, vec![]));
        heights.extend(applied.checkpoint.map(|checkpoint| checkpoint.height));
    }
    assert_eq!(heights, [5, 8, 16]);
}

#[test]
fn a_later_configuration_in_a_body_counts_for_nothing() {
    let mut replica = Replica::started();
    let body = Body { config: Some(Config { version: 2, readers: vec![org("witness")], ..config() }), ..first_body() };
    let applied = replica.apply(body.to_bytes());
    assert!(applied.outcomes.is_empty() && !applied.config_changed);
    assert_eq!(replica.reader.config().unwrap().version, 1);
}

#[test]
fn the_owner_changes_the_configuration_for_what_follows() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let second = Config { version: 2, writers: vec![org("reader")], batch_bytes_limit: 50, ..config() };
    let applied = replica.apply(bodies.body(
        false,
        vec![
            (WRITER, vec![send(WRITER, 1)]),
            (OWNER, vec![Transaction::Config(second)]),
            (WRITER, vec![send(WRITER, 1)]),
            (READER, vec![send(READER, 1)]),
        ],
    ));
    assert!(applied.config_changed);
    assert_eq!(
        applied.outcomes,
        [
            Outcome::Appended { base_offset: 0 },
            Outcome::Recorded,
            Outcome::Rejected(Rejection::NotAuthorised),
            Outcome::Rejected(Rejection::TooLarge),
        ]
    );
    assert_eq!(replica.reader.config().unwrap().version, 2);
}

#[test]
fn what_cannot_be_applied_changes_nothing() {
    let mut partition = fresh(cluster());
    let apply = |partition: &mut Partition, height, body: Bytes| partition.apply(height, body, nowhere()).unwrap_err();
    let first = first_body().to_bytes();
    assert!(matches!(apply(&mut partition, 2, first.clone()), ApplyError::OutOfOrder { height: 0, got: 2 }));
    assert!(matches!(apply(&mut partition, 1, Body::default().to_bytes()), ApplyError::OtherBeginning));
    assert!(matches!(apply(&mut partition, 1, first.slice(1..)), ApplyError::Body(_)));
    partition.apply(1, first.clone(), nowhere()).unwrap();
    let tip = partition.tip().clone();
    assert!(matches!(apply(&mut partition, 1, first.clone()), ApplyError::OutOfOrder { height: 1, got: 1 }));
    assert!(matches!(apply(&mut partition, 2, first.slice(..first.len() - 1)), ApplyError::Body(_)));
    assert_eq!(partition.tip(), &tip);
    partition.apply(2, Bytes::new(), nowhere()).unwrap();
}

#[test]
fn a_ledger_begins_with_version_one_of_its_own_configuration() {
    let begin = |config: Option<Config>| {
        let body = Body { config, ..first_body() }.to_bytes();
        let cluster = ClusterId::new(network(), LEDGER, Body::digest(&body));
        match fresh(cluster).apply(1, body, nowhere()) {
            Err(ApplyError::Begin(error)) => Some(error),
            _ => None,
        }
    };
    assert_eq!(begin(Some(config())), None);
    assert_eq!(begin(None), Some(BeginError::Missing));
    assert_eq!(begin(Some(Config { version: 2, ..config() })), Some(BeginError::NotTheFirst));
    let other = LedgerId { partition: 1, ..LEDGER };
    assert_eq!(begin(Some(Config { ledger: other, ..config() })), Some(BeginError::OtherLedger));
    let twice = Config { origins: [members(), members()].concat(), ..config() };
    assert_eq!(begin(Some(twice)), Some(BeginError::Malformed));
}

#[test]
fn a_certificate_counts_for_what_was_executed_here() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let mut made = Vec::new();
    for _ in 0..4 {
        let applied = replica.apply(bodies.body(true, vec![(OWNER, vec![send(OWNER, 1)])]));
        made.extend(applied.checkpoint);
    }
    let [second, third, fourth, fifth] = <[Checkpoint; 4]>::try_from(made).unwrap();
    let mut certified = |checkpoint: &Checkpoint| replica.partition.certified(&certificate(checkpoint.clone()));
    assert_eq!(certified(&third), Ok(()));
    assert_eq!(certified(&second), Ok(()), "an older one is ignored");
    let ahead = Checkpoint { height: 9, ..fifth.clone() };
    assert_eq!(certified(&ahead), Err(CertifiedError::NotExecuted(9)));
    let epoch = Checkpoint { epoch: 2, ..fourth.clone() };
    assert_eq!(certified(&epoch), Err(CertifiedError::OtherCluster));
    let cluster = Checkpoint { cluster: ClusterId(Digest::ZERO), ..fourth.clone() };
    assert_eq!(certified(&cluster), Err(CertifiedError::OtherCluster));
    let diverged = Checkpoint { state_root: Digest::ZERO, ..fourth.clone() };
    assert_eq!(certified(&diverged), Err(CertifiedError::Diverged(4)));
    assert_eq!(certified(&fifth), Ok(()));
    assert_eq!(replica.partition.stable_height(), 5);
    assert_eq!(replica.reader.latest_certificate().unwrap().checkpoint, fifth);
    replica.apply(bodies.body(false, vec![]));
    let plain = Checkpoint { height: 6, ..fifth };
    let error = replica.partition.certified(&certificate(plain));
    assert_eq!(error, Err(CertifiedError::NoCheckpoint(6)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// PBFT decides only on bodies that decode, but nothing here relies on it.
    #[test]
    fn a_body_with_damaged_bytes_is_applied_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(),
    ) {
        let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
        let transactions = vec![send(OWNER, 1), retrieve("reader", 0, 0), commit(1), Transaction::Config(config())];
        let mut body = bodies.body(true, vec![(OWNER, transactions), (READER, vec![receive(0, 0)])]).to_vec();
        for (place, byte) in damage {
            *place.get_mut(&mut body) ^= byte;
        }
        let shorter = Bytes::copy_from_slice(&body[..cut.index(body.len())]);
        for body in [Bytes::from(body), shorter] {
            let height = replica.partition.executed_height();
            match replica.partition.apply(height + 1, body, nowhere()) {
                Ok(applied) => prop_assert_eq!(applied.header.height, height + 1),
                Err(error) => {
                    prop_assert!(matches!(error, ApplyError::Body(_)));
                    prop_assert_eq!(replica.partition.executed_height(), height);
                }
            }
        }
    }
}

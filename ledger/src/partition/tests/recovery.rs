//! Flushes, restarts, and a database that was lost or is old: the same chain comes out.

use super::super::{OpenError, Partition, Reader, applied_heights, forget};
use super::fixture::*;
use crate::keys::{self, Key};
use proptest::prelude::*;
use std::sync::Arc;
use waybill_types::transaction::Producer;
use waybill_types::*;

/// The transactions of one envelope.
type Group = (NodeId, Vec<Transaction>);

/// A random group; not all are accepted.
fn groups() -> impl Strategy<Value = Group> {
    let producer =
        (0i64..3, 0i16..2, 0i32..4).prop_map(|(id, epoch, base_sequence)| Producer { id, epoch, base_sequence });
    let transaction = prop_oneof![
        4 => (1u32..4, 0i64..5000).prop_map(|(count, time)| send_at(OWNER, count, time)),
        2 => (1u32..3, producer).prop_map(|(count, producer)| send_as(OWNER, count, producer)),
        1 => (0i64..40, 0i64..20).prop_map(|(first, length)| receive(first, first + length)),
        1 => (0i64..40, 0i64..20).prop_map(|(first, length)| retrieve("reader", first, first + length)),
        1 => (0i64..60).prop_map(commit),
    ];
    let origin = prop_oneof![3 => Just(OWNER), 1 => Just(READER), 1 => Just(WITNESS)];
    (origin, prop::collection::vec(transaction, 1..6))
}

fn blocks() -> impl Strategy<Value = Vec<(bool, Vec<Group>)>> {
    prop::collection::vec((any::<bool>(), prop::collection::vec(groups(), 0..4)), 1..30)
}

/// Everything that can be read, as text: two readers that give the same are equal.
fn story(replica: &Replica) -> String {
    let reader = &replica.reader;
    let height = reader.executed_height();
    let tip = replica.partition.tip();
    let headers: Vec<_> = (1..=height).map(|height| reader.block(height).unwrap().unwrap()).collect();
    let entries = reader.entries(0, usize::MAX).unwrap();
    let leaves: Vec<_> = (0..reader.tree_size()).map(|index| reader.leaf(index).unwrap().unwrap().hash()).collect();
    let delivered: Vec<_> = (0..reader.high_watermark())
        .map(|offset| {
            (reader.retrieves(offset).unwrap(), reader.receives(offset).unwrap(), reader.commits(offset).unwrap())
        })
        .collect();
    let size = reader.tree_size();
    let paths: Vec<_> = (0..size).map(|index| reader.inclusion(index, size).unwrap()).collect();
    format!("{tip:?}\n{headers:?}\n{entries:?}\n{leaves:?}\n{delivered:?}\n{paths:?}\n{:?}", reader.config())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn kept_lost_or_old_the_database_leads_to_the_same_chain(
        blocks in blocks(),
        certify in prop::collection::vec((any::<bool>(), any::<bool>()), 30),
        old_at in 0usize..30,
    ) {
        let (mut plain, mut flushing) = (Replica::started(), Replica::started());
        let mut bodies = Bodies::default();
        let mut old = memory_db();
        let mut last_checkpoint = None;
        for (number, ((checkpoint, envelopes), (certified, flushed))) in blocks.into_iter().zip(certify).enumerate() {
            let body = bodies.body(checkpoint, envelopes);
            let (applied, same) = (flushing.apply(body.clone()), plain.apply(body));
            prop_assert_eq!(&applied.header, &same.header);
            prop_assert_eq!(&applied.checkpoint, &same.checkpoint);
            last_checkpoint = applied.checkpoint.or(last_checkpoint);
            if certified && let Some(checkpoint) = last_checkpoint.take() {
                flushing.partition.certified(&certificate(checkpoint)).unwrap();
            }
            if flushed {
                flushing.flush();
            }
            if number == old_at {
                old = copy(&flushing.db);
            }
        }
        let expected = story(&plain);
        prop_assert_eq!(&story(&flushing), &expected, "different flush points");
        let probe = Body { checkpoint: true, ..Body::default() }.to_bytes();
        let root = plain.apply(probe.clone()).checkpoint.map(|checkpoint| checkpoint.state_root);
        for db in [copy(&flushing.db), memory_db(), old] {
            let mut recovered = Replica::open(db, flushing.journal.clone());
            recovered.recover();
            prop_assert_eq!(&story(&recovered), &expected);
            let position = FakeJournal::position(0);
            let applied = recovered.partition.apply(recovered.partition.executed_height() + 1, probe.clone(), position);
            prop_assert_eq!(applied.unwrap().checkpoint.map(|checkpoint| checkpoint.state_root), root);
        }
    }
}

fn copy(db: &sled::Tree) -> sled::Tree {
    let copy = memory_db();
    for row in db {
        let (key, value) = row.unwrap();
        copy.insert(key, value).unwrap();
    }
    copy
}

/// Blocks 2 to 11, a checkpoint in each.
fn ten_blocks() -> (Replica, Vec<Checkpoint>) {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let blocks = (0..10).map(|_| bodies.body(true, vec![(OWNER, vec![send(OWNER, 2), send(OWNER, 1)])]));
    let checkpoints =
        blocks.collect::<Vec<_>>().into_iter().filter_map(|body| replica.apply(body).checkpoint).collect();
    (replica, checkpoints)
}

#[test]
fn nothing_above_the_stable_height_is_written() {
    let (mut replica, checkpoints) = ten_blocks();
    assert!(!replica.flush(), "nothing is certified");
    replica.partition.certified(&certificate(checkpoints[3].clone())).unwrap();
    assert!(replica.flush());
    assert!(!replica.flush(), "nothing new is certified");
    assert_eq!(replica.partition.flushed_height(), 5);
    assert_eq!(replica.reader.executed_height(), 11);
    let stored = |key: Key| replica.db.contains_key(key.encode()).unwrap();
    assert!(stored(Key::Block(LEDGER, 5)) && !stored(Key::Block(LEDGER, 6)));
    assert!(stored(Key::Entries(LEDGER, 0)) && !stored(Key::Entries(LEDGER, 12)));
    assert!(stored(Key::Certificate(LEDGER, 5)));
    let tile = replica.db.get(Key::Tile(LEDGER, 0, 0).encode()).unwrap().unwrap();
    assert_eq!(tile.len(), 9 * 32, "the configuration and eight batches");
}

#[test]
fn one_flush_at_a_time_and_a_dropped_one_comes_again() {
    let (mut replica, checkpoints) = ten_blocks();
    replica.partition.certified(&certificate(checkpoints[3].clone())).unwrap();
    let flush = replica.partition.take_flush().unwrap();
    assert!(replica.partition.take_flush().is_none(), "one is under way");
    drop(flush);
    let flushed = replica.partition.take_flush().unwrap().write().unwrap();
    assert!(replica.partition.take_flush().is_none(), "it is written, the partition was not told");
    replica.partition.certified(&certificate(checkpoints[5].clone())).unwrap();
    let before = replica.partition.overlay_bytes();
    replica.partition.flushed(flushed);
    assert!(replica.partition.overlay_bytes() < before);
    assert!(replica.flush(), "what was certified meanwhile");
    assert_eq!(replica.partition.flushed_height(), 7);
}

#[test]
fn a_forgotten_ledger_is_empty_and_its_neighbours_are_not() {
    let (mut replica, checkpoints) = ten_blocks();
    replica.partition.certified(&certificate(checkpoints[9].clone())).unwrap();
    replica.flush();
    let neighbour = Key::Block(LedgerId { partition: 1, ..LEDGER }, 1).encode();
    replica.db.insert(neighbour.clone(), b"x").unwrap();
    forget(&replica.db, LEDGER).unwrap();
    assert!(keys::prefixes(LEDGER).all(|prefix| replica.db.scan_prefix(prefix).next().is_none()));
    assert!(replica.db.contains_key(neighbour).unwrap());
}

#[test]
fn a_start_learns_how_far_sled_is_and_replays_from_there() {
    let (mut replica, checkpoints) = ten_blocks();
    assert_eq!(applied_heights(&replica.db).unwrap(), []);
    let expected = story(&replica);
    for checkpoint in checkpoints {
        let height = checkpoint.height;
        replica.partition.certified(&certificate(checkpoint)).unwrap();
        replica.flush();
        assert_eq!(applied_heights(&replica.db).unwrap(), [(LEDGER, height)]);
        let mut reopened = Replica::open(copy(&replica.db), replica.journal.clone());
        assert_eq!(reopened.partition.executed_height(), height);
        reopened.recover();
        assert_eq!(story(&reopened), expected, "from height {height}");
    }
}

#[test]
fn heights_are_those_of_the_ledgers_that_would_open() {
    let (mut replica, checkpoints) = ten_blocks();
    replica.partition.certified(&certificate(checkpoints[9].clone())).unwrap();
    replica.flush();
    let row = replica.db.get(Key::Applied(LEDGER).encode()).unwrap().unwrap();
    let other = |partition| LedgerId { partition, ..LEDGER };
    let put = |ledger, row: &[u8]| drop(replica.db.insert(Key::Applied(ledger).encode(), row).unwrap());
    put(LedgerId::SYSTEM, &row);
    put(other(1), &[&[255][..], &row[1..]].concat());
    put(other(2), &row[..row.len() - 1]);
    put(other(3), &[]);
    assert_eq!(applied_heights(&replica.db).unwrap(), [(LEDGER, 11), (LedgerId::SYSTEM, 11)]);
}

#[test]
fn what_another_version_wrote_is_built_anew() {
    let (mut replica, checkpoints) = ten_blocks();
    let expected = story(&replica);
    replica.partition.certified(&certificate(checkpoints[9].clone())).unwrap();
    replica.flush();
    let key = Key::Applied(LEDGER).encode();
    let mut row = replica.db.get(&key).unwrap().unwrap().to_vec();
    row[0] ^= 1;
    replica.db.insert(key, row).unwrap();
    let mut rebuilt = Replica::open(replica.db.clone(), replica.journal.clone());
    assert_eq!(rebuilt.partition.executed_height(), 0);
    assert!(keys::prefixes(LEDGER).all(|prefix| replica.db.scan_prefix(prefix).next().is_none()));
    rebuilt.recover();
    assert_eq!(story(&rebuilt), expected);
}

#[test]
fn damaged_state_is_not_opened() {
    let (mut replica, checkpoints) = ten_blocks();
    replica.partition.certified(&certificate(checkpoints[9].clone())).unwrap();
    replica.flush();
    let open = |db: &sled::Tree, cluster| {
        let bodies = Arc::<FakeJournal>::default();
        Partition::open(db.clone(), network(), LEDGER, cluster, membership(), INTERVAL, bodies).map(|_| ())
    };
    assert!(open(&replica.db, cluster()).is_ok());
    let other = open(&replica.db, ClusterId(Digest::ZERO));
    assert!(matches!(other, Err(OpenError::OtherCluster)));
    for key in [Key::Applied(LEDGER), Key::Contract(LEDGER), Key::Tile(LEDGER, 0, 0)] {
        let db = copy(&replica.db);
        let mut row = db.get(key.encode()).unwrap().unwrap().to_vec();
        row.truncate(row.len() - 32);
        db.insert(key.encode(), row.clone()).unwrap();
        assert!(matches!(open(&db, cluster()), Err(OpenError::Corrupt(_))), "{key:?} cut");
        if let Key::Tile(..) = key {
            row.extend([0; 32]);
            db.insert(key.encode(), row).unwrap();
            assert!(matches!(open(&db, cluster()), Err(OpenError::Corrupt(_))), "another hash");
        }
    }
}

#[test]
fn a_damaged_row_is_an_error_or_another_answer_never_a_panic() {
    let (mut replica, checkpoints) = ten_blocks();
    replica.partition.certified(&certificate(checkpoints[9].clone())).unwrap();
    replica.flush();
    let rows: Vec<_> = replica.db.iter().map(|row| row.unwrap()).collect();
    let mut refused = 0;
    for (number, (key, value)) in rows.iter().enumerate() {
        for place in (number % 5..value.len()).step_by(5) {
            let mut damaged = value.to_vec();
            damaged[place] ^= 1 << (place % 8);
            replica.db.insert(key, damaged).unwrap();
            let bodies = replica.journal.clone();
            let open =
                Partition::open(replica.db.clone(), network(), LEDGER, cluster(), membership(), INTERVAL, bodies);
            match open {
                Ok((_, reader)) => read_everything(&reader),
                Err(_) => refused += 1,
            }
        }
        replica.db.insert(key, value).unwrap();
    }
    assert!(refused > 0);
}

fn read_everything(reader: &Reader) {
    let size = reader.tree_size().min(100);
    for number in 0..size {
        let _ = (reader.signed_leaf(number), reader.inclusion(number, size), reader.certificate_covering(number));
        let offset = number as Offset;
        let _ = (reader.entry_at(offset), reader.receives(offset), reader.block(number), reader.leaves(number));
    }
    let _ = (reader.entries(0, 1000), reader.entry_for_timestamp(600));
}

//! What readers see: batches by offset and time, leaves and their proofs, deliveries.

use super::fixture::*;
use crate::contract::{Denied, authorise};
use proptest::prelude::*;
use std::collections::BTreeMap;
use waybill_types::transaction::Config;
use waybill_types::*;

/// Many entries, most of them flushed and out of memory. Every seventh bears an old timestamp.
fn long_log() -> Replica {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    for number in 0..40i64 {
        let sends = (0..50).map(|place| {
            let at = number * 50 + place;
            send_at(OWNER, 1 + (place % 3) as u32, if at % 7 == 3 { 5 * at } else { 10 * at })
        });
        let applied = replica.apply(bodies.body(true, vec![(OWNER, sends.collect())]));
        if number % 9 == 8 {
            replica.partition.certified(&certificate(applied.checkpoint.unwrap())).unwrap();
            replica.flush();
        }
    }
    replica
}

#[test]
fn batches_are_found_by_any_of_their_offsets_in_memory_and_in_sled() {
    let replica = long_log();
    let reader = &replica.reader;
    let all = reader.entries(0, usize::MAX).unwrap();
    assert_eq!(all.len(), 2000);
    let mut next = 0;
    for entry in &all {
        assert_eq!(entry.base_offset, next);
        next = entry.last_offset() + 1;
        for offset in entry.base_offset..=entry.last_offset() {
            assert_eq!(reader.entry_at(offset).unwrap().as_ref(), Some(entry));
        }
    }
    assert_eq!(reader.high_watermark(), next);
    assert_eq!(reader.entry_at(next).unwrap(), None);
    assert_eq!(reader.entry_at(-5).unwrap().as_ref(), all.first());
    let middle = &all[700];
    assert_eq!(reader.entries(middle.last_offset(), 900).unwrap(), all[700..1600]);
    assert_eq!(reader.entries(middle.base_offset, 0).unwrap(), []);
    assert_eq!(reader.entries(next, 10).unwrap(), []);
}

#[test]
fn batches_are_found_by_time() {
    let replica = long_log();
    let reader = &replica.reader;
    let all = reader.entries(0, usize::MAX).unwrap();
    for timestamp in [i64::MIN, 0, 1, 10, 11, 25, 30, 31, 9995, 10_000, 10_001, 19_989, 19_990] {
        let plain = all.iter().find(|entry| entry.max_timestamp_ms() >= timestamp);
        assert_eq!(reader.entry_for_timestamp(timestamp).unwrap().as_ref(), plain, "{timestamp}");
    }
    assert_eq!(reader.entry_for_timestamp(19991).unwrap(), None);
    assert_eq!(reader.max_timestamp_ms(), Some(19990));
    assert_eq!(Replica::started().reader.entry_for_timestamp(0).unwrap(), None);
}

#[test]
fn log_append_time_is_the_blocks_time() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let second = Config { version: 2, log_append_time: true, ..config() };
    let transactions = vec![send_at(OWNER, 1, 99), Transaction::Config(second), send_at(OWNER, 1, 99)];
    replica.execute(&mut bodies, OWNER, transactions);
    let entries = replica.reader.entries(0, 9).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.max_timestamp_ms()).collect::<Vec<_>>(), [99, 1001]);
    assert_eq!(replica.reader.entry_for_timestamp(100).unwrap().as_ref(), Some(&entries[1]));
}

#[test]
fn every_leaf_is_proved_and_signed() {
    let mut replica = long_log();
    let mut bodies = Bodies::default();
    let (reader, members) = (replica.reader.clone(), members());
    let (size, root) = (replica.partition.tip().tree.size(), replica.partition.tip().tree.root());
    for index in [0, 1, 50, 51, 255, 256, 1023, 1500, 1800, 1801, size - 1] {
        let signed = reader.signed_leaf(index).unwrap().unwrap();
        let path = reader.inclusion(index, size).unwrap().unwrap();
        assert!(merkle::verify_inclusion(&signed.leaf.hash(), index, size, &path, &root), "{index}");
        let Some((header, place)) = signed.leaf.origin else {
            assert_eq!((index, signed.signed), (0, None));
            continue;
        };
        let (signature, path) = signed.signed.unwrap();
        let member = members.iter().find(|member| member.node == header.origin).unwrap();
        assert!(member.key.verifies(&header.preimage(), &signature));
        let hash = merkle::leaf_hash(&signed.leaf.transaction.to_bytes());
        let count = u64::from(header.count);
        assert!(merkle::verify_inclusion(&hash, u64::from(place), count, &path, &header.root));
    }
    assert_eq!(reader.leaf(size).unwrap(), None);
    assert_eq!(reader.inclusion(size, size).unwrap(), None);
    assert_eq!(reader.inclusion(0, size + 1).unwrap(), None);
    bodies.time_ms = 9000;
    replica.apply(bodies.body(false, vec![]));
    assert_eq!(reader.height_of_leaf(size - 1).unwrap(), Some(41));
}

#[test]
fn the_first_certificate_above_a_leaf_covers_it_before_and_after_its_flush() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let mut heights = Vec::new();
    for number in 0..12 {
        let applied = replica.apply(bodies.body(true, vec![(OWNER, vec![send(OWNER, 1)])]));
        if number % 3 == 0 {
            let certificate = certificate(applied.checkpoint.unwrap());
            replica.partition.certified(&certificate).unwrap();
            heights.push(certificate.checkpoint.height);
        }
        if number == 6 {
            replica.flush();
        }
    }
    assert_eq!(heights, [2, 5, 8, 11]);
    for (height, covered_at) in [(1, Some(2)), (2, Some(2)), (3, Some(5)), (8, Some(8)), (9, Some(11)), (12, None)] {
        let covering = replica.reader.certificate_covering(height).unwrap();
        assert_eq!(covering.map(|certificate| certificate.checkpoint.height), covered_at, "{height}");
    }
    let of_leaf = replica.reader.certificate_covering_leaf(2).unwrap().unwrap();
    assert_eq!(of_leaf.checkpoint.height, 5);
    let reopened = Replica::open(replica.db.clone(), replica.journal.clone());
    assert_eq!(reopened.reader.latest_certificate().unwrap().checkpoint.height, 8);
}

#[test]
fn blocks_come_in_ranges_bounded_by_bytes() {
    let replica = long_log();
    let some = replica.reader.blocks(1, 41, 30_000).unwrap();
    assert!((2..10).contains(&some.len()), "{}", some.len());
    assert_eq!(replica.reader.blocks(30, 90, 0).unwrap().len(), 1);
    assert_eq!(replica.reader.blocks(30, 90, usize::MAX).unwrap().len(), 12);
    assert_eq!(replica.reader.blocks(42, 90, usize::MAX).unwrap(), []);
    for block in replica.reader.blocks(1, 41, usize::MAX).unwrap() {
        assert_eq!(Body::digest(&block.body), block.header.body);
    }
}

#[test]
fn a_body_that_is_not_the_blocks_is_not_handed_on_as_leaves() {
    let replica = long_log();
    replica.journal.keep(3, Body::default().to_bytes());
    let error = replica.reader.leaves(3).unwrap_err().to_string();
    assert!(error.contains("not the block's body"), "{error}");
}

/// Rows move from memory to sled under the readers' eyes.
#[test]
fn readers_see_no_gap_while_blocks_are_applied_and_flushed() {
    let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
    let blocks: Vec<_> = (0..150)
        .map(|_| bodies.body(true, vec![(OWNER, (0..20).map(|_| send(OWNER, 2)).collect()), (READER, vec![commit(0)])]))
        .collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    let reader = replica.reader.clone();
    let read = || {
        let mut checked = 0u64;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let header = reader.header(reader.executed_height()).unwrap().unwrap();
            for part in 1..8 {
                let offset = header.next_offset * part / 8;
                if offset < header.next_offset {
                    let entry = reader.entry_at(offset).unwrap().unwrap();
                    assert!((entry.base_offset..=entry.last_offset()).contains(&offset));
                    let entries = reader.entries(offset, 400).unwrap();
                    assert!(entries.windows(2).all(|pair| pair[0].last_offset() + 1 == pair[1].base_offset));
                    let expected = (header.next_offset - entry.base_offset) / 2;
                    assert!(entries.len() as i64 >= expected.min(400), "{} of {expected}", entries.len());
                }
                let index = header.tree_size * part as u64 / 8;
                let leaf = reader.leaf(index).unwrap().unwrap();
                let path = reader.inclusion(index, header.tree_size).unwrap().unwrap();
                assert!(merkle::verify_inclusion(&leaf.hash(), index, header.tree_size, &path, &header.tree_root));
                checked += 1;
            }
        }
        checked
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        for body in blocks {
            let applied = replica.apply(body);
            if applied.header.height % 3 == 0 {
                replica.partition.certified(&certificate(applied.checkpoint.unwrap())).unwrap();
                replica.flush();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
    });
}

#[test]
fn only_readers_are_granted() {
    let replica = long_log();
    let entry = replica.reader.entry_at(0).unwrap().unwrap();
    let config = replica.reader.config().unwrap();
    for (name, allowed) in [("owner", true), ("reader", true), ("writer", false), ("witness", false)] {
        let granted = authorise(&config, &org(name), &entry);
        assert_eq!(granted.as_ref().err().copied(), (!allowed).then_some(Denied::NotAReader), "{name}");
        if let Ok(grant) = granted {
            assert_eq!((grant.reader(), grant.entry(), grant.config_version()), (&org(name), &entry, 1));
        }
    }
    let other = Config { ledger: LedgerId { partition: 1, ..LEDGER }, ..(*config).clone() };
    assert_eq!(authorise(&other, &org("owner"), &entry).unwrap_err(), Denied::OtherLedger);
}

/// Reports of one kind: by whom, from where to where.
fn reports() -> impl Strategy<Value = Vec<(bool, i64, i64, bool)>> {
    prop::collection::vec((any::<bool>(), 0i64..100, 0i64..100, prop::bool::weighted(0.2)), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However ranges overlap, and wherever flushes fall: the first leaf that covers an offset is the one shown.
    #[test]
    fn deliveries_are_those_of_a_plain_list(reports in reports()) {
        let (mut replica, mut bodies) = (Replica::started(), Bodies::default());
        replica.execute(&mut bodies, OWNER, vec![send(OWNER, 100)]);
        replica.execute(&mut bodies, WRITER, vec![send(WRITER, 1)]);
        let mut model: [BTreeMap<(i64, &str), u64>; 3] = Default::default();
        for (by_owner, one, other, flush) in reports {
            let (first, last) = (one.min(other), one.max(other));
            let (node, name) = if by_owner { (OWNER, "owner") } else { (READER, "reader") };
            let leaf = replica.reader.tree_size();
            let transactions = vec![receive(first, last), commit(last)];
            // The writer says first what only the owner, who sent these, can say.
            let retrieve = |node| (node, vec![retrieve(name, first, last)]);
            let body = bodies.body(true, vec![retrieve(WRITER), (node, transactions), retrieve(OWNER)]);
            let applied = replica.apply(body);
            prop_assert_eq!(&applied.outcomes, &[Outcome::Recorded; 4]);
            for offset in first..=last {
                model[1].entry((offset, name)).or_insert(leaf + 1);
                model[0].entry((offset, name)).or_insert(leaf + 3);
            }
            for offset in 0..last {
                model[2].entry((offset, name)).or_insert(leaf + 2);
            }
            if flush {
                replica.partition.certified(&certificate(applied.checkpoint.unwrap())).unwrap();
                replica.flush();
            }
        }
        for offset in 0..100 {
            let reader = &replica.reader;
            let found = [reader.retrieves(offset), reader.receives(offset), reader.commits(offset)];
            for (found, model) in found.into_iter().zip(&model) {
                let expected = model.range((offset, "")..(offset + 1, "")).map(|((_, name), leaf)| (org(name), *leaf));
                prop_assert_eq!(found.unwrap(), expected.collect());
            }
        }
    }
}

//! Exactly-once appends, as Kafka's `ProducerStateManager` and `ProducerAppendInfo` decide them.

use super::super::producers::{PRODUCER_EXPIRATION_MS, PRODUCERS_PER_ORGANISATION_MAX, Producers, Sequenced, Snapshot};
use super::*;
use Rejection::*;
use waybill_types::transaction::Producer;

const MAX: i32 = i32::MAX;

/// A producer's batches, one after the other: epoch, first sequence, record count, and what is said to it.
fn run(steps: &[(i16, i32, u32, Sequenced)]) {
    let mut producers = Producers::new();
    let mut next_offset = 0;
    for (number, (epoch, base_sequence, count, expected)) in steps.iter().enumerate() {
        let producer = Producer { id: 5, epoch: *epoch, base_sequence: *base_sequence };
        let found = producers.check(&org("owner"), &producer, *count);
        assert_eq!(found, *expected, "step {number} of {steps:?}");
        if found == Sequenced::Next {
            producers.remember(&org("owner"), &producer, *count, next_offset, 1);
            next_offset += i64::from(*count);
        }
    }
}

fn duplicate(base_offset: Offset) -> Sequenced {
    Sequenced::Duplicate(base_offset)
}

const NEXT: Sequenced = Sequenced::Next;
const GAP: Sequenced = Sequenced::Rejected(OutOfOrderSequence);
const FENCED: Sequenced = Sequenced::Rejected(ProducerFenced);

#[test]
fn in_order_and_repeated() {
    run(&[(0, 0, 3, NEXT), (0, 3, 1, NEXT), (0, 0, 3, duplicate(0)), (0, 3, 1, duplicate(3)), (0, 4, 1, NEXT)]);
}

#[test]
fn a_repetition_has_exactly_the_same_sequences() {
    run(&[(0, 0, 3, NEXT), (0, 0, 2, GAP), (0, 0, 4, GAP), (0, 1, 2, GAP), (0, 2, 2, GAP)]);
}

#[test]
fn a_gap() {
    run(&[(0, 0, 1, NEXT), (0, 2, 1, GAP), (0, 1, 1, NEXT)]);
}

#[test]
fn an_unknown_producer_begins_anywhere() {
    run(&[(3, 17, 2, NEXT), (3, 19, 1, NEXT)]);
    run(&[(0, MAX, 1, NEXT), (0, 0, 1, NEXT)]);
}

#[test]
fn five_batches_are_remembered() {
    run(&[
        (0, 0, 1, NEXT),
        (0, 1, 1, NEXT),
        (0, 2, 1, NEXT),
        (0, 3, 1, NEXT),
        (0, 4, 1, NEXT),
        (0, 0, 1, duplicate(0)),
        (0, 5, 1, NEXT),
        (0, 0, 1, GAP),
        (0, 1, 1, duplicate(1)),
        (0, 5, 1, duplicate(5)),
    ]);
}

#[test]
fn a_new_epoch_begins_at_zero_and_ends_the_old_one() {
    run(&[
        (0, 0, 2, NEXT),
        (1, 2, 1, GAP),
        (1, 0, 1, NEXT),
        (0, 2, 1, FENCED),
        (0, 0, 2, FENCED),
        (1, 0, 1, duplicate(2)),
        (1, 1, 1, NEXT),
        (5, 0, 1, NEXT),
        (4, 0, 1, FENCED),
    ]);
}

#[test]
fn sequences_wrap() {
    run(&[(0, MAX - 1, 2, NEXT), (0, 0, 1, NEXT), (0, MAX - 1, 2, duplicate(0))]);
    run(&[(0, MAX - 1, 4, NEXT), (0, 2, 1, NEXT), (0, MAX - 1, 4, duplicate(0)), (0, 0, 1, GAP)]);
}

#[test]
fn each_organisation_has_its_own_producer_ids() {
    let mut producers = Producers::new();
    let producer = |epoch, base_sequence| Producer { id: 5, epoch, base_sequence };
    let (owner, writer) = (org("owner"), org("writer"));
    // The other organisation was first, and far ahead: in epochs, in sequences, and in the last it may use.
    producers.remember(&writer, &producer(i16::MAX, 0), 7, 0, 1);
    assert_eq!(producers.check(&owner, &producer(0, 0), 1), NEXT, "not fenced by a stranger's epoch");
    producers.remember(&owner, &producer(0, 0), 1, 7, 2);
    assert_eq!(producers.check(&owner, &producer(0, 0), 1), duplicate(7), "one's own offset");
    assert_eq!(producers.check(&owner, &producer(0, 1), 1), NEXT);
    assert_eq!(producers.check(&writer, &producer(i16::MAX, 0), 7), duplicate(0));
    assert_eq!(producers.check(&writer, &producer(i16::MAX, 1), 1), GAP);
    let mut reopened = Producers::restore(Snapshot::from_bytes(&producers.snapshot().to_bytes()).unwrap());
    assert_eq!(reopened.root(), producers.root());
    // Each expires on its own.
    for producers in [&mut producers, &mut reopened] {
        producers.expire(1 + PRODUCER_EXPIRATION_MS);
        assert_eq!(producers.check(&writer, &producer(0, 3), 1), NEXT, "forgotten");
        assert_eq!(producers.check(&owner, &producer(0, 3), 1), GAP);
    }
}

#[test]
fn one_organisation_too_many_producers_displace_no_other_of_the_same_ids() {
    let mut producers = Producers::new();
    let producer = |id, base_sequence| Producer { id, epoch: 0, base_sequence };
    producers.remember(&org("owner"), &producer(0, 0), 1, 0, 5);
    for id in 0..=PRODUCERS_PER_ORGANISATION_MAX as i64 {
        producers.remember(&org("writer"), &producer(id, 0), 1, 0, 10);
    }
    assert_eq!(producers.check(&org("writer"), &producer(0, 9), 1), NEXT, "the longest silent");
    assert_eq!(producers.check(&org("owner"), &producer(0, 9), 1), GAP, "another organisation's stays");
}

#[test]
fn a_silent_producer_is_forgotten_after_a_day_of_the_ledger() {
    let mut producers = Producers::new();
    let producer = |id, base_sequence| Producer { id, epoch: 0, base_sequence };
    producers.remember(&org("owner"), &producer(1, 0), 1, 0, 1000);
    producers.remember(&org("owner"), &producer(2, 0), 1, 1, 1000);
    producers.remember(&org("owner"), &producer(2, 1), 1, 2, 2000);
    producers.expire(1000 + PRODUCER_EXPIRATION_MS - 1);
    assert_eq!(producers.check(&org("owner"), &producer(1, 9), 1), GAP);
    let mut reopened = Producers::restore(producers.snapshot());
    for producers in [&mut producers, &mut reopened] {
        producers.expire(1000 + PRODUCER_EXPIRATION_MS);
        assert_eq!(producers.check(&org("owner"), &producer(1, 9), 1), NEXT);
        assert_eq!(producers.check(&org("owner"), &producer(2, 9), 1), GAP);
    }
    assert_eq!(producers.root(), reopened.root());
    producers.expire(u64::MAX);
    assert_eq!(producers.root(), Producers::new().root());
}

#[test]
fn one_producer_too_many_displaces_the_longest_silent_of_its_organisation() {
    let mut producers = Producers::new();
    let producer = |id, base_sequence| Producer { id, epoch: 0, base_sequence };
    producers.remember(&org("reader"), &producer(-1, 0), 1, 0, 0);
    let count = PRODUCERS_PER_ORGANISATION_MAX as i64;
    for id in 0..count {
        producers.remember(&org("owner"), &producer(id, 0), 1, 0, 10 + id as u64 / 2);
    }
    // The oldest two speak again; the third has now been silent for longest, with the fourth, and has the smaller id.
    producers.remember(&org("owner"), &producer(0, 1), 1, 0, 1_000_000);
    producers.remember(&org("owner"), &producer(1, 1), 1, 0, 1_000_000);
    producers.remember(&org("owner"), &producer(count, 0), 1, 0, 1_000_000);
    let forgotten = |id| producers.check(&org("owner"), &producer(id, 99), 1) == NEXT;
    assert_eq!((0..=count).filter(|id| forgotten(*id)).collect::<Vec<_>>(), [2]);
    assert_eq!(producers.check(&org("reader"), &producer(-1, 99), 1), GAP, "another organisation's stays");
}

#[test]
fn the_root_is_of_the_content_alone() {
    let producer = |id, base_sequence| Producer { id, epoch: 0, base_sequence };
    let (mut one, mut other) = (Producers::new(), Producers::new());
    for id in 0..200 {
        one.remember(&org("owner"), &producer(id, 0), 1, id, 5);
        if id % 50 == 0 {
            one.root();
        }
    }
    for id in (0..200).rev() {
        other.remember(&org("owner"), &producer(id, 0), 1, id, 5);
    }
    assert_eq!(one.root(), other.root());
    let before = one.snapshot();
    one.remember(&org("owner"), &producer(7, 1), 1, 300, 5);
    assert_ne!(one.root(), other.root());
    let bytes = before.to_bytes();
    assert_eq!(Producers::restore(Snapshot::from_bytes(&bytes).unwrap()).root(), other.root(), "a snapshot stays");
}

#[test]
fn golden_root() {
    let mut producers = Producers::new();
    let producer = |id, base_sequence| Producer { id, epoch: 3, base_sequence };
    for (name, id, base_sequence) in [("owner", 7, 0), ("writer", 7, 0), ("owner", 7, 2), ("owner", 1 << 48, MAX)] {
        producers.remember(&org(name), &producer(id, base_sequence), 2, i64::from(base_sequence), 1000);
    }
    assert_eq!(producers.root().to_string(), "4308a5af3e1351fb6bca852866fedd6bfac93885fed3d8563b5513279977bdc7");
    assert_eq!(Producers::new().root().to_string(), "332d4159b2b919e20ff5a205911245e04f889869e5dfd435da764c6bcbbd0d84");
}

//! Who may do what on a topic's partition, and with which content.

use super::super::{RECORDS_PER_BATCH_MAX, exchange::Exchange};
use super::*;
use Rejection::*;
use waybill_types::transaction::{Commit, Producer, Receive, Refuse, Retrieve, SystemChange};

fn outcome(origin: NodeId, transaction: Transaction) -> Option<Rejection> {
    let mut exchange = exchange();
    // The owner has sent ten offsets.
    for offset in 0..10 {
        let sent = exchange.execute(&call(OWNER, offset), &Transaction::Send(batch(OWNER)));
        assert_eq!(sent, Outcome::Appended { base_offset: offset });
    }
    match exchange.execute(&call(origin, 10), &transaction) {
        Outcome::Rejected(rejection) => Some(rejection),
        Outcome::Appended { base_offset } => {
            assert_eq!(base_offset, 10);
            None
        }
        Outcome::Recorded => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn permissions() {
    let send = |node| Transaction::Send(batch(node));
    let retrieve =
        |_| Transaction::Retrieve(Retrieve { receiver: org("reader"), first: 0, last: 1, request: Digest::ZERO });
    let receive = |_| Transaction::Receive(Receive { first: 0, last: 1, salts: Digest::ZERO });
    let commit = |_| Transaction::Commit(Commit { group: Digest::ZERO, offset: 1 });
    let refuse = |_| Transaction::Refuse(Refuse { to: org("witness"), offset: 0, reason: 1 });
    let config = |_| Transaction::Config(Config { version: 2, ..config() });
    let system = |_| Transaction::System(SystemChange::DeleteTopic(LEDGER.topic));
    let (yes, no) = (None, Some(NotAuthorised));
    // By owner, reader, writer, witness, stranger.
    type Make<'a> = &'a dyn Fn(NodeId) -> Transaction;
    let table: [(&str, Make, [Option<Rejection>; 5]); 7] = [
        ("send", &send, [yes, no, yes, no, no]),
        ("retrieve: has sent", &retrieve, [yes, no, no, no, no]),
        ("receive", &receive, [yes, yes, no, no, no]),
        ("commit", &commit, [yes, yes, no, no, no]),
        ("refuse", &refuse, [yes, no, yes, no, no]),
        ("config", &config, [yes, no, no, no, no]),
        ("system", &system, [Some(Invalid), Some(Invalid), Some(Invalid), Some(Invalid), no]),
    ];
    for (name, transaction, expected) in table {
        for (node, expected) in [OWNER, READER, WRITER, WITNESS, STRANGER].into_iter().zip(expected) {
            assert_eq!(outcome(node, transaction(node)), expected, "{name} by {node}");
        }
    }
}

#[test]
fn a_batch_must_make_sense() {
    let producer = |id, epoch, base_sequence| Some(Producer { id, epoch, base_sequence });
    let good = batch(OWNER);
    let table = [
        ("plain", good.clone(), None),
        ("compressed, LogAppendTime bit", Send { attributes: 0x0c, ..good.clone() }, None),
        ("at the limit", Send { size_bytes: 1000, ..good.clone() }, None),
        ("above the limit", Send { size_bytes: 1001, ..good.clone() }, Some(TooLarge)),
        ("empty", Send { size_bytes: 0, ..good.clone() }, Some(Invalid)),
        ("no records", Send { record_count: 0, ..good.clone() }, Some(Invalid)),
        ("as many records as can be", Send { record_count: RECORDS_PER_BATCH_MAX, ..good.clone() }, None),
        ("too many records", Send { record_count: RECORDS_PER_BATCH_MAX + 1, ..good.clone() }, Some(Invalid)),
        ("more records than a Kafka batch counts", Send { record_count: u32::MAX, ..good.clone() }, Some(Invalid)),
        ("zstd", Send { attributes: 4, ..good.clone() }, None),
        ("no codec of Kafka's", Send { attributes: 5, ..good.clone() }, Some(Invalid)),
        ("all attributes", Send { attributes: -1, ..good.clone() }, Some(Invalid)),
        ("the beginning of time", Send { max_timestamp_ms: i64::MIN, ..good.clone() }, None),
        ("no timestamp", Send { max_timestamp_ms: -1, ..good.clone() }, None),
        ("an hour ahead", Send { max_timestamp_ms: 3_601_000, ..good.clone() }, None),
        ("further ahead", Send { max_timestamp_ms: 3_601_001, ..good.clone() }, Some(InvalidTimestamp)),
        ("the end of time", Send { max_timestamp_ms: i64::MAX, ..good.clone() }, Some(InvalidTimestamp)),
        ("another's connector", Send { connector: WRITER, ..good.clone() }, Some(NotAuthorised)),
        ("transactional", Send { attributes: 0x10, ..good.clone() }, Some(Invalid)),
        ("control", Send { attributes: 0x20, ..good.clone() }, Some(Invalid)),
        ("producer", Send { producer: producer(0, 0, 0), ..good.clone() }, None),
        ("negative producer id", Send { producer: producer(-1, 0, 0), ..good.clone() }, Some(Invalid)),
        ("negative epoch", Send { producer: producer(1, -1, 0), ..good.clone() }, Some(Invalid)),
        ("negative sequence", Send { producer: producer(1, 0, -1), ..good.clone() }, Some(Invalid)),
    ];
    for (name, send, expected) in table {
        assert_eq!(outcome(OWNER, Transaction::Send(send)), expected, "{name}");
    }
}

#[test]
fn where_the_ledgers_time_counts_the_batchs_does_not() {
    let mut exchange = Exchange::new(Arc::new(Config { log_append_time: true, ..config() }));
    let send = Transaction::Send(Send { max_timestamp_ms: i64::MAX, ..batch(OWNER) });
    assert_eq!(exchange.execute(&call(OWNER, 0), &send), Outcome::Appended { base_offset: 0 });
}

#[test]
fn at_the_end_of_time_and_of_offsets_nothing_overflows() {
    let mut exchange = exchange();
    exchange.begin_block(u64::MAX);
    let producer = Some(Producer { id: i64::MAX, epoch: i16::MAX, base_sequence: i32::MAX });
    let send =
        |record_count| Transaction::Send(Send { producer, record_count, max_timestamp_ms: i64::MAX, ..batch(OWNER) });
    let at = |next_offset| Call { time_ms: u64::MAX, ..call(OWNER, next_offset) };
    let last = i64::MAX - i64::from(RECORDS_PER_BATCH_MAX);
    assert_eq!(exchange.execute(&at(last + 1), &send(RECORDS_PER_BATCH_MAX)), Outcome::Rejected(Invalid));
    let appended = Outcome::Appended { base_offset: last };
    assert_eq!(exchange.execute(&at(last), &send(RECORDS_PER_BATCH_MAX)), appended);
    assert_eq!(exchange.execute(&at(i64::MAX), &send(1)), Outcome::Rejected(Invalid), "offsets are used up");
    let commit = Transaction::Commit(Commit { group: Digest::ZERO, offset: i64::MAX });
    assert_eq!(exchange.execute(&at(i64::MAX), &commit), Outcome::Recorded);
    let receive = |first, last| Transaction::Receive(Receive { first, last, salts: Digest::ZERO });
    assert_eq!(exchange.execute(&at(i64::MAX), &receive(0, i64::MAX - 1)), Outcome::Recorded);
    for (first, last) in [(i64::MIN, i64::MAX), (0, i64::MAX), (i64::MIN, i64::MIN)] {
        assert_eq!(exchange.execute(&at(i64::MAX), &receive(first, last)), Outcome::Rejected(OffsetOutOfRange));
    }
    assert_eq!(exchange.execute(&at(i64::MAX), &receive(i64::MAX - 1, 0)), Outcome::Rejected(Invalid));
}

#[test]
fn a_refusal_is_of_somebody_who_is_there() {
    for (to, expected) in [("witness", None), ("reader", None), ("nobody", Some(Invalid))] {
        let refuse = Refuse { to: org(to), offset: 0, reason: 1 };
        assert_eq!(outcome(OWNER, Transaction::Refuse(refuse)), expected, "{to}");
    }
}

#[test]
fn nobody_takes_another_organisations_producer_ids_away() {
    let mut exchange = exchange();
    let mut send = |origin, id, epoch, next_offset| {
        let producer = Some(Producer { id, epoch, base_sequence: 0 });
        exchange.execute(&call(origin, next_offset), &Transaction::Send(Send { producer, ..batch(origin) }))
    };
    // The writer claims the ids that the owner's ledger will hand out next, with the highest epoch.
    for id in 0..20 {
        assert_eq!(send(WRITER, id, i16::MAX, id), Outcome::Appended { base_offset: id });
    }
    for id in 0..20 {
        assert_eq!(send(OWNER, id, 0, 20 + id), Outcome::Appended { base_offset: 20 + id });
        assert_eq!(send(OWNER, id, 0, 40), Outcome::Duplicate { base_offset: 20 + id });
        assert_eq!(send(WRITER, id, i16::MAX, 40), Outcome::Duplicate { base_offset: id });
    }
}

#[test]
fn ranges_lie_below_the_next_offset() {
    let table =
        [(0, 0, None), (0, 9, None), (9, 9, None), (0, 10, Some(OffsetOutOfRange)), (-1, 3, Some(OffsetOutOfRange))];
    for (first, last, expected) in table.into_iter().chain([(4, 3, Some(Invalid)), (11, 10, Some(OffsetOutOfRange))]) {
        let receive = Receive { first, last, salts: Digest::ZERO };
        assert_eq!(outcome(READER, Transaction::Receive(receive)), expected, "{first}..={last}");
        let retrieve = Retrieve { receiver: org("reader"), first, last, request: Digest::ZERO };
        assert_eq!(outcome(OWNER, Transaction::Retrieve(retrieve)), expected, "{first}..={last}");
    }
    for (offset, expected) in [(0, None), (10, None), (11, Some(OffsetOutOfRange)), (-1, Some(OffsetOutOfRange))] {
        let commit = Commit { group: Digest::ZERO, offset };
        assert_eq!(outcome(READER, Transaction::Commit(commit)), expected, "{offset}");
    }
    for (offset, expected) in [(9, None), (10, Some(OffsetOutOfRange))] {
        let refuse = Refuse { to: org("witness"), offset, reason: 1 };
        assert_eq!(outcome(OWNER, Transaction::Refuse(refuse)), expected, "{offset}");
    }
}

#[test]
fn what_was_served_goes_to_readers() {
    for (receiver, expected) in [("reader", None), ("owner", None), ("writer", Some(NotAuthorised))] {
        let retrieve = Retrieve { receiver: org(receiver), first: 0, last: 1, request: Digest::ZERO };
        assert_eq!(outcome(OWNER, Transaction::Retrieve(retrieve)), expected, "{receiver}");
    }
}

#[test]
fn the_configuration_changes_one_version_at_a_time_and_never_whose_keys_are_whose() {
    let second = || Config { version: 2, ..config() };
    let mut keys = second();
    keys.origins[1].key = PublicKey([66; 32]);
    let mut fewer = second();
    fewer.origins.pop();
    let many = (0..2000).map(|number| org(&format!("org-{number}"))).collect();
    let table = [
        ("next", second(), None),
        ("same", config(), Some(StaleVersion)),
        ("a version left out", Config { version: 3, ..config() }, Some(StaleVersion)),
        ("another key for the reader's node", keys, Some(NotAuthorised)),
        ("a node less", fewer, Some(NotAuthorised)),
        ("another owner", Config { owner: org("writer"), ..second() }, Some(NotAuthorised)),
        ("another ledger", Config { ledger: LedgerId { partition: 1, ..LEDGER }, ..second() }, Some(Invalid)),
        ("another name", Config { topic: "other".into(), ..second() }, Some(Invalid)),
        ("batches that Kafka cannot have", Config { batch_bytes_limit: 1 << 31, ..second() }, Some(Invalid)),
        ("too many readers", Config { readers: many, ..second() }, Some(Invalid)),
    ];
    for (name, config, expected) in table {
        assert_eq!(outcome(OWNER, Transaction::Config(config)), expected, "{name}");
    }
}

#[test]
fn a_writer_that_may_write_no_more_still_reports_what_it_serves() {
    let mut exchange = exchange();
    exchange.execute(&call(WRITER, 0), &Transaction::Send(batch(WRITER)));
    let revoke = Config { version: 2, writers: vec![], ..config() };
    assert_eq!(exchange.execute(&call(OWNER, 1), &Transaction::Config(revoke)), Outcome::Recorded);
    let send = exchange.execute(&call(WRITER, 1), &Transaction::Send(batch(WRITER)));
    assert_eq!(send, Outcome::Rejected(NotAuthorised));
    let retrieve = Retrieve { receiver: org("reader"), first: 0, last: 0, request: Digest::ZERO };
    assert_eq!(exchange.execute(&call(WRITER, 1), &Transaction::Retrieve(retrieve)), Outcome::Recorded);
}

#[test]
fn the_state_root_tells_every_part_of_the_state() {
    let producer = Some(Producer { id: 1, epoch: 0, base_sequence: 0 });
    let changes: [(NodeId, Transaction); 4] = [
        (OWNER, Transaction::Send(batch(OWNER))),
        (OWNER, Transaction::Send(Send { producer, ..batch(OWNER) })),
        (READER, Transaction::Commit(Commit { group: Digest::ZERO, offset: 1 })),
        (OWNER, Transaction::Config(Config { version: 2, ..config() })),
    ];
    let mut exchange = exchange();
    let mut roots = vec![exchange.root()];
    for (node, transaction) in changes {
        exchange.execute(&call(node, 5), &transaction);
        roots.push(exchange.root());
        assert_eq!(roots.last(), Some(&exchange.root()), "asking changes nothing");
        let snapshot = exchange.snapshot().to_bytes();
        let restored = super::super::exchange::Snapshot::from_bytes(&snapshot).unwrap();
        assert_eq!(super::super::Exchange::restore(restored).root(), exchange.root());
    }
    let before = roots.len();
    roots.sort();
    roots.dedup();
    assert_eq!(roots.len(), before, "each change is seen");
    exchange.execute(&call(WITNESS, 5), &Transaction::Send(batch(WITNESS)));
    assert!(roots.contains(&exchange.root()), "a rejection changes nothing");
}

//! SIGKILL in the middle of production: every acknowledged record is there once, in order, after each restart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};
use waybill_compat_tests::librdkafka::{self, Deliveries, Read, Record, group_consumer, produce, read_all, texts};
use waybill_compat_tests::network::Data;
use waybill_compat_tests::wait::{LIMIT, eventually};

const KILLS: usize = 3;
const PARTITIONS: [i32; 3] = [0, 1, 2];

/// Record `number`, in its partition: the numbers go round.
fn numbered(number: usize) -> Record {
    let partition = PARTITIONS[number % PARTITIONS.len()];
    Record { partition, value: Some(number.to_string().into_bytes()), ..Record::default() }
}

/// The numbers in each partition, in the order of their offsets.
fn by_partition(read: &[Read]) -> BTreeMap<i32, Vec<usize>> {
    let mut numbers: BTreeMap<i32, Vec<usize>> = PARTITIONS.iter().map(|&partition| (partition, Vec::new())).collect();
    for (read, text) in read.iter().zip(texts(read)) {
        numbers.entry(read.record.partition).or_default().push(text.parse().expect("a number"));
    }
    numbers
}

/// Sends numbered records until told to stop, and returns how many.
fn send_until(stop: &AtomicBool, producer: &BaseProducer<Deliveries>) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        librdkafka::send(producer, "orders", number, &numbered(number));
        number += 1;
        // A pace at which requests are always under way, and the backlog of a restart stays small.
        producer.poll(Duration::from_micros(500));
    }
    number
}

#[test]
fn an_idempotent_producer_loses_and_repeats_nothing_over_three_kills() {
    let data = Data::new();
    let mut network = data.start();
    let acme = network.kafka("acme").to_owned();
    assert!(librdkafka::create_topic(&acme, "orders", 3, &[]).is_ok());
    let producer = librdkafka::producer(&acme, &[("enable.idempotence", "true"), ("message.timeout.ms", "300000")]);
    let stop = AtomicBool::new(false);
    let (sent, network) = thread::scope(|scope| {
        // A failed assertion below must not leave the sender running: it would hold the scope for ever.
        let stopping = StopOnDrop(&stop);
        let sending = scope.spawn(|| send_until(&stop, &producer));
        for _ in 0..KILLS {
            let before = producer.context().acknowledged_count();
            eventually("a thousand more acknowledged", LIMIT, || {
                (producer.context().acknowledged_count() >= before + 1_000).then_some(())
            });
            network.kill();
            network = data.start();
            assert_eq!(network.kafka("acme"), acme, "the ports of a data directory stay the same");
        }
        let before = producer.context().acknowledged_count();
        eventually("the producer goes on after the last kill", LIMIT, || {
            (producer.context().acknowledged_count() >= before + 1_000).then_some(())
        });
        drop(stopping);
        (sending.join().expect("the sender"), network)
    });
    producer.flush(LIMIT).expect("all records delivered");
    assert_eq!(producer.context().failures(), []);
    assert_eq!(producer.context().acknowledged_count(), sent);

    for organisation in ["acme", "globex"] {
        let read = read_all(network.kafka(organisation), "orders", &PARTITIONS, sent);
        for (partition, numbers) in by_partition(&read) {
            assert_same(&numbers, (0..sent).filter(|number| numbered(*number).partition == partition), organisation);
        }
    }
    // Fresh clients find everything as it was, and go on.
    produce(&acme, "orders", &[("enable.idempotence", "true")], &[numbered(sent)]);
    assert_eq!(read_all(network.kafka("globex"), "orders", &PARTITIONS, sent + 1).len(), sent + 1);
    network.terminate();
}

struct StopOnDrop<'flag>(&'flag AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_same(read: &[usize], expected: impl Iterator<Item = usize>, organisation: &str) {
    let expected: Vec<usize> = expected.collect();
    let first_difference = read.iter().zip(&expected).position(|(read, expected)| read != expected);
    if let Some(at) = first_difference {
        let around = at.saturating_sub(3)..(at + 5).min(read.len());
        panic!("{organisation}: at offset {at} comes {:?}, expected {:?}", &read[around], expected[at]);
    }
    assert_eq!(read.len(), expected.len(), "{organisation}");
}

#[test]
fn what_was_acknowledged_to_a_client_that_died_too_is_there() {
    let data = Data::new();
    let network = data.start();
    assert!(librdkafka::create_topic(network.kafka("acme"), "orders", 3, &[]).is_ok());
    let settings = [("enable.idempotence", "true"), ("linger.ms", "0")];
    let producer = librdkafka::producer(network.kafka("acme"), &settings);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        scope.spawn(|| send_until(&stop, &producer));
        eventually("some acknowledged", LIMIT, || (producer.context().acknowledged_count() >= 500).then_some(()));
        network.kill();
        drop(stopping);
    });
    producer.poll(Duration::from_millis(100));
    let acknowledged = producer.context().acknowledged();
    // Not flushed: what is still in this client's queue dies with it.
    producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    drop(producer);

    let network = data.start();
    let read = read_all(network.kafka("globex"), "orders", &PARTITIONS, acknowledged.len());
    for (partition, numbers) in by_partition(&read) {
        // Requests under way at the kill may have made it or not; none twice, none out of order, none missing between.
        let dense = (0..).filter(|number| numbered(*number).partition == partition).take(numbers.len());
        assert!(numbers.iter().copied().eq(dense), "a gap or a repeat in partition {partition}: {numbers:?}");
        let last = acknowledged.iter().rfind(|number| numbered(**number).partition == partition);
        assert!(numbers.last() >= last, "{last:?} was acknowledged, and {:?} is the last one there", numbers.last());
    }
    network.terminate();
}

#[test]
fn a_group_reads_on_through_a_kill_and_nothing_committed_comes_again() {
    let data = Data::new();
    let mut network = data.start();
    let (acme, globex) = (network.kafka("acme").to_owned(), network.kafka("globex").to_owned());
    assert!(librdkafka::create_topic(&acme, "orders", 1, &[]).is_ok());
    let record = |number: usize| Record { value: Some(number.to_string().into_bytes()), ..Record::default() };
    let consumer = group_consumer(&globex, "audit", "orders");
    let (mut read, mut committed_at_kill) = (Vec::new(), 0);
    for round in 0..3 {
        let records: Vec<Record> = (round * 100..(round + 1) * 100).map(record).collect();
        produce(&acme, "orders", &[("enable.idempotence", "true")], &records);
        let wanted = (round + 1) * 100;
        // At least once: after a kill reading begins again at the last commit, never before it.
        eventually("the group reads everything", LIMIT, || {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let offset = usize::try_from(message.offset()).expect("an offset");
                assert!(
                    offset >= committed_at_kill,
                    "{offset} comes again, although {committed_at_kill} was committed"
                );
                read.push(offset);
                if offset % 10 == 9 && consumer.commit_message(&message, CommitMode::Sync).is_ok() {
                    committed_at_kill = offset + 1;
                }
            }
            (read.last() == Some(&(wanted - 1))).then_some(())
        });
        network.kill();
        network = data.start();
    }
    let mut distinct = read.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.iter().copied().eq(0..300), "not everything was read: {read:?}");
    let mut asked = TopicPartitionList::new();
    asked.add_partition("orders", 0);
    let committed = consumer.committed_offsets(asked, LIMIT).expect("committed offsets");
    let committed = committed.find_partition("orders", 0).map(|partition| partition.offset());
    assert_eq!(committed, Some(Offset::Offset(300)), "after the last kill as well");
    drop(consumer);
    network.terminate();
}

#[test]
fn a_network_killed_at_any_moment_of_its_start_starts_again() {
    let data = Data::new();
    // Keys, genesis and journals are being made in the first of these; later ones find what earlier ones left.
    for milliseconds in [20, 60, 120, 180, 250, 350, 500, 700] {
        data.start_and_kill_after(Duration::from_millis(milliseconds));
    }
    let network = data.start();
    assert!(librdkafka::create_topic(network.kafka("acme"), "orders", 3, &[]).is_ok());
    produce(network.kafka("acme"), "orders", &[], &[numbered(0)]);
    network.kill();
    for milliseconds in [60, 180, 350, 700] {
        data.start_and_kill_after(Duration::from_millis(milliseconds));
    }
    let network = data.start();
    produce(network.kafka("acme"), "orders", &[], &[numbered(1)]);
    let read = texts(&read_all(network.kafka("globex"), "orders", &PARTITIONS, 2));
    assert_eq!(read.len(), 2, "{read:?}");
    network.terminate();
}

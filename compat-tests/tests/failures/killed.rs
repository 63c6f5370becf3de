//! SIGKILL in the middle of production: every acknowledged record is there once, in order, after each restart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, Producer};
use waybill_compat_tests::librdkafka::{self, Deliveries, Record, produce, read_all, texts};
use waybill_compat_tests::network::Data;
use waybill_compat_tests::wait::{LIMIT, eventually};

const KILLS: usize = 3;

fn numbered(number: usize) -> Record {
    Record { value: Some(number.to_string().into_bytes()), ..Record::default() }
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
    assert!(librdkafka::create_topic(&acme, "orders", 1, &[]).is_ok());
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

    let expected: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
    for organisation in ["acme", "globex"] {
        let read = texts(&read_all(network.kafka(organisation), "orders", &[0], sent));
        assert_same(&read, &expected, organisation);
    }
    // Fresh clients find everything as it was, and go on.
    produce(&acme, "orders", &[("enable.idempotence", "true")], &[numbered(sent)]);
    assert_eq!(read_all(network.kafka("globex"), "orders", &[0], sent + 1).len(), sent + 1);
    network.terminate();
}

struct StopOnDrop<'flag>(&'flag AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_same(read: &[String], expected: &[String], organisation: &str) {
    let first_difference = read.iter().zip(expected).position(|(read, expected)| read != expected);
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
    assert!(librdkafka::create_topic(network.kafka("acme"), "orders", 1, &[]).is_ok());
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
    let read = texts(&read_all(network.kafka("globex"), "orders", &[0], acknowledged.len()));
    let numbers: Vec<usize> = read.iter().map(|text| text.parse().expect("a number")).collect();
    // Requests under way at the kill may have made it or not; none twice, none out of order, none missing between.
    assert!(numbers.iter().copied().eq(0..numbers.len()), "a gap or a repeat in {numbers:?}");
    let last = acknowledged.last().expect("some acknowledged");
    assert!(numbers.len() > *last, "record {last} was acknowledged, and {} are there", numbers.len());
    network.terminate();
}

//! The load: producers and consumers of librdkafka, and the times they saw.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use waybill_compat_tests::librdkafka::{config, reader};
use waybill_compat_tests::wait::LIMIT;

use crate::report::{Rate, Window};
use crate::scenarios::Production;

/// Counts acknowledged bytes; fails the benchmark when a record does.
#[derive(Default)]
struct Acknowledged {
    records: AtomicU64,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("a record was not delivered: {error}");
        }
        self.records.fetch_add(1, Ordering::Relaxed);
    }
}

/// Produces as fast as acknowledgements come, and counts those between the end of the warm-up and the end.
pub fn produce_bulk(broker: &str, pid: u32, production: &Production, warm_up: Duration, length: Duration) -> Rate {
    let mut config = config(broker, &[]);
    config.extend(production.settings().map(|(key, value)| (key.to_owned(), value)));
    // Enough for every request in flight; more would only wait longer at the end.
    config.set("acks", "all").set("queue.buffering.max.messages", "100000").set("queue.buffering.max.kbytes", "65536");
    let producer: BaseProducer<Acknowledged> =
        config.create_with_context(Acknowledged::default()).expect("a producer's configuration");
    let value = incompressible(production.record_bytes);
    let stop = AtomicBool::new(false);
    let acknowledged = || producer.context().records.load(Ordering::Relaxed);
    let rate = thread::scope(|scope| {
        scope.spawn(|| keep_sending(&producer, production.name, &value, &stop));
        thread::sleep(warm_up);
        let (before, window) = (acknowledged(), Window::open(pid));
        thread::sleep(length);
        let records = acknowledged() - before;
        let rate = window.close(records, records * value.len() as u64);
        stop.store(true, Ordering::Relaxed);
        rate
    });
    producer.flush(LIMIT).expect("the rest delivered");
    rate
}

fn keep_sending(producer: &BaseProducer<Acknowledged>, topic: &str, value: &[u8], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match producer.send(BaseRecord::<(), [u8]>::to(topic).payload(value)) {
            Ok(()) => {}
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

/// Bytes that no codec and no file system makes smaller.
fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Reads a topic's partition 0 from its beginning to its end, timed from the first record to the last.
pub fn consume(pid: u32, broker: &str, topic: &str) -> Rate {
    let consumer = reader(broker, topic, &[0]);
    let (mut records, mut bytes, mut window) = (0, 0, None);
    let mut last = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                last = Instant::now();
                if window.is_none() {
                    window = Some(Window::open(pid));
                    continue;
                }
                records += 1;
                bytes += message.payload_len() as u64;
            }
            Some(Err(KafkaError::PartitionEOF(_))) if window.is_some() => break,
            Some(Err(_)) | None => assert!(last.elapsed() < LIMIT, "{topic} does not go on at {broker}"),
        }
    }
    window.expect("the first record opened it").close(records, bytes)
}

/// Remembers when each record was sent, and how long its acknowledgement took.
#[derive(Default)]
struct Timed {
    sent: Mutex<VecDeque<Instant>>,
    took: Mutex<Vec<Duration>>,
}

impl ClientContext for Timed {}

impl ProducerContext for Timed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // One partition: records are acknowledged in the order in which they were sent.
        let sent = self.sent.lock().expect("a lock").pop_front().expect("sent before it is acknowledged");
        if let Err((error, _)) = result {
            panic!("a record was not delivered: {error}");
        }
        self.took.lock().expect("a lock").push(sent.elapsed());
    }
}

/// Times of a thousand records a second: until acknowledged at `from`, and until read at `to`.
pub fn latency(
    from: &str,
    to: &str,
    topic: &str,
    warm_up: Duration,
    length: Duration,
) -> (Vec<Duration>, Vec<Duration>) {
    let settings = [("linger.ms", "0"), ("acks", "all"), ("enable.idempotence", "false")];
    let producer: BaseProducer<Timed> =
        config(from, &settings).create_with_context(Timed::default()).expect("a producer's configuration");
    let clock = Instant::now();
    let (total, skipped) = ((warm_up + length).as_millis() as usize, warm_up.as_millis() as usize);
    let consumer = reader(to, topic, &[0]);
    let done = AtomicBool::new(false);
    let mut end_to_end = thread::scope(|scope| {
        let reading = scope.spawn(|| read_times(&consumer, &clock, total));
        // The thread that sends must not be the one that waits for acknowledgements: its pace would follow them.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(5));
            }
        });
        for number in 0..total {
            let due = Duration::from_millis(number as u64);
            thread::sleep(due.saturating_sub(clock.elapsed()));
            let mut value = incompressible(1_024);
            value[..8].copy_from_slice(&(clock.elapsed().as_nanos() as u64).to_le_bytes());
            producer.context().sent.lock().expect("a lock").push_back(Instant::now());
            producer.send(BaseRecord::<(), [u8]>::to(topic).payload(&value)).map_err(|(error, _)| error).expect("sent");
        }
        producer.flush(LIMIT).expect("all delivered");
        done.store(true, Ordering::Relaxed);
        reading.join().expect("the reader")
    });
    let mut produced = std::mem::take(&mut *producer.context().took.lock().expect("a lock"));
    (produced.split_off(skipped), end_to_end.split_off(skipped))
}

/// How old each record is when it is read; each carries the time of its making.
fn read_times(consumer: &BaseConsumer, clock: &Instant, total: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(total);
    let mut last = Instant::now();
    while times.len() < total {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = message.payload().and_then(|value| value.first_chunk()).expect("a time in each record");
                times.push(clock.elapsed().saturating_sub(Duration::from_nanos(u64::from_le_bytes(*value))));
                last = Instant::now();
            }
            _ => assert!(last.elapsed() < LIMIT, "{} of {total} records came", times.len()),
        }
    }
    times
}

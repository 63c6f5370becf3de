//! Four organisations survive one: each node in turn is left out, the others go on, and in the end all agree.

use std::time::Duration;

use rdkafka::producer::Producer;
use serde_json::Value;
use waybill_compat_tests::http;
use waybill_compat_tests::librdkafka::{Record, create_topic, produce, producer, read_all, send, texts};
use waybill_compat_tests::network::{Data, Network, ORGANISATIONS};
use waybill_compat_tests::wait::{LIMIT, eventually};

const TRADERS: [(&str, &str); 2] = [("acme", "orders"), ("globex", "returns")];

fn record(text: &str) -> Record {
    Record { value: Some(text.as_bytes().to_vec()), ..Record::default() }
}

fn audit(network: &Network<'_>, organisation: &str, topic: &str) -> Option<Value> {
    let node = network.http(organisation);
    let told = network.ask(&["audit", "--topic", topic, "--json", "--node", node]);
    told.status.success().then(|| serde_json::from_str(&told.text()).expect("JSON"))
}

#[test]
fn each_node_stopped_in_turn_leaves_the_others_working() {
    let data = Data::new();
    let mut written: [Vec<String>; 2] = Default::default();
    let network = data.start();
    for (index, (owner, topic)) in TRADERS.into_iter().enumerate() {
        assert!(create_topic(network.kafka(owner), topic, 1, &[]).is_ok());
        produce(network.kafka(owner), topic, &[], &[record("with all four")]);
        written[index].push("with all four".into());
    }
    network.terminate();

    for stopped in ORGANISATIONS {
        let network = data.start_without(&[stopped]);
        let text = format!("without {stopped}");
        let present = TRADERS.into_iter().enumerate().filter(|(_, (owner, _))| *owner != stopped);
        for (index, (owner, topic)) in present {
            produce(network.kafka(owner), topic, &[("enable.idempotence", "true")], &[record(&text)]);
            written[index].push(text.clone());
            // The owner reads its own; its partner, where it runs, reads what was sent meanwhile as well.
            for (reader, _) in TRADERS.into_iter().filter(|(reader, _)| *reader != stopped) {
                let read = texts(&read_all(network.kafka(reader), topic, &[0], written[index].len()));
                assert_eq!(read, written[index], "{topic} at {reader} without {stopped}");
            }
        }
        // The system ledger works with three of four as well.
        let owner = if stopped == "acme" { "globex" } else { "acme" };
        let created = format!("made-without-{stopped}");
        assert!(create_topic(network.kafka(owner), &created, 1, &[]).is_ok(), "{created}");
        network.terminate();
    }

    // All four again: each has caught up with what it missed, and tells the same story.
    let network = data.start();
    for (index, (_, topic)) in TRADERS.into_iter().enumerate() {
        for (reader, _) in TRADERS {
            assert_eq!(texts(&read_all(network.kafka(reader), topic, &[0], written[index].len())), written[index]);
        }
        eventually("all four ledgers agree", Duration::from_secs(60), || {
            let told: Vec<Value> =
                ORGANISATIONS.iter().map(|organisation| audit(&network, organisation, topic)).collect::<Option<_>>()?;
            told.iter().all(|story| *story == told[0]).then_some(())
        });
    }
    for stopped in ORGANISATIONS {
        let owner = if stopped == "acme" { "globex" } else { "acme" };
        let topic = format!("made-without-{stopped}");
        produce(network.kafka(owner), &topic, &[], &[record("now")]);
        for (reader, _) in TRADERS {
            assert_eq!(texts(&read_all(network.kafka(reader), &topic, &[0], 1)), ["now"]);
        }
    }
    network.terminate();
}

#[test]
fn with_two_of_four_stopped_nothing_is_acknowledged_and_nothing_is_lost() {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 1, &[]).is_ok());
    produce(network.kafka("acme"), "orders", &[], &[record("before")]);
    let (kafka, http) = (network.kafka("acme").to_owned(), network.http("acme").to_owned());
    network.terminate();

    // Two of four cannot decide: a client waits, and nobody tells it that its record is safe.
    let network = data.spawn_without(&["notary", "observer"]);
    eventually("acme's node lives", LIMIT, || http::get(&http, "/livez").filter(|(status, _)| *status == 200));
    let producer = producer(&kafka, &[("message.timeout.ms", "8000"), ("enable.idempotence", "true")]);
    send(&producer, "orders", 0, &record("undecided"));
    producer.flush(LIMIT).expect("an end of waiting");
    assert_eq!(producer.context().acknowledged_count(), 0, "half of the network acknowledged");
    let (status, _) = http::get(&http, "/livez").expect("the node is still there");
    assert_eq!(status, 200);
    network.kill();

    let network = data.start();
    produce(network.kafka("acme"), "orders", &[], &[record("after")]);
    let read = texts(&read_all(network.kafka("globex"), "orders", &[0], 2));
    // What was never acknowledged may have been decided in the end, once, and before what came later.
    assert!(read == ["before", "after"] || read == ["before", "undecided", "after"], "{read:?}");
    network.terminate();
}

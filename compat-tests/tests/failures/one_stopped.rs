//! Four organisations survive one: each node in turn is left out, the others go on, and in the end all agree.

use std::time::Duration;

use serde_json::Value;
use waybill_compat_tests::librdkafka::{Record, create_topic, produce, read_all, texts};
use waybill_compat_tests::network::{Data, Network, ORGANISATIONS};
use waybill_compat_tests::wait::eventually;

const TRADERS: [(&str, &str); 2] = [("acme", "orders"), ("globex", "returns")];

fn record(text: &str) -> Record {
    Record { value: Some(text.as_bytes().to_vec()), ..Record::default() }
}

/// A topic's story as this organisation's node tells it, one JSON document per line; nothing until it knows the topic.
fn audit(network: &Network<'_>, organisation: &str, topic: &str) -> Option<Vec<Value>> {
    let node = network.http(organisation);
    let told = network.ask(&["audit", "--topic", topic, "--json", "--node", node]);
    let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    told.status.success().then(|| told.text().lines().map(parsed).collect())
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
            let told: Vec<Vec<Value>> =
                ORGANISATIONS.iter().map(|organisation| audit(&network, organisation, topic)).collect::<Option<_>>()?;
            let complete = told[0].len() == written[index].len();
            (complete && told.iter().all(|story| *story == told[0])).then_some(())
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

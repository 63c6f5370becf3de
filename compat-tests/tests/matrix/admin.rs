//! The client's administrative calls: topics, configurations, offsets, groups.

use std::fs;

use serde_json::{Map, Value, json};
use waybill_compat_tests::client::Client;
use waybill_compat_tests::librdkafka::{commit, create_topic};
use waybill_compat_tests::network::Network;

/// `TOPIC_ALREADY_EXISTS`.
const ALREADY_EXISTS: i64 = 36;

pub fn admin_calls_do_what_they_say(client: &Client, network: &Network<'_>) {
    let (topic, group) = (format!("{}-administered", client.name), format!("{}-idle", client.name));
    let acme = network.kafka("acme");
    let committed_to = format!("{}-committed", client.name);
    create_topic(acme, &committed_to, 2, &[]).expect("a new topic");
    commit(acme, &group, &committed_to, &[0, 0]);
    let config = json!({"retention.ms": "7200000", "max.message.bytes": "2000000"});
    let files = tempfile::tempdir().expect("a temporary directory");
    let out = files.path().join("out");
    client.task(&json!({
        "do": "admin", "bootstrap": acme, "topic": topic, "partitions": 5, "config": config, "group": group, "out": out,
    }));
    let told: Map<String, Value> =
        serde_json::from_slice(&fs::read(&out).expect("what the program wrote")).expect("a JSON object");

    let expected = [
        ("created", json!(true)),
        ("created_again", json!(ALREADY_EXISTS)),
        ("listed", json!(true)),
        ("partitions", json!(5)),
        // Clients see the nodes of their own organisation: nobody else's gateway serves them.
        ("nodes", json!(1)),
        ("config", config),
        ("earliest", json!([0, 0, 0, 0, 0])),
        ("latest", json!([0, 0, 0, 0, 0])),
        ("groups", json!(true)),
        ("group_state", json!("Empty")),
        ("group_offsets", json!({"0": 0, "1": 0})),
        ("group_deleted", json!(true)),
        ("deleted", json!(true)),
        ("gone", json!(true)),
    ];
    for (call, answer) in &expected {
        if client.cannot.admin.contains(call) {
            assert_eq!(told.get(*call), None, "{call} is listed as what {} does not offer", client.name);
        } else {
            assert_eq!(told.get(*call), Some(answer), "{call}, of {told:?}");
        }
    }
    assert!(told.keys().all(|call| expected.iter().any(|(known, _)| known == call)), "an unknown answer: {told:?}");
}

//! The client logs in with each mechanism that it has, over TLS and without, and is turned away with a wrong password.

use serde_json::json;
use waybill_compat_tests::client::Client;
use waybill_compat_tests::http::metric;
use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Network;
use waybill_compat_tests::records::{self, Record};

use crate::door::{Door, LogIn};
use crate::round_trip::{assert_same, consume, produce};

/// The users of the network: organisation, name, password. One of them has what must be escaped somewhere.
pub const USERS: [(&str, &str, &str); 2] =
    [("acme", "alice", "open sesame, \"please\"=1"), ("globex", "bob", "bob's own")];

/// Security protocol and mechanism.
pub const WAYS: [(&str, Option<&str>); 5] = [
    ("SSL", None),
    ("SASL_PLAINTEXT", Some("PLAIN")),
    ("SASL_SSL", Some("PLAIN")),
    ("SASL_SSL", Some("SCRAM-SHA-256")),
    ("SASL_SSL", Some("SCRAM-SHA-512")),
];

pub fn log_in_and_tls_let_users_in_and_nobody_else(client: &Client, network: &Network<'_>) {
    let records: Vec<Record> = (0..3).map(record).collect();
    for (protocol, mechanism) in ways(client) {
        let topic = format!("{}-{protocol}-{}", client.name, mechanism.unwrap_or("no-log-in"));
        create_topic(network.kafka("acme"), &topic, 3, &[]).expect("a new topic");
        let [sender, receiver] = USERS.map(|(organisation, username, password)| {
            let log_in = mechanism.map(|mechanism| LogIn { mechanism, username, password });
            Door::secured(network, organisation, protocol, log_in.as_ref())
        });
        produce(client, &sender, &topic, "none", false, &records);
        assert_same(&consume(client, &receiver, &topic, records.len()), &records, &topic);
    }
    for (protocol, mechanism) in ways(client) {
        // Every way with a log-in has the same check behind it; clients fail in their own ways.
        if let Some(mechanism) = mechanism {
            let wrong = LogIn { mechanism, username: "alice", password: "a guess" };
            is_turned_away(client, network, &Door::secured(network, "acme", protocol, Some(&wrong)));
        }
    }
}

/// The ways that the client has.
fn ways(client: &Client) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let cannot = client.cannot;
    let has = move |(protocol, mechanism): &(&str, Option<&str>)| {
        !(cannot.tls && protocol.ends_with("SSL"))
            && mechanism.is_none_or(|mechanism| !cannot.mechanisms.contains(&mechanism))
    };
    WAYS.into_iter().filter(has)
}

/// Clients fail in their own words, some in none; so the gateway is asked as well.
fn is_turned_away(client: &Client, network: &Network<'_>, door: &Door) {
    let files = tempfile::tempdir().expect("a temporary directory");
    let (input, out) = (files.path().join("records"), files.path().join("out"));
    records::write(&input, &[record(0)]);
    let failures = || metric(network.http("acme"), "authentication_failures").unwrap_or_default();
    let before = failures();
    let topic = format!("{}-none", client.name);
    let task = door.task(json!({
        "do": "produce", "topic": topic, "codec": "none", "idempotent": false, "records": input, "out": out,
    }));
    let finished = client.try_task(&task);
    assert!(!finished.status.success(), "{}: a wrong password was let in: {task}", client.name);
    assert!(failures() > before, "{}: it did not come to the log-in:\n{}", client.name, finished.stderr);
}

fn record(partition: i32) -> Record {
    Record {
        partition,
        key: Some(b"who".to_vec()),
        value: Some(b"somebody who has logged in".to_vec()),
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
    }
}

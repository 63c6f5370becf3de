//! A consumer group of the client's own: it reads, is joined, shares, and takes over.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use waybill_compat_tests::client::Client;
use waybill_compat_tests::librdkafka::{committed, create_topic};
use waybill_compat_tests::network::Network;

const PARTITIONS: i64 = 4;
const COUNT: i64 = 40;

pub fn two_members_share_and_one_takes_over(client: &Client, network: &Network<'_>) {
    let (topic, group) = (format!("{}-shared", client.name), format!("{}-members", client.name));
    create_topic(network.kafka("acme"), &topic, 4, &[]).expect("a new topic");
    let files = tempfile::tempdir().expect("a temporary directory");
    let out = files.path().join("out");
    client.task(&json!({
        "do": "group", "bootstrap": network.kafka("globex"), "produce_bootstrap": network.kafka("acme"), "topic": topic,
        "partitions": PARTITIONS, "group": group, "count": COUNT, "out": out,
    }));
    let told: Value = serde_json::from_slice(&fs::read(&out).expect("what the program wrote")).expect("JSON");

    let all: BTreeSet<i64> = (0..PARTITIONS).collect();
    assert_eq!(partitions(&told["first"]), all, "the only member has everything: {told}");
    let [first, second] = [&told["shared"][0], &told["shared"][1]].map(partitions);
    assert!(!first.is_empty() && !second.is_empty() && first.is_disjoint(&second), "the two share: {told}");
    assert_eq!(&first | &second, all, "nothing is left over: {told}");
    assert_eq!(partitions(&told["after"]), all, "the one that stays takes over: {told}");

    let read: Vec<Vec<i64>> = (0..4).map(|step| numbers(&told["read"][step])).collect();
    assert_eq!(sorted(&read[0]), (0..COUNT).collect::<Vec<_>>(), "alone");
    assert_eq!(
        sorted(&[&read[1][..], &read[2]].concat()),
        (COUNT..2 * COUNT).collect::<Vec<_>>(),
        "together: once each"
    );
    assert_eq!(sorted(&read[3]), (2 * COUNT..3 * COUNT).collect::<Vec<_>>(), "after the other has left");
    for (numbers, own) in [(&read[1], &first), (&read[2], &second)] {
        assert!(numbers.iter().all(|number| own.contains(&(number % PARTITIONS))), "each reads its own: {told}");
    }
    for numbers in &read {
        for partition in 0..PARTITIONS {
            let of_partition = numbers.iter().filter(|&number| number % PARTITIONS == partition);
            assert!(of_partition.is_sorted(), "the order of partition {partition}: {told}");
        }
    }
    let end = 3 * COUNT / PARTITIONS;
    assert_eq!(committed(network.kafka("globex"), &group, &topic, 4), vec![Some(end); 4], "commits of all members");
}

fn partitions(told: &Value) -> BTreeSet<i64> {
    numbers(told).into_iter().collect()
}

fn numbers(told: &Value) -> Vec<i64> {
    let numbers = told.as_array().unwrap_or_else(|| panic!("no list: {told}"));
    numbers.iter().map(|number| number.as_i64().unwrap_or_else(|| panic!("no number: {told}"))).collect()
}

fn sorted(numbers: &[i64]) -> Vec<i64> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers
}

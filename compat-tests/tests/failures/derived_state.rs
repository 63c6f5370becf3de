//! The journal is the truth: what sled holds can be deleted, at one node or at all, and nothing is lost.

use std::fs;

use rdkafka::consumer::{CommitMode, Consumer};
use waybill_compat_tests::librdkafka::{Record, create_topic, group_consumer, owned, produce, read_all, texts};
use waybill_compat_tests::network::{Data, Network, ORGANISATIONS};
use waybill_compat_tests::wait::{LIMIT, eventually};
use waybill_compat_tests::{binary, command};

use std::time::Duration;

fn records(numbers: std::ops::Range<usize>) -> Vec<Record> {
    numbers.map(|number| Record { value: Some(number.to_string().into_bytes()), ..Record::default() }).collect()
}

/// What the group reads next, `count` records, which it then commits.
fn read_in_group(network: &Network<'_>, count: usize) -> Vec<String> {
    let consumer = group_consumer(network.kafka("globex"), "audit", "orders");
    let mut read = Vec::new();
    eventually("the group reads", LIMIT, || {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            read.push(owned(&message));
        }
        (read.len() == count).then_some(())
    });
    consumer.commit_consumer_state(CommitMode::Sync).expect("a commit");
    texts(&read)
}

fn receipt(network: &Network<'_>, data: &Data) -> Vec<u8> {
    let file = data.beside("orders.receipt");
    let path = file.to_str().expect("a plain path");
    let arguments = ["receipt", "export", "--topic", "orders", "--partition", "0", "--offset", "7", "-o", path];
    network.ask(&arguments).expect_success("receipt export");
    let mut verify = binary::command(&["receipt", "verify"]);
    verify.arg(&file).arg("--genesis").arg(data.genesis());
    command::run(&mut verify, b"", LIMIT).expect_success("receipt verify");
    fs::read(&file).expect("the receipt")
}

fn words(count: std::ops::Range<usize>) -> Vec<String> {
    count.map(|number| number.to_string()).collect()
}

#[test]
fn sled_deleted_at_one_node_then_at_all_loses_nothing() {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 1, &[]).is_ok());
    produce(network.kafka("acme"), "orders", &[("enable.idempotence", "true")], &records(0..200));
    assert_eq!(read_in_group(&network, 50), words(0..50));
    receipt(&network, &data);
    network.terminate();

    data.delete("globex", "state");
    data.delete("globex", "index");
    let network = data.start();
    assert_eq!(texts(&read_all(network.kafka("globex"), "orders", &[0], 200)), words(0..200));
    assert_eq!(read_in_group(&network, 50), words(50..100), "the group's offset survives");
    receipt(&network, &data);
    // Without a clean stop this time.
    network.kill();

    for organisation in ORGANISATIONS {
        data.delete(organisation, "state");
    }
    for trader in ["acme", "globex"] {
        data.delete(trader, "index");
    }
    let network = data.start();
    for organisation in ["acme", "globex"] {
        assert_eq!(texts(&read_all(network.kafka(organisation), "orders", &[0], 200)), words(0..200));
    }
    assert_eq!(read_in_group(&network, 50), words(100..150));
    receipt(&network, &data);
    produce(network.kafka("acme"), "orders", &[("enable.idempotence", "true")], &records(200..210));
    assert_eq!(texts(&read_all(network.kafka("globex"), "orders", &[0], 210)), words(0..210));
    network.terminate();
}

#[test]
fn sled_full_of_noise_is_rebuilt() {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 1, &[]).is_ok());
    produce(network.kafka("acme"), "orders", &[], &records(0..20));
    network.terminate();
    for file in [data.files("acme", "state"), data.files("acme", "index")].concat() {
        let length = fs::metadata(&file).expect("a file").len();
        let noise: Vec<u8> = (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(&file, noise).expect("a file of ours");
    }
    let network = data.start();
    assert_eq!(texts(&read_all(network.kafka("acme"), "orders", &[0], 20)), words(0..20));
    network.terminate();
}

//! `kafka-topics`.

use waybill_compat_tests::librdkafka::{create_topic, produce};
use waybill_compat_tests::network::Network;
use waybill_compat_tests::records::Record;
use waybill_compat_tests::wait::{LIMIT, eventually};

use super::Tools;

pub fn creates_describes_and_deletes(tools: &Tools, network: &Network<'_>) {
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    let topics = |broker: &str, options: &str| tools.run("kafka-topics", broker, options);

    let create = "--create --topic tools-topics --partitions 3 --config retention.ms=3600000";
    assert_eq!(topics(acme, create), "Created topic tools-topics.\n");
    let refused = tools.run_refused("kafka-topics", acme, create);
    assert!(refused.contains("'tools-topics' already exists"), "{refused}");
    assert_eq!(topics(acme, &format!("{create} --if-not-exists")), "");
    let refused = tools.run_refused("kafka-topics", acme, "--create --topic tools-bad --config retention.msec=1");
    assert!(refused.contains("retention.msec"), "the unknown key is named: {refused}");

    for broker in [acme, globex] {
        eventually("the topic is listed", LIMIT, || lists(&topics(broker, "--list"), "tools-topics").then_some(()));
        assert_described(&topics(broker, "--describe --topic tools-topics"));
        let ailing = topics(broker, "--describe --topic tools-topics --under-replicated-partitions");
        assert_eq!(ailing, "", "every replica of a healthy network is in sync");
    }

    let unknown = tools.run_refused("kafka-topics", acme, "--describe --topic tools-unknown");
    assert!(unknown.contains("Topic 'tools-unknown' does not exist as expected"), "{unknown}");

    assert_eq!(topics(acme, "--delete --topic tools-topics"), "");
    for broker in [acme, globex] {
        eventually("the topic is gone", LIMIT, || (!lists(&topics(broker, "--list"), "tools-topics")).then_some(()));
    }
    let again = tools.run_refused("kafka-topics", acme, "--delete --topic tools-topics");
    assert!(again.contains("Topic 'tools-topics' does not exist as expected"), "{again}");
}

pub fn adds_partitions(tools: &Tools, network: &Network<'_>) {
    const TOPIC: &str = "tools-growing";
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    create_topic(acme, TOPIC, 2, &[]).expect("a new topic");
    let alter = |count: u32| format!("--alter --topic {TOPIC} --partitions {count}");
    assert_eq!(tools.run("kafka-topics", acme, &alter(4)), "");
    for broker in [acme, globex] {
        eventually("four partitions", LIMIT, || {
            let described = tools.run("kafka-topics", broker, &format!("--describe --topic {TOPIC}"));
            described.contains("PartitionCount: 4").then_some(())
        });
    }
    // What is written to a partition that was added is read by the other organisation.
    let record = Record { partition: 3, value: Some(b"here too".to_vec()), timestamp_ms: 1, ..Record::default() };
    produce(acme, TOPIC, &[], &[record]);
    let consume = format!("--topic {TOPIC} --partition 3 --offset earliest --max-messages 1");
    assert_eq!(tools.run("kafka-console-consumer", globex, &consume), "here too\n");

    let fewer = tools.run_refused("kafka-topics", acme, &alter(3));
    assert!(fewer.contains("3 would not be an increase"), "{fewer}");
    let others = tools.run_refused("kafka-topics", globex, &alter(6));
    assert!(others.contains("the topic belongs to acme"), "{others}");
    let offsets = tools.run("kafka-get-offsets", acme, &format!("--topic {TOPIC}"));
    assert_eq!(offsets.lines().last(), Some("tools-growing:3:1"), "neither refusal changed anything: {offsets}");
}

fn lists(listing: &str, topic: &str) -> bool {
    listing.lines().any(|line| line == topic)
}

/// One line for the topic, one for each partition: the four organisations keep it, and one of them leads.
fn assert_described(description: &str) {
    let mut lines = description.lines();
    let topic: Vec<&str> = lines.next().expect("a line for the topic").split('\t').collect();
    assert_eq!(topic[0], "Topic: tools-topics");
    assert!(topic[1].starts_with("TopicId: ") && topic[1].len() == "TopicId: ".len() + 22, "{description}");
    assert_eq!(topic[2..], ["PartitionCount: 3", "ReplicationFactor: 4", "Configs: retention.ms=3600000"]);
    for partition in 0..3 {
        let fields: Vec<&str> = lines.next().expect("a line for each partition").trim_start().split('\t').collect();
        assert_eq!(fields[..2], ["Topic: tools-topics".to_owned(), format!("Partition: {partition}")]);
        let leader = fields[2].strip_prefix("Leader: ").expect("a leader");
        for (field, name) in [(fields[3], "Replicas: "), (fields[4], "Isr: ")] {
            let mut nodes: Vec<&str> = field.strip_prefix(name).expect("a list of nodes").split(',').collect();
            assert!(nodes.contains(&leader), "{description}");
            nodes.sort_unstable();
            assert_eq!(nodes, ["1", "2", "3", "4"], "{description}");
        }
    }
    assert_eq!(lines.next(), None, "{description}");
}

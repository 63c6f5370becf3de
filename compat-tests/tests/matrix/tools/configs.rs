//! `kafka-configs --describe`.

use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Network;

use super::Tools;

pub fn describes_topics_and_brokers(tools: &Tools, network: &Network<'_>) {
    let acme = network.kafka("acme");
    create_topic(acme, "tools-configs", 1, &[("retention.ms", "3600000")]).expect("a new topic");
    let describe = |options: &str| tools.run("kafka-configs", acme, &format!("--describe {options}"));

    let own = describe("--topic tools-configs");
    let lines: Vec<&str> = own.lines().collect();
    assert_eq!(lines.len(), 2, "one line for the topic, one for what was set: {own}");
    assert_eq!(lines[0], "Dynamic configs for topic tools-configs are:");
    let retention = "retention.ms=3600000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=3600000";
    assert!(lines[1].trim_start().starts_with(retention), "{own}");

    let all = describe("--topic tools-configs --all");
    for line in
        ["cleanup.policy=delete", "compression.type=producer", "max.message.bytes=", "retention.bytes=-1", retention]
    {
        assert!(has_line(&all, line), "{line} in\n{all}");
    }
    let broker = describe("--broker 1 --all");
    for line in ["auto.create.topics.enable=", "broker.id=1 ", "message.max.bytes=", "num.partitions="] {
        assert!(has_line(&broker, line), "{line} in\n{broker}");
    }
    assert!(has_line(&broker, &format!("advertised.listeners=PLAINTEXT://{acme} ")), "{broker}");
    assert_eq!(describe("--broker 1"), "Dynamic configs for broker 1 are:\n", "nothing was set on it");

    let unknown = describe("--topic tools-configs-unknown");
    assert!(unknown.contains("'tools-configs-unknown' doesn't exist"), "{unknown}");
}

fn has_line(described: &str, start: &str) -> bool {
    described.lines().any(|line| line.trim_start().starts_with(start))
}

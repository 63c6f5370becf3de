//! `kafka-configs`.

use std::fs;

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
    assert!(has_line(&broker, &format!("advertised.listeners=PLAINTEXT://{acme},")), "{broker}");
    assert_eq!(describe("--broker 1"), "Dynamic configs for broker 1 are:\n", "nothing was set on it");

    let unknown = describe("--topic tools-configs-unknown");
    assert!(unknown.contains("'tools-configs-unknown' doesn't exist"), "{unknown}");
}

pub fn makes_users_who_can_log_in(tools: &Tools, network: &Network<'_>) {
    const USER: &str = "--entity-type users --entity-name tools-alice";
    let acme = network.kafka("acme");
    let configs = |options: &str| tools.run("kafka-configs", acme, &format!("{options} {USER}"));
    let told =
        |mechanisms: &str| format!("SCRAM credential configs for user-principal 'tools-alice' are {mechanisms}\n");
    let completed = "Completed updating config for user tools-alice.\n";

    let both = "SCRAM-SHA-256=[password=secret-1],SCRAM-SHA-512=[iterations=8192,password=secret-2]";
    assert_eq!(configs(&format!("--alter --add-config {both}")), completed);
    assert_eq!(configs("--describe"), told("SCRAM-SHA-256=iterations=4096, SCRAM-SHA-512=iterations=8192"));

    // The user comes in by the password of the mechanism, and not by another one.
    let secured = network.secured("acme");
    let files = tempfile::tempdir().expect("a temporary directory");
    let log_in = |password: &str| {
        let file = files.path().join(format!("{password}.properties"));
        let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
        let settings = format!(
            "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             sasl.mechanism=SCRAM-SHA-512\n\
             sasl.jaas.config={module} required username=\"tools-alice\" password=\"{password}\";\n",
            secured.ca.display()
        );
        fs::write(&file, settings).expect("a file of settings");
        format!("--list --command-config {}", file.display())
    };
    tools.run("kafka-topics", secured.listener("SASL_SSL"), &log_in("secret-2"));
    let refused = tools.run_refused("kafka-topics", secured.listener("SASL_SSL"), &log_in("secret-1"));
    assert!(refused.to_lowercase().contains("authentication"), "{refused}");

    assert_eq!(configs("--alter --delete-config SCRAM-SHA-512"), completed);
    assert_eq!(configs("--describe"), told("SCRAM-SHA-256=iterations=4096"));
    tools.run_refused("kafka-topics", secured.listener("SASL_SSL"), &log_in("secret-2"));
}

fn has_line(described: &str, start: &str) -> bool {
    described.lines().any(|line| line.trim_start().starts_with(start))
}

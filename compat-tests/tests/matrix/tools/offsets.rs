//! `kafka-get-offsets`.

use waybill_compat_tests::librdkafka::{create_topic, produce};
use waybill_compat_tests::network::Network;
use waybill_compat_tests::records::Record;

use super::Tools;

pub fn finds_ends_and_timestamps(tools: &Tools, network: &Network<'_>) {
    const TOPIC: &str = "tools-offsets";
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    create_topic(acme, TOPIC, 3, &[]).expect("a new topic");
    // Out of order in time, and in one batch: partition 0 has three records, 1 has two, 2 has none.
    let records = [(0, 1_000), (0, 3_000), (0, 2_000), (1, 5_000), (1, 4_000)].map(|(partition, timestamp_ms)| {
        Record { partition, timestamp_ms, value: Some(b"something".to_vec()), ..Record::default() }
    });
    produce(acme, TOPIC, &[("linger.ms", "200")], &records);

    for (broker, time, offsets) in [
        (acme, "-1", ["3", "2", "0"]),
        (globex, "latest", ["3", "2", "0"]),
        (acme, "-2", ["0", "0", "0"]),
        // The record with the largest timestamp; none in an empty partition.
        (acme, "-3", ["1", "0", ""]),
        (globex, "max-timestamp", ["1", "0", ""]),
        // The first record as late as this, wherever it stands in its batch.
        (globex, "1500", ["1", "0", ""]),
        (acme, "3000", ["1", "0", ""]),
        (globex, "4500", ["", "0", ""]),
    ] {
        let found = offsets.iter().enumerate().filter(|(_, offset)| !offset.is_empty());
        let expected: String = found.map(|(partition, offset)| format!("{TOPIC}:{partition}:{offset}\n")).collect();
        let printed = tools.run("kafka-get-offsets", broker, &format!("--topic {TOPIC} --time {time}"));
        assert_eq!(printed, expected, "--time {time}");
    }
    let some = tools.run("kafka-get-offsets", globex, &format!("--topic-partitions {TOPIC}:0-2"));
    assert_eq!(some, format!("{TOPIC}:0:3\n{TOPIC}:1:2\n"), "partitions 0 and 1");
}

//! `kafka-producer-perf-test` and `kafka-consumer-perf-test`.

use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Network;

use super::Tools;

pub fn move_megabytes_across(tools: &Tools, network: &Network<'_>) {
    const TOPIC: &str = "tools-perf";
    create_topic(network.kafka("acme"), TOPIC, 3, &[]).expect("a new topic");
    let produce =
        format!("--topic {TOPIC} --num-records 10000 --record-size 1000 --throughput -1 --command-property acks=all");
    let produced = tools.run("kafka-producer-perf-test", network.kafka("acme"), &produce);
    let total = produced.lines().last().expect("a total");
    assert!(total.starts_with("10000 records sent, ") && total.contains(" ms 99.9th"), "{produced}");

    let consume = format!("--topic {TOPIC} --num-records 10000 --timeout 30000");
    let consumed = tools.run("kafka-consumer-perf-test", network.kafka("globex"), &consume);
    let [names, numbers] = [0, 1].map(|line| consumed.lines().nth(line).expect("two lines").split(", "));
    let number =
        |name: &str| names.clone().zip(numbers.clone()).find(|(known, _)| *known == name).map(|(_, number)| number);
    assert_eq!(number("data.consumed.in.nMsg"), Some("10000"), "{consumed}");
    // 10,000,000 bytes in units of 1,048,576.
    assert_eq!(number("data.consumed.in.MB"), Some("9.5367"), "{consumed}");
}

//! `kafka-console-producer` and `kafka-console-consumer`.

use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Network;
use waybill_compat_tests::wire;

use super::{TIMED_OUT, Tools, sorted_lines};

/// Kafka's codecs, and their numbers in a batch's attributes.
const CODECS: [(&str, u8); 5] = [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];

pub fn carry_everything_across(tools: &Tools, network: &Network<'_>) {
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    create_topic(acme, "tools-console", 3, &[]).expect("a new topic");
    let read =
        "--reader-property parse.key=true --reader-property parse.headers=true --reader-property null.marker=NIL";
    let produce = format!("--topic tools-console {read}");
    let lines = "source:web,source:again\tk1\tone\nempty:\tk1\ttwo words\nnone:NIL\tk2\tNIL\nNIL\tNIL\tkeyless\n";
    assert_eq!(tools.feed("kafka-console-producer", acme, &produce, lines), "");

    // Everything that a record has, a field each; partitions are read in no particular order.
    let print: String = ["partition", "offset", "timestamp", "headers", "key"]
        .map(|field| format!(" --formatter-property print.{field}=true"))
        .concat();
    let consume = format!("--topic tools-console --from-beginning --max-messages 4 {print}");
    let finished = tools.finish("kafka-console-consumer", globex, &consume, "", &[]);
    assert!(finished.stderr.contains("Processed a total of 4 messages"), "{}", finished.stderr);
    let read = finished.text();
    let records: Vec<Vec<&str>> = read.lines().map(|line| line.split('\t').collect()).collect();
    assert!(records.iter().all(|record| record[0].starts_with("CreateTime:")), "{read}");
    let mut contents: Vec<&[&str]> = records.iter().map(|record| &record[3..]).collect();
    contents.sort_unstable();
    let expected: [&[&str]; 4] = [
        &["NO_HEADERS", "null", "keyless"],
        &["empty:", "k1", "two words"],
        &["none:null", "k2", "null"],
        &["source:web,source:again", "k1", "one"],
    ];
    assert_eq!(contents, expected, "{read}");

    // Records of one key stand in one partition, in order; from there they can be read by their offset.
    let of_key: Vec<&Vec<&str>> = records.iter().filter(|record| record[4] == "k1").collect();
    assert_eq!(of_key[0][1], of_key[1][1], "{read}");
    let partition = of_key[1][1].strip_prefix("Partition:").expect("a partition");
    let offset = of_key[1][2].strip_prefix("Offset:").expect("an offset");
    let place = format!("--topic tools-console --partition {partition} --offset {offset} --max-messages 1");
    let committed = format!("{place} --isolation-level read_committed");
    assert_eq!(tools.run("kafka-console-consumer", globex, &committed), "two words\n");

    // At the end of what is there, it waits as long as it was told to.
    let finished =
        tools.finish("kafka-console-consumer", acme, "--topic tools-console --timeout-ms 1500", "", &TIMED_OUT);
    assert!(finished.stderr.contains("Processed a total of 0 messages"), "{}", finished.stderr);
}

pub fn compress_with_every_codec(tools: &Tools, network: &Network<'_>) {
    const LINES: i64 = 500;
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    create_topic(acme, "tools-codecs", 1, &[]).expect("a new topic");
    let mut sent = String::new();
    for (start, (codec, number)) in (0..).step_by(500).zip(CODECS) {
        let lines: String = (0..LINES).map(|line| format!("{codec} {line} the same words again and again\n")).collect();
        let produce = format!("--topic tools-codecs --compression-codec {codec}");
        tools.feed("kafka-console-producer", acme, &produce, &lines);
        let codecs = wire::codecs(&wire::fetch_batches(acme, "tools-codecs", 0, start).expect("batches"));
        assert_eq!(codecs.first(), Some(&number), "{codec} was asked for");
        sent += &lines;
    }
    let consume = "--topic tools-codecs --from-beginning --max-messages 2500";
    let read = tools.run("kafka-console-consumer", globex, consume);
    assert!(read == sent, "{} bytes came of {}", read.len(), sent.len());
}

pub fn goes_on_where_its_group_committed(tools: &Tools, network: &Network<'_>) {
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    create_topic(acme, "tools-going-on", 3, &[]).expect("a new topic");
    let produce = |lines: &str| {
        tools.feed("kafka-console-producer", acme, "--topic tools-going-on --reader-property parse.key=true", lines)
    };
    let consume = |count: usize| {
        let options = format!("--topic tools-going-on --group tools-readers --from-beginning --max-messages {count}");
        tools.run("kafka-console-consumer", globex, &options)
    };
    produce("a\t1\nb\t2\nc\t3\nd\t4\n");
    assert_eq!(sorted_lines(&consume(4)), ["1", "2", "3", "4"]);
    produce("a\t5\nb\t6\n");
    assert_eq!(sorted_lines(&consume(2)), ["5", "6"], "the second run starts behind the first one's commit");
}

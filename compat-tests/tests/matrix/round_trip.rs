//! Produced at one organisation, consumed at the other, byte for byte, with every codec.

use std::collections::BTreeMap;

use serde_json::json;
use waybill_compat_tests::client::{Client, Headers};
use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Network;
use waybill_compat_tests::records::{self, Read, Record};
use waybill_compat_tests::wire::{codecs, fetch_batches};

use crate::door::Door;

/// Kafka's names, at the numbers that stand in a batch's attributes.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: i32 = 3;

pub fn every_codec_crosses_byte_for_byte(client: &Client, network: &Network<'_>) {
    let records = all_kinds(client);
    for (number, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("{}-{codec}", client.name);
        create_topic(network.kafka("acme"), &topic, PARTITIONS, &[]).expect("a new topic");
        let idempotent = codec == "none" && !client.cannot.idempotence;
        produce(client, &Door::plain(network, "acme"), &topic, codec, idempotent, &records);
        assert_written_with(u8::try_from(number).expect("a few codecs"), network, &topic);
        let read = consume(client, &Door::plain(network, "globex"), &topic, records.len());
        let sent: Vec<Record> = records.iter().map(|record| as_read_by(client, record)).collect();
        assert_same(&read, &sent, &format!("{topic} at the other organisation"));
    }
}

/// A record as a client reads it that takes nothing for null.
fn as_read_by(client: &Client, record: &Record) -> Record {
    if !client.cannot.empties {
        return record.clone();
    }
    let seen = |bytes: &Option<Vec<u8>>| bytes.clone().filter(|bytes| !bytes.is_empty());
    let headers = record.headers.iter().map(|(name, value)| (name.clone(), seen(value))).collect();
    Record { key: seen(&record.key), value: seen(&record.value), headers, ..record.clone() }
}

/// Tells the client to produce, and checks where it says the records went.
pub fn produce(client: &Client, door: &Door, topic: &str, codec: &str, idempotent: bool, records: &[Record]) {
    let files = tempfile::tempdir().expect("a temporary directory");
    let (input, out) = (files.path().join("records"), files.path().join("out"));
    records::write(&input, records);
    client.task(&door.task(json!({
        "do": "produce", "topic": topic, "codec": codec, "idempotent": idempotent, "records": input, "out": out,
    })));
    let places = records::read_places(&out);
    assert_eq!(places.len(), records.len(), "{topic}: one place per record");
    let mut next = [0; PARTITIONS as usize];
    for (place, record) in places.into_iter().zip(records) {
        let next = &mut next[usize::try_from(record.partition).expect("a partition")];
        let offset = (!client.cannot.offsets).then_some(*next);
        assert_eq!(place, (record.partition, offset), "{topic}: where a record went");
        *next += 1;
    }
}

/// Tells the client to read `count` records of the topic.
pub fn consume(client: &Client, door: &Door, topic: &str, count: usize) -> Vec<Read> {
    let files = tempfile::tempdir().expect("a temporary directory");
    let out = files.path().join("out");
    client.task(&door.task(json!({
        "do": "consume", "topic": topic, "partitions": PARTITIONS, "count": count, "out": out,
    })));
    records::read(&out)
}

/// What was read is what was sent: per partition the same records, in their order, at offsets without a gap.
pub fn assert_same(read: &[Read], sent: &[Record], what: &str) {
    assert_eq!(read.len(), sent.len(), "{what}: how many");
    for partition in 0..PARTITIONS {
        let read: Vec<&Read> = read.iter().filter(|read| read.record.partition == partition).collect();
        let sent: Vec<&Record> = sent.iter().filter(|sent| sent.partition == partition).collect();
        assert_eq!(read.len(), sent.len(), "{what}: how many in partition {partition}");
        for (offset, (read, sent)) in read.into_iter().zip(sent).enumerate() {
            assert_eq!(usize::try_from(read.offset), Ok(offset), "{what}: offsets of partition {partition}");
            assert!(
                read.record == *sent,
                "{what}: offset {offset} of partition {partition}\n{}",
                differences(&read.record, sent)
            );
        }
    }
}

/// Where two records differ; values are long.
fn differences(read: &Record, sent: &Record) -> String {
    let short = |bytes: &Option<Vec<u8>>| match bytes {
        None => "null".to_owned(),
        Some(bytes) => format!("{} bytes {:02x?}", bytes.len(), &bytes[..bytes.len().min(16)]),
    };
    let described = |record: &Record| {
        let (key, value) = (short(&record.key), short(&record.value));
        format!("key {key}, value {value}, headers {:?}, timestamp {}", record.headers, record.timestamp_ms)
    };
    format!("read {}\nsent {}", described(read), described(sent))
}

/// The batches on the ledger carry the codec that was asked for: a client that silently sends uncompressed is found here.
/// A client may leave a batch alone that compression would make larger.
fn assert_written_with(codec: u8, network: &Network<'_>, topic: &str) {
    for partition in 0..PARTITIONS {
        let batches = fetch_batches(network.kafka("acme"), topic, partition, 0).expect("the batches at the sender");
        let used = codecs(&batches);
        assert!(used.contains(&codec), "{topic}-{partition}: codecs {used:?}, expected {codec}");
        assert!(used.iter().all(|&found| found == codec || found == 0), "{topic}-{partition}: codecs {used:?}");
    }
}

/// One record of every kind in each partition.
fn all_kinds(client: &Client) -> Vec<Record> {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let every_byte: Vec<u8> = (0..=255).collect();
    let null_header = if client.cannot.null_headers { Some(&b""[..]) } else { None };
    let plain = |key: Option<&[u8]>, value: Option<&[u8]>| Record {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        ..Record::default()
    };
    let mut headers = vec![
        header("trace", Some(b"first")),
        header("other", Some(&every_byte)),
        header("trace", Some(b"second, of the same name")),
        header("empty", Some(b"")),
        header("null", null_header),
        header("größe", Some("ünïcode".as_bytes())),
    ];
    match client.cannot.headers {
        Headers::List => {}
        Headers::ByName => headers.swap(1, 2),
        Headers::Map => headers = BTreeMap::from_iter(headers).into_iter().collect(),
    }
    let kinds = [
        plain(Some(b"key"), Some(b"value")),
        plain(None, Some(b"no key")),
        plain(Some(b"no value"), None),
        plain(Some(b"an empty value"), Some(b"")),
        plain(Some(b""), Some(b"an empty key")),
        plain(Some(&every_byte), Some(&every_byte)),
        Record { headers, ..plain(Some("schlüssel".as_bytes()), Some(b"headers")) },
        // Long and regular, so that every codec makes it shorter.
        plain(Some(b"long"), Some("one waybill after the other; ".repeat(4_000).as_bytes())),
    ];
    (0..PARTITIONS)
        .flat_map(|partition| kinds.iter().cloned().map(move |kind| Record { partition, ..kind }))
        .zip(0..)
        // Timestamps that go backwards too: a producer may set them as it likes.
        .map(|(record, number)| Record { timestamp_ms: 1_700_000_000_000 + (number * 7_919 % 5_000), ..record })
        .collect()
}

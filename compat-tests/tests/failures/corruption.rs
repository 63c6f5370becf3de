//! One byte changed behind the system's back: never served, never believed, always named.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use waybill_compat_tests::http;
use waybill_compat_tests::librdkafka::{self, Read, Record, create_topic, owned, produce, read_all, texts};
use waybill_compat_tests::network::Data;
use waybill_compat_tests::wait::LIMIT;

fn flip(file: &Path, at: u64) {
    let opened = OpenOptions::new().read(true).write(true).open(file).expect("a file of the network");
    let mut byte = [0];
    opened.read_exact_at(&mut byte, at).expect("a byte");
    opened.write_all_at(&[byte[0] ^ 0x10], at).expect("a byte");
}

/// The one file that holds `marker`, and where.
fn find(files: &[PathBuf], marker: &[u8]) -> (PathBuf, u64) {
    let holds = |file: &PathBuf| {
        let bytes = fs::read(file).expect("a file of the network");
        let at = bytes.windows(marker.len()).position(|window| window == marker)?;
        Some((file.clone(), u64::try_from(at).expect("a position")))
    };
    files.iter().find_map(holds).expect("the payload lies in the outbox as it was sent")
}

#[test]
fn a_payload_corrupted_on_the_senders_disk_is_not_served_and_others_go_on() {
    corrupted_payload(0);
}

/// The same where the store has gone on to its next file since: another path through its start.
#[test]
fn a_payload_corrupted_in_a_full_segment_is_not_served_and_others_go_on() {
    corrupted_payload(80);
}

fn corrupted_payload(records_behind: usize) {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 3, &[]).is_ok());
    for (partition, text) in ["left alone", "flip me here", "left alone too"].into_iter().enumerate() {
        let partition = i32::try_from(partition).expect("small");
        let record = Record { partition, value: Some(text.as_bytes().to_vec()), ..Record::default() };
        produce(network.kafka("acme"), "orders", &[], &[record]);
    }
    assert!(create_topic(network.kafka("acme"), "bulk", 1, &[]).is_ok());
    let bulk = Record { value: Some(vec![b'.'; 900_000]), ..Record::default() };
    produce(network.kafka("acme"), "bulk", &[], &vec![bulk; records_behind]);
    assert_eq!(read_all(network.kafka("globex"), "orders", &[0, 1, 2], 3).len(), 3);
    network.terminate();
    let (file, at) = find(&data.files("acme", "outbox"), b"flip me here");
    flip(&file, at + 3);
    // The receiver's own copy was good; without it, it must ask the sender.
    data.delete("globex", "inbox");

    let network = data.start();
    // More is written behind it, so that all partitions move.
    for partition in 0..3 {
        let record = Record { partition, value: Some(b"later".to_vec()), ..Record::default() };
        produce(network.kafka("acme"), "orders", &[], &[record]);
    }
    for organisation in ["globex", "acme"] {
        let consumer = librdkafka::reader(network.kafka(organisation), "orders", &[0, 1, 2]);
        let of = |read: &[Read], partition| read.iter().filter(|read| read.record.partition == partition).count();
        let read = until(&consumer, |read| of(read, 0) == 2 && of(read, 2) == 2);
        // Long enough for many retries: the bad partition stands still, before the bad record.
        let more = for_some_time(&consumer, Duration::from_secs(5));
        let all = [read, more].concat();
        assert_eq!(of(&all, 1), 0, "{organisation} was given {:?}", texts(&all));
        assert_eq!(all.len(), 4, "{organisation}: {:?}", texts(&all));
    }
    let counted = http::metric(network.http("acme"), "corrupt_payloads").expect("a counter of corrupt payloads");
    assert!(counted > 0.0, "the operators can see it");
    network.terminate();
}

fn until(consumer: &BaseConsumer, done: impl Fn(&[Read]) -> bool) -> Vec<Read> {
    let (mut read, started) = (Vec::new(), Instant::now());
    while !done(&read) {
        assert!(started.elapsed() < LIMIT, "only {:?} came", texts(&read));
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            read.push(owned(&message));
        }
    }
    read
}

fn for_some_time(consumer: &BaseConsumer, time: Duration) -> Vec<Read> {
    let (mut read, started) = (Vec::new(), Instant::now());
    while started.elapsed() < time {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            read.push(owned(&message));
        }
    }
    read
}

#[test]
fn a_byte_flipped_in_the_middle_of_a_journal_stops_the_start() {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 1, &[]).is_ok());
    let record = |number: usize| Record { value: Some(number.to_string().into_bytes()), ..Record::default() };
    for number in 0..20 {
        produce(network.kafka("acme"), "orders", &[], &[record(number)]);
    }
    network.terminate();

    let segment = data.files("acme", "journal").into_iter().next().expect("a journal segment");
    let bytes = fs::read(&segment).expect("the segment");
    // Segments are preallocated: the written part ends at the last byte that is not zero.
    let written = bytes.iter().rposition(|&byte| byte != 0).expect("a written segment");
    // Zeros may be padding, which means nothing.
    let middle = (written / 2..written).find(|&at| bytes[at] != 0).expect("a byte that means something");
    let middle = u64::try_from(middle).expect("a position");
    flip(&segment, middle);
    let (status, said) = data.start_refused();
    assert_eq!(status.code(), Some(1), "{said}");
    let name = segment.file_name().and_then(|name| name.to_str()).expect("a plain name");
    let sentence = said.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in: {said}"));
    assert!(sentence.contains("offset") || sentence.contains("byte"), "the place is named: {sentence}");

    // The same byte put back: nothing was changed by the refused start.
    flip(&segment, middle);
    let network = data.start();
    assert_eq!(read_all(network.kafka("globex"), "orders", &[0], 20).len(), 20);
    network.terminate();
}

#[test]
fn a_torn_tail_is_cut_and_the_network_goes_on() {
    let data = Data::new();
    let network = data.start();
    assert!(create_topic(network.kafka("acme"), "orders", 1, &[]).is_ok());
    let record = Record { value: Some(b"one".to_vec()), ..Record::default() };
    produce(network.kafka("acme"), "orders", &[], std::slice::from_ref(&record));
    network.kill();
    // The beginning of a record, as a power cut leaves it, behind the last whole one.
    for organisation in ["acme", "globex"] {
        let segment = data.files(organisation, "journal").into_iter().next().expect("a journal segment");
        let bytes = fs::read(&segment).expect("the segment");
        let last = bytes.windows(4).rposition(|window| window == b"WBJR").expect("a record");
        let length = u32::from_le_bytes(bytes[last + 32..last + 36].try_into().expect("four bytes"));
        let end = (last + 48 + usize::try_from(length).expect("a length")).next_multiple_of(8);
        let opened = OpenOptions::new().write(true).open(&segment).expect("the segment");
        let torn = [&bytes[last..last + 40], &[0x5a; 20]].concat();
        opened.write_all_at(&torn, u64::try_from(end).expect("a position")).expect("room or growth");
    }
    let network = data.start();
    produce(network.kafka("acme"), "orders", &[], &[record]);
    assert_eq!(texts(&read_all(network.kafka("globex"), "orders", &[0], 2)), ["one", "one"]);
    network.terminate();
}

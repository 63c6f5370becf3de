//! Debian's kcat in the matrix. Its language is the command line, so its programs are these: one call per record, one to
//! read them all.
//!
//! What it cannot express: timestamps of its own, keys and headers with bytes that no argument can hold.

use std::fs;
use std::path::Path;

use waybill_compat_tests::kcat::{kcat, try_kcat};
use waybill_compat_tests::librdkafka::{committed, create_topic};
use waybill_compat_tests::network::Network;
use waybill_compat_tests::records::{Read, Record};
use waybill_compat_tests::wait::{LIMIT, eventually};
use waybill_compat_tests::wire::{codecs, fetch_batches};

use crate::round_trip::CODECS;
use crate::security::{USERS, WAYS};

/// The name of the client in the results.
pub const NAME: &str = "kcat";

type Story = fn(&Network<'_>);

/// What kcat is asked to do.
pub const STORIES: [(&str, Story); 5] = [
    ("every_codec_crosses_byte_for_byte", every_codec_crosses_byte_for_byte),
    ("records_of_10_mb_cross", records_of_10_mb_cross),
    ("two_members_share_and_one_takes_over", two_members_share_and_one_takes_over),
    ("metadata_and_offsets_are_told", metadata_and_offsets_are_told),
    ("log_in_and_tls_let_users_in_and_nobody_else", log_in_and_tls_let_users_in_and_nobody_else),
];

fn every_codec_crosses_byte_for_byte(network: &Network<'_>) {
    let files = tempfile::tempdir().expect("a temporary directory");
    for (number, codec) in (0..).zip(CODECS) {
        let topic = format!("kcat-{codec}");
        create_topic(network.kafka("acme"), &topic, 1, &[]).expect("a new topic");
        let sent = all_kinds();
        for record in &sent {
            produce(network.kafka("acme"), &topic, codec, record, files.path());
        }
        let used = codecs(&fetch_batches(network.kafka("acme"), &topic, 0, 0).expect("the batches at the sender"));
        assert!(used.contains(&number), "{codec} was asked for, and the batches carry {used:?}");
        let read = consume(network.kafka("globex"), &topic, sent.len());
        for (read, sent) in read.iter().zip(&sent) {
            assert_eq!(Record { timestamp_ms: 0, ..read.record.clone() }, *sent, "{topic}, offset {}", read.offset);
        }
        let offsets: Vec<i64> = read.iter().map(|read| read.offset).collect();
        assert_eq!(offsets, (0..).take(sent.len()).collect::<Vec<i64>>(), "{topic}");
        let at_sender = consume(network.kafka("acme"), &topic, sent.len());
        assert!(at_sender == read, "{topic}: both organisations see the same, timestamps too");
    }
}

fn records_of_10_mb_cross(network: &Network<'_>) {
    let files = tempfile::tempdir().expect("a temporary directory");
    create_topic(network.kafka("acme"), "kcat-large", 1, &[("max.message.bytes", "12000000")]).expect("a new topic");
    // Each number in decimal: no two places are alike.
    let value: Vec<u8> = (0_u32..).flat_map(|number| number.to_string().into_bytes()).take(10_000_000).collect();
    let sent = plain(Some("large"), Some(&value));
    produce(network.kafka("acme"), "kcat-large", "none", &sent, files.path());
    let read = consume(network.kafka("globex"), "kcat-large", 1);
    assert!(read[0].record.value == sent.value, "10,000,000 bytes came back as others");
}

/// Two members of a group that live as long as they are not told to stop. kcat says on standard error what it is assigned.
fn two_members_share_and_one_takes_over(network: &Network<'_>) {
    let (acme, globex, topic) = (network.kafka("acme"), network.kafka("globex"), "kcat-shared");
    create_topic(acme, topic, 4, &[]).expect("a new topic");
    let produce = |partition: &str, value: &str| {
        kcat(&["-b", acme, "-P", "-t", topic, "-p", partition], format!("{value}\n").as_bytes());
    };
    for partition in ["0", "1", "2", "3"] {
        produce(partition, "early");
    }
    let files = tempfile::tempdir().expect("a temporary directory");
    let first = Member::start(globex, topic, &files.path().join("first"));
    eventually("the first member reads everything", LIMIT, || (first.read().len() == 4).then_some(()));
    let second = Member::start(globex, topic, &files.path().join("second"));
    eventually("both have partitions", LIMIT, || {
        (first.assigned().len() == 2 && second.assigned().len() == 2).then_some(())
    });
    for partition in ["0", "1", "2", "3"] {
        produce(partition, "shared");
    }
    eventually("both read", LIMIT, || (first.read().len() + second.read().len() == 8).then_some(()));
    assert_eq!((first.read().len(), second.read().len()), (6, 2), "each its own");
    second.stop();
    eventually("the first takes over", LIMIT, || (first.assigned().len() == 4).then_some(()));
    for partition in ["0", "1", "2", "3"] {
        produce(partition, "late");
    }
    eventually("the first reads the rest", LIMIT, || (first.read().len() == 10).then_some(()));
    first.stop();
    assert_eq!(committed(globex, "kcat-members", topic, 4), [Some(3); 4], "what both have committed");
}

fn metadata_and_offsets_are_told(network: &Network<'_>) {
    let acme = network.kafka("acme");
    create_topic(acme, "kcat-told", 3, &[]).expect("a new topic");
    kcat(&["-b", acme, "-P", "-t", "kcat-told", "-p", "1"], b"one\ntwo\n");
    let listing = kcat(&["-b", acme, "-L", "-t", "kcat-told"], b"").text();
    assert!(listing.contains("topic \"kcat-told\" with 3 partitions"), "{listing}");
    assert!(listing.contains(&format!(" at {acme}")), "{listing}");
    let ask = ["-b", acme, "-Q", "-t", "kcat-told:1:-1", "-t", "kcat-told:1:-2", "-t", "kcat-told:1:0"];
    // Of several offsets asked for, kcat prints the last per partition: one call each.
    for (asked, offset) in [(ask[4], 2), (ask[6], 0), (ask[8], 0)] {
        let told = kcat(&["-b", acme, "-Q", "-t", asked], b"").text();
        assert!(told.contains(&format!("kcat-told [1] offset {offset}")), "{asked}: {told}");
    }
}

fn log_in_and_tls_let_users_in_and_nobody_else(network: &Network<'_>) {
    create_topic(network.kafka("acme"), "kcat-users", 1, &[]).expect("a new topic");
    let call = |organisation: &str, (protocol, mechanism): (&str, &str), (username, password): (&str, &str)| {
        let secured = network.secured(organisation);
        let option = |name: &str, value: &str| ["-X".to_owned(), format!("{name}={value}")];
        let mut call = vec!["-b".to_owned(), secured.listener(protocol).to_owned()];
        call.extend(option("security.protocol", protocol));
        call.extend(option("ssl.ca.location", secured.ca.to_str().expect("a plain path")));
        call.extend(option("sasl.mechanisms", mechanism));
        call.extend(option("sasl.username", username));
        call.extend(option("sasl.password", password));
        call
    };
    let run = |call: &[String], more: &[&str], stdin: &[u8]| {
        let call: Vec<&str> = call.iter().map(String::as_str).chain(more.iter().copied()).collect();
        try_kcat(&call, stdin)
    };
    let [(_, alice, her_password), (_, bob, his_password)] = USERS;
    let mut expected = String::new();
    for (protocol, mechanism) in WAYS {
        // The mechanism is not looked at where there is no log-in.
        let way = (protocol, mechanism.unwrap_or("PLAIN"));
        let line = format!("{protocol} {mechanism:?}\n");
        run(&call("acme", way, (alice, her_password)), &["-P", "-t", "kcat-users"], line.as_bytes())
            .expect_success("kcat -P");
        expected.push_str(&line);
        eventually("bob reads it", LIMIT, || {
            let read = run(
                &call("globex", way, (bob, his_password)),
                &["-C", "-t", "kcat-users", "-o", "beginning", "-e"],
                b"",
            );
            (read.text() == expected).then_some(())
        });
        if mechanism.is_some() {
            // Bob is a user of the other organisation.
            for guess in [(alice, "a guess"), (bob, his_password)] {
                let refused = run(&call("acme", way, guess), &["-L", "-m", "5"], b"");
                assert!(!refused.status.success(), "{way:?}: {guess:?} was let in");
                assert!(refused.stderr.contains("uthentication"), "{way:?}: {}", refused.stderr);
            }
        }
    }
}

/// A running `kcat -G`.
struct Member {
    child: std::process::Child,
    out: std::path::PathBuf,
}

impl Member {
    fn start(broker: &str, topic: &str, out: &Path) -> Self {
        let file = |extension| fs::File::create(out.with_extension(extension)).expect("a file");
        let settings = ["-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=200"];
        let mut command = waybill_compat_tests::kcat::command();
        command.args(["-b", broker, "-u", "-f", "%p:%o\n"]).args(settings).args(["-G", "kcat-members", topic]);
        let child = command.stdout(file("out")).stderr(file("err")).spawn().expect("kcat");
        Self { child, out: out.to_path_buf() }
    }

    /// Partition and offset of what it has read.
    fn read(&self) -> Vec<String> {
        let text = fs::read_to_string(self.out.with_extension("out")).expect("its output");
        text.lines().map(str::to_owned).collect()
    }

    /// The partitions that it was assigned last: `% Group g rebalanced (memberid m): assigned: t [0], t [1]`.
    fn assigned(&self) -> Vec<String> {
        let text = fs::read_to_string(self.out.with_extension("err")).expect("its output");
        let last = text.lines().rfind(|line| line.contains("rebalanced"));
        let partitions = last.and_then(|line| line.split_once("assigned: ")).map_or("", |(_, partitions)| partitions);
        partitions.split(", ").filter(|partition| !partition.is_empty()).map(str::to_owned).collect()
    }

    /// As Ctrl-C does: it commits and leaves the group.
    fn stop(mut self) {
        waybill_compat_tests::process::interrupt(&self.child);
        let ended = eventually("kcat's end", LIMIT, || self.child.try_wait().expect("a child of ours"));
        assert!(ended.success(), "kcat: {ended}");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One call of kcat for one record.
fn produce(broker: &str, topic: &str, codec: &str, record: &Record, files: &Path) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("what an argument can hold");
    let mut arguments: Vec<String> =
        ["-b", broker, "-P", "-t", topic, "-p", "0", "-z", codec, "-X", "message.max.bytes=20000000"]
            .map(String::from)
            .into();
    for (name, value) in &record.headers {
        let header = value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={}", text(value)));
        arguments.extend(["-H".into(), header]);
    }
    let file = files.join("value");
    let mut line = Vec::new();
    match (&record.key, &record.value) {
        (key, Some(value)) if !value.is_empty() => {
            // A file is one record, whatever is in it.
            fs::write(&file, value).expect("a file");
            arguments.extend(key.iter().flat_map(|key| ["-k".into(), text(key)]));
            arguments.push(file.to_str().expect("a plain path").into());
        }
        (key, value) => {
            // A line of key and nothing: an empty value, or with -Z none.
            arguments.push("-K:".into());
            arguments.extend(value.is_none().then(|| "-Z".into()));
            line = [key.as_deref().expect("a line has a key"), b":\n"].concat();
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    kcat(&arguments, &line);
}

/// Everything in partition 0, by one call of kcat that says how long each part is.
fn consume(broker: &str, topic: &str, count: usize) -> Vec<Read> {
    let limit = count.to_string();
    let settings = ["-X", "fetch.message.max.bytes=20000000", "-X", "receive.message.max.bytes=100000000"];
    let format = ["-f", "%o %T %K %S %k%s%h\n"];
    let call =
        [&["-b", broker, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-q", "-c", &limit][..], &settings, &format];
    let call = call.concat();
    // A node of the other organisation hears of a new topic a moment later.
    let printed = eventually(&format!("{count} records of {topic}"), LIMIT, || {
        let read = try_kcat(&call, b"");
        read.status.success().then_some(read.stdout)
    });
    let (mut rest, mut read) = (&printed[..], Vec::new());
    while !rest.is_empty() {
        read.push(parse(&mut rest));
    }
    read
}

fn parse(rest: &mut &[u8]) -> Read {
    let mut number = || -> i64 {
        let end = rest.iter().position(|&byte| byte == b' ').expect("a number and a space");
        let (number, behind) = rest.split_at(end);
        *rest = &behind[1..];
        std::str::from_utf8(number).expect("digits").parse().expect("a number")
    };
    let (offset, timestamp_ms, key, value) = (number(), number(), number(), number());
    // A length of -1 is null.
    let mut take = |length: i64| {
        let length = usize::try_from(length).ok()?;
        let (taken, behind) = rest.split_at(length);
        *rest = behind;
        Some(taken.to_vec())
    };
    let (key, value) = (take(key), take(value));
    let end = rest.iter().position(|&byte| byte == b'\n').expect("a line");
    let headers = String::from_utf8(rest[..end].to_vec()).expect("text");
    *rest = &rest[end + 1..];
    let header = |header: &str| {
        let (name, value) = header.split_once('=').expect("a name and a value");
        (name.to_owned(), (value != "NULL").then(|| value.as_bytes().to_vec()))
    };
    let headers = headers.split(',').filter(|header| !header.is_empty()).map(header).collect();
    Read { offset, record: Record { partition: 0, key, value, headers, timestamp_ms } }
}

fn plain(key: Option<&str>, value: Option<&[u8]>) -> Record {
    Record { key: key.map(|key| key.as_bytes().to_vec()), value: value.map(<[u8]>::to_vec), ..Record::default() }
}

fn all_kinds() -> Vec<Record> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(|value| value.as_bytes().to_vec()));
    vec![
        plain(Some("key"), Some(b"value")),
        plain(None, Some(b"no key")),
        plain(Some("no value"), None),
        plain(Some("an empty value"), Some(b"")),
        plain(Some("schlüssel"), Some(&every_byte)),
        Record {
            headers: vec![
                header("trace", Some("first")),
                header("other", Some("ünïcode")),
                header("trace", Some("second of the same name")),
                header("empty", Some("")),
                header("null", None),
            ],
            ..plain(Some("headers"), Some(b"headers"))
        },
        // Long and regular, so that every codec makes it shorter.
        plain(Some("long"), Some("one waybill after the other; ".repeat(4_000).as_bytes())),
    ]
}

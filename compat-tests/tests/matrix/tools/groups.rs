//! `kafka-consumer-groups` and `kafka-groups`.

use std::thread;

use waybill_compat_tests::librdkafka::{commit, committed, create_topic, produce};
use waybill_compat_tests::network::Network;
use waybill_compat_tests::records::Record;
use waybill_compat_tests::wait::{LIMIT, eventually};

use super::{Tools, rows};

pub fn shows_lag_members_and_state(tools: &Tools, network: &Network<'_>) {
    const GROUP: &str = "tools-watched";
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    create_topic(acme, GROUP, 2, &[]).expect("a new topic");
    produce(acme, GROUP, &[], &records(&[0, 0, 0, 1]));
    commit(globex, GROUP, GROUP, &[1, 1]);
    let groups = |options: &str| tools.run("kafka-consumer-groups", globex, options);
    let describe = |view: &str| groups(&format!("--describe --group {GROUP} {view}"));

    // A group without members: committed offsets, ends, and what lies between.
    let described = describe("--offsets");
    assert_eq!(
        rows(&described, &[GROUP]),
        [[GROUP, GROUP, "0", "1", "3", "2", "-", "-", "-"], [GROUP, GROUP, "1", "1", "1", "0", "-", "-", "-"],]
    );
    assert!(groups("--list").lines().any(|line| line == GROUP));
    assert_eq!(rows(&groups("--list --state"), &[GROUP]), [[GROUP, "Empty"]]);

    thread::scope(|scope| {
        let consume = format!("--topic {GROUP} --group {GROUP} --from-beginning --max-messages 3");
        let consumer = scope.spawn(move || tools.run("kafka-console-consumer", globex, &consume));
        // Two records lie behind the commit; for the third the consumer waits, as a member of its group.
        let members = eventually("the consumer is a member with both partitions", LIMIT, || {
            // Until it has joined, the tool says on standard error that there is none.
            let members = describe("--members --verbose");
            members.contains(&format!("{GROUP}:0,1")).then_some(members)
        });
        let member = &rows(&members, &[GROUP])[0];
        assert!(member[1].starts_with("console-consumer-"), "the consumer's id: {members}");
        assert_eq!(member[2..5], ["/127.0.0.1", "console-consumer", "2"], "{members}");
        let state = describe("--state");
        // The coordinator's address and its node's id are two words.
        assert_eq!(rows(&state, &[GROUP]), [[GROUP, globex, "(2)", "range", "Stable", "1"]], "{state}");
        assert_eq!(rows(&groups("--list --state Stable"), &[GROUP]), [[GROUP, "Stable"]]);
        let owners = describe("");
        assert!(rows(&owners, &[GROUP]).iter().all(|row| row[6] == member[1] && row[7] == "/127.0.0.1"), "{owners}");

        // Positions of a group that has members are not to be moved by others.
        let reset = format!("--group {GROUP} --topic {GROUP} --reset-offsets --to-earliest --execute");
        let refused = tools.try_run("kafka-consumer-groups", globex, &reset, "");
        let said = refused.text() + &refused.stderr;
        assert!(said.contains("current state is Stable"), "{said}");
        produce(acme, GROUP, &[], &records(&[1]));
        consumer.join().expect("the consumer ends after three records");
    });
    let emptied = describe("--state");
    assert_eq!(rows(&emptied, &[GROUP])[0][3..], ["-", "Empty", "0"], "it has left: {emptied}");
    let described = describe("");
    assert!(rows(&described, &[GROUP]).iter().all(|row| row[5] == "0"), "nothing is left to read: {described}");
    assert_eq!(rows(&tools.run("kafka-groups", globex, "--list"), &[GROUP]), [[GROUP, "Classic", "consumer"]]);
}

pub fn resets_and_deletes(tools: &Tools, network: &Network<'_>) {
    const GROUP: &str = "tools-reset";
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    create_topic(acme, GROUP, 2, &[]).expect("a new topic");
    produce(acme, GROUP, &[], &records(&[0, 0, 0, 0, 1, 1]));
    commit(globex, GROUP, GROUP, &[4, 2]);
    let groups = |options: &str| tools.run("kafka-consumer-groups", globex, &format!("--group {GROUP} {options}"));
    let positions = || committed(globex, GROUP, GROUP, 2);

    let rehearsed = groups(&format!("--reset-offsets --topic {GROUP} --to-earliest --dry-run"));
    assert_eq!(rows(&rehearsed, &[GROUP]).iter().map(|row| row[3]).collect::<Vec<_>>(), ["0", "0"], "{rehearsed}");
    assert_eq!(positions(), [Some(4), Some(2)], "a rehearsal changes nothing");
    for (reset, offsets) in [
        (format!("--topic {GROUP} --to-earliest"), [0, 0]),
        (format!("--topic {GROUP} --to-latest"), [4, 2]),
        (format!("--topic {GROUP}:0 --to-offset 3"), [3, 2]),
        ("--all-topics --shift-by -1".to_owned(), [2, 1]),
        // The third record's timestamp; nothing in partition 1 is older than its first record.
        (format!("--topic {GROUP} --to-datetime 2023-11-14T22:13:20.002"), [2, 0]),
    ] {
        let told = groups(&format!("--reset-offsets {reset} --execute"));
        for row in rows(&told, &[GROUP]) {
            let partition: usize = row[2].parse().expect("a partition");
            assert_eq!(row[3], offsets[partition].to_string(), "{reset}: {told}");
        }
        assert_eq!(positions(), offsets.map(Some), "{reset}");
    }
    let read = format!("--topic {GROUP} --group {GROUP} --max-messages 4");
    assert_eq!(tools.run("kafka-console-consumer", globex, &read).lines().count(), 4, "consumers start there");

    let deleted = groups(&format!("--delete-offsets --topic {GROUP}:0"));
    assert_eq!(rows(&deleted, &[GROUP]), [[GROUP, "0", "Successful"]]);
    let described = groups("--describe");
    assert_eq!(rows(&described, &[GROUP]).iter().map(|row| row[2]).collect::<Vec<_>>(), ["1"], "{described}");
    assert_eq!(groups("--delete"), format!("Deletion of requested consumer groups ('{GROUP}') was successful.\n"));
    assert!(!tools.run("kafka-consumer-groups", globex, "--list").lines().any(|line| line == GROUP));
    let gone = tools.try_run("kafka-consumer-groups", globex, &format!("--group {GROUP} --delete"), "").text();
    assert!(gone.contains("GroupIdNotFoundException"), "{gone}");
}

/// A record for each of these partitions, a millisecond after the one before.
fn records(partitions: &[i32]) -> Vec<Record> {
    let of = |(number, &partition): (i64, &i32)| Record {
        partition,
        value: Some(number.to_string().into_bytes()),
        timestamp_ms: 1_700_000_000_000 + number,
        ..Record::default()
    };
    (0..).zip(partitions).map(of).collect()
}

//! Consumer groups of librdkafka: two members share, one leaves, commits are kept.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use waybill_compat_tests::librdkafka::{Read, Record, config, create_topic, group_consumer, owned, produce, read_all};
use waybill_compat_tests::network::{Data, Network};
use waybill_compat_tests::wait::LIMIT;

const PARTITIONS: [i32; 3] = [0, 1, 2];

fn numbered(numbers: std::ops::Range<usize>) -> Vec<Record> {
    let record = |number: usize| Record {
        partition: i32::try_from(number % 3).expect("a small number"),
        value: Some(number.to_string().into_bytes()),
        ..Record::default()
    };
    numbers.map(record).collect()
}

fn assigned(consumer: &BaseConsumer) -> BTreeSet<i32> {
    let assignment = consumer.assignment().expect("an assignment");
    assignment.elements().iter().map(|element| element.partition()).collect()
}

/// Polls all members by turns until `done`, collecting what they read.
fn poll_until(members: &[&BaseConsumer], what: &str, mut done: impl FnMut(&[Read]) -> bool) -> Vec<Read> {
    let (mut read, started) = (Vec::new(), Instant::now());
    while !done(&read) {
        assert!(started.elapsed() < LIMIT, "waited in vain: {what}; read {} records", read.len());
        for member in members {
            while let Some(Ok(message)) = member.poll(Duration::from_millis(20)) {
                read.push(owned(&message));
            }
        }
    }
    read
}

fn numbers(read: &[Read]) -> Vec<usize> {
    let number = |read: &Read| String::from_utf8_lossy(read.record.value.as_ref().unwrap()).parse().expect("a number");
    let mut numbers: Vec<usize> = read.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn two_members_share_a_topic_and_the_one_that_stays_takes_over() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    assert!(create_topic(acme, "parcels", 3, &[]).is_ok());
    produce(acme, "parcels", &[], &numbered(0..30));
    assert_eq!(read_all(globex, "parcels", &PARTITIONS, 30).len(), 30);

    let first = group_consumer(globex, "couriers", "parcels");
    let read = poll_until(&[&first], "the only member reads everything", |read| read.len() >= 30);
    assert_eq!(numbers(&read), (0..30).collect::<Vec<_>>());
    assert_eq!(assigned(&first), BTreeSet::from(PARTITIONS));
    first.commit_consumer_state(CommitMode::Sync).expect("a commit");

    // A second member joins: the three partitions are divided, none twice. Both read on from the commit.
    let second = group_consumer(globex, "couriers", "parcels");
    let both = [&first, &second];
    let early = poll_until(&both, "two members share three partitions", |_| {
        let (one, other) = (assigned(&first), assigned(&second));
        !one.is_empty() && !other.is_empty() && one.union(&other).count() == 3 && one.is_disjoint(&other)
    });
    assert_eq!(numbers(&early), Vec::<usize>::new(), "nothing committed is read twice");
    produce(acme, "parcels", &[], &numbered(30..60));
    let read = poll_until(&both, "both members read", |read| read.len() >= 30);
    assert_eq!(numbers(&read), (30..60).collect::<Vec<_>>());
    for member in both {
        member.commit_consumer_state(CommitMode::Sync).expect("a commit");
    }

    // One leaves (closing says so): the other gets all three, and what it reads begins behind both commits.
    drop(second);
    let early = poll_until(&[&first], "the remaining member takes over", |_| assigned(&first).len() == 3);
    assert_eq!(numbers(&early), Vec::<usize>::new(), "nothing committed is read twice");
    produce(acme, "parcels", &[], &numbered(60..90));
    let read = poll_until(&[&first], "the remaining member reads", |read| read.len() >= 30);
    assert_eq!(numbers(&read), (60..90).collect::<Vec<_>>());

    // Committed offsets are the group's: 20 per partition now, and nothing for a group that never was.
    let committed = |consumer: &BaseConsumer| -> Vec<Option<i64>> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range("parcels", 0, 2);
        let committed = consumer.committed_offsets(wanted, LIMIT).expect("committed offsets");
        PARTITIONS.iter().map(|&p| committed.find_partition("parcels", p).unwrap().offset().to_raw()).collect()
    };
    assert_eq!(committed(&first), [Some(20); 3]);
    let unknown = Some(-1001); // librdkafka's number for "no offset"
    assert_eq!(committed(&group_consumer(globex, "never-was", "parcels")), [unknown; 3]);
    network.terminate();
}

#[test]
fn offsets_and_their_notes_are_kept_for_a_group_without_members_and_through_a_restart() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    assert!(create_topic(acme, "parcels", 3, &[]).is_ok());
    produce(acme, "parcels", &[], &numbered(0..30));
    read_all(globex, "parcels", &PARTITIONS, 30);
    // As tools do that reset offsets: no member, generation -1.
    let offsets = |wanted: [i64; 3]| {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in PARTITIONS.into_iter().zip(wanted) {
            let mut element = list.add_partition("parcels", partition);
            element.set_offset(Offset::Offset(offset)).expect("an offset");
            element.set_metadata(format!("note of {partition}, ünïcode"));
        }
        list
    };
    let consumer: BaseConsumer = config(globex, &[("group.id", "tool")]).create().expect("a consumer");
    consumer.commit(&offsets([3, 7, 0]), CommitMode::Sync).expect("a commit");
    let told = |network: &Network<'_>| -> Vec<(Option<i64>, String)> {
        let tool: BaseConsumer = config(network.kafka("globex"), &[("group.id", "tool")]).create().expect("a consumer");
        let committed = tool.committed_offsets(offsets([0; 3]), LIMIT).expect("committed offsets");
        committed.elements().iter().map(|found| (found.offset().to_raw(), found.metadata().to_owned())).collect()
    };
    let expected: Vec<_> =
        [(0, 3), (1, 7), (2, 0)].map(|(p, offset)| (Some(offset), format!("note of {p}, ünïcode"))).to_vec();
    assert_eq!(told(&network), expected);
    network.kill();
    let network = data.start();
    assert_eq!(told(&network), expected);
    // A member that joins now begins where the tool has put it: 7 + 3 + 10 records.
    let member = group_consumer(network.kafka("globex"), "tool", "parcels");
    let read = poll_until(&[&member], "the member reads what is left", |read| read.len() >= 20);
    let first = |partition| read.iter().filter(|read| read.record.partition == partition).map(|read| read.offset).min();
    assert_eq!(PARTITIONS.map(first), [Some(3), Some(7), Some(0)]);
    drop(member);
    network.terminate();
}

//! A group: one member reads a topic, another joins, and leaves again.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{CommitMode, Consumer};
use serde_json::json;

use crate::Refusable;
use crate::records::{self, Producing, Reading};
use crate::task::{self, Group, Octets, PATIENCE, Record, Result};

pub fn run(config: &ClientConfig, produce_config: ClientConfig, job: &Group) -> Result<()> {
    let producer = records::producer(produce_config, "none", true)?;
    let produce = |numbers| produce(&producer, job, numbers);
    let all: Vec<i32> = (0..job.partitions).collect();

    produce(0..job.count)?;
    let first = Member::join(config, job)?;
    let mut read = vec![Vec::new(); 4];
    poll_until("the first member to read the first records", &mut [(&first, &mut read[0])], |read| {
        covers(read, 0..job.count)
    })?;
    first.commit()?;
    let first_partitions = first.partitions()?;

    let second = Member::join(config, job)?;
    let [_, of_first, of_second, _] = read.as_mut_slice() else { unreachable!("four lists") };
    let mut members = [(&first, of_first), (&second, of_second)];
    poll_until("the members to share the partitions", &mut members, |_| {
        let (mine, other) = (first.partitions().unwrap_or_default(), second.partitions().unwrap_or_default());
        let mut both = [mine.as_slice(), other.as_slice()].concat();
        both.sort_unstable();
        !mine.is_empty() && !other.is_empty() && both == all
    })?;
    let shared = [first.partitions()?, second.partitions()?];
    produce(job.count..2 * job.count)?;
    poll_until("both members to read the second records", &mut members, |read| covers(read, job.count..2 * job.count))?;
    first.commit()?;
    second.commit()?;

    // Dropping a consumer that has a group leaves the group.
    drop(second);
    let last = &mut read[3];
    poll_until("the first member to have all partitions again", &mut [(&first, &mut *last)], |_| {
        first.partitions().is_ok_and(|mine| mine == all)
    })?;
    let after = first.partitions()?;
    produce(2 * job.count..3 * job.count)?;
    poll_until("the first member to read the last records", &mut [(&first, &mut *last)], |read| {
        covers(read, 2 * job.count..3 * job.count)
    })?;
    first.commit()?;
    drop(first);
    task::write_answer(&job.out, &json!({"first": first_partitions, "shared": shared, "after": after, "read": read}))
}

struct Member(Reading);

impl Member {
    fn join(config: &ClientConfig, job: &Group) -> Result<Self> {
        let mut config = config.clone();
        config.set("group.id", &job.group);
        config.set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest");
        // Members are polled in turns by one thread; a short session makes a lost member visible soon.
        config.set("session.timeout.ms", "10000");
        let consumer: Reading = config.create_with_context(Refusable)?;
        consumer.subscribe(&[&job.topic])?;
        Ok(Self(consumer))
    }

    fn partitions(&self) -> Result<Vec<i32>> {
        let assignment = self.0.assignment()?;
        let mut partitions: Vec<i32> = assignment.elements().iter().map(|element| element.partition()).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// Commits what this member has been given so far.
    fn commit(&self) -> Result<()> {
        Ok(self.0.commit_consumer_state(CommitMode::Sync)?)
    }
}

/// Polls the members in turns, keeping the numbers that each is given, until the condition holds for all of the lists.
fn poll_until(what: &str, members: &mut [(&Member, &mut Vec<u64>)], done: impl Fn(&[&[u64]]) -> bool) -> Result<()> {
    let (mut progress, mut last_error) = (Instant::now(), None);
    loop {
        let lists: Vec<&[u64]> = members.iter().map(|(_, read)| read.as_slice()).collect();
        if done(&lists) {
            return Ok(());
        }
        for (member, read) in &mut *members {
            match member.0.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    let value = message.payload_view::<str>().ok_or("a record without a value")??;
                    read.push(value.parse()?);
                    progress = Instant::now();
                }
                Some(Err(error)) => last_error = Some(error),
                None => {}
            }
        }
        if progress.elapsed() > PATIENCE {
            let counts: Vec<usize> = members.iter().map(|(_, read)| read.len()).collect();
            return Err(format!("waited for {what}; read so far: {counts:?}; the last error: {last_error:?}").into());
        }
    }
}

/// Whether every one of the numbers is in one of the lists.
fn covers(lists: &[&[u64]], mut numbers: std::ops::Range<u64>) -> bool {
    numbers.all(|number| lists.iter().any(|list| list.contains(&number)))
}

fn produce(producer: &Producing, job: &Group, numbers: std::ops::Range<u64>) -> Result<()> {
    let partitions = u64::from(job.partitions.unsigned_abs());
    let records: Vec<Record> = numbers
        .map(|number| Record {
            partition: (number % partitions) as i32,
            offset: None,
            timestamp: 1_700_000_000_000,
            key: None,
            value: Some(Octets(number.to_string().into_bytes())),
            headers: Vec::new(),
        })
        .collect();
    records::send(producer, &job.topic, &records).map(drop)
}

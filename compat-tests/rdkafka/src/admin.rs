//! The admin calls, one after the other.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use crate::task::{self, Admin, PATIENCE, Result};

pub fn run(config: &ClientConfig, job: &Admin) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let calls = Calls { admin: config.create()?, config, job, runtime };
    let mut answer = Map::new();
    let mut tell = |key: &str, value: Value| answer.insert(key.to_owned(), value);

    tell("created", json!(calls.create()?.is_none()));
    tell("created_again", json!(calls.create()?));
    // A topic that was created is listed a moment later.
    tell("listed", json!(calls.becomes_listed(true)?));
    tell("partitions", json!(calls.partitions(&job.topic)?));
    tell("nodes", json!(calls.metadata()?.brokers().len()));
    tell("config", calls.described()?);
    let (earliest, latest): (Vec<i64>, Vec<i64>) = calls.watermarks()?.into_iter().unzip();
    tell("earliest", json!(earliest));
    tell("latest", json!(latest));
    let state = calls.group_states()?.into_iter().find(|(name, _)| name == &job.group).map(|(_, state)| state);
    tell("groups", json!(state.is_some()));
    tell("group_state", json!(state));
    tell("group_offsets", calls.group_offsets()?);
    tell("group_deleted", json!(calls.delete_group()?.is_none()));
    tell("deleted", json!(calls.delete()?.is_none()));
    tell("gone", json!(!calls.becomes_listed(false)?));
    task::write_answer(&job.out, &Value::Object(answer))
}

struct Calls<'job> {
    admin: AdminClient<DefaultClientContext>,
    config: &'job ClientConfig,
    job: &'job Admin,
    runtime: tokio::runtime::Runtime,
}

impl Calls<'_> {
    /// Kafka's error code, or none where the topic was created.
    fn create(&self) -> Result<Option<i32>> {
        let wanted = NewTopic::new(&self.job.topic, self.job.partitions, TopicReplication::Fixed(1));
        let wanted = self
            .job
            .config
            .iter()
            .fold(wanted, |wanted, (key, value)| wanted.set(key, value.as_str().unwrap_or_default()));
        let results = self.wait(self.admin.create_topics([&wanted], &options()))?;
        code(results)
    }

    fn delete(&self) -> Result<Option<i32>> {
        let results = self.wait(self.admin.delete_topics(&[&self.job.topic], &options()))?;
        code(results)
    }

    fn delete_group(&self) -> Result<Option<i32>> {
        let results = self.wait(self.admin.delete_groups(&[&self.job.group], &options()))?;
        code(results)
    }

    fn metadata(&self) -> Result<rdkafka::metadata::Metadata> {
        Ok(self.admin.inner().fetch_metadata(None, PATIENCE)?)
    }

    fn partitions(&self, topic: &str) -> Result<usize> {
        let metadata = self.metadata()?;
        let described = metadata.topics().iter().find(|described| described.name() == topic);
        Ok(described.ok_or("the topic is no longer listed")?.partitions().len())
    }

    /// Whether the topic is listed, once it is as wanted or nothing changes any more.
    fn becomes_listed(&self, wanted: bool) -> Result<bool> {
        let started = Instant::now();
        loop {
            let listed = self.metadata()?.topics().iter().any(|topic| topic.name() == self.job.topic);
            if listed == wanted || started.elapsed() > PATIENCE {
                return Ok(listed);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn described(&self) -> Result<Value> {
        let resource = ResourceSpecifier::Topic(&self.job.topic);
        let described = self.wait(self.admin.describe_configs([&resource], &options()))?;
        let described = described.into_iter().next().ok_or("no answer to DescribeConfigs")??;
        let values = self
            .job
            .config
            .keys()
            .map(|key| (key.clone(), json!(described.get(key).and_then(|entry| entry.value.clone()))));
        Ok(Value::Object(values.collect()))
    }

    fn watermarks(&self) -> Result<Vec<(i64, i64)>> {
        (0..self.job.partitions).map(|partition| self.watermarks_of(partition)).collect()
    }

    /// A partition that has just been created has no leader for a moment.
    fn watermarks_of(&self, partition: i32) -> Result<(i64, i64)> {
        let started = Instant::now();
        loop {
            match self.admin.inner().fetch_watermarks(&self.job.topic, partition, PATIENCE) {
                Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(50)),
                Ok(watermarks) => return Ok(watermarks),
            }
        }
    }

    fn group_states(&self) -> Result<Vec<(String, String)>> {
        let list = self.admin.inner().fetch_group_list(None, PATIENCE)?;
        Ok(list.groups().iter().map(|group| (group.name().to_owned(), group.state().to_owned())).collect())
    }

    /// What the group has committed. This client has no call for "whatever it has": each partition is asked for.
    fn group_offsets(&self) -> Result<Value> {
        let mut config = self.config.clone();
        let consumer: BaseConsumer = config.set("group.id", &self.job.group).create()?;
        let mut asked = TopicPartitionList::new();
        for topic in self.metadata()?.topics() {
            for partition in topic.partitions() {
                asked.add_partition(topic.name(), partition.id());
            }
        }
        let committed = consumer.committed_offsets(asked, PATIENCE)?;
        let mut offsets = Map::new();
        for element in committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition().to_string(), json!(offset));
            }
        }
        Ok(Value::Object(offsets))
    }

    fn wait<T>(&self, call: impl Future<Output = rdkafka::error::KafkaResult<T>>) -> Result<T> {
        Ok(self.runtime.block_on(call)?)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE / 2))
}

/// The error code of the only result.
fn code<T>(results: Vec<std::result::Result<T, (String, rdkafka::error::RDKafkaErrorCode)>>) -> Result<Option<i32>> {
    let result = results.into_iter().next().ok_or("an answer without a result")?;
    Ok(result.err().map(|(_, code)| code as i32))
}

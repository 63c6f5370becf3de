//! The admin calls that this client has, one after the other.

use std::time::{Duration, Instant};

use rskafka::client::Client;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::OffsetAt;
use rskafka::topic::Topic;
use serde_json::{Map, Value, json};

use crate::patiently;
use crate::records::partition_client;
use crate::task::{self, Admin, PATIENCE, Result};

const TIMEOUT_MS: i32 = 30_000;

pub async fn run(client: &Client, job: &Admin) -> Result<()> {
    let controller = client.controller_client()?;
    let create = || controller.create_topic(&job.topic, job.partitions, 1, TIMEOUT_MS);
    let mut answer = Map::new();
    let mut tell = |key: &str, value: Value| answer.insert(key.to_owned(), value);

    patiently("create the topic", create()).await?;
    tell("created", json!(true));
    tell("created_again", json!(code(tokio::time::timeout(PATIENCE, create()).await?)?));
    // A topic that was created is listed a moment later.
    let listed = becomes_listed(client, &job.topic, true).await?;
    tell("listed", json!(listed.is_some()));
    tell("partitions", json!(listed.map(|topic| topic.partitions.len())));
    let (mut earliest, mut latest) = (Vec::new(), Vec::new());
    for partition in 0..job.partitions {
        let partition = partition_client(client, &job.topic, partition).await?;
        earliest.push(patiently("ask for the earliest offset", partition.get_offset(OffsetAt::Earliest)).await?);
        latest.push(patiently("ask for the latest offset", partition.get_offset(OffsetAt::Latest)).await?);
    }
    tell("earliest", json!(earliest));
    tell("latest", json!(latest));
    patiently("delete the topic", controller.delete_topic(&job.topic, TIMEOUT_MS)).await?;
    tell("deleted", json!(true));
    tell("gone", json!(becomes_listed(client, &job.topic, false).await?.is_none()));
    task::write_answer(&job.out, &Value::Object(answer))
}

/// The topic as listed, once it is (or is not) as wanted, or nothing changes any more.
async fn becomes_listed(client: &Client, topic: &str, wanted: bool) -> Result<Option<Topic>> {
    let started = Instant::now();
    loop {
        let topics = patiently("list the topics", client.list_topics()).await?;
        let listed = topics.into_iter().find(|listed| listed.name == topic);
        if listed.is_some() == wanted || started.elapsed() > PATIENCE {
            return Ok(listed);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Kafka's error code. This client names its errors and hides their numbers.
fn code(result: std::result::Result<(), Error>) -> Result<i16> {
    match result {
        Ok(()) => Ok(0),
        Err(Error::ServerError { protocol_error: ProtocolError::TopicAlreadyExists, .. }) => Ok(36),
        Err(error) => Err(error.into()),
    }
}

//! Topics come and go by transactions on the system ledger, and are there when this node's replicas have started.

pub mod settings;

use crate::broker::Broker;
use crate::error::Refusal;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waybill_ledger::contract::{SystemState, Topic, TopicNameError, check_topic_name};
use waybill_types::transaction::{AddPartitions, CreateTopic, SystemChange};
use waybill_types::{LedgerId, NodeId, Outcome, Rejection, TopicId, Transaction};

/// The most partitions that one request may ask for: each is a cluster of its own.
pub const PARTITIONS_MAX: i32 = 10_000;

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// -1 for the default.
    pub partitions: i32,
    /// -1 for the default; a smaller one than the default gets the default (decision 13).
    pub replication_factor: i16,
    /// Kafka's topic settings.
    pub settings: Vec<(String, String)>,
}

/// Why a topic cannot be had, with a reason for people where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For Kafka's code.
    pub refusal: Refusal,
    /// For people.
    pub reason: Option<String>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure { refusal, reason: None }
    }
}

impl Failure {
    fn new(refusal: Refusal, reason: impl ToString) -> Self {
        Failure { refusal, reason: Some(reason.to_string()) }
    }
}

impl NewTopic {
    /// With the defaults.
    pub fn named(name: &str) -> Self {
        NewTopic { name: name.to_string(), partitions: -1, replication_factor: -1, settings: Vec::new() }
    }
}

/// Checks a name as Kafka does.
pub fn check_name(name: &str) -> Result<(), Failure> {
    check_topic_name(name).map_err(|error: TopicNameError| Failure::new(Refusal::InvalidTopic, error))
}

/// What would be ordered for this topic: checked, placed, with a fresh id.
pub fn plan(broker: &Broker, new: &NewTopic) -> Result<CreateTopic, Failure> {
    check_name(&new.name)?;
    if broker.connector.is_none() {
        // It could not be written to, and nobody else could have the name.
        let reason = format!("{} has no connector: it only witnesses, and owns no topics", broker.org);
        return Err(Failure::new(Refusal::TopicDenied, reason));
    }
    check_is_free(broker, &new.name)?;
    settings::check(new.settings.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))))
        .map_err(|reason| Failure::new(Refusal::InvalidConfig, reason))?;
    let partitions = if new.partitions == -1 { broker.settings.default_partitions } else { new.partitions };
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        let reason = format!("number of partitions must be 1 to {PARTITIONS_MAX}, or -1 for the default");
        return Err(Failure::new(Refusal::InvalidPartitions, reason));
    }
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| Failure::new(Refusal::Internal, "no randomness"))?;
    let placement = |partition: i32| place(broker, new.replication_factor, partition as usize);
    Ok(CreateTopic {
        name: new.name.clone(),
        id: TopicId(id),
        partitions: (0..partitions).map(placement).collect::<Result<_, _>>()?,
        readers: broker.settings.default_readers.iter().filter(|org| **org != broker.org).cloned().collect(),
        writers: Vec::new(),
        settings: new.settings.clone(),
    })
}

/// Kafka's metric names turn `.` into `_`, so names that differ only there collide.
fn check_is_free(broker: &Broker, name: &str) -> Result<(), Failure> {
    let system = broker.system();
    if system.topic_named(name).is_some() {
        return Err(Failure::new(Refusal::TopicExists, format!("topic '{name}' already exists")));
    }
    let flat = |name: &str| name.replace('.', "_");
    match system.topics().find(|topic| flat(&topic.name) == flat(name)) {
        Some(other) => {
            Err(Failure::new(Refusal::InvalidTopic, format!("topic '{name}' collides with topic '{}'", other.name)))
        }
        None => Ok(()),
    }
}

/// How many replicas a partition has: 3f + 1, or one alone.
const REPLICATION_FACTORS: [usize; 3] = [7, 4, 1];

/// The replicas of a partition that does not say how many, and the least it gets: 4, where there are so many.
pub fn default_replication_factor(broker: &Broker) -> usize {
    default_factor(one_node_of_each(&broker.system()).len())
}

fn default_factor(organisations: usize) -> usize {
    const DEFAULT: usize = 4;
    REPLICATION_FACTORS.into_iter().find(|factor| *factor <= organisations.min(DEFAULT)).unwrap_or(1)
}

fn one_node_of_each(system: &SystemState) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = Vec::new();
    let mut orgs = Vec::new();
    for member in system.nodes() {
        if !orgs.contains(&&member.org) {
            orgs.push(&member.org);
            nodes.push(member.node);
        }
    }
    nodes
}

/// One node of each organisation, 4 or 7 of them, or 1: as many as the network can give. The start moves with the
/// partition, so that primaries and replicas spread.
fn place(broker: &Broker, replication_factor: i16, partition: usize) -> Result<Vec<NodeId>, Failure> {
    let mut nodes = one_node_of_each(&broker.system());
    let default = default_factor(nodes.len());
    let wanted = if replication_factor == -1 { default } else { usize::try_from(replication_factor).unwrap_or(0) };
    if wanted == 0 {
        return Err(Failure::new(Refusal::InvalidReplicationFactor, "replication factor must be -1 or above 0"));
    }
    let at_least = |factor: &usize| *factor >= wanted;
    let factor = if wanted <= default { Some(default) } else { REPLICATION_FACTORS.into_iter().rev().find(at_least) };
    let Some(factor) = factor.filter(|factor| *factor <= nodes.len()) else {
        let reason = format!("replication factor {wanted}: the network has {} organisations with nodes", nodes.len());
        return Err(Failure::new(Refusal::InvalidReplicationFactor, reason));
    };
    let start = partition % nodes.len();
    nodes.rotate_left(start);
    nodes.truncate(factor);
    Ok(nodes)
}

/// Creates a topic and waits until its partitions answer here.
pub async fn create(broker: &Broker, new: NewTopic, timeout: Duration) -> Result<Arc<Topic>, Failure> {
    let deadline = Instant::now() + timeout;
    let planned = plan(broker, &new)?;
    let id = planned.id;
    match order(broker, SystemChange::CreateTopic(planned), deadline).await? {
        Outcome::Rejected(Rejection::TopicExists) => {
            return Err(Failure::new(Refusal::TopicExists, format!("topic '{}' already exists", new.name)));
        }
        Outcome::Rejected(Rejection::NotAuthorised) => return Err(Refusal::ClusterDenied.into()),
        Outcome::Rejected(_) => {
            let reason =
                "the system ledger's contract refused it: see the topic's settings and the limits of partitions";
            return Err(Failure::new(Refusal::InvalidConfig, reason));
        }
        _ => {}
    }
    let topic = broker.wait_for(deadline, |broker| broker.system().topic(id).cloned()).await?;
    wait_until_started(broker, &topic, deadline).await?;
    tracing::info!(topic = %topic.name, id = %topic.id, partitions = topic.partitions.len(), "topic created");
    Ok(topic)
}

/// The topic of this name with the defaults, created by us or by whoever asks for it at the same time.
pub async fn ensure(broker: &Broker, name: &str, timeout: Duration) -> Result<Arc<Topic>, Failure> {
    let deadline = Instant::now() + timeout;
    match create(broker, NewTopic::named(name), timeout).await {
        Err(Failure { refusal: Refusal::TopicExists, .. }) => {
            // Ordered before ours, and perhaps not known here yet.
            let topic = broker.wait_for(deadline, |broker| broker.system().topic_named(name).cloned()).await?;
            wait_until_started(broker, &topic, deadline).await?;
            Ok(topic)
        }
        created => created,
    }
}

async fn wait_until_started(broker: &Broker, topic: &Arc<Topic>, deadline: Instant) -> Result<(), Refusal> {
    for index in 0..topic.partitions.len() {
        let started = |broker: &Broker| {
            let partition = broker.partition_of(topic, index as i32).ok()?;
            (partition.replica.progress().borrow().executed > 0).then_some(())
        };
        broker.wait_for(deadline, started).await?;
    }
    Ok(())
}

/// Deletes a topic of ours and waits until this node knows.
pub async fn delete(broker: &Broker, topic: &Topic, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    if topic.owner != broker.org {
        // The contract would refuse it; the ledger need not hear of it.
        return Err(Failure::new(Refusal::TopicDenied, format!("the topic belongs to {}", topic.owner)));
    }
    match order(broker, SystemChange::DeleteTopic(topic.id), deadline).await? {
        Outcome::Rejected(Rejection::UnknownTopic) => return Err(Refusal::UnknownTopicOrPartition.into()),
        Outcome::Rejected(Rejection::NotAuthorised) => return Err(Refusal::TopicDenied.into()),
        Outcome::Rejected(_) => return Err(Refusal::InvalidRequest.into()),
        _ => {}
    }
    broker.wait_for(deadline, |broker| broker.system().topic(topic.id).is_none().then_some(())).await?;
    tracing::info!(topic = %topic.name, id = %topic.id, "topic deleted");
    Ok(())
}

/// What would be ordered so that a topic of ours has so many partitions in all.
pub fn plan_further(broker: &Broker, topic: &Topic, count: i32) -> Result<AddPartitions, Failure> {
    if topic.owner != broker.org {
        return Err(Failure::new(Refusal::TopicDenied, format!("the topic belongs to {}", topic.owner)));
    }
    let now = topic.partitions.len();
    let invalid = |reason: String| Failure::new(Refusal::InvalidPartitions, reason);
    let count = match usize::try_from(count) {
        Ok(count) if count > PARTITIONS_MAX as usize => {
            return Err(invalid(format!("a topic has at most {PARTITIONS_MAX} partitions")));
        }
        Ok(count) if count > now => count,
        Ok(count) if count == now => return Err(invalid(format!("Topic already has {now} partition(s)."))),
        _ => {
            let name = &topic.name;
            let reason =
                format!("The topic {name} currently has {now} partition(s); {count} would not be an increase.");
            return Err(invalid(reason));
        }
    };
    // As many replicas as its other partitions have.
    let factor = topic.partitions.first().map_or(-1, |replicas| replicas.len() as i16);
    let placements = (now..count).map(|partition| place(broker, factor, partition)).collect::<Result<Vec<_>, _>>()?;
    Ok(topic.with_further(placements))
}

/// Adds partitions to a topic of ours and waits until they answer here.
pub async fn enlarge(broker: &Broker, planned: AddPartitions, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let (id, count) = (planned.topic.id, planned.topic.partitions.len());
    match order(broker, SystemChange::AddPartitions(planned), deadline).await? {
        Outcome::Rejected(Rejection::UnknownTopic) => return Err(Refusal::UnknownTopicOrPartition.into()),
        Outcome::Rejected(Rejection::NotAuthorised) => return Err(Refusal::TopicDenied.into()),
        Outcome::Rejected(_) => {
            let reason = "the system ledger's contract refused it: the topic has changed meanwhile, or the \
                          organisation has too many partitions";
            return Err(Failure::new(Refusal::InvalidPartitions, reason));
        }
        _ => {}
    }
    let enlarged = |broker: &Broker| {
        let topic = broker.system().topic(id).cloned();
        topic.filter(|topic| topic.partitions.len() >= count)
    };
    let topic = broker.wait_for(deadline, enlarged).await?;
    wait_until_started(broker, &topic, deadline).await?;
    tracing::info!(topic = %topic.name, id = %topic.id, partitions = topic.partitions.len(), "partitions added");
    Ok(())
}

async fn order(broker: &Broker, change: SystemChange, deadline: Instant) -> Result<Outcome, Failure> {
    let unavailable = || Failure::new(Refusal::QuorumUnavailable, "the system ledger's cluster cannot be reached now");
    let replica = broker.consensus.replica(LedgerId::SYSTEM).ok_or_else(unavailable)?;
    let executed = replica.submit(Transaction::System(change)).map_err(|_| unavailable())?;
    match tokio::time::timeout_at(deadline, executed).await {
        Ok(Ok(executed)) => Ok(executed.outcome),
        Ok(Err(_)) => Err(unavailable()),
        Err(_) => Err(Failure::new(Refusal::RequestTimedOut, "the system ledger's cluster did not answer in time")),
    }
}

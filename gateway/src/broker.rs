//! One node's Kafka broker: its consensus, its connector, and what requests ask of them.

use crate::commits::Commits;
use crate::coordinator::{self, Coordinator};
use crate::error::Refusal;
use crate::evidence::{self, Ledgered, OwnLedgers};
use crate::group;
use crate::publish::Publisher;
use crate::security::{Listener, Users};
use dashmap::DashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use waybill_connector::{Connector, Who};
use waybill_consensus::node::{Node, NodeError, NodeParts};
use waybill_consensus::peers::Limits as LinkLimits;
use waybill_consensus::replica::ReplicaHandle;
use waybill_ledger::contract::{SystemState, Topic};
use waybill_ledger::genesis::Genesis;
use waybill_ledger::identity::{Directory, Identity};
use waybill_ledger::organisation::{Answer, Command};
use waybill_types::{Codec, LedgerId, NodeId, OrgId};

/// Producer ids are taken from the organisation's ledger so many at a time.
const PRODUCER_IDS_AT_ONCE: u32 = 100;
/// While blocks keep coming, certificates are made at most so often: each costs signatures at every replica, and a copy
/// into the global ledger. What comes alone is certified at once.
const CHECKPOINT_IDLE_MS: u64 = 100;
const ORGANISATION_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that runs for so long has caught up with what it acknowledged before: see [`Broker::is_settled`].
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// How a node's gateway behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What clients are told to connect to, by where they ask.
    pub listeners: Vec<Arc<Listener>>,
    /// How long a client may take for the TLS handshake and to log in.
    pub authentication_timeout: Duration,
    /// How long a client may send no request, or take nothing of an answer: Kafka's `connections.max.idle.ms`.
    pub connection_idle_max: Duration,
    /// Whether a topic that a client asks for is created (Kafka's `auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Kafka's `num.partitions`.
    pub default_partitions: i32,
    /// Who may read new topics of this organisation besides itself. Nobody, unless said otherwise.
    pub default_readers: Vec<OrgId>,
    /// Client connections.
    pub connections_max: usize,
    /// Bytes of batches that are received and not yet stored; beyond it clients wait.
    pub batches_in_flight_bytes: usize,
    /// The limits of consumer groups.
    pub groups: group::Limits,
}

/// What a node starts from.
pub struct BrokerParts {
    /// The node's keys.
    pub identity: Arc<Identity>,
    /// The network's beginning.
    pub genesis: Arc<Genesis>,
    /// Who is who, and where.
    pub directory: Arc<Directory>,
    /// The node's own directory.
    pub dir: PathBuf,
    /// Where other nodes dial in.
    pub peer_listener: TcpListener,
    /// Where other organisations pull; none for a witness.
    pub connector_listener: Option<TcpListener>,
    /// How the gateway behaves.
    pub settings: Settings,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Its consensus.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Its connector's stores.
    #[error("the connector's stores: {0}")]
    Connector(#[from] waybill_connector::store::disk::OpenError),
    /// A file of its directory.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running node.
pub struct Broker {
    /// The organisation.
    pub org: OrgId,
    /// The node, and its Kafka broker id.
    pub node: NodeId,
    /// How it behaves.
    pub settings: Settings,
    /// Replicas, ledgers, Raft groups.
    pub consensus: Node,
    /// Payloads; none for a witness.
    pub connector: Option<Arc<Connector>>,
    /// Consumer groups.
    pub groups: Coordinator,
    /// Commits on their way to the ledgers.
    pub commits: Arc<Commits>,
    /// Who may log in.
    pub users: Arc<Users>,
    publishers: DashMap<LedgerId, Publisher>,
    batch_room: Arc<Semaphore>,
    producer_ids: Mutex<Range<i64>>,
    started: Instant,
    stop: watch::Sender<bool>,
    tasks: parking_lot::Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// A partition that this node serves.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its topic.
    pub topic: Arc<Topic>,
    /// Our replica of it.
    pub replica: ReplicaHandle,
}

impl Partition {
    /// Kafka's leader epoch: the partition's epoch, not the view (decision 9).
    pub fn leader_epoch(&self) -> i32 {
        self.replica.membership.epoch as i32
    }

    /// Checks the epoch that a client believes in (KIP-320); -1 is "none".
    pub fn check_leader_epoch(&self, claimed: i32) -> Result<(), Refusal> {
        match claimed.cmp(&self.leader_epoch()) {
            _ if claimed < 0 => Ok(()),
            std::cmp::Ordering::Less => Err(Refusal::FencedLeaderEpoch),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Refusal::UnknownLeaderEpoch),
        }
    }

    /// The configuration in force. A partition that is served has one: see [`Broker::partition_of`].
    pub fn config(&self) -> Result<Arc<waybill_types::transaction::Config>, Refusal> {
        self.replica.reader.config().ok_or(Refusal::UnknownTopicOrPartition)
    }
}

impl Broker {
    /// Starts the node: everything but its Kafka and HTTP ports.
    pub async fn start(parts: BrokerParts) -> Result<Arc<Self>, BrokerError> {
        let BrokerParts { identity, genesis, directory, dir, peer_listener, connector_listener, settings } = parts;
        let consensus = Node::start(NodeParts {
            identity: identity.clone(),
            genesis: genesis.clone(),
            directory: directory.clone(),
            dir: dir.clone(),
            listener: peer_listener,
            limits: LinkLimits::default(),
            timing: waybill_pbft::Timing { checkpoint_idle_ms: CHECKPOINT_IDLE_MS, ..waybill_pbft::Timing::default() },
        })
        .await?;
        let stop = watch::Sender::new(false);
        let mut tasks = Vec::new();
        let connector = match connector_listener {
            None => None,
            Some(listener) => {
                let who = Who { identity: identity.clone(), directory, network: genesis.network_id() };
                let sink = Arc::new(Ledgered(consensus.clone()));
                let connector = Connector::open(&dir, who, sink, waybill_connector::Options::default()).await?;
                connector.serve(listener, Arc::new(OwnLedgers(consensus.clone())));
                let announcing = evidence::announce_all(consensus.clone(), connector.clone(), stop.subscribe());
                tasks.push(tokio::spawn(announcing));
                Some(connector)
            }
        };
        tasks.push(tokio::spawn(coordinator::forget_deleted_topics(consensus.clone(), stop.subscribe())));
        let secret = group_key(&dir)?;
        let commits = Arc::new(Commits::new(&secret));
        let users = Arc::new(Users::new(consensus.organisation().clone(), &secret));
        tasks.push(tokio::spawn(commits.clone().drive(consensus.clone(), stop.subscribe())));
        Ok(Arc::new(Broker {
            org: identity.org.clone(),
            node: identity.node,
            groups: Coordinator::new(consensus.clone(), settings.groups),
            batch_room: Arc::new(Semaphore::new(settings.batches_in_flight_bytes)),
            settings,
            consensus,
            connector,
            commits,
            users,
            publishers: DashMap::new(),
            producer_ids: Mutex::new(0..0),
            started: Instant::now(),
            stop,
            tasks: parking_lot::Mutex::new(tasks),
        }))
    }

    /// Organisations, nodes and topics, as this node knows them.
    pub fn system(&self) -> Arc<SystemState> {
        self.consensus.global().system()
    }

    /// The partition of a topic, if this node serves it.
    pub fn partition(&self, topic: &str, index: i32) -> Result<Partition, Refusal> {
        let system = self.system();
        let topic = system.topic_named(topic).ok_or(Refusal::UnknownTopicOrPartition)?;
        self.partition_of(topic, index)
    }

    /// The partition of a topic, if this node serves it: its replica is here and the ledger has begun.
    pub fn partition_of(&self, topic: &Arc<Topic>, index: i32) -> Result<Partition, Refusal> {
        let unknown = Refusal::UnknownTopicOrPartition;
        let partition = u32::try_from(index).map_err(|_| unknown)?;
        if partition as usize >= topic.partitions.len() {
            return Err(unknown);
        }
        let replica = self.consensus.replica(LedgerId::new(topic.id, partition)).ok_or(Refusal::NotLeader)?;
        if replica.reader.config().is_none() {
            return Err(Refusal::NotLeader);
        }
        Ok(Partition { topic: topic.clone(), replica })
    }

    /// Whether the topic shows in this organisation's lists: it may read, write or owns it.
    pub fn may_see(&self, topic: &Topic) -> bool {
        topic.owner == self.org || topic.readers.contains(&self.org) || topic.writers.contains(&self.org)
    }

    /// Kafka's cluster id: the network's.
    pub fn cluster_id(&self) -> String {
        self.consensus.network().0.to_string()[..22].to_string()
    }

    /// Whether an offset beyond the high watermark is the client's mistake. A node that has just started may not have
    /// executed again what it acknowledged before (decision 9).
    pub fn is_settled(&self) -> bool {
        self.started.elapsed() > SETTLED_AFTER
    }

    /// The queue of a partition.
    pub fn publisher(&self, partition: &Partition) -> Result<Publisher, Refusal> {
        let connector = self.connector.as_ref().ok_or(Refusal::TopicDenied)?;
        let ledger = partition.replica.ledger;
        if let Some(publisher) = self.publishers.get(&ledger).filter(|publisher| publisher.is_open()) {
            return Ok(publisher.clone());
        }
        let start = || Publisher::start(connector.clone(), partition.replica.clone());
        let publisher = self.publishers.entry(ledger).or_insert_with(start).clone();
        Ok(publisher)
    }

    /// Waits for room for a batch in the node's memory.
    pub async fn room_for_batch(&self, bytes: u32) -> Result<OwnedSemaphorePermit, Refusal> {
        let bytes = (bytes as usize).clamp(1, self.settings.batches_in_flight_bytes) as u32;
        self.batch_room.clone().acquire_many_owned(bytes).await.map_err(|_| Refusal::Internal)
    }

    /// A fresh producer id.
    pub async fn next_producer_id(&self) -> Result<i64, Refusal> {
        let mut ids = self.producer_ids.lock().await;
        if let Some(id) = ids.next() {
            return Ok(id);
        }
        match self.write_organisation(Command::AllocateProducerIds(PRODUCER_IDS_AT_ONCE)).await? {
            Answer::ProducerIds(range) => {
                *ids = range.first..range.first + i64::from(range.count);
                ids.next().ok_or(Refusal::Internal)
            }
            other => {
                tracing::error!(answer = ?other, "the organisation's ledger gives no producer ids");
                Err(Refusal::CoordinatorUnavailable)
            }
        }
    }

    /// Orders a command on the organisation's own ledger.
    pub async fn write_organisation(&self, command: Command) -> Result<Answer, Refusal> {
        let answer = self.consensus.write_organisation(command.to_bytes(), ORGANISATION_TIMEOUT).await;
        let answer = answer.map_err(|error| {
            tracing::error!(%error, "the organisation's ledger does not answer");
            Refusal::CoordinatorUnavailable
        })?;
        Answer::from_bytes(&answer).map_err(|error| {
            tracing::error!(%error, "the organisation's ledger answers nonsense");
            Refusal::Internal
        })
    }

    /// Waits until `found` finds something, at each change of what this node knows.
    pub async fn wait_for<T>(&self, deadline: Instant, found: impl Fn(&Self) -> Option<T>) -> Result<T, Refusal> {
        /// Replicas start a moment after their topic is known, and no event tells: it is looked for.
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        loop {
            if let Some(found) = found(self) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(Refusal::RequestTimedOut);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether this node takes part: its system replica has executed, and the global ledger's group has a leader.
    pub fn is_ready(&self) -> bool {
        let system = self.consensus.replica(LedgerId::SYSTEM);
        let executed = system.is_none_or(|replica| replica.progress().borrow().executed > 0);
        let halted = self.consensus.replicas().iter().any(|replica| replica.progress().borrow().halted);
        executed && !halted && self.consensus.global_leader().is_some()
    }

    /// Stops everything; what was acknowledged is durable.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the node did not end well");
            }
        }
        if let Some(connector) = &self.connector {
            connector.shutdown().await;
        }
        self.consensus.shutdown().await;
    }
}

/// The secret under which this organisation's group names go on ledgers; made once.
fn group_key(dir: &std::path::Path) -> Result<Vec<u8>, BrokerError> {
    use ring::rand::{SecureRandom, SystemRandom};
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("keys").join("groups.key");
    let failed = |source| BrokerError::File { path: path.display().to_string(), source };
    match std::fs::read(&path) {
        Ok(key) if key.len() == 32 => return Ok(key),
        Ok(_) => return Err(failed(std::io::Error::other("the key has not 32 bytes"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut key = vec![0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| failed(std::io::Error::other("no randomness")))?;
    std::fs::create_dir_all(dir.join("keys")).map_err(failed)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(key)
}

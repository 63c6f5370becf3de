//! The contract of the system ledger: which topics there are, whose they are, and which nodes order them.
//!
//! Organisations and nodes are those of the genesis, as the first block's configuration names them.
//!
//! The same state is kept in two places, by the same code: by a replica of the system ledger, which executes
//! ([`Partition`](crate::partition::Partition)), and by every node's global ledger, which [replays](SystemState::replay)
//! what a quorum has certified.

use super::rights::{ORGANISATIONS_MAX, config_digest};
use super::sharded::Sharded;
use super::topics::{check_topic_name, collision_key};
use super::{Call, Settings, may_write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::codec_struct;
use waybill_types::digest::Hasher;
use waybill_types::membership::Member;
use waybill_types::transaction::{AddPartitions, Config, CreateTopic, SystemChange};
use waybill_types::{
    Body, ClusterId, Digest, Height, Leaf, LedgerId, Membership, NetworkId, NodeId, OrgId, Outcome, Rejection, TopicId,
    Transaction,
};

/// How many partitions one topic can have.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 10_000;
/// How many partitions all topics of one organisation can have together.
pub const PARTITIONS_PER_ORGANISATION_MAX: usize = 50_000;
/// How many bytes all topics of one organisation can take together, encoded: every node holds them in memory.
pub const TOPIC_BYTES_PER_ORGANISATION_MAX: usize = 32 << 20;
/// How many topics one organisation can have deleted: their ids are remembered, since an id used again would be the
/// same ledger.
pub const DELETED_TOPICS_PER_ORGANISATION_MAX: usize = 100_000;
/// How many replicas a partition can have.
pub const REPLICAS_MAX: usize = 10;
/// How many settings a topic can be given.
pub const SETTINGS_MAX: usize = 100;
/// The longest name and the longest value of a setting, in bytes.
pub const SETTING_BYTES_MAX: usize = 4096;

/// A topic as the system ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id: a name used again is another topic.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: OrgId,
    /// Who may read besides the owner.
    pub readers: Vec<OrgId>,
    /// Who may write besides the owner.
    pub writers: Vec<OrgId>,
    /// For each partition the nodes that run its replicas, in the order of their indices.
    pub partitions: Vec<Vec<NodeId>>,
    /// The Kafka topic settings that were given, as text.
    pub settings: Vec<(String, String)>,
    /// When it was created: the system block's time, in milliseconds since 1970.
    pub created_ms: u64,
    /// The system block that created it.
    pub created_height: Height,
}
codec_struct!(Topic { id, name, owner, readers, writers, partitions, settings, created_ms, created_height });

impl Topic {
    /// The ledgers of its partitions, in order.
    pub fn ledgers(&self) -> impl Iterator<Item = LedgerId> + '_ {
        (0..self.partitions.len()).map(|partition| LedgerId::new(self.id, partition as u32))
    }

    fn new(owner: OrgId, create: &CreateTopic, created_ms: u64, created_height: Height) -> Self {
        Topic {
            id: create.id,
            name: create.name.clone(),
            owner,
            readers: create.readers.clone(),
            writers: create.writers.clone(),
            partitions: create.partitions.clone(),
            settings: create.settings.clone(),
            created_ms,
            created_height,
        }
    }

    /// What has to be ordered so that it has these partitions, too.
    pub fn with_further(&self, placements: impl IntoIterator<Item = Vec<NodeId>>) -> AddPartitions {
        AddPartitions {
            topic: CreateTopic {
                name: self.name.clone(),
                id: self.id,
                partitions: self.partitions.iter().cloned().chain(placements).collect(),
                readers: self.readers.clone(),
                writers: self.writers.clone(),
                settings: self.settings.clone(),
            },
            created_ms: self.created_ms,
            created_height: self.created_height,
        }
    }
}

/// What a block of the system ledger has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemEvent {
    /// The topic exists from now on: its replicas start its partitions.
    TopicCreated(Arc<Topic>),
    /// The topic has further partitions from now on: their replicas start them.
    PartitionsAdded(Arc<Topic>),
    /// The topic is gone: its replicas stop its partitions.
    TopicDeleted(Arc<Topic>),
}

/// Organisations, nodes and topics. A clone shares everything with the original until one of them changes.
#[derive(Clone, Debug)]
pub struct SystemState {
    config: Arc<Config>,
    /// Derived from the configuration.
    network: Arc<Network>,
    topics: Arc<Topics>,
    /// The digest of the state, unless it has changed since it was computed.
    root: Option<Digest>,
}

#[derive(Debug)]
struct Network {
    config_digest: Digest,
    organisations: BTreeSet<OrgId>,
    organisations_with_nodes: usize,
    nodes: BTreeMap<NodeId, Member>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Topics {
    by_id: Sharded<TopicId, Living>,
    /// Derived: ids by [`collision_key`].
    by_name: Sharded<String, TopicId>,
    /// Whose they were.
    deleted: Sharded<TopicId, OrgId>,
    /// Derived: what limits are held against, so that nothing is counted over all topics.
    totals: BTreeMap<OrgId, Totals>,
}

/// A topic that is not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Living {
    topic: Arc<Topic>,
    /// Of its encoding: a topic can be large, and the state's root needs each one's again and again.
    digest: Digest,
    bytes: usize,
}

/// What one organisation has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    partitions: usize,
    bytes: usize,
    deleted: usize,
}

impl SystemState {
    /// The state after the first block's configuration.
    pub fn new(config: Arc<Config>) -> Self {
        SystemState { network: Arc::new(Network::new(&config)), config, topics: Arc::default(), root: None }
    }

    /// The system ledger's own configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Every organisation of the network, in ascending order.
    pub fn organisations(&self) -> impl Iterator<Item = &OrgId> {
        self.network.organisations.iter()
    }

    /// Every node of the network, with its key.
    pub fn nodes(&self) -> &[Member] {
        &self.config.origins
    }

    /// A node.
    pub fn node(&self, node: NodeId) -> Option<&Member> {
        self.network.nodes.get(&node)
    }

    /// Whose node this is.
    pub fn org_of(&self, node: NodeId) -> Option<&OrgId> {
        self.node(node).map(|member| &member.org)
    }

    /// All topics, in the order of their ids.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.by_id.iter().map(|(_, living)| &living.topic)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.by_id.len()
    }

    /// The topic with this id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.by_id.get(&id).map(|living| &living.topic)
    }

    /// The topic of this name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        let id = self.topics.by_name.get(&*collision_key(name))?;
        self.topic(*id).filter(|topic| topic.name == name)
    }

    /// The replicas of a partition.
    pub fn membership(&self, ledger: LedgerId) -> Option<Membership> {
        let placement = self.topic(ledger.topic)?.partitions.get(ledger.partition as usize)?;
        let members = placement.iter().map(|node| self.node(*node).cloned()).collect::<Option<Vec<_>>>()?;
        Some(Membership { epoch: 1, members })
    }

    /// The first body of a partition's ledger: every node computes the same.
    pub fn first_body(&self, ledger: LedgerId) -> Option<Body> {
        let topic = self.topic(ledger.topic).filter(|topic| (ledger.partition as usize) < topic.partitions.len())?;
        Some(first_body(topic, ledger.partition, self.nodes()))
    }

    /// The cluster that orders a partition.
    pub fn cluster(&self, network: NetworkId, ledger: LedgerId) -> Option<ClusterId> {
        let body = self.first_body(ledger)?.to_bytes();
        Some(ClusterId::new(network, ledger, Body::digest(&body)))
    }

    /// What the contract would say to this transaction; the state stays as it is.
    pub fn check(&self, call: &Call, transaction: &Transaction) -> Result<(), Rejection> {
        let Some(org) = self.org_of(call.origin) else { return Err(Rejection::NotAuthorised) };
        match transaction {
            Transaction::System(SystemChange::CreateTopic(create)) => self.check_create(org, create),
            Transaction::System(SystemChange::DeleteTopic(id)) => self.check_delete(org, *id),
            Transaction::System(SystemChange::AddPartitions(add)) => self.check_add(org, add),
            // Organisations and nodes are those of the genesis; no online key changes them.
            _ => Err(Rejection::Invalid),
        }
    }

    /// Takes over what a quorum has certified: the leaves of one block of the system ledger, in order. The first
    /// block's configuration makes the state, so a node starts with `None`.
    pub fn replay(state: &mut Option<SystemState>, leaves: &[Leaf]) -> Vec<SystemEvent> {
        let mut events = Vec::new();
        for leaf in leaves {
            match (state.as_mut(), &leaf.origin, &leaf.transaction, leaf.outcome) {
                (None, None, Transaction::Config(config), Outcome::Recorded) => {
                    *state = Some(SystemState::new(Arc::new(config.clone())));
                }
                (Some(state), Some((header, _)), Transaction::System(change), Outcome::Recorded) => {
                    let call =
                        Call { origin: header.origin, height: leaf.height, time_ms: leaf.time_ms, next_offset: 0 };
                    events.extend(state.change(&call, change));
                }
                _ => {}
            }
        }
        events
    }

    pub(super) fn execute(&mut self, call: &Call, transaction: &Transaction) -> (Outcome, Option<SystemEvent>) {
        if let Err(rejection) = self.check(call, transaction) {
            return (Outcome::Rejected(rejection), None);
        }
        let event = match transaction {
            Transaction::System(change) => self.change(call, change),
            _ => None,
        };
        (Outcome::Recorded, event)
    }

    /// The digest over the whole state: of the configuration, the topics and the deleted ids. Only what has changed is
    /// hashed again.
    pub(super) fn root(&mut self) -> Digest {
        if let Some(root) = self.root {
            return root;
        }
        let topics = Arc::make_mut(&mut self.topics);
        let mut root = Hasher::new(b"waybill-system-v1");
        root.update(&self.network.config_digest.0);
        let living = topics.by_id.root([b"waybill-topics-v1", b"waybill-topics-shard-v1"], |_, living, out| {
            living.digest.encode(out);
        });
        root.update(&living.0);
        let deleted = topics.deleted.root([b"waybill-deleted-v1", b"waybill-deleted-shard-v1"], |id, owner, out| {
            id.encode(out);
            owner.encode(out);
        });
        root.update(&deleted.0);
        *self.root.insert(root.finish())
    }

    fn check_create(&self, org: &OrgId, create: &CreateTopic) -> Result<(), Rejection> {
        if !may_write(&self.config, org) {
            return Err(Rejection::NotAuthorised);
        }
        if let Some(id) = self.topics.by_name.get(&*collision_key(&create.name)) {
            let same = self.topic(*id).is_some_and(|topic| topic.name == create.name);
            return Err(if same { Rejection::TopicExists } else { Rejection::Invalid });
        }
        let id_is_new = create.id != LedgerId::SYSTEM.topic
            && create.id.0 != [0; 16]
            && !self.topics.by_id.contains_key(&create.id)
            && !self.topics.deleted.contains_key(&create.id);
        let valid = check_topic_name(&create.name).is_ok()
            && id_is_new
            && self.known_and_distinct(&create.readers)
            && self.known_and_distinct(&create.writers)
            && check_settings(&create.settings)
            && (1..=PARTITIONS_PER_TOPIC_MAX).contains(&create.partitions.len())
            && create.partitions.iter().all(|placement| self.check_placement(placement))
            && self.totals(org).partitions + create.partitions.len() <= PARTITIONS_PER_ORGANISATION_MAX
            && self.totals(org).bytes + topic_bytes(org, create) <= TOPIC_BYTES_PER_ORGANISATION_MAX;
        if valid { Ok(()) } else { Err(Rejection::Invalid) }
    }

    fn check_delete(&self, org: &OrgId, id: TopicId) -> Result<(), Rejection> {
        let topic = self.topic(id).ok_or(Rejection::UnknownTopic)?;
        if topic.owner != *org {
            return Err(Rejection::NotAuthorised);
        }
        if self.totals(org).deleted < DELETED_TOPICS_PER_ORGANISATION_MAX { Ok(()) } else { Err(Rejection::Invalid) }
    }

    /// Nothing but the partitions may differ, and those that are there stay: their ledgers have begun.
    fn check_add(&self, org: &OrgId, add: &AddPartitions) -> Result<(), Rejection> {
        let Living { topic, bytes, .. } = self.topics.by_id.get(&add.topic.id).ok_or(Rejection::UnknownTopic)?;
        if topic.owner != *org {
            return Err(Rejection::NotAuthorised);
        }
        let enlarged = Topic::new(org.clone(), &add.topic, add.created_ms, add.created_height);
        let enlarged_bytes = enlarged.to_bytes().len();
        let count = enlarged.partitions.len();
        let Some(further) = enlarged.partitions.strip_prefix(&topic.partitions[..]) else {
            return Err(Rejection::Invalid);
        };
        let valid = !further.is_empty()
            && count <= PARTITIONS_PER_TOPIC_MAX
            && further.iter().all(|placement| self.check_placement(placement))
            && self.totals(org).partitions + further.len() <= PARTITIONS_PER_ORGANISATION_MAX
            && self.totals(org).bytes - bytes + enlarged_bytes <= TOPIC_BYTES_PER_ORGANISATION_MAX
            && Topic { partitions: topic.partitions.clone(), ..enlarged } == **topic;
        if valid { Ok(()) } else { Err(Rejection::Invalid) }
    }

    fn known_and_distinct(&self, orgs: &[OrgId]) -> bool {
        let distinct: BTreeSet<_> = orgs.iter().collect();
        orgs.len() <= ORGANISATIONS_MAX
            && distinct.len() == orgs.len()
            && distinct.iter().all(|org| self.network.organisations.contains(*org))
    }

    /// 3f + 1 different known nodes, of as many organisations as there are at most: two replicas of one organisation
    /// are two faults at once.
    fn check_placement(&self, placement: &[NodeId]) -> bool {
        if placement.len() % 3 != 1 || placement.len() > REPLICAS_MAX {
            return false;
        }
        let nodes: BTreeSet<_> = placement.iter().collect();
        let Some(orgs) = placement.iter().map(|node| self.org_of(*node)).collect::<Option<BTreeSet<_>>>() else {
            return false;
        };
        nodes.len() == placement.len() && orgs.len() == placement.len().min(self.network.organisations_with_nodes)
    }

    fn totals(&self, org: &OrgId) -> Totals {
        self.topics.totals.get(org).copied().unwrap_or_default()
    }

    fn change(&mut self, call: &Call, change: &SystemChange) -> Option<SystemEvent> {
        let owner = self.org_of(call.origin)?.clone();
        self.root = None;
        let topics = Arc::make_mut(&mut self.topics);
        match change {
            SystemChange::CreateTopic(create) => {
                let topic = Arc::new(Topic::new(owner, create, call.time_ms, call.height));
                topics.add(topic.clone());
                Some(SystemEvent::TopicCreated(topic))
            }
            SystemChange::DeleteTopic(id) => topics.delete(*id).map(SystemEvent::TopicDeleted),
            SystemChange::AddPartitions(add) => {
                let topic = Arc::new(Topic::new(owner, &add.topic, add.created_ms, add.created_height));
                // A receipt is verified with this transaction alone, where no topic is yet.
                topics.remove(topic.id);
                topics.add(topic.clone());
                Some(SystemEvent::PartitionsAdded(topic))
            }
        }
    }
}

impl Topics {
    fn add(&mut self, topic: Arc<Topic>) {
        let encoded = topic.to_bytes();
        let (digest, bytes) = (Hasher::digest(b"waybill-topic-v1", &encoded), encoded.len());
        let totals = self.totals.entry(topic.owner.clone()).or_default();
        totals.partitions += topic.partitions.len();
        totals.bytes += bytes;
        self.by_name.insert(collision_key(&topic.name).into_owned(), topic.id);
        self.by_id.insert(topic.id, Living { topic, digest, bytes });
    }

    fn delete(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        let topic = self.remove(id)?;
        self.bury(id, topic.owner.clone());
        Some(topic)
    }

    fn remove(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        let Living { topic, bytes, .. } = self.by_id.remove(&id)?;
        let totals = self.totals.entry(topic.owner.clone()).or_default();
        totals.partitions = totals.partitions.saturating_sub(topic.partitions.len());
        totals.bytes = totals.bytes.saturating_sub(bytes);
        self.by_name.remove(&*collision_key(&topic.name));
        Some(topic)
    }

    fn bury(&mut self, id: TopicId, owner: OrgId) {
        self.totals.entry(owner.clone()).or_default().deleted += 1;
        self.deleted.insert(id, owner);
    }
}

/// What a topic will take, encoded: its creation, with the owner and where it was created.
fn topic_bytes(owner: &OrgId, create: &CreateTopic) -> usize {
    create.to_bytes().len() + owner.to_bytes().len() + size_of::<u64>() + size_of::<Height>()
}

impl Network {
    fn new(config: &Config) -> Self {
        let owners: BTreeSet<_> = config.origins.iter().map(|member| member.org.clone()).collect();
        let named = config.readers.iter().chain(&config.writers).chain([&config.owner]).cloned();
        Network {
            config_digest: config_digest(config),
            organisations_with_nodes: owners.len(),
            organisations: owners.into_iter().chain(named).collect(),
            nodes: config.origins.iter().map(|member| (member.node, member.clone())).collect(),
        }
    }
}

/// The first body of a partition's ledger, derived from the topic and the network's nodes alone, so that all replicas
/// start the same cluster.
pub fn first_body(topic: &Topic, partition: u32, nodes: &[Member]) -> Body {
    // The contract has checked the settings before it accepted the topic.
    let settings = Settings::parse(&topic.settings).unwrap_or_default();
    Body {
        proposed_time_ms: topic.created_ms,
        checkpoint: true,
        config: Some(Config {
            version: 1,
            ledger: LedgerId::new(topic.id, partition),
            topic: topic.name.clone(),
            owner: topic.owner.clone(),
            readers: topic.readers.clone(),
            writers: topic.writers.clone(),
            origins: nodes.to_vec(),
            batch_bytes_limit: settings.batch_bytes_limit,
            log_append_time: settings.log_append_time,
        }),
        envelopes: Vec::new(),
    }
}

fn check_settings(settings: &[(String, String)]) -> bool {
    let names: BTreeSet<_> = settings.iter().map(|(name, _)| name).collect();
    settings.len() <= SETTINGS_MAX
        && names.len() == settings.len()
        && settings.iter().all(|(name, value)| name.len() <= SETTING_BYTES_MAX && value.len() <= SETTING_BYTES_MAX)
        && Settings::parse(settings).is_ok()
}

impl PartialEq for SystemState {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.topics == other.topics
    }
}

impl Eq for SystemState {}

impl Codec for SystemState {
    fn encode(&self, out: &mut Vec<u8>) {
        self.config.encode(out);
        (self.topics.by_id.len() as u32).encode(out);
        self.topics().for_each(|topic| topic.encode(out));
        (self.topics.deleted.len() as u32).encode(out);
        for (id, owner) in self.topics.deleted.iter() {
            id.encode(out);
            owner.encode(out);
        }
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut state = SystemState::new(Arc::new(Config::decode(input)?));
        let (topics, deleted): (Vec<Topic>, Vec<(TopicId, OrgId)>) = (Codec::decode(input)?, Codec::decode(input)?);
        if !topics.is_sorted_by(|left, right| left.id < right.id)
            || !deleted.is_sorted_by(|left, right| left.0 < right.0)
        {
            return Err(DecodeError::Invalid("topics are not in ascending order"));
        }
        let (mut known, count) = (Topics::default(), topics.len());
        topics.into_iter().for_each(|topic| known.add(Arc::new(topic)));
        deleted.into_iter().for_each(|(id, owner)| known.bury(id, owner));
        if known.by_name.len() != count {
            return Err(DecodeError::Invalid("two topics have one name"));
        }
        state.topics = Arc::new(known);
        Ok(state)
    }
}

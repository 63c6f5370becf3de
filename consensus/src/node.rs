//! All of one node's consensus: what the journal holds is handed to its owners, replicas start and stop with the topics,
//! messages find their replica.

mod placement;

use crate::anchor;
use crate::catch_up;
use crate::clock::Clock;
use crate::peers::{BoxFuture, Handler, Limits, Peers, Service};
use crate::raft::machines::{GlobalMachine, OrganisationMachine};
use crate::raft::{self, Group, GroupId, LogRecovery, Transport, Unreachable};
use crate::replica::{self, Event, Recovered, ReplicaHandle, ReplicaParts, stream_of};
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use waybill_ledger::genesis::Genesis;
use waybill_ledger::global::GlobalLedger;
use waybill_ledger::identity::{Directory, Identity, Peer};
use waybill_ledger::journal::{Journal, Options, StreamId, Visited};
use waybill_ledger::organisation::Organisation;
use waybill_pbft as pbft;
use waybill_types::{ClusterId, Height, LedgerId, Membership, NetworkId, NodeId, OrgId};

/// A checkpoint falls at least at every so many blocks (the paper's K).
pub const CHECKPOINT_INTERVAL: u64 = 128;
/// Proposals under way at a time: fewer are larger, and each costs every replica its signatures and syncs.
const WINDOW: u64 = 8;
/// Memory that sled may use for its pages.
const STATE_CACHE_BYTES: u64 = 8 << 20;

/// What a node's consensus starts from.
pub struct NodeParts {
    /// The node's keys.
    pub identity: Arc<Identity>,
    /// The network's beginning.
    pub genesis: Arc<Genesis>,
    /// Who is who, and where.
    pub directory: Arc<Directory>,
    /// Where journal, derived state and snapshots live.
    pub dir: PathBuf,
    /// Where other nodes dial in.
    pub listener: TcpListener,
    /// The limits of links.
    pub limits: Limits,
    /// How long PBFT waits for what.
    pub timing: pbft::Timing,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The journal does not open.
    #[error("{0}")]
    Journal(#[from] waybill_ledger::journal::OpenError),
    /// The derived state does not open, and cannot be put aside.
    #[error("the derived state in {dir} cannot be opened: {reason}")]
    State {
        /// Where.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// A Raft group does not start.
    #[error("the Raft group {group}: {reason}")]
    Raft {
        /// Which.
        group: &'static str,
        /// Why.
        reason: String,
    },
    /// Keys or certificates cannot be used.
    #[error(transparent)]
    Identity(#[from] waybill_ledger::identity::IdentityError),
    /// A replica does not start.
    #[error(transparent)]
    Replica(#[from] replica::StartError),
}

/// A running node, without its gateway and connector.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    identity: Arc<Identity>,
    genesis: Arc<Genesis>,
    network: NetworkId,
    pub(crate) journal: Arc<Journal>,
    db: sled::Db,
    tree: sled::Tree,
    clock: Clock,
    timing: pbft::Timing,
    recovered: Mutex<HashMap<StreamId, Recovered>>,
    replicas: DashMap<LedgerId, Running>,
    by_cluster: DashMap<ClusterId, ReplicaHandle>,
    pub(crate) global: Arc<GlobalLedger>,
    organisation: Arc<Organisation>,
    groups: OnceLock<Groups>,
    peers: OnceLock<Peers>,
    stable: mpsc::UnboundedSender<LedgerId>,
    system_changed: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

struct Running {
    handle: ReplicaHandle,
    stop: watch::Sender<bool>,
}

struct Groups {
    global: Group,
    organisation: Group,
}

impl Node {
    /// Opens the node's directory, connects to the others, and starts every replica that is placed here.
    pub async fn start(parts: NodeParts) -> Result<Self, NodeError> {
        let NodeParts { identity, genesis, directory, dir, listener, limits, timing } = parts;
        let (db, tree) = open_state(&dir.join("state"))?;
        let applied = waybill_ledger::partition::applied_heights(&tree);
        let applied =
            applied.map_err(|error| NodeError::State { dir: dir.join("state"), reason: error.to_string() })?;
        let applied = applied.into_iter().map(|(ledger, height)| (stream_of(ledger), height)).collect();
        let (journal, recovery) = open_journal(&dir.join("journal"), &identity, &applied)?;
        let global = GlobalLedger::open(tree.clone(), genesis.clone())
            .map_err(|error| NodeError::State { dir: dir.join("state"), reason: error.to_string() })?;
        let organisation = Organisation::new(prefix(&genesis, &identity))
            .map_err(|error| NodeError::Raft { group: "organisation", reason: error.to_string() })?;
        let (stable, stable_out) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            network: genesis.network_id(),
            identity: identity.clone(),
            genesis,
            journal: journal.clone(),
            db,
            tree,
            clock: Clock::start(),
            timing,
            recovered: Mutex::new(recovery.ledgers),
            replicas: DashMap::new(),
            by_cluster: DashMap::new(),
            global: Arc::new(global),
            organisation: Arc::new(organisation),
            groups: OnceLock::new(),
            peers: OnceLock::new(),
            stable,
            system_changed: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        });
        let peers = Peers::start(identity, directory, listener, limits, shared.clone())?;
        // Set once, here.
        let _ = shared.peers.set(peers.clone());
        let groups = start_groups(&shared, &dir, journal, recovery.global, recovery.organisation, peers).await?;
        let _ = shared.groups.set(groups);
        let changed = shared.system_changed.clone();
        shared.global.subscribe(Box::new(move |_| changed.send_modify(|version| *version += 1)));
        placement::start_placed(shared.clone()).await?;
        tokio::spawn(placement::follow_topics(shared.clone()));
        tokio::spawn(anchor::drive(shared.clone(), stable_out));
        if let Some(groups) = shared.groups.get() {
            for group in [&groups.global, &groups.organisation] {
                tokio::spawn(watch_group(group.watch(), shared.stopped()));
            }
        }
        Ok(Node { shared })
    }

    /// The replica of a ledger on this node.
    pub fn replica(&self, ledger: LedgerId) -> Option<ReplicaHandle> {
        self.shared.replicas.get(&ledger).map(|running| running.handle.clone())
    }

    /// Every replica on this node.
    pub fn replicas(&self) -> Vec<ReplicaHandle> {
        self.shared.replicas.iter().map(|running| running.handle.clone()).collect()
    }

    /// The global ledger, as far as this node has it.
    pub fn global(&self) -> &Arc<GlobalLedger> {
        &self.shared.global
    }

    /// The organisation's own ledger, for reading.
    pub fn organisation(&self) -> &Arc<Organisation> {
        &self.shared.organisation
    }

    /// Orders a command on the organisation's own ledger.
    pub async fn write_organisation(&self, command: Bytes, timeout: Duration) -> Result<Bytes, raft::WriteError> {
        let groups = self.shared.groups.get().ok_or(raft::WriteError::Stopped)?;
        groups.organisation.write(command, timeout).await
    }

    /// Waits until the organisation's ledger here has all that was written to it before this call. After a start it may
    /// not: how far it was committed need not have reached the disk, and is known again when its group has a leader.
    pub async fn organisation_barrier(&self, timeout: Duration) -> Result<(), raft::BarrierError> {
        let groups = self.shared.groups.get().ok_or(raft::BarrierError::Stopped)?;
        groups.organisation.barrier(timeout).await
    }

    /// Who orders the global ledger now, as far as this node knows.
    pub fn global_leader(&self) -> Option<u64> {
        self.shared.groups.get().and_then(|groups| groups.global.leader())
    }

    /// Changes with each change of organisations, nodes or topics that reaches this node.
    pub fn system_changed(&self) -> watch::Receiver<u64> {
        self.shared.system_changed.subscribe()
    }

    /// Links that stand now.
    pub fn connected(&self) -> Vec<NodeId> {
        self.shared.peers.get().map(Peers::connected).unwrap_or_default()
    }

    /// Whose node this is.
    pub fn org(&self) -> &OrgId {
        &self.shared.identity.org
    }

    /// Whether a topic is known here whose partitions' replicas have not all started yet.
    pub fn has_unstarted(&self) -> bool {
        let system = self.shared.global.system();
        let placed =
            |ledger| system.membership(ledger).is_some_and(|members| members.index_of(self.shared.me()).is_some());
        let mut ledgers = system.topics().flat_map(|topic| topic.ledgers().collect::<Vec<_>>());
        ledgers.any(|ledger| placed(ledger) && !self.shared.replicas.contains_key(&ledger))
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.shared.network
    }

    /// The node's clock.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Stops replicas, groups and links, and closes the journal: everything that was acknowledged is in it.
    pub async fn shutdown(&self) {
        self.shared.stop.send_replace(true);
        if let Some(groups) = self.shared.groups.get() {
            groups.organisation.shutdown().await;
            groups.global.shutdown().await;
        }
        if let Some(peers) = self.shared.peers.get() {
            peers.stop();
        }
        let shared = self.shared.clone();
        let closed = tokio::task::spawn_blocking(move || {
            shared.journal.close();
            shared.db.flush().map(drop)
        });
        if let Ok(Err(error)) = closed.await {
            // It is derived: the journal has it all.
            tracing::warn!(%error, "the derived state could not be flushed");
        }
    }
}

/// The state is derived: what does not open is put aside and built anew.
fn open_state(dir: &Path) -> Result<(sled::Db, sled::Tree), NodeError> {
    let open = || {
        let db = sled::Config::new().path(dir).cache_capacity(STATE_CACHE_BYTES).open()?;
        let tree = db.open_tree("waybill")?;
        Ok::<_, sled::Error>((db, tree))
    };
    let failed = |reason: String| NodeError::State { dir: dir.to_path_buf(), reason };
    match open() {
        Ok(state) => Ok(state),
        // Somebody else has it open: putting it aside would pull it from under them.
        Err(sled::Error::Io(error)) => Err(failed(error.to_string())),
        Err(error) => {
            let aside = dir.with_extension("broken");
            tracing::error!(%error, dir = %dir.display(), aside = %aside.display(), "derived state put aside, rebuilding it");
            // A remnant of an earlier time is worth less than this one.
            let _ = std::fs::remove_dir_all(&aside);
            std::fs::rename(dir, &aside).map_err(|error| failed(error.to_string()))?;
            open().map_err(|error| failed(error.to_string()))
        }
    }
}

/// What the scan of the journal has found, by owner.
#[derive(Default)]
struct Recovery {
    global: LogRecovery,
    organisation: LogRecovery,
    ledgers: HashMap<StreamId, Recovered>,
}

/// Scans the journal. Of ledgers that sled has up to some height, bodies up to there are passed over.
fn open_journal(
    dir: &Path,
    identity: &Identity,
    applied: &HashMap<StreamId, Height>,
) -> Result<(Arc<Journal>, Recovery), NodeError> {
    let mut recovery = Recovery::default();
    let (global, organisation) = (StreamId(GroupId::GLOBAL.0), StreamId(GroupId::organisation(&identity.org).0));
    let mut visit = |mut visited: Visited<'_>| -> Result<(), Box<dyn Error + Send + Sync>> {
        let stream = visited.stream;
        if stream == global {
            recovery.global.visit(&mut visited)?;
        } else if stream == organisation {
            recovery.organisation.visit(&mut visited)?;
        } else {
            let position = visited.position;
            let record = visited.payload()?;
            let applied = || Recovered::new(applied.get(&stream).copied().unwrap_or_default());
            let ledger = recovery.ledgers.entry(stream).or_insert_with(applied);
            if !ledger.visit(position, record) {
                return Err(format!("the record at {position} is none that this version writes").into());
            }
        }
        Ok(())
    };
    // The bound of what waits is the replicas' and groups' own: a record that is refused would stop its replica.
    let options = Options { queue_bytes_limit: 4 << 30, ..Options::new(identity.org.to_string()) };
    let journal = Journal::open(dir, options, &mut visit)?;
    Ok((Arc::new(journal), recovery))
}

/// The organisation's place in the genesis heads its producer ids.
fn prefix(genesis: &Genesis, identity: &Identity) -> u16 {
    let index = genesis.organisations.iter().position(|org| org.id == identity.org).unwrap_or_default();
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// Raft's requests over the node's links.
#[derive(Clone)]
struct Links(Peers);

impl Transport for Links {
    async fn call(&self, to: u64, group: GroupId, request: Bytes, timeout: Duration) -> Result<Bytes, Unreachable> {
        let service = if group == GroupId::GLOBAL { Service::GlobalRaft } else { Service::OrganisationRaft };
        let node = NodeId(u32::try_from(to).unwrap_or(u32::MAX));
        let answer = self.0.call(node, service, request, timeout).await;
        answer.map_err(|error| Unreachable { to, why: error.to_string() })
    }
}

async fn start_groups(
    shared: &Arc<Shared>,
    dir: &Path,
    journal: Arc<Journal>,
    global: LogRecovery,
    organisation: LogRecovery,
    peers: Peers,
) -> Result<Groups, NodeError> {
    let me = u64::from(shared.identity.node.0);
    let everyone: BTreeSet<u64> = shared.genesis.nodes.iter().map(|node| u64::from(node.id.0)).collect();
    let ours = shared.genesis.nodes.iter().filter(|node| node.org == shared.identity.org);
    let ours: BTreeSet<u64> = ours.map(|node| u64::from(node.id.0)).collect();
    let org = &shared.identity.org;
    let options = raft::Options::new(format!("global/{org}"));
    let failed = |group: &'static str, error: &dyn ToString| NodeError::Raft { group, reason: error.to_string() };
    let log = global
        .finish(journal.clone(), StreamId(GroupId::GLOBAL.0), &options)
        .map_err(|error| failed("global", &error))?;
    let global = Group::start(raft::Setup {
        id: me,
        group: GroupId::GLOBAL,
        members: everyone,
        options,
        log,
        machine: Arc::new(GlobalMachine::new(shared.global.clone())),
        snapshots: dir.join("snapshots").join("global"),
        transport: Links(peers.clone()),
    })
    .await
    .map_err(|error| failed("global", &error))?;
    let options = raft::Options::new(format!("organisation/{org}"));
    let id = GroupId::organisation(org);
    let log = organisation.finish(journal, StreamId(id.0), &options).map_err(|error| failed("organisation", &error))?;
    let organisation = Group::start(raft::Setup {
        id: me,
        group: id,
        members: ours,
        options,
        log,
        machine: Arc::new(OrganisationMachine::new(shared.organisation.clone())),
        snapshots: dir.join("snapshots").join("organisation"),
        transport: Links(peers),
    })
    .await
    .map_err(|error| failed("organisation", &error))?;
    Ok(Groups { global, organisation })
}

impl Shared {
    pub(crate) fn me(&self) -> NodeId {
        self.identity.node
    }

    pub(crate) fn replica(&self, ledger: LedgerId) -> Option<ReplicaHandle> {
        self.replicas.get(&ledger).map(|running| running.handle.clone())
    }

    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    pub(crate) async fn write_global(&self, command: Bytes, timeout: Duration) -> Result<Bytes, raft::WriteError> {
        let groups = self.groups.get().ok_or(raft::WriteError::Stopped)?;
        groups.global.write(command, timeout).await
    }

    fn start_replica(
        &self,
        ledger: LedgerId,
        cluster: ClusterId,
        membership: Membership,
        first_body: Bytes,
    ) -> Result<Option<ReplicaHandle>, NodeError> {
        let (Some(me), Some(peers)) = (membership.index_of(self.me()), self.peers.get()) else { return Ok(None) };
        let stop = watch::Sender::new(*self.stop.borrow());
        let config = pbft::Config {
            network: self.network,
            ledger,
            cluster,
            membership,
            me: me as pbft::ReplicaIndex,
            base: 0,
            origins: self.genesis.nodes.iter().map(|node| (node.id, node.key)).collect(),
            first_body,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            limits: pbft::Limits { window: WINDOW, ..pbft::Limits::default() },
            timing: self.timing,
        };
        let handle = replica::start(ReplicaParts {
            config,
            recovered: self.recovered.lock().remove(&stream_of(ledger)).unwrap_or_default(),
            identity: self.identity.clone(),
            journal: self.journal.clone(),
            tree: self.tree.clone(),
            peers: peers.clone(),
            clock: self.clock,
            stable: self.stable.clone(),
            stop: stop.subscribe(),
        })?;
        self.by_cluster.insert(cluster, handle.clone());
        self.replicas.insert(ledger, Running { handle: handle.clone(), stop });
        // What is stable from before the restart may not be in the global ledger yet.
        let _ = self.stable.send(ledger);
        Ok(Some(handle))
    }
}

/// A group that stops by itself has lost its storage or its machine: the node must not look alive without it.
async fn watch_group(mut status: raft::StatusWatch, mut stop: watch::Receiver<bool>) {
    let failed = tokio::select! {
        stopped = status.wait_for(|status| status.stopped.is_some()) => stopped.and_then(|status| status.stopped),
        _ = stop.wait_for(|stop| *stop) => return,
    };
    if !*stop.borrow() {
        let reason = failed.unwrap_or_else(|| "it ended without a reason".into());
        tracing::error!(%reason, "a Raft group of this node has stopped: so does the node");
        std::process::abort();
    }
}

impl Handler for Shared {
    fn on_message(&self, from: NodeId, cluster: ClusterId, message: Bytes) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A cluster that is not here yet, or no more: summaries repeat what matters once it is.
            let Some(replica) = self.by_cluster.get(&cluster).map(|handle| handle.clone()) else { return };
            let Some(index) = replica.membership.index_of(from) else { return };
            let event = Event::Message { from: index as pbft::ReplicaIndex, bytes: message };
            // The task has ended.
            let _ = replica.events.send(event).await;
        })
    }

    fn on_call(&self, from: Peer, service: Service, request: Bytes) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            match service {
                Service::GlobalRaft => Some(self.groups.get()?.global.handle(u64::from(from.node.0), request).await),
                Service::OrganisationRaft if from.org == self.identity.org => {
                    Some(self.groups.get()?.organisation.handle(u64::from(from.node.0), request).await)
                }
                Service::OrganisationRaft => None,
                Service::Blocks => {
                    let replicas: HashMap<LedgerId, _> = self
                        .replicas
                        .iter()
                        .filter(|running| running.handle.membership.index_of(from.node).is_some())
                        .map(|running| (*running.key(), running.handle.reader.clone()))
                        .collect();
                    let serve = move || catch_up::serve(&request, |ledger| replicas.get(&ledger).cloned());
                    tokio::task::spawn_blocking(serve).await.ok().flatten()
                }
            }
        })
    }

    fn on_connected(&self, peer: NodeId) {
        let concerned: Vec<ReplicaHandle> = self
            .replicas
            .iter()
            .filter(|running| running.handle.membership.index_of(peer).is_some())
            .map(|running| running.handle.clone())
            .collect();
        tokio::spawn(async move {
            for replica in concerned {
                // The task has ended.
                let _ = replica.events.send(Event::Connected(peer)).await;
            }
        });
    }
}

//! `waybill dev`: four organisations with a node each, in one process. Two trade, two witness.
//!
//! Nothing between them is short-cut: links are mutual TLS over loopback, connectors pull over HTTPS, each node has its
//! own directory. Only the process is shared.

pub mod network;

use crate::broker::{Broker, BrokerError, BrokerParts, Settings};
use crate::{group, http, server};
use metrics_exporter_prometheus::PrometheusHandle;
use network::{DevNetwork, DevOrg, NetworkError, ORGANISATIONS};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use waybill_ledger::identity::Directory;
use waybill_types::OrgId;

/// The second organisation's Kafka port is so many above the first's, and so on.
const PORT_STEP: u16 = 100;
/// How long the network may take to form.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What `waybill dev` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first organisation's Kafka port; 0 lets the system choose every port.
    pub port: u16,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Organisations whose node stays off.
    pub without: Vec<String>,
    /// Partitions of a topic that does not say how many: Kafka's `num.partitions`.
    pub default_partitions: i32,
}

/// Why the network does not start. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A port is taken.
    #[error("port {port} is in use: stop what uses it, or choose other ports with --port ({source})")]
    Port {
        /// Which.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// No such organisation.
    #[error("--without {0}: the organisations are acme, globex, notary and observer")]
    UnknownOrganisation(String),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Keys, certificates, genesis.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A node does not start.
    #[error("{org}: {source}")]
    Node {
        /// Whose.
        org: OrgId,
        /// Why.
        source: BrokerError,
    },
    /// The nodes do not find together.
    #[error("the network did not form within {} s: {missing}", READY_TIMEOUT.as_secs())]
    NotReady {
        /// Who is missing.
        missing: String,
    },
}

/// Where an organisation is reached; the content of `dev.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The organisation.
    pub name: String,
    /// Its node's id.
    pub node: u32,
    /// Whether it trades, or only witnesses.
    pub trades: bool,
    /// Its Kafka listener.
    pub kafka: SocketAddr,
    /// Its HTTP port.
    pub http: SocketAddr,
}

/// `dev.json`: there while the network is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// All that run, in the order of their nodes.
    pub organisations: Vec<Endpoint>,
}

impl Endpoints {
    const FILE: &str = "dev.json";

    /// Reads the endpoints of the network that runs in a data directory.
    pub fn load(data_dir: &Path) -> Result<Self, DevError> {
        let path = data_dir.join(Self::FILE);
        let text = fs::read_to_string(&path).map_err(|source| file_error(&path, source))?;
        serde_json::from_str(&text).map_err(|error| file_error(&path, io::Error::other(error)))
    }

    fn save(&self, data_dir: &Path) -> Result<(), DevError> {
        let path = data_dir.join(Self::FILE);
        let text = serde_json::to_string_pretty(self).map_err(|error| file_error(&path, io::Error::other(error)))?;
        // Its presence says that the network is ready, so it comes whole or not at all.
        let draft = path.with_extension("draft");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(|source| file_error(&path, source))
    }

    fn remove(data_dir: &Path) {
        // It may not be there.
        let _ = fs::remove_file(data_dir.join(Self::FILE));
    }
}

/// A running network.
pub struct Dev {
    data_dir: PathBuf,
    endpoints: Endpoints,
    brokers: Vec<Arc<Broker>>,
    serving: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// An organisation whose sockets are bound.
struct Bound {
    org: DevOrg,
    kafka: TcpListener,
    http: TcpListener,
    peers: TcpListener,
    connector: Option<TcpListener>,
}

impl Dev {
    /// Makes or loads the network, starts its nodes, and waits until each answers.
    pub async fn start(options: Options, metrics: PrometheusHandle) -> Result<Self, DevError> {
        let Options { port, data_dir, without, default_partitions } = options;
        if let Some(unknown) = without.iter().find(|name| ORGANISATIONS.iter().all(|(known, _)| known != name)) {
            return Err(DevError::UnknownOrganisation(unknown.clone()));
        }
        fs::create_dir_all(&data_dir).map_err(|source| file_error(&data_dir, source))?;
        Endpoints::remove(&data_dir);
        let DevNetwork { genesis, organisations } = DevNetwork::open(&data_dir, now_ms())?;
        let genesis = Arc::new(genesis);
        let mut ports = Ports::load(&data_dir, port);
        let mut bound = Vec::new();
        for (index, org) in organisations.into_iter().enumerate() {
            let (kafka, http) = ports.bind(index).await?;
            if without.iter().any(|name| name == org.id.as_str()) {
                continue;
            }
            let connector = if org.trades { Some(bind(0).await?) } else { None };
            bound.push(Bound { kafka, http, peers: bind(0).await?, connector, org });
        }
        ports.save(&data_dir)?;
        let addresses = bound.iter().map(addresses).collect::<io::Result<Vec<_>>>();
        let addresses = addresses.map_err(|source| file_error(&data_dir, source))?;
        let mut starting = JoinSet::new();
        for bound in bound {
            let directory = Directory::from_genesis(&genesis);
            for (node, peers, connector) in &addresses {
                directory.set_addresses(*node, peers.clone(), connector.clone());
            }
            starting.spawn(start_node(bound, genesis.clone(), directory, default_partitions));
        }
        let mut nodes = Vec::new();
        while let Some(started) = starting.join_next().await {
            nodes.push(started.map_err(|error| file_error(&data_dir, io::Error::other(error)))??);
        }
        nodes.sort_by_key(|node| node.broker.node);
        let stop = watch::Sender::new(false);
        let mut serving = JoinSet::new();
        // Health is answered before the network has formed: `/readyz` says that it has not.
        for node in &mut nodes {
            if let Some(listener) = node.http.take() {
                serving.spawn(http::serve(node.broker.clone(), metrics.clone(), listener, stop.subscribe()));
            }
        }
        wait_until_ready(&nodes).await?;
        let (mut brokers, mut organisations) = (Vec::new(), Vec::new());
        for node in nodes {
            organisations.push(node.endpoint);
            brokers.push(node.broker.clone());
            serving.spawn(server::serve(node.broker, node.kafka, stop.subscribe()));
        }
        let endpoints = Endpoints { organisations };
        endpoints.save(&data_dir)?;
        Ok(Dev { data_dir, endpoints, brokers, serving, stop })
    }

    /// Where everybody is.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What a newcomer reads first.
    pub fn banner(&self) -> String {
        let mut text = String::from("\nwaybill dev: a network of four organisations in one process\n\n");
        for endpoint in &self.endpoints.organisations {
            let role = if endpoint.trades { "trades" } else { "witnesses" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {:9} {role:10} kafka {}   http {}", endpoint.name, endpoint.kafka, endpoint.http);
        }
        let at = |name: &str| {
            let found = self.endpoints.organisations.iter().find(|endpoint| endpoint.name == name);
            found.map_or_else(|| format!("({name} is off)"), |endpoint| endpoint.kafka.to_string())
        };
        let _ = write!(
            text,
            "\nIn this network acme and globex may read each other's topics. Elsewhere nothing is readable across\n\
             organisations unless its owner says so.\n\n\
             Three things to try, in another terminal:\n\n  \
             echo hello | kcat -b {acme} -P -t orders\n  \
             kcat -b {globex} -C -t orders -o beginning -e\n  \
             kcat -b {globex} -G audit orders\n\n\
             Data in {dir}, genesis in {genesis}. Ctrl-C stops the network.\n",
            acme = at("acme"),
            globex = at("globex"),
            dir = self.data_dir.display(),
            genesis = self.data_dir.join("genesis.json").display(),
        );
        text.push_str("ready\n");
        text
    }

    /// Stops serving, answers what is in flight, flushes.
    pub async fn shutdown(mut self) {
        Endpoints::remove(&self.data_dir);
        self.stop.send_replace(true);
        while self.serving.join_next().await.is_some() {}
        let mut stopping = JoinSet::new();
        for broker in self.brokers.drain(..) {
            stopping.spawn(async move { broker.shutdown().await });
        }
        while stopping.join_next().await.is_some() {}
    }
}

struct Started {
    broker: Arc<Broker>,
    endpoint: Endpoint,
    kafka: TcpListener,
    http: Option<TcpListener>,
}

async fn start_node(
    bound: Bound,
    genesis: Arc<waybill_ledger::genesis::Genesis>,
    directory: Arc<Directory>,
    default_partitions: i32,
) -> Result<Started, DevError> {
    let Bound { org, kafka, http, peers, connector } = bound;
    let address = |listener: &TcpListener| listener.local_addr().map_err(|source| file_error(&org.dir, source));
    let endpoint = Endpoint {
        name: org.id.to_string(),
        node: org.identity.node.0,
        trades: org.trades,
        kafka: address(&kafka)?,
        http: address(&http)?,
    };
    let traders = ORGANISATIONS.iter().filter(|(_, trades)| *trades);
    let settings = Settings {
        advertised_host: endpoint.kafka.ip().to_string(),
        advertised_port: endpoint.kafka.port(),
        auto_create_topics: true,
        default_partitions,
        default_readers: traders.filter_map(|(name, _)| OrgId::new(name).ok()).collect(),
        connections_max: 10_000,
        batches_in_flight_bytes: 256 << 20,
        groups: group::Limits::default(),
    };
    let id = org.id.clone();
    let parts = BrokerParts {
        identity: Arc::new(org.identity),
        genesis,
        directory,
        dir: org.dir,
        peer_listener: peers,
        connector_listener: connector,
        settings,
    };
    let broker = Broker::start(parts).await.map_err(|source| DevError::Node { org: id, source })?;
    Ok(Started { broker, endpoint, kafka, http: Some(http) })
}

async fn wait_until_ready(nodes: &[Started]) -> Result<(), DevError> {
    /// No event tells that all the parts of a node have come together.
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let missing: Vec<&str> =
            nodes.iter().filter(|node| !node.broker.is_ready()).map(|node| node.endpoint.name.as_str()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(DevError::NotReady { missing: missing.join(", ") });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

type Addresses = (waybill_types::NodeId, String, Option<String>);

fn addresses(bound: &Bound) -> io::Result<Addresses> {
    let connector = bound.connector.as_ref().map(|listener| listener.local_addr()).transpose()?;
    let peers = bound.peers.local_addr()?;
    Ok((bound.org.identity.node, peers.to_string(), connector.map(|address| address.to_string())))
}

/// The Kafka and HTTP ports. Those that the system has chosen are taken again after a restart, if they are free.
struct Ports {
    first: u16,
    chosen: Vec<(u16, u16)>,
}

impl Ports {
    const FILE: &str = "ports.json";

    fn load(data_dir: &Path, first: u16) -> Self {
        let saved = fs::read_to_string(data_dir.join(Self::FILE)).ok();
        let chosen = saved.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ports { first, chosen }
    }

    fn save(&self, data_dir: &Path) -> Result<(), DevError> {
        if self.first != 0 {
            return Ok(());
        }
        let path = data_dir.join(Self::FILE);
        let text = serde_json::to_string(&self.chosen).map_err(|error| file_error(&path, io::Error::other(error)))?;
        fs::write(&path, text).map_err(|source| file_error(&path, source))
    }

    async fn bind(&mut self, index: usize) -> Result<(TcpListener, TcpListener), DevError> {
        if self.first != 0 {
            let kafka = self.first.saturating_add(PORT_STEP * index as u16);
            return Ok((bind(kafka).await?, bind(kafka.saturating_add(1)).await?));
        }
        let (kafka, http) = self.chosen.get(index).copied().unwrap_or_default();
        let again = |port| async move {
            match bind(port).await {
                Err(_) => bind(0).await,
                bound => bound,
            }
        };
        let (kafka, http) = (again(kafka).await?, again(http).await?);
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port()).unwrap_or_default();
        self.chosen.resize(self.chosen.len().max(index + 1), (0, 0));
        self.chosen[index] = (port(&kafka), port(&http));
        Ok((kafka, http))
    }
}

async fn bind(port: u16) -> Result<TcpListener, DevError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| DevError::Port { port, source })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn file_error(path: &Path, source: io::Error) -> DevError {
    DevError::File { path: path.display().to_string(), source }
}

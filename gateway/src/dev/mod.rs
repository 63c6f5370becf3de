//! `waybill dev`: four organisations with a node each, in one process. Two trade, two witness.
//!
//! Nothing between them is short-cut: links are mutual TLS over loopback, connectors pull over HTTPS, each node has its
//! own directory. Only the process is shared, and not even that with `--only`: several such processes on one data
//! directory are one network, because the ports of all nodes are chosen once and kept there ([`ports`]).

mod certificates;
mod doors;
mod endpoints;
pub mod network;
mod ports;
mod users;

use crate::broker::{Broker, BrokerError, BrokerParts, Settings};
use crate::security::tls::TlsError;
use crate::server::{Door, NoCertificate};
use crate::{group, http, server};
use doors::Doors;
pub use endpoints::{Endpoint, Endpoints, Secured};
use metrics_exporter_prometheus::PrometheusHandle;
use network::{DevNetwork, DevOrg, NetworkError, ORGANISATIONS};
use ports::{NodePorts, Ports, Sockets};
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

pub use users::{NotAUser, User};

/// How long the network may take to form.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to log in, if nothing else is said.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Kafka's default.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(600);

/// What `waybill dev` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first organisation's Kafka port; 0 lets the system choose every port.
    pub port: u16,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Organisations whose node stays off.
    pub without: Vec<String>,
    /// If not empty: the organisations whose nodes this process runs, the others being left to other processes.
    pub only: Vec<String>,
    /// Partitions of a topic that does not say how many: Kafka's `num.partitions`.
    pub default_partitions: i32,
    /// How long an empty group waits for more members: Kafka's `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: u64,
    /// Whether there are listeners with TLS and with log-in besides the plain ones.
    pub secure: bool,
    /// Users to be made, or given new passwords. They log in where there are such listeners.
    pub users: Vec<User>,
    /// How long a client may take for the TLS handshake and to log in.
    pub authentication_timeout: Duration,
    /// How long a client may be idle: Kafka's `connections.max.idle.ms`.
    pub connection_idle_max: Duration,
}

impl Options {
    /// The whole network in this directory, on ports that the system chooses.
    pub fn new(data_dir: PathBuf) -> Self {
        Options {
            port: 0,
            data_dir,
            without: Vec::new(),
            only: Vec::new(),
            default_partitions: 1,
            initial_rebalance_delay_ms: 0,
            secure: false,
            users: Vec::new(),
            authentication_timeout: AUTHENTICATION_TIMEOUT,
            connection_idle_max: CONNECTION_IDLE_MAX,
        }
    }
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
    #[error("there is no organisation {0}: they are acme, globex, notary and observer")]
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
    /// A user of an organisation whose node this process does not run.
    #[error("{0} has no node here at which a user could be made")]
    UserWithoutNode(String),
    /// Users cannot be made.
    #[error("users of {org}: {reason}")]
    Users {
        /// Whose.
        org: OrgId,
        /// Why not.
        reason: String,
    },
    /// A listener's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener without one.
    #[error(transparent)]
    NoCertificate(#[from] NoCertificate),
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

/// Which nodes are a matter of this process.
#[derive(Clone, Debug)]
struct Hosts {
    without: Vec<String>,
    only: Vec<String>,
}

impl Hosts {
    fn new(without: Vec<String>, only: Vec<String>) -> Result<Self, DevError> {
        let known = |name: &str| ORGANISATIONS.iter().any(|(known, _)| *known == name);
        match without.iter().chain(&only).find(|name| !known(name)) {
            Some(unknown) => Err(DevError::UnknownOrganisation(unknown.clone())),
            None => Ok(Hosts { without, only }),
        }
    }

    /// Whether no other process runs nodes of this network.
    fn alone(&self) -> bool {
        self.only.is_empty()
    }

    /// Whether this organisation's node, running or left off, is this process's.
    fn own(&self, organisation: &str) -> bool {
        self.alone() || self.only.iter().any(|name| name == organisation)
    }

    fn run(&self, organisation: &str) -> bool {
        self.own(organisation) && !self.without.iter().any(|name| name == organisation)
    }
}

/// A running network.
pub struct Dev {
    data_dir: PathBuf,
    hosts: Hosts,
    endpoints: Endpoints,
    brokers: Vec<Arc<Broker>>,
    serving: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// An organisation whose sockets are bound.
struct Bound {
    org: DevOrg,
    doors: Doors,
    http: TcpListener,
    peers: TcpListener,
    connector: Option<TcpListener>,
}

impl Dev {
    /// Makes or loads the network, starts its nodes, and waits until each answers.
    pub async fn start(options: Options, metrics: PrometheusHandle) -> Result<Self, DevError> {
        let Options { data_dir, secure, users, .. } = options;
        let hosts = Hosts::new(options.without, options.only)?;
        if let Some(user) = users.iter().find(|user| !hosts.run(&user.organisation)) {
            return Err(DevError::UserWithoutNode(user.organisation.clone()));
        }
        let manner = Manner {
            default_partitions: options.default_partitions,
            groups: group::Limits {
                initial_rebalance_delay_ms: options.initial_rebalance_delay_ms,
                ..group::Limits::default()
            },
            authentication_timeout: options.authentication_timeout,
            connection_idle_max: options.connection_idle_max,
        };
        fs::create_dir_all(&data_dir).map_err(|source| file_error(&data_dir, source))?;
        Endpoints::withdraw(&data_dir, &hosts)?;
        let DevNetwork { genesis, organisations } = DevNetwork::open(&data_dir, now_ms())?;
        let genesis = Arc::new(genesis);
        let mut ports = Ports::load(&data_dir, options.port);
        let (mut bound, mut addresses) = (Vec::new(), Vec::new());
        for (index, org) in organisations.into_iter().enumerate() {
            let (node, trades) = (org.identity.node, org.trades);
            if hosts.run(org.id.as_str()) {
                let sockets = ports.bind(index, hosts.alone(), secure).await?;
                let Sockets { kafka, http, peers, connector, secured } = sockets;
                let doors = Doors::new(&org, kafka, secured)?;
                bound.push(Bound { doors, http, peers, connector: trades.then_some(connector), org });
            } else {
                ports.reserve(index).await?;
            }
            let NodePorts { peers, connector, .. } = ports.of(index);
            let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
            addresses.push((node, at(peers), trades.then(|| at(connector))));
        }
        ports.save(&data_dir)?;
        let mut starting = JoinSet::new();
        for bound in bound {
            let directory = Directory::from_genesis(&genesis);
            for (node, peers, connector) in &addresses {
                directory.set_addresses(*node, peers.clone(), connector.clone());
            }
            starting.spawn(start_node(bound, genesis.clone(), directory, manner));
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
        if secure {
            for node in &nodes {
                users::write(&node.broker, &users).await?;
            }
        }
        let (mut brokers, mut organisations) = (Vec::new(), Vec::new());
        for node in nodes {
            organisations.push(node.endpoint);
            brokers.push(node.broker.clone());
            serving.spawn(server::serve(node.broker, node.doors, stop.subscribe()));
        }
        let endpoints = Endpoints::announce(organisations, &data_dir, &hosts)?;
        Ok(Dev { data_dir, hosts, endpoints, brokers, serving, stop })
    }

    /// Where everybody is.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What a newcomer reads first.
    pub fn banner(&self) -> String {
        let processes = if self.hosts.alone() {
            "in one process".to_owned()
        } else {
            format!("here: {}", self.hosts.only.join(", "))
        };
        let mut text = format!("\nwaybill dev: a network of four organisations, {processes}\n\n");
        for endpoint in &self.endpoints.organisations {
            let role = if endpoint.trades { "trades" } else { "witnesses" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {:9} {role:10} kafka {}   http {}", endpoint.name, endpoint.kafka, endpoint.http);
        }
        text.push_str(&self.secured_banner());
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

    fn secured_banner(&self) -> String {
        let mut text = String::new();
        for endpoint in &self.endpoints.organisations {
            let Some(Secured { ssl, sasl_plaintext, sasl_ssl, ca }) = &endpoint.secured else { continue };
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "\n  {:9} SSL {ssl}   SASL_PLAINTEXT {sasl_plaintext}   SASL_SSL {sasl_ssl}\n            certificate authority {}",
                endpoint.name,
                ca.display()
            );
        }
        text
    }

    /// Stops serving, answers what is in flight, flushes.
    pub async fn shutdown(mut self) {
        if let Err(error) = Endpoints::withdraw(&self.data_dir, &self.hosts) {
            tracing::warn!(%error, "dev.json still names the nodes that stop now");
        }
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
    doors: Vec<Door>,
    http: Option<TcpListener>,
}

/// How all nodes of this process behave.
#[derive(Clone, Copy)]
struct Manner {
    default_partitions: i32,
    groups: group::Limits,
    authentication_timeout: Duration,
    connection_idle_max: Duration,
}

async fn start_node(
    bound: Bound,
    genesis: Arc<waybill_ledger::genesis::Genesis>,
    directory: Arc<Directory>,
    manner: Manner,
) -> Result<Started, DevError> {
    let Bound { org, doors, http, peers, connector } = bound;
    let address = |listener: &TcpListener| listener.local_addr().map_err(|source| file_error(&org.dir, source));
    let endpoint = Endpoint {
        name: org.id.to_string(),
        node: org.identity.node.0,
        trades: org.trades,
        kafka: doors.plain,
        http: address(&http)?,
        secured: doors.secured,
    };
    let traders = ORGANISATIONS.iter().filter(|(_, trades)| *trades);
    let settings = Settings {
        listeners: doors.all.iter().map(|door| door.listener().clone()).collect(),
        authentication_timeout: manner.authentication_timeout,
        connection_idle_max: manner.connection_idle_max,
        auto_create_topics: true,
        default_partitions: manner.default_partitions,
        default_readers: traders.filter_map(|(name, _)| OrgId::new(name).ok()).collect(),
        connections_max: 10_000,
        batches_in_flight_bytes: 256 << 20,
        groups: manner.groups,
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
    Ok(Started { broker, endpoint, doors: doors.all, http: Some(http) })
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

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn file_error(path: &Path, source: io::Error) -> DevError {
    DevError::File { path: path.display().to_string(), source }
}

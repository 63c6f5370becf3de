//! The ports of all nodes of a data directory, chosen once.
//!
//! A restart takes the same ones again, so that clients find their brokers; and the processes of one network that runs
//! its nodes apart (`--only`) find each other by them.

use super::{DevError, file_error};
use crate::security::SecurityProtocol;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use tokio::net::TcpListener;

/// The second organisation's Kafka port is so many above the first's, and so on.
const PORT_STEP: u16 = 100;
/// How far above the plain Kafka port the HTTP port is, and the others that clients know.
const HTTP_ABOVE: u16 = 1;
const SSL_ABOVE: u16 = 2;
const SASL_PLAINTEXT_ABOVE: u16 = 3;
const SASL_SSL_ABOVE: u16 = 4;

/// One node's ports. 0 where none is chosen yet.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct NodePorts {
    kafka: u16,
    http: u16,
    /// For the other nodes: PBFT and Raft.
    pub(super) peers: u16,
    /// For the other connectors.
    pub(super) connector: u16,
    #[serde(default)]
    ssl: u16,
    #[serde(default)]
    sasl_plaintext: u16,
    #[serde(default)]
    sasl_ssl: u16,
}

/// One node's open sockets.
pub(super) struct Sockets {
    pub(super) kafka: TcpListener,
    pub(super) http: TcpListener,
    pub(super) peers: TcpListener,
    pub(super) connector: TcpListener,
    /// Kafka with TLS, with log-in, with both; with `--secure` only.
    pub(super) secured: Vec<(SecurityProtocol, TcpListener)>,
}

/// The content of `ports.json`.
pub(super) struct Ports {
    /// The first organisation's Kafka port, or 0 if the system chooses.
    first: u16,
    nodes: Vec<NodePorts>,
}

impl Ports {
    const FILE: &str = "ports.json";

    /// What was chosen for this data directory before, if anything.
    pub(super) fn load(data_dir: &Path, first: u16) -> Self {
        let saved = fs::read_to_string(data_dir.join(Self::FILE)).ok();
        let nodes = saved.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ports { first, nodes }
    }

    /// Keeps what was chosen.
    pub(super) fn save(&self, data_dir: &Path) -> Result<(), DevError> {
        let path = data_dir.join(Self::FILE);
        let text = serde_json::to_string(&self.nodes).map_err(|error| file_error(&path, io::Error::other(error)))?;
        // Another process may be reading it.
        let draft = path.with_extension("draft");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(|source| file_error(&path, source))
    }

    /// The ports of the node at this place, if they are chosen.
    pub(super) fn of(&self, index: usize) -> NodePorts {
        self.nodes.get(index).copied().unwrap_or_default()
    }

    /// Opens a node's sockets. One that the system chose earlier and that something else has taken meanwhile is replaced,
    /// if `may_move`: other processes of this network would not hear of it.
    pub(super) async fn bind(&mut self, index: usize, may_move: bool, secure: bool) -> Result<Sockets, DevError> {
        let mut known = self.of(index);
        let again = |port| async move {
            match bind(port).await {
                Err(_) if may_move => bind(0).await,
                bound => bound,
            }
        };
        let first = self.first;
        // Clients know these: they are where the user says, if the user does.
        let known_to_clients = |chosen: u16, above: u16| async move {
            match first {
                0 => again(chosen).await,
                first => bind(first.saturating_add(PORT_STEP * index as u16).saturating_add(above)).await,
            }
        };
        let mut sockets = Sockets {
            kafka: known_to_clients(known.kafka, 0).await?,
            http: known_to_clients(known.http, HTTP_ABOVE).await?,
            peers: again(known.peers).await?,
            connector: again(known.connector).await?,
            secured: Vec::new(),
        };
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port()).unwrap_or_default();
        if secure {
            for (protocol, chosen, above) in [
                (SecurityProtocol::Ssl, &mut known.ssl, SSL_ABOVE),
                (SecurityProtocol::SaslPlaintext, &mut known.sasl_plaintext, SASL_PLAINTEXT_ABOVE),
                (SecurityProtocol::SaslSsl, &mut known.sasl_ssl, SASL_SSL_ABOVE),
            ] {
                let socket = known_to_clients(*chosen, above).await?;
                *chosen = port(&socket);
                sockets.secured.push((protocol, socket));
            }
        }
        self.nodes.resize(self.nodes.len().max(index + 1), NodePorts::default());
        self.nodes[index] = NodePorts {
            kafka: port(&sockets.kafka),
            http: port(&sockets.http),
            peers: port(&sockets.peers),
            connector: port(&sockets.connector),
            ..known
        };
        Ok(sockets)
    }

    /// Chooses a node's ports without keeping them open, if that has not been done before: the node is another process's,
    /// or off for now.
    pub(super) async fn reserve(&mut self, index: usize) -> Result<(), DevError> {
        if self.of(index).peers == 0 { self.bind(index, true, false).await.map(drop) } else { Ok(()) }
    }
}

async fn bind(port: u16) -> Result<TcpListener, DevError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| DevError::Port { port, source })
}

//! Connections to other connectors: mutual TLS, HTTP/1.1, reused while they are fresh.

use super::PullError;
use super::allowance::ByteBudget;
use crate::options::PullOptions;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use waybill_ledger::identity::{Directory, Identity};
use waybill_types::NodeId;

/// A connection that idled longer is not used again: the other side closes it about then.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// One connector of another node: its limits and its idle connections.
#[derive(Debug)]
pub(super) struct PeerPool {
    pub node: NodeId,
    pub requests: Semaphore,
    pub bytes: ByteBudget,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

/// An open connection without a request on it.
#[derive(Debug)]
pub(super) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        self.0.ready().await?;
        self.0.send_request(request).await
    }
}

impl PeerPool {
    pub fn new(node: NodeId, options: &PullOptions) -> Self {
        PeerPool {
            node,
            requests: Semaphore::new(options.requests_per_peer_limit.clamp(1, Semaphore::MAX_PERMITS)),
            bytes: ByteBudget::new(options.in_flight_bytes_per_peer_limit),
            idle: Mutex::default(),
        }
    }

    /// A connection that was used before and still seems open.
    pub fn reuse(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let oldest = Instant::now().checked_sub(IDLE_MAX);
        idle.retain(|(connection, since)| !connection.0.is_closed() && oldest.is_none_or(|oldest| *since > oldest));
        idle.pop().map(|(connection, _)| connection)
    }

    /// Takes back a connection whose answer was read to its end. There are never more than requests at once.
    pub fn give_back(&self, connection: Connection) {
        if !connection.0.is_closed() {
            self.idle.lock().push((connection, Instant::now()));
        }
    }

    /// Dials the connector and makes sure that it is the one that the ledger names.
    pub async fn connect(
        &self,
        identity: &Identity,
        directory: &Directory,
        options: &PullOptions,
    ) -> Result<Connection, PullError> {
        let node = self.node;
        let unavailable = |reason: String| PullError::PeerUnavailable { node, reason };
        let address = directory.connector_address(node).ok_or(PullError::NoConnector { node })?;
        let config = directory.client_config(identity, node).map_err(|error| unavailable(error.to_string()))?;
        let name = directory.server_name(node).map_err(|error| unavailable(error.to_string()))?;
        let dialled = timeout(options.connect_timeout, async {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, tcp).await
        });
        let tls = match dialled.await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return Err(unavailable(format!("{address}: {error}"))),
            Err(_) => {
                return Err(unavailable(format!("{address}: no connection within {:?}", options.connect_timeout)));
            }
        };
        let peer = directory.peer(tls.get_ref().1.peer_certificates().unwrap_or_default());
        if !peer.is_ok_and(|peer| peer.node == node) {
            return Err(unavailable(format!("{address}: another node answers there")));
        }
        let handshake = http1::Builder::new().handshake(TokioIo::new(tls)).await;
        let (sender, driver) = handshake.map_err(|error| unavailable(error.to_string()))?;
        tokio::spawn(async move {
            // Whoever waits for the answer gets the error too, and knows what it means.
            if let Err(error) = driver.await {
                tracing::debug!(%node, %error, "a connection to a connector has ended");
            }
        });
        Ok(Connection(sender))
    }
}

/// Every connector that was ever pulled from: at most as many as there are nodes.
#[derive(Debug, Default)]
pub(super) struct Pools(dashmap::DashMap<NodeId, Arc<PeerPool>>);

impl Pools {
    pub fn of(&self, node: NodeId, options: &PullOptions) -> Arc<PeerPool> {
        self.0.entry(node).or_insert_with(|| Arc::new(PeerPool::new(node, options))).clone()
    }
}

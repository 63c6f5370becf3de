//! Accepts Kafka clients, up to a limit, and gives each connection its task.

use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::connection;
use crate::security::{Listener, SecurityProtocol};
use tokio_rustls::TlsAcceptor;

mod descriptors;

/// How long connections may finish what is under way when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A listener's socket at this node.
#[derive(Debug)]
pub struct Door {
    socket: TcpListener,
    way: Way,
}

/// What a connection goes through before its first request.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) listener: Arc<Listener>,
    /// There exactly where the listener's protocol asks for it.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Way({})", self.listener.protocol)
    }
}

/// A listener with TLS was given no certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a {0} listener needs a certificate")]
pub struct NoCertificate(SecurityProtocol);

impl Door {
    /// A socket of this listener. A certificate is used only where the listener's protocol asks for one.
    pub fn new(
        socket: TcpListener,
        listener: Arc<Listener>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, NoCertificate> {
        let tls = match (listener.protocol.uses_tls(), tls) {
            (false, _) => None,
            (true, Some(config)) => Some(TlsAcceptor::from(config)),
            (true, None) => return Err(NoCertificate(listener.protocol)),
        };
        Ok(Door { socket, way: Way { listener, tls } })
    }

    /// Whose socket it is.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.way.listener
    }
}

/// Serves clients at all doors until `stop` says so, then lets what is in flight be answered. The limit of connections
/// is the node's, whichever doors they come through; and all nodes of a process share its file descriptors.
pub async fn serve(broker: Arc<Broker>, doors: Vec<Door>, stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(broker.settings.connections_max));
    let mut open = JoinSet::new();
    for door in doors {
        open.spawn(serve_door(broker.clone(), door, slots.clone(), stop.clone()));
    }
    while open.join_next().await.is_some() {}
}

async fn serve_door(broker: Arc<Broker>, door: Door, slots: Arc<Semaphore>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = door.socket.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: give others time to close.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let slot = (slots.clone().try_acquire_owned(), descriptors::CLIENTS.clone().try_acquire_owned());
        let (Ok(slot), Ok(descriptor)) = slot else {
            tracing::warn!(%address, limit = broker.settings.connections_max, "too many connections, or too few file descriptors: closed");
            metrics::counter!("waybill_kafka_connections_refused_total").increment(1);
            continue;
        };
        let (broker, way, stop) = (broker.clone(), door.way.clone(), stop.clone());
        connections.spawn(async move {
            connection::drive(broker, way, stream, address, stop).await;
            drop((slot, descriptor));
        });
    }
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "connections were still busy when the node stopped");
    }
}

/// Resolves when the node stops.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is as good as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

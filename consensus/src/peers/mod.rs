//! Links between nodes: TCP, TLS 1.3 with certificates on both sides, length-delimited frames.
//!
//! Each node dials every other node and sends on the connection that it dialled; it reads from those that it accepted.
//! All partitions share the link; whatever is queued for a peer when the writer gets to it leaves in one write.
//! A queue that outgrows its limit costs the connection, not memory: after a reconnect the replicas exchange summaries.

mod frame;
mod inbound;
mod outbound;

pub use frame::Service;

use bytes::Bytes;
use dashmap::DashMap;
use frame::Frame;
use outbound::Outbound;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use waybill_ledger::identity::{Directory, Identity, IdentityError, Peer};
use waybill_types::{ClusterId, NodeId};

/// What waits for frames from other nodes.
pub trait Handler: Send + Sync + 'static {
    /// Takes a PBFT message of `from` for a cluster. Waiting here is back-pressure on that peer's link.
    fn on_message(&self, from: NodeId, cluster: ClusterId, message: Bytes) -> BoxFuture<'_, ()>;
    /// Answers a call; none means that this node cannot.
    fn on_call(&self, from: Peer, service: Service, request: Bytes) -> BoxFuture<'_, Option<Bytes>>;
    /// The link towards `peer` is new: what was sent before may be lost.
    fn on_connected(&self, peer: NodeId);
}

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The limits of links.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest frame; a longer one closes the link.
    pub frame_bytes: usize,
    /// How much may wait for one peer before its connection is given up.
    pub queue_bytes: usize,
    /// How many calls of one peer are answered at a time.
    pub calls_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { frame_bytes: 64 << 20, queue_bytes: 128 << 20, calls_per_peer: 64 }
    }
}

/// Why a call got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The node is not in the directory, or is ourselves.
    #[error("there is no link to this node")]
    NoLink,
    /// No answer came in time, or the link broke.
    #[error("the node did not answer")]
    NoAnswer,
}

/// This node's links.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    me: NodeId,
    outbound: BTreeMap<NodeId, Outbound>,
    calls: DashMap<u64, oneshot::Sender<Bytes>>,
    next_call: AtomicU64,
    stop: watch::Sender<bool>,
}

impl Peers {
    /// Opens the links: dials every other node of the directory, over and over, and accepts on `listener`.
    pub fn start(
        identity: Arc<Identity>,
        directory: Arc<Directory>,
        listener: TcpListener,
        limits: Limits,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, IdentityError> {
        let stop = watch::Sender::new(false);
        let others = directory.nodes().into_iter().filter(|(node, _)| *node != identity.node);
        let mut outbound = BTreeMap::new();
        let mut dialled = Vec::new();
        for (node, entry) in others {
            let (link, queue) = Outbound::new(node, limits.queue_bytes);
            outbound.insert(node, link);
            dialled.push((node, entry.peer_address, queue, directory.client_config(&identity, node)?));
        }
        let server = directory.server_config(&identity)?;
        let shared =
            Arc::new(Shared { me: identity.node, outbound, calls: DashMap::new(), next_call: AtomicU64::new(0), stop });
        for (node, address, queue, config) in dialled {
            let name = directory.server_name(node)?;
            let dialler = outbound::Dialler { node, address, name, config, handler: handler.clone() };
            tokio::spawn(dialler.drive(queue, shared.stop.subscribe()));
        }
        let acceptor = inbound::Acceptor { shared: shared.clone(), directory, server, limits, handler };
        tokio::spawn(acceptor.drive(listener, shared.stop.subscribe()));
        Ok(Peers { shared })
    }

    /// Queues a PBFT message. Never waits; without a link the message is dropped, and the peer learns what it missed
    /// when the link is back.
    pub fn send(&self, to: NodeId, cluster: ClusterId, message: Bytes) {
        if let Some(link) = self.shared.outbound.get(&to) {
            link.queue(Frame::Message { cluster, message });
        }
    }

    /// Asks another node and waits for its answer.
    pub async fn call(
        &self,
        to: NodeId,
        service: Service,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let link = self.shared.outbound.get(&to).ok_or(CallError::NoLink)?;
        let id = self.shared.next_call.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let _registered = Registered { calls: &self.shared.calls, id };
        self.shared.calls.insert(id, answer);
        link.queue(Frame::Call { id, service, request });
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(bytes)) => Ok(bytes),
            _ => Err(CallError::NoAnswer),
        }
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.shared.me
    }

    /// Which peers the link towards stands now.
    pub fn connected(&self) -> Vec<NodeId> {
        self.shared.outbound.iter().filter(|(_, link)| link.is_connected()).map(|(node, _)| *node).collect()
    }

    /// Closes every link.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }
}

/// Takes a call off the table when its caller stops waiting, whatever the reason.
struct Registered<'a> {
    calls: &'a DashMap<u64, oneshot::Sender<Bytes>>,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.calls.remove(&self.id);
    }
}

/// Runs until `stop` says so; tasks spawned into the set end with it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is as good as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

type Tasks = JoinSet<()>;

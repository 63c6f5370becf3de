//! The connector's HTTPS port: hands out payloads of the outbox to whom its own node's ledgers allow it.
//!
//! HTTP/1.1 over mutual TLS. The peer's certificate says who asks; nothing else is believed. Paths and frames are in
//! [`wire`](crate::wire).

use crate::connector::Who;
use crate::evidence::Evidence;
use crate::options::ServeOptions;
use crate::outbox::Outbox;
use crate::permissions::Permissions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{counter, gauge};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use waybill_ledger::identity::{Directory, Identity, Peer};
use waybill_types::NetworkId;

mod answer;
mod body;
mod limits;
mod outgoing;
mod range;

use answer::Caller;
use limits::{Limits, try_take};

/// After a failure to accept (no file descriptors are left, say) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At shutdown, answers that are under way may take this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP takes no smaller buffer for a request's head.
const HEAD_BYTES_MIN: usize = 8192;

/// All that answering takes.
pub(crate) struct Server {
    identity: Arc<Identity>,
    directory: Arc<Directory>,
    network: NetworkId,
    outbox: Arc<Outbox>,
    permissions: Arc<dyn Permissions>,
    evidence: Evidence,
    options: ServeOptions,
    limits: Limits,
}

impl Server {
    pub fn new(
        who: Who,
        outbox: Arc<Outbox>,
        permissions: Arc<dyn Permissions>,
        evidence: Evidence,
        options: ServeOptions,
    ) -> Arc<Self> {
        let limits = Limits::new(&options);
        let Who { identity, directory, network } = who;
        Arc::new(Server { identity, directory, network, outbox, permissions, evidence, options, limits })
    }

    /// Accepts connections until `closing` says so, then lets what is under way end.
    pub async fn drive(self: Arc<Self>, listener: TcpListener, mut closing: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let told = closing.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, address)) => self.clone().admit(socket, address, told.clone(), &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "the connector cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                () = closed(&mut closing) => break,
            }
        }
        drop(listener);
        let drained = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(open = connections.len(), "connections are cut at shutdown: their answers took too long");
        }
    }

    fn admit(
        self: Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        closing: watch::Receiver<bool>,
        connections: &mut JoinSet<()>,
    ) {
        let Some(place) = try_take(&self.limits.handshakes) else {
            return refused(address, "too many are in their handshake");
        };
        connections.spawn(async move {
            let open = gauge!("waybill_connector_connections");
            open.increment(1);
            self.drive_connection(socket, address, place, closing).await;
            open.decrement(1);
        });
    }

    async fn drive_connection(
        self: Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
        mut closing: watch::Receiver<bool>,
    ) {
        let (tls, peer) = match self.handshake(socket).await {
            Ok(accepted) => accepted,
            Err(reason) => return refused(address, &reason),
        };
        drop(place);
        let share = self.limits.of(&peer.org);
        let (Some(_of_org), Some(_of_all)) = (try_take(&share.connections), try_take(&self.limits.connections)) else {
            return refused(address, &format!("{} has too many open, or all together have", peer.org));
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.options.request_timeout)
            .max_headers(self.options.headers_limit)
            .max_buf_size(self.options.head_bytes_limit.max(HEAD_BYTES_MIN));
        let caller = Caller { peer: Arc::new(peer), share, cut: Arc::default() };
        let service = service_fn(|request| {
            let answer = answer::answer(self.clone(), caller.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(tls), service));
        let mut draining = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    let error = ended.err().map(tracing::field::display);
                    tracing::debug!(%address, org = %caller.peer.org, error, "a connection to the connector has ended");
                    return;
                }
                () = caller.cut.notified() => {
                    tracing::info!(%address, org = %caller.peer.org, "a connection is cut: its receiver reads nothing");
                    return;
                }
                () = closed(&mut closing), if !draining => {
                    connection.as_mut().graceful_shutdown();
                    draining = true;
                }
            }
        }
    }

    /// The TLS configuration is made anew for each connection: the directory may have changed, and beside the handshake
    /// itself it costs nothing.
    async fn handshake(&self, socket: TcpStream) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, Peer), String> {
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let config = self.directory.server_config(&self.identity).map_err(|error| error.to_string())?;
        let accepted = timeout(self.options.handshake_timeout, TlsAcceptor::from(config).accept(socket)).await;
        let tls = accepted.map_err(|_| "the handshake took too long")?.map_err(|error| error.to_string())?;
        let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = self.directory.peer(certificates).map_err(|error| error.to_string())?;
        Ok((tls, peer))
    }
}

fn refused(address: SocketAddr, reason: &str) {
    counter!("waybill_connector_connections_refused_total").increment(1);
    tracing::info!(%address, reason, "a connection to the connector is refused");
}

/// Resolves when the connector closes, or is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

//! The links that peers dial: who it is, then frames to the handler.

use super::frame::{Frame, Service};
use super::{Handler, Limits, Shared, Tasks, stopped};
use bytes::{Bytes, BytesMut};
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use waybill_ledger::identity::{Directory, Peer};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 256 << 10;
/// With less room than this in the buffer it is moved or made anew.
const READ_BYTES_MIN: usize = 16 << 10;
/// Connections whose handshake is not done yet: strangers cost no more than this.
const HANDSHAKES_MAX: usize = 256;

/// Accepts links.
pub(super) struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) directory: Arc<Directory>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) limits: Limits,
    pub(super) handler: Arc<dyn Handler>,
}

impl Acceptor {
    pub(super) async fn drive(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut links = Tasks::new();
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = listener.accept() => accepted,
                Some(_) = links.join_next() => continue,
            };
            let Ok((stream, address)) = accepted else {
                // Out of file descriptors, most likely: give others time to close.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(permit) = handshakes.clone().try_acquire_owned() else { continue };
            let this = this.clone();
            links.spawn(async move {
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, this.identify(stream)).await;
                drop(permit);
                let ended = match handshake {
                    Ok(Ok((peer, stream))) => this.read(peer, stream).await,
                    Ok(Err(error)) => Err(error),
                    Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
                };
                if let Err(error) = ended {
                    tracing::info!(%address, reason = %error, "a node's link was refused or broke");
                }
            });
        }
        // The link tasks end with the set.
    }

    async fn identify(&self, stream: TcpStream) -> io::Result<(Peer, TlsStream<TcpStream>)> {
        stream.set_nodelay(true)?;
        let stream = TlsAcceptor::from(self.server.clone()).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = self.directory.peer(certificates).map_err(io::Error::other)?;
        Ok((peer, stream))
    }

    async fn read(self: &Arc<Self>, peer: Peer, mut stream: TlsStream<TcpStream>) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let slots = Arc::new(Semaphore::new(self.limits.calls_per_peer));
        let mut calls = Tasks::new();
        loop {
            while let Some(frame) = Frame::cut(&mut buffer, self.limits.frame_bytes).map_err(io::Error::other)? {
                match frame {
                    Frame::Message { cluster, message } => {
                        self.handler.on_message(peer.node, cluster, message).await;
                    }
                    Frame::Answer { id, answer } => {
                        if let Some((_, waiting)) = self.shared.calls.remove(&id) {
                            // The caller may have given up.
                            let _ = waiting.send(answer);
                        }
                    }
                    Frame::Call { id, service, request } => {
                        while calls.try_join_next().is_some() {}
                        let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
                        let (this, peer) = (self.clone(), peer.clone());
                        calls.spawn(async move {
                            this.answer(peer, id, service, request).await;
                            drop(slot);
                        });
                    }
                }
            }
            if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
                buffer.reserve(READ_BYTES);
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn answer(&self, peer: Peer, id: u64, service: Service, request: Bytes) {
        let node = peer.node;
        if let Some(answer) = self.handler.on_call(peer, service, request).await
            && let Some(link) = self.shared.outbound.get(&node)
        {
            link.queue(Frame::Answer { id, answer });
        }
    }
}

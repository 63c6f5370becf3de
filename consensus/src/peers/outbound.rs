//! The link that we dial: a bounded queue, and a writer that sends everything queued in one write.

use super::frame::Frame;
use super::{Handler, stopped};
use bytes::{Buf, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use waybill_types::NodeId;

/// One write takes at most about this much.
const WRITE_BYTES: usize = 1 << 20;
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);

/// Our side of a queue towards one peer.
pub(super) struct Outbound {
    node: NodeId,
    frames: mpsc::UnboundedSender<Frame>,
    state: Arc<State>,
}

/// The writer's side.
pub(super) struct Queue {
    frames: mpsc::UnboundedReceiver<Frame>,
    state: Arc<State>,
}

/// The channel itself has no bound: these bytes are it.
struct State {
    queued_bytes: AtomicUsize,
    queue_bytes_limit: usize,
    connected: AtomicBool,
    overflowed: AtomicBool,
}

impl Outbound {
    pub(super) fn new(node: NodeId, queue_bytes_limit: usize) -> (Self, Queue) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            queued_bytes: AtomicUsize::new(0),
            queue_bytes_limit,
            connected: AtomicBool::new(false),
            overflowed: AtomicBool::new(false),
        });
        (Outbound { node, frames: sender, state: state.clone() }, Queue { frames: receiver, state })
    }

    /// Queues a frame, or drops it: without a connection, or beyond the limit (then the connection goes as well).
    pub(super) fn queue(&self, frame: Frame) {
        if !self.is_connected() {
            return;
        }
        let bytes = frame.wire_bytes();
        let queued_bytes = self.state.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if queued_bytes > self.state.queue_bytes_limit {
            self.state.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if !self.state.overflowed.swap(true, Ordering::Relaxed) {
                tracing::warn!(peer = %self.node, queued_bytes, "the peer reads too slowly: its link starts over");
            }
            return;
        }
        // The writer lives as long as the link: a send can only fail while the node stops.
        let _ = self.frames.send(frame);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.connected.load(Ordering::Relaxed)
    }
}

impl Queue {
    /// Waits for a frame, then takes all that are queued, up to one write's worth.
    async fn fill(&mut self, buffer: &mut BytesMut) -> bool {
        let Some(first) = self.frames.recv().await else { return false };
        self.write(first, buffer);
        while buffer.len() < WRITE_BYTES {
            let Ok(frame) = self.frames.try_recv() else { break };
            self.write(frame, buffer);
        }
        true
    }

    fn write(&self, frame: Frame, buffer: &mut BytesMut) {
        self.state.queued_bytes.fetch_sub(frame.wire_bytes(), Ordering::Relaxed);
        frame.write(buffer);
    }

    /// Forgets what was meant for the connection before.
    fn clear(&mut self) {
        while let Ok(frame) = self.frames.try_recv() {
            self.state.queued_bytes.fetch_sub(frame.wire_bytes(), Ordering::Relaxed);
        }
        self.state.overflowed.store(false, Ordering::Relaxed);
    }
}

/// Keeps the link towards one peer up.
pub(super) struct Dialler {
    pub(super) node: NodeId,
    pub(super) address: String,
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
    pub(super) handler: Arc<dyn Handler>,
}

impl Dialler {
    pub(super) async fn drive(self, mut queue: Queue, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = self.keep_up(&mut queue) => {}
        }
        queue.state.connected.store(false, Ordering::Relaxed);
    }

    async fn keep_up(&self, queue: &mut Queue) {
        let mut pause = REDIAL_FIRST;
        let mut reported = String::new();
        loop {
            match tokio::time::timeout(DIAL_TIMEOUT, self.dial()).await {
                Ok(Ok(stream)) => {
                    tracing::info!(peer = %self.node, address = %self.address, "link is up");
                    (pause, reported) = (REDIAL_FIRST, String::new());
                    queue.clear();
                    queue.state.connected.store(true, Ordering::Relaxed);
                    self.handler.on_connected(self.node);
                    let ended = carry(queue, stream).await;
                    queue.state.connected.store(false, Ordering::Relaxed);
                    tracing::info!(peer = %self.node, reason = %ended, "link is down");
                }
                failed => {
                    let reason = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no connection in time".to_string(),
                    };
                    if reason != reported {
                        tracing::info!(peer = %self.node, address = %self.address, %reason, "cannot reach the peer yet");
                        reported = reason;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REDIAL_MAX);
        }
    }

    async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.config.clone()).connect(self.name.clone(), stream).await
    }
}

/// Writes until the link breaks; says why it did.
async fn carry(queue: &mut Queue, stream: TlsStream<TcpStream>) -> String {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
    let mut unexpected = [0; 1];
    loop {
        tokio::select! {
            more = queue.fill(&mut buffer) => if !more { return "the node stops".into() },
            // The peer never writes on our link: whatever comes is its end.
            _ = reader.read(&mut unexpected) => return "the peer closed it".into(),
        }
        if queue.state.overflowed.load(Ordering::Relaxed) {
            return "too much was queued".into();
        }
        while buffer.has_remaining() {
            match tokio::time::timeout(DIAL_TIMEOUT * 6, writer.write_buf(&mut buffer)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "the peer does not read".into(),
            }
        }
        buffer.clear();
        if let Err(error) = writer.flush().await {
            return error.to_string();
        }
    }
}

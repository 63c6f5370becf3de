//! An answer's body, fed by the task that asks for permission, reads and cuts.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// Chunks between the task and the socket.
const QUEUED_CHUNKS: usize = 2;

/// The body that HTTP sends.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// At hand; empty once it is taken.
    Whole(Bytes),
    /// Made while it is sent.
    Stream {
        chunks: mpsc::Receiver<io::Result<Bytes>>,
        /// How much is to come, where that is known.
        left_bytes: Option<u64>,
        /// How many chunks went to the socket: the other end reads it.
        taken: Arc<AtomicUsize>,
    },
}

/// The task's end of a streamed body. If it is dropped, the body ends; [`abort`](Self::abort) makes the receiver see
/// that it is not whole.
#[derive(Debug)]
pub(super) struct ChunkSender {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    taken: Arc<AtomicUsize>,
    timeout: Duration,
    /// Cuts the connection: HTTP itself would wait for ever for a receiver that reads nothing.
    cut: Arc<Notify>,
}

/// The receiver went away, or accepts nothing.
#[derive(Debug)]
pub(super) struct ReceiverGone;

impl AnswerBody {
    /// A body and the end to feed it; if a chunk is not accepted within `timeout`, `cut` is told.
    pub fn stream(length: Option<u64>, timeout: Duration, cut: Arc<Notify>) -> (ChunkSender, Self) {
        let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
        let taken = Arc::new(AtomicUsize::new(0));
        let body = AnswerBody::Stream { chunks, left_bytes: length, taken: taken.clone() };
        (ChunkSender { chunks: sender, taken, timeout, cut }, body)
    }
}

impl ChunkSender {
    pub async fn send(&self, chunk: Bytes) -> Result<(), ReceiverGone> {
        match timeout(self.timeout, self.chunks.send(Ok(chunk))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ReceiverGone),
            Err(_) => {
                self.cut.notify_one();
                Err(ReceiverGone)
            }
        }
    }

    /// How many chunks went to the socket, once there are no more to go.
    pub async fn taken(&self) -> usize {
        // It fails when the body was dropped: at its end, if HTTP knew the length, or because the receiver went away.
        if timeout(self.timeout, self.chunks.reserve_many(QUEUED_CHUNKS)).await.is_err() {
            self.cut.notify_one();
        }
        self.taken.load(Ordering::Acquire)
    }

    /// Ends the body so that the receiver sees it was cut: the connection is closed without HTTP's end of it.
    pub async fn abort(self, reason: &'static str) {
        if timeout(self.timeout, self.chunks.send(Err(io::Error::other(reason)))).await.is_err() {
            self.cut.notify_one();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            AnswerBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            AnswerBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            AnswerBody::Stream { chunks, left_bytes, taken } => chunks.poll_recv(context).map(|chunk| {
                if let Some(Ok(chunk)) = &chunk {
                    taken.fetch_add(1, Ordering::Release);
                    *left_bytes = left_bytes.map(|left| left.saturating_sub(chunk.len() as u64));
                }
                Some(chunk?.map(Frame::data))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::Stream { left_bytes: Some(left), .. } => SizeHint::with_exact(*left),
            AnswerBody::Stream { left_bytes: None, .. } => SizeHint::new(),
        }
    }
}

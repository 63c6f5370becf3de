//! The bytes of an answer on their way to the socket: cut into chunks, each sent only while it is allowed.

use super::body::{ChunkSender, ReceiverGone};
use crate::consignment::Consignment;
use bytes::{Bytes, BytesMut};
use metrics::counter;
use waybill_types::Offset;

/// Pieces below this are copied together: one write for many small batches.
const COPY_BELOW_BYTES: usize = 16 << 10;

/// Why the middle of an answer is its end.
pub(super) enum Stop {
    /// It went away, or reads nothing.
    ReceiverGone,
    /// It may not have the rest.
    Revoked,
}

impl From<ReceiverGone> for Stop {
    fn from(_: ReceiverGone) -> Self {
        Stop::ReceiverGone
    }
}

/// Chunks on their way, and which batches they complete.
pub(super) struct Outgoing {
    chunks: ChunkSender,
    chunk_bytes: usize,
    pending: BytesMut,
    sent_chunks: usize,
    /// Served offsets, and after how many chunks the last byte of them is out.
    ends: Vec<(Offset, Offset, usize)>,
}

impl Outgoing {
    pub fn new(chunks: ChunkSender, chunk_bytes: usize) -> Self {
        let chunk_bytes = chunk_bytes.max(1);
        Outgoing { chunks, chunk_bytes, pending: BytesMut::new(), sent_chunks: 0, ends: Vec::new() }
    }

    /// Queues a piece. Every chunk is sent only while `allowed`.
    pub async fn push(&mut self, mut piece: Bytes, allowed: impl Fn() -> bool) -> Result<(), Stop> {
        if piece.len() < COPY_BELOW_BYTES.min(self.chunk_bytes) {
            self.pending.extend_from_slice(&piece);
            if self.pending.len() < self.chunk_bytes {
                return Ok(());
            }
            return self.flush(allowed).await;
        }
        self.flush(&allowed).await?;
        while !piece.is_empty() {
            let chunk = piece.split_to(piece.len().min(self.chunk_bytes));
            self.send_if(chunk, &allowed).await?;
        }
        Ok(())
    }

    pub async fn flush(&mut self, allowed: impl Fn() -> bool) -> Result<(), Stop> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = self.pending.split().freeze();
        self.send_if(chunk, &allowed).await
    }

    async fn send_if(&mut self, chunk: Bytes, allowed: impl Fn() -> bool) -> Result<(), Stop> {
        if !allowed() {
            return Err(Stop::Revoked);
        }
        let bytes = chunk.len() as u64;
        self.chunks.send(chunk).await?;
        self.sent_chunks += 1;
        counter!("waybill_connector_served_bytes_total").increment(bytes);
        Ok(())
    }

    /// All of `batch` has been pushed.
    pub fn note_end(&mut self, batch: &Consignment) {
        let unsent = usize::from(!self.pending.is_empty());
        self.ends.push((batch.first, batch.last, self.sent_chunks + unsent));
    }

    /// The ranges of offsets whose last bytes, the salts, went to the socket.
    pub async fn served(&mut self) -> Vec<(Offset, Offset)> {
        let taken = self.chunks.taken().await;
        let mut ranges: Vec<(Offset, Offset)> = Vec::new();
        for (first, last, _) in self.ends.drain(..).filter(|(.., chunks)| *chunks <= taken) {
            match ranges.last_mut() {
                Some(range) if range.1.checked_add(1) == Some(first) => range.1 = last,
                _ => ranges.push((first, last)),
            }
        }
        ranges
    }

    /// Ends the body so that the receiver sees that it is cut.
    pub async fn abort(self, reason: &'static str) {
        self.chunks.abort(reason).await;
    }
}

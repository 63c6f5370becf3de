//! Takes the payloads out of an answer, piece by piece as it arrives. Without sockets, so that every way of cutting the
//! stream can be tested.

use crate::consignment::Consignment;
use crate::payload::{Incoming, Payload};
use crate::wire::{FRAME_HEAD_BYTES, SALT_BYTES};
use bytes::Bytes;
use waybill_types::Salt;

/// The peer sent something else than what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misframed {
    /// The next frame is not the next batch.
    #[error("it sent offset {sent} of {sent_bytes} bytes where offset {wanted} of {wanted_bytes} bytes was next")]
    OtherBatch { sent: i64, sent_bytes: u32, wanted: i64, wanted_bytes: u32 },
    /// Something follows the last batch.
    #[error("it sent more than was asked for")]
    Surplus,
}

/// Reads the batches of `wanted`, in their order.
#[derive(Debug)]
pub(super) struct Unpacker<'w> {
    wanted: &'w [Consignment],
    framed: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for a frame's head.
    Head(Fixed<FRAME_HEAD_BYTES>),
    /// Waits for the rest of the batch.
    Batch(Incoming),
    /// Waits for the rest of the salt.
    Salt(Incoming, Fixed<SALT_BYTES>),
    /// Everything is there.
    Done,
}

impl<'w> Unpacker<'w> {
    /// For the answer to a multi-get.
    pub fn multi(wanted: &'w [Consignment]) -> Self {
        let stage = if wanted.is_empty() { Stage::Done } else { Stage::Head(Fixed::new()) };
        Unpacker { wanted, framed: true, stage }
    }

    /// For the answer that carries one batch, or the rest of one.
    pub fn single(wanted: &'w Consignment, begun: Incoming) -> Self {
        Unpacker { wanted: std::slice::from_ref(wanted), framed: false, stage: batch_stage(begun) }
    }

    /// Takes bytes off the front of `chunk`; gives the next payload as soon as its last byte is there.
    pub fn feed(&mut self, chunk: &mut Bytes) -> Result<Option<Payload>, Misframed> {
        while !chunk.is_empty() {
            match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Done => return Err(Misframed::Surplus),
                Stage::Head(mut head) => {
                    self.stage = match head.fill(chunk) {
                        Some(head) => batch_stage(self.begin(head)?),
                        None => Stage::Head(head),
                    };
                }
                Stage::Batch(mut incoming) => {
                    incoming.take_from(chunk);
                    self.stage = batch_stage(incoming);
                }
                Stage::Salt(incoming, mut salt) => match salt.fill(chunk) {
                    Some(salt) => {
                        self.wanted = self.wanted.get(1..).unwrap_or_default();
                        if self.framed && !self.wanted.is_empty() {
                            self.stage = Stage::Head(Fixed::new());
                        }
                        return Ok(incoming.finish(Salt(salt)));
                    }
                    None => self.stage = Stage::Salt(incoming, salt),
                },
            }
        }
        Ok(None)
    }

    /// Whether the stream may end here: between two batches.
    pub fn at_boundary(&self) -> bool {
        match &self.stage {
            Stage::Done => true,
            Stage::Head(head) => head.have == 0,
            Stage::Batch(_) | Stage::Salt(..) => false,
        }
    }

    /// What was received of an unfinished batch. A salt that was cut is read again: it is part of the same range.
    pub fn into_partial(self) -> Option<Incoming> {
        match self.stage {
            Stage::Batch(incoming) | Stage::Salt(incoming, _) => Some(incoming),
            Stage::Head(_) | Stage::Done => None,
        }
    }

    /// Memory is given to a batch only when its frame says what the ledger says.
    fn begin(&self, head: [u8; FRAME_HEAD_BYTES]) -> Result<Incoming, Misframed> {
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = head;
        let sent = i64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let sent_bytes = u32::from_be_bytes([l0, l1, l2, l3]);
        let Some(wanted) = self.wanted.first() else { return Err(Misframed::Surplus) };
        if sent != wanted.first || sent_bytes != wanted.size_bytes {
            let (wanted, wanted_bytes) = (wanted.first, wanted.size_bytes);
            return Err(Misframed::OtherBatch { sent, sent_bytes, wanted, wanted_bytes });
        }
        Ok(Incoming::new(sent_bytes))
    }
}

fn batch_stage(incoming: Incoming) -> Stage {
    if incoming.missing_bytes() == 0 { Stage::Salt(incoming, Fixed::new()) } else { Stage::Batch(incoming) }
}

/// A field of fixed length that may arrive in pieces.
#[derive(Debug)]
struct Fixed<const N: usize> {
    bytes: [u8; N],
    have: usize,
}

impl<const N: usize> Fixed<N> {
    fn new() -> Self {
        Fixed { bytes: [0; N], have: 0 }
    }

    fn fill(&mut self, chunk: &mut Bytes) -> Option<[u8; N]> {
        let piece = chunk.split_to(chunk.len().min(N - self.have));
        self.bytes[self.have..self.have + piece.len()].copy_from_slice(&piece);
        self.have += piece.len();
        (self.have == N).then_some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_types::{Commitment, LedgerId, NodeId, OrgId};

    fn wanted(offset: i64, batch: &[u8], salt: &Salt) -> Consignment {
        Consignment {
            ledger: LedgerId::SYSTEM,
            first: offset,
            last: offset,
            sender: OrgId::new("acme").unwrap(),
            connector: NodeId(1),
            commitment: Commitment::new(&[batch], salt),
            size_bytes: batch.len() as u32,
        }
    }

    fn sample() -> (Vec<Consignment>, Vec<u8>) {
        let (mut list, mut stream) = (Vec::new(), Vec::new());
        for (offset, batch) in [(3, b"first".as_slice()), (4, b"x"), (9, b"third batch")] {
            let salt = Salt([offset as u8; 32]);
            list.push(wanted(offset, batch, &salt));
            stream.extend_from_slice(&offset.to_be_bytes());
            stream.extend_from_slice(&(batch.len() as u32).to_be_bytes());
            stream.extend_from_slice(batch);
            stream.extend_from_slice(&salt.0);
        }
        (list, stream)
    }

    fn feed_all(unpacker: &mut Unpacker, bytes: &[u8]) -> Result<Vec<Payload>, Misframed> {
        let (mut chunk, mut payloads) = (Bytes::copy_from_slice(bytes), Vec::new());
        while !chunk.is_empty() {
            payloads.extend(unpacker.feed(&mut chunk)?);
        }
        Ok(payloads)
    }

    #[test]
    fn payloads_come_out_however_the_stream_is_cut() {
        let (list, stream) = sample();
        for piece in 1..=stream.len() {
            let mut unpacker = Unpacker::multi(&list);
            let mut payloads = Vec::new();
            for bytes in stream.chunks(piece) {
                payloads.extend(feed_all(&mut unpacker, bytes).unwrap());
            }
            assert!(unpacker.at_boundary());
            assert_eq!(payloads.len(), 3, "pieces of {piece}");
            for (payload, wanted) in payloads.into_iter().zip(&list) {
                assert!(payload.verify(&wanted.commitment).is_ok());
            }
        }
    }

    #[test]
    fn a_broken_stream_goes_on_as_a_single_batch_from_any_byte() {
        let (list, stream) = sample();
        let batch = &stream[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + 5 + SALT_BYTES];
        for cut in 1..batch.len() {
            let mut unpacker = Unpacker::multi(&list);
            assert!(feed_all(&mut unpacker, &stream[..FRAME_HEAD_BYTES + cut]).unwrap().is_empty());
            assert!(!unpacker.at_boundary());
            let partial = unpacker.into_partial().unwrap();
            assert_eq!(partial.received_bytes(), cut.min(5));
            let rest = &batch[partial.received_bytes()..];
            let mut resumed = Unpacker::single(&list[0], partial);
            let payload = feed_all(&mut resumed, rest).unwrap().remove(0);
            assert!(payload.verify(&list[0].commitment).is_ok(), "cut at {cut}");
            assert!(resumed.at_boundary());
        }
    }

    #[test]
    fn a_frame_that_was_not_asked_for_is_refused_before_it_takes_memory() {
        let (list, stream) = sample();
        let mut long = stream.clone();
        long[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(feed_all(&mut Unpacker::multi(&list), &long), Err(Misframed::OtherBatch { .. })));
        assert!(matches!(feed_all(&mut Unpacker::multi(&list[1..]), &stream), Err(Misframed::OtherBatch { .. })));
        assert_eq!(feed_all(&mut Unpacker::multi(&list[..1]), &stream).unwrap_err(), Misframed::Surplus);
        assert_eq!(feed_all(&mut Unpacker::multi(&[]), &stream).unwrap_err(), Misframed::Surplus);
    }
}

//! What a link carries: `u32 length | u8 kind | payload`, big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use waybill_types::{ClusterId, Digest};

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A Raft request for the global ledger.
    GlobalRaft,
    /// A Raft request for the callers' organisation ledger.
    OrganisationRaft,
    /// Certified blocks of a partition, to catch up.
    Blocks,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message { cluster: ClusterId, message: Bytes },
    Call { id: u64, service: Service, request: Bytes },
    Answer { id: u64, answer: Bytes },
}

/// Why bytes are not frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes is above the limit")]
    TooLong(usize),
    #[error("a frame is too short for its kind")]
    TooShort,
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
}

const LENGTH_BYTES: usize = 4;
/// From this size on a frame shares the memory of the buffer that it came in.
const SHARED_BYTES_MIN: usize = 128 << 10;

impl Frame {
    /// How many bytes the frame takes on the wire.
    pub(super) fn wire_bytes(&self) -> usize {
        LENGTH_BYTES + self.content_bytes()
    }

    fn content_bytes(&self) -> usize {
        1 + match self {
            Frame::Message { message, .. } => 32 + message.len(),
            Frame::Call { request, .. } => 9 + request.len(),
            Frame::Answer { answer, .. } => 8 + answer.len(),
        }
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.reserve(self.wire_bytes());
        out.put_u32(self.content_bytes() as u32);
        match self {
            Frame::Message { cluster, message } => {
                out.put_u8(1);
                out.put_slice(&cluster.0.0);
                out.put_slice(message);
            }
            Frame::Call { id, service, request } => {
                out.put_u8(2);
                out.put_u64(*id);
                out.put_u8(service.number());
                out.put_slice(request);
            }
            Frame::Answer { id, answer } => {
                out.put_u8(3);
                out.put_u64(*id);
                out.put_slice(answer);
            }
        }
    }

    /// Takes the next whole frame off `buffer`, if there is one.
    pub(super) fn cut(buffer: &mut BytesMut, frame_bytes_limit: usize) -> Result<Option<Frame>, FrameError> {
        let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > frame_bytes_limit {
            return Err(FrameError::TooLong(length));
        }
        if buffer.len() < LENGTH_BYTES + length {
            buffer.reserve(LENGTH_BYTES + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        // Replicas keep messages for a while: a small one must not keep the buffer alive that it was read into.
        let content = if length < SHARED_BYTES_MIN {
            let content = Bytes::copy_from_slice(&buffer[..length]);
            buffer.advance(length);
            content
        } else {
            buffer.split_to(length).freeze()
        };
        Self::parse(content).map(Some)
    }

    fn parse(mut content: Bytes) -> Result<Frame, FrameError> {
        let kind = content.try_get_u8().map_err(|_| FrameError::TooShort)?;
        match kind {
            1 if content.len() >= 32 => {
                let mut cluster = [0; 32];
                content.copy_to_slice(&mut cluster);
                Ok(Frame::Message { cluster: ClusterId(Digest(cluster)), message: content })
            }
            2 if content.len() >= 9 => {
                let id = content.get_u64();
                let number = content.get_u8();
                let service = Service::from_number(number).ok_or(FrameError::UnknownKind(number))?;
                Ok(Frame::Call { id, service, request: content })
            }
            3 if content.len() >= 8 => Ok(Frame::Answer { id: content.get_u64(), answer: content }),
            1..=3 => Err(FrameError::TooShort),
            kind => Err(FrameError::UnknownKind(kind)),
        }
    }
}

impl Service {
    fn number(self) -> u8 {
        match self {
            Service::GlobalRaft => 1,
            Service::OrganisationRaft => 2,
            Service::Blocks => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Service::GlobalRaft, Service::OrganisationRaft, Service::Blocks]
            .into_iter()
            .find(|service| service.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_of_any_slicing_as_they_went_in() {
        let frames = [
            Frame::Message { cluster: ClusterId(Digest([7; 32])), message: Bytes::from_static(b"vote") },
            Frame::Call { id: 9, service: Service::Blocks, request: Bytes::new() },
            Frame::Answer { id: 9, answer: Bytes::from_static(b"blocks") },
        ];
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| frame.write(&mut wire));
        assert_eq!(wire.len(), frames.iter().map(Frame::wire_bytes).sum::<usize>());
        let mut buffer = BytesMut::new();
        let mut cut = Vec::new();
        for byte in wire {
            buffer.put_u8(byte);
            cut.extend(Frame::cut(&mut buffer, 100).unwrap());
        }
        assert_eq!(cut, frames);
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_is_buffered() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(Frame::cut(&mut buffer, 100), Err(FrameError::TooLong(0xffff_ffff)));
    }

    #[test]
    fn short_and_unknown_frames_are_refused() {
        for content in [&[][..], &[1, 2, 3], &[2, 0, 0], &[9, 1]] {
            let mut buffer = BytesMut::new();
            buffer.put_u32(content.len() as u32);
            buffer.put_slice(content);
            assert!(Frame::cut(&mut buffer, 100).is_err(), "{content:?}");
        }
    }
}

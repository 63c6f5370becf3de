//! From a byte stream to requests: cutting length-prefixed frames, reading request headers.
//!
//! The shell reads from its socket straight into [`Cutter::room`]; each complete frame comes out as a slice of that
//! same memory, so that a record batch is never copied between socket and store. Because frames share the buffer
//! they were read into, whoever keeps a few bytes of a request for long (a client id, a member's metadata) copies them.
//!
//! Nothing here trusts a length: memory follows the bytes that have arrived, not those that were announced.

mod header;
pub(crate) mod reader;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

pub use header::{HeaderError, RequestHeader};
pub use reader::ReadError;

/// The largest frame of an authenticated client: Kafka's `socket.request.max.bytes` and a margin for the header.
pub const FRAME_BYTES_LIMIT: usize = 104_857_600 + MARGIN_BYTES;

/// The largest frame before authentication: ApiVersions, SASL handshakes and tokens, nothing else.
pub const UNAUTHENTICATED_FRAME_BYTES_LIMIT: usize = 64 * 1024;

/// The size of a fresh buffer, so that small frames arrive many at a time.
const READ_BYTES: usize = 64 * 1024;

/// A buffer is used up to its last page before a fresh one is taken: requests under way keep theirs alive.
const SPARE_BYTES_MIN: usize = 4 * 1024;

/// Room is made for a whole announced frame up to this size; beyond it, room doubles with what has arrived.
const EAGER_BYTES: usize = 2 * 1024 * 1024;

const MARGIN_BYTES: usize = 64 * 1024;
const PREFIX_BYTES: usize = 4;

/// API key, version, correlation id: what no request can lack.
const HEADER_BYTES_MIN: usize = 8;

/// Why a stream cannot be cut any further. The client sent it; the connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The length prefix is negative.
    #[error("frame of {0} bytes")]
    Negative(i32),
    /// The frame would be larger than this connection may send.
    #[error("frame of {claimed} bytes, at most {limit} are taken{}", hint(*claimed))]
    Oversized {
        /// The announced length.
        claimed: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The frame cannot hold a request header.
    #[error("frame of {0} bytes, too short for a request")]
    Short(usize),
}

/// Cuts frames out of a stream.
#[derive(Debug)]
pub struct Cutter {
    buffer: BytesMut,
    frame_bytes_limit: usize,
    frame_bytes_min: usize,
}

impl Cutter {
    /// A cutter that refuses frames above the limit.
    pub fn new(frame_bytes_limit: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_limit, frame_bytes_min: HEADER_BYTES_MIN }
    }

    /// Raises or lowers the limit, for frames not yet cut: a client has authenticated.
    pub fn limit(&mut self, frame_bytes_limit: usize) {
        self.frame_bytes_limit = frame_bytes_limit;
    }

    /// Whether the next frames are bare SASL tokens, which may be shorter than a request's header and even empty.
    pub fn expect_tokens(&mut self, tokens: bool) {
        self.frame_bytes_min = if tokens { 0 } else { HEADER_BYTES_MIN };
    }

    /// Where the next bytes of the stream are to be appended, with spare room for a large read.
    ///
    /// Called after [`Cutter::cut`] has returned `None`.
    pub fn room(&mut self) -> &mut BytesMut {
        let missing = self.announced().map_or(0, |frame| (PREFIX_BYTES + frame).saturating_sub(self.buffer.len()));
        // An announced frame may never come: thousands of idle connections must not hold what they merely claimed.
        let trusted = missing.min(self.buffer.len().max(EAGER_BYTES));
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < trusted.max(SPARE_BYTES_MIN) {
            self.buffer.reserve(trusted.max(READ_BYTES));
        }
        &mut self.buffer
    }

    /// The next whole frame without its length prefix, or `None` until more bytes have arrived.
    pub fn cut(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.prefix() else { return Ok(None) };
        let frame_bytes = usize::try_from(prefix).map_err(|_| FrameError::Negative(prefix))?;
        if frame_bytes > self.frame_bytes_limit {
            return Err(FrameError::Oversized { claimed: frame_bytes, limit: self.frame_bytes_limit });
        }
        if frame_bytes < self.frame_bytes_min {
            return Err(FrameError::Short(frame_bytes));
        }
        if self.buffer.len() < PREFIX_BYTES + frame_bytes {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(PREFIX_BYTES + frame_bytes).freeze();
        Ok(Some(frame.split_off(PREFIX_BYTES)))
    }

    /// Whether the stream stands between two frames: ending here, a client has lost nothing.
    pub fn is_at_boundary(&self) -> bool {
        self.buffer.is_empty()
    }

    fn announced(&self) -> Option<usize> {
        self.prefix().and_then(|prefix| usize::try_from(prefix).ok()).filter(|&frame| frame <= self.frame_bytes_limit)
    }

    fn prefix(&self) -> Option<i32> {
        self.buffer.first_chunk().copied().map(i32::from_be_bytes)
    }
}

/// What a stranger's first four bytes betray when they are taken for a length.
fn hint(claimed: usize) -> &'static str {
    match u32::try_from(claimed).unwrap_or_default().to_be_bytes() {
        [0x16, 0x03, ..] => " (this looks like a TLS handshake on a plaintext port)",
        [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'E', b'A', b'D'] => " (this looks like HTTP)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    //! Frames come out whole and in order however the stream was torn, and no announced length costs memory.

    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for body in bodies {
            stream.put_i32(i32::try_from(body.len()).expect("a small frame"));
            stream.put_slice(body);
        }
        stream
    }

    fn cut_all(cutter: &mut Cutter) -> Result<Vec<Bytes>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = cutter.cut()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn several_frames_of_one_read_share_its_memory() {
        let mut cutter = Cutter::new(FRAME_BYTES_LIMIT);
        cutter.room().put_slice(&framed(&[vec![1; 10], vec![2; 20], vec![3; 30]])[..70]);
        let start = cutter.buffer.as_ptr() as usize;
        let frames = cut_all(&mut cutter).expect("frames");
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), [10, 20]);
        assert_eq!(frames.iter().map(|frame| frame.as_ptr() as usize - start).collect::<Vec<_>>(), [4, 18]);
        assert!(!cutter.is_at_boundary());
        cutter.room().put_slice(&[3; 2]);
        assert_eq!(cut_all(&mut cutter).expect("frames"), [Bytes::from(vec![3; 30])]);
        assert!(cutter.is_at_boundary());
    }

    #[test]
    fn impossible_lengths_are_refused_before_their_bytes_arrive() {
        let refusal = |prefix: i32| {
            let mut cutter = Cutter::new(1_000);
            cutter.room().put_i32(prefix);
            cutter.cut().expect_err("refused")
        };
        assert_eq!(refusal(-1), FrameError::Negative(-1));
        assert_eq!(refusal(i32::MIN), FrameError::Negative(i32::MIN));
        assert_eq!(refusal(1_001), FrameError::Oversized { claimed: 1_001, limit: 1_000 });
        assert_eq!(refusal(0), FrameError::Short(0));
        assert_eq!(refusal(7), FrameError::Short(7));
    }

    #[test]
    fn strangers_are_recognised() {
        let says = |first: [u8; 4]| {
            let mut cutter = Cutter::new(FRAME_BYTES_LIMIT);
            cutter.room().put_slice(&first);
            cutter.cut().expect_err("refused").to_string()
        };
        assert!(says([0x16, 3, 1, 2]).contains("TLS"));
        assert!(says(*b"GET ").contains("HTTP"));
    }

    #[test]
    fn the_limit_moves_with_authentication() {
        let mut cutter = Cutter::new(16);
        cutter.limit(32);
        cutter.room().put_slice(&framed(&[vec![0; 32]]));
        assert_eq!(cut_all(&mut cutter).expect("a frame").len(), 1);
    }

    #[test]
    fn tokens_may_be_shorter_than_a_request() {
        let mut cutter = Cutter::new(FRAME_BYTES_LIMIT);
        cutter.room().put_slice(&framed(&[vec![], vec![1], vec![2; 7], vec![3; 7]]));
        cutter.expect_tokens(true);
        for expected in [&[][..], &[1], &[2; 7]] {
            assert_eq!(cutter.cut(), Ok(Some(Bytes::copy_from_slice(expected))));
        }
        cutter.expect_tokens(false);
        assert_eq!(cutter.cut(), Err(FrameError::Short(7)));
    }

    #[test]
    fn an_announced_frame_costs_no_memory_until_it_arrives() {
        let mut cutter = Cutter::new(FRAME_BYTES_LIMIT);
        cutter.room().put_i32(104_857_600);
        assert_eq!(cutter.cut(), Ok(None));
        assert!(cutter.room().capacity() <= 2 * EAGER_BYTES);
        cutter.room().put_bytes(0, 3 * EAGER_BYTES);
        assert_eq!(cutter.cut(), Ok(None));
        assert!(cutter.room().capacity() >= 6 * EAGER_BYTES, "room doubles with what has arrived");
    }

    #[test]
    fn a_megabyte_frame_gets_its_room_at_once() {
        let mut cutter = Cutter::new(FRAME_BYTES_LIMIT);
        cutter.room().put_i32(1 << 20);
        assert_eq!(cutter.cut(), Ok(None));
        assert!(cutter.room().capacity() >= (1 << 20) + PREFIX_BYTES);
    }

    proptest! {
        #[test]
        fn however_torn_the_stream_gives_the_same_frames(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 8..200), 0..12),
            reads in proptest::collection::vec(1_usize..97, 1..64),
        ) {
            let stream = framed(&bodies);
            let mut cutter = Cutter::new(FRAME_BYTES_LIMIT);
            let mut frames = Vec::new();
            let mut rest = &stream[..];
            for &read in reads.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(read.min(rest.len()));
                cutter.room().put_slice(now);
                frames.extend(cut_all(&mut cutter).expect("frames"));
                rest = later;
            }
            prop_assert!(cutter.is_at_boundary());
            prop_assert_eq!(frames, bodies.into_iter().map(Bytes::from).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut cutter = Cutter::new(200);
            cutter.room().put_slice(&bytes);
            let _ = cut_all(&mut cutter);
        }
    }
}

//! From an answer to bytes: length, response header, body; records stay slices of where they are.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;
use std::io::{self, IoSlice};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::versions::{self, Api};

/// An encoded response, in pieces that follow each other.
#[derive(Debug)]
pub struct Response {
    parts: Vec<Bytes>,
}

/// An answer that this version cannot express: a defect of ours, never the client's.
#[derive(Debug, thiserror::Error)]
#[error("{api:?} version {version} cannot be encoded: {reason}")]
pub struct EncodeError {
    api: Api,
    version: i16,
    reason: String,
}

impl Response {
    /// Encodes an answer of `kafka-protocol`.
    pub fn encode<T: Encodable>(api: Api, version: i16, correlation_id: i32, body: &T) -> Result<Self, EncodeError> {
        let failed = |error: &dyn ToString| EncodeError { api, version, reason: error.to_string() };
        let size = body.compute_size(version).map_err(|error| failed(&error))?;
        let mut out = Self::start(api, version, correlation_id, size);
        body.encode(&mut out, version).map_err(|error| failed(&error))?;
        Ok(Self::finish(out, Vec::new()))
    }

    /// A buffer that begins with room for the length and with the response header.
    pub fn start(api: Api, version: i16, correlation_id: i32, body_bytes: usize) -> BytesMut {
        let mut out = BytesMut::with_capacity(9 + body_bytes);
        out.put_u32(0);
        out.put_i32(correlation_id);
        if versions::response_header_version(api, version) > 0 {
            out.put_u8(0);
        }
        out
    }

    /// Closes a response: the first piece was begun with [`Response::start`], the others follow it.
    pub fn finish(mut first: BytesMut, rest: Vec<Bytes>) -> Self {
        let length = first.len() - 4 + rest.iter().map(Bytes::len).sum::<usize>();
        first[..4].copy_from_slice(&(length as u32).to_be_bytes());
        let mut parts = Vec::with_capacity(1 + rest.len());
        parts.push(first.freeze());
        parts.extend(rest);
        Response { parts }
    }

    /// How many bytes go over the wire.
    pub fn size_bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Writes responses one after the other, without copying their pieces together.
    pub async fn write_all(responses: Vec<Response>, out: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        /// Linux takes 1,024 slices at most; more only cost.
        const SLICES_MAX: usize = 64;
        let parts: Vec<Bytes> = responses.into_iter().flat_map(|response| response.parts).collect();
        let (mut index, mut skip) = (0, 0);
        while index < parts.len() {
            let slices: Vec<IoSlice<'_>> = parts[index..]
                .iter()
                .take(SLICES_MAX)
                .enumerate()
                .map(|(place, part)| IoSlice::new(if place == 0 { &part[skip..] } else { part }))
                .collect();
            let mut written = out.write_vectored(&slices).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while index < parts.len() && written >= parts[index].len() - skip {
                written -= parts[index].len() - skip;
                (index, skip) = (index + 1, 0);
            }
            skip += written;
        }
        out.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::HeartbeatResponse;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// Takes three bytes at a time.
    struct Slow(Vec<u8>);

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn pieces_reach_a_slow_socket_whole_and_in_order() {
        let response = |correlation_id| {
            let first = Response::start(Api::Fetch, 12, correlation_id, 0);
            Response::finish(first, vec![Bytes::from_static(b"hello"), Bytes::new(), Bytes::from_static(b"world")])
        };
        let mut out = Slow(Vec::new());
        Response::write_all(vec![response(1), response(2)], &mut out).await.unwrap();
        let expected = b"\0\0\0\x0f\0\0\0\x01\0helloworld\0\0\0\x0f\0\0\0\x02\0helloworld";
        assert_eq!(out.0, expected);
    }

    #[test]
    fn a_heartbeat_is_encoded_with_length_and_header() {
        let response = Response::encode(Api::Heartbeat, 0, 7, &HeartbeatResponse::default()).unwrap();
        assert_eq!(response.parts.concat(), [0, 0, 0, 6, 0, 0, 0, 7, 0, 0]);
    }
}

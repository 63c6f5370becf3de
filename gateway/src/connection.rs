//! One client's connection: frames in, responses out in the order of the requests.
//!
//! Kafka handles one request of a connection at a time. So do we, except that Produce requests overlap: each is
//! *begun* in order, which fixes the order of its batches, and answered in order when its batches are on the ledger.

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::api::{self, Begun, Context};
use crate::broker::Broker;
use crate::frame::{Cutter, FRAME_BYTES_LIMIT, FrameError, RequestHeader};
use crate::request::{DecodeError, Request};
use crate::response::{EncodeError, Response};
use crate::server::stopped;

/// Produce requests of one connection that may be under way; beyond it the client's socket waits.
const IN_FLIGHT_MAX: usize = 64;

/// Why a connection ends before its client ends it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The client sent what is no Kafka frame.
    #[error("malformed frame: {0}")]
    Frame(#[from] FrameError),
    /// The client sent a frame whose header is none.
    #[error("malformed request header: {0}")]
    Header(#[from] crate::frame::HeaderError),
    /// The client sent a request that cannot be read, and Kafka has no answer for that.
    #[error("malformed request: {0}")]
    Request(#[from] DecodeError),
    /// Kafka's only way to say that a Produce without acknowledgement failed.
    #[error("a Produce request with acks=0 failed: {0}")]
    Unacknowledged(&'static str),
    /// We made an answer that cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The socket broke.
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

type InFlight = FuturesOrdered<Pin<Box<dyn Future<Output = Result<Option<Response>, ConnectionError>> + Send>>>;

/// Serves one client until either side ends it. One log line says why, if it was not the client's wish.
pub async fn drive(broker: Arc<Broker>, stream: TcpStream, address: SocketAddr, stop: watch::Receiver<bool>) {
    // Responses leave at once: a client waits for each.
    let _ = stream.set_nodelay(true);
    metrics::gauge!("waybill_kafka_connections").increment(1);
    let (reader, writer) = stream.into_split();
    let mut connection = Connection { broker, reader, writer, cutter: Cutter::new(FRAME_BYTES_LIMIT), address, stop };
    if let Err(error) = connection.serve().await {
        match &error {
            ConnectionError::Socket(reason) => tracing::debug!(client = %address, %reason, "connection broke"),
            ConnectionError::Frame(_) | ConnectionError::Header(_) | ConnectionError::Request(_) => {
                metrics::counter!("waybill_kafka_malformed_frames_total").increment(1);
                tracing::warn!(client = %address, reason = %error, "connection closed");
            }
            ConnectionError::Unacknowledged(_) | ConnectionError::Encode(_) => {
                tracing::warn!(client = %address, reason = %error, "connection closed");
            }
        }
    }
    metrics::gauge!("waybill_kafka_connections").decrement(1);
}

struct Connection {
    broker: Arc<Broker>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    cutter: Cutter,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
}

impl Connection {
    async fn serve(&mut self) -> Result<(), ConnectionError> {
        let mut in_flight = InFlight::new();
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                Some(response) = in_flight.next(), if !in_flight.is_empty() => {
                    self.answer(response?, &mut in_flight).await?;
                }
                () = stopped(&mut stop) => {
                    return self.drain(&mut in_flight).await;
                }
                frame = next_frame(&mut self.cutter, &mut self.reader), if in_flight.len() < IN_FLIGHT_MAX => {
                    let Some(frame) = frame? else { return self.drain(&mut in_flight).await };
                    self.request(frame, &mut in_flight).await?;
                }
            }
        }
    }

    async fn request(&mut self, frame: Bytes, in_flight: &mut InFlight) -> Result<(), ConnectionError> {
        let (header, body) = RequestHeader::read(&frame)?;
        let context = Context::new(&header, self.address);
        let request = match Request::decode(&header, body) {
            Ok(request) => request,
            Err(DecodeError::UnsupportedVersion { api: crate::versions::Api::ApiVersions, .. }) => {
                self.drain(in_flight).await?;
                let response = api::versions::unsupported(&context)?;
                return self.write(vec![response]).await;
            }
            Err(error) => {
                self.drain(in_flight).await?;
                return Err(error.into());
            }
        };
        metrics::counter!("waybill_kafka_requests_total", "api" => request.api().name()).increment(1);
        match api::begin(&self.broker, context, request).await {
            Begun::Produce(answer) => in_flight.push_back(answer),
            Begun::Other(answer) => {
                // One after the other, as in Kafka: what was asked before is answered before.
                self.drain(in_flight).await?;
                let stopped = self.stop.clone();
                let response = answer(stopped).await?;
                self.write(vec![response]).await?;
            }
        }
        Ok(())
    }

    /// Writes a response together with those behind it that are ready too.
    async fn answer(&mut self, first: Option<Response>, in_flight: &mut InFlight) -> Result<(), ConnectionError> {
        let mut responses: Vec<Response> = first.into_iter().collect();
        while let Some(next) = futures_util::FutureExt::now_or_never(in_flight.next()).flatten() {
            responses.extend(next?);
        }
        self.write(responses).await
    }

    async fn drain(&mut self, in_flight: &mut InFlight) -> Result<(), ConnectionError> {
        while let Some(response) = in_flight.next().await {
            self.write(response?.into_iter().collect()).await?;
        }
        Ok(())
    }

    async fn write(&mut self, responses: Vec<Response>) -> Result<(), ConnectionError> {
        Ok(Response::write_all(responses, &mut self.writer).await?)
    }
}

/// The next frame; none when the client has closed the connection. May be dropped and called again.
async fn next_frame(cutter: &mut Cutter, reader: &mut OwnedReadHalf) -> Result<Option<Bytes>, ConnectionError> {
    loop {
        if let Some(frame) = cutter.cut()? {
            return Ok(Some(frame));
        }
        if reader.read_buf(cutter.room()).await? == 0 {
            return Ok(None);
        }
    }
}

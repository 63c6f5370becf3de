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
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;

use crate::api::{self, Begun, Context};
use crate::broker::Broker;
use crate::frame::{Cutter, RequestHeader};
use crate::request::{DecodeError, Request};
use crate::response::Response;
use crate::security::authenticate;
use crate::security::sasl::{AuthenticationError, Dialogue};
use crate::security::{Listener, Principal};
use crate::server::stopped;

mod admit;
mod error;

pub(crate) use admit::drive;
pub use error::ConnectionError;

/// Produce requests of one connection that may be under way; beyond it the client's socket waits.
const IN_FLIGHT_MAX: usize = 64;

/// Who is at the other end, and where they came in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where the client is.
    pub address: SocketAddr,
    /// The listener it came through.
    pub listener: Arc<Listener>,
    /// Who it has proved to be.
    pub principal: Principal,
}

type InFlight = FuturesOrdered<Pin<Box<dyn Future<Output = Result<Option<Response>, ConnectionError>> + Send>>>;

struct Connection<R, W> {
    broker: Arc<Broker>,
    reader: R,
    writer: W,
    cutter: Cutter,
    caller: Caller,
    /// Where users log in: they may do so again.
    dialogue: Option<Dialogue>,
    stop: watch::Receiver<bool>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    async fn serve(&mut self) -> Result<(), ConnectionError> {
        let mut in_flight = InFlight::new();
        let mut stop = self.stop.clone();
        let idle_max = self.broker.settings.connection_idle_max;
        loop {
            tokio::select! {
                biased;
                Some(response) = in_flight.next(), if !in_flight.is_empty() => {
                    self.answer(response?, &mut in_flight).await?;
                }
                () = stopped(&mut stop) => {
                    return self.drain(&mut in_flight).await;
                }
                frame = unless_idle(idle_max, next_frame(&mut self.cutter, &mut self.reader)),
                    if in_flight.len() < IN_FLIGHT_MAX =>
                {
                    let Some(frame) = frame? else { return self.drain(&mut in_flight).await };
                    self.request(frame, &mut in_flight).await?;
                }
            }
        }
    }

    async fn request(&mut self, frame: Bytes, in_flight: &mut InFlight) -> Result<(), ConnectionError> {
        let (header, body) = RequestHeader::read(&frame)?;
        let context = Context::new(&header, &self.caller);
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
        if let Some(dialogue) = &mut self.dialogue
            && let Some(stepped) = authenticate::step(dialogue, &context, &request).await?
        {
            self.drain(in_flight).await?;
            self.write(vec![stepped.response]).await?;
            return match stepped.outcome {
                // A token that nobody asked for says nothing about who sends it.
                Ok(_) | Err(AuthenticationError::OutOfTurn) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
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
            match next {
                Ok(response) => responses.extend(response),
                Err(error) => {
                    // It ends the connection, but what came before it has its answer.
                    self.write(responses).await?;
                    return Err(error);
                }
            }
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
        let written = Response::write_all(responses, &mut self.writer);
        unless_idle(self.broker.settings.connection_idle_max, written).await
    }
}

/// A step that waits for the client; one that is gone without a word must not hold its connection for ever.
async fn unless_idle<T, E>(limit: Duration, step: impl Future<Output = Result<T, E>>) -> Result<T, ConnectionError>
where
    ConnectionError: From<E>,
{
    Ok(tokio::time::timeout(limit, step).await.map_err(|_| ConnectionError::Idle)??)
}

/// The next frame; none when the client has closed the connection. May be dropped and called again.
pub(crate) async fn next_frame<R: AsyncRead + Unpin>(
    cutter: &mut Cutter,
    reader: &mut R,
) -> Result<Option<Bytes>, ConnectionError> {
    loop {
        if let Some(frame) = cutter.cut()? {
            return Ok(Some(frame));
        }
        if reader.read_buf(cutter.room()).await? == 0 {
            return Ok(None);
        }
    }
}

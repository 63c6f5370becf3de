//! Getting payloads from other connectors: several at once, retried, resumed, within limits.
//!
//! A pull asks one connector for some batches of one ledger. What arrives is hashed while it is read; what breaks off
//! in the middle of a batch goes on from there with a ranged `GET`. Payloads on their way count against limits until they
//! are kept.

use crate::consignment::Consignment;
use crate::options::PullOptions;
use crate::payload::{Incoming, Verified};
use crate::permissions::Refusal;
use crate::request::{PULL_HEADER, SignedPullRequest};
use crate::shelf::cut;
use crate::wire::{ERROR_HEADER, ErrorCode, Route, etag};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HOST, IF_RANGE, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use metrics::counter;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use waybill_ledger::identity::{Directory, Identity};
use waybill_types::{NetworkId, NodeId};

pub(crate) mod allowance;
mod backoff;
mod pool;
mod unpack;

use allowance::{ByteBudget, Hold, Pace};
use backoff::Backoff;
use pool::{PeerPool, Pools};
use unpack::Unpacker;

/// Why a payload could not be pulled, and who is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The directory names no connector for the node.
    #[error("node {node} has no connector")]
    NoConnector {
        /// The sender's node.
        node: NodeId,
    },
    /// It cannot be reached, or breaks off. Trying later may help.
    #[error("the connector of node {node} is not available: {reason}")]
    PeerUnavailable {
        /// The sender's node.
        node: NodeId,
        /// What happened last.
        reason: String,
    },
    /// Its node has not come as far as ours. Trying later will help.
    #[error("node {node} has not reached the batch yet")]
    PeerBehind {
        /// The sender's node.
        node: NodeId,
    },
    /// Its node does not allow it.
    #[error("node {node} refuses: {reason}")]
    PeerRefused {
        /// The sender's node.
        node: NodeId,
        /// The reason it gives.
        reason: &'static str,
    },
    /// It has the payload no more, or has it damaged.
    #[error("node {node} cannot serve what it sent: {reason}")]
    PeerLost {
        /// The sender's node.
        node: NodeId,
        /// The reason it gives.
        reason: &'static str,
    },
    /// It sent something else than what the ledger says.
    #[error("node {node} misbehaved: {reason}")]
    PeerMisbehaved {
        /// The sender's node.
        node: NodeId,
        /// What it did.
        reason: String,
    },
}

impl PullError {
    /// Whether the same pull may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, PullError::PeerUnavailable { .. } | PullError::PeerBehind { .. })
    }

    fn kind(&self) -> &'static str {
        match self {
            PullError::NoConnector { .. } => "no-connector",
            PullError::PeerUnavailable { .. } => "unavailable",
            PullError::PeerBehind { .. } => "behind",
            PullError::PeerRefused { .. } => "refused",
            PullError::PeerLost { .. } => "lost",
            PullError::PeerMisbehaved { .. } => "misbehaved",
        }
    }
}

/// A payload that has arrived. It counts against the limits until `hold` is dropped.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub payload: Verified,
    pub hold: Arc<Hold>,
}

/// Pulls payloads.
#[derive(Debug)]
pub(crate) struct Puller {
    pub identity: Arc<Identity>,
    pub directory: Arc<Directory>,
    pub network: NetworkId,
    options: PullOptions,
    pools: Pools,
    in_flight: ByteBudget,
    pace: Option<Pace>,
}

/// What stands in the way of the rest of a pull.
#[derive(Debug)]
enum Setback {
    /// It may pass.
    Passing(PullError),
    /// It concerns the next batch only.
    Next(PullError),
    /// It concerns all that is left.
    All(PullError),
}

/// How far a pull has come.
#[derive(Debug, Default)]
struct Progress {
    done: usize,
    partial: Option<Incoming>,
}

impl Progress {
    fn measure(&self) -> (usize, usize) {
        (self.done, self.partial.as_ref().map_or(0, Incoming::received_bytes))
    }
}

impl Puller {
    pub fn new(identity: Arc<Identity>, directory: Arc<Directory>, network: NetworkId, options: PullOptions) -> Self {
        let in_flight = ByteBudget::new(options.in_flight_bytes_limit);
        let pace = options.bytes_per_second_limit.map(Pace::new);
        Puller { identity, directory, network, options, pools: Pools::default(), in_flight, pace }
    }

    /// Cuts what is wanted of one connector and ledger, in ascending order, into requests within the limits.
    pub fn requests<T>(&self, wanted: Vec<T>, size_bytes: impl Fn(&T) -> u32) -> Vec<Vec<T>> {
        cut(wanted, size_bytes, self.options.request_bytes_limit, self.options.batches_per_request_limit)
    }

    /// Pulls batches of one ledger from one connector, in ascending order, and hands each over as soon as it is there
    /// and verified, or has failed for good. Every batch is handed over exactly once.
    pub async fn pull(
        &self,
        wanted: &[Consignment],
        deadline: Instant,
        mut hand_over: impl FnMut(usize, Result<Pulled, PullError>),
    ) {
        let Some(first) = wanted.first() else { return };
        let pool = self.pools.of(first.connector, &self.options);
        let mut progress = Progress::default();
        let outcome = self.pull_all(&pool, wanted, deadline, &mut progress, &mut hand_over).await;
        if let Err(error) = outcome {
            let node = pool.node.to_string();
            counter!("waybill_connector_pull_failures_total", "kind" => error.kind(), "node" => node).increment(1);
            let left = wanted.len() - progress.done;
            if matches!(error, PullError::PeerBehind { .. }) {
                // Its node executes the same block a moment later than ours: nobody has to look at that.
                tracing::debug!(node = %pool.node, ledger = %first.ledger, left, "its node has not come so far yet");
            } else {
                tracing::warn!(node = %pool.node, ledger = %first.ledger, left, %error, "payloads are not pulled");
            }
            for index in progress.done..wanted.len() {
                hand_over(index, Err(error.clone()));
            }
        }
    }

    /// Fails with what concerns every batch that is not done.
    async fn pull_all(
        &self,
        pool: &PeerPool,
        wanted: &[Consignment],
        deadline: Instant,
        progress: &mut Progress,
        hand_over: &mut impl FnMut(usize, Result<Pulled, PullError>),
    ) -> Result<(), PullError> {
        let node = pool.node;
        let bytes = wanted.iter().map(|batch| u64::from(batch.size_bytes)).sum();
        let too_late = || PullError::PeerUnavailable { node, reason: "no answer before the deadline".into() };
        let turn = timeout_at(deadline, async {
            let turn = pool.requests.acquire().await.map_err(|_| too_late())?;
            Ok((turn, Hold::take(&pool.bytes, &self.in_flight, bytes, node).await?))
        });
        let (_turn, hold) = turn.await.map_err(|_| too_late())??;
        let hold = Arc::new(hold);
        let mut backoff = Backoff::new(self.options.backoff_first, self.options.backoff_max);
        let mut last_setback = None;
        while progress.done < wanted.len() {
            let before = progress.measure();
            let attempt = self.attempt(pool, wanted, progress, |index, payload| {
                hand_over(index, payload.map(|payload| Pulled { payload, hold: hold.clone() }));
            });
            let Ok(outcome) = timeout_at(deadline, attempt).await else {
                return Err(last_setback.unwrap_or_else(too_late));
            };
            if progress.measure() != before {
                backoff.reset();
            }
            match outcome {
                Ok(()) if progress.measure() != before => {}
                Ok(()) => {
                    let reason = "its answer lacks the first batch asked for".into();
                    return Err(PullError::PeerMisbehaved { node, reason });
                }
                Err(Setback::Next(error)) => {
                    hand_over(progress.done, Err(error));
                    *progress = Progress { done: progress.done + 1, partial: None };
                }
                Err(Setback::All(error)) => return Err(error),
                Err(Setback::Passing(error)) => {
                    let again = Instant::now() + backoff.pause();
                    if again >= deadline {
                        return Err(error);
                    }
                    counter!("waybill_connector_pull_retries_total").increment(1);
                    tracing::debug!(%node, %error, "a pull is retried");
                    last_setback = Some(error);
                    sleep_until(again).await;
                }
            }
        }
        Ok(())
    }

    /// One request: the rest of the batch that broke off, or all that is left.
    async fn attempt(
        &self,
        pool: &PeerPool,
        wanted: &[Consignment],
        progress: &mut Progress,
        mut hand_over: impl FnMut(usize, Result<Verified, PullError>),
    ) -> Result<(), Setback> {
        let left = &wanted[progress.done..];
        let Some(next) = left.first() else { return Ok(()) };
        let partial = progress.partial.take();
        let single = partial.is_some() || left.len() == 1;
        let request = if single { self.get_one(pool.node, next, &partial)? } else { self.get_many(pool.node, left)? };
        let (connection, mut response) = match self.send(pool, request).await {
            Ok(sent) => sent,
            Err(setback) => {
                progress.partial = partial;
                return Err(setback);
            }
        };
        if let Some(setback) = setback_of(pool.node, &response) {
            // The connection is dropped with the rest of the answer: errors are rare.
            if matches!(setback, Setback::Passing(_)) {
                progress.partial = partial;
            }
            return Err(setback);
        }
        let mut unpacker = if single {
            let begun = resumed(pool.node, &response, partial)?.unwrap_or_else(|| Incoming::new(next.size_bytes));
            Unpacker::single(next, begun)
        } else {
            Unpacker::multi(left)
        };
        let ended =
            self.read(pool.node, &mut response, wanted, &mut progress.done, &mut unpacker, &mut hand_over).await;
        match ended {
            Ok(()) if unpacker.at_boundary() => {
                pool.give_back(connection);
                Ok(())
            }
            Err(Setback::Passing(_)) | Ok(()) => {
                progress.partial = unpacker.into_partial().filter(|partial| partial.received_bytes() > 0);
                ended.and(Err(Setback::Passing(broken_off(pool.node, "in the middle of a batch"))))
            }
            Err(setback) => Err(setback),
        }
    }

    /// Reads an answer's body to its end.
    async fn read(
        &self,
        node: NodeId,
        response: &mut Response<hyper::body::Incoming>,
        wanted: &[Consignment],
        done: &mut usize,
        unpacker: &mut Unpacker<'_>,
        hand_over: &mut impl FnMut(usize, Result<Verified, PullError>),
    ) -> Result<(), Setback> {
        loop {
            let frame = match timeout(self.options.silence_timeout, response.body_mut().frame()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(Setback::Passing(broken_off(node, error))),
                Err(_) => return Err(Setback::Passing(broken_off(node, "it fell silent"))),
            };
            let Ok(mut chunk) = frame.into_data() else { continue };
            if let Some(pace) = &self.pace {
                pace.take(chunk.len()).await;
            }
            counter!("waybill_connector_pulled_bytes_total").increment(chunk.len() as u64);
            while !chunk.is_empty() {
                let misbehaved = |reason: String| PullError::PeerMisbehaved { node, reason };
                let fed = unpacker.feed(&mut chunk).map_err(|error| Setback::All(misbehaved(error.to_string())))?;
                let (Some(payload), Some(expected)) = (fed, wanted.get(*done)) else { continue };
                let verified = payload.verify(&expected.commitment);
                if let Err(mismatch) = &verified {
                    counter!("waybill_connector_wrong_payloads_total").increment(1);
                    tracing::error!(%node, ledger = %expected.ledger, offset = expected.first, %mismatch, "a connector sent wrong bytes");
                }
                hand_over(*done, verified.map_err(|mismatch| misbehaved(mismatch.to_string())));
                *done += 1;
            }
        }
    }

    /// Sends a request, on a connection that idles or on a new one.
    async fn send(
        &self,
        pool: &PeerPool,
        request: Request<Full<Bytes>>,
    ) -> Result<(pool::Connection, Response<hyper::body::Incoming>), Setback> {
        let silent = || Setback::Passing(broken_off(pool.node, "it fell silent"));
        if let Some(mut connection) = pool.reuse() {
            // The other side may just have closed it: that is no reason to wait before a new one is tried.
            let sent = timeout(self.options.silence_timeout, connection.send(request.clone())).await;
            if let Ok(response) = sent.map_err(|_| silent())? {
                return Ok((connection, response));
            }
        }
        let connected = pool.connect(&self.identity, &self.directory, &self.options).await;
        let mut connection = connected.map_err(|error| match error {
            PullError::PeerUnavailable { .. } => Setback::Passing(error),
            lasting => Setback::All(lasting),
        })?;
        let sent = timeout(self.options.silence_timeout, connection.send(request)).await.map_err(|_| silent())?;
        let response = sent.map_err(|error| Setback::Passing(broken_off(pool.node, error)))?;
        Ok((connection, response))
    }

    fn get_one(
        &self,
        node: NodeId,
        batch: &Consignment,
        partial: &Option<Incoming>,
    ) -> Result<Request<Full<Bytes>>, Setback> {
        let route = Route::Batch(batch.ledger, batch.first);
        let mut request = self.request(node, Method::GET, route, std::slice::from_ref(batch))?;
        if let Some(partial) = partial {
            let range = format!("bytes={}-", partial.received_bytes());
            for (name, value) in [(RANGE, range), (IF_RANGE, etag(&batch.commitment))] {
                request = request.header(name, value);
            }
        }
        request.body(Full::default()).map_err(|error| own_fault(node, error))
    }

    fn get_many(&self, node: NodeId, batches: &[Consignment]) -> Result<Request<Full<Bytes>>, Setback> {
        let ledger = batches.first().map(|batch| batch.ledger).unwrap_or(waybill_types::LedgerId::SYSTEM);
        let mut offsets = BytesMut::with_capacity(8 * batches.len());
        batches.iter().for_each(|batch| offsets.put_i64(batch.first));
        let request = self.request(node, Method::POST, Route::Batches(ledger), batches)?;
        let request = request.header(CONTENT_TYPE, "application/octet-stream");
        request.body(Full::new(offsets.freeze())).map_err(|error| own_fault(node, error))
    }

    fn request(
        &self,
        node: NodeId,
        method: Method,
        route: Route,
        batches: &[Consignment],
    ) -> Result<hyper::http::request::Builder, Setback> {
        let range = batches.first().zip(batches.last());
        let signed = range.and_then(|(first, last)| {
            let (ledger, identity) = (first.ledger, &self.identity);
            SignedPullRequest::sign(identity, self.network, node, ledger, first.first, last.first)
        });
        let signed = signed.ok_or_else(|| own_fault(node, "the system gives no random bytes"))?;
        let builder = Request::builder().method(method).uri(route.path());
        Ok(builder.header(HOST, format!("node-{node}")).header(PULL_HEADER, signed.to_header()))
    }
}

/// What an answer without payloads means.
fn setback_of<B>(node: NodeId, response: &Response<B>) -> Option<Setback> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return None;
    }
    let code = response.headers().get(ERROR_HEADER).and_then(|code| ErrorCode::from_code(code.as_bytes()));
    let Some(code) = code else {
        let reason = format!("it answers with status {status}");
        return Some(Setback::Passing(PullError::PeerUnavailable { node, reason }));
    };
    let reason = code.code();
    Some(match code {
        ErrorCode::BadRequest | ErrorCode::BadPullRequest | ErrorCode::Refused(Refusal::Denied) => {
            Setback::All(PullError::PeerRefused { node, reason })
        }
        ErrorCode::Refused(Refusal::UnknownLedger | Refusal::NotReached) => {
            Setback::Passing(PullError::PeerBehind { node })
        }
        ErrorCode::Unavailable | ErrorCode::Busy => {
            Setback::Passing(PullError::PeerUnavailable { node, reason: reason.into() })
        }
        ErrorCode::Refused(Refusal::NoBatch | Refusal::Gone)
        | ErrorCode::Elsewhere
        | ErrorCode::Corrupt
        | ErrorCode::Missing
        | ErrorCode::Range => Setback::Next(PullError::PeerLost { node, reason }),
    })
}

/// What the answer goes on with: what was there before, if the range is honoured, or nothing.
fn resumed<B>(node: NodeId, response: &Response<B>, partial: Option<Incoming>) -> Result<Option<Incoming>, Setback> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(None);
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    match partial {
        Some(partial) if start == Some(partial.received_bytes()) => Ok(Some(partial)),
        _ => {
            let reason = "it answers with a range that was not asked for".into();
            Err(Setback::All(PullError::PeerMisbehaved { node, reason }))
        }
    }
}

fn broken_off(node: NodeId, reason: impl ToString) -> PullError {
    PullError::PeerUnavailable { node, reason: reason.to_string() }
}

/// A request that cannot be made: nothing that a retry changes.
fn own_fault(node: NodeId, reason: impl ToString) -> Setback {
    Setback::All(broken_off(node, reason))
}

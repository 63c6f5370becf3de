//! One request: who asks, what for, may he, and the bytes.

use super::Server;
use super::body::{AnswerBody, ChunkSender};
use super::limits::{Share, try_take};
use super::outgoing::{Outgoing, Stop};
use super::range::{self, Wanted};
use crate::consignment::Consignment;
use crate::evidence::Event;
use crate::outbox::OutboxError;
use crate::payload::Verified;
use crate::permissions::Refusal;
use crate::request::{PULL_HEADER, RequestError, SignedPullRequest};
use crate::wire::{ERROR_HEADER, ErrorCode, FRAME_HEAD_BYTES, Route, SALT_BYTES, etag};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use metrics::counter;
use std::sync::Arc;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;
use waybill_ledger::contract::{Grant, RefuseReason};
use waybill_ledger::identity::Peer;
use waybill_types::{LedgerId, Offset};

/// One connection's other end.
#[derive(Clone)]
pub(super) struct Caller {
    pub peer: Arc<Peer>,
    pub share: Arc<Share>,
    /// Cuts the connection.
    pub cut: Arc<Notify>,
}

/// Answers one request. There is an answer to everything.
pub(super) async fn answer(server: Arc<Server>, caller: Caller, request: Request<Incoming>) -> Response<AnswerBody> {
    let peer = caller.peer.clone();
    let answered = try_answer(server, caller, request).await;
    answered.unwrap_or_else(|error| {
        counter!("waybill_connector_pulls_refused_total", "code" => error.code()).increment(1);
        tracing::debug!(org = %peer.org, node = %peer.node, code = error.code(), "a pull is refused");
        error_answer(error)
    })
}

async fn try_answer(
    server: Arc<Server>,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, ErrorCode> {
    let (head, body) = request.into_parts();
    let route = Route::parse(head.uri.path()).ok_or(ErrorCode::BadRequest)?;
    let (Route::Batch(ledger, _) | Route::Batches(ledger)) = route;
    let peer = &caller.peer;
    let signed = signed_request(&server, peer, &head.headers).map_err(|error| {
        tracing::info!(org = %peer.org, node = %peer.node, %error, "a pull request is refused");
        ErrorCode::BadPullRequest
    })?;
    if signed.request.ledger != ledger {
        return Err(ErrorCode::BadPullRequest);
    }
    let turn = try_take(&caller.share.pulls).ok_or(ErrorCode::Busy)?;
    let pull = Pull { server, caller, ledger, signed: Arc::new(signed), _turn: turn };
    match (head.method, route) {
        (Method::GET, Route::Batch(_, offset)) => pull.answer_one(offset, &head.headers).await,
        (Method::POST, Route::Batches(_)) => {
            let offsets = pull.read_offsets(body).await?;
            pull.answer_many(offsets).await
        }
        _ => Err(ErrorCode::BadRequest),
    }
}

fn signed_request(server: &Server, peer: &Peer, headers: &HeaderMap) -> Result<SignedPullRequest, RequestError> {
    let mut values = headers.get_all(PULL_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(RequestError::Missing) };
    let signed = SignedPullRequest::from_header(value.as_bytes())?;
    let limit = server.options.clock_skew_limit;
    signed.check(peer, &server.directory, server.network, server.identity.node, limit)?;
    Ok(signed)
}

/// A request that stands.
struct Pull {
    server: Arc<Server>,
    caller: Caller,
    ledger: LedgerId,
    signed: Arc<SignedPullRequest>,
    _turn: OwnedSemaphorePermit,
}

/// A batch that may be served.
struct Fetched {
    batch: Consignment,
    payload: Verified,
    /// Accounts for the memory of all that was fetched together.
    _memory: Arc<Option<OwnedSemaphorePermit>>,
}

/// Payload bytes that are fetched before some of them are sent.
const FETCH_BYTES_LIMIT: u64 = 1 << 20;

/// Batches that are fetched before some of them are sent.
const FETCH_COUNT_LIMIT: usize = 256;

impl Pull {
    /// Asks our own node for the batches at the front of `offsets`, then the outbox, all in one go. Ends before the first
    /// that cannot be served; if that is the very first, tells why.
    async fn fetch(&self, offsets: &[Offset]) -> Result<Vec<Fetched>, ErrorCode> {
        let (mut grants, mut batches, mut bytes) = (Vec::new(), Vec::new(), 0);
        for offset in offsets.iter().take(FETCH_COUNT_LIMIT) {
            match self.permitted(*offset) {
                Ok((grant, batch))
                    if batches.is_empty() || bytes + u64::from(batch.size_bytes) <= FETCH_BYTES_LIMIT =>
                {
                    bytes += u64::from(batch.size_bytes);
                    batches.push(batch);
                    grants.push(grant);
                }
                Err(error) if batches.is_empty() => return Err(error),
                Ok(_) | Err(_) => break,
            }
        }
        let memory = Arc::new(self.caller.share.bytes.take(bytes).await);
        let payloads = self.server.outbox.read_all(&grants).await;
        let mut fetched = Vec::with_capacity(batches.len());
        for (batch, payload) in batches.into_iter().zip(payloads) {
            match payload.map_err(|error| self.outbox_failed(batch.first, error)) {
                Ok(payload) => fetched.push(Fetched { batch, payload, _memory: memory.clone() }),
                Err(error) if fetched.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(fetched)
    }

    /// The batch at this offset, if our own node allows it to the caller and it is ours to serve.
    fn permitted(&self, offset: Offset) -> Result<(Grant, Consignment), ErrorCode> {
        let signed = &self.signed.request;
        if !(signed.first..=signed.last).contains(&offset) {
            return Err(ErrorCode::BadPullRequest);
        }
        let org = &self.caller.peer.org;
        let grant = self.server.permissions.authorise(org, self.ledger, offset).map_err(|refusal| {
            if refusal == Refusal::Denied {
                self.note_refusal(offset, RefuseReason::NotAReader);
            }
            ErrorCode::Refused(refusal)
        })?;
        let batch = Consignment::from(&grant);
        if grant.reader() != org || batch.ledger != self.ledger || batch.first != offset {
            return Err(ErrorCode::Refused(Refusal::NoBatch));
        }
        if batch.connector == self.server.identity.node { Ok((grant, batch)) } else { Err(ErrorCode::Elsewhere) }
    }

    fn outbox_failed(&self, offset: Offset, error: OutboxError) -> ErrorCode {
        match error {
            OutboxError::Corrupt { .. } => {
                self.note_refusal(offset, RefuseReason::PayloadCorrupt);
                ErrorCode::Corrupt
            }
            OutboxError::Missing { .. } => {
                self.note_refusal(offset, RefuseReason::PayloadMissing);
                ErrorCode::Missing
            }
            OutboxError::StoreUnavailable(_) => ErrorCode::Unavailable,
        }
    }

    fn note_refusal(&self, offset: Offset, reason: RefuseReason) {
        let (ledger, to) = (self.ledger, self.caller.peer.org.clone());
        self.server.evidence.note_if_room(Event::Refused { ledger, to, offset, reason });
    }

    /// Whether the receiver may still have the batch.
    fn still_allowed(&self, offset: Offset) -> bool {
        self.server.permissions.authorise(&self.caller.peer.org, self.ledger, offset).is_ok()
    }

    async fn answer_one(self, offset: Offset, headers: &HeaderMap) -> Result<Response<AnswerBody>, ErrorCode> {
        let fetched = self.fetch(&[offset]).await?.pop().ok_or(ErrorCode::Missing)?;
        let length = fetched.payload.size_bytes() + SALT_BYTES;
        let tag = etag(&fetched.batch.commitment);
        let unchanged = headers.get(IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_bytes());
        let asked = headers.get(RANGE).filter(|_| unchanged).map(HeaderValue::as_bytes);
        let (first, last, status) = match range::parse(asked, length) {
            Wanted::All => (0, length - 1, StatusCode::OK),
            Wanted::Range(first, last) => (first, last, StatusCode::PARTIAL_CONTENT),
            Wanted::Unsatisfiable => return Err(ErrorCode::Range),
        };
        let (chunks, body) = self.stream(Some((last - first + 1) as u64));
        let mut answer = payload_answer(status, body);
        insert(&mut answer, ETAG, &tag);
        insert(&mut answer, ACCEPT_RANGES, "bytes");
        if status == StatusCode::PARTIAL_CONTENT {
            insert(&mut answer, CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
        }
        tokio::spawn(self.send_one(fetched, first, last, chunks));
        Ok(answer)
    }

    fn stream(&self, length: Option<u64>) -> (ChunkSender, AnswerBody) {
        AnswerBody::stream(length, self.server.options.chunk_timeout, self.caller.cut.clone())
    }

    /// Sends bytes `first..=last` of batch and salt.
    async fn send_one(self, fetched: Fetched, first: usize, last: usize, chunks: ChunkSender) {
        let mut outgoing = Outgoing::new(chunks, self.server.options.chunk_bytes);
        let whole_end = fetched.payload.size_bytes() + SALT_BYTES - 1;
        let salt = Bytes::copy_from_slice(&fetched.payload.salt().0);
        let mut skip = first;
        let mut left = last - first + 1;
        let mut sent = Ok(());
        for piece in fetched.payload.parts().iter().chain([&salt]) {
            let from = skip.min(piece.len());
            let to = piece.len().min(from + left);
            (skip, left) = (skip - from, left - (to - from));
            sent = outgoing.push(piece.slice(from..to), || self.still_allowed(fetched.batch.first)).await;
            if sent.is_err() {
                break;
            }
        }
        if sent.is_ok() {
            sent = outgoing.flush(|| self.still_allowed(fetched.batch.first)).await;
        }
        // Whoever has the salt has been served, whether in one request or in several.
        if sent.is_ok() && last == whole_end {
            outgoing.note_end(&fetched.batch);
        }
        self.end(outgoing, sent).await;
    }

    /// First offsets, ascending; not more than allowed, within reasonable time.
    async fn read_offsets(&self, body: Incoming) -> Result<Vec<Offset>, ErrorCode> {
        let options = &self.server.options;
        let body = Limited::new(body, 8 * options.batches_per_request_limit).collect();
        let read = timeout(options.request_timeout, body).await.map_err(|_| ErrorCode::BadRequest)?;
        let mut bytes = read.map_err(|_| ErrorCode::BadRequest)?.to_bytes();
        if bytes.is_empty() || bytes.len() % 8 != 0 {
            return Err(ErrorCode::BadRequest);
        }
        let mut offsets = Vec::with_capacity(bytes.len() / 8);
        while bytes.has_remaining() {
            offsets.push(bytes.get_i64());
        }
        if offsets.is_sorted_by(|left, right| left < right) { Ok(offsets) } else { Err(ErrorCode::BadRequest) }
    }

    /// The first batch decides about the status; a later one that cannot be served ends the answer before it.
    async fn answer_many(self, offsets: Vec<Offset>) -> Result<Response<AnswerBody>, ErrorCode> {
        let fetched = self.fetch(&offsets).await?;
        let (chunks, body) = self.stream(None);
        tokio::spawn(self.send_many(fetched, offsets, chunks));
        Ok(payload_answer(StatusCode::OK, body))
    }

    async fn send_many(self, mut fetched: Vec<Fetched>, offsets: Vec<Offset>, chunks: ChunkSender) {
        let mut outgoing = Outgoing::new(chunks, self.server.options.chunk_bytes);
        let mut left = offsets.as_slice();
        let mut sent = Ok(());
        while sent.is_ok() && !fetched.is_empty() {
            left = left.get(fetched.len()..).unwrap_or_default();
            sent = self.send_all(&mut outgoing, fetched).await;
            fetched = if left.is_empty() { Vec::new() } else { self.fetch(left).await.unwrap_or_default() };
        }
        self.end(outgoing, sent).await;
    }

    async fn send_all(&self, outgoing: &mut Outgoing, fetched: Vec<Fetched>) -> Result<(), Stop> {
        let Some(last) = fetched.last().map(|fetched| fetched.batch.first) else { return Ok(()) };
        for fetched in fetched {
            self.send_framed(outgoing, fetched).await?;
        }
        outgoing.flush(|| self.still_allowed(last)).await
    }

    async fn send_framed(&self, outgoing: &mut Outgoing, fetched: Fetched) -> Result<(), Stop> {
        let mut head = BytesMut::with_capacity(FRAME_HEAD_BYTES);
        head.put_i64(fetched.batch.first);
        head.put_u32(fetched.batch.size_bytes);
        let salt = Bytes::copy_from_slice(&fetched.payload.salt().0);
        for piece in [&head.freeze()].into_iter().chain(fetched.payload.parts()).chain([&salt]) {
            outgoing.push(piece.clone(), || self.still_allowed(fetched.batch.first)).await?;
        }
        outgoing.note_end(&fetched.batch);
        Ok(())
    }

    /// Ends the body, so that the receiver can tell a whole answer from a cut one, and reports what was served.
    async fn end(self, mut outgoing: Outgoing, sent: Result<(), Stop>) {
        let served = outgoing.served().await;
        // Nodes of one organisation owe each other no evidence.
        let foreign = self.caller.peer.org != self.server.identity.org;
        for (first, last) in served.into_iter().filter(|_| foreign) {
            let request = self.signed.clone();
            self.server.evidence.note(Event::Retrieved { first, last, request }).await;
        }
        if let Err(Stop::Revoked) = sent {
            tracing::info!(org = %self.caller.peer.org, ledger = %self.ledger, "a pull is cut: permission was revoked");
            outgoing.abort("permission was revoked").await;
        }
    }
}

fn payload_answer(status: StatusCode, body: AnswerBody) -> Response<AnswerBody> {
    counter!("waybill_connector_pulls_served_total").increment(1);
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    insert(&mut answer, CONTENT_TYPE, "application/octet-stream");
    answer
}

/// The code for connectors, a sentence for people.
fn error_answer(error: ErrorCode) -> Response<AnswerBody> {
    let json = format!("{{\"error\":\"{}\",\"message\":\"{}\"}}\n", error.code(), error.sentence());
    let mut answer = Response::new(AnswerBody::Whole(Bytes::from(json)));
    *answer.status_mut() = error.status();
    insert(&mut answer, CONTENT_TYPE, "application/json");
    insert(&mut answer, ERROR_HEADER, error.code());
    if matches!(error, ErrorCode::Busy | ErrorCode::Unavailable | ErrorCode::Refused(Refusal::NotReached)) {
        insert(&mut answer, RETRY_AFTER, "1");
    }
    answer
}

/// Header values are made of visible ASCII here; one that were not would be left out.
fn insert(answer: &mut Response<AnswerBody>, name: impl hyper::header::IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

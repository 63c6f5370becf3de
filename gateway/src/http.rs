//! A node's HTTP port: `/livez`, `/readyz`, `/metrics`, and receipts and audits for `waybill receipt` and `waybill audit`.
//!
//! It is for the organisation's own operators: it listens on loopback unless configured otherwise.

use crate::broker::Broker;
use crate::server::stopped;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use waybill_ledger::audit;
use waybill_ledger::receipt::{self, ExportError};
use waybill_types::LedgerId;

/// Operators and scrapers are few.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `stop` says so.
pub async fn serve(
    broker: Arc<Broker>,
    metrics: PrometheusHandle,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => return,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (broker, metrics) = (broker.clone(), metrics.clone());
        connections.spawn(async move {
            let service = service_fn(|request| answer(broker.clone(), metrics.clone(), request));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "an HTTP connection broke");
            }
            drop(slot);
        });
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

async fn answer(
    broker: Arc<Broker>,
    metrics: PrometheusHandle,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    if request.method() != Method::GET {
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here"));
    }
    let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let query = request.uri().query().unwrap_or_default();
    Ok(match path[..] {
        ["livez"] => text(StatusCode::OK, "ok"),
        ["readyz"] if broker.is_ready() => text(StatusCode::OK, "ok"),
        ["readyz"] => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the node has not joined its clusters yet, or a replica has stopped")
        }
        ["metrics"] => {
            let page = tokio::task::spawn_blocking(move || metrics.render()).await.unwrap_or_default();
            text(StatusCode::OK, page)
        }
        ["v1", "receipts", topic, partition, offset] => receipt(&broker, topic, partition, offset).await,
        ["v1", "audit", topic] => audit(&broker, topic, query).await,
        _ => text(
            StatusCode::NOT_FOUND,
            "try /livez, /readyz, /metrics, /v1/receipts/TOPIC/PARTITION/OFFSET, /v1/audit/TOPIC",
        ),
    })
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// 425 says that asking again in a moment helps: the evidence is not certified yet.
async fn receipt(broker: &Arc<Broker>, topic: &str, partition: &str, offset: &str) -> Answer {
    let (Ok(partition), Ok(offset)) = (partition.parse::<u32>(), offset.parse::<i64>()) else {
        return text(StatusCode::BAD_REQUEST, "partition and offset are numbers");
    };
    let global = broker.consensus.global().clone();
    let topic = topic.to_string();
    let exported = tokio::task::spawn_blocking(move || {
        let known = global.topic(&topic).ok_or_else(|| ExportError::UnknownTopic(topic.clone()))?;
        let (system, ledger) = (global.view(LedgerId::SYSTEM), global.view(LedgerId::new(known.topic.id, partition)));
        receipt::export(global.genesis(), &system, &ledger, &topic, offset).map(|receipt| receipt.to_text())
    })
    .await;
    match exported {
        Ok(Ok(receipt)) => text(StatusCode::OK, receipt),
        Ok(Err(error @ (ExportError::UnknownOffset(_) | ExportError::NotCertified(_)))) => {
            text(StatusCode::TOO_EARLY, error.to_string())
        }
        Ok(Err(error @ (ExportError::UnknownTopic(_) | ExportError::UnknownPartition { .. }))) => {
            text(StatusCode::NOT_FOUND, error.to_string())
        }
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// `?partition=P&from=O&to=O&format=json`: rows are read and sent as they come, in bounded memory.
async fn audit(broker: &Arc<Broker>, topic: &str, query: &str) -> Answer {
    let wanted = match AuditQuery::parse(topic, query) {
        Ok(wanted) => wanted,
        Err(reason) => return text(StatusCode::BAD_REQUEST, reason),
    };
    let global = broker.consensus.global().clone();
    let (chunks, mut sent) = mpsc::channel(CHUNKS_WAITING);
    let (format, query) = (wanted.json, wanted.query);
    // What is wrong with the question is known before the first row.
    let checked = {
        let (global, query) = (global.clone(), query.clone());
        tokio::task::spawn_blocking(move || audit::query(&global, &query).map(drop).map_err(|error| error.to_string()))
    };
    match checked.await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return text(StatusCode::NOT_FOUND, reason),
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
    tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(CHUNK_BYTES, Chunks(chunks.clone()));
        let written = match audit::query(&global, &query) {
            Ok(rows) if format => audit::write_json(rows, &mut out),
            Ok(rows) => audit::write_table(rows, &mut out),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = written.and_then(|_| out.flush()) {
            // The reader sees that the answer breaks off; it may be the one who has gone.
            let _ = chunks.blocking_send(Err(error));
        }
    });
    let frames =
        stream::poll_fn(move |context| sent.poll_recv(context).map(|chunk| chunk.map(|bytes| bytes.map(Frame::data))));
    let content_type = if format { "application/json" } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that wait for a slow reader.
const CHUNKS_WAITING: usize = 8;

struct Chunks(mpsc::Sender<io::Result<Bytes>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct AuditQuery {
    query: audit::Query,
    json: bool,
}

impl AuditQuery {
    fn parse(topic: &str, text: &str) -> Result<Self, String> {
        let mut wanted = AuditQuery { query: audit::Query::topic(topic), json: false };
        let (mut from, mut to) = (0, i64::MAX);
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || value.parse::<i64>().map_err(|_| format!("{name}={value}: not a number"));
            match name {
                "partition" => {
                    let partition =
                        value.parse().map_err(|_| format!("partition={value}: not a partition's number"))?;
                    wanted.query.partition = Some(partition);
                }
                "from" => from = number()?,
                "to" => to = number()?,
                "format" if matches!(value, "json" | "table") => wanted.json = value == "json",
                _ => return Err(format!("{pair}: known are partition, from, to and format=json or table")),
            }
        }
        wanted.query.offsets = from..=to;
        Ok(wanted)
    }
}

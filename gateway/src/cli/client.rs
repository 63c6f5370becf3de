//! A GET to a node's HTTP port.

use super::{NodeArguments, Reason};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use waybill_gateway::dev::{Endpoint, Endpoints};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Which node of a `waybill dev` network is asked when none is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preferred {
    /// A party to the exchange.
    Trader,
    /// One that holds no payload.
    Witness,
}

impl NodeArguments {
    /// The address to ask.
    pub(super) fn address(&self, preferred: Preferred) -> Result<String, Reason> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let endpoints = Endpoints::load(&self.data_dir).map_err(|error| {
            format!("no running network found: start `waybill dev`, or name a node with --node ({error})")
        })?;
        let fits = |endpoint: &&Endpoint| endpoint.trades == (preferred == Preferred::Trader);
        let all = endpoints.organisations;
        let chosen = all.iter().find(fits).or(all.first());
        chosen.map(|endpoint| endpoint.http.to_string()).ok_or_else(|| "no organisation is running".into())
    }
}

/// Asks and hands each piece of the answer's body to `take`, or all of it to the caller when it is a refusal.
pub(super) async fn get(
    address: &str,
    path: &str,
    mut take: impl FnMut(&Bytes) -> Result<(), Reason>,
) -> Result<Result<(), (StatusCode, String)>, Reason> {
    let unreachable = |error: &dyn ToString| format!("{address} does not answer: {}", error.to_string());
    let asked = async {
        let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        // It ends with the answer; what breaks it shows there.
        tokio::spawn(connection);
        let request = Request::get(path).header("host", address).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| format!("{path}: {error}"))?;
        sender.send_request(request).await.map_err(|error| unreachable(&error))
    };
    let response = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| unreachable(&"no answer in time"))??;
    let status = response.status();
    let mut body = response.into_body();
    let mut refusal = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer of {address} breaks off: {error}"))?;
        let Some(bytes) = frame.data_ref() else { continue };
        if status.is_success() {
            take(bytes)?;
        } else {
            refusal.extend_from_slice(bytes);
        }
    }
    if status.is_success() { Ok(Ok(())) } else { Ok(Err((status, String::from_utf8_lossy(&refusal).into_owned()))) }
}

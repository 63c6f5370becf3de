//! Both sides of HTTP by hand: a client that sees every byte, a server that says whatever a test wants, and a relay
//! that cuts connections.

use super::{LEDGER, Member, PATIENCE};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};
use waybill_connector::request::{PULL_HEADER, SignedPullRequest};
use waybill_types::Offset;

/// A connection to another member's connector.
pub struct RawClient(pub client::TlsStream<TcpStream>);

/// An answer as it came.
#[derive(Debug)]
pub struct RawAnswer {
    pub head: String,
    /// The body without HTTP's framing.
    pub body: Vec<u8>,
    /// Whether the body ended where HTTP says that it does.
    pub whole: bool,
}

impl RawAnswer {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl RawClient {
    pub async fn connect(from: &Member, to: &Member) -> std::io::Result<Self> {
        let config = from.who.directory.client_config(&from.who.identity, to.node()).unwrap();
        let name = from.who.directory.server_name(to.node()).unwrap();
        let tcp = TcpStream::connect(&to.address).await?;
        Ok(RawClient(TlsConnector::from(config).connect(name, tcp).await?))
    }

    pub async fn write(&mut self, text: &str, body: &[u8]) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.write_all(body).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads one answer, or what there is of it.
    pub async fn read(&mut self) -> RawAnswer {
        timeout(PATIENCE, self.read_answer()).await.expect("an answer within reasonable time")
    }

    async fn read_answer(&mut self) -> RawAnswer {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more(&mut bytes).await {
                return RawAnswer { head: String::from_utf8(bytes).unwrap(), body: Vec::new(), whole: false };
            }
        };
        let mut rest = bytes.split_off(head_end);
        let head = String::from_utf8(bytes).unwrap();
        let mut answer = RawAnswer { head, body: Vec::new(), whole: false };
        let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
        loop {
            let (body, whole) = match length {
                Some(length) => (rest[..rest.len().min(length)].to_vec(), rest.len() >= length),
                None => dechunk(&rest),
            };
            (answer.body, answer.whole) = (body, whole);
            if whole || !self.more(&mut rest).await {
                return answer;
            }
        }
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let read = self.0.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..read]);
        read > 0
    }

    pub async fn ask(&mut self, text: &str, body: &[u8]) -> RawAnswer {
        self.write(text, body).await;
        self.read().await
    }
}

/// What of a chunked body is there, and whether it has its end.
fn dechunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        bytes = &bytes[at + 2..];
        if size == 0 {
            return (body, bytes.starts_with(b"\r\n"));
        }
        body.extend_from_slice(&bytes[..size.min(bytes.len())]);
        if bytes.len() < size + 2 {
            return (body, false);
        }
        bytes = &bytes[size + 2..];
    }
}

pub fn signed(from: &Member, to: &Member, first: Offset, last: Offset) -> String {
    let (identity, network) = (&from.who.identity, from.who.network);
    SignedPullRequest::sign(identity, network, to.node(), LEDGER, first, last).unwrap().to_header()
}

fn ledger_path() -> String {
    format!("/v1/ledgers/{}/{}/batches", LEDGER.topic, LEDGER.partition)
}

/// A `GET` of one batch with the given headers; each ends with `\r\n`.
pub fn get(offset: Offset, headers: &str) -> String {
    format!("GET {}/{offset} HTTP/1.1\r\nhost: x\r\n{headers}\r\n", ledger_path())
}

/// A `GET` of one batch, properly signed.
pub fn signed_get(from: &Member, to: &Member, offset: Offset, headers: &str) -> String {
    get(offset, &format!("{PULL_HEADER}: {}\r\n{headers}", signed(from, to, offset, offset)))
}

/// A multi-get: head and body.
pub fn signed_post(from: &Member, to: &Member, offsets: &[Offset]) -> (String, Vec<u8>) {
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let body: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
    let signed = signed(from, to, first, last);
    let length = body.len();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\n{PULL_HEADER}: {signed}\r\ncontent-length: {length}\r\n\r\n",
        ledger_path()
    );
    (head, body)
}

/// A connector that answers each connection's first request with what the script has for it, and hangs up.
pub struct Scripted {
    /// The heads of the requests that came.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub fn start(member: &Member, answers: Vec<Vec<u8>>) -> Self {
        let listener = member.listener();
        let config = member.who.directory.server_config(&member.who.identity).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (tcp, _) = listener.accept().await.unwrap();
                let mut tls = TlsAcceptor::from(config.clone()).accept(tcp).await.unwrap();
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    head.push(tls.read_u8().await.unwrap());
                }
                seen.lock().push(String::from_utf8(head).unwrap());
                tls.write_all(&answer).await.unwrap();
                tls.flush().await.unwrap();
                let _ = tls.shutdown().await;
            }
        });
        Scripted { requests }
    }
}

/// Stands between a client and `to`; each connection is cut after so many bytes of the answer, and then the next.
pub fn relay(listener: TcpListener, to: String, cut_after: Vec<Option<u64>>) {
    tokio::spawn(async move {
        let mut cuts = cut_after.into_iter();
        while let Ok((client, _)) = listener.accept().await {
            let cut = cuts.next().flatten().unwrap_or(u64::MAX);
            let Ok(server) = TcpStream::connect(&to).await else { return };
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let _ = tokio::io::copy(&mut from_server.take(cut), &mut to_client).await;
            });
        }
    });
}

//! A client that writes and reads frames, and waits for nothing longer than a limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// No answer takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// One connection.
pub struct Client {
    stream: Stream,
    correlation_id: i32,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn read_exact(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.read_exact(bytes),
            Stream::Tls(stream) => stream.read_exact(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Client { stream: Stream::Plain(connected(address)), correlation_id: 100 }
    }

    /// Connects and makes the TLS handshake; an error is the handshake's.
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> std::io::Result<Self> {
        let name = ServerName::try_from(name.to_string()).expect("a server's name");
        let connection = ClientConnection::new(config, name).expect("a TLS connection");
        let mut stream = StreamOwned::new(connection, connected(address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client { stream: Stream::Tls(Box::new(stream)), correlation_id: 100 })
    }

    /// Asks and waits for the answer, which must be of this request and be understood to its last byte.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request);
        let (received, response) = self.receive::<R>(version);
        assert_eq!(received, sent, "the answer is of another request");
        response
    }

    /// Sends a request and gives its correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap_or_else(|error| panic!("{} v{version}: {error}", R::KEY));
        self.send_body(R::KEY, version, R::header_version(version), &body)
    }

    /// Sends a body that no library writes.
    pub fn send_body(&mut self, api_key: i16, version: i16, header_version: i16, body: &[u8]) -> i32 {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(api_key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some("kafka-api-test".into()));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, header_version).expect("a header");
        frame.put_slice(body);
        self.send_frame(&frame);
        self.correlation_id
    }

    /// Sends any bytes behind their length.
    pub fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::with_capacity(4 + frame.len());
        bytes.put_u32(frame.len() as u32);
        bytes.put_slice(frame);
        self.send_bytes(&bytes);
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway reads");
    }

    /// Sends bytes as they are, to a gateway that may have closed the connection already.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next answer, which must be understood to its last byte.
    pub fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut frame = self.frame().unwrap_or_else(|| panic!("{} v{version}: connection closed", R::KEY));
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("a header");
        let response =
            R::Response::decode(&mut frame, version).unwrap_or_else(|error| panic!("{} v{version}: {error}", R::KEY));
        assert!(frame.is_empty(), "{} v{version}: {} bytes left over", R::KEY, frame.len());
        (header.correlation_id, response)
    }

    /// The next frame without its length; none when the gateway has closed the connection.
    pub fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("no answer: {error}"),
        }
        let mut frame = vec![0; (&length[..]).get_u32() as usize];
        self.stream.read_exact(&mut frame).expect("a whole frame");
        Some(frame.into())
    }

    /// Waits for the end of the connection, whatever comes before it.
    pub fn read_to_end(&mut self) {
        let mut byte = [0];
        let ended = loop {
            if let Err(error) = self.stream.read_exact(&mut byte) {
                break error;
            }
        };
        let kind = ended.kind();
        assert!(matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "no end: {ended}");
    }

    /// No more requests will come.
    pub fn finish(&mut self) {
        let Stream::Plain(stream) = &self.stream else { panic!("TLS closes both ways") };
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    }
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    stream.set_nodelay(true).expect("no delay");
    stream
}

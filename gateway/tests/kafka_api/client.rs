//! A client that writes and reads frames, and waits for nothing longer than a limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// One connection.
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        Client { stream, correlation_id: 100 }
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

    /// No more requests will come.
    pub fn finish(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    }
}

//! Log-in and TLS over real sockets: what gets in, what does not, and what strangers can do meanwhile.

mod login;
mod restart;
mod scram;
mod strangers;
mod tls;

pub use scram::{Exchange, Hash};

use crate::client::Client;
use crate::requests::text;
use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};

pub const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

pub fn handshake(mechanism: &str) -> SaslHandshakeRequest {
    SaslHandshakeRequest::default().with_mechanism(text(mechanism))
}

pub fn token(bytes: impl Into<Vec<u8>>) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(bytes.into()))
}

pub fn plain_token(user: &str, password: &str) -> SaslAuthenticateRequest {
    token(format!("\0{user}\0{password}"))
}

/// Logs in on a fresh connection, or again; gives the answer to the last token.
pub fn log_in(client: &mut Client, mechanism: &str, user: &str, password: &str) -> SaslAuthenticateResponse {
    let chosen = client.ask(1, &handshake(mechanism));
    assert_eq!(chosen.error_code, 0);
    let hash = match mechanism {
        "PLAIN" => return client.ask(2, &plain_token(user, password)),
        "SCRAM-SHA-256" => Hash::Sha256,
        _ => Hash::Sha512,
    };
    let mut exchange = Exchange::new(hash, user, password);
    let first = client.ask(2, &token(exchange.first()));
    assert_eq!((first.error_code, first.session_lifetime_ms), (0, 0), "{:?}", first.error_message);
    let last = client.ask(2, &token(exchange.last(&first.auth_bytes)));
    if last.error_code == 0 {
        exchange.check(&last.auth_bytes);
    }
    last
}

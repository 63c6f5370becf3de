//! Why connections end.

use crate::frame::FrameError;
use crate::request::DecodeError;
use crate::response::EncodeError;
use crate::security::sasl::AuthenticationError;
use std::net::SocketAddr;

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
    /// The client sent what is no TLS handshake, or one without anything in common with ours.
    #[error("TLS handshake: {0}")]
    Tls(std::io::Error),
    /// The client asked for something before it logged in.
    #[error("API key {0} was asked for before the client logged in")]
    NotLoggedIn(i16),
    /// The client did not log in.
    #[error("not authenticated: {0}")]
    Authentication(#[from] AuthenticationError),
    /// The client took too long for the TLS handshake or to log in.
    #[error("the client did not log in in time")]
    TooSlow,
    /// The client sent no request for too long, or took nothing of an answer. It may be gone without a word.
    #[error("the client was idle for too long")]
    Idle,
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

impl ConnectionError {
    /// Its one log line, and its metric.
    pub(super) fn report(&self, client: SocketAddr) {
        match self {
            Self::Socket(reason) => return tracing::debug!(%client, %reason, "connection broke"),
            Self::Idle => return tracing::debug!(%client, "connection closed: {self}"),
            // Whoever only looks whether the port is open.
            Self::Tls(reason) if reason.kind() == std::io::ErrorKind::UnexpectedEof => {
                return tracing::debug!(%client, "connection left during its TLS handshake");
            }
            Self::Frame(_) | Self::Header(_) | Self::Request(_) => {
                metrics::counter!("waybill_kafka_malformed_frames_total").increment(1);
            }
            Self::Tls(_) => metrics::counter!("waybill_kafka_tls_failures_total").increment(1),
            Self::NotLoggedIn(_) | Self::Authentication(_) | Self::TooSlow => {
                metrics::counter!("waybill_kafka_authentication_failures_total").increment(1);
            }
            Self::Unacknowledged(_) | Self::Encode(_) => {}
        }
        tracing::warn!(%client, reason = %self, "connection closed");
    }
}

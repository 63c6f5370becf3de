//! Every limit of a connector, with its default.

use crate::store::disk::DiskOptions;
use std::time::Duration;

/// How a connector behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest canonical batch that is kept or pulled.
    pub batch_bytes_limit: usize,
    /// Recent payloads in memory, for outbox and inbox each.
    pub cache_bytes_limit: usize,
    /// The disk stores.
    pub disk: DiskOptions,
    /// What is served to others.
    pub serve: ServeOptions,
    /// What is pulled from others.
    pub pull: PullOptions,
    /// What is pulled ahead of being asked for.
    pub prefetch: PrefetchOptions,
    /// What goes on the ledger about it.
    pub evidence: EvidenceOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            batch_bytes_limit: 64 << 20,
            cache_bytes_limit: 16 << 20,
            disk: DiskOptions::default(),
            serve: ServeOptions::default(),
            pull: PullOptions::default(),
            prefetch: PrefetchOptions::default(),
            evidence: EvidenceOptions::default(),
        }
    }
}

/// What others may take of us.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections in their handshake: strangers can take these, and nothing else.
    pub handshakes_limit: usize,
    /// Open connections in all.
    pub connections_limit: usize,
    /// Open connections of one organisation.
    pub connections_per_org_limit: usize,
    /// Requests of one organisation that are being answered.
    pub pulls_per_org_limit: usize,
    /// Payload bytes in memory for answers to one organisation; a single larger payload is let through alone.
    pub in_flight_bytes_per_org_limit: usize,
    /// Batches in one request.
    pub batches_per_request_limit: usize,
    /// Bytes of one request's head (HTTP request line and headers).
    pub head_bytes_limit: usize,
    /// Headers of one request.
    pub headers_limit: usize,
    /// From the connection's first byte to the end of its handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its head and body; also how long a connection may idle.
    pub request_timeout: Duration,
    /// How long a receiver may take to accept one chunk.
    pub chunk_timeout: Duration,
    /// Permission is asked again for each chunk of a payload.
    pub chunk_bytes: usize,
    /// The largest difference between a receiver's clock and ours.
    pub clock_skew_limit: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            handshakes_limit: 64,
            connections_limit: 256,
            connections_per_org_limit: 32,
            pulls_per_org_limit: 16,
            in_flight_bytes_per_org_limit: 32 << 20,
            batches_per_request_limit: 4096,
            head_bytes_limit: 16 << 10,
            headers_limit: 32,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            chunk_timeout: Duration::from_secs(30),
            chunk_bytes: 256 << 10,
            clock_skew_limit: Duration::from_secs(300),
        }
    }
}

/// What we take of others.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Requests under way to one connector, each on a connection of its own.
    pub requests_per_peer_limit: usize,
    /// Payload bytes on their way from one connector, so that no partner takes the whole allowance.
    pub in_flight_bytes_per_peer_limit: usize,
    /// Payload bytes on their way in all; a single larger payload is pulled alone.
    pub in_flight_bytes_limit: usize,
    /// Payload bytes that one request asks for, unless its first batch alone is larger.
    pub request_bytes_limit: usize,
    /// Batches that one request asks for.
    pub batches_per_request_limit: usize,
    /// For connecting and the handshake.
    pub connect_timeout: Duration,
    /// How long a connector may be silent within an answer.
    pub silence_timeout: Duration,
    /// The first pause before a retry; it doubles, with jitter.
    pub backoff_first: Duration,
    /// The longest pause before a retry.
    pub backoff_max: Duration,
    /// How long a pull goes on that somebody waits for, if he sets no earlier deadline.
    pub deadline: Duration,
    /// A cap on all pulls together; none by default.
    pub bytes_per_second_limit: Option<u64>,
}

impl Default for PullOptions {
    fn default() -> Self {
        PullOptions {
            requests_per_peer_limit: 4,
            in_flight_bytes_per_peer_limit: 32 << 20,
            in_flight_bytes_limit: 64 << 20,
            request_bytes_limit: 8 << 20,
            batches_per_request_limit: 1024,
            connect_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(10),
            backoff_first: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
            deadline: Duration::from_secs(30),
            bytes_per_second_limit: None,
        }
    }
}

/// Pulling ahead.
#[derive(Clone, Debug)]
pub struct PrefetchOptions {
    /// Batches that wait to be pulled from one connector; what comes above it is pulled when it is asked for.
    pub queue_per_peer_limit: usize,
    /// How long one batch is tried for.
    pub deadline: Duration,
}

impl Default for PrefetchOptions {
    fn default() -> Self {
        PrefetchOptions { queue_per_peer_limit: 4096, deadline: Duration::from_secs(30) }
    }
}

/// What is reported for the ledger.
#[derive(Clone, Debug)]
pub struct EvidenceOptions {
    /// How long a report waits for others to join it.
    pub linger: Duration,
    /// Transactions in one report.
    pub batch_limit: usize,
    /// Events that wait to be reported; above it, whoever makes them waits.
    pub queue_limit: usize,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        EvidenceOptions { linger: Duration::from_millis(75), batch_limit: 256, queue_limit: 4096 }
    }
}

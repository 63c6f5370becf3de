//! The connector: stands beside an organisation's storage, keeps what was sent and received, serves and makes pulls.
//!
//! # Invariants
//! - **Durable first.** [`Outbox::keep`](outbox::Outbox::keep) is the only maker of a [`Stored`], and
//!   resolves when the batch is synced: no metadata without a payload.
//! - **Nothing unverified.** [`Payload::verify`](payload::Payload::verify) is the only way to a
//!   [`Verified`]. What comes back from a medium is verified again: a damaged payload is an error,
//!   a line in the log and a metric, never an answer; its neighbours are not concerned.
//! - **Own node only.** Bytes leave against a `Grant` of this connector's own node, asked for each batch and each
//!   chunk, whatever the receiver's node may say.
//! - **The salt comes last**, behind the last byte of its batch: who knows it was served.
//! - **Bounded.** Connections, requests, queues, payloads in memory: every limit is in [`options`].
//!
//! # Layout
//! | module | holds |
//! |---|---|
//! | [`connector`] | all of it put together: what a gateway holds |
//! | [`outbox`], [`inbox`] | what was sent, what was received |
//! | [`payload`] | bytes that claim to be a batch, and bytes that are proven to be one |
//! | [`store`] | where bytes are kept: on disk, in memory |
//! | [`permissions`] | what the connector asks its own node |
//! | `serve`, `wire` | the HTTPS port and what is said on it |
//! | [`request`] | signed pull requests |
//! | [`pull`] | getting payloads from others: retried, resumed, within limits |
//! | [`deliver`], [`prefetch`] | from a grant to bytes, when asked or ahead of it |
//! | [`evidence`] | what goes on the ledger about all this |
//!
//! # Deliberately absent
//! Kafka's protocol and record batches (a batch is opaque here), consensus, the decision who may read.
//! Retention, encryption at rest, sealing and transforms will be modules of their own.
#![deny(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

extern crate alloc;

mod cache;
pub mod connector;
mod consignment;
pub mod deliver;
pub mod evidence;
mod flights;
pub mod inbox;
pub mod options;
pub mod outbox;
pub mod payload;
pub mod permissions;
pub mod prefetch;
pub mod pull;
pub mod request;
mod serve;
mod shelf;
pub mod store;
mod tasks;
mod wire;

pub use connector::{Connector, Stores, Who};
pub use deliver::DeliverError;
pub use evidence::EvidenceSink;
pub use options::Options;
pub use outbox::{KeepError, Outbox, Stored};
pub use payload::{Payload, Verified};
pub use permissions::{Permissions, Refusal};
pub use prefetch::Announced;

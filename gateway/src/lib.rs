//! The gateway: a node's Kafka face, and the node put together.
//!
//! Kafka clients see a broker. Behind each request stands one of two walks:
//!
//! ```text
//! Produce:  frame -> request -> batch (CRC, canonical form) -> publish -> connector's outbox (durable)
//!           -> Send transaction -> the partition's PBFT cluster -> executed here -> response
//! Fetch:    frame -> request -> ledger entries -> authorise -> Grant -> connector (outbox, inbox or pull)
//!           -> verified batch -> stamped with its offset -> response
//! ```
//!
//! # Invariants
//! - **No length of a client's is trusted**: [`frame`] and [`request`] bound everything before it is decoded.
//! - **Responses leave in the order of their requests**, and no connection holds up another ([`connection`]).
//! - **A batch is never copied** on its way, [`batch`] changes 12 bytes of its header; **nor decompressed**, but for topics
//!   that demand something of each record, as compacted ones do.
//! - **The gateway trusts its own node only**: it acknowledges what its own replica has executed.
//!
//! # Layout
//! | module | holds |
//! |---|---|
//! | [`server`], [`connection`] | accepting clients; one client's requests and responses |
//! | [`security`] | listeners, TLS, log-in: who is at the other end |
//! | [`frame`], [`request`], [`versions`], [`response`] | bytes to typed requests and back |
//! | [`api`] | one file per Kafka API |
//! | [`batch`] | record batches: checks, canonical form, stamps |
//! | [`publish`], [`deliver`] | the two walks |
//! | [`topics`] | topics come and go by the system ledger |
//! | [`group`], [`coordinator`] | the consumer group's state machine; its tasks |
//! | [`commits`], [`evidence`] | what goes on the ledgers about deliveries, and what the connector may hand out |
//! | [`broker`] | one node, put together |
//! | [`error`] | one table from our refusals to Kafka's codes |
//! | [`http`], [`telemetry`] | health, metrics, receipts and audits over HTTP; logs |
//! | [`dev`] | `waybill dev`: a network of four organisations in one process |
//!
//! # Deliberately absent
//! What a partition decides (`waybill-ledger`), how it is ordered (`waybill-pbft`, `waybill-consensus`), where payloads are
//! (`waybill-connector`).
#![deny(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod api;
pub mod batch;
pub mod broker;
pub mod commits;
pub mod connection;
pub mod coordinator;
pub mod deliver;
pub mod dev;
pub mod error;
pub mod evidence;
pub mod frame;
pub mod group;
pub mod http;
pub mod publish;
pub mod request;
pub mod response;
pub mod security;
pub mod server;
pub mod telemetry;
pub mod topics;
pub mod versions;

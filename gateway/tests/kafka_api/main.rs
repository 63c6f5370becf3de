//! The Kafka face over real sockets: one network of four organisations in this process, asked by clients that write bytes.
//!
//! [`table`] sends every advertised version of every API and checks the answers; it does not compile until a new API has
//! its case. The other modules ask what a version number does not tell: order, limits, waiting, groups, permission.

mod client;
mod configs;
mod connection;
mod fetch;
mod groups;
mod idempotence;
mod list_offsets;
mod metadata;
mod network;
mod produce;
mod requests;
mod restart;
mod table;
mod topics;

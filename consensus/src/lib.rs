//! Runs consensus: the shell around the PBFT core, the links between nodes, Raft groups, and the anchor.
//!
//! The protocol is in `waybill-pbft`, what it orders means something in `waybill-ledger`; here are the tasks, sockets
//! and the journal that carry both.
//!
//! # How data walks
//! ```text
//! submit(transactions) -> replica task: envelope (one signature) -> core -> Persist -> journal (group commit)
//!        peers -> link -> replica inbox -> core -> Send -> peers (coalesced per peer, mutual TLS)
//!                                          core -> Execute -> ledger::Partition::apply -> waiters, readers
//!                                          core -> Stable  -> anchor -> Raft -> global ledger on every node
//! ```
//!
//! # Invariants
//! - **A partition's state belongs to its task** ([`replica`]); others see it through a `Reader` and a handle.
//! - **Persist before send, persist before execute**: the core asks, the task obeys in order.
//! - **Sending never waits**: a peer that does not read loses its connection and is told the rest by a summary when it
//!   is back ([`peers`]). So no slow organisation holds up another.
//! - **Bulk payloads never come here**: connectors have links of their own.
//!
//! # Layout
//! | module | holds |
//! |---|---|
//! | [`peers`] | one mutual-TLS link per direction and pair of nodes, all partitions on it |
//! | [`replica`] | the task of one partition: core, journal records, ledger, waiters |
//! | [`node`] | all replicas of one node: recovery from the journal, start of new partitions, routing |
//! | [`raft`] | openraft on the journal, for the global and the organisation ledger |
//! | [`anchor`] | copies certified blocks of local ledgers into the global ledger |
//!
//! # Deliberately absent
//! Kafka, payloads, permissions: gateway, connector, contract.
#![deny(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

extern crate alloc;

mod anchor;
mod catch_up;
mod clock;
pub mod node;
pub mod peers;
pub mod raft;
pub mod replica;

pub use clock::Clock;

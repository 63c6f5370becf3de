//! Waybill's ledgers: where what PBFT ordered becomes offsets, permissions, evidence and files that verify offline.
//!
//! A ledger is applied to, it does not ask: nothing here awaits, and the only threads are the journal's writers.
//!
//! # Invariants
//! - **The journal is the truth.** What sled holds is derived, written in batches at stable checkpoints, and rebuilt
//!   from the journal when it is missing or does not open.
//! - **Determinism.** [`partition`] and [`contract`] compute from the ordered body and the chain alone: every replica
//!   gets the same block, outcomes and state root. Time is the block's, never the machine's.
//! - **A contract reads its own chain and nothing else.** Configuration reaches it as an ordered transaction.
//! - **A [`Grant`](contract::Grant) is proof**: bytes of a payload are handed out against one, and only
//!   [`authorise`](contract::authorise) makes one.
//!
//! # Layout
//! | module | holds |
//! |---|---|
//! | [`journal`] | append-only CRC'd segments with group commit |
//! | [`genesis`] | the network's beginning, and the digest that names it |
//! | [`identity`] | a node's keys; which organisation and node a peer's certificate is |
//! | [`keys`] | every key that is stored in sled |
//! | [`partition`] | applies one ledger's bodies in order; reads its entries, leaves and blocks |
//! | [`contract`] | the deterministic rules: `exchange` for topics, `system` for the network itself |
//! | [`tiles`] | the Merkle tree of a ledger, stored in tiles, and inclusion proofs from it |
//! | [`global`] | the union of all ledgers: certified blocks, verified before they are applied |
//! | [`organisation`] | what is one organisation's own business: groups, offsets, producer ids |
//! | [`receipt`] | proofs of delivery: export and offline verification |
//! | [`audit`] | the story of a topic's offsets, told from the global ledger |
//!
//! # Deliberately absent
//! Consensus (`waybill-consensus`), payload bytes (`waybill-connector`), Kafka's protocol (`waybill-gateway`).
#![deny(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

extern crate alloc;

pub mod audit;
pub mod contract;
pub mod genesis;
pub mod global;
pub mod identity;
pub mod journal;
pub mod keys;
pub mod organisation;
pub mod partition;
pub mod receipt;
pub mod tiles;

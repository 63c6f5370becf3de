//! What is on Waybill's ledgers, and the one way in which it is written as bytes.
//!
//! Everything that two organisations must agree on byte for byte lives here: identities, commitments,
//! transactions, envelopes, blocks, checkpoints. The crate has no clock, no socket, no thread and no
//! hash-ordered collection, so that every replica computes the same from the same input.
//!
//! # Invariants
//! - **Canonical**: one value has one encoding ([`codec`]); decoding rejects trailing bytes, unknown tags
//!   and lengths beyond the input. What was received is hashed and verified as received, never re-encoded.
//! - **Domain separation**: each digest and each signature starts with its own tag ([`digest`]).
//! - **Pinned**: golden vectors in the tests fix each encoding; a change of one is a change of protocol.
//!
//! # Layout
//! | module | holds |
//! |---|---|
//! | [`codec`] | the canonical encoding |
//! | [`ids`] | organisations, nodes, topics, ledgers, clusters |
//! | [`digest`] | SHA-256 with domain tags, the payload [`Commitment`] |
//! | [`keys`] | Ed25519 public keys and signatures |
//! | [`membership`] | who the replicas of an epoch are, and how many make a quorum |
//! | [`transaction`] | what an organisation can put on a ledger |
//! | [`envelope`] | a signed group of transactions of one node, and in which order they execute |
//! | [`block`] | ordered bodies, derived headers, outcomes, Merkle leaves |
//! | [`merkle`] | the RFC 6962 tree arithmetic: frontier, inclusion proofs |
//! | [`checkpoint`] | signed notes over tree heads, and certificates of a quorum of them |
//!
//! # Deliberately absent
//! Storage, networking, and the contracts' rules: they are in `waybill-ledger` and above.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

extern crate alloc;

pub mod block;
pub mod checkpoint;
pub mod codec;
pub mod digest;
pub mod envelope;
pub mod ids;
pub mod keys;
pub mod membership;
pub mod merkle;
pub mod transaction;

pub use block::{Block, Body, Header, Leaf, Outcome, Rejection};
pub use checkpoint::{Certificate, Checkpoint};
pub use codec::{Codec, DecodeError};
pub use digest::{Commitment, Digest, Salt};
pub use envelope::{Envelope, Origins};
pub use ids::{ClusterId, Epoch, Height, LedgerId, NetworkId, NodeId, Offset, OrgId, TopicId};
pub use keys::{PublicKey, Signature};
pub use membership::{Member, Membership};
pub use transaction::Transaction;

//! Waybill's PBFT replica: Castro and Liskov's protocol ("Practical Byzantine Fault Tolerance", OSDI 1999) with public-key
//! signatures, adapted to a ledger, without I/O, clock or threads.
//!
//! A [`Replica`] takes an [`Input`] and the time and gives [`Output`]s; [`Replica::next_timeout`] says when it wants to be
//! called again, if at all. The shell around it owns sockets, disk and clock, and performs the outputs in order. The
//! same inputs give the same outputs, on every machine: there is no hash-ordered collection and no clock in here.
//!
//! ```text
//!   envelope -> SUBMIT -> primary: PRE-PREPARE -> backups: PREPARE -> all: COMMIT -> Execute -> Executed -> CHECKPOINT
//!                         persist first           persist first       persist first               persist first   Stable
//! ```
//!
//! # The protocol, by the paper's sections
//! | section | here |
//! |---|---|
//! | 4.1 the client | `request`, `submissions`: envelopes of origins instead of requests of clients; contiguous per origin; complaint instead of multicast |
//! | 4.2 normal case | `normal`, `proposal` (when a backup agrees), `log` |
//! | 4.3 garbage collection | `checkpoint`: what is signed is the ledger's tree head, so that the proof of stability is the ledger's certificate too |
//! | 4.4 view changes | `view_change` (with state), `new_view` (what follows from what, without) |
//! | 4.5.2 liveness | `timer`, and `wish` in `view_change` |
//! | 4.6 retransmission | `sync`: status messages, bodies by digest; state transfer is the shell's, by certified blocks |
//! | the proofs' assumption that a correct replica remembers | `journal`, `record`, `recover` |
//!
//! # Invariants
//! - Nothing is sent before what it promises is durable. An own vote counts, and a body executes, only then.
//! - A sequence is the height of its block: whatever a view change decides, null requests included, executes as a block.
//! - Within one view a replica accepts one proposal per sequence, restarts included; it votes in no view below one that
//!   it has asked for.
//! - A prepared certificate and a view change convince any member; commits are link-authenticated and convince nobody
//!   else, for the checkpoint certificate is what is shown to third parties.
//! - Every signature is over kind, network, cluster, epoch, view, sequence and digest ([`vote::preimage`]).
//! - What a peer or an origin can make us hold is bounded ([`Limits`]); votes of one peer displace only its own.
//!
//! # Where this differs from the paper
//! - A timed-out replica first *wishes* for the next view and goes on voting; it asks for the view when a quorum wishes so
//!   (see `view_change`).
//! - A replica that has missed a view's opening, or waits for one, votes in no view and still executes what a quorum of
//!   others commits.
//! - The quorum is `ceil((n + f + 1) / 2)`, which is 2f + 1 for n = 3f + 1.
//! - Checkpoints fall at every K-th sequence *and* where a body asks for one, so that an idle ledger is soon covered.
//! - Sequence 1 has one possible body, agreed outside of the protocol.
//!
//! # Time
//! `now_ms` is milliseconds since 1970 and does not fall within one run: a monotonic clock anchored at the start, or the
//! larger of the wall clock and the last value. It drives the timers, and is what a fresh proposal's time is compared to.
//!
//! # Deliberately absent
//! - Reconfiguration inside a replica: a `Replica` lives in one epoch. The next epoch is another one, whose
//!   [`Config::base`] is the last sequence of this one; no vote crosses.
//! - MAC authenticators, tentative execution, read-only requests, proactive recovery: the paper's optimisations that a
//!   ledger with batches of signed envelopes does not need.
//! - State transfer: blocks certified by checkpoints are fetched and verified by the shell ([`Output::NeedSync`]).
//!
//! # Trying it
//! `cargo run -p waybill-pbft --features simulator --bin pbft-sim -- --seeds 0..1000 --n 4` runs seeds,
//! `-- --seed 7 --n 4` prints one, a line per transition.
#![cfg_attr(not(feature = "simulator"), no_std)]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

extern crate alloc;

mod checkpoint;
mod config;
mod io;
mod journal;
mod log;
pub mod message;
mod new_view;
mod normal;
mod proposal;
pub mod record;
mod recover;
mod replica;
mod request;
#[cfg(feature = "simulator")]
pub mod simulator;
mod submissions;
mod sync;
#[cfg(test)]
mod tests;
mod timer;
mod view_change;
pub mod vote;

pub use config::{Config, ConfigError, Limits, Timing};
pub use io::{Event, Evidence, Input, Output, PersistId, Reason, Restored, Signatures, To};
pub use recover::StartError;
pub use replica::Replica;

/// A replica's place in its membership.
pub type ReplicaIndex = u8;
/// A view, from 0. Its primary is [`Config::primary`].
pub type View = u64;
/// A place in the order, from 1. It is the height of the block that its body becomes.
pub type Sequence = u64;

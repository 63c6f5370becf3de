//! Raft groups, for where crashes are the only fault to survive: the global ledger (one group of all nodes) and each
//! organisation's own ledger (a group of its nodes, often of one).
//!
//! openraft is confined to this module: nobody outside sees a type of it.
//!
//! # How a command travels
//! `Group::write` -> [`proposer`] (batches what waits into one log entry, forwards it where this node does not lead) -> openraft
//! -> [`log`] (a stream of the node's journal, synced) and [`network`] (to the other members) -> [`state_machine`] -> the
//! [`Machine`] -> its answer, back to the caller.
//!
//! # Layout
//! | module | holds |
//! |---|---|
//! | [`group`] | [`Group`]: start, write, read barrier, what peers ask, shutdown |
//! | [`options`] | time-outs and limits |
//! | [`types`] | the types that openraft is configured with; [`GroupId`] |
//! | [`machine`] | [`Machine`]: what a ledger implements to be replicated |
//! | [`machines`] | the ledgers as machines |
//! | [`wire`] | the encoding of openraft's types, for the journal and for peers |
//! | [`message`] | what peers ask each other, and how it is answered |
//! | [`record`], [`index`], [`recovery`], [`log`] | the log: its records in the journal, what is where, finding it again, openraft's view |
//! | [`snapshot`], [`state_machine`] | snapshot files; openraft's view of a machine |
//! | [`network`], [`incoming`] | to peers; snapshots from them |
//! | [`election`] | when to stand for leader |
//! | [`housekeeping`] | when to make a snapshot and to shorten the log |
//!
//! # Around openraft 0.9.25
//! Where it needs help, and what we do (each is explained where it is done):
//! - It draws its election timeout once per process, so that a split vote can repeat for ever. [`election`] draws anew each time,
//!   and polls first, so that a node that was cut off does not depose a leader when it comes back.
//! - It purges the log before the snapshot that replaces it is installed. [`incoming`] makes the snapshot durable before openraft
//!   hears of it.
//! - It gives up an append after one heartbeat interval and sends it again. [`network`] lets the first one finish.
//! - It makes snapshots by the number of entries only. [`housekeeping`] looks at their bytes, and those of the last snapshot.
//! - Entries wait for the state machine without a limit. [`group`] holds appends back while too many do.
//! - It appends one entry at a time and waits for the disk. [`proposer`] puts many commands into one entry.
//!
//! # Deliberately absent
//! Changes of membership (a network's nodes change with its genesis epoch; later), and any judgement of what is in a command:
//! a member of another organisation may lie, so a machine verifies what it applies.

#![expect(clippy::result_large_err, reason = "openraft's storage error is as large as it is, and stops the group")]

mod election;
mod group;
mod housekeeping;
mod incoming;
mod index;
mod log;
mod machine;
pub mod machines;
mod message;
mod network;
mod options;
mod proposer;
mod record;
mod recovery;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use group::{BarrierError, Group, Setup, StartError, Status, StatusWatch, WriteError};
pub use log::{LogStore, MoveError};
pub use machine::Machine;
pub use network::{Transport, Unreachable};
pub use options::Options;
pub use proposer::COMMAND_BYTES_MAX;
pub use recovery::{LogRecovery, RecoverError};
pub use types::GroupId;

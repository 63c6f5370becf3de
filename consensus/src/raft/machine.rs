//! What a ledger implements to be replicated by a Raft group.

use std::io::{self, Read, Write};

use bytes::Bytes;

/// A deterministic state machine. Its methods block; they are called on threads that may.
///
/// `meta` says how far a machine has applied. It is opaque here; the machine keeps it with its state, *as one*: after a crash
/// [`applied`](Machine::applied) tells the `meta` of exactly the state that is there. A machine in memory starts empty and
/// returns `None`; it is then brought up to date from the last snapshot and the log.
///
/// One thing calls `apply` and `install_snapshot`; `write_snapshot` may run beside `apply`.
///
/// An `Err` means that the machine cannot go on (its storage failed): the group stops. What is wrong with a *command* is not an
/// error but an answer.
pub trait Machine: Send + Sync + 'static {
    /// The `meta` of the state that is there; `None` if nothing was applied yet.
    fn applied(&self) -> Option<Bytes>;

    /// Applies a command and returns its answer. Without one (an entry of Raft's own) only `meta` changes.
    fn apply(&self, meta: Bytes, command: Option<&Bytes>) -> io::Result<Bytes>;

    /// Writes a state as it was at one moment, and returns the `meta` of that moment.
    fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<Bytes>;

    /// Whether a snapshot that another node sent may be installed. Its checksum was verified; whether its content proves itself
    /// only the machine can say, and must, where members do not trust each other.
    fn verify_snapshot(&self, meta: &Bytes, input: &mut dyn Read) -> io::Result<()>;

    /// Replaces the state.
    fn install_snapshot(&self, meta: Bytes, input: &mut dyn Read) -> io::Result<()>;
}

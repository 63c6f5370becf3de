//! One partition's replica: a task that owns the PBFT core and the ledger, and the handle through which others use it.
//!
//! ```text
//!  submissions --\                                   /--> journal (records, in order; one sync for all partitions)
//!  messages -------> task: core.handle -> outputs ---+--> peers (messages)
//!  persisted ----/                                   \--> partition.apply -> waiters, progress, flush to sled
//! ```
//! The task never waits for disk or network: both answer through its channels.

mod records;
mod task;
mod waiters;

pub(crate) use records::fetched_record;
pub use records::{Recovered, stream_of};
pub use task::StartError;
pub(crate) use task::{ReplicaParts, start};

use crate::catch_up::Fetched;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use waybill_ledger::partition::Reader;
use waybill_pbft::{ReplicaIndex, View};
use waybill_types::{ClusterId, Height, LedgerId, Membership, NodeId, Outcome, Transaction};

/// What a replica's task is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer's message.
    Message { from: ReplicaIndex, bytes: Bytes },
    /// The link towards a node is new.
    Connected(NodeId),
    /// Certified blocks came from a peer; none could be had if it is empty.
    Fetched(Option<Box<Fetched>>),
}

/// A transaction on its way, and who waits for its outcome.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) transaction: Transaction,
    pub(crate) outcome: oneshot::Sender<Executed>,
}

/// What became of a submitted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The contract's decision.
    pub outcome: Outcome,
    /// The block's time, in milliseconds since 1970.
    pub time_ms: u64,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last executed block.
    pub executed: Height,
    /// The last block under a certificate.
    pub stable: Height,
    /// The next offset.
    pub high_watermark: i64,
    /// The view we vote in.
    pub view: View,
    /// Whether we are the view's primary.
    pub primary: bool,
    /// The replica has stopped for good: what it executed differs from what a quorum certified, or cannot be executed.
    pub halted: bool,
}

/// Why a transaction was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// More is waiting than the limit; the caller may try again.
    #[error("too many transactions wait for this partition's cluster")]
    Busy,
    /// The replica has stopped.
    #[error("this partition's replica has stopped")]
    Stopped,
}

/// A running replica, as the rest of the node sees it.
#[derive(Clone, Debug)]
pub struct ReplicaHandle {
    /// The ledger.
    pub ledger: LedgerId,
    /// The cluster that orders it.
    pub cluster: ClusterId,
    /// The cluster's replicas.
    pub membership: Membership,
    /// What the ledger holds.
    pub reader: Reader,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) submissions: mpsc::Sender<Submission>,
    pub(crate) progress: watch::Receiver<Progress>,
}

impl ReplicaHandle {
    /// Hands a transaction over, in the order of the calls; the receiver gets the outcome when our own replica has
    /// executed it. It errs only if the replica stops.
    pub fn submit(&self, transaction: Transaction) -> Result<oneshot::Receiver<Executed>, SubmitError> {
        let (outcome, executed) = oneshot::channel();
        match self.submissions.try_send(Submission { transaction, outcome }) {
            Ok(()) => Ok(executed),
            Err(mpsc::error::TrySendError::Full(_)) => Err(SubmitError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SubmitError::Stopped),
        }
    }

    /// How far the replica is; wakes with each block that is executed from now on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        let mut progress = self.progress.clone();
        // Else a wait would end at once, for what was there before.
        progress.mark_unchanged();
        progress
    }
}

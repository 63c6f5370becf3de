//! From commands to log entries.
//!
//! openraft appends one entry at a time and waits for the disk. So commands that come while entries are on their way wait here, and
//! leave together as one entry: the more there is to do, the more each sync does. On a member that does not lead the entry
//! travels to the leader, as one request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::election::{changed_within, stopped};
use super::message::{Request, Response};
use super::network::Members;
use super::types::{Commands, Raft};

/// The longest command.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;

/// Entries on their way at the same time: one may wait for the disk while others wait for the network.
const ENTRIES_IN_FLIGHT: usize = 4;
/// Commands in one entry.
const ENTRY_COMMANDS_MAX: usize = 1024;
/// Bytes of commands in one entry, unless a single one has more.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// How long a leader may take for the entry of another member. It may well do it later than that.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon to try again where trying again may help.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A command that waits for its answer.
pub(super) struct Waiting {
    pub command: Bytes,
    pub answer: oneshot::Sender<Bytes>,
    /// Its share of the bytes that may wait.
    pub _room: OwnedSemaphorePermit,
}

/// Turns what waits into entries.
pub(super) struct Proposer {
    pub id: u64,
    pub raft: Raft,
    pub members: Members,
}

impl Proposer {
    /// Runs until all senders of `waiting` are gone.
    pub async fn drive(self, mut waiting: mpsc::Receiver<Waiting>) {
        let this = Arc::new(self);
        let slots = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT));
        // Dropped with this future, so that stopping the proposer stops what it has begun.
        let mut deliveries = JoinSet::new();
        while let Some(first) = waiting.recv().await {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let batch = gather(first, &mut waiting);
            let this = Arc::clone(&this);
            deliveries.spawn(async move {
                this.deliver(batch).await;
                drop(slot);
            });
            while deliveries.try_join_next().is_some() {}
        }
        while deliveries.join_next().await.is_some() {}
    }

    /// Tries until there are answers, or nobody waits for them any more.
    async fn deliver(&self, mut batch: Vec<Waiting>) {
        loop {
            batch.retain(|waiting| !waiting.answer.is_closed());
            if batch.is_empty() {
                return;
            }
            let commands = Commands(batch.iter().map(|waiting| waiting.command.clone()).collect());
            let attempt = tokio::select! {
                attempt = self.attempt(commands) => attempt,
                () = all_closed(&mut batch) => return,
            };
            match attempt {
                Attempt::Answered(answers) => return send_answers(batch, answers),
                Attempt::Stopped => return,
                Attempt::Again => {}
            }
        }
    }

    async fn attempt(&self, commands: Commands) -> Attempt {
        let mut metrics = self.raft.metrics();
        let leader = metrics.borrow_and_update().current_leader;
        if stopped(&metrics).is_some() {
            return Attempt::Stopped;
        }
        let tried = match leader {
            Some(leader) if leader == self.id => propose(&self.raft, commands).await,
            Some(leader) => self.forward(leader, commands).await,
            None => Tried::NotLeader,
        };
        match tried {
            Tried::Answered(answers) => Attempt::Answered(answers),
            Tried::Stopped => Attempt::Stopped,
            Tried::NotLeader => {
                changed_within(&mut metrics, RETRY_PAUSE).await;
                Attempt::Again
            }
        }
    }

    async fn forward(&self, leader: u64, commands: Commands) -> Tried {
        let count = commands.0.len();
        match self.members.ask(leader, &Request::Write(commands), FORWARD_TIMEOUT).await {
            Ok(Response::Write(answers)) if answers.len() == count => Tried::Answered(answers),
            Ok(_) => Tried::NotLeader,
            Err(error) => {
                tracing::debug!(leader, %error, "the leader did not take a write");
                Tried::NotLeader
            }
        }
    }
}

enum Attempt {
    Answered(Vec<Bytes>),
    Again,
    Stopped,
}

/// What came of proposing an entry.
pub(super) enum Tried {
    Answered(Vec<Bytes>),
    NotLeader,
    Stopped,
}

/// Proposes an entry on this member, which must lead.
pub(super) async fn propose(raft: &Raft, commands: Commands) -> Tried {
    match raft.client_write(commands).await {
        Ok(written) => Tried::Answered(written.data.0),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Tried::NotLeader,
        // Only a change of membership gets this answer.
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(_))) => Tried::NotLeader,
        Err(RaftError::Fatal(_)) => Tried::Stopped,
    }
}

/// What else waits, as far as it goes into one entry.
fn gather(first: Waiting, waiting: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let mut bytes = first.command.len();
    let mut batch = vec![first];
    // A command that would go beyond the limit is the last one: taken out of the queue, it cannot go back.
    while batch.len() < ENTRY_COMMANDS_MAX && bytes < ENTRY_BYTES_MAX {
        let Ok(next) = waiting.try_recv() else { break };
        bytes += next.command.len();
        batch.push(next);
    }
    batch
}

async fn all_closed(batch: &mut [Waiting]) {
    for waiting in batch {
        waiting.answer.closed().await;
    }
}

fn send_answers(batch: Vec<Waiting>, answers: Vec<Bytes>) {
    if batch.len() != answers.len() {
        tracing::error!(
            commands = batch.len(),
            answers = answers.len(),
            "an entry's answers do not match its commands"
        );
        return;
    }
    for (waiting, answer) in batch.into_iter().zip(answers) {
        let _caller_may_be_gone = waiting.answer.send(answer);
    }
}

//! A member of a Raft group, as the rest of the node sees it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::error::{CheckIsLeaderError, RaftError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::election::{Contact, Election, changed_within, stopped, would_vote};
use super::housekeeping::Housekeeping;
use super::incoming::Incoming;
use super::log::LogStore;
use super::machine::Machine;
use super::message::{ChunkAnswer, Request, Response};
use super::network::{Links, Members, Transport};
use super::options::Options;
use super::proposer::{COMMAND_BYTES_MAX, Proposer, Tried, Waiting, propose};
use super::state_machine::StateMachine;
use super::types::{Commands, Entry, GroupId, LogId, Membership, Metrics, Raft, TypeConfig};
use super::wire::Wire;

/// Entries that other members may have on their way here at the same time.
const FORWARDED_IN_FLIGHT: usize = 64;
/// A vote whose term is so far ahead is not the outcome of elections. Taking it would leave no terms for later ones.
const TERM_LEAP_MAX: u64 = 1 << 32;
/// How soon to ask for a read index again.
const BARRIER_PAUSE: Duration = Duration::from_millis(50);

/// What a group is made of.
pub struct Setup<T> {
    /// This member.
    pub id: u64,
    /// The group.
    pub group: GroupId,
    /// All members, this one among them: the same on each of them.
    pub members: BTreeSet<u64>,
    /// Its log, recovered from the journal.
    pub log: LogStore,
    /// What the log is applied to.
    pub machine: Arc<dyn Machine>,
    /// The directory of its snapshots.
    pub snapshots: PathBuf,
    /// The way to the others.
    pub transport: T,
    /// Time-outs and limits.
    pub options: Options,
}

/// Why a group does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Options contradict each other.
    #[error("the options of the Raft group are wrong: {0}")]
    Options(String),
    /// This member is not among the members.
    #[error("node {0} is not a member of the Raft group")]
    NotAMember(u64),
    /// Snapshots cannot be opened, or the machine does not take the newest.
    #[error("the snapshots in {} cannot be used: {source}", dir.display())]
    Snapshots {
        /// Their directory.
        dir: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// There is state, but no log. Whoever has lost its log has forgotten how it voted, and must not vote again as if it had not.
    #[error("the Raft log is gone, though entries up to {applied} were applied: replace this member by a new one")]
    LogLost {
        /// The last entry that was applied.
        applied: u64,
    },
    /// The log begins after what the machine and its snapshots have.
    #[error("the state is gone: the Raft log begins after entry {purged}, the state ends at {applied:?}")]
    StateLost {
        /// The last entry that is no longer in the log.
        purged: u64,
        /// The last entry that was applied.
        applied: Option<u64>,
    },
    /// The log cannot be read or written, or the machine cannot apply it.
    #[error("the Raft group cannot start: {0}")]
    Failed(String),
}

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The command is too long.
    #[error("a command of {bytes} bytes is longer than {COMMAND_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// There was no answer in time. The command may have been applied, and may still be.
    #[error("the Raft group gave no answer in time")]
    NoAnswer,
    /// This member has stopped.
    #[error("this member of the Raft group has stopped")]
    Stopped,
}

/// Why it is not known what a read must see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// No leader told it in time, or this member did not get so far.
    #[error("the Raft group did not confirm in time what is committed")]
    NoAnswer,
    /// This member has stopped.
    #[error("this member of the Raft group has stopped")]
    Stopped,
}

/// How a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: u64,
    /// Who leads, as far as this member knows.
    pub leader: Option<u64>,
    /// The term of its vote.
    pub term: u64,
    /// Index of the last entry in its log.
    pub last_index: Option<u64>,
    /// Index of the last entry that was applied.
    pub applied_index: Option<u64>,
    /// Index of the last entry in its newest snapshot.
    pub snapshot_index: Option<u64>,
    /// Index of the last entry that is no longer in the log.
    pub purged_index: Option<u64>,
    /// Why it has stopped, if it has.
    pub stopped: Option<String>,
}

impl Status {
    fn of(watched: &watch::Receiver<Metrics>) -> Self {
        let stopped = stopped(watched);
        let metrics = watched.borrow();
        let index = |log_id: Option<LogId>| log_id.map(|log_id| log_id.index);
        Self {
            id: metrics.id,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index,
            applied_index: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
            purged_index: index(metrics.purged),
            stopped,
        }
    }

    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.id)
    }
}

/// Follows a member's status.
#[derive(Clone)]
pub struct StatusWatch {
    metrics: watch::Receiver<Metrics>,
}

impl StatusWatch {
    /// The status now.
    pub fn current(&self) -> Status {
        Status::of(&self.metrics)
    }

    /// Waits until something changed. `None` when nothing ever will again.
    pub async fn changed(&mut self) -> Option<Status> {
        self.metrics.changed().await.ok()?;
        self.metrics.mark_unchanged();
        Some(Status::of(&self.metrics))
    }

    /// Waits for a status that `wanted` accepts. `None` when there never will be one.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Status) -> bool) -> Option<Status> {
        let mut status = self.current();
        while !wanted(&status) {
            status = self.changed().await?;
        }
        Some(status)
    }
}

/// This node's member of a Raft group. Clones are the same member; it stops with the last of them.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    voters: BTreeSet<u64>,
    raft: Raft,
    log: LogStore,
    members: Members,
    incoming: Arc<Incoming>,
    contact: Arc<Contact>,
    progress: watch::Receiver<Option<u64>>,
    options: Options,
    queue: mpsc::Sender<Waiting>,
    /// Bytes that may still wait in `queue`.
    room: Arc<Semaphore>,
    forwarded: Semaphore,
    tasks: [AbortHandle; 3],
}

impl Group {
    /// Starts this member: the first time with the given members, later with what its log says.
    pub async fn start<T: Transport>(setup: Setup<T>) -> Result<Group, StartError> {
        let Setup { id, group, members: voters, log, machine, snapshots: dir, transport, options } = setup;
        let config = options.to_openraft().map_err(StartError::Options)?;
        if !voters.contains(&id) {
            return Err(StartError::NotAMember(id));
        }
        let state = open_state(Arc::clone(&machine), dir).await?;
        check_together(&log, &state)?;
        seed(&log, &voters).await?;

        let (snapshots, progress) = (state.snapshots(), state.progress());
        let members = Members::new(transport, group);
        let links = Links::new(members.clone(), &options);
        let raft = Raft::new(id, config, links, log.clone(), state).await;
        let raft = raft.map_err(|fatal| StartError::Failed(fatal.to_string()))?;

        let contact = Arc::new(Contact::new());
        let (queue, waiting) = mpsc::channel(options.waiting_commands_limit.max(1));
        let proposer = Proposer { id, raft: raft.clone(), members: members.clone() };
        let election = Election {
            id,
            raft: raft.clone(),
            log: log.clone(),
            members: members.clone(),
            contact: Arc::clone(&contact),
            options: options.clone(),
        };
        let housekeeping = Housekeeping {
            raft: raft.clone(),
            log: log.clone(),
            snapshots: Arc::clone(&snapshots),
            options: options.clone(),
        };
        let tasks =
            [tokio::spawn(proposer.drive(waiting)), tokio::spawn(election.drive()), tokio::spawn(housekeeping.drive())];
        let inner = Inner {
            id,
            voters,
            incoming: Arc::new(Incoming::new(raft.clone(), machine, snapshots)),
            raft,
            log,
            members,
            contact,
            progress,
            queue,
            room: Arc::new(Semaphore::new(options.waiting_bytes_limit.max(COMMAND_BYTES_MAX))),
            forwarded: Semaphore::new(FORWARDED_IN_FLIGHT),
            options,
            tasks: tasks.map(|task| task.abort_handle()),
        };
        Ok(Group { inner: Arc::new(inner) })
    }

    /// Has a command applied, and returns the machine's answer. It may be called on any member.
    ///
    /// A command whose fate is unknown, because a leader went, is tried again until `patience` is over: it is applied **at least
    /// once**, so a machine must bear repetition. Commands of one caller that waits for each answer are applied in its order.
    pub async fn write(&self, command: Bytes, patience: Duration) -> Result<Bytes, WriteError> {
        let bytes = command.len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(WriteError::TooLong { bytes });
        }
        let written = timeout(patience, async {
            let permits = u32::try_from(bytes).map_err(|_| WriteError::TooLong { bytes })?;
            let room = Arc::clone(&self.inner.room).acquire_many_owned(permits).await;
            let room = room.map_err(|_| WriteError::Stopped)?;
            let (answer, answered) = oneshot::channel();
            let waiting = Waiting { command, answer, _room: room };
            self.inner.queue.send(waiting).await.map_err(|_| WriteError::Stopped)?;
            answered.await.map_err(|_| WriteError::Stopped)
        });
        written.await.unwrap_or(Err(WriteError::NoAnswer))
    }

    /// Waits until this member has applied everything that was committed anywhere when this was called: a read that follows sees it
    /// (Raft's dissertation, section 6.4, read index).
    pub async fn barrier(&self, patience: Duration) -> Result<(), BarrierError> {
        let deadline = Instant::now() + patience;
        let seen = timeout_at(deadline, async {
            let Some(index) = self.inner.read_index().await? else { return Ok(()) };
            let mut progress = self.inner.progress.clone();
            let reached = progress.wait_for(|applied| *applied >= Some(index)).await;
            reached.map(|_| ()).map_err(|_| BarrierError::Stopped)
        });
        seen.await.unwrap_or(Err(BarrierError::NoAnswer))
    }

    /// Answers what member `from` asks. The caller knows from the link that it is `from`.
    pub async fn handle(&self, from: u64, request: Bytes) -> Bytes {
        let response = match Request::from_wire(&request) {
            _ if !self.inner.voters.contains(&from) => Response::Refused(format!("node {from} is not a member")),
            Ok(request) => self.inner.answer(from, request).await,
            Err(error) => Response::Refused(format!("the request is malformed: {error}")),
        };
        if let Response::Refused(why) = &response {
            tracing::debug!(group = %self.inner.options.name, from, why, "refused a request");
        }
        response.to_wire()
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<u64> {
        self.inner.raft.metrics().borrow().current_leader
    }

    /// How this member stands.
    pub fn status(&self) -> Status {
        Status::of(&self.inner.raft.metrics())
    }

    /// Follows how this member stands.
    pub fn watch(&self) -> StatusWatch {
        StatusWatch { metrics: self.inner.raft.metrics() }
    }

    /// Its log, to ask which part of the journal it needs.
    pub fn log(&self) -> &LogStore {
        &self.inner.log
    }

    /// Stops this member. What was acknowledged is on the disk; what waits is answered with [`WriteError::Stopped`].
    pub async fn shutdown(&self) {
        self.inner.stop_tasks();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(group = %self.inner.options.name, %error, "the Raft task did not end well");
        }
    }
}

impl Inner {
    fn stop_tasks(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.room.close();
    }

    async fn answer(&self, from: u64, request: Request) -> Response {
        match request {
            Request::Append(append) => self.answer_append(from, append).await,
            Request::Vote(vote) => self.answer_vote(from, vote).await,
            Request::SnapshotChunk(chunk) => self.answer_chunk(from, chunk).await,
            Request::Write(commands) => self.answer_write(commands).await,
            Request::ReadIndex => match self.raft.get_read_log_id().await {
                Ok((read, _)) => Response::ReadIndex(read.map(|log_id| log_id.index)),
                Err(_) => Response::NotLeader(self.raft.metrics().borrow().current_leader),
            },
            Request::Poll(last_log_id) => {
                let metrics = self.raft.metrics();
                let lease = self.options.election_min;
                Response::Poll(would_vote(&metrics.borrow(), &self.contact, &self.log, last_log_id, lease))
            }
        }
    }

    async fn answer_append(&self, from: u64, append: AppendEntriesRequest<TypeConfig>) -> Response {
        if let Err(why) = self.check_append(from, &append) {
            return Response::Refused(why.to_owned());
        }
        if append.vote >= self.raft.metrics().borrow().vote {
            // Already now: what follows may take longer than this member is to wait for a leader.
            self.contact.on_leader();
        }
        if !append.entries.is_empty() && !self.wait_for_room().await {
            return Response::Refused("entries wait to be applied".to_owned());
        }
        match self.raft.append_entries(append).await {
            Ok(answer) => {
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    self.contact.on_leader();
                }
                Response::Append(answer)
            }
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    async fn answer_vote(&self, from: u64, vote: VoteRequest<u64>) -> Response {
        if vote.vote.leader_id.node_id != from || vote.vote.committed || self.leaps(vote.vote.leader_id.term) {
            return Response::Refused("the vote is not one that this member can ask for".to_owned());
        }
        match self.raft.vote(vote).await {
            Ok(answer) => {
                if answer.vote_granted {
                    self.contact.on_vote();
                }
                Response::Vote(answer)
            }
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    async fn answer_chunk(&self, from: u64, chunk: InstallSnapshotRequest<TypeConfig>) -> Response {
        let leader = chunk.vote.leader_id;
        if leader.node_id != from || !chunk.vote.committed || self.leaps(leader.term) {
            return Response::Refused("the vote is not the sender's".to_owned());
        }
        if !self.is_own_membership(chunk.meta.last_membership.membership()) {
            return Response::Refused("the snapshot is of another membership".to_owned());
        }
        match Arc::clone(&self.incoming).handle_chunk(chunk).await {
            Ok(answer) => {
                if let ChunkAnswer::Taken(vote) = &answer
                    && vote.leader_id == leader
                {
                    self.contact.on_leader();
                }
                Response::SnapshotChunk(answer)
            }
            Err(error) => {
                tracing::warn!(group = %self.options.name, from, %error, "refused a snapshot");
                Response::Refused(error.to_string())
            }
        }
    }

    async fn answer_write(&self, commands: Commands) -> Response {
        if commands.0.iter().any(|command| command.len() > COMMAND_BYTES_MAX) {
            return Response::Refused("a command is too long".to_owned());
        }
        let bytes = commands.0.iter().map(Bytes::len).sum::<usize>();
        let room = u32::try_from(bytes).ok().and_then(|bytes| self.room.try_acquire_many(bytes).ok());
        let (Some(_room), Ok(_slot)) = (room, self.forwarded.try_acquire()) else {
            return Response::Refused("too many writes are waiting".to_owned());
        };
        match propose(&self.raft, commands).await {
            Tried::Answered(answers) => Response::Write(answers),
            Tried::NotLeader => Response::NotLeader(self.raft.metrics().borrow().current_leader),
            Tried::Stopped => Response::Refused("this member has stopped".to_owned()),
        }
    }

    /// openraft trusts members. Here they may be of other organisations: what would make it panic, or take the group over, stops
    /// at this place.
    fn check_append(&self, from: u64, append: &AppendEntriesRequest<TypeConfig>) -> Result<(), &'static str> {
        let leader = append.vote.leader_id;
        if leader.node_id != from || !append.vote.committed || self.leaps(leader.term) {
            return Err("the vote is not the sender's");
        }
        let mut prev = append.prev_log_id;
        if prev.is_some_and(|prev| prev.leader_id > leader || self.log.contradicts_committed(&prev)) {
            return Err("the entry before cannot be");
        }
        for entry in &append.entries {
            let log_id = entry.log_id;
            if self.log.contradicts_committed(&log_id) {
                return Err("another entry is committed in its place");
            }
            if log_id.index != prev.map_or(0, |prev| prev.index.saturating_add(1)) {
                return Err("the entries do not follow each other");
            }
            if log_id.leader_id > leader || prev.is_some_and(|prev| prev.leader_id > log_id.leader_id) {
                return Err("the entries' terms are not in order");
            }
            if matches!(&entry.payload, EntryPayload::Membership(membership) if !self.is_own_membership(membership)) {
                return Err("the membership cannot be changed this way");
            }
            prev = Some(log_id);
        }
        Ok(())
    }

    fn is_own_membership(&self, membership: &Membership) -> bool {
        *membership == membership_of(&self.voters)
    }

    fn leaps(&self, term: u64) -> bool {
        term > self.raft.metrics().borrow().current_term.saturating_add(TERM_LEAP_MAX)
    }

    /// Waits while too much is committed and not yet applied: openraft would take it all into memory.
    async fn wait_for_room(&self) -> bool {
        let mut progress = self.progress.clone();
        let waited = timeout(self.options.append_timeout / 2, async {
            loop {
                let applied = *progress.borrow_and_update();
                if self.log.backlog_bytes(applied) <= self.options.backlog_bytes_limit {
                    return true;
                }
                if progress.changed().await.is_err() {
                    return false;
                }
            }
        });
        waited.await.unwrap_or(false)
    }

    /// The index up to which a read must have been applied: the leader's commit index, confirmed by a majority.
    async fn read_index(&self) -> Result<Option<u64>, BarrierError> {
        let mut metrics = self.raft.metrics();
        loop {
            let leader = metrics.borrow_and_update().current_leader;
            match leader {
                Some(leader) if leader == self.id => match self.raft.get_read_log_id().await {
                    Ok((read, _)) => return Ok(read.map(|log_id| log_id.index)),
                    Err(RaftError::Fatal(_)) => return Err(BarrierError::Stopped),
                    Err(RaftError::APIError(
                        CheckIsLeaderError::ForwardToLeader(_) | CheckIsLeaderError::QuorumNotEnough(_),
                    )) => {}
                },
                Some(leader) => {
                    let asked = self.members.ask(leader, &Request::ReadIndex, self.options.election_min).await;
                    if let Ok(Response::ReadIndex(index)) = asked {
                        return Ok(index);
                    }
                }
                None => {}
            }
            if stopped(&metrics).is_some() {
                return Err(BarrierError::Stopped);
            }
            changed_within(&mut metrics, BARRIER_PAUSE).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_tasks();
        // openraft's task holds itself; it goes when it is told.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let raft = self.raft.clone();
            drop(runtime.spawn(async move { raft.shutdown().await }));
        }
    }
}

async fn open_state(machine: Arc<dyn Machine>, dir: PathBuf) -> Result<StateMachine, StartError> {
    let failed = |dir| move |source| StartError::Snapshots { dir, source };
    let in_dir = dir.clone();
    let opened = tokio::task::spawn_blocking(move || StateMachine::open(machine, &in_dir)).await;
    opened.map_err(io::Error::other).and_then(|opened| opened).map_err(failed(dir))
}

/// A member that has lost one of log and state cannot go on with the other.
fn check_together(log: &LogStore, state: &StateMachine) -> Result<(), StartError> {
    let applied = *state.progress().borrow();
    if log.is_pristine() {
        return applied.map_or(Ok(()), |applied| Err(StartError::LogLost { applied }));
    }
    match log.purged_index() {
        Some(purged) if applied < Some(purged) => Err(StartError::StateLost { purged, applied }),
        _ => Ok(()),
    }
}

/// Gives an empty log its first entry, the membership, which is the same on all members. That is what openraft's `initialize` does
/// too, except that it lets all of them campaign at once; and it refuses on a member that has voted before.
async fn seed(log: &LogStore, voters: &BTreeSet<u64>) -> Result<(), StartError> {
    if !log.is_pristine() {
        return Ok(());
    }
    let first = Entry { log_id: LogId::default(), payload: EntryPayload::Membership(membership_of(voters)) };
    let (done, seeded) = oneshot::channel();
    let appended = log.append_entries(vec![first], move || {
        let _starter_may_be_gone = done.send(());
    });
    appended.await.map_err(|error| StartError::Failed(error.to_string()))?;
    seeded.await.map_err(|_| StartError::Failed("the journal is closed".to_owned()))
}

fn membership_of(voters: &BTreeSet<u64>) -> Membership {
    Membership::new(vec![voters.clone()], voters.clone())
}

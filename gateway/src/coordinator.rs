//! The shell around [`Group`]: one task per group, its timers, and its persisted form in the organisation's own ledger.
//!
//! A task's requests are answered in their own time: joins and syncs wait for others. What must be persisted is written
//! one after the other, in order, while the group goes on. A group without members, timers and requests ends its task; the
//! ledger keeps it.

use crate::error::Refusal;
use crate::group::{
    Commit, Description, Group, GroupError, GroupMetadata, Heartbeat, Input, Join, JoinRefusal, Joined, Leave, Left,
    Limits, Output, Sync, Synced, Ticket, Token,
};
use crate::server::stopped;
use dashmap::DashMap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc, oneshot, watch};
use waybill_consensus::Clock;
use waybill_consensus::node::Node;
use waybill_ledger::organisation::{Answer, Command, GROUP_NAME_BYTES_MAX, SaveGroup};
use waybill_types::Codec;

/// Requests that wait for one group's task.
const QUEUE_MAX: usize = 4096;
/// Groups in memory at a time.
const GROUPS_MAX: usize = 100_000;
/// How long a write to the organisation's ledger may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits, after a start, for what groups have stored; then the client is told to ask again.
const LOADING_PATIENCE: Duration = Duration::from_secs(2);
/// Kafka's name for the state of a group without members.
const EMPTY: &str = "Empty";
/// How long a task without members lingers.
const VACANT_LINGER: Duration = Duration::from_secs(60);

/// The groups that this node coordinates.
pub struct Coordinator {
    node: Node,
    clock: Clock,
    limits: Limits,
    groups: Arc<Tasks>,
    loaded: OnceCell<()>,
}

/// The tasks that run, by their group's name.
type Tasks = DashMap<String, mpsc::Sender<Request>>;

/// A group as ListGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Kafka's name for its state.
    pub state: &'static str,
    /// Empty if there has never been a member.
    pub protocol_type: String,
}

/// Forgets what groups have committed on topics that are deleted, as Kafka does, until the node stops.
///
/// Only a topic that was there and is gone is taken for deleted: a node that has just started does not know all topics.
pub async fn forget_deleted_topics(node: Node, mut stop: watch::Receiver<bool>) {
    let mut changes = node.system_changed();
    let topics = || node.global().system().topics().map(|topic| topic.id).collect::<BTreeSet<_>>();
    let mut known = topics();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stopped(&mut stop) => return,
        }
        let now = topics();
        for deleted in known.difference(&now) {
            let command = Command::ForgetTopic(*deleted).to_bytes();
            if let Err(error) = node.write_organisation(command, WRITE_TIMEOUT).await {
                // They take room and nothing else: no request finds them, for the id does not come back.
                tracing::warn!(topic = %deleted, %error, "offsets on a deleted topic are kept");
            }
        }
        known = now;
    }
}

/// A request without its token; the task gives it one.
enum Request {
    Join(Join, oneshot::Sender<Result<Joined, JoinRefusal>>),
    Sync(Sync, oneshot::Sender<Result<Synced, GroupError>>),
    Heartbeat(Heartbeat, oneshot::Sender<Result<(), GroupError>>),
    Leave(Leave, oneshot::Sender<Result<Vec<Left>, GroupError>>),
    Commit(Commit, oneshot::Sender<Result<(), GroupError>>),
    Describe(oneshot::Sender<Description>),
    Delete(oneshot::Sender<Deleted>),
}

/// Whether there was such a group; it goes only without members, and if the ledger can be written.
type Deleted = Result<Result<bool, GroupError>, Refusal>;

/// Stands in a request until the task gives it its own.
pub const NO_TOKEN: Token = Token(0);

impl Coordinator {
    /// The coordinator of a node's organisation.
    pub fn new(node: Node, limits: Limits) -> Self {
        Coordinator { clock: node.clock(), node, limits, groups: Arc::new(DashMap::new()), loaded: OnceCell::new() }
    }

    /// Waits, after a start, until what groups have stored is here. Before that a group of many generations would look
    /// new, and its positions would be missing.
    pub async fn loaded(&self) -> Result<(), Refusal> {
        let barrier = || self.node.organisation_barrier(LOADING_PATIENCE);
        let loaded = self.loaded.get_or_try_init(barrier).await;
        loaded.copied().map_err(|error| {
            tracing::warn!(%error, "what groups have stored is not here yet");
            Refusal::CoordinatorLoading
        })
    }

    /// JoinGroup: the answer may wait for the other members.
    pub async fn join(&self, group: &str, join: Join) -> Result<Result<Joined, JoinRefusal>, Refusal> {
        self.ask(group, |answer| Request::Join(join, answer)).await
    }

    /// SyncGroup: the answer waits for the leader's assignment.
    pub async fn sync(&self, group: &str, sync: Sync) -> Result<Result<Synced, GroupError>, Refusal> {
        self.ask(group, |answer| Request::Sync(sync, answer)).await
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, group: &str, heartbeat: Heartbeat) -> Result<Result<(), GroupError>, Refusal> {
        self.ask(group, |answer| Request::Heartbeat(heartbeat, answer)).await
    }

    /// LeaveGroup.
    pub async fn leave(&self, group: &str, leave: Leave) -> Result<Result<Vec<Left>, GroupError>, Refusal> {
        self.ask(group, |answer| Request::Leave(leave, answer)).await
    }

    /// Whether a member may commit offsets now.
    pub async fn may_commit(&self, group: &str, commit: Commit) -> Result<Result<(), GroupError>, Refusal> {
        self.ask(group, |answer| Request::Commit(commit, answer)).await
    }

    /// The group as DescribeGroups shows it; none if nobody has heard of it.
    pub async fn describe(&self, group: &str) -> Result<Option<Description>, Refusal> {
        let description = self.ask(group, Request::Describe).await?;
        let known = description.state != EMPTY || self.is_stored(group);
        Ok(known.then_some(description))
    }

    /// Every group: those with members, those that were saved, and those that have only committed offsets.
    pub async fn list(&self) -> Result<Vec<Listed>, Refusal> {
        self.loaded().await?;
        let running = self.groups.iter().map(|entry| entry.key().clone());
        let names: BTreeSet<String> = self.node.organisation().groups().into_iter().chain(running).collect();
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let group = match self.sleeping(&name) {
                Some(protocol_type) => Some((EMPTY, protocol_type)),
                None => {
                    let described = self.describe(&name).await.ok().flatten();
                    described.map(|description| (description.state, description.protocol_type))
                }
            };
            listed.extend(group.map(|(state, protocol_type)| Listed { name, state, protocol_type }));
        }
        Ok(listed)
    }

    /// The protocol type of a group without members and without a task: it need not be woken to be listed. One that was
    /// saved with members is: their sessions are to end, if they are gone.
    fn sleeping(&self, name: &str) -> Option<String> {
        if self.groups.contains_key(name) {
            return None;
        }
        let Some(saved) = self.node.organisation().group(name) else { return Some(String::new()) };
        let saved = GroupMetadata::decode(&saved).ok().filter(|saved| saved.members.is_empty())?;
        Some(saved.protocol_type.unwrap_or_default())
    }

    fn is_stored(&self, name: &str) -> bool {
        let organisation = self.node.organisation();
        organisation.group(name).is_some() || !organisation.committed_all(name).is_empty()
    }

    /// Deletes a group without members, and its offsets. False if there was none.
    pub async fn delete(&self, group: &str) -> Deleted {
        self.ask(group, Request::Delete).await?
    }

    async fn ask<T>(&self, group: &str, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        self.loaded().await?;
        let (answer, answered) = oneshot::channel();
        let mut request = request(answer);
        loop {
            let task = self.task(group)?;
            match task.send(request).await {
                Ok(()) => break,
                // The task has failed: the next one takes over.
                Err(returned) => {
                    request = returned.0;
                    self.groups.remove_if(group, |_, task| task.is_closed());
                }
            }
        }
        answered.await.map_err(|_| Refusal::NotCoordinator)
    }

    fn task(&self, name: &str) -> Result<mpsc::Sender<Request>, Refusal> {
        if name.is_empty() || name.len() > GROUP_NAME_BYTES_MAX {
            return Err(Refusal::InvalidGroupId);
        }
        if let Some(task) = self.groups.get(name) {
            return Ok(task.clone());
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(Refusal::CoordinatorUnavailable);
        }
        let task = self.groups.entry(name.to_string()).or_insert_with(|| self.start(name));
        Ok(task.clone())
    }

    fn start(&self, name: &str) -> mpsc::Sender<Request> {
        let (task, requests) = mpsc::channel(QUEUE_MAX);
        let group = match self.node.organisation().group(name).map(|saved| GroupMetadata::decode(&saved)) {
            Some(Ok(saved)) => Group::restore(self.limits, self.clock.now_ms(), saved),
            Some(Err(error)) => {
                tracing::error!(group = name, %error, "the group's saved form cannot be read: it starts over");
                Group::new(self.limits)
            }
            None => Group::new(self.limits),
        };
        let task_of_group = GroupTask {
            name: name.to_string(),
            group,
            node: self.node.clone(),
            clock: self.clock,
            limits: self.limits,
            tasks: Arc::downgrade(&self.groups),
            incarnation: 0,
            next_token: 1,
            joins: HashMap::new(),
            syncs: HashMap::new(),
            heartbeats: HashMap::new(),
            leaves: HashMap::new(),
            commits: HashMap::new(),
            writes: VecDeque::new(),
            writing: FuturesUnordered::new(),
        };
        tokio::spawn(task_of_group.drive(requests));
        task
    }
}

/// What happens when a write has been done, or has failed.
enum Then {
    /// The group is told, unless it has been deleted and begun anew since.
    Persisted { incarnation: u64, ticket: Ticket },
    /// Whoever deletes the group is told.
    Deleted(oneshot::Sender<Deleted>),
}

type Writing = Pin<Box<dyn Future<Output = (Then, Option<Answer>)> + Send>>;

struct GroupTask {
    name: String,
    group: Group,
    node: Node,
    clock: Clock,
    limits: Limits,
    /// To take ourselves off it. Weak, because our own sender is in it.
    tasks: Weak<Tasks>,
    /// How often the group has been deleted and begun anew in this task.
    incarnation: u64,
    next_token: u64,
    joins: HashMap<Token, oneshot::Sender<Result<Joined, JoinRefusal>>>,
    syncs: HashMap<Token, oneshot::Sender<Result<Synced, GroupError>>>,
    heartbeats: HashMap<Token, oneshot::Sender<Result<(), GroupError>>>,
    leaves: HashMap<Token, oneshot::Sender<Result<Vec<Left>, GroupError>>>,
    commits: HashMap<Token, oneshot::Sender<Result<(), GroupError>>>,
    /// What is to be written after `writing`.
    writes: VecDeque<(Then, Command)>,
    /// At most one: two at a time might overtake each other.
    writing: FuturesUnordered<Writing>,
}

impl GroupTask {
    async fn drive(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let timeout = self.group.next_timeout();
            let idle = timeout.is_none() && self.writing.is_empty() && self.group.is_vacant();
            let wake = timeout.map_or(tokio::time::Instant::now() + VACANT_LINGER, |at| self.clock.instant(at));
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
                Some((then, answer)) = self.writing.next(), if !self.writing.is_empty() => {
                    self.on_written(then, answer);
                }
                () = tokio::time::sleep_until(wake) => {
                    if !idle {
                        let outputs = self.group.handle_timeout(self.clock.now_ms());
                        self.perform(outputs);
                    } else if self.is_taken_off(&requests) {
                        return;
                    }
                }
            }
        }
    }

    /// Under the lock of the map's entry: whoever has our sender already keeps us here.
    fn is_taken_off(&self, requests: &mpsc::Receiver<Request>) -> bool {
        let Some(tasks) = self.tasks.upgrade() else { return true };
        let unused = |_: &String, task: &mpsc::Sender<Request>| task.strong_count() == 1 && requests.is_empty();
        tasks.remove_if(&self.name, unused).is_some()
    }

    fn on_request(&mut self, request: Request) {
        let token = Token(self.next_token);
        self.next_token += 1;
        match request {
            Request::Join(join, answer) => {
                self.joins.insert(token, answer);
                self.handle(Input::Join(Join { token, ..join }));
            }
            Request::Sync(sync, answer) => {
                self.syncs.insert(token, answer);
                self.handle(Input::Sync(Sync { token, ..sync }));
            }
            Request::Heartbeat(heartbeat, answer) => {
                self.heartbeats.insert(token, answer);
                self.handle(Input::Heartbeat(Heartbeat { token, ..heartbeat }));
            }
            Request::Leave(leave, answer) => {
                self.leaves.insert(token, answer);
                self.handle(Input::Leave(Leave { token, ..leave }));
            }
            Request::Commit(commit, answer) => {
                self.commits.insert(token, answer);
                self.handle(Input::Commit(Commit { token, ..commit }));
            }
            // A client that has gone does not wait for its answer.
            Request::Describe(answer) => drop(answer.send(self.group.describe())),
            Request::Delete(answer) => self.delete(answer),
        }
    }

    /// A group of this name may be begun at once; its generations are stored after the deletion.
    fn delete(&mut self, answer: oneshot::Sender<Deleted>) {
        match self.group.delete() {
            Ok(()) => {
                self.group = Group::new(self.limits);
                self.incarnation += 1;
                self.write(Then::Deleted(answer), Command::DeleteGroup(self.name.clone()));
            }
            // A client that has gone does not wait for its answer.
            Err(error) => drop(answer.send(Ok(Err(error)))),
        }
    }

    fn handle(&mut self, input: Input) {
        let outputs = self.group.handle(self.clock.now_ms(), input);
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            // A client that has gone does not wait for its answer.
            match output {
                Output::Join { token, reply } => answer(&mut self.joins, token, reply),
                Output::Sync { token, reply } => answer(&mut self.syncs, token, reply),
                Output::Heartbeat { token, reply } => answer(&mut self.heartbeats, token, reply),
                Output::Leave { token, reply } => answer(&mut self.leaves, token, reply),
                Output::Commit { token, reply } => answer(&mut self.commits, token, reply),
                Output::Persist { ticket, metadata } => self.persist(ticket, &metadata),
            }
        }
    }

    fn persist(&mut self, ticket: Ticket, metadata: &GroupMetadata) {
        let save = SaveGroup { group: self.name.clone(), metadata: metadata.encode() };
        self.write(Then::Persisted { incarnation: self.incarnation, ticket }, Command::SaveGroup(save));
    }

    fn write(&mut self, then: Then, command: Command) {
        self.writes.push_back((then, command));
        self.write_next();
    }

    fn write_next(&mut self) {
        if !self.writing.is_empty() {
            return;
        }
        let Some((then, command)) = self.writes.pop_front() else { return };
        let (node, name) = (self.node.clone(), self.name.clone());
        self.writing.push(Box::pin(async move { (then, write(&node, &name, &command).await) }));
    }

    fn on_written(&mut self, then: Then, answer: Option<Answer>) {
        self.write_next();
        match then {
            Then::Persisted { incarnation, ticket } if incarnation == self.incarnation => {
                self.handle(Input::Persisted { ticket, stored: answer.is_some() });
            }
            Then::Persisted { .. } => {}
            Then::Deleted(waiting) => {
                let deleted = match answer {
                    Some(Answer::GroupDeleted(existed)) => Ok(Ok(existed)),
                    _ => Err(Refusal::CoordinatorUnavailable),
                };
                // A client that has gone does not wait for its answer.
                let _ = waiting.send(deleted);
            }
        }
    }
}

/// Orders a command on the organisation's ledger. None if it does not answer or refuses.
async fn write(node: &Node, group: &str, command: &Command) -> Option<Answer> {
    let answer = match node.write_organisation(command.to_bytes(), WRITE_TIMEOUT).await {
        Ok(answer) => Answer::from_bytes(&answer).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(Answer::Refused(refusal)) => {
            tracing::error!(group, ?refusal, "the organisation's ledger refuses the group");
            None
        }
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::error!(group, %error, "the group cannot be saved");
            None
        }
    }
}

fn answer<T>(waiting: &mut HashMap<Token, oneshot::Sender<T>>, token: Token, reply: T) {
    if let Some(waiting) = waiting.remove(&token) {
        // A client that has gone does not wait for its answer.
        let _ = waiting.send(reply);
    }
}

//! The shell around [`Group`]: one task per group, its timers, and its persisted form in the organisation's own ledger.
//!
//! A task's requests are answered in their own time: joins and syncs wait for others. What must be persisted is written in
//! order while the group goes on. A group without members, timers and requests ends its task; the ledger keeps it.

use crate::error::Refusal;
use crate::group::{
    Commit, Description, Group, GroupError, GroupMetadata, Heartbeat, Input, Join, JoinRefusal, Joined, Leave, Left,
    Limits, Output, Sync, Synced, Ticket, Token,
};
use dashmap::DashMap;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
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
/// How long a task without members lingers.
const VACANT_LINGER: Duration = Duration::from_secs(60);

/// The groups that this node coordinates.
pub struct Coordinator {
    node: Node,
    clock: Clock,
    limits: Limits,
    groups: Arc<DashMap<String, mpsc::Sender<Request>>>,
}

/// A request without its token; the task gives it one.
enum Request {
    Join(Join, oneshot::Sender<Result<Joined, JoinRefusal>>),
    Sync(Sync, oneshot::Sender<Result<Synced, GroupError>>),
    Heartbeat(Heartbeat, oneshot::Sender<Result<(), GroupError>>),
    Leave(Leave, oneshot::Sender<Result<Vec<Left>, GroupError>>),
    Commit(Commit, oneshot::Sender<Result<(), GroupError>>),
    Describe(oneshot::Sender<Description>),
    Delete(oneshot::Sender<Result<(), GroupError>>),
}

/// Stands in a request until the task gives it its own.
pub const NO_TOKEN: Token = Token(0);

impl Coordinator {
    /// The coordinator of a node's organisation.
    pub fn new(node: Node, limits: Limits) -> Self {
        Coordinator { clock: node.clock(), node, limits, groups: Arc::new(DashMap::new()) }
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

    /// The group as DescribeGroups shows it; a group that nobody has heard of is an empty one.
    pub async fn describe(&self, group: &str) -> Result<Description, Refusal> {
        self.ask(group, Request::Describe).await
    }

    /// Ends a group without members.
    pub async fn delete(&self, group: &str) -> Result<Result<(), GroupError>, Refusal> {
        self.ask(group, Request::Delete).await
    }

    async fn ask<T>(&self, group: &str, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let mut request = request(answer);
        loop {
            let task = self.task(group)?;
            match task.send(request).await {
                Ok(()) => break,
                // The task has just ended because nobody needed it: the next one takes over.
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
            next_token: 1,
            joins: HashMap::new(),
            syncs: HashMap::new(),
            heartbeats: HashMap::new(),
            leaves: HashMap::new(),
            commits: HashMap::new(),
            persisting: FuturesOrdered::new(),
        };
        tokio::spawn(task_of_group.drive(requests));
        task
    }
}

type Persisted = Pin<Box<dyn Future<Output = (Ticket, bool)> + Send>>;

struct GroupTask {
    name: String,
    group: Group,
    node: Node,
    clock: Clock,
    next_token: u64,
    joins: HashMap<Token, oneshot::Sender<Result<Joined, JoinRefusal>>>,
    syncs: HashMap<Token, oneshot::Sender<Result<Synced, GroupError>>>,
    heartbeats: HashMap<Token, oneshot::Sender<Result<(), GroupError>>>,
    leaves: HashMap<Token, oneshot::Sender<Result<Vec<Left>, GroupError>>>,
    commits: HashMap<Token, oneshot::Sender<Result<(), GroupError>>>,
    persisting: FuturesOrdered<Persisted>,
}

impl GroupTask {
    async fn drive(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let timeout = self.group.next_timeout();
            let idle = timeout.is_none() && self.persisting.is_empty() && self.group.is_vacant();
            let wake = timeout.map_or(tokio::time::Instant::now() + VACANT_LINGER, |at| self.clock.instant(at));
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => break,
                },
                Some((ticket, stored)) = self.persisting.next(), if !self.persisting.is_empty() => {
                    self.handle(Input::Persisted { ticket, stored });
                }
                () = tokio::time::sleep_until(wake) => {
                    if idle {
                        break;
                    }
                    let outputs = self.group.handle_timeout(self.clock.now_ms());
                    self.perform(outputs);
                }
            }
        }
        // Whoever got in before the end is answered; the others find the channel closed and start the next task.
        requests.close();
        while let Some(request) = requests.recv().await {
            self.on_request(request);
        }
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
            Request::Delete(answer) => drop(answer.send(self.group.delete())),
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
        let command = Command::SaveGroup(save).to_bytes();
        let (node, name) = (self.node.clone(), self.name.clone());
        // It runs from now on, whatever the task does; the results are taken in order.
        let writing = tokio::spawn(async move {
            let answer = node.write_organisation(command, WRITE_TIMEOUT).await.map_err(|error| error.to_string());
            match answer.and_then(|answer| Answer::from_bytes(&answer).map_err(|error| error.to_string())) {
                Ok(Answer::Refused(refusal)) => {
                    tracing::error!(group = name, ?refusal, "the organisation's ledger refuses the group");
                    false
                }
                Ok(_) => true,
                Err(error) => {
                    tracing::error!(group = name, %error, "the group cannot be saved");
                    false
                }
            }
        });
        self.persisting.push_back(Box::pin(async move { (ticket, writing.await.unwrap_or(false)) }));
    }
}

fn answer<T>(waiting: &mut HashMap<Token, oneshot::Sender<T>>, token: Token, reply: T) {
    if let Some(waiting) = waiting.remove(&token) {
        // A client that has gone does not wait for its answer.
        let _ = waiting.send(reply);
    }
}

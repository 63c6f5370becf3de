//! The classic consumer group: who is in it, which generation it is in, who was assigned what.
//!
//! A pure state machine: no I/O, no clock, no randomness. The shell feeds [`Input`]s with the time, performs the
//! [`Output`]s, and calls [`Group::handle_timeout`] when [`Group::next_timeout`] has come. Every request carries a
//! [`Token`] and is answered exactly once under it, JoinGroup and SyncGroup often much later.
//!
//! States are Kafka's, named for what the group waits for:
//!
//! ```text
//!                 member joins                    all have joined, or time is up
//!      Empty ────────────────────▶ PreparingRebalance ──────────────▶ CompletingRebalance
//!        ▲                          ▲      │       ▲                        │      │
//!        └──────────────────────────│──────┘       └── member joins, ───────┘      │ the leader's assignments
//!                nobody is left     │                  leaves, is lost             │ are persisted
//!                                   └─────────────────────────────────── Stable ◀──┘
//! ```
//!
//! What the shell must keep:
//! - [`Output::Persist`] is stored in the organisation's ledger, then reported as [`Input::Persisted`]. SyncGroup is
//!   answered only after that, so a generation that a member has seen survives a restart ([`Group::restore`]).
//! - Members' metadata and assignments are opaque. They are copied out of the request's frame, which may be far
//!   larger and would be kept alive by a slice of it.
//!
//! Deliberately absent: committed offsets (only the right to commit is checked here), transactions, KIP-848 groups.
//!
//! # Layout
//! `interface` inputs and outputs; `member` one member and the set of them; `join`, `sync` and `session` one request
//! kind each; `rebalance` the way from one generation to the next; `metadata` what is persisted.

mod interface;
mod join;
mod member;
mod metadata;
mod rebalance;
mod session;
mod sync;

use std::collections::BTreeMap;

use member::{Member, Members};
use rebalance::Preparing;
use sync::Persisting;

pub use interface::{
    Commit, Description, GroupError, Heartbeat, Identity, Input, Join, JoinRefusal, Joined, JoinedMember, Leave, Left,
    Limits, MemberDescription, Output, Protocol, Sync, Synced, Ticket, Token,
};
pub use metadata::{GroupMetadata, MemberMetadata, MetadataError};

/// One consumer group.
#[derive(Debug)]
pub struct Group {
    limits: Limits,
    state: State,
    generation: i32,
    /// "consumer", "connect", ...; remembered when the last member has left.
    protocol_type: Option<String>,
    /// The protocol chosen for this generation.
    protocol: Option<String>,
    leader: Option<String>,
    members: Members,
    /// Ids that were given out (KIP-394) and have not come back yet, with the time until which they may.
    pending: BTreeMap<String, u64>,
    /// When members that have joined this generation and not asked for their assignment are dropped.
    sync_deadline_ms: Option<u64>,
    persisting: Vec<Persisting>,
    next_ticket: u64,
    outputs: Vec<Output>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Empty,
    PreparingRebalance(Preparing),
    CompletingRebalance,
    Stable,
    Dead,
}

impl Group {
    /// A group without members or history.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            pending: BTreeMap::new(),
            sync_deadline_ms: None,
            persisting: Vec::new(),
            next_ticket: 0,
            outputs: Vec::new(),
        }
    }

    /// The group as it was last persisted, its members' sessions beginning anew.
    pub fn restore(limits: Limits, now_ms: u64, metadata: GroupMetadata) -> Self {
        let mut group = Self::new(limits);
        group.generation = metadata.generation;
        group.protocol_type = metadata.protocol_type;
        group.protocol = metadata.protocol;
        group.leader = metadata.leader;
        for member in metadata.members {
            group.members.insert(Member::restore(member, now_ms));
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            group.elect_leader_if_gone();
        }
        group
    }

    /// Takes in one thing that happened. The outputs are in the order in which they came about.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        match input {
            Input::Join(join) => self.handle_join(now_ms, join),
            Input::Sync(sync) => self.handle_sync(now_ms, sync),
            Input::Heartbeat(heartbeat) => self.handle_heartbeat(now_ms, &heartbeat),
            Input::Leave(leave) => self.handle_leave(now_ms, leave),
            Input::Commit(commit) => self.handle_commit(now_ms, &commit),
            Input::Persisted { ticket, stored } => self.on_persisted(now_ms, ticket, stored),
            Input::Unload => self.unload(),
        }
        std::mem::take(&mut self.outputs)
    }

    /// When [`Group::handle_timeout`] is due, if nothing else happens before.
    pub fn next_timeout(&self) -> Option<u64> {
        let preparing = match self.state {
            State::PreparingRebalance(preparing) => Some(preparing.deadline_ms),
            _ => None,
        };
        let sessions = self.members.iter().filter_map(Member::expires_at_ms);
        self.pending.values().copied().chain(sessions).chain(self.sync_deadline_ms).chain(preparing).min()
    }

    /// Whether nothing would be lost by forgetting the group, committed offsets apart.
    pub fn is_vacant(&self) -> bool {
        matches!(self.state, State::Empty | State::Dead) && self.pending.is_empty()
    }

    /// The state in the words of DescribeGroups and ListGroups.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance(_) => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }

    /// The current generation; 0 before the first.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What DescribeGroups and ListGroups show. Metadata and assignments only while they are settled.
    pub fn describe(&self) -> Description {
        let settled = self.state == State::Stable;
        let protocol = self.protocol.as_deref().filter(|_| settled);
        Description {
            state: self.state_name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: self.members.iter().map(|member| member.describe(protocol)).collect(),
        }
    }

    /// DeleteGroups: only a group without members goes. Its persisted metadata and offsets are the shell's to delete.
    pub fn delete(&mut self) -> Result<(), GroupError> {
        match self.state {
            State::Empty => {
                self.pending.clear();
                self.state = State::Dead;
                Ok(())
            }
            State::Dead => Err(GroupError::Gone),
            _ => Err(GroupError::NotEmpty),
        }
    }

    /// This node coordinates the group no longer: whoever waits is sent to look for the new coordinator.
    fn unload(&mut self) {
        for member in self.members.drain() {
            self.answer_waiting(member.waiting(), GroupError::NotCoordinator);
        }
        self.pending.clear();
        self.persisting.clear();
        self.sync_deadline_ms = None;
        self.state = State::Dead;
    }

    /// Is this who it says it is, and a member (KIP-345)?
    fn check_identity(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            let known_as = self.members.id_of_instance(instance_id).ok_or(GroupError::UnknownMember)?;
            if known_as != member_id {
                return Err(GroupError::FencedInstance);
            }
        }
        if self.members.contains(member_id) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    /// The same, for a request that belongs to a generation.
    fn check_generation(&self, identity: &Identity) -> Result<(), GroupError> {
        self.check_identity(&identity.member_id, identity.instance_id.as_deref())?;
        if identity.generation == self.generation { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }
}

#[cfg(test)]
mod tests;

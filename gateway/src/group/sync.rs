//! SyncGroup: the leader hands in assignments, everybody receives their own, once these are persisted.

use bytes::Bytes;

use super::interface::{GroupError, Output, Sync, Synced, Ticket, Token};
use super::metadata::GroupMetadata;
use super::{Group, State};

/// Metadata on its way to the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Persisting {
    ticket: Ticket,
    after: After,
}

/// What happens when it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// Nobody waits for it.
    Nothing,
    /// The generation is complete.
    Assignments,
    /// A static member may have its new id.
    StaticJoin { member_id: String, old_leader: Option<String> },
}

impl Group {
    pub(super) fn handle_sync(&mut self, now_ms: u64, sync: Sync) {
        let token = sync.token;
        if let Err(error) = self.check_sync(&sync).and_then(|()| self.sync_member(now_ms, sync)) {
            self.outputs.push(Output::Sync { token, reply: Err(error) });
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::Gone);
        }
        self.check_generation(&sync.identity)?;
        let differs = |theirs: &Option<String>, ours: &Option<String>| theirs.is_some() && theirs != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        let bytes = sync.assignments.iter().map(|(_, assignment)| assignment.len()).sum::<usize>();
        if bytes > self.limits.assignment_bytes_max { Err(GroupError::TooLarge) } else { Ok(()) }
    }

    fn sync_member(&mut self, now_ms: u64, sync: Sync) -> Result<(), GroupError> {
        let Some(member) = self.members.get_mut(&sync.identity.member_id) else {
            return Err(GroupError::UnknownMember);
        };
        match self.state {
            State::Empty | State::Dead => return Err(GroupError::UnknownMember),
            State::PreparingRebalance(_) => return Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance => {
                member.owes_sync = false;
                if let Some(before) = member.sync.replace(sync.token) {
                    self.outputs.push(Output::Sync { token: before, reply: Err(GroupError::RebalanceInProgress) });
                }
                let on_its_way = self.persisting.iter().any(|persisting| persisting.after == After::Assignments);
                if self.is_leader(&sync.identity.member_id) && !on_its_way {
                    self.assign(&sync.assignments);
                    self.persist(After::Assignments);
                }
            }
            State::Stable => {
                member.owes_sync = false;
                member.touch(now_ms);
                self.answer_sync(sync.token, &sync.identity.member_id);
            }
        }
        if !self.members.iter().any(|member| member.owes_sync) {
            self.sync_deadline_ms = None;
        }
        Ok(())
    }

    /// Whom the leader has forgotten gets nothing.
    fn assign(&mut self, assignments: &[(String, Bytes)]) {
        for member in self.members.iter_mut() {
            member.assignment = Bytes::new();
        }
        for (member_id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(member_id) {
                member.assignment = Bytes::copy_from_slice(assignment);
            }
        }
    }

    pub(super) fn persist(&mut self, after: After) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        if after != After::Nothing {
            self.persisting.push(Persisting { ticket, after });
        }
        let metadata = GroupMetadata {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(|member| member.persistent()).collect(),
        };
        self.outputs.push(Output::Persist { ticket, metadata });
    }

    /// A report for a generation that has ended meanwhile finds nobody waiting.
    pub(super) fn on_persisted(&mut self, now_ms: u64, ticket: Ticket, stored: bool) {
        let Some(index) = self.persisting.iter().position(|persisting| persisting.ticket == ticket) else { return };
        match self.persisting.remove(index).after {
            After::Nothing => {}
            After::Assignments if stored => self.become_stable(now_ms),
            After::Assignments => {
                self.abandon_assignments(now_ms, GroupError::Unavailable);
                self.rebalance(now_ms);
            }
            After::StaticJoin { member_id, old_leader } => {
                self.finish_static_join(now_ms, &member_id, old_leader, stored);
            }
        }
    }

    fn become_stable(&mut self, now_ms: u64) {
        self.state = State::Stable;
        let mut waiting = Vec::new();
        for member in self.members.iter_mut() {
            if let Some(token) = member.sync.take() {
                member.touch(now_ms);
                waiting.push((token, member.id.clone()));
            }
        }
        for (token, member_id) in waiting {
            self.answer_sync(token, &member_id);
        }
    }

    fn answer_sync(&mut self, token: Token, member_id: &str) {
        let synced = Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.members.get(member_id).map(|member| member.assignment.clone()).unwrap_or_default(),
        };
        self.outputs.push(Output::Sync { token, reply: Ok(synced) });
    }

    /// The generation will not be completed: nobody is to act on its assignments.
    pub(super) fn abandon_assignments(&mut self, now_ms: u64, error: GroupError) {
        for member in self.members.iter_mut() {
            member.assignment = Bytes::new();
            if let Some(token) = member.sync.take() {
                member.touch(now_ms);
                self.outputs.push(Output::Sync { token, reply: Err(error) });
            }
        }
    }
}

//! From one generation to the next: waiting for members, electing, timing out.

use super::interface::{GroupError, JoinRefusal, Output};
use super::member::Waiting;
use super::sync::After;
use super::{Group, State};

/// The group waits for its members to join the next generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Preparing {
    /// When those who have not joined are dropped.
    pub(super) deadline_ms: u64,
    /// Set if the group was empty: more members are likely to come at once.
    pub(super) initial: Option<InitialDelay>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InitialDelay {
    /// By how much the wait can still be extended.
    left_ms: u64,
    /// A member has come since the last extension.
    pub(super) member_added: bool,
}

impl Group {
    /// Drops whoever and ends whatever has timed out.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Vec<Output> {
        self.pending.retain(|_, &mut until_ms| until_ms > now_ms);
        let lost = self.members.remove_if(|member| member.expires_at_ms().is_some_and(|at_ms| at_ms <= now_ms));
        let mut changed = !lost.is_empty();
        for member in lost {
            self.answer_waiting(member.waiting(), GroupError::UnknownMember);
        }
        if self.sync_deadline_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.sync_deadline_ms = None;
            changed |= !self.members.remove_if(|member| member.owes_sync).is_empty();
        }
        if changed {
            self.elect_leader_if_gone();
            self.rebalance(now_ms);
        }
        if let State::PreparingRebalance(preparing) = self.state {
            if preparing.deadline_ms <= now_ms {
                self.end_preparation(now_ms, preparing);
            } else {
                self.complete_if_all_joined(now_ms);
            }
        }
        std::mem::take(&mut self.outputs)
    }

    /// Membership or a member's metadata has changed: there must be a new generation.
    pub(super) fn rebalance(&mut self, now_ms: u64) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare(now_ms),
            State::PreparingRebalance(_) | State::Dead => {}
        }
        self.complete_if_all_joined(now_ms);
    }

    fn prepare(&mut self, now_ms: u64) {
        if self.state == State::CompletingRebalance {
            self.abandon_assignments(now_ms, GroupError::RebalanceInProgress);
        }
        // What is being persisted stays valid for the generation that ends here, but nobody waits for it any more.
        self.persisting.clear();
        self.sync_deadline_ms = None;
        let rebalance_timeout_ms = self.members.rebalance_timeout_ms();
        let delay_ms = self.limits.initial_rebalance_delay_ms;
        let preparing = if self.state == State::Empty && delay_ms > 0 {
            let left_ms = rebalance_timeout_ms.saturating_sub(delay_ms);
            let initial = Some(InitialDelay { left_ms, member_added: false });
            Preparing { deadline_ms: now_ms.saturating_add(delay_ms), initial }
        } else {
            Preparing { deadline_ms: now_ms.saturating_add(rebalance_timeout_ms), initial: None }
        };
        let first_alone = self.state == State::Empty && delay_ms == 0;
        self.state = State::PreparingRebalance(preparing);
        if first_alone {
            self.complete(now_ms);
        }
    }

    /// Ends the preparation early if nobody is missing.
    pub(super) fn complete_if_all_joined(&mut self, now_ms: u64) {
        let State::PreparingRebalance(preparing) = self.state else { return };
        let all_joined = self.members.waiting_to_join() == self.members.len() && self.pending.is_empty();
        if self.members.is_empty() || (preparing.initial.is_none() && all_joined) {
            self.complete(now_ms);
        }
    }

    /// The time to wait is over, unless the group is new and members are still pouring in.
    fn end_preparation(&mut self, now_ms: u64, preparing: Preparing) {
        match preparing.initial {
            Some(InitialDelay { left_ms, member_added: true }) if left_ms > 0 => {
                let delay_ms = self.limits.initial_rebalance_delay_ms.min(left_ms);
                let initial = Some(InitialDelay { left_ms: left_ms - delay_ms, member_added: false });
                let deadline_ms = now_ms.saturating_add(delay_ms);
                self.state = State::PreparingRebalance(Preparing { deadline_ms, initial });
            }
            _ => self.complete(now_ms),
        }
    }

    /// The next generation consists of those who have joined, and of static members until their sessions end.
    fn complete(&mut self, now_ms: u64) {
        self.members.remove_if(|member| member.join.is_none() && member.instance_id.is_none());
        if self.members.is_empty() {
            return self.become_empty();
        }
        let leader_joined =
            self.leader.as_deref().and_then(|id| self.members.get(id)).is_some_and(|m| m.join.is_some());
        if !leader_joined {
            let Some(successor) = self.members.first(|member| member.join.is_some()) else {
                // Only absent static members: wait on, until one returns or their sessions end.
                let deadline_ms = now_ms.saturating_add(self.members.rebalance_timeout_ms().max(1));
                self.state = State::PreparingRebalance(Preparing { deadline_ms, initial: None });
                return;
            };
            self.leader = Some(successor.id.clone());
        }
        self.begin_generation();
        self.protocol = self.members.vote();
        self.state = State::CompletingRebalance;
        self.sync_deadline_ms = Some(now_ms.saturating_add(self.members.rebalance_timeout_ms()));
        self.answer_joins(now_ms);
    }

    fn answer_joins(&mut self, now_ms: u64) {
        let mut answered = Vec::new();
        for member in self.members.iter_mut() {
            member.owes_sync = false;
            if let Some(join) = member.join.take() {
                member.enter_generation(now_ms);
                answered.push((join.token, member.id.clone()));
            }
        }
        for (token, member_id) in answered {
            let joined = self.joined(&member_id, self.is_leader(&member_id));
            self.outputs.push(Output::Join { token, reply: Ok(joined) });
        }
    }

    /// A generation without members is persisted as well, so that a late member of the former one is told apart.
    fn become_empty(&mut self) {
        self.begin_generation();
        self.protocol = None;
        self.leader = None;
        self.state = State::Empty;
        self.persist(After::Nothing);
    }

    fn begin_generation(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
    }

    /// Takes a member out and answers what it waits for. The caller sees to the rebalance.
    pub(super) fn drop_member(&mut self, member_id: &str, error: GroupError) {
        let Some(member) = self.members.remove(member_id) else { return };
        self.answer_waiting(member.waiting(), error);
        self.elect_leader_if_gone();
    }

    /// The longest-serving member takes over a leader that is gone.
    pub(super) fn elect_leader_if_gone(&mut self) {
        if !self.leader.as_deref().is_some_and(|leader| self.members.contains(leader)) {
            self.leader = self.members.first(|_| true).map(|member| member.id.clone());
        }
    }

    pub(super) fn answer_waiting(&mut self, waiting: Waiting, error: GroupError) {
        if let Some(token) = waiting.join {
            // Who is unknown is to come back without an id.
            let member_id = if error == GroupError::UnknownMember { String::new() } else { waiting.member_id };
            self.outputs.push(Output::Join { token, reply: Err(JoinRefusal { error, member_id }) });
        }
        if let Some(token) = waiting.sync {
            self.outputs.push(Output::Sync { token, reply: Err(error) });
        }
    }
}

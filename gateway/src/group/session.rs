//! Heartbeat, LeaveGroup and the check before OffsetCommit: a member is alive, goes, or stores its position.

use super::interface::{Commit, GroupError, Heartbeat, Identity, Leave, Left, Output};
use super::{Group, State};

impl Group {
    pub(super) fn handle_heartbeat(&mut self, now_ms: u64, heartbeat: &Heartbeat) {
        let reply = self.heartbeat(now_ms, &heartbeat.identity);
        self.outputs.push(Output::Heartbeat { token: heartbeat.token, reply });
    }

    fn heartbeat(&mut self, now_ms: u64, identity: &Identity) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::Gone);
        }
        self.check_generation(identity)?;
        self.touch(now_ms, identity);
        match self.state {
            // Consumers may heartbeat between JoinGroup and SyncGroup.
            State::CompletingRebalance | State::Stable => Ok(()),
            State::PreparingRebalance(_) => Err(GroupError::RebalanceInProgress),
            State::Empty | State::Dead => Err(GroupError::UnknownMember),
        }
    }

    pub(super) fn handle_leave(&mut self, now_ms: u64, leave: Leave) {
        if self.state == State::Dead {
            self.outputs.push(Output::Leave { token: leave.token, reply: Err(GroupError::Gone) });
            return;
        }
        let members_before = self.members.len();
        let remove = |(member_id, instance_id): (String, Option<String>)| {
            let result = self.leave(&member_id, instance_id.as_deref());
            Left { member_id, instance_id, result }
        };
        let left = leave.members.into_iter().map(remove).collect();
        self.outputs.push(Output::Leave { token: leave.token, reply: Ok(left) });
        if self.members.len() < members_before {
            self.rebalance(now_ms);
        } else if let State::PreparingRebalance(_) = self.state {
            // A pending member that gives up may be all that the group waited for.
            self.rebalance(now_ms);
        }
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if instance_id.is_none() && self.pending.remove(member_id).is_some() {
            return Ok(());
        }
        let member_id = match instance_id {
            Some(name) if member_id.is_empty() => {
                self.members.id_of_instance(name).ok_or(GroupError::UnknownMember)?.to_owned()
            }
            _ => {
                self.check_identity(member_id, instance_id)?;
                member_id.to_owned()
            }
        };
        self.drop_member(&member_id, GroupError::UnknownMember);
        Ok(())
    }

    pub(super) fn handle_commit(&mut self, now_ms: u64, commit: &Commit) {
        let reply = self.check_commit(now_ms, &commit.identity);
        self.outputs.push(Output::Commit { token: commit.token, reply });
    }

    /// Members of the current generation may commit, until they have been told of the next one; others only while the
    /// group is empty, as reset tools and clients with assignments of their own do. These may name a member or an
    /// instance all the same: librdkafka sends its `group.instance.id` along.
    fn check_commit(&mut self, now_ms: u64, identity: &Identity) -> Result<(), GroupError> {
        let anonymous = identity.generation < 0 && identity.member_id.is_empty() && identity.instance_id.is_none();
        match self.state {
            State::Dead => Err(GroupError::Gone),
            State::Empty if identity.generation < 0 => Ok(()),
            _ if anonymous => Err(GroupError::UnknownMember),
            State::CompletingRebalance => {
                self.check_generation(identity)?;
                Err(GroupError::RebalanceInProgress)
            }
            State::Empty | State::PreparingRebalance(_) | State::Stable => {
                self.check_generation(identity)?;
                self.touch(now_ms, identity);
                Ok(())
            }
        }
    }

    fn touch(&mut self, now_ms: u64, identity: &Identity) {
        if let Some(member) = self.members.get_mut(&identity.member_id) {
            member.touch(now_ms);
        }
    }
}

//! JoinGroup: a member asks for a place in the next generation.

use super::interface::{GroupError, Join, JoinRefusal, Joined, JoinedMember, Output, Protocol};
use super::member::{Member, Waiting, make_member_id};
use super::rebalance::Preparing;
use super::sync::After;
use super::{Group, State};

impl Group {
    pub(super) fn handle_join(&mut self, now_ms: u64, join: Join) {
        let (token, member_id) = (join.token, join.member_id.clone());
        let admitted = self.check_join(now_ms, &join).and_then(|()| {
            if member_id.is_empty() { self.join_unknown(now_ms, join) } else { self.join_known(now_ms, join) }
        });
        if let Err(error) = admitted {
            self.outputs.push(Output::Join { token, reply: Err(JoinRefusal { error, member_id }) });
        }
    }

    /// What is refused whoever asks.
    fn check_join(&mut self, now_ms: u64, join: &Join) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::Gone);
        }
        let session_timeout_ms = u64::try_from(join.session_timeout_ms).unwrap_or_default();
        if !(self.limits.session_timeout_ms_min..=self.limits.session_timeout_ms_max).contains(&session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let bytes = |protocol: &Protocol| protocol.name.len() + protocol.metadata.len();
        if join.protocols.iter().map(bytes).sum::<usize>() > self.limits.member_bytes_max {
            return Err(GroupError::TooLarge);
        }
        let known_as = self.known_id(join).to_owned();
        if !self.has_room_for(&known_as) {
            self.drop_member(&known_as, GroupError::Full);
            self.complete_if_all_joined(now_ms);
            return Err(GroupError::Full);
        }
        let fits = if self.members.is_empty() {
            !join.protocol_type.is_empty() && !join.protocols.is_empty()
        } else {
            self.protocol_type.as_ref() == Some(&join.protocol_type)
                && self.members.share_one_of(&join.protocols, &known_as)
        };
        if fits { Ok(()) } else { Err(GroupError::InconsistentProtocol) }
    }

    /// The id under which the group knows whoever asks: a static member that was restarted does not know its own.
    fn known_id<'a>(&'a self, join: &'a Join) -> &'a str {
        match &join.instance_id {
            Some(instance_id) if join.member_id.is_empty() => {
                self.members.id_of_instance(instance_id).unwrap_or_default()
            }
            _ => &join.member_id,
        }
    }

    /// Newcomers find room while there is some; members keep theirs, unless the limit was lowered under them, when the
    /// first to rejoin stay (KIP-389).
    fn has_room_for(&self, member_id: &str) -> bool {
        match (self.members.get(member_id), self.state) {
            (None, _) => self.members.len() < self.limits.members_max,
            (Some(member), State::PreparingRebalance(_)) => {
                member.join.is_some() || self.members.waiting_to_join() < self.limits.members_max
            }
            (Some(_), _) => true,
        }
    }

    /// Nobody yet, or a static member that was restarted.
    fn join_unknown(&mut self, now_ms: u64, join: Join) -> Result<(), GroupError> {
        let new_id = make_member_id(&join);
        let old_id = join.instance_id.as_deref().and_then(|name| self.members.id_of_instance(name)).map(str::to_owned);
        match old_id {
            Some(old_id) => self.replace_static(now_ms, &old_id, new_id, join),
            None if join.instance_id.is_none() && join.requires_member_id => {
                return self.hand_out_id(now_ms, new_id, &join);
            }
            None => self.add_member(now_ms, new_id, join),
        }
        Ok(())
    }

    /// The id comes back with a second JoinGroup (KIP-394): a client whose first answer got lost then leaves no ghost
    /// behind that holds up the group.
    fn hand_out_id(&mut self, now_ms: u64, new_id: String, join: &Join) -> Result<(), GroupError> {
        if self.pending.len() >= self.limits.members_max {
            return Err(GroupError::Full);
        }
        let session_timeout_ms = u64::try_from(join.session_timeout_ms).unwrap_or_default();
        self.pending.insert(new_id.clone(), now_ms.saturating_add(session_timeout_ms));
        let refusal = JoinRefusal { error: GroupError::MemberIdRequired, member_id: new_id };
        self.outputs.push(Output::Join { token: join.token, reply: Err(refusal) });
        Ok(())
    }

    fn join_known(&mut self, now_ms: u64, join: Join) -> Result<(), GroupError> {
        let member_id = join.member_id.clone();
        if join.instance_id.is_none() && self.pending.remove(&member_id).is_some() {
            self.add_member(now_ms, member_id, join);
            return Ok(());
        }
        self.check_identity(&member_id, join.instance_id.as_deref())?;
        let unchanged = self.members.get(&member_id).is_some_and(|member| member.has_same_protocols(&join.protocols));
        let leads = self.is_leader(&member_id);
        match self.state {
            // Its first answer was lost: the generation is still being completed.
            State::CompletingRebalance if unchanged => self.answer_again(now_ms, &join, leads),
            // A follower has nothing new to say. A leader that joins wants to assign again.
            State::Stable if unchanged && !leads => self.answer_again(now_ms, &join, false),
            State::PreparingRebalance(_) | State::CompletingRebalance | State::Stable => {
                self.update_member(now_ms, &member_id, join);
            }
            State::Empty | State::Dead => return Err(GroupError::UnknownMember),
        }
        Ok(())
    }

    /// The current generation, for a member that is in it.
    fn answer_again(&mut self, now_ms: u64, join: &Join, with_members: bool) {
        if let Some(member) = self.members.get_mut(&join.member_id) {
            member.touch(now_ms);
        }
        let joined = self.joined(&join.member_id, with_members);
        self.outputs.push(Output::Join { token: join.token, reply: Ok(joined) });
    }

    fn add_member(&mut self, now_ms: u64, member_id: String, join: Join) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
            self.leader = Some(member_id.clone());
        }
        if let State::PreparingRebalance(Preparing { initial: Some(initial), .. }) = &mut self.state {
            initial.member_added = true;
        }
        self.members.insert(Member::new(member_id, now_ms, join));
        self.rebalance(now_ms);
    }

    fn update_member(&mut self, now_ms: u64, member_id: &str, join: Join) {
        let before = self.members.get_mut(member_id).and_then(|member| member.update(join));
        // The client gave up on its former request; if it is still there, it is to know.
        let waiting = Waiting { member_id: member_id.to_owned(), join: before, sync: None };
        self.answer_waiting(waiting, GroupError::RebalanceInProgress);
        self.rebalance(now_ms);
    }

    /// A static member comes back under its name: it gets a new id, keeps its assignment, and the process that had the
    /// old id is fenced off (KIP-345).
    fn replace_static(&mut self, now_ms: u64, old_id: &str, new_id: String, join: Join) {
        let Some(old) = self.members.remove(old_id) else { return };
        self.members.insert(old.replacement(new_id.clone(), now_ms, join));
        self.answer_waiting(old.waiting(), GroupError::FencedInstance);
        let old_leader = self.leader.clone();
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.state == State::Stable && self.members.vote() == self.protocol {
            self.persist(After::StaticJoin { member_id: new_id, old_leader });
        } else {
            // In CompletingRebalance as well: the leader is assigning to the old id right now.
            self.rebalance(now_ms);
        }
    }

    /// The new id of a static member is persisted: it may have it, without a rebalance.
    pub(super) fn finish_static_join(
        &mut self,
        now_ms: u64,
        member_id: &str,
        old_leader: Option<String>,
        stored: bool,
    ) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let Some(join) = member.join.take() else { return };
        member.touch(now_ms);
        let reply = if !stored {
            Err(JoinRefusal { error: GroupError::Unavailable, member_id: String::new() })
        } else if join.can_skip_assignment {
            let leads = self.is_leader(member_id);
            Ok(Joined { skip_assignment: leads, ..self.joined(member_id, leads) })
        } else {
            // Were it told that it leads, it would assign, and in a stable group nobody would hear of it.
            let leader = old_leader.unwrap_or_default();
            Ok(Joined { leader, ..self.joined(member_id, false) })
        };
        self.outputs.push(Output::Join { token: join.token, reply });
    }

    pub(super) fn joined(&self, member_id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let as_leader_sees = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        };
        Joined {
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: if with_members { self.members.iter().map(as_leader_sees).collect() } else { Vec::new() },
            protocol,
        }
    }
}

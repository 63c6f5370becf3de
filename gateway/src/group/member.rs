//! One member, and the set of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::interface::{Join, MemberDescription, Protocol, Token};
use super::metadata::MemberMetadata;

/// How long a new member may take for its first generation. It does not heartbeat meanwhile, and if its client has
/// gone away, so has its id: it must not hold up rebalances for as long as its session might be.
const FIRST_JOIN_TIMEOUT_MS: u64 = 300_000;

/// How much of a client's or instance's name goes into a member id: old response versions allow 32,767 bytes in all.
const NAME_CHARS_MAX: usize = 255;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout_ms: u64,
    pub(super) rebalance_timeout_ms: u64,
    protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// It has not been in any generation yet.
    is_new: bool,
    session_deadline_ms: u64,
    /// A JoinGroup that waits for the next generation, or for a static member's new id to be persisted.
    pub(super) join: Option<WaitingJoin>,
    /// A SyncGroup that waits for the leader's assignments to be persisted.
    pub(super) sync: Option<Token>,
    /// It was told of this generation and has not asked for its assignment yet.
    pub(super) owes_sync: bool,
    /// Its place in the order in which members came; [`Members::insert`] sets it for those who are new.
    came: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingJoin {
    pub(super) token: Token,
    pub(super) can_skip_assignment: bool,
}

/// The requests of one member that are still to be answered.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) member_id: String,
    pub(super) join: Option<Token>,
    pub(super) sync: Option<Token>,
}

impl Member {
    /// A member that has just asked to join.
    pub(super) fn new(id: String, now_ms: u64, join: Join) -> Self {
        let mut member = Self {
            id,
            instance_id: join.instance_id.clone(),
            client_id: String::new(),
            client_host: String::new(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            is_new: true,
            session_deadline_ms: now_ms.saturating_add(FIRST_JOIN_TIMEOUT_MS),
            join: None,
            sync: None,
            owes_sync: false,
            came: None,
        };
        member.update(join);
        member
    }

    /// A member as it was persisted: in its generation, and as if heard of just now.
    pub(super) fn restore(metadata: MemberMetadata, now_ms: u64) -> Self {
        Self {
            id: metadata.member_id,
            instance_id: metadata.instance_id,
            client_id: metadata.client_id,
            client_host: metadata.client_host,
            session_timeout_ms: metadata.session_timeout_ms.into(),
            rebalance_timeout_ms: metadata.rebalance_timeout_ms.into(),
            protocols: metadata.protocols,
            assignment: metadata.assignment,
            is_new: false,
            session_deadline_ms: now_ms.saturating_add(metadata.session_timeout_ms.into()),
            join: None,
            sync: None,
            owes_sync: false,
            came: None,
        }
    }

    /// The static member that takes the place of this one under a new id, with its assignment.
    pub(super) fn replacement(&self, id: String, now_ms: u64, join: Join) -> Self {
        let mut member = Self::new(id, now_ms, join);
        member.assignment = self.assignment.clone();
        member.came = self.came;
        member.is_new = false;
        member.touch(now_ms);
        member
    }

    /// Takes over what a JoinGroup says and lets it wait. Returns a JoinGroup that waited before.
    pub(super) fn update(&mut self, join: Join) -> Option<Token> {
        let session_timeout_ms = u64::try_from(join.session_timeout_ms).unwrap_or_default();
        self.session_timeout_ms = session_timeout_ms;
        self.rebalance_timeout_ms = u64::try_from(join.rebalance_timeout_ms).unwrap_or(session_timeout_ms);
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.protocols = join.protocols.iter().map(Protocol::detached).collect();
        let waiting = WaitingJoin { token: join.token, can_skip_assignment: join.can_skip_assignment };
        self.join.replace(waiting).map(|before| before.token)
    }

    /// The session begins anew.
    pub(super) fn touch(&mut self, now_ms: u64) {
        self.session_deadline_ms = now_ms.saturating_add(self.session_timeout_ms);
    }

    /// Its JoinGroup is being answered with a generation.
    pub(super) fn enter_generation(&mut self, now_ms: u64) {
        self.is_new = false;
        self.owes_sync = true;
        self.touch(now_ms);
    }

    /// When it is lost. Whoever waits for the group is not expected to heartbeat, unless it never did.
    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        let waits = self.sync.is_some() || (self.join.is_some() && !self.is_new);
        (!waits).then_some(self.session_deadline_ms)
    }

    /// Its unanswered requests, which this takes away.
    pub(super) fn waiting(mut self) -> Waiting {
        Waiting { join: self.join.take().map(|join| join.token), sync: self.sync.take(), member_id: self.id }
    }

    pub(super) fn has_same_protocols(&self, protocols: &[Protocol]) -> bool {
        self.protocols == protocols
    }

    /// What it says about itself in a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|known| known.name == protocol)
            .map(|known| known.metadata.clone())
            .unwrap_or_default()
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| known.name == protocol)
    }

    pub(super) fn describe(&self, protocol: Option<&str>) -> MemberDescription {
        MemberDescription {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: protocol.map(|protocol| self.metadata(protocol)).unwrap_or_default(),
            assignment: protocol.map(|_| self.assignment.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn persistent(&self) -> MemberMetadata {
        let milliseconds = |time: u64| u32::try_from(time).unwrap_or(u32::MAX);
        MemberMetadata {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: milliseconds(self.session_timeout_ms),
            rebalance_timeout_ms: milliseconds(self.rebalance_timeout_ms),
            protocols: self.protocols.clone(),
            assignment: self.assignment.clone(),
        }
    }
}

impl Protocol {
    /// A copy that keeps no request frame alive.
    fn detached(&self) -> Self {
        Self { name: self.name.clone(), metadata: Bytes::copy_from_slice(&self.metadata) }
    }
}

/// A member id as Kafka makes them: the client's or instance's name and a UUID.
pub(super) fn make_member_id(join: &Join) -> String {
    let name = join.instance_id.as_ref().unwrap_or(&join.client_id);
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    let hex = format!("{:032x}", join.fresh);
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    format!("{name}-{a}-{b}-{c}-{d}-{e}")
}

/// The members by id, and the static ones by name.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<String, Member>,
    instances: BTreeMap<String, String>,
    came: u64,
}

impl Members {
    /// Adds a member whose id, and static name, are not in the group.
    pub(super) fn insert(&mut self, mut member: Member) {
        self.came += 1;
        member.came.get_or_insert(self.came);
        if let Some(instance_id) = &member.instance_id {
            self.instances.insert(instance_id.clone(), member.id.clone());
        }
        self.by_id.insert(member.id.clone(), member);
    }

    pub(super) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.by_id.remove(member_id)?;
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        Some(member)
    }

    /// Removes those for whom it holds.
    pub(super) fn remove_if(&mut self, condition: impl Fn(&Member) -> bool) -> Vec<Member> {
        let ids: Vec<String> = self.iter().filter(|member| condition(member)).map(|member| member.id.clone()).collect();
        ids.iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(super) fn drain(&mut self) -> Vec<Member> {
        self.remove_if(|_| true)
    }

    pub(super) fn get(&self, member_id: &str) -> Option<&Member> {
        self.by_id.get(member_id)
    }

    pub(super) fn get_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(member_id)
    }

    pub(super) fn contains(&self, member_id: &str) -> bool {
        self.by_id.contains_key(member_id)
    }

    pub(super) fn id_of_instance(&self, instance_id: &str) -> Option<&str> {
        self.instances.get(instance_id).map(String::as_str)
    }

    /// In the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn waiting_to_join(&self) -> usize {
        self.iter().filter(|member| member.join.is_some()).count()
    }

    /// The one that came first, of those for whom it holds.
    pub(super) fn first(&self, condition: impl Fn(&Member) -> bool) -> Option<&Member> {
        self.iter().filter(|member| condition(member)).min_by_key(|member| member.came)
    }

    /// How long the slowest needs to rejoin.
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        self.iter().map(|member| member.rebalance_timeout_ms).max().unwrap_or_default()
    }

    /// Whether one of the protocols is everybody's, `except` not asked.
    pub(super) fn share_one_of(&self, protocols: &[Protocol], except: &str) -> bool {
        let others = || self.iter().filter(|member| member.id != except);
        protocols.iter().any(|protocol| others().all(|member| member.supports(&protocol.name)))
    }

    /// Each member votes for the first of its protocols that all support; most votes win, then the earliest member.
    pub(super) fn vote(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for member in self.iter() {
            let everybodys = |name: &str| self.iter().all(|other| other.supports(name));
            let choice = member.protocols.iter().find(|protocol| everybodys(&protocol.name))?;
            let came = member.came.unwrap_or(u64::MAX);
            let entry = votes.entry(&choice.name).or_insert((0, came));
            *entry = (entry.0 + 1, entry.1.min(came));
        }
        let winner = votes.into_iter().max_by_key(|&(_, (count, came))| (count, std::cmp::Reverse(came)));
        winner.map(|(name, _)| name.to_owned())
    }
}

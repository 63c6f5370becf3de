//! Stories of groups, told as scripts: one line per thing that happens, one line per thing that the group does then.
//!
//! A member called `a` is given an id that ends in a counter; `a` in a script stands for whatever id it has now.

mod random;
mod rejoin;
mod start;
mod states;
mod static_members;
mod timeouts;
mod upkeep;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

pub(super) fn limits() -> Limits {
    Limits { members_max: 4, ..Limits::default() }
}

/// A group, its clients and the shell around it.
pub(super) struct Story {
    pub(super) group: Group,
    pub(super) now_ms: u64,
    /// Name by member id, and the other way round the last one.
    names: BTreeMap<String, String>,
    ids: BTreeMap<String, String>,
    tokens: BTreeMap<Token, String>,
    tickets: BTreeMap<Ticket, String>,
    next: u64,
    script: String,
    pub(super) stored: Option<GroupMetadata>,
}

impl Story {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            group: Group::new(limits),
            now_ms: 0,
            names: BTreeMap::new(),
            ids: BTreeMap::new(),
            tokens: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next: 0,
            script: String::new(),
            stored: None,
        }
    }

    /// Compares with what has been told since the last time.
    #[track_caller]
    pub(super) fn expect(&mut self, script: &str) {
        let lines = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
        };
        assert_eq!(lines(&std::mem::take(&mut self.script)), lines(script));
    }

    /// Forgets what has been told so far: it was another story's to check.
    pub(super) fn skip(&mut self) {
        self.script.clear();
    }

    pub(super) fn join_request(&mut self, name: &str) -> Join {
        let token = self.token(name);
        Join {
            token,
            member_id: self.id(name),
            instance_id: None,
            client_id: name.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol("range", name)],
            requires_member_id: false,
            can_skip_assignment: true,
            fresh: self.next.into(),
        }
    }

    /// JoinGroup, changed as the story needs.
    pub(super) fn join_with(&mut self, name: &str, change: impl FnOnce(&mut Join)) {
        let mut join = self.join_request(name);
        change(&mut join);
        self.happens(&format!("{name} joins"), Input::Join(join));
    }

    pub(super) fn join(&mut self, name: &str) {
        self.join_with(name, |_| {});
    }

    pub(super) fn join_static(&mut self, name: &str, member_id: &str) {
        let member_id = self.id_or(member_id);
        self.join_with(name, |join| {
            join.instance_id = Some(name.to_owned());
            join.member_id = member_id;
        });
    }

    /// SyncGroup of this generation; assignments as "a=1 b=2".
    pub(super) fn sync(&mut self, name: &str, assignments: &str) {
        self.sync_with(name, assignments, |_| {});
    }

    pub(super) fn sync_with(&mut self, name: &str, assignments: &str, change: impl FnOnce(&mut Sync)) {
        let assignments = assignments
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(member, work)| (self.id_or(member), Bytes::copy_from_slice(work.as_bytes())))
            .collect();
        let (token, identity) = (self.token(name), self.identity(name));
        let mut sync = Sync { token, identity, protocol_type: None, protocol: None, assignments };
        change(&mut sync);
        self.happens(&format!("{name} syncs"), Input::Sync(sync));
    }

    pub(super) fn heartbeat(&mut self, name: &str) {
        self.heartbeat_with(name, |_| {});
    }

    pub(super) fn heartbeat_with(&mut self, name: &str, change: impl FnOnce(&mut Identity)) {
        let (token, mut identity) = (self.token(name), self.identity(name));
        change(&mut identity);
        self.happens(&format!("{name} heartbeats"), Input::Heartbeat(Heartbeat { token, identity }));
    }

    pub(super) fn leave(&mut self, name: &str) {
        let members = vec![(self.id(name), None)];
        let token = self.token(name);
        self.happens(&format!("{name} leaves"), Input::Leave(Leave { token, members }));
    }

    pub(super) fn commit_with(&mut self, name: &str, change: impl FnOnce(&mut Identity)) {
        let (token, mut identity) = (self.token(name), self.identity(name));
        change(&mut identity);
        self.happens(&format!("{name} commits"), Input::Commit(Commit { token, identity }));
    }

    /// The last thing that was to be persisted is, or is not.
    pub(super) fn persisted(&mut self, stored: bool) {
        let ticket = *self.tickets.keys().last().expect("something to persist");
        self.tickets.remove(&ticket);
        let what = if stored { "persisted" } else { "not persisted" };
        self.happens(what, Input::Persisted { ticket, stored });
    }

    /// Lets time pass, timers firing on the way.
    pub(super) fn wait(&mut self, ms: u64) {
        self.script.push_str(&format!("{ms} ms pass\n"));
        let end_ms = self.now_ms + ms;
        while let Some(at_ms) = self.group.next_timeout().filter(|&at_ms| at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            let outputs = self.group.handle_timeout(self.now_ms);
            self.tell(outputs);
            assert!(self.group.next_timeout().is_none_or(|next| next > at_ms), "the timer must move on");
        }
        self.now_ms = end_ms;
    }

    /// The coordinator starts again with what was persisted.
    pub(super) fn restart(&mut self) {
        self.script.push_str("restart\n");
        let metadata = self.stored.clone().unwrap_or_default();
        self.group = Group::restore(limits(), self.now_ms, metadata);
        self.tokens.clear();
        self.tickets.clear();
    }

    pub(super) fn happens(&mut self, what: &str, input: Input) {
        self.script.push_str(&format!("{what}\n"));
        let outputs = self.group.handle(self.now_ms, input);
        self.tell(outputs);
    }

    /// A stable group of these members, the first being its leader.
    pub(super) fn stable(names: &[&str]) -> Self {
        let mut story = Self::new(limits());
        for name in names {
            story.join(name);
        }
        story.settle(names);
        story.skip();
        story
    }

    /// Everybody rejoins and syncs; the first in the group leads.
    pub(super) fn settle(&mut self, names: &[&str]) {
        for name in names {
            let waits = self.group.members.get(&self.id(name)).is_some_and(|member| member.join.is_some());
            if self.group.state_name() == "PreparingRebalance" && !waits {
                self.join(name);
            }
        }
        for name in names {
            self.sync(name, "");
        }
        self.persisted(true);
        assert_eq!(self.group.state_name(), "Stable");
    }

    pub(super) fn id(&self, name: &str) -> String {
        self.ids.get(name).cloned().unwrap_or_default()
    }

    fn id_or(&self, name: &str) -> String {
        self.ids.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    fn identity(&self, name: &str) -> Identity {
        Identity { member_id: self.id(name), instance_id: None, generation: self.group.generation() }
    }

    fn token(&mut self, name: &str) -> Token {
        self.next += 1;
        let token = Token(self.next);
        self.tokens.insert(token, name.to_owned());
        token
    }

    fn tell(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let line = match output {
                Output::Join { token, reply } => {
                    let to = self.answered(token);
                    format!("{to} <- join {}", self.tell_join(&to, reply))
                }
                Output::Sync { token, reply } => {
                    let to = self.answered(token);
                    let reply = reply.map(|synced| String::from_utf8_lossy(&synced.assignment).into_owned());
                    format!("{to} <- sync {}", reply.unwrap_or_else(|error| error.to_string()))
                }
                Output::Heartbeat { token, reply } => format!("{} <- heartbeat {}", self.answered(token), told(reply)),
                Output::Commit { token, reply } => format!("{} <- commit {}", self.answered(token), told(reply)),
                Output::Leave { token, reply } => {
                    let results = reply.map(|left| left.iter().map(|left| told(left.result)).collect::<Vec<_>>());
                    let results = results.unwrap_or_else(|error| vec![error.to_string()]);
                    format!("{} <- leave {}", self.answered(token), results.join(", "))
                }
                Output::Persist { ticket, metadata } => {
                    let members: Vec<_> = metadata.members.iter().map(|member| self.name(&member.member_id)).collect();
                    let line = format!("persist generation {} [{}]", metadata.generation, members.join(" "));
                    self.tickets.insert(ticket, line.clone());
                    self.stored = Some(metadata);
                    line
                }
            };
            self.script.push_str(&format!("    {line}\n"));
        }
    }

    /// Each token is answered once.
    fn answered(&mut self, token: Token) -> String {
        self.tokens.remove(&token).expect("an unanswered request")
    }

    fn tell_join(&mut self, to: &str, reply: Result<Joined, JoinRefusal>) -> String {
        let mut learn = |member_id: &str| {
            if !member_id.is_empty() {
                self.names.insert(member_id.to_owned(), to.to_owned());
                self.ids.insert(to.to_owned(), member_id.to_owned());
            }
        };
        match reply {
            Err(refusal) => {
                if refusal.error == GroupError::MemberIdRequired {
                    learn(&refusal.member_id);
                }
                refusal.error.to_string()
            }
            Ok(joined) => {
                learn(&joined.member_id);
                let members: Vec<_> = joined
                    .members
                    .iter()
                    .map(|member| String::from_utf8_lossy(&member.metadata).into_owned())
                    .collect();
                let leads = joined.leader == joined.member_id;
                let mut line = format!("generation {} {}", joined.generation, joined.protocol);
                line += if leads { ", leader of [" } else { ", follower [" };
                line += &members.join(" ");
                line += if joined.skip_assignment { "], not to assign" } else { "]" };
                line
            }
        }
    }

    fn name(&self, member_id: &str) -> String {
        self.names.get(member_id).cloned().unwrap_or_else(|| "?".to_owned())
    }

    pub(super) fn unanswered(&self) -> Vec<&str> {
        self.tokens.values().map(String::as_str).collect()
    }
}

pub(super) fn protocol(name: &str, metadata: &str) -> Protocol {
    Protocol { name: name.to_owned(), metadata: Bytes::copy_from_slice(metadata.as_bytes()) }
}

fn told(reply: Result<(), GroupError>) -> String {
    reply.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}

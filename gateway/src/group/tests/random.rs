//! Random lives of a group. Whatever clients, clock and store do, every request is answered exactly once, and the
//! group's parts agree with each other.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, named: bool, forget: bool, asks_id: bool, protocols: u8 },
    Sync { client: usize, stale: bool },
    Heartbeat { client: usize },
    Leave { client: usize },
    Commit { client: usize, outside: bool },
    Persisted { stored: bool },
    Wait { ms: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0_usize..6;
    prop_oneof![
        6 => (client(), any::<bool>(), prop::bool::weighted(0.2), any::<bool>(), 1_u8..4).prop_map(
            |(client, named, forget, asks_id, protocols)| Step::Join { client, named, forget, asks_id, protocols }
        ),
        5 => (client(), prop::bool::weighted(0.1)).prop_map(|(client, stale)| Step::Sync { client, stale }),
        3 => client().prop_map(|client| Step::Heartbeat { client }),
        1 => client().prop_map(|client| Step::Leave { client }),
        1 => (client(), any::<bool>()).prop_map(|(client, outside)| Step::Commit { client, outside }),
        4 => prop::bool::weighted(0.9).prop_map(|stored| Step::Persisted { stored }),
        4 => prop_oneof![0_u64..100, 1_000_u64..20_000, 60_000_u64..400_000].prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Restart),
    ]
}

/// The outside world: what clients know, what is stored, what has not been answered.
struct World {
    group: Group,
    limits: Limits,
    now_ms: u64,
    ids: [String; 6],
    unanswered: BTreeMap<Token, usize>,
    tickets: Vec<(Ticket, GroupMetadata)>,
    stored: GroupMetadata,
    next: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            group: Group::new(limits),
            limits,
            now_ms: 0,
            ids: Default::default(),
            unanswered: BTreeMap::new(),
            tickets: Vec::new(),
            stored: GroupMetadata::default(),
            next: 0,
        }
    }

    fn token(&mut self, client: usize) -> Token {
        self.next += 1;
        self.unanswered.insert(Token(self.next), client);
        Token(self.next)
    }

    fn identity(&self, client: usize) -> Identity {
        Identity { member_id: self.ids[client].clone(), instance_id: None, generation: self.group.generation() }
    }

    fn take(&mut self, step: Step) {
        let input = match step {
            Step::Join { client, named, forget, asks_id, protocols } => {
                if forget {
                    self.ids[client].clear();
                }
                let token = self.token(client);
                let offered = [(1, "range"), (2, "sticky")].into_iter().filter(|(bit, _)| protocols & bit != 0);
                Input::Join(Join {
                    token,
                    member_id: self.ids[client].clone(),
                    instance_id: named.then(|| format!("i{client}")),
                    client_id: format!("c{client}"),
                    client_host: String::new(),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 60_000,
                    protocol_type: "consumer".to_owned(),
                    protocols: offered.map(|(_, name)| protocol(name, "x")).collect(),
                    requires_member_id: asks_id,
                    can_skip_assignment: asks_id,
                    fresh: self.next.into(),
                })
            }
            Step::Sync { client, stale } => {
                let mut identity = self.identity(client);
                identity.generation -= i32::from(stale);
                let assignments = self.ids.iter().map(|id| (id.clone(), Bytes::from_static(b"work"))).collect();
                let token = self.token(client);
                Input::Sync(Sync { token, identity, protocol_type: None, protocol: None, assignments })
            }
            Step::Heartbeat { client } => {
                let identity = self.identity(client);
                Input::Heartbeat(Heartbeat { token: self.token(client), identity })
            }
            Step::Leave { client } => {
                let members = vec![(self.ids[client].clone(), None)];
                Input::Leave(Leave { token: self.token(client), members })
            }
            Step::Commit { client, outside } => {
                let nobody = Identity { member_id: String::new(), instance_id: None, generation: -1 };
                let identity = if outside { nobody } else { self.identity(client) };
                Input::Commit(Commit { token: self.token(client), identity })
            }
            Step::Persisted { stored } => {
                if self.tickets.is_empty() {
                    return;
                }
                let (ticket, metadata) = self.tickets.remove(0);
                if stored {
                    self.stored = metadata;
                }
                Input::Persisted { ticket, stored }
            }
            Step::Wait { ms } => return self.wait(ms),
            Step::Restart => {
                let metadata = GroupMetadata::decode(&self.stored.encode()).expect("what was encoded");
                self.group = Group::restore(self.limits, self.now_ms, metadata);
                self.unanswered.clear();
                self.tickets.clear();
                return;
            }
        };
        let outputs = self.group.handle(self.now_ms, input);
        self.perform(outputs);
    }

    fn wait(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while let Some(at_ms) = self.group.next_timeout().filter(|&at_ms| at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            let outputs = self.group.handle_timeout(self.now_ms);
            self.perform(outputs);
            assert!(self.group.next_timeout().is_none_or(|next| next > self.now_ms), "the timer must move on");
            self.check();
        }
        self.now_ms = end_ms;
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let token = match output {
                Output::Join { token, reply } => {
                    let client = self.unanswered[&token];
                    match reply {
                        Ok(joined) => {
                            assert!(self.group.members.contains(&joined.member_id) || joined.members.is_empty());
                            self.ids[client] = joined.member_id;
                        }
                        Err(refusal) if refusal.error == GroupError::MemberIdRequired => {
                            self.ids[client] = refusal.member_id;
                        }
                        Err(refusal) if refusal.error == GroupError::UnknownMember => self.ids[client].clear(),
                        Err(_) => {}
                    }
                    token
                }
                Output::Sync { token, .. }
                | Output::Heartbeat { token, .. }
                | Output::Leave { token, .. }
                | Output::Commit { token, .. } => token,
                Output::Persist { ticket, metadata } => {
                    self.tickets.push((ticket, metadata));
                    continue;
                }
            };
            assert!(self.unanswered.remove(&token).is_some(), "answered twice: {token:?}");
        }
    }

    /// What must hold between any two inputs.
    fn check(&self) {
        let group = &self.group;
        let waits = |member: &Member| member.join.is_some() || member.sync.is_some();
        let awaited: usize =
            group.members.iter().map(|m| usize::from(m.join.is_some()) + usize::from(m.sync.is_some())).sum();
        assert_eq!(awaited, self.unanswered.len(), "every unanswered request is remembered by its member");
        assert!(group.members.len() <= self.limits.members_max);
        assert!(group.pending.len() <= self.limits.members_max);
        assert_eq!(group.members.is_empty(), matches!(group.state, State::Empty | State::Dead));
        assert_eq!(group.leader.is_some(), !group.members.is_empty());
        assert!(group.leader.as_ref().is_none_or(|leader| group.members.contains(leader)));
        let instances: BTreeSet<_> = group.members.iter().filter_map(|member| member.instance_id.as_ref()).collect();
        assert!(
            instances
                .iter()
                .all(|name| { group.members.id_of_instance(name).is_some_and(|id| group.members.contains(id)) })
        );
        match group.state {
            State::Empty | State::Dead => assert_eq!(group.sync_deadline_ms, None),
            State::PreparingRebalance(_) => {
                assert!(group.members.iter().all(|member| member.sync.is_none()));
                assert!(
                    group.members.iter().any(|member| !waits(member)) || !group.pending.is_empty() || self.is_new()
                );
            }
            State::CompletingRebalance => assert!(group.members.iter().all(|member| member.join.is_none())),
            State::Stable => assert!(group.members.iter().all(|member| member.sync.is_none())),
        }
        if matches!(group.state, State::CompletingRebalance | State::Stable) {
            assert!(group.protocol.is_some());
        }
    }

    fn is_new(&self) -> bool {
        matches!(self.group.state, State::PreparingRebalance(Preparing { initial: Some(_), .. }))
    }

    /// The store answers, clients fall silent: nobody is left waiting and no timer is left running.
    fn end(&mut self) {
        for _ in 0..20 {
            while !self.tickets.is_empty() {
                self.take(Step::Persisted { stored: true });
                self.check();
            }
            self.wait(1_000_000);
        }
        assert_eq!(self.group.state, State::Empty);
        assert_eq!(self.group.next_timeout(), None);
        assert!(self.unanswered.is_empty());
        assert!(self.group.is_vacant());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_happens_every_request_is_answered_once(
        steps in proptest::collection::vec(step(), 1..150),
        delay in prop_oneof![Just(0_u64), Just(3_000)],
    ) {
        let mut world = World::new(Limits { members_max: 4, initial_rebalance_delay_ms: delay, ..Limits::default() });
        for step in steps {
            world.take(step);
            world.check();
        }
        world.end();
    }
}

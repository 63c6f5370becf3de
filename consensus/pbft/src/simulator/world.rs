//! The event heap, the links between nodes, and a toy shell around each replica.

use super::byzantine::Attacker;
use super::node::Node;
use super::oracle::Oracle;
use super::plan::{Behaviour, Plan};
use super::random::Random;
use crate::io::{Event as Note, Input, Output, PersistId, To};
use crate::message::Message;
use crate::{ReplicaIndex, Sequence};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How long the healed network may take to converge.
const HEALING_MS_MAX: u64 = 300_000;
/// How long it must stay converged.
const SETTLING_US: u64 = 10_000_000;
/// The simulated clock starts here, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_800_000_000_000;

#[derive(Clone, Debug)]
enum Event {
    Deliver { from: u8, to: u8, bytes: Bytes },
    Persisted { node: u8, life: u64, id: PersistId },
    Execute { node: u8, life: u64 },
    Tick { node: u8, life: u64 },
    Reconnect { one: u8, other: u8 },
    Sync { node: u8, life: u64, from: u8, height: Sequence },
    Submit { node: u8 },
    Crash { node: u8 },
    Restart { node: u8 },
    Part { cut: u64 },
    Join,
    Heal,
}

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The ledger's height.
    pub height: Sequence,
    /// The highest view that a correct replica has seen.
    pub view: u64,
    /// How many events there were.
    pub events: u64,
    /// What was exercised, and how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// How long the healed network took to converge.
    pub healing_ms: u64,
    /// One line per transition, if asked for.
    pub trace: Vec<String>,
}

/// A run that violated an oracle.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// How many replicas.
    pub n: usize,
    /// What went wrong.
    pub what: String,
    /// One line per transition, if asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} n {}: {}", self.seed, self.n, self.what)
    }
}

/// All nodes and what is under way between them.
pub struct World {
    plan: Plan,
    random: Random,
    now_us: u64,
    /// By time, then by a seeded tie-break, then by order of birth.
    heap: BTreeMap<(u64, u64, u64), Event>,
    born: u64,
    nodes: Vec<Node>,
    /// When each node's next tick is due, so that none is scheduled twice.
    ticks: Vec<Option<u64>>,
    /// Nodes on one side of the cut, as a bit set; 0 when there is no cut.
    cut: u64,
    /// Links that owe a reconnection.
    broken: BTreeSet<(u8, u8)>,
    healed_at_us: Option<u64>,
    oracle: Oracle,
    seen: Vec<Bytes>,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
    trace: Option<Vec<String>>,
}

impl World {
    /// Sets up a run.
    pub fn new(plan: Plan, trace: bool) -> World {
        let nodes: Vec<Node> = (0..plan.n as u8).map(|index| Node::new(&plan, index)).collect();
        World {
            random: Random::new(plan.seed),
            now_us: 0,
            heap: BTreeMap::new(),
            born: 0,
            ticks: vec![None; nodes.len()],
            nodes,
            cut: 0,
            broken: BTreeSet::new(),
            healed_at_us: None,
            oracle: Oracle::default(),
            seen: Vec::new(),
            events: 0,
            counts: BTreeMap::new(),
            trace: trace.then(Vec::new),
            plan,
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Report, Failure> {
        match self.drive() {
            Ok(healing_ms) => Ok(Report {
                height: self.oracle.height(),
                view: self.nodes.iter().filter_map(|node| Some(node.replica.as_ref()?.view())).max().unwrap_or(0),
                events: self.events,
                counts: self.counts,
                healing_ms,
                trace: self.trace.unwrap_or_default(),
            }),
            Err(what) => Err(Failure {
                seed: self.plan.seed,
                n: self.plan.n,
                what: format!("at {} ms: {what}", self.now_us / 1000),
                trace: self.trace.unwrap_or_default(),
            }),
        }
    }

    fn drive(&mut self) -> Result<u64, String> {
        self.schedule_faults();
        for node in 0..self.plan.n as u8 {
            self.restart(node)?;
        }
        let mut converged_at = None;
        while let Some(((at, _, _), event)) = self.heap.pop_first() {
            self.now_us = at;
            self.events += 1;
            self.step(event)?;
            let Some(healed_at) = self.healed_at_us else { continue };
            if converged_at.is_none() && self.oracle.converged(&self.nodes).is_ok() {
                converged_at = Some(at);
            }
            if converged_at.is_some_and(|converged_at| at > converged_at + SETTLING_US) {
                break;
            }
            if (at - healed_at) / 1000 > HEALING_MS_MAX {
                break;
            }
        }
        self.oracle.converged(&self.nodes)?;
        self.at_rest()?;
        let healed_at = self.healed_at_us.ok_or("the heap ran empty before the network healed")?;
        Ok(converged_at.map_or(0, |at| (at - healed_at) / 1000))
    }

    /// Idle costs nothing: where all are correct, and all is done, no voting replica waits for anything.
    fn at_rest(&self) -> Result<(), String> {
        let all_correct = self.nodes.iter().all(Node::is_correct);
        let replicas = self.nodes.iter().filter_map(|node| node.replica.as_ref());
        let waiting = replicas.filter(|replica| replica.is_voting() && replica.next_timeout().is_some()).count();
        if all_correct && waiting > 0 { Err(format!("all is done, and yet {waiting} replicas wait")) } else { Ok(()) }
    }

    fn schedule_faults(&mut self) {
        let faulty_us = self.plan.faulty_ms * 1000;
        let last = self.plan.n as u64 - 1;
        for _ in 0..self.plan.requests {
            let (at, node) = (self.random.between(0, faulty_us), self.random.between(0, last) as u8);
            self.at(at, Event::Submit { node });
        }
        for _ in 0..self.plan.crashes {
            let (at, node) = (self.random.between(0, faulty_us), self.random.between(0, last) as u8);
            self.at(at, Event::Crash { node });
            let down = self.random.one_of(&[1, 50_000, 3_000_000]);
            self.at(at + down, Event::Restart { node });
        }
        for _ in 0..self.plan.partitions {
            let at = self.random.between(0, faulty_us);
            let cut = self.random.between(1, (1 << self.plan.n) - 1);
            self.at(at, Event::Part { cut });
            let down = self.random.one_of(&[20_000, 300_000, 1_500_000, 4_000_000]);
            self.at(at + down, Event::Join);
        }
        self.at(faulty_us + 5_000_000, Event::Heal);
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.born += 1;
        let tie = self.random.next();
        self.heap.insert((at_us.max(self.now_us), tie, self.born), event);
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    fn now_ms(&self) -> u64 {
        EPOCH_MS + self.now_us / 1000
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10} {}", self.now_us, line()));
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn count_message(&mut self, message: &Bytes) {
        match Message::from_wire(message) {
            Ok((_, Message::Fetch(_))) => self.count("fetches"),
            Ok((_, Message::Body(_))) => self.count("bodies fetched"),
            Ok((_, Message::Complain(_))) => self.count("complaints"),
            _ => {}
        }
    }

    fn is_alive(&self, node: u8, life: u64) -> bool {
        let node = &self.nodes[usize::from(node)];
        node.replica.is_some() && node.life == life
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver { from, to, bytes } => {
                if self.nodes[usize::from(to)].replica.is_none() || self.is_cut(from, to) {
                    self.lose(from, to);
                    return Ok(());
                }
                self.input(to, Input::Message { from, bytes })
            }
            Event::Persisted { node, life, id } if self.is_alive(node, life) => {
                self.nodes[usize::from(node)].synced_to(id);
                self.input(node, Input::Persisted(id))
            }
            Event::Execute { node, life } if self.is_alive(node, life) => self.execute(node),
            Event::Tick { node, life } if self.is_alive(node, life) => {
                self.ticks[usize::from(node)] = None;
                self.input(node, Input::Tick)
            }
            Event::Reconnect { one, other } => self.reconnect(one, other),
            Event::Sync { node, life, from, height } if self.is_alive(node, life) => self.sync(node, from, height),
            Event::Submit { node } => self.submit(node),
            Event::Crash { node } if self.healed_at_us.is_none() => {
                // At once, or between two of its next outputs.
                let after = self.random.between(0, 7);
                if after < 4 {
                    self.nodes[usize::from(node)].crash_after = Some(after);
                } else {
                    self.crash(node);
                }
                Ok(())
            }
            Event::Restart { node } => self.restart(node),
            Event::Part { cut } if self.healed_at_us.is_none() => {
                self.note(|| format!("the network parts: {cut:b}"));
                self.cut = cut;
                Ok(())
            }
            Event::Join => self.join(),
            Event::Heal => self.heal(),
            _ => Ok(()),
        }
    }

    fn input(&mut self, index: u8, input: Input) -> Result<(), String> {
        self.note(|| format!("{index} <- {}", describe(&input)));
        let now_ms = self.now_ms();
        let outputs = self.nodes[usize::from(index)].handle(now_ms, input);
        self.perform(index, outputs)
    }

    fn perform(&mut self, index: u8, outputs: Vec<Output>) -> Result<(), String> {
        for output in outputs {
            if let Some(left) = &mut self.nodes[usize::from(index)].crash_after {
                if *left == 0 {
                    self.crash(index);
                    return Ok(());
                }
                *left -= 1;
            }
            self.perform_one(index, output)?;
        }
        let at = usize::from(index);
        let Some(replica) = &self.nodes[at].replica else { return Ok(()) };
        let life = self.nodes[at].life;
        if let Some(due_ms) = replica.next_timeout() {
            let due_us = due_ms.saturating_sub(EPOCH_MS) * 1000;
            if self.ticks[at].is_none_or(|known| due_us < known) {
                self.ticks[at] = Some(due_us);
                self.at(due_us.max(self.now_us + 1), Event::Tick { node: index, life });
            }
        }
        Ok(())
    }

    fn perform_one(&mut self, index: u8, output: Output) -> Result<(), String> {
        let correct = self.nodes[usize::from(index)].is_correct();
        match output {
            Output::Persist { id, record } => {
                let delay = self.random.between(1, self.plan.disk_us_max);
                let node = &mut self.nodes[usize::from(index)];
                node.write(record);
                node.disk.busy_until = node.disk.busy_until.max(self.now_us) + delay;
                let (at, life) = (node.disk.busy_until, node.life);
                self.at(at, Event::Persisted { node: index, life, id });
            }
            Output::Send { to, message } => {
                self.count_message(&message);
                self.send(index, to, message)?;
            }
            Output::Execute { sequence, body, digest, view } => {
                self.note(|| format!("{index} executes {sequence} of view {view}: {digest:?}"));
                let node = &mut self.nodes[usize::from(index)];
                if correct && !node.has_durable_body(sequence, &digest) {
                    return Err(format!("node {index} executes {sequence} without a durable body"));
                }
                let expected = node.to_execute.last().map_or(node.ledger.height(), |last| last.0) + 1;
                if sequence > expected {
                    return Err(format!("node {index} executes {sequence} after {}", expected - 1));
                }
                node.to_execute.push((sequence, body));
                let life = node.life;
                if correct {
                    self.oracle.on_execute(sequence, digest)?;
                }
                let delay = self.random.between(0, self.plan.execution_us_max);
                self.after(delay, Event::Execute { node: index, life });
            }
            Output::Stable(certificate) => {
                self.note(|| format!("{index} stable at {}", certificate.checkpoint.height));
                let node = &mut self.nodes[usize::from(index)];
                if correct {
                    self.oracle.on_stable(&certificate, &node.config, &node.keys)?;
                }
                node.stable = Some(certificate);
            }
            Output::NeedSync { certificate, candidates, .. } => {
                let height = certificate.checkpoint.height;
                let node = &mut self.nodes[usize::from(index)];
                if node.syncing || candidates.is_empty() {
                    return Ok(());
                }
                node.syncing = true;
                self.counts.entry("syncs").and_modify(|count| *count += 1).or_insert(1);
                let life = node.life;
                let (from, delay) = (self.random.one_of(&candidates), self.random.between(1_000, 50_000));
                self.note(|| format!("{index} syncs to {height} from {from}"));
                self.after(delay, Event::Sync { node: index, life, from, height });
            }
            Output::Evidence(evidence) => {
                self.count("evidence");
                self.note(|| format!("{index} has evidence against {}", evidence.replica));
                if self.nodes[usize::from(evidence.replica)].is_correct() {
                    return Err(format!("evidence against correct replica {}", evidence.replica));
                }
            }
            Output::Diverged { certificate, .. } if correct => {
                return Err(format!("node {index} diverges at {}", certificate.checkpoint.height));
            }
            Output::Diverged { .. } => {}
            Output::Event(event) => {
                self.note(|| format!("{index} says {event:?}"));
                let everyone_correct = self.plan.behaviours.iter().all(|one| *one == Behaviour::Correct);
                match &event {
                    Note::ViewEntered { .. } => self.count("views entered"),
                    Note::ViewWished { .. } => self.count("views wished"),
                    Note::ProposalRefused { .. } => self.count("proposals refused"),
                    Note::PeerMisbehaved { .. } => self.count("misbehaviour"),
                    _ => {}
                }
                match event {
                    Note::ShellMisbehaved(what) => return Err(format!("node {index}: {what}")),
                    Note::PeerMisbehaved { peer, what } if everyone_correct => {
                        return Err(format!("node {index} blames correct {peer}: {what}"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, index: u8, to: To, message: Bytes) -> Result<(), String> {
        let node = &self.nodes[usize::from(index)];
        if node.is_correct() {
            self.oracle.on_send(index, &message)?;
            if to == To::All {
                self.oracle.on_open(index, &message)?;
            }
        }
        let (behaviour, config, keys) = (node.behaviour, &node.config, &node.keys);
        let mut attacker = Attacker { behaviour, config, keys, seen: &mut self.seen };
        let sent = attacker.distort(to, message, &mut self.random);
        for (peer, bytes) in sent {
            self.transmit(index, peer, bytes);
        }
        Ok(())
    }

    fn transmit(&mut self, from: ReplicaIndex, to: ReplicaIndex, bytes: Bytes) {
        let faulty = self.healed_at_us.is_none();
        if self.is_cut(from, to) || (faulty && self.random.permille(self.plan.lost_permille)) {
            self.lose(from, to);
            return;
        }
        let copies = if faulty && self.random.permille(self.plan.repeated_permille) { 2 } else { 1 };
        for _ in 0..copies {
            let longest = if faulty { self.plan.delay_us_max } else { self.plan.delay_us_max.min(20_000) };
            let delay = self.random.between(50, longest.max(51));
            self.after(delay, Event::Deliver { from, to, bytes: bytes.clone() });
        }
    }

    fn is_cut(&self, one: u8, other: u8) -> bool {
        (self.cut >> one) & 1 != (self.cut >> other) & 1
    }

    /// A message was lost: the link will say so to both ends.
    fn lose(&mut self, from: u8, to: u8) {
        let link = (from.min(to), from.max(to));
        if self.broken.insert(link) {
            let delay = self.random.between(5_000, 200_000);
            self.after(delay, Event::Reconnect { one: link.0, other: link.1 });
        }
    }

    fn reconnect(&mut self, one: u8, other: u8) -> Result<(), String> {
        let up = |node: u8| self.nodes[usize::from(node)].replica.is_some();
        if self.is_cut(one, other) || !up(one) || !up(other) {
            // It is tried again when the cut ends or the node comes back.
            return Ok(());
        }
        self.broken.remove(&(one, other));
        self.input(one, Input::Reconnected { peer: other })?;
        self.input(other, Input::Reconnected { peer: one })
    }

    fn reconnect_all(&mut self) -> Result<(), String> {
        for (one, other) in self.broken.clone() {
            self.reconnect(one, other)?;
        }
        Ok(())
    }

    fn execute(&mut self, index: u8) -> Result<(), String> {
        let node = &mut self.nodes[usize::from(index)];
        if node.to_execute.is_empty() {
            return Ok(());
        }
        let (sequence, body) = node.to_execute.remove(0);
        if sequence <= node.ledger.height() {
            return Ok(());
        }
        node.ledger.apply(body, node.config.checkpoint_interval);
        let block = node.ledger.block(sequence).ok_or("a block is missing after it was applied")?;
        let effective = block.effective.clone();
        let checkpoint = block.checkpoint.then(|| node.ledger.checkpoint(&node.config, sequence)).flatten();
        if node.is_correct() {
            self.oracle.on_effective(sequence, &effective)?;
        }
        self.input(index, Input::Executed { sequence, checkpoint })
    }

    fn sync(&mut self, index: u8, from: u8, height: Sequence) -> Result<(), String> {
        self.nodes[usize::from(index)].syncing = false;
        let source = &self.nodes[usize::from(from)];
        let reachable = source.replica.is_some() && source.is_correct() && !self.is_cut(index, from);
        let certificate = source.stable.clone().filter(|stable| reachable && stable.checkpoint.height >= height);
        let Some(certificate) = certificate else { return Ok(()) };
        let target = certificate.checkpoint.height;
        let bodies: Vec<Bytes> =
            source.ledger.blocks().iter().take(target as usize).map(|block| block.body.clone()).collect();
        let node = &mut self.nodes[usize::from(index)];
        while node.ledger.height() < target {
            let next = node.ledger.height();
            node.ledger.apply(bodies[next as usize].clone(), node.config.checkpoint_interval);
            node.synced.insert(next + 1);
        }
        if node.is_correct() && node.ledger.checkpoint(&node.config, target).as_ref() != Some(&certificate.checkpoint) {
            return Err(format!("node {index} fetched blocks that do not fit the certificate at {target}"));
        }
        let (origins, executed) = (node.ledger.origins(), node.ledger.height());
        self.input(index, Input::Synced { certificate, origins, executed })
    }

    fn submit(&mut self, index: u8) -> Result<(), String> {
        let node = &mut self.nodes[usize::from(index)];
        let room = node.replica.as_ref().map_or(0, |replica| replica.room());
        if room == 0 || node.behaviour == Behaviour::Silent {
            return Ok(());
        }
        let envelope = node.next_envelope();
        self.input(index, Input::Submit(envelope))
    }

    fn crash(&mut self, index: u8) {
        self.note(|| format!("{index} crashes"));
        self.count("crashes");
        let node = &mut self.nodes[usize::from(index)];
        if node.replica.is_some() {
            node.crash(&mut self.random);
            self.ticks[usize::from(index)] = None;
        }
    }

    fn restart(&mut self, index: u8) -> Result<(), String> {
        if self.nodes[usize::from(index)].crash_after.is_some() {
            self.crash(index);
        }
        let (real_keys, now_ms) = (self.plan.real_keys, self.now_ms());
        let node = &mut self.nodes[usize::from(index)];
        if node.replica.is_some() {
            return Ok(());
        }
        let outputs = node.start(real_keys, now_ms).map_err(|error| format!("node {index}: {error}"))?;
        let height = node.ledger.height();
        self.note(|| format!("{index} starts at {height}"));
        self.perform(index, outputs)?;
        for peer in (0..self.plan.n as u8).filter(|peer| *peer != index) {
            self.lose(index, peer);
            let delay = self.random.between(1_000, 50_000);
            self.after(delay, Event::Reconnect { one: index.min(peer), other: index.max(peer) });
        }
        Ok(())
    }

    fn join(&mut self) -> Result<(), String> {
        self.note(|| "the network joins".into());
        self.cut = 0;
        self.reconnect_all()
    }

    /// The second phase: no more faults but the Byzantine nodes, and new requests.
    fn heal(&mut self) -> Result<(), String> {
        self.note(|| "everything heals".into());
        self.healed_at_us = Some(self.now_us);
        self.cut = 0;
        self.nodes.iter_mut().for_each(|node| node.crash_after = None);
        for node in 0..self.plan.n as u8 {
            self.restart(node)?;
        }
        self.reconnect_all()?;
        for node in 0..self.plan.n as u8 {
            for _ in 0..3 {
                let delay = self.random.between(0, 2_000_000);
                self.after(delay, Event::Submit { node });
            }
        }
        Ok(())
    }
}

fn describe(input: &Input) -> String {
    match input {
        Input::Message { from, bytes } => match Message::from_wire(bytes) {
            Ok((_, message)) => format!("{from}: {}", describe_message(&message)),
            Err(error) => format!("{from}: {error}"),
        },
        Input::Submit(envelope) => format!("submit {}", envelope.header.number),
        Input::Executed { sequence, checkpoint } => format!("executed {sequence} {}", checkpoint.is_some()),
        Input::Synced { executed, .. } => format!("synced {executed}"),
        other => format!("{other:?}"),
    }
}

fn describe_message(message: &Message) -> String {
    match message {
        Message::Submit(envelope) => format!("submit {}/{}", envelope.header.origin, envelope.header.number),
        Message::Complain(envelope) => format!("complain {}/{}", envelope.header.origin, envelope.header.number),
        Message::PrePrepare(it) => format!("pre-prepare v{} s{} {:?}", it.view, it.sequence, it.digest),
        Message::Prepare(it) => format!("prepare v{} s{} {:?}", it.view, it.sequence, it.digest),
        Message::Commit(it) => format!("commit v{} s{} {:?}", it.view, it.sequence, it.digest),
        Message::Checkpoint(it) => format!("checkpoint {}", it.checkpoint.height),
        Message::ViewChange(it) => format!("view-change v{} of {}", it.view, it.replica),
        Message::NewView(it) => format!("new-view v{}", it.view),
        Message::Status(it) => format!("status {it:?}"),
        Message::Fetch(it) => format!("fetch s{} {:?}", it.sequence, it.digest),
        Message::Body(it) => format!("body s{}", it.sequence),
        Message::Stable(it) => format!("stable {}", it.checkpoint.height),
    }
}

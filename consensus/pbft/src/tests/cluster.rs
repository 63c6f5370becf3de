//! A cluster in a test's hand: time stands still, links deliver at once, disks are as quick as the test allows.

use crate::io::{Event, Evidence, Input, Output, PersistId, Restored, To};
use crate::message::Message;
use crate::replica::Replica;
use crate::simulator::Plan;
use crate::simulator::keys::Keys;
use crate::simulator::ledger::Ledger;
use crate::{Config, ReplicaIndex, Sequence, Signatures};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::transaction::Commit;
use waybill_types::{Body, Certificate, Codec, Digest, Envelope, NodeId, Transaction};

pub(super) const NOW_MS: u64 = 1_800_000_000_000;

/// One node of it.
pub(super) struct Node {
    pub replica: Option<Replica<Keys>>,
    pub config: Config,
    pub keys: Keys,
    pub ledger: Ledger,
    pub records: Vec<Bytes>,
    /// Of those, how many of this life the replica knows to be durable.
    pub reported: u64,
    issued: u64,
    /// A slow disk reports nothing until [`Cluster::sync_disk`].
    pub slow_disk: bool,
    pub stable: Option<Certificate>,
    pub submitted: u64,
    /// Everything that it sent, in order.
    pub sent: Vec<(To, Message)>,
    pub events: Vec<Event>,
    pub evidence: Vec<Evidence>,
    pub need_sync: Vec<Certificate>,
    pub diverged: bool,
}

type Rule = Box<dyn Fn(ReplicaIndex, ReplicaIndex, &Message) -> bool>;

pub(super) struct Cluster {
    pub nodes: Vec<Node>,
    pub now: u64,
    queue: VecDeque<(ReplicaIndex, ReplicaIndex, Bytes)>,
    /// What gets through.
    rule: Rule,
    /// The shell fetches blocks when it is asked to.
    pub fetches_blocks: bool,
}

impl Cluster {
    /// `n` replicas that have executed the first body, K = 16.
    pub(super) fn new(n: usize) -> Cluster {
        Cluster::with(n, |_| {})
    }

    /// The same with other settings.
    pub(super) fn with(n: usize, set: impl Fn(&mut Config)) -> Cluster {
        let mut cluster = Cluster::stopped(n, set);
        for index in 0..n {
            cluster.start(index);
        }
        cluster.run();
        cluster.pass(30);
        cluster
    }

    /// `n` nodes that have not started.
    pub(super) fn stopped(n: usize, set: impl Fn(&mut Config)) -> Cluster {
        let mut plan = Plan::from_seed(0, n);
        plan.checkpoint_interval = 16;
        plan.limits = crate::Limits::default();
        let node = |index: u8| {
            let mut config = plan.config(index);
            set(&mut config);
            Node {
                replica: None,
                config,
                keys: Keys::of(index, false),
                ledger: Ledger::default(),
                records: Vec::new(),
                reported: 0,
                issued: 0,
                slow_disk: false,
                stable: None,
                submitted: 0,
                sent: Vec::new(),
                events: Vec::new(),
                evidence: Vec::new(),
                need_sync: Vec::new(),
                diverged: false,
            }
        };
        let nodes = (0..n as u8).map(node).collect();
        Cluster { nodes, now: NOW_MS, queue: VecDeque::new(), rule: Box::new(|_, _, _| true), fetches_blocks: true }
    }

    /// Starts a node from its records and its ledger.
    pub(super) fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let restored = Restored {
            stable: node.stable.clone(),
            executed: node.ledger.height(),
            origins: node.ledger.origins(),
            records: node.records.clone(),
        };
        node.reported = 0;
        node.issued = 0;
        let mut out = Vec::new();
        let keys = Keys::of(index as u8, false);
        node.replica = Some(Replica::start(node.config.clone(), keys, restored, self.now, &mut out).unwrap());
        self.perform(index, out);
    }

    pub(super) fn replica(&self, index: usize) -> &Replica<Keys> {
        self.nodes[index].replica.as_ref().unwrap()
    }

    /// The replica that is the primary of a view.
    pub(super) fn primary_of(&self, view: u64) -> usize {
        usize::from(self.nodes[0].config.primary(view))
    }

    /// Lets only those messages through for which the rule holds.
    pub(super) fn pass_only(&mut self, rule: impl Fn(ReplicaIndex, ReplicaIndex, &Message) -> bool + 'static) {
        self.rule = Box::new(rule);
    }

    /// Cuts some nodes off.
    pub(super) fn cut_off(&mut self, cut: &[usize]) {
        let cut: Vec<u8> = cut.iter().map(|index| *index as u8).collect();
        self.pass_only(move |from, to, _| !cut.contains(&from) && !cut.contains(&to));
    }

    /// Everything gets through again, and all ends learn that something may have been lost.
    pub(super) fn heal(&mut self) {
        self.rule = Box::new(|_, _, _| true);
        let n = self.nodes.len();
        for (one, other) in (0..n).flat_map(|one| (0..n).map(move |other| (one, other))) {
            if one != other && self.nodes[other].replica.is_some() {
                self.input(one, Input::Reconnected { peer: other as u8 });
            }
        }
        self.run();
    }

    /// Feeds one input and performs what comes out, except that messages wait for [`Cluster::run`].
    pub(super) fn input(&mut self, index: usize, input: Input) {
        let now = self.now;
        let mut out = Vec::new();
        let Some(replica) = self.nodes[index].replica.as_mut() else { return };
        replica.handle(now, input, &mut out);
        self.perform(index, out);
    }

    /// Gives a node a message of a peer, as if it had come over the link.
    pub(super) fn inject(&mut self, from: usize, to: usize, message: &Message) {
        self.input(to, Input::Message { from: from as u8, bytes: message.to_wire(1) });
    }

    /// Delivers until nothing is under way.
    pub(super) fn run(&mut self) {
        let mut steps = 0;
        loop {
            self.fetch_blocks();
            let Some((from, to, bytes)) = self.queue.pop_front() else { return };
            steps += 1;
            assert!(steps < 100_000, "the replicas talk without end");
            let message = Message::from_wire(&bytes).unwrap().1;
            if (self.rule)(from, to, &message) {
                self.input(usize::from(to), Input::Message { from, bytes });
            }
        }
    }

    /// The shells' part of catching up.
    fn fetch_blocks(&mut self) {
        if !self.fetches_blocks {
            return;
        }
        for index in 0..self.nodes.len() {
            let height = self.nodes[index].ledger.height();
            let wanted = self.nodes[index].need_sync.last().filter(|wanted| wanted.checkpoint.height > height);
            let Some(certificate) = wanted.cloned() else { continue };
            let executed = certificate.checkpoint.height;
            let source = self.nodes.iter().find(|node| node.ledger.height() >= executed).unwrap();
            let blocks = source.ledger.blocks()[height as usize..executed as usize].to_vec();
            let node = &mut self.nodes[index];
            blocks.into_iter().for_each(|block| node.ledger.apply(block.body, node.config.checkpoint_interval));
            let origins = node.ledger.origins();
            self.input(index, Input::Synced { certificate, origins, executed });
        }
    }

    /// Lets time pass, in steps of one millisecond where a timer is due.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            for index in 0..self.nodes.len() {
                self.input(index, Input::Tick);
            }
            self.run();
            if self.next_due() == Some(due) {
                self.now += 1;
            }
        }
        self.now = end;
    }

    fn next_due(&self) -> Option<u64> {
        self.nodes.iter().filter_map(|node| node.replica.as_ref()?.next_timeout()).min()
    }

    /// Submits one envelope at a node and lets it run.
    pub(super) fn submit(&mut self, index: usize) {
        let envelope = self.envelope(index);
        self.input(index, Input::Submit(envelope));
        self.run();
    }

    /// A node's next envelope.
    pub(super) fn envelope(&mut self, index: usize) -> Envelope {
        let node = &mut self.nodes[index];
        node.submitted += 1;
        envelope(&node.config, &node.keys, index as u32, node.submitted - 1)
    }

    /// A slow disk catches up.
    pub(super) fn sync_disk(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.issued > node.reported {
            node.reported = node.issued;
            let id = PersistId(node.issued);
            self.input(index, Input::Persisted(id));
        }
    }

    pub(super) fn heights(&self) -> Vec<Sequence> {
        self.nodes.iter().map(|node| node.ledger.height()).collect()
    }

    /// All ledgers are the same up to the lowest.
    pub(super) fn assert_agreement(&self) {
        let lowest = self.heights().into_iter().min().unwrap();
        for height in 1..=lowest {
            let heads: Vec<_> = self.nodes.iter().map(|node| node.ledger.block(height).unwrap().head).collect();
            assert!(heads.iter().all(|head| *head == heads[0]), "height {height}");
        }
    }

    /// What took effect, of which origin, in order.
    pub(super) fn effective(&self, index: usize) -> Vec<(u32, u64)> {
        let blocks = self.nodes[index].ledger.blocks();
        blocks.iter().flat_map(|block| &block.effective).map(|(origin, _, number)| (origin.0, *number)).collect()
    }

    fn perform(&mut self, index: usize, outputs: Vec<Output>) {
        for output in outputs {
            let node = &mut self.nodes[index];
            match output {
                Output::Persist { id, record } => {
                    node.records.push(record);
                    node.issued = id.0;
                }
                Output::Send { to, message } => {
                    node.sent.push((to, Message::from_wire(&message).unwrap().1));
                    let receivers: Vec<u8> = match to {
                        To::All => node.config.peers().collect(),
                        To::One(peer) => vec![peer],
                    };
                    self.queue.extend(receivers.into_iter().map(|to| (index as u8, to, message.clone())));
                }
                Output::Execute { sequence, body, .. } => {
                    assert_eq!(sequence, node.ledger.height() + 1);
                    node.ledger.apply(body, node.config.checkpoint_interval);
                    let checkpoint = node.ledger.block(sequence).unwrap().checkpoint;
                    let checkpoint = checkpoint.then(|| node.ledger.checkpoint(&node.config, sequence).unwrap());
                    self.input(index, Input::Executed { sequence, checkpoint });
                }
                Output::Stable(certificate) => node.stable = Some(certificate),
                Output::NeedSync { certificate, .. } => node.need_sync.push(certificate),
                Output::Evidence(evidence) => node.evidence.push(evidence),
                Output::Diverged { .. } => node.diverged = true,
                Output::Event(event) => node.events.push(event),
            }
        }
        if !self.nodes[index].slow_disk {
            self.sync_disk(index);
        }
    }
}

/// An envelope of incarnation 1.
pub(super) fn envelope(config: &Config, keys: &Keys, origin: u32, number: u64) -> Envelope {
    let commit = Commit { group: Digest([origin as u8; 32]), offset: number as i64 };
    let sign = |preimage: &[u8]| keys.sign(preimage);
    Envelope::new(config.cluster, NodeId(origin), 1, number, vec![Transaction::Commit(commit)], sign)
}

/// A body of envelopes, without a flag.
pub(super) fn body(envelopes: Vec<Envelope>) -> Bytes {
    Body { proposed_time_ms: NOW_MS, checkpoint: false, config: None, envelopes }.to_bytes()
}

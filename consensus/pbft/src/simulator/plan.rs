//! What a seed stands for.

use super::keys::Keys;
use super::random::Random;
use crate::config::{Config, Limits, Timing};
use std::collections::BTreeMap;
use waybill_types::membership::{Member, Membership, faults};
use waybill_types::{Body, ClusterId, Codec, Digest, LedgerId, NetworkId, NodeId, OrgId};

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// By the protocol.
    Correct,
    /// It says nothing, ever.
    Silent,
    /// As primary it proposes two bodies for a sequence, one to each half; its votes differ by receiver too.
    Equivocating,
    /// It repeats old messages, of its own and of others, and shifts numbers in its commits.
    Confusing,
    /// It leaves its certificates out of view changes, and opens views with proposals that do not follow.
    Lying,
}

/// A run's parameters.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed, also of everything decided on the way.
    pub seed: u64,
    /// How many replicas.
    pub n: usize,
    /// How each behaves.
    pub behaviours: Vec<Behaviour>,
    /// Ed25519 instead of the cheap signatures.
    pub real_keys: bool,
    /// The paper's K.
    pub checkpoint_interval: u64,
    /// Limits of the core.
    pub limits: Limits,
    /// Requests submitted while faults happen.
    pub requests: u64,
    /// How long faults happen.
    pub faulty_ms: u64,
    /// Of 1,000 messages, how many are lost; the link reports a reconnection afterwards.
    pub lost_permille: u64,
    /// Of 1,000 messages, how many come twice.
    pub repeated_permille: u64,
    /// The longest delay of a message.
    pub delay_us_max: u64,
    /// The longest time that a record takes to become durable.
    pub disk_us_max: u64,
    /// The longest time that a body takes to execute.
    pub execution_us_max: u64,
    /// How many times a node crashes.
    pub crashes: u64,
    /// How many times the network parts.
    pub partitions: u64,
}

impl Plan {
    /// Draws a plan.
    pub fn from_seed(seed: u64, n: usize) -> Plan {
        let mut random = Random::new(seed ^ 0x5eed);
        let mut behaviours = vec![Behaviour::Correct; n];
        for _ in 0..random.between(0, faults(n) as u64) {
            let index = random.between(0, n as u64 - 1) as usize;
            let faulty = [Behaviour::Silent, Behaviour::Equivocating, Behaviour::Confusing, Behaviour::Lying];
            behaviours[index] = random.one_of(&faulty);
        }
        let calm = random.permille(150);
        // Nodes and links come and go faster than views.
        let storm = !calm && random.permille(400);
        let limits = Limits {
            window: random.one_of(&[1, 2, 4, 8]),
            body_envelopes: random.one_of(&[1, 3, 100]),
            ..Limits::default()
        };
        Plan {
            seed,
            n,
            behaviours,
            real_keys: false,
            checkpoint_interval: random.one_of(&[1, 2, 4, 8, 16]),
            limits,
            requests: random.between(30, 90),
            faulty_ms: random.between(3_000, 12_000),
            lost_permille: if calm { 0 } else { random.one_of(&[0, 2, 10, 50]) },
            repeated_permille: random.one_of(&[0, 20]),
            delay_us_max: random.one_of(&[500, 5_000, 50_000, 200_000]),
            disk_us_max: random.one_of(&[100, 1_000, 20_000]),
            execution_us_max: random.one_of(&[0, 500, 10_000]),
            crashes: if calm { 0 } else { random.between(0, if storm { 30 } else { 6 }) },
            partitions: if calm { 0 } else { random.between(0, if storm { 20 } else { 3 }) },
        }
    }

    /// The configuration of one replica.
    pub fn config(&self, me: u8) -> Config {
        let network = NetworkId(Digest([9; 32]));
        let ledger = LedgerId::SYSTEM;
        let first_body = Body { proposed_time_ms: 1, ..Body::default() }.to_bytes();
        let members: Vec<Member> = (0..self.n as u8).map(|index| self.member(index)).collect();
        Config {
            network,
            ledger,
            cluster: ClusterId::new(network, ledger, Body::digest(&first_body)),
            me,
            base: 0,
            origins: members.iter().map(|member| (member.node, member.key)).collect::<BTreeMap<_, _>>(),
            membership: Membership { epoch: 1, members },
            first_body,
            checkpoint_interval: self.checkpoint_interval,
            limits: self.limits,
            timing: Timing::default(),
        }
    }

    fn member(&self, index: u8) -> Member {
        let org = OrgId::new(&format!("org-{index}")).unwrap_or_else(|_| unreachable!("a DNS label"));
        Member { node: NodeId(u32::from(index)), org, key: Keys::of(index, self.real_keys).public() }
    }
}

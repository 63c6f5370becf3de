//! A network in memory for tests: keys, chains that the real contracts execute, certificates by chosen replicas.

use super::{Deliveries, LedgerSource, Level, SourceError, SystemSource};
use crate::contract::{Call, Contract, SystemState};
use crate::genesis::{Genesis, GenesisNode, GenesisOrg};
use crate::partition::SignedLeaf;
use bytes::Bytes;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::collections::BTreeMap;
use waybill_types::merkle::{self, Frontier};
use waybill_types::transaction::{Commit, CreateTopic, Receive, Refuse, Retrieve, Send, SystemChange};
use waybill_types::{
    Block, Body, Certificate, Checkpoint, ClusterId, Codec, Commitment, Digest, Envelope, Header, Height, Leaf,
    LedgerId, Membership, NodeId, Offset, OrgId, Origins, Outcome, PublicKey, Salt, Signature, TopicId, Transaction,
};

/// 2023-11-14T22:13:20Z.
pub(crate) const START_MS: u64 = 1_700_000_000_000;
pub(crate) const ORDERS: TopicId = TopicId([0xab; 16]);
pub(crate) const ORDERS_0: LedgerId = LedgerId::new(ORDERS, 0);

pub(crate) fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

/// Node n signs with the seed that consists of n's.
pub(crate) fn sign(node: NodeId, preimage: &[u8]) -> Signature {
    let key = Ed25519KeyPair::from_seed_unchecked(&[node.0 as u8; 32]).unwrap();
    Signature(key.sign(preimage).as_ref().try_into().unwrap())
}

/// A genesis whose node n belongs to the n-th of `orgs`, counted from 1; all order the system ledger.
pub(crate) fn genesis(orgs: &[&str]) -> Genesis {
    let key = |number: u32| {
        let key = Ed25519KeyPair::from_seed_unchecked(&[number as u8; 32]).unwrap();
        PublicKey(key.public_key().as_ref().try_into().unwrap())
    };
    let mut names = orgs.to_vec();
    names.sort_unstable();
    names.dedup();
    let organisations = names.iter().map(|name| GenesisOrg {
        id: org(name),
        ca_certificate: Bytes::from_static(b"not used here"),
        root_key: PublicKey([9; 32]),
    });
    let nodes = (1..).zip(orgs).map(|(number, name)| GenesisNode {
        id: NodeId(number),
        org: org(name),
        key: key(number),
        peer_address: format!("127.0.0.1:{number}"),
        connector_address: None,
    });
    Genesis {
        name: "test".into(),
        created_ms: START_MS,
        organisations: organisations.collect(),
        nodes: nodes.collect(),
        system_replicas: (1..=orgs.len() as u32).map(NodeId).collect(),
    }
}

/// acme and globex trade, initech and umbrella witness.
pub(crate) fn four() -> Genesis {
    genesis(&["acme", "globex", "initech", "umbrella"])
}

/// One ledger's blocks, executed by its real contract.
pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    pub(crate) ledger: LedgerId,
    pub(crate) cluster: ClusterId,
    pub(crate) membership: Membership,
    pub(crate) blocks: Vec<Block>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) certificates: Vec<Certificate>,
    contract: Contract,
    origins: Origins,
    tree: Frontier,
    numbers: BTreeMap<NodeId, u64>,
}

impl Chain {
    pub(crate) fn system(genesis: &Genesis) -> Self {
        Chain::begin(genesis, LedgerId::SYSTEM, genesis.system_body(), genesis.system_membership())
    }

    pub(crate) fn partition(genesis: &Genesis, system: &Chain, ledger: LedgerId) -> Self {
        let mut state = None;
        SystemState::replay(&mut state, &system.leaves);
        let state = state.unwrap();
        Chain::begin(genesis, ledger, state.first_body(ledger).unwrap(), state.membership(ledger).unwrap())
    }

    fn begin(genesis: &Genesis, ledger: LedgerId, body: Body, membership: Membership) -> Self {
        let cluster = ClusterId::new(genesis.network_id(), ledger, Body::digest(&body.to_bytes()));
        let mut chain = Chain {
            genesis: genesis.clone(),
            ledger,
            cluster,
            membership,
            blocks: Vec::new(),
            leaves: Vec::new(),
            certificates: Vec::new(),
            contract: Contract::begin(ledger, body.config.clone().unwrap()).unwrap(),
            origins: Origins::default(),
            tree: Frontier::default(),
            numbers: BTreeMap::new(),
        };
        chain.execute_body(body);
        chain
    }

    /// Executes one envelope per group, and returns the outcomes.
    pub(crate) fn execute(&mut self, time_ms: u64, groups: Vec<(u32, Vec<Transaction>)>) -> Vec<Outcome> {
        let envelopes = groups.into_iter().map(|(node, transactions)| {
            let node = NodeId(node);
            let number = self.numbers.entry(node).or_default();
            *number += 1;
            Envelope::new(self.cluster, node, 0, *number - 1, transactions, |preimage| sign(node, preimage))
        });
        let body = Body { proposed_time_ms: time_ms, checkpoint: true, config: None, envelopes: envelopes.collect() };
        self.execute_body(body)
    }

    fn execute_body(&mut self, body: Body) -> Vec<Outcome> {
        let height = self.blocks.len() as Height + 1;
        let before = self.blocks.last().map(|block| block.header.clone());
        let time_ms = body.proposed_time_ms.max(before.as_ref().map_or(0, |header| header.time_ms));
        let mut next_offset = before.as_ref().map_or(0, |header| header.next_offset);
        let mut leaves = Vec::new();
        if let Some(config) = &body.config {
            let transaction = Transaction::Config(config.clone());
            leaves.push(Leaf { height, time_ms, origin: None, transaction, outcome: Outcome::Recorded });
        }
        self.contract.begin_block(time_ms);
        for envelope in &body.envelopes {
            assert!(self.origins.advance(&envelope.header));
            for (place, transaction) in (0..).zip(&envelope.transactions) {
                let call = Call { origin: envelope.header.origin, height, time_ms, next_offset };
                let (outcome, _) = self.contract.execute(&call, transaction);
                if let (Transaction::Send(send), Outcome::Appended { .. }) = (transaction, outcome) {
                    next_offset += i64::from(send.record_count);
                }
                let origin = Some((envelope.header, place));
                leaves.push(Leaf { height, time_ms, origin, transaction: transaction.clone(), outcome });
            }
        }
        leaves.iter().for_each(|leaf| self.tree.push(leaf.hash()));
        let encoded = body.to_bytes();
        let header = Header {
            ledger: self.ledger,
            height,
            previous: before.map_or(Digest::ZERO, |header| header.hash()),
            body: Body::digest(&encoded),
            time_ms,
            next_offset,
            tree_size: self.tree.size(),
            tree_root: self.tree.root(),
        };
        let outcomes: Vec<_> = leaves.iter().map(|leaf| leaf.outcome).collect();
        self.blocks.push(Block { header, body: encoded, outcomes: outcomes.clone() });
        self.leaves.extend(leaves);
        outcomes
    }

    /// The replicas with these indices sign the last block, and the certificate is kept.
    pub(crate) fn certify(&mut self, signers: &[u8]) -> Certificate {
        let header = &self.blocks.last().unwrap().header;
        let checkpoint = Checkpoint {
            network: self.genesis.network_id(),
            ledger: self.ledger,
            cluster: self.cluster,
            epoch: 1,
            height: header.height,
            head: header.hash(),
            time_ms: header.time_ms,
            tree_size: header.tree_size,
            tree_root: header.tree_root,
            state_root: self.contract.state_root(&self.origins),
        };
        let certificate = self.signed(checkpoint, signers);
        self.certificates.push(certificate.clone());
        certificate
    }

    pub(crate) fn signed(&self, checkpoint: Checkpoint, signers: &[u8]) -> Certificate {
        let text = checkpoint.text();
        let node = |index: u8| self.membership.members[usize::from(index)].node;
        let signatures = signers.iter().map(|index| (*index, sign(node(*index), text.as_bytes()))).collect();
        Certificate { checkpoint, signatures }
    }
}

impl LedgerSource for Chain {
    fn ledger(&self) -> LedgerId {
        self.ledger
    }
    fn signed_leaf(&self, index: u64) -> Result<Option<SignedLeaf>, SourceError> {
        let Some(leaf) = self.leaves.get(index as usize).cloned() else { return Ok(None) };
        let body = Body::from_bytes(&self.blocks[leaf.height as usize - 1].body).unwrap();
        let signed = leaf.origin.map(|(header, place)| {
            let envelope = body.envelopes.iter().find(|envelope| envelope.header == header).unwrap();
            (envelope.signature, envelope.path(place as usize))
        });
        Ok(Some(SignedLeaf { leaf, signed }))
    }
    fn inclusion(&self, index: u64, tree_size: u64) -> Result<Option<Vec<Digest>>, SourceError> {
        let hashes: Vec<_> = self.leaves.iter().take(tree_size as usize).map(Leaf::hash).collect();
        Ok(Some(merkle::path(&hashes, index as usize)))
    }
    fn certificate_covering(&self, index: u64) -> Result<Option<Certificate>, SourceError> {
        Ok(self.certificates.iter().find(|certificate| certificate.checkpoint.tree_size > index).cloned())
    }
}

impl SystemSource for Chain {
    fn topic_created(&self, name: &str) -> Result<Option<u64>, SourceError> {
        let creates = |leaf: &Leaf| match &leaf.transaction {
            Transaction::System(SystemChange::CreateTopic(create)) => create.name == name,
            Transaction::System(SystemChange::AddPartitions(add)) => add.topic.name == name,
            _ => false,
        };
        Ok(self.leaves.iter().rposition(|leaf| leaf.outcome == Outcome::Recorded && creates(leaf)).map(|at| at as u64))
    }
}

impl Deliveries for Chain {
    fn deliveries(&self, offset: Offset) -> Result<Vec<(Level, OrgId, u64)>, SourceError> {
        let mut found = BTreeMap::new();
        let mut sender = None;
        for (index, leaf) in (0..).zip(&self.leaves) {
            let Some((header, _)) = &leaf.origin else { continue };
            let actor = self.genesis.members().into_iter().find(|member| member.node == header.origin).unwrap().org;
            let by_sender = sender.as_ref() == Some(&actor);
            let event = match (&leaf.transaction, leaf.outcome) {
                (Transaction::Send(send), Outcome::Appended { base_offset }) => {
                    let covers = (base_offset..base_offset + i64::from(send.record_count)).contains(&offset);
                    covers.then(|| {
                        sender = Some(actor.clone());
                        (Level::Sent, actor)
                    })
                }
                (_, Outcome::Rejected(_)) => None,
                (Transaction::Retrieve(retrieve), _) => ((retrieve.first..=retrieve.last).contains(&offset)
                    && by_sender)
                    .then(|| (Level::Retrieved, retrieve.receiver.clone())),
                (Transaction::Receive(receive), _) => {
                    (receive.first..=receive.last).contains(&offset).then_some((Level::Received, actor))
                }
                (Transaction::Commit(commit), _) => (commit.offset > offset).then_some((Level::Committed, actor)),
                (Transaction::Refuse(refuse), _) => {
                    (refuse.offset == offset && by_sender).then(|| (Level::Refused, refuse.to.clone()))
                }
                _ => None,
            };
            if let Some(event) = event {
                found.entry(event).or_insert(index);
            }
        }
        Ok(found.into_iter().map(|((level, org), index)| (level, org, index)).collect())
    }
}

pub(crate) fn create_orders(replicas: &[u32]) -> Transaction {
    create_topic("orders", ORDERS, replicas)
}

pub(crate) fn create_topic(name: &str, id: TopicId, replicas: &[u32]) -> Transaction {
    Transaction::System(SystemChange::CreateTopic(CreateTopic {
        name: name.into(),
        id,
        partitions: vec![replicas.iter().copied().map(NodeId).collect(); 2],
        readers: vec![org("globex")],
        writers: vec![],
        settings: vec![],
    }))
}

/// One more partition for `orders`, as far as this chain of the system ledger has come.
pub(crate) fn enlarge_orders(system: &Chain, replicas: &[u32]) -> Transaction {
    let mut state = None;
    SystemState::replay(&mut state, &system.leaves);
    let topic = state.as_ref().and_then(|state| state.topic(ORDERS)).unwrap();
    let placement = replicas.iter().copied().map(NodeId).collect();
    Transaction::System(SystemChange::AddPartitions(topic.with_further([placement])))
}

pub(crate) fn send(node: u32, records: u32) -> Transaction {
    Transaction::Send(Send {
        connector: NodeId(node),
        commitment: Commitment::new(&[b"payload"], &Salt([7; 32])),
        size_bytes: 100 * records,
        record_count: records,
        attributes: 0,
        base_timestamp_ms: START_MS as i64,
        max_timestamp_ms: START_MS as i64,
        producer: None,
    })
}

pub(crate) fn retrieve(receiver: &str, first: Offset, last: Offset) -> Transaction {
    Transaction::Retrieve(Retrieve { receiver: org(receiver), first, last, request: Digest([1; 32]) })
}

pub(crate) fn receive(first: Offset, last: Offset) -> Transaction {
    Transaction::Receive(Receive { first, last, salts: Digest([2; 32]) })
}

pub(crate) fn commit(offset: Offset) -> Transaction {
    Transaction::Commit(Commit { group: Digest([3; 32]), offset })
}

pub(crate) fn refuse(to: &str, offset: Offset) -> Transaction {
    Transaction::Refuse(Refuse { to: org(to), offset, reason: 1 })
}

/// The standard story: acme creates `orders`, sends three batches, globex takes and commits, initech is refused.
pub(crate) fn story(genesis: &Genesis) -> (Chain, Chain) {
    let mut system = Chain::system(genesis);
    system.certify(&[0, 1, 2]);
    assert_eq!(system.execute(START_MS + 1_000, vec![(1, vec![create_orders(&[1, 2, 3, 4])])]), [Outcome::Recorded]);
    system.certify(&[0, 1, 2]);
    let mut orders = Chain::partition(genesis, &system, ORDERS_0);
    orders.certify(&[0, 1, 2]);
    orders.execute(START_MS + 2_000, vec![(1, vec![send(1, 5), send(1, 1), send(1, 10)])]);
    orders.certify(&[0, 2, 3]);
    orders.execute(START_MS + 3_000, vec![(1, vec![retrieve("globex", 0, 5)]), (2, vec![receive(0, 5)])]);
    orders.execute(START_MS + 4_000, vec![(2, vec![commit(6)]), (1, vec![refuse("initech", 5)])]);
    orders.certify(&[1, 2, 3]);
    (system, orders)
}

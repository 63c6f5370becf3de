//! A small network, and bodies as PBFT would decide them.

use super::super::{Applied, BodyError, BodySource, Partition, Reader};
use crate::journal::Position;
use bytes::Bytes;
use parking_lot::Mutex;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::collections::BTreeMap;
use std::sync::Arc;
use waybill_types::digest::Hasher;
use waybill_types::transaction::{Commit, Config, Producer, Receive, Retrieve, Send};
use waybill_types::*;

pub const LEDGER: LedgerId = LedgerId { topic: TopicId([7; 16]), partition: 0 };
pub const INTERVAL: u64 = 8;

/// Owner, reader, writer, and one that may nothing; each has one node, and the four are the replicas.
pub const OWNER: NodeId = NodeId(1);
pub const READER: NodeId = NodeId(2);
pub const WRITER: NodeId = NodeId(3);
pub const WITNESS: NodeId = NodeId(4);

pub fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

pub fn key(node: NodeId) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[node.0 as u8; 32]).unwrap()
}

pub fn sign(node: NodeId, message: &[u8]) -> Signature {
    Signature(key(node).sign(message).as_ref().try_into().unwrap())
}

pub fn members() -> Vec<Member> {
    [(OWNER, "owner"), (READER, "reader"), (WRITER, "writer"), (WITNESS, "witness")]
        .map(|(node, name)| {
            let key = PublicKey(key(node).public_key().as_ref().try_into().unwrap());
            Member { node, org: org(name), key }
        })
        .to_vec()
}

pub fn config() -> Config {
    Config {
        version: 1,
        ledger: LEDGER,
        topic: "orders".into(),
        owner: org("owner"),
        readers: vec![org("reader")],
        writers: vec![org("writer")],
        origins: members(),
        batch_bytes_limit: 1000,
        log_append_time: false,
    }
}

pub fn network() -> NetworkId {
    NetworkId(Digest([1; 32]))
}

pub fn membership() -> Membership {
    Membership { epoch: 1, members: members() }
}

pub fn first_body() -> Body {
    Body { proposed_time_ms: 1000, checkpoint: true, config: Some(config()), envelopes: Vec::new() }
}

pub fn cluster() -> ClusterId {
    ClusterId::new(network(), LEDGER, Body::digest(&first_body().to_bytes()))
}

pub fn digest_of(number: u64) -> Digest {
    Hasher::digest(b"test", &number.to_be_bytes())
}

pub fn send(connector: NodeId, record_count: u32) -> Transaction {
    Transaction::Send(Send {
        connector,
        commitment: Commitment(digest_of(u64::from(record_count))),
        size_bytes: 100,
        record_count,
        attributes: 0,
        base_timestamp_ms: 500,
        max_timestamp_ms: 600,
        producer: None,
    })
}

pub fn send_at(connector: NodeId, record_count: u32, max_timestamp_ms: i64) -> Transaction {
    match send(connector, record_count) {
        Transaction::Send(send) => Transaction::Send(Send { max_timestamp_ms, ..send }),
        other => other,
    }
}

pub fn send_as(connector: NodeId, record_count: u32, producer: Producer) -> Transaction {
    match send(connector, record_count) {
        Transaction::Send(send) => Transaction::Send(Send { producer: Some(producer), ..send }),
        other => other,
    }
}

pub fn retrieve(receiver: &str, first: Offset, last: Offset) -> Transaction {
    Transaction::Retrieve(Retrieve { receiver: org(receiver), first, last, request: digest_of(1) })
}

pub fn receive(first: Offset, last: Offset) -> Transaction {
    Transaction::Receive(Receive { first, last, salts: digest_of(2) })
}

pub fn commit(offset: Offset) -> Transaction {
    Transaction::Commit(Commit { group: digest_of(3), offset })
}

/// Numbers envelopes and makes bodies of them.
#[derive(Clone, Default)]
pub struct Bodies {
    numbers: BTreeMap<NodeId, u64>,
    pub time_ms: u64,
}

impl Bodies {
    pub fn envelope(&mut self, origin: NodeId, transactions: Vec<Transaction>) -> Envelope {
        let number = self.numbers.entry(origin).or_default();
        let envelope = Envelope::new(cluster(), origin, 1, *number, transactions, |preimage| sign(origin, preimage));
        *number += 1;
        envelope
    }

    /// A body a millisecond after the one before.
    pub fn body(&mut self, checkpoint: bool, envelopes: Vec<(NodeId, Vec<Transaction>)>) -> Bytes {
        self.time_ms = self.time_ms.max(1000) + 1;
        let proposed_time_ms = self.time_ms;
        let envelopes =
            envelopes.into_iter().map(|(origin, transactions)| self.envelope(origin, transactions)).collect();
        Body { proposed_time_ms, checkpoint, config: None, envelopes }.to_bytes()
    }
}

/// A journal in memory: the position is the height.
#[derive(Default)]
pub struct FakeJournal(Mutex<BTreeMap<Position, Bytes>>);

impl FakeJournal {
    pub fn position(height: Height) -> Position {
        let mut bytes = [0; Position::BYTES];
        bytes[..8].copy_from_slice(&height.to_be_bytes());
        Position::from_bytes(bytes)
    }

    pub fn keep(&self, height: Height, body: Bytes) -> Position {
        let position = Self::position(height);
        self.0.lock().insert(position, body);
        position
    }
}

impl BodySource for FakeJournal {
    fn body(&self, position: Position) -> Result<Bytes, BodyError> {
        self.0.lock().get(&position).cloned().ok_or(BodyError::Missing)
    }
}

/// A partition with its journal and its database, run as a shell runs it.
pub struct Replica {
    pub db: sled::Tree,
    pub journal: Arc<FakeJournal>,
    pub partition: Partition,
    pub reader: Reader,
}

pub fn memory_db() -> sled::Tree {
    let db = sled::Config::new().temporary(true).cache_capacity(8 << 20).open().unwrap();
    (*db).clone()
}

impl Replica {
    pub fn open(db: sled::Tree, journal: Arc<FakeJournal>) -> Self {
        let (partition, reader) =
            Partition::open(db.clone(), network(), LEDGER, cluster(), membership(), INTERVAL, journal.clone()).unwrap();
        Replica { db, journal, partition, reader }
    }

    /// A fresh one that has executed its first block.
    pub fn started() -> Self {
        let mut replica = Replica::open(memory_db(), Arc::default());
        replica.apply(first_body().to_bytes());
        replica
    }

    pub fn apply(&mut self, body: Bytes) -> Applied {
        let height = self.partition.executed_height() + 1;
        let position = self.journal.keep(height, body.clone());
        self.partition.apply(height, body, position).unwrap()
    }

    /// Executes one body of one envelope and returns its outcomes.
    pub fn execute(&mut self, bodies: &mut Bodies, origin: NodeId, transactions: Vec<Transaction>) -> Vec<Outcome> {
        self.apply(bodies.body(false, vec![(origin, transactions)])).outcomes
    }

    /// Applies the journal's bodies that the database does not have.
    pub fn recover(&mut self) {
        while let Ok(body) = self.journal.body(FakeJournal::position(self.partition.executed_height() + 1)) {
            self.apply(body);
        }
    }

    pub fn flush(&mut self) -> bool {
        let Some(flush) = self.partition.take_flush() else { return false };
        let flushed = flush.write().unwrap();
        self.partition.flushed(flushed);
        true
    }
}

/// The certificate that the four replicas make of a checkpoint.
pub fn certificate(checkpoint: Checkpoint) -> Certificate {
    let text = checkpoint.text();
    let signatures = (0u8..).zip(members()).map(|(index, member)| (index, sign(member.node, text.as_bytes())));
    Certificate { signatures: signatures.take(3).collect(), checkpoint }
}

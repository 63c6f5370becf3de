//! One simulated node: a replica, its disk and its ledger.

use super::keys::Keys;
use super::ledger::Ledger;
use super::plan::{Behaviour, Plan};
use super::random::Random;
use crate::config::Config;
use crate::io::{Input, Output, PersistId, Restored};
use crate::record;
use crate::replica::Replica;
use crate::{Sequence, StartError};
use bytes::Bytes;
use std::collections::BTreeSet;
use waybill_types::{Certificate, Digest, Envelope, NodeId, Signature, Transaction, transaction};

pub(crate) struct Node {
    pub config: Config,
    pub behaviour: Behaviour,
    /// None while it is down.
    pub replica: Option<Replica<Keys>>,
    /// Grows with each crash: events for the life before are void.
    pub life: u64,
    pub disk: Disk,
    pub ledger: Ledger,
    pub stable: Option<Certificate>,
    /// The ledger's height that came by syncing: those bodies need no record of ours.
    pub synced: BTreeSet<Sequence>,
    /// Bodies that the replica has handed out and the ledger has not applied.
    pub to_execute: Vec<(Sequence, Bytes)>,
    pub syncing: bool,
    /// It crashes after so many more outputs, in the middle of performing them.
    pub crash_after: Option<u64>,
    /// How many envelopes it has signed in this life.
    pub submitted: u64,
    pub keys: Keys,
}

/// A journal: what is written may be lost, what is synced is not.
#[derive(Default)]
pub(crate) struct Disk {
    pub records: Vec<Bytes>,
    pub durable: usize,
    /// The record counts at the start of this life, to turn ids into positions.
    pub base: usize,
    /// When the last write will be durable: they complete in order.
    pub busy_until: u64,
}

impl Node {
    pub(crate) fn new(plan: &Plan, index: u8) -> Node {
        Node {
            config: plan.config(index),
            behaviour: plan.behaviours[usize::from(index)],
            replica: None,
            life: 0,
            disk: Disk::default(),
            ledger: Ledger::default(),
            stable: None,
            synced: BTreeSet::new(),
            to_execute: Vec::new(),
            syncing: false,
            crash_after: None,
            submitted: 0,
            keys: Keys::of(index, plan.real_keys),
        }
    }

    pub(crate) fn is_correct(&self) -> bool {
        self.behaviour == Behaviour::Correct
    }

    /// Starts with what the disk holds.
    pub(crate) fn start(&mut self, real_keys: bool, now_ms: u64) -> Result<Vec<Output>, StartError> {
        self.life += 1;
        self.submitted = 0;
        self.syncing = false;
        self.to_execute.clear();
        let stable = self.stable.as_ref().map_or(0, |certificate| certificate.checkpoint.height);
        let needed = self.disk.records.iter().filter(|record| record::needed(record, stable));
        let restored = Restored {
            stable: self.stable.clone(),
            executed: self.ledger.height(),
            origins: self.ledger.origins(),
            records: needed.cloned().collect(),
        };
        let keys = Keys::of(self.config.me, real_keys);
        let mut out = Vec::new();
        self.replica = Some(Replica::start(self.config.clone(), keys, restored, now_ms, &mut out)?);
        Ok(out)
    }

    /// Loses what was not synced, of records and of blocks, a part at random. Blocks under a stable checkpoint, or one
    /// that it has signed, are not lost.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        self.replica = None;
        self.crash_after = None;
        self.life += 1;
        let unsynced = (self.disk.records.len() - self.disk.durable) as u64;
        self.disk.records.truncate(self.disk.durable + random.between(0, unsynced) as usize);
        self.disk.durable = self.disk.records.len();
        self.disk.base = self.disk.durable;
        let stable = self.stable.as_ref().map_or(0, |certificate| certificate.checkpoint.height);
        let height = self.ledger.height();
        let newest_synced = self.synced.last().copied().unwrap_or(0);
        let signed = self.disk.records.iter().filter_map(record::checkpointed).max().unwrap_or(0);
        let kept = random.between(stable.max(newest_synced).max(signed).min(height), height);
        self.ledger.truncate(kept);
    }

    /// Whether the body of a sequence is in a durable record.
    pub(crate) fn has_durable_body(&self, sequence: Sequence, digest: &Digest) -> bool {
        let durable = self.disk.records.iter().take(self.disk.durable).rev();
        durable.filter_map(record::accepted).any(|stored| stored.sequence == sequence && stored.digest == *digest)
    }

    pub(crate) fn write(&mut self, record: Bytes) {
        self.disk.records.push(record);
    }

    pub(crate) fn synced_to(&mut self, id: PersistId) {
        self.disk.durable = self.disk.durable.max(self.disk.base + id.0 as usize);
    }

    pub(crate) fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(replica) = &mut self.replica {
            replica.handle(now_ms, input, &mut out);
        }
        out
    }

    /// The next envelope of this life.
    pub(crate) fn next_envelope(&mut self) -> Envelope {
        let commit = transaction::Commit { group: Digest([self.config.me; 32]), offset: self.submitted as i64 };
        let (cluster, origin) = (self.config.cluster, NodeId(u32::from(self.config.me)));
        let sign = |preimage: &[u8]| -> Signature { crate::Signatures::sign(&self.keys, preimage) };
        let envelope =
            Envelope::new(cluster, origin, self.life, self.submitted, vec![Transaction::Commit(commit)], sign);
        self.submitted += 1;
        envelope
    }
}

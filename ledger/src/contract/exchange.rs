//! The contract of a topic's partition: who may send, what was delivered, exactly-once appends.

use super::producers::{self, Producers, Sequenced};
use super::rights::{Rights, config_digest, rights_of, well_formed};
use super::{Call, may_read};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::codec_struct;
use waybill_types::digest::Hasher;
use waybill_types::transaction::{Commit, Config, Receive, Refuse, Retrieve, Send};
use waybill_types::{Digest, NodeId, Offset, OrgId, Outcome, Rejection, Transaction};

/// How many offsets one batch can take: far more than any client puts into one, and so few that offsets cannot be used
/// up by lying about it (2^39 batches of this size would be needed).
pub const RECORDS_PER_BATCH_MAX: u32 = 1 << 24;
/// How far a batch's timestamps can be ahead of the ledger's time: Kafka's default of `message.timestamp.after.max.ms`
/// (KIP-1030). One batch of a far future would be the answer to every search by time.
pub const TIMESTAMP_AFTER_MAX_MS: u64 = 60 * 60 * 1000;

/// Kafka's batch attributes: the compression, of which there are five.
const CODEC: i16 = 0x07;
const CODEC_MAX: i16 = 4;
/// Kafka's batch attributes: part of a transaction.
const TRANSACTIONAL: i16 = 1 << 4;
/// Kafka's batch attributes: a control batch, which only a coordinator writes.
const CONTROL: i16 = 1 << 5;

/// The state of one partition's contract.
#[derive(Debug)]
pub struct Exchange {
    config: Arc<Config>,
    /// Derived from the configuration.
    config_digest: Digest,
    /// Derived from the configuration.
    rights: BTreeMap<NodeId, Rights>,
    /// Derived from the configuration: who has a node, and so can ask for anything at all.
    organisations: BTreeSet<OrgId>,
    producers: Producers,
    log_start: Offset,
    /// Who has ever sent a batch: they may report what they served, also when they may send no more.
    senders: BTreeSet<OrgId>,
    /// How far a group of each organisation has ever committed.
    committed: BTreeMap<OrgId, Offset>,
}

impl Exchange {
    /// The state after the first block's configuration.
    pub(super) fn new(config: Arc<Config>) -> Self {
        Exchange {
            config_digest: config_digest(&config),
            rights: rights_of(&config),
            organisations: config.origins.iter().map(|member| member.org.clone()).collect(),
            config,
            producers: Producers::new(),
            log_start: 0,
            senders: BTreeSet::new(),
            committed: BTreeMap::new(),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The first offset that is not deleted.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Whose node this is.
    pub fn org_of(&self, node: NodeId) -> Option<&OrgId> {
        self.rights.get(&node).map(|rights| &rights.org)
    }

    /// The highest offset that a group of this organisation has ever committed, 0 before the first.
    pub fn committed(&self, org: &OrgId) -> Offset {
        self.committed.get(org).copied().unwrap_or(0)
    }

    pub(super) fn begin_block(&mut self, time_ms: u64) {
        self.producers.expire(time_ms);
    }

    /// Decides about one transaction, and changes the state accordingly.
    pub(super) fn execute(&mut self, call: &Call, transaction: &Transaction) -> Outcome {
        let Some(rights) = self.rights.get(&call.origin) else {
            return Outcome::Rejected(Rejection::NotAuthorised);
        };
        let rights = rights.clone();
        match transaction {
            Transaction::Send(send) => self.send(call, &rights, send),
            Transaction::Retrieve(retrieve) => recorded(self.retrieve(call, &rights, retrieve)),
            Transaction::Receive(receive) => recorded(self.receive(call, &rights, receive)),
            Transaction::Commit(commit) => recorded(self.commit(call, &rights, commit)),
            Transaction::Refuse(refuse) => recorded(self.refuse(call, &rights, refuse)),
            Transaction::Config(config) => recorded(self.configure(&rights, config)),
            Transaction::System(_) => Outcome::Rejected(Rejection::Invalid),
        }
    }

    /// The digest over the whole state.
    pub(super) fn root(&mut self) -> Digest {
        let mut rest = Vec::new();
        self.config_digest.encode(&mut rest);
        self.producers.root().encode(&mut rest);
        self.log_start.encode(&mut rest);
        encode_senders(&self.senders, &mut rest);
        encode_committed(&self.committed, &mut rest);
        Hasher::digest(b"waybill-exchange-v1", &rest)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            config: self.config.clone(),
            producers: self.producers.snapshot(),
            log_start: self.log_start,
            senders: self.senders.clone(),
            committed: self.committed.clone(),
        }
    }

    pub(super) fn restore(snapshot: Snapshot) -> Self {
        Exchange {
            producers: Producers::restore(snapshot.producers),
            log_start: snapshot.log_start,
            senders: snapshot.senders,
            committed: snapshot.committed,
            ..Exchange::new(snapshot.config)
        }
    }

    fn send(&mut self, call: &Call, rights: &Rights, send: &Send) -> Outcome {
        if let Err(rejection) = self.check_send(call, rights, send) {
            return Outcome::Rejected(rejection);
        }
        if let Some(producer) = &send.producer {
            match self.producers.check(&rights.org, producer, send.record_count) {
                Sequenced::Next => {}
                Sequenced::Duplicate(base_offset) => return Outcome::Duplicate { base_offset },
                Sequenced::Rejected(rejection) => return Outcome::Rejected(rejection),
            }
            self.producers.remember(&rights.org, producer, send.record_count, call.next_offset, call.time_ms);
        }
        if !self.senders.contains(&rights.org) {
            self.senders.insert(rights.org.clone());
        }
        Outcome::Appended { base_offset: call.next_offset }
    }

    /// All that can be said of a batch without its producer's history.
    fn check_send(&self, call: &Call, rights: &Rights, send: &Send) -> Result<(), Rejection> {
        if !rights.writes {
            return Err(Rejection::NotAuthorised);
        }
        // A connector speaks for itself: its node is the origin.
        if send.connector != call.origin {
            return Err(Rejection::NotAuthorised);
        }
        if send.size_bytes > self.config.batch_bytes_limit {
            return Err(Rejection::TooLarge);
        }
        // Transactions need markers to end them, which this contract does not know: an open one would hold the last
        // stable offset for ever. Control batches come from coordinators, never from clients.
        let plain = send.attributes & (TRANSACTIONAL | CONTROL) == 0 && send.attributes & CODEC <= CODEC_MAX;
        let counted = (1..=RECORDS_PER_BATCH_MAX).contains(&send.record_count);
        let sequenced =
            send.producer.is_none_or(|producer| producer.id >= 0 && producer.epoch >= 0 && producer.base_sequence >= 0);
        let fits = call.next_offset.checked_add(i64::from(send.record_count)).is_some();
        if !(plain && counted && sequenced && fits && send.size_bytes > 0) {
            return Err(Rejection::Invalid);
        }
        let latest_ms = i64::try_from(call.time_ms.saturating_add(TIMESTAMP_AFTER_MAX_MS)).unwrap_or(i64::MAX);
        // Where the ledger's time is the batch's, what the batch says does not count.
        if send.max_timestamp_ms > latest_ms && !self.config.log_append_time {
            return Err(Rejection::InvalidTimestamp);
        }
        Ok(())
    }

    /// The sender's connector reports what it served. That these very offsets were its own is left to whoever reads
    /// the report beside the `Send`: the state does not hold every batch's sender.
    fn retrieve(&self, call: &Call, rights: &Rights, retrieve: &Retrieve) -> Result<(), Rejection> {
        if !self.senders.contains(&rights.org) || !may_read(&self.config, &retrieve.receiver) {
            return Err(Rejection::NotAuthorised);
        }
        check_range(call, retrieve.first, retrieve.last)
    }

    fn receive(&self, call: &Call, rights: &Rights, receive: &Receive) -> Result<(), Rejection> {
        if !rights.reads {
            return Err(Rejection::NotAuthorised);
        }
        check_range(call, receive.first, receive.last)
    }

    fn commit(&mut self, call: &Call, rights: &Rights, commit: &Commit) -> Result<(), Rejection> {
        if !rights.reads {
            return Err(Rejection::NotAuthorised);
        }
        if !(0..=call.next_offset).contains(&commit.offset) {
            return Err(Rejection::OffsetOutOfRange);
        }
        // A group may go back (a reset); that it had come further stays true.
        if commit.offset > self.committed(&rights.org) {
            self.committed.insert(rights.org.clone(), commit.offset);
        }
        Ok(())
    }

    fn refuse(&self, call: &Call, rights: &Rights, refuse: &Refuse) -> Result<(), Rejection> {
        if !rights.writes && !self.senders.contains(&rights.org) {
            return Err(Rejection::NotAuthorised);
        }
        // Made-up names would stand in everybody's indices and audits.
        if !self.organisations.contains(&refuse.to) {
            return Err(Rejection::Invalid);
        }
        check_range(call, refuse.offset, refuse.offset)
    }

    /// The owner changes readers, writers and settings. Not the origins: whoever could put another key under another
    /// organisation's node could speak for it. And not the owner, who is the system ledger's to change.
    fn configure(&mut self, rights: &Rights, config: &Config) -> Result<(), Rejection> {
        if rights.org != self.config.owner {
            return Err(Rejection::NotAuthorised);
        }
        if config.origins != self.config.origins || config.owner != self.config.owner {
            return Err(Rejection::NotAuthorised);
        }
        if config.ledger != self.config.ledger || config.topic != self.config.topic || !well_formed(config) {
            return Err(Rejection::Invalid);
        }
        if self.config.version.checked_add(1) != Some(config.version) {
            return Err(Rejection::StaleVersion);
        }
        self.rights = rights_of(config);
        self.config_digest = config_digest(config);
        self.config = Arc::new(config.clone());
        Ok(())
    }
}

fn recorded(result: Result<(), Rejection>) -> Outcome {
    match result {
        Ok(()) => Outcome::Recorded,
        Err(rejection) => Outcome::Rejected(rejection),
    }
}

/// Offsets that exist, in order.
fn check_range(call: &Call, first: Offset, last: Offset) -> Result<(), Rejection> {
    if first < 0 || last >= call.next_offset {
        return Err(Rejection::OffsetOutOfRange);
    }
    if first > last { Err(Rejection::Invalid) } else { Ok(()) }
}

/// The state at one height, shared with the live one as far as it is large.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    config: Arc<Config>,
    producers: producers::Snapshot,
    log_start: Offset,
    senders: BTreeSet<OrgId>,
    committed: BTreeMap<OrgId, Offset>,
}

impl Codec for Snapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        self.config.encode(out);
        self.producers.encode(out);
        self.log_start.encode(out);
        encode_senders(&self.senders, out);
        encode_committed(&self.committed, out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let (config, producers, log_start) = (Config::decode(input)?, Codec::decode(input)?, Offset::decode(input)?);
        let (senders, committed): (Vec<OrgId>, Vec<Committed>) = (Codec::decode(input)?, Codec::decode(input)?);
        if !senders.is_sorted_by(|left, right| left < right)
            || !committed.is_sorted_by(|left, right| left.org < right.org)
        {
            return Err(DecodeError::Invalid("organisations are not in ascending order"));
        }
        Ok(Snapshot {
            config: Arc::new(config),
            producers,
            log_start,
            senders: senders.into_iter().collect(),
            committed: committed.into_iter().map(|committed| (committed.org, committed.offset)).collect(),
        })
    }
}

struct Committed {
    org: OrgId,
    offset: Offset,
}
codec_struct!(Committed { org, offset });

fn encode_senders(senders: &BTreeSet<OrgId>, out: &mut Vec<u8>) {
    (senders.len() as u32).encode(out);
    senders.iter().for_each(|org| org.encode(out));
}

fn encode_committed(committed: &BTreeMap<OrgId, Offset>, out: &mut Vec<u8>) {
    (committed.len() as u32).encode(out);
    for (org, offset) in committed {
        org.encode(out);
        offset.encode(out);
    }
}

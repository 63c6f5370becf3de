//! Idempotent producers (KIP-98), as Kafka's `ProducerStateManager` has them, so that exactly-once appends hold
//! against Byzantine replicas too.
//!
//! Two things differ from Kafka, because organisations do not trust each other here: a producer id belongs to the
//! organisation that first used it, and the number of producers is bounded **per organisation**, so that none can
//! push another's producers out of memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::codec_struct;
use waybill_types::digest::Hasher;
use waybill_types::transaction::Producer;
use waybill_types::{Digest, Offset, OrgId, Rejection};

/// How many batches of a producer are remembered, to recognise a repetition (Kafka's `NUM_BATCHES_TO_RETAIN`).
pub const PRODUCER_BATCHES_REMEMBERED: usize = 5;
/// A producer that has appended nothing for so long, in the ledger's time, is forgotten (Kafka's default of
/// `producer.id.expiration.ms`).
pub const PRODUCER_EXPIRATION_MS: u64 = 24 * 60 * 60 * 1000;
/// How many producers of one organisation a partition remembers; one more, and the longest silent is forgotten.
pub const PRODUCERS_PER_ORGANISATION_MAX: usize = 4096;

/// Producers are spread over shards by their ids, so that a checkpoint hashes and copies only what has changed.
const SHARDS: usize = 64;

/// What the sequence of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequenced {
    /// It is the next.
    Next,
    /// It was appended before, at this offset.
    Duplicate(Offset),
    /// It may not be appended.
    Rejected(Rejection),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    shards: Vec<Shard>,
    /// Derived: each organisation's producers, the longest silent first.
    by_age: BTreeMap<OrgId, BTreeSet<(u64, i64)>>,
    /// Derived: nobody has been silent since before this.
    oldest_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    producers: Arc<BTreeMap<i64, State>>,
    /// The digest of the producers, unless they have changed since it was computed.
    digest: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    org: OrgId,
    epoch: i16,
    last_ms: u64,
    /// Oldest first; at least one, at most [`PRODUCER_BATCHES_REMEMBERED`].
    batches: Vec<Batch>,
}
codec_struct!(State { org, epoch, last_ms, batches });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
}
codec_struct!(Batch { first_sequence, last_sequence, base_offset });

impl Producers {
    pub fn new() -> Self {
        Producers { shards: vec![Shard::default(); SHARDS], by_age: BTreeMap::new(), oldest_ms: u64::MAX }
    }

    /// Where a batch stands in its producer's sequence. In Kafka's order: a repetition first, then the epoch, then the
    /// sequence. A producer that is not remembered may begin anywhere.
    pub fn check(&self, org: &OrgId, producer: &Producer, record_count: u32) -> Sequenced {
        let Some(state) = self.state(producer.id) else { return Sequenced::Next };
        if state.org != *org {
            return Sequenced::Rejected(Rejection::NotAuthorised);
        }
        if producer.epoch < state.epoch {
            return Sequenced::Rejected(Rejection::ProducerFenced);
        }
        if producer.epoch > state.epoch {
            return match producer.base_sequence {
                0 => Sequenced::Next,
                _ => Sequenced::Rejected(Rejection::OutOfOrderSequence),
            };
        }
        let last_sequence = advance_sequence(producer.base_sequence, record_count - 1);
        let same =
            |batch: &&Batch| batch.first_sequence == producer.base_sequence && batch.last_sequence == last_sequence;
        if let Some(batch) = state.batches.iter().find(same) {
            return Sequenced::Duplicate(batch.base_offset);
        }
        match state.batches.last() {
            Some(last) if advance_sequence(last.last_sequence, 1) != producer.base_sequence => {
                Sequenced::Rejected(Rejection::OutOfOrderSequence)
            }
            _ => Sequenced::Next,
        }
    }

    /// Remembers a batch that [`Producers::check`] has found to be the next.
    pub fn remember(&mut self, org: &OrgId, producer: &Producer, record_count: u32, base_offset: Offset, time_ms: u64) {
        let batch = Batch {
            first_sequence: producer.base_sequence,
            last_sequence: advance_sequence(producer.base_sequence, record_count - 1),
            base_offset,
        };
        let shard = self.shard_mut(producer.id);
        let state = shard.entry(producer.id).or_insert_with(|| State {
            org: org.clone(),
            epoch: producer.epoch,
            last_ms: u64::MAX,
            batches: Vec::with_capacity(PRODUCER_BATCHES_REMEMBERED),
        });
        if state.epoch != producer.epoch {
            state.batches.clear();
            state.epoch = producer.epoch;
        }
        if state.batches.len() >= PRODUCER_BATCHES_REMEMBERED {
            state.batches.remove(0);
        }
        state.batches.push(batch);
        let before_ms = std::mem::replace(&mut state.last_ms, time_ms);
        if before_ms != time_ms {
            self.age(org, producer.id, before_ms, time_ms);
        }
    }

    /// Forgets who has been silent for too long.
    pub fn expire(&mut self, time_ms: u64) {
        let Some(limit_ms) = time_ms.checked_sub(PRODUCER_EXPIRATION_MS) else { return };
        if self.oldest_ms > limit_ms {
            return;
        }
        let mut expired = Vec::new();
        for ages in self.by_age.values_mut() {
            while let Some((last_ms, id)) = ages.first().copied().filter(|(last_ms, _)| *last_ms <= limit_ms) {
                ages.remove(&(last_ms, id));
                expired.push(id);
            }
        }
        self.by_age.retain(|_, ages| !ages.is_empty());
        self.oldest_ms =
            self.by_age.values().filter_map(|ages| ages.first()).map(|(last_ms, _)| *last_ms).min().unwrap_or(u64::MAX);
        for id in expired {
            self.shard_mut(id).remove(&id);
        }
    }

    /// The digest over all shards; only those that have changed are hashed again.
    pub fn root(&mut self) -> Digest {
        let mut root = Hasher::new(b"waybill-producers-v1");
        let mut buffer = Vec::new();
        for shard in &mut self.shards {
            let digest = *shard.digest.get_or_insert_with(|| {
                buffer.clear();
                encode_producers(&shard.producers, &mut buffer);
                Hasher::digest(b"waybill-producers-shard-v1", &buffer)
            });
            root.update(&digest.0);
        }
        root.finish()
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { shards: self.shards.iter().map(|shard| shard.producers.clone()).collect() }
    }

    pub fn restore(snapshot: Snapshot) -> Self {
        let mut producers = Producers::new();
        for (id, state) in snapshot.shards.iter().flat_map(|shard| shard.iter()) {
            producers.by_age.entry(state.org.clone()).or_default().insert((state.last_ms, *id));
            producers.oldest_ms = producers.oldest_ms.min(state.last_ms);
        }
        producers.shards = snapshot.shards.into_iter().map(|producers| Shard { producers, digest: None }).collect();
        producers
    }

    fn state(&self, id: i64) -> Option<&State> {
        self.shards.get(shard_of(id))?.producers.get(&id)
    }

    fn shard_mut(&mut self, id: i64) -> &mut BTreeMap<i64, State> {
        let shard = &mut self.shards[shard_of(id)];
        shard.digest = None;
        Arc::make_mut(&mut shard.producers)
    }

    /// Notes when a producer was last heard of, and makes room if it is one too many.
    fn age(&mut self, org: &OrgId, id: i64, before_ms: u64, time_ms: u64) {
        self.oldest_ms = self.oldest_ms.min(time_ms);
        if !self.by_age.contains_key(org) {
            self.by_age.insert(org.clone(), BTreeSet::new());
        }
        let Some(ages) = self.by_age.get_mut(org) else { return };
        ages.remove(&(before_ms, id));
        ages.insert((time_ms, id));
        if ages.len() > PRODUCERS_PER_ORGANISATION_MAX {
            // Of those silent since the same block the one with the smallest id goes, but not the one just heard of.
            let longest_silent = ages.iter().find(|(_, other)| *other != id).copied();
            if let Some(longest_silent) = longest_silent {
                ages.remove(&longest_silent);
                self.shard_mut(longest_silent.1).remove(&longest_silent.1);
            }
        }
    }
}

/// A producer's shard: by the low bits, since ids are counters.
fn shard_of(id: i64) -> usize {
    (id as u64 % SHARDS as u64) as usize
}

/// Sequence numbers are 31 bits and wrap to zero.
fn advance_sequence(sequence: i32, by: u32) -> i32 {
    ((sequence as u32).wrapping_add(by) & 0x7fff_ffff) as i32
}

/// The shards at one height, shared with the live ones.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    shards: Vec<Arc<BTreeMap<i64, State>>>,
}

impl Codec for Snapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        for shard in &self.shards {
            encode_producers(shard, out);
        }
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let shards = (0..SHARDS).map(|index| decode_producers(index, input).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Snapshot { shards })
    }
}

fn encode_producers(producers: &BTreeMap<i64, State>, out: &mut Vec<u8>) {
    (producers.len() as u32).encode(out);
    for (id, state) in producers {
        id.encode(out);
        state.encode(out);
    }
}

fn decode_producers(index: usize, input: &mut Reader) -> Result<BTreeMap<i64, State>, DecodeError> {
    let pairs: Vec<(i64, State)> = Codec::decode(input)?;
    if !pairs.is_sorted_by(|left, right| left.0 < right.0) || pairs.iter().any(|(id, _)| shard_of(*id) != index) {
        return Err(DecodeError::Invalid("producers are not in their order"));
    }
    Ok(pairs.into_iter().collect())
}

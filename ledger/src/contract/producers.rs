//! Idempotent producers (KIP-98), as Kafka's `ProducerStateManager` has them, so that exactly-once appends hold
//! against Byzantine replicas too.
//!
//! Two things differ from Kafka, because organisations do not trust each other here. Producer ids are counters that
//! anyone can guess, so each organisation has a **namespace of its own**: the same id used by another one is another
//! producer, and nobody can fence, block or claim somebody else's. And the number of producers is bounded **per
//! organisation**, so that none can push another's out of memory.

use super::sharded::Sharded;
use std::collections::{BTreeMap, BTreeSet};
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::codec_struct;
use waybill_types::transaction::Producer;
use waybill_types::{Digest, Offset, OrgId, Rejection};

/// How many batches of a producer are remembered, to recognise a repetition (Kafka's `NUM_BATCHES_TO_RETAIN`).
pub const PRODUCER_BATCHES_REMEMBERED: usize = 5;
/// A producer that has appended nothing for so long, in the ledger's time, is forgotten (Kafka's default of
/// `producer.id.expiration.ms`).
pub const PRODUCER_EXPIRATION_MS: u64 = 24 * 60 * 60 * 1000;
/// How many producers of one organisation a partition remembers; one more, and the longest silent is forgotten.
pub const PRODUCERS_PER_ORGANISATION_MAX: usize = 4096;

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

#[derive(Clone, Debug)]
pub(super) struct Producers {
    states: Sharded<ProducerKey, State>,
    /// Derived: each organisation's producers, the longest silent first.
    by_age: BTreeMap<OrgId, BTreeSet<(u64, i64)>>,
    /// Derived: nobody has been silent since before this.
    oldest_ms: u64,
}

/// A producer id, and the organisation in whose namespace it is.
type ProducerKey = (i64, OrgId);

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    epoch: i16,
    last_ms: u64,
    batches: Batches,
}
codec_struct!(State { epoch, last_ms, batches });

/// The last batches of a producer, oldest first; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batches {
    count: usize,
    /// The first `count` of these.
    recent: [Batch; PRODUCER_BATCHES_REMEMBERED],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
}
codec_struct!(Batch { first_sequence, last_sequence, base_offset });

impl Producers {
    pub fn new() -> Self {
        Producers { states: Sharded::default(), by_age: BTreeMap::new(), oldest_ms: u64::MAX }
    }

    /// Where a batch stands in its producer's sequence. In Kafka's order: a repetition first, then the epoch, then the
    /// sequence. A producer that is not remembered may begin anywhere. What other organisations do does not matter.
    pub fn check(&self, org: &OrgId, producer: &Producer, record_count: u32) -> Sequenced {
        let Some(state) = self.states.get(&(producer.id, org.clone())) else { return Sequenced::Next };
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
        if let Some(batch) = state.batches.as_slice().iter().find(same) {
            return Sequenced::Duplicate(batch.base_offset);
        }
        match state.batches.as_slice().last() {
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
        let key = (producer.id, org.clone());
        let state = self.states.shard_mut(&key).entry(key).or_insert_with(|| State {
            epoch: producer.epoch,
            last_ms: u64::MAX,
            batches: Batches::default(),
        });
        if state.epoch != producer.epoch {
            state.batches = Batches::default();
            state.epoch = producer.epoch;
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
        for (org, ages) in &mut self.by_age {
            while let Some((last_ms, id)) = ages.first().copied().filter(|(last_ms, _)| *last_ms <= limit_ms) {
                ages.remove(&(last_ms, id));
                expired.push((id, org.clone()));
            }
        }
        self.by_age.retain(|_, ages| !ages.is_empty());
        self.oldest_ms =
            self.by_age.values().filter_map(|ages| ages.first()).map(|(last_ms, _)| *last_ms).min().unwrap_or(u64::MAX);
        for key in expired {
            self.states.remove(&key);
        }
    }

    /// The digest over all producers; only the shards that have changed are hashed again.
    pub fn root(&mut self) -> Digest {
        self.states.root([b"waybill-producers-v1", b"waybill-producers-shard-v1"], |key, state, out| {
            key.encode(out);
            state.encode(out);
        })
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.states.clone())
    }

    pub fn restore(snapshot: Snapshot) -> Self {
        let mut producers = Producers::new();
        for ((id, org), state) in snapshot.0.iter() {
            producers.by_age.entry(org.clone()).or_default().insert((state.last_ms, *id));
            producers.oldest_ms = producers.oldest_ms.min(state.last_ms);
        }
        Producers { states: snapshot.0, ..producers }
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
                self.states.remove(&(longest_silent.1, org.clone()));
            }
        }
    }
}

/// Sequence numbers are 31 bits and wrap to zero.
fn advance_sequence(sequence: i32, by: u32) -> i32 {
    ((sequence as u32).wrapping_add(by) & 0x7fff_ffff) as i32
}

impl Default for Batches {
    fn default() -> Self {
        Batches { count: 0, recent: [Batch::default(); PRODUCER_BATCHES_REMEMBERED] }
    }
}

impl Batches {
    fn as_slice(&self) -> &[Batch] {
        &self.recent[..self.count]
    }

    /// Adds the newest; the oldest goes, if it is one too many.
    fn push(&mut self, batch: Batch) {
        if self.count == PRODUCER_BATCHES_REMEMBERED {
            self.recent.rotate_left(1);
            self.count -= 1;
        }
        self.recent[self.count] = batch;
        self.count += 1;
    }
}

impl Codec for Batches {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.count as u32).encode(out);
        self.as_slice().iter().for_each(|batch| batch.encode(out));
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut batches = Batches::default();
        let count = u32::decode(input)? as usize;
        if !(1..=PRODUCER_BATCHES_REMEMBERED).contains(&count) {
            return Err(DecodeError::Invalid("a producer has no batches, or more than are remembered"));
        }
        for _ in 0..count {
            batches.push(Batch::decode(input)?);
        }
        Ok(batches)
    }
}

/// The producers at one height, shared with the live ones.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot(Sharded<ProducerKey, State>);

impl Codec for Snapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Snapshot(Codec::decode(input)?))
    }
}

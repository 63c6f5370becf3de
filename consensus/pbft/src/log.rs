//! The message log between the watermarks (4.2, 4.3): one slot per sequence.

use crate::message::Prepared;
use crate::{ReplicaIndex, Sequence, View};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::{Body, Codec, Digest, Origins, Signature};

/// The slots of (h, h + L].
#[derive(Debug)]
pub(crate) struct Log {
    low: Sequence,
    length: u64,
    slots: BTreeMap<Sequence, Slot>,
}

impl Log {
    pub(crate) fn new(low: Sequence, length: u64) -> Self {
        Log { low, length, slots: BTreeMap::new() }
    }

    /// The low watermark (h): the last stable checkpoint.
    pub(crate) fn low(&self) -> Sequence {
        self.low
    }

    /// The high watermark (H).
    pub(crate) fn high(&self) -> Sequence {
        self.low.saturating_add(self.length)
    }

    /// Whether a sequence lies between the watermarks.
    pub(crate) fn contains(&self, sequence: Sequence) -> bool {
        sequence > self.low && sequence <= self.high()
    }

    /// A slot that something is known of.
    pub(crate) fn get(&self, sequence: Sequence) -> Option<&Slot> {
        self.slots.get(&sequence)
    }

    /// The same, to change.
    pub(crate) fn get_mut(&mut self, sequence: Sequence) -> Option<&mut Slot> {
        self.slots.get_mut(&sequence)
    }

    /// The slot of a sequence between the watermarks, made if need be.
    pub(crate) fn open(&mut self, sequence: Sequence) -> Option<&mut Slot> {
        self.contains(sequence).then(|| self.slots.entry(sequence).or_default())
    }

    /// The slots after a sequence.
    pub(crate) fn after(&self, sequence: Sequence) -> impl Iterator<Item = (Sequence, &Slot)> {
        self.slots.range(sequence.saturating_add(1)..).map(|(sequence, slot)| (*sequence, slot))
    }

    /// All slots, to change.
    pub(crate) fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.values_mut()
    }

    /// Moves the low watermark up and discards what lies below (4.3).
    pub(crate) fn advance(&mut self, low: Sequence) {
        self.low = self.low.max(low);
        self.slots = self.slots.split_off(&self.low.saturating_add(1));
    }
}

/// What is known of one sequence.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Bodies by digest; several views can have proposed several.
    bodies: BTreeMap<Digest, StoredBody>,
    /// The current primary's proposal, while it is not acceptable or not yet its turn.
    pub offer: Option<Offer>,
    /// The newest proposal that we made or agreed to.
    pub accepted: Option<Accepted>,
    /// Each backup's prepare of the highest view.
    pub prepares: BTreeMap<ReplicaIndex, PrepareVote>,
    /// The certificate of the highest view: an element of P (4.4).
    pub prepared: Option<Prepared>,
    /// Each replica's commit of the highest view, ours once its certificate is durable.
    pub commits: BTreeMap<ReplicaIndex, (View, Digest)>,
    /// What a quorum has committed.
    pub decided: Option<(View, Digest)>,
    /// Whose equivocation here was reported.
    pub reported: BTreeSet<ReplicaIndex>,
}

impl Slot {
    /// The proposal known for a view, with the primary's signature.
    pub(crate) fn proposal(&self, view: View) -> Option<(Digest, Signature)> {
        let accepted = self.accepted.as_ref().map(|accepted| (accepted.view, accepted.digest, accepted.proposal));
        let offered = self.offer.as_ref().map(|offer| (offer.view, offer.digest, offer.proposal));
        [accepted, offered].into_iter().flatten().find(|known| known.0 == view).map(|known| (known.1, known.2))
    }

    /// The digest that stands here as far as we know: decided, or accepted in this view.
    pub(crate) fn digest(&self, view: View) -> Option<Digest> {
        let accepted = self.accepted.as_ref().filter(|accepted| accepted.view == view).map(|accepted| accepted.digest);
        self.decided.map(|decided| decided.1).or(accepted)
    }

    /// A known body.
    pub(crate) fn body(&self, digest: &Digest) -> Option<&StoredBody> {
        self.bodies.get(digest)
    }

    /// Notes how far a body is on its way to the disk.
    pub(crate) fn set_durability(&mut self, digest: &Digest, durability: Durability) {
        if let Some(stored) = self.bodies.get_mut(digest) {
            stored.durability = stored.durability.max(durability);
        }
    }

    /// Keeps a body. Beyond the limit, one that nothing refers to goes, of the lowest view.
    pub(crate) fn keep(&mut self, view: View, content: Content, limit: usize) -> Digest {
        let digest = content.digest;
        let stored = self.bodies.entry(digest).or_insert(StoredBody { content, view, durability: Durability::Loose });
        stored.view = stored.view.max(view);
        while self.bodies.len() > limit {
            let referred = [
                Some(digest),
                self.offer.as_ref().map(|offer| offer.digest),
                self.accepted.as_ref().map(|accepted| accepted.digest),
                self.prepared.as_ref().map(|prepared| prepared.digest),
                self.decided.map(|decided| decided.1),
            ];
            let spare = self.bodies.iter().filter(|(digest, _)| !referred.contains(&Some(**digest)));
            let Some(oldest) = spare.min_by_key(|(_, body)| (body.durability, body.view)).map(|(digest, _)| *digest)
            else {
                break;
            };
            self.bodies.remove(&oldest);
        }
        digest
    }
}

/// A proposal waiting for acceptance.
#[derive(Debug)]
pub(crate) struct Offer {
    pub view: View,
    pub digest: Digest,
    pub proposal: Signature,
    pub body: Body,
    /// Its refusal has been told.
    pub refused: bool,
}

/// A proposal that we made or agreed to.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub view: View,
    pub digest: Digest,
    pub proposal: Signature,
    /// It is durable with its body: our vote counts.
    pub voted: bool,
}

/// A verified prepare.
#[derive(Debug)]
pub(crate) struct PrepareVote {
    pub view: View,
    pub digest: Digest,
    pub signature: Signature,
}

/// A body and where it is.
#[derive(Debug)]
pub(crate) struct StoredBody {
    pub content: Content,
    /// The highest view in which it was seen.
    pub view: View,
    pub durability: Durability,
}

/// How far a body is on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// In memory only.
    Loose,
    /// In a record that is not known to be durable yet.
    Queued,
    /// In a durable record.
    Durable,
}

/// An encoded body, and what the core needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub digest: Digest,
    pub bytes: Bytes,
    pub checkpoint: bool,
    pub headers: Vec<EnvelopeHeader>,
}

impl Content {
    /// Notes the essentials of a decoded body.
    pub(crate) fn new(digest: Digest, bytes: Bytes, body: &Body) -> Self {
        let headers = body.envelopes.iter().map(|envelope| envelope.header).collect();
        Content { digest, bytes, checkpoint: body.checkpoint, headers }
    }

    /// Encodes a body.
    pub(crate) fn encode(body: &Body) -> Self {
        let bytes = body.to_bytes();
        Self::new(Body::digest(&bytes), bytes, body)
    }

    /// Decodes a body; none if it is not canonical.
    pub(crate) fn parse(bytes: &Bytes) -> Option<(Self, Body)> {
        let body = Body::from_bytes(bytes).ok()?;
        Some((Self::new(Body::digest(bytes), bytes.clone(), &body), body))
    }

    /// The null request (4.4): it executes as an empty block.
    pub(crate) fn null() -> Self {
        Self::encode(&Body::default())
    }
}

/// A point in the order, and what follows from the bodies up to it.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    /// The last sequence.
    pub sequence: Sequence,
    /// How far each origin has come.
    pub origins: Origins,
    /// The last sequence at which a checkpoint falls.
    pub checkpoint: Sequence,
}

impl Position {
    /// Goes on to the next sequence. Envelopes out of order are skipped, as the ledger skips them.
    pub(crate) fn advance(&mut self, content: &Content, interval: u64) {
        self.sequence += 1;
        for header in &content.headers {
            let _skipped = self.origins.advance(header);
        }
        if content.checkpoint || self.sequence.is_multiple_of(interval) {
            self.checkpoint = self.sequence;
        }
    }
}

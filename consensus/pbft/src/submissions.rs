//! Envelopes that wait for execution: our own, and those that others complained about or sent us as primary.

use crate::config::Limits;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::{Envelope, NodeId, Origins};

/// What an encoded body has besides its envelopes, at most.
pub(crate) const BODY_FRAME_BYTES: usize = 32;

/// Per origin, what is known beyond what was executed.
#[derive(Debug, Default)]
pub(crate) struct Submissions {
    queues: BTreeMap<NodeId, Queue>,
    /// Whose turn it is to come first in a body.
    turn: Option<NodeId>,
}

/// One origin's unexecuted envelopes, of one incarnation.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    incarnation: u64,
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    /// When to complain to all replicas about what we are in charge of.
    pub complain_at: Option<u64>,
    /// When to ask for another view because the primary leaves the next envelope waiting.
    pub expire_at: Option<u64>,
}

/// One envelope.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub envelope: Envelope,
    pub bytes: usize,
    /// Our own shell gave it to us: we see that it gets executed.
    pub ours: bool,
    /// All replicas have been told of it: it must be executed within the view timeout.
    pub complained: bool,
}

/// What became of an envelope that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is new.
    New,
    /// It was known.
    Known,
    /// It was executed, or its incarnation has ended.
    Stale,
    /// It cannot be held.
    Refused(&'static str),
}

impl Submissions {
    /// Whether an envelope would be taken, before its signature is looked at.
    pub(crate) fn judge(&self, header: &EnvelopeHeader, bytes: usize, done: &Origins, limits: &Limits) -> Taken {
        if bytes + BODY_FRAME_BYTES > limits.body_bytes {
            return Taken::Refused("larger than a body may be");
        }
        let (incarnation, next) = done.next_of(header.origin);
        if (header.incarnation, header.number) < (incarnation, next) {
            return Taken::Stale;
        }
        let first = if header.incarnation == incarnation { next } else { 0 };
        if header.number - first >= limits.origin_envelopes as u64 {
            return Taken::Refused("too far ahead of what is executed");
        }
        let queue = self.queues.get(&header.origin);
        if queue.is_some_and(|queue| header.incarnation < queue.incarnation) {
            return Taken::Stale;
        }
        let queue = queue.filter(|queue| queue.incarnation == header.incarnation);
        if let Some(known) = queue.and_then(|queue| queue.waiting.get(&header.number)) {
            let same = known.envelope.header == *header;
            return if same {
                Taken::Known
            } else {
                Taken::Refused("its origin has signed another one of this number")
            };
        }
        // Without a gap: else an origin could lure a correct primary into waiting for a number that never comes, while
        // it shows the backups another incarnation that they wait for.
        let follows = queue.is_some_and(|queue| queue.waiting.contains_key(&header.number.wrapping_sub(1)));
        if header.number != first && !follows {
            return Taken::Refused("its predecessor is not known");
        }
        if queue.is_some_and(|queue| queue.bytes + bytes > limits.origin_bytes) {
            return Taken::Refused("too many bytes of its origin wait");
        }
        Taken::New
    }

    /// Takes a verified envelope that [`Submissions::judge`] called new or known. A new incarnation ends the one before.
    pub(crate) fn insert(&mut self, envelope: Envelope, bytes: usize, ours: bool, complained: bool) {
        let header = envelope.header;
        let queue = self.queues.entry(header.origin).or_default();
        if header.incarnation > queue.incarnation {
            *queue = Queue { incarnation: header.incarnation, ..Queue::default() };
        }
        match queue.waiting.entry(header.number) {
            Entry::Occupied(mut known) => {
                known.get_mut().ours |= ours;
                known.get_mut().complained |= complained;
            }
            Entry::Vacant(place) => {
                queue.bytes += bytes;
                place.insert(Waiting { envelope, bytes, ours, complained });
            }
        }
    }

    /// Forgets what an executed body contained, and what can never execute any more. The origin's timers start anew.
    pub(crate) fn on_executed(&mut self, origin: NodeId, done: &Origins) {
        let Some(queue) = self.queues.get_mut(&origin) else { return };
        let (incarnation, next) = done.next_of(origin);
        if queue.incarnation < incarnation {
            self.queues.remove(&origin);
            return;
        }
        if queue.incarnation == incarnation {
            let rest = queue.waiting.split_off(&next);
            let progress = !queue.waiting.is_empty();
            queue.bytes -= queue.waiting.values().map(|waiting| waiting.bytes).sum::<usize>();
            queue.waiting = rest;
            if progress {
                queue.complain_at = None;
                queue.expire_at = None;
            }
        }
        if queue.waiting.is_empty() {
            self.queues.remove(&origin);
        }
    }

    /// All origins may have moved: the ledger was synced.
    pub(crate) fn on_synced(&mut self, done: &Origins) {
        let origins: Vec<NodeId> = self.queues.keys().copied().collect();
        for origin in origins {
            self.on_executed(origin, done);
        }
    }

    /// Whether [`Submissions::next_batch`] would find anything.
    pub(crate) fn is_empty_after(&self, tip: &Origins) -> bool {
        !self.queues.iter().any(|(origin, queue)| queue.following(*origin, tip).next().is_some())
    }

    /// The envelopes that may follow `tip`, up to the limits, in the order of each origin; origins take turns to come
    /// first, so that one that sends much cannot shut out the others.
    pub(crate) fn next_batch(&mut self, tip: &Origins, bytes_limit: usize, count_limit: usize) -> Vec<Envelope> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let turn = self.turn.unwrap_or(NodeId(0));
        let rotated = self.queues.range(turn..).chain(self.queues.range(..turn));
        for (origin, queue) in rotated {
            for waiting in queue.following(*origin, tip) {
                if batch.len() >= count_limit || bytes + waiting.bytes > bytes_limit {
                    break;
                }
                bytes += waiting.bytes;
                batch.push(waiting.envelope.clone());
            }
        }
        let after = NodeId(turn.0.saturating_add(1));
        self.turn = self.queues.range(after..).next().map(|(origin, _)| *origin);
        batch
    }

    /// Each origin's queue, to run its timers.
    pub(crate) fn queues_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Queue)> {
        self.queues.iter_mut().map(|(origin, queue)| (*origin, queue))
    }

    /// The earliest time at which one of them wants something.
    pub(crate) fn next_timeout(&self) -> Option<u64> {
        self.queues.values().flat_map(|queue| [queue.complain_at, queue.expire_at]).flatten().min()
    }

    /// Everything that our own shell gave us.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Envelope> {
        self.queues.values().flat_map(Queue::ours)
    }

    /// How many envelopes of an origin wait.
    pub(crate) fn count(&self, origin: NodeId) -> usize {
        self.queues.get(&origin).map_or(0, |queue| queue.waiting.len())
    }
}

impl Queue {
    /// The envelopes that follow what `tip` says of their origin, without a gap.
    fn following(&self, origin: NodeId, tip: &Origins) -> impl Iterator<Item = &Waiting> {
        let (incarnation, next) = tip.next_of(origin);
        let first = if self.incarnation == incarnation { next } else { 0 };
        let ended = self.incarnation < incarnation;
        let run = self.waiting.range(first..).zip(first..);
        run.take_while(move |((number, _), expected)| !ended && *number == expected).map(|((_, waiting), _)| waiting)
    }

    /// Those that our own shell gave us.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Envelope> {
        self.waiting.values().filter(|waiting| waiting.ours).map(|waiting| &waiting.envelope)
    }

    /// Whether the next envelope to execute is one that all replicas were told of.
    pub(crate) fn is_complained(&self, origin: NodeId, done: &Origins) -> bool {
        self.following(origin, done).next().is_some_and(|waiting| waiting.complained)
    }

    /// Notes that all replicas were told of what we are in charge of, and gives the first of those envelopes.
    pub(crate) fn complain(&mut self, count_limit: usize) -> Vec<Envelope> {
        let ours = self.waiting.values_mut().filter(|waiting| waiting.ours).take(count_limit);
        ours.map(|waiting| {
            waiting.complained = true;
            waiting.envelope.clone()
        })
        .collect()
    }
}

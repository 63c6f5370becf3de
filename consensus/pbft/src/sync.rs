//! What was lost on a link, and bodies by digest: status exchange, fetching, and the request to sync.

use crate::io::{Output, Signatures, To};
use crate::log::Content;
use crate::message::{Commit, Fetch, FetchedBody, Message, PrePrepare, Prepare, Status};
use crate::replica::Replica;
use crate::{ReplicaIndex, Sequence};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::Digest;

/// How many messages of a peer that ask for more are answered within one status interval.
const ANSWERS_MAX: u32 = 4;
/// How many bodies are asked for at a time.
const FETCHES_MAX: usize = 16;
/// How many own checkpoints are repeated to a peer.
const CHECKPOINTS_MAX: usize = 16;

/// How much each peer has asked of us lately, and when we asked it.
#[derive(Debug)]
pub(crate) struct Peers {
    peers: Vec<Peer>,
    /// Whom we ask for bodies next.
    turn: usize,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    asked_at: Option<u64>,
    window_started_at: u64,
    answers: u32,
    fetches: u32,
}

impl Peers {
    pub(crate) fn new(n: usize) -> Self {
        Peers { peers: vec![Peer::default(); n], turn: 0 }
    }

    fn counters(&mut self, peer: ReplicaIndex, now: u64, window_ms: u64) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(usize::from(peer))?;
        if now >= peer.window_started_at.saturating_add(window_ms) {
            *peer = Peer { asked_at: peer.asked_at, window_started_at: now, answers: 0, fetches: 0 };
        }
        Some(peer)
    }
}

impl<S: Signatures> Replica<S> {
    /// Messages of this peer and to it may have been lost.
    pub(crate) fn handle_reconnected(&mut self, peer: ReplicaIndex, out: &mut Vec<Output>) {
        if usize::from(peer) >= self.config.n() || peer == self.config.me {
            return;
        }
        let status = self.status();
        self.send(To::One(peer), &Message::Status(status), out);
        if self.is_voting() && peer == self.primary() {
            self.resubmit(out);
        }
    }

    /// Tells all what we have.
    pub(crate) fn tell_status(&mut self, out: &mut Vec<Output>) {
        let status = self.status();
        self.send(To::All, &Message::Status(status), out);
    }

    /// A peer knows more than we do: tells it what we have, at a limited rate.
    pub(crate) fn ask(&mut self, peer: ReplicaIndex, out: &mut Vec<Output>) {
        let (now, interval) = (self.now, self.config.timing.status_interval_ms);
        let Some(counters) = self.peers.counters(peer, now, interval) else { return };
        if counters.asked_at.is_some_and(|at| now < at + interval / 4) {
            self.timers.behind = true;
            return;
        }
        counters.asked_at = Some(now);
        let status = self.status();
        self.send(To::One(peer), &Message::Status(status), out);
    }

    fn status(&self) -> Status {
        let executed = self.delivered.sequence;
        let last = self.log.after(executed).last().map_or(executed, |(sequence, _)| sequence);
        let slots: Vec<u8> = (executed + 1..=last).map(|sequence| self.slot_status(sequence)).collect();
        Status {
            view: self.view,
            wish: self.wish,
            changing: self.changing,
            stable: self.log.low(),
            executed,
            slots: Bytes::from(slots),
        }
    }

    fn slot_status(&self, sequence: Sequence) -> u8 {
        let Some(slot) = self.log.get(sequence) else { return Status::NOTHING };
        if slot.decided.is_some() {
            Status::DECIDED
        } else if slot.prepared.as_ref().is_some_and(|prepared| prepared.view == self.view) {
            Status::PREPARED
        } else if slot.proposal(self.view).is_some() {
            Status::ACCEPTED
        } else {
            Status::NOTHING
        }
    }

    /// Sends a peer what it lacks, and asks for what we lack.
    pub(crate) fn on_status(&mut self, from: ReplicaIndex, status: Status, out: &mut Vec<Output>) {
        self.on_wish(from, status.wish.max(status.view), out);
        if !self.may_answer(from) {
            // Whatever it wanted to know, or to tell, comes with our next broadcast.
            self.timers.behind = true;
            return;
        }
        let lacks_view = status.view < self.view || (status.view == self.view && status.changing);
        if lacks_view {
            self.show_view(from, out);
        }
        self.show_checkpoints(from, status.stable, out);
        self.show_votes(from, &status, out);
        let leads_us = status.view > self.view
            || (status.view == self.view && self.changing && !status.changing)
            || status.executed > self.delivered.sequence
            || status.stable > self.log.low();
        if leads_us {
            self.ask(from, out);
        } else if self.lacks_proposal(&status) {
            self.ask(self.primary(), out);
        }
    }

    /// Whether a peer has a proposal of our view that has not reached us.
    fn lacks_proposal(&self, status: &Status) -> bool {
        if status.executed >= self.log.high() {
            return false;
        }
        let numbered = status.slots.iter().zip(status.executed + 1..);
        let mut proposed = numbered.filter(|(state, _)| **state != Status::NOTHING).map(|(_, sequence)| sequence);
        status.view == self.view
            && self.is_voting()
            && !self.leads()
            && proposed.any(|sequence| self.log.contains(sequence) && self.slot_status(sequence) == Status::NOTHING)
    }

    /// Whether a peer has not asked too much of us within this interval.
    pub(crate) fn may_answer(&mut self, peer: ReplicaIndex) -> bool {
        let (now, interval) = (self.now, self.config.timing.status_interval_ms);
        let Some(counters) = self.peers.counters(peer, now, interval) else { return false };
        counters.answers += 1;
        counters.answers <= ANSWERS_MAX
    }

    /// How our view began, or our request for it.
    pub(crate) fn show_view(&mut self, to: ReplicaIndex, out: &mut Vec<Output>) {
        let own = self.view_changes.get(&self.config.me).filter(|own| own.message.view == self.view);
        let message = match (&self.opening, own) {
            (Some(opening), _) => Message::NewView(opening.message.clone()),
            (None, Some(own)) => Message::ViewChange(own.message.clone()),
            (None, None) => return,
        };
        self.send(To::One(to), &message, out);
    }

    fn show_checkpoints(&mut self, to: ReplicaIndex, stable: Sequence, out: &mut Vec<Output>) {
        let newer = self.checkpoints.stable.as_ref().filter(|own| own.checkpoint.height > stable);
        let certificate = newer.map(|certificate| Message::Stable(certificate.clone()));
        let me = self.config.me;
        let votes = self.checkpoints.durable_own(me).filter(|vote| vote.checkpoint.height > stable);
        let votes: Vec<_> = votes.take(CHECKPOINTS_MAX).map(|vote| Message::Checkpoint(vote.clone())).collect();
        for message in certificate.into_iter().chain(votes) {
            self.send(To::One(to), &message, out);
        }
    }

    /// Our votes on what the peer has not executed.
    fn show_votes(&mut self, to: ReplicaIndex, status: &Status, out: &mut Vec<Output>) {
        let me = self.config.me;
        let same_view = status.view == self.view && !status.changing && self.is_voting();
        let high = status.stable.saturating_add(self.config.log_length());
        let mut messages = Vec::new();
        let mut bodies = self.config.limits.window;
        for (sequence, slot) in self.log.after(status.executed).take_while(|(sequence, _)| *sequence <= high) {
            let known = usize::try_from(sequence - status.executed - 1).ok().and_then(|at| status.slots.get(at));
            let known = known.copied().unwrap_or(Status::NOTHING);
            let accepted =
                slot.accepted.as_ref().filter(|accepted| same_view && accepted.view == self.view && accepted.voted);
            if let Some(accepted) = accepted {
                let (view, digest, proposal) = (accepted.view, accepted.digest, accepted.proposal);
                if known == Status::NOTHING
                    && self.primary() == me
                    && bodies > 0
                    && let Some(body) = slot.body(&digest).map(|stored| stored.content.bytes.clone())
                {
                    bodies -= 1;
                    messages.push(Message::PrePrepare(PrePrepare {
                        view,
                        sequence,
                        digest,
                        signature: proposal,
                        body,
                    }));
                }
                let prepare = slot.prepares.get(&me).filter(|own| own.view == view && known <= Status::ACCEPTED);
                messages.extend(prepare.map(|own| {
                    Message::Prepare(Prepare { view, sequence, digest, proposal, signature: own.signature })
                }));
            }
            let commit = slot.commits.get(&me).filter(|_| known <= Status::PREPARED);
            messages.extend(
                commit.map(|(view, digest)| Message::Commit(Commit { view: *view, sequence, digest: *digest })),
            );
        }
        for message in messages {
            self.send(To::One(to), &message, out);
        }
    }

    /// A body is missing that was voted on: asks one peer after the other.
    pub(crate) fn want(&mut self, sequence: Sequence, digest: Digest, out: &mut Vec<Output>) {
        if self.wanted.insert(sequence, digest) != Some(digest) {
            self.fetch(sequence, digest, out);
        }
    }

    pub(crate) fn fetch_again(&mut self, out: &mut Vec<Output>) {
        self.peers.turn += 1;
        let wanted: Vec<_> = self.wanted.iter().take(FETCHES_MAX).map(|(at, digest)| (*at, *digest)).collect();
        for (sequence, digest) in wanted {
            self.fetch(sequence, digest, out);
        }
    }

    fn fetch(&mut self, sequence: Sequence, digest: Digest, out: &mut Vec<Output>) {
        let peers: Vec<_> = self.config.peers().collect();
        let Some(peer) = peers.get(self.peers.turn % peers.len().max(1)) else { return };
        self.send(To::One(*peer), &Message::Fetch(Fetch { sequence, digest }), out);
    }

    pub(crate) fn on_fetch(&mut self, from: ReplicaIndex, fetch: Fetch, out: &mut Vec<Output>) {
        let (now, interval) = (self.now, self.config.timing.status_interval_ms);
        let limit = self.config.limits.peer_fetches;
        let Some(counters) = self.peers.counters(from, now, interval) else { return };
        counters.fetches += 1;
        if counters.fetches > limit {
            return;
        }
        if fetch.sequence <= self.log.low() {
            return self.show_checkpoints(from, fetch.sequence.saturating_sub(1), out);
        }
        let stored = self.log.get(fetch.sequence).and_then(|slot| slot.body(&fetch.digest));
        if let Some(body) = stored.map(|stored| stored.content.bytes.clone()) {
            self.send(To::One(from), &Message::Body(FetchedBody { sequence: fetch.sequence, body }), out);
        }
    }

    pub(crate) fn on_body(&mut self, _from: ReplicaIndex, fetched: FetchedBody, out: &mut Vec<Output>) {
        let FetchedBody { sequence, body } = fetched;
        let Some(digest) = self.wanted.get(&sequence).copied() else { return };
        let Some((content, _)) = Content::parse(&body).filter(|(content, _)| content.digest == digest) else { return };
        let (view, limit) = (self.view, self.config.limits.slot_bodies);
        let Some(slot) = self.log.get_mut(sequence) else { return };
        slot.keep(view, content, limit);
        self.on_body_known(sequence, digest, out);
        self.accept_offers(out);
    }

    /// A body has come, from its primary or by request.
    pub(crate) fn on_body_known(&mut self, sequence: Sequence, digest: Digest, out: &mut Vec<Output>) {
        if self.wanted.get(&sequence) == Some(&digest) {
            self.wanted.remove(&sequence);
        }
        if self.is_voting() {
            self.vote_adopted(sequence, out);
        }
        self.advance_tip();
        self.deliver(out);
    }

    /// Votes cannot bring us to the certificate that we know: the shell must fetch blocks.
    pub(crate) fn request_sync(&mut self, out: &mut Vec<Output>) {
        let Some(certificate) = self.checkpoints.ahead.clone() else { return };
        let signed = |peer: &ReplicaIndex| certificate.signatures.iter().any(|(index, _)| index == peer);
        let (mut candidates, others): (Vec<_>, Vec<_>) = self.config.peers().partition(signed);
        candidates.extend(others);
        out.push(Output::NeedSync { certificate, executed: self.executed, candidates });
    }
}

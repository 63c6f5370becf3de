//! Normal-case operation (4.2): pre-prepare, prepare, commit, execute.

use crate::io::{Event, Evidence, Output, Signatures};
use crate::journal::Then;
use crate::log::{Accepted, Content, Durability, Offer, PrepareVote};
use crate::message::{Commit, Message, PrePrepare, Prepare, Prepared};
use crate::record::{self, Record};
use crate::replica::Replica;
use crate::submissions::BODY_FRAME_BYTES;
use crate::vote::Kind;
use crate::{ReplicaIndex, Sequence, View};
use alloc::vec::Vec;
use waybill_types::{Body, Digest, Signature};

/// How many windows a proposal may be ahead of what we have executed: a correct primary is ahead by one window of what
/// *it* has executed, and we may lag behind it. It bounds the bodies that a primary can make us hold.
const WINDOWS_AHEAD: u64 = 4;

impl<S: Signatures> Replica<S> {
    /// As primary: assigns sequences to what waits, while the window is open. A batch is whatever waits, so batches
    /// grow by themselves when the window is full.
    pub(crate) fn propose(&mut self, out: &mut Vec<Output>) {
        while let Some(body) = self.next_proposal() {
            let content = Content::encode(&body);
            self.accept_own(content, out);
        }
    }

    fn next_proposal(&mut self) -> Option<Body> {
        self.advance_tip();
        if !self.can_propose() {
            return None;
        }
        if self.tip.sequence == 0 {
            return Content::parse(&self.config.first_body).map(|(_, body)| body);
        }
        let limits = self.config.limits;
        let bytes_limit = limits.body_bytes.saturating_sub(BODY_FRAME_BYTES);
        let envelopes = self.submissions.next_batch(&self.tip.origins, bytes_limit, limits.body_envelopes);
        if envelopes.is_empty() && !self.idle_checkpoint_due() {
            return None;
        }
        let mut body = Body { proposed_time_ms: self.now, checkpoint: false, config: None, envelopes };
        body.checkpoint = self.wants_checkpoint(&body);
        Some(body)
    }

    /// Whether the next sequence is ours to assign, and the window and the watermarks leave room for it.
    pub(crate) fn can_propose(&self) -> bool {
        let sequence = self.tip.sequence + 1;
        self.leads()
            && self.log.contains(sequence)
            && sequence > self.view_floor()
            && self.tip.sequence - self.executed < self.config.limits.window
            && self.log.get(sequence).is_none_or(|slot| slot.digest(self.view).is_none())
    }

    /// The checkpoint flag: rare under load, prompt when the queue runs empty.
    fn wants_checkpoint(&self, body: &Body) -> bool {
        if body.envelopes.is_empty() {
            return true;
        }
        let mut after = self.tip.origins.clone();
        let advanced = body.envelopes.iter().filter(|envelope| after.advance(&envelope.header)).count();
        let runs_empty = advanced == body.envelopes.len() && self.submissions.is_empty_after(&after);
        let idle_ms = self.config.timing.checkpoint_idle_ms;
        let flagged_long_ago = self.timers.flagged_at.is_none_or(|at| self.now >= at + idle_ms);
        (runs_empty && flagged_long_ago) || self.covering_is_late()
    }

    fn accept_own(&mut self, content: Content, out: &mut Vec<Output>) {
        let (view, sequence, digest) = (self.view, self.tip.sequence + 1, content.digest);
        if content.checkpoint {
            self.timers.flagged_at = Some(self.now);
        }
        self.timers.proposed_at = self.now;
        let signature = self.keys.sign(Kind::PrePrepare, view, sequence, &digest);
        let body = content.bytes.clone();
        let message = Message::PrePrepare(PrePrepare { view, sequence, digest, signature, body });
        let message = message.to_wire(self.config.membership.epoch);
        self.accept(sequence, content, signature);
        let then = Then::Voted { view, sequence, digest, message: Some(message), prepare: None };
        self.persist_accepted(sequence, digest, signature, then, out);
        self.advance_tip();
    }

    /// `<<PRE-PREPARE, v, n, d>, m>`. Its signature tells whose it is, so anyone may hand it on.
    pub(crate) fn on_pre_prepare(&mut self, from: ReplicaIndex, message: PrePrepare, out: &mut Vec<Output>) {
        let PrePrepare { view, sequence, digest, signature, body } = message;
        if self.is_beyond(view) || sequence > self.log.high() {
            self.ask(from, out);
        }
        if sequence > self.farthest() {
            self.timers.behind = true;
        }
        if view > self.view || !self.log.contains(sequence) || sequence > self.farthest() {
            return;
        }
        let known = self.log.get(sequence).filter(|slot| slot.body(&digest).is_some());
        if known.and_then(|slot| slot.proposal(view)).is_some_and(|known| known.0 == digest) {
            return;
        }
        if body.len() > self.config.limits.body_bytes.max(self.config.first_body.len()) {
            return self.blame(from, "a body beyond the limit", out);
        }
        let primary = self.config.primary(view);
        if Body::digest(&body) != digest
            || !self.keys.verifies(primary, (Kind::PrePrepare, view, sequence, &digest), &signature)
        {
            return self.blame(from, "a proposal that its primary has not signed", out);
        }
        if self.contradicts_proposal(view, sequence, (digest, signature), out) {
            return;
        }
        let Some((content, body)) = Content::parse(&body) else {
            return self.blame(primary, "a body that does not decode", out);
        };
        let (current, me, limit) = (self.view, self.config.me, self.config.limits.slot_bodies);
        // It may overtake the opening of its view.
        let votable = view == current && primary != me;
        let f = self.config.f();
        let Some(slot) = self.log.open(sequence) else { return };
        let committed = slot.commits.values().filter(|vote| vote.1 == digest).count() > f;
        if view < current && !committed {
            // Nobody needs it; and whoever once was primary could fill our memory with such.
            return;
        }
        slot.keep(view, content, limit);
        if votable && slot.proposal(view).is_none() {
            slot.offer = Some(Offer { view, digest, proposal: signature, body, refused: false });
        }
        self.on_body_known(sequence, digest, out);
        self.accept_offers(out);
    }

    /// Whether a vote of this view tells of a view whose opening we have missed.
    fn is_beyond(&self, view: View) -> bool {
        view > self.view || (view == self.view && self.changing)
    }

    /// The highest sequence that we hold proposals for.
    fn farthest(&self) -> Sequence {
        self.delivered.sequence.saturating_add(WINDOWS_AHEAD * self.config.limits.window)
    }

    /// Agrees to proposals in the order of their sequences, as far as they are acceptable.
    pub(crate) fn accept_offers(&mut self, out: &mut Vec<Output>) {
        while self.is_voting() {
            self.advance_tip();
            let sequence = self.tip.sequence + 1;
            let view = self.view;
            let Some(slot) = self.log.get_mut(sequence) else { return };
            let Some(mut offer) = slot.offer.take_if(|offer| offer.view == view) else { return };
            match self.judge(sequence, &offer) {
                Ok(content) => self.agree(sequence, offer, content, out),
                Err(why) => {
                    if !offer.refused {
                        out.push(Output::Event(Event::ProposalRefused { sequence, why }));
                    }
                    offer.refused = true;
                    if let Some(slot) = self.log.get_mut(sequence) {
                        slot.offer = Some(offer);
                    }
                    return;
                }
            }
        }
    }

    fn agree(&mut self, sequence: Sequence, offer: Offer, content: Content, out: &mut Vec<Output>) {
        let Offer { view, digest, proposal, .. } = offer;
        let signature = self.keys.sign(Kind::Prepare, view, sequence, &digest);
        let message = Message::Prepare(Prepare { view, sequence, digest, proposal, signature });
        let message = message.to_wire(self.config.membership.epoch);
        self.accept(sequence, content, proposal);
        let then = Then::Voted { view, sequence, digest, message: Some(message), prepare: Some(signature) };
        self.persist_accepted(sequence, digest, proposal, then, out);
    }

    /// Enters a proposal of the current view into the log.
    fn accept(&mut self, sequence: Sequence, content: Content, proposal: Signature) {
        let (view, limit) = (self.view, self.config.limits.slot_bodies);
        let Some(slot) = self.log.open(sequence) else { return };
        let digest = slot.keep(view, content, limit);
        slot.accepted = Some(Accepted { view, digest, proposal, voted: false });
    }

    /// Makes an accepted proposal durable with its body, unless the body already is on its way to the disk: then the
    /// records before (a new view's among them) say it all.
    pub(crate) fn persist_accepted(
        &mut self,
        sequence: Sequence,
        digest: Digest,
        proposal: Signature,
        then: Then,
        out: &mut Vec<Output>,
    ) {
        let view = self.view;
        let Some(slot) = self.log.get_mut(sequence) else { return };
        let Some(body) = slot.body(&digest).map(|stored| stored.content.bytes.clone()) else { return };
        slot.set_durability(&digest, Durability::Queued);
        let record = Record::Accepted(record::Accepted { view, sequence, proposal, body });
        self.journal.persist(&record, Some(then), out);
    }

    /// Our vote on a proposal is durable: it counts now.
    pub(crate) fn on_voted(
        &mut self,
        view: View,
        sequence: Sequence,
        digest: Digest,
        prepare: Option<Signature>,
        out: &mut Vec<Output>,
    ) {
        let me = self.config.me;
        let Some(slot) = self.log.get_mut(sequence) else { return };
        slot.set_durability(&digest, Durability::Durable);
        if let Some(accepted) = slot.accepted.as_mut().filter(|accepted| accepted.view == view) {
            accepted.voted = true;
        }
        if let Some(signature) = prepare {
            slot.prepares.insert(me, PrepareVote { view, digest, signature });
        }
        self.check_prepared(sequence, out);
        self.deliver(out);
    }

    /// `<PREPARE, v, n, d, i>`. A primary's prepare never counts: its pre-prepare does.
    pub(crate) fn on_prepare(&mut self, from: ReplicaIndex, message: Prepare, out: &mut Vec<Output>) {
        let Prepare { view, sequence, digest, proposal, signature } = message;
        if sequence > self.log.high() {
            return self.ask(from, out);
        }
        if !self.log.contains(sequence) || view < self.view || from == self.config.primary(view) {
            return;
        }
        if self.is_beyond(view) {
            self.ask(from, out);
        }
        let Some(slot) = self.log.open(sequence) else { return };
        let done = slot.prepared.as_ref().is_some_and(|prepared| prepared.view >= view && prepared.digest == digest);
        let known = slot.prepares.get(&from).map(|vote| (vote.view, vote.digest, vote.signature));
        match known {
            Some((known_view, known_digest, _)) if known_view == view && known_digest == digest => return,
            Some((known_view, ..)) if known_view > view => return,
            _ if done => return,
            _ => {}
        }
        if !self.keys.verifies(from, (Kind::Prepare, view, sequence, &digest), &signature) {
            return self.blame(from, "a prepare that it has not signed", out);
        }
        if let Some((known_view, known_digest, known_signature)) = known
            && known_view == view
        {
            let (first, second) = ((known_digest, known_signature), (digest, signature));
            return self.report(Evidence { replica: from, kind: Kind::Prepare, view, sequence, first, second }, out);
        }
        let primary = self.config.primary(view);
        let differs = self.log.get(sequence).and_then(|slot| slot.proposal(view)).is_some_and(|own| own.0 != digest);
        if differs && self.keys.verifies(primary, (Kind::PrePrepare, view, sequence, &digest), &proposal) {
            self.contradicts_proposal(view, sequence, (digest, proposal), out);
        }
        if let Some(slot) = self.log.open(sequence) {
            slot.prepares.insert(from, PrepareVote { view, digest, signature });
        }
        self.check_prepared(sequence, out);
    }

    /// `prepared(m, v, n, i)`: the proposal and a quorum less one of matching prepares of distinct backups, our own
    /// among them only when it is durable.
    pub(crate) fn check_prepared(&mut self, sequence: Sequence, out: &mut Vec<Output>) {
        if !self.is_voting() {
            return;
        }
        let (view, others) = (self.view, self.config.quorum() - 1);
        let Some(slot) = self.log.get_mut(sequence) else { return };
        let Some(accepted) = slot.accepted.as_ref().filter(|accepted| accepted.view == view && accepted.voted) else {
            return;
        };
        if slot.prepared.as_ref().is_some_and(|prepared| prepared.view == view) {
            return;
        }
        let digest = accepted.digest;
        let matching = slot.prepares.iter().filter(|(_, vote)| vote.view == view && vote.digest == digest);
        let prepares: Vec<_> = matching.map(|(index, vote)| (*index, vote.signature)).take(others).collect();
        if prepares.len() < others {
            return;
        }
        let prepared = Prepared { view, sequence, digest, proposal: accepted.proposal, prepares };
        slot.prepared = Some(prepared.clone());
        let then = Then::Prepared { view, sequence, digest };
        self.journal.persist(&Record::Prepared(prepared), Some(then), out);
    }

    /// `<COMMIT, v, n, d, i>`.
    pub(crate) fn on_commit(&mut self, from: ReplicaIndex, message: Commit, out: &mut Vec<Output>) {
        let Commit { view, sequence, digest } = message;
        if self.is_beyond(view) || sequence > self.log.high() {
            self.ask(from, out);
        }
        self.count_commit(from, view, sequence, digest, out);
    }

    /// `committed-local(m, v, n, i)`, in whatever view: a quorum of commits of one view implies that more than f correct
    /// replicas have prepared, so no view can decide otherwise, and whoever sees it may execute.
    pub(crate) fn count_commit(
        &mut self,
        from: ReplicaIndex,
        view: View,
        sequence: Sequence,
        digest: Digest,
        out: &mut Vec<Output>,
    ) {
        let quorum = self.config.quorum();
        let Some(slot) = self.log.open(sequence) else { return };
        if slot.commits.get(&from).is_some_and(|known| known.0 >= view) {
            return;
        }
        slot.commits.insert(from, (view, digest));
        if slot.decided.is_some() || slot.commits.values().filter(|vote| **vote == (view, digest)).count() < quorum {
            return;
        }
        slot.decided = Some((view, digest));
        let mistaken = slot.accepted.as_ref().is_some_and(|accepted| accepted.digest != digest);
        if mistaken && sequence <= self.tip.sequence {
            self.tip = self.delivered.clone();
        }
        self.deliver(out);
        self.accept_offers(out);
    }

    /// Executes what is decided, in the order of sequences, each with its body in a durable record.
    pub(crate) fn deliver(&mut self, out: &mut Vec<Output>) {
        loop {
            let sequence = self.delivered.sequence + 1;
            let Some(slot) = self.log.get(sequence) else { return };
            let Some((view, digest)) = slot.decided else { return };
            let durability = slot.body(&digest).map(|stored| stored.durability);
            match durability {
                None => return self.want(sequence, digest, out),
                Some(Durability::Queued) => return,
                Some(Durability::Loose) => return self.learn(view, sequence, digest, out),
                Some(Durability::Durable) => {}
            }
            let Some(content) = slot.body(&digest).map(|stored| stored.content.clone()) else { return };
            self.delivered.advance(&content, self.config.checkpoint_interval);
            out.push(Output::Execute { sequence, view, body: content.bytes, digest });
            for header in &content.headers {
                self.submissions.on_executed(header.origin, &self.delivered.origins);
            }
            self.on_progress();
            if self.is_voting() && view == self.view {
                self.failed_views = 0;
            }
        }
    }

    /// Writes a body down that was decided without our vote.
    fn learn(&mut self, view: View, sequence: Sequence, digest: Digest, out: &mut Vec<Output>) {
        let Some(slot) = self.log.get_mut(sequence) else { return };
        let Some(body) = slot.body(&digest).map(|stored| stored.content.bytes.clone()) else { return };
        slot.set_durability(&digest, Durability::Queued);
        let record = Record::Learned(record::Learned { view, sequence, body });
        self.journal.persist(&record, Some(Then::Learned { sequence, digest }), out);
    }

    /// Follows the accepted and decided bodies as far as there is no gap.
    pub(crate) fn advance_tip(&mut self) {
        if self.tip.sequence < self.delivered.sequence {
            self.tip = self.delivered.clone();
        }
        loop {
            let next = self.log.get(self.tip.sequence + 1);
            let content = next.and_then(|slot| slot.body(&slot.digest(self.view)?));
            let Some(content) = content.map(|stored| &stored.content) else { return };
            self.tip.advance(content, self.config.checkpoint_interval);
        }
    }

    /// Whether the primary has already signed something else for this place; that is reported.
    fn contradicts_proposal(
        &mut self,
        view: View,
        sequence: Sequence,
        second: (Digest, Signature),
        out: &mut Vec<Output>,
    ) -> bool {
        let first = self.log.get(sequence).and_then(|slot| slot.proposal(view));
        let Some(first) = first.filter(|first| first.0 != second.0) else { return false };
        let replica = self.config.primary(view);
        self.report(Evidence { replica, kind: Kind::PrePrepare, view, sequence, first, second }, out);
        true
    }

    /// Tells of an equivocation, once per replica and sequence.
    fn report(&mut self, evidence: Evidence, out: &mut Vec<Output>) {
        let Some(slot) = self.log.get_mut(evidence.sequence) else { return };
        if slot.reported.insert(evidence.replica) {
            out.push(Output::Evidence(evidence));
        }
    }
}

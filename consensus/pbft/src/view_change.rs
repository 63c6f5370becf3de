//! View changes (4.4): wishing for a view, asking for it, and entering it.
//!
//! We go further than the paper in one step. A replica whose timer runs out first only *wishes* for the next view, in its
//! status messages, and goes on voting; it sends its VIEW-CHANGE, and with it gives up the view, when a quorum wishes
//! for that view or a later one. In the paper a replica that was cut off for a while gives up its view alone, and stays
//! mute after its return until the others happen to change views too. A wish promises nothing, so it is neither signed
//! nor stored; safety rests on the VIEW-CHANGE alone, as in the paper.
//!
//! What a view change proves and what follows from a quorum of them is in [`new_view`](crate::new_view), without state.

use crate::io::{Event, Output, Reason, Signatures};
use crate::journal::Then;
use crate::log::{Accepted, Durability};
use crate::message::{Message, NewView, NewViewContent, Prepare, Proposal, ViewChange, ViewChangeContent};
use crate::new_view::{Claim, choose, prove, verify_opening};
use crate::record::Record;
use crate::replica::Replica;
use crate::vote::Kind;
use crate::{ReplicaIndex, Sequence, View};
use alloc::vec::Vec;
use waybill_types::{Certificate, Codec};

/// A view change whose signature has been verified. What it claims is looked at when a new view may depend on it.
#[derive(Debug)]
pub(crate) struct ReceivedViewChange {
    pub message: ViewChange,
    /// Its proven content, or none if it proves nothing.
    pub claim: Option<Option<Claim>>,
}

/// How the current view began.
#[derive(Debug)]
pub(crate) struct Opening {
    pub message: NewView,
    /// Where its proposals begin (min-s). What lies at or below was decided before: nothing is proposed there in this
    /// view, even if we, or its primary, have not executed as much yet.
    pub min: Sequence,
    /// What it proposes again, in the order of sequences (O).
    pub proposals: Vec<Proposal>,
}

impl<S: Signatures> Replica<S> {
    /// A timer has run out: the current view should end.
    pub(crate) fn wish_next(&mut self, reason: Reason, out: &mut Vec<Output>) {
        self.wish(self.view.saturating_add(1), reason, out);
        self.check_wishes(out);
    }

    fn wish(&mut self, view: View, reason: Reason, out: &mut Vec<Output>) {
        if view > self.wish {
            self.wish = view;
            self.wish_reason = reason;
            out.push(Output::Event(Event::ViewWished { view, reason }));
            self.tell_status(out);
        }
    }

    /// A peer wishes for a view, or is in it.
    pub(crate) fn on_wish(&mut self, from: ReplicaIndex, view: View, out: &mut Vec<Output>) {
        self.wishes.insert(from, view);
        self.check_wishes(out);
    }

    /// Joins a wish that more than f others share: one of them is correct (4.5.2). The faulty ones alone move nobody.
    /// What a quorum wishes for is asked for.
    fn check_wishes(&mut self, out: &mut Vec<Output>) {
        let mut wishes: Vec<View> = self.wishes.values().copied().collect();
        wishes.sort_unstable_by(|left, right| right.cmp(left));
        if let Some(joined) = wishes.get(self.config.f()) {
            self.wish(*joined, Reason::Joined, out);
        }
        wishes.push(self.wish);
        wishes.sort_unstable_by(|left, right| right.cmp(left));
        let wanted = wishes.get(self.config.quorum() - 1).copied().unwrap_or(0);
        if wanted > self.view {
            self.start_view_change(wanted, out);
        }
    }

    /// Stops voting in every view below, and asks for this one with all that we have prepared (P).
    pub(crate) fn start_view_change(&mut self, view: View, out: &mut Vec<Output>) {
        self.view = view;
        self.wish = self.wish.max(view);
        self.changing = true;
        self.opening = None;
        self.failed_views = self.failed_views.saturating_add(1);
        self.restart_view_timers();
        self.forget_proposals();
        let low = self.log.low();
        let prepared = self.log.after(low).filter_map(|(_, slot)| slot.prepared.clone()).collect();
        let content = ViewChangeContent { stable: self.checkpoints.stable.clone(), prepared }.to_bytes();
        let signature = self.keys.sign(Kind::ViewChange, view, 0, &ViewChange::digest(&content));
        let view_change = ViewChange { replica: self.config.me, view, content, signature };
        let record = Record::ViewChange(view_change.clone());
        self.journal.persist(&record, Some(Then::ViewChange(view_change)), out);
        out.push(Output::Event(Event::ViewChangeStarted { view, reason: self.wish_reason }));
    }

    /// The proposals of the views before do not lead to a vote any more.
    fn forget_proposals(&mut self) {
        let view = self.view;
        for slot in self.log.slots_mut() {
            slot.offer.take_if(|offer| offer.view < view);
        }
        self.tip = self.delivered.clone();
        let low = self.log.low();
        // Only what is decided is still to be fetched; a new view will say what else.
        let decided: Vec<_> = self.log.after(low).filter_map(|(at, slot)| Some((at, slot.decided?.1))).collect();
        self.wanted.retain(|at, digest| decided.contains(&(*at, *digest)));
    }

    /// `<VIEW-CHANGE, v, n, C, P, i>` from its sender.
    pub(crate) fn on_view_change(&mut self, from: ReplicaIndex, message: ViewChange, out: &mut Vec<Output>) {
        if message.replica != from {
            return self.blame(from, "another replica's view change", out);
        }
        if message.view < self.view || (message.view == self.view && !self.changing) {
            // It is behind, or has missed the opening.
            if self.may_answer(from) {
                self.show_view(from, out);
            }
            return;
        }
        if self.view_changes.get(&from).is_some_and(|known| known.message.view >= message.view) {
            return;
        }
        let digest = ViewChange::digest(&message.content);
        if !self.keys.verifies(from, (Kind::ViewChange, message.view, 0, &digest), &message.signature) {
            return self.blame(from, "a view change that it has not signed", out);
        }
        self.count_view_change(message, out);
    }

    /// A verified or own durable view change counts.
    pub(crate) fn count_view_change(&mut self, message: ViewChange, out: &mut Vec<Output>) {
        let known = self.view_changes.get(&message.replica).map(|known| known.message.view);
        if known.is_some_and(|view| view >= message.view) {
            return;
        }
        let (replica, view) = (message.replica, message.view);
        self.view_changes.insert(replica, ReceivedViewChange { message, claim: None });
        if replica != self.config.me {
            self.on_wish(replica, view, out);
        }
        if self.changing && self.primary() == self.config.me {
            self.open_view(out);
        }
    }

    /// As the new primary: opens the view when a quorum's view changes are proven.
    fn open_view(&mut self, out: &mut Vec<Output>) {
        let (view, quorum) = (self.view, self.config.quorum());
        let mut view_changes = Vec::new();
        let mut claims = Vec::new();
        for received in self.view_changes.values_mut().filter(|received| received.message.view == view) {
            let claim = received.claim.get_or_insert_with(|| prove(&self.config, &mut self.keys, &received.message));
            if let Some(claim) = claim.as_ref().filter(|_| claims.len() < quorum) {
                view_changes.push(received.message.clone());
                claims.push(claim.clone());
            }
        }
        if claims.len() < quorum {
            return;
        }
        let (stable, chosen) = choose(&self.config, &claims);
        let sign = |(sequence, digest)| Proposal {
            sequence,
            digest,
            signature: self.keys.sign(Kind::PrePrepare, view, sequence, &digest),
        };
        let proposals: Vec<Proposal> = chosen.into_iter().map(sign).collect();
        let content = NewViewContent { view_changes, proposals: proposals.clone() }.to_bytes();
        let signature = self.keys.sign(Kind::NewView, view, 0, &NewView::digest(&content));
        self.enter_view(NewView { view, content, signature }, stable, proposals, out);
    }

    /// `<NEW-VIEW, v, V, O>`. Its signatures tell whose it is, so anyone may hand it on.
    pub(crate) fn on_new_view(&mut self, from: ReplicaIndex, message: NewView, out: &mut Vec<Output>) {
        let awaited = message.view > self.view || (message.view == self.view && self.changing);
        if !awaited {
            return;
        }
        match verify_opening(&self.config, &mut self.keys, &message) {
            Ok((stable, proposals)) => self.enter_view(message, stable, proposals, out),
            Err(what) => self.blame(from, what, out),
        }
    }

    /// The sequence up to which nothing can be proposed in this view.
    pub(crate) fn view_floor(&self) -> Sequence {
        self.opening.as_ref().map_or(self.config.base, |opening| opening.min)
    }

    /// Begins to vote in a view: its opening is durable before anything that we say in it.
    fn enter_view(
        &mut self,
        message: NewView,
        stable: Option<Certificate>,
        proposals: Vec<Proposal>,
        out: &mut Vec<Output>,
    ) {
        let view = message.view;
        self.view = view;
        self.changing = false;
        self.wish = self.wish.max(view);
        self.view_changes.retain(|_, known| known.message.view > view);
        self.forget_proposals();
        self.restart_view_timers();
        let primary = self.primary();
        let wire = Message::NewView(message.clone()).to_wire(self.config.membership.epoch);
        let then = (primary == self.config.me).then_some(Then::NewView(wire));
        self.journal.persist(&Record::NewView(message.clone()), then, out);
        let min = stable.as_ref().map_or(self.config.base, |certificate| certificate.checkpoint.height);
        self.opening = Some(Opening { message, min, proposals });
        out.push(Output::Event(Event::ViewEntered { view, primary }));
        if let Some(stable) = stable {
            self.on_certificate(stable, out);
            // No vote of this view will bring us there.
            self.request_sync(out);
        }
        self.adopt_opening(out);
        self.resubmit(out);
        self.accept_offers(out);
    }

    /// Enters what the view proposes again, as far as it lies between our watermarks, and votes where the body is there.
    pub(crate) fn adopt_opening(&mut self, out: &mut Vec<Output>) {
        if self.changing {
            return;
        }
        let view = self.view;
        let Some(opening) = &self.opening else { return };
        let mut adopted = Vec::new();
        for Proposal { sequence, digest, signature } in &opening.proposals {
            let Some(slot) = self.log.open(*sequence) else { continue };
            if slot.accepted.as_ref().is_none_or(|accepted| accepted.view < view) {
                slot.accepted = Some(Accepted { view, digest: *digest, proposal: *signature, voted: false });
                slot.offer = None;
                adopted.push(*sequence);
            }
        }
        for sequence in adopted {
            self.vote_adopted(sequence, out);
        }
        self.advance_tip();
    }

    /// Votes on a proposal of the view's opening, once its body is known.
    pub(crate) fn vote_adopted(&mut self, sequence: Sequence, out: &mut Vec<Output>) {
        let (view, me, limit) = (self.view, self.config.me, self.config.limits.slot_bodies);
        let Some(slot) = self.log.get(sequence) else { return };
        let accepted = slot.accepted.as_ref().filter(|accepted| accepted.view == view && !accepted.voted);
        let Some((digest, proposal)) = accepted.map(|accepted| (accepted.digest, accepted.proposal)) else { return };
        if let Some(given) = self.given_body(sequence, &digest)
            && let Some(slot) = self.log.get_mut(sequence)
        {
            slot.keep(view, given, limit);
        }
        let stored = self.log.get(sequence).and_then(|slot| slot.body(&digest));
        let Some(durability) = stored.map(|stored| stored.durability) else {
            return self.want(sequence, digest, out);
        };
        let backs = self.primary() != me;
        let prepare = backs.then(|| self.keys.sign(Kind::Prepare, view, sequence, &digest));
        let message = prepare.map(|signature| Prepare { view, sequence, digest, proposal, signature });
        let message = message.map(|prepare| Message::Prepare(prepare).to_wire(self.config.membership.epoch));
        let then = Then::Voted { view, sequence, digest, message, prepare };
        if durability == Durability::Loose {
            self.persist_accepted(sequence, digest, proposal, then, out);
        } else if let Some(then) = self.journal.after_all(then) {
            self.perform(then, out);
        }
    }
}

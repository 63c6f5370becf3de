//! The replica's state, and where each input goes.

use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::io::{Event, Input, Output, Reason, Signatures, To};
use crate::journal::{Journal, Then};
use crate::log::{Content, Durability, Log, Position};
use crate::message::{Commit, Message};
use crate::submissions::Submissions;
use crate::sync::Peers;
use crate::timer::Timers;
use crate::view_change::{Opening, ReceivedViewChange};
use crate::vote::Keys;
use crate::{ReplicaIndex, Sequence, View};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::{Digest, NodeId, PublicKey};

/// One replica of one cluster in one epoch.
pub struct Replica<S> {
    pub(crate) config: Config,
    pub(crate) keys: Keys<S>,
    /// Who may submit.
    pub(crate) origins: BTreeMap<NodeId, PublicKey>,
    /// The time of the input being handled.
    pub(crate) now: u64,
    /// The view in which we vote, or for which we have asked.
    pub(crate) view: View,
    /// From our VIEW-CHANGE for `view` until its NEW-VIEW: we vote in no view, and learn from others' commits.
    pub(crate) changing: bool,
    /// The view that we would rather be in: `view`, or a later one.
    pub(crate) wish: View,
    /// Why.
    pub(crate) wish_reason: Reason,
    /// What each peer has last wished for.
    pub(crate) wishes: BTreeMap<ReplicaIndex, View>,
    /// How `view` began; none in view 0, and while changing.
    pub(crate) opening: Option<Opening>,
    /// Each replica's VIEW-CHANGE of the highest view, ours once it is durable.
    pub(crate) view_changes: BTreeMap<ReplicaIndex, ReceivedViewChange>,
    /// How many views we have asked for since the last progress.
    pub(crate) failed_views: u32,
    pub(crate) log: Log,
    /// What the shell was told to execute.
    pub(crate) delivered: Position,
    /// What the shell has reported as executed.
    pub(crate) executed: Sequence,
    /// What follows when everything accepted in this view executes: new proposals start here.
    pub(crate) tip: Position,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) submissions: Submissions,
    pub(crate) journal: Journal,
    pub(crate) timers: Timers,
    pub(crate) peers: Peers,
    /// Bodies to fetch.
    pub(crate) wanted: BTreeMap<Sequence, Digest>,
    /// Our state contradicts a certificate: we say nothing any more.
    pub(crate) halted: bool,
}

impl<S: Signatures> Replica<S> {
    /// Handles one input at time `now_ms` (milliseconds since 1970, never falling within one run).
    pub fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        if self.halted {
            return;
        }
        self.now = self.now.max(now_ms);
        match input {
            Input::Message { from, bytes } => self.handle_message(from, &bytes, out),
            Input::Submit(envelope) => self.handle_submit(envelope, out),
            Input::Tick => self.accept_offers(out),
            Input::Persisted(id) => {
                if !self.journal.on_persisted(id) {
                    out.push(Output::Event(Event::ShellMisbehaved("reported a record that was never asked for")));
                }
            }
            Input::Executed { sequence, checkpoint } => self.handle_executed(sequence, checkpoint, out),
            Input::Reconnected { peer } => self.handle_reconnected(peer, out),
            Input::Synced { certificate, origins, executed } => self.handle_synced(certificate, origins, executed, out),
            Input::SetOrigins(origins) => {
                self.origins = origins;
                self.accept_offers(out);
            }
        }
        if !self.halted {
            self.settle(out);
        }
    }

    /// When to call [`Replica::handle`] with [`Input::Tick`] at the latest; none while nothing is awaited.
    pub fn next_timeout(&self) -> Option<u64> {
        if self.halted { None } else { self.timers.next().into_iter().chain(self.submissions.next_timeout()).min() }
    }

    /// How many own envelopes can be submitted now.
    pub fn room(&self) -> usize {
        let own = self.config.membership.members.get(usize::from(self.config.me)).map(|member| member.node);
        let waiting = own.map_or(0, |node| self.submissions.count(node));
        self.config.limits.origin_envelopes.saturating_sub(waiting)
    }

    /// The current view: voted in, or asked for.
    pub fn view(&self) -> View {
        self.view
    }

    /// Whether we vote in the current view.
    pub fn is_voting(&self) -> bool {
        !self.changing && !self.halted
    }

    /// The primary of the current view.
    pub fn primary(&self) -> ReplicaIndex {
        self.config.primary(self.view)
    }

    /// The last stable checkpoint's sequence.
    pub fn stable(&self) -> Sequence {
        self.log.low()
    }

    /// The last sequence that the shell has reported as executed.
    pub fn executed(&self) -> Sequence {
        self.executed
    }

    /// Whether we vote in the current view and are its primary.
    pub(crate) fn leads(&self) -> bool {
        self.is_voting() && self.primary() == self.config.me
    }

    /// Brings the state to rest after an input: what is durable is said, timers fire, the primary proposes.
    pub(crate) fn settle(&mut self, out: &mut Vec<Output>) {
        self.drain_journal(out);
        self.fire_timers(out);
        self.propose(out);
        // With nothing left to persist (n = 1 of a shell that reports at once) the last step may have freed more.
        self.drain_journal(out);
        self.rearm();
    }

    fn drain_journal(&mut self, out: &mut Vec<Output>) {
        while let Some(then) = self.journal.pop() {
            self.perform(then, out);
        }
    }

    /// Does what waited for the disk.
    pub(crate) fn perform(&mut self, then: Then, out: &mut Vec<Output>) {
        match then {
            Then::Voted { view, sequence, digest, message, prepare } => {
                if let Some(message) = message {
                    self.send_bytes(To::All, message, out);
                }
                self.on_voted(view, sequence, digest, prepare, out);
            }
            Then::Learned { sequence, digest } => {
                if let Some(slot) = self.log.get_mut(sequence) {
                    slot.set_durability(&digest, Durability::Durable);
                }
                self.deliver(out);
            }
            Then::Prepared { view, sequence, digest } => {
                self.send(To::All, &Message::Commit(Commit { view, sequence, digest }), out);
                self.count_commit(self.config.me, view, sequence, digest, out);
            }
            Then::ViewChange(view_change) => {
                self.send(To::All, &Message::ViewChange(view_change.clone()), out);
                self.count_view_change(view_change, out);
            }
            Then::NewView(message) => self.send_bytes(To::All, message, out),
            Then::Checkpoint(vote) => {
                self.send(To::All, &Message::Checkpoint(vote.clone()), out);
                self.count_checkpoint(self.config.me, vote, out);
            }
        }
    }

    fn handle_message(&mut self, from: ReplicaIndex, bytes: &Bytes, out: &mut Vec<Output>) {
        if usize::from(from) >= self.config.n() || from == self.config.me {
            out.push(Output::Event(Event::ShellMisbehaved("gave a message of nobody's")));
            return;
        }
        if bytes.len() > self.config.message_bytes_limit() {
            return self.blame(from, "a message beyond every limit", out);
        }
        let message = match Message::from_wire(bytes) {
            Ok((epoch, message)) if epoch == self.config.membership.epoch => message,
            // A replica that has not heard of the new epoch yet, or has before us, does nothing wrong.
            Ok(_) => return,
            Err(_) => return self.blame(from, "a message that does not decode", out),
        };
        match message {
            Message::Submit(envelope) => self.on_submit(envelope, bytes.len(), out),
            Message::Complain(envelope) => self.on_complain(envelope, bytes.len(), out),
            Message::PrePrepare(pre_prepare) => self.on_pre_prepare(from, pre_prepare, out),
            Message::Prepare(prepare) => self.on_prepare(from, prepare, out),
            Message::Commit(commit) => self.on_commit(from, commit, out),
            Message::Checkpoint(vote) => self.on_checkpoint(from, vote, out),
            Message::ViewChange(view_change) => self.on_view_change(from, view_change, out),
            Message::NewView(new_view) => self.on_new_view(from, new_view, out),
            Message::Status(status) => self.on_status(from, status, out),
            Message::Fetch(fetch) => self.on_fetch(from, fetch, out),
            Message::Body(body) => self.on_body(from, body, out),
            Message::Stable(certificate) => self.on_stable(from, certificate, out),
        }
    }

    pub(crate) fn send(&self, to: To, message: &Message, out: &mut Vec<Output>) {
        self.send_bytes(to, message.to_wire(self.config.membership.epoch), out);
    }

    pub(crate) fn send_bytes(&self, to: To, message: Bytes, out: &mut Vec<Output>) {
        if self.config.n() > 1 {
            out.push(Output::Send { to, message });
        }
    }

    pub(crate) fn blame(&self, peer: ReplicaIndex, what: &'static str, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::PeerMisbehaved { peer, what }));
    }

    /// The body of a sequence that needs no proposal to be known: the first one, and the null request.
    pub(crate) fn given_body(&self, sequence: Sequence, digest: &Digest) -> Option<Content> {
        let given = if sequence == 1 { Content::parse(&self.config.first_body)?.0 } else { Content::null() };
        (given.digest == *digest).then_some(given)
    }
}

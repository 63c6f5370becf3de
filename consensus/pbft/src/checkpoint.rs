//! Garbage collection (4.3): checkpoints, their certificates, and the watermarks.

use crate::io::{Event, Output, Signatures};
use crate::journal::Then;
use crate::log::Position;
use crate::message::CheckpointVote;
use crate::record::{Record, StableMark};
use crate::replica::Replica;
use crate::{ReplicaIndex, Sequence};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use waybill_types::{Certificate, Checkpoint, Origins};

/// What is known of checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// The newest certified one that we have executed; none at the epoch's base.
    pub stable: Option<Certificate>,
    /// The newest certified one that we have not executed.
    pub ahead: Option<Certificate>,
    /// Our own after the stable one.
    pub own: BTreeMap<Sequence, CheckpointVote>,
    /// Verified votes between the watermarks, ours when it is durable.
    votes: BTreeMap<Sequence, BTreeMap<ReplicaIndex, CheckpointVote>>,
    /// Each peer's newest verified vote above the high watermark: it tells that we are behind.
    beyond: BTreeMap<ReplicaIndex, CheckpointVote>,
}

impl Checkpoints {
    /// A quorum of equal votes at a sequence, as a certificate.
    fn certificate(&self, checkpoint: &Checkpoint, quorum: usize) -> Option<Certificate> {
        let within = self.votes.get(&checkpoint.height).into_iter().flatten();
        let mut signatures: BTreeMap<_, _> = within
            .chain(&self.beyond)
            .filter(|(_, vote)| vote.checkpoint == *checkpoint)
            .map(|(index, vote)| (*index, vote.signature))
            .collect();
        while signatures.len() > quorum {
            signatures.pop_last();
        }
        let enough = signatures.len() >= quorum;
        enough.then(|| Certificate { checkpoint: checkpoint.clone(), signatures: signatures.into_iter().collect() })
    }

    /// Our own votes after the stable checkpoint that are durable.
    pub(crate) fn durable_own(&self, me: ReplicaIndex) -> impl Iterator<Item = &CheckpointVote> {
        self.votes.values().filter_map(move |votes| votes.get(&me))
    }

    /// Our own vote, from a durable record.
    pub(crate) fn restore(&mut self, me: ReplicaIndex, vote: CheckpointVote) {
        self.own.insert(vote.checkpoint.height, vote.clone());
        self.votes.entry(vote.checkpoint.height).or_default().insert(me, vote);
    }

    /// Forgets what lies at or below the new low watermark.
    fn prune(&mut self, low: Sequence) {
        self.own = self.own.split_off(&(low + 1));
        self.votes = self.votes.split_off(&(low + 1));
        self.beyond.retain(|_, vote| vote.checkpoint.height > low);
        self.ahead.take_if(|ahead| ahead.checkpoint.height <= low);
    }
}

impl<S: Signatures> Replica<S> {
    /// The ledger has executed a body; if a checkpoint falls there, we sign it.
    pub(crate) fn handle_executed(
        &mut self,
        sequence: Sequence,
        checkpoint: Option<Checkpoint>,
        out: &mut Vec<Output>,
    ) {
        if sequence <= self.executed {
            return;
        }
        if sequence != self.executed + 1 || sequence > self.delivered.sequence {
            out.push(Output::Event(Event::ShellMisbehaved("executed what it was not told to, or left a gap")));
            return;
        }
        self.executed = sequence;
        self.on_progress();
        if let Some(checkpoint) = checkpoint {
            if self.is_ours(&checkpoint) && checkpoint.height == sequence {
                self.sign_checkpoint(checkpoint, out);
            } else {
                out.push(Output::Event(Event::ShellMisbehaved("a checkpoint of another ledger or height")));
            }
        }
        if let Some(certificate) = self.checkpoints.ahead.take_if(|ahead| ahead.checkpoint.height <= sequence) {
            self.on_certificate(certificate, out);
        }
        self.accept_offers(out);
    }

    fn sign_checkpoint(&mut self, checkpoint: Checkpoint, out: &mut Vec<Output>) {
        let signature = self.keys.sign_text(&checkpoint.text());
        let vote = CheckpointVote { checkpoint, signature };
        self.checkpoints.own.insert(vote.checkpoint.height, vote.clone());
        self.journal.persist(&Record::Checkpoint(vote.clone()), Some(Then::Checkpoint(vote)), out);
    }

    /// `<CHECKPOINT, n, d, i>`, in whatever view.
    pub(crate) fn on_checkpoint(&mut self, from: ReplicaIndex, vote: CheckpointVote, out: &mut Vec<Output>) {
        let height = vote.checkpoint.height;
        if height <= self.log.low() {
            return;
        }
        let held = if self.log.contains(height) {
            self.checkpoints.votes.get(&height).and_then(|votes| votes.get(&from))
        } else {
            self.checkpoints.beyond.get(&from).filter(|held| held.checkpoint.height >= height)
        };
        if held.is_some() {
            return;
        }
        if !self.is_ours(&vote.checkpoint) {
            return self.blame(from, "a checkpoint of another ledger, cluster or epoch", out);
        }
        let text = vote.checkpoint.text();
        if !self.keys.verifies_bytes(from, text.as_bytes(), &vote.signature) {
            return self.blame(from, "a checkpoint that it has not signed", out);
        }
        self.count_checkpoint(from, vote, out);
    }

    /// A verified or own durable vote counts. A quorum of equal ones is a certificate.
    pub(crate) fn count_checkpoint(&mut self, from: ReplicaIndex, vote: CheckpointVote, out: &mut Vec<Output>) {
        let checkpoint = vote.checkpoint.clone();
        if checkpoint.height <= self.log.low() {
            return;
        }
        if self.log.contains(checkpoint.height) {
            self.checkpoints.votes.entry(checkpoint.height).or_default().insert(from, vote);
        } else {
            self.checkpoints.beyond.insert(from, vote);
        }
        if let Some(certificate) = self.checkpoints.certificate(&checkpoint, self.config.quorum()) {
            self.on_certificate(certificate, out);
        }
    }

    /// A peer's newest stable checkpoint.
    pub(crate) fn on_stable(&mut self, from: ReplicaIndex, certificate: Certificate, out: &mut Vec<Output>) {
        let known = self.checkpoints.ahead.as_ref().map_or(0, |ahead| ahead.checkpoint.height);
        if certificate.checkpoint.height <= self.log.low().max(known) {
            return;
        }
        if self.is_certified(&certificate) {
            self.on_certificate(certificate, out);
        } else {
            self.blame(from, "a certificate that does not verify", out);
        }
    }

    /// Whether a quorum of this epoch signed a checkpoint of this ledger.
    pub(crate) fn is_certified(&mut self, certificate: &Certificate) -> bool {
        let quorum = self.config.quorum();
        self.is_ours(&certificate.checkpoint) && self.keys.verifies_certificate(certificate, quorum)
    }

    fn is_ours(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.network == self.config.network
            && checkpoint.ledger == self.config.ledger
            && checkpoint.cluster == self.config.cluster
            && checkpoint.epoch == self.config.membership.epoch
            && checkpoint.height > self.config.base
    }

    /// A verified certificate: stable if we have executed as much, else a target.
    pub(crate) fn on_certificate(&mut self, certificate: Certificate, out: &mut Vec<Output>) {
        let height = certificate.checkpoint.height;
        if height <= self.log.low() {
            return;
        }
        if height > self.executed {
            if self.checkpoints.ahead.as_ref().is_none_or(|ahead| ahead.checkpoint.height < height) {
                self.checkpoints.ahead = Some(certificate);
                self.sync_if_out_of_reach(height, out);
            }
            return;
        }
        let own = self.checkpoints.own.get(&height).map(|vote| &vote.checkpoint);
        if let Some(own) = own.filter(|own| **own != certificate.checkpoint) {
            let own = own.clone();
            self.halted = true;
            out.push(Output::Diverged { certificate, own });
            return;
        }
        self.make_stable(certificate, out);
    }

    /// Beyond the high watermark no vote can bring us there; below it the votes under way may.
    fn sync_if_out_of_reach(&mut self, height: Sequence, out: &mut Vec<Output>) {
        if height > self.log.high() && self.timers.sync.is_none() {
            self.timers.sync = Some(self.now + self.config.timing.sync_delay_ms);
            self.request_sync(out);
        }
    }

    /// The checkpoint is stable: the watermarks move, and all that lies below is discarded.
    fn make_stable(&mut self, certificate: Certificate, out: &mut Vec<Output>) {
        let height = certificate.checkpoint.height;
        self.log.advance(height);
        self.wanted = self.wanted.split_off(&(height + 1));
        self.checkpoints.stable = Some(certificate.clone());
        self.checkpoints.prune(height);
        let mark = StableMark { view: self.view, changing: self.changing, certificate: certificate.clone() };
        self.journal.persist(&Record::Stable(mark), None, out);
        out.push(Output::Stable(certificate));
        self.timers.coverage = None;
        self.timers.uncovered_since = None;
        self.on_progress();
        // The window has moved: what the view's opening proposes above the old one has its place now.
        self.adopt_opening(out);
    }

    /// The shell has executed certified blocks that it fetched.
    pub(crate) fn handle_synced(
        &mut self,
        certificate: Certificate,
        origins: Origins,
        executed: Sequence,
        out: &mut Vec<Output>,
    ) {
        if executed >= self.delivered.sequence {
            let checkpoint = certificate.checkpoint.height.max(self.delivered.checkpoint);
            self.delivered = Position { sequence: executed, origins, checkpoint };
            self.submissions.on_synced(&self.delivered.origins);
        }
        if executed > self.executed {
            self.executed = executed;
            self.on_progress();
        }
        // Whatever was accepted in between may differ from what was executed.
        self.tip = self.delivered.clone();
        if self.is_ours(&certificate.checkpoint) {
            self.on_certificate(certificate, out);
        }
        if let Some(ahead) = self.checkpoints.ahead.take_if(|ahead| ahead.checkpoint.height <= self.executed) {
            self.on_certificate(ahead, out);
        }
        self.deliver(out);
        self.accept_offers(out);
    }
}

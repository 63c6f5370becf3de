//! Starting, with nothing or with what a journal holds: a restarted replica says again what it has said, and nothing
//! that contradicts it.

use crate::checkpoint::Checkpoints;
use crate::config::{Config, ConfigError};
use crate::io::{Output, Reason, Restored, Signatures};
use crate::journal::Journal;
use crate::log::{Accepted, Content, Durability, Log, Position, PrepareVote};
use crate::message::{NewView, NewViewContent, Prepared, ViewChange, ViewChangeContent};
use crate::record::{self, Record};
use crate::replica::Replica;
use crate::submissions::Submissions;
use crate::sync::Peers;
use crate::timer::Timers;
use crate::view_change::{Opening, ReceivedViewChange};
use crate::vote::{Keys, Kind};
use crate::{Sequence, View};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use waybill_types::{Codec, DecodeError, Signature};

/// Why a replica cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The configuration makes no sense.
    Config(ConfigError),
    /// A journal record is not one of ours: the journal is corrupt, and voting without it would break promises.
    Record(DecodeError),
    /// The stable checkpoint is not of this ledger, or its signatures do not verify.
    Stable,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => write!(f, "{error}"),
            StartError::Record(error) => write!(f, "a record of the journal is corrupt: {error}"),
            StartError::Stable => write!(f, "the stable checkpoint is not one of this ledger's quorum"),
        }
    }
}

impl core::error::Error for StartError {}

impl<S: Signatures> Replica<S> {
    /// Starts a replica, new or again. The outputs are to be performed like those of [`Replica::handle`].
    pub fn start(
        config: Config,
        signatures: S,
        restored: Restored,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let records: Result<Vec<Record>, DecodeError> = restored.records.iter().map(Record::from_bytes).collect();
        let records = records.map_err(StartError::Record)?;
        let mut replica = Replica::blank(config, signatures, &restored, now_ms);
        replica.restore_stable(restored, &records)?;
        for record in records {
            replica.replay(record)?;
        }
        replica.resume(out);
        Ok(replica)
    }

    fn blank(config: Config, signatures: S, restored: &Restored, now_ms: u64) -> Self {
        let executed = restored.executed.max(config.base);
        let delivered = Position { sequence: executed, origins: restored.origins.clone(), checkpoint: config.base };
        Replica {
            keys: Keys::new(signatures, &config),
            origins: config.origins.clone(),
            now: now_ms,
            view: 0,
            changing: false,
            wish: 0,
            wish_reason: Reason::Joined,
            wishes: BTreeMap::new(),
            opening: None,
            view_changes: BTreeMap::new(),
            failed_views: 0,
            log: Log::new(config.base, config.log_length()),
            tip: delivered.clone(),
            delivered,
            executed,
            checkpoints: Checkpoints::default(),
            submissions: Submissions::default(),
            journal: Journal::default(),
            timers: Timers::default(),
            peers: Peers::new(config.n()),
            wanted: BTreeMap::new(),
            halted: false,
            config,
        }
    }

    /// The newest certificate comes first: it says which records still matter.
    fn restore_stable(&mut self, restored: Restored, records: &[Record]) -> Result<(), StartError> {
        let marks = records.iter().filter_map(|record| match record {
            Record::Stable(mark) => Some(mark.certificate.clone()),
            _ => None,
        });
        let Some(newest) = restored.stable.into_iter().chain(marks).max_by_key(|known| known.checkpoint.height) else {
            return Ok(());
        };
        let height = newest.checkpoint.height;
        if height <= self.config.base {
            return Ok(());
        }
        if !self.is_certified(&newest) {
            return Err(StartError::Stable);
        }
        // Promises above it are kept even if the ledger has lost what was certified; its blocks come from the others.
        self.log.advance(height);
        if height > self.executed {
            self.checkpoints.ahead = Some(newest.clone());
        } else {
            self.delivered.checkpoint = height;
        }
        self.checkpoints.stable = Some(newest);
        Ok(())
    }

    fn replay(&mut self, record: Record) -> Result<(), StartError> {
        match record {
            Record::Accepted(record::Accepted { view, sequence, proposal, body }) => {
                self.replay_body(view, sequence, body, Some(proposal))
            }
            Record::Learned(record::Learned { view, sequence, body }) => self.replay_body(view, sequence, body, None),
            Record::Prepared(prepared) => {
                self.replay_prepared(prepared);
                Ok(())
            }
            Record::ViewChange(message) => {
                self.replay_view_change(message);
                Ok(())
            }
            Record::NewView(message) => self.replay_new_view(message),
            Record::Checkpoint(vote) => {
                if vote.checkpoint.height > self.log.low() && vote.checkpoint.height <= self.executed {
                    self.delivered.checkpoint = self.delivered.checkpoint.max(vote.checkpoint.height);
                    self.checkpoints.restore(self.config.me, vote);
                }
                Ok(())
            }
            Record::Stable(mark) => {
                if mark.view > self.view {
                    self.view = mark.view;
                    self.changing = mark.changing;
                    self.opening = None;
                }
                Ok(())
            }
        }
    }

    fn replay_body(
        &mut self,
        view: View,
        sequence: Sequence,
        body: Bytes,
        proposal: Option<Signature>,
    ) -> Result<(), StartError> {
        let limit = self.config.limits.slot_bodies;
        let Some(slot) = self.log.open(sequence) else { return Ok(()) };
        let corrupt = StartError::Record(DecodeError::Invalid("a stored body is not canonical"));
        let (content, _) = Content::parse(&body).ok_or(corrupt)?;
        let digest = slot.keep(view, content, limit);
        slot.set_durability(&digest, Durability::Durable);
        if let Some(proposal) = proposal
            && slot.accepted.as_ref().is_none_or(|accepted| accepted.view <= view)
        {
            slot.accepted = Some(Accepted { view, digest, proposal, voted: true });
        }
        Ok(())
    }

    fn replay_prepared(&mut self, prepared: Prepared) {
        let me = self.config.me;
        let Some(slot) = self.log.open(prepared.sequence) else { return };
        if slot.prepared.as_ref().is_none_or(|known| known.view < prepared.view) {
            slot.commits.insert(me, (prepared.view, prepared.digest));
            slot.prepared = Some(prepared);
        }
    }

    fn replay_view_change(&mut self, message: ViewChange) {
        if message.view < self.view || (message.view == self.view && self.opening.is_some()) {
            return;
        }
        self.view = message.view;
        self.changing = true;
        self.opening = None;
        self.view_changes.insert(self.config.me, ReceivedViewChange { message, claim: None });
    }

    /// With a durable opening its proposals are accepted, as far as their bodies were durable by then.
    fn replay_new_view(&mut self, message: NewView) -> Result<(), StartError> {
        if message.view < self.view {
            return Ok(());
        }
        let content = NewViewContent::from_bytes(&message.content).map_err(StartError::Record)?;
        let view = message.view;
        self.view = view;
        self.changing = false;
        self.view_changes.clear();
        for proposal in &content.proposals {
            let Some(slot) = self.log.open(proposal.sequence) else { continue };
            if slot.accepted.as_ref().is_none_or(|accepted| accepted.view < view) {
                let digest = proposal.digest;
                let voted = slot.body(&digest).is_some();
                slot.accepted = Some(Accepted { view, digest, proposal: proposal.signature, voted });
            }
        }
        let min = proven_min(&content).map_err(StartError::Record)?.max(self.config.base);
        self.opening = Some(Opening { message, min, proposals: content.proposals });
        Ok(())
    }

    /// Takes up where the records end.
    fn resume(&mut self, out: &mut Vec<Output>) {
        self.tip = self.delivered.clone();
        self.wish = self.view;
        let own_request = self.view_changes.get(&self.config.me).is_some_and(|own| own.message.view == self.view);
        let known = if self.changing { own_request } else { self.view == 0 || self.opening.is_some() };
        if !known {
            // The record of how we came here is gone, and with it what we promised: only a later view is safe.
            self.start_view_change(self.view.saturating_add(1), out);
        }
        self.restore_prepares();
        let low = self.log.low();
        let sequences: Vec<Sequence> = self.log.after(low).map(|(sequence, _)| sequence).collect();
        for sequence in sequences {
            self.vote_adopted(sequence, out);
            self.check_prepared(sequence, out);
            self.recount_commits(sequence);
        }
        self.advance_tip();
        self.deliver(out);
        self.request_sync(out);
        self.settle(out);
    }

    /// Our prepares of this view follow from what we have accepted: the same key over the same bytes.
    fn restore_prepares(&mut self) {
        let (view, me, low) = (self.view, self.config.me, self.log.low());
        if !self.is_voting() || self.primary() == me {
            return;
        }
        let accepted = self.log.after(low).filter_map(|(sequence, slot)| {
            let accepted = slot.accepted.as_ref().filter(|accepted| accepted.view == view && accepted.voted)?;
            Some((sequence, accepted.digest))
        });
        let accepted: Vec<_> = accepted.collect();
        for (sequence, digest) in accepted {
            let signature = self.keys.sign(Kind::Prepare, view, sequence, &digest);
            if let Some(slot) = self.log.get_mut(sequence) {
                slot.prepares.insert(me, PrepareVote { view, digest, signature });
            }
        }
    }

    /// Alone, an own commit is a quorum.
    fn recount_commits(&mut self, sequence: Sequence) {
        let alone = self.config.quorum() == 1;
        if let Some(slot) = self.log.get_mut(sequence).filter(|_| alone) {
            slot.decided = slot.commits.get(&self.config.me).copied();
        }
    }
}

/// The highest checkpoint that an opening's view changes prove (min-s). They were verified before they were stored.
fn proven_min(content: &NewViewContent) -> Result<Sequence, DecodeError> {
    let mut min = 0;
    for view_change in &content.view_changes {
        let stable = ViewChangeContent::from_bytes(&view_change.content)?.stable;
        min = min.max(stable.map_or(0, |certificate| certificate.checkpoint.height));
    }
    Ok(min)
}

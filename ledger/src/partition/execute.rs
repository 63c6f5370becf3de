//! Runs a block's transactions through the contract and collects what comes of them.

use super::Entry;
use super::chain::{Execution, Place};
use super::overlay::Delivery;
use super::rows::TimedEntry;
use crate::contract::{Call, Contract, SystemEvent};
use crate::keys::DeliveryKind;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::{Checkpoint, Digest, Header, Leaf, LedgerId, Offset, Outcome, Transaction};

/// What one executed body has led to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The block's header.
    pub header: Header,
    /// One outcome per executed transaction, in order (the configuration of the first block included).
    pub outcomes: Vec<Outcome>,
    /// The envelopes that executed, in order.
    pub envelopes: Vec<ExecutedEnvelope>,
    /// The envelopes that did not, because they were not the next of their origin, or were of another cluster.
    pub skipped: Vec<EnvelopeHeader>,
    /// The batches that were appended, in order.
    pub entries: Vec<Arc<Entry>>,
    /// Whether another configuration is in force now.
    pub config_changed: bool,
    /// What has changed in the network, if this is the system ledger.
    pub system: Vec<SystemEvent>,
    /// The state to sign, if a checkpoint falls here.
    pub checkpoint: Option<Checkpoint>,
}

/// An envelope that executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedEnvelope {
    /// Whose it is, and which.
    pub header: EnvelopeHeader,
    /// Where its outcomes are in [`Applied::outcomes`]: one for each of its transactions, in order.
    pub outcomes: Range<usize>,
}

impl Applied {
    /// For each executed transaction the envelope, its place in it, and its outcome: to answer who waits for it.
    pub fn answers(&self) -> impl Iterator<Item = (&EnvelopeHeader, u32, Outcome)> {
        self.envelopes.iter().flat_map(|envelope| {
            let outcomes = self.outcomes.get(envelope.outcomes.clone()).unwrap_or_default();
            outcomes.iter().enumerate().map(|(place, outcome)| (&envelope.header, place as u32, *outcome))
        })
    }
}

/// What a body has led to, before it is shared out between readers and shell.
#[derive(Debug, Default)]
pub(super) struct Executed {
    pub outcomes: Vec<Outcome>,
    pub entries: Vec<TimedEntry>,
    pub deliveries: Vec<Delivery>,
    pub tile_hashes: Vec<(u8, Digest)>,
    pub config_changed: bool,
    pub max_timestamp_ms: i64,
    envelopes: Vec<ExecutedEnvelope>,
    skipped: Vec<(u32, EnvelopeHeader)>,
    system: Vec<SystemEvent>,
}

impl Executed {
    pub fn skipped_indices(&self) -> Vec<u32> {
        self.skipped.iter().map(|(index, _)| *index).collect()
    }

    pub fn into_applied(self, header: Header, checkpoint: Option<Checkpoint>) -> Applied {
        Applied {
            header,
            outcomes: self.outcomes,
            envelopes: self.envelopes,
            skipped: self.skipped.into_iter().map(|(_, header)| header).collect(),
            entries: self.entries.into_iter().map(|timed| timed.entry).collect(),
            config_changed: self.config_changed,
            system: self.system,
            checkpoint,
        }
    }
}

/// The execution of one body.
pub(super) struct Executing<'a> {
    contract: &'a mut Contract,
    ledger: LedgerId,
    /// How far the organisation of the current transaction had committed before it.
    committed_before: Offset,
    executed: Executed,
}

impl<'a> Executing<'a> {
    /// `count` transactions are to come, about.
    pub fn new(contract: &'a mut Contract, ledger: LedgerId, max_timestamp_ms: i64, count: usize) -> Self {
        let executed = Executed {
            max_timestamp_ms,
            outcomes: Vec::with_capacity(count),
            entries: Vec::with_capacity(count),
            tile_hashes: Vec::with_capacity(count),
            ..Executed::default()
        };
        Executing { contract, ledger, committed_before: 0, executed }
    }

    pub fn finish(self) -> Executed {
        self.executed
    }

    /// An entry or a delivery, if the transaction is one.
    fn note(&mut self, leaf_index: u64, leaf: Leaf, origin: &EnvelopeHeader) {
        let (height, outcome) = (leaf.height, leaf.outcome);
        let org = || self.contract.org_of(origin.origin).cloned();
        let (kind, by, receiver, first, last) = match (leaf.transaction, outcome) {
            (Transaction::Send(send), Outcome::Appended { base_offset }) => {
                let Some(sender) = org() else { return };
                let entry = Entry {
                    ledger: self.ledger,
                    base_offset,
                    height,
                    leaf_index,
                    time_ms: leaf.time_ms,
                    log_append_time: self.contract.config().log_append_time,
                    sender,
                    origin: origin.origin,
                    send,
                };
                let max_so_far_ms = self.executed.max_timestamp_ms.max(entry.max_timestamp_ms());
                self.executed.max_timestamp_ms = max_so_far_ms;
                self.executed.entries.push(TimedEntry { entry: Arc::new(entry), max_so_far_ms });
                return;
            }
            (Transaction::Retrieve(retrieve), Outcome::Recorded) => {
                (DeliveryKind::Retrieved, org(), Some(retrieve.receiver), retrieve.first, retrieve.last)
            }
            (Transaction::Receive(receive), Outcome::Recorded) => {
                (DeliveryKind::Received, None, org(), receive.first, receive.last)
            }
            // Only the offsets that no group of the organisation had passed before: the first evidence counts.
            (Transaction::Commit(commit), Outcome::Recorded) if commit.offset > self.committed_before => {
                (DeliveryKind::Committed, None, org(), self.committed_before, commit.offset - 1)
            }
            _ => return,
        };
        if let Some(org) = receiver {
            self.executed.deliveries.push(Delivery { kind, by, org, first, last, height, leaf_index });
        }
    }
}

impl Execution for Executing<'_> {
    type Error = Infallible;

    fn outcome(&mut self, place: &Place, transaction: &Transaction) -> Result<Outcome, Infallible> {
        // The first block's configuration has started the contract.
        let Some(envelope) = place.envelope else { return Ok(Outcome::Recorded) };
        if let (Transaction::Commit(_), Contract::Exchange(exchange)) = (transaction, &*self.contract) {
            self.committed_before = exchange.org_of(envelope.origin).map_or(0, |org| exchange.committed(org));
        }
        let call = Call {
            origin: envelope.origin,
            height: place.height,
            time_ms: place.time_ms,
            next_offset: place.next_offset,
        };
        let (outcome, effects) = self.contract.execute(&call, transaction);
        self.executed.config_changed |= effects.config_changed;
        self.executed.system.extend(effects.system);
        Ok(outcome)
    }

    fn leaf(&mut self, leaf_index: u64, leaf: Leaf) {
        let place = self.executed.outcomes.len();
        self.executed.outcomes.push(leaf.outcome);
        let Some((header, index)) = leaf.origin else {
            self.executed.config_changed = true;
            return;
        };
        match self.executed.envelopes.last_mut() {
            Some(envelope) if index > 0 => envelope.outcomes.end = place + 1,
            _ => self.executed.envelopes.push(ExecutedEnvelope { header, outcomes: place..place + 1 }),
        }
        self.note(leaf_index, leaf, &header);
    }

    fn tile_hash(&mut self, level: u8, hash: Digest) {
        self.executed.tile_hashes.push((level, hash));
    }

    fn skipped(&mut self, index: u32, envelope: &EnvelopeHeader) {
        self.executed.skipped.push((index, *envelope));
    }
}

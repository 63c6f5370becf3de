//! What must hold whatever happens. A violation ends the run.

use super::keys::Keys;
use super::node::Node;
use crate::config::Config;
use crate::io::Signatures;
use crate::message::{Message, NewViewContent};
use crate::{ReplicaIndex, Sequence, View};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use waybill_types::{Certificate, Codec, Digest, NodeId};

/// What correct replicas have said and done, over all their lives.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The one digest per height.
    executed: BTreeMap<Sequence, Digest>,
    /// Whatever was committed to: one digest per view and sequence, among all correct replicas.
    prepared: BTreeMap<(View, Sequence), Digest>,
    /// Each replica's votes, by kind of message.
    votes: BTreeMap<(ReplicaIndex, u8, View, Sequence), Digest>,
    /// Envelopes that took effect, and where.
    effective: BTreeMap<(NodeId, u64, u64), Sequence>,
}

impl Oracle {
    /// A correct replica has executed a body.
    pub fn on_execute(&mut self, sequence: Sequence, digest: Digest) -> Result<(), String> {
        match self.executed.insert(sequence, digest) {
            Some(other) if other != digest => Err(format!("two bodies at height {sequence}: {other:?} and {digest:?}")),
            _ => Ok(()),
        }
    }

    /// A correct node's ledger has applied envelopes at a height.
    pub fn on_effective(&mut self, sequence: Sequence, envelopes: &[(NodeId, u64, u64)]) -> Result<(), String> {
        for envelope in envelopes {
            match self.effective.insert(*envelope, sequence) {
                Some(other) if other != sequence => {
                    return Err(format!("envelope {envelope:?} took effect at {other} and at {sequence}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A correct replica sends a message: no two votes of it contradict each other, restarts included.
    pub fn on_send(&mut self, from: ReplicaIndex, bytes: &Bytes) -> Result<(), String> {
        let (_, message) = Message::from_wire(bytes).map_err(|error| format!("sent what does not decode: {error}"))?;
        match message {
            Message::PrePrepare(vote) => self.on_vote(from, 1, vote.view, vote.sequence, vote.digest),
            Message::Prepare(vote) => self.on_vote(from, 2, vote.view, vote.sequence, vote.digest),
            Message::Commit(vote) => {
                self.on_vote(from, 3, vote.view, vote.sequence, vote.digest)?;
                match self.prepared.insert((vote.view, vote.sequence), vote.digest) {
                    Some(other) if other != vote.digest => {
                        Err(format!("two prepared digests in view {} at {}", vote.view, vote.sequence))
                    }
                    _ => Ok(()),
                }
            }
            Message::ViewChange(vote) if vote.replica == from => {
                self.on_vote(from, 4, vote.view, 0, Body::digest_of(&vote.content))
            }
            Message::Checkpoint(vote) => {
                self.on_vote(from, 5, 0, vote.checkpoint.height, Body::digest_of(vote.checkpoint.text().as_bytes()))
            }
            Message::NewView(vote) => {
                // Anyone may hand it on: its proposals are votes of the view's primary, which is checked on its own send.
                NewViewContent::from_bytes(&vote.content).map_err(|error| format!("new view: {error}"))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A correct primary opens a view: what it proposes there are votes of it.
    pub fn on_open(&mut self, from: ReplicaIndex, bytes: &Bytes) -> Result<(), String> {
        let Ok((_, Message::NewView(vote))) = Message::from_wire(bytes) else { return Ok(()) };
        self.on_vote(from, 6, vote.view, 0, Body::digest_of(&vote.content))?;
        let content = NewViewContent::from_bytes(&vote.content).map_err(|error| format!("new view: {error}"))?;
        for proposal in content.proposals {
            self.on_vote(from, 1, vote.view, proposal.sequence, proposal.digest)?;
        }
        Ok(())
    }

    fn on_vote(
        &mut self,
        from: ReplicaIndex,
        kind: u8,
        view: View,
        sequence: Sequence,
        digest: Digest,
    ) -> Result<(), String> {
        match self.votes.insert((from, kind, view, sequence), digest) {
            Some(other) if other != digest => Err(format!(
                "replica {from} contradicts itself: kind {kind}, view {view}, sequence {sequence}: {other:?}, {digest:?}"
            )),
            _ => Ok(()),
        }
    }

    /// A correct replica calls a checkpoint stable.
    pub fn on_stable(&self, certificate: &Certificate, config: &Config, keys: &Keys) -> Result<(), String> {
        let text = certificate.checkpoint.text();
        let valid: BTreeSet<_> = certificate
            .signatures
            .iter()
            .filter(|(index, signature)| {
                let member = config.membership.members.get(usize::from(*index));
                member.is_some_and(|member| keys.verify(&member.key, text.as_bytes(), signature))
            })
            .map(|(index, _)| *index)
            .collect();
        if valid.len() < config.quorum() || valid.len() != certificate.signatures.len() {
            return Err(format!("a certificate at {} that does not verify", certificate.checkpoint.height));
        }
        Ok(())
    }

    /// The highest height that any correct replica has executed.
    pub fn height(&self) -> Sequence {
        self.executed.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// At the end: every correct node has executed everything that any has, and all that was submitted in its last life.
    pub(crate) fn converged(&self, nodes: &[Node]) -> Result<(), String> {
        let correct = || nodes.iter().filter(|node| node.is_correct());
        for node in correct() {
            let me = node.config.me;
            let Some(replica) = &node.replica else { return Err(format!("node {me} is down")) };
            if node.ledger.height() < self.height() {
                return Err(format!("node {me} has executed {} of {}", node.ledger.height(), self.height()));
            }
            if replica.stable() < self.height() {
                return Err(format!("node {me}: {} of {} is covered", replica.stable(), self.height()));
            }
            let (incarnation, next) = node.ledger.origins().next_of(NodeId(u32::from(me)));
            if node.submitted > 0 && (incarnation, next) != (node.life, node.submitted) {
                return Err(format!(
                    "node {me} has submitted {} in life {}, executed are {next} of {incarnation}",
                    node.submitted, node.life
                ));
            }
        }
        Ok(())
    }
}

/// A digest for comparison only.
struct Body;

impl Body {
    fn digest_of(bytes: &[u8]) -> Digest {
        waybill_types::digest::Hasher::digest(b"oracle", bytes)
    }
}

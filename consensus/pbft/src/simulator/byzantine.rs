//! What a faulty node makes of what its replica says. It has its own key and nobody else's.

use super::keys::Keys;
use super::plan::Behaviour;
use super::random::Random;
use crate::config::Config;
use crate::io::{Signatures, To};
use crate::message::{Commit, Message, NewView, NewViewContent, PrePrepare, Prepare, ViewChange, ViewChangeContent};
use crate::vote::{Kind, preimage};
use bytes::Bytes;
use waybill_types::{Body, Codec, Digest, Signature};

pub(crate) struct Attacker<'a> {
    pub behaviour: Behaviour,
    pub config: &'a Config,
    pub keys: &'a Keys,
    /// Messages that it has seen, to repeat.
    pub seen: &'a mut Vec<Bytes>,
}

impl Attacker<'_> {
    /// What goes to whom instead of `message`.
    pub(crate) fn distort(&mut self, to: To, message: Bytes, random: &mut Random) -> Vec<(u8, Bytes)> {
        let receivers: Vec<u8> = match to {
            To::All => self.config.peers().collect(),
            To::One(peer) => vec![peer],
        };
        match self.behaviour {
            Behaviour::Correct => receivers.into_iter().map(|peer| (peer, message.clone())).collect(),
            Behaviour::Silent => Vec::new(),
            Behaviour::Equivocating => self.equivocate(receivers, message, random),
            Behaviour::Confusing => self.confuse(receivers, message, random),
            Behaviour::Lying => {
                let message = self.lie(&message).unwrap_or(message);
                receivers.into_iter().map(|peer| (peer, message.clone())).collect()
            }
        }
    }

    fn equivocate(&self, receivers: Vec<u8>, message: Bytes, random: &mut Random) -> Vec<(u8, Bytes)> {
        let Some(other) = self.contradiction(&message) else {
            return receivers.into_iter().map(|peer| (peer, message.clone())).collect();
        };
        let split = random.next();
        let mut sent = Vec::new();
        for peer in receivers {
            match (split >> (2 * peer)) % 4 {
                0 => sent.push((peer, message.clone())),
                1 => sent.push((peer, other.clone())),
                2 => sent.extend([(peer, message.clone()), (peer, other.clone())]),
                _ => {}
            }
        }
        sent
    }

    /// The same vote for something else.
    fn contradiction(&self, message: &Bytes) -> Option<Bytes> {
        let (epoch, message) = Message::from_wire(message).ok()?;
        let other = match message {
            Message::PrePrepare(PrePrepare { view, sequence, body, .. }) => {
                let mut body = Body::from_bytes(&body).ok()?;
                body.proposed_time_ms += 1;
                body.envelopes.pop();
                body.checkpoint = true;
                let body = body.to_bytes();
                let digest = Body::digest(&body);
                let signature = self.sign(Kind::PrePrepare, view, sequence, &digest);
                Message::PrePrepare(PrePrepare { view, sequence, digest, signature, body })
            }
            Message::Prepare(Prepare { view, sequence, proposal, .. }) => {
                let digest = Digest([0xee; 32]);
                let signature = self.sign(Kind::Prepare, view, sequence, &digest);
                Message::Prepare(Prepare { view, sequence, digest, proposal, signature })
            }
            Message::Commit(Commit { view, sequence, .. }) => {
                Message::Commit(Commit { view, sequence, digest: Digest([0xee; 32]) })
            }
            _ => return None,
        };
        Some(other.to_wire(epoch))
    }

    /// A view change without its certificates, or an opening that proposes nothing but null requests.
    fn lie(&self, message: &Bytes) -> Option<Bytes> {
        let (epoch, message) = Message::from_wire(message).ok()?;
        let lie = match message {
            Message::ViewChange(ViewChange { replica, view, content, .. }) if replica == self.config.me => {
                let stable = ViewChangeContent::from_bytes(&content).ok()?.stable;
                let content = ViewChangeContent { stable, prepared: Vec::new() }.to_bytes();
                let signature = self.sign(Kind::ViewChange, view, 0, &ViewChange::digest(&content));
                Message::ViewChange(ViewChange { replica, view, content, signature })
            }
            Message::NewView(NewView { view, content, .. }) if self.config.primary(view) == self.config.me => {
                let NewViewContent { view_changes, mut proposals } = NewViewContent::from_bytes(&content).ok()?;
                for proposal in &mut proposals {
                    proposal.digest = Body::digest(&Body::default().to_bytes());
                    proposal.signature = self.sign(Kind::PrePrepare, view, proposal.sequence, &proposal.digest);
                }
                let content = NewViewContent { view_changes, proposals }.to_bytes();
                let signature = self.sign(Kind::NewView, view, 0, &NewView::digest(&content));
                Message::NewView(NewView { view, content, signature })
            }
            _ => return None,
        };
        Some(lie.to_wire(epoch))
    }

    fn sign(&self, kind: Kind, view: u64, sequence: u64, digest: &Digest) -> Signature {
        let scope = (self.config.network, self.config.cluster, self.config.membership.epoch);
        self.keys.sign(&preimage(kind, scope, view, sequence, digest))
    }

    fn confuse(&mut self, receivers: Vec<u8>, message: Bytes, random: &mut Random) -> Vec<(u8, Bytes)> {
        let mut sent = Vec::new();
        for peer in receivers {
            sent.push((peer, message.clone()));
            if let Ok((epoch, Message::Commit(commit))) = Message::from_wire(&message) {
                let shifted = Commit {
                    view: commit.view + random.between(0, 2),
                    sequence: (commit.sequence + random.between(0, 2)).saturating_sub(1),
                    digest: commit.digest,
                };
                sent.push((peer, Message::Commit(shifted).to_wire(epoch)));
            }
            if !self.seen.is_empty() && random.permille(300) {
                let old = random.next() as usize % self.seen.len();
                sent.push((peer, self.seen[old].clone()));
            }
        }
        self.seen.push(message);
        sent
    }
}

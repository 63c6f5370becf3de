//! When a backup agrees to a fresh proposal. What a new view proposes again was agreed to before, and is not judged.

use crate::Sequence;
use crate::io::Signatures;
use crate::log::{Content, Offer};
use crate::replica::Replica;

impl<S: Signatures> Replica<S> {
    /// Whether the offer for the sequence after the tip is acceptable, or why not now. A correct primary's is, as soon as
    /// we have executed what it has: it knows the same order up to there.
    pub(crate) fn judge(&mut self, sequence: Sequence, offer: &Offer) -> Result<Content, &'static str> {
        let known = self.log.get(sequence).and_then(|slot| slot.body(&offer.digest));
        let content = known.map(|stored| stored.content.clone()).ok_or("its body is gone")?;
        if sequence <= self.view_floor() {
            return Err("below where its view begins");
        }
        if sequence == 1 {
            let first = offer.digest == self.config.first_digest();
            return if first { Ok(content) } else { Err("not the first body that we were given") };
        }
        let body = &offer.body;
        if body.config.is_some() {
            return Err("a configuration outside an envelope, after the first body");
        }
        if body.envelopes.is_empty() && !body.checkpoint {
            return Err("empty, and asks for no checkpoint");
        }
        if body.envelopes.len() > self.config.limits.body_envelopes {
            return Err("more envelopes than the limit");
        }
        if body.proposed_time_ms.abs_diff(self.now) > self.config.timing.proposed_time_tolerance_ms {
            return Err("its time is too far from our clock");
        }
        if sequence - self.executed > self.config.limits.window.saturating_mul(4) {
            return Err("too far ahead of what we have executed");
        }
        self.judge_envelopes(offer)?;
        Ok(content)
    }

    /// Every envelope is for this cluster, the next of its origin, and signed by it.
    fn judge_envelopes(&mut self, offer: &Offer) -> Result<(), &'static str> {
        let mut after = self.tip.origins.clone();
        for envelope in &offer.body.envelopes {
            if envelope.header.cluster != self.config.cluster {
                return Err("an envelope for another cluster");
            }
            if !after.advance(&envelope.header) {
                return Err("an envelope that is not the next of its origin");
            }
            let key = self.origins.get(&envelope.header.origin).copied();
            let key = key.ok_or("an envelope of a node that may not submit")?;
            if !self.keys.verifies_envelope(&key, envelope) {
                return Err("an envelope that its origin has not signed");
            }
        }
        Ok(())
    }
}

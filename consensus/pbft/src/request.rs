//! Requests on their way to the primary (4.1), and what happens when it leaves them waiting.
//!
//! The replica that an envelope was submitted to is in charge of it: it sends it to each primary, and when it is not
//! executed in time it complains to all. They forward it and start a timer, so that a primary that censors an origin
//! loses its view although everything else goes on.

use crate::io::{Event, Output, Signatures, To};
use crate::message::Message;
use crate::replica::Replica;
use crate::submissions::Taken;
use alloc::vec::Vec;
use waybill_types::{Codec, Envelope};

/// How many envelopes of an origin one complaint carries.
const COMPLAINTS_MAX: usize = 64;

impl<S: Signatures> Replica<S> {
    /// An envelope of our own node, or of one that chose ours.
    pub(crate) fn handle_submit(&mut self, envelope: Envelope, out: &mut Vec<Output>) {
        let own = self.config.membership.members.get(usize::from(self.config.me));
        if let Some(own) = own.filter(|own| own.node == envelope.header.origin) {
            self.keys.trust_envelope(&own.key, &envelope);
        }
        let bytes = envelope.to_bytes().len();
        if self.take_envelope(&envelope, bytes, (true, false), out) {
            self.forward(envelope, out);
        }
    }

    /// An envelope for us as primary. If we are not, we may be soon.
    pub(crate) fn on_submit(&mut self, envelope: Envelope, bytes: usize, out: &mut Vec<Output>) {
        self.take_envelope(&envelope, bytes, (false, false), out);
    }

    /// An envelope that the primary has left waiting.
    pub(crate) fn on_complain(&mut self, envelope: Envelope, bytes: usize, out: &mut Vec<Output>) {
        if self.take_envelope(&envelope, bytes, (false, true), out) && self.is_voting() {
            self.forward(envelope, out);
        }
    }

    /// Holds an envelope. True if it is held now, whether or not it was before.
    fn take_envelope(
        &mut self,
        envelope: &Envelope,
        bytes: usize,
        (ours, complained): (bool, bool),
        out: &mut Vec<Output>,
    ) -> bool {
        let header = &envelope.header;
        let taken = self.submissions.judge(header, bytes, &self.delivered.origins, &self.config.limits);
        let why = match taken {
            Taken::Stale => return false,
            Taken::Refused(why) => Some(why),
            Taken::New | Taken::Known if header.cluster != self.config.cluster => Some("for another cluster"),
            Taken::New | Taken::Known => match self.origins.get(&header.origin).copied() {
                None => Some("its origin may not submit"),
                Some(key) if !self.keys.verifies_envelope(&key, envelope) => Some("its origin has not signed it"),
                Some(_) => None,
            },
        };
        if let Some(why) = why {
            let (origin, incarnation, number) = (header.origin, header.incarnation, header.number);
            out.push(Output::Event(Event::SubmissionDropped { origin, incarnation, number, why }));
            return false;
        }
        self.submissions.insert(envelope.clone(), bytes, ours, complained);
        true
    }

    /// Sends an envelope to the primary. Between views nobody knows who that is, so all get it.
    fn forward(&mut self, envelope: Envelope, out: &mut Vec<Output>) {
        let to = if self.is_voting() { To::One(self.primary()) } else { To::All };
        if to != To::One(self.config.me) {
            self.send(to, &Message::Submit(envelope), out);
        }
    }

    /// Sends what we are in charge of to the primary: it is new, or the link to it was lost.
    pub(crate) fn resubmit(&mut self, out: &mut Vec<Output>) {
        let ours: Vec<Envelope> = self.submissions.ours().cloned().collect();
        for envelope in ours {
            self.forward(envelope, out);
        }
    }

    /// Tells all replicas of what the primary has left waiting.
    pub(crate) fn fire_complaints(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let mut complaints = Vec::new();
        for (_, queue) in self.submissions.queues_mut() {
            if queue.complain_at.take_if(|at| *at <= now).is_some() {
                complaints.extend(queue.complain(COMPLAINTS_MAX));
            }
        }
        for envelope in complaints {
            self.send(To::All, &Message::Complain(envelope), out);
        }
    }
}

//! Our own envelopes on their way: who waits for which transaction.

use super::{Executed, Submission};
use std::collections::VecDeque;
use tokio::sync::oneshot;
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::{ClusterId, Envelope, NodeId, Signature};

/// Numbers our envelopes, and knows who waits for what is in them.
#[derive(Debug)]
pub(super) struct Waiters {
    cluster: ClusterId,
    me: NodeId,
    incarnation: u64,
    next_number: u64,
    outstanding: VecDeque<Outstanding>,
}

#[derive(Debug)]
struct Outstanding {
    number: u64,
    waiting: Vec<Option<oneshot::Sender<Executed>>>,
}

impl Waiters {
    pub(super) fn new(cluster: ClusterId, me: NodeId, incarnation: u64) -> Self {
        Waiters { cluster, me, incarnation, next_number: 0, outstanding: VecDeque::new() }
    }

    /// How many envelopes are on their way.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Makes the next envelope of these submissions.
    pub(super) fn envelope(&mut self, submissions: Vec<Submission>, sign: impl FnOnce(&[u8]) -> Signature) -> Envelope {
        let (transactions, waiting) =
            submissions.into_iter().map(|submission| (submission.transaction, Some(submission.outcome))).unzip();
        let number = self.next_number;
        self.next_number += 1;
        self.outstanding.push_back(Outstanding { number, waiting });
        Envelope::new(self.cluster, self.me, self.incarnation, number, transactions, sign)
    }

    /// Tells whoever waits for this transaction. Envelopes of one origin execute in the order of their numbers.
    pub(super) fn resolve(&mut self, header: &EnvelopeHeader, index: u32, executed: Executed) {
        if header.origin != self.me || header.incarnation != self.incarnation {
            return;
        }
        while self.outstanding.front().is_some_and(|first| first.number < header.number) {
            self.outstanding.pop_front();
        }
        let Some(first) = self.outstanding.front_mut().filter(|first| first.number == header.number) else { return };
        if let Some(waiting) = first.waiting.get_mut(index as usize).and_then(Option::take) {
            // Who waited may have given up.
            let _ = waiting.send(executed);
        }
        if index as usize + 1 == first.waiting.len() {
            self.outstanding.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_types::transaction::Commit;
    use waybill_types::{Digest, Outcome, Transaction};

    fn submission() -> (Submission, oneshot::Receiver<Executed>) {
        let (outcome, executed) = oneshot::channel();
        (Submission { transaction: Transaction::Commit(Commit { group: Digest::ZERO, offset: 1 }), outcome }, executed)
    }

    #[test]
    fn each_waiter_hears_of_its_own_transaction_and_the_envelope_is_then_forgotten() {
        let mut waiters = Waiters::new(ClusterId(Digest::ZERO), NodeId(1), 7);
        let (first, mut first_executed) = submission();
        let (second, mut second_executed) = submission();
        let envelope = waiters.envelope(vec![first, second], |_| Signature([0; 64]));
        let at = |time_ms| Executed { outcome: Outcome::Recorded, time_ms };
        waiters.resolve(&envelope.header, 0, at(1));
        assert_eq!(waiters.outstanding(), 1);
        waiters.resolve(&envelope.header, 1, at(2));
        assert_eq!(waiters.outstanding(), 0);
        assert_eq!(first_executed.try_recv(), Ok(at(1)));
        assert_eq!(second_executed.try_recv(), Ok(at(2)));
    }

    #[test]
    fn another_nodes_envelope_and_an_earlier_incarnation_resolve_nothing() {
        let mut waiters = Waiters::new(ClusterId(Digest::ZERO), NodeId(1), 7);
        let (one, mut executed) = submission();
        let mut header = waiters.envelope(vec![one], |_| Signature([0; 64])).header;
        header.incarnation = 6;
        waiters.resolve(&header, 0, Executed { outcome: Outcome::Recorded, time_ms: 0 });
        assert!(executed.try_recv().is_err());
        assert_eq!(waiters.outstanding(), 1);
    }
}

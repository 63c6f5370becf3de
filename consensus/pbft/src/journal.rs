//! Holds back what may only be said when it is durable.

use crate::io::{Output, PersistId};
use crate::message::{CheckpointVote, ViewChange};
use crate::record::Record;
use crate::{Sequence, View};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::{Codec, Digest, Signature};

/// What happens when a record is durable.
#[derive(Debug)]
pub(crate) enum Then {
    /// The proposal that we made (a pre-prepare to send, if it is fresh) or agree to (a prepare).
    Voted { view: View, sequence: Sequence, digest: Digest, message: Option<Bytes>, prepare: Option<Signature> },
    /// A body that was decided without our vote.
    Learned { sequence: Sequence, digest: Digest },
    /// A prepared certificate: commit.
    Prepared { view: View, sequence: Sequence, digest: Digest },
    /// Our request for a view.
    ViewChange(ViewChange),
    /// The view that we open.
    NewView(Bytes),
    /// Our checkpoint.
    Checkpoint(CheckpointVote),
}

/// The records that the shell is writing, in order.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    issued: u64,
    durable: u64,
    waiting: VecDeque<(u64, Then)>,
}

impl Journal {
    /// Has a record written.
    pub(crate) fn persist(&mut self, record: &Record, then: Option<Then>, out: &mut Vec<Output>) {
        self.issued += 1;
        out.push(Output::Persist { id: PersistId(self.issued), record: record.to_bytes() });
        self.waiting.extend(then.map(|then| (self.issued, then)));
    }

    /// Waits for everything that has been written so far; gives `then` back if nothing is under way.
    #[must_use]
    pub(crate) fn after_all(&mut self, then: Then) -> Option<Then> {
        if self.durable == self.issued {
            return Some(then);
        }
        self.waiting.push_back((self.issued, then));
        None
    }

    /// Everything up to `id` is durable. False if it was never asked for.
    #[must_use]
    pub(crate) fn on_persisted(&mut self, id: PersistId) -> bool {
        self.durable = self.durable.max(id.0.min(self.issued));
        id.0 <= self.issued
    }

    /// The next thing that may be said now.
    pub(crate) fn pop(&mut self) -> Option<Then> {
        let (id, _) = self.waiting.front()?;
        if *id > self.durable {
            return None;
        }
        self.waiting.pop_front().map(|(_, then)| then)
    }
}

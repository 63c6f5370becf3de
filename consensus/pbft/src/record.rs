//! What a replica writes to its journal before it says anything: enough to say the same again after a restart.
//!
//! A body is stored once, in the record that accepts or learns it; the block store refers to that record.

use crate::message::{CheckpointVote, NewView, Prepared, ViewChange};
use crate::{Sequence, View};
use bytes::Bytes;
use waybill_types::{Body, Certificate, Codec, Digest, Signature, codec_enum, codec_struct};

/// A body that a journal record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The view in which it was accepted or learned.
    pub view: View,
    /// Its sequence. Several bodies can be stored for one sequence; at most one of them is executed.
    pub sequence: Sequence,
    /// The body's digest.
    pub digest: Digest,
    /// The encoded body, sharing the record's memory.
    pub body: Bytes,
}

/// The body in a record, if it holds one.
pub fn accepted(record: &Bytes) -> Option<Stored> {
    let (view, sequence, body) = match Record::from_bytes(record).ok()? {
        Record::Accepted(Accepted { view, sequence, body, .. }) => (view, sequence, body),
        Record::Learned(Learned { view, sequence, body }) => (view, sequence, body),
        _ => return None,
    };
    Some(Stored { view, sequence, digest: Body::digest(&body), body })
}

/// Whether [`Restored::records`](crate::Restored::records) must have this record when the stable checkpoint is at
/// `stable`. Of the records about views (for which this is always true) only those after the last
/// [`enters_view`] matter, and that one itself.
pub fn needed(record: &Bytes, stable: Sequence) -> bool {
    match Record::from_bytes(record) {
        Ok(Record::Accepted(accepted)) => accepted.sequence > stable,
        Ok(Record::Learned(learned)) => learned.sequence > stable,
        Ok(Record::Prepared(prepared)) => prepared.sequence > stable,
        Ok(Record::Checkpoint(signed)) => signed.checkpoint.height > stable,
        Ok(Record::Stable(mark)) => mark.certificate.checkpoint.height >= stable,
        // A record that cannot be read is for `Replica::start` to complain about.
        Ok(Record::ViewChange(_) | Record::NewView(_)) | Err(_) => true,
    }
}

/// The height of our own checkpoint in a record, if it holds one: the ledger had executed up to there.
pub fn checkpointed(record: &Bytes) -> Option<Sequence> {
    match Record::from_bytes(record) {
        Ok(Record::Checkpoint(vote)) => Some(vote.checkpoint.height),
        _ => None,
    }
}

/// Whether a record begins a view, so that every earlier one about views has done its duty.
pub fn enters_view(record: &Bytes) -> bool {
    matches!(Record::from_bytes(record), Ok(Record::NewView(_)))
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A proposal that we made or agree to.
    Accepted(Accepted),
    /// A body that others have decided, or a view's opening demands.
    Learned(Learned),
    /// A prepared certificate: we commit.
    Prepared(Prepared),
    /// Our own request for a view.
    ViewChange(ViewChange),
    /// The opening of a view in which we vote; with it we accept all its proposals whose bodies we have.
    NewView(NewView),
    /// Our own checkpoint.
    Checkpoint(CheckpointVote),
    /// The log up to here is not needed any more.
    Stable(StableMark),
}
codec_enum!(Record {
    1 => Accepted,
    2 => Learned,
    3 => Prepared,
    4 => ViewChange,
    5 => NewView,
    6 => Checkpoint,
    7 => Stable,
});

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub view: View,
    pub sequence: Sequence,
    pub proposal: Signature,
    pub body: Bytes,
}
codec_struct!(Accepted { view, sequence, proposal, body });

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    pub view: View,
    pub sequence: Sequence,
    pub body: Bytes,
}
codec_struct!(Learned { view, sequence, body });

/// The view stands in it too: whatever the journal drops, a restarted replica never votes below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StableMark {
    pub view: View,
    pub changing: bool,
    pub certificate: Certificate,
}
codec_struct!(StableMark { view, changing, certificate });

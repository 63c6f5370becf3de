//! What replicas send each other, in the canonical encoding. Decoding is strict; signatures are checked afterwards.

use crate::{ReplicaIndex, Sequence, View};
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::digest::Hasher;
use waybill_types::{
    Certificate, Checkpoint, Codec, DecodeError, Digest, Envelope, Epoch, Signature, codec_enum, codec_struct,
};

/// One message. On the wire an epoch stands before it: no vote crosses an epoch, the unsigned commits included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// An envelope for the primary to propose (the paper's REQUEST).
    Submit(Envelope),
    /// An envelope that the primary has left waiting: keep it, forward it, and start a timer.
    Complain(Envelope),
    /// The primary's proposal (4.2).
    PrePrepare(PrePrepare),
    /// A backup's agreement to it (4.2).
    Prepare(Prepare),
    /// The sender has a prepared certificate (4.2).
    Commit(Commit),
    /// The sender's state at a checkpoint (4.3).
    Checkpoint(CheckpointVote),
    /// A request for a view (4.4).
    ViewChange(ViewChange),
    /// The opening of a view (4.4).
    NewView(NewView),
    /// What the sender has, for the others to send what it lacks.
    Status(Status),
    /// A request for a body that was voted on.
    Fetch(Fetch),
    /// The answer: an encoded body.
    Body(FetchedBody),
    /// The newest stable checkpoint, for a replica that is behind it.
    Stable(Certificate),
}
codec_enum!(Message {
    1 => Submit,
    2 => Complain,
    3 => PrePrepare,
    4 => Prepare,
    5 => Commit,
    6 => Checkpoint,
    7 => ViewChange,
    8 => NewView,
    9 => Status,
    10 => Fetch,
    11 => Body,
    12 => Stable,
});

impl Message {
    /// The bytes on the wire.
    pub fn to_wire(&self, epoch: Epoch) -> Bytes {
        let mut bytes = Vec::new();
        epoch.encode(&mut bytes);
        self.encode(&mut bytes);
        Bytes::from(bytes)
    }

    /// The epoch and the message. Byte strings in it share the memory of `bytes`.
    pub fn from_wire(bytes: &Bytes) -> Result<(Epoch, Message), DecodeError> {
        Codec::from_bytes(bytes)
    }
}

/// `<<PRE-PREPARE, v, n, d>, m>`: the signature covers all but the body, which the digest covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrePrepare {
    /// The view.
    pub view: View,
    /// The sequence.
    pub sequence: Sequence,
    /// The body's digest.
    pub digest: Digest,
    /// The primary's.
    pub signature: Signature,
    /// The encoded body.
    pub body: Bytes,
}
codec_struct!(PrePrepare { view, sequence, digest, signature, body });

/// `<PREPARE, v, n, d, i>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The view.
    pub view: View,
    /// The sequence.
    pub sequence: Sequence,
    /// The body's digest.
    pub digest: Digest,
    /// The primary's signature on the proposal that this answers: where two backups were told different things, each
    /// learns the proof from the other.
    pub proposal: Signature,
    /// The sender's.
    pub signature: Signature,
}
codec_struct!(Prepare { view, sequence, digest, proposal, signature });

/// `<COMMIT, v, n, d, i>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The view.
    pub view: View,
    /// The sequence.
    pub sequence: Sequence,
    /// The body's digest.
    pub digest: Digest,
}
codec_struct!(Commit { view, sequence, digest });

/// `<CHECKPOINT, n, d, i>`: the signature is over [`Checkpoint::text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointVote {
    /// The state.
    pub checkpoint: Checkpoint,
    /// The sender's.
    pub signature: Signature,
}
codec_struct!(CheckpointVote { checkpoint, signature });

/// A prepared certificate: the proposal's signature and those of a quorum less one of distinct backups. It proves to
/// anyone that at most this digest can have been committed at its view and sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The view.
    pub view: View,
    /// The sequence.
    pub sequence: Sequence,
    /// The body's digest.
    pub digest: Digest,
    /// The primary's signature on the proposal.
    pub proposal: Signature,
    /// Backups' indices, ascending, and their signatures.
    pub prepares: Vec<(ReplicaIndex, Signature)>,
}
codec_struct!(Prepared { view, sequence, digest, proposal, prepares });

/// `<VIEW-CHANGE, v, n, C, P, i>`. Its content stays as it was received, because others show it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChange {
    /// Who asks (i).
    pub replica: ReplicaIndex,
    /// For which view (v).
    pub view: View,
    /// An encoded [`ViewChangeContent`].
    pub content: Bytes,
    /// The sender's, over [`ViewChange::digest`].
    pub signature: Signature,
}
codec_struct!(ViewChange { replica, view, content, signature });

impl ViewChange {
    /// What is signed.
    pub fn digest(content: &[u8]) -> Digest {
        Hasher::digest(b"waybill-view-change-v1", content)
    }
}

/// What a replica brings into a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChangeContent {
    /// Its stable checkpoint (C, and with it n); none at the epoch's base.
    pub stable: Option<Certificate>,
    /// The newest prepared certificate of each sequence after it (P), in the order of sequences.
    pub prepared: Vec<Prepared>,
}
codec_struct!(ViewChangeContent { stable, prepared });

/// `<NEW-VIEW, v, V, O>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewView {
    /// The view (v).
    pub view: View,
    /// An encoded [`NewViewContent`].
    pub content: Bytes,
    /// The new primary's, over [`NewView::digest`].
    pub signature: Signature,
}
codec_struct!(NewView { view, content, signature });

impl NewView {
    /// What is signed.
    pub fn digest(content: &[u8]) -> Digest {
        Hasher::digest(b"waybill-new-view-v1", content)
    }
}

/// Why a view may begin, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewViewContent {
    /// View changes of a quorum, ascending by replica (V).
    pub view_changes: Vec<ViewChange>,
    /// What follows from them (O): every sequence from min-s + 1 to max-s.
    pub proposals: Vec<Proposal>,
}
codec_struct!(NewViewContent { view_changes, proposals });

/// A pre-prepare without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The sequence.
    pub sequence: Sequence,
    /// The body's digest.
    pub digest: Digest,
    /// The primary's, as on a [`PrePrepare`].
    pub signature: Signature,
}
codec_struct!(Proposal { sequence, digest, signature });

/// What a replica has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The view in which it votes or for which it has asked.
    pub view: View,
    /// It has asked for the view and waits for it to begin.
    pub changing: bool,
    /// The view in which it would rather be: its own or a later one.
    pub wish: View,
    /// Its stable checkpoint's sequence.
    pub stable: Sequence,
    /// The last sequence that it has executed.
    pub executed: Sequence,
    /// How far it is with each sequence after that: one of [`Status::NOTHING`] and its siblings.
    pub slots: Bytes,
}
codec_struct!(Status { view, changing, wish, stable, executed, slots });

impl Status {
    /// There is no accepted proposal in the current view.
    pub const NOTHING: u8 = 0;
    /// There is, and no prepared certificate of this view.
    pub const ACCEPTED: u8 = 1;
    /// There is one, and no quorum of commits.
    pub const PREPARED: u8 = 2;
    /// It is decided and waits for a body or for its predecessors.
    pub const DECIDED: u8 = 3;
}

/// A request for a body that was voted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Where it stands.
    pub sequence: Sequence,
    /// Its digest.
    pub digest: Digest,
}
codec_struct!(Fetch { sequence, digest });

/// A body by request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBody {
    /// Where it stands.
    pub sequence: Sequence,
    /// The encoded body.
    pub body: Bytes,
}
codec_struct!(FetchedBody { sequence, body });

//! What goes into a replica and what comes out of it. The shell around it owns sockets, disk and clock.

use crate::{ReplicaIndex, Sequence, View};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::{Certificate, Checkpoint, Digest, Envelope, NodeId, Origins, PublicKey, Signature};

/// Signs with our node's key and verifies with others'. Ed25519 in production; deterministic, because a replica that
/// restarts signs again and must send identical bytes.
pub trait Signatures {
    /// Signs with our own key.
    fn sign(&self, preimage: &[u8]) -> Signature;
    /// Whether `signature` over `preimage` was made with `key`.
    fn verify(&self, key: &PublicKey, preimage: &[u8], signature: &Signature) -> bool;
}

impl<T: Signatures + ?Sized> Signatures for Box<T> {
    fn sign(&self, preimage: &[u8]) -> Signature {
        (**self).sign(preimage)
    }
    fn verify(&self, key: &PublicKey, preimage: &[u8], signature: &Signature) -> bool {
        (**self).verify(key, preimage, signature)
    }
}

impl<T: Signatures + ?Sized> Signatures for Arc<T> {
    fn sign(&self, preimage: &[u8]) -> Signature {
        (**self).sign(preimage)
    }
    fn verify(&self, key: &PublicKey, preimage: &[u8], signature: &Signature) -> bool {
        (**self).verify(key, preimage, signature)
    }
}

/// Names one [`Output::Persist`]. Grows by one each time, from 1 with each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// What a replica finds when it starts. A new one finds the default.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The newest stable checkpoint that the shell has kept.
    pub stable: Option<Certificate>,
    /// The last sequence that the ledger has executed, durably: at least the height of each checkpoint of ours whose
    /// record is durable. (A journal in which executions stand before that record gives this for nothing.) Else the
    /// blocks under a certificate could be lost at all who signed it.
    pub executed: Sequence,
    /// How far each origin had come then.
    pub origins: Origins,
    /// The records of this replica, in the order in which they were persisted: all those for which
    /// [`record::needed`](crate::record::needed) holds, and any number of others.
    pub records: Vec<Bytes>,
}

/// What the shell tells a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer's message. The link authenticates the peer, so `from` is true.
    Message {
        /// The peer's index.
        from: ReplicaIndex,
        /// What it sent, unparsed.
        bytes: Bytes,
    },
    /// An envelope to bring to execution, of our own node, or of a node without a replica here that chose ours. The
    /// shell signs and numbers its own without gaps, and asks [`Replica::room`](crate::Replica::room) first.
    Submit(Envelope),
    /// Time has passed: [`Replica::next_timeout`](crate::Replica::next_timeout) is reached.
    Tick,
    /// This record, and every one before it, is durable.
    Persisted(PersistId),
    /// The ledger has executed the next body of [`Output::Execute`].
    Executed {
        /// Its sequence.
        sequence: Sequence,
        /// The state after it, if a checkpoint falls here: at every K-th sequence, and where the body asks for one.
        checkpoint: Option<Checkpoint>,
    },
    /// The link to a peer was lost or has dropped something, and works again. The shell promises this, on both ends,
    /// after every loss of a message; without it a replica that waits for nothing would never learn what it missed.
    Reconnected {
        /// The peer's index.
        peer: ReplicaIndex,
    },
    /// The shell has fetched certified blocks elsewhere, verified and executed them.
    Synced {
        /// Certifies the last block fetched.
        certificate: Certificate,
        /// How far each origin has come after it.
        origins: Origins,
        /// The last sequence executed: that of the certificate, or later.
        executed: Sequence,
    },
    /// An executed configuration has changed who may submit. A node that may no longer stays in the map until that
    /// change is under a stable checkpoint: a primary that has not executed it yet may still propose its envelopes.
    SetOrigins(BTreeMap<NodeId, PublicKey>),
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Every other replica.
    All,
    /// One of them.
    One(ReplicaIndex),
}

/// What a replica asks of the shell.
///
/// # Order
/// - The shell performs outputs in the order in which they come, over all calls of `handle`.
/// - **The replica itself waits for the disk**: a `Send` comes out only when everything that it promises has been
///   reported by [`Input::Persisted`], and so does an `Execute`. The shell sends what it is given and has no
///   condition to check.
/// - The shell makes records durable in order, and may report only the newest of a group.
/// - A `Persist` that fails ends the process. A replica that goes on after a lost record is a Byzantine one.
/// - `Execute` comes once per sequence and start, without gaps. One whose sequence the ledger already has (it
///   was fetched meanwhile) is dropped silently: the `Synced` that is under way says all there is to say.
#[derive(Clone, Debug)]
pub enum Output {
    /// Append the record to the journal, make it durable, then report [`Input::Persisted`].
    Persist {
        /// To be reported.
        id: PersistId,
        /// See [`record`](crate::record) for what can be read from it.
        record: Bytes,
    },
    /// Send the message. It may be lost, repeated or late, see [`Input::Reconnected`].
    Send {
        /// To whom.
        to: To,
        /// What.
        message: Bytes,
    },
    /// The body is decided, and it is in a durable record: apply it to the ledger, then report [`Input::Executed`].
    Execute {
        /// Its place: one after the previous.
        sequence: Sequence,
        /// The view that decided it.
        view: View,
        /// The encoded [`Body`](waybill_types::Body).
        body: Bytes,
        /// The body's digest.
        digest: Digest,
    },
    /// A checkpoint that we have executed is certified. The shell keeps the newest for [`Restored`].
    Stable(Certificate),
    /// Votes cannot bring us forward any more: fetch the certified blocks after `executed` up to the certificate's and
    /// report [`Input::Synced`]. Repeated while it stays so.
    NeedSync {
        /// What the others have reached.
        certificate: Certificate,
        /// The last sequence that we have executed.
        executed: Sequence,
        /// Whom to ask: first those who signed the certificate, so had the blocks, then the others.
        candidates: Vec<ReplicaIndex>,
    },
    /// A replica has signed two contents for one place.
    Evidence(Evidence),
    /// What we executed differs from what a quorum has certified. The replica has stopped for good.
    Diverged {
        /// What the quorum says.
        certificate: Certificate,
        /// What we computed.
        own: Checkpoint,
    },
    /// For logs and metrics.
    Event(Event),
}

/// Proof of equivocation: two signatures of one replica over two digests for one place. Both preimages follow from
/// these fields and the cluster's identity ([`vote::preimage`](crate::vote::preimage)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who.
    pub replica: ReplicaIndex,
    /// Of which kind both votes are.
    pub kind: crate::vote::Kind,
    /// The view.
    pub view: View,
    /// The sequence.
    pub sequence: Sequence,
    /// The vote that was known first.
    pub first: (Digest, Signature),
    /// The one that contradicts it.
    pub second: (Digest, Signature),
}

/// What happened, for logs and metrics. Nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// We would rather be in a later view, and go on voting in this one.
    ViewWished {
        /// The view wished for.
        view: View,
        /// Why.
        reason: Reason,
    },
    /// A quorum wishes so: we ask for a view and no longer vote in those before.
    ViewChangeStarted {
        /// The view asked for.
        view: View,
        /// Why.
        reason: Reason,
    },
    /// We vote in a view.
    ViewEntered {
        /// The view.
        view: View,
        /// Its primary.
        primary: ReplicaIndex,
    },
    /// The primary's proposal is not acceptable, now.
    ProposalRefused {
        /// Its sequence.
        sequence: Sequence,
        /// Why.
        why: &'static str,
    },
    /// A peer has sent what no correct one sends. A metric per peer; log it at a limited rate.
    PeerMisbehaved {
        /// Who.
        peer: ReplicaIndex,
        /// What.
        what: &'static str,
    },
    /// An envelope was not taken.
    SubmissionDropped {
        /// Its origin.
        origin: NodeId,
        /// Its incarnation.
        incarnation: u64,
        /// Its number.
        number: u64,
        /// Why.
        why: &'static str,
    },
    /// The shell has broken its contract; the input was ignored.
    ShellMisbehaved(&'static str),
}

/// Why a view should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A proposal was not executed in time.
    Execution,
    /// An executed block was not covered by a checkpoint in time.
    Coverage,
    /// A submission was not executed in time.
    Submission,
    /// The view asked for did not begin in time.
    NewView,
    /// More than f others wish so.
    Joined,
}

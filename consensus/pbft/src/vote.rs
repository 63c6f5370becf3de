//! What a replica signs, and the check of what others signed, each signature once.

use crate::config::Config;
use crate::io::Signatures;
use crate::{ReplicaIndex, Sequence, View};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;
use waybill_types::digest::Hasher;
use waybill_types::{Certificate, ClusterId, Codec, Digest, Envelope, Epoch, NetworkId, PublicKey, Signature};

/// The kinds of signed votes. Commits are not signed: their link authenticates them, and the checkpoint certificate is
/// what is shown to third parties. A checkpoint is signed as a note (`Checkpoint::text`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The primary's proposal.
    PrePrepare = 1,
    /// A backup's agreement.
    Prepare = 2,
    /// A request for the next view.
    ViewChange = 3,
    /// The new primary's opening of a view.
    NewView = 4,
}

/// The bytes under a vote's signature: `"WAYBILL-PBFT-v1\0" | kind | network | cluster | epoch | view | sequence | digest`.
/// The sequence of a view change and of a new view is 0: all that they say is under their digest.
pub fn preimage(
    kind: Kind,
    (network, cluster, epoch): (NetworkId, ClusterId, Epoch),
    view: View,
    sequence: Sequence,
    digest: &Digest,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    bytes.extend_from_slice(b"WAYBILL-PBFT-v1\0");
    bytes.push(kind as u8);
    network.encode(&mut bytes);
    cluster.encode(&mut bytes);
    epoch.encode(&mut bytes);
    view.encode(&mut bytes);
    sequence.encode(&mut bytes);
    digest.encode(&mut bytes);
    bytes
}

/// Signs and verifies for one replica, and remembers what it has verified.
#[derive(Debug)]
pub(crate) struct Keys<S> {
    signatures: S,
    scope: (NetworkId, ClusterId, Epoch),
    members: Vec<PublicKey>,
    verified: Verified,
}

impl<S: Signatures> Keys<S> {
    pub(crate) fn new(signatures: S, config: &Config) -> Self {
        Keys {
            signatures,
            scope: (config.network, config.cluster, config.membership.epoch),
            members: config.membership.members.iter().map(|member| member.key).collect(),
            verified: Verified::new(config.limits.verified_signatures),
        }
    }

    pub(crate) fn sign(&self, kind: Kind, view: View, sequence: Sequence, digest: &Digest) -> Signature {
        self.signatures.sign(&preimage(kind, self.scope, view, sequence, digest))
    }

    pub(crate) fn sign_text(&self, text: &str) -> Signature {
        self.signatures.sign(text.as_bytes())
    }

    /// Whether replica `index` made this vote.
    pub(crate) fn verifies(
        &mut self,
        index: ReplicaIndex,
        (kind, view, sequence, digest): (Kind, View, Sequence, &Digest),
        signature: &Signature,
    ) -> bool {
        let bytes = preimage(kind, self.scope, view, sequence, digest);
        self.verifies_bytes(index, &bytes, signature)
    }

    /// Whether replica `index` signed these bytes.
    pub(crate) fn verifies_bytes(&mut self, index: ReplicaIndex, bytes: &[u8], signature: &Signature) -> bool {
        let Some(key) = self.members.get(usize::from(index)).copied() else { return false };
        self.verified.check(&self.signatures, &key, bytes, signature)
    }

    /// Whether `key`, the origin's, made the envelope's signature.
    pub(crate) fn verifies_envelope(&mut self, key: &PublicKey, envelope: &Envelope) -> bool {
        self.verified.check(&self.signatures, key, &envelope.header.preimage(), &envelope.signature)
    }

    /// Our own node has just signed this envelope.
    pub(crate) fn trust_envelope(&mut self, key: &PublicKey, envelope: &Envelope) {
        self.verified.insert(Verified::name(key, &envelope.header.preimage(), &envelope.signature));
    }

    /// Whether a quorum of distinct members of this epoch signed the certificate's checkpoint.
    pub(crate) fn verifies_certificate(&mut self, certificate: &Certificate, quorum: usize) -> bool {
        let text = certificate.checkpoint.text();
        certificate.signatures.len() >= quorum
            && certificate.signatures.is_sorted_by(|left, right| left.0 < right.0)
            && certificate
                .signatures
                .iter()
                .all(|(index, signature)| self.verifies_bytes(*index, text.as_bytes(), signature))
    }
}

/// Two generations of verified signatures; when the younger is full the older is forgotten.
#[derive(Debug)]
struct Verified {
    young: BTreeSet<Digest>,
    old: BTreeSet<Digest>,
    limit: usize,
}

impl Verified {
    fn new(limit: usize) -> Self {
        Verified { young: BTreeSet::new(), old: BTreeSet::new(), limit: limit / 2 }
    }

    fn name(key: &PublicKey, bytes: &[u8], signature: &Signature) -> Digest {
        let mut hasher = Hasher::new(b"waybill-verified-v1");
        hasher.update(&key.0);
        hasher.update(&signature.0);
        hasher.update(bytes);
        hasher.finish()
    }

    fn check(&mut self, with: &impl Signatures, key: &PublicKey, bytes: &[u8], signature: &Signature) -> bool {
        let name = Self::name(key, bytes, signature);
        if self.young.contains(&name) || self.old.contains(&name) {
            return true;
        }
        let valid = with.verify(key, bytes, signature);
        if valid {
            self.insert(name);
        }
        valid
    }

    fn insert(&mut self, name: Digest) {
        if self.young.len() >= self.limit {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(name);
    }
}

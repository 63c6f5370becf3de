//! Signed notes over a ledger's tree head, and the certificate that a quorum of them makes.
//!
//! The text is a C2SP `tlog-checkpoint`: origin, tree size, root, then our extension lines. A replica's PBFT
//! checkpoint message carries its signature over exactly this text, so that a receipt (C2SP `tlog-proof`) is built
//! from PBFT's stable checkpoint unchanged.

use crate::codec::{Codec, DecodeError};
use crate::codec_struct;
use crate::digest::{Digest, Hasher};
use crate::ids::{ClusterId, Epoch, Height, LedgerId, NetworkId};
use crate::keys::{PublicKey, Signature};
use crate::membership::{Member, Membership, quorum};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use base64::{Engine, engine::general_purpose::STANDARD};

/// A ledger's state after a block, as replicas sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The network.
    pub network: NetworkId,
    /// The ledger.
    pub ledger: LedgerId,
    /// The cluster that ordered it.
    pub cluster: ClusterId,
    /// The epoch whose replicas sign.
    pub epoch: Epoch,
    /// The last block.
    pub height: Height,
    /// The hash of its header.
    pub head: Digest,
    /// Its executed time, in milliseconds since 1970.
    pub time_ms: u64,
    /// How many leaves the Merkle tree has.
    pub tree_size: u64,
    /// The tree's root.
    pub tree_root: Digest,
    /// The digest of the contract's whole state.
    pub state_root: Digest,
}
codec_struct!(Checkpoint { network, ledger, cluster, epoch, height, head, time_ms, tree_size, tree_root, state_root });

impl Checkpoint {
    /// The note's text, the bytes under each signature.
    pub fn text(&self) -> String {
        format!(
            "waybill/{}/{}/{}/{}\n{}\n{}\nheight {}\nhead {}\ntime {}\nstate {}\n",
            self.network.0,
            self.ledger,
            self.cluster.0,
            self.epoch,
            self.tree_size,
            STANDARD.encode(self.tree_root.0),
            self.height,
            STANDARD.encode(self.head.0),
            self.time_ms,
            STANDARD.encode(self.state_root.0),
        )
    }
}

/// The name under which a member signs notes: `node-3.acme`.
pub fn note_name(member: &Member) -> String {
    format!("node-{}.{}", member.node, member.org)
}

/// One signature line of a C2SP signed note: `— name base64(key hash | signature)`.
pub fn signature_line(name: &str, key: &PublicKey, signature: &Signature) -> String {
    let mut blob = Vec::with_capacity(68);
    blob.extend_from_slice(&note_key_hash(name, key));
    blob.extend_from_slice(&signature.0);
    format!("\u{2014} {name} {}\n", STANDARD.encode(blob))
}

/// `SHA-256(name | "\n" | 0x01 | key)[..4]` (C2SP signed-note, Ed25519).
fn note_key_hash(name: &str, key: &PublicKey) -> [u8; 4] {
    let mut hasher = Hasher::untagged();
    hasher.update(name.as_bytes());
    hasher.update(b"\n\x01");
    hasher.update(&key.0);
    let digest = hasher.finish().0;
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A checkpoint with the signatures of a quorum: PBFT's stable checkpoint and the ledger's proof at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// Replica indices and their signatures over [`Checkpoint::text`], in ascending order of index.
    pub signatures: Vec<(u8, Signature)>,
}
codec_struct!(Certificate { checkpoint, signatures });

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// It speaks of another epoch than the membership given.
    WrongEpoch,
    /// A signature of a replica that is not a member, or not in ascending order.
    UnknownSigner(u8),
    /// A signature does not verify.
    BadSignature(u8),
    /// Too few signatures.
    NoQuorum,
    /// Enough signatures, of too few different organisations.
    TooFewOrganisations,
}

impl core::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CertificateError::WrongEpoch => write!(f, "the certificate is of another epoch"),
            CertificateError::UnknownSigner(index) => write!(f, "replica {index} is no member, or stands out of order"),
            CertificateError::BadSignature(index) => write!(f, "the signature of replica {index} does not verify"),
            CertificateError::NoQuorum => write!(f, "the certificate has fewer signatures than a quorum"),
            CertificateError::TooFewOrganisations => write!(f, "the signatures are of too few different organisations"),
        }
    }
}

impl core::error::Error for CertificateError {}

impl Certificate {
    /// Checks a quorum of valid signatures of distinct replicas, and that they are of as many organisations as a
    /// quorum of this membership's organisations asks for (one per replica, unless trust is shared explicitly).
    pub fn verify(&self, membership: &Membership) -> Result<(), CertificateError> {
        if self.checkpoint.epoch != membership.epoch {
            return Err(CertificateError::WrongEpoch);
        }
        if self.signatures.len() < membership.quorum() {
            return Err(CertificateError::NoQuorum);
        }
        let text = self.checkpoint.text();
        let mut organisations = BTreeSet::new();
        let mut previous = None;
        for (index, signature) in &self.signatures {
            let member = membership.members.get(usize::from(*index)).filter(|_| previous < Some(*index));
            let member = member.ok_or(CertificateError::UnknownSigner(*index))?;
            if !member.key.verifies(text.as_bytes(), signature) {
                return Err(CertificateError::BadSignature(*index));
            }
            organisations.insert(&member.org);
            previous = Some(*index);
        }
        if organisations.len() < quorum(membership.organisations()) {
            return Err(CertificateError::TooFewOrganisations);
        }
        Ok(())
    }

    /// The certificate as a C2SP signed note.
    pub fn note(&self, membership: &Membership) -> Result<String, DecodeError> {
        let mut note = self.checkpoint.text();
        note.push('\n');
        for (index, signature) in &self.signatures {
            let member = membership.members.get(usize::from(*index)).ok_or(DecodeError::Invalid("unknown signer"))?;
            note.push_str(&signature_line(&note_name(member), &member.key, signature));
        }
        Ok(note)
    }

    /// The digest under which a certificate is named.
    pub fn digest(&self) -> Digest {
        Hasher::digest(b"waybill-certificate-v1", &self.to_bytes())
    }
}

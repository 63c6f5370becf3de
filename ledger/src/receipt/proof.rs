//! One transaction with its place in a ledger's tree and its actor's signature.

use super::text::{Lines, ParseError, base64, line};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use waybill_types::merkle::{leaf_hash, verify_inclusion};
use waybill_types::{Certificate, Codec, Digest, Leaf, Member, Signature};

/// No tree of ours is higher.
const PATH_MAX: usize = 64;

/// A leaf, proved by a checkpoint that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The encoded [`Leaf`].
    pub leaf: Bytes,
    /// The actor's signature over the envelope's header, which the leaf holds.
    pub signature: Signature,
    /// From the transaction to the envelope's root.
    pub branch: Vec<Digest>,
    /// The leaf's index in the ledger's tree.
    pub index: u64,
    /// From the leaf to the checkpoint's root.
    pub path: Vec<Digest>,
}

impl Proof {
    /// The leaf and who signed it, if both proofs and the signature hold.
    pub(super) fn verify(&self, certificate: &Certificate, members: &[Member]) -> Result<(Leaf, Member), &'static str> {
        let checkpoint = &certificate.checkpoint;
        let hash = leaf_hash(&self.leaf);
        if !verify_inclusion(&hash, self.index, checkpoint.tree_size, &self.path, &checkpoint.tree_root) {
            return Err("the entry is not in the checkpoint's tree");
        }
        let leaf = Leaf::from_bytes(&self.leaf).map_err(|_| "the entry is not a ledger's")?;
        let (header, place) = leaf.origin.as_ref().ok_or("the entry has no actor")?;
        if header.cluster != checkpoint.cluster {
            return Err("the actor signed for another ledger");
        }
        let transaction = leaf_hash(&leaf.transaction.to_bytes());
        let count = u64::from(header.count);
        if !verify_inclusion(&transaction, u64::from(*place), count, &self.branch, &header.root) {
            return Err("the transaction is not in the envelope that the actor signed");
        }
        let actor = members.iter().find(|member| member.node == header.origin);
        let actor = actor.ok_or("the actor is no node of the network")?.clone();
        if !actor.key.verifies(&header.preimage(), &self.signature) {
            return Err("the actor's signature does not verify");
        }
        Ok((leaf, actor))
    }

    pub(super) fn render(&self, text: &mut String) {
        line(text, format_args!("entry {}", STANDARD.encode(&self.leaf)));
        line(text, format_args!("signature {}", STANDARD.encode(self.signature.0)));
        for digest in &self.branch {
            line(text, format_args!("branch {}", STANDARD.encode(digest.0)));
        }
        line(text, format_args!("index {}", self.index));
        for digest in &self.path {
            line(text, format_args!("{}", STANDARD.encode(digest.0)));
        }
    }

    /// Takes a proof and the empty line after it.
    pub(super) fn parse(lines: &mut Lines<'_>) -> Result<Self, ParseError> {
        let leaf = lines.field("entry", "entry")?;
        let leaf = STANDARD.decode(leaf).map_err(|_| lines.expected("base64 of an entry"))?.into();
        let signature = lines.field("signature", "signature")?;
        let signature = Signature(base64(signature).ok_or_else(|| lines.expected("base64 of a signature"))?);
        let mut branch = Vec::new();
        while lines.peek()?.starts_with("branch ") && branch.len() < PATH_MAX {
            let digest = lines.field("branch", "branch")?;
            branch.push(Digest(base64(digest).ok_or_else(|| lines.expected("base64 of a digest"))?));
        }
        let index = lines.number("index", "index and its number")?;
        let mut path = Vec::new();
        while !lines.peek()?.is_empty() && path.len() < PATH_MAX {
            path.push(Digest(base64(lines.next()?).ok_or_else(|| lines.expected("base64 of a digest"))?));
        }
        lines.empty()?;
        Ok(Proof { leaf, signature, branch, index, path })
    }
}

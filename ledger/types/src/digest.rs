//! SHA-256 with a domain tag, and the salted commitment to a payload.

use crate::codec::{Codec, DecodeError, Reader};
use alloc::vec::Vec;
use core::fmt;
use ring::digest::{Context, SHA256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What stands before the first block.
    pub const ZERO: Digest = Digest([0; 32]);
}

impl Codec for Digest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Digest(input.array()?))
    }
}
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// SHA-256 over pieces, in the order in which they come.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Starts with a domain tag; it is closed by a zero byte, so that no tag is a prefix of another.
    pub fn new(tag: &[u8]) -> Self {
        let mut hasher = Self::untagged();
        hasher.update(tag);
        hasher.update(&[0]);
        hasher
    }

    /// Starts without a tag: only where a standard fixes the preimage (RFC 6962).
    pub fn untagged() -> Self {
        Hasher(Context::new(&SHA256))
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }

    /// The digest of one piece under a tag.
    pub fn digest(tag: &[u8], bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(tag);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// 32 random bytes that travel with a payload and never touch the ledger: without them a commitment says nothing
/// about a payload that could be guessed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);
impl Codec for Salt {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Salt(input.array()?))
    }
}
impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// What the ledger knows of a payload: `SHA-256("waybill-batch-v1\0" | length as u64 | canonical batch | salt)`.
///
/// The salt stands behind the batch, so that a receiver hashes while it reads and gets the salt last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commitment(pub Digest);
impl Codec for Commitment {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Commitment(Digest::decode(input)?))
    }
}
impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Commitment {
    /// Commits to the canonical batch that `parts` make up together.
    pub fn new(parts: &[&[u8]], salt: &Salt) -> Self {
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let mut committer = Committer::new(length);
        for part in parts {
            committer.update(part);
        }
        committer.finish(salt)
    }
}

/// A commitment under way, for whoever reads the payload piece by piece.
#[derive(Clone, Debug)]
pub struct Committer(Hasher);

impl Committer {
    /// Starts the commitment to a batch of `length` bytes.
    pub fn new(length: u64) -> Self {
        let mut hasher = Hasher::new(b"waybill-batch-v1");
        hasher.update(&length.to_be_bytes());
        Committer(hasher)
    }

    /// Takes the next bytes of the batch.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Closes the commitment with the salt.
    pub fn finish(mut self, salt: &Salt) -> Commitment {
        self.0.update(&salt.0);
        Commitment(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn golden_commitment() {
        let commitment = Commitment::new(&[b"hello ", b"world"], &Salt([7; 32]));
        assert_eq!(commitment, Commitment::new(&[b"hello world"], &Salt([7; 32])));
        assert_eq!(commitment.to_string(), "6ba42e403b5135c4b106cdec13a1bc71c59308ad4d305e834a3cf9316d6e87a9");
    }
}

//! A payload on its way, and a payload that is proven to be what the ledger says.
//!
//! [`Payload`] carries the commitment that its bytes really make, computed while they arrived; [`Payload::verify`]
//! compares it with the ledger's and is the only way to a [`Verified`].

use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use waybill_types::digest::Committer;
use waybill_types::{Commitment, Salt};

/// From this size on, hashing takes longer than handing the work to another thread.
pub(crate) const HASH_ELSEWHERE_BYTES: usize = 128 << 10;

/// Bytes that claim to be a batch. Nothing is known of them but the commitment that they make.
#[derive(Clone, Debug)]
pub struct Payload(Verified);

/// The bytes make another commitment than the ledger has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes make commitment {made}, the ledger has {expected}")]
pub struct Mismatch {
    /// What the ledger has.
    pub expected: Commitment,
    /// What the bytes make.
    pub made: Commitment,
}

impl Payload {
    /// Hashes a whole payload; small ones at once, large ones on a thread where it delays nobody.
    pub async fn hash(parts: Vec<Bytes>, salt: Salt) -> Self {
        let size_bytes: usize = parts.iter().map(Bytes::len).sum();
        if size_bytes < HASH_ELSEWHERE_BYTES {
            return Self::hash_here(parts, salt);
        }
        let copy = parts.clone();
        match tokio::task::spawn_blocking(move || Self::hash_here(parts, salt)).await {
            Ok(payload) => payload,
            // The runtime is going down and starts no more work: the answer is the same, only later.
            Err(_) => Self::hash_here(copy, salt),
        }
    }

    pub(crate) fn hash_here(parts: Vec<Bytes>, salt: Salt) -> Self {
        let slices: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
        let commitment = Commitment::new(&slices, &salt);
        Payload(Verified { parts: parts.into(), salt, commitment })
    }

    /// Proves that these are the bytes the ledger speaks of.
    pub fn verify(self, expected: &Commitment) -> Result<Verified, Mismatch> {
        let made = self.0.commitment;
        if made == *expected { Ok(self.0) } else { Err(Mismatch { expected: *expected, made }) }
    }

    /// What these bytes make. For its maker, the outbox, it is the truth itself.
    pub(crate) fn into_own(self) -> Verified {
        self.0
    }
}

/// The canonical batch that a commitment on the ledger stands for, with its salt.
#[derive(Clone)]
pub struct Verified {
    parts: Arc<[Bytes]>,
    salt: Salt,
    commitment: Commitment,
}

impl Verified {
    /// The canonical batch in pieces that follow each other, as they were received or read: write them vectored.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The canonical batch in one piece; a copy, if it is in several.
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_ref() {
            [whole] => whole.clone(),
            parts => {
                let mut whole = BytesMut::with_capacity(self.size_bytes());
                parts.iter().for_each(|part| whole.extend_from_slice(part));
                whole.freeze()
            }
        }
    }

    /// What follows the first `skip` bytes, without a copy: a reader puts its own stamp in front.
    pub fn after(&self, skip: usize) -> impl Iterator<Item = Bytes> + '_ {
        let mut left = skip;
        self.parts.iter().filter_map(move |part| {
            let cut = left.min(part.len());
            left -= cut;
            (cut < part.len()).then(|| part.slice(cut..))
        })
    }

    /// The canonical batch's size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// What the ledger has.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Whoever knows the salt was served the bytes: it goes to receivers only, and behind the last byte.
    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    /// The same in one piece of memory of its own: a small payload must not keep a large network buffer alive.
    pub(crate) fn compact(self) -> Self {
        let own = match self.parts.as_ref() {
            [whole] => Bytes::copy_from_slice(whole),
            _ => self.to_bytes(),
        };
        Verified { parts: Arc::new([own]), ..self }
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({:?}, {} bytes)", self.commitment, self.size_bytes())
    }
}

/// A payload that is arriving: hashed piece by piece into memory of exactly the size that the ledger says.
#[derive(Debug)]
pub(crate) struct Incoming {
    size_bytes: usize,
    bytes: BytesMut,
    committer: Committer,
}

impl Incoming {
    pub fn new(size_bytes: u32) -> Self {
        let size_bytes = size_bytes as usize;
        let committer = Committer::new(size_bytes as u64);
        Incoming { size_bytes, bytes: BytesMut::with_capacity(size_bytes), committer }
    }

    /// How many bytes are there.
    pub fn received_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes are still to come.
    pub fn missing_bytes(&self) -> usize {
        self.size_bytes - self.bytes.len()
    }

    /// Takes what belongs to the batch off the front of `chunk`.
    pub fn take_from(&mut self, chunk: &mut Bytes) {
        let piece = chunk.split_to(chunk.len().min(self.missing_bytes()));
        self.committer.update(&piece);
        self.bytes.extend_from_slice(&piece);
    }

    /// The payload, once nothing is missing.
    pub fn finish(self, salt: Salt) -> Option<Payload> {
        let complete = self.missing_bytes() == 0;
        let commitment = self.committer.finish(&salt);
        let parts = Arc::new([self.bytes.freeze()]);
        complete.then_some(Payload(Verified { parts, salt, commitment }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt([7; 32]);

    fn parts(pieces: &[&'static str]) -> Vec<Bytes> {
        pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect()
    }

    #[test]
    fn only_the_committed_bytes_verify() {
        let expected = Commitment::new(&[b"hello world"], &SALT);
        let verified = Payload::hash_here(parts(&["hello ", "world"]), SALT).verify(&expected).unwrap();
        assert_eq!(verified.to_bytes(), "hello world");
        assert_eq!(verified.clone().compact().parts().len(), 1);
        assert_eq!(verified.after(4).collect::<Vec<_>>(), parts(&["o ", "world"]));
        assert_eq!(verified.after(6).collect::<Vec<_>>(), parts(&["world"]));
        assert_eq!(verified.after(11).count(), 0);
        for (pieces, salt) in [(parts(&["hello", "world"]), SALT), (parts(&["hello world"]), Salt([8; 32]))] {
            let mismatch = Payload::hash_here(pieces, salt).verify(&expected).unwrap_err();
            assert_eq!(mismatch.expected, expected);
            assert_ne!(mismatch.made, expected);
        }
    }

    #[tokio::test]
    async fn hashing_here_and_elsewhere_is_the_same() {
        for size in [0, 1, HASH_ELSEWHERE_BYTES - 1, HASH_ELSEWHERE_BYTES, HASH_ELSEWHERE_BYTES + 1] {
            let bytes = Bytes::from(vec![3; size]);
            let payload = Payload::hash(vec![bytes.clone()], SALT).await;
            assert!(payload.verify(&Commitment::new(&[&bytes], &SALT)).is_ok(), "{size} bytes");
        }
    }

    #[test]
    fn an_arriving_payload_takes_its_own_bytes_and_no_more() {
        let mut incoming = Incoming::new(5);
        let mut chunk = Bytes::from_static(b"hel");
        incoming.take_from(&mut chunk);
        assert_eq!((incoming.received_bytes(), incoming.missing_bytes(), chunk.len()), (3, 2, 0));
        let mut chunk = Bytes::from_static(b"lo salt");
        incoming.take_from(&mut chunk);
        assert_eq!(chunk, " salt");
        let payload = incoming.finish(SALT).unwrap();
        assert!(payload.verify(&Commitment::new(&[b"hello"], &SALT)).is_ok());
        assert!(Incoming::new(5).finish(SALT).is_none(), "nothing has arrived");
    }
}

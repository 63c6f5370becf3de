//! Signatures for simulated nodes.

use crate::io::Signatures;
use ring::signature::{Ed25519KeyPair, KeyPair};
use waybill_types::digest::Hasher;
use waybill_types::{PublicKey, Signature};

/// A node's key.
#[derive(Debug)]
pub enum Keys {
    /// A hash with the public key, for bulk: nobody in the simulator forges one.
    Cheap(PublicKey),
    /// The real thing.
    Real(Box<Ed25519KeyPair>),
}

impl Keys {
    /// The key of a node, always the same for its number.
    ///
    /// # Panics
    /// Never: 32 bytes are an Ed25519 seed.
    pub fn of(number: u8, real: bool) -> Keys {
        let seed = [number.wrapping_add(1); 32];
        match Ed25519KeyPair::from_seed_unchecked(&seed) {
            Ok(pair) if real => Keys::Real(Box::new(pair)),
            _ => Keys::Cheap(PublicKey(seed)),
        }
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        match self {
            Keys::Cheap(key) => *key,
            Keys::Real(pair) => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(pair.public_key().as_ref());
                PublicKey(bytes)
            }
        }
    }
}

impl Signatures for Keys {
    fn sign(&self, preimage: &[u8]) -> Signature {
        match self {
            Keys::Cheap(key) => cheap(key, preimage),
            Keys::Real(pair) => {
                let mut bytes = [0; 64];
                bytes.copy_from_slice(pair.sign(preimage).as_ref());
                Signature(bytes)
            }
        }
    }

    fn verify(&self, key: &PublicKey, preimage: &[u8], signature: &Signature) -> bool {
        match self {
            Keys::Cheap(_) => cheap(key, preimage) == *signature,
            Keys::Real(_) => key.verifies(preimage, signature),
        }
    }
}

fn cheap(key: &PublicKey, preimage: &[u8]) -> Signature {
    let mut hasher = Hasher::new(b"cheap");
    hasher.update(&key.0);
    hasher.update(preimage);
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&hasher.finish().0);
    Signature(bytes)
}

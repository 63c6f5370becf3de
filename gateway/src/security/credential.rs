//! From a password to what is kept of it (RFC 5802, section 3), with the primitives of `ring`.

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use waybill_ledger::organisation::{SCRAM_ITERATIONS_MIN, ScramCredential, ScramMechanism};

const SALT_BYTES: usize = 24;

/// The system gives no random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// A credential for a password, under a fresh salt. Takes milliseconds of hashing.
pub fn derive(mechanism: ScramMechanism, password: &str) -> Result<ScramCredential, NoRandomness> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| NoRandomness)?;
    let salted = salted_password(mechanism, password.as_bytes(), &salt, SCRAM_ITERATIONS_MIN);
    Ok(from_salted_password(mechanism, Bytes::copy_from_slice(&salt), SCRAM_ITERATIONS_MIN, &salted))
}

/// `SaltedPassword`: the expensive step.
pub(super) fn salted_password(mechanism: ScramMechanism, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
    let algorithm = match mechanism {
        ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        ScramMechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    let mut salted = vec![0; mechanism.key_bytes()];
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
    salted
}

/// What is kept, from a salted password that somebody has calculated: Kafka's tools do so before they ask (KIP-554).
pub(crate) fn from_salted_password(
    mechanism: ScramMechanism,
    salt: Bytes,
    iterations: u32,
    salted_password: &[u8],
) -> ScramCredential {
    let client_key = keyed(mechanism, salted_password, b"Client Key");
    let stored_key = hash(mechanism, client_key.as_ref());
    let server_key = keyed(mechanism, salted_password, b"Server Key");
    ScramCredential {
        salt,
        iterations,
        stored_key: Bytes::copy_from_slice(stored_key.as_ref()),
        server_key: Bytes::copy_from_slice(server_key.as_ref()),
    }
}

/// `HMAC(key, text)`.
pub(super) fn keyed(mechanism: ScramMechanism, key: &[u8], text: &[u8]) -> hmac::Tag {
    let algorithm = match mechanism {
        ScramMechanism::Sha256 => hmac::HMAC_SHA256,
        ScramMechanism::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, key), text)
}

/// `H(text)`.
pub(super) fn hash(mechanism: ScramMechanism, text: &[u8]) -> digest::Digest {
    let algorithm = match mechanism {
        ScramMechanism::Sha256 => &digest::SHA256,
        ScramMechanism::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_passwords_have_different_salts_and_keys_of_their_mechanisms_length() {
        for mechanism in ScramMechanism::ALL {
            let (one, other) = (derive(mechanism, "secret").unwrap(), derive(mechanism, "secret").unwrap());
            assert_ne!(one.salt, other.salt);
            assert_ne!(one.stored_key, other.stored_key);
            assert_ne!(one.stored_key, one.server_key);
            assert_eq!((one.stored_key.len(), one.server_key.len()), (mechanism.key_bytes(), mechanism.key_bytes()));
        }
    }
}

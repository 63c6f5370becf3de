//! From a password to what is kept of it (RFC 5802, section 3), with the primitives of `ring`.

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use waybill_ledger::organisation::{SCRAM_ITERATIONS_MIN, ScramCredential, ScramMechanism};

/// Random bytes behind a salt.
pub(super) const SALT_SEED_BYTES: usize = 17;

/// The system gives no random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// A credential for a password, under a fresh salt. Takes milliseconds of hashing.
pub fn derive(mechanism: ScramMechanism, password: &str) -> Result<ScramCredential, NoRandomness> {
    let mut seed = [0; SALT_SEED_BYTES];
    SystemRandom::new().fill(&mut seed).map_err(|_| NoRandomness)?;
    let salt = salt(seed);
    let salted = salted_password(mechanism, password.as_bytes(), &salt, SCRAM_ITERATIONS_MIN);
    Ok(from_salted_password(mechanism, salt, SCRAM_ITERATIONS_MIN, &salted))
}

/// A salt as Kafka's tools make theirs (`ScramFormatter.secureRandomString`): a number of 130 bits, written to the base
/// 36. A salt of another form would tell by whom a user was made, or that there is no such user.
pub(super) fn salt(seed: [u8; SALT_SEED_BYTES]) -> Bytes {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = seed;
    number[0] &= 0b11;
    let mut digits = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut remainder = 0;
        for byte in &mut number {
            let value = remainder << 8 | usize::from(*byte);
            *byte = (value / DIGITS.len()) as u8;
            remainder = value % DIGITS.len();
        }
        digits.push(DIGITS[remainder]);
    }
    if digits.is_empty() {
        digits.push(DIGITS[0]);
    }
    digits.reverse();
    Bytes::from(digits)
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
    fn salts_have_the_form_of_those_of_kafka_s_tools() {
        assert_eq!(salt([0xff; SALT_SEED_BYTES]), "1omfro7zwmumr3umxudzyj6scf");
        assert_eq!(salt(std::array::from_fn(|index| index as u8 + 1)), "f9war3lvskojybi3x7fo64j69");
        assert_eq!(salt([0; SALT_SEED_BYTES]), "0");
        let credential = derive(ScramMechanism::Sha256, "secret").unwrap();
        assert!(credential.salt.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
    }

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

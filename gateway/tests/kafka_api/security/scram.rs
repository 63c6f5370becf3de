//! The client's side of SCRAM, for tests alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

pub struct Exchange {
    hash: Hash,
    password: String,
    first_bare: String,
    expected_signature: Option<String>,
}

impl Hash {
    pub fn salted_password(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let (algorithm, bytes) = match self {
            Hash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
            Hash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
        };
        let mut salted = vec![0; bytes];
        let iterations = NonZeroU32::new(iterations).expect("iterations");
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }

    fn keyed(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = if self == Hash::Sha256 { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA512 };
        hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
    }

    fn digest(self, text: &[u8]) -> Vec<u8> {
        let algorithm = if self == Hash::Sha256 { &digest::SHA256 } else { &digest::SHA512 };
        digest::digest(algorithm, text).as_ref().to_vec()
    }
}

impl Exchange {
    pub fn new(hash: Hash, user: &str, password: &str) -> Self {
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={name},r=nonceOfTheTest");
        Exchange { hash, password: password.into(), first_bare, expected_signature: None }
    }

    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare).into_bytes()
    }

    pub fn last(&mut self, server_first: &[u8]) -> Vec<u8> {
        let server_first = std::str::from_utf8(server_first).expect("text");
        let field = |name: &str| {
            let found = server_first.split(',').find_map(|field| field.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {server_first}")).to_string()
        };
        let nonce = field("r=");
        assert!(nonce.starts_with("nonceOfTheTest") && nonce.len() > 30, "{nonce}");
        let salt = STANDARD.decode(field("s=")).expect("a salt");
        let iterations = field("i=").parse().expect("iterations");
        let salted = self.hash.salted_password(&self.password, &salt, iterations);
        let without_proof = format!("c=biws,r={nonce}");
        let message = [&self.first_bare, server_first, &without_proof].join(",");
        let client_key = self.hash.keyed(&salted, b"Client Key");
        let signature = self.hash.keyed(&self.hash.digest(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = self.hash.keyed(&salted, b"Server Key");
        let expected = STANDARD.encode(self.hash.keyed(&server_key, message.as_bytes()));
        self.expected_signature = Some(format!("v={expected}"));
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }

    /// The server knows the password too.
    pub fn check(&self, server_final: &[u8]) {
        assert_eq!(std::str::from_utf8(server_final).ok(), self.expected_signature.as_deref());
    }
}

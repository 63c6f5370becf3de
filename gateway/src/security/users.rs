//! The organisation's users as log-ins see them.
//!
//! A user who does not exist has a decoy: a salt that is always the same for that name, keys that nobody knows. So
//! neither the answers nor their time tell who exists. (SCRAM sends salt and rounds of hashing to whoever asks. So a
//! user with more than the usual rounds, or with a salt of another form than that of Kafka's own tools, can be told from
//! a decoy.)

use super::credential::{SALT_SEED_BYTES, from_salted_password, keyed, salt, salted_password};
use bytes::Bytes;
use ring::hmac;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use waybill_ledger::organisation::{Organisation, SCRAM_ITERATIONS_MIN, ScramCredential, ScramMechanism};

/// Looks users up on the organisation's ledger, and checks passwords.
#[derive(Debug)]
pub struct Users {
    organisation: Arc<Organisation>,
    /// Makes decoys. Of this node: it tells nobody anything.
    secret: hmac::Key,
    /// Passwords that are hashed at a time; beyond it log-ins wait, and their time limit counts.
    hashing: Arc<Semaphore>,
}

/// What a proof is checked against.
pub(super) struct Lookup {
    pub(super) credential: ScramCredential,
    /// False for a decoy, whatever is proved.
    pub(super) exists: bool,
}

impl Users {
    /// The users of this ledger. Decoys come from the secret.
    pub fn new(organisation: Arc<Organisation>, secret: &[u8]) -> Self {
        // Half of the cores at most: log-ins must not hold up those who have logged in.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Users {
            organisation,
            secret: hmac::Key::new(hmac::HMAC_SHA512, secret),
            hashing: Arc::new(Semaphore::new((cores / 2).max(1))),
        }
    }

    pub(super) fn lookup(&self, user: &str, mechanism: ScramMechanism) -> Lookup {
        // Calculated for those who exist too, which takes microseconds.
        let decoy = self.decoy(user, mechanism);
        let found = self.organisation.credential(user, mechanism);
        Lookup { exists: found.is_some(), credential: found.unwrap_or(decoy) }
    }

    /// Whether this is the user's password, by what SCRAM keeps of it. Both mechanisms are calculated, whichever the
    /// user has; a user may have two passwords.
    pub(super) async fn check_password(&self, user: &str, password: &str) -> bool {
        let lookups = ScramMechanism::ALL.map(|mechanism| (mechanism, self.lookup(user, mechanism)));
        let Ok(permit) = self.hashing.clone().acquire_owned().await else { return false };
        let password = password.to_string();
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let fits =
                lookups.map(|(mechanism, lookup)| lookup.exists & fits(mechanism, &lookup.credential, &password));
            fits.into_iter().any(|fits| fits)
        });
        checked.await.unwrap_or(false)
    }

    fn decoy(&self, user: &str, mechanism: ScramMechanism) -> ScramCredential {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(b"waybill decoy\0");
        context.update(&[mechanism as u8]);
        context.update(user.as_bytes());
        let tag = context.sign();
        let key = keyed(mechanism, tag.as_ref(), b"key");
        let mut seed = [0; SALT_SEED_BYTES];
        seed.copy_from_slice(&tag.as_ref()[..SALT_SEED_BYTES]);
        ScramCredential {
            salt: salt(seed),
            iterations: SCRAM_ITERATIONS_MIN,
            stored_key: Bytes::copy_from_slice(key.as_ref()),
            server_key: Bytes::copy_from_slice(key.as_ref()),
        }
    }
}

fn fits(mechanism: ScramMechanism, credential: &ScramCredential, password: &str) -> bool {
    let salted = salted_password(mechanism, password.as_bytes(), &credential.salt, credential.iterations);
    let derived = from_salted_password(mechanism, Bytes::new(), credential.iterations, &salted);
    derived.stored_key.ct_eq(&credential.stored_key).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::derive;
    use waybill_ledger::organisation::{Command, DeleteCredential, SetCredential, UserChange};
    use waybill_types::Codec;

    fn change(organisation: &Organisation, change: UserChange) {
        organisation.apply(&Command::AlterUsers(vec![change]).to_bytes());
    }

    #[tokio::test]
    async fn a_password_fits_either_mechanism_until_the_user_goes() {
        let organisation = Arc::new(Organisation::new(1).unwrap());
        let users = Users::new(organisation.clone(), b"secret");
        for (mechanism, password) in [(ScramMechanism::Sha256, "one"), (ScramMechanism::Sha512, "two")] {
            assert!(!users.check_password("alice", password).await);
            let credential = derive(mechanism, password).unwrap();
            change(&organisation, UserChange::Set(SetCredential { user: "alice".into(), mechanism, credential }));
            assert!(users.check_password("alice", password).await);
        }
        assert!(users.check_password("alice", "one").await);
        for (user, password) in [("alice", "three"), ("alice", "one "), ("Alice", "one"), ("bob", "one")] {
            assert!(!users.check_password(user, password).await, "{user} {password}");
        }
        for mechanism in ScramMechanism::ALL {
            change(&organisation, UserChange::Delete(DeleteCredential { user: "alice".into(), mechanism }));
        }
        assert!(!users.check_password("alice", "one").await && !users.check_password("alice", "two").await);
    }

    #[test]
    fn who_does_not_exist_looks_like_one_who_does() {
        let users = Users::new(Arc::new(Organisation::new(1).unwrap()), b"secret");
        let decoy = |user: &str, mechanism| users.lookup(user, mechanism).credential;
        for mechanism in ScramMechanism::ALL {
            let (one, real) = (decoy("eve", mechanism), derive(mechanism, "x").unwrap());
            assert!(!users.lookup("eve", mechanism).exists);
            assert_eq!(one, decoy("eve", mechanism), "asked twice it answers the same");
            assert_ne!(one.salt, decoy("eva", mechanism).salt);
            for salt in [&one.salt, &real.salt] {
                assert!(salt.len() > 20 && salt.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
            }
            assert_eq!(one.iterations, real.iterations);
            assert_eq!(one.stored_key.len(), real.stored_key.len());
        }
    }
}

//! The organisation's users: what their log-ins are checked against (RFC 5802, KIP-554).
//!
//! Passwords never come here. A credential is what SCRAM lets a server keep: it can check a log-in, and whoever reads
//! it still has to guess the password.

use super::Refusal;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::{codec_enum, codec_struct};

/// The longest name of a user, in bytes: what RFC 4616 requires of a server.
pub const USER_NAME_BYTES_MAX: usize = 255;
/// The longest salt, in bytes. Kafka's tools make some 26.
pub const SALT_BYTES_MAX: usize = 255;
/// The fewest rounds of hashing behind a credential (RFC 7677, section 4; Kafka's minimum).
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;
/// The most rounds: each log-in with PLAIN costs them (Kafka's maximum).
pub const SCRAM_ITERATIONS_MAX: u32 = 16_384;
/// How many users one command can change.
pub const USERS_PER_COMMAND_MAX: usize = 1_000;

/// A SCRAM mechanism; the numbers are Kafka's (KIP-554).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ScramMechanism {
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256 = 1,
    /// SCRAM-SHA-512.
    Sha512 = 2,
}

impl ScramMechanism {
    /// Both.
    pub const ALL: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

    /// The mechanism with this number of Kafka's.
    pub fn from_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| *mechanism as i8 == number)
    }

    /// The length of a salted password and of each key, in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            ScramMechanism::Sha256 => 32,
            ScramMechanism::Sha512 => 64,
        }
    }
}

impl Codec for ScramMechanism {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let tag = u8::decode(input)?;
        Self::ALL.into_iter().find(|mechanism| *mechanism as u8 == tag).ok_or(DecodeError::UnknownTag(tag))
    }
}

/// What a user's log-in with one mechanism is checked against.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Mixed into the password, so that equal passwords have different keys.
    pub salt: Bytes,
    /// Rounds of hashing, from [`SCRAM_ITERATIONS_MIN`] to [`SCRAM_ITERATIONS_MAX`].
    pub iterations: u32,
    /// Proves the client to the server.
    pub stored_key: Bytes,
    /// Proves the server to the client.
    pub server_key: Bytes,
}
codec_struct!(ScramCredential { salt, iterations, stored_key, server_key });

/// Whoever reads a log has no business with keys.
impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramCredential({} iterations, keys not shown)", self.iterations)
    }
}

impl ScramCredential {
    /// A copy that keeps no larger buffer alive.
    fn detached(&self) -> Self {
        ScramCredential {
            salt: Bytes::copy_from_slice(&self.salt),
            iterations: self.iterations,
            stored_key: Bytes::copy_from_slice(&self.stored_key),
            server_key: Bytes::copy_from_slice(&self.server_key),
        }
    }

    fn is_within_limits(&self, mechanism: ScramMechanism) -> bool {
        let keys = [&self.stored_key, &self.server_key];
        (SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(&self.iterations)
            && (1..=SALT_BYTES_MAX).contains(&self.salt.len())
            && keys.iter().all(|key| key.len() == mechanism.key_bytes())
    }
}

/// One change of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// The user logs in with this from now on.
    Set(SetCredential),
    /// The user logs in with this mechanism no more.
    Delete(DeleteCredential),
}
codec_enum!(UserChange {
    1 => Set,
    2 => Delete,
});

impl UserChange {
    /// Whom it changes.
    pub fn user(&self) -> &str {
        match self {
            UserChange::Set(set) => &set.user,
            UserChange::Delete(delete) => &delete.user,
        }
    }
}

/// A credential that replaces what the user had for the mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCredential {
    /// The user's name.
    pub user: String,
    /// What it is for.
    pub mechanism: ScramMechanism,
    /// The credential.
    pub credential: ScramCredential,
}
codec_struct!(SetCredential { user, mechanism, credential });

/// A credential that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteCredential {
    /// The user's name.
    pub user: String,
    /// What it was for.
    pub mechanism: ScramMechanism,
}
codec_struct!(DeleteCredential { user, mechanism });

/// What became of one change. Those of one user that follow each other in a command are made together or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UserOutcome {
    /// It is done.
    Changed = 1,
    /// There was nothing to delete (Kafka: RESOURCE_NOT_FOUND).
    NotFound = 2,
    /// Name, salt, iterations or keys are out of bounds (Kafka: UNACCEPTABLE_CREDENTIAL).
    Unacceptable = 3,
    /// The organisation has as many credentials as it may have.
    TooManyUsers = 4,
}

impl Codec for UserOutcome {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            1 => Ok(UserOutcome::Changed),
            2 => Ok(UserOutcome::NotFound),
            3 => Ok(UserOutcome::Unacceptable),
            4 => Ok(UserOutcome::TooManyUsers),
            tag => Err(DecodeError::UnknownTag(tag)),
        }
    }
}

/// All users, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Users {
    /// No user is without a credential.
    by_name: BTreeMap<String, BTreeMap<ScramMechanism, ScramCredential>>,
    /// The sum of all users' credentials, kept so that the limit costs nothing to check.
    count: usize,
}

impl Users {
    pub(super) fn alter(
        &mut self,
        changes: Vec<UserChange>,
        credentials_max: usize,
    ) -> Result<Vec<UserOutcome>, Refusal> {
        if changes.len() > USERS_PER_COMMAND_MAX {
            return Err(Refusal::TooManyChanges);
        }
        let of_one_user = changes.chunk_by(|left, right| left.user() == right.user());
        Ok(of_one_user.flat_map(|changes| self.alter_user(changes, credentials_max)).collect())
    }

    pub(super) fn credential(&self, user: &str, mechanism: ScramMechanism) -> Option<&ScramCredential> {
        self.by_name.get(user)?.get(&mechanism)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &BTreeMap<ScramMechanism, ScramCredential>)> {
        self.by_name.iter()
    }

    /// All of these changes, or none: then each has the outcome of the first that cannot be made. Else a password could
    /// be another one although its change was answered with an error.
    fn alter_user(&mut self, changes: &[UserChange], credentials_max: usize) -> Vec<UserOutcome> {
        let Some(user) = changes.first().map(UserChange::user) else { return Vec::new() };
        let before = self.by_name.get(user).cloned();
        for change in changes {
            let outcome = match change {
                UserChange::Set(set) => self.set(set.clone(), credentials_max),
                UserChange::Delete(delete) => self.delete(delete),
            };
            if outcome != UserOutcome::Changed {
                self.restore(user, before);
                return vec![outcome; changes.len()];
            }
        }
        vec![UserOutcome::Changed; changes.len()]
    }

    fn restore(&mut self, user: &str, before: Option<BTreeMap<ScramMechanism, ScramCredential>>) {
        self.count += before.as_ref().map_or(0, BTreeMap::len);
        let replaced = match before {
            Some(before) => self.by_name.insert(user.to_string(), before),
            None => self.by_name.remove(user),
        };
        self.count -= replaced.map_or(0, |replaced| replaced.len());
    }

    fn set(&mut self, set: SetCredential, credentials_max: usize) -> UserOutcome {
        let SetCredential { user, mechanism, credential } = set;
        if !(1..=USER_NAME_BYTES_MAX).contains(&user.len()) || !credential.is_within_limits(mechanism) {
            return UserOutcome::Unacceptable;
        }
        let known = self.credential(&user, mechanism).is_some();
        if !known && self.count >= credentials_max {
            return UserOutcome::TooManyUsers;
        }
        self.count += usize::from(!known);
        self.by_name.entry(user).or_default().insert(mechanism, credential.detached());
        UserOutcome::Changed
    }

    fn delete(&mut self, delete: &DeleteCredential) -> UserOutcome {
        let Some(credentials) = self.by_name.get_mut(&delete.user) else { return UserOutcome::NotFound };
        if credentials.remove(&delete.mechanism).is_none() {
            return UserOutcome::NotFound;
        }
        if credentials.is_empty() {
            self.by_name.remove(&delete.user);
        }
        self.count -= 1;
        UserOutcome::Changed
    }
}

/// As a list in the order of names and mechanisms.
impl Codec for Users {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.count as u32).encode(out);
        for (user, credentials) in &self.by_name {
            for (mechanism, credential) in credentials {
                user.encode(out);
                mechanism.encode(out);
                credential.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let stored: Vec<SetCredential> = Codec::decode(input)?;
        let key = |entry: &SetCredential| (entry.user.clone(), entry.mechanism);
        if !stored.is_sorted_by(|left, right| key(left) < key(right)) {
            return Err(DecodeError::Invalid("users are not in ascending order"));
        }
        let mut users = Users::default();
        for entry in stored {
            if users.set(entry, usize::MAX) != UserOutcome::Changed {
                return Err(DecodeError::Invalid("a user's credential is out of bounds"));
            }
        }
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    //! Users come, change and go within limits, and their encodings are pinned.

    use super::super::{Answer, Command, Limits, Organisation};
    use super::*;

    fn organisation() -> Organisation {
        let limits = Limits { credentials_max: 3, ..Limits::default() };
        Organisation::with_limits(1, limits).unwrap()
    }

    fn alter(organisation: &Organisation, changes: Vec<UserChange>) -> Vec<UserOutcome> {
        let answer = organisation.apply(&Command::AlterUsers(changes).to_bytes());
        match Answer::from_bytes(&answer).unwrap() {
            Answer::UsersAltered(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    fn credential(mechanism: ScramMechanism, mark: u8) -> ScramCredential {
        let key = Bytes::from(vec![mark; mechanism.key_bytes()]);
        ScramCredential {
            salt: Bytes::from_static(b"salt"),
            iterations: 4_096,
            stored_key: key.clone(),
            server_key: key,
        }
    }

    fn set(user: &str, mechanism: ScramMechanism, mark: u8) -> UserChange {
        UserChange::Set(SetCredential { user: user.into(), mechanism, credential: credential(mechanism, mark) })
    }

    fn delete(user: &str, mechanism: ScramMechanism) -> UserChange {
        UserChange::Delete(DeleteCredential { user: user.into(), mechanism })
    }

    use ScramMechanism::{Sha256, Sha512};
    use UserOutcome::{Changed, NotFound, TooManyUsers, Unacceptable};

    #[test]
    fn users_are_set_replaced_and_deleted_by_mechanism() {
        let organisation = organisation();
        let outcomes =
            alter(&organisation, vec![set("alice", Sha256, 1), set("alice", Sha512, 2), set("bob", Sha256, 3)]);
        assert_eq!(outcomes, [Changed; 3]);
        assert_eq!(organisation.credential("alice", Sha512), Some(credential(Sha512, 2)));
        assert_eq!(organisation.credential("bob", Sha512), None);
        let users = organisation.users();
        assert_eq!(
            users,
            [("alice".into(), vec![(Sha256, 4_096), (Sha512, 4_096)]), ("bob".into(), vec![(Sha256, 4_096)])]
        );

        assert_eq!(alter(&organisation, vec![set("carol", Sha256, 4), set("bob", Sha256, 5)]), [TooManyUsers, Changed]);
        assert_eq!(organisation.credential("bob", Sha256), Some(credential(Sha256, 5)));
        let outcomes =
            alter(&organisation, vec![delete("alice", Sha512), delete("dan", Sha256), delete("alice", Sha512)]);
        assert_eq!(outcomes, [Changed, NotFound, NotFound]);
        assert_eq!(alter(&organisation, vec![set("carol", Sha256, 4)]), [Changed], "a deleted credential makes room");
    }

    #[test]
    fn a_user_is_changed_as_asked_or_not_at_all() {
        let organisation = organisation();
        alter(&organisation, vec![set("alice", Sha256, 1)]);
        let before = organisation.snapshot();
        for (changes, outcome) in [
            (vec![set("alice", Sha256, 2), delete("alice", Sha512)], NotFound),
            (vec![delete("alice", Sha256), delete("alice", Sha512)], NotFound),
            (vec![set("bob", Sha512, 2), delete("bob", Sha256)], NotFound),
            (
                vec![delete("alice", Sha256), set("alice", Sha512, 2), set("alice", Sha256, 0), bad("alice")],
                Unacceptable,
            ),
        ] {
            let outcomes = alter(&organisation, changes.clone());
            assert_eq!(outcomes, vec![outcome; changes.len()], "{changes:?}");
            assert_eq!(organisation.snapshot(), before, "{changes:?}");
        }
        let many = vec![set("bob", Sha256, 2), set("bob", Sha512, 2), set("carol", Sha256, 3), set("carol", Sha512, 3)];
        assert_eq!(alter(&organisation, many), [Changed, Changed, TooManyUsers, TooManyUsers]);
        assert_eq!(alter(&organisation, vec![delete("bob", Sha256), set("carol", Sha256, 3)]), [Changed; 2]);
    }

    fn bad(user: &str) -> UserChange {
        UserChange::Set(SetCredential { user: user.into(), mechanism: Sha512, credential: credential(Sha256, 1) })
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_alone() {
        let changed = |change: fn(&mut SetCredential)| {
            let mut set = SetCredential { user: "eve".into(), mechanism: Sha256, credential: credential(Sha256, 1) };
            change(&mut set);
            UserChange::Set(set)
        };
        let refused = vec![
            changed(|set| set.user = String::new()),
            changed(|set| set.user = "x".repeat(USER_NAME_BYTES_MAX + 1)),
            changed(|set| set.mechanism = Sha512),
            changed(|set| set.credential.iterations = 4_095),
            changed(|set| set.credential.iterations = 16_385),
            changed(|set| set.credential.salt = Bytes::new()),
            changed(|set| set.credential.salt = Bytes::from(vec![0; SALT_BYTES_MAX + 1])),
            changed(|set| set.credential.server_key = Bytes::from_static(b"short")),
        ];
        let organisation = organisation();
        let outcomes = alter(&organisation, refused);
        assert!(outcomes.iter().all(|outcome| *outcome == Unacceptable), "{outcomes:?}");
        assert!(organisation.users().is_empty());
        let many = vec![delete("x", Sha256); USERS_PER_COMMAND_MAX + 1];
        let answer = organisation.apply(&Command::AlterUsers(many).to_bytes());
        assert_eq!(Answer::from_bytes(&answer), Ok(Answer::Refused(Refusal::TooManyChanges)));
    }

    #[test]
    fn keys_do_not_show() {
        let shown = format!("{:?}", set("alice", Sha256, 0xab));
        assert!(shown.contains("alice") && !shown.contains("171") && !shown.contains("ab, ab"), "{shown}");
    }

    #[test]
    fn golden_command_answer_and_snapshot() {
        let command = Command::AlterUsers(vec![set("al", Sha256, 0x11), delete("bo", Sha512)]);
        let mut golden = b"\x07\0\0\0\x02\x01\0\0\0\x02al\x01\0\0\0\x04salt\0\0\x10\0\0\0\0\x20".to_vec();
        golden.extend([0x11; 32]);
        golden.extend(b"\0\0\0\x20");
        golden.extend([0x11; 32]);
        golden.extend(b"\x02\0\0\0\x02bo\x02");
        assert_eq!(command.to_bytes(), golden);
        let organisation = organisation();
        assert_eq!(organisation.apply(&command.to_bytes()).as_ref(), b"\x07\0\0\0\x02\x01\x02");

        let snapshot = organisation.snapshot();
        let mut golden = b"WB-ORG\0\x02\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
        golden.extend(b"\0\0\0\x02al\x01\0\0\0\x04salt\0\0\x10\0\0\0\0\x20");
        golden.extend([0x11; 32]);
        golden.extend(b"\0\0\0\x20");
        golden.extend([0x11; 32]);
        assert_eq!(snapshot, golden);

        let restored = Organisation::new(1).unwrap();
        restored.install(&snapshot).unwrap();
        assert_eq!(restored.credential("al", Sha256), Some(credential(Sha256, 0x11)));
        assert_eq!(restored.snapshot(), snapshot);
        for end in 0..snapshot.len() {
            assert!(restored.install(&snapshot.slice(..end)).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_snapshot_from_before_there_were_users_has_none() {
        let organisation = organisation();
        alter(&organisation, vec![set("alice", Sha256, 1)]);
        let before = Bytes::from_static(b"WB-ORG\0\x01\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0");
        organisation.install(&before).unwrap();
        assert!(organisation.users().is_empty());
    }
}

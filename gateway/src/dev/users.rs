//! Users that `waybill dev` is told to make.

use super::DevError;
use crate::broker::Broker;
use crate::security;
use std::fmt;
use waybill_ledger::organisation::{Answer, Command, ScramMechanism, SetCredential, UserChange, UserOutcome};

/// A user to be made at the start, as `ORG:NAME:PASSWORD` says. The password may hold colons.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Whose user it is.
    pub organisation: String,
    /// How the user logs in.
    pub name: String,
    password: String,
}

/// Not `ORG:NAME:PASSWORD`. What was said instead is not repeated: it may hold a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("--user takes ORG:NAME:PASSWORD, and none of them empty")]
pub struct NotAUser;

impl std::str::FromStr for User {
    type Err = NotAUser;

    fn from_str(text: &str) -> Result<Self, NotAUser> {
        let mut parts = text.splitn(3, ':').filter(|part| !part.is_empty());
        let (Some(organisation), Some(name), Some(password)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NotAUser);
        };
        Ok(User { organisation: organisation.into(), name: name.into(), password: password.into() })
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({} at {}, password not shown)", self.name, self.organisation)
    }
}

/// Writes the organisation's users to its ledger, for both SCRAM mechanisms, each under a fresh salt. Nobody is written
/// where there are none, and still the ledger has caught up when it answers: who was there before can log in.
pub(super) async fn write(broker: &Broker, users: &[User]) -> Result<(), DevError> {
    let failed = |reason: String| DevError::Users { org: broker.org.clone(), reason };
    let own: Vec<User> = users.iter().filter(|user| user.organisation == broker.org.as_str()).cloned().collect();
    let derived = tokio::task::spawn_blocking(move || own.iter().flat_map(changes).collect::<Result<Vec<_>, _>>());
    let changes = derived.await.map_err(|error| failed(error.to_string()))?;
    let changes = changes.map_err(|error| failed(error.to_string()))?;
    match broker.write_organisation(Command::AlterUsers(changes)).await {
        Ok(Answer::UsersAltered(outcomes)) if outcomes.iter().all(|outcome| *outcome == UserOutcome::Changed) => Ok(()),
        Ok(Answer::UsersAltered(_)) => Err(failed("a name is too long, or there are too many users".into())),
        Ok(other) => Err(failed(format!("{other:?}"))),
        Err(refusal) => Err(failed(format!("the organisation's ledger does not answer ({refusal:?})"))),
    }
}

fn changes(user: &User) -> impl Iterator<Item = Result<UserChange, security::NoRandomness>> {
    ScramMechanism::ALL.into_iter().map(|mechanism| {
        let credential = security::derive(mechanism, &user.password)?;
        Ok(UserChange::Set(SetCredential { user: user.name.clone(), mechanism, credential }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_and_the_password_never_shown() {
        let user: User = "acme:alice:open:sesame".parse().unwrap();
        assert_eq!((&*user.organisation, &*user.name, &*user.password), ("acme", "alice", "open:sesame"));
        assert!(!format!("{user:?}").contains("sesame"));
        for refused in ["", "acme", "acme:alice", "acme:alice:", "acme::secret", ":alice:secret", "::"] {
            assert_eq!(refused.parse::<User>(), Err(NotAUser), "{refused}");
        }
        assert!(!NotAUser.to_string().contains("secret"));
    }
}

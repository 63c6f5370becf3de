//! AlterUserScramCredentials, version 0 (KIP-554): users come, change and go. It is how `kafka-configs` makes them.
//!
//! Whoever reaches a listener of the organisation may do this: every user who has logged in, and everybody on a
//! listener without SASL, until there are ACLs. Clients that are logged in stay so when their user goes, as in Kafka.
//!
//! The client salts and hashes the password; the gateway makes the two keys of it at once and forgets the rest.

use crate::broker::Broker;
use crate::error::Refusal;
use crate::security::from_salted_password;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::{AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use waybill_ledger::organisation::{
    Answer, Command, DeleteCredential, SALT_BYTES_MAX, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, ScramMechanism,
    SetCredential, USER_NAME_BYTES_MAX, USERS_PER_COMMAND_MAX, UserChange, UserOutcome,
};

type Refused = (Refusal, &'static str);

/// One user's changes, or why there are none.
type Wanted = Result<Vec<UserChange>, Refused>;

/// Makes the changes that can be made. A user is changed as asked or not at all: one wrong change, or two of the same
/// mechanism, leave them as they are. (Brokers of Kafka 4 refuse two mechanisms in one request; KIP-554 and the tools'
/// manual do not.)
pub async fn handle(broker: &Broker, request: AlterUserScramCredentialsRequest) -> AlterUserScramCredentialsResponse {
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    let deletions = request.deletions.into_iter().map(|wanted| (wanted.name.to_string(), deletion(&wanted)));
    let upsertions = request.upsertions.into_iter().map(|wanted| (wanted.name.to_string(), upsertion(wanted)));
    for (user, change) in deletions.chain(upsertions) {
        add(wanted.entry(user).or_insert_with(|| Ok(Vec::new())), change);
    }
    let mut outcomes: BTreeMap<String, Result<(), Refused>> = BTreeMap::new();
    let mut accepted = Vec::new();
    for (user, changes) in wanted {
        match changes {
            Ok(changes) => accepted.push(changes),
            Err(refused) => drop(outcomes.insert(user, Err(refused))),
        }
    }
    for changes in commands(accepted) {
        for (user, outcome) in write(broker, changes).await {
            let known = outcomes.entry(user).or_insert(Ok(()));
            *known = known.and(outcome);
        }
    }
    let results = outcomes.into_iter().map(|(user, outcome)| result(user, outcome));
    AlterUserScramCredentialsResponse::default().with_results(results.collect())
}

fn add(wanted: &mut Wanted, change: Result<UserChange, Refused>) {
    let twice = (Refusal::DuplicateUser, "A user credential cannot be altered twice in the same request");
    match (wanted.as_mut(), change) {
        (Err(_), _) => {}
        (Ok(changes), Ok(change)) if changes.iter().all(|other| mechanism(other) != mechanism(&change)) => {
            changes.push(change);
        }
        (Ok(_), Ok(_)) => *wanted = Err(twice),
        (Ok(_), Err(refused)) => *wanted = Err(refused),
    }
}

fn mechanism(change: &UserChange) -> ScramMechanism {
    match change {
        UserChange::Set(set) => set.mechanism,
        UserChange::Delete(delete) => delete.mechanism,
    }
}

/// What is ordered at a time. A user's changes stay together, since the ledger makes all of them or none.
fn commands(accepted: Vec<Vec<UserChange>>) -> Vec<Vec<UserChange>> {
    /// Nobody has more changes than there are mechanisms.
    const USERS_AT_A_TIME: usize = USERS_PER_COMMAND_MAX / ScramMechanism::ALL.len();
    accepted.chunks(USERS_AT_A_TIME).map(<[_]>::concat).collect()
}

async fn write(broker: &Broker, changes: Vec<UserChange>) -> Vec<(String, Result<(), Refused>)> {
    let users: Vec<String> = changes.iter().map(|change| change.user().to_string()).collect();
    let failed = match broker.write_organisation(Command::AlterUsers(changes)).await {
        Ok(Answer::UsersAltered(outcomes)) if outcomes.len() == users.len() => {
            return users.into_iter().zip(outcomes.into_iter().map(of)).collect();
        }
        Ok(answer) => {
            tracing::error!(?answer, "the organisation's ledger does not alter users");
            (Refusal::Internal, "see the node's log")
        }
        Err(refusal) => (refusal, "the organisation's ledger does not answer"),
    };
    users.into_iter().map(|user| (user, Err(failed))).collect()
}

fn deletion(wanted: &ScramCredentialDeletion) -> Result<UserChange, Refused> {
    let mechanism = check(&wanted.name, wanted.mechanism)?;
    Ok(UserChange::Delete(DeleteCredential { user: wanted.name.to_string(), mechanism }))
}

fn upsertion(wanted: ScramCredentialUpsertion) -> Result<UserChange, Refused> {
    let mechanism = check(&wanted.name, wanted.mechanism)?;
    let unacceptable = |reason| Err((Refusal::UnacceptableCredential, reason));
    let iterations = match u32::try_from(wanted.iterations).unwrap_or_default() {
        ..SCRAM_ITERATIONS_MIN => return unacceptable("Too few iterations"),
        iterations if iterations > SCRAM_ITERATIONS_MAX => return unacceptable("Too many iterations"),
        iterations => iterations,
    };
    if !(1..=SALT_BYTES_MAX).contains(&wanted.salt.len()) {
        return unacceptable("The salt is empty or too long");
    }
    if wanted.salted_password.len() != mechanism.key_bytes() {
        return unacceptable("The salted password has not the length of the mechanism's hash");
    }
    let credential = from_salted_password(mechanism, wanted.salt, iterations, &wanted.salted_password);
    Ok(UserChange::Set(SetCredential { user: wanted.name.to_string(), mechanism, credential }))
}

fn check(user: &str, mechanism: i8) -> Result<ScramMechanism, Refused> {
    if user.is_empty() {
        return Err((Refusal::UnacceptableCredential, "Username must not be empty"));
    }
    // Neither could ever log in: names end there in PLAIN and in SCRAM.
    if user.len() > USER_NAME_BYTES_MAX || user.contains('\0') {
        return Err((Refusal::UnacceptableCredential, "Username is too long or holds a NUL"));
    }
    ScramMechanism::from_number(mechanism).ok_or((Refusal::UnsupportedMechanism, "Unknown SCRAM mechanism"))
}

fn of(outcome: UserOutcome) -> Result<(), Refused> {
    match outcome {
        UserOutcome::Changed => Ok(()),
        UserOutcome::NotFound => {
            Err((Refusal::UnknownCredential, "Attempt to delete a user credential that does not exist"))
        }
        UserOutcome::Unacceptable => Err((Refusal::UnacceptableCredential, "The credential is out of bounds")),
        UserOutcome::TooManyUsers => Err((Refusal::Throttled, "The organisation has as many users as it may have")),
    }
}

fn result(user: String, outcome: Result<(), Refused>) -> AlterUserScramCredentialsResult {
    let (code, reason) = outcome.map_or_else(|(refusal, reason)| (refusal.code(), Some(reason)), |()| (0, None));
    AlterUserScramCredentialsResult::default()
        .with_user(StrBytes::from_string(user))
        .with_error_code(code)
        .with_error_message(reason.map(StrBytes::from_static_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(user: &str, mechanism: ScramMechanism) -> UserChange {
        UserChange::Delete(DeleteCredential { user: user.into(), mechanism })
    }

    #[test]
    fn no_user_is_divided_between_two_commands() {
        let both = |user: usize| ScramMechanism::ALL.map(|mechanism| delete(&user.to_string(), mechanism)).to_vec();
        let accepted: Vec<_> =
            std::iter::once(vec![delete("a", ScramMechanism::Sha256)]).chain((0..1_200).map(both)).collect();
        let commands = commands(accepted.clone());
        assert_eq!(commands.concat(), accepted.concat());
        for pair in commands.windows(2) {
            assert_ne!(pair[0].last().map(UserChange::user), pair[1].first().map(UserChange::user));
        }
        assert!(commands.iter().all(|changes| changes.len() <= USERS_PER_COMMAND_MAX));
    }
}

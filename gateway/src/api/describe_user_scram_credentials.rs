//! DescribeUserScramCredentials, version 0 (KIP-554): who can log in with what. Salts and keys stay where they are.

use crate::broker::Broker;
use crate::error::Refusal;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use waybill_ledger::organisation::ScramMechanism;

/// Describes the users who are named, or all if none is.
pub async fn handle(
    broker: &Broker,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    // After a start the ledger may not be all here yet, and nobody is to look unknown.
    if let Err(refusal) = broker.groups.loaded().await {
        let reason = StrBytes::from_static_str("the organisation's ledger is not here yet");
        return DescribeUserScramCredentialsResponse::default()
            .with_error_code(refusal.code())
            .with_error_message(Some(reason));
    }
    let mut known: BTreeMap<String, Vec<(ScramMechanism, u32)>> =
        broker.consensus.organisation().users().into_iter().collect();
    let named = request.users.unwrap_or_default();
    let results = if named.is_empty() {
        known.into_iter().map(|(user, credentials)| described(StrBytes::from_string(user), &credentials)).collect()
    } else {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        named.iter().for_each(|user| *times.entry(user.name.to_string()).or_default() += 1);
        let named = named.into_iter().filter_map(|user| Some((times.remove(user.name.as_str())?, user.name)));
        named.map(|(times, user)| if times > 1 { twice(user) } else { one(user, &mut known) }).collect()
    };
    DescribeUserScramCredentialsResponse::default().with_error_message(None).with_results(results)
}

fn one(user: StrBytes, known: &mut BTreeMap<String, Vec<(ScramMechanism, u32)>>) -> DescribeUserScramCredentialsResult {
    match known.remove(user.as_str()) {
        Some(credentials) => described(user, &credentials),
        None => {
            let reason = format!("Attempt to describe a user credential that does not exist: {}", user.as_str());
            refused(user, Refusal::UnknownCredential, reason)
        }
    }
}

fn twice(user: StrBytes) -> DescribeUserScramCredentialsResult {
    let reason =
        format!("Cannot describe SCRAM credentials for the same user twice in a single request: {}", user.as_str());
    refused(user, Refusal::DuplicateUser, reason)
}

fn described(user: StrBytes, credentials: &[(ScramMechanism, u32)]) -> DescribeUserScramCredentialsResult {
    let infos = credentials.iter().map(|(mechanism, iterations)| {
        CredentialInfo::default().with_mechanism(*mechanism as i8).with_iterations(*iterations as i32)
    });
    DescribeUserScramCredentialsResult::default()
        .with_user(user)
        .with_error_message(None)
        .with_credential_infos(infos.collect())
}

fn refused(user: StrBytes, refusal: Refusal, reason: String) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult::default()
        .with_user(user)
        .with_error_code(refusal.code())
        .with_error_message(Some(StrBytes::from_string(reason)))
}

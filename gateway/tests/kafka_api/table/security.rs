//! SaslHandshake, SaslAuthenticate, DescribeClientQuotas, DescribeUserScramCredentials, AlterUserScramCredentials.

use super::Clients;
use crate::client::Client;
use crate::network::{USERS, secured};
use crate::requests::*;
use crate::security::{MECHANISMS, handshake, plain_token};
use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, ApiVersionsRequest, DescribeClientQuotasRequest,
    DescribeUserScramCredentialsRequest,
};

pub(super) fn sasl_handshake(version: i16, clients: &mut Clients) {
    assert_eq!(clients.owner.ask(version, &handshake("PLAIN")).error_code, code::ILLEGAL_SASL_STATE);
    for (mechanism, expected) in
        MECHANISMS.map(|mechanism| (mechanism, 0)).into_iter().chain([("LOGIN", code::UNSUPPORTED_SASL_MECHANISM)])
    {
        let mut client = Client::connect(secured().sasl_plaintext);
        let chosen = client.ask(version, &handshake(mechanism));
        let offered: Vec<&str> = chosen.mechanisms.iter().map(|name| name.as_str()).collect();
        assert_eq!((chosen.error_code, &offered[..]), (expected, &MECHANISMS[..]), "{mechanism}");
    }
}

pub(super) fn sasl_authenticate(version: i16, clients: &mut Clients) {
    let (user, password) = USERS[0];
    let refused = clients.owner.ask(version, &plain_token(user, password));
    assert_eq!(refused.error_code, code::ILLEGAL_SASL_STATE);
    let ask = |password| {
        let mut client = Client::connect(secured().sasl_plaintext);
        assert_eq!(client.ask(1, &handshake("PLAIN")).error_code, 0);
        (client.ask(version, &plain_token(user, password)), client)
    };
    let (answer, mut client) = ask(password);
    assert_eq!((answer.error_code, answer.error_message, answer.session_lifetime_ms), (0, None, 0));
    assert!(answer.auth_bytes.is_empty());
    assert_eq!(client.ask(3, &ApiVersionsRequest::default()).error_code, 0);
    let (answer, mut client) = ask("wrong");
    assert_eq!(answer.error_code, code::SASL_AUTHENTICATION_FAILED);
    assert!(answer.error_message.is_some_and(|reason| reason.contains("Invalid username or password")));
    assert_eq!(client.frame(), None);
}

pub(super) fn describe_client_quotas(version: i16, clients: &mut Clients) {
    let component = |kind: &str, match_type, wanted: Option<&str>| {
        ComponentData::default().with_entity_type(text(kind)).with_match_type(match_type).with_match(wanted.map(text))
    };
    let mut ask = |components: Vec<ComponentData>| {
        let answer = clients.owner.ask(version, &DescribeClientQuotasRequest::default().with_components(components));
        assert_eq!(answer.error_code == 0, answer.error_message.is_none());
        (answer.error_code, answer.entries.map(|entries| entries.len()))
    };
    assert_eq!(ask(vec![]), (0, Some(0)));
    assert_eq!(ask(vec![component("user", 0, Some("alice")), component("client-id", 1, None)]), (0, Some(0)));
    assert_eq!(ask(vec![component("ip", 2, None)]), (0, Some(0)));
    for refused in [
        vec![component("", 2, None)],
        vec![component("user", 2, None), component("user", 1, None)],
        vec![component("user", 0, None)],
        vec![component("user", 1, Some("alice"))],
        vec![component("user", 3, None)],
        vec![component("ip", 2, None), component("user", 2, None)],
    ] {
        assert_eq!(ask(refused.clone()), (code::INVALID_REQUEST, None), "{refused:?}");
    }
    assert_eq!(ask(vec![component("planet", 2, None)]), (code::UNSUPPORTED_VERSION, None));
}

pub(super) fn describe_user_scram_credentials(version: i16, clients: &mut Clients) {
    let named = |names: &[&str]| {
        let names = names.iter().map(|name| UserName::default().with_name(text(name))).collect();
        DescribeUserScramCredentialsRequest::default().with_users(Some(names))
    };
    let mut ask = |request: DescribeUserScramCredentialsRequest| {
        let answer = clients.owner.ask(version, &request);
        assert_eq!((answer.error_code, answer.error_message), (0, None));
        answer.results
    };
    for all in [named(&[]), DescribeUserScramCredentialsRequest::default().with_users(None)] {
        let users: Vec<String> = ask(all).iter().map(|result| result.user.to_string()).collect();
        assert!(USERS.iter().all(|(user, _)| users.iter().any(|known| known == user)), "{users:?}");
    }
    let results = ask(named(&["bob", "nobody", "alice", "bob"]));
    let [bob, nobody, alice] = &results[..] else { panic!("three users: {results:?}") };
    assert_eq!((bob.user.as_str(), bob.error_code), ("bob", code::DUPLICATE_RESOURCE));
    assert_eq!((nobody.user.as_str(), nobody.error_code), ("nobody", code::RESOURCE_NOT_FOUND));
    assert!(nobody.error_message.as_ref().is_some_and(|reason| reason.contains("does not exist: nobody")));
    assert_eq!((alice.user.as_str(), alice.error_code, alice.error_message.clone()), ("alice", 0, None));
    let infos: Vec<_> = alice.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect();
    assert_eq!(infos, [(1, 4_096), (2, 4_096)]);
    let elsewhere = clients.reader.ask(version, &named(&["alice"]));
    assert_eq!(elsewhere.results[0].error_code, code::RESOURCE_NOT_FOUND, "users are their organisation's");
}

pub(super) fn alter_user_scram_credentials(version: i16, clients: &mut Clients) {
    let deletion =
        |user: &str, mechanism| ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(mechanism);
    let upsertion = |user: &str, mechanism, iterations, bytes| {
        ScramCredentialUpsertion::default()
            .with_name(text(user))
            .with_mechanism(mechanism)
            .with_iterations(iterations)
            .with_salt(Bytes::from_static(b"salt"))
            .with_salted_password(vec![7; bytes].into())
    };
    let mut ask = |deletions, upsertions| {
        let request = AlterUserScramCredentialsRequest::default().with_deletions(deletions).with_upsertions(upsertions);
        let answer = clients.owner.ask(version, &request);
        let mut results: Vec<_> =
            answer.results.iter().map(|result| (result.user.to_string(), result.error_code)).collect();
        assert!(answer.results.iter().all(|result| (result.error_code == 0) == result.error_message.is_none()));
        results.sort();
        results
    };
    let results = |expected: &[(&str, i16)]| -> Vec<(String, i16)> {
        expected.iter().map(|(user, code)| (user.to_string(), *code)).collect()
    };
    let set = vec![
        upsertion("t-good", 1, 4_096, 32),
        upsertion("t-large", 2, 16_384, 64),
        upsertion("t-few", 1, 4_095, 32),
        upsertion("t-many", 2, 16_385, 64),
        upsertion("t-negative", 2, -1, 64),
        upsertion("t-short", 2, 4_096, 32),
        upsertion("t-unknown", 3, 4_096, 32),
        upsertion("", 1, 4_096, 32),
        upsertion(&"x".repeat(256), 1, 4_096, 32),
        upsertion("t-twice", 1, 4_096, 32),
        upsertion("t-both", 1, 4_096, 32),
        upsertion("t-both", 2, 4_096, 64),
        upsertion("t-half", 1, 4_096, 32),
        upsertion("t-half", 2, 1, 64),
    ];
    let altered = ask(vec![deletion("t-twice", 1), deletion("t-nobody", 1), deletion("t-odd", 0)], set);
    let long = "x".repeat(256);
    let expected = results(&[
        ("", code::UNACCEPTABLE_CREDENTIAL),
        ("t-both", 0),
        ("t-few", code::UNACCEPTABLE_CREDENTIAL),
        ("t-good", 0),
        ("t-half", code::UNACCEPTABLE_CREDENTIAL),
        ("t-large", 0),
        ("t-many", code::UNACCEPTABLE_CREDENTIAL),
        ("t-negative", code::UNACCEPTABLE_CREDENTIAL),
        ("t-nobody", code::RESOURCE_NOT_FOUND),
        ("t-odd", code::UNSUPPORTED_SASL_MECHANISM),
        ("t-short", code::UNACCEPTABLE_CREDENTIAL),
        ("t-twice", code::DUPLICATE_RESOURCE),
        ("t-unknown", code::UNSUPPORTED_SASL_MECHANISM),
        (&long, code::UNACCEPTABLE_CREDENTIAL),
    ]);
    assert_eq!(altered, expected);
    let half = ask(vec![deletion("t-half", 1)], vec![]);
    assert_eq!(half, results(&[("t-half", code::RESOURCE_NOT_FOUND)]), "a user is changed as asked or not at all");
    let all = ["t-both", "t-good"].map(|user| deletion(user, 1)).into_iter();
    let all = all.chain(["t-both", "t-large"].map(|user| deletion(user, 2)));
    assert_eq!(ask(all.collect(), vec![]), results(&[("t-both", 0), ("t-good", 0), ("t-large", 0)]));
    let again = ask(vec![deletion("t-good", 1)], vec![]);
    assert_eq!(again, results(&[("t-good", code::RESOURCE_NOT_FOUND)]));
}

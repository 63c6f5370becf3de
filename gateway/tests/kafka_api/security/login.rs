//! Each mechanism, right and wrong; bare tokens; logging in again; users who come and go.

use super::{Exchange, Hash, MECHANISMS, handshake, log_in, plain_token, token};
use crate::client::Client;
use crate::network::{USERS, globex, network, secured};
use crate::requests::*;
use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, ApiVersionsRequest, BrokerId, DescribeClusterRequest, FindCoordinatorRequest,
    MetadataRequest,
};

fn connect() -> Client {
    Client::connect(secured().sasl_plaintext)
}

#[test]
fn every_mechanism_lets_in_who_knows_the_password_and_nobody_else() {
    for mechanism in MECHANISMS {
        for (user, password) in USERS {
            let mut client = connect();
            assert_eq!(client.ask(4, &ApiVersionsRequest::default()).error_code, 0);
            let answer = log_in(&mut client, mechanism, user, password);
            assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 0), "{mechanism} {user}");
            assert_eq!(answer.error_message, None);
            assert_eq!(client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers.len(), 1);
        }
        for (user, password) in [("alice", "alice's Secret"), ("alice", "bob:has=a,comma"), ("eve", "alice's secret")] {
            let mut client = connect();
            let answer = log_in(&mut client, mechanism, user, password);
            assert_eq!(answer.error_code, code::SASL_AUTHENTICATION_FAILED, "{mechanism} {user}");
            let message = answer.error_message.expect("a reason");
            assert!(message.starts_with("Authentication failed") && !message.contains(user), "{}", message.as_str());
            assert_eq!(client.frame(), None, "the connection is closed");
        }
    }
}

#[test]
fn users_of_one_organisation_are_nobody_at_another() {
    let other = network().globex.secured.as_ref().expect("secured listeners").sasl_plaintext;
    for mechanism in MECHANISMS {
        let answer = log_in(&mut Client::connect(other), mechanism, USERS[0].0, USERS[0].1);
        assert_eq!(answer.error_code, code::SASL_AUTHENTICATION_FAILED);
    }
}

#[test]
fn after_a_handshake_of_version_0_tokens_come_bare() {
    let mut client = connect();
    assert_eq!(client.ask(0, &handshake("PLAIN")).error_code, 0);
    client.send_frame(b"\0alice\0alice's secret");
    assert_eq!(client.frame(), Some(Bytes::new()), "an empty token says yes");
    assert_eq!(client.ask(4, &ApiVersionsRequest::default()).error_code, 0, "requests have headers again");

    let mut client = connect();
    let mut exchange = Exchange::new(Hash::Sha512, "bob", USERS[1].1);
    assert_eq!(client.ask(0, &handshake("SCRAM-SHA-512")).error_code, 0);
    client.send_frame(&exchange.first());
    let first = client.frame().expect("salt and nonce");
    client.send_frame(&exchange.last(&first));
    exchange.check(&client.frame().expect("the server's proof"));
    assert_eq!(client.ask(4, &ApiVersionsRequest::default()).error_code, 0);
}

#[test]
fn bare_tokens_that_say_nothing_end_the_connection() {
    for mechanism in MECHANISMS {
        for token in [&b""[..], b"x", b"1234567", &[0; 9], b"\0alice\0wrong"] {
            let mut client = connect();
            assert_eq!(client.ask(0, &handshake(mechanism)).error_code, 0);
            client.send_frame(token);
            assert_eq!(client.frame(), None, "{mechanism} {token:?}");
        }
    }
}

#[test]
fn one_logs_in_again_as_oneself_only() {
    let (user, password) = USERS[0];
    for mechanism in MECHANISMS {
        let mut client = connect();
        for _ in 0..3 {
            assert_eq!(log_in(&mut client, mechanism, user, password).error_code, 0);
            assert_eq!(client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers.len(), 1);
        }
        let other = log_in(&mut client, mechanism, USERS[1].0, USERS[1].1);
        assert_eq!(other.error_code, code::SASL_AUTHENTICATION_FAILED, "{mechanism}");
        assert!(other.error_message.is_some_and(|message| message.contains("Cannot change principals")));
        assert_eq!(client.frame(), None);
    }
    let mut client = connect();
    assert_eq!(log_in(&mut client, "PLAIN", user, password).error_code, 0);
    assert_eq!(client.ask(1, &handshake("SCRAM-SHA-256")).error_code, 0);
    let refused = client.ask(2, &token(*b"n,,n=alice,r=x"));
    assert_eq!(refused.error_code, code::SASL_AUTHENTICATION_FAILED, "another mechanism");
    assert_eq!(client.frame(), None);
}

#[test]
fn a_token_that_nobody_asked_for_is_refused_and_the_session_goes_on() {
    let mut client = connect();
    assert_eq!(log_in(&mut client, "PLAIN", USERS[0].0, USERS[0].1).error_code, 0);
    assert_eq!(client.ask(2, &plain_token("alice", "anything")).error_code, code::ILLEGAL_SASL_STATE);
    assert_eq!(client.ask(4, &ApiVersionsRequest::default()).error_code, 0);
}

#[test]
fn a_user_acts_as_nobody_else() {
    let mut client = connect();
    assert_eq!(client.ask(1, &handshake("PLAIN")).error_code, 0);
    let refused = client.ask(2, &token(*b"bob\0alice\0alice's secret"));
    assert_eq!(refused.error_code, code::SASL_AUTHENTICATION_FAILED);
    assert!(refused.error_message.is_some_and(|message| message.contains("authorization id")));
}

#[test]
fn records_travel_from_one_organisations_user_to_the_other_organisation() {
    let name = "security-travel";
    let mut client = connect();
    assert_eq!(log_in(&mut client, "SCRAM-SHA-256", USERS[0].0, USERS[0].1).error_code, 0);
    assert_eq!(create(&mut client, creatable(name)).error_code, 0);
    let sent = batch(&["over", "the", "counter"]);
    assert_eq!(append(&mut client, name, sent.clone()), 0);
    let mut reader = Client::connect(globex());
    wait_until_known(&mut reader, name);
    eventually("the batch arrives", || !records_from(&mut reader, name, 0).is_empty());
    assert_eq!(records_from(&mut reader, name, 0), at_offset(0, &sent));
}

#[test]
fn who_asks_at_a_listener_is_told_its_addresses() {
    let node = BrokerId(network().acme.node as i32);
    let secured = secured();
    let mut logged_in = connect();
    assert_eq!(log_in(&mut logged_in, "PLAIN", USERS[0].0, USERS[0].1).error_code, 0);
    let plain = Client::connect(network().acme.kafka);
    let ssl = super::tls::connect(secured.ssl);
    let mut both = super::tls::connect(secured.sasl_ssl);
    assert_eq!(log_in(&mut both, "SCRAM-SHA-512", USERS[1].0, USERS[1].1).error_code, 0);
    for (mut client, address) in [
        (plain, network().acme.kafka),
        (ssl, secured.ssl),
        (logged_in, secured.sasl_plaintext),
        (both, secured.sasl_ssl),
    ] {
        let port = i32::from(address.port());
        let metadata = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![])));
        let [broker] = &metadata.brokers[..] else { panic!("one gateway") };
        assert_eq!((broker.node_id, broker.host.as_str(), broker.port), (node, "127.0.0.1", port));
        let coordinator = client.ask(2, &FindCoordinatorRequest::default().with_key(text("g")));
        assert_eq!((coordinator.node_id, coordinator.host.as_str(), coordinator.port), (node, "127.0.0.1", port));
        let cluster = client.ask(0, &DescribeClusterRequest::default());
        let [broker] = &cluster.brokers[..] else { panic!("one gateway") };
        assert_eq!((broker.broker_id, broker.host.as_str(), broker.port), (node, "127.0.0.1", port));
    }
}

#[test]
fn a_user_comes_gets_another_password_and_goes() {
    let user = "carol";
    let set = |password: &str| {
        let salted = Hash::Sha256.salted_password(password, b"any salt", 8_192);
        let wanted = ScramCredentialUpsertion::default()
            .with_name(text(user))
            .with_mechanism(1)
            .with_iterations(8_192)
            .with_salt(Bytes::from_static(b"any salt"))
            .with_salted_password(salted.into());
        AlterUserScramCredentialsRequest::default().with_upsertions(vec![wanted])
    };
    let fails = |mechanism, password| {
        let answer = log_in(&mut connect(), mechanism, user, password);
        assert_eq!(answer.error_code, code::SASL_AUTHENTICATION_FAILED, "{mechanism}");
    };
    let mut admin = connect();
    assert_eq!(log_in(&mut admin, "PLAIN", USERS[0].0, USERS[0].1).error_code, 0);
    assert_eq!(admin.ask(0, &set("first")).results[0].error_code, 0);
    let mut session = connect();
    assert_eq!(log_in(&mut session, "SCRAM-SHA-256", user, "first").error_code, 0);
    assert_eq!(log_in(&mut connect(), "PLAIN", user, "first").error_code, 0);
    fails("SCRAM-SHA-512", "first");

    assert_eq!(admin.ask(0, &set("second")).results[0].error_code, 0);
    fails("SCRAM-SHA-256", "first");
    assert_eq!(log_in(&mut connect(), "SCRAM-SHA-256", user, "second").error_code, 0);

    let gone = ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(1);
    let delete = AlterUserScramCredentialsRequest::default().with_deletions(vec![gone]);
    assert_eq!(admin.ask(0, &delete).results[0].error_code, 0);
    for mechanism in MECHANISMS {
        fails(mechanism, "second");
    }
    assert_eq!(session.ask(4, &ApiVersionsRequest::default()).error_code, 0, "who is in stays in");
}

//! What strangers send to a listener with log-in: anything but a log-in. Nobody else notices.

use super::{MECHANISMS, handshake, log_in, plain_token, token};
use crate::client::Client;
use crate::network::{AUTHENTICATION_TIMEOUT, USERS, secured};
use crate::requests::*;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, ProduceRequest};
use kafka_protocol::protocol::{Decodable, Request};
use std::time::Instant;

fn connect() -> Client {
    Client::connect(secured().sasl_plaintext)
}

fn logged_in() -> Client {
    let mut client = connect();
    assert_eq!(log_in(&mut client, "PLAIN", USERS[0].0, USERS[0].1).error_code, 0);
    client
}

#[test]
fn nothing_is_served_before_the_log_in() {
    for begun in [false, true] {
        let mut client = connect();
        if begun {
            assert_eq!(client.ask(1, &handshake("PLAIN")).error_code, 0);
        }
        client.send(12, &MetadataRequest::default());
        assert_eq!(client.frame(), None);
        let mut client = connect();
        client.send_body(ProduceRequest::KEY, 9, 2, &[0xff; 200]);
        assert_eq!(client.frame(), None);
        let mut client = connect();
        client.send_body(999, 0, 1, b"");
        assert_eq!(client.frame(), None);
    }
}

#[test]
fn steps_out_of_turn_are_named_and_end_the_connection() {
    let mut client = connect();
    assert_eq!(client.ask(2, &plain_token("alice", "x")).error_code, code::ILLEGAL_SASL_STATE);
    assert_eq!(client.frame(), None);
    let mut client = connect();
    assert_eq!(client.ask(1, &handshake("PLAIN")).error_code, 0);
    assert_eq!(client.ask(1, &handshake("PLAIN")).error_code, code::ILLEGAL_SASL_STATE);
    assert_eq!(client.frame(), None);
    let mut client = connect();
    let refused = client.ask(1, &handshake("GSSAPI"));
    assert_eq!(refused.error_code, code::UNSUPPORTED_SASL_MECHANISM);
    let offered: Vec<&str> = refused.mechanisms.iter().map(|name| name.as_str()).collect();
    assert_eq!(offered, MECHANISMS);
    assert_eq!(client.frame(), None);
}

#[test]
fn a_too_new_api_versions_is_answered_before_the_log_in_too() {
    let mut client = connect();
    client.send_body(ApiVersionsRequest::KEY, 99, 2, b"");
    let mut frame = client.frame().expect("an answer").slice(4..);
    let answer = ApiVersionsResponse::decode(&mut frame, 0).expect("a body of version 0");
    assert_eq!(answer.error_code, code::UNSUPPORTED_VERSION);
    assert_eq!(log_in(&mut client, "PLAIN", USERS[0].0, USERS[0].1).error_code, 0);
}

#[test]
fn garbage_ends_its_connection_and_no_other() {
    let mut other = logged_in();
    let huge = [&[0, 1, 0, 1][..], &[0; 64]].concat();
    let frames: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        // TLS where there is none; a token of Kafka 0.9; negative, short, and just too large.
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01],
        &[0, 0, 0, 8, 0x60, 0x82, 1, 2, 3, 4, 5, 6],
        &[0xff; 8],
        &[0, 0, 0, 1, 0],
        &huge,
        // SaslAuthenticate 1 that claims a token of 2^31 bytes.
        &[0, 0, 0, 14, 0, 36, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
    ];
    for begun in [false, true] {
        for frame in frames {
            let mut client = connect();
            if begun {
                assert_eq!(client.ask(1, &handshake("PLAIN")).error_code, 0);
            }
            client.try_send_bytes(frame);
            assert_eq!(client.frame(), None, "{frame:?}");
            assert_eq!(other.ask(4, &ApiVersionsRequest::default()).error_code, 0);
        }
    }
}

#[test]
fn tokens_of_any_size_are_answered_or_end_the_connection() {
    for mechanism in MECHANISMS {
        for bytes in [0, 1, 2, 100, 60_000] {
            let mut client = connect();
            assert_eq!(client.ask(1, &handshake(mechanism)).error_code, 0);
            let refused = client.ask(1, &token(vec![b'n'; bytes]));
            assert_eq!(refused.error_code, code::SASL_AUTHENTICATION_FAILED, "{mechanism}, {bytes} bytes");
            assert_eq!(client.frame(), None);
        }
        // Beyond the limit of frames; as a bare token too, of which only the length is sent.
        let mut client = connect();
        assert_eq!(client.ask(0, &handshake(mechanism)).error_code, 0);
        client.send_bytes(&70_000_u32.to_be_bytes());
        assert_eq!(client.frame(), None);
    }
}

#[test]
fn who_dawdles_is_sent_away_wherever_they_stand() {
    let mut waiting = [connect(), connect(), connect(), connect(), Client::connect(secured().sasl_ssl)];
    let started = Instant::now();
    let [_silent, begun, half, bare, hello] = &mut waiting;
    assert_eq!(begun.ask(1, &handshake("SCRAM-SHA-256")).error_code, 0);
    assert_eq!(begun.ask(2, &token(*b"n,,n=alice,r=x")).error_code, 0);
    half.send_bytes(&[0, 0, 0, 20, 0, 18]);
    assert_eq!(bare.ask(0, &handshake("PLAIN")).error_code, 0);
    bare.send_bytes(&[0, 0, 0]);
    hello.send_bytes(&[0x16, 0x03, 0x01, 0x02]);
    for client in &mut waiting {
        assert_eq!(client.frame(), None);
    }
    assert!(started.elapsed() >= AUTHENTICATION_TIMEOUT / 2, "they had their time: {:?}", started.elapsed());
    assert_eq!(logged_in().ask(4, &ApiVersionsRequest::default()).error_code, 0);
}

#[test]
fn a_frame_that_only_users_may_send_is_refused_to_strangers() {
    let large = vec![0; 100_000];
    let mut client = logged_in();
    // A frame above the strangers' limit is cut, and read as far as it makes sense.
    let sent = client.send_body(ApiVersionsRequest::KEY, 0, 1, &large);
    assert_eq!(client.receive::<ApiVersionsRequest>(0).0, sent);
    let mut client = connect();
    client.try_send_bytes(&100_000_u32.to_be_bytes());
    assert_eq!(client.frame(), None);
}

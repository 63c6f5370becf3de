//! Golden vectors: a change of one is a change of protocol, or of what old journals mean.

use crate::message::{Commit, Fetch, FetchedBody, Message, NewView, PrePrepare, Prepare, Prepared, Status, ViewChange};
use crate::record::{Accepted, Learned, Record};
use crate::simulator::Plan;
use crate::vote::{Kind, preimage};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::Write;
use waybill_types::{Body, ClusterId, Codec, Digest, NetworkId, Signature};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A vector in short: its length and the digest of it.
fn short(bytes: &Bytes) -> (usize, String) {
    (bytes.len(), hex(&Body::digest(bytes).0[..6]))
}

const D: Digest = Digest([0xdd; 32]);
const S: Signature = Signature([0x55; 64]);

#[test]
fn golden_preimage() {
    let scope = (NetworkId(Digest([1; 32])), ClusterId(Digest([2; 32])), 3);
    let bytes = preimage(Kind::Prepare, scope, 4, 5, &D);
    let expected = [
        hex(b"WAYBILL-PBFT-v1\0"),
        "02".into(),
        "01".repeat(32),
        "02".repeat(32),
        "00000003".into(),
        "0000000000000004".into(),
        "0000000000000005".into(),
        "dd".repeat(32),
    ];
    assert_eq!(hex(&bytes), expected.concat());
}

#[test]
fn every_field_of_a_vote_is_under_its_signature() {
    let scope = (NetworkId(Digest([1; 32])), ClusterId(Digest([2; 32])), 3);
    let vote = preimage(Kind::Prepare, scope, 4, 5, &D);
    let others: Vec<Vec<u8>> = vec![
        preimage(Kind::PrePrepare, scope, 4, 5, &D),
        preimage(Kind::ViewChange, scope, 4, 5, &D),
        preimage(Kind::NewView, scope, 4, 5, &D),
        preimage(Kind::Prepare, (NetworkId(D), scope.1, 3), 4, 5, &D),
        preimage(Kind::Prepare, (scope.0, ClusterId(D), 3), 4, 5, &D),
        preimage(Kind::Prepare, (scope.0, scope.1, 4), 4, 5, &D),
        preimage(Kind::Prepare, scope, 5, 5, &D),
        preimage(Kind::Prepare, scope, 4, 4, &D),
        preimage(Kind::Prepare, scope, 4, 5, &Digest::ZERO),
    ];
    assert!(others.iter().all(|other| *other != vote));
}

#[test]
fn golden_messages() {
    let body = Bytes::from_static(b"body");
    let messages = [
        Message::PrePrepare(PrePrepare { view: 1, sequence: 2, digest: D, signature: S, body: body.clone() }),
        Message::Prepare(Prepare { view: 1, sequence: 2, digest: D, proposal: S, signature: S }),
        Message::Commit(Commit { view: 1, sequence: 2, digest: D }),
        Message::ViewChange(ViewChange { replica: 3, view: 1, content: body.clone(), signature: S }),
        Message::NewView(NewView { view: 1, content: body.clone(), signature: S }),
        Message::Status(Status { view: 1, changing: true, wish: 2, stable: 3, executed: 4, slots: body.clone() }),
        Message::Fetch(Fetch { sequence: 2, digest: D }),
        Message::Body(FetchedBody { sequence: 2, body }),
    ];
    for message in &messages {
        let wire = message.to_wire(7);
        assert_eq!(Message::from_wire(&wire), Ok((7, message.clone())));
        assert_eq!(wire[..4], [0, 0, 0, 7]);
        let mut longer = wire.to_vec();
        longer.push(0);
        assert!(Message::from_wire(&Bytes::from(longer)).is_err());
        for end in 0..wire.len() {
            assert!(Message::from_wire(&wire.slice(..end)).is_err());
        }
    }
    assert_eq!(
        hex(&messages[2].to_wire(7)),
        ["00000007", "05", "0000000000000001", "0000000000000002", &"dd".repeat(32)].concat()
    );
    let wires: Vec<_> = messages.iter().map(|message| short(&message.to_wire(7))).collect();
    assert_eq!(wires, GOLDEN_MESSAGES.map(|(length, digest)| (length, digest.into())));
}

#[test]
fn golden_records() {
    let body = Bytes::from_static(b"body");
    let prepared = Prepared { view: 1, sequence: 2, digest: D, proposal: S, prepares: vec![(0, S), (3, S)] };
    let records = [
        Record::Accepted(Accepted { view: 1, sequence: 2, proposal: S, body: body.clone() }),
        Record::Learned(Learned { view: 1, sequence: 2, body: body.clone() }),
        Record::Prepared(prepared),
        Record::ViewChange(ViewChange { replica: 3, view: 1, content: body.clone(), signature: S }),
        Record::NewView(NewView { view: 1, content: body, signature: S }),
    ];
    let encoded: Vec<_> = records.iter().map(|record| short(&record.to_bytes())).collect();
    assert_eq!(encoded, GOLDEN_RECORDS.map(|(length, digest)| (length, digest.into())));
}

#[test]
fn primaries_rotate_and_ledgers_start_with_different_ones() {
    let mut config = Plan::from_seed(0, 4).config(0);
    let first: Vec<u8> = (0..8).map(|view| config.primary(view)).collect();
    assert_eq!(first[..4], first[4..]);
    assert_eq!(config.primary(u64::MAX), config.primary(3));
    let starts = (0..64).map(|partition| {
        config.ledger.partition = partition;
        config.primary(0)
    });
    let starts: alloc::collections::BTreeSet<u8> = starts.collect();
    assert_eq!(starts.len(), 4);
}

const GOLDEN_MESSAGES: [(usize, &str); 8] = [
    (125, "085f4eca0e7b"),
    (181, "5ca4a45a293c"),
    (53, "4c434500ffae"),
    (86, "c40eae4021a5"),
    (85, "268685b1171d"),
    (46, "1946a8b4d54e"),
    (45, "b9c43656d145"),
    (21, "d5fb7122b056"),
];
const GOLDEN_RECORDS: [(usize, &str); 5] =
    [(89, "b1e75d1993b4"), (25, "248bb65cfd32"), (247, "9c9b5037c911"), (82, "4273cdbfbf05"), (81, "c151a45f939a")];

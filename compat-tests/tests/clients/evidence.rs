//! Receipts and the audit: one story, told by a file that needs no server and by a witness that holds no payload.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use waybill_compat_tests::binary;
use waybill_compat_tests::command::{self, Finished};
use waybill_compat_tests::kcat::kcat;
use waybill_compat_tests::network::{Data, Network, ORGANISATIONS};
use waybill_compat_tests::wait::{LIMIT, eventually};

const SAMPLED_BITS: usize = 300;

fn export(network: &Network<'_>, offset: &str, file: &Path) -> Finished {
    let file = file.to_str().expect("a plain path");
    network.ask(&["receipt", "export", "--topic", "orders", "--partition", "0", "--offset", offset, "-o", file])
}

fn verify(receipt: &Path, genesis: &Path) -> Finished {
    let mut verify = binary::command(&["receipt", "verify"]);
    command::run(verify.arg(receipt).arg("--genesis").arg(genesis), b"", LIMIT)
}

/// Whether a line tells that `what` was done by `who`.
fn says(words: &str, what: &str, who: &str) -> bool {
    words.lines().any(|line| line.starts_with(what) && line.contains(&format!("by {who}")))
}

/// A network in which acme has sent three records and globex's group `audit` has read and committed them.
fn delivered(network: &Network<'_>) {
    kcat(&["-b", network.kafka("acme"), "-P", "-t", "orders"], b"one\ntwo\nthree\n");
    let settings = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"];
    let reading =
        [&["-b", network.kafka("globex"), "-q", "-c", "3"], &settings[..], &["-G", "audit", "orders"]].concat();
    assert_eq!(kcat(&reading, b"").text(), "one\ntwo\nthree\n");
}

#[test]
fn a_receipt_says_in_plain_words_who_sent_received_committed_and_witnessed() {
    let data = Data::new();
    let network = data.start();
    delivered(&network);
    let receipt = data.beside("orders.receipt");
    // The receiver's confirmations travel in batches: the first receipt may be older than the last of them.
    let words = eventually("a receipt of the whole delivery", LIMIT, || {
        export(&network, "1", &receipt).expect_success("receipt export");
        let verified = verify(&receipt, &data.genesis()).expect_success("receipt verify").text().to_lowercase();
        says(&verified, "committed", "globex").then_some(verified)
    });
    assert!(words.contains("topic orders, partition 0"), "{words}");
    for (what, who) in [("sent", "acme"), ("retrieved", "globex"), ("received", "globex")] {
        assert!(says(&words, what, who), "not said that it was {what} by {who}:\n{words}");
    }
    let witnesses = words.lines().find(|line| line.contains("witnessed by")).expect("a line");
    let named = ORGANISATIONS.iter().filter(|&&organisation| witnesses.contains(organisation)).count();
    assert!(named >= 3, "at least three of four organisations witness: {witnesses}");

    assert!(!export(&network, "99", &data.beside("none.receipt")).status.success(), "there is no offset 99");
    assert!(!data.beside("none.receipt").exists(), "and so no file");
    network.terminate();

    // Offline now: the network is gone, and so is trust in any server.
    verify(&receipt, &data.genesis()).expect_success("receipt verify, offline");
    a_reader_that_has_gone_is_one_sentence(&receipt, &data.genesis());
    every_flipped_bit_is_refused(&data, &receipt);

    let stranger = Data::new();
    stranger.start().terminate();
    let refused = verify(&receipt, &stranger.genesis());
    assert_eq!(refused.status.code(), Some(1), "another network's genesis vouches for nothing here");
    assert!(!refused.stderr.trim().is_empty(), "and the reason is said");
}

/// Bits all over the file, each flipped alone; every byte of a small file is hit.
/// As `head` goes.
fn a_reader_that_has_gone_is_one_sentence(receipt: &Path, genesis: &Path) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut verify = binary::command(&["receipt", "verify"]);
    let verify = verify.arg(receipt).arg("--genesis").arg(genesis);
    let ended = verify.stdout(writer).stderr(Stdio::piped()).spawn().and_then(Child::wait_with_output);
    let ended = ended.expect("the binary `waybill` starts");
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), words.lines().count()), (Some(1), 1), "{words}");
    assert!(words.contains("the output cannot be written"), "{words}");
}

fn every_flipped_bit_is_refused(data: &Data, receipt: &Path) {
    let good = fs::read(receipt).expect("the receipt");
    let flipped = data.beside("flipped.receipt");
    let bits = good.len() * 8;
    let mut accepted = Vec::new();
    for sample in 0..SAMPLED_BITS {
        // Steps of a prime-like size visit all parts and all bit positions.
        let bit = (sample * bits / SAMPLED_BITS + sample * 13) % bits;
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&flipped, &bad).expect("a file");
        let verified = verify(&flipped, &data.genesis());
        match verified.status.code() {
            Some(1) => assert!(!verified.stderr.contains("panicked"), "bit {bit}: {}", verified.stderr),
            _ => accepted.push((bit, verified.status, String::from_utf8_lossy(&bad[bit / 8..][..1]).into_owned())),
        }
    }
    assert!(accepted.is_empty(), "flipped bits that were not refused: {accepted:?}");
    let shorter = &good[..good.len() - 1];
    fs::write(&flipped, shorter).expect("a file");
    assert_eq!(verify(&flipped, &data.genesis()).status.code(), Some(1), "a byte is missing");
    fs::write(&flipped, [&good[..], b"\n"].concat()).expect("a file");
    assert_eq!(verify(&flipped, &data.genesis()).status.code(), Some(1), "a byte too many");
}

#[test]
fn a_witness_without_the_payload_tells_the_same_story() {
    let data = Data::new();
    let network = data.start();
    delivered(&network);
    let audit = |arguments: &[&str]| {
        network.ask(&[&["audit", "--topic", "orders"], arguments].concat()).expect_success("audit").text()
    };
    let said = |what: &str, table: &str| table.lines().any(|line| line.contains(what));
    let table = eventually("the audit of the whole delivery", LIMIT, || {
        let table = audit(&[]);
        said("committed by globex", &table).then_some(table)
    });
    for what in ["sent by acme", "retrieved by globex", "received by globex"] {
        assert!(said(what, &table), "no `{what}` in:\n{table}");
    }
    assert!(!table.contains("three"), "a witness holds no payload:\n{table}");

    // As JSON, a document per line, and the same at every node once the copies have arrived.
    let story = |organisation: &str| -> Vec<Value> {
        let text = audit(&["--partition", "0", "--json", "--node", network.http(organisation)]);
        let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        text.lines().map(parsed).collect()
    };
    let told = eventually("one story at all four nodes", LIMIT, || {
        let first = story("notary");
        ORGANISATIONS.iter().all(|organisation| story(organisation) == first).then_some(first)
    });
    let records: u64 = told.iter().map(|entry| entry["record_count"].as_u64().expect("a count")).sum();
    assert_eq!(records, 3);
    for entry in &told {
        assert_eq!((&entry["topic"], &entry["sender"]), (&"orders".into(), &"acme".into()), "{entry}");
        for step in ["retrieved", "received", "committed"] {
            assert_eq!(entry["organisations"]["globex"][step]["complete"], true, "{step}: {entry}");
        }
    }
    let nothing = network.ask(&["audit", "--topic", "never-was"]);
    assert!(!nothing.status.success() && !nothing.stderr.is_empty(), "an unknown topic is said to be unknown");
    network.terminate();
}

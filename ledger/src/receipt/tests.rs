//! One standard story, exported and verified; then everything that must not verify.

use super::fixture::{self, Chain, START_MS, four, org, receive, retrieve, send, story};
use super::*;
use crate::genesis::Genesis;
use proptest::prelude::*;
use std::fmt::Write;
use std::sync::LazyLock;
use waybill_types::checkpoint::CertificateError;
use waybill_types::digest::Hasher;
use waybill_types::{Codec, LedgerId, Outcome};

/// The receipt of offset 5, made once: signing takes its time in a debug build.
static STANDARD: LazyLock<(Genesis, Receipt)> = LazyLock::new(|| receipt(5));

fn receipt(offset: Offset) -> (Genesis, Receipt) {
    let genesis = four();
    let (system, orders) = story(&genesis);
    let receipt = export(&genesis, &system, &orders, "orders", offset).unwrap();
    (genesis, receipt)
}

/// The text with the digest line that fits it: what a forger would do.
fn resealed(text: &str) -> String {
    let content = &text[..text.rfind("digest ").unwrap()];
    format!("{content}digest {}\n", Hasher::digest(b"waybill-receipt-v1", content.as_bytes()))
}

fn refused(receipt: &Receipt, genesis: &Genesis) -> VerifyError {
    verify(&receipt.to_text(), genesis).unwrap_err()
}

#[test]
fn a_receipt_tells_the_whole_story() {
    let (genesis, receipt) = receipt(5);
    let text = receipt.to_text();
    assert!((2_000..6_000).contains(&text.len()), "{} bytes", text.len());
    assert_eq!(Receipt::parse(&text), Ok(receipt));
    let story = verify(&text, &genesis).unwrap();
    let events: Vec<_> = story.events.iter().map(|event| (event.level, event.org.as_str())).collect();
    use Level::*;
    assert_eq!(
        events,
        [(Sent, "acme"), (Retrieved, "globex"), (Received, "globex"), (Committed, "globex"), (Refused, "initech")]
    );
    assert_eq!(story.events[0].offsets, 5..=5);
    assert_eq!(story.witnesses.organisations, [org("globex"), org("initech"), org("umbrella")]);
}

#[test]
fn a_partition_that_came_later_is_proved_by_its_own_transaction() {
    let (genesis, created) = receipt(5);
    let (mut system, orders) = story(&genesis);
    let enlarged = system.execute(START_MS + 5_000, vec![(1, vec![fixture::enlarge_orders(&system, &[2, 3, 4, 1])])]);
    assert_eq!(enlarged, [Outcome::Recorded]);
    system.certify(&[0, 1, 2]);
    let mut later = Chain::partition(&genesis, &system, LedgerId::new(fixture::ORDERS, 2));
    later.certify(&[0, 1, 2]);
    later.execute(START_MS + 6_000, vec![(1, vec![send(1, 5)])]);
    later.certify(&[0, 1, 2]);
    let receipt = export(&genesis, &system, &later, "orders", 3).unwrap();
    let story = verify(&receipt.to_text(), &genesis).unwrap();
    assert_eq!((story.partition, story.offset, story.created_ms), (2, 3, START_MS + 1_000));
    // What a partition had before is proved as well as ever, and the topic's creation proves no later partition.
    let before = export(&genesis, &system, &orders, "orders", 5).unwrap();
    assert_eq!(verify(&before.to_text(), &genesis).unwrap().events.len(), 5);
    let forged = Receipt { created: created.created, system_note: created.system_note, ..receipt };
    assert!(matches!(refused(&forged, &genesis), VerifyError::Evidence { .. }), "{}", refused(&forged, &genesis));
}

#[test]
fn golden_story() {
    let (genesis, receipt) = receipt(5);
    let story = verify(&receipt.to_text(), &genesis).unwrap().to_string();
    let expected = include_str!("golden_story.txt");
    assert_eq!(story, expected, "\n{story}");
}

#[test]
fn golden_receipt() {
    let (_, receipt) = receipt(5);
    let text = receipt.to_text();
    assert_eq!(text, include_str!("golden.receipt"), "\n{text}");
}

#[test]
fn a_fresh_batch_has_the_first_checkpoint_that_covers_it() {
    let (genesis, receipt) = receipt(7);
    assert_eq!(receipt.evidence.len(), 1, "nobody took it yet");
    assert_eq!(receipt.partition_note.checkpoint.height, 2);
    let story = verify(&receipt.to_text(), &genesis).unwrap();
    assert_eq!(story.events[0].offsets, 6..=15);
    assert!(!story.to_string().contains("a commit moves"));
}

#[test]
fn asking_twice_gives_the_same_bytes_until_there_is_more_evidence() {
    let genesis = four();
    let (system, mut orders) = story(&genesis);
    let ask = |orders: &Chain| export(&genesis, &system, orders, "orders", 5).unwrap().to_text();
    let first = ask(&orders);
    orders.execute(START_MS + 9_000, vec![(1, vec![send(1, 1)]), (2, vec![receive(0, 7)])]);
    orders.certify(&[0, 1, 2]);
    assert_eq!(ask(&orders), first, "a second receive of the same organisation adds nothing");
    orders.execute(START_MS + 9_000, vec![(1, vec![receive(0, 7)])]);
    assert_eq!(ask(&orders), first, "evidence that is under no certificate yet does not count");
    orders.certify(&[0, 1, 2]);
    let more = Receipt::parse(&ask(&orders)).unwrap();
    assert_eq!(more.evidence.len(), 6, "the owner received it, too");
}

#[test]
fn what_is_not_there_has_no_receipt() {
    let genesis = four();
    let (system, mut orders) = story(&genesis);
    let ask = |orders: &Chain, topic: &str, offset| export(&genesis, &system, orders, topic, offset).unwrap_err();
    assert!(matches!(ask(&orders, "invoices", 0), ExportError::UnknownTopic(_)));
    assert!(matches!(ask(&orders, "orders", 16), ExportError::UnknownOffset(16)));
    assert!(matches!(ask(&system, "orders", 0), ExportError::UnknownPartition { .. }));
    orders.execute(START_MS + 5_000, vec![(1, vec![send(1, 1)])]);
    assert!(matches!(ask(&orders, "orders", 16), ExportError::NotCertified(16)));
}

#[test]
fn every_flipped_bit_is_refused() {
    let (genesis, receipt) = receipt(5);
    let text = receipt.to_text();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            // A file that is not UTF-8 does not get as far as here.
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            assert!(verify(&flipped, &genesis).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_flipped_bit_under_a_fitting_digest_is_refused() {
    let (genesis, receipt) = receipt(7);
    let text = receipt.to_text();
    for at in 0..text.rfind("digest ").unwrap() {
        // Each byte in one way, the way moving along: all ways take a minute.
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (at % 8);
        let Ok(flipped) = String::from_utf8(bytes) else { continue };
        let flipped = resealed(&flipped);
        if let Ok(story) = verify(&flipped, &genesis) {
            // The only true statement nearby: another offset of the same batch.
            assert!((6..=15).contains(&story.offset) && story.offset != 7, "byte {at} of\n{flipped}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn lines_that_are_moved_repeated_or_left_out_prove_no_more(
        edits in prop::collection::vec((0usize..80, 0usize..80, 0usize..3), 1..6),
    ) {
        let (genesis, receipt) = &*STANDARD;
        let text = receipt.to_text();
        let mut lines: Vec<&str> = text.lines().collect();
        for (from, to, edit) in edits {
            let (from, to) = (from % lines.len(), to % lines.len());
            match edit {
                0 => lines.swap(from, to),
                1 => lines.insert(to, lines[from]),
                _ => drop(lines.remove(from)),
            }
        }
        lines.retain(|line| !line.starts_with("digest "));
        let edited = resealed(&format!("{}\ndigest ", lines.join("\n")));
        if let Ok(story) = verify(&edited, genesis) {
            let events = verify(&text, genesis).unwrap().events;
            prop_assert!(story.events.iter().all(|event| events.contains(event)), "{}", edited);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(waybill-receipt@v1\n)?[a-z —/0-9A-Z=\n]{0,200}") {
        prop_assert!(Receipt::parse(&text).is_err());
    }
}

#[test]
fn what_a_forger_would_try() {
    let (genesis, receipt) = receipt(5);
    let text = receipt.to_text();
    for (what, forged) in [
        ("a blank at a line's end", text.replacen("partition 0", "partition 0 ", 1)),
        ("a leading zero", text.replacen("offset 5", "offset 05", 1)),
        ("a plus sign", text.replacen("offset 5", "offset +5", 1)),
        ("another newline", text.replace('\n', "\r\n")),
        ("another topic's name", text.replacen("topic orders", "topic ordera", 1)),
        ("another partition", text.replacen("partition 0", "partition 1", 1)),
        ("another offset", text.replacen("offset 5", "offset 6", 1)),
        ("another organisation", text.replacen("received globex", "received acme", 1)),
        ("another level", text.replacen("received globex", "committed globex", 1)),
        ("another owner", text.replacen("created acme", "created globex", 1)),
        ("capital digits", text.replacen("abababab", "ABABABAB", 1)),
    ] {
        assert_ne!(forged, text, "{what}");
        assert!(verify(&forged, &genesis).is_err(), "{what}");
        assert!(verify(&resealed(&forged), &genesis).is_err(), "{what}, resealed");
    }
    assert!(verify(&format!("{text}\n"), &genesis).is_err(), "more after the end");
    for end in 0..text.len() {
        assert!(text.get(..end).is_none_or(|cut| verify(cut, &genesis).is_err()), "cut at {end}");
    }
    assert_eq!(verify(&" ".repeat(RECEIPT_BYTES_MAX + 1), &genesis), Err(ParseError::TooLarge.into()));
}

#[test]
fn sections_cannot_be_repeated_reordered_or_moved() {
    let (genesis, receipt) = receipt(5);
    let mut twice = receipt.clone();
    twice.evidence.insert(1, twice.evidence[1].clone());
    assert_eq!(refused(&twice, &genesis), VerifyError::Text(ParseError::NotCanonical));
    let mut swapped = receipt.clone();
    swapped.evidence.swap(1, 2);
    assert_eq!(refused(&swapped, &genesis), VerifyError::Text(ParseError::NotCanonical));
    let mut headless = receipt.clone();
    headless.evidence.remove(0);
    assert!(matches!(refused(&headless, &genesis), VerifyError::Evidence { .. }));
    let mut empty = receipt.clone();
    empty.evidence.clear();
    assert!(matches!(refused(&empty, &genesis), VerifyError::Evidence { .. }));
    let mut moved = receipt.clone();
    moved.evidence[2].proof = receipt.evidence[3].proof.clone();
    assert!(matches!(refused(&moved, &genesis), VerifyError::Evidence { .. }));
    let mut left_out = receipt;
    left_out.evidence.pop();
    assert!(verify(&left_out.to_text(), &genesis).is_ok(), "less evidence proves less, and that is true");
}

#[test]
fn another_networks_genesis_is_refused() {
    let (genesis, receipt) = receipt(5);
    let mut later = genesis.clone();
    later.created_ms += 1;
    assert!(matches!(refused(&receipt, &later), VerifyError::OtherNetwork { .. }));
    let mut renamed = receipt.clone();
    renamed.network_name = "prod".into();
    assert!(matches!(refused(&renamed, &genesis), VerifyError::OtherNetwork { .. }));
    let mut relabelled = receipt;
    relabelled.network = later.network_id();
    assert_eq!(refused(&relabelled, &later), VerifyError::OtherLedger(LedgerId::SYSTEM));
}

#[test]
fn too_few_organisations_are_refused() {
    let genesis = four();
    let (system, mut orders) = story(&genesis);
    let whole = export(&genesis, &system, &orders, "orders", 5).unwrap();
    let ledger = fixture::ORDERS_0;
    let mut fewer = whole.clone();
    fewer.partition_note.cosignatures.pop();
    assert_eq!(refused(&fewer, &genesis), VerifyError::Certificate { ledger, reason: CertificateError::NoQuorum });
    let mut doubled = fewer.clone();
    doubled.partition_note.cosignatures.push(fewer.partition_note.cosignatures[1].clone());
    assert!(matches!(refused(&doubled, &genesis), VerifyError::Certificate { .. }));

    // Seven replicas of four organisations: five signatures of two organisations are a quorum of replicas, no more.
    let shared = fixture::genesis(&["acme", "acme", "acme", "acme", "globex", "initech", "umbrella"]);
    let mut system = Chain::system(&shared);
    system.execute(START_MS, vec![(1, vec![fixture::create_orders(&[1, 2, 3, 4, 5, 6, 7])])]);
    system.certify(&[0, 4, 5, 6, 1]);
    system.certificates.pop();
    system.certify(&[0, 1, 4, 5, 6]);
    orders = Chain::partition(&shared, &system, ledger);
    orders.execute(START_MS, vec![(1, vec![send(1, 1)])]);
    orders.certify(&[0, 1, 2, 3, 4]);
    let error = export(&shared, &system, &orders, "orders", 0).unwrap_err();
    let reason = CertificateError::TooFewOrganisations;
    assert!(
        matches!(error, ExportError::DoesNotVerify(VerifyError::Certificate { reason: found, .. }) if found == reason)
    );
    orders.certificates.clear();
    orders.certify(&[0, 1, 4, 5, 6]);
    let receipt = export(&shared, &system, &orders, "orders", 0).unwrap();
    let story = verify(&receipt.to_text(), &shared).unwrap();
    assert!(story.witnesses.shared_trust());
    assert!(story.to_string().contains("SHARED TRUST: the 7 replicas of the partition belong to 4 organisation(s)"));
}

#[test]
fn a_single_replica_is_named_as_such() {
    let genesis = fixture::genesis(&["acme", "globex"]);
    let mut system = Chain::system(&genesis);
    system.execute(START_MS, vec![(1, vec![fixture::create_orders(&[1])])]);
    system.certify(&[0, 1]);
    let mut orders = Chain::partition(&genesis, &system, fixture::ORDERS_0);
    orders.execute(START_MS, vec![(1, vec![send(1, 1)])]);
    orders.certify(&[0]);
    let receipt = export(&genesis, &system, &orders, "orders", 0).unwrap();
    let story = verify(&receipt.to_text(), &genesis).unwrap().to_string();
    assert!(story.contains("NOT FAULT TOLERANT: the partition has 1 replica(s)"), "{story}");
}

#[test]
fn a_rejected_transaction_and_a_strangers_word_prove_nothing() {
    let genesis = four();
    let (system, mut orders) = story(&genesis);
    // initech may not read, so its receive is on the ledger as rejected.
    orders.execute(START_MS + 5_000, vec![(3, vec![receive(0, 5)]), (1, vec![retrieve("globex", 0, 5)])]);
    orders.certify(&[0, 1, 2]);
    let good = export(&genesis, &system, &orders, "orders", 5).unwrap();
    let last = orders.leaves.len() as u64 - 2;
    let mut forged = good.clone();
    forged.evidence.retain(|evidence| evidence.level == Level::Sent);
    let certificate = orders.certificates.last().unwrap();
    forged.partition_note = Note::new(certificate, &orders.membership).unwrap();
    let proof = |index: u64| {
        let crate::partition::SignedLeaf { leaf, signed } = orders.signed_leaf(index).unwrap().unwrap();
        let (signature, branch) = signed.unwrap();
        let path = orders.inclusion(index, certificate.checkpoint.tree_size).unwrap().unwrap();
        Proof { leaf: leaf.to_bytes(), signature, branch, index, path }
    };
    forged.evidence[0].proof = proof(1 + 1);
    let sent = forged.clone();
    assert!(verify(&sent.to_text(), &genesis).is_ok(), "{:?}", verify(&sent.to_text(), &genesis));
    forged.evidence.push(Evidence { level: Level::Received, org: org("initech"), proof: proof(last) });
    let error = refused(&forged, &genesis).to_string();
    assert!(error.starts_with("received initech: the entry was rejected"), "{error}");
}

#[test]
fn golden_words() {
    let mut words = String::new();
    Level::ALL.iter().for_each(|level| write!(words, "{level:10}|").unwrap());
    assert_eq!(words, "sent      |retrieved |received  |committed |refused   |");
}

#[test]
#[ignore = "a measurement: run it alone, in a release build"]
fn how_long_a_verification_takes() {
    let (genesis, receipt) = receipt(5);
    let text = receipt.to_text();
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        verify(&text, &genesis).unwrap();
    }
    println!("{} us", start.elapsed().as_micros() / 1000);
}

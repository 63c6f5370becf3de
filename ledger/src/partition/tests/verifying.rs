//! Blocks that others have executed are taken over with a quorum's certificate, or not at all.

use super::super::{Tip, VerifyError, verify_range};
use super::fixture::*;
use super::golden::script;
use waybill_types::checkpoint::CertificateError;
use waybill_types::*;

fn chain() -> (Vec<Block>, Certificate) {
    let mut replica = Replica::started();
    let mut checkpoint = None;
    for body in script(&mut Bodies::default()).into_iter().skip(1) {
        checkpoint = replica.apply(body).checkpoint.or(checkpoint);
    }
    (replica.reader.blocks(1, 9, usize::MAX).unwrap(), certificate(checkpoint.unwrap()))
}

fn tip() -> Tip {
    Tip::new(network(), LEDGER, cluster())
}

fn error(blocks: &[Block], certificate: &Certificate) -> VerifyError {
    verify_range(&tip(), blocks, certificate, &membership()).unwrap_err()
}

#[test]
fn certified_blocks_are_taken_over_at_once_or_in_parts() {
    let (blocks, last) = chain();
    let verified = verify_range(&tip(), &blocks, &last, &membership()).unwrap();
    assert_eq!((verified.tip().height, verified.tip().next_offset), (5, 11));
    assert_eq!(verified.blocks().iter().map(|block| block.leaves.len()).collect::<Vec<_>>(), [1, 2, 0, 5, 7]);

    let mut replica = Replica::started();
    let checkpoint = replica.partition.apply(2, blocks[1].body.clone(), FakeJournal::position(2)).unwrap();
    assert!(checkpoint.checkpoint.is_none());
    let rest = verify_range(replica.partition.tip(), &blocks[2..], &last, &membership()).unwrap();
    assert_eq!(rest.tip(), verified.tip());
    for block in &blocks[2..] {
        replica.apply(block.body.clone());
    }
    assert_eq!(replica.partition.tip(), verified.tip());
}

#[test]
fn blocks_must_follow_each_other() {
    let (blocks, last) = chain();
    assert_eq!(error(&[], &last), VerifyError::Empty);
    assert_eq!(error(&blocks[1..], &last), VerifyError::NotContiguous { height: 0, got: 2 });
    let gap = [&blocks[..2], &blocks[3..]].concat();
    assert_eq!(error(&gap, &last), VerifyError::NotContiguous { height: 2, got: 4 });
    let twice = [&blocks[..2], &blocks[1..]].concat();
    assert_eq!(error(&twice, &last), VerifyError::NotContiguous { height: 2, got: 2 });
    assert_eq!(error(&blocks[..4], &last), VerifyError::NotCertified(4), "the certified one is missing");
}

#[test]
fn a_header_names_the_one_before() {
    let (mut blocks, last) = chain();
    blocks[3].header.previous = Digest::ZERO;
    assert_eq!(error(&blocks, &last), VerifyError::WrongPrevious(4));
    let (mut blocks, last) = chain();
    blocks[2].header.time_ms += 1;
    assert_eq!(error(&blocks, &last), VerifyError::WrongHeader(3));
    let (mut blocks, last) = chain();
    blocks[1].header.next_offset += 1;
    assert_eq!(error(&blocks, &last), VerifyError::WrongHeader(2));
    let (mut blocks, last) = chain();
    blocks[2].header.ledger.partition = 1;
    assert_eq!(error(&blocks, &last), VerifyError::OtherLedger(3));
}

#[test]
fn the_right_certificate_with_a_wrong_body() {
    let (mut blocks, last) = chain();
    blocks[4].body = blocks[3].body.clone();
    assert_eq!(error(&blocks, &last), VerifyError::WrongBody(5));
    let (mut blocks, last) = chain();
    blocks[1].body = Body::default().to_bytes();
    assert_eq!(error(&blocks, &last), VerifyError::WrongBody(2));
    blocks[1].header.body = Body::digest(&blocks[1].body);
    blocks[1].outcomes.clear();
    assert_eq!(error(&blocks, &last), VerifyError::WrongTree(2));
}

#[test]
fn an_altered_outcome() {
    let refused = Outcome::Rejected(Rejection::NotAuthorised);
    for (block, outcome, forged) in [(1, 0, refused), (3, 1, Outcome::Appended { base_offset: 10 }), (4, 2, refused)] {
        let (mut blocks, last) = chain();
        assert_ne!(blocks[block].outcomes[outcome], forged);
        blocks[block].outcomes[outcome] = forged;
        let error = error(&blocks, &last);
        let height = block as u64 + 1;
        assert!([VerifyError::WrongTree(height), VerifyError::WrongOutcomes(height)].contains(&error), "{error:?}");
    }
    let (mut blocks, last) = chain();
    blocks[1].outcomes[1] = Outcome::Duplicate { base_offset: 0 };
    assert_eq!(error(&blocks, &last), VerifyError::WrongTree(2));
    blocks[1].outcomes[1] = Outcome::Recorded;
    assert_eq!(error(&blocks, &last), VerifyError::WrongOutcomes(2), "a batch is never merely recorded");
    let (mut blocks, last) = chain();
    blocks[3].outcomes.push(Outcome::Recorded);
    assert_eq!(error(&blocks, &last), VerifyError::WrongOutcomes(4));
    let (mut blocks, last) = chain();
    blocks[3].outcomes.pop();
    assert_eq!(error(&blocks, &last), VerifyError::WrongOutcomes(4));
}

#[test]
fn another_clusters_or_epochs_certificate() {
    let (blocks, last) = chain();
    let with = |change: fn(&mut Checkpoint)| {
        let mut checkpoint = last.checkpoint.clone();
        change(&mut checkpoint);
        error(&blocks, &certificate(checkpoint))
    };
    assert_eq!(with(|checkpoint| checkpoint.cluster = ClusterId(Digest::ZERO)), VerifyError::OtherCluster);
    assert_eq!(with(|checkpoint| checkpoint.network = NetworkId(Digest::ZERO)), VerifyError::OtherCluster);
    assert_eq!(with(|checkpoint| checkpoint.ledger.partition = 1), VerifyError::OtherCluster);
    assert_eq!(with(|checkpoint| checkpoint.epoch = 2), CertificateError::WrongEpoch.into());
    assert_eq!(with(|checkpoint| checkpoint.head = Digest::ZERO), VerifyError::NotCertified(5));
    assert_eq!(with(|checkpoint| checkpoint.tree_root = Digest::ZERO), VerifyError::NotCertified(5));
    let elsewhere = Tip::new(network(), LEDGER, ClusterId(Digest::ZERO));
    let error = verify_range(&elsewhere, &blocks, &last, &membership()).unwrap_err();
    assert_eq!(error, VerifyError::OtherCluster);
}

#[test]
fn the_beginning_is_the_one_that_the_cluster_is_named_after() {
    let other = Body { proposed_time_ms: 7, ..first_body() }.to_bytes();
    let named = ClusterId::new(network(), LEDGER, Body::digest(&other));
    let (blocks, last) = chain();
    let checkpoint = Checkpoint { cluster: named, ..last.checkpoint };
    let elsewhere = Tip::new(network(), LEDGER, named);
    let error = verify_range(&elsewhere, &blocks, &certificate(checkpoint), &membership()).unwrap_err();
    assert_eq!(error, VerifyError::OtherBeginning);
}

#[test]
fn signatures_of_a_quorum() {
    let (blocks, last) = chain();
    let mut few = last.clone();
    few.signatures.pop();
    assert_eq!(error(&blocks, &few), CertificateError::NoQuorum.into());
    let mut forged = last.clone();
    forged.signatures[1].1.0[3] ^= 1;
    assert_eq!(error(&blocks, &forged), CertificateError::BadSignature(1).into());
    let mut twice = last;
    twice.signatures[1] = twice.signatures[0];
    assert_eq!(error(&blocks, &twice), CertificateError::UnknownSigner(0).into());
}

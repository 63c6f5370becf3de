//! Events go in, transactions come out: joined, in order, once.

use super::*;
use crate::store::memory::MemoryStore;
use parking_lot::Mutex;
use waybill_types::{NetworkId, NodeId, Signature, TopicId};

const LEDGER: LedgerId = LedgerId::new(TopicId([1; 16]), 0);
const OTHER: LedgerId = LedgerId::new(TopicId([1; 16]), 1);

#[derive(Debug, Default)]
struct Ledgers(Mutex<Vec<(LedgerId, Transaction)>>);

impl EvidenceSink for Ledgers {
    fn report(&self, transactions: Vec<(LedgerId, Transaction)>) -> Pending<'_, ()> {
        Box::pin(async move { self.0.lock().extend(transactions) })
    }
}

fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

fn received(ledger: LedgerId, sender: &str, first: Offset, last: Offset) -> Event {
    Event::Received { ledger, sender: org(sender), first, last, salt: Salt([first as u8; 32]) }
}

/// Reports `events`, and gives what reached the ledgers and where requests are kept.
async fn report(events: Vec<Event>) -> (Vec<(LedgerId, Transaction)>, Arc<MemoryStore>) {
    let (sink, requests) = (Arc::new(Ledgers::default()), Arc::new(MemoryStore::default()));
    let (evidence, queue) = Evidence::queue(100);
    for event in events {
        evidence.note(event).await;
    }
    let reporter = Reporter {
        receiver: org("globex"),
        sink: sink.clone(),
        requests: requests.clone(),
        linger: Duration::ZERO,
        batch_limit: 100,
    };
    let closing = watch::Sender::new(true);
    reporter.drive(queue, closing.subscribe()).await;
    let transactions = std::mem::take(&mut *sink.0.lock());
    (transactions, requests)
}

fn receive(first: Offset, last: Offset, salts: &[u8]) -> Transaction {
    let salts: Vec<_> = salts.iter().map(|salt| Salt([*salt; 32])).collect();
    Transaction::Receive(Receive { first, last, salts: receive_digest(&org("globex"), &salts) })
}

#[tokio::test]
async fn what_follows_without_a_gap_and_from_one_sender_is_one_receive() {
    let events = vec![
        received(LEDGER, "acme", 5, 9),
        received(OTHER, "acme", 10, 10),
        received(LEDGER, "acme", 0, 4),
        received(LEDGER, "initech", 10, 12),
        received(LEDGER, "acme", 13, 13),
        received(LEDGER, "acme", 15, 15),
        received(LEDGER, "acme", 5, 9),
    ];
    let (transactions, _) = report(events).await;
    let expected = vec![
        (LEDGER, receive(0, 9, &[0, 5])),
        (LEDGER, receive(10, 12, &[10])),
        (LEDGER, receive(13, 13, &[13])),
        (LEDGER, receive(15, 15, &[15])),
        (OTHER, receive(10, 10, &[10])),
    ];
    assert_eq!(transactions, expected);
}

#[test]
fn golden_receive_digest() {
    let digest = receive_digest(&org("globex"), [&Salt([1; 32]), &Salt([2; 32])]);
    assert_eq!(digest.to_string(), "57fa02b152b66ad57a81d7e0eb7e00b3236327671f8c20b9acb5dc0f9a16bf28");
    assert_ne!(digest, receive_digest(&org("acme"), [&Salt([1; 32]), &Salt([2; 32])]));
    assert_ne!(digest, receive_digest(&org("globex"), [&Salt([2; 32]), &Salt([1; 32])]));
}

#[tokio::test]
async fn a_retrieve_names_a_request_that_is_kept() {
    let request = crate::request::PullRequest {
        network: NetworkId(Digest::ZERO),
        ledger: LEDGER,
        receiver: org("globex"),
        signer: NodeId(2),
        connector: NodeId(1),
        first: 3,
        last: 8,
        time_ms: 7,
        nonce: [9; 16],
    };
    let request = Arc::new(SignedPullRequest { request, signature: Signature([1; 64]) });
    let (transactions, requests) = report(vec![Event::Retrieved { first: 3, last: 9, request: request.clone() }]).await;
    let digest = request.digest();
    let expected = Retrieve { receiver: org("globex"), first: 3, last: 9, request: digest };
    assert_eq!(transactions, vec![(LEDGER, Transaction::Retrieve(expected))]);
    let kept = requests.read(vec![Commitment(digest)]).await.remove(0).unwrap().unwrap();
    assert_eq!(SignedPullRequest::from_bytes(&kept.batch).unwrap(), *request);
}

#[tokio::test]
async fn a_refusal_that_repeats_is_reported_once() {
    let refused = |offset| {
        let reason = RefuseReason::NotAReader;
        Event::Refused { ledger: LEDGER, to: org("globex"), offset, reason }
    };
    let (transactions, _) = report(vec![refused(1), refused(2), refused(1)]).await;
    let expected = Refuse { to: org("globex"), offset: 1, reason: RefuseReason::NotAReader as u16 };
    assert_eq!(transactions, vec![(LEDGER, Transaction::Refuse(expected))]);
}

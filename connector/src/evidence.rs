//! What goes on the ledger about payloads: who was served (`Retrieve`), what was received (`Receive`), who was refused
//! (`Refuse`).
//!
//! Events are gathered for a moment, joined to ranges and reported in batches. A signed pull request is durable before
//! the `Retrieve` that names its digest is reported.

use crate::request::SignedPullRequest;
use crate::store::{Pending, Record, Store};
use metrics::counter;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use waybill_ledger::contract::RefuseReason;
use waybill_types::codec::Codec;
use waybill_types::digest::Hasher;
use waybill_types::transaction::{Receive, Refuse, Retrieve};
use waybill_types::{Commitment, Digest, LedgerId, Offset, OrgId, Salt, Transaction};

mod acknowledged;
mod refusals;

use acknowledged::Acknowledged;
use refusals::RecentRefusals;

/// Takes what is to go on the ledgers, in the name of this connector's node.
pub trait EvidenceSink: Send + Sync + 'static {
    /// Resolves when the transactions were handed on; until then the next report waits, and in the end pulls do too. So
    /// it must not wait for one ledger that is stuck: the others' reports stand behind it.
    fn report(&self, transactions: Vec<(LedgerId, Transaction)>) -> Pending<'_, ()>;
}

/// What a `Receive` says of the salts: `SHA-256("waybill-receive-v1\0" | canonical encoding of the receiver's name |
/// salts in the order of their offsets)`. It cannot be made without having been served every batch of the range, and
/// the receiver's name in it keeps another organisation from copying it.
pub fn receive_digest<'s>(receiver: &OrgId, salts: impl IntoIterator<Item = &'s Salt>) -> Digest {
    let mut hasher = Hasher::new(b"waybill-receive-v1");
    hasher.update(&receiver.to_bytes());
    salts.into_iter().for_each(|salt| hasher.update(&salt.0));
    hasher.finish()
}

/// Something that happened to a payload.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A batch of another organisation is verified and durable here.
    Received { ledger: LedgerId, sender: OrgId, first: Offset, last: Offset, salt: Salt },
    /// Batches of ours were served to `request.receiver`, all of `first..=last`.
    Retrieved { first: Offset, last: Offset, request: Arc<SignedPullRequest> },
    /// Somebody was refused a batch of ours.
    Refused { ledger: LedgerId, to: OrgId, offset: Offset, reason: RefuseReason },
}

/// Where events are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Evidence(mpsc::Sender<Event>);

impl Evidence {
    /// A queue for events, and what the [`Reporter`] takes out of it.
    pub fn queue(limit: usize) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(limit.max(1));
        (Evidence(sender), receiver)
    }

    /// Hands in an event; waits while the queue is full.
    pub async fn note(&self, event: Event) {
        if self.0.send(event).await.is_err() {
            tracing::warn!("the connector is shutting down: an event is not reported to the ledger");
        }
    }

    /// Hands in an event unless the queue is full: for what a stranger can cause at will.
    pub fn note_if_room(&self, event: Event) {
        if self.0.try_send(event).is_err() {
            counter!("waybill_connector_evidence_dropped_total").increment(1);
        }
    }
}

/// Gathers events and reports them.
pub(crate) struct Reporter {
    pub receiver: OrgId,
    pub sink: Arc<dyn EvidenceSink>,
    /// Where signed pull requests are kept, under their digests.
    pub requests: Arc<dyn Store>,
    pub linger: Duration,
    pub batch_limit: usize,
}

impl Reporter {
    /// Runs until `closing` says so, and reports all that came before.
    pub async fn drive(self, mut events: mpsc::Receiver<Event>, mut closing: watch::Receiver<bool>) {
        let mut acknowledged = Acknowledged::default();
        let mut refusals = RecentRefusals::default();
        loop {
            let gathered = self.gather(&mut events, &mut closing).await;
            if gathered.is_empty() {
                return;
            }
            let mut transactions = self.keep_requests(&gathered).await;
            transactions.extend(join_received(&self.receiver, &gathered, &mut acknowledged));
            transactions.extend(gathered.into_iter().filter_map(|event| refused(event, &mut refusals)));
            if !transactions.is_empty() {
                counter!("waybill_connector_evidence_total").increment(transactions.len() as u64);
                self.sink.report(transactions).await;
            }
        }
    }

    /// Waits for an event, and a moment longer for others; none means that there will never be one again.
    async fn gather(&self, events: &mut mpsc::Receiver<Event>, closing: &mut watch::Receiver<bool>) -> Vec<Event> {
        let mut gathered = Vec::new();
        let mut until = None;
        while gathered.len() < self.batch_limit {
            let room = self.batch_limit - gathered.len();
            tokio::select! {
                received = events.recv_many(&mut gathered, room) => {
                    if received == 0 {
                        break;
                    }
                    until.get_or_insert_with(|| Instant::now() + self.linger);
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
                _ = closing.wait_for(|closing| *closing), if !events.is_closed() => events.close(),
            }
        }
        gathered
    }

    /// Makes the signed requests durable, then names them: a `Retrieve` whose request is lost would prove nothing.
    async fn keep_requests(&self, events: &[Event]) -> Vec<(LedgerId, Transaction)> {
        let mut transactions = Vec::new();
        for event in events {
            let Event::Retrieved { first, last, request } = event else { continue };
            let digest = request.digest();
            let record =
                Record { commitment: Commitment(digest), parts: vec![request.to_bytes()], salt: Salt([0; 32]) };
            if let Err(error) = self.requests.keep(record).await {
                tracing::error!(%error, receiver = %request.request.receiver, "a signed pull request is not kept");
                continue;
            }
            let receiver = request.request.receiver.clone();
            let retrieve = Retrieve { receiver, first: *first, last: *last, request: digest };
            transactions.push((request.request.ledger, Transaction::Retrieve(retrieve)));
        }
        transactions
    }
}

/// Joins received batches of one sender that follow each other without a gap to ranges.
fn join_received(receiver: &OrgId, events: &[Event], acknowledged: &mut Acknowledged) -> Vec<(LedgerId, Transaction)> {
    let mut received: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Received { ledger, sender, first, last, salt } => Some((*ledger, *first, *last, sender, salt)),
            _ => None,
        })
        .collect();
    received.sort_by_key(|(ledger, first, ..)| (*ledger, *first));
    received.dedup_by_key(|(ledger, first, ..)| (*ledger, *first));
    received.retain(|(ledger, first, last, ..)| acknowledged.insert(*ledger, *first, *last));
    let follows = |left: &(LedgerId, Offset, Offset, &OrgId, &Salt),
                   right: &(LedgerId, Offset, Offset, &OrgId, &Salt)| {
        left.0 == right.0 && left.2.checked_add(1) == Some(right.1) && left.3 == right.3
    };
    received
        .chunk_by(follows)
        .filter_map(|range| {
            let ((ledger, first, ..), (_, _, last, ..)) = (range.first()?, range.last()?);
            let salts = receive_digest(receiver, range.iter().map(|batch| batch.4));
            Some((*ledger, Transaction::Receive(Receive { first: *first, last: *last, salts })))
        })
        .collect()
}

fn refused(event: Event, recent: &mut RecentRefusals) -> Option<(LedgerId, Transaction)> {
    let Event::Refused { ledger, to, offset, reason } = event else { return None };
    let news = recent.is_news(ledger, &to, reason as u16, Instant::now());
    news.then_some((ledger, Transaction::Refuse(Refuse { to, offset, reason: reason as u16 })))
}

#[cfg(test)]
mod tests;

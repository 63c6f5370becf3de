//! The first walk: a batch is kept by our connector, then its metadata goes to the partition's cluster, in order.
//!
//! One task per partition that is written to. Batches are stored concurrently (their syncs are shared) and submitted in
//! the order in which their requests arrived, which is what an idempotent producer's sequence numbers rely on.

use crate::batch::{Canonical, Facts, HEADER_BYTES};
use crate::error::Refusal;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use waybill_connector::{Connector, KeepError, Stored};
use waybill_consensus::replica::{Executed, ReplicaHandle, SubmitError};
use waybill_types::transaction::{Producer, Send};
use waybill_types::{Outcome, Rejection, Transaction};

/// How many batches of one partition may be on their way to disk.
const KEEPING_MAX: usize = 256;
/// Batches that wait for the partition's task; the requests' own limits keep it far below.
const QUEUE_MAX: usize = 4096;

/// A batch that has its place in a partition's queue.
#[derive(Debug)]
pub struct Publication {
    submitted: oneshot::Receiver<Result<oneshot::Receiver<Executed>, Refusal>>,
}

struct Queued {
    canonical: Canonical,
    submitted: oneshot::Sender<Result<oneshot::Receiver<Executed>, Refusal>>,
    /// The share of the node's memory for batches under way; given back when the batch is stored.
    _room: OwnedSemaphorePermit,
}

/// The queue of one partition.
#[derive(Clone, Debug)]
pub struct Publisher {
    queue: mpsc::Sender<Queued>,
}

impl Publisher {
    /// Starts the partition's task; it ends when the last handle is gone.
    pub fn start(connector: Arc<Connector>, replica: ReplicaHandle) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(drive(connector, replica, queued));
        Publisher { queue }
    }

    /// Whether the partition's task is still there.
    pub fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Takes the next place in the partition's queue.
    pub fn publish(&self, canonical: Canonical, room: OwnedSemaphorePermit) -> Result<Publication, Refusal> {
        let (submitted, receiver) = oneshot::channel();
        let queued = Queued { canonical, submitted, _room: room };
        match self.queue.try_send(queued) {
            Ok(()) => Ok(Publication { submitted: receiver }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refusal::QuorumUnavailable),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refusal::NotLeader),
        }
    }
}

impl Publication {
    /// Waits until the batch is on the ledger, or will not be.
    pub async fn executed(self) -> Result<Executed, Refusal> {
        let executed = self.submitted.await.map_err(|_| Refusal::NotLeader)??;
        executed.await.map_err(|_| Refusal::NotLeader)
    }
}

/// What a producer is told of its batch: the offset, or Kafka's error.
pub fn acknowledge(outcome: Outcome) -> Result<i64, Refusal> {
    match outcome {
        Outcome::Appended { base_offset } | Outcome::Duplicate { base_offset } => Ok(base_offset),
        Outcome::Rejected(rejection) => Err(match rejection {
            Rejection::NotAuthorised => Refusal::TopicDenied,
            Rejection::OutOfOrderSequence => Refusal::OutOfOrderSequence,
            Rejection::ProducerFenced => Refusal::InvalidProducerEpoch,
            Rejection::DuplicateSequence => Refusal::DuplicateSequence,
            Rejection::TooLarge => Refusal::BatchTooLarge,
            Rejection::InvalidTimestamp => Refusal::InvalidTimestamp,
            Rejection::UnknownTopic => Refusal::UnknownTopicOrPartition,
            Rejection::Invalid | Rejection::TopicExists | Rejection::StaleVersion | Rejection::OffsetOutOfRange => {
                Refusal::ContractRejected
            }
        }),
        // Only other transactions than a batch are merely recorded.
        Outcome::Recorded => Err(Refusal::Internal),
    }
}

async fn drive(connector: Arc<Connector>, replica: ReplicaHandle, mut queue: mpsc::Receiver<Queued>) {
    let mut keeping: FuturesOrdered<Pin<Box<dyn Future<Output = Kept> + core::marker::Send>>> = FuturesOrdered::new();
    loop {
        tokio::select! {
            Some((stored, facts, submitted)) = keeping.next(), if !keeping.is_empty() => {
                let result = submit(&replica, stored, &facts);
                // Who waited may have given up; the batch takes its place all the same.
                let _ = submitted.send(result);
            }
            queued = queue.recv(), if keeping.len() < KEEPING_MAX => {
                let Some(queued) = queued else { break };
                keeping.push_back(Box::pin(keep(connector.clone(), queued)));
            }
        }
    }
    while let Some((stored, facts, submitted)) = keeping.next().await {
        let _ = submitted.send(submit(&replica, stored, &facts));
    }
}

type Kept = (Result<Stored, KeepError>, Facts, oneshot::Sender<Result<oneshot::Receiver<Executed>, Refusal>>);

async fn keep(connector: Arc<Connector>, queued: Queued) -> Kept {
    let facts = *queued.canonical.facts();
    let (header, records): ([u8; HEADER_BYTES], Bytes) = queued.canonical.into_parts();
    let stored = connector.outbox().keep(vec![Bytes::copy_from_slice(&header), records]).await;
    (stored, facts, queued.submitted)
}

fn submit(
    replica: &ReplicaHandle,
    stored: Result<Stored, KeepError>,
    facts: &Facts,
) -> Result<oneshot::Receiver<Executed>, Refusal> {
    let stored = stored.map_err(|error| {
        tracing::error!(ledger = %replica.ledger, %error, "a batch cannot be kept");
        Refusal::StoreUnavailable
    })?;
    replica.submit(Transaction::Send(metadata(&stored, facts))).map_err(|error| match error {
        SubmitError::Busy => Refusal::QuorumUnavailable,
        SubmitError::Stopped => Refusal::NotLeader,
    })
}

/// The transaction about a batch. It takes the proof that the payload is durable.
fn metadata(stored: &Stored, facts: &Facts) -> Send {
    const TRANSACTIONAL: i16 = 0x10;
    Send {
        connector: stored.connector(),
        commitment: stored.commitment(),
        size_bytes: stored.size_bytes(),
        record_count: facts.record_count,
        attributes: facts.codec.id() | if facts.transactional { TRANSACTIONAL } else { 0 },
        base_timestamp_ms: facts.base_timestamp_ms,
        max_timestamp_ms: facts.max_timestamp_ms,
        producer: facts.producer.map(|producer| Producer {
            id: producer.id,
            epoch: producer.epoch,
            base_sequence: producer.base_sequence,
        }),
    }
}

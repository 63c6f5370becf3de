//! From a grant to the bytes: our own outbox, the inbox, or a pull from the sender's connector.

use crate::consignment::Consignment;
use crate::evidence::{Event, Evidence};
use crate::flights::{Flights, Landing, Waiting};
use crate::inbox::Inbox;
use crate::outbox::{Outbox, OutboxError};
use crate::payload::Verified;
use crate::pull::{PullError, Pulled, Puller};
use crate::shelf::read_groups;
use crate::store::StoreError;
use crate::tasks::Tasks;
use metrics::counter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use waybill_types::{LedgerId, NodeId, OrgId};

/// Why a batch cannot be delivered now, and who is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// Our own outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// Our own inbox.
    #[error("the inbox does not answer: {0}")]
    InboxUnavailable(StoreError),
    /// The sender's connector, or the way there.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The pull goes on, but not within the time that was given.
    #[error("the payload has not come from node {node} yet")]
    Late {
        /// The sender's node.
        node: NodeId,
    },
    /// The batch is above this connector's limit.
    #[error("a batch of {size_bytes} bytes is above this connector's limit")]
    TooLarge {
        /// The batch's size.
        size_bytes: u32,
    },
    /// This connector stops.
    #[error("the connector is shutting down")]
    ShuttingDown,
}

impl DeliverError {
    /// Whether the same question may be answered later.
    pub fn is_retriable(&self) -> bool {
        match self {
            DeliverError::Outbox(error) => matches!(error, OutboxError::StoreUnavailable(_)),
            DeliverError::Pull(error) => error.is_retriable(),
            DeliverError::TooLarge { .. } => false,
            DeliverError::InboxUnavailable(_) | DeliverError::Late { .. } | DeliverError::ShuttingDown => true,
        }
    }
}

/// Why batches are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody waits. What is in the inbox was acknowledged when it came.
    Asked,
    /// They are new. What is in the inbox already may have come just before a crash, unacknowledged.
    Ahead,
}

/// Everything that getting a payload takes.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub org: OrgId,
    pub node: NodeId,
    pub outbox: Arc<Outbox>,
    pub inbox: Arc<Inbox>,
    pub puller: Puller,
    pub evidence: Evidence,
    pub flights: Flights,
    pub tasks: Tasks,
    pub pull_deadline: Duration,
    /// What the ledger says of sizes was said by the sender: more than this is not even tried.
    pub batch_bytes_limit: usize,
}

impl Delivery {
    /// The payloads, in the order asked for, or why each is not there by the deadline.
    pub async fn payloads(
        self: &Arc<Self>,
        batches: Vec<Consignment>,
        deadline: Instant,
    ) -> Vec<Result<Verified, DeliverError>> {
        let (own, others): (Vec<_>, Vec<_>) = batches.iter().partition(|batch| self.is_ours(batch));
        let cached: Vec<_> = others.iter().map(|batch| self.inbox.cached(&batch.commitment)).collect();
        let missing = others.iter().zip(&cached).filter(|(_, cached)| cached.is_none());
        let missing: Vec<Consignment> = missing.map(|(batch, _)| (*batch).clone()).collect();
        // Everything is on its way before the first is waited for.
        let mut waiting = self.fetch(missing, Instant::now() + self.pull_deadline, Cause::Asked).into_iter();
        let mut own = self.read_own(own).await.into_iter();
        let mut cached = cached.into_iter();
        let mut payloads = Vec::with_capacity(batches.len());
        for batch in &batches {
            let payload = if self.is_ours(batch) {
                own.next().unwrap_or(Err(DeliverError::ShuttingDown))
            } else if let Some(payload) = cached.next().flatten() {
                Ok(payload)
            } else {
                wait_until(deadline, waiting.next(), batch.connector).await
            };
            payloads.push(payload);
        }
        payloads
    }

    async fn read_own(&self, batches: Vec<&Consignment>) -> Vec<Result<Verified, DeliverError>> {
        let mut payloads = Vec::with_capacity(batches.len());
        for group in read_groups(batches, |batch| batch.size_bytes) {
            let commitments = group.iter().map(|batch| batch.commitment).collect();
            let read = self.outbox.read_committed(commitments).await;
            payloads.extend(read.into_iter().map(|payload| payload.map_err(DeliverError::from)));
        }
        payloads
    }

    /// Whether the payload is in this node's own outbox.
    fn is_ours(&self, batch: &Consignment) -> bool {
        batch.connector == self.node
    }

    /// Starts to fetch what nobody fetches yet, from the inbox or from the senders; tells where to wait for each.
    pub fn fetch(self: &Arc<Self>, batches: Vec<Consignment>, deadline: Instant, cause: Cause) -> Vec<Waiting> {
        let mut groups: BTreeMap<(NodeId, LedgerId), Vec<(Consignment, Landing)>> = BTreeMap::new();
        let mut waiting = Vec::with_capacity(batches.len());
        for batch in batches {
            let (wait, landing) = self.flights.join(batch.ledger, batch.first);
            waiting.push(wait);
            if let Some(landing) = landing {
                groups.entry((batch.connector, batch.ledger)).or_default().push((batch, landing));
            }
        }
        for (_, mut group) in groups {
            group.sort_by_key(|(batch, _)| batch.first);
            self.tasks.spawn(self.clone().fetch_group(group, deadline, cause));
        }
        waiting
    }

    /// Batches of one ledger and one connector: what is in the inbox lands at once, the rest is pulled.
    async fn fetch_group(self: Arc<Self>, group: Vec<(Consignment, Landing)>, deadline: Instant, cause: Cause) {
        let mut missing = Vec::new();
        for group in read_groups(group, |(batch, _)| batch.size_bytes) {
            let commitments = group.iter().map(|(batch, _)| batch.commitment).collect();
            let payloads = self.inbox.read_committed(commitments).await;
            for ((batch, landing), payload) in group.into_iter().zip(payloads) {
                match payload {
                    Ok(Some(payload)) => {
                        landing.resolve(Ok(payload.clone()));
                        drop(landing);
                        if cause == Cause::Ahead {
                            self.acknowledge(&batch, &payload).await;
                        }
                    }
                    Ok(None) if batch.size_bytes as usize > self.batch_bytes_limit => {
                        landing.resolve(Err(DeliverError::TooLarge { size_bytes: batch.size_bytes }));
                    }
                    Ok(None) => missing.push((batch, landing)),
                    Err(error) => landing.resolve(Err(DeliverError::InboxUnavailable(error))),
                }
            }
        }
        for request in self.puller.requests(missing, |(batch, _)| batch.size_bytes) {
            self.tasks.spawn(self.clone().pull(request, deadline));
        }
    }

    async fn pull(self: Arc<Self>, request: Vec<(Consignment, Landing)>, deadline: Instant) {
        let (wanted, landings): (Vec<_>, Vec<_>) = request.into_iter().unzip();
        let mut landings: Vec<_> = landings.into_iter().map(Some).collect();
        let hand_over = |index: usize, outcome: Result<Pulled, PullError>| {
            let Some(landing) = landings.get_mut(index).and_then(Option::take) else { return };
            match outcome {
                Ok(pulled) => {
                    landing.resolve(Ok(pulled.payload.clone()));
                    self.tasks.spawn(self.clone().keep(wanted[index].clone(), pulled, landing));
                }
                Err(error) => landing.resolve(Err(error.into())),
            }
        };
        self.puller.pull(&wanted, deadline, hand_over).await;
    }

    /// Whoever waited has the payload already. The flight ends when the inbox has it too, so that nobody pulls it again;
    /// and only what is durable is acknowledged. The hold ends last: while reports wait, no more is pulled.
    async fn keep(self: Arc<Self>, batch: Consignment, pulled: Pulled, landing: Landing) {
        counter!("waybill_connector_pulled_payloads_total").increment(1);
        let kept = self.inbox.keep(&pulled.payload).await;
        drop(landing);
        match kept {
            Ok(()) => self.acknowledge(&batch, &pulled.payload).await,
            Err(error) => {
                tracing::error!(%error, ledger = %batch.ledger, offset = batch.first, "a payload is not kept in the inbox");
            }
        }
        drop(pulled.hold);
    }

    /// Nobody owes himself a receipt.
    async fn acknowledge(&self, batch: &Consignment, payload: &Verified) {
        if batch.sender != self.org {
            let (ledger, sender, salt) = (batch.ledger, batch.sender.clone(), payload.salt());
            self.evidence.note(Event::Received { ledger, sender, first: batch.first, last: batch.last, salt }).await;
        }
    }
}

async fn wait_until(deadline: Instant, waiting: Option<Waiting>, node: NodeId) -> Result<Verified, DeliverError> {
    let Some(waiting) = waiting else { return Err(DeliverError::ShuttingDown) };
    timeout_at(deadline, waiting.outcome()).await.unwrap_or(Err(DeliverError::Late { node }))
}

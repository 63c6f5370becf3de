//! The second walk: entries of the ledger, permission, payload, and the batch as a consumer is to see it.

use crate::batch::{Canonical, Stamped};
use crate::broker::{Broker, Partition};
use crate::error::Refusal;
use std::sync::Arc;
use tokio::time::Instant;
use waybill_connector::DeliverError;
use waybill_connector::outbox::OutboxError;
use waybill_connector::pull::PullError;
use waybill_ledger::contract::authorise;
use waybill_ledger::partition::Entry;
use waybill_types::Offset;

/// How many entries are looked up at a time.
const ENTRIES_PER_LOOKUP: usize = 256;

/// Reads batches from the one that holds `offset` on, up to `bytes_max` in all; the first is whole whatever its size if
/// `first_whole` says so. What was read before a batch that cannot be had is returned without it.
pub async fn read(
    broker: &Broker,
    partition: &Partition,
    offset: Offset,
    bytes_max: usize,
    first_whole: bool,
    deadline: Instant,
) -> Result<Vec<Stamped>, Refusal> {
    let (mut batches, mut bytes, mut next) = (Vec::new(), 0, offset);
    loop {
        let entries = partition.replica.reader.entries(next, ENTRIES_PER_LOOKUP).map_err(internal)?;
        let Some(last) = entries.last() else { return Ok(batches) };
        next = last.last_offset() + 1;
        for entry in &entries {
            let fits = bytes + entry.send.size_bytes as usize <= bytes_max;
            if !fits && !(batches.is_empty() && first_whole) {
                return Ok(batches);
            }
            match payload(broker, partition, entry, deadline).await {
                Ok(batch) => {
                    bytes += entry.send.size_bytes as usize;
                    batches.push(batch.stamp_for(entry, partition.leader_epoch()));
                }
                Err(refusal) if batches.is_empty() => return Err(refusal),
                Err(_) => return Ok(batches),
            }
        }
    }
}

/// The batch of one entry, verified against the ledger, after the contract has allowed it.
pub async fn payload(
    broker: &Broker,
    partition: &Partition,
    entry: &Arc<Entry>,
    deadline: Instant,
) -> Result<Canonical, Refusal> {
    let config = partition.config()?;
    let grant = authorise(&config, &broker.org, entry).map_err(|_| Refusal::TopicDenied)?;
    let connector = broker.connector.as_ref().ok_or(Refusal::TopicDenied)?;
    let verified = connector.payload(&grant, deadline).await.map_err(|error| refusal(partition, entry, &error))?;
    Canonical::from_stored(verified.to_bytes()).map_err(|error| {
        // The commitment holds and it is no batch: a sender whose gateway does not check what it sends.
        tracing::warn!(ledger = %entry.ledger, offset = entry.base_offset, sender = %entry.sender, %error, "not a record batch");
        Refusal::PayloadDamaged
    })
}

impl Canonical {
    fn stamp_for(&self, entry: &Entry, leader_epoch: i32) -> Stamped {
        if entry.log_append_time {
            self.stamp_with_log_append_time(entry.base_offset, leader_epoch, entry.max_timestamp_ms())
        } else {
            self.stamp(entry.base_offset, leader_epoch)
        }
    }
}

fn refusal(partition: &Partition, entry: &Entry, error: &DeliverError) -> Refusal {
    let refusal = match error {
        DeliverError::Outbox(OutboxError::Corrupt { .. }) => Refusal::PayloadDamaged,
        DeliverError::Outbox(_) | DeliverError::InboxUnavailable(_) | DeliverError::ShuttingDown => {
            Refusal::StoreUnavailable
        }
        DeliverError::Pull(PullError::PeerRefused { .. }) => Refusal::TopicDenied,
        DeliverError::Pull(_) | DeliverError::Late { .. } => Refusal::PayloadUnreachable,
        DeliverError::TooLarge { .. } => Refusal::BatchTooLarge,
    };
    metrics::counter!("waybill_delivery_failures_total", "reason" => format!("{refusal:?}")).increment(1);
    tracing::warn!(topic = %partition.topic.name, ledger = %entry.ledger, offset = entry.base_offset, sender = %entry.sender,
        %error, "a payload cannot be delivered now");
    refusal
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "the ledger cannot be read");
    Refusal::Internal
}

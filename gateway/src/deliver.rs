//! The second walk: entries of the ledger, permission, payload, and the batch as a consumer is to see it.

use crate::batch::{BatchError, Canonical, HEADER_BYTES, Stamped};
use crate::broker::{Broker, Partition};
use crate::error::Refusal;
use std::sync::Arc;
use tokio::time::Instant;
use waybill_connector::outbox::OutboxError;
use waybill_connector::pull::PullError;
use waybill_connector::{DeliverError, Verified};
use waybill_ledger::contract::authorise;
use waybill_ledger::partition::Entry;
use waybill_types::Offset;

/// How many entries are looked up, and asked of the connector, at a time.
const ENTRIES_AT_ONCE: usize = 256;
/// How many bytes are asked of the connector at a time, unless the first batch alone is larger.
const BYTES_AT_ONCE: usize = 16 << 20;

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
    let (mut batches, mut bytes, mut next): (Vec<Stamped>, usize, Offset) = (Vec::new(), 0, offset);
    loop {
        let mut entries = partition.replica.reader.entries(next, ENTRIES_AT_ONCE).map_err(internal)?;
        let mut asked_bytes = 0;
        let fitting = entries.iter().take_while(|entry| {
            let size_bytes = entry.send.size_bytes as usize;
            let fits = bytes + asked_bytes + size_bytes <= bytes_max && asked_bytes + size_bytes <= BYTES_AT_ONCE;
            let first = batches.is_empty() && asked_bytes == 0 && first_whole;
            let alone = asked_bytes == 0 && bytes + size_bytes <= bytes_max;
            asked_bytes += size_bytes;
            fits || first || alone
        });
        let fitting = fitting.count();
        entries.truncate(fitting);
        let Some(last) = entries.last() else { return Ok(batches) };
        next = last.last_offset() + 1;
        for (entry, payload) in entries.iter().zip(payloads(broker, partition, &entries, deadline).await?) {
            match payload {
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
    let mut payloads = payloads(broker, partition, std::slice::from_ref(entry), deadline).await?;
    payloads.pop().unwrap_or(Err(Refusal::Internal))
}

/// The batches of several entries; those of one sender are pulled together.
async fn payloads(
    broker: &Broker,
    partition: &Partition,
    entries: &[Arc<Entry>],
    deadline: Instant,
) -> Result<Vec<Result<Canonical, Refusal>>, Refusal> {
    let config = partition.config()?;
    let connector = broker.connector.as_ref().ok_or(Refusal::TopicDenied)?;
    let grants = entries.iter().map(|entry| authorise(&config, &broker.org, entry));
    let grants = grants.collect::<Result<Vec<_>, _>>().map_err(|_| Refusal::TopicDenied)?;
    let payloads = connector.payloads(&grants, deadline).await;
    let batch = |(entry, payload): (&Arc<Entry>, Result<Verified, DeliverError>)| {
        let verified = payload.map_err(|error| refusal(partition, entry, &error))?;
        let refused = |reason: &dyn std::fmt::Display| {
            // The commitment holds: the sender's gateway does not check what it sends.
            tracing::warn!(ledger = %entry.ledger, offset = entry.base_offset, sender = %entry.sender, %reason,
                "a payload is not the batch that its sender has announced");
            Refusal::PayloadDamaged
        };
        let batch = canonical(&verified).map_err(|error| refused(&error))?;
        // More records than were announced would take the offsets of the batches behind.
        if batch.facts().record_count == entry.send.record_count {
            Ok(batch)
        } else {
            Err(refused(&"the number of records differs"))
        }
    };
    Ok(entries.iter().zip(payloads).map(batch).collect())
}

/// What was just kept is still in two pieces, header and records: they stay apart, and are not copied.
fn canonical(verified: &Verified) -> Result<Canonical, BatchError> {
    match verified.parts() {
        [header, records] if header.len() == HEADER_BYTES => Canonical::from_parts(header, records.clone()),
        _ => Canonical::from_stored(verified.to_bytes()),
    }
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

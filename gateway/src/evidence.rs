//! Between the node's ledgers and its connector: what may be handed out, what is new, and what is to be ledgered.

use crate::server::stopped;
use std::time::Duration;
use tokio::sync::watch;
use waybill_connector::store::Pending;
use waybill_connector::{Connector, EvidenceSink, Permissions, Refusal};
use waybill_consensus::node::Node;
use waybill_consensus::replica::{ReplicaHandle, SubmitError};
use waybill_ledger::contract::{Denied, Grant, authorise};
use waybill_types::{LedgerId, Offset, OrgId, Transaction};

/// How soon a report is tried again that found its partition's queue full.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How far back a restarted node looks for batches that it has not acknowledged.
const UNACKNOWLEDGED_ENTRIES_MAX: usize = 10_000;
const ENTRIES_PER_LOOKUP: usize = 256;

/// The node's own copies of the ledgers decide what its connector hands out.
pub struct OwnLedgers(pub Node);

impl Permissions for OwnLedgers {
    fn authorise(&self, org: &OrgId, ledger: LedgerId, offset: Offset) -> Result<Grant, Refusal> {
        let replica = self.0.replica(ledger).ok_or(Refusal::UnknownLedger)?;
        let reader = &replica.reader;
        let config = reader.config().ok_or(Refusal::NotReached)?;
        if offset < reader.log_start_offset() {
            return Err(Refusal::Gone);
        }
        let entry = reader.entry_at(offset).map_err(|error| {
            tracing::error!(%ledger, offset, %error, "the ledger cannot be read");
            Refusal::NotReached
        })?;
        let entry = entry.ok_or(Refusal::NotReached)?;
        if entry.base_offset != offset {
            return Err(Refusal::NoBatch);
        }
        authorise(&config, org, &entry).map_err(|denied| match denied {
            Denied::NotAReader => Refusal::Denied,
            Denied::OtherLedger => Refusal::UnknownLedger,
        })
    }
}

/// What the connector reports is submitted in the node's name.
pub struct Ledgered(pub Node);

impl EvidenceSink for Ledgered {
    fn report(&self, transactions: Vec<(LedgerId, Transaction)>) -> Pending<'_, ()> {
        Box::pin(async move {
            for (ledger, transaction) in transactions {
                let Some(replica) = self.0.replica(ledger) else { continue };
                // Nobody waits for the outcome: the receipt will show it.
                while let Err(SubmitError::Busy) = replica.submit(transaction.clone()) {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
            }
        })
    }
}

/// Tells the connector of every new batch that it may pull, on every partition of this node, until the node stops.
pub async fn announce_all(node: Node, connector: std::sync::Arc<Connector>, mut stop: watch::Receiver<bool>) {
    let mut followed = std::collections::HashSet::new();
    let mut changed = node.system_changed();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        changed.borrow_and_update();
        for replica in node.replicas() {
            if replica.ledger != LedgerId::SYSTEM && followed.insert(replica.cluster) {
                tasks.spawn(announce(node.clone(), connector.clone(), replica));
            }
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            // New topics start a moment after they are known.
            () = tokio::time::sleep(Duration::from_millis(200)), if node.has_unstarted() => {}
            () = stopped(&mut stop) => return,
        }
    }
}

async fn announce(node: Node, connector: std::sync::Arc<Connector>, replica: ReplicaHandle) {
    let mut progress = replica.progress();
    let mut next = first_unacknowledged(&node, &replica);
    loop {
        if progress.borrow_and_update().halted {
            return;
        }
        while let (Some(config), Ok(entries)) =
            (replica.reader.config(), replica.reader.entries(next, ENTRIES_PER_LOOKUP))
        {
            let Some(last) = entries.last() else { break };
            next = last.last_offset() + 1;
            for entry in &entries {
                if let Ok(grant) = authorise(&config, node.org(), entry) {
                    connector.announce(&grant);
                }
            }
        }
        if progress.changed().await.is_err() {
            return;
        }
    }
}

/// Where this organisation's receipts end, looking back from the newest batch: what came after it and was stored just
/// before a crash is announced again, and then acknowledged.
fn first_unacknowledged(node: &Node, replica: &ReplicaHandle) -> Offset {
    let reader = &replica.reader;
    let mut offset = reader.high_watermark();
    for _ in 0..UNACKNOWLEDGED_ENTRIES_MAX {
        let Some(before) = (offset > reader.log_start_offset()).then_some(offset - 1) else { break };
        let acknowledged = reader.receives(before).is_ok_and(|orgs| orgs.contains_key(node.org()));
        let Ok(Some(entry)) = reader.entry_at(before) else { break };
        if acknowledged && entry.sender != *node.org() {
            break;
        }
        offset = entry.base_offset;
    }
    offset
}

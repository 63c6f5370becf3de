//! What other organisations sent and this connector has pulled and verified.

use crate::payload::Verified;
use crate::shelf::Shelf;
use crate::store::{Store, StoreError};
use std::sync::Arc;
use waybill_ledger::contract::Grant;
use waybill_types::Commitment;

/// Keeps what was received. Losing any of it costs another pull.
#[derive(Debug)]
pub struct Inbox {
    shelf: Shelf,
}

impl Inbox {
    /// An inbox on a store.
    pub fn new(store: Arc<dyn Store>, cache_bytes_limit: usize) -> Self {
        Inbox { shelf: Shelf::new("inbox", store, cache_bytes_limit) }
    }

    /// Resolves when the payload is durable; only then may it be acknowledged on the ledger.
    pub async fn keep(&self, verified: &Verified) -> Result<(), StoreError> {
        self.shelf.keep(verified.clone()).await
    }

    /// The batch that the contract allows us, if it is here and whole. A damaged one counts as absent: it is pulled
    /// again.
    pub async fn read(&self, grant: &Grant) -> Result<Option<Verified>, StoreError> {
        self.read_committed(vec![grant.entry().send.commitment]).await.pop().unwrap_or(Ok(None))
    }

    /// The payload, if it is in memory.
    pub(crate) fn cached(&self, commitment: &Commitment) -> Option<Verified> {
        self.shelf.cached(commitment)
    }

    /// Several batches at once, in the order asked for.
    pub(crate) async fn read_committed(
        &self,
        commitments: Vec<Commitment>,
    ) -> Vec<Result<Option<Verified>, StoreError>> {
        let mut payloads = self.shelf.read(commitments).await;
        for payload in &mut payloads {
            if matches!(payload, Err(StoreError::Corrupt(_))) {
                *payload = Ok(None);
            }
        }
        payloads
    }

    pub(crate) async fn close(&self) {
        self.shelf.close().await;
    }
}

//! What outbox and inbox have in common: a store behind a cache, and nothing leaves unverified.

use crate::cache::PayloadCache;
use crate::payload::{Payload, Verified};
use crate::store::{Record, Store, StoreError};
use metrics::{Counter, counter};
use std::sync::Arc;
use waybill_types::{Commitment, Salt};

/// A store whose content is verified when it is read.
#[derive(Debug)]
pub(crate) struct Shelf {
    name: &'static str,
    store: Arc<dyn Store>,
    cache: PayloadCache,
    kept: Counter,
    kept_bytes: Counter,
    cache_hits: Counter,
    store_reads: Counter,
    corrupt: Counter,
}

impl Shelf {
    pub fn new(name: &'static str, store: Arc<dyn Store>, cache_bytes_limit: usize) -> Self {
        Shelf {
            name,
            store,
            cache: PayloadCache::new(cache_bytes_limit),
            kept: counter!("waybill_connector_kept_payloads_total", "store" => name),
            kept_bytes: counter!("waybill_connector_kept_bytes_total", "store" => name),
            cache_hits: counter!("waybill_connector_cache_hits_total", "store" => name),
            store_reads: counter!("waybill_connector_store_reads_total", "store" => name),
            corrupt: counter!("waybill_connector_corrupt_payloads_total", "store" => name),
        }
    }

    /// Resolves when the payload is durable.
    pub async fn keep(&self, payload: Verified) -> Result<(), StoreError> {
        let (commitment, parts, salt) = (payload.commitment(), payload.parts().to_vec(), payload.salt());
        let size_bytes = payload.size_bytes();
        self.store.keep(Record { commitment, parts, salt }).await?;
        self.kept.increment(1);
        self.kept_bytes.increment(size_bytes as u64);
        self.cache.keep(payload);
        Ok(())
    }

    /// The payload, if it is in memory.
    pub fn cached(&self, commitment: &Commitment) -> Option<Verified> {
        let payload = self.cache.read(commitment);
        if payload.is_some() {
            self.cache_hits.increment(1);
        }
        payload
    }

    /// The payload, proven to be the committed bytes. A damaged one is an error, with a line in the log and a metric.
    pub async fn read(&self, commitment: Commitment) -> Result<Option<Verified>, StoreError> {
        if let Some(payload) = self.cached(&commitment) {
            return Ok(Some(payload));
        }
        self.store_reads.increment(1);
        let verified = match self.store.read(commitment).await {
            Ok(None) => return Ok(None),
            Ok(Some(kept)) => Payload::hash(vec![kept.batch], kept.salt)
                .await
                .verify(&commitment)
                .map_err(|mismatch| StoreError::Corrupt(mismatch.to_string())),
            Err(error) => Err(error),
        };
        match verified {
            Ok(payload) => {
                self.cache.keep(payload.clone());
                Ok(Some(payload))
            }
            Err(error) => {
                if let StoreError::Corrupt(what) = &error {
                    self.corrupt.increment(1);
                    tracing::error!(store = self.name, %commitment, what, "a payload is damaged on its medium; it is not served");
                }
                Err(error)
            }
        }
    }

    /// The salt alone, not verified.
    pub async fn salt(&self, commitment: Commitment) -> Result<Option<Salt>, StoreError> {
        match self.cache.read(&commitment) {
            Some(payload) => Ok(Some(payload.salt())),
            None => self.store.salt(commitment).await,
        }
    }

    pub async fn close(&self) {
        self.store.close().await;
    }
}

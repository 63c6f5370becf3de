//! What outbox and inbox have in common: a store behind a cache, and nothing leaves unverified.

use crate::cache::PayloadCache;
use crate::payload::{HASH_ELSEWHERE_BYTES, Payload, Verified};
use crate::store::{Reading, Record, Store, StoreError};
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
        let (commitment, salt, size_bytes) = (payload.commitment(), payload.salt(), payload.size_bytes());
        // The store puts a part of its own behind these.
        let mut parts = Vec::with_capacity(payload.parts().len() + 1);
        parts.extend_from_slice(payload.parts());
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

    /// The payloads, each proven to be the committed bytes, in the order asked for. All at once: see [`cut`].
    pub async fn read(&self, commitments: Vec<Commitment>) -> Vec<Result<Option<Verified>, StoreError>> {
        let cached: Vec<_> = commitments.iter().map(|commitment| self.cached(commitment)).collect();
        let missing = commitments.iter().zip(&cached).filter(|(_, cached)| cached.is_none());
        let missing: Vec<_> = missing.map(|(commitment, _)| *commitment).collect();
        let mut read = self.read_from_store(missing).await.into_iter();
        let payload = |cached: Option<Verified>| match cached {
            Some(payload) => Ok(Some(payload)),
            None => read.next().unwrap_or(Ok(None)),
        };
        cached.into_iter().map(payload).collect()
    }

    async fn read_from_store(&self, commitments: Vec<Commitment>) -> Vec<Result<Option<Verified>, StoreError>> {
        if commitments.is_empty() {
            return Vec::new();
        }
        self.store_reads.increment(commitments.len() as u64);
        let readings = self.store.read(commitments.clone()).await;
        let verified = verify_all(commitments.into_iter().zip(readings).collect()).await;
        for (commitment, verified) in &verified {
            match verified {
                Ok(Some(payload)) => self.cache.keep(payload.clone()),
                Err(StoreError::Corrupt(what)) => {
                    self.corrupt.increment(1);
                    let store = self.name;
                    tracing::error!(store, %commitment, what, "a payload is damaged on its medium; it is not served");
                }
                Ok(None) | Err(_) => {}
            }
        }
        verified.into_iter().map(|(_, verified)| verified).collect()
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

type Read = (Commitment, Result<Option<Verified>, StoreError>);

/// Hashes what was read; more than a little of it on a thread where it delays nobody.
async fn verify_all(readings: Vec<(Commitment, Reading)>) -> Vec<Read> {
    let size = |(_, reading): &(Commitment, Reading)| match reading {
        Ok(Some(kept)) => kept.batch.len(),
        _ => 0,
    };
    let all = |readings: Vec<(Commitment, Reading)>| readings.into_iter().map(verify).collect();
    if readings.iter().map(size).sum::<usize>() < HASH_ELSEWHERE_BYTES {
        return all(readings);
    }
    let asked: Vec<_> = readings.iter().map(|(commitment, _)| *commitment).collect();
    let stopped = || Err(StoreError::Unavailable("the connector is shutting down".into()));
    let task = tokio::task::spawn_blocking(move || all(readings)).await;
    task.unwrap_or_else(|_| asked.into_iter().map(|commitment| (commitment, stopped())).collect())
}

fn verify((commitment, reading): (Commitment, Reading)) -> Read {
    let verified = reading.and_then(|kept| {
        let payload = kept.map(|kept| Payload::hash_here(vec![kept.batch], kept.salt).verify(&commitment));
        payload.transpose().map_err(|mismatch| StoreError::Corrupt(mismatch.to_string()))
    });
    (commitment, verified)
}

/// Payload bytes that are read at once.
const READ_BYTES_LIMIT: usize = 1 << 20;

/// Payloads that are read at once.
const READ_COUNT_LIMIT: usize = 256;

/// Cuts a list into pieces that are good to be read at once.
pub(crate) fn read_groups<T>(items: Vec<T>, size_bytes: impl Fn(&T) -> u32) -> Vec<Vec<T>> {
    cut(items, size_bytes, READ_BYTES_LIMIT, READ_COUNT_LIMIT)
}

/// Cuts a list into pieces of at most so many bytes and items; an item that is larger is a piece of its own.
pub(crate) fn cut<T>(
    items: Vec<T>,
    size_bytes: impl Fn(&T) -> u32,
    bytes_limit: usize,
    count_limit: usize,
) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let item_bytes = size_bytes(&item) as usize;
        match pieces.last_mut() {
            Some(piece) if bytes + item_bytes <= bytes_limit && piece.len() < count_limit => {
                piece.push(item);
                bytes += item_bytes;
            }
            _ => {
                pieces.push(vec![item]);
                bytes = item_bytes;
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_by_bytes_and_by_count() {
        assert_eq!(cut(vec![4, 5, 2, 11, 1], |size| *size, 10, 9), [vec![4, 5], vec![2], vec![11], vec![1]]);
        assert_eq!(cut(vec![1, 1, 1], |size| *size, 10, 2), [vec![1, 1], vec![1]]);
        assert!(cut(Vec::<u32>::new(), |size| *size, 10, 2).is_empty());
    }
}

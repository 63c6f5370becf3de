//! A store in memory: for tests.

use super::{Kept, Pending, Reading, Record, Store, StoreError};
use bytes::BytesMut;
use dashmap::DashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use waybill_types::{Commitment, Salt};

/// Keeps payloads until the process ends, without a limit.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: DashMap<Commitment, Kept>,
    closed: AtomicBool,
}

impl Store for MemoryStore {
    fn keep(&self, record: Record) -> Pending<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.closed.load(Ordering::Acquire) {
                return Err(StoreError::Unavailable("closed".into()));
            }
            let mut batch = BytesMut::with_capacity(record.size_bytes());
            record.parts.iter().for_each(|part| batch.extend_from_slice(part));
            self.kept.insert(record.commitment, Kept { batch: batch.freeze(), salt: record.salt });
            Ok(())
        })
    }

    fn read(&self, commitments: Vec<Commitment>) -> Pending<'_, Vec<Reading>> {
        let read = |commitment: &Commitment| Ok(self.kept.get(commitment).map(|kept| kept.clone()));
        Box::pin(async move { commitments.iter().map(read).collect() })
    }

    fn salt(&self, commitment: Commitment) -> Pending<'_, Result<Option<Salt>, StoreError>> {
        Box::pin(async move { Ok(self.kept.get(&commitment).map(|kept| kept.salt)) })
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async move { self.closed.store(true, Ordering::Release) })
    }
}

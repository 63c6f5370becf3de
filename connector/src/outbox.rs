//! What this organisation sent. A batch is on the medium here before anything of it can be on a ledger.

use crate::payload::{Payload, Verified};
use crate::shelf::Shelf;
use crate::store::{Store, StoreError};
use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use waybill_ledger::contract::Grant;
use waybill_types::{Commitment, NodeId, Salt};

/// Proof that a batch is durable in the outbox: the metadata of a `Send` is made from it, and only
/// [`Outbox::keep`] makes one.
#[derive(Debug)]
pub struct Stored {
    commitment: Commitment,
    size_bytes: u32,
    connector: NodeId,
}

impl Stored {
    /// The salted commitment to the canonical batch.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// The canonical batch's size in bytes.
    pub fn size_bytes(&self) -> u32 {
        self.size_bytes
    }

    /// The node whose connector holds the batch.
    pub fn connector(&self) -> NodeId {
        self.connector
    }
}

/// Why a batch was not kept. Nothing is on any ledger then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The batch is empty or above the connector's limit.
    #[error("a batch of {size_bytes} bytes is not within 1 and {limit}")]
    ClientSent {
        /// The batch's size.
        size_bytes: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// The system gives no random bytes for a salt.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a batch of our own cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// It is damaged on its medium: detected, never served. Others are not concerned.
    #[error("the payload of {commitment} is damaged in the outbox")]
    Corrupt {
        /// Which payload.
        commitment: Commitment,
    },
    /// It is not there: never kept by this connector, or removed by retention.
    #[error("the outbox has no payload of {commitment}")]
    Missing {
        /// Which payload.
        commitment: Commitment,
    },
    /// The store does not answer.
    #[error("the outbox does not answer: {0}")]
    StoreUnavailable(StoreError),
}

/// Keeps what this organisation sent.
#[derive(Debug)]
pub struct Outbox {
    shelf: Shelf,
    node: NodeId,
    batch_bytes_limit: usize,
    random: SystemRandom,
}

impl Outbox {
    /// The outbox of `node` on a store.
    pub fn new(node: NodeId, store: Arc<dyn Store>, cache_bytes_limit: usize, batch_bytes_limit: usize) -> Self {
        let shelf = Shelf::new("outbox", store, cache_bytes_limit);
        let batch_bytes_limit = batch_bytes_limit.min(u32::MAX as usize);
        Outbox { shelf, node, batch_bytes_limit, random: SystemRandom::new() }
    }

    /// Salts, commits to and durably keeps the canonical batch that `parts` make up together. Many calls may be under
    /// way at once and share their syncs; the parts are not copied.
    pub async fn keep(&self, parts: Vec<Bytes>) -> Result<Stored, KeepError> {
        let size_bytes: usize = parts.iter().map(Bytes::len).sum();
        if size_bytes == 0 || size_bytes > self.batch_bytes_limit {
            return Err(KeepError::ClientSent { size_bytes, limit: self.batch_bytes_limit });
        }
        let mut salt = [0; 32];
        self.random.fill(&mut salt).map_err(|_| KeepError::NoRandomness)?;
        let own = Payload::hash(parts, Salt(salt)).await.into_own();
        let commitment = own.commitment();
        self.shelf.keep(own).await?;
        Ok(Stored { commitment, size_bytes: size_bytes as u32, connector: self.node })
    }

    /// The batch that the contract has allowed a reader, verified against the ledger's commitment.
    pub async fn read(&self, grant: &Grant) -> Result<Verified, OutboxError> {
        let commitment = grant.entry().send.commitment;
        let mut payloads = self.read_all(std::slice::from_ref(grant)).await;
        payloads.pop().unwrap_or(Err(OutboxError::Missing { commitment }))
    }

    /// Several batches at once, in the order asked for. They must fit into memory together.
    pub async fn read_all(&self, grants: &[Grant]) -> Vec<Result<Verified, OutboxError>> {
        self.read_committed(grants.iter().map(|grant| grant.entry().send.commitment).collect()).await
    }

    pub(crate) async fn read_committed(&self, commitments: Vec<Commitment>) -> Vec<Result<Verified, OutboxError>> {
        let payloads = self.shelf.read(commitments.clone()).await;
        let outcome = |(commitment, payload)| match payload {
            Ok(Some(payload)) => Ok(payload),
            Ok(None) => Err(OutboxError::Missing { commitment }),
            Err(StoreError::Corrupt(_)) => Err(OutboxError::Corrupt { commitment }),
            Err(error) => Err(OutboxError::StoreUnavailable(error)),
        };
        commitments.into_iter().zip(payloads).map(outcome).collect()
    }

    /// The salt of a batch of our own, to check a receiver's claim.
    pub(crate) async fn salt(&self, commitment: Commitment) -> Result<Salt, OutboxError> {
        match self.shelf.salt(commitment).await {
            Ok(Some(salt)) => Ok(salt),
            Ok(None) => Err(OutboxError::Missing { commitment }),
            Err(StoreError::Corrupt(_)) => Err(OutboxError::Corrupt { commitment }),
            Err(error) => Err(OutboxError::StoreUnavailable(error)),
        }
    }

    pub(crate) async fn close(&self) {
        self.shelf.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{Pending, Reading, Record};

    fn parts(pieces: &[&'static str]) -> Vec<Bytes> {
        pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect()
    }

    async fn read(outbox: &Outbox, commitment: Commitment) -> Result<Verified, OutboxError> {
        outbox.read_committed(vec![commitment]).await.remove(0)
    }

    fn outbox(store: Arc<dyn Store>) -> Outbox {
        Outbox::new(NodeId(1), store, 0, 1000)
    }

    #[tokio::test]
    async fn what_is_kept_is_read_back_and_the_same_batch_twice_has_two_commitments() {
        let outbox = outbox(Arc::new(MemoryStore::default()));
        let first = outbox.keep(parts(&["head", "batch"])).await.unwrap();
        let second = outbox.keep(parts(&["headbatch"])).await.unwrap();
        assert_eq!((first.size_bytes(), first.connector()), (9, NodeId(1)));
        assert_ne!(first.commitment(), second.commitment(), "each has its own salt");
        for stored in [first, second] {
            let read = read(&outbox, stored.commitment()).await.unwrap();
            assert_eq!(read.to_bytes(), "headbatch");
            let salt = outbox.salt(stored.commitment()).await.unwrap();
            assert_eq!(Commitment::new(&[b"headbatch"], &salt), stored.commitment());
        }
    }

    #[tokio::test]
    async fn a_batch_outside_the_limits_is_refused_and_what_was_never_kept_is_missing() {
        let outbox = outbox(Arc::new(MemoryStore::default()));
        for batch in [Vec::new(), vec![Bytes::new()], vec![Bytes::from(vec![0; 1001])]] {
            assert!(matches!(outbox.keep(batch).await, Err(KeepError::ClientSent { limit: 1000, .. })));
        }
        assert!(outbox.keep(vec![Bytes::from(vec![0; 1000])]).await.is_ok());
        let commitment = Commitment::new(&[b"never"], &Salt([0; 32]));
        assert_eq!(read(&outbox, commitment).await.unwrap_err(), OutboxError::Missing { commitment });
    }

    /// A medium whose own checksums notice nothing.
    #[derive(Debug, Default)]
    struct Lying(MemoryStore);

    impl Store for Lying {
        fn keep(&self, mut record: Record) -> Pending<'_, Result<(), StoreError>> {
            if record.parts.concat().starts_with(b"spoil") {
                record.parts = parts(&["Spoil me"]);
            }
            self.0.keep(record)
        }
        fn read(&self, commitments: Vec<Commitment>) -> Pending<'_, Vec<Reading>> {
            self.0.read(commitments)
        }
        fn salt(&self, commitment: Commitment) -> Pending<'_, Result<Option<Salt>, StoreError>> {
            self.0.salt(commitment)
        }
        fn close(&self) -> Pending<'_, ()> {
            self.0.close()
        }
    }

    #[tokio::test]
    async fn a_damage_that_only_the_commitment_shows_is_found_and_the_neighbours_are_whole() {
        let outbox = outbox(Arc::new(Lying::default()));
        let mut stored = Vec::new();
        for batch in ["before", "spoil me", "behind"] {
            stored.push(outbox.keep(parts(&[batch])).await.unwrap().commitment());
        }
        assert_eq!(read(&outbox, stored[0]).await.unwrap().to_bytes(), "before");
        let commitment = stored[1];
        assert_eq!(read(&outbox, commitment).await.unwrap_err(), OutboxError::Corrupt { commitment });
        assert_eq!(read(&outbox, stored[2]).await.unwrap().to_bytes(), "behind");
    }
}

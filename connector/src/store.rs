//! Where payloads are kept: one trait, so that outbox and inbox do not know what is under them.
//!
//! A store keeps bytes durably and gives them back as they are on the medium now. It does not vouch for them: whoever
//! reads verifies the commitment ([`Outbox`](crate::outbox::Outbox), [`Inbox`](crate::inbox::Inbox)). One suite of
//! tests runs over each implementation.

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use waybill_types::{Commitment, Salt};

pub mod disk;
mod index;
pub mod memory;
#[cfg(test)]
mod suite;

/// What an asynchronous method of a trait object returns.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A payload as a store takes it.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it will be asked for by.
    pub commitment: Commitment,
    /// The canonical batch, in pieces that are not copied on their way to the medium.
    pub parts: Vec<Bytes>,
    /// What closes the commitment.
    pub salt: Salt,
}

impl Record {
    /// The canonical batch's size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

/// A payload as it is on the medium now.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The canonical batch, not verified.
    pub batch: Bytes,
    /// What closes the commitment.
    pub salt: Salt,
}

/// What became of reading one payload.
pub type Reading = Result<Option<Kept>, StoreError>;

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What is on the medium is not what was written. Other payloads are not concerned.
    #[error("the payload is damaged on its medium: {0}")]
    Corrupt(String),
    /// More than the store takes in one piece.
    #[error("a payload of {size_bytes} bytes is more than the store takes")]
    TooLarge {
        /// The payload's size.
        size_bytes: usize,
    },
    /// The medium does not answer, or the store is closed.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// Keeps payloads. Many calls may be under way at once.
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Resolves when the payload is durable. Dropping the future gives up the answer, not the payload.
    fn keep(&self, record: Record) -> Pending<'_, Result<(), StoreError>>;

    /// The payloads with these commitments, in the same order; none for one that was never kept or is gone. All at once,
    /// so whoever asks sees to it that they fit into memory.
    fn read(&self, commitments: Vec<Commitment>) -> Pending<'_, Vec<Reading>>;

    /// The salt alone: for evidence over many payloads. Not verified either.
    fn salt(&self, commitment: Commitment) -> Pending<'_, Result<Option<Salt>, StoreError>>;

    /// Takes nothing more and resolves when all that was taken is durable.
    fn close(&self) -> Pending<'_, ()>;
}

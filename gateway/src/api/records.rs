//! Looking into batches, for the APIs that must: not where other clients' requests are handled, if it may take long.

use crate::batch::{Canonical, Codec};
use crate::error::Refusal;
use tokio::sync::Semaphore;

/// What is not compressed and no larger takes microseconds.
const AT_ONCE_BYTES_MAX: u32 = 64 * 1024;
/// Batches that are decompressed at a time: each may take tens of megabytes for the codec's window.
const AT_A_TIME: usize = 4;

static LOOKING: Semaphore = Semaphore::const_new(AT_A_TIME);

/// Reads the records of a batch.
pub(super) async fn look_into<T: Send + 'static>(
    batch: &Canonical,
    look: impl FnOnce(&Canonical) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let facts = batch.facts();
    if facts.codec == Codec::None && facts.size_bytes <= AT_ONCE_BYTES_MAX {
        return Ok(look(batch));
    }
    let turn = LOOKING.acquire().await.map_err(|_| Refusal::Internal)?;
    let batch = batch.clone();
    let looking = move || {
        // Kept until it is done, also if the client has gone.
        let _turn = turn;
        look(&batch)
    };
    tokio::task::spawn_blocking(looking).await.map_err(|error| {
        tracing::error!(%error, "looking into a batch failed");
        Refusal::Internal
    })
}

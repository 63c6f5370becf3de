//! Receiving a snapshot from the leader.
//!
//! openraft could do this itself, but it would purge the log before the snapshot is installed: a crash between the two would lose
//! both. So the snapshot is received, verified and made durable here, and only then openraft is told. If a crash comes after that,
//! the machine is brought up to it at the next start.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use openraft::Snapshot;
use openraft::raft::InstallSnapshotRequest;
use tokio::sync::Mutex;

use super::machine::Machine;
use super::message::ChunkAnswer;
use super::snapshot::{Snapshots, Stored};
use super::types::{Raft, SnapshotMeta, TypeConfig, Vote};

/// Receives one snapshot at a time; a chunk of another one takes its place.
pub(super) struct Incoming {
    raft: Raft,
    machine: Arc<dyn Machine>,
    snapshots: Arc<Snapshots>,
    partial: Arc<Mutex<Option<Partial>>>,
}

struct Partial {
    meta: SnapshotMeta,
    path: PathBuf,
    file: File,
    next_offset: u64,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already, if it was adopted.
        let _may_be_gone = std::fs::remove_file(&self.path);
    }
}

/// Why a chunk is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("the snapshot is refused: {0}")]
    Snapshot(#[from] io::Error),
    #[error("this member has stopped")]
    Stopped,
}

impl Incoming {
    pub fn new(raft: Raft, machine: Arc<dyn Machine>, snapshots: Arc<Snapshots>) -> Self {
        Self { raft, machine, snapshots, partial: Arc::default() }
    }

    pub async fn handle_chunk(
        self: Arc<Self>,
        chunk: InstallSnapshotRequest<TypeConfig>,
    ) -> Result<ChunkAnswer, ChunkError> {
        let state = self.raft.with_raft_state(|state| (*state.vote_ref(), state.committed)).await;
        let (my_vote, committed) = state.map_err(|_| ChunkError::Stopped)?;
        if chunk.vote < my_vote {
            return Ok(ChunkAnswer::Taken(my_vote));
        }
        if chunk.meta.last_log_id <= committed {
            // There is nothing in it for this member; the leader may go on after it.
            return Ok(ChunkAnswer::Taken(my_vote));
        }
        let (vote, done) = (chunk.vote, chunk.done);
        let mut partial = Arc::clone(&self.partial).lock_owned().await;
        let Some(received) = self.receive(partial.take(), chunk).await? else { return Ok(ChunkAnswer::Mismatch) };
        if !done {
            *partial = Some(received);
            return Ok(ChunkAnswer::Taken(my_vote));
        }
        // This may outlast the patience of whoever asked, and must not be begun again then: further chunks wait for it.
        let installed = tokio::spawn(async move {
            let _one_at_a_time = partial;
            self.install(vote, received).await
        });
        Ok(ChunkAnswer::Taken(installed.await.map_err(io::Error::other)??))
    }

    async fn install(&self, vote: Vote, received: Partial) -> Result<Vote, ChunkError> {
        let stored = self.store(received).await?;
        let file = Box::new(tokio::fs::File::from_std(stored.open()?));
        let snapshot = Snapshot { meta: stored.meta, snapshot: file };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        installed.map(|installed| installed.vote).map_err(|_| ChunkError::Stopped)
    }

    /// Adds a chunk to what came before; `None` if it does not fit there.
    async fn receive(
        &self,
        partial: Option<Partial>,
        chunk: InstallSnapshotRequest<TypeConfig>,
    ) -> io::Result<Option<Partial>> {
        let continued = partial.filter(|partial| partial.meta == chunk.meta && chunk.offset <= partial.next_offset);
        let snapshots = Arc::clone(&self.snapshots);
        blocking(move || {
            let mut partial = match continued {
                Some(partial) => partial,
                None if chunk.offset == 0 => {
                    let (path, file) = snapshots.create()?;
                    Partial { meta: chunk.meta, path, file, next_offset: 0 }
                }
                None => return Ok(None),
            };
            // A chunk that came before, and whose answer was lost, is written again in its place.
            partial.file.seek(SeekFrom::Start(chunk.offset))?;
            partial.file.write_all(&chunk.data)?;
            partial.next_offset = chunk.offset + chunk.data.len() as u64;
            Ok(Some(partial))
        })
        .await
    }

    async fn store(&self, received: Partial) -> io::Result<Stored> {
        let (snapshots, machine) = (Arc::clone(&self.snapshots), Arc::clone(&self.machine));
        blocking(move || {
            received.file.set_len(received.next_offset)?;
            snapshots.adopt(&received.path, |stored| {
                if stored.meta != received.meta {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not the one that was announced"));
                }
                machine.verify_snapshot(&stored.applied_bytes, &mut stored.body()?)
            })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

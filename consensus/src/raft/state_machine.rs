//! openraft's view of a [`Machine`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use tokio::fs::File;
use tokio::sync::watch;

use super::machine::Machine;
use super::snapshot::{Applied, Snapshots, Stored};
use super::types::{Answers, Entry, LogId, SnapshotMeta, StorageError, StorageIOError, StoredMembership, TypeConfig};
use super::wire::Wire;

/// A machine with its snapshots.
pub(super) struct StateMachine {
    shared: Arc<Shared>,
    applied: Applied,
}

struct Shared {
    machine: Arc<dyn Machine>,
    snapshots: Arc<Snapshots>,
    /// Index of the last entry applied.
    progress: watch::Sender<Option<u64>>,
}

impl StateMachine {
    /// Brings the machine up to the newest snapshot in `dir`, if it is behind: its own storage may have lost what was not yet
    /// synced, a snapshot has not.
    pub fn open(machine: Arc<dyn Machine>, dir: &Path) -> io::Result<Self> {
        let snapshots = Arc::new(Snapshots::open(dir)?);
        let mut applied = applied_of(&*machine)?;
        if let Some(stored) = snapshots.newest().filter(|stored| applied.log_id < stored.applied.log_id) {
            machine.install_snapshot(stored.applied_bytes.clone(), &mut stored.body()?)?;
            applied = stored.applied;
        }
        let (progress, _) = watch::channel(applied.log_id.map(|log_id| log_id.index));
        Ok(Self { shared: Arc::new(Shared { machine, snapshots, progress }), applied })
    }

    pub fn snapshots(&self) -> Arc<Snapshots> {
        Arc::clone(&self.shared.snapshots)
    }

    /// Index of the last entry applied, as it changes.
    pub fn progress(&self) -> watch::Receiver<Option<u64>> {
        self.shared.progress.subscribe()
    }
}

fn applied_of(machine: &dyn Machine) -> io::Result<Applied> {
    match machine.applied() {
        Some(meta) => Applied::from_wire(&meta).map_err(io::Error::other),
        None => Ok(Applied::default()),
    }
}

impl Shared {
    fn apply_all(&self, mut applied: Applied, entries: Vec<Entry>) -> Result<(Applied, Vec<Answers>), StorageError> {
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let log_id = entry.log_id;
            let answered = self.apply(&mut applied, entry);
            answers.push(answered.map_err(|error| StorageIOError::apply(log_id, AnyError::new(&error)))?);
        }
        self.progress.send_replace(applied.log_id.map(|log_id| log_id.index));
        Ok((applied, answers))
    }

    /// Applies one entry. The commands of it that were applied before a crash are not applied again; nobody waits for their answers.
    fn apply(&self, applied: &mut Applied, entry: Entry) -> io::Result<Answers> {
        let commands = match entry.payload {
            EntryPayload::Normal(commands) => commands.0,
            EntryPayload::Blank => Arc::from([]),
            EntryPayload::Membership(membership) => {
                applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                Arc::from([])
            }
        };
        let done = Applied { log_id: Some(entry.log_id), partial: 0, membership: applied.membership.clone() };
        let Some(last) = commands.len().checked_sub(1) else {
            self.machine.apply(done.to_wire(), None)?;
            *applied = done;
            return Ok(Answers(Vec::new()));
        };
        let mut answers = vec![Bytes::new(); commands.len().min(applied.partial as usize)];
        for (at, command) in commands.iter().enumerate().skip(applied.partial as usize) {
            let next = if at == last { done.clone() } else { Applied { partial: at as u32 + 1, ..applied.clone() } };
            answers.push(self.machine.apply(next.to_wire(), Some(command))?);
            *applied = next;
        }
        Ok(Answers(answers))
    }

    /// The snapshot is normally the newest already, since it was stored before openraft was told of it.
    fn install(&self, meta: &SnapshotMeta, mut file: std::fs::File) -> io::Result<Applied> {
        let stored = match self.snapshots.newest().filter(|newest| newest.meta == *meta) {
            Some(stored) => stored,
            None => self.snapshots.copy(&mut file)?,
        };
        if stored.meta != *meta {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not the one that was announced"));
        }
        self.machine.install_snapshot(stored.applied_bytes.clone(), &mut stored.body()?)?;
        self.progress.send_replace(stored.applied.log_id.map(|log_id| log_id.index));
        Ok(stored.applied)
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StorageIOError::write_state_machine(AnyError::new(&error)).into())
}

fn opened(stored: Stored) -> io::Result<Snapshot<TypeConfig>> {
    let file = File::from_std(stored.open()?);
    Ok(Snapshot { meta: stored.meta, snapshot: Box::new(file) })
}

fn read_snapshot(error: io::Error) -> StorageError {
    StorageIOError::read_snapshot(None, AnyError::new(&error)).into()
}

fn write_snapshot(error: io::Error) -> StorageError {
    StorageIOError::write_snapshot(None, AnyError::new(&error)).into()
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied.log_id, self.applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let (shared, applied) = (Arc::clone(&self.shared), self.applied.clone());
        let (applied, answers) = blocking(move || shared.apply_all(applied, entries)).await??;
        self.applied = applied;
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { shared: Arc::clone(&self.shared) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<File>, StorageError> {
        // Snapshots of peers do not come this way but through `incoming`. The file has no name: it goes when it is closed.
        let (path, file) = self.shared.snapshots.create().map_err(write_snapshot)?;
        std::fs::remove_file(path).map_err(write_snapshot)?;
        Ok(Box::new(File::from_std(file)))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<File>) -> Result<(), StorageError> {
        let (shared, meta, file) = (Arc::clone(&self.shared), meta.clone(), snapshot.into_std().await);
        self.applied = blocking(move || shared.install(&meta, file)).await?.map_err(write_snapshot)?;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.shared.snapshots.newest().map(opened).transpose().map_err(read_snapshot)
    }
}

/// Makes a snapshot beside the state machine's work.
pub(super) struct SnapshotBuilder {
    shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let shared = Arc::clone(&self.shared);
        let made = blocking(move || shared.snapshots.make(|out| shared.machine.write_snapshot(out))).await?;
        made.and_then(opened).map_err(write_snapshot)
    }
}

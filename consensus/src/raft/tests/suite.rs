//! openraft's own suite over our log and state machine.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::super::state_machine::StateMachine;
use super::super::types::{StorageError, TypeConfig};
use super::super::{LogStore, Options};
use super::harness::{Tally, open_log};

struct Builder {
    cache_bytes_limit: u64,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new("suite");
        options.cache_bytes_limit = self.cache_bytes_limit;
        let (_journal, log) = open_log(&dir.path().join("journal"), 1 << 20, &options).await;
        let machine = StateMachine::open(Arc::new(Tally::default()), &dir.path().join("snapshots")).unwrap();
        Ok((dir, log, machine))
    }
}

#[test]
fn openraft_suite_with_entries_from_memory() {
    Suite::test_all(Builder { cache_bytes_limit: 1 << 20 }).unwrap();
}

#[test]
fn openraft_suite_with_entries_from_the_journal() {
    Suite::test_all(Builder { cache_bytes_limit: 0 }).unwrap();
}

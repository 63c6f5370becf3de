//! What survives a crash: votes, torn tails, half-applied entries, lost files.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use tokio::sync::oneshot;

use super::super::state_machine::StateMachine;
use super::super::types::{Commands, Entry, LogId, Vote};
use super::super::{Group, Machine, Options, Setup, StartError};
use super::harness::{Cluster, End, GROUP, Tally, copy_dir, open_log};

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64, commands: &[&'static str]) -> Entry {
    let commands = commands.iter().map(|command| Bytes::from_static(command.as_bytes())).collect();
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Commands(commands)) }
}

async fn append(log: &super::super::LogStore, entries: Vec<Entry>) {
    let (done, synced) = oneshot::channel();
    log.append_entries(entries, move || done.send(()).unwrap()).await.unwrap();
    synced.await.unwrap();
}

/// Overwrites the end of what was written to the only segment, as if its last block had not reached the disk.
fn tear(journal: &Path, bytes: usize) {
    let segment = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let path = segment.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).max().unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    let end = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    file.seek(SeekFrom::Start((end - bytes) as u64)).unwrap();
    file.write_all(&vec![0; bytes]).unwrap();
}

#[tokio::test]
async fn a_vote_is_on_the_disk_when_it_counts_as_saved_and_entries_when_they_count_as_appended() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = Options::new("test");
    let (_journal, mut log) = open_log(dir.path(), 1 << 20, &options).await;
    append(&log, vec![entry(1, 0, &["a"]), entry(1, 1, &["b", "c"])]).await;
    log.save_vote(&Vote::new(7, 3)).await.unwrap();
    copy_dir(dir.path(), crashed.path());

    let (_journal, mut log) = open_log(crashed.path(), 1 << 20, &options).await;
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(7, 3)));
    let entries = log.try_get_log_entries(..).await.unwrap();
    assert!(entries == [entry(1, 0, &["a"]), entry(1, 1, &["b", "c"])]);
}

#[tokio::test]
async fn a_torn_tail_costs_what_was_being_written_and_nothing_before() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = Options::new("test");
    let (_journal, mut log) = open_log(dir.path(), 1 << 20, &options).await;
    log.save_vote(&Vote::new(2, 1)).await.unwrap();
    append(&log, vec![entry(1, 0, &["first"])]).await;
    append(&log, vec![entry(1, 1, &["second, which the disk did not get whole"])]).await;
    copy_dir(dir.path(), crashed.path());
    tear(crashed.path(), 20);

    let (_journal, mut log) = open_log(crashed.path(), 1 << 20, &options).await;
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(2, 1)));
    assert!(log.try_get_log_entries(..).await.unwrap() == [entry(1, 0, &["first"])]);
    append(&log, vec![entry(2, 1, &["another"])]).await;
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(2, 1)));
}

#[tokio::test]
async fn truncation_purge_and_commit_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new("test");
    let (journal, mut log) = open_log(dir.path(), 1 << 20, &options).await;
    append(&log, (0..8).map(|index| entry(1, index, &["x"])).collect()).await;
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    log.save_committed(Some(log_id(1, 4))).await.unwrap();
    log.truncate(log_id(1, 6)).await.unwrap();
    log.purge(log_id(1, 2)).await.unwrap();
    append(&log, vec![entry(3, 6, &["y"])]).await;
    drop(log);
    journal.close();
    drop(journal);

    let (_journal, mut log) = open_log(dir.path(), 1 << 20, &options).await;
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 2)), Some(log_id(3, 6))));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 4)));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
    let found = log.try_get_log_entries(..).await.unwrap();
    let ids: Vec<_> = found.iter().map(|entry| entry.log_id).collect();
    assert_eq!(ids, [log_id(1, 3), log_id(1, 4), log_id(1, 5), log_id(3, 6)]);
}

#[tokio::test]
async fn a_log_moves_out_of_old_segments_so_that_they_can_go() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new("test");
    let (journal, mut log) = open_log(dir.path(), 8192, &options).await;
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    append(&log, (0..5).map(|index| entry(1, index, &["kept"])).collect()).await;
    // Somebody else fills the journal.
    for _ in 0..10 {
        let (done, written) = oneshot::channel();
        let other = waybill_ledger::journal::StreamId([9; 16]);
        journal.append(other, vec![Bytes::from(vec![1; 3000])], move |at| done.send(at).unwrap()).unwrap();
        written.await.unwrap();
    }
    assert_eq!(log.oldest_needed().unwrap().segment, 1);
    let (done, synced) = oneshot::channel();
    log.move_out_of(5).unwrap();
    journal.sync(move || done.send(()).unwrap()).unwrap();
    synced.await.unwrap();
    let oldest = log.oldest_needed().unwrap();
    assert!(oldest.segment >= 5, "{oldest}");
    assert!(journal.remove_segments_before(oldest).unwrap() >= 4);
    drop(log);
    journal.close();
    drop(journal);

    let (_journal, mut log) = open_log(dir.path(), 8192, &options).await;
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
    let expected: Vec<_> = (0..5).map(|index| entry(1, index, &["kept"])).collect();
    assert!(log.try_get_log_entries(..).await.unwrap() == expected);
}

#[tokio::test]
async fn a_crash_within_an_entry_repeats_none_of_its_commands_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Arc::new(Tally::default());
    *machine.fails_at.lock() = Some(3);
    let open = || StateMachine::open(Arc::clone(&machine) as Arc<dyn Machine>, dir.path()).unwrap();
    let entries = || vec![entry(1, 0, &["a"]), entry(1, 1, &["b", "c", "d", "e"]), entry(1, 2, &["f"])];
    let mut state = open();
    assert!(state.apply(entries()).await.is_err());
    assert_eq!(machine.commands(), ["a", "b", "c"]);

    let mut state_again = open();
    assert_eq!(state_again.applied_state().await.unwrap().0, Some(log_id(1, 0)));
    let answers = state_again.apply(entries().split_off(1)).await.unwrap();
    assert_eq!(machine.commands(), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!((answers.len(), answers[0].0.len()), (2, 4));
}

#[tokio::test]
async fn a_machine_that_lost_its_last_writes_is_brought_up_to_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = StateMachine::open(Arc::new(Tally::default()), dir.path()).unwrap();
    state.apply(vec![entry(1, 0, &["a", "b"]), entry(1, 1, &["c"])]).await.unwrap();
    state.get_snapshot_builder().await.build_snapshot().await.unwrap();

    let behind = Arc::new(Tally::default());
    let mut state = StateMachine::open(Arc::clone(&behind) as Arc<dyn Machine>, dir.path()).unwrap();
    assert_eq!(behind.commands(), ["a", "b", "c"]);
    assert_eq!(state.applied_state().await.unwrap().0, Some(log_id(1, 1)));
    state.apply(vec![entry(1, 2, &["d"])]).await.unwrap();
    // One that is ahead of the snapshot is left alone.
    let mut state = StateMachine::open(Arc::clone(&behind) as Arc<dyn Machine>, dir.path()).unwrap();
    assert_eq!(state.applied_state().await.unwrap().0, Some(log_id(1, 2)));
    assert_eq!(behind.commands().len(), 4);
}

#[tokio::test]
async fn a_member_that_lost_its_log_or_its_state_does_not_start() {
    let mut cluster = Cluster::off(1);
    cluster.options.snapshot_after_entries = 10;
    cluster.options.kept_entries = 0;
    cluster.start_all().await;
    cluster.write_many(1, "c", 30).await;
    cluster.status_of(1, |status| status.purged_index >= Some(10)).await;
    cluster.stop_all().await;

    let start = async |journal: &Path, snapshots: &Path| {
        let (_journal, log) = open_log(journal, 1 << 20, &cluster.options).await;
        let transport = End { net: Arc::clone(&cluster.net), from: 1 };
        let (snapshots, machine) = (snapshots.to_owned(), Arc::new(Tally::default()));
        let (members, options) = (cluster.ids.clone(), cluster.options.clone());
        Group::start(Setup { id: 1, group: GROUP, members, log, machine, snapshots, transport, options }).await
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let (journal, snapshots) = (cluster.journal_dir(1), cluster.snapshot_dir(1));
    let lost_state = start(&journal, &elsewhere.path().join("snapshots")).await.err();
    assert!(matches!(lost_state, Some(StartError::StateLost { applied: None, .. })), "{lost_state:?}");
    let lost_log = start(&elsewhere.path().join("journal"), &snapshots).await.err();
    assert!(matches!(lost_log, Some(StartError::LogLost { .. })), "{lost_log:?}");
    start(&journal, &snapshots).await.unwrap().shutdown().await;
}

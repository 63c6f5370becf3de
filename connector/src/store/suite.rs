//! One suite over every implementation of [`Store`], and what the disk store alone can be tested for: crashes, damage,
//! a lost index.

use super::disk::{DiskOptions, DiskStore};
use super::index::Index;
use super::memory::MemoryStore;
use super::{Reading, Record, Store, StoreError};
use bytes::Bytes;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use waybill_types::{Commitment, Salt};

/// A payload whose bytes are unlike every other's.
fn record(number: u32, size: usize) -> Record {
    let batch: Vec<u8> =
        (0..size as u32).map(|at| (at ^ number.wrapping_mul(2_654_435_761)).to_be_bytes()[3]).collect();
    let salt = Salt([number as u8; 32]);
    let commitment = Commitment::new(&[&number.to_be_bytes(), &batch], &salt);
    Record { commitment, parts: vec![Bytes::copy_from_slice(&number.to_be_bytes()), Bytes::from(batch)], salt }
}

async fn read(store: &dyn Store, record: &Record) -> Reading {
    let mut readings = store.read(vec![record.commitment]).await;
    assert_eq!(readings.len(), 1);
    readings.remove(0)
}

async fn is_kept(store: &dyn Store, record: &Record) -> bool {
    let kept = read(store, record).await.unwrap();
    kept.is_some_and(|kept| kept.batch == record.parts.concat() && kept.salt == record.salt)
}

async fn what_is_kept_is_read_back(store: &dyn Store) {
    for (number, size) in [(1, 0), (2, 1), (3, 4000), (4, 4096), (5, 100_000), (6, 3_000_000)] {
        let record = record(number, size);
        assert!(read(store, &record).await.unwrap().is_none());
        assert!(store.salt(record.commitment).await.unwrap().is_none());
        store.keep(record.clone()).await.unwrap();
        assert!(is_kept(store, &record).await, "{size} bytes");
        assert_eq!(store.salt(record.commitment).await.unwrap(), Some(record.salt));
    }
}

async fn a_payload_may_be_kept_again(store: &dyn Store) {
    let record = record(10, 500);
    store.keep(record.clone()).await.unwrap();
    store.keep(record.clone()).await.unwrap();
    assert!(is_kept(store, &record).await);
}

async fn many_are_kept_at_once(store: Arc<dyn Store>) {
    let records: Vec<_> = (100..600).map(|number| record(number, 300 + number as usize)).collect();
    let tasks: Vec<_> = records
        .iter()
        .cloned()
        .map(|record| {
            let store = store.clone();
            tokio::spawn(async move { store.keep(record).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let mut commitments: Vec<_> = records.iter().map(|record| record.commitment).collect();
    commitments.insert(200, record(99, 0).commitment);
    let mut readings = store.read(commitments).await;
    assert!(readings.remove(200).unwrap().is_none());
    for (reading, record) in readings.into_iter().zip(&records) {
        assert_eq!(reading.unwrap().unwrap().batch, record.parts.concat());
    }
}

async fn a_closed_store_keeps_nothing_more(store: &dyn Store) {
    let record = record(20, 100);
    store.close().await;
    assert!(matches!(store.keep(record).await, Err(StoreError::Unavailable(_))));
}

async fn run_suite(store: Arc<dyn Store>) {
    what_is_kept_is_read_back(store.as_ref()).await;
    a_payload_may_be_kept_again(store.as_ref()).await;
    many_are_kept_at_once(store.clone()).await;
    a_closed_store_keeps_nothing_more(store.as_ref()).await;
}

/// Small segments and an index that leaves memory soon: everything that takes long in production happens at once.
fn small() -> DiskOptions {
    DiskOptions { segment_bytes: 64 << 10, queue_bytes_limit: 256 << 10, index_recent_limit: 16, sync: true }
}

fn open(dir: &Path) -> DiskStore {
    let index = sled::Config::new().path(dir.join("index")).flush_every_ms(None).open().unwrap();
    DiskStore::open("test", &dir.join("store"), index.open_tree("test").unwrap(), &small()).unwrap()
}

#[tokio::test]
async fn suite_memory() {
    run_suite(Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn suite_disk() {
    let dir = tempfile::tempdir().unwrap();
    run_suite(Arc::new(open(dir.path()))).await;
}

#[tokio::test]
async fn suite_disk_without_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let index = sled::Config::new().path(dir.path().join("index")).open().unwrap();
    let options = DiskOptions { sync: false, ..DiskOptions::default() };
    let store = DiskStore::open("test", &dir.path().join("store"), index.open_tree("test").unwrap(), &options);
    run_suite(Arc::new(store.unwrap())).await;
}

async fn keep_all(store: &dyn Store, numbers: std::ops::Range<u32>) -> Vec<Record> {
    let mut records = Vec::new();
    for number in numbers {
        let record = record(number, 900);
        store.keep(record.clone()).await.unwrap();
        records.push(record);
    }
    records
}

/// What is on the disk while the store is open is what a killed process leaves behind.
fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir, copy.path());
    copy
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_tree(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

#[tokio::test]
async fn disk_after_a_kill_all_that_was_kept_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..300).await;
    let killed = copy_of(dir.path());
    let again = open(killed.path());
    for record in &records {
        assert!(is_kept(&again, record).await);
    }
    let more = keep_all(&again, 300..320).await;
    again.close().await;
    drop(again);
    let third = open(killed.path());
    for record in records.iter().chain(&more) {
        assert!(is_kept(&third, record).await);
    }
}

#[tokio::test]
async fn disk_a_lost_or_foreign_index_is_rebuilt_from_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..200).await;
    store.close().await;
    drop(store);
    let other = tempfile::tempdir().unwrap();
    drop(open(other.path()));
    for index in [None, Some(other.path().join("index"))] {
        fs::remove_dir_all(dir.path().join("index")).unwrap();
        if let Some(index) = index {
            copy_tree(&index, &dir.path().join("index"));
        }
        let store = open(dir.path());
        for record in &records {
            assert!(is_kept(&store, record).await);
        }
    }
}

/// Opens the store, which tells of `lost`, serves all others, and tells of nothing when it opens again.
async fn opens_with_losses(dir: &Path, records: &[Record], lost: impl Fn(&Record) -> bool) {
    let lost_count = records.iter().filter(|record| lost(record)).count();
    for told in [lost_count, 0] {
        let store = open(dir);
        assert_eq!(store.lost_payloads(), told as u64);
        for record in records {
            match lost(record) {
                true => assert!(read(&store, record).await.unwrap().is_none()),
                false => assert!(is_kept(&store, record).await),
            }
        }
        store.close().await;
    }
    let store = open(dir);
    for record in records.iter().filter(|record| lost(record)) {
        store.keep(record.clone()).await.unwrap();
        assert!(is_kept(&store, record).await);
    }
}

#[tokio::test]
async fn disk_without_its_newest_segment_the_store_opens_and_tells_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..200).await;
    store.close().await;
    drop(store);
    let newest = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::remove_file(newest).unwrap();
    let lost = |record: &Record| contains(&bytes, &record.parts[1]);
    assert!(lost(&records[199]) && !lost(&records[0]));
    opens_with_losses(dir.path(), &records, lost).await;
}

#[tokio::test]
async fn disk_without_the_record_at_the_mark_the_store_opens_and_tells_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..20).await;
    store.close().await;
    drop(store);
    let segment = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&segment).unwrap();
    let last = bytes.windows(900).position(|window| window == records[19].parts[1].as_ref()).unwrap();
    // Its header begins 48 bytes before the payload, of which the first four are another part.
    fs::write(&segment, &bytes[..last - 52]).unwrap();
    opens_with_losses(dir.path(), &records, |record| record.commitment == records[19].commitment).await;
}

#[tokio::test]
async fn disk_without_its_segments_the_store_opens_and_tells_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..200).await;
    store.close().await;
    drop(store);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    opens_with_losses(dir.path(), &records, |_| true).await;
}

#[tokio::test]
async fn disk_beside_the_index_of_another_store_its_own_payloads_are_there_and_the_others_lost() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut records = Vec::new();
    for (dir, numbers) in [(&ours, 0..100), (&theirs, 100..150)] {
        let store = open(dir.path());
        records.extend(keep_all(&store, numbers).await);
        store.close().await;
    }
    fs::remove_dir_all(ours.path().join("index")).unwrap();
    copy_tree(&theirs.path().join("index"), &ours.path().join("index"));
    let (own, _) = records.split_at(100);
    let is_own = |record: &Record| own.iter().any(|own| own.commitment == record.commitment);
    opens_with_losses(ours.path(), &records, |record| !is_own(record)).await;
}

#[tokio::test]
async fn disk_a_rebuilding_that_was_interrupted_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..100).await;
    store.close().await;
    drop(store);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    let index = sled::Config::new().path(dir.path().join("index")).open().unwrap();
    Index::new(index.open_tree("test").unwrap(), 16).begin_rebuild().unwrap();
    drop(index);
    opens_with_losses(dir.path(), &records, |_| true).await;
}

/// The segment files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == "segment")).collect();
    paths.sort();
    paths
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Flips a bit of the record's first long part wherever it is in the store's files.
pub(crate) fn damage(dir: &Path, batch: &[u8]) -> PathBuf {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let found = bytes.windows(batch.len()).position(|window| window == batch);
        if let Some(at) = found {
            bytes[at + batch.len() / 2] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            return path;
        }
    }
    panic!("the payload is in no file of {}", dir.display());
}

#[tokio::test]
async fn disk_a_flipped_byte_is_found_and_its_neighbours_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..100).await;
    damage(&dir.path().join("store"), &records[50].parts[1]);
    for (number, record) in records.iter().enumerate() {
        match read(&store, record).await {
            Err(StoreError::Corrupt(_)) => assert_eq!(number, 50),
            _ => assert!(number != 50 && is_kept(&store, record).await),
        }
    }
    store.keep(records[50].clone()).await.unwrap();
    assert!(is_kept(&store, &records[50]).await, "kept again, it is whole again");
}

#[tokio::test]
async fn disk_with_damage_in_a_full_segment_the_store_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..200).await;
    store.close().await;
    drop(store);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    damage(&dir.path().join("store"), &records[10].parts[1]);
    let store = open(dir.path());
    assert!(matches!(read(&store, &records[10]).await, Err(StoreError::Corrupt(_))));
    assert!(is_kept(&store, &records[9]).await && is_kept(&store, &records[11]).await);
}

#[tokio::test]
async fn disk_with_damage_in_the_last_segment_the_store_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = keep_all(&store, 0..10).await;
    let killed = copy_of(dir.path());
    store.close().await;
    drop(store);
    for dir in [dir, killed] {
        damage(&dir.path().join("store"), &records[5].parts[1]);
        let store = open(dir.path());
        assert_eq!(store.lost_payloads(), 0, "it is there, and its reader will see");
        assert!(matches!(read(&store, &records[5]).await, Err(StoreError::Corrupt(_))));
        for record in records[..5].iter().chain(&records[6..]) {
            assert!(is_kept(&store, record).await);
        }
    }
}

//! The journal against real files. A crash is a copy of the directory taken while the journal runs, with some of what was not yet
//! synced taken away: that is what a machine leaves behind.

mod append;
mod measures;
mod properties;
mod recovery;
mod reuse;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

const STREAM: StreamId = StreamId(*b"a stream of test");

fn options() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::new("test") }
}

/// What a visitor saw.
type Seen = Vec<(Position, StreamId, Bytes)>;

fn open_with(dir: &Path, options: Options) -> Result<(Journal, Seen), OpenError> {
    let mut seen = Seen::new();
    let journal = Journal::open(dir, options, &mut |mut visited| {
        seen.push((visited.position, visited.stream, visited.payload()?));
        Ok(())
    })?;
    Ok((journal, seen))
}

fn open(dir: &Path) -> Result<(Journal, Seen), OpenError> {
    open_with(dir, options())
}

/// The payloads that a journal in `dir` contains.
fn contents(dir: &Path) -> Result<Vec<Bytes>, OpenError> {
    Ok(open(dir)?.1.into_iter().map(|(_, _, payload)| payload).collect())
}

/// Appends and waits.
fn append(journal: &Journal, payload: impl Into<Bytes>) -> Position {
    append_group(journal, [payload.into()])[0]
}

/// Appends as one group, written and synced at once, and waits.
fn append_group(journal: &Journal, payloads: impl IntoIterator<Item = Bytes>) -> Vec<Position> {
    let (send, receive) = mpsc::channel();
    let records = payloads.into_iter().map(|payload| (STREAM, vec![payload])).collect();
    journal.append_batch(records, move |positions| send.send(positions.to_vec()).unwrap()).unwrap();
    receive.recv().unwrap()
}

fn sync(journal: &Journal) {
    let (send, receive) = mpsc::channel();
    journal.sync(move || send.send(()).unwrap()).unwrap();
    receive.recv().unwrap();
}

/// The files as a crash at this moment leaves them, everything written being on the disk.
fn crashed_copy(dir: &Path) -> TempDir {
    let copy = TempDir::new_in(dir.parent().unwrap()).unwrap();
    for path in segment_files(dir) {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    files(dir, "segment")
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == suffix)).collect();
    paths.sort();
    paths
}

/// A directory with one segment of these bytes. In memory where that can be had: thousands of them are opened, written and synced.
fn journal_of(bytes: &[u8]) -> TempDir {
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    fs::write(directory::segment_path(dir.path(), 1), bytes).unwrap();
    dir
}

/// The bytes of segment 1 at this moment.
fn first_segment(dir: &Path) -> Vec<u8> {
    fs::read(directory::segment_path(dir, 1)).unwrap()
}

fn payload(index: usize, length: usize) -> Bytes {
    (0..length).map(|at| (index * 31 + at * 7) as u8).collect()
}

#[track_caller]
fn assert_corrupt(result: Result<(Journal, Seen), OpenError>, expected_file: &Path, expected_offset: u64) {
    match result {
        Err(OpenError::Corrupt { file, offset, .. }) => {
            assert_eq!((file.as_path(), offset), (expected_file, expected_offset))
        }
        Err(other) => panic!("{other}"),
        Ok((_, seen)) => panic!("it opened with {} records", seen.len()),
    }
}

//! What the journal does on this machine's disk: `cargo run --release -p waybill-ledger --example journal_bench [DIRECTORY]`.
//! Give a directory on the disk in question; the system's temporary one is often in memory.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use waybill_ledger::journal::{AppendError, Journal, Options, Position, StreamId, SyncMode};

const STREAM: StreamId = StreamId(*b"the journalbench");

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let base = std::env::args().nth(1).unwrap_or_else(|| std::env::temp_dir().display().to_string());
    for (name, sync) in [("synced", SyncMode::Always), ("not synced", SyncMode::Os)] {
        let dir = tempfile::tempdir_in(&base)?;
        let (journal, _) = open(dir.path(), sync)?;
        println!("{name}");
        for (threads, record_bytes, count) in
            [(1, 200, 400_000), (4, 200, 400_000), (1, 16 << 10, 60_000), (1, 1 << 20, 2_000), (2, 16 << 20, 120)]
        {
            throughput(&journal, threads, record_bytes, count)?;
        }
        one_at_a_time(&journal, "one at a time, 200 B, fresh segments")?;
        let last = journal.remove_segments_before(Position { segment: u64::MAX, offset: 0 })?;
        fill_segment(&journal)?;
        one_at_a_time(&journal, "one at a time, 200 B, reused segments")?;
        println!("  ({last} segments removed)");
    }
    reopening(&base)
}

fn open(dir: &Path, sync: SyncMode) -> Result<(Journal, u64), Failure> {
    let mut records = 0;
    let journal = Journal::open(dir, Options { sync, ..Options::new("bench") }, &mut |_| {
        records += 1;
        Ok(())
    })?;
    Ok((journal, records))
}

/// Appends as fast as the queue takes them.
fn throughput(journal: &Journal, threads: usize, record_bytes: usize, count: usize) -> Result<(), Failure> {
    let payload = Bytes::from(vec![0x5a; record_bytes]);
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (done, payload) = (Arc::clone(&done), payload.clone());
            scope.spawn(move || {
                for _ in 0..count / threads {
                    let done = Arc::clone(&done);
                    append_when_there_is_room(journal, &payload, move || {
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    barrier(journal)?;
    let seconds = started.elapsed().as_secs_f64();
    let done = done.load(Ordering::Relaxed) as f64;
    let megabytes = done * record_bytes as f64 / 1e6;
    println!("  {threads} x {record_bytes:>9} B: {:>9.0} records/s {:>7.0} MB/s", done / seconds, megabytes / seconds);
    Ok(())
}

fn append_when_there_is_room(journal: &Journal, payload: &Bytes, done: impl Fn() + Clone + Send + 'static) {
    loop {
        let done = done.clone();
        match journal.append(STREAM, vec![payload.clone()], move |_| done()) {
            Err(AppendError::QueueFull { .. }) => std::thread::sleep(Duration::from_micros(200)),
            Err(error) => {
                eprintln!("{error}");
                return;
            }
            Ok(()) => return,
        }
    }
}

/// Brings the writer into the next segment.
fn fill_segment(journal: &Journal) -> Result<(), Failure> {
    let payload = Bytes::from(vec![0; 60 << 20]);
    journal.append(STREAM, vec![payload], |_| ())?;
    barrier(journal)
}

fn one_at_a_time(journal: &Journal, what: &str) -> Result<(), Failure> {
    let mut micros = Vec::new();
    let (send, receive) = mpsc::channel();
    for _ in 0..2_000 {
        let send = send.clone();
        let started = Instant::now();
        let payload = Bytes::from_static(&[0x33; 200]);
        journal.append(STREAM, vec![payload], move |position| {
            // The receiver waits below.
            let _ = send.send(position);
        })?;
        receive.recv()?;
        micros.push(started.elapsed().as_micros());
    }
    micros.sort_unstable();
    let (p50, p99) = (micros[micros.len() / 2], micros[micros.len() * 99 / 100]);
    println!("  {what}: p50 {p50} us, p99 {p99} us");
    Ok(())
}

fn barrier(journal: &Journal) -> Result<(), Failure> {
    let (send, receive) = mpsc::channel();
    journal.sync(move || {
        // The receiver waits below.
        let _ = send.send(());
    })?;
    Ok(receive.recv()?)
}

fn reopening(base: &str) -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(base)?;
    let (journal, _) = open(dir.path(), SyncMode::Os)?;
    throughput(&journal, 1, 1000, 500_000)?;
    drop(journal);
    let started = Instant::now();
    let (_, records) = open(dir.path(), SyncMode::Os)?;
    println!("reopened with {records} records of 1000 B in {} ms", started.elapsed().as_millis());
    Ok(())
}

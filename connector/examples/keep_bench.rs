//! How fast payloads become durable, layer by layer, beside what the disk takes by itself in the same run:
//! `keep_bench [DIRECTORY] [SECONDS per line] [BYTES of a payload]`. Compare lines of one run only; on a machine that is
//! not idle, only the CPU time.

use bytes::Bytes;
use std::error::Error;
use std::fs::{self, File};
use std::future::Future;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use waybill_connector::Outbox;
use waybill_connector::store::disk::{DiskOptions, DiskStore};
use waybill_connector::store::{Record, Store};
use waybill_ledger::journal::{self, Journal, StreamId};
use waybill_types::{Commitment, Digest, NodeId, Salt};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// One line of the table.
struct Load {
    size_bytes: usize,
    /// Keeps under way at once.
    concurrency: usize,
    duration: Duration,
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| "keep_bench.tmp".into()));
    let duration = Duration::from_secs_f64(arguments.next().map_or(Ok(3.0), |seconds| seconds.parse())?);
    let only = arguments.next().map(|bytes| bytes.parse::<usize>()).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{:<34} {:>12} {:>10} {:>12}", "", "per second", "MB/s", "CPU us each");
    raw_disk(&dir, duration)?;
    for (size_bytes, concurrency) in [(300, 1), (300, 64), (300, 2048), (16 << 10, 512), (1 << 20, 32)] {
        if only.is_some_and(|only| only != size_bytes) {
            continue;
        }
        let load = Load { size_bytes, concurrency, duration };
        journal(&dir, &load)?;
        let still = DiskOptions { index_recent_limit: usize::MAX, ..DiskOptions::default() };
        runtime.block_on(store(&dir, "store, index in memory", &load, &still))?;
        runtime.block_on(store(&dir, "store", &load, &DiskOptions::default()))?;
        runtime.block_on(outbox(&dir, &load))?;
    }
    Ok(())
}

/// Writing and syncing 16 MiB at a time over blocks that are there: the most that a single writer can hope for.
fn raw_disk(dir: &Path, duration: Duration) -> Outcome<()> {
    let dir = fresh(dir)?;
    let piece = vec![7; 16 << 20];
    let mut file = File::create(dir.join("file"))?;
    for _ in 0..4 {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let meter = Meter::start();
    let mut written = 0;
    while meter.started.elapsed() < duration {
        if written % 4 == 0 {
            file.rewind()?;
        }
        file.write_all(&piece)?;
        file.sync_data()?;
        written += 1;
    }
    meter.print("disk, 16 MiB per sync", written, piece.len());
    fs::remove_dir_all(dir)?;
    Ok(())
}

fn journal(dir: &Path, load: &Load) -> Outcome<()> {
    let dir = fresh(dir)?;
    let journal =
        Journal::open(&dir, journal::Options { spare_segments: 0, ..journal::Options::new("bench") }, &mut |_| Ok(()))?;
    let (payload, done) = (Bytes::from(vec![7; load.size_bytes]), Arc::new(AtomicU64::new(0)));
    let meter = Meter::start();
    let mut appended = 0;
    while meter.started.elapsed() < load.duration {
        if appended - done.load(Ordering::Relaxed) >= load.concurrency as u64 {
            std::thread::yield_now();
            continue;
        }
        let done = done.clone();
        journal.append(StreamId([7; 16]), vec![payload.clone()], move |_| {
            done.fetch_add(1, Ordering::Relaxed);
        })?;
        appended += 1;
    }
    journal.close();
    meter.print(&label("journal", load), appended, load.size_bytes);
    drop(journal);
    fs::remove_dir_all(dir)?;
    Ok(())
}

async fn store(dir: &Path, name: &str, load: &Load, options: &DiskOptions) -> Outcome<()> {
    let dir = fresh(dir)?;
    let store = Arc::new(open_store(&dir, options)?);
    let (payload, next) = (Bytes::from(vec![7; load.size_bytes]), Arc::new(AtomicU64::new(0)));
    let keeper = store.clone();
    let kept = in_parallel(load, move || {
        let (store, payload, next) = (keeper.clone(), payload.clone(), next.clone());
        async move {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let record = Record { commitment: unlike(number), parts: vec![payload], salt: Salt([1; 32]) };
            store.keep(record).await.is_ok()
        }
    });
    let meter = Meter::start();
    let kept = kept.await?;
    let meter = meter.lap();
    // What the index still has to write belongs to the cost of what was kept, unless it is left out on purpose.
    if options.index_recent_limit < usize::MAX {
        store.close().await;
    }
    meter.print(&label(name, load), kept, load.size_bytes);
    store.close().await;
    fs::remove_dir_all(dir)?;
    Ok(())
}

async fn outbox(dir: &Path, load: &Load) -> Outcome<()> {
    let dir = fresh(dir)?;
    let store = Arc::new(open_store(&dir, &DiskOptions::default())?);
    let outbox = Arc::new(Outbox::new(NodeId(1), store.clone(), 16 << 20, 64 << 20));
    let (head, rest) = (Bytes::from(vec![7; 61]), Bytes::from(vec![7; load.size_bytes - 61]));
    let meter = Meter::start();
    let kept = in_parallel(load, move || {
        let (outbox, parts) = (outbox.clone(), vec![head.clone(), rest.clone()]);
        async move { outbox.keep(parts).await.is_ok() }
    });
    let kept = kept.await?;
    let meter = meter.lap();
    store.close().await;
    meter.print(&label("outbox", load), kept, load.size_bytes);
    fs::remove_dir_all(dir)?;
    Ok(())
}

/// Repeats what `keep` makes in as many tasks as asked for, until the time is over; tells how often. Any failure is one.
async fn in_parallel<F>(load: &Load, keep: impl Fn() -> F + Clone + Send + 'static) -> Outcome<u64>
where
    F: Future<Output = bool> + Send + 'static,
{
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..load.concurrency {
        let (keep, over) = (keep.clone(), over.clone());
        tasks.push(tokio::spawn(async move {
            let mut kept = 0;
            while !over.load(Ordering::Relaxed) {
                if !keep().await {
                    return Err("a payload was not kept");
                }
                kept += 1;
            }
            Ok(kept)
        }));
    }
    tokio::time::sleep(load.duration).await;
    over.store(true, Ordering::Relaxed);
    let mut kept = 0;
    for task in tasks {
        kept += task.await??;
    }
    Ok(kept)
}

fn open_store(dir: &Path, options: &DiskOptions) -> Outcome<DiskStore> {
    let index = sled::Config::new().path(dir.join("index")).cache_capacity(8 << 20).flush_every_ms(None).open()?;
    Ok(DiskStore::open("bench", &dir.join("store"), index.open_tree("bench")?, options)?)
}

/// A commitment that costs no hash and is spread like one.
fn unlike(number: u64) -> Commitment {
    let mut bytes = [0; 32];
    let spread = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[..8].copy_from_slice(&spread.to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    Commitment(Digest(bytes))
}

fn label(name: &str, load: &Load) -> String {
    format!("{name}, {} B x {}", load.size_bytes, load.concurrency)
}

fn fresh(dir: &Path) -> Outcome<PathBuf> {
    let dir = dir.join("run");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

struct Meter {
    started: Instant,
    cpu: Duration,
    elapsed: Option<Duration>,
}

impl Meter {
    fn start() -> Self {
        Meter { started: Instant::now(), cpu: cpu_time(), elapsed: None }
    }

    /// Stops the clock, and goes on counting what the process uses.
    fn lap(self) -> Self {
        Meter { elapsed: Some(self.started.elapsed()), ..self }
    }

    fn print(self, name: &str, count: u64, size_bytes: usize) {
        let seconds = self.elapsed.unwrap_or_else(|| self.started.elapsed()).as_secs_f64();
        let cpu = cpu_time().saturating_sub(self.cpu);
        let per_second = count as f64 / seconds;
        let megabytes = per_second * size_bytes as f64 / 1e6;
        let each = cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
        println!("{name:<34} {per_second:>12.0} {megabytes:>10.1} {each:>12.2}");
    }
}

/// What this process has used, user and system; the clock of `/proc` ticks 100 times a second.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

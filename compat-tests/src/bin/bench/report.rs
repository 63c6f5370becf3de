//! The results: a table for people, JSON for programs.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use waybill_compat_tests::process::{processor_time, resident_bytes};

/// How much in how long.
pub struct Rate {
    /// Records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Seconds.
    pub seconds: f64,
}

struct RateRow {
    name: &'static str,
    mb_per_second: f64,
    records_per_second: f64,
    gigabytes: f64,
    /// Processor seconds of the network and of the load, warm-up included, per measurement.
    network_cpu_seconds: f64,
    load_cpu_seconds: f64,
    resident_mb: f64,
}

struct LatencyRow {
    name: &'static str,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// Everything that was measured.
pub struct Report {
    pid: u32,
    rates: Vec<RateRow>,
    latencies: Vec<LatencyRow>,
    cpu_seconds: f64,
    resident_mb_max: f64,
}

impl Report {
    /// An empty report about this process.
    pub fn new(pid: u32) -> Self {
        Self { pid, rates: Vec::new(), latencies: Vec::new(), cpu_seconds: 0.0, resident_mb_max: 0.0 }
    }

    /// Runs one measurement of a rate and keeps its row.
    pub fn rate(&mut self, name: &'static str, measure: impl FnOnce() -> Rate) {
        let before = (processor_time(self.pid), processor_time(std::process::id()));
        let rate = measure();
        let after = (processor_time(self.pid), processor_time(std::process::id()));
        let resident_mb = megabytes(resident_bytes(self.pid));
        self.resident_mb_max = self.resident_mb_max.max(resident_mb);
        self.rates.push(RateRow {
            name,
            mb_per_second: rate.bytes as f64 / 1e6 / rate.seconds,
            records_per_second: rate.records as f64 / rate.seconds,
            gigabytes: rate.bytes as f64 / 1e9,
            network_cpu_seconds: (after.0 - before.0).as_secs_f64(),
            load_cpu_seconds: (after.1 - before.1).as_secs_f64(),
            resident_mb,
        });
        eprintln!("{name}: {:.0} MB/s", self.rates.last().map_or(0.0, |row| row.mb_per_second));
    }

    /// Keeps the percentiles of these times.
    pub fn latency(&mut self, name: &'static str, mut times: Vec<Duration>) {
        times.sort_unstable();
        let at = |share: f64| {
            let index = ((times.len() - 1) as f64 * share).round() as usize;
            times[index].as_secs_f64() * 1e3
        };
        let row = LatencyRow { name, p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: at(1.0) };
        self.latencies.push(row);
    }

    /// Notes what the whole run has cost.
    pub fn finish(&mut self) {
        self.cpu_seconds = processor_time(self.pid).as_secs_f64();
        self.resident_mb_max = self.resident_mb_max.max(megabytes(resident_bytes(self.pid)));
    }

    /// The same as JSON, units in the names.
    pub fn to_json(&self) -> String {
        let rate = |row: &RateRow| -> Value {
            json!({
                "name": row.name, "mb_per_second": row.mb_per_second, "records_per_second": row.records_per_second,
                "gigabytes": row.gigabytes, "network_cpu_seconds": row.network_cpu_seconds,
                "load_cpu_seconds": row.load_cpu_seconds, "resident_mb": row.resident_mb,
            })
        };
        let latency = |row: &LatencyRow| -> Value {
            json!({
                "name": row.name, "p50_ms": row.p50_ms, "p99_ms": row.p99_ms, "p999_ms": row.p999_ms, "max_ms": row.max_ms,
            })
        };
        let report = json!({
            "rates": self.rates.iter().map(rate).collect::<Vec<_>>(),
            "latencies": self.latencies.iter().map(latency).collect::<Vec<_>>(),
            "network_cpu_seconds": self.cpu_seconds, "resident_mb_max": self.resident_mb_max,
        });
        format!("{report:#}\n")
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<40} {:>8} {:>11} {:>7} {:>14} {:>11} {:>8}",
            "", "MB/s", "records/s", "GB", "network CPU s", "load CPU s", "RSS MB"
        )?;
        for row in &self.rates {
            writeln!(
                f,
                "{:<40} {:>8.0} {:>11.0} {:>7.2} {:>14.1} {:>11.1} {:>8.0}",
                row.name,
                row.mb_per_second,
                row.records_per_second,
                row.gigabytes,
                row.network_cpu_seconds,
                row.load_cpu_seconds,
                row.resident_mb
            )?;
        }
        writeln!(f, "\n{:<40} {:>8} {:>8} {:>8} {:>8}", "", "p50 ms", "p99 ms", "p99.9 ms", "max ms")?;
        for row in &self.latencies {
            let LatencyRow { name, p50_ms, p99_ms, p999_ms, max_ms } = row;
            writeln!(f, "{name:<40} {p50_ms:>8.2} {p99_ms:>8.2} {p999_ms:>8.2} {max_ms:>8.2}")?;
        }
        write!(
            f,
            "\nfour organisations in one process: {:.1} processor seconds, at most {:.0} MB resident",
            self.cpu_seconds, self.resident_mb_max
        )
    }
}

//! The results: a table for people, JSON for programs.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waybill_compat_tests::process::{processor_time, resident_bytes};

/// A measurement under way.
pub struct Window {
    pid: u32,
    started: Instant,
    network: Duration,
    load: Duration,
}

impl Window {
    /// Begins to count time, and the processor time of the network's process and of this one.
    pub fn open(pid: u32) -> Self {
        let (network, load) = (processor_time(pid), processor_time(std::process::id()));
        Self { pid, started: Instant::now(), network, load }
    }

    /// Ends the measurement of so many records, with so many bytes in their values.
    pub fn close(self, records: u64, bytes: u64) -> Rate {
        Rate {
            records,
            bytes,
            seconds: self.started.elapsed().as_secs_f64(),
            network_cpu_seconds: (processor_time(self.pid) - self.network).as_secs_f64(),
            load_cpu_seconds: (processor_time(std::process::id()) - self.load).as_secs_f64(),
        }
    }
}

/// How much in how long, and at what cost.
pub struct Rate {
    records: u64,
    bytes: u64,
    seconds: f64,
    network_cpu_seconds: f64,
    load_cpu_seconds: f64,
}

impl Rate {
    fn gigabytes(&self) -> f64 {
        self.bytes as f64 / 1e9
    }

    fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    fn records_per_second(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

struct RateRow {
    name: &'static str,
    rate: Rate,
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

    /// Keeps a rate, and how large the network is now.
    pub fn rate(&mut self, name: &'static str, rate: Rate) {
        let resident_mb = megabytes(resident_bytes(self.pid));
        self.resident_mb_max = self.resident_mb_max.max(resident_mb);
        eprintln!("{name}: {:.0} MB/s", rate.mb_per_second());
        self.rates.push(RateRow { name, rate, resident_mb });
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
        let rate = |RateRow { name, rate, resident_mb }: &RateRow| -> Value {
            json!({
                "name": name, "mb_per_second": rate.mb_per_second(), "records_per_second": rate.records_per_second(),
                "gigabytes": rate.gigabytes(), "seconds": rate.seconds, "resident_mb": resident_mb,
                "network_cpu_seconds": rate.network_cpu_seconds, "load_cpu_seconds": rate.load_cpu_seconds,
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
            "{:<40} {:>8} {:>11} {:>16} {:>13} {:>8}",
            "", "MB/s", "records/s", "network CPU s/GB", "load CPU s/GB", "RSS MB"
        )?;
        for RateRow { name, rate, resident_mb } in &self.rates {
            let (mb, records) = (rate.mb_per_second(), rate.records_per_second());
            let network = rate.network_cpu_seconds / rate.gigabytes();
            let load = rate.load_cpu_seconds / rate.gigabytes();
            writeln!(f, "{name:<40} {mb:>8.0} {records:>11.0} {network:>16.1} {load:>13.1} {resident_mb:>8.0}")?;
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

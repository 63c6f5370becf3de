//! How fast `waybill dev` is on this machine, driven by librdkafka over loopback.
//!
//! `cargo run --release -p waybill-compat-tests --bin bench` starts a network in a temporary directory and measures:
//! production of 1 KiB records in batches of 1 MB, with acknowledgement by all; latency of production and from end to
//! end at a thousand records a second; consumption at the sender and at its partner, whose first reading pulls the
//! payloads. The load runs on the same cores: its processor time is printed beside the network's, and a figure says
//! nothing about another machine. Warm-up is not counted.
//!
//! `--seconds N` is the length of each measurement (10), `--json FILE` writes the results too.

mod load;
mod report;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Data;

use load::{Bulk, consume, latency, produce_bulk};
use report::Report;

const WARM_UP: Duration = Duration::from_secs(3);

struct Options {
    seconds: u64,
    json: Option<PathBuf>,
}

fn main() {
    let options = match options() {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("{reason}\nusage: bench [--seconds N] [--json FILE]");
            std::process::exit(2);
        }
    };
    let report = measure(Duration::from_secs(options.seconds));
    println!("{report}");
    if let Some(file) = options.json
        && let Err(error) = std::fs::write(&file, report.to_json())
    {
        eprintln!("cannot write {}: {error}", file.display());
        std::process::exit(1);
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options { seconds: 10, json: None };
    let mut arguments = env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--seconds" => options.seconds = value()?.parse().map_err(|error| format!("--seconds: {error}"))?,
            "--json" => options.json = Some(value()?.into()),
            _ => return Err(format!("unknown option {flag}")),
        }
    }
    Ok(options)
}

fn measure(length: Duration) -> Report {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    let mut report = Report::new(network.pid());
    for topic in ["bulk", "idempotent", "small-batches", "latency"] {
        create_topic(acme, topic, 1, &[]).expect("a topic");
    }

    let pid = network.pid();
    let bulk = |topic, settings| {
        produce_bulk(acme, &Bulk { pid, topic, settings, record_bytes: 1_024, warm_up: WARM_UP, length })
    };
    let large = [("batch.size", "1000000"), ("linger.ms", "50"), ("enable.idempotence", "false")];
    report.rate("produce 1 KiB, 1 MB batches", bulk("bulk", &large));
    let idempotent = [("batch.size", "1000000"), ("linger.ms", "50"), ("enable.idempotence", "true")];
    report.rate("produce 1 KiB, 1 MB batches, idempotent", bulk("idempotent", &idempotent));
    let small = [("batch.size", "16384"), ("linger.ms", "5"), ("enable.idempotence", "false")];
    report.rate("produce 1 KiB, 16 KiB batches", bulk("small-batches", &small));

    // The partner pulls the payloads now: what a first reader of another organisation sees.
    report.rate("consume at globex, first time", consume(pid, globex, "bulk"));
    report.rate("consume at globex, again", consume(pid, globex, "bulk"));
    report.rate("consume at acme", consume(pid, acme, "bulk"));

    let (produced, end_to_end) = latency(acme, globex, "latency", WARM_UP, length);
    report.latency("produce, 1,000/s, linger 0", produced);
    report.latency("acme's producer to globex's consumer", end_to_end);
    report.finish();
    network.terminate();
    report
}

//! How fast `waybill dev` is on this machine, driven by librdkafka over loopback.
//!
//! `just bench` starts a network in a temporary directory and measures, one after the other: production as fast as
//! acknowledgements (by all) come, over sizes of records and batches ([`scenarios`]); consumption at the sender, and at
//! its partner, where the first reading finds what the partner's connector has pulled so far; latency of production, and
//! from a producer of one organisation to a consumer of the other, at a thousand records a second.
//!
//! The load runs on the same cores: its processor time is printed beside the network's, and a figure says nothing about
//! another machine. Warm-up is not counted.
//!
//! `--seconds N` is the length of each measurement (10), `--only WORD` keeps those whose names contain it, `--json FILE`
//! writes the results too. The environment's `WAYBILL_BIN` chooses another build of the binary.

mod load;
mod report;
mod scenarios;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Data;

use load::{consume, latency, produce_bulk};
use report::Report;
use scenarios::{CONSUMED, PRODUCTIONS};

const WARM_UP: Duration = Duration::from_secs(3);

struct Options {
    seconds: u64,
    only: String,
    json: Option<PathBuf>,
}

fn main() {
    let options = match options() {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("{reason}\nusage: bench [--seconds N] [--only WORD] [--json FILE]");
            std::process::exit(2);
        }
    };
    let report = measure(Duration::from_secs(options.seconds), &options.only);
    println!("{report}");
    if let Some(file) = options.json
        && let Err(error) = std::fs::write(&file, report.to_json())
    {
        eprintln!("cannot write {}: {error}", file.display());
        std::process::exit(1);
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options { seconds: 10, only: String::new(), json: None };
    let mut arguments = env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--seconds" => options.seconds = value()?.parse().map_err(|error| format!("--seconds: {error}"))?,
            "--only" => options.only = value()?,
            "--json" => options.json = Some(value()?.into()),
            _ => return Err(format!("unknown option {flag}")),
        }
    }
    Ok(options)
}

fn measure(length: Duration, only: &str) -> Report {
    let wanted = |name: &str| name.contains(only);
    let data = Data::new();
    let network = data.start();
    let (acme, globex, pid) = (network.kafka("acme"), network.kafka("globex"), network.pid());
    let mut report = Report::new(pid);
    let consumptions = [
        ("consume-1KiB-at-partner-first", globex),
        ("consume-1KiB-at-partner-again", globex),
        ("consume-1KiB-at-sender", acme),
    ];
    let consumed = consumptions.iter().any(|(name, _)| wanted(name));
    for production in &PRODUCTIONS {
        let needed = consumed && production.name == CONSUMED;
        if wanted(production.name) || needed {
            create_topic(acme, production.name, 1, &[]).expect("a topic");
            report.rate(production.name, produce_bulk(acme, pid, production, WARM_UP, length));
        }
    }
    for (name, broker) in consumptions {
        if wanted(name) {
            report.rate(name, consume(pid, broker, CONSUMED));
        }
    }
    if wanted("latency") {
        create_topic(acme, "latency", 1, &[]).expect("a topic");
        let (produced, end_to_end) = latency(acme, globex, "latency", WARM_UP, length);
        report.latency("latency-produce-1000/s", produced);
        report.latency("latency-end-to-end-1000/s", end_to_end);
    }
    report.finish();
    network.terminate();
    report
}

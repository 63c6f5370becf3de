//! Runs the simulator: `pbft-sim --seeds A..B --n 4` runs a range of seeds, `pbft-sim --seed N --n 4` replays one and
//! prints a line per transition. Exits with 1 if a seed fails.

use std::collections::BTreeMap;
use std::process::ExitCode;
use waybill_pbft::simulator::{Plan, World};

const USAGE: &str = "usage: pbft-sim (--seeds A..B | --seed N) [--n 1|4|7] [--ed25519]";

struct Arguments {
    seeds: std::ops::Range<u64>,
    n: usize,
    trace: bool,
    real_keys: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut failures = 0;
    let mut total = (0, 0, 0);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in arguments.seeds.clone() {
        let mut plan = Plan::from_seed(seed, arguments.n);
        plan.real_keys = arguments.real_keys;
        let trace = match World::new(plan, arguments.trace).run() {
            Ok(report) => {
                total = (total.0 + report.height, total.1 + report.events, total.2.max(report.healing_ms));
                for (what, count) in report.counts {
                    *counts.entry(what).or_default() += count;
                }
                report.trace
            }
            Err(failure) => {
                failures += 1;
                println!("FAILED {failure}");
                failure.trace
            }
        };
        trace.iter().for_each(|line| println!("{line}"));
    }
    let (height, events, healing_ms) = total;
    println!(
        "{} seeds, {failures} failed; {height} blocks, {events} events, healed within {healing_ms} ms; {counts:?}",
        arguments.seeds.end - arguments.seeds.start
    );
    ExitCode::from(u8::from(failures > 0))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 0..0, n: 4, trace: false, real_keys: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
        match word.as_str() {
            "--seeds" => {
                let range = value()?;
                let (first, end) = range.split_once("..").ok_or("a range of seeds is A..B")?;
                arguments.seeds = number(first)?..number(end)?;
            }
            "--seed" => {
                let seed = number(&value()?)?;
                arguments.seeds = seed..seed + 1;
                arguments.trace = true;
            }
            "--n" => arguments.n = number(&value()?)? as usize,
            "--ed25519" => arguments.real_keys = true,
            _ => return Err(format!("{word} is unknown")),
        }
    }
    if arguments.seeds.is_empty() || !(1..=10).contains(&arguments.n) {
        return Err("there is nothing to run".into());
    }
    Ok(arguments)
}

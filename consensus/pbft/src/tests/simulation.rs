//! A fixed set of seeds. More: `cargo run --bin pbft-sim --features simulator -- --seeds 0..1000 --n 4`.

use crate::simulator::{Plan, World, run};
use alloc::collections::BTreeMap;
use core::ops::Range;

fn run_all(seeds: Range<u64>, n: usize) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for seed in seeds {
        let report = run(seed, n, false).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.healing_ms < 60_000, "seed {seed} healed within {} ms", report.healing_ms);
        for (what, count) in report.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    counts
}

#[test]
fn seeds_with_four_replicas() {
    let counts = run_all(0..80, 4);
    for what in ["crashes", "syncs", "views entered", "evidence", "bodies fetched", "complaints", "misbehaviour"] {
        assert!(counts.get(what).copied().unwrap_or(0) > 10, "the seeds hardly exercise {what}: {counts:?}");
    }
}

#[test]
fn seeds_with_seven_replicas() {
    run_all(0..12, 7);
}

#[test]
fn seeds_with_one_replica() {
    run_all(0..20, 1);
}

#[test]
fn seeds_with_ed25519() {
    for seed in 0..4 {
        let mut plan = Plan::from_seed(seed, 4);
        plan.real_keys = true;
        plan.requests = 20;
        World::new(plan, false).run().unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn one_seed_is_one_run() {
    let trace = |seed| run(seed, 4, true).unwrap_or_else(|failure| panic!("{failure}")).trace;
    let first = trace(11);
    assert!(first.len() > 1000);
    assert_eq!(first, trace(11));
    assert_ne!(first, trace(12));
}

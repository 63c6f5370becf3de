//! librdkafka's own test suite, from the sources that the crate `rdkafka-sys` ships.
//!
//! Its tests are numbered; 93 numbers have tests that need a broker, take no part of the network away and are no known
//! issues of librdkafka's. `compat-tests/librdkafka/tests.txt` lists those tests. Each number runs in its own process,
//! which is what its authors do to look at one; a number passes when its process ends well and its report says PASSED for
//! each of its tests. What is skipped has not passed.
//!
//! The suite's quick mode (`-Q`) is never used: it makes tests return at once and still print PASSED.

mod build;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use waybill_compat_tests::network::{Data, Network};
use waybill_compat_tests::suite::{Expectation, Expectations, Form, Results};

use build::Suite;
use run::{Mode, Runner, Verdict};

/// How many processes run at a time: most tests wait most of the time.
const AT_A_TIME: usize = 3;

/// These take minutes, and are begun first.
const SLOWEST: [&str; 3] = ["0113", "0150", "0139"];

#[test]
fn its_own_tests_pass_as_listed() {
    story(Mode::Plain, include_str!("../../librdkafka/tests.txt"));
}

#[test]
fn its_own_tests_pass_as_listed_with_idempotent_producers() {
    story(Mode::Idempotent, include_str!("../../librdkafka/tests-idempotent.txt"));
}

fn story(mode: Mode, list: &str) {
    let by_test = Expectations::parse(list);
    let expected = by_number(&by_test);
    let form = Form::asked_for();
    let suite = Suite::built();
    // No test of the short form asks for Kafka's tools.
    let kafka = (form == Form::Full).then(|| suite.kafka().unwrap_or_else(|error| panic!("Kafka's tools: {error}")));
    let runner = |network: &Network<'_>| Runner::new(&suite, mode, network.kafka("acme"), kafka.as_deref(), &by_test);
    let mut verdicts = {
        let data = Data::new();
        let network = start(&data);
        run_all(&runner(&network), expected.to_run(form))
    };
    // These tests hold clocks against each other, on a machine with two busy processors: what did not pass has one more
    // try, alone, on a network of its own.
    let again: Vec<String> = verdicts
        .iter()
        .filter(|(number, verdict)| expected.passes(number) && **verdict != Verdict::Passed)
        .map(|(number, _)| number.clone())
        .collect();
    for number in again {
        let data = Data::new();
        let network = start(&data);
        let verdict = runner(&network).run(&number);
        println!("{number} once more: {verdict}");
        verdicts.insert(number, verdict);
    }
    let (mut passed, mut not_passed) = (BTreeSet::new(), BTreeMap::new());
    for (number, verdict) in verdicts {
        match verdict {
            Verdict::Passed => _ = passed.insert(number),
            Verdict::NotPassed { why, log } => {
                if expected.passes(&number) {
                    println!("--- {number}: {why}; the end of {}\n{}---", log.display(), run::tail(&log));
                }
                not_passed.insert(number, why);
            }
        }
    }
    Results { suite: mode.suite_name().to_owned(), version: suite.version.clone(), form, passed, not_passed }
        .settle(&expected);
}

/// Its authors' brokers create topics with four partitions, and their groups wait for a second member: Kafka's default
/// is three seconds, and one is enough here.
fn start(data: &Data) -> Network<'_> {
    data.start_with(&["--num-partitions", "4", "--group-initial-rebalance-delay-ms", "1000"])
}

fn run_all(runner: &Runner<'_>, mut numbers: Vec<String>) -> BTreeMap<String, Verdict> {
    numbers.sort_by_key(|number| !SLOWEST.contains(&number.as_str()));
    let waiting = Mutex::new(numbers.into_iter());
    let verdicts = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no panic under this lock").next();
                    let Some(number) = next else { break };
                    let verdict = runner.run(&number);
                    println!("{number} {verdict}");
                    verdicts.lock().expect("no panic under this lock").insert(number, verdict);
                }
            });
        }
    });
    verdicts.into_inner().expect("no panic under this lock")
}

/// What is expected of a number: to pass, if all of its tests are.
fn by_number(by_test: &Expectations) -> Expectations {
    let mut numbers: BTreeMap<&str, Vec<&Expectation>> = BTreeMap::new();
    for (test, expectation) in by_test.iter() {
        numbers.entry(run::number_of(test)).or_default().push(expectation);
    }
    let merged = numbers.into_iter().map(|(number, expectations)| {
        let reasons: Vec<&str> = expectations
            .iter()
            .filter_map(|expectation| match expectation {
                Expectation::Fail(why) => Some(why.as_str()),
                _ => None,
            })
            .collect();
        let merged = if !reasons.is_empty() {
            Expectation::Fail(reasons.join(" "))
        } else if expectations.iter().all(|expectation| **expectation == Expectation::Smoke) {
            Expectation::Smoke
        } else {
            Expectation::Pass
        };
        (number.to_owned(), merged)
    });
    merged.collect()
}

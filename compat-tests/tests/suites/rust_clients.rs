//! The integration tests of the two Rust clients, from the packages that the programs of the client matrix pin.
//!
//! They are built as they are: the package's sources are copied below `target/compat/`, with the package's own lock file
//! as far as today's compiler accepts it. Each test runs in a process of its own, so that one that hangs or dies is one
//! test and no more; it has passed if that process says that one test was run and passed.
//!
//! Many of these tests return at once, and pass, where the environment has nothing for them. Those are not run: their line
//! in the list begins with `fail skipped:`.

mod build;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use waybill_compat_tests::command;
use waybill_compat_tests::network::{Data, Network};
use waybill_compat_tests::suite::{Expectation, Expectations, Form, Results};

use build::{Suite, Test};

/// How many tests run at a time: most wait most of the time.
const AT_A_TIME: usize = 3;

/// The slowest test takes half a minute; one that hangs is ended here.
const TEST_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn rust_rdkafkas_own_tests_pass_as_listed() {
    let package = build::Package { name: "rdkafka", lock: None };
    let environment = |broker: &str| vec![("KAFKA_HOST", broker.to_owned())];
    // Their broker creates topics with three partitions.
    story(&package, include_str!("rust_clients/rdkafka.txt"), &["--num-partitions", "3"], environment);
}

#[test]
fn rskafkas_own_tests_pass_as_listed() {
    // Its lock file names a version of a dependency (rsasl 2.2.0) that Rust has refused since 1.95; ours has a newer one.
    let package = build::Package { name: "rskafka", lock: Some(include_str!("rust_clients/rskafka.lock")) };
    let environment = |broker: &str| {
        let set = |name, value: &str| (name, value.to_owned());
        vec![set("TEST_INTEGRATION", "1"), set("TEST_BROKER_IMPL", "kafka"), set("KAFKA_CONNECT", broker)]
    };
    story(&package, include_str!("rust_clients/rskafka.txt"), &[], environment);
}

type Environment = Vec<(&'static str, String)>;

fn story(package: &build::Package, list: &str, options: &[&str], environment: fn(&str) -> Environment) {
    let expected = Expectations::parse(list);
    let suite = Suite::built(package);
    assert_every_test_is_listed(&suite, &expected);
    let form = Form::asked_for();
    let to_run: Vec<&Test> = expected.to_run(form).iter().map(|name| &suite.tests[name]).collect();
    let (skipped, to_run): (Vec<&Test>, Vec<&Test>) =
        to_run.into_iter().partition(|test| is_skipped(expected.of(&test.name)));

    let start = |data: &Data, run: &dyn Fn(&Runner<'_>)| {
        let network = data.start_with(options);
        run(&Runner { suite: &suite, environment: environment(network.kafka("acme")) });
        finish(network);
    };
    let verdicts = Mutex::new(BTreeMap::new());
    start(&Data::new(), &|runner| runner.run_all(&to_run, &verdicts));
    let mut verdicts = verdicts.into_inner().expect("no panic under this lock");
    // These tests hold clocks against each other, on a machine that may be busy: what did not pass has one more try, alone.
    let again: Vec<&Test> = to_run
        .into_iter()
        .filter(|test| expected.passes(&test.name) && verdicts[&test.name] != Verdict::Passed)
        .collect();
    for test in again {
        let once_more = Mutex::new(Verdict::Passed);
        start(&Data::new(), &|runner| *once_more.lock().expect("no panic under this lock") = runner.run(test));
        verdicts.insert(test.name.clone(), once_more.into_inner().expect("no panic under this lock"));
    }
    for test in skipped {
        verdicts.insert(test.name.clone(), Verdict::NotPassed("skipped".into()));
    }
    results(&suite, form, verdicts).settle(&expected);
}

/// The network must have outlived the tests without a panic of its own.
fn finish(network: Network<'_>) {
    let log = network.log();
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "a client's tests made the network panic: {panics:#?}");
    network.terminate();
}

/// A test that a new version brings must not go unnoticed, nor one that it takes away.
#[track_caller]
fn assert_every_test_is_listed(suite: &Suite, expected: &Expectations) {
    let found: BTreeSet<&str> = suite.tests.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = expected.iter().map(|(name, _)| name).collect();
    let unknown: Vec<_> = found.symmetric_difference(&listed).collect();
    assert!(unknown.is_empty(), "in the list of {} or in the suite, but not in both: {unknown:#?}", suite.name);
}

fn is_skipped(expectation: &Expectation) -> bool {
    matches!(expectation, Expectation::Fail(why) if why.starts_with("skipped:"))
}

fn results(suite: &Suite, form: Form, verdicts: BTreeMap<String, Verdict>) -> Results {
    let (mut passed, mut not_passed) = (BTreeSet::new(), BTreeMap::new());
    for (name, verdict) in verdicts {
        match verdict {
            Verdict::Passed => _ = passed.insert(name),
            Verdict::NotPassed(why) => _ = not_passed.insert(name, why),
        }
    }
    Results { suite: suite.name.to_owned(), version: suite.version.clone(), form, passed, not_passed }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict {
    Passed,
    NotPassed(String),
}

struct Runner<'suite> {
    suite: &'suite Suite,
    environment: Environment,
}

impl Runner<'_> {
    fn run_all(&self, tests: &[&Test], verdicts: &Mutex<BTreeMap<String, Verdict>>) {
        let waiting = Mutex::new(tests.iter());
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().expect("no panic under this lock").next();
                        let Some(test) = next else { break };
                        let verdict = self.run(test);
                        verdicts.lock().expect("no panic under this lock").insert(test.name.clone(), verdict);
                    }
                });
            }
        });
    }

    fn run(&self, test: &Test) -> Verdict {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", &TEST_LIMIT.as_secs().to_string()]);
        command.arg(&test.executable).args(["--exact", &test.path, "--test-threads=1"]);
        command.env_remove("RUST_LOG").env("RUST_BACKTRACE", "0").env_remove("LD_LIBRARY_PATH");
        command.envs(self.environment.iter().map(|(key, value)| (key, value))).current_dir(&self.suite.source);
        // The limit of `run` is a failure of the whole story; that of `timeout` is one of the test.
        let done = command::run(&mut command, b"", TEST_LIMIT * 2);
        let said = done.text();
        if done.status.success() && said.contains("test result: ok. 1 passed; 0 failed; 0 ignored;") {
            println!("{} passed", test.name);
            return Verdict::Passed;
        }
        let why = complaint(&said).unwrap_or_else(|| format!("ended with {}", done.status));
        println!("{} did not pass: {why}\n{}", test.name, last_lines(&said));
        Verdict::NotPassed(why)
    }
}

/// The panic's place and message.
fn complaint(said: &str) -> Option<String> {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
    let place = lines.next()?;
    let message: Vec<&str> = lines.take_while(|line| !line.starts_with("note:")).take(3).collect();
    Some(format!("{} {}", place.split_once("panicked at ")?.1, message.join(" ")))
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

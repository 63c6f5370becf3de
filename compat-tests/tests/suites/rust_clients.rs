//! The integration tests of the two Rust clients, from the packages that the programs of the client matrix pin.
//!
//! They are built as they are: the package's sources are copied below `target/compat/`, with the package's own lock file
//! as far as today's compiler accepts it. Each test runs in a process of its own, so that one that hangs or dies is one
//! test and no more; it has passed if that process says that one test was run and passed.
//!
//! Some of these tests return at once, and pass, where their environment lacks something: here it lacks nothing. Those that
//! need Java are named as not run where there is none, or fail if all clients are demanded.

mod build;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use waybill_compat_tests::client::{Toolchain, all_demanded};
use waybill_compat_tests::command;
use waybill_compat_tests::network::{Data, Network};
use waybill_compat_tests::suite::{Expectations, Form, Results};

use build::{Package, Suite, Test};

/// How many tests run at a time: most wait most of the time.
const AT_A_TIME: usize = 3;

/// The slowest test takes half a minute; one that hangs is ended here.
const TEST_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn rust_rdkafkas_own_tests_pass_as_listed() {
    let plan = Plan {
        package: Package { name: "rdkafka", lock: None },
        list: include_str!("rust_clients/rdkafka.txt"),
        // Their broker creates topics with three partitions.
        options: &["--num-partitions", "3"],
        environment: |network| vec![("KAFKA_HOST", network.kafka("acme").to_owned())],
        needs_java: |_| false,
    };
    story(&plan);
}

#[test]
fn rskafkas_own_tests_pass_as_listed() {
    let plan = Plan {
        // Its lock file names a version of a dependency (rsasl 2.2.0) that Rust has refused since 1.95; ours has a newer one.
        package: Package { name: "rskafka", lock: Some(include_str!("rust_clients/rskafka.lock")) },
        list: include_str!("rust_clients/rskafka.txt"),
        options: &["--secure", "--user", "acme:admin:admin-secret"],
        environment: |network| {
            let set = |name, value: &str| (name, value.to_owned());
            // They load Java's client from Maven Central into their own process.
            vec![
                set("TEST_INTEGRATION", "1"),
                set("TEST_BROKER_IMPL", "kafka"),
                set("KAFKA_CONNECT", network.kafka("acme")),
                set("KAFKA_SASL_CONNECT", &network.secured("acme").sasl_plaintext),
                set("TEST_JAVA_INTEROPT", "1"),
            ]
        },
        // One that does not is behind the same switch.
        needs_java: |test| test.contains("_java_") || test.ends_with("_rdkafka_consume_rdkafka_nocompression"),
    };
    story(&plan);
}

/// What one suite is run with.
struct Plan {
    package: Package,
    list: &'static str,
    /// Of the network.
    options: &'static [&'static str],
    /// What the tests are told of the broker.
    environment: fn(&Network<'_>) -> Environment,
    needs_java: fn(&str) -> bool,
}

type Environment = Vec<(&'static str, String)>;
type Verdicts = BTreeMap<String, Verdict>;

fn story(plan: &Plan) {
    let expected = Expectations::parse(plan.list);
    let suite = Suite::built(&plan.package);
    assert_every_test_is_listed(&suite, &expected);
    let form = Form::asked_for();
    let mut to_run: Vec<&Test> = expected.to_run(form).iter().map(|name| &suite.tests[name]).collect();
    leave_out_java(&mut to_run, plan.needs_java);
    // All of those unpack the same jars: one at a time.
    let (with_java, others): (Vec<&Test>, Vec<&Test>) = to_run.iter().partition(|test| (plan.needs_java)(&test.name));

    let mut verdicts = on_a_network(&suite, plan, |runner| {
        let mut verdicts = runner.run_all(&others, AT_A_TIME);
        verdicts.extend(runner.run_all(&with_java, 1));
        verdicts
    });
    // These tests hold clocks against each other, on a machine that may be busy: what did not pass has one more try, alone.
    let again = to_run.iter().filter(|test| expected.passes(&test.name) && verdicts[&test.name] != Verdict::Passed);
    for test in again.copied().collect::<Vec<_>>() {
        verdicts.extend(on_a_network(&suite, plan, |runner| runner.run_all(&[test], 1)));
    }
    results(&suite, form, verdicts).settle(&expected);
}

/// Runs tests on a network of their own, which must outlive them without a panic.
fn on_a_network(suite: &Suite, plan: &Plan, run: impl FnOnce(&Runner<'_>) -> Verdicts) -> Verdicts {
    let data = Data::new();
    let network = data.start_with(plan.options);
    let verdicts = run(&Runner { suite, environment: (plan.environment)(&network) });
    let log = network.log();
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "the tests of {} made the network panic: {panics:#?}", suite.name);
    network.terminate();
    verdicts
}

fn leave_out_java(tests: &mut Vec<&Test>, needs_java: fn(&str) -> bool) {
    let Some(missing) = Toolchain::Java.missing() else { return };
    let left_out: Vec<&str> =
        tests.iter().filter(|test| needs_java(&test.name)).map(|test| test.name.as_str()).collect();
    assert!(
        left_out.is_empty() || !all_demanded(),
        "{missing} on this machine, and WAYBILL_COMPAT=all demands it for {left_out:#?}"
    );
    println!("not run, {missing}: {left_out:?}");
    tests.retain(|test| !needs_java(&test.name));
}

/// A test that a new version brings must not go unnoticed, nor one that it takes away.
#[track_caller]
fn assert_every_test_is_listed(suite: &Suite, expected: &Expectations) {
    let found: BTreeSet<&str> = suite.tests.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = expected.iter().map(|(name, _)| name).collect();
    let unknown: Vec<_> = found.symmetric_difference(&listed).collect();
    assert!(unknown.is_empty(), "in the list of {} or in the suite, but not in both: {unknown:#?}", suite.name);
}

fn results(suite: &Suite, form: Form, verdicts: Verdicts) -> Results {
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
    fn run_all(&self, tests: &[&Test], at_a_time: usize) -> Verdicts {
        let waiting = Mutex::new(tests.iter());
        let verdicts = Mutex::new(Verdicts::new());
        thread::scope(|scope| {
            for _ in 0..at_a_time {
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
        verdicts.into_inner().expect("no panic under this lock")
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

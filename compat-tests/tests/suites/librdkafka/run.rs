//! One number of the suite: its process, and the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use waybill_compat_tests::process;
use waybill_compat_tests::suite::Expectations;

use super::build::Suite;

/// The version of Kafka that the tests are told: they ask for nothing that it has dropped.
const KAFKA_VERSION: &str = "4.0.0";

/// The suite's own factor for the limits inside its tests.
const TIMEOUT_MULTIPLIER: &str = "3";

/// The slowest number, 0113, takes ten minutes on an idle machine: it waits for rebalances.
const LIMIT: Duration = Duration::from_secs(1_200);

/// Which producers the tests use where they do not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The client's default.
    Plain,
    /// Idempotent ones (`-P`).
    Idempotent,
}

impl Mode {
    /// What its results are called.
    pub fn suite_name(self) -> &'static str {
        match self {
            Mode::Plain => "librdkafka",
            Mode::Idempotent => "librdkafka-idempotent",
        }
    }
}

/// What a number came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It ended well, and each of its tests says PASSED.
    Passed,
    /// Anything else.
    NotPassed {
        /// What was seen.
        why: String,
        /// What it wrote.
        log: PathBuf,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Passed => out.write_str("passed"),
            Verdict::NotPassed { why, .. } => write!(out, "did not pass: {why}"),
        }
    }
}

/// Runs numbers against one network.
#[derive(Debug)]
pub struct Runner<'suite> {
    suite: &'suite Suite,
    mode: Mode,
    broker: String,
    logs: PathBuf,
    configuration: PathBuf,
    kafka: Option<PathBuf>,
    /// Every test of the list, by its number.
    tests: BTreeMap<String, BTreeSet<String>>,
}

/// `0012` of `0012_produce_consume`.
pub fn number_of(test: &str) -> &str {
    test.split_once('_').unwrap_or_else(|| panic!("{test:?} is no name of a test")).0
}

/// The last lines of a file.
pub fn tail(file: &Path) -> String {
    const LINES: usize = 60;
    let text =
        fs::read(file).map_or_else(|error| error.to_string(), |text| String::from_utf8_lossy(&text).into_owned());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().flat_map(|line| [line, "\n"]).collect()
}

impl<'suite> Runner<'suite> {
    /// Against the broker at this address, with Kafka's own tools if there are any.
    pub fn new(suite: &'suite Suite, mode: Mode, broker: &str, kafka: Option<&Path>, list: &Expectations) -> Self {
        let logs = suite.logs().join(mode.suite_name());
        fs::create_dir_all(&logs).expect("a folder in target/");
        let configuration = logs.join("test.conf");
        let text = format!("metadata.broker.list={broker}\ntest.timeout.multiplier={TIMEOUT_MULTIPLIER}\n");
        fs::write(&configuration, text).expect("a configuration file");
        let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (test, _) in list.iter() {
            tests.entry(number_of(test).to_owned()).or_default().insert(test.to_owned());
        }
        Self { suite, mode, broker: broker.to_owned(), logs, configuration, kafka: kafka.map(Path::to_owned), tests }
    }

    /// Runs one number to its end or to the limit.
    pub fn run(&self, number: &str) -> Verdict {
        let log = self.logs.join(format!("{number}.log"));
        // If this is the second try, the first one tells more.
        let _ = fs::rename(&log, self.logs.join(format!("{number}.before.log")));
        let report = self.logs.join(format!("{number}.json"));
        let _ = fs::remove_file(&report);
        let verdict = match ended(self.start(number, &log, &report)) {
            None => Err(format!("not finished after {} s", LIMIT.as_secs())),
            Some(status) => self.judge(number, status, &report),
        };
        match verdict {
            Ok(()) => Verdict::Passed,
            Err(why) => Verdict::NotPassed { why, log },
        }
    }

    /// In a process group of its own: a test may start others.
    fn start(&self, number: &str, log: &Path, report: &Path) -> Child {
        let output = File::create(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = Command::new(self.suite.tests().join("test-runner"));
        // One at a time, none that cuts connections in the client's own socket emulation, none that needs no broker.
        command.args(["-p1", "-E", "-L"]);
        if self.mode == Mode::Idempotent {
            command.arg("-P");
        }
        command
            .current_dir(self.suite.tests())
            .env("LD_LIBRARY_PATH", self.suite.libraries())
            .env("RDKAFKA_TEST_CONF", &self.configuration)
            .env("TEST_KAFKA_VERSION", KAFKA_VERSION)
            .env("TESTS", number)
            .env("TEST_REPORT", report)
            .env("BROKERS", &self.broker)
            .envs(self.kafka.iter().map(|kafka| ("KAFKA_PATH", kafka)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("the suite's test-runner: {error}"))
    }

    fn judge(&self, number: &str, status: ExitStatus, report: &Path) -> Result<(), String> {
        let text = fs::read(report).map_err(|error| format!("{status}, and no report: {error}"))?;
        let report: Value =
            serde_json::from_slice(&text).map_err(|error| format!("{status}, and a bad report: {error}"))?;
        let states = report["tests"].as_object().ok_or_else(|| format!("{status}, and a report without tests"))?;
        let listed = &self.tests[number];
        let mut seen = Vec::new();
        for test in listed {
            let state = states.get(test).and_then(|test| test["state"].as_str()).unwrap_or("not in the report");
            if state != "PASSED" {
                seen.push(format!("{test} {state}"));
            }
        }
        let ran = states.iter().filter(|(_, test)| test["state"] != "SKIPPED").map(|(name, _)| name.as_str());
        seen.extend(
            ran.filter(|test| *test != "<MAIN>" && !listed.contains(*test)).map(|test| format!("{test} is not listed")),
        );
        if !status.success() {
            seen.push(status.to_string());
        }
        if seen.is_empty() { Ok(()) } else { Err(seen.join(", ")) }
    }
}

/// Waits for the end; what is left of the process group then is killed.
fn ended(mut child: Child) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        let status = child.try_wait().expect("a child of ours");
        if status.is_some() || started.elapsed() > LIMIT {
            process::kill_group(&child);
            child.wait().expect("a child of ours");
            return status;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

//! A client's own test suite, run against Waybill: what is expected of each of its tests, and what came of it.
//!
//! A list names every test of the suite, one a line: `<name> smoke`, `<name> pass` or `<name> fail <why>`. It only grows: a
//! test that is to pass and does not is a failure of ours, and one that passes unexpectedly is to be added.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::client::{compat_directory, full_demanded};

/// What is expected of one test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// It passes, also in the short form of a run.
    Smoke,
    /// It passes.
    Pass,
    /// It does not, and this is why.
    Fail(String),
}

/// The list of a suite.
#[derive(Clone, Debug)]
pub struct Expectations(BTreeMap<String, Expectation>);

/// How much of a suite is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// What takes two or three minutes.
    Smoke,
    /// All of it, those tests too that are not expected to pass.
    Full,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Results {
    /// The suite's name, and the name of the file that is written.
    pub suite: String,
    /// The client's version.
    pub version: String,
    /// How much was run.
    pub form: Form,
    /// The tests that passed.
    pub passed: BTreeSet<String>,
    /// Those that were run and did not, with what was seen.
    pub not_passed: BTreeMap<String, String>,
}

impl Form {
    /// Smoke, unless everything is demanded.
    pub fn asked_for() -> Self {
        if full_demanded() { Form::Full } else { Form::Smoke }
    }

    fn name(self) -> &'static str {
        match self {
            Form::Smoke => "smoke",
            Form::Full => "full",
        }
    }
}

impl Expectations {
    /// Reads a list. Panics on a line that is none: a test whose fate nobody knows must not go unnoticed.
    pub fn parse(list: &str) -> Self {
        let mut tests = BTreeMap::new();
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let expectation = match rest.trim().split_once(char::is_whitespace) {
                None if rest.trim() == "smoke" => Expectation::Smoke,
                None if rest.trim() == "pass" => Expectation::Pass,
                Some(("fail", why)) => Expectation::Fail(why.trim().to_owned()),
                _ => panic!("no line of a list: {line:?}"),
            };
            let before = tests.insert(name.to_owned(), expectation);
            assert!(before.is_none(), "{name} is on the list twice");
        }
        Self(tests)
    }

    /// Those to run in this form, in order.
    pub fn to_run(&self, form: Form) -> Vec<String> {
        let wanted = self.0.iter().filter(|(_, expected)| form == Form::Full || **expected == Expectation::Smoke);
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// Every test with what is expected of it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Expectation)> {
        self.0.iter().map(|(name, expectation)| (name.as_str(), expectation))
    }

    /// What is expected of this test. Panics if the list does not know it.
    #[track_caller]
    pub fn of(&self, name: &str) -> &Expectation {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not on the list"))
    }

    /// Whether this test is to pass.
    #[track_caller]
    pub fn passes(&self, name: &str) -> bool {
        !matches!(self.of(name), Expectation::Fail(_))
    }
}

impl Results {
    /// Writes them for the document of results, prints what has changed for the better, and panics if a test that is to
    /// pass does not.
    #[track_caller]
    pub fn settle(&self, expected: &Expectations) {
        let file = self.write(expected);
        println!("{}: {} passed, {} did not; {}", self.suite, self.passed.len(), self.not_passed.len(), file.display());
        for name in self.passed.iter().filter(|name| !expected.passes(name)) {
            println!("{}: {name} passes now: add it to the list", self.suite);
        }
        let missed: Vec<_> = self.not_passed.iter().filter(|(name, _)| expected.passes(name)).collect();
        assert!(missed.is_empty(), "{}: these are to pass and do not: {missed:#?}", self.suite);
    }

    /// Writes them for the document of results. The reasons are those of the list, where it has one.
    pub fn write(&self, expected: &Expectations) -> PathBuf {
        let reason = |name: &str, seen: &str| match expected.of(name) {
            Expectation::Fail(why) => why.clone(),
            _ => format!("is to pass, and did not: {seen}"),
        };
        let not_passed: BTreeMap<_, _> =
            self.not_passed.iter().map(|(name, seen)| (name.clone(), reason(name, seen))).collect();
        let text = serde_json::to_string_pretty(&json!({
            "suite": self.suite,
            "version": self.version,
            "form": self.form.name(),
            "passed": self.passed,
            "not_passed": not_passed,
        }))
        .expect("strings are JSON");
        let folder = compat_directory().join("results");
        fs::create_dir_all(&folder).expect("a folder in target/");
        let file = folder.join(format!("{}.json", self.suite));
        fs::write(&file, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file
    }
}

impl FromIterator<(String, Expectation)> for Expectations {
    fn from_iter<Tests: IntoIterator<Item = (String, Expectation)>>(tests: Tests) -> Self {
        Self(tests.into_iter().collect())
    }
}

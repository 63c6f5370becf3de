//! Building the test programs of a package that cargo has downloaded.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use waybill_compat_tests::client::compat_directory;
use waybill_compat_tests::command;

use crate::sources;

/// Some two hundred packages, and librdkafka, on two processors.
const BUILD_LIMIT: Duration = Duration::from_secs(1_800);

/// What is to be built.
#[derive(Debug)]
pub struct Package {
    /// Of the package, and of the folder below `compat-tests/` whose manifest pins its version.
    pub name: &'static str,
    /// A lock file in the place of the package's own.
    pub lock: Option<&'static str>,
}

/// A built suite. Nobody else uses it while this lives.
#[derive(Debug)]
pub struct Suite {
    pub name: &'static str,
    pub version: String,
    /// Where its tests are run, as by cargo.
    pub source: PathBuf,
    /// By name.
    pub tests: BTreeMap<String, Test>,
    _lock: File,
}

/// One test.
#[derive(Clone, Debug)]
pub struct Test {
    /// `program::path`.
    pub name: String,
    /// What its program calls it.
    pub path: String,
    pub executable: PathBuf,
}

impl Suite {
    pub fn built(package: &Package) -> Self {
        let folder = compat_directory().join(format!("{}-suite", package.name));
        fs::create_dir_all(&folder).expect("a folder in target/");
        let lock = File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("a lock");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(package.name).join("Cargo.toml");
        let (version, original) = sources::package(&manifest, package.name);
        let source = folder.join("source");
        let stamp = format!("{version} {}", package.lock.unwrap_or_default());
        let stamp_file = folder.join("stamp");
        // Cargo itself knows what is left to do with sources that are there.
        if !fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
            let _ = fs::remove_file(&stamp_file);
            let _ = fs::remove_dir_all(&source);
            sources::copy(&original, &source);
            if let Some(lock) = package.lock {
                fs::write(source.join("Cargo.lock"), lock).expect("a lock file of cargo");
            }
            fs::write(&stamp_file, stamp).expect("a stamp");
        }
        let programs = programs(&source, &folder.join("target"));
        let tests = programs.iter().flat_map(|(name, program)| tests(name, program));
        let tests = tests.map(|test| (test.name.clone(), test)).collect();
        Self { name: package.name, version, source, tests, _lock: lock }
    }
}

/// The programs of the integration tests, by name.
fn programs(source: &Path, target: &Path) -> BTreeMap<String, PathBuf> {
    let mut build = cargo();
    build.args(["test", "--locked", "--no-run", "--test", "*", "--message-format", "json-render-diagnostics"]);
    build.arg("--manifest-path").arg(source.join("Cargo.toml"));
    build.env("CARGO_TARGET_DIR", target).env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("RUSTFLAGS");
    let built = command::run(&mut build, b"", BUILD_LIMIT).expect_success("the suite's programs");
    let messages: Vec<Value> = built.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let programs = messages.iter().filter(|message| message["target"]["kind"][0] == "test").filter_map(|message| {
        let (name, executable) = (message["target"]["name"].as_str()?, message["executable"].as_str()?);
        Some((name.to_owned(), PathBuf::from(executable)))
    });
    let programs: BTreeMap<_, _> = programs.collect();
    assert!(!programs.is_empty(), "no test programs in {}", source.display());
    programs
}

/// The tests of a program. The helpers of some suites are programs too, without a test.
fn tests(program: &str, executable: &Path) -> Vec<Test> {
    let mut list = Command::new(executable);
    let list = command::run(list.args(["--list", "--format", "terse"]), b"", BUILD_LIMIT).expect_success("the tests");
    let text = list.text();
    let paths = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let test = |path: &str| Test {
        name: format!("{program}::{path}"),
        path: path.to_owned(),
        executable: executable.to_path_buf(),
    };
    paths.map(test).collect()
}

/// Run from our own folder: a package's `rust-toolchain.toml` names a compiler that may not be on this machine.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("LD_LIBRARY_PATH");
    cargo
}

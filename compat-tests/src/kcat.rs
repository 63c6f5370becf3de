//! Debian's kcat, installed on first use.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::command::{self, Finished};
use crate::{binary, wait::LIMIT};

/// What kcat of Debian 12 needs beyond the libraries of every Debian system.
const PACKAGES: [&str; 6] = ["kcat", "librdkafka1", "libyajl2", "libsasl2-2", "liblz4-1", "libzstd1"];

/// Runs kcat with these arguments, feeds it `stdin`, and expects success.
#[track_caller]
pub fn kcat(arguments: &[&str], stdin: &[u8]) -> Finished {
    try_kcat(arguments, stdin).expect_success("kcat")
}

/// Runs kcat with these arguments, whatever comes of it.
pub fn try_kcat(arguments: &[&str], stdin: &[u8]) -> Finished {
    let kcat = installed();
    command::run(kcat.command().args(arguments), stdin, LIMIT)
}

/// kcat's version and that of its librdkafka, as it tells them: `1.7.1, librdkafka 2.0.2`.
pub fn version() -> String {
    let told = kcat(&["-V"], b"").text();
    let after = |word: &str| {
        let version =
            told.split_once(word).and_then(|(_, rest)| rest.split([' ', ',', '\n']).find(|part| !part.is_empty()));
        version.unwrap_or_else(|| panic!("no {word} in {told}")).to_owned()
    };
    format!("{}, librdkafka {}", after("Version "), after("librdkafka "))
}

/// kcat, to be given arguments, for a call that goes on while others are made.
pub fn command() -> Command {
    installed().command()
}

struct Kcat {
    program: PathBuf,
    /// Where its libraries lie, if it was unpacked rather than installed.
    libraries: Option<PathBuf>,
}

impl Kcat {
    /// Cargo puts the folders of built libraries into the tests' search path, and librdkafka is among them, built for
    /// Rust without some codecs: kcat is to load the one that Debian made for it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove("LD_LIBRARY_PATH");
        command.envs(self.libraries.iter().map(|libraries| ("LD_LIBRARY_PATH", libraries)));
        command
    }
}

fn installed() -> &'static Kcat {
    static KCAT: OnceLock<Kcat> = OnceLock::new();
    KCAT.get_or_init(|| {
        // Test binaries of several processes may get here together, and apt allows one at a time.
        let folder = binary::target_directory().join("kcat");
        fs::create_dir_all(&folder).expect("a folder in target/");
        let lock = File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("a lock");
        find(&folder).unwrap_or_else(|| {
            let refusals = [apt_install(), unpack(&folder)];
            find(&folder).unwrap_or_else(|| panic!("kcat is missing and could not be installed: {refusals:#?}"))
        })
    })
}

fn find(folder: &Path) -> Option<Kcat> {
    let runs = |kcat: &Kcat| kcat.command().arg("-V").output().is_ok_and(|output| output.status.success());
    let unpacked = folder.join("root/usr");
    // One folder per architecture, and others.
    let folders = fs::read_dir(unpacked.join("lib")).into_iter().flatten().filter_map(Result::ok);
    let libraries = folders.map(|entry| entry.path()).find(|folder| folder.join("librdkafka.so.1").exists());
    let candidates = [
        Some(Kcat { program: "kcat".into(), libraries: None }),
        libraries.map(|folder| Kcat { program: unpacked.join("bin/kcat"), libraries: Some(folder) }),
    ];
    candidates.into_iter().flatten().find(runs)
}

/// As root, the ordinary way.
fn apt_install() -> Result<(), String> {
    quietly(Command::new("apt-get").args(["update", "-q"]))?;
    quietly(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args([
        "install",
        "-q",
        "-y",
        "--no-install-recommends",
        "kcat",
    ]))
}

/// As anybody else: the packages are fetched and unpacked below `target/`.
fn unpack(folder: &Path) -> Result<(), String> {
    quietly(Command::new("apt-get").arg("download").args(PACKAGES).current_dir(folder))?;
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    for file in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if file.extension().is_some_and(|extension| extension == "deb") {
            quietly(Command::new("dpkg-deb").arg("-x").arg(&file).arg(folder.join("root")))?;
        }
    }
    Ok(())
}

fn quietly(command: &mut Command) -> Result<(), String> {
    let words = format!("{command:?}");
    if command.get_program() == "apt-get" || command.get_program() == "dpkg-deb" {
        let present = Command::new(command.get_program()).arg("--version").output();
        present.map_err(|error| format!("{words}: {error} (kcat is installed from Debian's packages)"))?;
    }
    let done = command::run(command, b"", Duration::from_secs(300));
    if done.status.success() { Ok(()) } else { Err(format!("{words}: {}", done.stderr.trim())) }
}

//! The suite is built below `target/compat/librdkafka/`, once: a stamp says what from.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use waybill_compat_tests::client::{Installed, JAVA_OPTIONS, Toolchain, compat_directory};
use waybill_compat_tests::command;

use crate::sources;

/// How it is configured. No part of what is tested here needs HTTP or SASL in the client.
const OPTIONS: [&str; 2] = ["--disable-curl", "--disable-sasl"];

/// What the tests compress and read statistics with, and who else has it. Without them tests would be skipped.
const NEEDED: [(&str, &str); 2] = [("WITH_ZLIB", "zlib (zlib1g-dev)"), ("WITH_RAPIDJSON", "RapidJSON (rapidjson-dev)")];

/// Three minutes of compiling on two processors that have nothing else to do.
const BUILD_LIMIT: Duration = Duration::from_secs(1_800);

/// A built suite. Nobody else uses it while this lives.
#[derive(Debug)]
pub struct Suite {
    /// librdkafka's version.
    pub version: String,
    folder: PathBuf,
    _lock: File,
}

impl Suite {
    /// Builds it, unless that has been done.
    pub fn built() -> Self {
        let (version, original) = original();
        let folder = compat_directory().join("librdkafka");
        fs::create_dir_all(&folder).expect("a folder in target/");
        let lock = File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("a lock");
        let suite = Self { version, folder, _lock: lock };
        let stamp = format!("{} {}", suite.version, OPTIONS.join(" "));
        let stamp_file = suite.folder.join("stamp");
        if fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
            return suite;
        }
        let _ = fs::remove_file(&stamp_file);
        let _ = fs::remove_dir_all(suite.source());
        sources::copy(&original, &suite.source());
        suite.make();
        fs::write(&stamp_file, stamp).expect("a stamp");
        suite
    }

    /// Where its tests are run.
    pub fn tests(&self) -> PathBuf {
        self.source().join("tests")
    }

    /// The search path of the libraries that were built with it.
    pub fn libraries(&self) -> String {
        format!("{}:{}", self.source().join("src").display(), self.source().join("src-cpp").display())
    }

    /// Where the tests' output is kept.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    fn source(&self) -> PathBuf {
        self.folder.join("source")
    }

    /// What stands for a Kafka installation: `bin/kafka-topics.sh`, with which some tests make their topics.
    pub fn kafka(&self) -> Result<PathBuf, String> {
        const TOOLS: &str = "java-tools";
        let installed = Installed::new(TOOLS, TOOLS, Toolchain::Java, None)?;
        let kafka = self.folder.join("kafka");
        let script = kafka.join("bin/kafka-topics.sh");
        let text = format!(
            "#!/bin/sh\nexec java {} -cp '{}' org.apache.kafka.tools.TopicCommand \"$@\"\n",
            JAVA_OPTIONS.join(" "),
            installed.class_path().display()
        );
        let written = fs::create_dir_all(kafka.join("bin")).and_then(|()| fs::write(&script, text));
        let runs = written.and_then(|()| fs::set_permissions(&script, Permissions::from_mode(0o755)));
        runs.map_err(|error| format!("{}: {error}", script.display()))?;
        Ok(kafka)
    }

    fn make(&self) {
        let at_a_time = format!("-j{}", thread::available_parallelism().map_or(2, usize::from));
        let source = self.source();
        let headers = self.rapidjson();
        let command = |program: &OsStr, arguments: &[&str], folder: &Path| {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(folder).envs(headers.iter().map(|path| ("CPLUS_INCLUDE_PATH", path)));
            finish(&mut command);
        };
        command(source.join("configure").as_os_str(), &OPTIONS, &source);
        let found = fs::read_to_string(source.join("config.h")).expect("what configure found");
        for (needed, package) in NEEDED {
            let line = format!("#define {needed} 1");
            assert!(found.lines().any(|found| found == line), "configure found no {package}: it is to be installed");
        }
        command("make".as_ref(), &[&at_a_time, "libs"], &source);
        command("make".as_ref(), &[&at_a_time, "test-runner"], &self.tests());
    }

    /// The folder of RapidJSON's headers, if the system has none: Debian's package, unpacked.
    fn rapidjson(&self) -> Option<PathBuf> {
        if Path::new("/usr/include/rapidjson/document.h").exists() {
            return None;
        }
        let folder = self.folder.join("rapidjson");
        fs::create_dir_all(&folder).expect("a folder in target/");
        finish(Command::new("apt-get").args(["download", "-q", "rapidjson-dev"]).current_dir(&folder));
        let files = fs::read_dir(&folder).expect("a folder of ours").filter_map(Result::ok).map(|entry| entry.path());
        for package in files.filter(|file| file.extension().is_some_and(|extension| extension == "deb")) {
            finish(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.join("root")));
        }
        Some(folder.join("root/usr/include"))
    }
}

/// Where cargo keeps the crate's sources, and the version of librdkafka in them: `4.10.0+2.12.1` ships 2.12.1.
fn original() -> (String, PathBuf) {
    let (version, folder) = sources::package(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"), "rdkafka-sys");
    let version = version.split_once('+').expect("librdkafka's version behind the crate's own").1;
    (version.to_owned(), folder.join("librdkafka"))
}

/// Cargo's search path for libraries is for cargo's programs.
fn finish(command: &mut Command) {
    let words = format!("{command:?}");
    command::run(command.env_remove("LD_LIBRARY_PATH"), b"", BUILD_LIMIT).expect_success(&words);
}

//! Installing a client: its folder is copied below `target/compat/`, and what its manifest pins is brought there.
//!
//! An installation is stamped with what it was made from, so that a second run finds it; caches lie below
//! `target/compat/cache`, so that a deleted installation is not downloaded again. Several test processes may get here
//! together: one installs, the others wait.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::toolchain::Toolchain;
use crate::{binary, command};

/// Downloads and compilers may be slow; one that hangs is ended here.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);

/// A folder of `compat-tests/` made ready to run.
#[derive(Clone, Debug)]
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// Copies `compat-tests/<source>` to `target/compat/<name>` and installs there what it pins. `version` is handed to a
    /// manifest that leaves the client's version open (Maven's property `kafka.version`).
    pub fn new(name: &str, source: &str, toolchain: Toolchain, version: Option<&str>) -> Result<Self, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let place = compat_directory().join(name);
        let folder = place.join("program");
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let lock = File::create(place.join("lock")).map_err(|error| error.to_string())?;
        lock.lock().map_err(|error| error.to_string())?;

        let files = files_below(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let stamp = stamp(&source, &files, version).map_err(|error| error.to_string())?;
        let stamp_file = place.join("stamp");
        if fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
            return Ok(Self { folder });
        }
        let _ = fs::remove_file(&stamp_file);
        let _ = fs::remove_dir_all(&folder);
        copy(&source, &files, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        install(&folder, toolchain, version)?;
        fs::write(&stamp_file, stamp).map_err(|error| error.to_string())?;
        Ok(Self { folder })
    }

    /// Where it is: the copied folder, and what was installed beside its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The command that starts the program of this folder, without its argument.
    pub fn program(&self, toolchain: Toolchain) -> Command {
        let path = |relative: &str| self.folder.join(relative).into_os_string();
        let words: Vec<OsString> = match toolchain {
            Toolchain::Python => vec![path("venv/bin/python"), path("client.py")],
            Toolchain::Node => vec!["node".into(), path("client.js")],
            Toolchain::Go => vec![path("client")],
            Toolchain::Rust => vec![path("target/release/client")],
            Toolchain::Java => {
                let mut words: Vec<OsString> = vec!["java".into()];
                words.extend(JAVA_OPTIONS.iter().map(OsString::from));
                words.extend(["-cp".into(), self.class_path(), "Client".into()]);
                words
            }
        };
        let mut command = Command::new(&words[0]);
        // Cargo's search path for libraries is for cargo's programs.
        command.args(&words[1..]).env_remove("LD_LIBRARY_PATH").current_dir(&self.folder);
        command
    }

    /// Java's class path: the project's own classes and the jars that Maven has put beside them.
    pub fn class_path(&self) -> OsString {
        let target = self.folder.join("target");
        format!("{}:{}", target.join("classes").display(), target.join("dependency").join("*").display()).into()
    }
}

/// Options with which a short Java program starts quickly.
pub const JAVA_OPTIONS: [&str; 4] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx768m"];

/// Where everything lies that the compatibility tests install, build, cache and report.
pub fn compat_directory() -> PathBuf {
    binary::target_directory().join("compat")
}

fn install(folder: &Path, toolchain: Toolchain, version: Option<&str>) -> Result<(), String> {
    let cache = |name: &str| compat_directory().join("cache").join(name);
    let run = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).env_remove("LD_LIBRARY_PATH");
        command.env("PIP_CACHE_DIR", cache("pip")).env("npm_config_cache", cache("npm"));
        command
            .env("GOMODCACHE", cache("go-mod"))
            .env("GOCACHE", cache("go-build"))
            .env("GOFLAGS", "-mod=readonly -modcacherw");
        // The flags of this workspace's own build are none of a client's.
        command.env("CARGO_TARGET_DIR", folder.join("target")).env_remove("RUSTFLAGS");
        if has_openssl() {
            // Read by the crate openssl-sys, which builds OpenSSL otherwise: minutes.
            command.env("OPENSSL_NO_VENDOR", "1");
        }
        finished(&mut command)
    };
    match toolchain {
        Toolchain::Python => {
            run(Path::new("python3"), &["-m", "venv", "venv"])?;
            // Nothing but what the file pins.
            let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            let options = [&quiet[..], &["--no-deps", "-r", "requirements.txt"]].concat();
            run(&folder.join("venv/bin/python"), &options)
        }
        Toolchain::Node => run(Path::new("npm"), &["ci", "--no-audit", "--no-fund"]),
        Toolchain::Go => run(Path::new("go"), &["build", "-o", "client", "."]),
        Toolchain::Rust => run(&cargo(), &["build", "--release", "--locked", "--quiet"]),
        Toolchain::Java => {
            // Before version 3.9 Maven does not lock a repository that several runs share.
            fs::create_dir_all(cache("maven")).map_err(|error| error.to_string())?;
            let alone = File::create(cache("maven.lock")).and_then(|file| file.lock().map(|()| file));
            let _alone = alone.map_err(|error| error.to_string())?;
            let repository = format!("-Dmaven.repo.local={}", cache("maven").display());
            let version = version.map(|version| format!("-Dkafka.version={version}"));
            let options = ["-q", "-B", "-ntp", &repository, "package"];
            run(Path::new("mvn"), &options.into_iter().chain(version.as_deref()).collect::<Vec<_>>())
        }
    }
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into()
}

/// Whether OpenSSL and its headers are on this machine.
fn has_openssl() -> bool {
    let asked = Command::new("pkg-config").args(["--exists", "openssl"]).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

fn finished(command: &mut Command) -> Result<(), String> {
    let words = format!("{command:?}");
    let done = command::run(command, b"", INSTALL_LIMIT);
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("{words}: {}\n{}\n{}", done.status, done.text(), done.stderr))
    }
}

/// The files of a client's folder, without what a developer's own build may have left there.
fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            let left_over =
                ["target", "node_modules", "venv", "__pycache__"].iter().any(|name| entry.file_name() == *name);
            if entry.file_type()?.is_dir() {
                if !left_over {
                    folders.push(entry.path());
                }
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn stamp(source: &Path, files: &[PathBuf], version: Option<&str>) -> std::io::Result<String> {
    let mut hasher = DefaultHasher::new();
    (source, version).hash(&mut hasher);
    for file in files {
        (file, fs::read(file)?).hash(&mut hasher);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

fn copy(source: &Path, files: &[PathBuf], to: &Path) -> std::io::Result<()> {
    for file in files {
        let target = to.join(file.strip_prefix(source).expect("a file of this folder"));
        fs::create_dir_all(target.parent().expect("a folder"))?;
        fs::copy(file, target)?;
    }
    Ok(())
}

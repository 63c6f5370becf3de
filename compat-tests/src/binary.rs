//! Building and finding the binary under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The binary `waybill`: what `WAYBILL_BIN` names, or built by cargo, once per process, in this process's own profile.
///
/// `cargo test --workspace` makes no binary of one package for the tests of another, so the tests ask for it. Nothing
/// is compiled twice: the whole workspace is selected, as there, and so the dependencies have the same features.
pub fn waybill() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("WAYBILL_BIN").map_or_else(build, PathBuf::from))
}

/// A command that runs `waybill` with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(waybill());
    command.args(arguments);
    command
}

/// The workspace's target directory, for what the tests install themselves.
pub fn target_directory() -> PathBuf {
    let this = env::current_exe().expect("a running test");
    let profile =
        this.ancestors().find(|folder| folder.join("deps").is_dir()).expect("a test in target/<profile>/deps");
    profile.parent().expect("target").to_path_buf()
}

fn build() -> PathBuf {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["build", "--workspace", "--bin", "waybill", "--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.stderr(Stdio::inherit()).output().expect("cargo");
    assert!(built.status.success(), "cargo could not build the binary `waybill`");
    let executable = String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "waybill")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.expect("cargo names the executable that it built")
}

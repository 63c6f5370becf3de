//! The sources of packages that cargo has fetched, which suites are built from.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use waybill_compat_tests::command;

/// Asking cargo may mean that it fetches packages first.
const METADATA_LIMIT: Duration = Duration::from_secs(900);

/// Version and folder of a package that this manifest builds with.
pub fn package(manifest: &Path, name: &str) -> (String, PathBuf) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]).arg(manifest);
    let metadata = command::run(&mut cargo, b"", METADATA_LIMIT).expect_success("cargo metadata");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("cargo's JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package =
        packages.iter().find(|package| package["name"] == name).unwrap_or_else(|| panic!("no package {name}"));
    let text = |key: &str| package[key].as_str().unwrap_or_else(|| panic!("no {key} in {package}"));
    (text("version").to_owned(), Path::new(text("manifest_path")).parent().expect("a folder").to_path_buf())
}

/// Copies a folder with all that is in it, each file with its mode: some are run.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("a directory entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
        }
    }
}

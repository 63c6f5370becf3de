//! Which version of a client its manifest pins.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Client, Toolchain};

impl Client {
    /// The client's version, as its manifest has it. Panics when the manifest does not pin it.
    pub fn version(&self) -> String {
        if let Some(version) = self.version {
            return version.to_owned();
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder);
        let manifest = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let pinned = match self.toolchain {
            Toolchain::Python => of_requirements(&manifest("requirements.txt"), self.name),
            Toolchain::Node => of_package(&manifest("package.json"), self.name),
            Toolchain::Go => of_go_module(&manifest("go.mod"), self.name),
            Toolchain::Rust => of_cargo_lock(&manifest("Cargo.lock"), self.name),
            Toolchain::Java => None,
        };
        pinned.unwrap_or_else(|| panic!("{}: the manifest pins no version of it", self.name))
    }
}

/// The version of Kafka that a folder's `pom.xml` names.
pub fn pinned_kafka(folder: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("pom.xml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let pinned = text.split_once("<kafka.version>").and_then(|(_, rest)| rest.split_once('<'));
    pinned.unwrap_or_else(|| panic!("{}: no property kafka.version", path.display())).0.to_owned()
}

/// `confluent-kafka==2.16.0`, perhaps with markers or hashes behind it.
fn of_requirements(text: &str, name: &str) -> Option<String> {
    let pinned = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix("=="));
    pinned.and_then(|version| version.split([' ', ';', '\\']).next()).map(str::to_owned)
}

fn of_package(text: &str, name: &str) -> Option<String> {
    let package: Value = serde_json::from_str(text).expect("package.json");
    package["dependencies"][name].as_str().map(str::to_owned)
}

/// `github.com/twmb/franz-go v1.20.0`, in a block or alone.
fn of_go_module(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (path, version) = line.trim().trim_start_matches("require ").split_once(" v")?;
        path.ends_with(&format!("/{name}")).then(|| version.split(' ').next().unwrap_or(version).to_owned())
    })
}

fn of_cargo_lock(text: &str, name: &str) -> Option<String> {
    let package = text.split("[[package]]").find(|package| package.contains(&format!("\nname = \"{name}\"\n")))?;
    let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(version.trim_matches('"').to_owned())
}

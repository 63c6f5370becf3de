//! What the stories tell a client's program, and the files that pass between them: `compat-tests/README.md`.
//!
//! The programs of both Rust clients are built from this one file: rskafka's is a link to it.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whatever went wrong: the program ends with it, and the story fails with its words.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long nothing may happen before the program gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program's one argument.
#[derive(Debug, Deserialize)]
pub struct Task {
    /// `host:port`.
    pub bootstrap: String,
    pub security: Option<Security>,
    #[serde(flatten)]
    pub job: Job,
}

/// How to connect, where it is not plain TCP.
#[derive(Debug, Deserialize)]
pub struct Security {
    /// `SASL_SSL`, `SASL_PLAINTEXT` or `SSL`.
    pub protocol: String,
    /// A PEM file, with TLS.
    pub ca: Option<PathBuf>,
    /// With SASL: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
}

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Job {
    Produce(Produce),
    Consume(Consume),
    Group(Group),
    Admin(Admin),
}

#[derive(Debug, Deserialize)]
pub struct Produce {
    pub topic: String,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub codec: String,
    #[serde(default)]
    pub idempotent: bool,
    pub records: PathBuf,
    pub out: PathBuf,
}

#[derive(Debug, Deserialize)]
pub struct Consume {
    pub topic: String,
    pub partitions: i32,
    pub count: usize,
    pub out: PathBuf,
}

#[derive(Debug, Deserialize)]
pub struct Group {
    pub produce_bootstrap: String,
    pub topic: String,
    pub partitions: i32,
    pub group: String,
    pub count: u64,
    pub out: PathBuf,
}

#[derive(Debug, Deserialize)]
pub struct Admin {
    pub topic: String,
    pub partitions: i32,
    #[serde(default)]
    pub config: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub group: String,
    pub out: PathBuf,
}

/// A line of a file of records.
#[derive(Debug, Deserialize, Serialize)]
pub struct Record {
    pub partition: i32,
    /// Where it was read; not told when it is to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    pub timestamp: i64,
    pub key: Option<Octets>,
    pub value: Option<Octets>,
    #[serde(default)]
    pub headers: Vec<(String, Option<Octets>)>,
}

/// Where a record that was produced lies: a line of `out`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// Bytes that are base64 in JSON.
#[derive(Debug)]
pub struct Octets(pub Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Octets).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

/// Parses the program's one argument.
pub fn from_arguments() -> Result<Task> {
    let argument = std::env::args().nth(1).ok_or("one argument is expected: the task as JSON")?;
    Ok(serde_json::from_str(&argument)?)
}

/// Reads a file of records.
pub fn read_records(file: &Path) -> Result<Vec<Record>> {
    fs::read_to_string(file)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Writes one JSON object a line.
pub fn write_lines<T: Serialize>(file: &Path, lines: &[T]) -> Result<()> {
    let mut output = BufWriter::new(File::create(file)?);
    for line in lines {
        serde_json::to_writer(&mut output, line)?;
        output.write_all(b"\n")?;
    }
    Ok(output.flush()?)
}

/// Writes the one JSON object that `group` and `admin` answer.
pub fn write_answer(file: &Path, answer: &serde_json::Value) -> Result<()> {
    Ok(fs::write(file, serde_json::to_vec(answer)?)?)
}

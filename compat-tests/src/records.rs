//! Records as producers make them and consumers see them, and the files in which programs are told of them.
//!
//! The files are those of `compat-tests/README.md`: a JSON object a line, bytes in base64.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A header: its key, which may repeat, and its value, which may be null.
pub type Header = (String, Option<Vec<u8>>);

/// One record, as a producer makes it and as a consumer sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The partition it is for, or came from.
    pub partition: i32,
    /// Its key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Its headers in order.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970, as the producer sets it.
    pub timestamp_ms: i64,
}

/// A record that was read, and where it stood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// Its offset.
    pub offset: i64,
    /// What it holds.
    pub record: Record,
}

/// Writes the records that a program is to produce.
pub fn write(file: &Path, records: &[Record]) {
    let lines: String = records.iter().map(|record| format!("{}\n", to_json(record))).collect();
    fs::write(file, lines).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Reads the records that a program has consumed, in its order.
pub fn read(file: &Path) -> Vec<Read> {
    lines(file)
        .iter()
        .map(|line| Read {
            offset: line["offset"].as_i64().unwrap_or_else(|| panic!("no offset: {line}")),
            record: Record {
                partition: partition(line),
                key: bytes(&line["key"]),
                value: bytes(&line["value"]),
                headers: line["headers"].as_array().into_iter().flatten().map(header).collect(),
                timestamp_ms: line["timestamp"].as_i64().unwrap_or_else(|| panic!("no timestamp: {line}")),
            },
        })
        .collect()
}

/// Reads where a program's records went: partition, and offset where the client tells it.
pub fn read_places(file: &Path) -> Vec<(i32, Option<i64>)> {
    lines(file).iter().map(|line| (partition(line), line["offset"].as_i64())).collect()
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

fn partition(line: &Value) -> i32 {
    let partition = line["partition"].as_i64().and_then(|partition| i32::try_from(partition).ok());
    partition.unwrap_or_else(|| panic!("no partition: {line}"))
}

fn to_json(record: &Record) -> Value {
    let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
    let headers: Vec<Value> = record.headers.iter().map(|(name, value)| json!([name, encoded(value)])).collect();
    json!({
        "partition": record.partition,
        "timestamp": record.timestamp_ms,
        "key": encoded(&record.key),
        "value": encoded(&record.value),
        "headers": headers,
    })
}

fn bytes(field: &Value) -> Option<Vec<u8>> {
    let text = match field {
        Value::Null => return None,
        Value::String(text) => text,
        other => panic!("neither base64 nor null: {other}"),
    };
    Some(STANDARD.decode(text).unwrap_or_else(|error| panic!("{error} in {text}")))
}

fn header(pair: &Value) -> Header {
    (pair[0].as_str().unwrap_or_else(|| panic!("no name: {pair}")).to_owned(), bytes(&pair[1]))
}

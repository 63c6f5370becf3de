//! The clients, and what each of them cannot do.

use super::{Client, Headers, Limits, Toolchain};

/// Every client with a program of the matrix.
pub static CLIENTS: [Client; 11] = [
    Client::new("rdkafka", Toolchain::Rust, Limits::NONE),
    Client::new("rskafka", Toolchain::Rust, RSKAFKA),
    Client::new("confluent-kafka", Toolchain::Python, Limits::NONE),
    Client::new("kafka-python", Toolchain::Python, Limits { null_headers: true, ..Limits::NONE }),
    Client::new("aiokafka", Toolchain::Python, Limits { admin: &["group_deleted"], ..Limits::NONE }),
    Client::new("kafkajs", Toolchain::Node, KAFKAJS),
    Client::java("java-4", "4.3.1", Limits::NONE),
    Client::java("java-3.9", "3.9.2", Limits::NONE),
    Client::new("franz-go", Toolchain::Go, Limits::NONE),
    Client::new("sarama", Toolchain::Go, Limits::NONE),
    Client::new("kafka-go", Toolchain::Go, Limits { idempotence: true, empties: true, ..Limits::NONE }),
];

const KAFKAJS: Limits = Limits {
    null_headers: true,
    headers: Headers::ByName,
    // It says of an existing topic only that nothing was created.
    admin: &["created_again"],
    ..Limits::NONE
};

const RSKAFKA: Limits = Limits {
    idempotence: true,
    null_headers: true,
    headers: Headers::Map,
    groups: true,
    // It can neither set a topic's configuration nor ask for one.
    admin: &["nodes", "config", "groups", "group_state", "group_offsets", "group_deleted"],
    ..Limits::NONE
};

//! The contracts' rules, as tables.

mod exchange;
mod idempotence;
mod system;

use super::Call;
use std::sync::Arc;
use waybill_types::transaction::{Config, Send};
use waybill_types::*;

const LEDGER: LedgerId = LedgerId { topic: TopicId([7; 16]), partition: 0 };
const OWNER: NodeId = NodeId(1);
const READER: NodeId = NodeId(2);
const WRITER: NodeId = NodeId(3);
const WITNESS: NodeId = NodeId(4);
const STRANGER: NodeId = NodeId(9);

fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

fn member(node: NodeId, name: &str) -> Member {
    Member { node, org: org(name), key: PublicKey([node.0 as u8; 32]) }
}

pub(super) fn config() -> Config {
    Config {
        version: 1,
        ledger: LEDGER,
        topic: "orders".into(),
        owner: org("owner"),
        readers: vec![org("reader")],
        writers: vec![org("writer")],
        origins: vec![
            member(OWNER, "owner"),
            member(READER, "reader"),
            member(WRITER, "writer"),
            member(WITNESS, "witness"),
        ],
        batch_bytes_limit: 1000,
        log_append_time: false,
    }
}

fn call(origin: NodeId, next_offset: Offset) -> Call {
    Call { origin, height: 2, time_ms: 1000, next_offset }
}

fn batch(connector: NodeId) -> Send {
    Send {
        connector,
        commitment: Commitment(Digest::ZERO),
        size_bytes: 100,
        record_count: 1,
        attributes: 0,
        base_timestamp_ms: 0,
        max_timestamp_ms: 0,
        producer: None,
    }
}

fn exchange() -> super::Exchange {
    super::Exchange::new(Arc::new(config()))
}

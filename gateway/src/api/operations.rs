//! What a client of this organisation may do, as the bit fields of KIP-430.

use crate::broker::Broker;
use waybill_ledger::contract::Topic;

/// "Not asked for".
pub(super) const NOT_ASKED: i32 = i32::MIN;

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
/// CreatePartitions asks for this one.
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// On a consumer group of the organisation.
pub(super) const GROUP: i32 = READ | DELETE | DESCRIBE;

/// On the network. A witness describes it, no more.
pub(super) fn on_cluster(broker: &Broker) -> i32 {
    let trades = broker.connector.is_some();
    DESCRIBE | DESCRIBE_CONFIGS | bits(trades, CREATE | IDEMPOTENT_WRITE)
}

/// On a topic that the organisation sees.
pub(super) fn on_topic(broker: &Broker, topic: &Topic) -> i32 {
    let owns = topic.owner == broker.org;
    let trades = broker.connector.is_some();
    DESCRIBE
        | DESCRIBE_CONFIGS
        | bits(owns, DELETE | ALTER)
        | bits(trades && may_read(broker, topic), READ)
        | bits(trades && (owns || topic.writers.contains(&broker.org)), WRITE)
}

/// Whether the organisation may read the topic, as far as the system ledger says; each partition's contract decides.
pub(super) fn may_read(broker: &Broker, topic: &Topic) -> bool {
    topic.owner == broker.org || topic.readers.contains(&broker.org)
}

fn bits(granted: bool, operations: i32) -> i32 {
    if granted { operations } else { 0 }
}

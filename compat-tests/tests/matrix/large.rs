//! Records of 10 MB, where the topic allows them.

use waybill_compat_tests::client::Client;
use waybill_compat_tests::librdkafka::create_topic;
use waybill_compat_tests::network::Network;
use waybill_compat_tests::records::Record;

use crate::door::Door;
use crate::round_trip::{assert_same, consume, produce};

pub fn records_of_10_mb_cross(client: &Client, network: &Network<'_>) {
    let topic = format!("{}-large", client.name);
    create_topic(network.kafka("acme"), &topic, 3, &[("max.message.bytes", "12000000")]).expect("a new topic");
    let records: Vec<Record> = (0..3).map(large).collect();
    produce(client, &Door::plain(network, "acme"), &topic, "none", false, &records);
    let read = consume(client, &Door::plain(network, "globex"), &topic, records.len());
    assert_same(&read, &records, &format!("{topic} at the other organisation"));
}

/// 10,000,000 bytes that no codec makes shorter, others for each partition (xorshift, Marsaglia 2003).
fn large(partition: i32) -> Record {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 + u64::try_from(partition).expect("a partition");
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let value = words.take(10_000_000 / 8).flatten().collect();
    Record {
        partition,
        key: Some(b"large".to_vec()),
        value: Some(value),
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
    }
}

//! Produce, Fetch, ListOffsets, OffsetForLeaderEpoch.

use super::Clients;
use crate::requests::*;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest, ProduceRequest};
use waybill_gateway::batch::Codec;

const UNKNOWN: &str = "table-unknown";

/// A topic of acme with two batches: three records, then two.
pub(super) struct Topic {
    pub(super) name: &'static str,
    batches: [Bytes; 2],
}

impl Topic {
    pub(super) fn make(clients: &mut Clients) -> Self {
        let name = "table-data";
        assert_eq!(create(&mut clients.owner, creatable(name)).error_code, 0);
        assert_eq!(create(&mut clients.owner, creatable("table-produce")).error_code, 0);
        let batches = [batch_from(5_000, &["a", "b", "c"]).build(), batch_from(6_000, &["d", "e"]).build()];
        for (batch, offset) in batches.iter().zip([0, 3]) {
            assert_eq!(append(&mut clients.owner, name, batch.clone()), offset);
        }
        wait_until_known(&mut clients.reader, name);
        Topic { name, batches }
    }

    fn stamped(&self) -> Bytes {
        [at_offset(0, &self.batches[0]), at_offset(3, &self.batches[1])].concat().into()
    }
}

pub(super) fn produce(version: i16, clients: &mut Clients) {
    if version < 3 {
        return old_produce(version, clients);
    }
    let name = "table-produce";
    let before = listed(&mut clients.owner, 7, &list_offsets_request(name, 0, -1)).offset;
    let data =
        |index, records: &Bytes| PartitionProduceData::default().with_index(index).with_records(Some(records.clone()));
    let good = batch(&["one", "two"]);
    let topics = vec![
        TopicProduceData::default().with_name(topic(UNKNOWN)).with_partition_data(vec![data(0, &good)]),
        TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![data(7, &good), data(0, &good)]),
    ];
    let request = ProduceRequest::default().with_timeout_ms(30_000).with_topic_data(topics);
    for (acks, offset) in [(-1, before), (1, before + 2)] {
        let response = clients.owner.ask(version, &request.clone().with_acks(acks));
        let [unknown, known] = &response.responses[..] else { panic!("two topics") };
        assert_eq!((unknown.name.as_str(), known.name.as_str()), (UNKNOWN, name));
        let refused = [&unknown.partition_responses[0], &known.partition_responses[0]];
        for refused in refused {
            assert_eq!((refused.error_code, refused.base_offset), (code::UNKNOWN_TOPIC_OR_PARTITION, -1));
        }
        let taken = &known.partition_responses[1];
        assert_eq!((taken.index, taken.error_code, taken.base_offset), (0, 0, offset), "{:?}", taken.error_message);
        assert_eq!((taken.log_append_time_ms, taken.log_start_offset), (-1, if version < 5 { -1 } else { 0 }));
    }
    let corrupt = {
        let mut bytes = good.to_vec();
        *bytes.last_mut().expect("a byte") ^= 1;
        Bytes::from(bytes)
    };
    let old_format = {
        let mut bytes = good.to_vec();
        bytes[16] = 1;
        Bytes::from(bytes)
    };
    let large = "x".repeat(1_048_588);
    let zstd = batch_from(1, &["z"]).compress(Codec::Zstd, zstd).build();
    let zstd_code = if version < 7 { code::UNSUPPORTED_COMPRESSION_TYPE } else { 0 };
    for (what, records, expected) in [
        ("corrupt", corrupt, code::CORRUPT_MESSAGE),
        ("format 1", old_format, code::INVALID_RECORD),
        ("empty", Bytes::new(), code::INVALID_RECORD),
        ("two batches", [good.clone(), good.clone()].concat().into(), code::INVALID_RECORD),
        ("too large", batch(&[&large]), code::MESSAGE_TOO_LARGE),
        ("zstd", zstd, zstd_code),
    ] {
        let response = clients.owner.ask(version, &produce_request(name, 0, records));
        let answered = &response.responses[0].partition_responses[0];
        assert_eq!(answered.error_code, expected, "{what}: {:?}", answered.error_message);
        assert_eq!(answered.error_message.is_some(), version >= 8 && expected != 0, "{what}");
    }
    let response = clients.owner.ask(version, &produce_request(name, 0, good.clone()).with_acks(2));
    assert_eq!(response.responses[0].partition_responses[0].error_code, code::INVALID_REQUIRED_ACKS);
    for stranger in [&mut clients.reader, &mut clients.witness] {
        let response = stranger.ask(version, &produce_request(name, 0, good.clone()));
        assert_eq!(response.responses[0].partition_responses[0].error_code, code::TOPIC_AUTHORIZATION_FAILED);
    }
}

pub(crate) fn zstd(plain: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Versions 0 to 2 are refused partition by partition; no library writes them any more.
fn old_produce(version: i16, clients: &mut Clients) {
    let mut body = BytesMut::new();
    body.put_i16(1);
    body.put_i32(30_000);
    body.put_i32(1);
    body.put_i16(13);
    body.put_slice(b"table-produce");
    body.put_i32(1);
    body.put_i32(0);
    body.put_i32(3);
    body.put_slice(b"old");
    let sent = clients.owner.send_body(0, version, 1, &body);
    let mut answer = clients.owner.frame().expect("an answer");
    assert_eq!(answer.get_i32(), sent);
    assert_eq!(answer.get_i32(), 1);
    assert_eq!(answer.get_i16(), 13);
    assert_eq!(&answer.split_to(13)[..], b"table-produce");
    assert_eq!((answer.get_i32(), answer.get_i32()), (1, 0));
    assert_eq!((answer.get_i16(), answer.get_i64()), (code::UNSUPPORTED_VERSION, -1));
    if version >= 2 {
        assert_eq!(answer.get_i64(), -1, "log append time");
    }
    if version >= 1 {
        assert_eq!(answer.get_i32(), 0, "throttle time");
    }
    assert!(answer.is_empty());
}

pub(super) fn fetch(version: i16, clients: &mut Clients, data: &Topic) {
    let from = |offset| fetch_request(data.name, vec![fetch_partition(0, offset)]);
    for client in [&mut clients.owner, &mut clients.reader] {
        // The first fetch of another organisation's payload brings it here.
        let whole =
            fetched(client, version, &from(0).with_max_wait_ms(30_000).with_min_bytes(data.stamped().len() as i32));
        assert_eq!((whole.partition_index, whole.error_code), (0, 0));
        assert_eq!((whole.high_watermark, whole.last_stable_offset), (5, 5));
        assert_eq!(whole.log_start_offset, if version < 5 { -1 } else { 0 });
        assert_eq!(whole.records.as_ref(), Some(&data.stamped()));
        assert!(whole.aborted_transactions.is_none_or(|aborted| aborted.is_empty()));
        let inside = fetched(client, version, &from(4));
        assert_eq!(inside.records, Some(at_offset(3, &data.batches[1])), "the whole batch");
        let end = fetched(client, version, &from(5));
        assert_eq!((end.error_code, end.records.unwrap_or_default()), (0, Bytes::new()));
    }
    let unknown = fetched(&mut clients.owner, version, &fetch_request(UNKNOWN, vec![fetch_partition(0, 0)]));
    assert_eq!(unknown.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let unknown = fetched(&mut clients.owner, version, &fetch_request(data.name, vec![fetch_partition(1, 0)]));
    assert_eq!(unknown.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let denied = fetched(&mut clients.witness, version, &from(0));
    assert_eq!(
        (denied.error_code, denied.records.unwrap_or_default()),
        (code::TOPIC_AUTHORIZATION_FAILED, Bytes::new())
    );
    if version >= 7 {
        let unknown = clients.owner.ask(version, &from(0).with_session_id(77).with_session_epoch(1));
        assert_eq!(unknown.error_code, code::FETCH_SESSION_ID_NOT_FOUND);
    }
    if version >= 9 {
        for (epoch, expected) in [(0, code::FENCED_LEADER_EPOCH), (EPOCH, 0), (2, code::UNKNOWN_LEADER_EPOCH)] {
            let partition = fetch_partition(0, 0).with_current_leader_epoch(epoch);
            let answered = fetched(&mut clients.owner, version, &fetch_request(data.name, vec![partition]));
            assert_eq!(answered.error_code, expected, "epoch {epoch}");
        }
    }
}

pub(super) fn list_offsets(version: i16, clients: &mut Clients, data: &Topic) {
    let unsupported = |since: i16| if version < since { code::UNSUPPORTED_VERSION } else { 0 };
    for client in [&mut clients.owner, &mut clients.reader] {
        for (timestamp, expected) in [
            (-1, (0, 5, -1)),
            (-2, (0, 0, -1)),
            (-3, (unsupported(7), 4, 6_001)),
            (-4, (unsupported(8), 0, -1)),
            (-5, (code::UNSUPPORTED_VERSION, -1, -1)),
            (0, (0, 0, 5_000)),
            (5_001, (0, 1, 5_001)),
            (5_003, (0, 3, 6_000)),
            (6_002, (0, -1, -1)),
        ] {
            let answered = listed(client, version, &list_offsets_request(data.name, 0, timestamp));
            let (code, offset, found) = expected;
            let (offset, found) = if code == 0 { (offset, found) } else { (-1, -1) };
            let epoch = if version < 4 || offset == -1 { -1 } else { EPOCH };
            let got = (answered.error_code, answered.offset, answered.timestamp, answered.leader_epoch);
            assert_eq!(got, (code, offset, found, epoch), "timestamp {timestamp}");
        }
    }
    let unknown = listed(&mut clients.owner, version, &list_offsets_request(UNKNOWN, 0, -1));
    assert_eq!((unknown.error_code, unknown.offset), (code::UNKNOWN_TOPIC_OR_PARTITION, -1));
    for timestamp in [-1, 0] {
        let denied = listed(&mut clients.witness, version, &list_offsets_request(data.name, 0, timestamp));
        assert_eq!((denied.error_code, denied.offset), (code::TOPIC_AUTHORIZATION_FAILED, -1));
    }
    if version >= 4 {
        let mut request = list_offsets_request(data.name, 0, -1);
        request.topics[0].partitions[0].current_leader_epoch = 0;
        assert_eq!(listed(&mut clients.owner, version, &request).error_code, code::FENCED_LEADER_EPOCH);
    }
}

pub(super) fn offset_for_leader_epoch(version: i16, clients: &mut Clients, data: &Topic) {
    let request = |name: &str, current: i32, epoch: i32| {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(topic(name)).with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-2)).with_topics(vec![topic])
    };
    for (name, current, epoch, expected) in [
        (data.name, -1, EPOCH, (0, EPOCH, 5)),
        (data.name, EPOCH, EPOCH, (0, EPOCH, 5)),
        (data.name, -1, 0, (0, 0, 0)),
        (data.name, -1, 9, (0, -1, -1)),
        (data.name, 0, EPOCH, (code::FENCED_LEADER_EPOCH, -1, -1)),
        (data.name, 9, EPOCH, (code::UNKNOWN_LEADER_EPOCH, -1, -1)),
        (UNKNOWN, -1, EPOCH, (code::UNKNOWN_TOPIC_OR_PARTITION, -1, -1)),
    ] {
        let response = clients.owner.ask(version, &request(name, current, epoch));
        assert_eq!(response.topics[0].topic.as_str(), name);
        let found = &response.topics[0].partitions[0];
        assert_eq!((found.error_code, found.leader_epoch, found.end_offset), expected, "{name} {current} {epoch}");
    }
    let response = clients.witness.ask(version, &request(data.name, -1, EPOCH));
    assert_eq!(response.topics[0].partitions[0].error_code, code::TOPIC_AUTHORIZATION_FAILED);
}

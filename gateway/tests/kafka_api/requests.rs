//! Requests as tests write them, and what they ask for most often.

use crate::client::Client;
use crate::network::acme;
use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, GroupId, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::time::{Duration, Instant};
use waybill_gateway::batch::build::Builder;

/// Kafka's codes, as they stand in answers.
pub mod code {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub const INVALID_TOPIC: i16 = 17;
    pub const INVALID_REQUIRED_ACKS: i16 = 21;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    pub const INVALID_GROUP_ID: i16 = 24;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const INVALID_SESSION_TIMEOUT: i16 = 26;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub const INVALID_TIMESTAMP: i16 = 32;
    pub const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    pub const ILLEGAL_SASL_STATE: i16 = 34;
    pub const UNSUPPORTED_VERSION: i16 = 35;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const INVALID_PARTITIONS: i16 = 37;
    pub const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    pub const INVALID_CONFIG: i16 = 40;
    pub const INVALID_REQUEST: i16 = 42;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub const SASL_AUTHENTICATION_FAILED: i16 = 58;
    pub const NON_EMPTY_GROUP: i16 = 68;
    pub const GROUP_ID_NOT_FOUND: i16 = 69;
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub const FENCED_LEADER_EPOCH: i16 = 74;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub const OFFSET_NOT_AVAILABLE: i16 = 78;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    pub const FENCED_INSTANCE_ID: i16 = 82;
    pub const INVALID_RECORD: i16 = 87;
    pub const RESOURCE_NOT_FOUND: i16 = 91;
    pub const DUPLICATE_RESOURCE: i16 = 92;
    pub const UNACCEPTABLE_CREDENTIAL: i16 = 93;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
    pub const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
    pub const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;
}

/// The leader epoch of every partition here.
pub const EPOCH: i32 = 1;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

pub fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

pub fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// A batch with a record for each value, one millisecond apart.
pub fn batch(values: &[&str]) -> Bytes {
    batch_from(1_000, values).build()
}

pub fn batch_from(time_ms: i64, values: &[&str]) -> Builder {
    let builder = Builder::new(time_ms);
    let numbered = values.iter().enumerate();
    numbered.fold(builder, |builder, (index, value)| {
        builder.record(time_ms + index as i64, Some(b"key"), Some(value.as_bytes()))
    })
}

pub fn produce_request(name: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// What became of one batch.
pub fn produce(client: &mut Client, name: &str, records: Bytes) -> PartitionProduceResponse {
    let response = client.ask(9, &produce_request(name, 0, records));
    response.responses[0].partition_responses[0].clone()
}

/// Appends a batch and gives its offset.
pub fn append(client: &mut Client, name: &str, records: Bytes) -> i64 {
    let produced = produce(client, name, records);
    assert_eq!(produced.error_code, 0, "{name}: {:?}", produced.error_message);
    produced.base_offset
}

pub fn fetch_partition(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
}

pub fn fetch_request(name: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_topics(vec![FetchTopic::default().with_topic(topic(name)).with_partitions(partitions)])
}

/// The only partition of an answer.
pub fn fetched(client: &mut Client, version: i16, request: &FetchRequest) -> PartitionData {
    let response = client.ask(version, request);
    assert_eq!((response.error_code, response.session_id), (0, 0));
    response.responses[0].partitions[0].clone()
}

/// The records of partition 0 from an offset on.
pub fn records_from(client: &mut Client, name: &str, offset: i64) -> Bytes {
    let partition = fetched(client, 12, &fetch_request(name, vec![fetch_partition(0, offset)]));
    assert_eq!(partition.error_code, 0, "{name} from {offset}");
    partition.records.unwrap_or_default()
}

/// As consumers see a batch that was produced so: at its offset, under the partition's epoch, else untouched.
pub fn at_offset(offset: i64, batch: &Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&EPOCH.to_be_bytes());
    bytes.into()
}

pub fn list_offsets_request(name: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

pub fn listed(client: &mut Client, version: i16, request: &ListOffsetsRequest) -> ListOffsetsPartitionResponse {
    client.ask(version, request).topics[0].partitions[0].clone()
}

pub fn creatable(name: &str) -> CreatableTopic {
    CreatableTopic::default().with_name(topic(name)).with_num_partitions(1).with_replication_factor(-1)
}

pub fn config(name: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
}

pub fn create_request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000)
}

pub fn create(client: &mut Client, topic: CreatableTopic) -> CreatableTopicResult {
    client.ask(7, &create_request(vec![topic])).topics[0].clone()
}

/// Creates a topic of acme and gives a connection there.
pub fn acme_with(topic: CreatableTopic) -> Client {
    let mut client = Client::connect(acme());
    let created = create(&mut client, topic);
    assert_eq!(created.error_code, 0, "{:?}", created.error_message);
    client
}

/// A topic that is to have so many partitions in all.
pub fn enlarged(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic::default().with_name(topic(name)).with_count(count).with_assignments(None)
}

/// Creates a topic of acme with one partition and gives a connection there.
pub fn acme_with_topic(name: &str) -> Client {
    acme_with(creatable(name))
}

pub fn named(name: &str) -> MetadataRequest {
    MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic(name)))]))
}

/// The topic as it is, without creating it.
pub fn described(client: &mut Client, name: &str) -> MetadataResponseTopic {
    client.ask(12, &named(name).with_allow_auto_topic_creation(false)).topics[0].clone()
}

/// What one organisation has created reaches the others a moment later.
pub fn wait_until_known(client: &mut Client, name: &str) {
    eventually(name, || {
        let topic = described(client, name);
        topic.error_code == 0 && topic.partitions.iter().all(|partition| partition.error_code == 0)
    });
}

/// Waits for what no event tells a client of.
pub fn eventually(what: &str, mut found: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !found() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! The Kafka APIs this gateway speaks, and in which versions.
//!
//! The table is written by hand: `ApiKey::valid_versions()` of `kafka-protocol` claims versions that its decoders
//! refuse. What stands here is advertised in ApiVersions, and what is advertised is served and tested; a client falls
//! back from, or does without, what is missing.
//!
//! Four rows are as they are for the sake of existing clients:
//! - Produce starts at 0, because librdkafka 2.0 otherwise believes that the broker knows no gzip, snappy or lz4 and
//!   silently sends uncompressed. Versions 0 to 2 are decoded and refused partition by partition.
//! - Fetch ends at 12 and Produce at 11: the next ones name topics by id.
//! - JoinGroup starts at 0, because librdkafka takes a higher minimum for a broker without consumer groups.
//! - ApiVersions answers with a version 0 header whatever the version (KIP-511), so that a client can always read it.

/// A Kafka API, by its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(i16)]
pub enum Api {
    /// Write record batches.
    Produce = 0,
    /// Read record batches, waiting for new ones.
    Fetch = 1,
    /// Offsets by timestamp, and the first and last ones.
    ListOffsets = 2,
    /// Brokers, topics, partitions, leaders.
    Metadata = 3,
    /// Store a consumer group's positions.
    OffsetCommit = 8,
    /// Read a consumer group's positions.
    OffsetFetch = 9,
    /// Which broker coordinates a group.
    FindCoordinator = 10,
    /// Enter a group's next generation.
    JoinGroup = 11,
    /// Keep a member's session alive.
    Heartbeat = 12,
    /// Leave a group at once.
    LeaveGroup = 13,
    /// Hand in or receive the generation's assignments.
    SyncGroup = 14,
    /// State and members of groups.
    DescribeGroups = 15,
    /// The groups this broker coordinates.
    ListGroups = 16,
    /// Choose how to log in.
    SaslHandshake = 17,
    /// This table.
    ApiVersions = 18,
    /// Create topics.
    CreateTopics = 19,
    /// Delete topics.
    DeleteTopics = 20,
    /// An id and epoch for an idempotent producer.
    InitProducerId = 22,
    /// The end offset of a leader epoch.
    OffsetForLeaderEpoch = 23,
    /// Configuration of topics and brokers.
    DescribeConfigs = 32,
    /// Log in.
    SaslAuthenticate = 36,
    /// Give topics further partitions.
    CreatePartitions = 37,
    /// Delete empty groups.
    DeleteGroups = 42,
    /// Delete some of a group's positions.
    OffsetDelete = 47,
    /// What users and clients are limited to.
    DescribeClientQuotas = 48,
    /// The users who can log in.
    DescribeUserScramCredentials = 50,
    /// Users come, change and go.
    AlterUserScramCredentials = 51,
    /// The cluster's id and brokers.
    DescribeCluster = 60,
}

/// One API's row in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Which API.
    pub api: Api,
    /// The lowest version advertised.
    pub min: i16,
    /// The highest version advertised.
    pub max: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    flexible_since: i16,
}

/// No version of this API is flexible.
const NEVER: i16 = i16::MAX;

/// Every API that is served, ordered by key: the content of an ApiVersions response.
pub const TABLE: [Row; 28] = [
    row(Api::Produce, 0, 11, 9),
    row(Api::Fetch, 4, 12, 12),
    row(Api::ListOffsets, 1, 8, 6),
    row(Api::Metadata, 0, 12, 9),
    row(Api::OffsetCommit, 2, 8, 8),
    row(Api::OffsetFetch, 1, 8, 6),
    row(Api::FindCoordinator, 0, 4, 3),
    row(Api::JoinGroup, 0, 9, 6),
    row(Api::Heartbeat, 0, 4, 4),
    row(Api::LeaveGroup, 0, 5, 4),
    row(Api::SyncGroup, 0, 5, 4),
    row(Api::DescribeGroups, 0, 6, 5),
    row(Api::ListGroups, 0, 5, 3),
    row(Api::SaslHandshake, 0, 1, NEVER),
    row(Api::ApiVersions, 0, 4, 3),
    row(Api::CreateTopics, 2, 7, 5),
    row(Api::DeleteTopics, 1, 6, 4),
    row(Api::InitProducerId, 0, 4, 2),
    row(Api::OffsetForLeaderEpoch, 2, 4, 4),
    row(Api::DescribeConfigs, 1, 4, 4),
    row(Api::SaslAuthenticate, 0, 2, 2),
    row(Api::CreatePartitions, 0, 3, 2),
    row(Api::DeleteGroups, 0, 2, 2),
    row(Api::OffsetDelete, 0, 0, NEVER),
    row(Api::DescribeClientQuotas, 0, 1, 1),
    row(Api::DescribeUserScramCredentials, 0, 0, 0),
    row(Api::AlterUserScramCredentials, 0, 0, 0),
    row(Api::DescribeCluster, 0, 2, 0),
];

/// The row of an API, or `None` for a key that is unknown or not served.
pub fn served(api_key: i16) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.api.key() == api_key)
}

/// Whether this version of the API's messages has compact lengths and tagged fields.
pub fn is_flexible(api: Api, version: i16) -> bool {
    TABLE.iter().any(|row| row.api == api && version >= row.flexible_since)
}

/// Whether the header of such a request ends with tagged fields (request header version 2).
///
/// False for what is not served: nothing behind the client id of such a request is ever read.
pub fn request_header_has_tags(api_key: i16, version: i16) -> bool {
    served(api_key).is_some_and(|row| row.supports(version) && version >= row.flexible_since)
}

/// The version of the header to answer with: 1 (with tagged fields) for a flexible version, else 0.
///
/// Always 0 for ApiVersions.
pub fn response_header_version(api: Api, version: i16) -> i16 {
    i16::from(api != Api::ApiVersions && is_flexible(api, version))
}

impl Api {
    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Api::Produce => "Produce",
            Api::Fetch => "Fetch",
            Api::ListOffsets => "ListOffsets",
            Api::Metadata => "Metadata",
            Api::OffsetCommit => "OffsetCommit",
            Api::OffsetFetch => "OffsetFetch",
            Api::FindCoordinator => "FindCoordinator",
            Api::JoinGroup => "JoinGroup",
            Api::Heartbeat => "Heartbeat",
            Api::LeaveGroup => "LeaveGroup",
            Api::SyncGroup => "SyncGroup",
            Api::DescribeGroups => "DescribeGroups",
            Api::ListGroups => "ListGroups",
            Api::SaslHandshake => "SaslHandshake",
            Api::ApiVersions => "ApiVersions",
            Api::CreateTopics => "CreateTopics",
            Api::DeleteTopics => "DeleteTopics",
            Api::InitProducerId => "InitProducerId",
            Api::OffsetForLeaderEpoch => "OffsetForLeaderEpoch",
            Api::DescribeConfigs => "DescribeConfigs",
            Api::SaslAuthenticate => "SaslAuthenticate",
            Api::CreatePartitions => "CreatePartitions",
            Api::DeleteGroups => "DeleteGroups",
            Api::OffsetDelete => "OffsetDelete",
            Api::DescribeClientQuotas => "DescribeClientQuotas",
            Api::DescribeUserScramCredentials => "DescribeUserScramCredentials",
            Api::AlterUserScramCredentials => "AlterUserScramCredentials",
            Api::DescribeCluster => "DescribeCluster",
        }
    }

    /// The key that stands in request headers.
    pub const fn key(self) -> i16 {
        self as i16
    }
}

impl Row {
    /// Whether a request of this version can be answered in kind.
    pub const fn supports(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

const fn row(api: Api, min: i16, max: i16, flexible_since: i16) -> Row {
    Row { api, min, max, flexible_since }
}

#[cfg(test)]
mod tests {
    //! The table against `kafka-protocol`'s own tables where those can be trusted: header versions, and the range
    //! that its decoders accept.

    use super::*;
    use kafka_protocol::messages::ApiKey;

    #[test]
    fn keys_ascend_so_none_is_listed_twice() {
        assert!(TABLE.windows(2).all(|pair| pair[0].api.key() < pair[1].api.key()));
    }

    #[test]
    fn header_versions_agree_with_the_specification() {
        for row in TABLE {
            let key = ApiKey::try_from(row.api.key()).expect("a key of Kafka's");
            for version in row.min..=row.max {
                let flexible = is_flexible(row.api, version);
                // kafka-protocol knows no Produce below 3; there as everywhere below 9 the header has no tags.
                assert_eq!(key.request_header_version(version), 1 + i16::from(flexible), "{row:?} {version}");
                assert_eq!(
                    key.response_header_version(version),
                    response_header_version(row.api, version),
                    "{row:?} {version}"
                );
            }
        }
    }

    #[test]
    fn every_advertised_version_lies_within_what_the_decoders_take() {
        for row in TABLE {
            let key = ApiKey::try_from(row.api.key()).expect("a key of Kafka's");
            let taken = key.valid_versions();
            assert!(row.max <= taken.max, "{row:?}");
            assert!(row.min >= taken.min || row.api == Api::Produce, "{row:?}");
        }
    }

    #[test]
    fn old_clients_find_the_minima_they_need() {
        let minimum = |api: Api| served(api.key()).map(|row| row.min);
        assert_eq!(minimum(Api::Produce), Some(0), "else librdkafka 2.0 does not compress");
        assert_eq!(minimum(Api::JoinGroup), Some(0));
        assert!(minimum(Api::OffsetCommit) <= Some(3), "aiokafka");
        assert!(minimum(Api::OffsetFetch) <= Some(4), "kafkajs");
    }

    #[test]
    fn api_versions_is_always_answered_with_header_0() {
        assert!((0..=4).all(|version| response_header_version(Api::ApiVersions, version) == 0));
    }

    #[test]
    fn nothing_is_read_behind_the_client_id_of_an_unserved_request() {
        assert!(!request_header_has_tags(Api::ApiVersions.key(), 99));
        assert!(!request_header_has_tags(Api::ApiVersions.key(), -1));
        assert!(!request_header_has_tags(i16::MAX, 0));
        assert!(request_header_has_tags(Api::ApiVersions.key(), 3));
    }
}

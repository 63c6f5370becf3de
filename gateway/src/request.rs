//! From a frame's body to a typed request, safely.
//!
//! [`Request::decode`] is the only place where `kafka-protocol` sees bytes of a client, and they have passed
//! `shape::check` by then. The structs are that crate's; the records in them are slices of the frame.

mod old_produce;
mod shape;
mod shapes;

use bytes::Bytes;
use kafka_protocol::messages;
use kafka_protocol::protocol::Decodable;
use thiserror::Error;

use crate::frame::RequestHeader;
use crate::versions::{self, Api};

pub use old_produce::{FIRST_SERVED as PRODUCE_FIRST_SERVED, encode_response as encode_old_produce_response};
pub use shape::{ELEMENTS_MAX, ShapeError, TAGS_MAX};

/// Why a body was not decoded.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// The key is not advertised. Kafka closes the connection.
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    /// The version is not advertised. For ApiVersions the answer is error 35 in a version 0 body with the list of
    /// versions; for every other API Kafka closes the connection.
    #[error("{api:?} version {version} is not served")]
    UnsupportedVersion {
        /// Which API.
        api: Api,
        /// The version asked for.
        version: i16,
    },
    /// A length in the body cannot be true. The connection cannot go on.
    #[error("{api:?} version {version}: {reason}")]
    Malformed {
        /// Which API.
        api: Api,
        /// The version of the body.
        version: i16,
        /// What was wrong where.
        reason: ShapeError,
    },
    /// The lengths are right and the content is not: a null where there can be none, text that is not UTF-8.
    #[error("{api:?} version {version}: {reason}")]
    Invalid {
        /// Which API.
        api: Api,
        /// The version of the body.
        version: i16,
        /// The decoder's words.
        reason: String,
    },
}

macro_rules! requests {
    ($($api:ident($message:ident) = $shape:ident,)*) => {
        /// A decoded request of an API in [`versions::TABLE`].
        #[derive(Clone, PartialEq, Debug)]
        pub enum Request {
            $(
                #[doc = concat!("A request of [`Api::", stringify!($api), "`].")]
                $api(messages::$message),
            )*
        }

        impl Request {
            /// Which API this is a request of.
            pub const fn api(&self) -> Api {
                match self {
                    $(Self::$api(_) => Api::$api,)*
                }
            }

            fn decode_checked(api: Api, version: i16, body: &mut Bytes) -> Result<Self, String> {
                if api == Api::Produce && version < old_produce::FIRST_SERVED {
                    return old_produce::decode(body).map(Self::Produce);
                }
                match api {
                    $(Api::$api => messages::$message::decode(body, version).map(Self::$api),)*
                }
                .map_err(|error| error.to_string())
            }
        }

        const fn shape_of(api: Api) -> &'static [shape::Field] {
            match api {
                $(Api::$api => shapes::$shape,)*
            }
        }
    };
}

requests! {
    Produce(ProduceRequest) = PRODUCE,
    Fetch(FetchRequest) = FETCH,
    ListOffsets(ListOffsetsRequest) = LIST_OFFSETS,
    Metadata(MetadataRequest) = METADATA,
    OffsetCommit(OffsetCommitRequest) = OFFSET_COMMIT,
    OffsetFetch(OffsetFetchRequest) = OFFSET_FETCH,
    FindCoordinator(FindCoordinatorRequest) = FIND_COORDINATOR,
    JoinGroup(JoinGroupRequest) = JOIN_GROUP,
    Heartbeat(HeartbeatRequest) = HEARTBEAT,
    LeaveGroup(LeaveGroupRequest) = LEAVE_GROUP,
    SyncGroup(SyncGroupRequest) = SYNC_GROUP,
    DescribeGroups(DescribeGroupsRequest) = DESCRIBE_GROUPS,
    ListGroups(ListGroupsRequest) = LIST_GROUPS,
    SaslHandshake(SaslHandshakeRequest) = SASL_HANDSHAKE,
    ApiVersions(ApiVersionsRequest) = API_VERSIONS,
    CreateTopics(CreateTopicsRequest) = CREATE_TOPICS,
    DeleteTopics(DeleteTopicsRequest) = DELETE_TOPICS,
    InitProducerId(InitProducerIdRequest) = INIT_PRODUCER_ID,
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest) = OFFSET_FOR_LEADER_EPOCH,
    DescribeConfigs(DescribeConfigsRequest) = DESCRIBE_CONFIGS,
    SaslAuthenticate(SaslAuthenticateRequest) = SASL_AUTHENTICATE,
    CreatePartitions(CreatePartitionsRequest) = CREATE_PARTITIONS,
    DeleteGroups(DeleteGroupsRequest) = DELETE_GROUPS,
    OffsetDelete(OffsetDeleteRequest) = OFFSET_DELETE,
    DescribeClientQuotas(DescribeClientQuotasRequest) = DESCRIBE_CLIENT_QUOTAS,
    DescribeUserScramCredentials(DescribeUserScramCredentialsRequest) = DESCRIBE_USER_SCRAM_CREDENTIALS,
    AlterUserScramCredentials(AlterUserScramCredentialsRequest) = ALTER_USER_SCRAM_CREDENTIALS,
    DescribeCluster(DescribeClusterRequest) = DESCRIBE_CLUSTER,
}

impl Request {
    /// Decodes the body that [`RequestHeader::read`] split off, if its API and version are served.
    pub fn decode(header: &RequestHeader, body: Bytes) -> Result<Self, DecodeError> {
        let row = versions::served(header.api_key).ok_or(DecodeError::UnknownApi(header.api_key))?;
        let (api, version) = (row.api, header.api_version);
        if !row.supports(version) {
            return Err(DecodeError::UnsupportedVersion { api, version });
        }
        Self::decode_body(api, version, body)
    }

    fn decode_body(api: Api, version: i16, mut body: Bytes) -> Result<Self, DecodeError> {
        shape::check(shape_of(api), version, versions::is_flexible(api, version), &body)
            .map_err(|reason| DecodeError::Malformed { api, version, reason })?;
        Self::decode_checked(api, version, &mut body).map_err(|reason| DecodeError::Invalid { api, version, reason })
    }
}

#[cfg(test)]
mod tests;

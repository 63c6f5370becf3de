//! Why the gateway says no, and the one Kafka code for each reason.
//!
//! Every other part of the crate names its outcomes in its own words and turns them into a [`Refusal`] where it
//! answers; only this file knows Kafka's codes. A code decides what a client does next, so each choice below that is
//! not Kafka's own for the same situation says what it makes clients do.

use kafka_protocol::ResponseError;

use crate::batch::BatchError;
use crate::group::GroupError;
use crate::security::sasl::AuthenticationError;

/// A reason not to do what a client asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The topic or the partition does not exist, or is not yet known at this node.
    UnknownTopicOrPartition,
    /// The topic id does not exist.
    UnknownTopicId,
    /// The topic name is empty, too long or has characters that Kafka does not allow.
    InvalidTopic,
    /// The topic to be created exists.
    TopicExists,
    /// The number of partitions is not one the network can place.
    InvalidPartitions,
    /// The replication factor is not -1, 1 or of the form 3f+1.
    InvalidReplicationFactor,
    /// Replicas are placed by the network, not by clients.
    InvalidReplicaAssignment,
    /// A configuration key or value that is not known.
    InvalidConfig,
    /// A well-formed request that contradicts itself.
    InvalidRequest,
    /// The version of this request is advertised for old clients' sake and not served.
    UnsupportedVersion,

    /// The organisation may not read, write or see this topic.
    TopicDenied,
    /// The client may not use this group.
    GroupDenied,
    /// The client may not administer the network.
    ClusterDenied,
    /// A transfer contract rejects the batch. The producer is not to retry it.
    ContractRejected,

    /// The batch was changed between producer and gateway. Producers send it again.
    CorruptBatch,
    /// The batch breaks a rule of Kafka's; sent again it would break it again.
    InvalidRecord,
    /// The batch claims a time that only brokers may set, or one out of bounds.
    InvalidTimestamp,
    /// The batch is compressed in a way that does not exist.
    UnsupportedCompression,
    /// The batch is larger than the topic's `max.message.bytes`.
    BatchTooLarge,
    /// `acks` is none of -1, 0, 1.
    InvalidRequiredAcks,
    /// The sequence number is not the one after the producer's last.
    OutOfOrderSequence,
    /// The batch is older than the duplicates that are remembered.
    DuplicateSequence,
    /// A newer instance of the producer has taken over (idempotent producers).
    InvalidProducerEpoch,
    /// A newer instance of the producer has taken over (transactional producers).
    ProducerFenced,
    /// Nothing is remembered of this producer id and its sequence does not begin at zero.
    UnknownProducerId,

    /// Too few replicas answer: the batch was not submitted, and is safe to send again.
    QuorumUnavailable,
    /// The batch was submitted and its fate is not known in time. An idempotent producer sends it again safely.
    RequestTimedOut,
    /// The organisation's own store cannot keep or return bytes.
    StoreUnavailable,
    /// The stored bytes do not match their commitment; they are never served. Consumers try again, for the sender
    /// may mend or mirror them. CORRUPT_MESSAGE would stop a Java consumer for good.
    PayloadDamaged,
    /// The sending organisation's connector does not answer. Consumers try again.
    PayloadUnreachable,
    /// This gateway's node has not executed as far as the offset asked for (decision 9: never out of range).
    GatewayBehind,
    /// The offset is below the first or beyond the last one.
    OffsetOutOfRange,
    /// This node is no gateway for the partition any more.
    NotLeader,
    /// The client knows an older configuration of the partition.
    FencedLeaderEpoch,
    /// The client knows a newer configuration of the partition than this node.
    UnknownLeaderEpoch,
    /// Fetch sessions are not kept: the client goes on without one.
    FetchSessionUnknown,

    /// The coordinator is being loaded after a restart.
    CoordinatorLoading,
    /// The organisation's ledger has no leader at present.
    CoordinatorUnavailable,
    /// Another node of the organisation coordinates this group.
    NotCoordinator,
    /// The group id is empty or not text.
    InvalidGroupId,
    /// The group does not exist.
    UnknownGroup,
    /// What a consumer group's state machine says.
    Group(GroupError),
    /// The offset's metadata string is too long.
    OffsetMetadataTooLarge,

    /// Transactional producers are not served yet. Fatal for the client, with a message that names the cause; a
    /// retriable code would make it ask for ever.
    TransactionsNotServed,
    /// Controllers were asked for, and this is a broker.
    MismatchedEndpointType,
    /// An endpoint that does not exist was asked for.
    UnsupportedEndpointType,

    /// Nobody logs in so: user, password or proof are wrong.
    AuthenticationFailed,
    /// A mechanism that is not offered.
    UnsupportedMechanism,
    /// A step of SASL where none is expected.
    IllegalSaslState,
    /// The user has no such credential.
    UnknownCredential,
    /// The user is named twice in one request.
    DuplicateUser,
    /// The credential breaks a limit.
    UnacceptableCredential,

    /// A limit of this node is reached. Clients back off.
    Throttled,
    /// A fault of this node, logged where it was found.
    Internal,
}

impl Refusal {
    /// Kafka's error.
    pub const fn kafka(self) -> ResponseError {
        use ResponseError as Kafka;
        match self {
            Self::UnknownTopicOrPartition => Kafka::UnknownTopicOrPartition,
            Self::UnknownTopicId => Kafka::UnknownTopicId,
            Self::InvalidTopic => Kafka::InvalidTopicException,
            Self::TopicExists => Kafka::TopicAlreadyExists,
            Self::InvalidPartitions => Kafka::InvalidPartitions,
            Self::InvalidReplicationFactor => Kafka::InvalidReplicationFactor,
            Self::InvalidReplicaAssignment => Kafka::InvalidReplicaAssignment,
            Self::InvalidConfig => Kafka::InvalidConfig,
            Self::InvalidRequest => Kafka::InvalidRequest,
            Self::UnsupportedVersion => Kafka::UnsupportedVersion,

            Self::TopicDenied => Kafka::TopicAuthorizationFailed,
            Self::GroupDenied => Kafka::GroupAuthorizationFailed,
            Self::ClusterDenied => Kafka::ClusterAuthorizationFailed,
            Self::ContractRejected => Kafka::PolicyViolation,

            Self::CorruptBatch => Kafka::CorruptMessage,
            Self::InvalidRecord => Kafka::InvalidRecord,
            Self::InvalidTimestamp => Kafka::InvalidTimestamp,
            Self::UnsupportedCompression => Kafka::UnsupportedCompressionType,
            Self::BatchTooLarge => Kafka::MessageTooLarge,
            Self::InvalidRequiredAcks => Kafka::InvalidRequiredAcks,
            Self::OutOfOrderSequence => Kafka::OutOfOrderSequenceNumber,
            Self::DuplicateSequence => Kafka::DuplicateSequenceNumber,
            Self::InvalidProducerEpoch => Kafka::InvalidProducerEpoch,
            Self::ProducerFenced => Kafka::ProducerFenced,
            Self::UnknownProducerId => Kafka::UnknownProducerId,

            Self::QuorumUnavailable => Kafka::NotEnoughReplicas,
            Self::RequestTimedOut => Kafka::RequestTimedOut,
            Self::StoreUnavailable | Self::PayloadDamaged | Self::PayloadUnreachable => Kafka::KafkaStorageError,
            Self::GatewayBehind => Kafka::OffsetNotAvailable,
            Self::OffsetOutOfRange => Kafka::OffsetOutOfRange,
            Self::NotLeader => Kafka::NotLeaderOrFollower,
            Self::FencedLeaderEpoch => Kafka::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch => Kafka::UnknownLeaderEpoch,
            Self::FetchSessionUnknown => Kafka::FetchSessionIdNotFound,

            Self::CoordinatorLoading => Kafka::CoordinatorLoadInProgress,
            Self::CoordinatorUnavailable => Kafka::CoordinatorNotAvailable,
            Self::NotCoordinator => Kafka::NotCoordinator,
            Self::InvalidGroupId => Kafka::InvalidGroupId,
            Self::UnknownGroup => Kafka::GroupIdNotFound,
            Self::Group(error) => of_group(error),
            Self::OffsetMetadataTooLarge => Kafka::OffsetMetadataTooLarge,

            Self::TransactionsNotServed => Kafka::TransactionalIdAuthorizationFailed,
            Self::MismatchedEndpointType => Kafka::MismatchedEndpointType,
            Self::UnsupportedEndpointType => Kafka::UnsupportedEndpointType,

            Self::AuthenticationFailed => Kafka::SaslAuthenticationFailed,
            Self::UnsupportedMechanism => Kafka::UnsupportedSaslMechanism,
            Self::IllegalSaslState => Kafka::IllegalSaslState,
            Self::UnknownCredential => Kafka::ResourceNotFound,
            Self::DuplicateUser => Kafka::DuplicateResource,
            Self::UnacceptableCredential => Kafka::UnacceptableCredential,

            Self::Throttled => Kafka::ThrottlingQuotaExceeded,
            Self::Internal => Kafka::UnknownServerError,
        }
    }

    /// Kafka's code, as it stands in responses.
    pub const fn code(self) -> i16 {
        self.kafka().code()
    }
}

const fn of_group(error: GroupError) -> ResponseError {
    use ResponseError as Kafka;
    match error {
        GroupError::UnknownMember => Kafka::UnknownMemberId,
        GroupError::FencedInstance => Kafka::FencedInstanceId,
        GroupError::IllegalGeneration => Kafka::IllegalGeneration,
        GroupError::InconsistentProtocol => Kafka::InconsistentGroupProtocol,
        GroupError::RebalanceInProgress => Kafka::RebalanceInProgress,
        GroupError::MemberIdRequired => Kafka::MemberIdRequired,
        GroupError::Full => Kafka::GroupMaxSizeReached,
        GroupError::InvalidSessionTimeout => Kafka::InvalidSessionTimeout,
        GroupError::TooLarge => Kafka::InvalidRequest,
        // Clients look for the coordinator anew, and find the group in whatever state it is in there.
        GroupError::Unavailable | GroupError::Gone => Kafka::CoordinatorNotAvailable,
        GroupError::NotCoordinator => Kafka::NotCoordinator,
        GroupError::NotEmpty => Kafka::NonEmptyGroup,
    }
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Self {
        Self::Group(error)
    }
}

impl From<AuthenticationError> for Refusal {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::UnsupportedMechanism => Self::UnsupportedMechanism,
            AuthenticationError::OutOfTurn => Self::IllegalSaslState,
            AuthenticationError::InvalidCredentials(_)
            | AuthenticationError::OtherIdentity
            | AuthenticationError::OtherUser
            | AuthenticationError::OtherMechanism { .. }
            | AuthenticationError::NoRandomness => Self::AuthenticationFailed,
        }
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Checksum { .. } | BatchError::Truncated | BatchError::Length(_) => Self::CorruptBatch,
            BatchError::Codec(_) => Self::UnsupportedCompression,
            BatchError::TimestampType => Self::InvalidTimestamp,
            BatchError::Empty
            | BatchError::Several
            | BatchError::Magic(_)
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::Sequence { .. } => Self::InvalidRecord,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_to_try_again_is_retriable() {
        for refusal in [
            Refusal::CorruptBatch,
            Refusal::QuorumUnavailable,
            Refusal::RequestTimedOut,
            Refusal::StoreUnavailable,
            Refusal::PayloadDamaged,
            Refusal::PayloadUnreachable,
            Refusal::GatewayBehind,
            Refusal::NotLeader,
            Refusal::CoordinatorLoading,
            Refusal::CoordinatorUnavailable,
            Refusal::NotCoordinator,
            Refusal::UnknownTopicOrPartition,
        ] {
            assert!(refusal.kafka().is_retriable(), "{refusal:?}");
        }
    }

    #[test]
    fn what_would_fail_again_is_not() {
        for refusal in [
            Refusal::TopicDenied,
            Refusal::ContractRejected,
            Refusal::InvalidRecord,
            Refusal::BatchTooLarge,
            Refusal::UnsupportedCompression,
            Refusal::InvalidTimestamp,
            Refusal::OutOfOrderSequence,
            Refusal::UnsupportedVersion,
        ] {
            assert!(!refusal.kafka().is_retriable(), "{refusal:?}");
        }
    }

    #[test]
    fn codes_are_those_of_the_protocol() {
        assert_eq!(Refusal::UnsupportedVersion.code(), 35);
        assert_eq!(Refusal::PayloadDamaged.code(), 56);
        assert_eq!(Refusal::GatewayBehind.code(), 78);
        assert_eq!(Refusal::from(BatchError::Magic(1)).code(), 87);
        assert_eq!(Refusal::from(BatchError::Truncated).code(), 2);
        assert_eq!(Refusal::from(GroupError::MemberIdRequired).code(), 79);
        assert_eq!(Refusal::from(GroupError::UnknownMember).code(), 25);
    }
}

//! What can be asked of the organisation ledger, and its answers.

use super::users::{UserChange, UserOutcome};
use bytes::Bytes;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::ids::{Offset, TopicId};
use waybill_types::{codec_enum, codec_struct};

/// One change of the organisation's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A group commits offsets.
    CommitOffsets(CommitOffsets),
    /// A group forgets offsets of some partitions.
    DeleteOffsets(DeleteOffsets),
    /// The group coordinator saves a group's state.
    SaveGroup(SaveGroup),
    /// A group goes, with its offsets.
    DeleteGroup(String),
    /// A topic went: every group forgets its offsets of it.
    ForgetTopic(TopicId),
    /// A gateway takes this many producer ids, to hand out.
    AllocateProducerIds(u32),
    /// Users come, change or go.
    AlterUsers(Vec<UserChange>),
}
codec_enum!(Command {
    1 => CommitOffsets,
    2 => DeleteOffsets,
    3 => SaveGroup,
    4 => DeleteGroup,
    5 => ForgetTopic,
    6 => AllocateProducerIds,
    7 => AlterUsers,
});

/// Offsets that a group commits together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffsets {
    /// The group.
    pub group: String,
    /// The offsets; one that breaks a limit is left out alone.
    pub entries: Vec<OffsetCommit>,
}
codec_struct!(CommitOffsets { group, entries });

/// One partition's part of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// What is committed.
    pub committed: CommittedOffset,
}
codec_struct!(OffsetCommit { topic, partition, committed });

/// A committed offset with what Kafka keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset the group will read.
    pub offset: Offset,
    /// The leader epoch of the last record read, -1 if the client did not say.
    pub leader_epoch: i32,
    /// The client's own note, up to [`OFFSET_METADATA_BYTES_MAX`](super::OFFSET_METADATA_BYTES_MAX).
    pub metadata: String,
    /// When it was committed, in milliseconds since 1970, by the coordinator's clock.
    pub time_ms: i64,
}
codec_struct!(CommittedOffset { offset, leader_epoch, metadata, time_ms });

/// Offsets that a group forgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOffsets {
    /// The group.
    pub group: String,
    /// Topic and partition of each offset to go.
    pub partitions: Vec<(TopicId, u32)>,
}
codec_struct!(DeleteOffsets { group, partitions });

/// The coordinator's state of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveGroup {
    /// The group.
    pub group: String,
    /// Its state, as the coordinator encodes it.
    pub metadata: Bytes,
}
codec_struct!(SaveGroup { group, metadata });

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One outcome for each offset, in the order of the commit.
    OffsetsCommitted(Vec<OffsetOutcome>),
    /// How many offsets went.
    OffsetsDeleted(u32),
    /// Whether the group existed before.
    GroupSaved(bool),
    /// Whether there was such a group.
    GroupDeleted(bool),
    /// The ids that now belong to the caller.
    ProducerIds(ProducerIds),
    /// Nothing was changed.
    Refused(Refusal),
    /// One outcome for each change of a user, in the order of the command.
    UsersAltered(Vec<UserOutcome>),
}
codec_enum!(Answer {
    1 => OffsetsCommitted,
    2 => OffsetsDeleted,
    3 => GroupSaved,
    4 => GroupDeleted,
    5 => ProducerIds,
    6 => Refused,
    7 => UsersAltered,
});

/// A contiguous range of producer ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIds {
    /// The first.
    pub first: i64,
    /// How many.
    pub count: u32,
}
codec_struct!(ProducerIds { first, count });

/// What became of one offset of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OffsetOutcome {
    /// It is committed.
    Committed = 1,
    /// The metadata string is too long (Kafka: OFFSET_METADATA_TOO_LARGE).
    MetadataTooLarge = 2,
    /// The organisation keeps as many offsets as it may.
    TooManyOffsets = 3,
}

impl Codec for OffsetOutcome {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            1 => Ok(OffsetOutcome::Committed),
            2 => Ok(OffsetOutcome::MetadataTooLarge),
            3 => Ok(OffsetOutcome::TooManyOffsets),
            tag => Err(DecodeError::UnknownTag(tag)),
        }
    }
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The bytes are not a command.
    Malformed = 1,
    /// The group's name is empty or too long (Kafka: INVALID_GROUP_ID).
    InvalidGroup = 2,
    /// The organisation has as many groups as it may (Kafka: GROUP_MAX_SIZE_REACHED).
    TooManyGroups = 3,
    /// The group's state is larger than a group's may be.
    GroupTooLarge = 4,
    /// No ids, or too many, were asked for at once, or the organisation has used up its own.
    NoProducerIds = 5,
    /// More users than one command can change.
    TooManyChanges = 6,
}

impl Codec for Refusal {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            1 => Ok(Refusal::Malformed),
            2 => Ok(Refusal::InvalidGroup),
            3 => Ok(Refusal::TooManyGroups),
            4 => Ok(Refusal::GroupTooLarge),
            5 => Ok(Refusal::NoProducerIds),
            6 => Ok(Refusal::TooManyChanges),
            tag => Err(DecodeError::UnknownTag(tag)),
        }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Refusal::Malformed => "the command is malformed",
            Refusal::InvalidGroup => "a group's name is empty or too long",
            Refusal::TooManyGroups => "the organisation has as many groups as it may have",
            Refusal::GroupTooLarge => "the group's state is too large",
            Refusal::NoProducerIds => "that many producer ids cannot be had",
            Refusal::TooManyChanges => "one command cannot change so many users",
        })
    }
}

impl core::error::Error for Refusal {}

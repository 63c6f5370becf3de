//! The state behind the organisation ledger: rules, limits and its encoding.

use super::command::{
    Answer, Command, CommitOffsets, CommittedOffset, DeleteOffsets, OffsetCommit, OffsetOutcome, ProducerIds, Refusal,
    SaveGroup,
};
use super::users::Users;
use super::{
    GROUP_METADATA_BYTES_MAX, GROUP_NAME_BYTES_MAX, OFFSET_METADATA_BYTES_MAX, PRODUCER_IDS_MAX,
    PRODUCER_IDS_PER_COMMAND_MAX,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::codec_struct;
use waybill_types::ids::TopicId;

/// What heads a snapshot: name and version of its encoding.
const MAGIC: [u8; 8] = *b"WB-ORG\x00\x02";
/// What headed a snapshot before there were users; the rest of it is the same.
const MAGIC_WITHOUT_USERS: [u8; 8] = *b"WB-ORG\x00\x01";

/// How much an organisation may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most groups.
    pub groups_max: usize,
    /// The most committed offsets, over all groups.
    pub offsets_max: usize,
    /// The most credentials, over all users.
    pub credentials_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { groups_max: 10_000, offsets_max: 1_000_000, credentials_max: 20_000 }
    }
}

/// One group: what its coordinator saved, and what it committed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) metadata: Option<Bytes>,
    pub(super) offsets: BTreeMap<(TopicId, u32), CommittedOffset>,
}

impl Group {
    /// A group of nothing is no group.
    fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.metadata.is_none()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    prefix: u16,
    limits: Limits,
    producer_ids_used: u64,
    /// The sum of all groups' offsets, kept so that the limit costs nothing to check.
    offset_count: usize,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) users: Users,
}

impl State {
    pub(super) fn new(prefix: u16, limits: Limits) -> Self {
        State {
            prefix,
            limits,
            producer_ids_used: 0,
            offset_count: 0,
            groups: BTreeMap::new(),
            users: Users::default(),
        }
    }

    pub(super) fn apply(&mut self, command: Command) -> Answer {
        let answer = match command {
            Command::CommitOffsets(commit) => self.commit_offsets(commit),
            Command::DeleteOffsets(delete) => Ok(self.delete_offsets(delete)),
            Command::SaveGroup(save) => self.save_group(save),
            Command::DeleteGroup(name) => Ok(self.delete_group(&name)),
            Command::ForgetTopic(topic) => Ok(self.forget_topic(topic)),
            Command::AllocateProducerIds(count) => self.allocate_producer_ids(count),
            Command::AlterUsers(changes) => {
                self.users.alter(changes, self.limits.credentials_max).map(Answer::UsersAltered)
            }
        };
        answer.unwrap_or_else(Answer::Refused)
    }

    /// Takes over a snapshot's content; the limits are this node's configuration and stay.
    pub(super) fn replace(&mut self, installed: State) -> Result<(), DecodeError> {
        if installed.prefix != self.prefix {
            return Err(DecodeError::Invalid("the snapshot is of another organisation"));
        }
        *self = State { limits: self.limits, ..installed };
        Ok(())
    }

    fn commit_offsets(&mut self, commit: CommitOffsets) -> Result<Answer, Refusal> {
        let room = self.limits.offsets_max;
        let mut count = self.offset_count;
        let group = self.group_mut(&commit.group)?;
        let outcomes = commit.entries.into_iter().map(|entry| {
            let key = (entry.topic, entry.partition);
            let known = group.offsets.contains_key(&key);
            if entry.committed.metadata.len() > OFFSET_METADATA_BYTES_MAX {
                return OffsetOutcome::MetadataTooLarge;
            }
            if !known && count >= room {
                return OffsetOutcome::TooManyOffsets;
            }
            count += usize::from(!known);
            group.offsets.insert(key, entry.committed);
            OffsetOutcome::Committed
        });
        let outcomes = outcomes.collect();
        let empty = group.is_empty();
        self.offset_count = count;
        if empty {
            self.groups.remove(&commit.group);
        }
        Ok(Answer::OffsetsCommitted(outcomes))
    }

    fn delete_offsets(&mut self, delete: DeleteOffsets) -> Answer {
        let Some(group) = self.groups.get_mut(&delete.group) else { return Answer::OffsetsDeleted(0) };
        let deleted = delete.partitions.iter().filter(|key| group.offsets.remove(key).is_some()).count();
        if group.is_empty() {
            self.groups.remove(&delete.group);
        }
        self.offset_count -= deleted;
        Answer::OffsetsDeleted(deleted as u32)
    }

    fn save_group(&mut self, save: SaveGroup) -> Result<Answer, Refusal> {
        if save.metadata.len() > GROUP_METADATA_BYTES_MAX {
            return Err(Refusal::GroupTooLarge);
        }
        let group = self.group_mut(&save.group)?;
        // A detached copy: the command's bytes are a piece of a larger buffer, which the state must not keep alive.
        let before = group.metadata.replace(Bytes::copy_from_slice(&save.metadata));
        Ok(Answer::GroupSaved(before.is_some()))
    }

    fn delete_group(&mut self, name: &str) -> Answer {
        let deleted = self.groups.remove(name);
        self.offset_count -= deleted.as_ref().map_or(0, |group| group.offsets.len());
        Answer::GroupDeleted(deleted.is_some())
    }

    fn forget_topic(&mut self, topic: TopicId) -> Answer {
        let mut deleted = 0;
        self.groups.retain(|_, group| {
            let before = group.offsets.len();
            group.offsets.retain(|(of, _), _| *of != topic);
            deleted += before - group.offsets.len();
            !group.is_empty()
        });
        self.offset_count -= deleted;
        Answer::OffsetsDeleted(deleted as u32)
    }

    fn allocate_producer_ids(&mut self, count: u32) -> Result<Answer, Refusal> {
        let left = PRODUCER_IDS_MAX - self.producer_ids_used;
        if !(1..=PRODUCER_IDS_PER_COMMAND_MAX).contains(&count) || u64::from(count) > left {
            return Err(Refusal::NoProducerIds);
        }
        let first = (i64::from(self.prefix) << 48) | self.producer_ids_used as i64;
        self.producer_ids_used += u64::from(count);
        Ok(Answer::ProducerIds(ProducerIds { first, count }))
    }

    fn group_mut(&mut self, name: &str) -> Result<&mut Group, Refusal> {
        if !(1..=GROUP_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(Refusal::InvalidGroup);
        }
        if !self.groups.contains_key(name) && self.groups.len() >= self.limits.groups_max {
            return Err(Refusal::TooManyGroups);
        }
        Ok(self.groups.entry(name.to_owned()).or_default())
    }
}

impl Codec for State {
    fn encode(&self, out: &mut Vec<u8>) {
        MAGIC.encode(out);
        self.prefix.encode(out);
        self.producer_ids_used.encode(out);
        (self.groups.len() as u32).encode(out);
        for (name, group) in &self.groups {
            name.encode(out);
            group.metadata.encode(out);
            (group.offsets.len() as u32).encode(out);
            for ((topic, partition), committed) in &group.offsets {
                topic.encode(out);
                partition.encode(out);
                committed.encode(out);
            }
        }
        self.users.encode(out);
    }

    /// The limits are not in a snapshot: they come from where it is installed.
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let magic = <[u8; 8]>::decode(input)?;
        if magic != MAGIC && magic != MAGIC_WITHOUT_USERS {
            return Err(DecodeError::Invalid("not a snapshot of an organisation ledger, or of another version"));
        }
        let mut state = State::new(u16::decode(input)?, Limits::default());
        state.producer_ids_used = u64::decode(input)?;
        if state.producer_ids_used > PRODUCER_IDS_MAX {
            return Err(DecodeError::Invalid("more producer ids than there are"));
        }
        let groups: Vec<StoredGroup> = Codec::decode(input)?;
        if !groups.is_sorted_by(|left, right| left.name < right.name) {
            return Err(DecodeError::Invalid("groups are not in ascending order"));
        }
        for group in groups {
            let key = |entry: &OffsetCommit| (entry.topic, entry.partition);
            if !group.offsets.is_sorted_by(|left, right| key(left) < key(right)) {
                return Err(DecodeError::Invalid("offsets are not in ascending order"));
            }
            state.offset_count += group.offsets.len();
            let offsets = group.offsets.into_iter().map(|entry| ((entry.topic, entry.partition), entry.committed));
            let metadata = group.metadata.map(|bytes| Bytes::copy_from_slice(&bytes));
            state.groups.insert(group.name, Group { metadata, offsets: offsets.collect() });
        }
        if magic == MAGIC {
            state.users = Users::decode(input)?;
        }
        Ok(state)
    }
}

/// A group as a snapshot holds it.
struct StoredGroup {
    name: String,
    metadata: Option<Bytes>,
    offsets: Vec<OffsetCommit>,
}
codec_struct!(StoredGroup { name, metadata, offsets });

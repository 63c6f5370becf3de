//! What is one organisation's own business: consumer groups, committed offsets, producer ids, users.
//!
//! A deterministic state machine under a Raft group of the organisation's own nodes. Commands and answers are
//! [`Codec`] values; the state lives in memory and is small, so that a snapshot is one encoded value.
//!
//! A group's metadata is opaque here: the group protocol's state machine belongs to the gateway.

mod command;
mod state;
mod users;

pub use command::{
    Answer, Command, CommitOffsets, CommittedOffset, DeleteOffsets, OffsetCommit, OffsetOutcome, ProducerIds, Refusal,
    SaveGroup,
};
pub use state::Limits;
pub use users::{
    DeleteCredential, SALT_BYTES_MAX, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, ScramCredential, ScramMechanism,
    SetCredential, USER_NAME_BYTES_MAX, USERS_PER_COMMAND_MAX, UserChange, UserOutcome,
};

use bytes::Bytes;
use parking_lot::RwLock;
use state::State;
use waybill_types::codec::{Codec, DecodeError};
use waybill_types::ids::TopicId;

/// The longest metadata string of a committed offset, in bytes (Kafka's `offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;
/// The longest group name, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 1024;
/// The largest saved state of one group, in bytes.
pub const GROUP_METADATA_BYTES_MAX: usize = 4 << 20;
/// How many producer ids one command can take.
pub const PRODUCER_IDS_PER_COMMAND_MAX: u32 = 10_000;
/// How many producer ids an organisation has: the low 48 bits.
pub const PRODUCER_IDS_MAX: u64 = 1 << 48;
/// The largest organisation prefix: 15 bits, so that a producer id stays a positive `i64`.
pub const PRODUCER_PREFIX_MAX: u16 = 0x7fff;

/// The prefix of the organisation that allocated a producer id; none for Kafka's "no producer id", which is negative.
pub fn producer_prefix(producer_id: i64) -> Option<u16> {
    u64::try_from(producer_id).ok().and_then(|id| u16::try_from(id >> 48).ok())
}

/// The organisation ledger's state machine. All methods take `&self`; readers see whole commands only.
#[derive(Debug)]
pub struct Organisation {
    state: RwLock<State>,
}

impl Organisation {
    /// An empty ledger. `prefix` is the organisation's index in the network, and heads its producer ids: it must
    /// differ between organisations and never change.
    pub fn new(prefix: u16) -> Result<Self, DecodeError> {
        Self::with_limits(prefix, Limits::default())
    }

    /// As [`Organisation::new`], with other limits. They decide answers, so all nodes of the group must agree on them.
    pub fn with_limits(prefix: u16, limits: Limits) -> Result<Self, DecodeError> {
        if prefix > PRODUCER_PREFIX_MAX {
            return Err(DecodeError::Invalid("an organisation's prefix has at most 15 bits"));
        }
        Ok(Organisation { state: RwLock::new(State::new(prefix, limits)) })
    }

    /// Applies an encoded [`Command`] and returns the encoded [`Answer`]. Bytes that are no command change nothing.
    pub fn apply(&self, command: &Bytes) -> Bytes {
        let answer = match Command::from_bytes(command) {
            Ok(command) => self.state.write().apply(command),
            Err(_) => Answer::Refused(Refusal::Malformed),
        };
        answer.to_bytes()
    }

    /// The offset that a group committed for a partition.
    pub fn committed(&self, group: &str, topic: TopicId, partition: u32) -> Option<CommittedOffset> {
        self.state.read().groups.get(group)?.offsets.get(&(topic, partition)).cloned()
    }

    /// All offsets that a group committed, in the order of topic id and partition.
    pub fn committed_all(&self, group: &str) -> Vec<(TopicId, u32, CommittedOffset)> {
        let state = self.state.read();
        let offsets = state.groups.get(group).map(|group| &group.offsets);
        offsets
            .into_iter()
            .flatten()
            .map(|((topic, partition), committed)| (*topic, *partition, committed.clone()))
            .collect()
    }

    /// The names of all groups, in order: those that were saved, and those that have committed offsets only.
    pub fn groups(&self) -> Vec<String> {
        self.state.read().groups.keys().cloned().collect()
    }

    /// A group's metadata as it was last saved; none if it never was.
    pub fn group(&self, name: &str) -> Option<Bytes> {
        self.state.read().groups.get(name)?.metadata.clone()
    }

    /// Every group that was saved, with its metadata: what a gateway loads when it starts.
    pub fn saved_groups(&self) -> Vec<(String, Bytes)> {
        let state = self.state.read();
        let saved = state.groups.iter().filter_map(|(name, group)| Some((name.clone(), group.metadata.clone()?)));
        saved.collect()
    }

    /// What a user's log-in with this mechanism is checked against.
    pub fn credential(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        self.state.read().users.credential(user, mechanism).cloned()
    }

    /// Every user, in the order of their names: the mechanisms they can use, and the rounds of hashing for each.
    pub fn users(&self) -> Vec<(String, Vec<(ScramMechanism, u32)>)> {
        let state = self.state.read();
        let described = state.users.iter().map(|(user, credentials)| {
            let mechanisms = credentials.iter().map(|(mechanism, credential)| (*mechanism, credential.iterations));
            (user.clone(), mechanisms.collect())
        });
        described.collect()
    }

    /// The whole state in its one encoding: equal states give equal bytes on every node.
    pub fn snapshot(&self) -> Bytes {
        self.state.read().to_bytes()
    }

    /// Replaces the state by a snapshot of the same organisation; on an error nothing changes.
    pub fn install(&self, snapshot: &Bytes) -> Result<(), DecodeError> {
        let installed = State::from_bytes(snapshot)?;
        self.state.write().replace(installed)
    }
}

#[cfg(test)]
mod tests;

//! The types that openraft is configured with.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use waybill_types::ids::OrgId;

/// Names a Raft group between nodes; also its stream in the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub [u8; 16]);

impl GroupId {
    /// The group of all nodes that carries the global ledger.
    pub const GLOBAL: GroupId = GroupId(*b"raft-global\0\0\0\0\0");

    /// The group of an organisation's own nodes. Only these know it, so names of different organisations need not differ
    /// by more than a digest's prefix.
    pub fn organisation(org: &OrgId) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("waybill/raft/{org}").as_bytes());
        let mut id = *b"raft-org\0\0\0\0\0\0\0\0";
        id[8..].copy_from_slice(&digest.as_ref()[..8]);
        GroupId(id)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// What one log entry carries: commands that were waiting at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commands(pub Arc<[Bytes]>);

/// The answers to an entry's commands, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers(pub Vec<Bytes>);

openraft::declare_raft_types!(
    pub(super) TypeConfig:
        D = Commands,
        R = Answers,
        NodeId = u64,
        // Where a node is, the system ledger says; here it is known by its number.
        Node = openraft::EmptyNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = tokio::fs::File,
);

pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type Membership = openraft::Membership<u64, openraft::EmptyNode>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, openraft::EmptyNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::EmptyNode>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type StorageIOError = openraft::StorageIOError<u64>;
pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type Metrics = openraft::RaftMetrics<u64, openraft::EmptyNode>;

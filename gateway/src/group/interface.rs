//! What goes into the state machine and what comes out.

use bytes::Bytes;
use thiserror::Error;

use super::metadata::GroupMetadata;

/// Names a request of the shell's choice; its answer comes out under the same token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

/// Names one [`Output::Persist`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// What can happen to a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// JoinGroup.
    Join(Join),
    /// SyncGroup.
    Sync(Sync),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup.
    Leave(Leave),
    /// OffsetCommit asks for leave to store.
    Commit(Commit),
    /// What [`Output::Persist`] asked for has been done, or has failed.
    Persisted {
        /// Which one.
        ticket: Ticket,
        /// Whether it is stored.
        stored: bool,
    },
    /// This node is no longer the group's coordinator.
    Unload,
}

/// What the shell has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Answer a JoinGroup.
    Join {
        /// Which request.
        token: Token,
        /// The answer.
        reply: Result<Joined, JoinRefusal>,
    },
    /// Answer a SyncGroup.
    Sync {
        /// Which request.
        token: Token,
        /// The answer.
        reply: Result<Synced, GroupError>,
    },
    /// Answer a Heartbeat.
    Heartbeat {
        /// Which request.
        token: Token,
        /// The answer.
        reply: Result<(), GroupError>,
    },
    /// Answer a LeaveGroup. Before version 3 the one member's error is that of the response.
    Leave {
        /// Which request.
        token: Token,
        /// The answer, one entry per member of the request.
        reply: Result<Vec<Left>, GroupError>,
    },
    /// Store the offsets of an OffsetCommit, or refuse them all.
    Commit {
        /// Which request.
        token: Token,
        /// Whether to store.
        reply: Result<(), GroupError>,
    },
    /// Store this in place of what was stored before, then report [`Input::Persisted`].
    ///
    /// In the order in which they came out: a later one replaces an earlier one.
    Persist {
        /// To report it under.
        ticket: Ticket,
        /// What to store.
        metadata: GroupMetadata,
    },
}

/// A JoinGroup request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// To answer under.
    pub token: Token,
    /// Empty on a first join.
    pub member_id: String,
    /// A static member's name (KIP-345).
    pub instance_id: Option<String>,
    /// From the request header.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// How long a member may be silent.
    pub session_timeout_ms: i32,
    /// How long the group waits for it to rejoin; negative in version 0, which means as long as the session.
    pub rebalance_timeout_ms: i32,
    /// "consumer", "connect", ...
    pub protocol_type: String,
    /// What it can do, the preferred first.
    pub protocols: Vec<Protocol>,
    /// Whether a first join only hands out a member id (version 4 on, KIP-394).
    pub requires_member_id: bool,
    /// Whether the answer can tell a leader not to assign (version 9 on, KIP-814).
    pub can_skip_assignment: bool,
    /// Random bits for a new member id.
    pub fresh: u128,
}

/// A way to share out the work, and what a member says about itself in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// "range", "cooperative-sticky", ...
    pub name: String,
    /// Opaque.
    pub metadata: Bytes,
}

/// A SyncGroup request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sync {
    /// To answer under.
    pub token: Token,
    /// Who asks.
    pub identity: Identity,
    /// What the member takes the group's protocol type for (version 5 on).
    pub protocol_type: Option<String>,
    /// What the member takes the chosen protocol for (version 5 on).
    pub protocol: Option<String>,
    /// From the leader: opaque assignments by member id.
    pub assignments: Vec<(String, Bytes)>,
}

/// A Heartbeat request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// To answer under.
    pub token: Token,
    /// Who is alive.
    pub identity: Identity,
}

/// A LeaveGroup request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leave {
    /// To answer under.
    pub token: Token,
    /// Member ids and static names. One member up to version 2. An administrator removes static members by name alone.
    pub members: Vec<(String, Option<String>)>,
}

/// The identity part of an OffsetCommit request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// To answer under.
    pub token: Token,
    /// Who commits. Generation -1 and an empty member id come from clients that use no group but its offsets.
    pub identity: Identity,
}

/// Whom a request is from, and which generation it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The member's id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// The generation.
    pub generation: i32,
}

/// A JoinGroup that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The member's id.
    pub member_id: String,
    /// The generation it is in now.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: String,
    /// The protocol chosen.
    pub protocol: String,
    /// Who assigns.
    pub leader: String,
    /// Whether the leader, though named as such, is not to assign (KIP-814).
    pub skip_assignment: bool,
    /// For the leader: all members.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// What it said about itself in the chosen protocol.
    pub metadata: Bytes,
}

/// A JoinGroup that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRefusal {
    /// Why.
    pub error: GroupError,
    /// The id to come back with if the error is [`GroupError::MemberIdRequired`], else the one of the request.
    pub member_id: String,
}

/// A SyncGroup that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: String,
    /// The protocol chosen.
    pub protocol: String,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// A member of a LeaveGroup request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub instance_id: Option<String>,
    /// Whether it is out.
    pub result: Result<(), GroupError>,
}

/// A group as DescribeGroups shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// Kafka's name for the state.
    pub state: &'static str,
    /// Empty if there has never been a member.
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    /// In the order of their ids.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// From its request header.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    /// Empty unless the group is stable.
    pub assignment: Bytes,
}

/// What a group may grow to, and its times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Members, and apart from them ids given out but not yet used. Kafka's `group.max.size`.
    pub members_max: usize,
    /// One member's protocols and metadata together.
    pub member_bytes_max: usize,
    /// All assignments of a generation together.
    pub assignment_bytes_max: usize,
    /// How long an empty group waits for more members before its first generation, and again while they come.
    /// Kafka's `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: u64,
    /// Kafka's `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: u64,
    /// Kafka's `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: u64,
}

impl Default for Limits {
    /// Kafka's times, except that a first member does not wait three seconds for others.
    fn default() -> Self {
        Self {
            members_max: 1_000,
            member_bytes_max: 1024 * 1024,
            assignment_bytes_max: 8 * 1024 * 1024,
            initial_rebalance_delay_ms: 0,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
        }
    }
}

/// Why a group says no.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum GroupError {
    /// The member id (or static name) is not in the group: join anew.
    #[error("unknown member")]
    UnknownMember,
    /// Another process has taken over the static name: shut down.
    #[error("another member has this instance id")]
    FencedInstance,
    /// The request is of another generation.
    #[error("illegal generation")]
    IllegalGeneration,
    /// No protocol that all members share, or another protocol type.
    #[error("inconsistent group protocol")]
    InconsistentProtocol,
    /// Join again.
    #[error("rebalance in progress")]
    RebalanceInProgress,
    /// Join again with the id handed out (KIP-394).
    #[error("member id required")]
    MemberIdRequired,
    /// The group is full (KIP-389).
    #[error("group is full")]
    Full,
    /// The session timeout is out of bounds.
    #[error("invalid session timeout")]
    InvalidSessionTimeout,
    /// Metadata or assignments beyond the limits.
    #[error("metadata or assignments too large")]
    TooLarge,
    /// The generation could not be persisted.
    #[error("coordinator unavailable")]
    Unavailable,
    /// The group was unloaded while the request waited.
    #[error("not the coordinator")]
    NotCoordinator,
    /// The group was deleted or unloaded.
    #[error("the group is gone")]
    Gone,
    /// A group with members cannot be deleted.
    #[error("the group has members")]
    NotEmpty,
}

//! What an organisation can put on a ledger. Who did it is in the [`Envelope`](crate::Envelope) around it,
//! where it was done is the ledger itself, so neither is repeated here.

use crate::digest::{Commitment, Digest};
use crate::ids::{Height, LedgerId, NodeId, Offset, OrgId, TopicId};
use crate::membership::Member;
use crate::{codec_enum, codec_struct};
use alloc::{string::String, vec::Vec};

/// One transaction. The contract of the ledger decides its [`Outcome`](crate::Outcome).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// A record batch was sent (the paper's step 3).
    Send(Send),
    /// The sender's connector served a range to a receiver (steps 7 to 13, batched).
    Retrieve(Retrieve),
    /// The receiver's connector verified and stored a range (step 17).
    Receive(Receive),
    /// A consumer group of the origin's organisation passed an offset (steps 19 to 22).
    Commit(Commit),
    /// Somebody was refused something.
    Refuse(Refuse),
    /// The partition's configuration, from its owner.
    Config(Config),
    /// A change of the system ledger.
    System(SystemChange),
}
codec_enum!(Transaction { 1 => Send, 2 => Retrieve, 3 => Receive, 4 => Commit, 5 => Refuse, 6 => Config, 7 => System });

/// The metadata of one Kafka record batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The node whose connector holds the payload.
    pub connector: NodeId,
    /// The salted commitment to the canonical batch.
    pub commitment: Commitment,
    /// The canonical batch's size in bytes.
    pub size_bytes: u32,
    /// How many offsets the batch takes (its last offset delta + 1).
    pub record_count: u32,
    /// Kafka's batch attributes: codec, timestamp type, transactional, control.
    pub attributes: i16,
    /// The first record's timestamp, in milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// The largest timestamp, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The idempotent producer, if it is one (KIP-98).
    pub producer: Option<Producer>,
}
codec_struct!(Send {
    connector,
    commitment,
    size_bytes,
    record_count,
    attributes,
    base_timestamp_ms,
    max_timestamp_ms,
    producer
});

/// An idempotent producer's identity and the batch's place in its sequence (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Unique in the sender's organisation, which is all that contracts rely on: each organisation has a namespace of
    /// its own. (Organisations number with a prefix of theirs, so that ids differ in the whole network.)
    pub id: i64,
    /// Grows when the producer is fenced or starts over.
    pub epoch: i16,
    /// The first record's sequence number; they wrap at 2^31.
    pub base_sequence: i32,
}
codec_struct!(Producer { id, epoch, base_sequence });

/// The sender's connector served offsets `first..=last` to `receiver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrieve {
    /// Who asked.
    pub receiver: OrgId,
    /// The first offset served.
    pub first: Offset,
    /// The last offset served.
    pub last: Offset,
    /// The digest of the receiver's signed request.
    pub request: Digest,
}
codec_struct!(Retrieve { receiver, first, last, request });

/// The origin's connector verified the bytes of offsets `first..=last`, of one sending organisation's batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receive {
    /// The first offset received.
    pub first: Offset,
    /// The last offset received.
    pub last: Offset,
    /// Hash over receiver and the salts of the range: without having been served it cannot be made.
    pub salts: Digest,
}
codec_struct!(Receive { first, last, salts });

/// A consumer group passed an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// HMAC of the group's name under the organisation's key.
    pub group: Digest,
    /// The next offset the group will read, as Kafka commits it.
    pub offset: Offset,
}
codec_struct!(Commit { group, offset });

/// `to` was refused the batch at `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// Who was refused.
    pub to: OrgId,
    /// The offset asked for.
    pub offset: Offset,
    /// Why, as a number that `waybill-ledger` names.
    pub reason: u16,
}
codec_struct!(Refuse { to, offset, reason });

/// What a partition's contract needs to know. Version 1 is in the ledger's first block; each later version comes
/// from the owner and is one higher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Grows by one with each change.
    pub version: u32,
    /// The ledger that this configures.
    pub ledger: LedgerId,
    /// The topic's name (`__system` for the system ledger).
    pub topic: String,
    /// Who may change this configuration and delete the topic.
    pub owner: OrgId,
    /// Who may read; the owner may always.
    pub readers: Vec<OrgId>,
    /// Who may write; the owner may always.
    pub writers: Vec<OrgId>,
    /// Every node that may put transactions here, with its key.
    pub origins: Vec<Member>,
    /// Kafka's `max.message.bytes`.
    pub batch_bytes_limit: u32,
    /// Kafka's `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
}
codec_struct!(Config { version, ledger, topic, owner, readers, writers, origins, batch_bytes_limit, log_append_time });

/// A change of the system ledger, by the organisation whose node signed the envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemChange {
    /// A new topic, owned by the origin's organisation.
    CreateTopic(CreateTopic),
    /// The owner deletes its topic.
    DeleteTopic(TopicId),
    /// The owner gives its topic further partitions.
    AddPartitions(AddPartitions),
}
codec_enum!(SystemChange { 1 => CreateTopic, 2 => DeleteTopic, 3 => AddPartitions });

/// A new topic: its name, settings and placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// Unique in the network while the topic lives; Kafka's rules for names apply.
    pub name: String,
    /// Random, so that a name used again is another topic.
    pub id: TopicId,
    /// For each partition the nodes that run its replicas, in the order of their indices.
    pub partitions: Vec<Vec<NodeId>>,
    /// Who may read besides the owner.
    pub readers: Vec<OrgId>,
    /// Who may write besides the owner.
    pub writers: Vec<OrgId>,
    /// Kafka topic settings that were given, as text.
    pub settings: Vec<(String, String)>,
}
codec_struct!(CreateTopic { name, id, partitions, readers, writers, settings });

/// Further partitions of a topic. The whole topic is said again, so that this one transaction proves, as its creation
/// does, who orders each of its partitions and how their ledgers begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPartitions {
    /// The topic as it is, but for its partitions: those it has, in their order, and then the new ones.
    pub topic: CreateTopic,
    /// When it was created: the system block's time, in milliseconds since 1970.
    pub created_ms: u64,
    /// The system block that created it.
    pub created_height: Height,
}
codec_struct!(AddPartitions { topic, created_ms, created_height });

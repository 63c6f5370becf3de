//! What a verified receipt says, in plain words.

use super::{Level, utc};
use crate::contract::RefuseReason;
use core::fmt;
use core::ops::RangeInclusive;
use std::collections::BTreeSet;
use waybill_types::{
    Certificate, Checkpoint, Height, Leaf, Member, Membership, NetworkId, Offset, OrgId, TopicId, Transaction,
};

/// What a receipt proves. Only [`verify`](super::verify) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Story {
    /// The network's name.
    pub network: String,
    /// The genesis' digest.
    pub network_id: NetworkId,
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The offset.
    pub offset: Offset,
    /// Who created the topic.
    pub owner: OrgId,
    /// When the topic was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// What happened; the sender's is the first.
    pub events: Vec<Event>,
    /// The partition's checkpoint that all of it is under.
    pub checkpoint: Checkpoint,
    /// Who signed that checkpoint.
    pub witnesses: Witnesses,
    /// Who signed the system ledger's checkpoint over the topic's creation.
    pub system_witnesses: Witnesses,
}

/// One proved event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub level: Level,
    /// To or by which organisation.
    pub org: OrgId,
    /// The node that signed the transaction.
    pub actor: Member,
    /// When the ledger recorded it, in milliseconds since 1970.
    pub time_ms: u64,
    /// In which block.
    pub height: Height,
    /// The offsets of the batch, the same in all events of a receipt.
    pub offsets: RangeInclusive<Offset>,
    /// The ledger's entry.
    pub leaf: Leaf,
}

/// The organisations whose replicas signed a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnesses {
    /// Their names, in order.
    pub organisations: Vec<OrgId>,
    /// How many replicas signed.
    pub signatures: usize,
    /// How many replicas order the ledger.
    pub replicas: usize,
    /// Of how many organisations they are.
    pub replica_organisations: usize,
}

impl Witnesses {
    /// Reads them off a certificate that `membership` verified.
    pub(super) fn new(certificate: &Certificate, membership: &Membership) -> Self {
        let signers =
            certificate.signatures.iter().filter_map(|(index, _)| membership.members.get(usize::from(*index)));
        Witnesses {
            organisations: signers.map(|member| member.org.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
            signatures: certificate.signatures.len(),
            replicas: membership.size(),
            replica_organisations: membership.organisations(),
        }
    }

    /// Whether some organisation runs more than one of the replicas, so that one dishonest party counts twice.
    pub fn shared_trust(&self) -> bool {
        self.replica_organisations < self.replicas
    }
}

impl fmt::Display for Witnesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, org) in self.organisations.iter().enumerate() {
            write!(f, "{}{org}", if place == 0 { "" } else { ", " })?;
        }
        write!(f, " ({} of {} replicas signed)", self.signatures, self.replicas)
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Offset {} of topic {}, partition {}", self.offset, self.topic, self.partition)?;
        writeln!(f, "in network {} ({})\n", self.network, self.network_id.0)?;
        for event in &self.events {
            writeln!(f, "{:9}  {}  {event}", event.level.word(), utc(event.time_ms))?;
        }
        let checkpoint = &self.checkpoint;
        writeln!(f, "\nWitnessed by {}", self.witnesses)?;
        writeln!(f, "    at block {} of the partition, {}", checkpoint.height, utc(checkpoint.time_ms))?;
        writeln!(f, "The topic was created by {} at {},", self.owner, utc(self.created_ms))?;
        writeln!(f, "    witnessed by {}", self.system_witnesses)?;
        self.warnings(f)?;
        self.meaning(f)
    }
}

impl Story {
    /// Says where fewer parties were involved than a reader would think.
    fn warnings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, witnesses) in [("partition", &self.witnesses), ("system ledger", &self.system_witnesses)] {
            if witnesses.shared_trust() {
                writeln!(
                    f,
                    "SHARED TRUST: the {} replicas of the {what} belong to {} organisation(s) only.",
                    witnesses.replicas, witnesses.replica_organisations
                )?;
            } else if witnesses.replicas < 4 {
                let replicas = witnesses.replicas;
                writeln!(
                    f,
                    "NOT FAULT TOLERANT: the {what} has {replicas} replica(s); one dishonest signer is enough."
                )?;
            }
        }
        Ok(())
    }

    fn meaning(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |level| self.events.iter().any(|event| event.level == level);
        writeln!(f, "\nProved:")?;
        writeln!(f, "  - who sent it: the batch with this commitment got these offsets, signed by the sender's node.")?;
        if has(Level::Retrieved) {
            writeln!(f, "  - retrieved: the sender's node signed that it served the bytes to that organisation.")?;
        }
        if has(Level::Received) {
            writeln!(f, "  - received: the receiver's node signed that its connector verified the bytes against the")?;
            writeln!(f, "    commitment and stored them.")?;
        }
        if has(Level::Committed) {
            writeln!(f, "  - committed: that organisation's node signed that a consumer group moved past the offset.")?;
        }
        if has(Level::Refused) {
            writeln!(f, "  - refused: a node signed that the organisation was denied this offset.")?;
        }
        writeln!(f, "  - when: the ledger's time, agreed on by the replicas; not the clock of one party alone.")?;
        writeln!(f, "Not proved:")?;
        writeln!(f, "  - what the payload says: only whoever holds the bytes and the salt can match the commitment.")?;
        if has(Level::Committed) {
            writeln!(f, "  - that anyone processed it: a commit moves a group's position, nothing more.")?;
        }
        writeln!(f, "  - that anything did not happen: what is not listed here may have happened later or elsewhere.")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { org, actor, .. } = self;
        match &self.leaf.transaction {
            Transaction::Send(send) => {
                let (first, last) = (self.offsets.start(), self.offsets.end());
                let (count, size) = (send.record_count, send.size_bytes);
                write!(f, "by {org} (node {}): offsets {first} to {last}, ", actor.node)?;
                write!(f, "{count} record(s), {size} bytes,\n{:39}commitment {}", "", send.commitment)
            }
            Transaction::Retrieve(retrieve) => {
                let (first, last) = (retrieve.first, retrieve.last);
                write!(f, "by {org}: offsets {first} to {last}, served by {} (node {})", actor.org, actor.node)
            }
            Transaction::Receive(receive) => {
                write!(f, "by {org} (node {}): offsets {} to {}", actor.node, receive.first, receive.last)
            }
            Transaction::Commit(commit) => {
                let (node, next) = (actor.node, commit.offset);
                write!(f, "by {org} (node {node}): a consumer group will read offset {next} next")
            }
            Transaction::Refuse(refuse) => {
                write!(f, "to {org}, by {} (node {}): {}", actor.org, actor.node, refusal(refuse.reason))
            }
            // `verify` makes no event of anything else.
            other => write!(f, "{org}: {other:?}"),
        }
    }
}

/// The reason of a refusal, in words.
pub(crate) fn refusal(reason: u16) -> String {
    let words = match RefuseReason::from_number(reason) {
        Some(RefuseReason::NotAReader) => "the organisation may not read this topic",
        Some(RefuseReason::UnknownBatch) => "the request named no batch of this ledger",
        Some(RefuseReason::PayloadMissing) => "the sender has the batch no more",
        Some(RefuseReason::PayloadCorrupt) => "the sender's copy is damaged",
        None => return format!("reason {reason}"),
    };
    words.to_owned()
}

//! From a receipt's text to its story, trusting the genesis alone.

use super::story::{Event, Story, Witnesses};
use super::text::ParseError;
use super::{Evidence, Level, Note, Receipt};
use crate::contract::{SystemEvent, SystemState, Topic};
use crate::genesis::Genesis;
use core::ops::RangeInclusive;
use std::sync::Arc;
use waybill_types::checkpoint::CertificateError;
use waybill_types::transaction::Send;
use waybill_types::{Certificate, ClusterId, Leaf, LedgerId, Member, Membership, Offset, OrgId, Outcome, Transaction};

/// Why a text proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The text is no receipt, or was altered.
    #[error("not a receipt: {0}")]
    Text(#[from] ParseError),
    /// The receipt is of another network than the genesis.
    #[error("the receipt is of network {found}, the genesis of network {expected}")]
    OtherNetwork {
        /// The genesis' network.
        expected: String,
        /// The receipt's.
        found: String,
    },
    /// A checkpoint of another ledger than it must be.
    #[error("the checkpoint of {0} is of another ledger")]
    OtherLedger(LedgerId),
    /// A checkpoint's signatures do not make a certificate.
    #[error("the checkpoint of {ledger}: {reason}")]
    Certificate {
        /// The ledger.
        ledger: LedgerId,
        /// What is wrong.
        reason: CertificateError,
    },
    /// An entry's proof does not hold, or the entry does not say what its section says.
    #[error("{section}: {reason}")]
    Evidence {
        /// The section's first line.
        section: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Checks a receipt and tells its story. `genesis` is all that is trusted.
pub fn verify(text: &str, genesis: &Genesis) -> Result<Story, VerifyError> {
    let receipt = Receipt::parse(text)?;
    let network = genesis.network_id();
    if receipt.network != network || receipt.network_name != genesis.name {
        let expected = format!("{} {}", genesis.name, network.0);
        let found = format!("{} {}", receipt.network_name, receipt.network.0);
        return Err(VerifyError::OtherNetwork { expected, found });
    }
    let members = genesis.members();

    let system_membership = genesis.system_membership();
    let system =
        certified(&receipt.system_note, genesis, LedgerId::SYSTEM, genesis.system_cluster(), &system_membership)?;
    let created_error = |reason| evidence_error("created", &receipt.owner, reason);
    let (leaf, _) = receipt.created.verify(&system, &members).map_err(created_error)?;
    let created = state_with_topic(genesis, &leaf).ok_or_else(|| created_error("the entry creates no topic"))?;
    let (state, topic) = created;
    check_topic(&receipt, &topic).map_err(created_error)?;

    let ledger = LedgerId::new(topic.id, receipt.partition);
    let ordered_by = state.membership(ledger).zip(state.cluster(network, ledger));
    let (membership, cluster) = ordered_by.ok_or_else(|| created_error("the topic has no such partition"))?;
    let partition = certified(&receipt.partition_note, genesis, ledger, cluster, &membership)?;

    let place = |evidence: &Evidence| (evidence.level, evidence.org.clone());
    if !receipt.evidence.is_sorted_by(|left, right| place(left) < place(right)) {
        return Err(ParseError::NotCanonical.into());
    }
    let mut events = Vec::with_capacity(receipt.evidence.len());
    for evidence in &receipt.evidence {
        let error = |reason| evidence_error(evidence.level.word(), &evidence.org, reason);
        let (leaf, actor) = evidence.proof.verify(&partition, &members).map_err(error)?;
        events.push(event(evidence, leaf, actor, events.first(), receipt.offset).map_err(error)?);
    }
    if events.is_empty() {
        return Err(evidence_error("sent", &receipt.owner, "the receipt has no sender"));
    }
    Ok(Story {
        network: genesis.name.clone(),
        network_id: network,
        topic: receipt.topic.clone(),
        topic_id: receipt.topic_id,
        partition: receipt.partition,
        offset: receipt.offset,
        owner: topic.owner.clone(),
        created_ms: topic.created_ms,
        events,
        checkpoint: partition.checkpoint.clone(),
        witnesses: Witnesses::new(&partition, &membership),
        system_witnesses: Witnesses::new(&system, &system_membership),
    })
}

/// The system ledger's state after the creation or the enlargement of one topic: who orders its partitions, and their clusters' names,
/// follow from that and the genesis.
pub(super) fn state_with_topic(genesis: &Genesis, created: &Leaf) -> Option<(SystemState, Arc<Topic>)> {
    let mut state = Some(SystemState::new(Arc::new(genesis.system_body().config?)));
    let events = SystemState::replay(&mut state, core::slice::from_ref(created));
    match events.into_iter().next()? {
        // Either says all of the topic.
        SystemEvent::TopicCreated(topic) | SystemEvent::PartitionsAdded(topic) => Some((state?, topic)),
        SystemEvent::TopicDeleted(_) => None,
    }
}

fn certified(
    note: &Note,
    genesis: &Genesis,
    ledger: LedgerId,
    cluster: ClusterId,
    membership: &Membership,
) -> Result<Certificate, VerifyError> {
    let checkpoint = &note.checkpoint;
    if (checkpoint.network, checkpoint.ledger, checkpoint.cluster) != (genesis.network_id(), ledger, cluster) {
        return Err(VerifyError::OtherLedger(ledger));
    }
    note.certificate(membership).map_err(|reason| VerifyError::Certificate { ledger, reason })
}

fn check_topic(receipt: &Receipt, topic: &Topic) -> Result<(), &'static str> {
    if topic.name != receipt.topic || topic.id != receipt.topic_id {
        return Err("the entry creates another topic");
    }
    if topic.owner != receipt.owner {
        return Err("the topic was created by another organisation");
    }
    Ok(())
}

/// Whether a proved entry says what its section says of the offset. The first event must be the sending.
fn event(
    evidence: &Evidence,
    leaf: Leaf,
    actor: Member,
    sent: Option<&Event>,
    offset: Offset,
) -> Result<Event, &'static str> {
    if (evidence.level == Level::Sent) == sent.is_some() {
        return Err("a receipt starts with one sender");
    }
    let offsets = match (sent, &leaf.transaction, leaf.outcome) {
        (Some(sent), _, Outcome::Recorded) => sent.offsets.clone(),
        (None, Transaction::Send(send), Outcome::Appended { base_offset }) => batch_offsets(base_offset, send)?,
        _ => return Err("the entry was rejected, or is of another kind"),
    };
    // Whoever may report something of somebody else's batch has said nothing about this one.
    let by_sender = sent.is_none_or(|sent| sent.org == actor.org);
    let (org, fits) = match (evidence.level, &leaf.transaction) {
        (Level::Sent, Transaction::Send(_)) => (&actor.org, offsets.contains(&offset)),
        (Level::Retrieved, Transaction::Retrieve(retrieve)) => {
            (&retrieve.receiver, by_sender && (retrieve.first..=retrieve.last).contains(&offset))
        }
        (Level::Received, Transaction::Receive(receive)) => {
            (&actor.org, (receive.first..=receive.last).contains(&offset))
        }
        (Level::Committed, Transaction::Commit(commit)) => (&actor.org, commit.offset > offset),
        (Level::Refused, Transaction::Refuse(refuse)) => (&refuse.to, by_sender && offsets.contains(&refuse.offset)),
        _ => return Err("the entry is of another kind"),
    };
    if !fits {
        return Err("the entry is not about this offset, or not by whom it must be");
    }
    if *org != evidence.org {
        return Err("the entry is about another organisation");
    }
    let org = org.clone();
    Ok(Event { level: evidence.level, org, actor, time_ms: leaf.time_ms, height: leaf.height, offsets, leaf })
}

/// The offsets that a batch took.
fn batch_offsets(base_offset: Offset, send: &Send) -> Result<RangeInclusive<Offset>, &'static str> {
    let last = base_offset.checked_add(i64::from(send.record_count)).map(|next| next - 1);
    Ok(base_offset..=last.ok_or("the batch has more records than there are offsets")?)
}

fn evidence_error(label: &str, org: &OrgId, reason: &'static str) -> VerifyError {
    VerifyError::Evidence { section: format!("{label} {org}"), reason }
}

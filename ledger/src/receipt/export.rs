//! Making a receipt from what a node holds.

use super::verify::{VerifyError, state_with_topic, verify};
use super::{Evidence, Level, Note, Proof, Receipt};
use crate::genesis::Genesis;
use crate::partition::SignedLeaf;
use waybill_types::{Certificate, Codec, Digest, Leaf, LedgerId, Membership, Offset, OrgId};

/// What a source of evidence failed with.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// One ledger, as far as receipts need it.
pub trait LedgerSource {
    /// Which ledger it is.
    fn ledger(&self) -> LedgerId;
    /// The leaf at an index of the ledger's tree, with its actor's signature.
    fn signed_leaf(&self, index: u64) -> Result<Option<SignedLeaf>, SourceError>;
    /// The inclusion path of a leaf in the tree of `tree_size` leaves.
    fn inclusion(&self, index: u64, tree_size: u64) -> Result<Option<Vec<Digest>>, SourceError>;
    /// The first certificate kept whose tree has the leaf.
    fn certificate_covering(&self, index: u64) -> Result<Option<Certificate>, SourceError>;
}

/// The system ledger, as far as receipts need it.
pub trait SystemSource: LedgerSource {
    /// The leaf that created the topic that has this name now, or had it last, or that gave it the last of its partitions.
    fn topic_created(&self, name: &str) -> Result<Option<u64>, SourceError>;
}

/// A partition's ledger, as far as receipts need it.
pub trait Deliveries: LedgerSource {
    /// What happened to an offset: for each level and organisation the index of the first leaf that says it. Only the
    /// sender's word counts for what was retrieved and refused.
    fn deliveries(&self, offset: Offset) -> Result<Vec<(Level, OrgId, u64)>, SourceError>;
}

/// Why no receipt can be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No topic of this name was ever created, as far as this node knows.
    #[error("unknown topic {0}")]
    UnknownTopic(String),
    /// The topic has no such partition, or the ledger given is another one's.
    #[error("topic {topic} has no partition {partition} here")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
    },
    /// Nothing was sent at this offset.
    #[error("offset {0} is not on the ledger")]
    UnknownOffset(Offset),
    /// It was sent, and no certificate is over it yet: ask again in a moment.
    #[error("offset {0} is not under a certificate yet")]
    NotCertified(Offset),
    /// This node no longer has, or does not have yet, a part that the proof needs.
    #[error("the ledger {ledger} here lacks {what}")]
    Missing {
        /// The ledger.
        ledger: LedgerId,
        /// What is missing.
        what: &'static str,
    },
    /// The node's storage failed.
    #[error("the ledger cannot be read: {0}")]
    Source(#[from] SourceError),
    /// What the node holds does not make a valid receipt: its storage is damaged.
    #[error("the receipt made does not verify: {0}")]
    DoesNotVerify(#[from] VerifyError),
}

/// Makes the receipt for one offset, and verifies it before it is handed out.
pub fn export(
    genesis: &Genesis,
    system: &dyn SystemSource,
    partition: &dyn Deliveries,
    topic: &str,
    offset: Offset,
) -> Result<Receipt, ExportError> {
    let unknown = || ExportError::UnknownTopic(topic.to_owned());
    let index = system.topic_created(topic)?.ok_or_else(unknown)?;
    let (created, leaf, certificate) = prove_created(system, index, topic)?;
    let (state, created_topic) = state_with_topic(genesis, &leaf).ok_or_else(unknown)?;
    let ledger = partition.ledger();
    let membership = state
        .membership(ledger)
        .ok_or_else(|| ExportError::UnknownPartition { topic: topic.to_owned(), partition: ledger.partition })?;
    let (evidence, partition_certificate) = prove_deliveries(partition, offset)?;
    let receipt = Receipt {
        network_name: genesis.name.clone(),
        network: genesis.network_id(),
        topic: topic.to_owned(),
        topic_id: created_topic.id,
        partition: ledger.partition,
        offset,
        owner: created_topic.owner.clone(),
        created,
        system_note: note(&certificate, &genesis.system_membership(), system)?,
        evidence,
        partition_note: note(&partition_certificate, &membership, partition)?,
    };
    verify(&receipt.to_text(), genesis)?;
    Ok(receipt)
}

fn prove_created(
    system: &dyn SystemSource,
    index: u64,
    topic: &str,
) -> Result<(Proof, Leaf, Certificate), ExportError> {
    let certificate = system.certificate_covering(index)?;
    // The node knows of the topic from certified blocks only: a moment later it has the certificate, too.
    let certificate = certificate.ok_or_else(|| ExportError::UnknownTopic(topic.to_owned()))?;
    let (proof, leaf) = prove(system, index, certificate.checkpoint.tree_size)?;
    Ok((proof, leaf, certificate))
}

/// The evidence that a certificate covers, and the first certificate that covers all of that.
fn prove_deliveries(partition: &dyn Deliveries, offset: Offset) -> Result<(Vec<Evidence>, Certificate), ExportError> {
    let mut deliveries = partition.deliveries(offset)?;
    deliveries.sort();
    let sent = deliveries.iter().find(|(level, ..)| *level == Level::Sent).ok_or(ExportError::UnknownOffset(offset))?;
    let sent = sent.2;
    let mut newest_first: Vec<u64> = deliveries.iter().map(|(.., index)| *index).collect();
    newest_first.sort_unstable_by(|left, right| right.cmp(left));
    let mut certificate = None;
    for index in newest_first.into_iter().filter(|index| *index >= sent) {
        certificate = partition.certificate_covering(index)?;
        if certificate.is_some() {
            break;
        }
    }
    let certificate = certificate.ok_or(ExportError::NotCertified(offset))?;
    let tree_size = certificate.checkpoint.tree_size;
    let mut evidence = Vec::with_capacity(deliveries.len());
    for (level, org, index) in deliveries.into_iter().filter(|(.., index)| *index < tree_size) {
        evidence.push(Evidence { level, org, proof: prove(partition, index, tree_size)?.0 });
    }
    Ok((evidence, certificate))
}

/// A leaf with its two paths and its actor's signature.
fn prove<S: LedgerSource + ?Sized>(source: &S, index: u64, tree_size: u64) -> Result<(Proof, Leaf), ExportError> {
    let missing = |what| move || ExportError::Missing { ledger: source.ledger(), what };
    let SignedLeaf { leaf, signed } = source.signed_leaf(index)?.ok_or_else(missing("an entry"))?;
    let (signature, branch) = signed.ok_or_else(missing("an actor"))?;
    let path = source.inclusion(index, tree_size)?.ok_or_else(missing("a part of the Merkle tree"))?;
    Ok((Proof { leaf: leaf.to_bytes(), signature, branch, index, path }, leaf))
}

fn note<S: LedgerSource + ?Sized>(
    certificate: &Certificate,
    membership: &Membership,
    source: &S,
) -> Result<Note, ExportError> {
    let what = "a certificate under the replicas of its creation";
    Note::new(certificate, membership).map_err(|_| ExportError::Missing { ledger: source.ledger(), what })
}

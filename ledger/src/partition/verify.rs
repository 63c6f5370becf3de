//! Verifies blocks that someone else has executed, by a quorum's certificate: for catch-up and for the global ledger.

use super::chain::{Execution, Place, Tip, decode_body};
use super::error::VerifyError;
use std::slice;
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::{Block, Body, Certificate, Digest, Header, Height, Leaf, Membership, Outcome, Transaction};

/// Blocks that a quorum has certified. Only [`verify_range`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    tip: Tip,
    blocks: Vec<VerifiedBlock>,
}

/// A certified block, taken apart.
#[derive(Clone, Debug)]
pub struct VerifiedBlock {
    /// The header.
    pub header: Header,
    /// The executed transactions with their outcomes, in order; the first is leaf `header.tree_size - leaves.len()`.
    pub leaves: Vec<Leaf>,
}

impl Verified {
    /// Where the chain ends now.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The blocks, in order.
    pub fn blocks(&self) -> &[VerifiedBlock] {
        &self.blocks
    }

    /// Tip and blocks, for those who keep them.
    pub fn into_parts(self) -> (Tip, Vec<VerifiedBlock>) {
        (self.tip, self.blocks)
    }
}

/// Checks that `blocks` continue the chain that ends at `tip`, and that `certificate`, by `membership`, is about the
/// last of them. It covers the others, since each header names the one before.
///
/// Bodies are held against the headers, transactions and outcomes against the tree, times and offsets against what
/// the bodies lead to. Whether the outcomes are those of the contract is what the quorum vouches for.
pub fn verify_range(
    tip: &Tip,
    blocks: &[Block],
    certificate: &Certificate,
    membership: &Membership,
) -> Result<Verified, VerifyError> {
    let last = blocks.last().ok_or(VerifyError::Empty)?;
    let checkpoint = &certificate.checkpoint;
    if (checkpoint.network, checkpoint.ledger, checkpoint.cluster) != (tip.network, tip.ledger, tip.cluster) {
        return Err(VerifyError::OtherCluster);
    }
    if last.header.height != checkpoint.height || last.header.hash() != checkpoint.head {
        return Err(VerifyError::NotCertified(last.header.height));
    }
    certificate.verify(membership)?;
    let mut tip = tip.clone();
    let blocks = blocks.iter().map(|block| tip.verify(block)).collect::<Result<_, _>>()?;
    if (tip.time_ms, tip.tree.size(), tip.tree.root())
        != (checkpoint.time_ms, checkpoint.tree_size, checkpoint.tree_root)
    {
        return Err(VerifyError::NotCertified(tip.height));
    }
    Ok(Verified { tip, blocks })
}

impl Tip {
    fn verify(&mut self, block: &Block) -> Result<VerifiedBlock, VerifyError> {
        let header = &block.header;
        let height = header.height;
        if self.height.checked_add(1) != Some(height) {
            return Err(VerifyError::NotContiguous { height: self.height, got: height });
        }
        if header.ledger != self.ledger {
            return Err(VerifyError::OtherLedger(height));
        }
        if header.previous != self.head {
            return Err(VerifyError::WrongPrevious(height));
        }
        let digest = Body::digest(&block.body);
        if header.body != digest {
            return Err(VerifyError::WrongBody(height));
        }
        if height == 1 && !self.begins_with(digest) {
            return Err(VerifyError::OtherBeginning);
        }
        let body = decode_body(&block.body).map_err(|_| VerifyError::Undecodable(height))?;
        let mut recorded = Recorded { outcomes: block.outcomes.iter(), leaves: Vec::new() };
        let derived = self.advance(digest, body, &mut recorded)?;
        if recorded.outcomes.next().is_some() {
            return Err(VerifyError::WrongOutcomes(height));
        }
        if (derived.tree_size, derived.tree_root) != (header.tree_size, header.tree_root) {
            return Err(VerifyError::WrongTree(height));
        }
        if derived != *header {
            return Err(VerifyError::WrongHeader(height));
        }
        Ok(VerifiedBlock { header: derived, leaves: recorded.leaves })
    }
}

/// Takes the outcomes from the block.
struct Recorded<'a> {
    outcomes: slice::Iter<'a, Outcome>,
    leaves: Vec<Leaf>,
}

impl Execution for Recorded<'_> {
    type Error = VerifyError;

    fn outcome(&mut self, place: &Place, transaction: &Transaction) -> Result<Outcome, VerifyError> {
        let wrong = VerifyError::WrongOutcomes(place.height);
        let outcome = *self.outcomes.next().ok_or(wrong)?;
        if may_become(place, transaction, outcome) { Ok(outcome) } else { Err(wrong) }
    }

    fn leaf(&mut self, _leaf_index: u64, leaf: Leaf) {
        self.leaves.push(leaf);
    }

    fn tile_hash(&mut self, _level: u8, _hash: Digest) {}

    fn skipped(&mut self, _index: u32, _envelope: &EnvelopeHeader) {}
}

/// Whether a contract can have come to this outcome: batches get the next offset, nothing else gets one.
fn may_become(place: &Place, transaction: &Transaction, outcome: Outcome) -> bool {
    match (transaction, outcome) {
        (Transaction::Send(send), Outcome::Appended { base_offset }) => {
            base_offset == place.next_offset && send.record_count > 0
        }
        (Transaction::Send(_), Outcome::Duplicate { base_offset }) => base_offset < place.next_offset,
        (Transaction::Send(_), outcome) => matches!(outcome, Outcome::Rejected(_)),
        (_, outcome) => matches!(outcome, Outcome::Recorded | Outcome::Rejected(_)),
    }
}

/// A block's leaves, from its body and its outcomes; `skipped` are the envelopes that did not execute, ascending. None if they do
/// not fit each other.
pub(super) fn leaves_of(header: &Header, body: Body, skipped: &[u32], outcomes: &[Outcome]) -> Option<Vec<Leaf>> {
    let mut outcomes = outcomes.iter();
    let mut leaves = Vec::with_capacity(outcomes.len());
    let (height, time_ms): (Height, u64) = (header.height, header.time_ms);
    let mut push = |origin, transaction| -> Option<()> {
        leaves.push(Leaf { height, time_ms, origin, transaction, outcome: *outcomes.next()? });
        Some(())
    };
    if let Some(config) = body.config.filter(|_| height == 1) {
        push(None, Transaction::Config(config))?;
    }
    for (index, envelope) in body.envelopes.into_iter().enumerate() {
        if skipped.binary_search(&(index as u32)).is_ok() {
            continue;
        }
        for (place, transaction) in envelope.transactions.into_iter().enumerate() {
            push(Some((envelope.header, place as u32)), transaction)?;
        }
    }
    outcomes.next().is_none().then_some(leaves)
}

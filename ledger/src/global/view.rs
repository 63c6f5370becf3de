//! One ledger of the global ledger, as receipts ask for it.

use super::deliveries::sent_at;
use super::hashes::StoredTiles;
use super::keys::Key;
use super::stage::Stage;
use super::{GlobalLedger, StoreError};
use crate::partition::{SignedLeaf, decode_body};
use crate::receipt::{Deliveries, LedgerSource, Level, SourceError, SystemSource};
use crate::tiles::{TILE_WIDTH, TileId, Tiles, inclusion_path};
use waybill_types::{
    Block, Certificate, DecodeError, Digest, Height, Leaf, LedgerId, Offset, OrgId, Outcome, Transaction,
};

/// One ledger's certified blocks.
#[derive(Clone, Copy, Debug)]
pub struct LedgerView<'a> {
    global: &'a GlobalLedger,
    ledger: LedgerId,
}

impl<'a> LedgerView<'a> {
    pub(super) fn new(global: &'a GlobalLedger, ledger: LedgerId) -> Self {
        LedgerView { global, ledger }
    }

    /// A block's leaves. Which envelopes of the body executed is not stored: the tree tells, since an envelope that
    /// did not execute has no leaf in it.
    pub(super) fn leaves(&self, block: &Block) -> Result<Vec<Leaf>, StoreError> {
        let damaged = |error| StoreError::Corrupt { what: format!("a block of {}", self.ledger), error };
        let body = decode_body(&block.body).map_err(damaged)?;
        let (height, time_ms) = (block.header.height, block.header.time_ms);
        let first = block.header.tree_size.saturating_sub(block.outcomes.len() as u64);
        let mut leaves: Vec<Leaf> = Vec::with_capacity(block.outcomes.len());
        let outcome = |place: usize| block.outcomes.get(place).copied();
        if let (Some(config), 1, Some(outcome)) = (body.config, height, outcome(0)) {
            leaves.push(Leaf { height, time_ms, origin: None, transaction: Transaction::Config(config), outcome });
        }
        let leaf = |header, place: usize, transaction: &Transaction, outcome: Outcome| Leaf {
            height,
            time_ms,
            origin: Some((header, place as u32)),
            transaction: transaction.clone(),
            outcome,
        };
        for envelope in &body.envelopes {
            let (Some(transaction), Some(next)) = (envelope.transactions.first(), outcome(leaves.len())) else { break };
            let candidate = leaf(envelope.header, 0, transaction, next).hash();
            if candidate != self.leaf_hash(first + leaves.len() as u64)? {
                continue;
            }
            for (place, transaction) in envelope.transactions.iter().enumerate() {
                let outcome =
                    outcome(leaves.len()).ok_or_else(|| damaged(DecodeError::Invalid("outcomes are missing")))?;
                leaves.push(leaf(envelope.header, place, transaction, outcome));
            }
        }
        if leaves.len() != block.outcomes.len() {
            return Err(damaged(DecodeError::Invalid("a body and its outcomes do not fit each other")));
        }
        Ok(leaves)
    }

    fn leaf_hash(&self, index: u64) -> Result<Digest, StoreError> {
        let stage = Stage::new(&self.global.tree);
        let place = (index % TILE_WIDTH) as usize;
        let mut hash = Vec::with_capacity(1);
        let tiles = StoredTiles { stage: &stage, ledger: self.ledger };
        tiles.hashes(TileId { level: 0, index: index / TILE_WIDTH }, place..place + 1, &mut hash)?;
        Ok(hash.first().copied().unwrap_or(Digest::ZERO))
    }

    /// The block that has a leaf, and the block's first leaf.
    fn block_of_leaf(&self, index: u64) -> Result<Option<(u64, Height)>, StoreError> {
        Stage::new(&self.global.tree).at_or_before(&Key::BlockOfLeaf(self.ledger, index))
    }
}

impl LedgerSource for LedgerView<'_> {
    fn ledger(&self) -> LedgerId {
        self.ledger
    }

    fn signed_leaf(&self, index: u64) -> Result<Option<SignedLeaf>, SourceError> {
        let Some((first, height)) = self.block_of_leaf(index)? else { return Ok(None) };
        let Some(block) = self.global.block(self.ledger, height)? else { return Ok(None) };
        let mut leaves = self.leaves(&block)?;
        let place = usize::try_from(index - first).unwrap_or(usize::MAX);
        if place >= leaves.len() {
            return Ok(None);
        }
        let leaf = leaves.swap_remove(place);
        let body = decode_body(&block.body)?;
        let signed = leaf.origin.and_then(|(header, place)| {
            let envelope = body.envelopes.iter().find(|envelope| envelope.header == header)?;
            Some((envelope.signature, envelope.path(place as usize)))
        });
        Ok(Some(SignedLeaf { leaf, signed }))
    }

    fn inclusion(&self, index: u64, tree_size: u64) -> Result<Option<Vec<Digest>>, SourceError> {
        if self.global.head(self.ledger).is_none_or(|tip| tree_size > tip.tree.size()) {
            return Ok(None);
        }
        let stage = Stage::new(&self.global.tree);
        Ok(inclusion_path(&StoredTiles { stage: &stage, ledger: self.ledger }, index, tree_size)?)
    }

    fn certificate_covering(&self, index: u64) -> Result<Option<Certificate>, SourceError> {
        let Some((_, height)) = self.block_of_leaf(index)? else { return Ok(None) };
        let stage = Stage::new(&self.global.tree);
        let found = stage.at_or_after::<Certificate>(&Key::Certificate(self.ledger, height))?;
        Ok(found.map(|(_, certificate)| certificate).filter(|certificate| certificate.checkpoint.tree_size > index))
    }
}

impl SystemSource for LedgerView<'_> {
    fn topic_created(&self, name: &str) -> Result<Option<u64>, SourceError> {
        Ok(self.global.topic(name).map(|topic| topic.leaf_index))
    }
}

impl Deliveries for LedgerView<'_> {
    fn deliveries(&self, offset: Offset) -> Result<Vec<(Level, OrgId, u64)>, SourceError> {
        let sent = sent_at(&Stage::new(&self.global.tree), self.ledger, offset)?;
        let Some(batch) = sent else { return Ok(Vec::new()) };
        let mut found = vec![(Level::Sent, batch.sender.clone(), batch.leaf_index)];
        let system = self.global.system();
        // One record's evidence is asked for, not the batch's.
        let mut record = batch;
        record.base_offset = offset;
        record.send.record_count = 1;
        for org in system.organisations() {
            for level in [Level::Retrieved, Level::Received, Level::Committed, Level::Refused] {
                let covered = self.global.covered(self.ledger, &record, level, org, 1)?;
                found.extend(covered.first().map(|covered| (level, org.clone(), covered.leaf_index)));
            }
        }
        Ok(found)
    }
}

//! The way of executed blocks into sled: taken by the partition's task, written by another thread, then dropped from
//! memory by the partition's task.

use super::deliveries::new_rows;
use super::overlay::{BlockRecord, Delivery};
use super::rows::{AppliedRow, ENTRIES_PER_ROW, TimedEntry, entries_row, tile_row};
use crate::keys::Key;
use crate::tiles::TileId;
use std::sync::Arc;
use waybill_types::{Certificate, Codec, Digest, Height, LedgerId};

/// Everything of one ledger that is not yet in sled, up to its stable height. One is under way at a time; dropping it
/// unwritten loses nothing, the next one takes the same again.
#[derive(Debug)]
#[must_use = "a flush does nothing until it is written"]
pub struct Flush {
    pub(super) db: sled::Tree,
    pub(super) ledger: LedgerId,
    pub(super) applied: AppliedRow,
    pub(super) blocks: Vec<Arc<BlockRecord>>,
    pub(super) entries: Vec<TimedEntry>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) tiles: Vec<(TileId, Vec<Digest>)>,
    pub(super) certificates: Vec<Arc<Certificate>>,
    /// Shared with the partition, which sees by it that a flush is under way.
    pub(super) under_way: Arc<()>,
}

/// A flush that is in sled: give it back to [`Partition::flushed`](super::Partition::flushed).
#[derive(Debug)]
#[must_use = "what was flushed stays in memory until the partition is told"]
pub struct Flushed {
    pub(super) height: Height,
    pub(super) tree_size: u64,
    _under_way: Arc<()>,
}

impl Flush {
    /// The height up to which this writes.
    pub fn height(&self) -> Height {
        self.applied.tip.height
    }

    /// Writes everything as one batch, which sled applies as a whole or not at all. Blocks for as long as sled does:
    /// not for the consensus thread.
    pub fn write(self) -> Result<Flushed, sled::Error> {
        let batch = self.batch()?;
        self.db.apply_batch(batch)?;
        Ok(Flushed {
            height: self.applied.tip.height,
            tree_size: self.applied.tip.tree.size(),
            _under_way: self.under_way,
        })
    }

    fn batch(&self) -> Result<sled::Batch, sled::Error> {
        let mut batch = sled::Batch::default();
        let mut put = |key: Key, value: &[u8]| batch.insert(key.encode(), value);
        for block in &self.blocks {
            let height = block.row.header.height;
            put(Key::Block(self.ledger, height), &block.row.to_bytes());
            if !block.row.outcomes.is_empty() {
                put(Key::BlockOfLeaf(self.ledger, block.row.first_leaf()), &height.to_be_bytes());
            }
        }
        for run in self.entries.chunks(ENTRIES_PER_ROW) {
            if let Some(first) = run.first() {
                put(Key::Entries(self.ledger, first.entry.base_offset), &entries_row(run));
            }
        }
        for (tile, hashes) in &self.tiles {
            put(Key::Tile(self.ledger, tile.level, tile.index), &tile_row(hashes));
        }
        for certificate in &self.certificates {
            put(Key::Certificate(self.ledger, certificate.checkpoint.height), &certificate.to_bytes());
        }
        put(Key::Applied(self.ledger), &self.applied.to_bytes());
        put(Key::Contract(self.ledger), &self.applied.contract.to_bytes());
        for (key, leaf_index) in new_rows(&self.db, self.ledger, &self.deliveries)? {
            batch.insert(key, &leaf_index.to_be_bytes());
        }
        Ok(batch)
    }
}

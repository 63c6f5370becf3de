//! What is executed and not yet in sled, with the newest entries: the part of a ledger that is read most.
//!
//! Rows move from here to sled and never back: written there first, dropped here afterwards. Whoever does not find a
//! row here finds it there.

use super::rows::{BlockRow, TimedEntry};
use crate::keys::{DeliveryKind, Track};
use crate::tiles::MemoryTiles;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use waybill_types::transaction::Config;
use waybill_types::{Certificate, Height, Offset, OrgId};

/// How many of the newest entries stay in memory after they are flushed: consumers read the end of the log. Small,
/// since a node has thousands of partitions, and sled has a cache too.
const RECENT_ENTRIES: usize = 256;
/// What an entry takes in memory, about.
const ENTRY_BYTES: usize = 320;
/// What a delivery takes in memory, about.
const DELIVERY_BYTES: usize = 96;
/// What a block takes in memory beside its body and outcomes, about.
const BLOCK_BYTES: usize = 320;

#[derive(Debug, Default)]
pub(super) struct Overlay {
    pub height: Height,
    pub next_offset: Offset,
    pub log_start: Offset,
    pub tree_size: u64,
    pub max_timestamp_ms: i64,
    pub config: Option<Arc<Config>>,
    /// Ascending, without gaps, up to `height`.
    pub blocks: VecDeque<Arc<BlockRecord>>,
    /// Ascending, without gaps, up to `next_offset`.
    pub entries: VecDeque<TimedEntry>,
    pub deliveries: VecDeque<Delivery>,
    pub tiles: MemoryTiles,
    /// Ascending; those not yet in sled.
    pub certificates: VecDeque<Arc<Certificate>>,
    pub latest_certificate: Option<Arc<Certificate>>,
    pub block_bytes: usize,
}

/// A block with its body.
#[derive(Clone, Debug)]
pub(super) struct BlockRecord {
    pub row: BlockRow,
    pub body: Bytes,
}

/// Evidence that offsets `first..=last` reached an organisation.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub kind: DeliveryKind,
    /// Who says so, if not the receiver itself.
    pub by: Option<OrgId>,
    pub org: OrgId,
    pub first: Offset,
    pub last: Offset,
    pub height: Height,
    pub leaf_index: u64,
}

impl Delivery {
    pub fn track(&self) -> Track<'_> {
        Track { kind: self.kind, by: self.by.as_ref(), org: &self.org }
    }
}

impl Overlay {
    pub fn push_block(&mut self, block: BlockRecord) {
        self.height = block.row.header.height;
        self.next_offset = block.row.header.next_offset;
        self.tree_size = block.row.header.tree_size;
        self.block_bytes += block.bytes();
        self.blocks.push_back(Arc::new(block));
    }

    /// Drops what is in sled: everything up to `height`, when the tree had `tree_size` leaves.
    pub fn flushed(&mut self, height: Height, tree_size: u64) {
        while let Some(block) = self.blocks.front().filter(|block| block.row.header.height <= height) {
            self.block_bytes = self.block_bytes.saturating_sub(block.bytes());
            self.blocks.pop_front();
        }
        while self.entries.len() > RECENT_ENTRIES
            && self.entries.front().is_some_and(|timed| timed.entry.height <= height)
        {
            self.entries.pop_front();
        }
        while self.deliveries.front().is_some_and(|delivery| delivery.height <= height) {
            self.deliveries.pop_front();
        }
        while self.certificates.front().is_some_and(|certificate| certificate.checkpoint.height <= height) {
            self.certificates.pop_front();
        }
        self.tiles.forget_full(tree_size);
    }

    /// The block of this height, if it is here.
    pub fn block(&self, height: Height) -> Option<&Arc<BlockRecord>> {
        let first = self.blocks.front()?.row.header.height;
        self.blocks.get(usize::try_from(height.checked_sub(first)?).ok()?)
    }

    /// The block that has this leaf, if it is here.
    pub fn block_of_leaf(&self, leaf_index: u64) -> Option<&Arc<BlockRecord>> {
        let at = self.blocks.partition_point(|block| block.row.header.tree_size <= leaf_index);
        self.blocks.get(at).filter(|block| block.row.first_leaf() <= leaf_index)
    }

    /// The place of the entry that contains `offset`, if it is here.
    pub fn place_of(&self, offset: Offset) -> Option<usize> {
        let after = self.entries.partition_point(|timed| timed.entry.base_offset <= offset);
        after.checked_sub(1).filter(|at| self.entries[*at].entry.last_offset() >= offset)
    }

    /// How many bytes all this takes, about.
    pub fn bytes(&self) -> usize {
        self.block_bytes
            + self.entries.len() * ENTRY_BYTES
            + self.deliveries.len() * DELIVERY_BYTES
            + self.tiles.bytes()
    }
}

impl BlockRecord {
    fn bytes(&self) -> usize {
        BLOCK_BYTES + self.body.len() + self.row.outcomes.len() * size_of::<waybill_types::Outcome>()
    }
}

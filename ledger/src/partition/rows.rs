//! The values of the partitions' [keys](crate::keys::Key).

use super::{Entry, Tip};
use crate::contract::Snapshot;
use crate::journal::Position;
use bytes::Bytes;
use std::sync::Arc;
use waybill_types::transaction::Send;
use waybill_types::{
    Codec, DecodeError, Digest, Header, Height, LedgerId, NodeId, Offset, OrgId, Outcome, codec::Reader, codec_struct,
};

/// Changes with every change of a row; what another version wrote is rebuilt from the journal.
const FORMAT: u8 = 1;

/// The value of [`Key::Applied`](crate::keys::Key::Applied).
#[derive(Clone, Debug)]
pub(super) struct AppliedRow {
    pub tip: Tip,
    /// The largest timestamp of all batches.
    pub max_timestamp_ms: i64,
    pub contract: Snapshot,
}

impl Codec for AppliedRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        self.tip.encode(out);
        self.max_timestamp_ms.encode(out);
        self.contract.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            FORMAT => {}
            other => return Err(DecodeError::UnknownTag(other)),
        }
        Ok(AppliedRow {
            tip: Codec::decode(input)?,
            max_timestamp_ms: Codec::decode(input)?,
            contract: Codec::decode(input)?,
        })
    }
}

/// The value of [`Key::Block`](crate::keys::Key::Block).
#[derive(Clone, Debug)]
pub(super) struct BlockRow {
    pub header: Header,
    position: [u8; Position::BYTES],
    /// The indices of the body's envelopes that did not execute.
    pub skipped: Vec<u32>,
    pub outcomes: Vec<Outcome>,
}
codec_struct!(BlockRow { header, position, skipped, outcomes });

impl BlockRow {
    pub fn new(header: Header, position: Position, skipped: Vec<u32>, outcomes: Vec<Outcome>) -> Self {
        BlockRow { header, position: position.to_bytes(), skipped, outcomes }
    }

    pub fn position(&self) -> Position {
        Position::from_bytes(self.position)
    }

    /// The index of the block's first leaf.
    pub fn first_leaf(&self) -> u64 {
        self.header.tree_size.saturating_sub(self.outcomes.len() as u64)
    }
}

/// An entry, and the largest timestamp of all entries up to it: what a search by time goes by, since it never falls.
#[derive(Clone, Debug)]
pub(super) struct TimedEntry {
    pub entry: Arc<Entry>,
    pub max_so_far_ms: i64,
}

/// The value of [`Key::Entry`](crate::keys::Key::Entry); ledger and base offset are in the key.
struct EntryRow {
    height: Height,
    leaf_index: u64,
    time_ms: u64,
    log_append_time: bool,
    sender: OrgId,
    origin: NodeId,
    send: Send,
    max_so_far_ms: i64,
}
codec_struct!(EntryRow { height, leaf_index, time_ms, log_append_time, sender, origin, send, max_so_far_ms });

impl TimedEntry {
    pub fn to_row(&self) -> Bytes {
        let entry = &*self.entry;
        EntryRow {
            height: entry.height,
            leaf_index: entry.leaf_index,
            time_ms: entry.time_ms,
            log_append_time: entry.log_append_time,
            sender: entry.sender.clone(),
            origin: entry.origin,
            send: entry.send.clone(),
            max_so_far_ms: self.max_so_far_ms,
        }
        .to_bytes()
    }

    pub fn from_row(ledger: LedgerId, base_offset: Offset, row: &Bytes) -> Result<Self, DecodeError> {
        let row = EntryRow::from_bytes(row)?;
        let entry = Entry {
            ledger,
            base_offset,
            height: row.height,
            leaf_index: row.leaf_index,
            time_ms: row.time_ms,
            log_append_time: row.log_append_time,
            sender: row.sender,
            origin: row.origin,
            send: row.send,
        };
        Ok(TimedEntry { entry: Arc::new(entry), max_so_far_ms: row.max_so_far_ms })
    }
}

/// A tile's row is its hashes, one after the other, as `tlog-tiles` serves them.
pub(super) fn tile_row(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile's row; none if it is no row of hashes.
pub(super) fn tile_hashes(row: &[u8]) -> Option<Vec<Digest>> {
    let hashes = row.chunks_exact(32);
    if !hashes.remainder().is_empty() {
        return None;
    }
    hashes.map(|hash| hash.try_into().ok().map(Digest)).collect()
}

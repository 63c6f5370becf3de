//! The values of the partitions' [keys](crate::keys::Key).

use super::{Entry, Tip};
use crate::contract::Snapshot;
use crate::journal::Position;
use bytes::Bytes;
use std::sync::Arc;
use waybill_types::{Codec, DecodeError, Digest, Header, LedgerId, Offset, Outcome, codec::Reader, codec_struct};

/// Changes with every change of a row; what another version wrote is rebuilt from the journal.
const FORMAT: u8 = 2;
/// How many batches are in one row at most: a row costs far more than a batch in it.
pub(super) const ENTRIES_PER_ROW: usize = if cfg!(test) { 3 } else { 64 };

/// The state at a height, for [`Key::Applied`](crate::keys::Key::Applied) and
/// [`Key::Contract`](crate::keys::Key::Contract). The encoding is that of the first, which tells where the second stands.
#[derive(Clone, Debug)]
pub(super) struct AppliedRow {
    pub tip: Tip,
    /// The largest timestamp of all batches.
    pub max_timestamp_ms: i64,
    pub contract: Snapshot,
}

impl AppliedRow {
    pub fn to_bytes(&self) -> Bytes {
        let mut out = vec![FORMAT];
        self.tip.encode(&mut out);
        self.max_timestamp_ms.encode(&mut out);
        out.into()
    }
}

/// Where a chain ends in sled, and the largest timestamp of all batches; none if another version wrote it.
pub(super) fn applied_tip(row: &[u8]) -> Option<Result<(Tip, i64), DecodeError>> {
    let row = row.strip_prefix(&[FORMAT])?;
    Some(Codec::from_bytes(&Bytes::copy_from_slice(row)))
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

/// The value of [`Key::Entries`](crate::keys::Key::Entries): batches that follow each other. Ledger and base offset of
/// the first are in the key.
pub(super) fn entries_row(run: &[TimedEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 * run.len());
    (run.len() as u32).encode(&mut out);
    for TimedEntry { entry, max_so_far_ms } in run {
        let Entry { height, leaf_index, time_ms, log_append_time, sender, origin, send, .. } = &**entry;
        height.encode(&mut out);
        leaf_index.encode(&mut out);
        time_ms.encode(&mut out);
        log_append_time.encode(&mut out);
        sender.encode(&mut out);
        origin.encode(&mut out);
        send.encode(&mut out);
        max_so_far_ms.encode(&mut out);
    }
    out
}

/// The batches of a row, in order; at least one.
pub(super) fn row_entries(ledger: LedgerId, first: Offset, row: &Bytes) -> Result<Vec<TimedEntry>, DecodeError> {
    let mut input = Reader::new(row.clone());
    let count = u32::decode(&mut input)? as usize;
    if !(1..=ENTRIES_PER_ROW).contains(&count) {
        return Err(DecodeError::Invalid("a row of batches has none, or too many"));
    }
    let (mut entries, mut base_offset) = (Vec::with_capacity(count), first);
    for _ in 0..count {
        let entry = Entry {
            ledger,
            base_offset,
            height: Codec::decode(&mut input)?,
            leaf_index: Codec::decode(&mut input)?,
            time_ms: Codec::decode(&mut input)?,
            log_append_time: Codec::decode(&mut input)?,
            sender: Codec::decode(&mut input)?,
            origin: Codec::decode(&mut input)?,
            send: Codec::decode(&mut input)?,
        };
        base_offset = entry.last_offset().saturating_add(1);
        entries.push(TimedEntry { entry: Arc::new(entry), max_so_far_ms: Codec::decode(&mut input)? });
    }
    input.finish()?;
    Ok(entries)
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

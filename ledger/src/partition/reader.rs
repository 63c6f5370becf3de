//! Reads a partition's ledger: a cheap clone for gateways, connectors, the anchor and receipts.

use super::chain::decode_agreed;
use super::deliveries;
use super::error::{BodyError, ReadError};
use super::overlay::{BlockRecord, Overlay};
use super::rows::{BlockRow, TimedEntry, row_entries, tile_hashes};
use super::verify::leaves_of;
use super::{BodySource, Entry};
use crate::keys::{self, DeliveryKind, Key};
use crate::tiles::{self, TileId, Tiles};
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use waybill_types::transaction::Config;
use waybill_types::{
    Block, Certificate, ClusterId, Codec, Digest, Header, Height, Leaf, LedgerId, Membership, NetworkId, Offset, OrgId,
    Signature,
};

/// Reads everything that has been executed. Each answer is of one moment; two answers may be of two.
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

/// What the partition and its readers have in common.
pub(super) struct Shared {
    pub db: sled::Tree,
    pub network: NetworkId,
    pub ledger: LedgerId,
    pub cluster: ClusterId,
    pub membership: Arc<Membership>,
    pub bodies: Arc<dyn BodySource>,
    /// Held for moments only: nothing reads the disk or hashes under it.
    pub overlay: RwLock<Overlay>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ledger)
    }
}

/// A leaf with its origin's signature: what a receipt shows besides the path to the ledger's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedLeaf {
    /// The leaf.
    pub leaf: Leaf,
    /// The envelope's signature, and the path from the transaction to the envelope's root; none for the first block's
    /// configuration, which nobody signs: the cluster is named after it.
    pub signed: Option<(Signature, Vec<Digest>)>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.shared.ledger)
    }
}

/// Where the ledger stands.
impl Reader {
    /// The network.
    pub fn network(&self) -> NetworkId {
        self.shared.network
    }

    /// The ledger.
    pub fn ledger(&self) -> LedgerId {
        self.shared.ledger
    }

    /// The cluster that orders it.
    pub fn cluster(&self) -> ClusterId {
        self.shared.cluster
    }

    /// The replicas that order it.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.shared.membership
    }

    /// The offset after the last executed batch.
    pub fn high_watermark(&self) -> Offset {
        self.shared.overlay.read().next_offset
    }

    /// The first offset that is not deleted.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.overlay.read().log_start
    }

    /// The last executed block; 0 before the first.
    pub fn executed_height(&self) -> Height {
        self.shared.overlay.read().height
    }

    /// How many leaves the Merkle tree has.
    pub fn tree_size(&self) -> u64 {
        self.shared.overlay.read().tree_size
    }

    /// The configuration in force; none before the first block.
    pub fn config(&self) -> Option<Arc<Config>> {
        self.shared.overlay.read().config.clone()
    }

    /// The newest certificate.
    pub fn latest_certificate(&self) -> Option<Arc<Certificate>> {
        self.shared.overlay.read().latest_certificate.clone()
    }

    /// How many bytes of memory wait to be flushed, about.
    pub fn overlay_bytes(&self) -> usize {
        self.shared.overlay.read().bytes()
    }
}

/// Batches.
impl Reader {
    /// The batch that contains `offset`, or the next one after it; none from the high watermark on.
    pub fn entry_at(&self, offset: Offset) -> Result<Option<Arc<Entry>>, ReadError> {
        Ok(self.timed_entry_at(offset)?.map(|timed| timed.entry))
    }

    /// At most `max_entries` batches in order, beginning with the one that contains `from_offset`.
    pub fn entries(&self, from_offset: Offset, max_entries: usize) -> Result<Vec<Arc<Entry>>, ReadError> {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut at = from_offset.max(0);
        while entries.len() < max_entries {
            let (wanted, before) = (max_entries - entries.len(), entries.len());
            {
                let overlay = self.shared.overlay.read();
                if let Some(place) = overlay.place_of(at) {
                    entries.extend(overlay.entries.range(place..).take(wanted).map(|timed| timed.entry.clone()));
                    break;
                }
            }
            // It was flushed, or it is beyond the end. Between the flushed ones and those in memory is no gap: what has
            // left the memory meanwhile is found in the next round.
            self.stored_entries(at, wanted, &mut entries)?;
            match entries.last() {
                Some(last) if entries.len() > before => at = last.last_offset() + 1,
                _ => break,
            }
        }
        Ok(entries)
    }

    /// The first batch with a timestamp of at least `timestamp_ms`, as consumers see its timestamps; none if all are
    /// older. A search by bisection: the largest timestamp so far never falls.
    pub fn entry_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<Arc<Entry>>, ReadError> {
        let (mut low, mut high) = {
            let overlay = self.shared.overlay.read();
            if overlay.next_offset == 0 || overlay.max_timestamp_ms < timestamp_ms {
                return Ok(None);
            }
            (overlay.log_start.max(0), overlay.next_offset)
        };
        let mut found = None;
        while low < high {
            let Some(timed) = self.timed_entry_at(low + (high - low) / 2)? else { break };
            if timed.max_so_far_ms >= timestamp_ms {
                high = timed.entry.base_offset;
                found = Some(timed.entry);
            } else {
                low = timed.entry.last_offset() + 1;
            }
        }
        Ok(found)
    }

    /// The largest timestamp of all batches, as consumers see them; none before the first batch.
    pub fn max_timestamp_ms(&self) -> Option<i64> {
        let overlay = self.shared.overlay.read();
        (overlay.next_offset > 0).then_some(overlay.max_timestamp_ms)
    }

    fn timed_entry_at(&self, offset: Offset) -> Result<Option<TimedEntry>, ReadError> {
        let offset = offset.max(0);
        {
            let overlay = self.shared.overlay.read();
            if offset >= overlay.next_offset {
                return Ok(None);
            }
            if let Some(place) = overlay.place_of(offset) {
                return Ok(overlay.entries.get(place).cloned());
            }
        }
        let row = self.stored_run(offset)?;
        Ok(row.into_iter().flatten().find(|timed| timed.entry.last_offset() >= offset))
    }

    /// The run of batches in sled that begins at `offset`, or with the last batch before it.
    fn stored_run(&self, offset: Offset) -> Result<Option<Vec<TimedEntry>>, ReadError> {
        let first = Key::Entries(self.shared.ledger, 0).encode();
        let last = Key::Entries(self.shared.ledger, offset).encode();
        let row = self.shared.db.range(first..=last).next_back().transpose()?;
        row.map(|(key, row)| self.parse_run(&key, &row)).transpose()
    }

    fn stored_entries(&self, from: Offset, wanted: usize, entries: &mut Vec<Arc<Entry>>) -> Result<(), ReadError> {
        let Some(first) = self.stored_run(from)? else { return Ok(()) };
        let start = first.first().map_or(from, |timed| timed.entry.base_offset);
        let start = Key::Entries(self.shared.ledger, start).encode();
        let end = Key::Entries(self.shared.ledger, Offset::MAX).encode();
        let full = entries.len() + wanted;
        for row in self.shared.db.range(start..=end) {
            let (key, row) = row?;
            let run = self.parse_run(&key, &row)?.into_iter().map(|timed| timed.entry);
            entries.extend(run.filter(|entry| entry.last_offset() >= from));
            if entries.len() >= full {
                break;
            }
        }
        entries.truncate(full);
        Ok(())
    }

    fn parse_run(&self, key: &[u8], row: &[u8]) -> Result<Vec<TimedEntry>, ReadError> {
        let first = keys::trailing_number(key).and_then(|number| Offset::try_from(number).ok());
        let first = first.ok_or(ReadError::Corrupt("the key of a run of batches"))?;
        let row = Bytes::copy_from_slice(row);
        row_entries(self.shared.ledger, first, &row).map_err(|_| ReadError::Corrupt("a run of batches"))
    }
}

/// Blocks, leaves and their proofs.
impl Reader {
    /// The header of a block.
    pub fn header(&self, height: Height) -> Result<Option<Header>, ReadError> {
        Ok(self.row(height)?.map(|(row, _)| row.header))
    }

    /// A block as others verify it.
    pub fn block(&self, height: Height) -> Result<Option<Block>, ReadError> {
        let Some((row, body)) = self.row(height)? else { return Ok(None) };
        let body = self.body(&row, body)?;
        Ok(Some(Block { header: row.header, body, outcomes: row.outcomes }))
    }

    /// Blocks from `first` to at most `last`, as many as have no more than `max_bytes` of bodies and outcomes together,
    /// but at least one, if it exists.
    pub fn blocks(&self, first: Height, last: Height, max_bytes: usize) -> Result<Vec<Block>, ReadError> {
        let (mut blocks, mut bytes) = (Vec::new(), 0usize);
        for height in first..=last {
            let Some(block) = self.block(height)? else { break };
            bytes += block.body.len() + block.outcomes.len() * size_of::<waybill_types::Outcome>();
            if bytes > max_bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The leaves of a block, in order; the first has index `header.tree_size - leaves.len()`.
    pub fn leaves(&self, height: Height) -> Result<Option<Vec<Leaf>>, ReadError> {
        let Some((row, body)) = self.row(height)? else { return Ok(None) };
        let body = self.decoded_body(&row, body)?;
        let leaves = leaves_of(&row.header, body, &row.skipped, &row.outcomes);
        Ok(Some(leaves.ok_or(ReadError::Corrupt("a block's outcomes"))?))
    }

    /// A leaf of the Merkle tree.
    pub fn leaf(&self, index: u64) -> Result<Option<Leaf>, ReadError> {
        Ok(self.signed_leaf(index)?.map(|signed| signed.leaf))
    }

    /// A leaf with the signature of whoever put it on the ledger.
    pub fn signed_leaf(&self, index: u64) -> Result<Option<SignedLeaf>, ReadError> {
        let Some((row, body)) = self.row_of_leaf(index)? else { return Ok(None) };
        let body = self.decoded_body(&row, body)?;
        let envelopes = body.envelopes.clone();
        let leaves = leaves_of(&row.header, body, &row.skipped, &row.outcomes);
        let place = index.checked_sub(row.first_leaf()).and_then(|place| usize::try_from(place).ok());
        let leaf = leaves.zip(place).and_then(|(leaves, place)| leaves.into_iter().nth(place));
        let leaf = leaf.ok_or(ReadError::Corrupt("a block's outcomes"))?;
        let signed = leaf.origin.and_then(|(header, place)| {
            // A repetition of the same envelope would do as well: it is skipped, and has the same content.
            let envelope = envelopes.iter().find(|envelope| envelope.header == header)?;
            Some((envelope.signature, envelope.path(place as usize)))
        });
        Ok(Some(SignedLeaf { leaf, signed }))
    }

    /// The block that has this leaf.
    pub fn height_of_leaf(&self, index: u64) -> Result<Option<Height>, ReadError> {
        Ok(self.row_of_leaf(index)?.map(|(row, _)| row.header.height))
    }

    /// The path from a leaf to the root of the tree of the first `tree_size` leaves, for
    /// [`verify_inclusion`](waybill_types::merkle::verify_inclusion); none if there is no such leaf or tree.
    pub fn inclusion(&self, leaf_index: u64, tree_size: u64) -> Result<Option<Vec<Digest>>, ReadError> {
        if tree_size > self.tree_size() {
            return Ok(None);
        }
        tiles::inclusion_path(self, leaf_index, tree_size)
    }

    /// The first certificate of this height or above.
    pub fn certificate_covering(&self, height: Height) -> Result<Option<Arc<Certificate>>, ReadError> {
        // Those in memory are newer than those in sled, and move there; so memory is looked at first, and counts last.
        let recent = {
            let overlay = self.shared.overlay.read();
            let covering = |certificate: &&Arc<Certificate>| certificate.checkpoint.height >= height;
            overlay.certificates.iter().find(covering).cloned()
        };
        let start = Key::Certificate(self.shared.ledger, height).encode();
        let end = Key::Certificate(self.shared.ledger, Height::MAX).encode();
        match self.shared.db.range(start..=end).next().transpose()? {
            Some((_, row)) => Ok(Some(Arc::new(parse_certificate(&row)?))),
            None => Ok(recent),
        }
    }

    /// The first certificate whose tree has this leaf.
    pub fn certificate_covering_leaf(&self, leaf_index: u64) -> Result<Option<Arc<Certificate>>, ReadError> {
        match self.height_of_leaf(leaf_index)? {
            Some(height) => self.certificate_covering(height),
            None => Ok(None),
        }
    }

    /// A block's row, and its body if that is still in memory.
    fn row(&self, height: Height) -> Result<Option<(BlockRow, Option<Bytes>)>, ReadError> {
        if let Some(block) = self.shared.overlay.read().block(height).cloned() {
            return Ok(Some(split(&block)));
        }
        let row = self.shared.db.get(Key::Block(self.shared.ledger, height).encode())?;
        row.map(|row| Ok((parse_block(&row)?, None))).transpose()
    }

    fn row_of_leaf(&self, leaf_index: u64) -> Result<Option<(BlockRow, Option<Bytes>)>, ReadError> {
        {
            let overlay = self.shared.overlay.read();
            if leaf_index >= overlay.tree_size {
                return Ok(None);
            }
            if let Some(block) = overlay.block_of_leaf(leaf_index) {
                return Ok(Some(split(block)));
            }
        }
        let first = Key::BlockOfLeaf(self.shared.ledger, 0).encode();
        let last = Key::BlockOfLeaf(self.shared.ledger, leaf_index).encode();
        let Some((_, height)) = self.shared.db.range(first..=last).next_back().transpose()? else { return Ok(None) };
        let height = keys::trailing_number(&height).ok_or(ReadError::Corrupt("the height of a leaf"))?;
        self.row(height)
    }

    fn body(&self, row: &BlockRow, body: Option<Bytes>) -> Result<Bytes, BodyError> {
        match body {
            Some(body) => Ok(body),
            None => self.shared.bodies.body(row.position()),
        }
    }

    fn decoded_body(&self, row: &BlockRow, body: Option<Bytes>) -> Result<waybill_types::Body, ReadError> {
        let encoded = self.body(row, body)?;
        if waybill_types::Body::digest(&encoded) != row.header.body {
            return Err(BodyError::Unreadable("it is not the block's body".into()).into());
        }
        decode_agreed(&encoded).map_err(|error| BodyError::Unreadable(error.to_string()).into())
    }
}

/// What was delivered: for each organisation the leaf that first proves it.
impl Reader {
    /// To whom the batch at `offset` was served, by its sender's word ([`Retrieve`](waybill_types::transaction::Retrieve)):
    /// what others say of somebody else's batch does not count.
    pub fn retrieves(&self, offset: Offset) -> Result<BTreeMap<OrgId, u64>, ReadError> {
        match self.entry_at(offset)?.filter(|entry| entry.base_offset <= offset) {
            Some(entry) => self.delivered(DeliveryKind::Retrieved, Some(&entry.sender), offset),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Who has verified and stored the batch at `offset` ([`Receive`](waybill_types::transaction::Receive)).
    pub fn receives(&self, offset: Offset) -> Result<BTreeMap<OrgId, u64>, ReadError> {
        self.delivered(DeliveryKind::Received, None, offset)
    }

    /// Which organisation's groups have passed `offset` ([`Commit`](waybill_types::transaction::Commit)): the first
    /// commit, by any group of the organisation, of a higher offset.
    pub fn commits(&self, offset: Offset) -> Result<BTreeMap<OrgId, u64>, ReadError> {
        self.delivered(DeliveryKind::Committed, None, offset)
    }

    fn delivered(
        &self,
        kind: DeliveryKind,
        by: Option<&OrgId>,
        offset: Offset,
    ) -> Result<BTreeMap<OrgId, u64>, ReadError> {
        let mut leaves = BTreeMap::new();
        let end = {
            let overlay = self.shared.overlay.read();
            if !(0..overlay.next_offset).contains(&offset) {
                return Ok(leaves);
            }
            let covers = |delivery: &&super::overlay::Delivery| {
                (delivery.kind, delivery.by.as_ref()) == (kind, by)
                    && (delivery.first..=delivery.last).contains(&offset)
            };
            for found in overlay.deliveries.iter().filter(covers) {
                // In the order of their leaves: the first counts.
                leaves.entry(found.org.clone()).or_insert(found.leaf_index);
            }
            overlay.next_offset
        };
        // What is in sled is older than what is in memory.
        let stored = deliveries::stored(&self.shared.db, self.shared.ledger, (kind, by), offset as u64, end as u64)?;
        leaves.extend(stored.ok_or(ReadError::Corrupt("a delivery"))?);
        Ok(leaves)
    }
}

impl Tiles for Reader {
    type Error = ReadError;

    fn hashes(&self, tile: TileId, places: Range<usize>, out: &mut Vec<Digest>) -> Result<(), ReadError> {
        if let Some(hashes) = self.shared.overlay.read().tiles.get(tile, places.clone()) {
            out.extend_from_slice(hashes);
            return Ok(());
        }
        let row = self.shared.db.get(Key::Tile(self.shared.ledger, tile.level, tile.index).encode())?;
        let hashes = row.as_deref().and_then(tile_hashes).ok_or(ReadError::Corrupt("a tile"))?;
        out.extend_from_slice(hashes.get(places).ok_or(ReadError::Corrupt("a tile"))?);
        Ok(())
    }
}

impl Shared {
    /// The newest certificate in sled.
    pub fn stored_certificate(&self) -> Result<Option<Arc<Certificate>>, ReadError> {
        let first = Key::Certificate(self.ledger, 0).encode();
        let last = Key::Certificate(self.ledger, Height::MAX).encode();
        let row = self.db.range(first..=last).next_back().transpose()?;
        row.map(|(_, row)| Ok(Arc::new(parse_certificate(&row)?))).transpose()
    }
}

fn split(block: &Arc<BlockRecord>) -> (BlockRow, Option<Bytes>) {
    (block.row.clone(), Some(block.body.clone()))
}

fn parse_block(row: &[u8]) -> Result<BlockRow, ReadError> {
    BlockRow::from_bytes(&Bytes::copy_from_slice(row)).map_err(|_| ReadError::Corrupt("a block"))
}

fn parse_certificate(row: &[u8]) -> Result<Certificate, ReadError> {
    Certificate::from_bytes(&Bytes::copy_from_slice(row)).map_err(|_| ReadError::Corrupt("a certificate"))
}

//! One local ledger: applies the bodies that PBFT has decided, in order, and reads what came of them.
//!
//! | who | holds | does |
//! |---|---|---|
//! | the partition's task | [`Partition`], alone | [`apply`](Partition::apply), [`certified`](Partition::certified), [`take_flush`](Partition::take_flush) |
//! | a thread for slow things | a [`Flush`] | [`write`](Flush::write)s it to sled |
//! | gateway, connector, anchor, receipts | [`Reader`], cloned | read |
//!
//! # The way of a block
//! Executed blocks live in memory (the overlay), shared with the readers under a short lock. When a quorum has certified
//! a checkpoint ([`certified`](Partition::certified)), everything up to it can be flushed to sled as one batch, and
//! leaves the memory. Nothing above a stable checkpoint is ever in sled. Bodies are not copied there: they stay in the
//! journal, and a row remembers where.
//!
//! # Recovery
//! [`Partition::open`] takes the state of the last flush from sled, or an empty one. The shell then applies the
//! journal's bodies above [`executed_height`](Partition::executed_height) again, and may skip those below while it
//! scans the journal ([`applied_heights`]). So sled may be old, or deleted ([`forget`]): the same blocks come out.

mod chain;
mod deliveries;
mod entry;
mod error;
mod execute;
mod flush;
mod overlay;
mod reader;
mod rows;
#[cfg(test)]
mod tests;
mod verify;

pub use chain::{Tip, decode_body};
pub use entry::Entry;
pub use error::{ApplyError, BodyError, CertifiedError, OpenError, ReadError, VerifyError};
pub use execute::{Applied, ExecutedEnvelope};
pub use flush::{Flush, Flushed};
pub use reader::{Reader, SignedLeaf};
pub use verify::{Verified, VerifiedBlock, verify_range};

use crate::contract::{Contract, Snapshot, SystemState};
use crate::journal::Position;
use crate::keys::{self, Key};
use crate::tiles::{self, MemoryTiles};
use bytes::Bytes;
use chain::decode_agreed;
use execute::Executing;
use overlay::{BlockRecord, Overlay};
use parking_lot::RwLock;
use reader::Shared;
use rows::{AppliedRow, BlockRow, applied_tip, tile_hashes};
use std::collections::VecDeque;
use std::sync::Arc;
use waybill_types::transaction::Config;
use waybill_types::{
    Body, Certificate, Checkpoint, ClusterId, Codec, Digest, Header, Height, LedgerId, Membership, NetworkId,
};

/// Reads encoded bodies back from the journal, where PBFT's records hold them.
pub trait BodySource: Send + Sync {
    /// The body whose record is at `position`.
    fn body(&self, position: Position) -> Result<Bytes, BodyError>;
}

/// One local ledger, owned by one task. Nothing here waits, and nothing but [`Partition::open`] reads the disk.
#[derive(Debug)]
pub struct Partition {
    shared: Arc<Shared>,
    checkpoint_interval: u64,
    tip: Tip,
    /// None before the first block.
    contract: Option<Contract>,
    max_timestamp_ms: i64,
    /// Checkpoints that no quorum has certified yet, ascending.
    pending: VecDeque<Pending>,
    /// The newest certified checkpoint since the last flush was taken.
    stable: Option<AppliedRow>,
    stable_height: Height,
    flushed_height: Height,
    flushed_tree_size: u64,
    flush_under_way: Arc<()>,
}

/// A checkpoint made here, and the state that it speaks of.
#[derive(Debug)]
struct Pending {
    checkpoint: Checkpoint,
    applied: AppliedRow,
}

impl Partition {
    /// Opens a ledger as its last flush left it, or empty. `membership` are the replicas that order it now;
    /// a checkpoint falls at every `checkpoint_interval`-th height, besides those that bodies ask for.
    pub fn open(
        db: sled::Tree,
        network: NetworkId,
        ledger: LedgerId,
        cluster: ClusterId,
        membership: Membership,
        checkpoint_interval: u64,
        bodies: Arc<dyn BodySource>,
    ) -> Result<(Partition, Reader), OpenError> {
        let applied = load(&db, network, ledger, cluster)?;
        let (tip, contract, max_timestamp_ms) = match applied {
            Some(row) => (row.tip, Some(Contract::restore(row.contract)), row.max_timestamp_ms),
            None => (Tip::new(network, ledger, cluster), None, i64::MIN),
        };
        let overlay = Overlay {
            height: tip.height,
            next_offset: tip.next_offset,
            log_start: log_start(contract.as_ref()),
            tree_size: tip.tree.size(),
            max_timestamp_ms,
            config: contract.as_ref().map(|contract| contract.config().clone()),
            tiles: load_tiles(&db, ledger, tip.tree.size())?,
            ..Overlay::default()
        };
        let membership = Arc::new(membership);
        let overlay = RwLock::new(overlay);
        let shared = Arc::new(Shared { db, network, ledger, cluster, membership, bodies, overlay });
        let reader = Reader { shared: shared.clone() };
        check_tree(&reader, &tip)?;
        shared.overlay.write().latest_certificate = shared.stored_certificate().map_err(open_error)?;
        let partition = Partition {
            shared,
            checkpoint_interval: checkpoint_interval.max(1),
            contract,
            max_timestamp_ms,
            pending: VecDeque::new(),
            stable: None,
            stable_height: tip.height,
            flushed_height: tip.height,
            flushed_tree_size: tip.tree.size(),
            flush_under_way: Arc::new(()),
            tip,
        };
        Ok((partition, reader))
    }

    /// Executes the body of the next sequence, which a quorum has agreed on: PBFT, or the certificate of the blocks that
    /// were fetched, has checked it. `position` is where the journal has it.
    ///
    /// After an error nothing has changed; PBFT had checked what is checked here, so the replica must stop.
    pub fn apply(&mut self, sequence: Height, body: Bytes, position: Position) -> Result<Applied, ApplyError> {
        if self.tip.height.checked_add(1) != Some(sequence) {
            return Err(ApplyError::OutOfOrder { height: self.tip.height, got: sequence });
        }
        let digest = Body::digest(&body);
        let decoded = decode_agreed(&body)?;
        let checkpoint_falls = decoded.checkpoint || sequence.is_multiple_of(self.checkpoint_interval);
        let mut contract = match self.contract.take() {
            Some(contract) => contract,
            None => self.begin(digest, decoded.config.as_ref())?,
        };
        contract.begin_block(self.tip.time_ms.max(decoded.proposed_time_ms));
        let count = decoded.envelopes.iter().map(|envelope| envelope.transactions.len()).sum();
        let mut executing = Executing::new(&mut contract, self.shared.ledger, self.max_timestamp_ms, count);
        let header = match self.tip.advance(digest, decoded, &mut executing) {
            Ok(header) => header,
            Err(never) => match never {},
        };
        let executed = executing.finish();
        self.max_timestamp_ms = executed.max_timestamp_ms;
        let checkpoint = checkpoint_falls.then(|| self.make_checkpoint(&mut contract, &header));
        self.publish(&header, body, position, &executed, &contract);
        self.contract = Some(contract);
        Ok(executed.into_applied(header, checkpoint))
    }

    /// Takes note that a quorum has certified a checkpoint: what lies below can be flushed. The certificate's signatures
    /// have been verified. An older one than the newest known is ignored.
    pub fn certified(&mut self, certificate: &Certificate) -> Result<(), CertifiedError> {
        let checkpoint = &certificate.checkpoint;
        let height = checkpoint.height;
        let here = (self.shared.network, self.shared.ledger, self.shared.cluster, self.shared.membership.epoch);
        if (checkpoint.network, checkpoint.ledger, checkpoint.cluster, checkpoint.epoch) != here {
            return Err(CertifiedError::OtherCluster);
        }
        if height <= self.stable_height {
            return Ok(());
        }
        if height > self.tip.height {
            return Err(CertifiedError::NotExecuted(height));
        }
        while self.pending.front().is_some_and(|pending| pending.checkpoint.height < height) {
            self.pending.pop_front();
        }
        match self.pending.front() {
            Some(pending) if pending.checkpoint.height == height => {
                if pending.checkpoint != *checkpoint {
                    return Err(CertifiedError::Diverged(height));
                }
            }
            _ => return Err(CertifiedError::NoCheckpoint(height)),
        }
        self.stable = self.pending.pop_front().map(|pending| pending.applied);
        self.stable_height = height;
        let certificate = Arc::new(certificate.clone());
        let mut overlay = self.shared.overlay.write();
        overlay.certificates.push_back(certificate.clone());
        overlay.latest_certificate = Some(certificate);
        Ok(())
    }

    /// Everything up to the stable height that is not in sled; none if that is nothing, or a flush is under way.
    pub fn take_flush(&mut self) -> Option<Flush> {
        if Arc::strong_count(&self.flush_under_way) > 1 {
            return None;
        }
        let applied = self.stable.clone()?;
        let (height, tree_size) = (applied.tip.height, applied.tip.tree.size());
        let overlay = self.shared.overlay.read();
        let new_entries = overlay.entries.partition_point(|timed| timed.entry.height <= self.flushed_height);
        let tiles = tiles::tiles_between(self.flushed_tree_size, tree_size).filter_map(|tile| {
            let hashes = overlay.tiles.get(tile, 0..tile.width(tree_size) as usize)?;
            Some((tile, hashes.to_vec()))
        });
        Some(Flush {
            db: self.shared.db.clone(),
            ledger: self.shared.ledger,
            blocks: take_while(overlay.blocks.iter(), |block| block.row.header.height <= height),
            entries: take_while(overlay.entries.range(new_entries..), |timed| timed.entry.height <= height),
            deliveries: take_while(overlay.deliveries.iter(), |delivery| delivery.height <= height),
            tiles: tiles.collect(),
            certificates: take_while(overlay.certificates.iter(), |found| found.checkpoint.height <= height),
            under_way: self.flush_under_way.clone(),
            applied,
        })
    }

    /// Drops from memory what a flush has written.
    pub fn flushed(&mut self, flushed: Flushed) {
        self.flushed_height = flushed.height;
        self.flushed_tree_size = flushed.tree_size;
        self.stable.take_if(|stable| stable.tip.height <= flushed.height);
        self.shared.overlay.write().flushed(flushed.height, flushed.tree_size);
    }

    /// Where the chain ends: what [`verify_range`] continues from.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The last executed block; 0 before the first.
    pub fn executed_height(&self) -> Height {
        self.tip.height
    }

    /// The newest height that a quorum has certified, or that was flushed before a restart.
    pub fn stable_height(&self) -> Height {
        self.stable_height
    }

    /// The height up to which everything is in sled.
    pub fn flushed_height(&self) -> Height {
        self.flushed_height
    }

    /// The configuration in force; none before the first block.
    pub fn config(&self) -> Option<&Arc<Config>> {
        self.contract.as_ref().map(Contract::config)
    }

    /// The state of the system contract, if this is the system ledger and it has begun.
    pub fn system(&self) -> Option<&SystemState> {
        match self.contract.as_ref() {
            Some(Contract::System(system)) => Some(system),
            _ => None,
        }
    }

    /// How many bytes of memory wait to be flushed, about: what the shell's flush policy goes by.
    pub fn overlay_bytes(&self) -> usize {
        self.shared.overlay.read().bytes()
    }

    /// Starts the contract with the first body's configuration.
    fn begin(&self, digest: Digest, config: Option<&Config>) -> Result<Contract, ApplyError> {
        if !self.tip.begins_with(digest) {
            return Err(ApplyError::OtherBeginning);
        }
        let config = config.ok_or(crate::contract::BeginError::Missing)?;
        Ok(Contract::begin(self.shared.ledger, config.clone())?)
    }

    fn make_checkpoint(&mut self, contract: &mut Contract, header: &Header) -> Checkpoint {
        let checkpoint = Checkpoint {
            network: self.shared.network,
            ledger: self.shared.ledger,
            cluster: self.shared.cluster,
            epoch: self.shared.membership.epoch,
            height: header.height,
            head: self.tip.head,
            time_ms: header.time_ms,
            tree_size: header.tree_size,
            tree_root: header.tree_root,
            state_root: contract.state_root(&self.tip.origins),
        };
        let applied = AppliedRow {
            tip: self.tip.clone(),
            max_timestamp_ms: self.max_timestamp_ms,
            contract: contract.snapshot(),
        };
        self.pending.push_back(Pending { checkpoint: checkpoint.clone(), applied });
        // PBFT executes at most two intervals beyond its stable checkpoint, so no certificate will come for an older
        // one. While the journal is applied again none comes at all: without this the states would pile up.
        let oldest = header.height.saturating_sub(self.checkpoint_interval.saturating_mul(4).max(64));
        while self.pending.front().is_some_and(|pending| pending.checkpoint.height < oldest) {
            self.pending.pop_front();
        }
        checkpoint
    }

    /// Lets the readers see the block.
    fn publish(
        &self,
        header: &Header,
        body: Bytes,
        position: Position,
        executed: &execute::Executed,
        contract: &Contract,
    ) {
        let row = BlockRow::new(header.clone(), position, executed.skipped_indices(), executed.outcomes.clone());
        let config = contract.config();
        let mut overlay = self.shared.overlay.write();
        overlay.push_block(BlockRecord { row, body });
        overlay.entries.extend(executed.entries.iter().cloned());
        overlay.deliveries.extend(executed.deliveries.iter().cloned());
        for (level, hash) in &executed.tile_hashes {
            overlay.tiles.push(*level, *hash);
        }
        overlay.max_timestamp_ms = self.max_timestamp_ms;
        overlay.log_start = log_start(Some(contract));
        if executed.config_changed || overlay.config.is_none() {
            overlay.config = Some(config.clone());
        }
    }
}

/// Deletes everything that sled has of a ledger, so that it is rebuilt from the journal. Nobody may have it open.
pub fn forget(db: &sled::Tree, ledger: LedgerId) -> Result<(), sled::Error> {
    const KEYS_PER_BATCH: usize = 1024;
    // The state goes first: without it the other rows mean nothing, whatever happens in the middle.
    for prefix in keys::prefixes(ledger) {
        loop {
            let mut batch = sled::Batch::default();
            let mut count = 0;
            for key in db.scan_prefix(&prefix).keys().take(KEYS_PER_BATCH) {
                batch.remove(key?);
                count += 1;
            }
            if count == 0 {
                break;
            }
            db.apply_batch(batch)?;
        }
    }
    Ok(())
}

/// How far sled has each ledger, in the order of ledgers: the journal's records of blocks up to there need not be
/// remembered while it is scanned. Reads one small row per ledger.
///
/// A ledger that is missing here is not in sled, or was written by another version, and [`Partition::open`] starts it
/// empty. One that turns out to be damaged when it is opened must be [forgotten](forget), and its records be found by
/// another scan.
pub fn applied_heights(db: &sled::Tree) -> Result<Vec<(LedgerId, Height)>, sled::Error> {
    let mut heights = Vec::new();
    for row in db.scan_prefix(keys::applied_prefix()) {
        let (key, row) = row?;
        if let (Some(ledger), Some(Ok((tip, _)))) = (keys::applied_ledger(&key), applied_tip(&row)) {
            heights.push((ledger, tip.height));
        }
    }
    Ok(heights)
}

fn load(
    db: &sled::Tree,
    network: NetworkId,
    ledger: LedgerId,
    cluster: ClusterId,
) -> Result<Option<AppliedRow>, OpenError> {
    let Some(row) = db.get(Key::Applied(ledger).encode())? else { return Ok(None) };
    let Some(row) = applied_tip(&row) else {
        tracing::info!(%ledger, "the derived state is of another version, and is built anew");
        forget(db, ledger)?;
        return Ok(None);
    };
    let (tip, max_timestamp_ms) = row.map_err(|_| OpenError::Corrupt("the chain's end does not decode"))?;
    if (tip.network, tip.ledger, tip.cluster) != (network, ledger, cluster) {
        return Err(OpenError::OtherCluster);
    }
    let contract =
        db.get(Key::Contract(ledger).encode())?.ok_or(OpenError::Corrupt("the contract's state is missing"))?;
    let contract = Snapshot::from_bytes(&Bytes::copy_from_slice(&contract));
    let contract = contract.map_err(|_| OpenError::Corrupt("the contract's state does not decode"))?;
    Ok(Some(AppliedRow { tip, max_timestamp_ms, contract }))
}

/// The tiles that the tree goes on growing from.
fn load_tiles(db: &sled::Tree, ledger: LedgerId, tree_size: u64) -> Result<MemoryTiles, OpenError> {
    let mut growing = Vec::new();
    for tile in tiles::growing_tiles(tree_size) {
        let width = tile.width(tree_size) as usize;
        let hashes = match db.get(Key::Tile(ledger, tile.level, tile.index).encode())? {
            Some(row) => tile_hashes(&row),
            None => Some(Vec::new()),
        };
        match hashes {
            Some(hashes) if hashes.len() == width => growing.push((tile, hashes)),
            _ => return Err(OpenError::Corrupt("a tile has another width than the tree's size asks for")),
        }
    }
    Ok(MemoryTiles::new(growing))
}

/// The stored tiles must lead to the root of the stored state.
fn check_tree(reader: &Reader, tip: &Tip) -> Result<(), OpenError> {
    let root = tiles::root(reader, tip.tree.size()).map_err(open_error)?;
    if root == tip.tree.root() { Ok(()) } else { Err(OpenError::Corrupt("the tiles lead to another root")) }
}

fn open_error(error: ReadError) -> OpenError {
    match error {
        ReadError::Database(error) => OpenError::Database(error),
        ReadError::Corrupt(what) => OpenError::Corrupt(what),
        ReadError::Body(error) => OpenError::Body(error),
    }
}

fn log_start(contract: Option<&Contract>) -> i64 {
    match contract {
        Some(Contract::Exchange(exchange)) => exchange.log_start(),
        _ => 0,
    }
}

fn take_while<'a, T: Clone + 'a>(items: impl Iterator<Item = &'a T>, wanted: impl Fn(&T) -> bool) -> Vec<T> {
    items.take_while(|item| wanted(item)).cloned().collect()
}

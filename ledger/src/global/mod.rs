//! The global ledger: the certified blocks of every ledger of the network, on every node.
//!
//! A Raft group over all nodes carries [`Command`]s; this is the state machine behind it. Raft tolerates crashes only,
//! so nothing is believed because Raft delivered it: blocks count if they continue their ledger's chain and a quorum
//! of that ledger's replicas has certified them. Who these are follows from the genesis and from the system ledger's
//! blocks that are here already, so that every node decides alike. What does not count is answered with a reason,
//! counted, and changes nothing else. A Byzantine member of the Raft group can delay, and has nothing to forge.
//!
//! # What is kept
//! Blocks, certificates, each chain's tip, the Merkle trees' hashes, the topics that ever were, and indices of what
//! was sent and delivered, for receipts and audits. Each command is one atomic batch together with Raft's log id:
//! after a crash Raft goes on from what sled really holds.

mod anchor;
mod command;
mod deliveries;
mod hashes;
mod keys;
mod rows;
mod snapshot;
mod stage;
mod view;

pub use command::{ANCHOR_BYTES_MAX, Anchor, Answer, BLOCKS_PER_ANCHOR_MAX, Command, Reason, Rejected};
pub use deliveries::{Covered, SentBatch};
pub use rows::KnownTopic;
pub use snapshot::SnapshotError;
pub use view::LedgerView;

use crate::contract::SystemState;
use crate::genesis::Genesis;
use crate::partition::Tip;
use bytes::Bytes;
use keys::Key;
use parking_lot::{Mutex, RwLock};
use rows::LedgerRow;
use stage::Stage;
use std::collections::BTreeMap;
use std::sync::Arc;
use waybill_types::{Block, Certificate, Codec, DecodeError, Height, LedgerId, NetworkId, TopicId};

/// Called with the system's state after each change of it.
pub type Watcher = Box<dyn Fn(&Arc<SystemState>) + Send + Sync>;

/// Why the global ledger cannot go on. It is never the fault of a command.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sled::Error),
    /// A stored row is not what its key says: delete the node's derived state, and let Raft bring it again.
    #[error("the stored global ledger is damaged at {what}: {error}")]
    Corrupt {
        /// Which row.
        what: String,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// What is stored belongs to another network.
    #[error("the stored global ledger is of another network")]
    OtherNetwork,
    /// The genesis has no organisation to begin with.
    #[error("the genesis has no organisations")]
    EmptyGenesis,
}

impl StoreError {
    /// A block or certificate that must be there is not.
    fn missing(ledger: LedgerId, height: Height) -> Self {
        StoreError::Corrupt { what: format!("{ledger} at {height}"), error: DecodeError::Invalid("it is missing") }
    }
}

/// The global ledger's state machine. All methods take `&self`; commands are applied one at a time, readers see whole
/// commands only.
pub struct GlobalLedger {
    tree: sled::Tree,
    genesis: Arc<Genesis>,
    network: NetworkId,
    /// Held while a command is applied.
    writer: Mutex<()>,
    memory: RwLock<Memory>,
    watchers: Mutex<Vec<Watcher>>,
}

/// What is asked for all the time; all of it is in sled, too.
#[derive(Debug)]
struct Memory {
    applied: Option<Bytes>,
    ledgers: BTreeMap<LedgerId, Arc<LedgerRow>>,
    /// Deleted ones, too: their ledgers' blocks may still come, and stay provable.
    topics: BTreeMap<TopicId, Arc<KnownTopic>>,
    /// The topic that has a name, or had it last.
    names: BTreeMap<String, TopicId>,
    system: Arc<SystemState>,
    rejected_elsewhere: u64,
}

impl GlobalLedger {
    /// Opens the global ledger of the genesis' network, empty or as far as `tree` has it. The tree may have other
    /// users: keys outside of those in [`crate::keys`] for the global ledger are never touched.
    pub fn open(tree: sled::Tree, genesis: Arc<Genesis>) -> Result<Self, StoreError> {
        let network = genesis.network_id();
        let config = genesis.system_body().config.ok_or(StoreError::EmptyGenesis)?;
        let stage = Stage::new(&tree);
        match stage.get::<NetworkId>(&Key::Network)? {
            Some(stored) if stored != network => return Err(StoreError::OtherNetwork),
            Some(_) => {}
            None => {
                tree.insert(Key::Network.encode(), network.to_bytes().as_ref())?;
            }
        }
        let mut memory = Memory {
            applied: stage.get(&Key::Applied)?,
            ledgers: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            system: Arc::new(SystemState::new(Arc::new(config))),
            rejected_elsewhere: stage.get(&Key::RejectedElsewhere)?.unwrap_or(0),
        };
        for row in stage.rows::<LedgerRow>(keys::LEDGER)? {
            memory.ledgers.insert(row.tip.ledger, Arc::new(row));
        }
        for topic in stage.rows::<KnownTopic>(keys::TOPIC)? {
            memory.know(Arc::new(topic));
        }
        let ledger = GlobalLedger {
            tree,
            genesis,
            network,
            writer: Mutex::new(()),
            memory: RwLock::new(memory),
            watchers: Mutex::new(Vec::new()),
        };
        let system = ledger.replay_system()?;
        ledger.memory.write().system = Arc::new(system);
        Ok(ledger)
    }

    /// Applies an encoded [`Command`] and returns the encoded [`Answer`]. `index` is Raft's log id, opaque here (Raft's
    /// membership may be in it, too); it is stored in the same atomic step, and it is in snapshots. An error means that
    /// the node cannot go on.
    pub fn apply(&self, index: &[u8], command: &Bytes) -> Result<Bytes, StoreError> {
        let _one_at_a_time = self.writer.lock();
        let decoded = if command.len() <= ANCHOR_BYTES_MAX { Command::from_bytes(command).ok() } else { None };
        let answer = self.apply_decoded(Some(index), decoded)?;
        Ok(answer.to_bytes())
    }

    /// Notes Raft's log id for an entry that is no command of ours (a blank one, a change of members).
    pub fn advance(&self, index: &[u8]) -> Result<(), StoreError> {
        let _one_at_a_time = self.writer.lock();
        let index = Bytes::copy_from_slice(index);
        self.tree.insert(Key::Applied.encode(), index.to_bytes().as_ref())?;
        self.memory.write().applied = Some(index);
        Ok(())
    }

    /// Raft's log id as of the last command that sled holds.
    pub fn applied(&self) -> Option<Bytes> {
        self.memory.read().applied.clone()
    }

    /// Hands everything applied to the operating system. Before Raft may forget log entries, this must have returned.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.tree.flush()?;
        Ok(())
    }

    /// The network's genesis.
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.genesis
    }

    /// Where a ledger's chain ends here; none before its first block.
    pub fn head(&self, ledger: LedgerId) -> Option<Tip> {
        let memory = self.memory.read();
        let row = memory.ledgers.get(&ledger)?;
        (row.tip.height > 0).then(|| row.tip.clone())
    }

    /// The height of a ledger's last block here, 0 before its first.
    pub fn height(&self, ledger: LedgerId) -> Height {
        self.memory.read().ledgers.get(&ledger).map_or(0, |row| row.tip.height)
    }

    /// Every ledger that has blocks here, with its height.
    pub fn ledgers(&self) -> Vec<(LedgerId, Height)> {
        let memory = self.memory.read();
        let heights = memory.ledgers.values().map(|row| (row.tip.ledger, row.tip.height));
        heights.filter(|(_, height)| *height > 0).collect()
    }

    /// How many commands about this ledger were rejected.
    pub fn rejected(&self, ledger: LedgerId) -> u64 {
        self.memory.read().ledgers.get(&ledger).map_or(0, |row| row.rejected)
    }

    /// How many commands were rejected that are about no known ledger.
    pub fn rejected_elsewhere(&self) -> u64 {
        self.memory.read().rejected_elsewhere
    }

    /// Organisations, nodes and topics as of the system ledger's blocks here.
    pub fn system(&self) -> Arc<SystemState> {
        self.memory.read().system.clone()
    }

    /// Grows whenever the system's state may have changed: the system ledger's height.
    pub fn system_version(&self) -> u64 {
        self.height(LedgerId::SYSTEM)
    }

    /// Calls `watcher` with the present state now, and with the new one after each change, in order, on the thread
    /// that applies. It must be quick, and must not subscribe.
    pub fn subscribe(&self, watcher: Watcher) {
        let mut watchers = self.watchers.lock();
        watcher(&self.system());
        watchers.push(watcher);
    }

    /// The topic that has this name, or had it last.
    pub fn topic(&self, name: &str) -> Option<Arc<KnownTopic>> {
        let memory = self.memory.read();
        memory.topics.get(memory.names.get(name)?).cloned()
    }

    /// A topic, also a deleted one.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<KnownTopic>> {
        self.memory.read().topics.get(&id).cloned()
    }

    /// A block.
    pub fn block(&self, ledger: LedgerId, height: Height) -> Result<Option<Block>, StoreError> {
        Stage::new(&self.tree).get(&Key::Block(ledger, height))
    }

    /// The blocks from a height on, in order, read as the iterator advances.
    pub fn blocks(&self, ledger: LedgerId, from: Height) -> impl Iterator<Item = Result<Block, StoreError>> + '_ {
        let end = self.height(ledger);
        (from.max(1)..=end)
            .map(move |height| self.block(ledger, height)?.ok_or_else(|| StoreError::missing(ledger, height)))
    }

    /// The certificate of a height, if one was anchored there.
    pub fn certificate(&self, ledger: LedgerId, height: Height) -> Result<Option<Certificate>, StoreError> {
        Stage::new(&self.tree).get(&Key::Certificate(ledger, height))
    }

    /// The certificate over the last block of a ledger here.
    pub fn latest_certificate(&self, ledger: LedgerId) -> Result<Option<Certificate>, StoreError> {
        self.certificate(ledger, self.height(ledger))
    }

    /// One ledger's blocks as a source of receipts.
    pub fn view(&self, ledger: LedgerId) -> LedgerView<'_> {
        LedgerView::new(self, ledger)
    }

    /// The system's state after all of the system ledger's blocks here.
    fn replay_system(&self) -> Result<SystemState, StoreError> {
        let mut state = None;
        let view = self.view(LedgerId::SYSTEM);
        for block in self.blocks(LedgerId::SYSTEM, 1) {
            SystemState::replay(&mut state, &view.leaves(&block?)?);
        }
        Ok(state.unwrap_or_else(|| self.system().as_ref().clone()))
    }
}

impl Memory {
    fn know(&mut self, topic: Arc<KnownTopic>) {
        let named = self.names.get(&topic.topic.name).and_then(|id| self.topics.get(id));
        if named.is_none_or(|named| named.leaf_index < topic.leaf_index) {
            self.names.insert(topic.topic.name.clone(), topic.topic.id);
        }
        self.topics.insert(topic.topic.id, topic);
    }
}

impl std::fmt::Debug for GlobalLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GlobalLedger({} ledgers)", self.memory.read().ledgers.len())
    }
}

#[cfg(test)]
mod tests;

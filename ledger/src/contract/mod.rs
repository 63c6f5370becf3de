//! The deterministic rules: what becomes of each transaction, and who may read.
//!
//! A contract reads its own chain and nothing else: configuration reaches it as an ordered [`Config`], time as the
//! block's. So every replica comes to the same outcomes and the same state root.
//!
//! | ledger | contract |
//! |---|---|
//! | a topic's partition | [`exchange`] |
//! | `__system` | [`system`] |

pub mod exchange;
mod grant;
mod producers;
mod rights;
mod settings;
mod sharded;
pub mod system;
#[cfg(test)]
mod tests;
mod topics;

pub use exchange::{Exchange, RECORDS_PER_BATCH_MAX, TIMESTAMP_AFTER_MAX_MS};
pub use grant::{Denied, Grant, RefuseReason, authorise};
pub use producers::{PRODUCER_BATCHES_REMEMBERED, PRODUCER_EXPIRATION_MS, PRODUCERS_PER_ORGANISATION_MAX};
pub use rights::{may_read, may_write};
pub use settings::{BATCH_BYTES_LIMIT_DEFAULT, Settings, SettingsError};
pub use system::{SystemEvent, SystemState, Topic};
pub use topics::{TopicNameError, check_topic_name};

use std::sync::Arc;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::digest::Hasher;
use waybill_types::transaction::Config;
use waybill_types::{Digest, Height, LedgerId, NodeId, Offset, OrgId, Origins, Outcome, Transaction};

/// Where and by whom a transaction is executed.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The node that signed the envelope; none for the first block's configuration.
    pub origin: NodeId,
    /// The block.
    pub height: Height,
    /// The block's executed time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The offset that the next batch gets.
    pub next_offset: Offset,
}

/// Why a ledger cannot begin with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// The first body carries none.
    #[error("the first body has no configuration")]
    Missing,
    /// It is of another ledger.
    #[error("the first configuration is of another ledger")]
    OtherLedger,
    /// It is not version 1.
    #[error("the first configuration is not version 1")]
    NotTheFirst,
    /// Lists that are too long, or a node that is named twice.
    #[error("the first configuration is out of bounds or names a node twice")]
    Malformed,
}

/// The contract of one ledger, with its state.
#[derive(Debug)]
pub(crate) enum Contract {
    Exchange(Exchange),
    System(SystemState),
}

/// What a transaction has changed beyond its outcome.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub config_changed: bool,
    pub system: Option<SystemEvent>,
}

impl Contract {
    /// The contract that a ledger's first configuration starts.
    pub fn begin(ledger: LedgerId, config: Config) -> Result<Self, BeginError> {
        if config.ledger != ledger {
            return Err(BeginError::OtherLedger);
        }
        if config.version != 1 {
            return Err(BeginError::NotTheFirst);
        }
        if !rights::well_formed(&config) {
            return Err(BeginError::Malformed);
        }
        let config = Arc::new(config);
        Ok(if ledger == LedgerId::SYSTEM {
            Contract::System(SystemState::new(config))
        } else {
            Contract::Exchange(Exchange::new(config))
        })
    }

    /// Called once before a block's transactions.
    pub fn begin_block(&mut self, time_ms: u64) {
        if let Contract::Exchange(exchange) = self {
            exchange.begin_block(time_ms);
        }
    }

    pub fn execute(&mut self, call: &Call, transaction: &Transaction) -> (Outcome, Effects) {
        match self {
            Contract::Exchange(exchange) => {
                let outcome = exchange.execute(call, transaction);
                let config_changed = matches!((transaction, outcome), (Transaction::Config(_), Outcome::Recorded));
                (outcome, Effects { config_changed, system: None })
            }
            Contract::System(system) => {
                let (outcome, system) = system.execute(call, transaction);
                (outcome, Effects { config_changed: false, system })
            }
        }
    }

    pub fn config(&self) -> &Arc<Config> {
        match self {
            Contract::Exchange(exchange) => exchange.config(),
            Contract::System(system) => system.config(),
        }
    }

    /// Whose node this is, by the configuration in force.
    pub fn org_of(&self, node: NodeId) -> Option<&OrgId> {
        match self {
            Contract::Exchange(exchange) => exchange.org_of(node),
            Contract::System(system) => system.org_of(node),
        }
    }

    /// The digest of all that decides about later outcomes, and of nothing else.
    pub fn state_root(&mut self, origins: &Origins) -> Digest {
        let root = match self {
            Contract::Exchange(exchange) => exchange.root(),
            Contract::System(system) => system.root(),
        };
        let mut hasher = Hasher::new(b"waybill-state-v1");
        hasher.update(&origins.to_bytes());
        hasher.update(&root.0);
        hasher.finish()
    }

    /// The state as it is now: cheap to take, encoded later by whoever writes it down.
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Contract::Exchange(exchange) => Snapshot::Exchange(exchange.snapshot()),
            Contract::System(system) => Snapshot::System(system.clone()),
        }
    }

    pub fn restore(snapshot: Snapshot) -> Self {
        match snapshot {
            Snapshot::Exchange(snapshot) => Contract::Exchange(Exchange::restore(snapshot)),
            Snapshot::System(system) => Contract::System(system),
        }
    }
}

/// A contract's state at one height, shared with the live one as far as that has not changed.
#[derive(Clone, Debug)]
pub(crate) enum Snapshot {
    Exchange(exchange::Snapshot),
    System(SystemState),
}

impl Codec for Snapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Snapshot::Exchange(snapshot) => {
                out.push(1);
                snapshot.encode(out);
            }
            Snapshot::System(system) => {
                out.push(2);
                system.encode(out);
            }
        }
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            1 => Ok(Snapshot::Exchange(Codec::decode(input)?)),
            2 => Ok(Snapshot::System(Codec::decode(input)?)),
            tag => Err(DecodeError::UnknownTag(tag)),
        }
    }
}

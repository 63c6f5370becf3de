//! The ledgers as machines.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use waybill_ledger::global::GlobalLedger;
use waybill_ledger::organisation::Organisation;

use super::machine::Machine;

/// The largest snapshot of an organisation's ledger that is taken: far beyond what its limits let it grow to.
const ORGANISATION_SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// The global ledger: it keeps its state, and how far it has applied, in sled.
pub struct GlobalMachine {
    ledger: Arc<GlobalLedger>,
}

impl GlobalMachine {
    /// Around the node's global ledger.
    pub fn new(ledger: Arc<GlobalLedger>) -> Self {
        GlobalMachine { ledger }
    }
}

impl Machine for GlobalMachine {
    fn applied(&self) -> Option<Bytes> {
        self.ledger.applied()
    }

    fn apply(&self, meta: Bytes, command: Option<&Bytes>) -> io::Result<Bytes> {
        match command {
            Some(command) => self.ledger.apply(&meta, command).map_err(io::Error::other),
            None => self.ledger.advance(&meta).map(|()| Bytes::new()).map_err(io::Error::other),
        }
    }

    fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<Bytes> {
        let meta = self.ledger.write_snapshot(out).map_err(io::Error::other)?;
        meta.ok_or_else(|| io::Error::other("nothing was applied yet"))
    }

    /// Installs it into a scratch ledger: every block in it must be under a certificate of its own cluster, so a member of
    /// another organisation cannot bring anything else in, nor stop this one with something else.
    fn verify_snapshot(&self, meta: &Bytes, input: &mut dyn Read) -> io::Result<()> {
        let scratch = sled::Config::new().temporary(true).open().map_err(io::Error::other)?;
        let tree = scratch.open_tree("scratch").map_err(io::Error::other)?;
        let ledger = GlobalLedger::open(tree, self.ledger.genesis().clone()).map_err(io::Error::other)?;
        let proved = ledger.install_snapshot(input).map_err(io::Error::other)?;
        if proved.as_ref() == Some(meta) { Ok(()) } else { Err(io::Error::other("the snapshot is of another moment")) }
    }

    fn install_snapshot(&self, meta: Bytes, input: &mut dyn Read) -> io::Result<()> {
        let installed = self.ledger.install_snapshot(input).map_err(io::Error::other)?;
        if installed == Some(meta) { Ok(()) } else { Err(io::Error::other("the snapshot is of another moment")) }
    }
}

/// An organisation's own ledger: in memory, brought up to date from snapshot and log when the node starts.
pub struct OrganisationMachine {
    ledger: Arc<Organisation>,
    /// Held while state and `meta` change together.
    applied: Mutex<Option<Bytes>>,
}

impl OrganisationMachine {
    /// Around the node's copy of its organisation's ledger, which must be empty.
    pub fn new(ledger: Arc<Organisation>) -> Self {
        OrganisationMachine { ledger, applied: Mutex::new(None) }
    }
}

impl Machine for OrganisationMachine {
    fn applied(&self) -> Option<Bytes> {
        self.applied.lock().clone()
    }

    fn apply(&self, meta: Bytes, command: Option<&Bytes>) -> io::Result<Bytes> {
        let mut applied = self.applied.lock();
        let answer = command.map(|command| self.ledger.apply(command)).unwrap_or_default();
        *applied = Some(meta);
        Ok(answer)
    }

    fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<Bytes> {
        let (meta, snapshot) = {
            let applied = self.applied.lock();
            (applied.clone(), self.ledger.snapshot())
        };
        out.write_all(&snapshot)?;
        meta.ok_or_else(|| io::Error::other("nothing was applied yet"))
    }

    /// The members are one organisation's own, and installing changes nothing if the snapshot is not well-formed.
    fn verify_snapshot(&self, _meta: &Bytes, _input: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }

    fn install_snapshot(&self, meta: Bytes, input: &mut dyn Read) -> io::Result<()> {
        let snapshot = read(input)?;
        let mut applied = self.applied.lock();
        self.ledger.install(&snapshot).map_err(io::Error::other)?;
        *applied = Some(meta);
        Ok(())
    }
}

fn read(input: &mut dyn Read) -> io::Result<Bytes> {
    let mut snapshot = Vec::new();
    input.take(ORGANISATION_SNAPSHOT_BYTES_MAX).read_to_end(&mut snapshot)?;
    Ok(snapshot.into())
}

//! A toy ledger: a chain of body digests and how far each origin has come.

use crate::Sequence;
use crate::config::Config;
use bytes::Bytes;
use waybill_types::digest::Hasher;
use waybill_types::{Body, Checkpoint, Codec, Digest, NodeId, Origins};

/// One executed body.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub body: Bytes,
    /// The chain head after it.
    pub head: Digest,
    /// The envelopes that took effect: origin, incarnation, number.
    pub effective: Vec<(NodeId, u64, u64)>,
    pub origins: Origins,
    pub checkpoint: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    blocks: Vec<Block>,
}

impl Ledger {
    pub(crate) fn height(&self) -> Sequence {
        self.blocks.len() as Sequence
    }

    pub(crate) fn block(&self, height: Sequence) -> Option<&Block> {
        self.blocks.get(usize::try_from(height).ok()?.checked_sub(1)?)
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn origins(&self) -> Origins {
        self.blocks.last().map(|block| block.origins.clone()).unwrap_or_default()
    }

    /// Forgets everything above a height, as a crash before a sync does.
    pub(crate) fn truncate(&mut self, height: Sequence) {
        self.blocks.truncate(height as usize);
    }

    /// Executes a body. Envelopes out of order are skipped.
    pub(crate) fn apply(&mut self, body: Bytes, interval: u64) {
        let decoded = Body::from_bytes(&body).unwrap_or_default();
        let mut origins = self.origins();
        let headers = decoded.envelopes.iter().map(|envelope| envelope.header);
        let effective = headers
            .filter(|header| origins.advance(header))
            .map(|header| (header.origin, header.incarnation, header.number))
            .collect();
        let digest = Body::digest(&body);
        let mut hasher = Hasher::new(b"toy-head");
        hasher.update(&self.blocks.last().map_or([0; 32], |block| block.head.0));
        hasher.update(&digest.0);
        let checkpoint = decoded.checkpoint || (self.height() + 1).is_multiple_of(interval);
        self.blocks.push(Block { body, head: hasher.finish(), effective, origins, checkpoint });
    }

    /// The state at a height, as replicas sign it.
    pub(crate) fn checkpoint(&self, config: &Config, height: Sequence) -> Option<Checkpoint> {
        let block = self.block(height)?;
        Some(Checkpoint {
            network: config.network,
            ledger: config.ledger,
            cluster: config.cluster,
            epoch: config.membership.epoch,
            height,
            head: block.head,
            time_ms: 0,
            tree_size: height,
            tree_root: block.head,
            state_root: Hasher::digest(b"toy-state", &block.origins.to_bytes()),
        })
    }
}

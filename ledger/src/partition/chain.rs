//! The chain's arithmetic: how a body becomes a block. Replicas that execute and nodes that verify walk it with the
//! same code; they differ in where outcomes come from.

use bytes::Bytes;
use waybill_types::codec_struct;
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::merkle::{self, Frontier};
use waybill_types::{
    Body, ClusterId, Codec, DecodeError, Digest, Header, Height, Leaf, LedgerId, NetworkId, Offset, Origins, Outcome,
    Transaction,
};

/// Where a chain ends: all that is needed to add a block to it, or to verify one that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The network.
    pub network: NetworkId,
    /// The ledger.
    pub ledger: LedgerId,
    /// The cluster that orders it.
    pub cluster: ClusterId,
    /// The last block; 0 before the first.
    pub height: Height,
    /// The hash of its header; zero before the first.
    pub head: Digest,
    /// Its executed time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The offset that the next batch gets.
    pub next_offset: Offset,
    /// The Merkle tree of all leaves.
    pub tree: Frontier,
    /// How far each origin has come.
    pub origins: Origins,
}
codec_struct!(Tip { network, ledger, cluster, height, head, time_ms, next_offset, tree, origins });

impl Tip {
    /// A chain without blocks.
    pub fn new(network: NetworkId, ledger: LedgerId, cluster: ClusterId) -> Self {
        Tip {
            network,
            ledger,
            cluster,
            height: 0,
            head: Digest::ZERO,
            time_ms: 0,
            next_offset: 0,
            tree: Frontier::default(),
            origins: Origins::default(),
        }
    }

    /// Whether this body may begin the chain: the cluster is named after it.
    pub(super) fn begins_with(&self, body: Digest) -> bool {
        self.cluster == ClusterId::new(self.network, self.ledger, body)
    }
}

/// Decodes a body. The null body of a view change may come without a single byte.
pub fn decode_body(encoded: &Bytes) -> Result<Body, DecodeError> {
    if encoded.is_empty() { Ok(Body::default()) } else { Body::from_bytes(encoded) }
}

/// Decodes a body that a quorum has agreed on, see [`Body::from_agreed`].
pub(super) fn decode_agreed(encoded: &Bytes) -> Result<Body, DecodeError> {
    if encoded.is_empty() { Ok(Body::default()) } else { Body::from_agreed(encoded) }
}

/// Where a transaction stands while its block is walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub height: Height,
    pub time_ms: u64,
    pub next_offset: Offset,
    /// None for the first block's configuration.
    pub envelope: Option<&'a EnvelopeHeader>,
}

/// Who says what becomes of the transactions of a body.
pub(super) trait Execution {
    type Error;
    /// The outcome of the next transaction.
    fn outcome(&mut self, place: &Place, transaction: &Transaction) -> Result<Outcome, Self::Error>;
    /// The transaction is in the tree, at this index.
    fn leaf(&mut self, leaf_index: u64, leaf: Leaf);
    /// A hash for the tree's tiles: the root of a perfect subtree of 256^level leaves.
    fn tile_hash(&mut self, level: u8, hash: Digest);
    /// The envelope at this index is not the next of its origin, and leaves no trace.
    fn skipped(&mut self, index: u32, envelope: &EnvelopeHeader);
}

impl Tip {
    /// Adds the block that `body`, whose digest is given, becomes. After an error the tip is of no use any more.
    ///
    /// A configuration counts in the first body only, and an envelope counts in its own cluster only: PBFT's replicas
    /// refuse a body that has either elsewhere, and if one got through it must mean the same to all.
    pub(super) fn advance<E: Execution>(
        &mut self,
        digest: Digest,
        body: Body,
        execution: &mut E,
    ) -> Result<Header, E::Error> {
        self.height += 1;
        self.time_ms = self.time_ms.max(body.proposed_time_ms);
        let mut buffer = Vec::with_capacity(512);
        if let Some(config) = body.config.filter(|_| self.height == 1) {
            self.add(None, Transaction::Config(config), execution, &mut buffer)?;
        }
        for (index, envelope) in body.envelopes.into_iter().enumerate() {
            let header = envelope.header;
            if header.cluster != self.cluster || !self.origins.advance(&header) {
                execution.skipped(index as u32, &header);
                continue;
            }
            for (place, transaction) in envelope.transactions.into_iter().enumerate() {
                self.add(Some((header, place as u32)), transaction, execution, &mut buffer)?;
            }
        }
        let header = Header {
            ledger: self.ledger,
            height: self.height,
            previous: self.head,
            body: digest,
            time_ms: self.time_ms,
            next_offset: self.next_offset,
            tree_size: self.tree.size(),
            tree_root: self.tree.root(),
        };
        self.head = header.hash();
        Ok(header)
    }

    fn add<E: Execution>(
        &mut self,
        origin: Option<(EnvelopeHeader, u32)>,
        transaction: Transaction,
        execution: &mut E,
        buffer: &mut Vec<u8>,
    ) -> Result<(), E::Error> {
        let place = Place {
            height: self.height,
            time_ms: self.time_ms,
            next_offset: self.next_offset,
            envelope: origin.as_ref().map(|(header, _)| header),
        };
        let outcome = execution.outcome(&place, &transaction)?;
        if let (Outcome::Appended { base_offset }, Transaction::Send(send)) = (outcome, &transaction) {
            self.next_offset = base_offset.saturating_add(i64::from(send.record_count));
        }
        let leaf = Leaf { height: self.height, time_ms: self.time_ms, origin, transaction, outcome };
        buffer.clear();
        leaf.encode(buffer);
        let leaf_index = self.tree.size();
        self.tree.push_each(merkle::leaf_hash(buffer), |height, hash| {
            if height % 8 == 0 {
                execution.tile_hash((height / 8) as u8, hash);
            }
        });
        execution.leaf(leaf_index, leaf);
        Ok(())
    }
}

//! Applying one command: decide, stage everything it brings, write it at once, then show it.

use super::command::{Anchor, Answer, BLOCKS_PER_ANCHOR_MAX, Command, Reason, Rejected};
use super::deliveries::Indexer;
use super::hashes::stage_hashes;
use super::keys::Key;
use super::rows::{KnownTopic, LedgerRow};
use super::stage::Stage;
use super::{GlobalLedger, StoreError};
use crate::contract::system::first_body;
use crate::contract::{SystemEvent, SystemState};
use crate::partition::{Tip, VerifiedBlock, verify_range};
use bytes::Bytes;
use std::slice;
use std::sync::Arc;
use waybill_types::{Block, Body, ClusterId, Codec, Height, Leaf, LedgerId, Membership};

/// What a command changes in memory.
#[derive(Default)]
struct Change {
    ledger: Option<LedgerRow>,
    topics: Vec<Arc<KnownTopic>>,
    system: Option<Arc<SystemState>>,
}

impl GlobalLedger {
    /// Applies a command that was decoded, or was none. The caller holds the writer's lock.
    pub(super) fn apply_decoded(&self, index: Option<&[u8]>, command: Option<Command>) -> Result<Answer, StoreError> {
        let mut stage = Stage::new(&self.tree);
        let mut change = Change::default();
        let answer = match command {
            Some(Command::Anchor(anchor)) => self.anchor(&anchor, &mut stage, &mut change)?,
            None => Err(Rejected { height: 0, reason: Reason::Malformed, detail: "not a command".into() }),
        };
        let ledger_known = change.ledger.is_some();
        let mut elsewhere = self.rejected_elsewhere();
        if let (Err(rejected), false) = (&answer, ledger_known) {
            tracing::debug!(%rejected, "the global ledger rejected an entry about no known ledger");
            metrics::counter!("waybill_global_rejected_total").increment(1);
            elsewhere += 1;
            stage.put(&Key::RejectedElsewhere, &elsewhere);
        }
        if let Some(row) = &change.ledger {
            stage.put(&Key::Ledger(row.tip.ledger), row);
        }
        let index = index.map(Bytes::copy_from_slice);
        if let Some(index) = &index {
            stage.put(&Key::Applied, index);
        }
        stage.commit()?;
        self.show(change, index, elsewhere);
        Ok(match answer {
            Ok(height) => Answer::Anchored(height),
            Err(rejected) => Answer::Rejected(rejected),
        })
    }

    /// Makes a written change visible, and tells those who watch the system's state.
    fn show(&self, change: Change, index: Option<Bytes>, rejected_elsewhere: u64) {
        let system = change.system.clone();
        {
            let mut memory = self.memory.write();
            if let Some(row) = change.ledger {
                memory.ledgers.insert(row.tip.ledger, Arc::new(row));
            }
            change.topics.into_iter().for_each(|topic| memory.know(topic));
            if let Some(system) = change.system {
                memory.system = system;
            }
            if index.is_some() {
                memory.applied = index;
            }
            memory.rejected_elsewhere = rejected_elsewhere;
        }
        if let Some(system) = system {
            self.watchers.lock().iter().for_each(|watcher| watcher(&system));
        }
    }

    /// The new height, or why not. A known ledger's row is in `change` either way, since rejections are counted.
    fn anchor(
        &self,
        anchor: &Anchor,
        stage: &mut Stage<'_>,
        change: &mut Change,
    ) -> Result<Result<Height, Rejected>, StoreError> {
        let known = self.memory.read().ledgers.get(&anchor.ledger).cloned();
        let Some((membership, cluster)) = self.replicas(anchor.ledger, known.as_deref()) else {
            let detail = format!("no ledger {} is known here", anchor.ledger);
            return Ok(Err(Rejected { height: 0, reason: Reason::UnknownLedger, detail }));
        };
        let fresh = || Arc::new(LedgerRow { tip: Tip::new(self.network, anchor.ledger, cluster), rejected: 0 });
        let mut row = LedgerRow::clone(&known.unwrap_or_else(fresh));
        let decided = match self.new_blocks(&row.tip, &anchor.blocks)? {
            Ok([]) => Ok(row.tip.height),
            Ok(blocks) => match verify_range(&row.tip, blocks, &anchor.certificate, &membership) {
                Ok(verified) => {
                    let (tip, verified) = verified.into_parts();
                    self.stage_range(stage, change, &row.tip, blocks, &verified)?;
                    stage.put(&Key::Certificate(anchor.ledger, tip.height), &anchor.certificate);
                    row.tip = tip;
                    Ok(row.tip.height)
                }
                Err(error) => Err((Reason::Unproved, error.to_string())),
            },
            Err(rejected) => Err(rejected),
        };
        let decided = decided.map_err(|(reason, detail)| {
            tracing::debug!(ledger = %anchor.ledger, %detail, "the global ledger rejected blocks");
            metrics::counter!("waybill_global_rejected_total").increment(1);
            row.rejected += 1;
            Rejected { height: row.tip.height, reason, detail }
        });
        change.ledger = Some(row);
        Ok(decided)
    }

    /// Who orders a ledger, and its cluster's name, by the genesis and the system ledger's blocks here.
    /// `row` is what is here of it already.
    fn replicas(&self, ledger: LedgerId, row: Option<&LedgerRow>) -> Option<(Membership, ClusterId)> {
        if ledger == LedgerId::SYSTEM {
            return Some((self.genesis.system_membership(), self.genesis.system_cluster()));
        }
        let known = self.topic_by_id(ledger.topic)?;
        let system = self.system();
        let replicas = known.topic.partitions.get(ledger.partition as usize)?;
        let members = replicas.iter().map(|node| system.node(*node).cloned()).collect::<Option<Vec<_>>>()?;
        let cluster = row.map(|row| row.tip.cluster).unwrap_or_else(|| {
            let body = first_body(&known.topic, ledger.partition, system.nodes()).to_bytes();
            ClusterId::new(self.network, ledger, Body::digest(&body))
        });
        Some((Membership { epoch: 1, members }, cluster))
    }

    /// The blocks behind the chain's end. Those up to it are skipped if the last of them is the one that is here: a
    /// header names all before it.
    fn new_blocks<'b>(
        &self,
        tip: &Tip,
        blocks: &'b [Block],
    ) -> Result<Result<&'b [Block], (Reason, String)>, StoreError> {
        let consecutive =
            blocks.windows(2).all(|pair| pair[0].header.height.checked_add(1) == Some(pair[1].header.height));
        let Some(first) = blocks.first().map(|block| block.header.height).filter(|first| *first > 0 && consecutive)
        else {
            return Ok(Err((Reason::NoRange, "no blocks, or not consecutive ones".into())));
        };
        if blocks.len() > BLOCKS_PER_ANCHOR_MAX {
            return Ok(Err((Reason::NoRange, format!("more than {BLOCKS_PER_ANCHOR_MAX} blocks"))));
        }
        if first > tip.height + 1 {
            return Ok(Err((Reason::Gap, format!("blocks {} to {} are missing", tip.height + 1, first - 1))));
        }
        let known = usize::try_from(tip.height + 1 - first).unwrap_or(usize::MAX).min(blocks.len());
        let (known, new) = blocks.split_at(known);
        if let Some(last) = known.last() {
            let height = last.header.height;
            let here = if height == tip.height {
                Some(tip.head)
            } else {
                self.block(tip.ledger, height)?.map(|block| block.header.hash())
            };
            if here != Some(last.header.hash()) {
                return Ok(Err((Reason::Conflict, format!("another block of height {height} is here"))));
            }
        }
        Ok(Ok(new))
    }

    fn stage_range(
        &self,
        stage: &mut Stage<'_>,
        change: &mut Change,
        before: &Tip,
        blocks: &[Block],
        verified: &[VerifiedBlock],
    ) -> Result<(), StoreError> {
        let ledger = before.ledger;
        let hashes = verified.iter().flat_map(|block| &block.leaves).map(Leaf::hash);
        stage_hashes(stage, ledger, before.tree.clone(), hashes);
        let system = self.system();
        let mut replayed = (before.height > 0).then(|| system.as_ref().clone());
        let mut indexer = Indexer::new(ledger, &system);
        for (block, verified) in blocks.iter().zip(verified) {
            let header = &verified.header;
            stage.put(&Key::Block(ledger, header.height), block);
            let first_leaf = header.tree_size - verified.leaves.len() as u64;
            if !verified.leaves.is_empty() {
                stage.put(&Key::BlockOfLeaf(ledger, first_leaf), &header.height);
            }
            for (leaf_index, leaf) in (first_leaf..).zip(&verified.leaves) {
                if ledger != LedgerId::SYSTEM {
                    indexer.leaf(stage, leaf_index, leaf)?;
                    continue;
                }
                for event in SystemState::replay(&mut replayed, slice::from_ref(leaf)) {
                    if let SystemEvent::TopicCreated(topic) | SystemEvent::PartitionsAdded(topic) = event {
                        let known = KnownTopic { topic: topic.as_ref().clone(), leaf_index };
                        stage.put(&Key::Topic(topic.id), &known);
                        change.topics.push(Arc::new(known));
                    }
                }
            }
        }
        if ledger == LedgerId::SYSTEM {
            change.system = replayed.filter(|replayed| *replayed != *system || before.height == 0).map(Arc::new);
        }
        Ok(())
    }
}

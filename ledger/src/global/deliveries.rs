//! Who sent each offset, and who got it: indices over the leaves, for receipts and audits.
//!
//! Each organisation's evidence of a level is a track: disjoint ranges of offsets, each with the first leaf that says
//! it. A report covers what no earlier one has, so an offset's evidence never changes, and finding it is one look-up.

use super::keys::{Key, Track};
use super::stage::Stage;
use super::{GlobalLedger, StoreError};
use crate::contract::SystemState;
use crate::receipt::Level;
use std::ops::RangeInclusive;
use waybill_types::transaction::Send;
use waybill_types::{Leaf, LedgerId, NodeId, Offset, OrgId, Outcome, Transaction, codec_struct};

/// How many earlier ranges one report can span. An organisation that cut its reports into more pieces and then
/// reports over all of them is not indexed further; its reports stay on the ledger.
const RANGES_PER_REPORT_MAX: usize = 4096;

/// A batch on a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentBatch {
    /// The leaf that says so.
    pub leaf_index: u64,
    /// The block's executed time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who sent it.
    pub sender: OrgId,
    /// Which node of the sender.
    pub node: NodeId,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// What is known of it.
    pub send: Send,
}
codec_struct!(SentBatch { leaf_index, time_ms, sender, node, base_offset, send });

impl SentBatch {
    /// The offsets of its records.
    pub fn offsets(&self) -> RangeInclusive<Offset> {
        self.base_offset..=self.base_offset.saturating_add(i64::from(self.send.record_count)) - 1
    }
}

/// A range of offsets that one leaf was the first to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The first offset.
    pub first: Offset,
    /// The last offset.
    pub last: Offset,
    /// The leaf.
    pub leaf_index: u64,
    /// Its block's executed time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The reason's number, if it is a refusal; else 0.
    pub reason: u16,
}
codec_struct!(Covered { first, last, leaf_index, time_ms, reason });

/// Puts the leaves of one ledger into the indices.
pub(super) struct Indexer<'a> {
    ledger: LedgerId,
    system: &'a SystemState,
}

impl<'a> Indexer<'a> {
    pub(super) fn new(ledger: LedgerId, system: &'a SystemState) -> Self {
        Indexer { ledger, system }
    }

    pub(super) fn leaf(&mut self, stage: &mut Stage<'_>, leaf_index: u64, leaf: &Leaf) -> Result<(), StoreError> {
        let Some((header, _)) = &leaf.origin else { return Ok(()) };
        let Some(actor) = self.system.org_of(header.origin) else { return Ok(()) };
        let covered = |range: RangeInclusive<Offset>, reason| Covered {
            first: *range.start(),
            last: *range.end(),
            leaf_index,
            time_ms: leaf.time_ms,
            reason,
        };
        match (&leaf.transaction, leaf.outcome) {
            (Transaction::Send(send), Outcome::Appended { base_offset }) => {
                let (sender, node, time_ms) = (actor.clone(), header.origin, leaf.time_ms);
                let batch = SentBatch { leaf_index, time_ms, sender, node, base_offset, send: send.clone() };
                stage.put(&Key::Sent(self.ledger, base_offset), &batch);
                Ok(())
            }
            (Transaction::Retrieve(retrieve), Outcome::Recorded) => {
                let track = Track { level: Level::Retrieved, org: &retrieve.receiver, by: Some(actor) };
                self.cover(stage, track, covered(retrieve.first..=retrieve.last, 0))
            }
            (Transaction::Receive(receive), Outcome::Recorded) => {
                let track = Track { level: Level::Received, org: actor, by: None };
                self.cover(stage, track, covered(receive.first..=receive.last, 0))
            }
            (Transaction::Commit(commit), Outcome::Recorded) => {
                let track = Track { level: Level::Committed, org: actor, by: None };
                self.commit(stage, track, covered(0..=commit.offset.saturating_sub(1), 0))
            }
            (Transaction::Refuse(refuse), Outcome::Recorded) => {
                // A batch is refused as a whole, by whichever of its offsets it was asked for.
                let batch = sent_at(stage, self.ledger, refuse.offset)?;
                let offsets = batch.map_or(refuse.offset..=refuse.offset, |batch| batch.offsets());
                let track = Track { level: Level::Refused, org: &refuse.to, by: Some(actor) };
                self.cover(stage, track, covered(offsets, refuse.reason))
            }
            _ => Ok(()),
        }
    }

    /// Adds the parts of a range that the track does not have yet.
    fn cover(&self, stage: &mut Stage<'_>, track: Track<'_>, range: Covered) -> Result<(), StoreError> {
        let key = |offset| Key::Delivered(self.ledger, track, offset);
        let mut at = range.first;
        for _ in 0..RANGES_PER_REPORT_MAX {
            if at < 0 || at > range.last {
                break;
            }
            let before = stage.at_or_before::<Covered>(&key(at))?.filter(|(_, before)| before.last >= at);
            if let Some((_, before)) = before {
                at = before.last.saturating_add(1);
                continue;
            }
            let next = stage.at_or_after::<Covered>(&key(at))?.map(|(_, next)| next.first - 1);
            let last = next.map_or(range.last, |before_next| before_next.min(range.last));
            stage.put(&key(at), &Covered { first: at, last, ..range.clone() });
            at = last.saturating_add(1);
        }
        Ok(())
    }

    /// A group's position stands for all offsets before it, so only how far the track reaches matters.
    fn commit(&self, stage: &mut Stage<'_>, track: Track<'_>, range: Covered) -> Result<(), StoreError> {
        let key = |offset| Key::Delivered(self.ledger, track, offset);
        let reached = stage.at_or_before::<Covered>(&key(Offset::MAX))?;
        let first = reached.map_or(0, |(_, reached)| reached.last.saturating_add(1));
        if first <= range.last {
            stage.put(&key(first), &Covered { first, ..range });
        }
        Ok(())
    }
}

/// The batch that has an offset.
pub(super) fn sent_at(stage: &Stage<'_>, ledger: LedgerId, offset: Offset) -> Result<Option<SentBatch>, StoreError> {
    if offset < 0 {
        return Ok(None);
    }
    let batch = stage.at_or_before::<SentBatch>(&Key::Sent(ledger, offset))?.map(|(_, batch)| batch);
    Ok(batch.filter(|batch| batch.offsets().contains(&offset)))
}

impl GlobalLedger {
    /// The batch that has an offset.
    pub fn sent_at(&self, ledger: LedgerId, offset: Offset) -> Result<Option<SentBatch>, StoreError> {
        sent_at(&Stage::new(&self.tree), ledger, offset)
    }

    /// The batch that has an offset, or the next one behind it.
    pub fn sent_from(&self, ledger: LedgerId, offset: Offset) -> Result<Option<SentBatch>, StoreError> {
        let stage = Stage::new(&self.tree);
        let offset = offset.max(0);
        if let Some(batch) = sent_at(&stage, ledger, offset)? {
            return Ok(Some(batch));
        }
        Ok(stage.at_or_after::<SentBatch>(&Key::Sent(ledger, offset))?.map(|(_, batch)| batch))
    }

    /// What an organisation's track has of a batch: at most `ranges_max` ranges, in order. What was retrieved or
    /// refused counts by the sender's word alone.
    pub fn covered(
        &self,
        ledger: LedgerId,
        batch: &SentBatch,
        level: Level,
        org: &OrgId,
        ranges_max: usize,
    ) -> Result<Vec<Covered>, StoreError> {
        let by = matches!(level, Level::Retrieved | Level::Refused).then_some(&batch.sender);
        let key = |offset| Key::Delivered(ledger, Track { level, org, by }, offset);
        let stage = Stage::new(&self.tree);
        let (mut at, last) = batch.offsets().into_inner();
        let mut ranges = Vec::new();
        while at <= last && ranges.len() < ranges_max {
            let before = stage.at_or_before::<Covered>(&key(at))?.filter(|(_, before)| before.last >= at);
            let found = match before {
                Some(found) => Some(found),
                None => stage.at_or_after::<Covered>(&key(at))?.filter(|(_, after)| after.first <= last),
            };
            let Some((_, found)) = found else { break };
            at = found.last.saturating_add(1);
            ranges.push(found);
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use waybill_types::TopicId;

    const LEDGER: LedgerId = LedgerId::new(TopicId([1; 16]), 0);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_offset_keeps_its_first_report(
            reports in prop::collection::vec((0i64..60, 0i64..60), 1..30),
            commits in prop::collection::vec(0i64..60, 1..10),
            written in 0usize..30,
        ) {
            let db = sled::Config::new().temporary(true).open().unwrap();
            let mut stage = Stage::new(&db);
            let org = OrgId::new("acme").unwrap();
            let system = SystemState::new(std::sync::Arc::new(crate::receipt::fixture::four().system_body().config.unwrap()));
            let indexer = Indexer::new(LEDGER, &system);
            let track = |level| Track { level, org: &org, by: None };
            let range = |first, last, leaf_index| Covered { first, last, leaf_index, time_ms: 0, reason: 0 };
            for (index, (first, last)) in (0..).zip(&reports) {
                if index as usize == written {
                    std::mem::replace(&mut stage, Stage::new(&db)).commit().unwrap();
                }
                indexer.cover(&mut stage, track(Level::Received), range(*first, *last, index)).unwrap();
            }
            for (index, offset) in (0..).zip(&commits) {
                indexer.commit(&mut stage, track(Level::Committed), range(0, offset - 1, index)).unwrap();
            }
            for offset in 0..60 {
                let found = |level| {
                    let found = stage.at_or_before::<Covered>(&Key::Delivered(LEDGER, track(level), offset)).unwrap();
                    found.filter(|(_, found)| found.last >= offset).map(|(_, found)| found.leaf_index)
                };
                let first = reports.iter().position(|(first, last)| (*first..=*last).contains(&offset));
                prop_assert_eq!(found(Level::Received), first.map(|index| index as u64));
                let first = commits.iter().position(|commit| *commit > offset);
                prop_assert_eq!(found(Level::Committed), first.map(|index| index as u64));
            }
        }
    }
}

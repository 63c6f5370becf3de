//! The story of a topic's offsets, told from the global ledger: who sent what, who retrieved, received and committed
//! it, who was refused.
//!
//! Any node can be asked, a witness too: no payload is needed, and no other node. Each row rests on certified blocks;
//! for one offset's proof to carry away, see [`receipt`](crate::receipt).

mod render;

pub use render::{write_json, write_table};

use crate::contract::SystemState;
use crate::global::{Covered, GlobalLedger, KnownTopic, SentBatch, StoreError};
use crate::receipt::{Level, refusal, utc};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use waybill_types::{LedgerId, Offset};

/// How many separate reports about one batch are looked at, per organisation and level. More than that is nobody's
/// normal use, and the row says `partly`.
const REPORTS_PER_BATCH_MAX: usize = 64;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The topic's name.
    pub topic: String,
    /// One partition; all if none.
    pub partition: Option<u32>,
    /// The offsets, of each partition asked for. A batch that has one of them is told whole.
    pub offsets: RangeInclusive<Offset>,
}

impl Query {
    /// Everything about a topic.
    pub fn topic(name: &str) -> Self {
        Query { topic: name.to_owned(), partition: None, offsets: 0..=Offset::MAX }
    }
}

/// Why an audit has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No topic of this name was ever created, as far as this node knows.
    #[error("unknown topic {0}")]
    UnknownTopic(String),
    /// The topic has fewer partitions.
    #[error("topic {topic} has {partitions} partition(s), numbered from 0: there is no {asked}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// How many it has.
        partitions: usize,
        /// Which was asked for.
        asked: u32,
    },
    /// The node's storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One batch's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The topic's name.
    pub topic: String,
    /// The partition's index.
    pub partition: u32,
    /// The batch's first offset.
    pub first_offset: Offset,
    /// The batch's last offset.
    pub last_offset: Offset,
    /// Who sent it.
    pub sender: String,
    /// When the ledger recorded it, in milliseconds since 1970.
    pub sent_ms: u64,
    /// The same in ISO 8601, UTC.
    pub sent: String,
    /// The canonical batch's size.
    pub size_bytes: u32,
    /// How many records it has.
    pub record_count: u32,
    /// The commitment to its bytes, in hexadecimal.
    pub commitment: String,
    /// What each organisation got, by name; only those of whom there is anything to tell.
    pub organisations: BTreeMap<String, Delivery>,
}

/// How far a batch came, for one organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The sender served it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieved: Option<Event>,
    /// The receiver's connector verified the bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Event>,
    /// A consumer group of the organisation passed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<Event>,
    /// The sender refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Event>,
}

/// When something happened to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it had happened to all records told of here, in milliseconds since 1970.
    pub time_ms: u64,
    /// The same in ISO 8601, UTC.
    pub time: String,
    /// How many of the batch's records it happened to.
    pub records: u32,
    /// Whether that is the whole batch.
    pub complete: bool,
    /// Why, if it is a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answers a query, batch by batch in the order of partition and offset, reading as the iterator advances.
pub fn query<'a>(global: &'a GlobalLedger, query: &Query) -> Result<Rows<'a>, AuditError> {
    let topic = global.topic(&query.topic).ok_or_else(|| AuditError::UnknownTopic(query.topic.clone()))?;
    let partitions = topic.topic.partitions.len();
    if let Some(asked) = query.partition.filter(|asked| *asked as usize >= partitions) {
        return Err(AuditError::UnknownPartition { topic: query.topic.clone(), partitions, asked });
    }
    let asked = topic.topic.ledgers().filter(|ledger| query.partition.is_none_or(|only| only == ledger.partition));
    Ok(Rows {
        global,
        system: global.system(),
        ledgers: asked.collect(),
        next_offset: *query.offsets.start(),
        offsets: query.offsets.clone(),
        topic,
    })
}

/// The rows of an audit, see [`query`].
#[derive(Debug)]
pub struct Rows<'a> {
    global: &'a GlobalLedger,
    system: Arc<SystemState>,
    topic: Arc<KnownTopic>,
    offsets: RangeInclusive<Offset>,
    /// Those to tell of; the first is under way.
    ledgers: VecDeque<LedgerId>,
    next_offset: Offset,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

impl Rows<'_> {
    fn next_row(&mut self) -> Result<Option<Row>, AuditError> {
        while let Some(ledger) = self.ledgers.front().copied() {
            let batch = self.global.sent_from(ledger, self.next_offset)?;
            if let Some(batch) = batch.filter(|batch| batch.base_offset <= *self.offsets.end()) {
                self.next_offset = batch.offsets().end().saturating_add(1);
                return Ok(Some(self.row(ledger, &batch)?));
            }
            self.ledgers.pop_front();
            self.next_offset = *self.offsets.start();
        }
        Ok(None)
    }

    fn row(&self, ledger: LedgerId, batch: &SentBatch) -> Result<Row, AuditError> {
        let mut organisations = BTreeMap::new();
        for org in self.system.organisations() {
            let event = |level| -> Result<Option<Event>, AuditError> {
                let reports = self.global.covered(ledger, batch, level, org, REPORTS_PER_BATCH_MAX)?;
                Ok(summary(batch, level, &reports))
            };
            let delivery = Delivery {
                retrieved: event(Level::Retrieved)?,
                received: event(Level::Received)?,
                committed: event(Level::Committed)?,
                refused: event(Level::Refused)?,
            };
            if delivery != Delivery::default() {
                organisations.insert(org.to_string(), delivery);
            }
        }
        let (first_offset, last_offset) = batch.offsets().into_inner();
        Ok(Row {
            topic: self.topic.topic.name.clone(),
            partition: ledger.partition,
            first_offset,
            last_offset,
            sender: batch.sender.to_string(),
            sent_ms: batch.time_ms,
            sent: utc(batch.time_ms),
            size_bytes: batch.send.size_bytes,
            record_count: batch.send.record_count,
            commitment: batch.send.commitment.to_string(),
            organisations,
        })
    }
}

/// Several reports about one batch, as one event.
fn summary(batch: &SentBatch, level: Level, reports: &[Covered]) -> Option<Event> {
    let offsets = batch.offsets();
    let records = reports.iter().map(|report| {
        let (first, last) = (report.first.max(*offsets.start()), report.last.min(*offsets.end()));
        u32::try_from(last - first + 1).unwrap_or(0)
    });
    let records = records.fold(0, u32::saturating_add);
    let time_ms = reports.iter().map(|report| report.time_ms).max()?;
    let reason = reports.first().filter(|_| level == Level::Refused).map(|report| refusal(report.reason));
    Some(Event { time_ms, time: utc(time_ms), records, complete: records == batch.send.record_count, reason })
}

#[cfg(test)]
mod tests;

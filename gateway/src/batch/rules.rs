//! What a topic may demand of every single record, beyond what the header tells (Kafka's `LogValidator`).

use std::fmt;
use std::ops::RangeInclusive;

use super::records::{Records, RecordsError};
use super::{Canonical, Header};

/// How many records are named when a batch is refused. The rest of the batch is refused with them anyway.
pub const FAULTS_NAMED_MAX: usize = 1_000;

/// Kafka's "this record has no timestamp".
const NO_TIMESTAMP: i64 = -1;

/// What holds for every record of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecordRules {
    /// Each has a key: compaction keeps the last record of each.
    pub keyed: bool,
    /// Between which times they lie, in milliseconds since 1970.
    pub timestamps_ms: Option<RangeInclusive<i64>>,
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// It has no key.
    NoKey,
    /// Its time is out of bounds.
    Timestamp(i64),
}

/// A record that breaks a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which one of the batch.
    pub index: i32,
    /// What is wrong.
    pub kind: FaultKind,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::NoKey => out.write_str("a compacted topic takes no record without a key"),
            FaultKind::Timestamp(time_ms) => {
                write!(out, "timestamp {time_ms} is outside the topic's message.timestamp bounds")
            }
        }
    }
}

impl RecordRules {
    /// Whether the batch's records must be looked at: what its header says may be enough.
    pub fn need_records(&self, header: &Header) -> bool {
        let late = |times: &RangeInclusive<i64>| {
            // Only a lower bound needs every record; the latest time stands in the header.
            *times.start() > i64::MIN || header.max_timestamp_ms > *times.end()
        };
        self.keyed || self.timestamps_ms.as_ref().is_some_and(late)
    }

    /// The first records that break a rule, in order; none if all is well.
    pub fn faults(&self, batch: &Canonical) -> Result<Vec<Fault>, RecordsError> {
        let mut faults = Vec::new();
        let mut records = Records::of(batch)?;
        for (index, record) in (0..).zip(&mut records) {
            let record = record?;
            let kind = if self.keyed && !record.has_key {
                FaultKind::NoKey
            } else if !self.allows_time(record.timestamp_ms) {
                FaultKind::Timestamp(record.timestamp_ms)
            } else {
                continue;
            };
            faults.push(Fault { index, kind });
            if faults.len() == FAULTS_NAMED_MAX {
                return Ok(faults);
            }
        }
        records.check_end()?;
        Ok(faults)
    }

    fn allows_time(&self, time_ms: i64) -> bool {
        time_ms == NO_TIMESTAMP || self.timestamps_ms.as_ref().is_none_or(|times| times.contains(&time_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::Builder;
    use super::super::header::Codec;
    use super::super::produced;
    use super::*;
    use std::io::Write;

    const KEYED: RecordRules = RecordRules { keyed: true, timestamps_ms: None };

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).and_then(|()| encoder.finish()).expect("compresses")
    }

    fn mixed() -> Builder {
        Builder::new(1_000)
            .record(1_000, Some(b"key"), None)
            .record(1_001, None, Some(b"value"))
            .record(1_002, Some(b""), Some(b"value"))
            .record(1_003, None, None)
    }

    #[test]
    fn records_without_a_key_are_named_and_an_empty_key_is_one() {
        for batch in [mixed(), mixed().compress(Codec::Gzip, gzip)] {
            let batch = produced(batch.build()).expect("a batch");
            let faults = KEYED.faults(&batch).expect("readable");
            assert_eq!(faults, [1, 3].map(|index| Fault { index, kind: FaultKind::NoKey }));
        }
    }

    #[test]
    fn records_out_of_time_are_named_and_those_without_a_time_are_not() {
        let rules = RecordRules { keyed: false, timestamps_ms: Some(1_001..=1_002) };
        let batch = produced(mixed().record(NO_TIMESTAMP, None, None).build()).expect("a batch");
        let faults = rules.faults(&batch).expect("readable");
        assert_eq!(
            faults,
            [(0, 1_000), (3, 1_003)].map(|(index, time)| Fault { index, kind: FaultKind::Timestamp(time) })
        );
    }

    #[test]
    fn a_batch_is_looked_into_only_where_its_header_is_not_enough() {
        let header = *produced(mixed().build()).expect("a batch").header();
        let times = |times| RecordRules { keyed: false, timestamps_ms: Some(times) };
        assert!(!RecordRules::default().need_records(&header));
        assert!(KEYED.need_records(&header));
        assert!(!times(i64::MIN..=1_003).need_records(&header));
        assert!(times(i64::MIN..=1_002).need_records(&header));
        assert!(times(0..=1_003).need_records(&header));
    }

    #[test]
    fn not_all_of_a_million_faults_are_named() {
        let builder = (0..FAULTS_NAMED_MAX + 5).fold(Builder::new(0), |builder, _| builder.record(1, None, None));
        let faults = KEYED.faults(&produced(builder.build()).expect("a batch")).expect("readable");
        assert_eq!(faults.len(), FAULTS_NAMED_MAX);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_bomb_is_unfolded() {
        let bomb = |_: &[u8]| {
            // One record that claims 200 MB, of zeros: its key is empty.
            let mut plain = vec![0; 200_000_000];
            plain[..5].copy_from_slice(&[0x80, 0x88, 0xde, 0xbe, 0x01]);
            gzip(&plain)
        };
        let keyed = || Builder::new(0).record(5, Some(b"key"), None);
        let cut = |plain: &[u8]| plain[..plain.len() - 1].to_vec();
        let longer = |plain: &[u8]| [plain, b"more"].concat();
        for (batch, said) in [
            (keyed().compress(Codec::Gzip, bomb), "limit"),
            (keyed().compress(Codec::Gzip, <[u8]>::to_vec), "gzip"),
            (keyed().compress(Codec::None, cut), "end"),
            (keyed().compress(Codec::None, longer), "behind"),
        ] {
            let error = KEYED.faults(&produced(batch.build()).expect("well formed")).expect_err("unreadable");
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
    }
}

//! Kafka's topic settings: every key of Kafka 4, its type, its default here, and what Waybill makes of it.
//!
//! CreateTopics checks what it is given against this table; DescribeConfigs shows it. A setting is either obeyed, or
//! refused by name where ignoring it would deceive, or best effort: then it can be given, because existing tools give it,
//! it is kept and shown, and its description says so.

use crate::batch::RecordRules;
use waybill_ledger::contract::TIMESTAMP_AFTER_MAX_MS;

/// What a value looks like, by the numbers of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 64 bits.
    Long = 5,
    /// A decimal fraction.
    Double = 6,
    /// Words between commas.
    List = 7,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct TopicSetting {
    /// The topic's key.
    pub name: &'static str,
    /// The broker's key that gives the default, if there is one.
    pub broker_name: Option<&'static str>,
    /// The type.
    pub kind: Kind,
    /// What holds if nothing is said.
    pub default: &'static str,
    /// What it does here.
    pub documentation: &'static str,
    /// Whether anything here obeys it.
    pub obeyed: bool,
    allowed: Allowed,
}

#[derive(Clone, Copy, Debug)]
enum Allowed {
    Any,
    AtLeast(i64),
    Within(i64, i64),
    /// Kafka's levels of gzip: its own choice, or one of nine.
    GzipLevel,
    Between(f64, f64),
    /// Any but this flag, for this reason.
    Never(bool, &'static str),
    OneOf(&'static [&'static str]),
}

const LONG_MAX: &str = "9223372036854775807";
const OPAQUE: &str = "Without effect: batches are opaque here and stay as producers have compressed them.";
const JOURNAL: &str = "Without effect: payloads are kept by the organisation's connector, not in log segments.";
const KEPT: &str = "Best effort: data is kept longer than asked. Nothing is deleted or compacted yet.";
const REPLICATION: &str = "Without effect: replicas agree on metadata by PBFT and do not copy payloads.";
const TIERED: &str = "Without effect: there is no tiered storage.";

/// All of them, ordered by name.
pub const TOPIC_SETTINGS: [TopicSetting; 33] = [
    list(
        "cleanup.policy",
        "log.cleanup.policy",
        "delete",
        &["delete", "compact"],
        "With compact, records without a key are refused. Best effort: data is kept longer than asked. Nothing is deleted \
         or compacted yet.",
    )
    .obeyed(),
    number("compression.gzip.level", "compression.gzip.level", Kind::Int, "-1", -1, OPAQUE).allows(Allowed::GzipLevel),
    number("compression.lz4.level", "compression.lz4.level", Kind::Int, "9", 1, OPAQUE).allows(Allowed::Within(1, 17)),
    text(
        "compression.type",
        "compression.type",
        "producer",
        &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"],
        "Best effort: batches stay as producers have compressed them. With zstd, consumers that cannot know it (Fetch \
         before version 10) are refused.",
    ),
    number("compression.zstd.level", "compression.zstd.level", Kind::Int, "3", -131_072, OPAQUE)
        .allows(Allowed::Within(-131_072, 22)),
    number("delete.retention.ms", "log.cleaner.delete.retention.ms", Kind::Long, "86400000", 0, KEPT),
    number("file.delete.delay.ms", "log.segment.delete.delay.ms", Kind::Long, "60000", 0, JOURNAL),
    number(
        "flush.messages",
        "log.flush.interval.messages",
        Kind::Long,
        "1",
        1,
        "Every batch is synced before it counts.",
    ),
    number("flush.ms", "log.flush.interval.ms", Kind::Long, "0", 0, "Every batch is synced before it counts."),
    free_list("follower.replication.throttled.replicas", REPLICATION),
    number("index.interval.bytes", "log.index.interval.bytes", Kind::Int, "4096", 0, JOURNAL),
    free_list("leader.replication.throttled.replicas", REPLICATION),
    number("local.retention.bytes", "log.local.retention.bytes", Kind::Long, "-2", -2, TIERED),
    number("local.retention.ms", "log.local.retention.ms", Kind::Long, "-2", -2, TIERED),
    number("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", Kind::Long, LONG_MAX, 1, KEPT),
    number(
        "max.message.bytes",
        "message.max.bytes",
        Kind::Int,
        "1048588",
        0,
        "The largest record batch, as the producer has compressed it. The topic's contract enforces it.",
    )
    .obeyed(),
    number(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        Kind::Long,
        "3600000",
        0,
        "How far a record's timestamp may be ahead. The topic's contract takes none that is more than an hour ahead of the \
         ledger's time, so only less can be asked for.",
    )
    .allows(Allowed::Within(0, TIMESTAMP_AFTER_MAX_MS as i64))
    .obeyed(),
    number(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        Kind::Long,
        LONG_MAX,
        0,
        "How old a record's timestamp may be.",
    )
    .obeyed(),
    text(
        "message.timestamp.type",
        "log.message.timestamp.type",
        "CreateTime",
        &["CreateTime", "LogAppendTime"],
        "Whose time records carry: the producer's, or the block's in which the batch was ordered.",
    )
    .obeyed(),
    fraction("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", "0.5", KEPT),
    number("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", Kind::Long, "0", 0, KEPT),
    number(
        "min.insync.replicas",
        "min.insync.replicas",
        Kind::Int,
        "1",
        1,
        "Without effect: 2f+1 of 3f+1 replicas, each of another organisation, agree on every batch.",
    ),
    flag("preallocate", Some("log.preallocate"), JOURNAL),
    flag("remote.log.copy.disable", None, TIERED),
    flag("remote.log.delete.on.disable", None, TIERED),
    flag("remote.storage.enable", None, TIERED).allows(Allowed::Never(true, "there is no tiered storage")),
    number("retention.bytes", "log.retention.bytes", Kind::Long, "-1", -1, KEPT),
    number("retention.ms", "log.retention.ms", Kind::Long, "-1", -1, KEPT),
    number("segment.bytes", "log.segment.bytes", Kind::Int, "1073741824", 14, JOURNAL),
    number("segment.index.bytes", "log.index.size.max.bytes", Kind::Int, "10485760", 4, JOURNAL),
    number("segment.jitter.ms", "log.roll.jitter.ms", Kind::Long, "0", 0, JOURNAL),
    number("segment.ms", "log.roll.ms", Kind::Long, "604800000", 1, JOURNAL),
    flag(
        "unclean.leader.election.enable",
        Some("unclean.leader.election.enable"),
        "Without effect: what a quorum has not ordered is never served.",
    ),
];

/// The row of a key.
pub fn topic_setting(name: &str) -> Option<&'static TopicSetting> {
    TOPIC_SETTINGS.iter().find(|setting| setting.name == name)
}

/// Checks the settings of a topic to be, given as key and value. The error is for people.
pub fn check<'a>(settings: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<(), String> {
    let mut given: Vec<(&str, &str)> = Vec::new();
    for (name, value) in settings {
        let setting = topic_setting(name).ok_or_else(|| format!("unknown topic setting: {name}"))?;
        let value = value.ok_or_else(|| format!("{name} has no value"))?;
        if given.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name} is given twice"));
        }
        setting.check(value).map_err(|expected| format!("{name}={value} is not {expected}"))?;
        given.push((name, value));
    }
    check_together(&given)
}

/// What each setting allows for itself may still contradict another.
fn check_together(given: &[(&str, &str)]) -> Result<(), String> {
    let lag = |name: &str| {
        let own = given.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        own.or(topic_setting(name).map(|setting| setting.default)).and_then(|value| value.parse::<i64>().ok())
    };
    let (min, max) = (lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms"));
    if min > max { Err("min.compaction.lag.ms is above max.compaction.lag.ms".into()) } else { Ok(()) }
}

/// What a topic's settings demand of each record that is produced at this time. Where the ledger's time is the
/// records', what they say themselves does not count.
pub fn record_rules(given: &[(String, String)], log_append_time: bool, now_ms: i64) -> RecordRules {
    let mut rules = RecordRules::default();
    let (mut before_ms, mut after_ms) = (None, None);
    for (name, value) in given {
        let milliseconds = || value.parse::<i64>().ok().filter(|time| *time < i64::MAX);
        match name.as_str() {
            "cleanup.policy" => rules.keyed = value.split(',').any(|policy| policy.trim() == "compact"),
            "message.timestamp.before.max.ms" => before_ms = milliseconds(),
            "message.timestamp.after.max.ms" => after_ms = milliseconds(),
            _ => {}
        }
    }
    if !log_append_time && (before_ms.is_some() || after_ms.is_some()) {
        let earliest = before_ms.map_or(i64::MIN, |before| now_ms.saturating_sub(before));
        rules.timestamps_ms = Some(earliest..=after_ms.map_or(i64::MAX, |after| now_ms.saturating_add(after)));
    }
    rules
}

impl TopicSetting {
    fn check(&self, value: &str) -> Result<(), String> {
        let fits = match self.kind {
            Kind::Boolean => self.allows_flag(value),
            Kind::Int => value.parse::<i32>().is_ok_and(|number| self.allows_number(number.into())),
            Kind::Long => value.parse::<i64>().is_ok_and(|number| self.allows_number(number)),
            Kind::Double => value.parse::<f64>().is_ok_and(|number| self.allows_fraction(number)),
            Kind::String => self.allows_word(value),
            Kind::List => value.split(',').all(|word| self.allows_word(word.trim())),
        };
        if fits { Ok(()) } else { Err(self.expected()) }
    }

    fn expected(&self) -> String {
        match (self.kind, self.allowed) {
            (_, Allowed::Never(_, reason)) => format!("possible: {reason}"),
            (_, Allowed::Within(least, most)) => format!("a number from {least} to {most}"),
            (_, Allowed::GzipLevel) => "-1 or a number from 1 to 9".into(),
            (Kind::Boolean, _) => "true or false".into(),
            (Kind::Int, Allowed::AtLeast(least)) => format!("a number from {least} to {}", i32::MAX),
            (_, Allowed::AtLeast(least)) => format!("a number from {least} to {}", i64::MAX),
            (_, Allowed::Between(least, most)) => format!("a number between {least} and {most}"),
            (_, Allowed::OneOf(words)) => format!("one of {}", words.join(", ")),
            (_, Allowed::Any) => "well-formed".into(),
        }
    }

    fn allows_number(&self, number: i64) -> bool {
        match self.allowed {
            Allowed::AtLeast(least) => number >= least,
            Allowed::Within(least, most) => (least..=most).contains(&number),
            Allowed::GzipLevel => number == -1 || (1..=9).contains(&number),
            _ => true,
        }
    }

    /// In any case, as Kafka takes it.
    fn allows_flag(&self, value: &str) -> bool {
        let flag = value.to_ascii_lowercase().parse::<bool>();
        flag.is_ok_and(|flag| !matches!(self.allowed, Allowed::Never(never, _) if flag == never))
    }

    fn allows_fraction(&self, number: f64) -> bool {
        !matches!(self.allowed, Allowed::Between(least, most) if !(least..=most).contains(&number))
    }

    fn allows_word(&self, word: &str) -> bool {
        !matches!(self.allowed, Allowed::OneOf(words) if !words.contains(&word))
    }

    const fn obeyed(self) -> Self {
        Self { obeyed: true, ..self }
    }

    const fn allows(self, allowed: Allowed) -> Self {
        Self { allowed, ..self }
    }
}

const fn setting(
    name: &'static str,
    broker_name: Option<&'static str>,
    kind: Kind,
    default: &'static str,
    allowed: Allowed,
    documentation: &'static str,
) -> TopicSetting {
    TopicSetting { name, broker_name, kind, default, documentation, obeyed: false, allowed }
}

const fn number(
    name: &'static str,
    broker_name: &'static str,
    kind: Kind,
    default: &'static str,
    least: i64,
    documentation: &'static str,
) -> TopicSetting {
    setting(name, Some(broker_name), kind, default, Allowed::AtLeast(least), documentation)
}

const fn fraction(
    name: &'static str,
    broker_name: &'static str,
    default: &'static str,
    documentation: &'static str,
) -> TopicSetting {
    setting(name, Some(broker_name), Kind::Double, default, Allowed::Between(0.0, 1.0), documentation)
}

const fn flag(name: &'static str, broker_name: Option<&'static str>, documentation: &'static str) -> TopicSetting {
    setting(name, broker_name, Kind::Boolean, "false", Allowed::Any, documentation)
}

const fn text(
    name: &'static str,
    broker_name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
    documentation: &'static str,
) -> TopicSetting {
    setting(name, Some(broker_name), Kind::String, default, Allowed::OneOf(words), documentation)
}

const fn list(
    name: &'static str,
    broker_name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
    documentation: &'static str,
) -> TopicSetting {
    setting(name, Some(broker_name), Kind::List, default, Allowed::OneOf(words), documentation)
}

const fn free_list(name: &'static str, documentation: &'static str) -> TopicSetting {
    setting(name, None, Kind::List, "", Allowed::Any, documentation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_ledger::contract::{BATCH_BYTES_LIMIT_DEFAULT, Settings};

    #[test]
    fn rows_ascend_and_keep_their_own_rules() {
        assert!(TOPIC_SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for setting in TOPIC_SETTINGS {
            assert_eq!(check([(setting.name, Some(setting.default))]), Ok(()), "{}", setting.name);
        }
    }

    #[test]
    fn what_the_contract_obeys_has_the_contract_s_defaults() {
        let obeyed = TOPIC_SETTINGS.iter().filter(|setting| setting.obeyed);
        let defaults: Vec<_> = obeyed.map(|setting| (setting.name.to_string(), setting.default.to_string())).collect();
        assert_eq!(Settings::parse(&defaults), Ok(Settings::default()));
        let limit = topic_setting("max.message.bytes").map(|setting| setting.default);
        assert_eq!(limit, Some(BATCH_BYTES_LIMIT_DEFAULT.to_string().as_str()));
    }

    #[test]
    fn whatever_is_not_obeyed_says_so() {
        for setting in TOPIC_SETTINGS.iter().filter(|setting| !setting.obeyed) {
            let text = setting.documentation;
            let honest =
                ["Without effect", "Best effort", "Every batch is synced"].iter().any(|words| text.starts_with(words));
            assert!(honest, "{}: {text}", setting.name);
        }
    }

    /// Every key of Kafka 4's `LogConfig`, and none that it does not know.
    #[test]
    fn the_keys_are_those_of_kafka_4() {
        let names = TOPIC_SETTINGS.map(|setting| setting.name).join(" ");
        let kafka = [
            "cleanup.policy compression.gzip.level compression.lz4.level compression.type compression.zstd.level",
            "delete.retention.ms file.delete.delay.ms flush.messages flush.ms follower.replication.throttled.replicas",
            "index.interval.bytes leader.replication.throttled.replicas local.retention.bytes local.retention.ms",
            "max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms message.timestamp.before.max.ms",
            "message.timestamp.type min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate",
            "remote.log.copy.disable remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms",
            "segment.bytes segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable",
        ];
        assert_eq!(names, kafka.join(" "));
    }

    #[test]
    fn what_usual_tools_set_can_be_set() {
        for (name, value) in [
            ("retention.ms", "-1"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "1073741824"),
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact,delete"),
            ("segment.bytes", "52428800"),
            ("segment.ms", "600000"),
            ("min.insync.replicas", "2"),
            ("compression.type", "lz4"),
            ("message.timestamp.type", "CreateTime"),
            ("delete.retention.ms", "100"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("unclean.leader.election.enable", "False"),
            ("remote.storage.enable", "false"),
            ("max.message.bytes", "10485760"),
            ("flush.messages", "9223372036854775807"),
        ] {
            assert_eq!(check([(name, Some(value))]), Ok(()), "{name}={value}");
        }
    }

    #[test]
    fn records_are_bound_by_what_was_given_and_by_nothing_else() {
        let rules = |given: &[(&str, &str)], log_append_time| {
            let given: Vec<_> = given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            record_rules(&given, log_append_time, 1_000_000)
        };
        assert_eq!(rules(&[("retention.ms", "5"), ("cleanup.policy", "delete")], false), RecordRules::default());
        assert!(rules(&[("cleanup.policy", "delete, compact")], true).keyed);
        let (before, after) = (("message.timestamp.before.max.ms", "300"), ("message.timestamp.after.max.ms", "20"));
        assert_eq!(rules(&[before, after], false).timestamps_ms, Some(999_700..=1_000_020));
        assert_eq!(rules(&[before], false).timestamps_ms, Some(999_700..=i64::MAX));
        assert_eq!(rules(&[after], false).timestamps_ms, Some(i64::MIN..=1_000_020));
        assert_eq!(rules(&[before, after], true).timestamps_ms, None, "their own time does not count");
        assert_eq!(rules(&[("message.timestamp.before.max.ms", LONG_MAX)], false).timestamps_ms, None);
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_is_right() {
        for (name, value, said) in [
            ("retention", Some("1"), "unknown topic setting: retention"),
            ("retention.ms", None, "retention.ms has no value"),
            ("retention.ms", Some("-2"), "retention.ms=-2 is not a number from -1 to 9223372036854775807"),
            ("retention.ms", Some("a day"), "retention.ms=a day is not a number from -1 to 9223372036854775807"),
            (
                "max.message.bytes",
                Some("2147483648"),
                "max.message.bytes=2147483648 is not a number from 0 to 2147483647",
            ),
            ("preallocate", Some("yes"), "preallocate=yes is not true or false"),
            ("cleanup.policy", Some("shred"), "cleanup.policy=shred is not one of delete, compact"),
            ("min.cleanable.dirty.ratio", Some("2"), "min.cleanable.dirty.ratio=2 is not a number between 0 and 1"),
            ("compression.gzip.level", Some("0"), "compression.gzip.level=0 is not -1 or a number from 1 to 9"),
            (
                "message.timestamp.after.max.ms",
                Some("3600001"),
                "message.timestamp.after.max.ms=3600001 is not a number from 0 to 3600000",
            ),
            (
                "remote.storage.enable",
                Some("true"),
                "remote.storage.enable=true is not possible: there is no tiered storage",
            ),
        ] {
            assert_eq!(check([(name, value)]), Err(said.to_string()));
        }
        assert_eq!(check([("cleanup.policy", Some("compact, delete"))]), Ok(()));
        let lags = [("min.compaction.lag.ms", Some("6")), ("max.compaction.lag.ms", Some("5"))];
        assert_eq!(check(lags), Err("min.compaction.lag.ms is above max.compaction.lag.ms".to_string()));
        let twice = [("preallocate", Some("true")), ("preallocate", Some("true"))];
        assert_eq!(check(twice), Err("preallocate is given twice".to_string()));
    }
}

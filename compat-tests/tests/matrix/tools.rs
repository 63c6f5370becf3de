//! The command-line tools of Apache Kafka, unchanged: what operators type, and what they see.
//!
//! Each story asserts on what a tool really prints, and that it complains of nothing that it would not complain of
//! before Kafka itself. Stories share a network and have topics and groups of their own.

mod cluster;
mod configs;
mod console;
mod groups;
mod offsets;
mod perf;
mod topics;

use std::path::{Path, PathBuf};
use std::process::Command;

use waybill_compat_tests::client::JAVA_OPTIONS;
use waybill_compat_tests::command::{self, Finished};
use waybill_compat_tests::network::Network;
use waybill_compat_tests::wait::LIMIT;

/// What a story is given: the tools, and a network whose organisations trade.
pub type Story = fn(&Tools, &Network<'_>);

/// Every story, by its name.
pub const STORIES: &[(&str, Story)] = &[
    ("kafka_topics_creates_describes_and_deletes", topics::creates_describes_and_deletes),
    ("kafka_topics_adds_partitions", topics::adds_partitions),
    ("consoles_carry_keys_headers_and_nulls_to_the_other_organisation", console::carry_everything_across),
    ("console_producer_compresses_with_every_codec", console::compress_with_every_codec),
    ("console_consumer_goes_on_where_its_group_committed", console::goes_on_where_its_group_committed),
    ("kafka_consumer_groups_shows_lag_members_and_state", groups::shows_lag_members_and_state),
    ("kafka_consumer_groups_resets_and_deletes", groups::resets_and_deletes),
    ("kafka_get_offsets_finds_ends_and_timestamps", offsets::finds_ends_and_timestamps),
    ("kafka_configs_describes_topics_and_brokers", configs::describes_topics_and_brokers),
    ("kafka_configs_makes_users_who_can_log_in", configs::makes_users_who_can_log_in),
    ("perf_tests_move_megabytes_across", perf::move_megabytes_across),
    ("cluster_tools_see_one_cluster", cluster::see_one_cluster),
];

/// The names under which Kafka installs its tools, and the classes that those scripts run.
const MAIN_CLASSES: [(&str, &str); 11] = [
    ("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
    ("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
    ("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
];

/// Words of a line that tells of trouble: levels of the log, stack traces, and what the tools print by themselves.
const COMPLAINTS: [&str; 6] = ["WARN", "ERROR", "Error", "Exception", "Failed", "deprecated"];

/// The console consumer ends in this way, and successfully, when it has waited long enough.
const TIMED_OUT: [&str; 2] =
    ["Error processing message, terminating consumer process", "org.apache.kafka.common.errors.TimeoutException"];

/// The tools, as jars.
#[derive(Debug)]
pub struct Tools {
    jars: PathBuf,
}

impl Tools {
    /// The tools whose jars, with all that they need, lie in this folder.
    pub fn new(jars: &Path) -> Self {
        Self { jars: jars.to_path_buf() }
    }

    /// Runs a tool against a broker, expects success without a complaint, and returns what it printed. The options stand
    /// as they are typed, divided by spaces.
    #[track_caller]
    fn run(&self, tool: &str, broker: &str, options: &str) -> String {
        self.feed(tool, broker, options, "")
    }

    /// The same, with lines for the tool to read.
    #[track_caller]
    fn feed(&self, tool: &str, broker: &str, options: &str, lines: &str) -> String {
        self.finish(tool, broker, options, lines, &[]).text()
    }

    /// Runs a tool that succeeds with complaints of these kinds at most.
    #[track_caller]
    fn finish(&self, tool: &str, broker: &str, options: &str, lines: &str, allowed: &[&str]) -> Finished {
        let what = format!("{tool} {options}");
        let finished = self.try_run(tool, broker, options, lines).expect_success(&what);
        let complaints = complaints(&finished, allowed);
        assert!(complaints.is_empty(), "{what} complains: {complaints:#?}\nof\n{}", finished.text());
        finished
    }

    /// Runs a tool that is to fail, and returns what it printed.
    #[track_caller]
    fn run_refused(&self, tool: &str, broker: &str, options: &str) -> String {
        let finished = self.try_run(tool, broker, options, "");
        assert!(!finished.status.success(), "{tool} {options} is to fail, and said {}", finished.text());
        finished.text()
    }

    fn try_run(&self, tool: &str, broker: &str, options: &str, lines: &str) -> Finished {
        let class = MAIN_CLASSES.iter().find(|(name, _)| *name == tool).expect("a tool of the table").1;
        let mut command = Command::new("java");
        command.args(JAVA_OPTIONS).arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.arg("-cp").arg(self.jars.join("*")).arg(class);
        // The only one that takes its command first.
        let (verb, options) = if tool == "kafka-cluster" { (Some(options), "") } else { (None, options) };
        command.args(verb).args(["--bootstrap-server", broker]).args(options.split_whitespace());
        command::run(command.env_remove("LD_LIBRARY_PATH"), lines.as_bytes(), LIMIT)
    }
}

/// The lines that tell of trouble, but for what is allowed.
fn complaints(finished: &Finished, allowed: &[&str]) -> Vec<String> {
    let said = finished.text();
    let complains = |line: &&str| COMPLAINTS.iter().any(|word| line.contains(word));
    let unexpected = |line: &&str| !allowed.iter().any(|words| line.contains(words));
    said.lines().chain(finished.stderr.lines()).filter(complains).filter(unexpected).map(str::to_owned).collect()
}

/// The words of every line of a table that begins with these ones.
fn rows<'a>(table: &'a str, first: &[&str]) -> Vec<Vec<&'a str>> {
    let words = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|row| row.starts_with(first)).collect()
}

/// Text in lines, sorted: partitions are read in no particular order.
fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

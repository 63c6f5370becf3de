//! The command line.

mod client;
mod dev;
mod evidence;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use waybill_gateway::telemetry::LogFormat;

/// A Kafka-compatible broker for organisations that exchange data and do not trust each other.
#[derive(Debug, Parser)]
#[command(name = "waybill", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a network of four organisations in one process, to try Waybill.
    Dev(DevArguments),
    /// Proofs of delivery that verify offline.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Tell the story of a topic's offsets from the global ledger.
    Audit(AuditArguments),
}

#[derive(Debug, clap::Args)]
struct DevArguments {
    /// The first organisation's Kafka port; the others follow in steps of 100, and each node's HTTP port is one above
    /// its Kafka port. 0 lets the system choose.
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// Where the network is kept.
    #[arg(long, default_value = "./waybill-data")]
    data_dir: PathBuf,
    /// Keep the network in a temporary directory and remove it at the end.
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Leave this organisation's node off, to see that the others go on. May be repeated.
    #[arg(long, value_name = "ORG")]
    without: Vec<String>,
    /// Run this organisation's node alone, the others being run by other processes with the same data directory: start one,
    /// wait for its ports.json there, then start the others. May be repeated.
    #[arg(long, value_name = "ORG", conflicts_with = "ephemeral")]
    only: Vec<String>,
    /// How many partitions a topic gets that does not say, as one that a client creates by writing to it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    num_partitions: i32,
    /// How long an empty consumer group waits for more members before its first generation, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=60_000))]
    group_initial_rebalance_delay_ms: u64,
    /// Open listeners with TLS and log-in as well: SSL, SASL_PLAINTEXT and SASL_SSL are two, three and four above each
    /// Kafka port. The certificates' authority is in DATA_DIR/ORG/tls/ca.pem.
    #[arg(long)]
    secure: bool,
    /// Make a user who can log in, or give one a new password. May be repeated. The list of processes shows it: passwords
    /// that matter are set by kafka-configs.
    #[arg(long, value_name = "ORG:NAME:PASSWORD", requires = "secure")]
    user: Vec<String>,
    /// How log lines look.
    #[arg(long, value_enum, default_value = "human")]
    log_format: LogFormat,
}

/// Which running node to ask.
#[derive(Debug, clap::Args)]
struct NodeArguments {
    /// A node's HTTP address, host:port. The default is a node of the `waybill dev` network in the data directory.
    #[arg(long, value_name = "HOST:PORT")]
    node: Option<String>,
    /// The data directory of `waybill dev`.
    #[arg(long, default_value = "./waybill-data")]
    data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum ReceiptCommand {
    /// Ask a running node for the receipt of one offset.
    Export {
        /// The topic.
        #[arg(long)]
        topic: String,
        /// The partition.
        #[arg(long)]
        partition: u32,
        /// The offset of a record.
        #[arg(long)]
        offset: i64,
        /// The file to write.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        node: NodeArguments,
    },
    /// Verify a receipt, offline, and say in plain words what it proves.
    Verify {
        /// The receipt.
        file: PathBuf,
        /// The network's genesis file.
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct AuditArguments {
    /// The topic.
    #[arg(long)]
    topic: String,
    /// One partition only.
    #[arg(long)]
    partition: Option<u32>,
    /// As JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArguments,
}

/// Parses, does, and says in one sentence what went wrong.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Dev(arguments) => dev::run(arguments),
        Command::Receipt(ReceiptCommand::Export { topic, partition, offset, output, node }) => {
            evidence::export(&topic, partition, offset, &output, &node)
        }
        Command::Receipt(ReceiptCommand::Verify { file, genesis }) => evidence::verify(&file, &genesis),
        Command::Audit(arguments) => evidence::audit(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("waybill: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// What a command that failed says.
type Reason = String;

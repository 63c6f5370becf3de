//! Logs and metrics of the process.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `RUST_LOG` chooses what; the default is `info`.
pub fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // What these libraries call information is noise to an operator, and openraft calls it an error each time that
        // a member does not answer: our links say so once.
        EnvFilter::new("info,openraft=error,openraft::replication=off,sled=warn")
    });
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call changes nothing: tests start several networks in one process.
    let _ = match format {
        LogFormat::Human => logs.with_ansi(std::io::stderr().is_terminal()).try_init().map_err(drop),
        LogFormat::Json => logs.json().flatten_event(true).try_init().map_err(drop),
    };
}

/// Starts counting. What was counted is rendered by the handle, in Prometheus' text form.
pub fn metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // A second recorder counts for itself alone: only tests have one.
    let _ = metrics::set_global_recorder(recorder);
    handle
}

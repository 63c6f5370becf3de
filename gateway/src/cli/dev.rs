//! `waybill dev`.

use super::{DevArguments, Reason};
use tokio::signal::unix::{SignalKind, signal};
use waybill_gateway::dev::{Dev, Options, User};
use waybill_gateway::telemetry;

/// Runs until Ctrl-C or SIGTERM.
pub(super) fn run(arguments: DevArguments) -> Result<(), Reason> {
    telemetry::log(arguments.log_format);
    let metrics = telemetry::metrics();
    // Held to the end: it is removed when it is dropped.
    let temporary = if arguments.ephemeral {
        Some(tempfile::Builder::new().prefix("waybill-").tempdir().map_err(|error| error.to_string())?)
    } else {
        None
    };
    let data_dir = temporary.as_ref().map_or(arguments.data_dir, |dir| dir.path().to_path_buf());
    let users: Result<Vec<User>, _> = arguments.user.iter().map(|user| user.parse()).collect();
    let options = Options {
        port: arguments.port,
        without: arguments.without,
        only: arguments.only,
        default_partitions: arguments.num_partitions,
        initial_rebalance_delay_ms: arguments.group_initial_rebalance_delay_ms,
        secure: arguments.secure,
        users: users.map_err(|error| error.to_string())?,
        ..Options::new(data_dir)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime does not start: {error}"))?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let dev = tokio::select! {
            started = Dev::start(options, metrics) => started.map_err(|error| error.to_string())?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        println!("{}", dev.banner());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        dev.shutdown().await;
        Ok(())
    })
}

//! `waybill receipt` and `waybill audit`.

use super::client::{Preferred, get};
use super::{AuditArguments, NodeArguments, Reason};
use hyper::StatusCode;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use waybill_ledger::genesis::Genesis;
use waybill_ledger::receipt;

/// How long an export waits for evidence to come under a certificate.
const EXPORT_PATIENCE: Duration = Duration::from_secs(10);
const EXPORT_PAUSE: Duration = Duration::from_millis(200);

/// Asks a node for a receipt, and writes it to a file.
pub(super) fn export(
    topic: &str,
    partition: u32,
    offset: i64,
    output: &Path,
    node: &NodeArguments,
) -> Result<(), Reason> {
    let address = node.address(Preferred::Trader)?;
    let path = format!("/v1/receipts/{topic}/{partition}/{offset}");
    let receipt = runtime()?.block_on(async {
        let deadline = Instant::now() + EXPORT_PATIENCE;
        loop {
            let mut receipt = Vec::new();
            let answered = get(&address, &path, |bytes| {
                receipt.extend_from_slice(bytes);
                Ok(())
            })
            .await?;
            match answered {
                Ok(()) => return Ok(receipt),
                Err((StatusCode::TOO_EARLY, _)) if Instant::now() < deadline => {}
                Err((_, reason)) => return Err(reason),
            }
            tokio::time::sleep(EXPORT_PAUSE).await;
        }
    })?;
    fs::write(output, &receipt).map_err(|error| format!("{}: {error}", output.display()))?;
    say(format_args!(
        "receipt for {topic}-{partition} offset {offset}: {} bytes in {}",
        receipt.len(),
        output.display()
    ))
}

/// Verifies a receipt without asking anybody, and tells its story.
pub(super) fn verify(file: &Path, genesis: &Path) -> Result<(), Reason> {
    let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let text = String::from_utf8(text).map_err(|_| format!("{}: not a receipt: it is not text", file.display()))?;
    let genesis = Genesis::load(genesis).map_err(|error| error.to_string())?;
    let story =
        receipt::verify(&text, &genesis).map_err(|error| format!("{} proves nothing: {error}", file.display()))?;
    say(format_args!("{story}"))
}

/// Prints the audit of a topic.
pub(super) fn audit(arguments: &AuditArguments) -> Result<(), Reason> {
    let address = arguments.node.address(Preferred::Witness)?;
    let format = if arguments.json { "json" } else { "table" };
    let partition = arguments.partition.map(|partition| format!("&partition={partition}")).unwrap_or_default();
    let path = format!("/v1/audit/{}?format={format}{partition}", arguments.topic);
    let mut out = std::io::stdout().lock();
    let answered = runtime()?.block_on(get(&address, &path, |bytes| out.write_all(bytes).map_err(unwritten)))?;
    answered.map_err(|(_, reason)| reason)?;
    out.flush().map_err(unwritten)
}

/// Prints a line. A reader that has gone, as `head` does, is no reason to panic.
fn say(text: std::fmt::Arguments<'_>) -> Result<(), Reason> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> Reason {
    format!("the output cannot be written: {error}")
}

fn runtime() -> Result<tokio::runtime::Runtime, Reason> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("the runtime does not start: {error}"))
}

//! Copies certified blocks of local ledgers into the global ledger (the paper's 4.3), in batches.
//!
//! The paper's three steps: of each partition, find the last copied block, look for new ones, copy them. Here a stable
//! checkpoint says when to look, the global ledger itself says what was copied, and only whole certified ranges are. The
//! primary's node copies; another does if the primary's has not for a while. Copying twice does no harm: the global
//! ledger skips what it has.

use crate::node::Shared;
use crate::raft::COMMAND_BYTES_MAX;
use crate::replica::ReplicaHandle;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use waybill_ledger::global::{Anchor, Answer, Command};
use waybill_types::{Codec, Height, LedgerId};

/// After a pass, stable checkpoints gather for so long before the next: at most 20 passes a second.
const PASS_INTERVAL: Duration = Duration::from_millis(50);
/// How long the primary's node is given before another one copies.
const STEP_IN_AFTER: Duration = Duration::from_secs(2);
/// One command copies about this much.
const ANCHOR_BYTES: usize = 1 << 20;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until the node stops.
pub(crate) async fn drive(shared: Arc<Shared>, mut stable: mpsc::UnboundedReceiver<LedgerId>) {
    let mut stop = shared.stopped();
    // Which ledgers have certified blocks that the global ledger may lack, and since when.
    let mut lagging: BTreeMap<LedgerId, Instant> = BTreeMap::new();
    loop {
        let next_look = if lagging.is_empty() { Duration::from_secs(3600) } else { STEP_IN_AFTER / 4 };
        tokio::select! {
            ledger = stable.recv() => match ledger {
                Some(ledger) => drop(lagging.entry(ledger).or_insert_with(Instant::now)),
                None => return,
            },
            () = tokio::time::sleep(next_look) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        while let Ok(ledger) = stable.try_recv() {
            lagging.entry(ledger).or_insert_with(Instant::now);
        }
        tokio::select! {
            () = pass(&shared, &mut lagging) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::time::sleep(PASS_INTERVAL).await;
    }
}

async fn pass(shared: &Shared, lagging: &mut BTreeMap<LedgerId, Instant>) {
    for (ledger, since) in lagging.clone() {
        let Some(replica) = shared.replica(ledger) else {
            lagging.remove(&ledger);
            continue;
        };
        let progress = *replica.progress().borrow();
        let copied = shared.global.height(ledger);
        if copied >= progress.stable {
            lagging.remove(&ledger);
            continue;
        }
        if !progress.primary && since.elapsed() < STEP_IN_AFTER {
            continue;
        }
        match copy(shared, &replica, copied).await {
            Ok(height) if height >= progress.stable => drop(lagging.remove(&ledger)),
            Ok(height) if height > copied => drop(lagging.insert(ledger, Instant::now())),
            Ok(_) => {}
            Err(reason) => {
                tracing::debug!(%ledger, %reason, "blocks could not be copied into the global ledger yet");
            }
        }
    }
}

/// Copies certified ranges until the newest certificate; returns the last copied height.
async fn copy(shared: &Shared, replica: &ReplicaHandle, copied: Height) -> Result<Height, String> {
    let mut copied = copied;
    loop {
        let reader = replica.reader.clone();
        let built = tokio::task::spawn_blocking(move || build(&reader, copied)).await;
        let Some((command, last)) = built.map_err(|error| error.to_string())?? else { return Ok(copied) };
        let answer = shared.write_global(command, WRITE_TIMEOUT).await.map_err(|error| error.to_string())?;
        match Answer::from_bytes(&answer).map_err(|error| error.to_string())? {
            Answer::Anchored(height) if height > copied => copied = height,
            Answer::Anchored(height) => return Ok(height),
            Answer::Rejected(rejected) => return Err(format!("blocks {} to {last}: {rejected}", copied + 1)),
        }
        metrics::counter!("waybill_anchored_commands_total").increment(1);
    }
}

/// The next range: as many blocks as one command carries, through the certificate that covers them.
fn build(reader: &waybill_ledger::partition::Reader, copied: Height) -> Result<Option<(bytes::Bytes, Height)>, String> {
    let text = |error: waybill_ledger::partition::ReadError| error.to_string();
    let Some(newest) = reader.latest_certificate() else { return Ok(None) };
    let newest = newest.checkpoint.height;
    if newest <= copied {
        return Ok(None);
    }
    let mut blocks = reader.blocks(copied + 1, newest, ANCHOR_BYTES).map_err(text)?;
    let Some(fits) = blocks.last().map(|block| block.header.height) else { return Ok(None) };
    let Some(certificate) = reader.certificate_covering(fits).map_err(text)? else { return Ok(None) };
    let end = certificate.checkpoint.height;
    if end > fits {
        blocks.extend(reader.blocks(fits + 1, end, COMMAND_BYTES_MAX).map_err(text)?);
    }
    if blocks.last().map(|block| block.header.height) != Some(end) {
        return Err(format!("the blocks through height {end} are more than one command carries"));
    }
    let ledger = reader.ledger();
    let command = Command::Anchor(Anchor { ledger, blocks, certificate: certificate.as_ref().clone() });
    Ok(Some((command.to_bytes(), end)))
}

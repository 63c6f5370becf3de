//! Certified blocks from peers: for a replica that votes cannot bring forward any more.
//!
//! The asker trusts nobody: blocks count only as a gapless chain from its own head to a certificate of its cluster.

use crate::peers::{Peers, Service};
use crate::replica::{fetched_record, stream_of};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use waybill_ledger::journal::{Journal, Position};
use waybill_ledger::partition::{Reader, Tip, verify_range};
use waybill_types::{Block, Certificate, Codec, Height, LedgerId, Membership, NodeId, codec_struct};

/// One answer holds about this many bytes of blocks, far below a link's frame limit.
const ANSWER_BYTES: usize = 8 << 20;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a replica lacks.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) ledger: LedgerId,
    pub(crate) membership: Membership,
    /// Where our own chain ends.
    pub(crate) tip: Tip,
    /// The certified height that others have reached.
    pub(crate) target: Height,
    /// Who has the blocks.
    pub(crate) candidates: Vec<NodeId>,
}

/// Verified blocks, with the places of their bodies in our journal.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) blocks: Vec<(Block, Position)>,
    pub(crate) certificate: Certificate,
}

/// Asks for the blocks after `from`, through the first certificate that ends a range worth sending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    ledger: LedgerId,
    from: Height,
    /// The range's end, when an earlier answer has fixed it.
    to: Option<Height>,
}
codec_struct!(Request { ledger, from, to });

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    blocks: Vec<Block>,
    certificate: Option<Certificate>,
}
codec_struct!(Answer { blocks, certificate });

/// Answers a peer's request from what we have under certificates.
pub(crate) fn serve(request: &Bytes, reader_of: impl Fn(LedgerId) -> Option<Reader>) -> Option<Bytes> {
    let request = Request::from_bytes(request).ok()?;
    let reader = reader_of(request.ledger)?;
    let mut answer = Answer { blocks: Vec::new(), certificate: None };
    let latest = reader.latest_certificate()?;
    let end = request.to.unwrap_or(latest.checkpoint.height).min(latest.checkpoint.height);
    answer.blocks = reader.blocks(request.from, end, ANSWER_BYTES).ok()?;
    let last = answer.blocks.last()?.header.height;
    if request.to.is_none() {
        // The nearest certificate at or above what fits: the asker gets the rest of that range with `to`.
        answer.certificate = Some(reader.certificate_covering(last).ok().flatten()?.as_ref().clone());
    }
    Some(answer.to_bytes())
}

/// Fetches, verifies and journals blocks; none if no candidate could help.
pub(crate) async fn fetch(peers: &Peers, journal: &Arc<Journal>, wanted: Wanted) -> Option<Fetched> {
    for candidate in &wanted.candidates {
        let Some((mut blocks, certificate)) = fetch_from(peers, *candidate, &wanted).await else { continue };
        let end = certificate.checkpoint.height;
        blocks.retain(|block| block.header.height <= end);
        let verified = verify_range(&wanted.tip, &blocks, &certificate, &wanted.membership);
        if let Err(error) = verified {
            tracing::warn!(ledger = %wanted.ledger, peer = %candidate, %error, "a peer's blocks prove nothing");
            continue;
        }
        let positions = store(journal, wanted.ledger, &blocks).await?;
        tracing::info!(ledger = %wanted.ledger, peer = %candidate, blocks = blocks.len(), target = wanted.target, "caught up");
        return Some(Fetched { blocks: blocks.into_iter().zip(positions).collect(), certificate });
    }
    None
}

async fn fetch_from(peers: &Peers, peer: NodeId, wanted: &Wanted) -> Option<(Vec<Block>, Certificate)> {
    let ask = async |from, to| {
        let request = Request { ledger: wanted.ledger, from, to }.to_bytes();
        let answer = peers.call(peer, Service::Blocks, request, ANSWER_TIMEOUT).await.ok()?;
        Answer::from_bytes(&answer).ok()
    };
    let first = ask(wanted.tip.height + 1, None).await?;
    let certificate = first.certificate?;
    let mut blocks = first.blocks;
    while let Some(last) = blocks.last().map(|block| block.header.height)
        && last < certificate.checkpoint.height
    {
        let more = ask(last + 1, Some(certificate.checkpoint.height)).await?;
        if more.blocks.first()?.header.height != last + 1 {
            return None;
        }
        blocks.extend(more.blocks);
    }
    Some((blocks, certificate))
}

/// Bodies are stored once, in the journal: the ledger refers to them there.
async fn store(journal: &Arc<Journal>, ledger: LedgerId, blocks: &[Block]) -> Option<Vec<Position>> {
    let records =
        blocks.iter().map(|block| (stream_of(ledger), fetched_record(block.header.height, block.body.clone())));
    let (stored, positions) = oneshot::channel();
    let done = move |positions: &[Position]| {
        // The fetch may have been given up.
        let _ = stored.send(positions.to_vec());
    };
    journal.append_batch(records.collect(), done).ok()?;
    positions.await.ok()
}

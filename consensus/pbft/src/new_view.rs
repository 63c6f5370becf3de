//! What a view change proves, and what follows from a quorum of them (4.4): the same at every replica.

use crate::config::Config;
use crate::io::Signatures;
use crate::log::Content;
use crate::message::{NewView, NewViewContent, Prepared, Proposal, ViewChange, ViewChangeContent};
use crate::vote::{Keys, Kind};
use crate::{ReplicaIndex, Sequence};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use waybill_types::{Certificate, Codec, Digest, Signature};

/// A view change's content whose every certificate has been verified.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The stable checkpoint's sequence (n).
    pub low: Sequence,
    /// Its certificate (C); none at the base.
    pub stable: Option<Certificate>,
    /// Prepared certificates (P), ascending by sequence.
    pub prepared: Vec<Prepared>,
}

/// Verifies all that a view change claims. Its own signature has been verified.
pub(crate) fn prove<S: Signatures>(config: &Config, keys: &mut Keys<S>, message: &ViewChange) -> Option<Claim> {
    let ViewChangeContent { stable, prepared } = ViewChangeContent::from_bytes(&message.content).ok()?;
    let low = stable.as_ref().map_or(config.base, |certificate| certificate.checkpoint.height);
    if let Some(certificate) = &stable {
        let checkpoint = &certificate.checkpoint;
        let ours = checkpoint.network == config.network
            && checkpoint.ledger == config.ledger
            && checkpoint.cluster == config.cluster
            && checkpoint.epoch == config.membership.epoch;
        if !ours || low <= config.base || !keys.verifies_certificate(certificate, config.quorum()) {
            return None;
        }
    }
    let high = low.saturating_add(config.log_length());
    let ascending = prepared.is_sorted_by(|left, right| left.sequence < right.sequence);
    let within = prepared
        .iter()
        .all(|prepared| prepared.sequence > low && prepared.sequence <= high && prepared.view < message.view);
    let proven = ascending && within && prepared.iter().all(|prepared| is_prepared(config, keys, prepared));
    proven.then_some(Claim { low, stable, prepared })
}

/// Whether a prepared certificate holds: the primary's signature, and those of a quorum less one of distinct backups, all
/// over the same view, sequence and digest. A primary's prepare never counts.
pub(crate) fn is_prepared<S: Signatures>(config: &Config, keys: &mut Keys<S>, prepared: &Prepared) -> bool {
    let Prepared { view, sequence, digest, proposal, prepares } = prepared;
    let primary = config.primary(*view);
    let verifies = |keys: &mut Keys<S>, index: ReplicaIndex, kind: Kind, signature: &Signature| {
        keys.verifies(index, (kind, *view, *sequence, digest), signature)
    };
    prepares.len() == config.quorum() - 1
        && prepares.is_sorted_by(|left, right| left.0 < right.0)
        && prepares.iter().all(|(index, _)| *index != primary)
        && verifies(keys, primary, Kind::PrePrepare, proposal)
        && prepares.iter().all(|(index, signature)| verifies(keys, *index, Kind::Prepare, signature))
}

/// What a new view proposes: min-s is the highest proven stable checkpoint, max-s the highest prepared sequence, and each
/// sequence between gets the digest of its certificate of the highest view, or the null request. Sequence 1 never is
/// null: there is one body only that it can have.
pub(crate) fn choose(config: &Config, claims: &[Claim]) -> (Option<Certificate>, Vec<(Sequence, Digest)>) {
    let highest = claims.iter().max_by_key(|claim| claim.low);
    let min = highest.map_or(config.base, |claim| claim.low);
    let mut best: BTreeMap<Sequence, &Prepared> = BTreeMap::new();
    for prepared in claims.iter().flat_map(|claim| &claim.prepared).filter(|prepared| prepared.sequence > min) {
        let place = best.entry(prepared.sequence).or_insert(prepared);
        if prepared.view > place.view {
            *place = prepared;
        }
    }
    let max = best.last_key_value().map_or(min, |(sequence, _)| *sequence);
    let null = Content::null().digest;
    let chosen = (min + 1..=max).map(|sequence| {
        let gap = if sequence == 1 { config.first_digest() } else { null };
        (sequence, best.get(&sequence).map_or(gap, |prepared| prepared.digest))
    });
    (highest.and_then(|claim| claim.stable.clone()), chosen.collect())
}

/// Verifies an opening: a quorum of proven view changes for its view, and exactly the proposals that follow from them.
/// What is cheap comes first, and what needs a quorum's signatures before what needs many.
pub(crate) fn verify_opening<S: Signatures>(
    config: &Config,
    keys: &mut Keys<S>,
    message: &NewView,
) -> Result<(Option<Certificate>, Vec<Proposal>), &'static str> {
    let view = message.view;
    let primary = config.primary(view);
    let digest = NewView::digest(&message.content);
    if !keys.verifies(primary, (Kind::NewView, view, 0, &digest), &message.signature) {
        return Err("a new view that its primary has not signed");
    }
    let NewViewContent { view_changes, proposals } =
        NewViewContent::from_bytes(&message.content).map_err(|_| "a new view that does not decode")?;
    let quorum = view_changes.len() == config.quorum()
        && view_changes.is_sorted_by(|left, right| left.replica < right.replica)
        && view_changes.iter().all(|view_change| view_change.view == view);
    let signed = quorum
        && view_changes.iter().all(|view_change| {
            let digest = ViewChange::digest(&view_change.content);
            keys.verifies(view_change.replica, (Kind::ViewChange, view, 0, &digest), &view_change.signature)
        });
    if !signed {
        return Err("a new view without a quorum of view changes");
    }
    let claims: Option<Vec<Claim>> = view_changes.iter().map(|view_change| prove(config, keys, view_change)).collect();
    let claims = claims.ok_or("a new view with a view change that proves nothing")?;
    let (stable, chosen) = choose(config, &claims);
    let same = proposals.iter().map(|proposal| (proposal.sequence, proposal.digest)).eq(chosen);
    let signed = same
        && proposals.iter().all(|proposal| {
            let vote = (Kind::PrePrepare, view, proposal.sequence, &proposal.digest);
            keys.verifies(primary, vote, &proposal.signature)
        });
    if signed { Ok((stable, proposals)) } else { Err("a new view that does not follow from its view changes") }
}

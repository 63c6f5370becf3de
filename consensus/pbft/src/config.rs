//! What one replica of one epoch is told when it starts. Nothing here changes while it runs, except the origins.

use crate::{ReplicaIndex, Sequence, View};
use alloc::collections::BTreeMap;
use bytes::Bytes;
use core::fmt;
use waybill_types::digest::Hasher;
use waybill_types::membership::{Membership, faults, quorum};
use waybill_types::{Body, ClusterId, Codec, Digest, LedgerId, NetworkId, NodeId, PublicKey};

/// One replica's place, and the rules that all replicas of its cluster share.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network.
    pub network: NetworkId,
    /// The ledger that the cluster orders.
    pub ledger: LedgerId,
    /// The cluster: network, ledger and first body together.
    pub cluster: ClusterId,
    /// The epoch and its replicas. A `Replica` lives in one epoch; the next epoch has another one.
    pub membership: Membership,
    /// Our place in the membership.
    pub me: ReplicaIndex,
    /// The last sequence of the epoch before; 0 in the first epoch. It counts as stable without a certificate of ours.
    pub base: Sequence,
    /// Every node that may submit, with its key. [`Input::SetOrigins`](crate::Input::SetOrigins) replaces them.
    pub origins: BTreeMap<NodeId, PublicKey>,
    /// The encoded body of sequence 1, the only one acceptable there.
    pub first_body: Bytes,
    /// A checkpoint is made at every sequence that this divides (the paper's K), besides those that a body asks for.
    pub checkpoint_interval: u64,
    /// How much is held and accepted.
    pub limits: Limits,
    /// How long things may take.
    pub timing: Timing,
}

/// How much a replica holds and accepts, so that no peer and no origin makes it grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many proposals of a primary may be unexecuted at a time. Smaller is larger batches.
    pub window: u64,
    /// The largest encoded body.
    pub body_bytes: usize,
    /// The most envelopes in a body.
    pub body_envelopes: usize,
    /// The most unexecuted envelopes held for one origin.
    pub origin_envelopes: usize,
    /// The most bytes of unexecuted envelopes held for one origin.
    pub origin_bytes: usize,
    /// The most bodies kept for one sequence: each view may have proposed another one.
    pub slot_bodies: usize,
    /// How many verified signatures are remembered, so that each is verified once.
    pub verified_signatures: usize,
    /// How many bodies a peer may fetch from us within one status interval.
    pub peer_fetches: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            window: 8,
            body_bytes: 1 << 20,
            body_envelopes: 4096,
            origin_envelopes: 4096,
            origin_bytes: 8 << 20,
            slot_bodies: 8,
            verified_signatures: 1 << 14,
            peer_fetches: 32,
        }
    }
}

/// How long things may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Without progress for so long, a replica asks for the next view. It doubles with each failed view.
    pub view_timeout_ms: u64,
    /// How often it doubles at most.
    pub view_timeout_doublings_max: u32,
    /// An own submission that is not executed after this goes to all replicas.
    pub complaint_timeout_ms: u64,
    /// The primary covers executed blocks with a checkpoint when nothing has followed them for so long, and asks for no
    /// more checkpoints than one in this time while the queue keeps running empty.
    pub checkpoint_idle_ms: u64,
    /// Without progress for so long while something is awaited, a replica tells the others what it has.
    pub status_interval_ms: u64,
    /// A body that did not come is asked from the next peer after this.
    pub fetch_retry_ms: u64,
    /// Without progress for so long behind a certified checkpoint, the shell is asked to fetch blocks, and again.
    pub sync_delay_ms: u64,
    /// How far a fresh proposal's time may be from our clock.
    pub proposed_time_tolerance_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            view_timeout_ms: 1000,
            view_timeout_doublings_max: 6,
            complaint_timeout_ms: 400,
            checkpoint_idle_ms: 20,
            status_interval_ms: 250,
            fetch_retry_ms: 100,
            sync_delay_ms: 200,
            proposed_time_tolerance_ms: 60_000,
        }
    }
}

/// Why a replica cannot start from a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Our index is not one of the membership, or there are more than 100 members.
    Membership,
    /// The first body is not a canonical [`Body`].
    FirstBody,
    /// The cluster is not the one of this network, ledger and first body.
    Cluster,
    /// A limit or an interval is zero, or beyond what makes sense (a day, a million).
    Range,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigError::Membership => "our index is not one of the membership",
            ConfigError::FirstBody => "the first body is not canonically encoded",
            ConfigError::Cluster => "the cluster is not that of this network, ledger and first body",
            ConfigError::Range => "a limit or an interval is zero, or beyond what makes sense",
        })
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Checks what a replica relies on.
    pub fn check(&self) -> Result<(), ConfigError> {
        const MEMBERS_MAX: usize = 100;
        if usize::from(self.me) >= self.n() || self.n() > MEMBERS_MAX {
            return Err(ConfigError::Membership);
        }
        Body::from_bytes(&self.first_body).map_err(|_| ConfigError::FirstBody)?;
        if self.cluster != ClusterId::new(self.network, self.ledger, Body::digest(&self.first_body)) {
            return Err(ConfigError::Cluster);
        }
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        const COUNT_MAX: u64 = 1_000_000;
        let Timing { view_timeout_ms, view_timeout_doublings_max, complaint_timeout_ms, .. } = self.timing;
        let Timing { checkpoint_idle_ms, status_interval_ms, fetch_retry_ms, sync_delay_ms, .. } = self.timing;
        let intervals = [
            view_timeout_ms,
            complaint_timeout_ms,
            checkpoint_idle_ms,
            status_interval_ms,
            fetch_retry_ms,
            sync_delay_ms,
        ];
        let Limits { window, body_envelopes, origin_envelopes, slot_bodies, .. } = self.limits;
        let counts = [self.checkpoint_interval, window, body_envelopes as u64, origin_envelopes as u64];
        let sensible = intervals.iter().all(|interval| (1..=DAY_MS).contains(interval))
            && counts.iter().all(|count| (1..=COUNT_MAX).contains(count))
            && view_timeout_doublings_max <= 16
            && slot_bodies >= 4;
        if sensible { Ok(()) } else { Err(ConfigError::Range) }
    }

    /// How many replicas there are.
    pub fn n(&self) -> usize {
        self.membership.size()
    }

    /// How many of them may be faulty.
    pub fn f(&self) -> usize {
        faults(self.n())
    }

    /// How many of them decide.
    pub fn quorum(&self) -> usize {
        quorum(self.n())
    }

    /// How many sequences lie between the watermarks (the paper's L = 2K).
    pub fn log_length(&self) -> u64 {
        self.checkpoint_interval.saturating_mul(2)
    }

    /// The primary of a view: `(view + hash(ledger)) mod n`, so that the ledgers' primaries spread over the nodes.
    pub fn primary(&self, view: View) -> ReplicaIndex {
        let hash = Hasher::digest(b"waybill-primary-v1", &self.ledger.to_bytes()).0;
        let offset = u64::from(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]));
        let n = self.n().max(1) as u64;
        ((view % n + offset % n) % n) as ReplicaIndex
    }

    /// The indices of the other replicas.
    pub fn peers(&self) -> impl Iterator<Item = ReplicaIndex> + use<> {
        let me = self.me;
        (0..self.n() as ReplicaIndex).filter(move |index| *index != me)
    }

    /// The digest of the only body acceptable at sequence 1.
    pub fn first_digest(&self) -> Digest {
        Body::digest(&self.first_body)
    }

    /// The largest message that a peer has a reason to send: a full body, or a new view over full logs.
    pub fn message_bytes_limit(&self) -> usize {
        const FRAME_BYTES: usize = 4096;
        const VOTE_BYTES: usize = 65;
        const PROOF_BYTES: usize = 256;
        let proof = PROOF_BYTES + VOTE_BYTES * self.n();
        let view_change = FRAME_BYTES + VOTE_BYTES * self.n() + proof * self.log_length() as usize;
        let new_view = FRAME_BYTES + view_change * self.n() + PROOF_BYTES * self.log_length() as usize;
        new_view.max(self.limits.body_bytes.max(self.first_body.len()) + FRAME_BYTES)
    }
}

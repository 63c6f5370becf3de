//! What each organisation may have under way at once.

use crate::options::ServeOptions;
use crate::pull::allowance::ByteBudget;
use dashmap::DashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use waybill_types::OrgId;

/// One organisation's share.
#[derive(Debug)]
pub(super) struct Share {
    pub connections: Arc<Semaphore>,
    pub pulls: Arc<Semaphore>,
    pub bytes: ByteBudget,
}

/// Shares by organisation: only organisations of the network get so far, so there are few.
#[derive(Debug)]
pub(super) struct Limits {
    pub handshakes: Arc<Semaphore>,
    pub connections: Arc<Semaphore>,
    shares: DashMap<OrgId, Arc<Share>>,
    options: ServeOptions,
}

impl Limits {
    pub fn new(options: &ServeOptions) -> Self {
        Limits {
            handshakes: semaphore(options.handshakes_limit),
            connections: semaphore(options.connections_limit),
            shares: DashMap::new(),
            options: options.clone(),
        }
    }

    pub fn of(&self, org: &OrgId) -> Arc<Share> {
        let share = || {
            Arc::new(Share {
                connections: semaphore(self.options.connections_per_org_limit),
                pulls: semaphore(self.options.pulls_per_org_limit),
                bytes: ByteBudget::new(self.options.in_flight_bytes_per_org_limit),
            })
        };
        self.shares.entry(org.clone()).or_insert_with(share).clone()
    }
}

/// A permit, if there is one now.
pub(super) fn try_take(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.clone().try_acquire_owned().ok()
}

fn semaphore(limit: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)))
}

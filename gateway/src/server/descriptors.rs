//! File descriptors, which clients share with the stores: a journal that cannot open its next segment ends the node, so
//! clients must never have the last of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// What stores, links between nodes, pulls and the HTTP port of one process may need.
const RESERVED_MAX: u64 = 2_048;

/// How many clients the nodes of this process can have together. The soft limit is raised to the hard one, as JVMs do.
pub(super) static CLIENTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let clients = usize::try_from(clients_max(raised_limit())).unwrap_or(usize::MAX);
    tracing::debug!(clients, "file descriptors for clients");
    Arc::new(Semaphore::new(clients.min(Semaphore::MAX_PERMITS)))
});

/// A small limit is small for everybody, and the stores come first.
fn clients_max(descriptors: u64) -> u64 {
    descriptors - (descriptors / 4 * 3).min(RESERVED_MAX)
}

fn raised_limit() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // None is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_to_the_stores() {
        assert_eq!([0, 1, 200, 1_024].map(clients_max), [0, 1, 50, 256]);
        assert_eq!(clients_max(20_000), 20_000 - RESERVED_MAX);
        assert_eq!(clients_max(u64::MAX), u64::MAX - RESERVED_MAX);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = raised_limit();
        assert_eq!(getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX), limit);
        assert_eq!(CLIENTS.available_permits() as u64, clients_max(limit).min(Semaphore::MAX_PERMITS as u64));
    }
}

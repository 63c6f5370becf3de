//! A deterministic simulator around the production core: one heap of events, one seed, one run.
//!
//! A run has two phases. In the first, links lose, repeat, reorder, delay and part; disks are slow and forget what was not
//! synced; nodes crash and restart; up to f nodes are Byzantine. [`oracle`] checks safety after every event. In the second,
//! everything heals except the Byzantine nodes, and then every correct replica must converge, serve new requests and
//! miss none.
//!
//! # Layout
//! | module | holds |
//! |---|---|
//! | [`plan`] | what a seed stands for: limits, delays, faults |
//! | [`world`] | the event heap, links, nodes; a toy shell |
//! | `node` | one node: replica, disk, ledger |
//! | `byzantine` | what a faulty node does to its replica's messages |
//! | [`oracle`] | safety after every event, liveness at the end |
//! | [`keys`] | cheap signatures for bulk, Ed25519 for some |

mod byzantine;
pub mod keys;
pub(crate) mod ledger;
mod node;
pub mod oracle;
pub mod plan;
mod random;
pub mod world;

pub use plan::Plan;
pub use world::{Failure, Report, World};

/// Runs one seed for `n` replicas to its end.
pub fn run(seed: u64, n: usize, trace: bool) -> Result<Report, Failure> {
    World::new(Plan::from_seed(seed, n), trace).run()
}

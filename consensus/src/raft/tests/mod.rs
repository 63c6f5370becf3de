//! Groups of several members in one process, on real journals, over links that break when a test says so.
//!
//! | file | tells |
//! |---|---|
//! | `harness` | a machine that counts, links with faults, members that can be stopped and started |
//! | `suite` | openraft's own suite over our log and state machine |
//! | `storage` | what survives a crash: votes, torn tails, half-applied entries, lost files |
//! | `cluster` | leaders that go, members that come back, partitions, losses, snapshots |
//! | `hostile` | a member that lies |

mod cluster;
mod harness;
mod hostile;
mod storage;
mod suite;

//! Cases that a reader can follow, on a cluster whose links and disks the test commands; and a fixed set of the
//! simulator's seeds.
//!
//! | file | what it shows |
//! |---|---|
//! | `normal` | what counts towards a quorum, what must be durable first, what a backup refuses, equivocation |
//! | `checkpoints` | coverage, catch-up, lost last messages, divergence, certificates |
//! | `opening` | what a view change proves and a new view must propose, as functions |
//! | `view_changes` | replaced primaries, batches that come back, null requests, timeouts, censorship |
//! | `recovery` | restarts: identical votes, no second vote, what the journal must hold |
//! | `requests` | each envelope once, bounds on what peers and origins make us hold |
//! | `encoding` | golden vectors |
//! | `simulation` | seeds |

mod checkpoints;
mod cluster;
mod encoding;
mod normal;
mod opening;
mod recovery;
mod requests;
mod simulation;
mod view_changes;

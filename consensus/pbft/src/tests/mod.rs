//! Cases that a reader can follow, on a cluster whose links and disks the test commands. Everything else is the
//! simulator's business; its fixed seeds run here too.

mod checkpoints;
mod cluster;
mod encoding;
mod normal;
mod opening;
mod recovery;
mod requests;
mod simulation;
mod view_changes;

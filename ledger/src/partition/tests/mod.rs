//! The stories of one partition: blocks and their outcomes, what is read back, flushes and recovery, verification.

mod applying;
pub(super) mod fixture;
mod golden;
mod reading;
mod recovery;
mod verifying;

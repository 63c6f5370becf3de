//! Waybill's PBFT replica: Castro and Liskov's protocol with public-key signatures, without I/O, clock or threads.
//!
//! The shell drives `Replica<S: Signatures>` (being written against these types):
//! - `Replica::start(config, signatures, restored, now_ms, &mut outputs) -> Result<Self, StartError>`
//! - `replica.handle(now_ms, input, &mut outputs)`
//! - `replica.next_timeout() -> Option<u64>`: when to call `handle(_, Input::Tick, _)`, none when nothing is awaited
//! - `replica.room() -> usize`: how many own envelopes it takes now
//!
//! `now_ms` is milliseconds since 1970 and never falls within one run: a monotonic clock anchored at the start, or the
//! larger of the wall clock and the last value.
#![cfg_attr(not(feature = "simulator"), no_std)]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

extern crate alloc;

mod checkpoint;
mod config;
mod io;
mod journal;
mod log;
pub mod message;
mod new_view;
mod normal;
mod proposal;
pub mod record;
mod recover;
mod replica;
mod request;
#[cfg(feature = "simulator")]
pub mod simulator;
mod submissions;
mod sync;
mod timer;
mod view_change;
pub mod vote;

pub use config::{Config, ConfigError, Limits, Timing};
pub use io::{Event, Evidence, Input, Output, PersistId, Reason, Restored, Signatures, To};
pub use recover::StartError;
pub use replica::Replica;

/// A replica's place in its membership.
pub type ReplicaIndex = u8;
/// A view, from 0. Its primary is [`Config::primary`].
pub type View = u64;
/// A place in the order, from 1. It is the height of the block that its body becomes.
pub type Sequence = u64;

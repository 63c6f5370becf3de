//! A clock that never goes back: the wall clock at the start, and from there the machine's monotonic one.

use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Milliseconds since 1970, as the PBFT core and the ledgers count time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    /// Reads the wall clock, once.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_ms: wall.as_millis() as u64 }
    }

    /// Now.
    pub fn now_ms(&self) -> u64 {
        self.started_ms + self.started.elapsed().as_millis() as u64
    }

    /// When it will be `at_ms`.
    pub fn instant(&self, at_ms: u64) -> Instant {
        // A millisecond is cut off by `now_ms`: without it a timer would fire just before its time, again and again.
        self.started + std::time::Duration::from_millis(at_ms.saturating_sub(self.started_ms))
    }
}

//! Waiting for a condition, with a limit.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything that a healthy network does within seconds may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Asks again and again until there is an answer, and returns it. Panics at the limit, naming what was waited for.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "waited {} s in vain: {what}", limit.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

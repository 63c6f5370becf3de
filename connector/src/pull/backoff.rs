//! How long to wait before the next try: doubling pauses, each cut at random to half at least, so that those whom one
//! failure hit do not all come back at once.

use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, max: Duration) -> Self {
        Backoff { first, max, next: first }
    }

    /// After progress the next pause is short again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let whole = self.next.min(self.max);
        self.next = (whole * 2).min(self.max);
        let mut random = [0; 2];
        // Without random bytes the pause is whole.
        let cut = SystemRandom::new().fill(&mut random).map_or(0, |()| u32::from(u16::from_be_bytes(random)));
        whole - whole / 2 * cut / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_over_after_progress() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(400));
        for whole in [100, 200, 400, 400] {
            let pause = backoff.pause();
            assert!(pause > ms(whole / 2) && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(100));
    }
}

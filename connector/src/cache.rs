//! Recent payloads in memory, so that the hot end of a topic is neither read nor hashed again for each reader.

use crate::payload::Verified;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use waybill_types::Commitment;

/// Smaller payloads are copied into memory of their own: they arrive as slices of network buffers, and a slice keeps
/// its whole buffer alive.
const COMPACT_BELOW_BYTES: usize = 64 << 10;

/// A payload counts this much beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// A cache bounded in bytes; the one that was not used for longest goes first, nearly (second chance, also known as
/// the clock algorithm).
#[derive(Debug)]
pub(crate) struct PayloadCache {
    bytes_limit: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    entries: HashMap<Commitment, Entry>,
    order: VecDeque<Commitment>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    payload: Verified,
    used: bool,
}

impl PayloadCache {
    pub fn new(bytes_limit: usize) -> Self {
        PayloadCache { bytes_limit, held: Mutex::default() }
    }

    pub fn read(&self, commitment: &Commitment) -> Option<Verified> {
        let mut held = self.held.lock();
        let entry = held.entries.get_mut(commitment)?;
        entry.used = true;
        Some(entry.payload.clone())
    }

    /// Keeps a payload in memory, unless it would take more than a quarter of the room.
    pub fn keep(&self, payload: Verified) {
        let size = payload.size_bytes();
        if cost(size) > self.bytes_limit / 4 {
            return;
        }
        let payload = if size < COMPACT_BELOW_BYTES { payload.compact() } else { payload };
        let commitment = payload.commitment();
        let mut held = self.held.lock();
        if held.entries.insert(commitment, Entry { payload, used: false }).is_none() {
            held.order.push_back(commitment);
            held.bytes += cost(size);
        }
        while held.bytes > self.bytes_limit {
            held.drop_one();
        }
    }
}

fn cost(size_bytes: usize) -> usize {
    size_bytes + ENTRY_OVERHEAD_BYTES
}

impl Held {
    /// Drops the first payload that was not used since the hand last came by; ends because it takes the marks away.
    fn drop_one(&mut self) {
        while let Some(commitment) = self.order.pop_front() {
            let Some(entry) = self.entries.get_mut(&commitment) else { continue };
            if std::mem::take(&mut entry.used) {
                self.order.push_back(commitment);
                continue;
            }
            self.bytes -= cost(entry.payload.size_bytes());
            self.entries.remove(&commitment);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;
    use bytes::Bytes;
    use waybill_types::Salt;

    fn payload(fill: u8, size: usize) -> Verified {
        Payload::hash_here(vec![Bytes::from(vec![fill; size])], Salt([0; 32])).into_own()
    }

    #[test]
    fn stays_within_its_limit_and_prefers_what_is_used() {
        let cache = PayloadCache::new(10 * cost(1000));
        let payloads: Vec<_> = (0..30).map(|fill| payload(fill, 1000)).collect();
        for payload in &payloads {
            cache.keep(payload.clone());
            cache.read(&payloads[0].commitment());
            assert!(cache.held.lock().bytes <= 10 * cost(1000));
        }
        assert!(cache.read(&payloads[0].commitment()).is_some(), "used all the time");
        assert!(cache.read(&payloads[29].commitment()).is_some(), "the newest");
        assert!(cache.read(&payloads[5].commitment()).is_none());
        assert_eq!(cache.held.lock().order.len(), 10);
    }

    #[test]
    fn a_payload_that_would_push_out_most_others_is_not_kept() {
        let cache = PayloadCache::new(4000);
        cache.keep(payload(1, 2000));
        assert!(cache.read(&payload(1, 2000).commitment()).is_none());
    }

    #[test]
    fn what_is_kept_twice_counts_once() {
        let cache = PayloadCache::new(100_000);
        let payload = payload(1, 100);
        cache.keep(payload.clone());
        cache.keep(payload.clone());
        assert_eq!(cache.held.lock().bytes, cost(100));
    }
}

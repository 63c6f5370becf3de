//! Where each payload is: the newest positions in memory, all others in sled.
//!
//! Derived state. The journal stays the truth: each record's stream id is the beginning of its commitment, so a scan
//! of record headers, which reads no payload, builds the index anew. A mark in sled says up to where it is complete.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use waybill_ledger::journal::{Position, StreamId};
use waybill_types::Commitment;

/// The first half of a commitment. Two payloads with the same half cannot be found without 2^64 tries, and whoever
/// tries that with his own payloads makes one of them unreadable: the whole commitment is compared after reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    pub fn stream(self) -> StreamId {
        StreamId(self.0)
    }
}

impl From<&Commitment> for Key {
    fn from(commitment: &Commitment) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&commitment.0.0[..16]);
        Key(key)
    }
}

impl From<StreamId> for Key {
    fn from(stream: StreamId) -> Self {
        Key(stream.0)
    }
}

/// The key of the mark in sled; it is shorter than any payload's.
const MARK: &[u8] = b"indexed";

#[derive(Debug)]
pub(super) struct Index {
    recent: Mutex<Recent>,
    tree: sled::Tree,
    recent_limit: usize,
    /// Held while positions move: what one mover has stored, no other may take for its own.
    mover: Mutex<()>,
    /// Wakes whoever waits for room in memory.
    moved: Notify,
}

/// What is not in sled yet, in the order of the journal.
#[derive(Debug, Default)]
struct Recent {
    positions: HashMap<Key, Position>,
    order: VecDeque<(Key, Position)>,
    moving: bool,
}

impl Index {
    pub fn new(tree: sled::Tree, recent_limit: usize) -> Self {
        let (recent, mover) = (Mutex::default(), Mutex::default());
        Index { recent, tree, recent_limit: recent_limit.max(2), mover, moved: Notify::new() }
    }

    /// Up to where sled is complete.
    pub fn mark(&self) -> sled::Result<Option<Position>> {
        let mark = self.tree.get(MARK)?;
        Ok(mark.and_then(|mark| <[u8; Position::BYTES]>::try_from(mark.as_ref()).ok()).map(Position::from_bytes))
    }

    /// Forgets everything: it speaks of another journal.
    pub fn clear(&self) -> sled::Result<()> {
        self.tree.clear()
    }

    /// Notes a record that has become durable. Called in the order of the journal, and quick.
    pub fn insert(&self, key: Key, position: Position) {
        let mut recent = self.recent.lock();
        recent.positions.insert(key, position);
        recent.order.push_back((key, position));
    }

    /// Where a payload is. Reads from disk when it is not recent.
    pub fn position(&self, key: Key) -> sled::Result<Option<Position>> {
        if let Some(position) = self.recent.lock().positions.get(&key) {
            return Ok(Some(*position));
        }
        let stored = self.tree.get(key.0)?;
        Ok(stored.and_then(|bytes| <[u8; Position::BYTES]>::try_from(bytes.as_ref()).ok()).map(Position::from_bytes))
    }

    /// Whether it is time to [move](Self::move_to_sled) positions, and nobody does. Whoever is told so must do it.
    pub fn claim_move(&self) -> bool {
        let mut recent = self.recent.lock();
        let claimed = !recent.moving && recent.order.len() >= self.recent_limit / 2;
        recent.moving |= claimed;
        claimed
    }

    /// Whether memory may hold another position.
    pub fn has_room(&self) -> bool {
        self.recent.lock().order.len() < self.recent_limit
    }

    /// Resolves when positions have moved since this was called.
    pub fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// Moves what is in memory to sled, with the mark in the same batch.
    pub fn move_to_sled(&self) -> sled::Result<()> {
        let _one_at_a_time = self.mover.lock();
        let batch: Vec<_> = self.recent.lock().order.iter().copied().collect();
        let outcome = self.store(&batch);
        let mut recent = self.recent.lock();
        recent.moving = false;
        // After a failure they go as well: memory stays bounded, and the mark makes the next start find them again.
        for (key, position) in recent.order.drain(..batch.len()).collect::<Vec<_>>() {
            if recent.positions.get(&key) == Some(&position) {
                recent.positions.remove(&key);
            }
        }
        drop(recent);
        self.moved.notify_waiters();
        outcome
    }

    fn store(&self, entries: &[(Key, Position)]) -> sled::Result<()> {
        let Some((_, last)) = entries.last() else { return Ok(()) };
        let mut batch = sled::Batch::default();
        for (key, position) in entries {
            batch.insert(&key.0, &position.to_bytes());
        }
        batch.insert(MARK, &last.to_bytes());
        self.tree.apply_batch(batch)?;
        self.tree.flush().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    fn index(limit: usize) -> Index {
        Index::new(sled::Config::new().temporary(true).open().unwrap().open_tree("index").unwrap(), limit)
    }

    #[test]
    fn positions_are_found_in_memory_and_after_they_moved() {
        let index = index(8);
        for number in 0..4 {
            assert!(!index.claim_move());
            index.insert(Key([number; 16]), at(u32::from(number)));
        }
        assert!(index.claim_move(), "half full");
        assert!(!index.claim_move(), "somebody does it");
        index.insert(Key([9; 16]), at(9));
        index.insert(Key([1; 16]), at(10));
        index.move_to_sled().unwrap();
        assert!(index.recent.lock().order.is_empty());
        assert_eq!(index.mark().unwrap(), Some(at(10)));
        assert_eq!(index.position(Key([2; 16])).unwrap(), Some(at(2)));
        assert_eq!(index.position(Key([1; 16])).unwrap(), Some(at(10)), "kept again");
        assert_eq!(index.position(Key([5; 16])).unwrap(), None);
        index.clear().unwrap();
        assert_eq!(index.mark().unwrap(), None);
        assert_eq!(index.position(Key([2; 16])).unwrap(), None);
    }

    #[test]
    fn nothing_is_lost_however_many_move_at_once() {
        let index = index(1 << 20);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..10_000u32).for_each(|number| index.insert(key(number), at(number))));
            for _ in 0..3 {
                scope.spawn(|| (0..50).for_each(|_| index.move_to_sled().unwrap()));
            }
        });
        index.move_to_sled().unwrap();
        for number in 0..10_000 {
            assert_eq!(index.position(key(number)).unwrap(), Some(at(number)));
        }
        assert_eq!(index.mark().unwrap(), Some(at(9_999)));
    }

    fn key(number: u32) -> Key {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_be_bytes());
        Key(key)
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_woken_when_positions_have_moved() {
        let index = index(2);
        index.insert(Key([1; 16]), at(1));
        assert!(index.has_room());
        index.insert(Key([2; 16]), at(2));
        assert!(!index.has_room());
        let moved = index.moved();
        assert!(index.claim_move());
        index.move_to_sled().unwrap();
        moved.await;
        assert!(index.has_room());
    }
}

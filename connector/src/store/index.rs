//! Where each payload is: the newest positions in memory, all others in sled.
//!
//! Derived state. The journal stays the truth: each record's stream id is the beginning of its commitment, so a scan
//! of record headers, which reads no payload, builds the index anew. A mark in sled says up to where it is complete.
//!
//! An index that does not fit its journal is rebuilt without being emptied first: what it knew, and no record bears
//! out, is what was [lost](Lost).

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use waybill_ledger::journal::{Position, StreamId};
use waybill_types::Commitment;

/// The first half of a commitment. Two payloads with the same half cannot be found without 2^64 tries, and whoever
/// tries that with his own payloads makes one of them unreadable: the whole commitment is compared after reading.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    pub fn stream(self) -> StreamId {
        StreamId(self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

/// There while the index is rebuilt, so that a rebuilding which a crash ends begins again.
const REBUILDING: &[u8] = b"rebuilding";

/// Lost payloads whose keys are told; the others are counted.
const LOST_NAMED_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Index {
    recent: Mutex<Recent>,
    /// How many positions `recent` holds: each keep asks, and most need to know no more.
    recent_count: AtomicUsize,
    tree: sled::Tree,
    recent_limit: usize,
    /// Held while positions move: what one mover has stored, no other may take for its own.
    mover: Mutex<()>,
    /// Wakes whoever waits for room in memory.
    moved: Notify,
    /// Sled has failed: positions are missing until the next start, which finds them because the mark stays where it is.
    incomplete: AtomicBool,
}

/// What is not in sled yet.
#[derive(Debug, Default)]
struct Recent {
    filling: HashMap<Key, Position>,
    /// On its way to sled, and still to be found here meanwhile.
    moving: Arc<HashMap<Key, Position>>,
    /// The newest of all.
    last: Option<Position>,
    move_claimed: bool,
}

/// What is where the index has a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The payload, or nobody can tell.
    Payload,
    /// Nothing, since retention has removed it.
    Removed,
    /// Nothing, or another payload.
    Nothing,
}

/// Payloads that the index knew of and that are nowhere in the journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub count: u64,
    /// Some of them.
    pub named: Vec<Key>,
    /// Where the first and the last of them had been.
    pub between: Option<(Position, Position)>,
}

impl Index {
    pub fn new(tree: sled::Tree, recent_limit: usize) -> Self {
        Index {
            recent: Mutex::default(),
            recent_count: AtomicUsize::new(0),
            tree,
            recent_limit: recent_limit.max(2),
            mover: Mutex::default(),
            moved: Notify::new(),
            incomplete: AtomicBool::new(false),
        }
    }

    /// Up to where sled is complete.
    pub fn mark(&self) -> sled::Result<Option<Position>> {
        Ok(self.tree.get(MARK)?.and_then(decode))
    }

    /// Notes a record that has become durable. Called in the order of the journal, and quick.
    pub fn insert(&self, key: Key, position: Position) {
        let mut recent = self.recent.lock();
        recent.filling.insert(key, position);
        recent.last = Some(position);
        self.recent_count.store(recent.filling.len() + recent.moving.len(), Ordering::Relaxed);
    }

    /// Where a payload is. Reads from disk when it is not recent.
    pub fn position(&self, key: Key) -> sled::Result<Option<Position>> {
        {
            let recent = self.recent.lock();
            if let Some(position) = recent.filling.get(&key).or_else(|| recent.moving.get(&key)) {
                return Ok(Some(*position));
            }
        }
        match self.tree.get(key.0)?.and_then(decode) {
            None if self.incomplete.load(Ordering::Acquire) => {
                Err(sled::Error::Unsupported("the index could not be written and is incomplete".into()))
            }
            position => Ok(position),
        }
    }

    /// Whether it is time to [move](Self::move_to_sled) positions, and nobody does. Whoever is told so must do it.
    pub fn claim_move(&self) -> bool {
        if self.recent_count.load(Ordering::Relaxed) < self.recent_limit / 2 {
            return false;
        }
        let mut recent = self.recent.lock();
        let claimed = !recent.move_claimed && recent.filling.len() >= self.recent_limit / 2;
        recent.move_claimed |= claimed;
        claimed
    }

    /// Whether memory may hold another position.
    pub fn has_room(&self) -> bool {
        self.recent_count.load(Ordering::Relaxed) < self.recent_limit
    }

    /// Resolves when positions have moved since this was called.
    pub fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// Moves what is in memory to sled, and then the mark.
    pub fn move_to_sled(&self) -> sled::Result<()> {
        let _one_at_a_time = self.mover.lock();
        let (moving, last) = {
            let mut recent = self.recent.lock();
            recent.moving = Arc::new(std::mem::take(&mut recent.filling));
            (recent.moving.clone(), recent.last)
        };
        let outcome = self.store(&moving, last);
        if outcome.is_err() {
            self.incomplete.store(true, Ordering::Release);
        }
        {
            // After a failure they go as well: memory stays bounded.
            let mut recent = self.recent.lock();
            recent.moving = Arc::default();
            recent.move_claimed = false;
            self.recent_count.store(recent.filling.len(), Ordering::Relaxed);
        }
        self.moved.notify_waiters();
        outcome
    }

    /// In the order of the keys, so that each of sled's nodes is read and written once. The mark comes last: should a
    /// crash take back the end of sled's log, it is the first to go.
    fn store(&self, positions: &HashMap<Key, Position>, last: Option<Position>) -> sled::Result<()> {
        let Some(last) = last.filter(|_| !positions.is_empty()) else { return Ok(()) };
        let mut sorted: Vec<_> = positions.iter().collect();
        sorted.sort_unstable();
        for (key, position) in sorted {
            self.tree.insert(key.0, &position.to_bytes())?;
        }
        if !self.incomplete.load(Ordering::Acquire) {
            self.tree.insert(MARK, &last.to_bytes())?;
        }
        self.tree.flush().map(|_| ())
    }

    /// Whether the index, as far as it is in sled, can have been made from a journal whose record at `mark` is of `key`.
    pub fn fits(&self, key: Key, mark: Position) -> sled::Result<bool> {
        // A later position: kept again, and a crash came before the mark.
        Ok(self.tree.get(key.0)?.and_then(decode).is_some_and(|position| position >= mark))
    }

    /// The index does not fit its journal: from here to [`finish_rebuild`](Self::finish_rebuild) it has no mark.
    pub fn begin_rebuild(&self) -> sled::Result<()> {
        self.tree.insert(REBUILDING, &[])?;
        self.tree.remove(MARK)?;
        self.tree.flush().map(|_| ())
    }

    /// Whether a rebuilding was begun and not finished.
    pub fn is_rebuilding(&self) -> sled::Result<bool> {
        self.tree.contains_key(REBUILDING)
    }

    /// What the index knows of and the journal has not. All records of the journal are noted in it by now.
    pub fn lost(&self, find: &impl Fn(Key, Position) -> Found) -> sled::Result<Lost> {
        self.move_to_sled()?;
        let mut lost = Lost::default();
        for entry in self.tree.iter() {
            let Some((key, position)) = entry.map(parse)? else { continue };
            if find(key, position) != Found::Nothing {
                continue;
            }
            lost.count += 1;
            if lost.named.len() < LOST_NAMED_MAX {
                lost.named.push(key);
            }
            let (first, last) = lost.between.unwrap_or((position, position));
            lost.between = Some((first.min(position), last.max(position)));
        }
        Ok(lost)
    }

    /// Forgets what the journal has not.
    pub fn finish_rebuild(&self, find: &impl Fn(Key, Position) -> Found) -> sled::Result<()> {
        for entry in self.tree.iter() {
            let Some((key, position)) = entry.map(parse)? else { continue };
            if find(key, position) != Found::Payload {
                self.tree.remove(key.0)?;
            }
        }
        self.tree.remove(REBUILDING)?;
        self.tree.flush().map(|_| ())
    }
}

fn decode(position: sled::IVec) -> Option<Position> {
    <[u8; Position::BYTES]>::try_from(position.as_ref()).ok().map(Position::from_bytes)
}

/// A payload's entry; none for the mark and its like.
fn parse((key, position): (sled::IVec, sled::IVec)) -> Option<(Key, Position)> {
    Some((Key(key.as_ref().try_into().ok()?), decode(position)?))
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
        assert!(index.recent.lock().filling.is_empty() && index.has_room());
        assert_eq!(index.mark().unwrap(), Some(at(10)));
        assert_eq!(index.position(Key([2; 16])).unwrap(), Some(at(2)));
        assert_eq!(index.position(Key([1; 16])).unwrap(), Some(at(10)), "kept again");
        assert_eq!(index.position(Key([5; 16])).unwrap(), None);
    }

    #[test]
    fn an_index_that_is_rebuilt_tells_what_was_lost_and_forgets_it() {
        let index = index(8);
        for number in 0..40 {
            index.insert(key(number), at(number));
        }
        index.move_to_sled().unwrap();
        assert!(index.fits(key(39), at(39)).unwrap());
        assert!(!index.fits(key(39), at(40)).unwrap() && !index.fits(key(41), at(39)).unwrap());
        index.begin_rebuild().unwrap();
        assert!(index.is_rebuilding().unwrap());
        assert_eq!(index.mark().unwrap(), None);
        // The journal has 10 to 19, and 30 at another place.
        index.insert(key(30), at(12));
        let find = |_: Key, position: Position| match position.offset {
            0..10 => Found::Removed,
            10..20 => Found::Payload,
            _ => Found::Nothing,
        };
        let lost = index.lost(&find).unwrap();
        assert_eq!((lost.count, lost.between), (19, Some((at(20), at(39)))));
        assert_eq!(lost.named, (20..30).chain(31..37).map(key).collect::<Vec<_>>());
        index.finish_rebuild(&find).unwrap();
        assert!(!index.is_rebuilding().unwrap());
        let known: Vec<_> = (0..40).filter(|number| index.position(key(*number)).unwrap().is_some()).collect();
        assert_eq!(known, (10..20).chain([30]).collect::<Vec<_>>());
        assert_eq!(index.lost(&find).unwrap(), Lost::default());
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

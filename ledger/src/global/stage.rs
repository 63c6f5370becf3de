//! What a command is about to write, readable as if it were written: one command can build on its own rows.

use super::StoreError;
use super::keys::Key;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use waybill_types::Codec;

/// Rows above those of the tree. They are written together by [`Stage::commit`], or not at all.
pub(super) struct Stage<'a> {
    tree: &'a sled::Tree,
    rows: BTreeMap<Vec<u8>, Bytes>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(tree: &'a sled::Tree) -> Self {
        Stage { tree, rows: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, key: &Key<'_>, row: &impl Codec) {
        self.rows.insert(key.encode(), row.to_bytes());
    }

    /// Writes all rows in one atomic batch.
    pub(super) fn commit(self) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, row) in self.rows {
            batch.insert(key, row.as_ref());
        }
        self.tree.apply_batch(batch)?;
        Ok(())
    }

    pub(super) fn get<T: Codec>(&self, key: &Key<'_>) -> Result<Option<T>, StoreError> {
        let bytes = key.encode();
        if let Some(row) = self.rows.get(&bytes) {
            return decode(&bytes, row).map(Some);
        }
        self.tree.get(&bytes)?.map(|row| decode(&bytes, &Bytes::copy_from_slice(&row))).transpose()
    }

    /// The row of the largest number up to that of `key`, among the keys that share its prefix.
    pub(super) fn at_or_before<T: Codec>(&self, key: &Key<'_>) -> Result<Option<(u64, T)>, StoreError> {
        let range = (Bound::Included(key.prefix()), Bound::Included(key.encode()));
        let staged = self.rows.range(range.clone()).next_back();
        let stored = self.tree.range(range).next_back().transpose()?;
        let stored = stored.as_ref().map(|(key, row)| (key.as_ref(), row.as_ref()));
        let staged = staged.map(|(key, row)| (key.as_slice(), row.as_ref()));
        // A staged row stands for the stored one under the same key.
        numbered(stored.into_iter().chain(staged).max_by_key(|(key, _)| *key))
    }

    /// The row of the smallest number from that of `key` on, among the keys that share its prefix.
    pub(super) fn at_or_after<T: Codec>(&self, key: &Key<'_>) -> Result<Option<(u64, T)>, StoreError> {
        let mut end = key.prefix();
        end.extend_from_slice(&[0xff; 8]);
        let range = (Bound::Included(key.encode()), Bound::Included(end));
        let staged = self.rows.range(range.clone()).next();
        let stored = self.tree.range(range).next().transpose()?;
        let stored = stored.as_ref().map(|(key, row)| (key.as_ref(), row.as_ref()));
        let staged = staged.map(|(key, row)| (key.as_slice(), row.as_ref()));
        numbered(staged.into_iter().chain(stored).min_by_key(|(key, _)| *key))
    }

    /// All stored rows whose keys start with this byte.
    pub(super) fn rows<T: Codec>(&self, kind: u8) -> Result<Vec<T>, StoreError> {
        let rows = self.tree.scan_prefix([kind]).map(|row| {
            let (key, row) = row?;
            decode(&key, &Bytes::copy_from_slice(&row))
        });
        rows.collect()
    }
}

/// The number at a key's end, and its decoded row.
fn numbered<T: Codec>(row: Option<(&[u8], &[u8])>) -> Result<Option<(u64, T)>, StoreError> {
    let Some((key, row)) = row else { return Ok(None) };
    let number = crate::keys::trailing_number(key).unwrap_or(0);
    Ok(Some((number, decode(key, &Bytes::copy_from_slice(row))?)))
}

fn decode<T: Codec>(key: &[u8], row: &Bytes) -> Result<T, StoreError> {
    let what = || key.iter().map(|byte| format!("{byte:02x}")).collect();
    T::from_bytes(row).map_err(|error| StoreError::Corrupt { what: what(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_types::LedgerId;

    #[test]
    fn staged_and_stored_rows_are_one() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let key = |number| Key::Block(LedgerId::SYSTEM, number);
        let mut stage = Stage::new(&db);
        for number in [2, 6] {
            stage.put(&key(number), &number);
        }
        stage.commit().unwrap();
        let mut stage = Stage::new(&db);
        for number in [4, 6] {
            stage.put(&key(number), &(number * 10));
        }
        let before = |number| stage.at_or_before::<u64>(&key(number)).unwrap();
        let after = |number| stage.at_or_after::<u64>(&key(number)).unwrap();
        assert_eq!([before(1), before(2), before(3)], [None, Some((2, 2)), Some((2, 2))]);
        assert_eq!([before(5), before(6), before(u64::MAX)], [Some((4, 40)), Some((6, 60)), Some((6, 60))]);
        assert_eq!([after(0), after(3), after(5), after(7)], [Some((2, 2)), Some((4, 40)), Some((6, 60)), None]);
        assert_eq!(stage.get::<u64>(&key(2)).unwrap(), Some(2));
        let other = Key::Certificate(LedgerId::SYSTEM, 9);
        assert_eq!(stage.at_or_before::<u64>(&other).unwrap(), None, "another kind's keys are not seen");
    }
}

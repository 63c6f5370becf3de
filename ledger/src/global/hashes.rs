//! The Merkle trees' hashes, stored as they come: no row is ever written twice.

use super::StoreError;
use super::keys::Key;
use super::stage::Stage;
use crate::tiles::{TILE_WIDTH, TileId, Tiles};
use std::collections::BTreeMap;
use std::ops::Range;
use waybill_types::merkle::Frontier;
use waybill_types::{DecodeError, Digest, LedgerId};

/// Stages the hashes that `leaves` add to the tree that ends with `tree`.
pub(super) fn stage_hashes(
    stage: &mut Stage<'_>,
    ledger: LedgerId,
    mut tree: Frontier,
    leaves: impl Iterator<Item = Digest>,
) {
    // By level: the place of the first new hash, and the new hashes.
    let mut levels: BTreeMap<u8, (u64, Vec<Digest>)> = BTreeMap::new();
    for leaf in leaves {
        let size = tree.size();
        tree.push_each(leaf, |height, hash| {
            if height % 8 == 0 {
                let level = levels.entry((height / 8) as u8).or_insert_with(|| (size >> height, Vec::new()));
                level.1.push(hash);
            }
        });
    }
    for (level, (mut first, hashes)) in levels {
        let mut hashes = hashes.as_slice();
        while !hashes.is_empty() {
            let room = (TILE_WIDTH - first % TILE_WIDTH) as usize;
            let (row, rest) = hashes.split_at(room.min(hashes.len()));
            stage.put(&Key::Hashes(ledger, level, first), &row.to_vec());
            first += row.len() as u64;
            hashes = rest;
        }
    }
}

/// One ledger's hashes as tiles.
pub(super) struct StoredTiles<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) ledger: LedgerId,
}

impl Tiles for StoredTiles<'_> {
    type Error = StoreError;

    fn hashes(&self, tile: TileId, places: Range<usize>, out: &mut Vec<Digest>) -> Result<(), StoreError> {
        let start = tile.index * TILE_WIDTH;
        let (mut at, end) = (start + places.start as u64, start + places.end as u64);
        while at < end {
            let key = Key::Hashes(self.ledger, tile.level, at);
            let row = self.stage.at_or_before::<Vec<Digest>>(&key)?;
            let found = row.as_ref().and_then(|(first, row)| row.get((at - first) as usize..));
            let found = found.filter(|found| !found.is_empty()).ok_or_else(|| StoreError::Corrupt {
                what: format!("the Merkle tree of {}", self.ledger),
                error: DecodeError::Invalid("a hash is missing"),
            })?;
            let taken = found.len().min((end - at) as usize);
            out.extend_from_slice(&found[..taken]);
            at += taken as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::inclusion_path;
    use waybill_types::merkle;

    #[test]
    fn every_proof_over_rows_of_any_length() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let leaves: Vec<_> = (0..1000u32).map(|number| merkle::leaf_hash(&number.to_be_bytes())).collect();
        let mut tree = Frontier::default();
        let mut at = 0;
        for count in [1, 0, 2, 254, 3, 500, 1, 239] {
            let mut stage = Stage::new(&db);
            stage_hashes(&mut stage, LedgerId::SYSTEM, tree.clone(), leaves[at..at + count].iter().copied());
            stage.commit().unwrap();
            leaves[at..at + count].iter().for_each(|leaf| tree.push(*leaf));
            at += count;
        }
        assert_eq!(at, leaves.len());
        let stage = Stage::new(&db);
        let tiles = StoredTiles { stage: &stage, ledger: LedgerId::SYSTEM };
        for (index, size) in [(0, 1), (0, 1000), (255, 256), (256, 257), (511, 1000), (999, 1000), (3, 700)] {
            let path = inclusion_path(&tiles, index, size).unwrap().unwrap();
            assert_eq!(path, merkle::path(&leaves[..size as usize], index as usize), "{index} of {size}");
        }
        let beyond = tiles.hashes(TileId { level: 0, index: 3 }, 231..234, &mut Vec::new());
        assert!(matches!(beyond, Err(StoreError::Corrupt { .. })));
    }
}

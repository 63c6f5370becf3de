//! The Merkle tree of a ledger in tiles of 256 hashes, laid out as C2SP `tlog-tiles` has them, and inclusion proofs.
//!
//! The tile at level L and index N holds the roots of the perfect subtrees of 256^L leaves, from the (256 * N)-th on;
//! level 0 holds the leaf hashes. Every node of the tree is found in a tile or folded from at most 128 neighbours of
//! one. Full tiles never change; the last of each level grows until it is full.

use std::ops::Range;
use waybill_types::Digest;
use waybill_types::merkle::{empty_root, node_hash, split_point};

/// How many hashes a full tile has.
pub const TILE_WIDTH: u64 = 256;
/// The tree's levels of nodes that one level of tiles spans.
const TILE_HEIGHT: u32 = 8;

/// Where a tile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    /// Its hashes are of subtrees of 256^level leaves.
    pub level: u8,
    /// Its place in its level.
    pub index: u64,
}

impl TileId {
    /// How many hashes the tile has when the tree has `tree_size` leaves.
    pub fn width(self, tree_size: u64) -> u64 {
        hashes_at(self.level, tree_size).saturating_sub(self.index * TILE_WIDTH).min(TILE_WIDTH)
    }
}

/// The tiles that make up a tree of `tree_size` leaves and differ from those of `before` leaves.
pub fn tiles_between(before: u64, tree_size: u64) -> impl Iterator<Item = TileId> {
    let levels = (0u8..8).take_while(move |level| hashes_at(*level, tree_size) > 0);
    levels.flat_map(move |level| {
        let (from, to) = (hashes_at(level, before), hashes_at(level, tree_size));
        let indices = if from == to { 0..0 } else { from / TILE_WIDTH..to.div_ceil(TILE_WIDTH) };
        indices.map(move |index| TileId { level, index })
    })
}

/// The tiles that a tree of `tree_size` leaves goes on growing from: the last one of each level.
pub fn growing_tiles(tree_size: u64) -> impl Iterator<Item = TileId> {
    let levels = (0u8..8).take_while(move |level| hashes_at(*level, tree_size) > 0);
    levels.map(move |level| TileId { level, index: hashes_at(level, tree_size) / TILE_WIDTH })
}

/// How many hashes a level has when the tree has `tree_size` leaves.
fn hashes_at(level: u8, tree_size: u64) -> u64 {
    tree_size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0)
}

/// Where hashes are read from.
pub trait Tiles {
    /// Why they cannot be.
    type Error;
    /// Appends to `out` the hashes at `places` of a tile. Never asked for places that the tree does not have.
    fn hashes(&self, tile: TileId, places: Range<usize>, out: &mut Vec<Digest>) -> Result<(), Self::Error>;
}

/// The inclusion path of a leaf in the tree of `tree_size` leaves, the leaf's sibling first (RFC 6962, section 2.1.1);
/// none if there is no such leaf.
pub fn inclusion_path<T: Tiles>(tiles: &T, leaf_index: u64, tree_size: u64) -> Result<Option<Vec<Digest>>, T::Error> {
    if leaf_index >= tree_size {
        return Ok(None);
    }
    let (mut path, mut start, mut size) = (Vec::new(), 0, tree_size);
    while size > 1 {
        let split = split_point(size);
        if leaf_index - start < split {
            path.push(subtree_root(tiles, start + split, size - split)?);
            size = split;
        } else {
            path.push(subtree_root(tiles, start, split)?);
            start += split;
            size -= split;
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// The root of the tree of the first `tree_size` leaves.
pub fn root<T: Tiles>(tiles: &T, tree_size: u64) -> Result<Digest, T::Error> {
    if tree_size == 0 { Ok(empty_root()) } else { subtree_root(tiles, 0, tree_size) }
}

/// The root over `size` leaves from `start` on, where `start` is a multiple of a power of two not below `size`: so it
/// is for all subtrees of RFC 6962.
fn subtree_root<T: Tiles>(tiles: &T, start: u64, size: u64) -> Result<Digest, T::Error> {
    if size.is_power_of_two() {
        return perfect_root(tiles, start, size.trailing_zeros());
    }
    let split = split_point(size);
    let left = subtree_root(tiles, start, split)?;
    Ok(node_hash(&left, &subtree_root(tiles, start + split, size - split)?))
}

/// The root over 2^height leaves: folded from the hashes of the nearest level of tiles below.
fn perfect_root<T: Tiles>(tiles: &T, start: u64, height: u32) -> Result<Digest, T::Error> {
    let level = (height / TILE_HEIGHT) as u8;
    let first = hashes_at(level, start);
    let place = (first % TILE_WIDTH) as usize;
    let mut hashes = Vec::new();
    let places = place..place + (1 << (height % TILE_HEIGHT));
    tiles.hashes(TileId { level, index: first / TILE_WIDTH }, places, &mut hashes)?;
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    // Tiles that give less than was asked for break their contract; the proof will not verify, and nothing panics.
    Ok(hashes.first().copied().unwrap_or(Digest::ZERO))
}

/// The part of a tree that is in memory: everything that no flush has written yet, and the tiles that still grow.
#[derive(Debug, Default)]
pub struct MemoryTiles {
    levels: Vec<Level>,
}

#[derive(Debug, Default)]
struct Level {
    /// The first hash in memory; it begins a tile.
    first: u64,
    hashes: Vec<Digest>,
}

impl MemoryTiles {
    /// Continues a tree of which `growing` are the [`growing_tiles`], with their hashes.
    pub fn new(growing: impl IntoIterator<Item = (TileId, Vec<Digest>)>) -> Self {
        let mut tiles = MemoryTiles::default();
        for (tile, hashes) in growing {
            *tiles.level_mut(tile.level) = Level { first: tile.index * TILE_WIDTH, hashes };
        }
        tiles
    }

    /// Appends the next hash of a level.
    pub fn push(&mut self, level: u8, hash: Digest) {
        self.level_mut(level).hashes.push(hash);
    }

    /// The hashes at `places` of a tile, if the tile is in memory.
    pub fn get(&self, tile: TileId, places: Range<usize>) -> Option<&[Digest]> {
        let level = self.levels.get(usize::from(tile.level))?;
        let before = usize::try_from((tile.index * TILE_WIDTH).checked_sub(level.first)?).ok()?;
        level.hashes.get(before + places.start..before + places.end)
    }

    /// Forgets the tiles that are full in a tree of `tree_size` leaves: they are stored.
    pub fn forget_full(&mut self, tree_size: u64) {
        for (number, level) in self.levels.iter_mut().enumerate() {
            let first = hashes_at(number as u8, tree_size) / TILE_WIDTH * TILE_WIDTH;
            let count = usize::try_from(first.saturating_sub(level.first)).unwrap_or(usize::MAX);
            if count > 0 && count <= level.hashes.len() {
                level.hashes.drain(..count);
                level.first = first;
            }
        }
    }

    /// How many bytes the hashes take.
    pub fn bytes(&self) -> usize {
        self.levels.iter().map(|level| level.hashes.len() * 32).sum()
    }

    fn level_mut(&mut self, level: u8) -> &mut Level {
        while self.levels.len() <= usize::from(level) {
            self.levels.push(Level::default());
        }
        &mut self.levels[usize::from(level)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use waybill_types::merkle::{self, Frontier};

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|index| merkle::leaf_hash(&index.to_be_bytes())).collect()
    }

    /// Tiles in memory above tiles that were flushed, as a partition has them.
    #[derive(Default)]
    struct Store {
        memory: MemoryTiles,
        flushed: BTreeMap<TileId, Vec<Digest>>,
        flushed_size: u64,
        frontier: Frontier,
    }

    impl Tiles for Store {
        type Error = Infallible;
        fn hashes(&self, tile: TileId, places: Range<usize>, out: &mut Vec<Digest>) -> Result<(), Infallible> {
            match self.memory.get(tile, places.clone()) {
                Some(hashes) => out.extend_from_slice(hashes),
                None => out.extend_from_slice(&self.flushed[&tile][places]),
            }
            Ok(())
        }
    }

    impl Store {
        fn push(&mut self, leaf: Digest) {
            let memory = &mut self.memory;
            self.frontier.push_each(leaf, |height, hash| {
                if height % TILE_HEIGHT == 0 {
                    memory.push((height / TILE_HEIGHT) as u8, hash);
                }
            });
        }

        fn flush(&mut self, tree_size: u64) {
            for tile in tiles_between(self.flushed_size, tree_size) {
                let hashes = self.memory.get(tile, 0..tile.width(tree_size) as usize).unwrap().to_vec();
                self.flushed.insert(tile, hashes);
            }
            self.memory.forget_full(tree_size);
            self.flushed_size = tree_size;
        }

        fn reopen(self) -> Self {
            let growing = growing_tiles(self.flushed_size)
                .filter(|tile| tile.width(self.flushed_size) > 0)
                .map(|tile| (tile, self.flushed[&tile].clone()));
            let memory = MemoryTiles::new(growing.chain(empty_growing(self.flushed_size)));
            Store { memory, ..self }
        }
    }

    /// Growing tiles that have no hash yet.
    fn empty_growing(tree_size: u64) -> impl Iterator<Item = (TileId, Vec<Digest>)> {
        growing_tiles(tree_size).filter(move |tile| tile.width(tree_size) == 0).map(|tile| (tile, Vec::new()))
    }

    fn assert_proves(store: &Store, leaves: &[Digest], index: usize, size: usize) {
        let path = inclusion_path(store, index as u64, size as u64).unwrap().unwrap();
        assert_eq!(path, merkle::path(&leaves[..size], index), "{index} of {size}");
        let root = root(store, size as u64).unwrap();
        assert_eq!(root, merkle::root(&leaves[..size]));
        assert!(merkle::verify_inclusion(&leaves[index], index as u64, size as u64, &path, &root));
    }

    #[test]
    fn every_leaf_of_every_small_tree() {
        let leaves = leaves(40);
        let mut store = Store::default();
        leaves.iter().for_each(|leaf| store.push(*leaf));
        for size in 1..=leaves.len() {
            for index in 0..size {
                assert_proves(&store, &leaves, index, size);
            }
        }
        assert_eq!(inclusion_path(&store, 40, 40), Ok(None));
        assert_eq!(root(&store, 0), Ok(empty_root()));
    }

    #[test]
    fn three_levels_of_tiles_across_a_flush() {
        let count = 66_000;
        let leaves = leaves(count);
        let mut store = Store::default();
        leaves[..65_700].iter().for_each(|leaf| store.push(*leaf));
        store.flush(65_600);
        leaves[65_700..].iter().for_each(|leaf| store.push(*leaf));
        for (index, size) in [(0, 66_000), (65_535, 65_536), (65_536, 66_000), (65_999, 66_000), (255, 65_601)] {
            assert_proves(&store, &leaves, index, size);
        }
        assert!(store.memory.bytes() < 1000 * 32, "what was flushed is not held");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn tiles_and_plain_trees_agree_whatever_was_flushed(
            steps in prop::collection::vec((1usize..700, 0usize..3), 1..8),
            picks in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0), 12),
        ) {
            let leaves = leaves(steps.iter().map(|(count, _)| count).sum());
            let mut store = Store::default();
            let mut at = 0;
            for (count, then) in steps {
                leaves[at..at + count].iter().for_each(|leaf| store.push(*leaf));
                at += count;
                if then > 0 {
                    store.flush((at - (at - store.flushed_size as usize) / 3) as u64);
                }
                if then == 2 {
                    let tail = store.flushed_size as usize;
                    store = store.reopen();
                    store.frontier = Frontier::default();
                    leaves[..tail].iter().for_each(|leaf| store.frontier.push(*leaf));
                    leaves[tail..at].iter().for_each(|leaf| store.push(*leaf));
                }
            }
            for (size, index) in picks {
                let size = 1 + ((at - 1) as f64 * size) as usize;
                let index = ((size - 1) as f64 * index) as usize;
                assert_proves(&store, &leaves, index, size);
            }
        }
    }
}

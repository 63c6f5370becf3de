//! RFC 6962 Merkle tree arithmetic: leaf and node hashes, a growing tree's frontier, inclusion proofs.

use crate::codec::{Codec, DecodeError, Reader};
use crate::digest::{Digest, Hasher};
use alloc::vec::Vec;

/// `SHA-256(0x00 | leaf)` (RFC 6962, section 2.1).
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    let mut hasher = Hasher::untagged();
    hasher.update(&[0]);
    hasher.update(leaf);
    hasher.finish()
}

/// `SHA-256(0x01 | left | right)` (RFC 6962, section 2.1).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut preimage = [1; 65];
    preimage[1..33].copy_from_slice(&left.0);
    preimage[33..].copy_from_slice(&right.0);
    let mut hasher = Hasher::untagged();
    hasher.update(&preimage);
    hasher.finish()
}

/// The root of the tree without leaves: `SHA-256("")`.
pub fn empty_root() -> Digest {
    Hasher::untagged().finish()
}

/// The root over all of `leaves` (given as leaf hashes).
pub fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The inclusion path of leaf `index` among all of `leaves`; empty if there is no such leaf.
pub fn path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    let mut path = Vec::new();
    let (mut leaves, mut index) = (leaves, index);
    while index < leaves.len() && leaves.len() > 1 {
        let split = split_point(leaves.len() as u64) as usize;
        let (left, right) = leaves.split_at(split);
        if index < split {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            leaves = right;
            index -= split;
        }
    }
    path.reverse();
    path
}

/// The largest power of two below `size` (RFC 6962's k), for a size of at least 2.
pub const fn split_point(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// Whether `path` leads from a leaf to the root of a tree of `size` leaves (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, path: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut index, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            hash = node_hash(sibling, &hash);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The roots of the perfect subtrees of a growing tree, largest first: all that is needed to append and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Digest>,
}

impl Codec for Frontier {
    fn encode(&self, out: &mut Vec<u8>) {
        self.size.encode(out);
        self.subtrees.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let (size, subtrees): (u64, Vec<Digest>) = Codec::decode(input)?;
        if size.count_ones() as usize != subtrees.len() {
            return Err(DecodeError::Invalid("a frontier's subtrees differ from its size"));
        }
        Ok(Frontier { size, subtrees })
    }
}

impl Frontier {
    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, given by its leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        self.push_each(leaf, |_, _| ());
    }

    /// Appends a leaf and tells of each perfect subtree that it completes: the subtree's height (0 for the leaf
    /// itself) and its root. Whoever stores the tree needs no hash of its own.
    pub fn push_each(&mut self, leaf: Digest, mut completed: impl FnMut(u32, Digest)) {
        let (mut hash, mut size, mut height) = (leaf, self.size, 0);
        completed(height, hash);
        while size & 1 == 1 {
            // Each one bit of the size is a perfect subtree: the stack is never empty here.
            let Some(left) = self.subtrees.pop() else { break };
            hash = node_hash(&left, &hash);
            size >>= 1;
            height += 1;
            completed(height, hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The tree's root.
    pub fn root(&self) -> Digest {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(last) = subtrees.next() else { return empty_root() };
        subtrees.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_no_other() {
        for size in 1..=33 {
            let leaves = leaves(size);
            let root = root(&leaves);
            for index in 0..size {
                let mut path = path(&leaves, index);
                let proves = |leaf: usize, at: usize, path: &[Digest]| {
                    verify_inclusion(&leaves[leaf], at as u64, size as u64, path, &root)
                };
                assert!(proves(index, index, &path), "{index} of {size}");
                assert!(!proves(index, index + 1, &path));
                assert!(!proves((index + 1) % size, index, &path) || size == 1);
                path.push(Digest::ZERO);
                assert!(!proves(index, index, &path), "a longer path");
            }
        }
    }

    #[test]
    fn a_push_tells_of_each_subtree_that_it_completes() {
        let leaves = leaves(8);
        let (mut frontier, mut told) = (Frontier::default(), Vec::new());
        for leaf in &leaves {
            told.clear();
            frontier.push_each(*leaf, |height, hash| told.push((height, hash)));
        }
        let expected = [(0, leaves[7]), (1, root(&leaves[6..])), (2, root(&leaves[4..])), (3, root(&leaves))];
        assert_eq!(told, expected);
        let broken = (7u64, alloc::vec![Digest::ZERO; 2]).to_bytes();
        assert!(Frontier::from_bytes(&broken).is_err(), "seven leaves are three subtrees");
    }

    #[test]
    fn golden_roots_of_the_rfc() {
        assert_eq!(empty_root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(leaf_hash(b"").to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    }
}

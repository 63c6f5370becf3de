//! A map in shards, for state that is large and changes in few places: a checkpoint hashes, and the first change after
//! a snapshot copies, only the shards that have changed.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use waybill_types::codec::{Codec, DecodeError, Reader};
use waybill_types::digest::Hasher;
use waybill_types::{Digest, OrgId, TopicId};

/// How many shards a map has.
pub(super) const SHARDS: usize = 64;

/// A key that knows its shard.
pub(super) trait ShardKey: Ord {
    /// Below [`SHARDS`].
    fn shard(&self) -> usize;
}

/// Producers: by the low bits of their ids, since ids are counters.
impl ShardKey for (i64, OrgId) {
    fn shard(&self) -> usize {
        (self.0 as u64 % SHARDS as u64) as usize
    }
}

/// Topics: by the high bits, so that shard after shard is in the order of ids.
impl ShardKey for TopicId {
    fn shard(&self) -> usize {
        usize::from(self.0[0]) * SHARDS / 256
    }
}

/// Names: by all characters, since they often differ in few.
impl ShardKey for str {
    fn shard(&self) -> usize {
        self.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % SHARDS
    }
}

impl ShardKey for String {
    fn shard(&self) -> usize {
        self.as_str().shard()
    }
}

/// A clone shares everything with the original until one of them changes.
#[derive(Clone, Debug)]
pub(super) struct Sharded<K, V> {
    /// None at all until something is inserted: a node has thousands of maps that stay empty.
    shards: Vec<Shard<K, V>>,
    /// The digest of the whole, unless something has changed since it was computed.
    root: Option<Digest>,
}

#[derive(Clone, Debug)]
struct Shard<K, V> {
    map: Arc<BTreeMap<K, V>>,
    digest: Option<Digest>,
}

impl<K: ShardKey + Clone, V: Clone> Sharded<K, V> {
    pub fn get<Q: ShardKey + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(key.shard())?.map.get(key)
    }

    pub fn contains_key<Q: ShardKey + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.map.len()).sum()
    }

    /// Shard by shard, each in the order of its keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.map.iter())
    }

    /// The part of the map that has, or would have, this key; it counts as changed.
    pub fn shard_mut<Q: ShardKey + ?Sized>(&mut self, key: &Q) -> &mut BTreeMap<K, V>
    where
        K: Borrow<Q>,
    {
        if self.shards.is_empty() {
            self.shards = vec![Shard { map: Arc::new(BTreeMap::new()), digest: None }; SHARDS];
        }
        self.root = None;
        let shard = &mut self.shards[key.shard()];
        shard.digest = None;
        Arc::make_mut(&mut shard.map)
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.shard_mut(&key).insert(key, value);
    }

    pub fn remove<Q: ShardKey + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if self.contains_key(key) { self.shard_mut(key).remove(key) } else { None }
    }

    /// The digest over all shards' digests. `tags` are for the whole and for a shard; `encode` gives what counts of an
    /// entry.
    pub fn root(&mut self, tags: [&[u8]; 2], encode: impl Fn(&K, &V, &mut Vec<u8>)) -> Digest {
        if let Some(root) = self.root {
            return root;
        }
        let mut root = Hasher::new(tags[0]);
        let mut buffer = Vec::new();
        let mut digest_of = |map: &BTreeMap<K, V>| {
            buffer.clear();
            (map.len() as u32).encode(&mut buffer);
            map.iter().for_each(|(key, value)| encode(key, value, &mut buffer));
            Hasher::digest(tags[1], &buffer)
        };
        if self.shards.is_empty() {
            let empty = digest_of(&BTreeMap::new());
            (0..SHARDS).for_each(|_| root.update(&empty.0));
        }
        for shard in &mut self.shards {
            root.update(&shard.digest.get_or_insert_with(|| digest_of(&shard.map)).0);
        }
        *self.root.insert(root.finish())
    }
}

impl<K: ShardKey, V: PartialEq> PartialEq for Sharded<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (self.shards.iter(), other.shards.iter());
        left.flat_map(|shard| shard.map.iter()).eq(right.flat_map(|shard| shard.map.iter()))
    }
}

impl<K: ShardKey, V: Eq> Eq for Sharded<K, V> {}

impl<K: ShardKey, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Sharded { shards: Vec::new(), root: None }
    }
}

impl<K: ShardKey + Clone + Codec, V: Clone + Codec> Codec for Sharded<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        if self.shards.is_empty() {
            (0..SHARDS).for_each(|_| 0u32.encode(out));
        }
        for shard in &self.shards {
            (shard.map.len() as u32).encode(out);
            for (key, value) in shard.map.iter() {
                key.encode(out);
                value.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut sharded = Sharded::default();
        for number in 0..SHARDS {
            let pairs: Vec<(K, V)> = Codec::decode(input)?;
            if !pairs.is_sorted_by(|left, right| left.0 < right.0) || pairs.iter().any(|(key, _)| key.shard() != number)
            {
                return Err(DecodeError::Invalid("a shard's entries are not in their order"));
            }
            if let Some((first, _)) = pairs.first().cloned() {
                *sharded.shard_mut(&first) = pairs.into_iter().collect();
            }
        }
        Ok(sharded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAGS: [&[u8]; 2] = [b"whole", b"shard"];

    fn root(map: &mut Sharded<TopicId, u64>) -> Digest {
        map.root(TAGS, |key, value, out| {
            key.encode(out);
            value.encode(out);
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_map_and_its_root_tells_its_content_alone(
            steps in prop::collection::vec((0u8..8, any::<u8>(), prop::option::of(0u64..4)), 1..60),
        ) {
            let (mut sharded, mut plain) = (Sharded::default(), BTreeMap::new());
            let mut earlier = Vec::new();
            for (high, low, value) in steps {
                let mut key = TopicId([low; 16]);
                key.0[0] = high << 5;
                match value {
                    Some(value) => {
                        sharded.insert(key, value);
                        plain.insert(key, value);
                    }
                    None => prop_assert_eq!(sharded.remove(&key), plain.remove(&key)),
                }
                prop_assert_eq!(sharded.get(&key), plain.get(&key));
                if low % 4 == 0 {
                    earlier.push((sharded.clone(), plain.clone(), root(&mut sharded)));
                }
            }
            earlier.push((sharded.clone(), plain, root(&mut sharded)));
            for (sharded, plain, expected) in earlier {
                prop_assert!(sharded.iter().eq(plain.iter()), "in the order of topic ids");
                prop_assert_eq!(sharded.len(), plain.len());
                let mut decoded = Sharded::from_bytes(&sharded.to_bytes()).unwrap();
                prop_assert_eq!(root(&mut decoded), expected);
                let mut other = Sharded::default();
                plain.into_iter().rev().for_each(|(key, value)| other.insert(key, value));
                prop_assert_eq!(root(&mut other), expected);
            }
        }
    }

    #[test]
    fn emptied_is_as_good_as_never_filled() {
        let mut map = Sharded::default();
        let (before, bytes) = (root(&mut map), map.to_bytes());
        map.insert(TopicId([9; 16]), 1);
        assert_ne!(root(&mut map), before);
        map.remove(&TopicId([9; 16]));
        assert_eq!((root(&mut map), map.to_bytes()), (before, bytes));
    }

    #[test]
    fn an_entry_in_another_shard_is_refused() {
        let mut map = Sharded::default();
        map.insert(TopicId([0; 16]), 1u64);
        let mut bytes = map.to_bytes().to_vec();
        bytes[4] = 0xff;
        assert!(Sharded::<TopicId, u64>::from_bytes(&bytes.into()).is_err());
    }
}

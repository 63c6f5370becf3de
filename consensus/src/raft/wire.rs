//! The encoding of openraft's types: canonical, as everything that is ours (`waybill_types::codec`).
//!
//! | type | bytes |
//! |---|---|
//! | log id | term, node, index: 8 each |
//! | vote | term, node: 8 each; committed: 1 |
//! | membership | configs, each a list of voters; all nodes |
//! | entry | log id, then 0; or 1, count, lengths, commands; or 2, membership |

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use openraft::{CommittedLeaderId, EmptyNode, EntryPayload};
use waybill_types::codec::{Codec, DecodeError, Reader};

use super::types::{Commands, Entry, LogId, Membership, StoredMembership, Vote};

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A [`Codec`] for types that are not ours.
pub(super) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn read(input: &mut Reader) -> Result<Self, DecodeError>;

    fn to_wire(&self) -> Bytes {
        let mut out = Vec::new();
        self.put(&mut out);
        Bytes::from(out)
    }

    fn from_wire(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes.clone());
        let value = Self::read(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

macro_rules! as_codec {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                self.encode(out);
            }
            fn read(input: &mut Reader) -> Result<Self, DecodeError> {
                Self::decode(input)
            }
        }
    )*};
}
as_codec!(u8, u32, u64, bool, Bytes, String);

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(if bool::read(input)? { Some(T::read(input)?) } else { None })
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        for item in self {
            item.put(out);
        }
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let count = take_count(input, 1)?;
        // A claimed count allocates little ahead of the items that prove it.
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::read(input)?);
        }
        Ok(items)
    }
}

impl Wire for LogId {
    fn put(&self, out: &mut Vec<u8>) {
        self.leader_id.term.put(out);
        self.leader_id.node_id.put(out);
        self.index.put(out);
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let leader = CommittedLeaderId::new(u64::read(input)?, u64::read(input)?);
        Ok(LogId::new(leader, u64::read(input)?))
    }
}

impl Wire for Vote {
    fn put(&self, out: &mut Vec<u8>) {
        self.leader_id.term.put(out);
        self.leader_id.node_id.put(out);
        self.committed.put(out);
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut vote = Vote::new(u64::read(input)?, u64::read(input)?);
        vote.committed = bool::read(input)?;
        Ok(vote)
    }
}

impl Wire for BTreeSet<u64> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|id| id.put(out));
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let ids = Vec::<u64>::read(input)?;
        if ids.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(DecodeError::Invalid("node ids are not in ascending order"));
        }
        Ok(ids.into_iter().collect())
    }
}

impl Wire for Membership {
    fn put(&self, out: &mut Vec<u8>) {
        self.get_joint_config().put(out);
        self.nodes().map(|(id, _)| *id).collect::<BTreeSet<u64>>().put(out);
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let configs = Vec::<BTreeSet<u64>>::read(input)?;
        let nodes = BTreeSet::<u64>::read(input)?;
        if !configs.iter().flatten().all(|voter| nodes.contains(voter)) {
            return Err(DecodeError::Invalid("a voter is not among the nodes"));
        }
        let nodes: std::collections::BTreeMap<u64, EmptyNode> =
            nodes.into_iter().map(|id| (id, EmptyNode {})).collect();
        Ok(Membership::new(configs, nodes))
    }
}

impl Wire for StoredMembership {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id().put(out);
        self.membership().put(out);
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(StoredMembership::new(Option::read(input)?, Membership::read(input)?))
    }
}

impl Wire for Commands {
    fn put(&self, out: &mut Vec<u8>) {
        put_commands_head(self, out);
        self.0.iter().for_each(|command| out.extend_from_slice(command));
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let count = take_count(input, 4)?;
        let lengths = (0..count).map(|_| u32::read(input)).collect::<Result<Vec<_>, _>>()?;
        let commands = lengths.into_iter().map(|length| input.take(length as usize)).collect::<Result<Vec<_>, _>>()?;
        Ok(Commands(Arc::from(commands)))
    }
}

impl Wire for Entry {
    fn put(&self, out: &mut Vec<u8>) {
        put_entry_head(self, out);
        if let EntryPayload::Normal(commands) = &self.payload {
            commands.0.iter().for_each(|command| out.extend_from_slice(command));
        }
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let log_id = LogId::read(input)?;
        let payload = match u8::read(input)? {
            BLANK => EntryPayload::Blank,
            COMMANDS => EntryPayload::Normal(Commands::read(input)?),
            MEMBERSHIP => EntryPayload::Membership(Membership::read(input)?),
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        Ok(Entry { log_id, payload })
    }
}

/// All of an entry's encoding that comes before the bytes of its commands: these need not be copied to be written.
pub(super) fn put_entry_head(entry: &Entry, out: &mut Vec<u8>) {
    entry.log_id.put(out);
    match &entry.payload {
        EntryPayload::Blank => out.push(BLANK),
        EntryPayload::Normal(commands) => {
            out.push(COMMANDS);
            put_commands_head(commands, out);
        }
        EntryPayload::Membership(membership) => {
            out.push(MEMBERSHIP);
            membership.put(out);
        }
    }
}

fn put_commands_head(commands: &Commands, out: &mut Vec<u8>) {
    put_count(commands.0.len(), out);
    commands.0.iter().for_each(|command| put_count(command.len(), out));
}

/// Counts and lengths stay far below 2^32: commands and batches of them have limits where they come in.
fn put_count(count: usize, out: &mut Vec<u8>) {
    debug_assert!(u32::try_from(count).is_ok());
    (count as u32).put(out);
}

/// A count of items of at least `item_bytes` each, refused where the input is too short for them.
fn take_count(input: &mut Reader, item_bytes: usize) -> Result<usize, DecodeError> {
    let count = u32::read(input)? as usize;
    if count > input.remaining() / item_bytes { Err(DecodeError::Truncated) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_id(term: u64, node: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, node), index)
    }

    fn hex(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_encodings() {
        let mut vote = Vote::new(3, 2);
        vote.committed = true;
        assert_eq!(hex(&vote.to_wire()), "0000000000000003000000000000000201");

        let commands = Commands(Arc::from([Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]));
        let entry = Entry { log_id: log_id(1, 2, 3), payload: EntryPayload::Normal(commands) };
        let expected = "000000000000000100000000000000020000000000000003".to_owned()
            + "01"
            + "00000003000000020000000000000001"
            + "616263";
        assert_eq!(hex(&entry.to_wire()), expected);

        let membership = Membership::new(vec![BTreeSet::from([1, 2])], BTreeSet::from([1, 2, 9]));
        let expected = "00000001".to_owned()
            + "0000000200000000000000010000000000000002"
            + "00000003000000000000000100000000000000020000000000000009";
        assert_eq!(hex(&membership.to_wire()), expected);
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was_and_no_prefix_of_it_does() {
        let membership = Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], BTreeSet::from([3]));
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Commands(Arc::from([Bytes::from_static(b"x"), Bytes::new()]))),
            EntryPayload::Normal(Commands(Arc::from([]))),
            EntryPayload::Membership(membership.clone()),
        ] {
            let entry = Entry { log_id: log_id(7, 1, 99), payload };
            let bytes = entry.to_wire();
            assert!(Entry::from_wire(&bytes) == Ok(entry));
            for length in 0..bytes.len() {
                assert!(Entry::from_wire(&bytes.slice(..length)).is_err(), "{length} bytes of {}", hex(&bytes));
            }
        }
        let stored = StoredMembership::new(Some(log_id(1, 1, 1)), membership);
        assert_eq!(StoredMembership::from_wire(&stored.to_wire()), Ok(stored));
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_before_it_allocates() {
        let bytes = Bytes::from_static(&[0xff; 12]);
        assert_eq!(Commands::from_wire(&bytes), Err(DecodeError::Truncated));
        assert_eq!(Vec::<u64>::from_wire(&bytes), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_membership_has_one_encoding_and_its_voters_are_nodes() {
        let twice = Bytes::from_static(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert!(matches!(BTreeSet::<u64>::from_wire(&twice), Err(DecodeError::Invalid(_))));
        let mut no_nodes = Vec::new();
        vec![BTreeSet::from([4_u64])].put(&mut no_nodes);
        BTreeSet::<u64>::new().put(&mut no_nodes);
        assert!(matches!(Membership::from_wire(&no_nodes.into()), Err(DecodeError::Invalid(_))));
    }
}

//! A group's records in the journal.
//!
//! | tag | record | content |
//! |---|---|---|
//! | 1 | entry | the entry; its log id stands first, so that a scan of headers finds it |
//! | 2 | vote | the vote |
//! | 3 | committed | the last committed log id; worth no sync of its own |
//! | 4 | truncated | the index from which on entries no longer count |
//! | 5 | base | vote, committed, and the log id up to which entries no longer count, so that older records can go |

use bytes::Bytes;
use waybill_types::codec::{DecodeError, Reader};

use super::types::{Entry, LogId, Vote};
use super::wire::{Wire, put_entry_head};

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATED: u8 = 4;
const BASE: u8 = 5;

/// Bytes of an entry's record that say which entry it is.
pub(super) const ENTRY_PREFIX_BYTES: usize = 25;

/// What has to be known besides the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
}

/// A record without the payload of entries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Entry(LogId),
    Vote(Vote),
    Committed(LogId),
    Truncated(u64),
    Base(Base),
}

impl Head {
    /// Whether a record beginning with these bytes is an entry, of which the head is in the first [`ENTRY_PREFIX_BYTES`].
    pub fn is_entry(prefix: &[u8]) -> bool {
        prefix.first() == Some(&ENTRY)
    }

    /// Reads an entry's prefix, or any other record whole.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes.clone());
        let head = match u8::read(&mut input)? {
            ENTRY => return Ok(Head::Entry(LogId::read(&mut input)?)),
            VOTE => Head::Vote(Vote::read(&mut input)?),
            COMMITTED => Head::Committed(LogId::read(&mut input)?),
            TRUNCATED => Head::Truncated(u64::read(&mut input)?),
            BASE => {
                let (vote, committed) = (Option::read(&mut input)?, Option::read(&mut input)?);
                Head::Base(Base { vote, committed, purged: Option::read(&mut input)? })
            }
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        input.finish()?;
        Ok(head)
    }
}

/// An entry's record in parts: its commands are not copied.
pub(super) fn entry(entry: &Entry) -> Vec<Bytes> {
    let mut head = vec![ENTRY];
    put_entry_head(entry, &mut head);
    let mut parts = vec![Bytes::from(head)];
    if let openraft::EntryPayload::Normal(commands) = &entry.payload {
        parts.extend(commands.0.iter().cloned());
    }
    parts
}

/// The entry of an entry's record.
pub(super) fn decode_entry(bytes: &Bytes) -> Result<Entry, DecodeError> {
    let mut input = Reader::new(bytes.clone());
    match u8::read(&mut input)? {
        ENTRY => {}
        tag => return Err(DecodeError::UnknownTag(tag)),
    }
    let entry = Entry::read(&mut input)?;
    input.finish()?;
    Ok(entry)
}

pub(super) fn vote(vote: &Vote) -> Vec<Bytes> {
    tagged(VOTE, |out| vote.put(out))
}

pub(super) fn committed(log_id: &LogId) -> Vec<Bytes> {
    tagged(COMMITTED, |out| log_id.put(out))
}

pub(super) fn truncated(since: u64) -> Vec<Bytes> {
    tagged(TRUNCATED, |out| since.put(out))
}

pub(super) fn base(base: &Base) -> Vec<Bytes> {
    tagged(BASE, |out| {
        base.vote.put(out);
        base.committed.put(out);
        base.purged.put(out);
    })
}

fn tagged(tag: u8, put: impl FnOnce(&mut Vec<u8>)) -> Vec<Bytes> {
    let mut out = vec![tag];
    put(&mut out);
    vec![Bytes::from(out)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::{CommittedLeaderId, EntryPayload};

    use super::super::types::Commands;
    use super::*;

    fn joined(parts: Vec<Bytes>) -> Bytes {
        parts.concat().into()
    }

    fn hex(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_records() {
        let log_id = LogId::new(CommittedLeaderId::new(1, 2), 3);
        let commands = Commands(Arc::from([Bytes::from_static(b"ab")]));
        let whole = Entry { log_id, payload: EntryPayload::Normal(commands) };
        let id = "000000000000000100000000000000020000000000000003";
        assert_eq!(hex(&joined(entry(&whole))), format!("01{id}0100000001000000026162"));
        assert_eq!(hex(&joined(vote(&Vote::new(1, 2)))), "020000000000000001000000000000000200");
        assert_eq!(hex(&joined(committed(&log_id))), format!("03{id}"));
        assert_eq!(hex(&joined(truncated(9))), "040000000000000009");
        let based = Base { vote: None, committed: None, purged: Some(log_id) };
        assert_eq!(hex(&joined(base(&based))), format!("05000001{id}"));
    }

    #[test]
    fn records_come_back_and_an_entry_is_known_by_its_prefix() {
        let log_id = LogId::new(CommittedLeaderId::new(1, 2), 3);
        let whole = Entry { log_id, payload: EntryPayload::Blank };
        let bytes = joined(entry(&whole));
        assert!(Head::is_entry(&bytes));
        assert_eq!(Head::decode(&bytes.slice(..ENTRY_PREFIX_BYTES)), Ok(Head::Entry(log_id)));
        assert!(Head::decode(&bytes.slice(..ENTRY_PREFIX_BYTES - 1)).is_err());
        assert!(decode_entry(&bytes) == Ok(whole));
        let based = Base { vote: Some(Vote::new(1, 2)), committed: Some(log_id), purged: Some(log_id) };
        assert_eq!(Head::decode(&joined(base(&based))), Ok(Head::Base(based)));
        assert_eq!(Head::decode(&joined(truncated(9))), Ok(Head::Truncated(9)));
        assert_eq!(Head::decode(&Bytes::from_static(&[9])), Err(DecodeError::UnknownTag(9)));
    }
}

//! What is persisted of a group, and its one encoding.
//!
//! Integers are big-endian; strings and bytes stand behind a length of four bytes; what may be absent stands behind a
//! byte 0 or 1. The first byte is the version of all this. Committed offsets are stored elsewhere.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::interface::Protocol;
use crate::frame::ReadError;
use crate::frame::reader::Reader;

const VERSION: u8 = 1;

/// A group in a completed generation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupMetadata {
    /// The generation.
    pub generation: i32,
    /// "consumer", "connect", ...; absent before the first member.
    pub protocol_type: Option<String>,
    /// The chosen protocol; absent without members.
    pub protocol: Option<String>,
    /// The leader's member id; absent without members.
    pub leader: Option<String>,
    /// The members, in the order of their ids.
    pub members: Vec<MemberMetadata>,
}

/// A member of a completed generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberMetadata {
    /// Its id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// From its request header.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// How long it may be silent.
    pub session_timeout_ms: u32,
    /// How long the group waits for it to rejoin.
    pub rebalance_timeout_ms: u32,
    /// All it can do, so that an unchanged rejoin is recognised as such after a restart.
    pub protocols: Vec<Protocol>,
    /// What the leader gave it.
    pub assignment: Bytes,
}

/// Why stored bytes are not a group's metadata. The store is damaged, or newer than this program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum MetadataError {
    /// Written in a later encoding.
    #[error("group metadata of version {0}")]
    Version(u8),
    /// The bytes end early.
    #[error("group metadata: {0}")]
    Read(#[from] ReadError),
    /// A name is not UTF-8.
    #[error("group metadata: text is not UTF-8")]
    NotUtf8,
    /// A byte that says whether something follows is neither 0 nor 1.
    #[error("group metadata: presence {0}")]
    Presence(u8),
    /// Bytes are left over.
    #[error("group metadata: {0} bytes too many")]
    Trailing(usize),
}

impl GroupMetadata {
    /// The bytes to store.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_i32(self.generation);
        for text in [&self.protocol_type, &self.protocol, &self.leader] {
            put_optional(&mut out, text.as_deref());
        }
        put_length(&mut out, self.members.len());
        self.members.iter().for_each(|member| member.encode(&mut out));
        out.freeze()
    }

    /// Reads what [`GroupMetadata::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut from = Reader::new(bytes);
        let [version] = from.array()?;
        if version != VERSION {
            return Err(MetadataError::Version(version));
        }
        let mut metadata = Self {
            generation: from.int32()?,
            protocol_type: take_optional(&mut from)?,
            protocol: take_optional(&mut from)?,
            leader: take_optional(&mut from)?,
            members: Vec::new(),
        };
        for _ in 0..take_length(&mut from)? {
            metadata.members.push(MemberMetadata::decode(&mut from)?);
        }
        match from.remaining() {
            0 => Ok(metadata),
            trailing => Err(MetadataError::Trailing(trailing)),
        }
    }
}

impl MemberMetadata {
    fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self.member_id.as_bytes());
        put_optional(out, self.instance_id.as_deref());
        put_bytes(out, self.client_id.as_bytes());
        put_bytes(out, self.client_host.as_bytes());
        out.put_u32(self.session_timeout_ms);
        out.put_u32(self.rebalance_timeout_ms);
        put_length(out, self.protocols.len());
        for protocol in &self.protocols {
            put_bytes(out, protocol.name.as_bytes());
            put_bytes(out, &protocol.metadata);
        }
        put_bytes(out, &self.assignment);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, MetadataError> {
        let mut member = Self {
            member_id: take_text(from)?,
            instance_id: take_optional(from)?,
            client_id: take_text(from)?,
            client_host: take_text(from)?,
            session_timeout_ms: from.array().map(u32::from_be_bytes)?,
            rebalance_timeout_ms: from.array().map(u32::from_be_bytes)?,
            protocols: Vec::new(),
            assignment: Bytes::new(),
        };
        for _ in 0..take_length(from)? {
            let name = take_text(from)?;
            member.protocols.push(Protocol { name, metadata: take_bytes(from)? });
        }
        member.assignment = take_bytes(from)?;
        Ok(member)
    }
}

/// Lengths are far below 4 GB: the group's limits see to it.
fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

fn put_optional(out: &mut BytesMut, text: Option<&str>) {
    out.put_u8(text.is_some().into());
    if let Some(text) = text {
        put_bytes(out, text.as_bytes());
    }
}

fn take_length(from: &mut Reader<'_>) -> Result<usize, ReadError> {
    from.array().map(|bytes| u32::from_be_bytes(bytes) as usize)
}

fn take_bytes(from: &mut Reader<'_>) -> Result<Bytes, MetadataError> {
    let length = take_length(from)?;
    Ok(Bytes::copy_from_slice(from.take(length)?))
}

fn take_text(from: &mut Reader<'_>) -> Result<String, MetadataError> {
    let length = take_length(from)?;
    let text = std::str::from_utf8(from.take(length)?).map_err(|_| MetadataError::NotUtf8)?;
    Ok(text.to_owned())
}

fn take_optional(from: &mut Reader<'_>) -> Result<Option<String>, MetadataError> {
    match from.array()? {
        [0] => Ok(None),
        [1] => take_text(from).map(Some),
        [other] => Err(MetadataError::Presence(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> GroupMetadata {
        GroupMetadata {
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            leader: Some("m".into()),
            members: vec![MemberMetadata {
                member_id: "m".into(),
                instance_id: None,
                client_id: "c".into(),
                client_host: "/::1".into(),
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 60_000,
                protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(&[0, 1]) }],
                assignment: Bytes::from_static(&[9]),
            }],
        }
    }

    #[test]
    fn the_encoding_is_pinned() {
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = [
            "01",
            "00000003",
            "0100000008636f6e73756d6572",
            "010000000572616e6765",
            "01000000016d",
            "00000001",
            "000000016d",
            "00",
            "0000000163",
            "000000042f3a3a31",
            "00002710",
            "0000ea60",
            "00000001",
            "0000000572616e6765",
            "000000020001",
            "0000000109",
        ];
        assert_eq!(hex, golden.concat());
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(GroupMetadata::decode(&sample().encode()), Ok(sample()));
        let empty = GroupMetadata { generation: i32::MAX, ..GroupMetadata::default() };
        assert_eq!(GroupMetadata::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn damage_is_named() {
        let good = sample().encode();
        for cut in 0..good.len() {
            assert!(matches!(GroupMetadata::decode(&good[..cut]), Err(MetadataError::Read(_))), "{cut}");
        }
        assert_eq!(GroupMetadata::decode(&[&good[..], &[0]].concat()), Err(MetadataError::Trailing(1)));
        assert_eq!(GroupMetadata::decode(&[2]), Err(MetadataError::Version(2)));
        let mut bad = good.to_vec();
        bad[5] = 7;
        assert_eq!(GroupMetadata::decode(&bad), Err(MetadataError::Presence(7)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = GroupMetadata::decode(&[&[VERSION], &bytes[..]].concat());
        }
    }
}

//! Bounds before decoding: what a request's bytes claim is checked against what is there.
//!
//! The decoders of `kafka-protocol` allocate an array for the number of elements it claims, before they read the
//! first: seven bytes make them ask for 154 GB. So each body is walked first along its shape, the layout of the
//! message as a table. The walk allocates nothing, reads nothing but lengths (records, strings and byte fields are
//! stepped over), and passes only if every length lies within the bytes that are there. Since no element is empty on
//! the wire, a count that passes is at most the number of bytes.
//!
//! A claim can be true and still too dear: a two-byte topic becomes a struct of a hundred bytes, a two-byte tagged
//! field a tree node of four hundred. Hence the other bounds, [`ELEMENTS_MAX`] and [`TAGS_MAX`].
//!
//! Why this is safe for every advertised version: the test `shapes_agree_with_the_decoders` writes requests *from
//! these tables* and has the decoders read them, byte for byte, for each API and version; a table that disagreed with
//! its decoder about the place of a single length would be found out. Tagged fields are stepped over by their size.
//! The one tag with a meaning in an advertised version (cluster id, in Fetch 12) is read by the decoder without
//! regard to that size; it holds a string, nothing but tags can follow it, so no array is reached from there.

use thiserror::Error;

use crate::frame::ReadError;
use crate::frame::reader::Reader;

/// The most structs and strings in arrays that one request may hold: more partitions than a Kafka cluster has, and at
/// about a hundred bytes each no danger to the node.
pub const ELEMENTS_MAX: usize = 200_000;

/// The most tagged fields that one request may hold. Clients send those that the protocol knows: a handful.
pub const TAGS_MAX: usize = 1_000;

/// Why a request's body is refused before it is decoded. Positions count from the start of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ShapeError {
    /// A field, a string or an array reaches beyond the body.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A length that is negative, and not the -1 that means null.
    #[error("length {length} at byte {at}")]
    Length {
        /// The claimed length.
        length: i32,
        /// Where it stands.
        at: usize,
    },
    /// More than [`ELEMENTS_MAX`] elements.
    #[error("more than {ELEMENTS_MAX} elements")]
    TooManyElements,
    /// More than [`TAGS_MAX`] tagged fields.
    #[error("more than {TAGS_MAX} tagged fields")]
    TooManyTags,
}

/// A field of a message, and the versions that have it.
pub(super) struct Field {
    pub(super) kind: Kind,
    pub(super) since: i16,
    pub(super) until: i16,
}

/// How a field is laid out. Lengths are compact (KIP-482) in flexible versions.
pub(super) enum Kind {
    /// Integers, booleans and UUIDs, by their size.
    Fixed(usize),
    /// A string, possibly null.
    Text,
    /// Bytes or records, possibly null.
    Blob,
    /// An array of integers.
    Fixeds(usize),
    /// An array of strings.
    Texts,
    /// An array of structs.
    Structs(&'static [Field]),
}

pub(super) const fn fixed(bytes: usize) -> Field {
    field(Kind::Fixed(bytes))
}

pub(super) const fn text() -> Field {
    field(Kind::Text)
}

pub(super) const fn blob() -> Field {
    field(Kind::Blob)
}

pub(super) const fn fixeds(bytes: usize) -> Field {
    field(Kind::Fixeds(bytes))
}

pub(super) const fn texts() -> Field {
    field(Kind::Texts)
}

pub(super) const fn structs(fields: &'static [Field]) -> Field {
    field(Kind::Structs(fields))
}

const fn field(kind: Kind) -> Field {
    Field { kind, since: 0, until: i16::MAX }
}

impl Field {
    /// The field exists from this version on.
    pub(super) const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    /// The field exists up to this version.
    pub(super) const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    pub(super) fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }
}

/// Checks a body against a message's fields and gives the number of bytes they take.
///
/// Bytes behind the message are not an error: Kafka takes no notice of them either.
pub(super) fn check(fields: &[Field], version: i16, flexible: bool, body: &[u8]) -> Result<usize, ShapeError> {
    let mut walk =
        Walk { reader: Reader::new(body), version, flexible, elements_left: ELEMENTS_MAX, tags_left: TAGS_MAX };
    walk.fields(fields)?;
    Ok(walk.reader.position())
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    elements_left: usize,
    tags_left: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            match field.kind {
                Kind::Fixed(bytes) => self.skip(bytes)?,
                Kind::Text => self.text()?,
                Kind::Blob => self.blob()?,
                Kind::Fixeds(bytes) => {
                    let count = self.long_length()?;
                    self.skip(count.saturating_mul(bytes))?;
                }
                Kind::Texts => self.each(Self::text)?,
                Kind::Structs(inner) => self.each(|walk| walk.fields(inner))?,
            }
        }
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn each(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), ShapeError>) -> Result<(), ShapeError> {
        for _ in 0..self.long_length()? {
            self.elements_left = self.elements_left.checked_sub(1).ok_or(ShapeError::TooManyElements)?;
            element(self)?;
        }
        Ok(())
    }

    fn tags(&mut self) -> Result<(), ShapeError> {
        for _ in 0..self.reader.unsigned_varint()? {
            self.tags_left = self.tags_left.checked_sub(1).ok_or(ShapeError::TooManyTags)?;
            let _tag = self.reader.unsigned_varint()?;
            let size = self.reader.unsigned_varint()?;
            self.skip(size as usize)?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), ShapeError> {
        let bytes = if self.flexible {
            self.compact_length()?
        } else {
            let at = self.reader.position();
            let length = self.reader.int16()?;
            length_or_null(length.into(), at)?
        };
        self.skip(bytes)
    }

    fn blob(&mut self) -> Result<(), ShapeError> {
        let bytes = self.long_length()?;
        self.skip(bytes)
    }

    /// The length of an array or of bytes; null counts as 0.
    fn long_length(&mut self) -> Result<usize, ShapeError> {
        if self.flexible {
            return self.compact_length();
        }
        let at = self.reader.position();
        let length = self.reader.int32()?;
        length_or_null(length, at)
    }

    /// One more than the length, so that 0 can mean null.
    fn compact_length(&mut self) -> Result<usize, ShapeError> {
        Ok(self.reader.unsigned_varint()?.saturating_sub(1) as usize)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), ShapeError> {
        self.reader.take(bytes)?;
        Ok(())
    }
}

fn length_or_null(length: i32, at: usize) -> Result<usize, ShapeError> {
    if length == -1 { Ok(0) } else { usize::try_from(length).map_err(|_| ShapeError::Length { length, at }) }
}

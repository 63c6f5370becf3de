//! The canonical encoding: fixed-width big-endian integers, `u32` length prefixes, one tag byte per enum.
//!
//! One value has exactly one encoding, and [`Codec::from_bytes`] accepts nothing else. Lengths are checked against
//! what is left of the input before anything is allocated.

use alloc::{string::String, vec::Vec};
use bytes::{Buf, Bytes};
use core::fmt;

/// A type with one canonical encoding.
pub trait Codec: Sized {
    /// Appends the encoding of `self`.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes one value off the front of `input`.
    fn decode(input: &mut Reader) -> Result<Self, DecodeError>;

    /// The encoding as a fresh buffer.
    fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }

    /// Decodes all of `bytes`; anything left over is an error.
    fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes.clone());
        let value = Self::decode(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

/// Why bytes are not the canonical encoding of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ended inside a value, or a length points beyond it.
    Truncated,
    /// Bytes are left after the value.
    TrailingBytes,
    /// A tag or flag has no meaning here.
    UnknownTag(u8),
    /// The bytes have the right shape and a forbidden content (the text says which).
    Invalid(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => write!(f, "the input ends inside a value"),
            DecodeError::TrailingBytes => write!(f, "bytes are left over after the value"),
            DecodeError::UnknownTag(tag) => write!(f, "unknown tag {tag}"),
            DecodeError::Invalid(what) => write!(f, "{what}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A cursor over shared bytes; byte strings come out of it without a copy.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Reader { rest: bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes `count` bytes, sharing the input's memory.
    pub fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if count > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.rest.split_to(count))
    }

    /// Takes a fixed number of bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        // Copied out without a share of the memory: integers are most of what there is, and shares are counted.
        let array = *self.rest.first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest.advance(N);
        Ok(array)
    }

    /// Succeeds when nothing is left.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Codec for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
                Ok(<$int>::from_be_bytes(input.array()?))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i16, i32, i64);

impl Codec for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::UnknownTag(tag)),
        }
    }
}

impl<const N: usize> Codec for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        input.array()
    }
}

impl Codec for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        out.extend_from_slice(self);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let length = u32::decode(input)? as usize;
        input.take(length)
    }
}

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let bytes = Bytes::decode(input)?;
        let text = core::str::from_utf8(&bytes).map_err(|_| DecodeError::Invalid("text is not UTF-8"))?;
        Ok(String::from(text))
    }
}

impl<T: Codec> Codec for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        for item in self {
            item.encode(out);
        }
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        decode_items(input, T::decode)
    }
}

/// Decodes a list whose items `decode` takes off one by one.
pub(crate) fn decode_items<T>(
    input: &mut Reader,
    decode: impl Fn(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    /// A claimed count allocates no more than this ahead of the items that prove it.
    const PREALLOCATED_ITEMS_MAX: usize = 64;
    let count = u32::decode(input)? as usize;
    if count > input.remaining() {
        return Err(DecodeError::Truncated);
    }
    let mut items = Vec::with_capacity(count.min(PREALLOCATED_ITEMS_MAX));
    for _ in 0..count {
        items.push(decode(input)?);
    }
    Ok(items)
}

impl<T: Codec> Codec for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(if bool::decode(input)? { Some(T::decode(input)?) } else { None })
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
}

/// No value of ours comes near 4 GiB; a longer one would be cut, so it is refused where it is made.
fn encode_length(length: usize, out: &mut Vec<u8>) {
    debug_assert!(u32::try_from(length).is_ok());
    (length as u32).encode(out);
}

/// Implements [`Codec`] for a struct: its fields in the order given.
#[macro_export]
macro_rules! codec_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::codec::Codec for $name {
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                $( $crate::codec::Codec::encode(&self.$field, out); )*
            }
            fn decode(input: &mut $crate::codec::Reader) -> Result<Self, $crate::codec::DecodeError> {
                $( let $field = $crate::codec::Codec::decode(input)?; )*
                Ok($name { $($field),* })
            }
        }
    };
}

/// Implements [`Codec`] for an enum whose variants hold one value each: a tag byte, then the value.
#[macro_export]
macro_rules! codec_enum {
    ($name:ident { $($tag:literal => $variant:ident),* $(,)? }) => {
        impl $crate::codec::Codec for $name {
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                match self {
                    $( $name::$variant(value) => {
                        out.push($tag);
                        $crate::codec::Codec::encode(value, out);
                    } )*
                }
            }
            fn decode(input: &mut $crate::codec::Reader) -> Result<Self, $crate::codec::DecodeError> {
                match <u8 as $crate::codec::Codec>::decode(input)? {
                    $( $tag => Ok($name::$variant($crate::codec::Codec::decode(input)?)), )*
                    tag => Err($crate::codec::DecodeError::UnknownTag(tag)),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn trailing_bytes_are_refused() {
        let bytes = Bytes::from_static(&[0, 0, 0, 7, 9]);
        assert_eq!(u32::from_bytes(&bytes), Err(DecodeError::TrailingBytes));
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_before_it_allocates() {
        let bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(Vec::<u64>::from_bytes(&bytes), Err(DecodeError::Truncated));
        assert_eq!(Bytes::from_bytes(&bytes), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_flag_is_zero_or_one() {
        assert_eq!(bool::from_bytes(&Bytes::from_static(&[2])), Err(DecodeError::UnknownTag(2)));
    }

    #[test]
    fn golden_encodings() {
        let value: (Option<u16>, Vec<(u8, Bytes)>) = (Some(0x0102), vec![(3, Bytes::from_static(b"ab"))]);
        let bytes = value.to_bytes();
        assert_eq!(bytes.as_ref(), [1, 1, 2, 0, 0, 0, 1, 3, 0, 0, 0, 2, b'a', b'b']);
        assert_eq!(Codec::from_bytes(&bytes), Ok(value));
    }
}

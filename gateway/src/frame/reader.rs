//! Bounds-checked reading of Kafka's primitive types: the only way in which this crate looks at bytes of a client
//! before they are known to be well formed.

use thiserror::Error;

/// Why bytes could not be read. Positions count from where the reader began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// A field reaches beyond the end.
    #[error("{wanted} bytes wanted at byte {at}, {left} left")]
    Truncated {
        /// Where the field starts.
        at: usize,
        /// Its length in bytes.
        wanted: usize,
        /// The bytes that are there.
        left: usize,
    },
    /// A variable-length integer does not end within the bytes its type allows.
    #[error("variable-length integer too long at byte {at}")]
    Varint {
        /// Where it starts.
        at: usize,
    },
}

/// A position in a slice that only moves forward.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// How many are left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(ReadError::Truncated { at: self.at, wanted: count, left: rest.len() })?;
        self.at += count;
        Ok(taken)
    }

    /// The next `N` bytes, for `from_be_bytes`.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn int16(&mut self) -> Result<i16, ReadError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn int32(&mut self) -> Result<i32, ReadError> {
        self.array().map(i32::from_be_bytes)
    }

    /// UNSIGNED_VARINT: at most 5 bytes, and no bits beyond the 32nd.
    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, ReadError> {
        let at = self.at;
        let mut value: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| ReadError::Varint { at });
            }
        }
        Err(ReadError::Varint { at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn taking_beyond_the_end_says_where_and_moves_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.take(1), Ok(&[1][..]));
        assert_eq!(reader.int32(), Err(ReadError::Truncated { at: 1, wanted: 4, left: 2 }));
        assert_eq!(
            reader.take(usize::MAX).map(<[u8]>::len),
            Err(ReadError::Truncated { at: 1, wanted: usize::MAX, left: 2 })
        );
        assert_eq!(reader.take(2), Ok(&[2, 3][..]));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn variable_length_integers_as_the_specification_writes_them() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0x80, 0x01], 128),
            (&[0xac, 0x02], 300),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], u32::MAX),
        ] {
            assert_eq!(Reader::new(bytes).unsigned_varint(), Ok(value));
        }
    }

    #[test]
    fn an_integer_that_overflows_its_type_is_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).unsigned_varint(), Err(ReadError::Varint { at: 0 }));
        assert_eq!(Reader::new(&[0x80; 6]).unsigned_varint(), Err(ReadError::Varint { at: 0 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut reader = Reader::new(&bytes);
            while reader.unsigned_varint().is_ok() {}
            let _ = reader.int16();
            prop_assert!(reader.position() <= bytes.len());
        }
    }
}

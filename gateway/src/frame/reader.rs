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
        let value = self.leb128(5)?;
        u32::try_from(value).map_err(|_| ReadError::Varint { at })
    }

    /// VARINT: zigzag-coded, 32 bits.
    pub(crate) fn varint(&mut self) -> Result<i32, ReadError> {
        let value = self.unsigned_varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// VARLONG: zigzag-coded, 64 bits.
    pub(crate) fn varlong(&mut self) -> Result<i64, ReadError> {
        let value = self.leb128(10)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn leb128(&mut self, bytes_max: u32) -> Result<u64, ReadError> {
        let at = self.at;
        let mut value = 0;
        for index in 0..bytes_max {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte of a VARLONG has room for a single bit.
            if index == 9 && bits > 1 {
                return Err(ReadError::Varint { at });
            }
            value |= bits << (index * 7);
            if byte < 0x80 {
                return Ok(value);
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
            (&[0x01], -1),
            (&[0x02], 1),
            (&[0xd8, 0x04], 300),
            (&[0xfe, 0xff, 0xff, 0xff, 0x0f], i32::MAX),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], i32::MIN),
        ] {
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
            assert_eq!(Reader::new(bytes).varlong(), Ok(i64::from(value)));
        }
        let long = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&long).varlong(), Ok(i64::MIN));
    }

    #[test]
    fn an_integer_that_overflows_its_type_is_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).unsigned_varint(), Err(ReadError::Varint { at: 0 }));
        assert_eq!(Reader::new(&[0x80; 6]).unsigned_varint(), Err(ReadError::Varint { at: 0 }));
        assert_eq!(Reader::new(&[0xff; 11]).varlong(), Err(ReadError::Varint { at: 0 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut reader = Reader::new(&bytes);
            while reader.remaining() > 0 && reader.varint().is_ok() {}
            while reader.remaining() > 0 && reader.varlong().is_ok() {}
            let _ = reader.int16();
            prop_assert!(reader.position() <= bytes.len());
        }
    }
}

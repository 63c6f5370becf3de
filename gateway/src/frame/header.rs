//! The request header: which API, which version, which answer, which client.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use thiserror::Error;

use super::reader::{ReadError, Reader};
use crate::versions;

/// What precedes the body of every request (header versions 1 and 2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// The API's key, known or not.
    pub api_key: i16,
    /// The version of the body, supported or not.
    pub api_version: i16,
    /// What the client expects back in the response's header.
    pub correlation_id: i32,
    /// How the client calls itself. A slice of the frame: copy it to keep it beyond the request.
    pub client_id: Option<StrBytes>,
}

/// Why a frame has no readable request header. The client sent it; the connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeaderError {
    /// The frame ends within the API key, the version or the correlation id.
    #[error("request header: {0}")]
    Fixed(ReadError),
    /// The client id reaches beyond the frame.
    #[error("request header, client id: {0}")]
    ClientId(ReadError),
    /// The client id has a negative length other than -1, which means null.
    #[error("request header: client id of {0} bytes")]
    ClientIdLength(i16),
    /// The client id is not UTF-8.
    #[error("request header: client id is not UTF-8")]
    ClientIdNotUtf8,
    /// The tagged fields reach beyond the frame.
    #[error("request header, tagged fields: {0}")]
    Tags(ReadError),
}

impl RequestHeader {
    /// Splits a frame into its header and body, copying neither.
    ///
    /// Of a request that is not served (unknown key, or version out of range) nothing is read behind the client id,
    /// since its layout is unknown: the body is then whatever follows.
    pub fn read(frame: &Bytes) -> Result<(Self, Bytes), HeaderError> {
        let mut reader = Reader::new(frame);
        let api_key = reader.int16().map_err(HeaderError::Fixed)?;
        let api_version = reader.int16().map_err(HeaderError::Fixed)?;
        let correlation_id = reader.int32().map_err(HeaderError::Fixed)?;
        let client_id = read_client_id(&mut reader, frame)?;
        if versions::request_header_has_tags(api_key, api_version) {
            skip_tags(&mut reader).map_err(HeaderError::Tags)?;
        }
        let body = frame.slice(reader.position()..);
        Ok((Self { api_key, api_version, correlation_id, client_id }, body))
    }
}

fn read_client_id(reader: &mut Reader<'_>, frame: &Bytes) -> Result<Option<StrBytes>, HeaderError> {
    let length = reader.int16().map_err(HeaderError::ClientId)?;
    if length == -1 {
        return Ok(None);
    }
    let bytes = usize::try_from(length).map_err(|_| HeaderError::ClientIdLength(length))?;
    let start = reader.position();
    reader.take(bytes).map_err(HeaderError::ClientId)?;
    let text = StrBytes::from_utf8(frame.slice(start..start + bytes)).map_err(|_| HeaderError::ClientIdNotUtf8)?;
    Ok(Some(text))
}

/// No tagged field of a request header means anything to us; clients may send them (KIP-482).
fn skip_tags(reader: &mut Reader<'_>) -> Result<(), ReadError> {
    for _ in 0..reader.unsigned_varint()? {
        let _tag = reader.unsigned_varint()?;
        let size = reader.unsigned_varint()?;
        reader.take(size as usize)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Headers as `kafka-protocol` writes them are read back; everything else is refused by name.

    use super::*;
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::RequestHeader as Reference;
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    fn frame(api_key: i16, api_version: i16, client_id: Option<&str>, tail: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        let flexible = versions::request_header_has_tags(api_key, api_version);
        Reference::default()
            .with_request_api_key(api_key)
            .with_request_api_version(api_version)
            .with_correlation_id(77)
            .with_client_id(client_id.map(|id| StrBytes::from_string(id.to_owned())))
            .encode(&mut bytes, 1 + i16::from(flexible))
            .expect("a header");
        bytes.put_slice(tail);
        bytes.freeze()
    }

    #[test]
    fn reads_what_the_reference_writes() {
        for (key, version) in [(3, 0), (3, 12), (18, 3), (0, 9), (18, 99), (-5, 7)] {
            for client_id in [None, Some(""), Some("kcat"), Some("größe")] {
                let (header, body) = RequestHeader::read(&frame(key, version, client_id, b"body")).expect("a header");
                assert_eq!((header.api_key, header.api_version, header.correlation_id), (key, version, 77));
                assert_eq!(header.client_id.as_deref(), client_id);
                assert_eq!(&body[..], b"body");
            }
        }
    }

    #[test]
    fn tagged_fields_of_a_flexible_header_are_skipped() {
        let mut bytes = BytesMut::from(&frame(18, 0, Some("a"), b"")[..]);
        bytes[3] = 3;
        bytes.put_slice(&[2, 0, 1, 0xaa, 9, 0, b'!']);
        let (_, body) = RequestHeader::read(&bytes.freeze()).expect("a header");
        assert_eq!(&body[..], b"!");
    }

    #[test]
    fn says_what_is_wrong() {
        let good = frame(18, 3, Some("kcat"), b"");
        let read = |bytes: &[u8]| RequestHeader::read(&Bytes::copy_from_slice(bytes)).expect_err("refused");
        assert!(matches!(read(&[]), HeaderError::Fixed(_)));
        assert!(matches!(read(&good[..7]), HeaderError::Fixed(_)));
        assert!(matches!(read(&good[..9]), HeaderError::ClientId(_)));
        assert!(matches!(read(&good[..12]), HeaderError::ClientId(_)));
        assert!(matches!(read(&good[..14]), HeaderError::Tags(_)));
        let mut bad = good.to_vec();
        bad[8] = 0x80;
        assert_eq!(read(&bad), HeaderError::ClientIdLength(i16::MIN + 4));
        let mut bad = good.to_vec();
        bad[10] = 0xff;
        assert_eq!(read(&bad), HeaderError::ClientIdNotUtf8);
    }

    #[test]
    fn the_body_is_not_a_copy() {
        let frame = frame(3, 0, None, &[7; 64]);
        let (_, body) = RequestHeader::read(&frame).expect("a header");
        assert_eq!(body.as_ptr(), frame[frame.len() - 64..].as_ptr());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = RequestHeader::read(&Bytes::from(bytes));
        }

        #[test]
        fn no_truncation_makes_it_panic(key in 0_i16..61, version in 0_i16..14, cut in 0_usize..20) {
            let frame = frame(key, version, Some("client"), &[]);
            let _ = RequestHeader::read(&frame.slice(..cut.min(frame.len())));
        }
    }
}

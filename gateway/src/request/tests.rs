//! Tables against decoders, and decoders against hostile bytes.
//!
//! A small generator writes random requests along the tables. That `kafka-protocol` reads each to its last byte and
//! writes the very same bytes again proves that table and decoder agree about every field of every advertised
//! version; the same requests, mutated, are the hostile input.

use super::shape::{Field, Kind, ShapeError, check};
use super::*;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::RequestKind;
use proptest::prelude::*;

/// A seeded sequence of numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

struct Writer {
    dice: Dice,
    version: i16,
    flexible: bool,
    out: BytesMut,
}

impl Writer {
    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            match field.kind {
                Kind::Fixed(bytes) => self.fixed(bytes),
                Kind::Text => self.text(),
                Kind::Blob => {
                    let bytes = self.length(40);
                    self.noise(bytes);
                }
                Kind::Fixeds(bytes) => (0..self.length(4)).for_each(|_| self.fixed(bytes)),
                Kind::Texts => (0..self.length(4)).for_each(|_| self.text()),
                Kind::Structs(inner) => (0..self.length(4)).for_each(|_| self.fields(inner)),
            }
        }
        if self.flexible {
            self.tags();
        }
    }

    /// A single byte may be a boolean, which is written back as 0 or 1.
    fn fixed(&mut self, bytes: usize) {
        if bytes == 1 { self.out.put_u8(self.dice.below(2) as u8) } else { self.noise(bytes) }
    }

    fn text(&mut self) {
        let bytes = self.dice.below(9) as usize;
        if self.flexible {
            self.varint(bytes as u32 + 1)
        } else {
            self.out.put_i16(bytes as i16)
        }
        for _ in 0..bytes {
            let letter = b'a' + self.dice.below(26) as u8;
            self.out.put_u8(letter);
        }
    }

    fn length(&mut self, bound: u64) -> usize {
        let length = self.dice.below(bound) as usize;
        if self.flexible {
            self.varint(length as u32 + 1)
        } else {
            self.out.put_i32(length as i32)
        }
        length
    }

    /// Tags far above those with a meaning, in the ascending order that is written back.
    fn tags(&mut self) {
        let count = self.dice.below(3) as u32;
        self.varint(count);
        for index in 0..count {
            self.varint(1_000 + index);
            let bytes = self.dice.below(5) as u32;
            self.varint(bytes);
            self.noise(bytes as usize);
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    fn noise(&mut self, bytes: usize) {
        for _ in 0..bytes {
            let byte = self.dice.roll() as u8;
            self.out.put_u8(byte);
        }
    }
}

fn random_body(api: Api, version: i16, seed: u64) -> Bytes {
    let flexible = versions::is_flexible(api, version);
    let mut writer = Writer { dice: Dice(seed), version, flexible, out: BytesMut::new() };
    writer.fields(shape_of(api));
    writer.out.freeze()
}

fn header(api_key: i16, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 1, client_id: None }
}

fn every_version() -> impl Iterator<Item = (Api, i16)> {
    versions::TABLE.into_iter().flat_map(|row| (row.min..=row.max).map(move |version| (row.api, version)))
}

/// Decodes and encodes with `kafka-protocol`'s own table of APIs.
fn reencode(api: Api, version: i16, body: &mut Bytes) -> Vec<u8> {
    let key = messages::ApiKey::try_from(api.key()).expect("a key");
    let request = RequestKind::decode(key, body, version).expect("decodes");
    let mut out = BytesMut::new();
    request.encode(&mut out, version).expect("encodes");
    out.to_vec()
}

#[test]
fn shapes_agree_with_the_decoders() {
    for (api, version) in every_version().filter(|&(api, version)| api != Api::Produce || version >= 3) {
        for seed in 0..200 {
            let body = random_body(api, version, seed);
            let mut rest = body.clone();
            assert_eq!(reencode(api, version, &mut rest), &body[..], "{api:?} {version} seed {seed}");
            assert!(rest.is_empty(), "{api:?} {version} seed {seed}");
            let walked = check(shape_of(api), version, versions::is_flexible(api, version), &body);
            assert_eq!(walked, Ok(body.len()), "{api:?} {version} seed {seed}");
        }
    }
}

#[test]
fn every_request_decodes_as_its_own_kind() {
    for (api, version) in every_version() {
        let request = Request::decode_body(api, version, random_body(api, version, 7)).expect("decodes");
        assert_eq!(request.api(), api);
    }
}

#[test]
fn a_claimed_array_is_refused_before_it_is_allocated() {
    // Metadata 12: one topic array of 2^31 elements. Unchecked, the decoder asks for 154 GB and the process aborts.
    let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]);
    let refusal = Request::decode(&header(3, 12), body).expect_err("refused");
    assert!(matches!(refusal, DecodeError::Malformed { api: Api::Metadata, version: 12, .. }));
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 1, b'a']);
    assert!(Request::decode(&header(3, 1), body).is_err());
}

#[test]
fn negative_lengths_are_named() {
    let refusal = Request::decode(&header(3, 1), Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe])).expect_err("refused");
    let reason = ShapeError::Length { length: -2, at: 0 };
    assert_eq!(refusal, DecodeError::Malformed { api: Api::Metadata, version: 1, reason });
}

#[test]
fn a_null_array_is_no_error_where_it_has_a_meaning() {
    let request = Request::decode(&header(3, 1), Bytes::from_static(&[0xff; 4])).expect("all topics");
    assert!(matches!(request, Request::Metadata(metadata) if metadata.topics.is_none()));
    let refusal = Request::decode(&header(20, 1), Bytes::from_static(&[0xff; 8])).expect_err("no topics to delete");
    assert!(matches!(refusal, DecodeError::Invalid { api: Api::DeleteTopics, version: 1, .. }));
}

#[test]
fn true_claims_have_a_limit_too() {
    let mut body = BytesMut::new();
    let count = ELEMENTS_MAX + 1;
    body.put_i32(count as i32);
    body.put_bytes(0, count * 2);
    let refusal = Request::decode(&header(3, 1), body.freeze()).expect_err("refused");
    assert!(matches!(refusal, DecodeError::Malformed { reason: ShapeError::TooManyElements, .. }));
    // Tagged fields become nodes of a map: 1,001 of them, each of tag 0 and size 0.
    let mut body = BytesMut::from(&[1, 1, 0xe9, 0x07][..]);
    body.put_bytes(0, (TAGS_MAX + 1) * 2);
    let refusal = Request::decode(&header(18, 3), body.freeze()).expect_err("refused");
    assert!(matches!(refusal, DecodeError::Malformed { reason: ShapeError::TooManyTags, .. }));
}

#[test]
fn what_is_not_served_is_told_apart() {
    assert_eq!(Request::decode(&header(9_999, 0), Bytes::new()), Err(DecodeError::UnknownApi(9_999)));
    assert_eq!(
        Request::decode(&header(18, 99), Bytes::new()),
        Err(DecodeError::UnsupportedVersion { api: Api::ApiVersions, version: 99 })
    );
}

#[test]
fn records_are_slices_of_the_frame() {
    let mut body = BytesMut::new();
    body.put_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8]);
    body.put_slice(b"recordsX");
    let body = body.freeze();
    let Ok(Request::Produce(produce)) = Request::decode(&header(0, 3), body.clone()) else {
        panic!("a Produce request");
    };
    let records = produce.topic_data[0].partition_data[0].records.as_ref().expect("records");
    assert_eq!(records.as_ptr(), body[body.len() - 8..].as_ptr());
}

#[test]
fn produce_0_to_2_is_decoded_to_be_refused_by_partition() {
    for version in 0..3 {
        let body = random_body(Api::Produce, version, 11);
        let mut as_version_3 = BytesMut::from(&[0xff, 0xff][..]);
        as_version_3.put_slice(&body);
        let old = Request::decode(&header(0, version), body).expect("decodes");
        let new = Request::decode(&header(0, 3), as_version_3.freeze()).expect("decodes");
        assert_eq!(old, new);
    }
}

fn any_version() -> impl Strategy<Value = (Api, i16)> {
    let all: Vec<_> = every_version().collect();
    proptest::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_never_panic(
        (api, version) in any_version(),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Request::decode_body(api, version, Bytes::from(bytes));
    }

    #[test]
    fn mutated_requests_never_panic(
        (api, version) in any_version(),
        seed: u64,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let mut bytes = random_body(api, version, seed).to_vec();
        if !bytes.is_empty() {
            for (place, value) in changes {
                let at = place.index(bytes.len());
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(keep.index(bytes.len()));
            }
        }
        let _ = Request::decode_body(api, version, Bytes::from(bytes));
    }

    #[test]
    fn a_body_that_decodes_was_read_as_far_as_it_was_checked(
        (api, version) in any_version(),
        seed: u64,
        place in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let mut bytes = random_body(api, version, seed).to_vec();
        prop_assume!(!bytes.is_empty());
        let at = place.index(bytes.len());
        bytes[at] = value;
        let mut body = Bytes::from(bytes);
        let whole = body.len();
        let flexible = versions::is_flexible(api, version);
        if let Ok(checked) = check(shape_of(api), version, flexible, &body)
            && Request::decode_checked(api, version, &mut body).is_ok()
        {
            prop_assert_eq!(whole - body.len(), checked);
        }
    }
}

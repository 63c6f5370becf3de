//! A Fetch response by hand: `kafka-protocol` would copy every record, here they stay slices of where they are.

use crate::api::Context;
use crate::batch::Stamped;
use crate::error::Refusal;
use crate::response::Response;
use crate::versions::{self, Api};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;

/// One topic's part of the answer.
#[derive(Debug)]
pub(super) struct FetchedTopic {
    pub(super) name: TopicName,
    pub(super) partitions: Vec<FetchedPartition>,
}

/// One partition's part of the answer.
#[derive(Debug)]
pub(super) struct FetchedPartition {
    pub(super) index: i32,
    pub(super) refusal: Option<Refusal>,
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
    pub(super) batches: Vec<Stamped>,
}

impl FetchedPartition {
    pub(super) fn refused(index: i32, refusal: Refusal) -> Self {
        FetchedPartition {
            index,
            refusal: Some(refusal),
            high_watermark: -1,
            log_start_offset: -1,
            batches: Vec::new(),
        }
    }
}

/// An answer that is refused as a whole.
pub(super) fn refused(context: &Context, refusal: Refusal) -> Response {
    encode(context, refusal.code(), Vec::new())
}

/// The answer with every partition's part.
pub(super) fn response(context: &Context, topics: Vec<FetchedTopic>) -> Response {
    encode(context, 0, topics)
}

/// Collects the pieces: what is written here, and records that are only referred to.
struct Writer {
    flexible: bool,
    buffer: BytesMut,
    first: Option<BytesMut>,
    rest: Vec<Bytes>,
}

fn encode(context: &Context, error_code: i16, topics: Vec<FetchedTopic>) -> Response {
    let version = context.version;
    let buffer = Response::start(Api::Fetch, version, context.correlation_id, 256);
    let flexible = versions::is_flexible(Api::Fetch, version);
    let mut out = Writer { flexible, buffer, first: None, rest: Vec::new() };
    out.buffer.put_i32(0); // throttle time
    if version >= 7 {
        out.buffer.put_i16(error_code);
        out.buffer.put_i32(0); // session id
    }
    out.count(topics.len());
    for topic in topics {
        out.string(&topic.name);
        out.count(topic.partitions.len());
        for partition in topic.partitions {
            out.partition(version, partition);
        }
        out.tags();
    }
    out.tags();
    out.finish()
}

impl Writer {
    fn partition(&mut self, version: i16, partition: FetchedPartition) {
        self.buffer.put_i32(partition.index);
        self.buffer.put_i16(partition.refusal.map_or(0, Refusal::code));
        self.buffer.put_i64(partition.high_watermark);
        // The last stable offset: without transactions everything is stable.
        self.buffer.put_i64(partition.high_watermark);
        if version >= 5 {
            self.buffer.put_i64(partition.log_start_offset);
        }
        self.count(0); // aborted transactions
        if version >= 11 {
            self.buffer.put_i32(-1); // preferred read replica
        }
        self.length(partition.batches.iter().map(Stamped::size_bytes).sum());
        for batch in partition.batches {
            let (header, records) = batch.into_parts();
            self.buffer.put_slice(&header);
            self.refer_to(records);
        }
        self.tags();
    }

    /// An array's length.
    fn count(&mut self, count: usize) {
        self.length(count);
    }

    /// A length: as Kafka's compact ones, one more in a varint, or as an `i32`.
    fn length(&mut self, length: usize) {
        if self.flexible { self.varint(length as u64 + 1) } else { self.buffer.put_i32(length as i32) }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.varint(text.len() as u64 + 1)
        } else {
            self.buffer.put_i16(text.len() as i16)
        }
        self.buffer.put_slice(text.as_bytes());
    }

    fn tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// Small records are cheaper to copy than to refer to.
    fn refer_to(&mut self, records: Bytes) {
        const COPIED_BYTES_MAX: usize = 1024;
        if records.len() <= COPIED_BYTES_MAX {
            self.buffer.put_slice(&records);
            return;
        }
        self.close_piece();
        self.rest.push(records);
    }

    fn close_piece(&mut self) {
        let piece = self.buffer.split();
        if self.first.is_none() {
            self.first = Some(piece);
        } else if !piece.is_empty() {
            self.rest.push(piece.freeze());
        }
    }

    fn finish(mut self) -> Response {
        self.close_piece();
        Response::finish(self.first.take().unwrap_or_default(), self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, build::Builder};
    use crate::security::{Listener, Principal, SecurityProtocol};
    use kafka_protocol::messages::{FetchResponse, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, StrBytes};

    async fn decoded(version: i16, topics: Vec<FetchedTopic>) -> FetchResponse {
        let context = Context {
            version,
            correlation_id: 9,
            client_id: StrBytes::default(),
            address: "127.0.0.1:1".parse().unwrap(),
            listener: Listener::new(SecurityProtocol::Plaintext, []).into(),
            principal: Principal::Anonymous,
        };
        let mut wire = Vec::new();
        Response::write_all(vec![response(&context, topics)], &mut wire).await.unwrap();
        let mut bytes = Bytes::from(wire);
        assert_eq!(bytes.split_to(4).as_ref(), (bytes.len() as u32).to_be_bytes());
        let header_version = versions::response_header_version(Api::Fetch, version);
        assert_eq!(ResponseHeader::decode(&mut bytes, header_version).unwrap().correlation_id, 9);
        let body = FetchResponse::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty());
        body
    }

    #[tokio::test]
    async fn every_version_is_read_back_by_the_protocol_crate() {
        let large = vec![b'x'; 5000];
        let batch = |value: &[u8]| batch::produced(Builder::new(1).record(1, None, Some(value)).build()).unwrap();
        for version in 4..=12 {
            let batches = vec![batch(b"small").stamp(7, 0), batch(&large).stamp(8, 0), batch(b"end").stamp(9, 0)];
            let records: Vec<u8> = batches.iter().flat_map(|batch| batch.to_bytes()).collect();
            let name = TopicName(StrBytes::from_static_str("orders"));
            let full = FetchedPartition { index: 3, refusal: None, high_watermark: 10, log_start_offset: 2, batches };
            let refused = FetchedPartition::refused(4, Refusal::TopicDenied);
            let topics = vec![FetchedTopic { name: name.clone(), partitions: vec![full, refused] }];
            let body = decoded(version, topics).await;
            let [topic] = &body.responses[..] else { panic!("one topic") };
            assert_eq!(topic.topic, name);
            let [full, refused] = &topic.partitions[..] else { panic!("two partitions") };
            assert_eq!((full.partition_index, full.high_watermark, full.last_stable_offset), (3, 10, 10));
            assert_eq!(full.records.as_deref(), Some(&records[..]), "version {version}");
            assert_eq!((refused.partition_index, refused.error_code), (4, Refusal::TopicDenied.code()));
        }
    }
}

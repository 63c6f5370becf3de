//! Produce 0 to 2, which are advertised only so that librdkafka 2.0 compresses (KAFKA-18659) and which carry the
//! message formats of before Kafka 0.11. They are decoded as far as it takes to refuse each partition by name, so
//! that a client that does use them gets Kafka's error and not a closed connection. `kafka-protocol` has neither the
//! request nor the response in these versions.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::Decodable;

/// The first version that can be served.
pub const FIRST_SERVED: i16 = 3;

/// Decodes a body that has passed the shape check: version 3 without its transactional id.
pub(super) fn decode(body: &mut Bytes) -> Result<ProduceRequest, String> {
    let acks = body.try_get_i16().map_err(|error| error.to_string())?;
    let timeout_ms = body.try_get_i32().map_err(|error| error.to_string())?;
    let count = body.try_get_i32().map_err(|error| error.to_string())?;
    let topic_data = (0..count)
        .map(|_| TopicProduceData::decode(body, FIRST_SERVED))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    Ok(ProduceRequest::default().with_acks(acks).with_timeout_ms(timeout_ms).with_topic_data(topic_data))
}

/// Writes a response in a version below [`FIRST_SERVED`], behind the response header.
///
/// Names beyond Kafka's 32,767 bytes cannot come from such a request; they are cut.
pub fn encode_response(response: &ProduceResponse, version: i16, out: &mut BytesMut) {
    put_count(out, response.responses.len());
    for topic in &response.responses {
        let name = topic.name.0.as_bytes();
        let length = i16::try_from(name.len()).unwrap_or(i16::MAX);
        out.put_i16(length);
        out.put_slice(&name[..usize::from(length.unsigned_abs())]);
        put_count(out, topic.partition_responses.len());
        for partition in &topic.partition_responses {
            out.put_i32(partition.index);
            out.put_i16(partition.error_code);
            out.put_i64(partition.base_offset);
            if version >= 2 {
                out.put_i64(partition.log_append_time_ms);
            }
        }
    }
    if version >= 1 {
        out.put_i32(response.throttle_time_ms);
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::protocol::StrBytes;

    #[test]
    fn responses_grow_by_one_field_a_version() {
        let partition = PartitionProduceResponse::default()
            .with_index(5)
            .with_error_code(35)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1);
        let topic = TopicProduceResponse::default()
            .with_name(TopicName(StrBytes::from_static_str("ab")))
            .with_partition_responses(vec![partition]);
        let response = ProduceResponse::default().with_responses(vec![topic]).with_throttle_time_ms(9);
        let encoded = |version| {
            let mut out = BytesMut::new();
            encode_response(&response, version, &mut out);
            out.to_vec()
        };
        let mut golden = vec![0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 1, 0, 0, 0, 5, 0, 35];
        golden.extend([0xff; 8]);
        assert_eq!(encoded(0), golden);
        assert_eq!(encoded(1), [&golden[..], &[0, 0, 0, 9]].concat());
        golden.extend([0xff; 8]);
        assert_eq!(encoded(2), [&golden[..], &[0, 0, 0, 9]].concat());
    }
}

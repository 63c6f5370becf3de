//! The Kafka protocol by hand: for bytes that no client would send, and for bytes that no client would show.
//!
//! Only old, non-flexible versions are written here, plainly and field by field; the stories say what they mean.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// API keys used by the stories.
pub mod api {
    /// Produce.
    pub const PRODUCE: i16 = 0;
    /// Fetch.
    pub const FETCH: i16 = 1;
    /// Metadata.
    pub const METADATA: i16 = 3;
    /// InitProducerId.
    pub const INIT_PRODUCER_ID: i16 = 22;
    /// ApiVersions.
    pub const API_VERSIONS: i16 = 18;
}

/// A connection that sends what it is told.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Connects to a Kafka listener.
    pub fn connect(broker: &str) -> Self {
        let stream = TcpStream::connect(broker).unwrap_or_else(|error| panic!("{broker}: {error}"));
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        Self { stream }
    }

    /// Sends bytes as they are. A node that has already closed the connection is no failure of the sender.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame: a length and these bytes.
    pub fn send(&mut self, frame: &[u8]) {
        self.send_raw(&[&i32::try_from(frame.len()).expect("a small frame").to_be_bytes(), frame].concat());
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next response without its length, or `None` when the node has closed the connection.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return None,
            Err(error) => panic!("neither an answer nor an end of the connection: {error}"),
        }
        let mut response = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
        self.stream.read_exact(&mut response).expect("a whole response");
        Some(response)
    }

    /// The correlation id of the next response, or `None` at the end of the connection.
    pub fn receive_correlation(&mut self) -> Option<i32> {
        self.receive().map(|response| Fields(&response).i32())
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// A request: header version 1 (key, version, correlation id, client id) and a body.
pub fn request(api_key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    put_string(&mut frame, "by hand");
    frame.extend(body);
    frame
}

/// A Metadata request, version 1, for one topic.
pub fn metadata_request(correlation: i32, topic: &str) -> Vec<u8> {
    let mut body = 1_i32.to_be_bytes().to_vec();
    put_string(&mut body, topic);
    request(api::METADATA, 1, correlation, &body)
}

/// A Fetch request, version 10, of one partition: at least one byte, within `wait_ms_max`.
pub fn fetch_request(correlation: i32, topic: &str, partition: i32, offset: i64, wait_ms_max: i32) -> Vec<u8> {
    limited_fetch_request(correlation, (topic, partition, offset), wait_ms_max, 50_000_000)
}

/// The same with a limit in bytes, of the whole and of the partition.
pub fn limited_fetch_request(
    correlation: i32,
    (topic, partition, offset): (&str, i32, i64),
    wait_ms_max: i32,
    bytes_max: i32,
) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1_i32).to_be_bytes()); // a consumer, not a replica
    body.extend(wait_ms_max.to_be_bytes());
    body.extend(1_i32.to_be_bytes()); // min bytes
    body.extend(bytes_max.to_be_bytes());
    body.push(0); // read uncommitted
    body.extend(0_i32.to_be_bytes()); // no session
    body.extend((-1_i32).to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((-1_i32).to_be_bytes()); // leader epoch not known
    body.extend(offset.to_be_bytes());
    body.extend((-1_i64).to_be_bytes()); // log start offset: a consumer has none
    body.extend(bytes_max.to_be_bytes()); // of the partition
    body.extend(0_i32.to_be_bytes()); // nothing forgotten
    request(api::FETCH, 10, correlation, &body)
}

/// A Produce request, version 3, of one record batch to one partition.
pub fn produce_request(correlation: i32, acks: i16, topic: &str, partition: i32, batch: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1_i16).to_be_bytes()); // no transaction
    body.extend(acks.to_be_bytes());
    body.extend(30_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(i32::try_from(batch.len()).expect("a small batch").to_be_bytes());
    body.extend(batch);
    request(api::PRODUCE, 3, correlation, &body)
}

/// An InitProducerId request, version 0, of a producer without transactions.
pub fn init_producer_id_request(correlation: i32) -> Vec<u8> {
    let mut body = (-1_i16).to_be_bytes().to_vec(); // no transactional id
    body.extend(60_000_i32.to_be_bytes());
    request(api::INIT_PRODUCER_ID, 0, correlation, &body)
}

/// Who sends a batch, for the broker to recognise a repetition.
#[derive(Clone, Copy, Debug)]
pub struct Producer {
    /// The producer's id; -1 for none.
    pub id: i64,
    /// Its epoch; -1 for none.
    pub epoch: i16,
    /// The sequence number of the batch's first record; -1 for none.
    pub sequence: i32,
}

impl Producer {
    /// A producer that is not idempotent.
    pub const NONE: Self = Self { id: -1, epoch: -1, sequence: -1 };
}

/// A record batch (magic 2) of such records, without keys, headers or compression.
pub fn record_batch(producer: Producer, values: &[&str]) -> Vec<u8> {
    let count = i32::try_from(values.len()).expect("a few records");
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes()); // attributes
    checked.extend((count - 1).to_be_bytes()); // last offset delta
    checked.extend(1_700_000_000_000_i64.to_be_bytes());
    checked.extend(1_700_000_000_000_i64.to_be_bytes());
    checked.extend(producer.id.to_be_bytes());
    checked.extend(producer.epoch.to_be_bytes());
    checked.extend(producer.sequence.to_be_bytes());
    checked.extend(count.to_be_bytes());
    for (offset_delta, value) in values.iter().enumerate() {
        // Attributes, timestamp delta, offset delta, null key, value, no headers.
        let record = [&[0, 0, zigzag(offset_delta), 1, zigzag(value.len())], value.as_bytes(), &[0]].concat();
        checked.push(zigzag(record.len()));
        checked.extend(record);
    }

    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend(i32::try_from(checked.len() + 9).expect("a small batch").to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// A length as a record has it, in one byte.
fn zigzag(number: usize) -> u8 {
    assert!(number < 64, "one byte holds this");
    u8::try_from(number * 2).expect("a small number")
}

/// The record batches of one partition from `offset` on, or the error code.
pub fn fetch_batches(broker: &str, topic: &str, partition: i32, offset: i64) -> Result<Vec<u8>, i16> {
    let mut wire = Wire::connect(broker);
    wire.send(&fetch_request(1, topic, partition, offset, 5_000));
    fetched(&wire.receive().expect("a response to Fetch"))
}

/// The record batches in a response to a Fetch of one partition, or the partition's error code.
pub fn fetched(response: &[u8]) -> Result<Vec<u8>, i16> {
    let mut fields = Fields(response);
    fields.take(4 + 4); // correlation id, throttle time
    assert_eq!((fields.i16(), fields.i32()), (0, 0), "no error of the whole, no session");
    assert_eq!(fields.i32(), 1, "one topic");
    fields.string();
    assert_eq!(fields.i32(), 1, "one partition");
    fields.take(4);
    let error = fields.i16();
    fields.take(8 + 8 + 8); // high watermark, last stable offset, log start offset
    for _ in 0..fields.i32().max(0) {
        fields.take(8 + 8); // aborted transactions
    }
    let bytes = fields.i32().max(0);
    let batches = fields.take(usize::try_from(bytes).expect("records")).to_vec();
    if error == 0 { Ok(batches) } else { Err(error) }
}

/// The base offset and the record count of each batch.
pub fn extents(batches: &[u8]) -> Vec<(i64, i32)> {
    let extent = |batch: &[u8]| (Fields(batch).i64(), Fields(&batch[57..]).i32());
    split(batches).into_iter().map(extent).collect()
}

/// The codec (attributes, low three bits) of each batch.
pub fn codecs(batches: &[u8]) -> Vec<u8> {
    split(batches).into_iter().map(|batch| batch[22] & 7).collect()
}

/// The whole batches, one by one.
fn split(mut batches: &[u8]) -> Vec<&[u8]> {
    let mut whole = Vec::new();
    while batches.len() >= 61 {
        let length = 12 + usize::try_from(Fields(&batches[8..]).i32()).expect("a batch length");
        let Some((batch, rest)) = batches.split_at_checked(length) else { break };
        whole.push(batch);
        batches = rest;
    }
    whole
}

/// Reads a response field by field.
#[derive(Debug)]
pub struct Fields<'response>(pub &'response [u8]);

impl<'response> Fields<'response> {
    /// The next bytes.
    pub fn take(&mut self, count: usize) -> &'response [u8] {
        let (taken, rest) = self.0.split_at_checked(count).expect("a longer response");
        self.0 = rest;
        taken
    }

    /// A 16-bit number.
    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    /// A 32-bit number.
    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    /// A 64-bit number.
    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    /// A text with a 16-bit length.
    pub fn string(&mut self) -> String {
        let length = usize::try_from(self.i16()).expect("a text");
        String::from_utf8(self.take(length).to_vec()).expect("text")
    }
}

fn put_string(to: &mut Vec<u8>, text: &str) {
    to.extend(i16::try_from(text.len()).expect("a short text").to_be_bytes());
    to.extend(text.as_bytes());
}

/// CRC-32C bit by bit, so that the check does not come from the code under test.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg()))
    })
}

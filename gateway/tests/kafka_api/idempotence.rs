//! Idempotent producers (KIP-98, KIP-360) over the wire: a repetition gets its first offset, a gap is refused.

use crate::client::Client;
use crate::requests::*;
use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};

/// A fresh id.
pub fn producer_id(client: &mut Client) -> i64 {
    let request = InitProducerIdRequest::default().with_transaction_timeout_ms(60_000).with_transactional_id(None);
    let response = client.ask(4, &request);
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    response.producer_id.0
}

/// A batch of as many records, the first with this sequence number.
pub fn numbered(id: i64, epoch: i16, sequence: i32, records: usize) -> Bytes {
    let values = vec!["value"; records];
    batch_from(1_000, &values).producer(id, epoch, sequence).build()
}

#[test]
fn duplicates_gaps_and_epochs() {
    let name = "idempotence-cases";
    let mut client = acme_with_topic(name);
    let id = producer_id(&mut client);
    let mut sent = |epoch, sequence, records| {
        let produced = produce(&mut client, name, numbered(id, epoch, sequence, records));
        (produced.error_code, produced.base_offset)
    };
    let out_of_order = (code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    assert_eq!(sent(0, 0, 2), (0, 0));
    assert_eq!(sent(0, 2, 3), (0, 2));
    assert_eq!(sent(0, 0, 2), (0, 0), "a repetition succeeds with its first offset");
    assert_eq!(sent(0, 2, 3), (0, 2));
    assert_eq!(sent(0, 6, 1), out_of_order, "a gap");
    assert_eq!(sent(0, 2, 2), out_of_order, "part of a batch is no repetition");
    assert_eq!(sent(0, 5, 1), (0, 5), "what was refused has changed nothing");
    for (step, sequence) in (6..11).enumerate() {
        assert_eq!(sent(0, sequence, 1), (0, 6 + step as i64));
    }
    assert_eq!(sent(0, 0, 2), out_of_order, "older than the five that are remembered");
    assert_eq!(sent(1, 3, 1), out_of_order, "a new epoch begins at 0");
    assert_eq!(sent(1, 0, 1), (0, 11));
    assert_eq!(sent(0, 11, 1), (code::INVALID_PRODUCER_EPOCH, -1), "the old epoch is fenced");
    assert_eq!(sent(1, 1, 1), (0, 12));
    let latest = listed(&mut client, 8, &list_offsets_request(name, 0, -1));
    assert_eq!(latest.offset, 13, "nothing twice, nothing missing");
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let name = "idempotence-unknown";
    let mut client = acme_with_topic(name);
    let id = producer_id(&mut client);
    let first = produce(&mut client, name, numbered(id, 3, 70, 1));
    assert_eq!((first.error_code, first.base_offset), (0, 0));
    let next = produce(&mut client, name, numbered(id, 3, 71, 1));
    assert_eq!((next.error_code, next.base_offset), (0, 1));
}

#[test]
fn a_pipelined_producer_stays_in_sequence_and_may_repeat_all_of_it() {
    let name = "idempotence-pipeline";
    let mut client = acme_with_topic(name);
    let id = producer_id(&mut client);
    let requests: Vec<_> = (0..5).map(|sequence| produce_request(name, 0, numbered(id, 0, sequence, 1))).collect();
    // As after a lost connection: everything once more.
    for request in requests.iter().chain(&requests) {
        client.send(9, request);
    }
    for offset in (0..5).chain(0..5) {
        let (_, response) = client.receive::<ProduceRequest>(9);
        let produced = &response.responses[0].partition_responses[0];
        assert_eq!((produced.error_code, produced.base_offset), (0, offset));
    }
}

#[test]
fn a_producer_without_an_id_has_no_sequence() {
    let name = "idempotence-none";
    let mut client = acme_with_topic(name);
    assert_eq!(append(&mut client, name, numbered(-1, -1, -1, 1)), 0);
    assert_eq!(append(&mut client, name, numbered(-1, -1, -1, 1)), 1);
    let id = producer_id(&mut client);
    assert_eq!(produce(&mut client, name, numbered(id, 0, -1, 1)).error_code, code::INVALID_RECORD);
}

//! What holds for a connection whatever is asked on it: order, silence, and how it ends.

use crate::client::Client;
use crate::network::{acme, globex};
use crate::requests::*;
use bytes::Buf;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Decodable, Request};
use std::time::{Duration, Instant};
use waybill_gateway::versions::TABLE;

#[test]
fn a_too_new_api_versions_is_answered_with_the_list_in_version_0() {
    let mut client = Client::connect(acme());
    let sent = client.send_body(ApiVersionsRequest::KEY, 99, 2, b"whatever version 99 may hold");
    let mut frame = client.frame().expect("an answer");
    assert_eq!(frame.get_i32(), sent, "a header of version 0");
    let answer = ApiVersionsResponse::decode(&mut frame, 0).expect("a body of version 0");
    assert!(frame.is_empty());
    assert_eq!((answer.error_code, answer.api_keys.len()), (code::UNSUPPORTED_VERSION, TABLE.len()));
    assert_eq!(client.ask(4, &ApiVersionsRequest::default()).error_code, 0, "the connection goes on");
}

#[test]
fn unknown_apis_and_versions_end_the_connection_as_in_kafka() {
    for (key, version) in [(999, 0), (-1, 0), (MetadataRequest::KEY, 99), (MetadataRequest::KEY, -1), (24, 0)] {
        let mut client = Client::connect(acme());
        client.send_body(key, version, 1, b"");
        assert_eq!(client.frame(), None, "API {key} version {version}");
    }
}

#[test]
fn malformed_frames_end_their_connection_and_no_other() {
    let mut other = Client::connect(acme());
    let frames: [&[u8]; 6] = [
        // Too short for a header; negative; far too long; a header that ends early; HTTP.
        &[0, 0, 0, 3, 1, 2, 3],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0, 9],
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        // Metadata 12 that claims 2^31 topics.
        &[0, 0, 0, 18, 0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0],
    ];
    for frame in frames {
        let mut client = Client::connect(acme());
        client.send_bytes(frame);
        assert_eq!(client.frame(), None, "{frame:?}");
        assert_eq!(other.ask(4, &ApiVersionsRequest::default()).error_code, 0);
    }
}

#[test]
fn answers_leave_in_the_order_of_requests_behind_a_long_poll_too() {
    let name = "connection-order";
    let mut client = acme_with_topic(name);
    let produce = produce_request(name, 0, batch(&["a"]));
    // More than there will be: it waits its time out.
    let wait = fetch_request(name, vec![fetch_partition(0, 0)]).with_min_bytes(1 << 20).with_max_wait_ms(1_500);
    let started = Instant::now();
    let sent = [
        client.send(9, &produce),
        client.send(11, &wait),
        client.send(4, &ApiVersionsRequest::default()),
        client.send(9, &produce),
        client.send(9, &produce),
        client.send(7, &list_offsets_request(name, 0, -1)),
    ];
    // Meanwhile another connection is served.
    assert_eq!(Client::connect(acme()).ask(4, &ApiVersionsRequest::default()).error_code, 0);
    assert!(started.elapsed() < Duration::from_millis(1_500));
    let (first, produced) = client.receive::<ProduceRequest>(9);
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 0);
    let (second, fetched) = client.receive::<FetchRequest>(11);
    assert!(started.elapsed() >= Duration::from_millis(1_500), "it waited");
    assert_eq!(fetched.responses[0].partitions[0].records, Some(at_offset(0, &batch(&["a"]))));
    let (third, _) = client.receive::<ApiVersionsRequest>(4);
    let (fourth, _) = client.receive::<ProduceRequest>(9);
    let (fifth, produced) = client.receive::<ProduceRequest>(9);
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 2);
    let (sixth, listed) = client.receive::<ListOffsetsRequest>(7);
    assert_eq!(listed.topics[0].partitions[0].offset, 3, "it sees what was produced before it");
    assert_eq!([first, second, third, fourth, fifth, sixth], sent);
}

#[test]
fn pipelined_batches_get_offsets_in_the_order_they_were_sent() {
    let name = "connection-pipeline";
    let mut client = acme_with_topic(name);
    let sent: Vec<i32> =
        (0..100).map(|number| client.send(7, &produce_request(name, 0, batch(&[&number.to_string()])))).collect();
    for (offset, sent) in sent.into_iter().enumerate() {
        let (received, response) = client.receive::<ProduceRequest>(7);
        let produced = &response.responses[0].partition_responses[0];
        assert_eq!((received, produced.error_code, produced.base_offset), (sent, 0, offset as i64));
    }
}

#[test]
fn acks_0_gets_no_bytes_and_its_failure_ends_the_connection() {
    let name = "connection-acks";
    let mut client = acme_with_topic(name);
    let silent = produce_request(name, 0, batch(&["quiet"])).with_acks(0);
    client.send(9, &silent);
    client.send(9, &silent);
    let sent = client.send(4, &ApiVersionsRequest::default());
    let (received, _) = client.receive::<ApiVersionsRequest>(4);
    assert_eq!(received, sent, "the first bytes are of the request that wants an answer");
    let latest = listed(&mut client, 7, &list_offsets_request(name, 0, -1));
    assert_eq!(latest.offset, 2, "what was sent without acknowledgement is there");
    for refused in [
        produce_request("connection-unknown", 0, batch(&["lost"])).with_acks(0),
        produce_request(name, 0, bytes::Bytes::from_static(b"not a batch")).with_acks(0),
    ] {
        let mut client = Client::connect(acme());
        client.send(9, &refused);
        assert_eq!(client.frame(), None);
        // What came before it is answered: both are here at once, so their ends may come at once too.
        let mut client = Client::connect(acme());
        let sent = client.send(9, &produce_request(name, 0, batch(&["kept"])));
        client.send(9, &refused);
        let (received, response) = client.receive::<ProduceRequest>(9);
        assert_eq!((received, response.responses[0].partition_responses[0].error_code), (sent, 0));
        assert_eq!(client.frame(), None);
    }
}

#[test]
fn a_client_that_has_said_all_gets_all_answers() {
    let name = "connection-half";
    let mut client = acme_with_topic(name);
    let produce = produce_request(name, 0, batch(&["last words"]));
    let sent = [client.send(9, &produce), client.send(9, &produce)];
    client.finish();
    let received = [client.receive::<ProduceRequest>(9), client.receive::<ProduceRequest>(9)];
    for ((received, response), (sent, offset)) in received.into_iter().zip(sent.into_iter().zip([0, 1])) {
        let produced = &response.responses[0].partition_responses[0];
        assert_eq!((received, produced.error_code, produced.base_offset), (sent, 0, offset));
    }
    assert_eq!(client.frame(), None);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut client = Client::connect(globex());
    // Length, key, version, correlation id, client id, tags; two empty names and tags.
    let request = [0, 0, 0, 14, 0, 18, 0, 3, 0, 0, 0, 7, 0xff, 0xff, 0, 1, 1, 0];
    for byte in request {
        client.send_bytes(&[byte]);
    }
    let (received, response) = client.receive::<ApiVersionsRequest>(3);
    assert_eq!((received, response.error_code), (7, 0));
}

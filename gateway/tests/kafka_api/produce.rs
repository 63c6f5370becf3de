//! Produce beyond its versions: the topic's own limit, what only brokers may claim, order over partitions.

use crate::client::Client;
use crate::network::acme;
use crate::requests::*;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use waybill_gateway::batch::build::Builder;

#[test]
fn the_limit_of_a_topic_is_exact() {
    let name = "produce-limit";
    let exact = batch(&["fits"]);
    let limit = exact.len().to_string();
    let mut client = acme_with(creatable(name).with_configs(vec![config("max.message.bytes", &limit)]));
    assert_eq!(append(&mut client, name, exact), 0);
    let refused = produce(&mut client, name, batch(&["fits-"]));
    assert_eq!(refused.error_code, code::MESSAGE_TOO_LARGE);
    let reason = refused.error_message.expect("a reason").to_string();
    assert!(reason.contains("max.message.bytes") && reason.contains(&limit), "{reason}");
}

#[test]
fn what_only_brokers_may_write_is_refused() {
    const CONTROL: i16 = 1 << 5;
    const TRANSACTIONAL: i16 = 1 << 4;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    let name = "produce-attributes";
    let mut client = acme_with_topic(name);
    let with = |attributes: i16| batch_from(1, &["x"]).header(|header| header.attributes = attributes).build();
    for (what, records, expected) in [
        ("control", with(CONTROL), code::INVALID_RECORD),
        ("append time", with(LOG_APPEND_TIME), code::INVALID_TIMESTAMP),
        ("transactional without an id", with(TRANSACTIONAL), code::INVALID_RECORD),
        ("unknown codec", with(7), code::UNSUPPORTED_COMPRESSION_TYPE),
        ("no records", Builder::new(1).build(), code::INVALID_RECORD),
        (
            "more records than bytes",
            batch_from(1, &["x"])
                .header(|header| {
                    header.record_count = 1_000;
                    header.last_offset_delta = 999;
                })
                .build(),
            code::INVALID_RECORD,
        ),
    ] {
        let refused = produce(&mut client, name, records);
        assert_eq!(refused.error_code, expected, "{what}");
        assert!(refused.error_message.is_some(), "{what}");
    }
    assert_eq!(listed(&mut client, 8, &list_offsets_request(name, 0, -1)).offset, 0);
}

#[test]
fn partitions_of_one_request_stand_each_for_itself() {
    let name = "produce-partitions";
    let mut client = acme_with(creatable(name).with_num_partitions(3));
    let data = |index: i32, records| PartitionProduceData::default().with_index(index).with_records(records);
    let request = |round: i32| {
        let partitions = (0..3).map(|index| data(index, Some(batch(&[&format!("{round} {index}")])))).collect();
        let topic = TopicProduceData::default().with_name(topic(name)).with_partition_data(partitions);
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
    };
    for round in 0..20 {
        client.send(9, &request(round));
    }
    for round in 0..20 {
        let (_, response) = client.receive::<ProduceRequest>(9);
        let answered = response.responses[0].partition_responses.iter();
        let answered: Vec<_> = answered.map(|part| (part.index, part.error_code, part.base_offset)).collect();
        assert_eq!(answered, [(0, 0, round), (1, 0, round), (2, 0, round)]);
    }
    let mut spoiled = request(20);
    spoiled.topic_data[0].partition_data[1] = data(1, None);
    let response = client.ask(9, &spoiled);
    let codes: Vec<i16> = response.responses[0].partition_responses.iter().map(|part| part.error_code).collect();
    assert_eq!(codes, [0, code::INVALID_RECORD, 0]);
}

#[test]
fn an_empty_request_is_answered() {
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000);
    assert_eq!(Client::connect(acme()).ask(9, &request).responses.len(), 0);
}

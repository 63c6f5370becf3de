//! Metadata beyond its versions: topics that several clients ask for at once, and names that collide.

use crate::client::Client;
use crate::network::{acme, globex, notary};
use crate::requests::*;
use kafka_protocol::messages::MetadataRequest;

#[test]
fn a_topic_that_many_ask_for_at_once_is_created_once_and_described_to_all() {
    let name = "metadata-race";
    let mut clients: Vec<_> = [acme(), globex(), acme(), globex(), acme()].map(Client::connect).into();
    for client in &mut clients {
        client.send(12, &named(name));
    }
    let described: Vec<_> =
        clients.iter_mut().map(|client| client.receive::<MetadataRequest>(12).1.topics[0].clone()).collect();
    for topic in &described {
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 1));
        assert_eq!(topic.partitions[0].error_code, 0);
        assert_eq!(topic.topic_id, described[0].topic_id);
    }
    assert!(!described[0].topic_id.is_nil());
}

#[test]
fn names_that_differ_in_a_dot_and_an_underscore_collide() {
    let mut client = acme_with_topic("metadata.collides_here");
    let refused = client.ask(12, &named("metadata_collides.here")).topics[0].clone();
    assert_eq!(refused.error_code, code::INVALID_TOPIC);
    let refused = create(&mut client, creatable("metadata_collides_here"));
    let reason = refused.error_message.expect("a reason");
    assert_eq!(refused.error_code, code::INVALID_TOPIC);
    assert!(reason.contains("metadata.collides_here"), "{}", reason.as_str());
}

#[test]
fn a_witness_creates_no_topic_that_it_could_not_write_to() {
    let name = "metadata-witness";
    let refused = Client::connect(notary()).ask(12, &named(name)).topics[0].clone();
    assert_eq!(refused.error_code, code::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(create(&mut Client::connect(acme()), creatable(name)).error_code, 0, "the name is free");
}

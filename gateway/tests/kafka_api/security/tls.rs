//! TLS at the door: versions, names, authorities, and what is no TLS at all.

use super::log_in;
use crate::client::Client;
use crate::network::{USERS, network, secured};
use crate::requests::*;
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

fn config(ca: &Path, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Connects to a listener of acme as its clients do.
pub fn connect(address: SocketAddr) -> Client {
    let config = config(&secured().ca, rustls::ALL_VERSIONS);
    Client::connect_tls(address, config, "localhost").expect("a handshake")
}

#[test]
fn both_versions_and_both_names_are_accepted() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for name in ["localhost", "127.0.0.1"] {
            let config = config(&secured().ca, &[version]);
            let mut client = Client::connect_tls(secured().ssl, config, name).expect("a handshake");
            assert_eq!(client.ask(4, &ApiVersionsRequest::default()).error_code, 0);
        }
    }
}

#[test]
fn a_client_that_trusts_another_organisations_authority_does_not_connect() {
    let other = &network().globex.secured.as_ref().expect("secured listeners").ca;
    assert_ne!(*other, secured().ca);
    let refused = Client::connect_tls(secured().ssl, config(other, rustls::ALL_VERSIONS), "localhost");
    assert!(refused.is_err());
    let refused = Client::connect_tls(secured().ssl, config(&secured().ca, rustls::ALL_VERSIONS), "example.org");
    assert!(refused.is_err(), "another name");
}

#[test]
fn large_batches_pass_both_ways_and_in_order() {
    let name = "security-tls";
    let mut client = connect(secured().sasl_ssl);
    assert_eq!(log_in(&mut client, "SCRAM-SHA-512", USERS[1].0, USERS[1].1).error_code, 0);
    assert_eq!(create(&mut client, creatable(name)).error_code, 0);
    let large = batch(&["x".repeat(600_000).as_str()]);
    let sent: Vec<i32> = (0..4).map(|_| client.send(9, &produce_request(name, 0, large.clone()))).collect();
    for (offset, sent) in sent.into_iter().enumerate() {
        let (received, response) = client.receive::<kafka_protocol::messages::ProduceRequest>(9);
        let produced = &response.responses[0].partition_responses[0];
        assert_eq!((received, produced.error_code, produced.base_offset), (sent, 0, offset as i64));
    }
    let expected: Vec<u8> = (0..4).flat_map(|offset| at_offset(offset, &large).to_vec()).collect();
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let next = found.len() / large.len();
        found.extend_from_slice(&records_from(&mut client, name, next as i64));
    }
    assert!(found == expected);
}

#[test]
fn what_is_no_tls_ends_its_connection_and_no_other() {
    let mut other = connect(secured().ssl);
    for address in [secured().ssl, secured().sasl_ssl] {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 14, 0, 18, 0, 3, 0, 0, 0, 7], &[0xff; 3_000]] {
            let mut client = Client::connect(address);
            client.try_send_bytes(garbage);
            // A TLS alert may come first; it is no frame.
            client.read_to_end();
        }
        // Through the handshake, and garbage then.
        let mut client = connect(address);
        client.try_send_bytes(&[0xff; 100]);
        assert_eq!(client.frame(), None);
        assert_eq!(other.ask(4, &ApiVersionsRequest::default()).error_code, 0);
    }
    // Through handshake and log-in, in the middle of a frame.
    let mut client = connect(secured().sasl_ssl);
    assert_eq!(log_in(&mut client, "PLAIN", USERS[0].0, USERS[0].1).error_code, 0);
    client.send_bytes(&[0, 0, 1, 0, 0, 3]);
    drop(client);
    assert_eq!(other.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers.len(), 1);
}

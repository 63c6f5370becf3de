//! The connector's HTTPS port, seen by somebody who writes and reads every byte himself.

mod network;

use network::raw::{RawClient, get, signed, signed_get, signed_post};
use network::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use waybill_connector::Options;
use waybill_connector::request::{PULL_HEADER, SignedPullRequest};
use waybill_types::{Commitment, Salt};

async fn sites(options: Options) -> (Member, Member, Site) {
    let [acme, globex] = network(["acme", "globex"]);
    let sender = Site::serve(&acme, &["globex"], options);
    (acme, globex, sender)
}

fn proves(batch: &[u8], salt: &[u8], commitment: Commitment) -> bool {
    Commitment::new(&[batch], &Salt(salt.try_into().unwrap())) == commitment
}

#[tokio::test]
async fn a_get_is_the_batch_and_then_its_salt() {
    let (acme, globex, sender) = sites(quick()).await;
    let entry = sender.send(0, 1, bytes(1, 200_000), &[]).await;
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let answer = client.ask(&signed_get(&globex, &acme, 0, ""), b"").await;
    assert_eq!((answer.status(), answer.whole), (200, true));
    assert_eq!(answer.header("etag"), Some(format!("\"{}\"", entry.send.commitment).as_str()));
    let (batch, salt) = answer.body.split_at(200_000);
    assert_eq!(batch, bytes(1, 200_000));
    assert!(proves(batch, salt, entry.send.commitment));
}

#[tokio::test]
async fn ranges_continue_the_same_payload_and_only_that() {
    let (acme, globex, sender) = sites(quick()).await;
    let entry = sender.send(0, 1, bytes(1, 1000), &[]).await;
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let whole = client.ask(&signed_get(&globex, &acme, 0, ""), b"").await.body;
    let tag = format!("if-range: \"{}\"\r\n", entry.send.commitment);
    let other = "if-range: \"00\"\r\n".to_owned();
    for (range, condition, status, expected) in [
        ("bytes=400-", &tag, 206, &whole[400..]),
        ("bytes=0-9", &tag, 206, &whole[..10]),
        ("bytes=990-1010", &tag, 206, &whole[990..=1010]),
        ("bytes=1000-", &tag, 206, &whole[1000..]),
        ("bytes=400-", &other, 200, &whole[..]),
        ("bytes=0-1,5-6", &tag, 200, &whole[..]),
    ] {
        let answer = client.ask(&signed_get(&globex, &acme, 0, &format!("range: {range}\r\n{condition}")), b"").await;
        assert_eq!((answer.status(), answer.body.as_slice()), (status, expected), "{range} {condition}");
    }
    let answer = client.ask(&signed_get(&globex, &acme, 0, "range: bytes=1032-\r\n"), b"").await;
    assert_eq!((answer.status(), answer.header("waybill-error")), (416, Some("range")));
}

#[tokio::test]
async fn a_multi_get_frames_each_batch_and_ends_it_with_its_salt() {
    let (acme, globex, sender) = sites(quick()).await;
    let mut commitments = Vec::new();
    for offset in 0..4 {
        commitments.push(sender.send(offset, 1, bytes(offset as u64, 10 + 40_000 * offset as usize), &[]).await);
    }
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let (head, body) = signed_post(&globex, &acme, &[0, 1, 3]);
    let answer = client.ask(&head, &body).await;
    assert_eq!((answer.status(), answer.whole), (200, true));
    let mut rest = answer.body.as_slice();
    for offset in [0, 1, 3] {
        let size = 10 + 40_000 * offset;
        assert_eq!(rest[..8], (offset as i64).to_be_bytes());
        assert_eq!(rest[8..12], (size as u32).to_be_bytes());
        assert!(proves(&rest[12..12 + size], &rest[12 + size..44 + size], commitments[offset].send.commitment));
        rest = &rest[44 + size..];
    }
    assert!(rest.is_empty());
    let (head, body) = signed_post(&globex, &acme, &[2, 3, 4]);
    let answer = client.ask(&head, &body).await;
    assert!(answer.whole, "it ends before what it has not got");
    assert_eq!(answer.body.len(), 2 * 44 + 10 + 80_000 + 10 + 120_000);
    let (head, body) = signed_post(&globex, &acme, &[4]);
    let answer = client.ask(&head, &body).await;
    assert_eq!((answer.status(), answer.header("waybill-error")), (425, Some("not-reached")));
}

#[tokio::test]
async fn a_revocation_cuts_an_answer_so_that_anybody_can_see_it() {
    let mut options = quick();
    options.serve.chunk_bytes = 64 << 10;
    let (acme, globex, sender) = sites(options).await;
    sender.send(0, 1, bytes(1, 4 << 20), &[]).await;
    sender.view.at_question(5, |view| view.revoke("globex"));
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let answer = client.ask(&signed_get(&globex, &acme, 0, ""), b"").await;
    assert_eq!((answer.status(), answer.whole), (200, false));
    assert!(answer.body.len() <= 3 * (64 << 10), "{} bytes", answer.body.len());
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let answer = client.ask(&signed_get(&globex, &acme, 0, ""), b"").await;
    assert_eq!((answer.status(), answer.header("waybill-error")), (403, Some("denied")));
    let json = String::from_utf8(answer.body).unwrap();
    assert_eq!(json, "{\"error\":\"denied\",\"message\":\"this organisation may not read this topic\"}\n");
}

#[tokio::test]
async fn a_pull_request_counts_for_its_signer_its_connector_its_ledger_and_its_offsets() {
    let [acme, globex, initech] = network(["acme", "globex", "initech"]);
    let sender = Site::serve(&acme, &["globex", "initech"], quick());
    sender.send(0, 1, bytes(1, 10), &[]).await;
    sender.send(1, 1, bytes(2, 10), &[]).await;
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let header = |value: &str| format!("{PULL_HEADER}: {value}\r\n");
    let good = signed(&globex, &acme, 0, 0);
    let mut forged = good.clone();
    forged.replace_range(good.len() - 2.., if good.ends_with("00") { "01" } else { "00" });
    let other_ledger = {
        let (identity, network) = (&globex.who.identity, globex.who.network);
        let other = waybill_types::LedgerId::SYSTEM;
        SignedPullRequest::sign(identity, network, acme.node(), other, 0, 0).unwrap().to_header()
    };
    let other_network = {
        let network = waybill_types::NetworkId(waybill_types::Digest([9; 32]));
        SignedPullRequest::sign(&globex.who.identity, network, acme.node(), LEDGER, 0, 0).unwrap().to_header()
    };
    for (what, headers) in [
        ("none", String::new()),
        ("two", header(&good).repeat(2)),
        ("no hexadecimal", header("xyz")),
        ("too long", header(&"00".repeat(1000))),
        ("a forged signature", header(&forged)),
        ("somebody else's", header(&signed(&initech, &acme, 0, 0))),
        ("for another connector", header(&signed(&globex, &initech, 0, 0))),
        ("for another ledger", header(&other_ledger)),
        ("of another network", header(&other_network)),
        ("for another offset", header(&signed(&globex, &acme, 1, 1))),
    ] {
        let answer = client.ask(&get(0, &headers), b"").await;
        assert_eq!((answer.status(), answer.header("waybill-error")), (401, Some("bad-pull-request")), "{what}");
    }
    assert_eq!(client.ask(&get(0, &header(&good)), b"").await.status(), 200);
}

#[tokio::test]
async fn a_stale_pull_request_is_refused() {
    let mut options = quick();
    options.serve.clock_skew_limit = Duration::ZERO;
    let (acme, globex, sender) = sites(options).await;
    sender.send(0, 1, bytes(1, 10), &[]).await;
    let request = signed_get(&globex, &acme, 0, "");
    let made = std::time::Instant::now();
    while made.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    assert_eq!(client.ask(&request, b"").await.status(), 401);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_gets_no_connection_and_others_do() {
    let (acme, globex, sender) = sites(quick()).await;
    sender.send(0, 1, bytes(1, 10), &[]).await;
    let (_, impostor) = identity("globex", globex.node());
    let config = globex.who.directory.client_config(&impostor, acme.node()).unwrap();
    let name = globex.who.directory.server_name(acme.node()).unwrap();
    let tcp = TcpStream::connect(&acme.address).await.unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
    // With TLS 1.3 the client is done before the server has looked at its certificate.
    let _ = tls.write_all(signed_get(&globex, &acme, 0, "").as_bytes()).await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, tls.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() && answer.is_empty(), "{read:?}");
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    assert_eq!(client.ask(&signed_get(&globex, &acme, 0, ""), b"").await.status(), 200);
}

#[tokio::test]
async fn a_connector_that_is_not_the_sender_is_not_believed_to_be() {
    let (acme, globex, _sender) = sites(quick()).await;
    let (_, impostor) = identity("acme", acme.node());
    let config = acme.who.directory.server_config(&impostor).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let _ = tokio_rustls::TlsAcceptor::from(config).accept(tcp).await;
    });
    let config = globex.who.directory.client_config(&globex.who.identity, acme.node()).unwrap();
    let name = globex.who.directory.server_name(acme.node()).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    assert!(tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.is_err());
}

#[tokio::test]
async fn without_tls_or_with_garbage_there_is_no_answer() {
    let (acme, globex, sender) = sites(quick()).await;
    sender.send(0, 1, bytes(1, 10), &[]).await;
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), bytes(1, 100_000), vec![0x16, 3, 1, 0xff, 0xff]] {
        let mut tcp = TcpStream::connect(&acme.address).await.unwrap();
        let _ = tcp.write_all(&garbage).await;
        let _ = tcp.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.expect("the connection is closed");
        assert!(!answer.starts_with(b"HTTP"));
    }
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    assert_eq!(client.ask(&signed_get(&globex, &acme, 0, ""), b"").await.status(), 200);
}

#[tokio::test]
async fn bad_requests_are_answered_and_the_connection_goes_on() {
    let (acme, globex, sender) = sites(quick()).await;
    sender.send(0, 1, bytes(1, 10), &[]).await;
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let unordered = signed_post(&globex, &acme, &[0, 5, 3, 5]);
    let none = signed_post(&globex, &acme, &[]);
    let (odd_head, mut odd_body) = signed_post(&globex, &acme, &[0, 1]);
    odd_body[15] = 0;
    let odd = (odd_head.replace("content-length: 16", "content-length: 15"), odd_body[..15].to_vec());
    for (head, body) in [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), Vec::new()),
        (signed_get(&globex, &acme, 0, "").replace("GET", "DELETE"), Vec::new()),
        (signed_get(&globex, &acme, 0, "").replace("batches/0", "batches"), Vec::new()),
        unordered,
        none,
        odd,
    ] {
        let answer = client.ask(&head, &body).await;
        assert_eq!((answer.status(), answer.header("waybill-error")), (400, Some("bad-request")), "{head}");
    }
    assert_eq!(client.ask(&signed_get(&globex, &acme, 0, ""), b"").await.status(), 200);
}

#[tokio::test]
async fn limits_of_a_request_hold() {
    let mut options = quick();
    options.serve.batches_per_request_limit = 2;
    let (acme, globex, sender) = sites(options).await;
    sender.send(0, 1, bytes(1, 10), &[]).await;
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let (head, body) = signed_post(&globex, &acme, &[0, 1, 2]);
    assert_eq!(client.ask(&head, &body).await.status(), 400);
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let long = format!("x: {}\r\n", "y".repeat(100_000));
    let _ = client.0.write_all(signed_get(&globex, &acme, 0, &long).as_bytes()).await;
    let answer = client.read().await;
    assert!(answer.head.is_empty() || answer.status() == 431, "{}", answer.head);
    let mut client = RawClient::connect(&globex, &acme).await.unwrap();
    let many: String = (0..100).map(|number| format!("x{number}: y\r\n")).collect();
    let _ = client.0.write_all(signed_get(&globex, &acme, 0, &many).as_bytes()).await;
    let answer = client.read().await;
    assert!(answer.head.is_empty() || answer.status() == 431, "{}", answer.head);
}

#[tokio::test]
async fn one_organisation_cannot_take_more_than_its_share() {
    let mut options = quick();
    options.serve.pulls_per_org_limit = 1;
    options.serve.connections_per_org_limit = 2;
    let [acme, globex, initech] = network(["acme", "globex", "initech"]);
    let sender = Site::serve(&acme, &["globex", "initech"], options);
    // More than sockets and TLS hold: an answer that nobody reads stays under way.
    sender.send(0, 1, bytes(1, 32 << 20), &[]).await;
    sender.send(1, 1, bytes(2, 10), &[]).await;
    let mut stalled = RawClient::connect(&globex, &acme).await.unwrap();
    stalled.write(&signed_get(&globex, &acme, 0, ""), b"").await;
    let mut first = [0];
    stalled.0.read_exact(&mut first).await.unwrap();
    let mut second = RawClient::connect(&globex, &acme).await.unwrap();
    let answer = second.ask(&signed_get(&globex, &acme, 1, ""), b"").await;
    assert_eq!((answer.status(), answer.header("waybill-error")), (429, Some("busy")));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let mut third = RawClient::connect(&globex, &acme).await.unwrap();
    let _ = third.0.write_all(signed_get(&globex, &acme, 1, "").as_bytes()).await;
    assert!(third.read().await.head.is_empty(), "its connections are all in use");
    let mut other = RawClient::connect(&initech, &acme).await.unwrap();
    assert_eq!(other.ask(&signed_get(&initech, &acme, 1, ""), b"").await.status(), 200);
    drop(stalled);
}

#[tokio::test]
async fn a_receiver_that_reads_nothing_is_cut_off() {
    let mut options = quick();
    options.serve.chunk_timeout = Duration::from_millis(50);
    options.serve.connections_limit = 1;
    let (acme, globex, sender) = sites(options).await;
    sender.send(0, 1, bytes(1, 32 << 20), &[]).await;
    sender.send(1, 1, bytes(2, 10), &[]).await;
    let mut stalled = RawClient::connect(&globex, &acme).await.unwrap();
    stalled.write(&signed_get(&globex, &acme, 0, ""), b"").await;
    timeout(PATIENCE, served_at_last(&globex, &acme, 1)).await.expect("the stalled one's place is free");
    assert!(!stalled.read().await.whole);
    sender.connector.shutdown().await;
    assert_eq!(sender.reports.now().len(), 1, "only what was served is reported");
}

/// Whether a new connection is served; one that is refused is closed after its handshake.
async fn is_served(from: &Member, to: &Member, offset: i64) -> bool {
    let Ok(mut client) = RawClient::connect(from, to).await else { return false };
    let _ = client.0.write_all(signed_get(from, to, offset, "").as_bytes()).await;
    let answer = client.read().await;
    !answer.head.is_empty() && answer.status() == 200
}

async fn served_at_last(from: &Member, to: &Member, offset: i64) {
    while !is_served(from, to, offset).await {}
}

#[tokio::test]
async fn connections_in_all_are_limited() {
    let mut options = quick();
    options.serve.connections_limit = 1;
    let (acme, globex, sender) = sites(options).await;
    sender.send(0, 1, bytes(1, 10), &[]).await;
    let mut first = RawClient::connect(&globex, &acme).await.unwrap();
    assert_eq!(first.ask(&signed_get(&globex, &acme, 0, ""), b"").await.status(), 200);
    assert!(!is_served(&globex, &acme, 0).await);
    drop(first);
    timeout(PATIENCE, served_at_last(&globex, &acme, 0)).await.expect("its place is free again");
}

#[tokio::test]
async fn strangers_who_never_finish_their_handshake_disturb_nobody_who_is_connected() {
    let mut options = quick();
    options.serve.handshakes_limit = 2;
    options.serve.handshake_timeout = Duration::from_secs(2);
    let (acme, globex, sender) = sites(options).await;
    sender.send(0, 1, bytes(1, 10), &[]).await;
    let mut partner = RawClient::connect(&globex, &acme).await.unwrap();
    assert_eq!(partner.ask(&signed_get(&globex, &acme, 0, ""), b"").await.status(), 200);
    let mut strangers = Vec::new();
    for _ in 0..2 {
        strangers.push(TcpStream::connect(&acme.address).await.unwrap());
    }
    assert!(RawClient::connect(&globex, &acme).await.is_err(), "both places are taken");
    assert_eq!(partner.ask(&signed_get(&globex, &acme, 0, ""), b"").await.status(), 200);
    timeout(PATIENCE, served_at_last(&globex, &acme, 0)).await.expect("strangers are cut off in the end");
}

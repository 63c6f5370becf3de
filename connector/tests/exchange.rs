//! Two organisations' connectors over real sockets: what was sent arrives, is proven on both sides, and every way in
//! which it may fail names who is to blame.

mod network;

use network::raw::{Scripted, relay};
use network::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use waybill_connector::evidence::receive_digest;
use waybill_connector::pull::PullError;
use waybill_connector::store::disk::DiskOptions;
use waybill_connector::{Announced, DeliverError, Stores};
use waybill_ledger::contract::RefuseReason;
use waybill_types::transaction::{Receive, Refuse};
use waybill_types::{Digest, NodeId, Transaction};

fn pull_error(outcome: Result<waybill_connector::Verified, DeliverError>) -> PullError {
    match outcome {
        Err(DeliverError::Pull(error)) => error,
        other => panic!("{other:?} is no failed pull"),
    }
}

#[tokio::test]
async fn what_one_organisation_sends_another_receives_and_both_can_prove_it() {
    let [acme, globex] = network(["acme", "globex"]);
    let (sender, receiver) = (Site::serve(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    let batch = bytes(1, 300_000);
    sender.send(0, 10, batch.clone(), &[&receiver]).await;
    let payload = receiver.connector.payload(&receiver.grant(0), soon()).await.unwrap();
    assert_eq!(payload.to_bytes(), batch);

    let received = receiver.reports.wait(|reports| !reports.is_empty()).await;
    let [Transaction::Receive(Receive { first: 0, last: 9, salts })] = received[..] else { panic!("{received:?}") };
    let (ours, theirs) = ([sender.grant(0)], org("globex"));
    assert!(sender.connector.proves_receipt(&theirs, &ours, &salts).await.unwrap());
    assert!(!sender.connector.proves_receipt(&org("initech"), &ours, &salts).await.unwrap());
    assert!(!sender.connector.proves_receipt(&theirs, &ours, &Digest([1; 32])).await.unwrap());
    assert_ne!(salts, receive_digest(&theirs, []));

    let served = sender.reports.wait(|reports| !reports.is_empty()).await;
    let [Transaction::Retrieve(retrieve)] = &served[..] else { panic!("{served:?}") };
    assert_eq!((&retrieve.receiver, retrieve.first, retrieve.last), (&theirs, 0, 9));
    let request = sender.connector.pull_request(&retrieve.request).await.unwrap().unwrap();
    assert_eq!((request.request.signer, request.request.connector), (globex.node(), acme.node()));

    let questions = sender.view.questions();
    assert_eq!(receiver.connector.payload(&receiver.grant(0), soon()).await.unwrap().to_bytes(), batch);
    assert_eq!(sender.connector.payload(&sender.grant(0), soon()).await.unwrap().to_bytes(), batch);
    assert_eq!(sender.view.questions(), questions, "nothing was pulled twice, and nobody pulls from himself");
}

#[tokio::test]
async fn many_small_batches_are_one_request_and_one_line_on_each_ledger() {
    let [acme, globex] = network(["acme", "globex"]);
    let (sender, receiver) = (Site::serve(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    for number in 0..500 {
        sender.send(2 * number, 2, bytes(number as u64, 100 + number as usize), &[&receiver]).await;
    }
    let grants: Vec<_> = (0..500).map(|number| receiver.grant(2 * number)).collect();
    let payloads = receiver.connector.payloads(&grants, soon()).await;
    for (number, payload) in payloads.into_iter().enumerate() {
        assert_eq!(payload.unwrap().to_bytes(), bytes(number as u64, 100 + number));
    }
    let served = sender.reports.wait(|reports| !reports.is_empty()).await;
    assert!(matches!(&served[..], [Transaction::Retrieve(retrieve)] if (retrieve.first, retrieve.last) == (0, 999)));
    let covers = |reports: &[Transaction]| -> i64 {
        let ranges = reports.iter().map(|report| match report {
            Transaction::Receive(receive) => receive.last - receive.first + 1,
            other => panic!("{other:?}"),
        });
        ranges.sum()
    };
    receiver.reports.wait(|reports| covers(reports) == 1000).await;
}

#[tokio::test]
async fn whoever_may_not_read_gets_nothing_whatever_his_own_node_says() {
    let [acme, initech] = network(["acme", "initech"]);
    let (sender, stranger) = (Site::serve(&acme, &["globex"], quick()), Site::start(&initech, &["initech"], quick()));
    sender.send(0, 1, bytes(1, 1000), &[&stranger]).await;
    let error = pull_error(stranger.connector.payload(&stranger.grant(0), soon()).await);
    assert_eq!(error, PullError::PeerRefused { node: acme.node(), reason: "denied" });
    let reports = sender.reports.wait(|reports| !reports.is_empty()).await;
    let refuse = Refuse { to: org("initech"), offset: 0, reason: RefuseReason::NotAReader as u16 };
    assert_eq!(reports, vec![Transaction::Refuse(refuse)]);
    assert!(stranger.reports.now().is_empty());
}

#[tokio::test]
async fn a_revocation_stops_a_pull_between_two_chunks() {
    let [acme, globex] = network(["acme", "globex"]);
    let mut options = quick();
    options.serve.chunk_bytes = 64 << 10;
    let (sender, receiver) = (Site::serve(&acme, &["globex"], options), Site::start(&globex, &["globex"], quick()));
    sender.send(0, 1, bytes(1, 4 << 20), &[&receiver]).await;
    sender.view.at_question(10, |view| view.revoke("globex"));
    let error = pull_error(receiver.connector.payload(&receiver.grant(0), soon()).await);
    assert_eq!(error, PullError::PeerRefused { node: acme.node(), reason: "denied" });
    assert!(sender.view.questions() < 20, "it ended soon after");
    receiver.connector.shutdown().await;
    sender.connector.shutdown().await;
    assert!(receiver.reports.now().is_empty());
    assert!(sender.reports.now().iter().all(|report| matches!(report, Transaction::Refuse(_))), "nothing was served");
}

#[tokio::test]
async fn a_revocation_within_the_last_bytes_keeps_the_salt_back() {
    let [acme, globex] = network(["acme", "globex"]);
    let mut options = quick();
    options.serve.chunk_bytes = 64 << 10;
    let (sender, receiver) = (Site::serve(&acme, &["globex"], options), Site::start(&globex, &["globex"], quick()));
    sender.send(0, 1, bytes(1, 128 << 10), &[&receiver]).await;
    // One question for the batch, one for each of its two chunks; the next is about the salt.
    sender.view.at_question(4, |view| view.revoke("globex"));
    let error = pull_error(receiver.connector.payload(&receiver.grant(0), soon()).await);
    assert_eq!(error, PullError::PeerRefused { node: acme.node(), reason: "denied" });
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    let [acme, globex] = network(["acme", "globex"]);
    let hidden = TcpListener::bind("127.0.0.1:0").await.unwrap();
    relay(acme.listener(), hidden.local_addr().unwrap().to_string(), vec![Some(1_000_000), Some(500_000), Some(2_000)]);
    let (sender, receiver) = (Site::start(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    sender.connector.serve(hidden, sender.view.clone());
    let sizes = [700_000, 900_000, 1_000_000, 10];
    for (number, size) in sizes.into_iter().enumerate() {
        sender.send(number as i64, 1, bytes(number as u64, size), &[&receiver]).await;
    }
    let grants: Vec<_> = (0..sizes.len()).map(|number| receiver.grant(number as i64)).collect();
    let payloads = receiver.connector.payloads(&grants, soon()).await;
    for (number, (payload, size)) in payloads.into_iter().zip(sizes).enumerate() {
        assert_eq!(payload.unwrap().to_bytes(), bytes(number as u64, size));
    }
}

/// Puts a batch of acme, of these bytes, on globex's ledger, without acme's connector knowing.
async fn announced_batch(acme: &Member, receiver: &Site, batch: &[u8]) -> waybill_types::Commitment {
    let sender = Site::start(acme, &["globex"], quick());
    sender.send(0, 1, batch.to_vec(), &[receiver]).await.send.commitment
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes(), body].concat()
}

#[tokio::test]
async fn wrong_bytes_are_never_delivered_kept_or_acknowledged() {
    let [acme, globex] = network(["acme", "globex"]);
    let receiver = Site::start(&globex, &["globex"], quick());
    announced_batch(&acme, &receiver, &bytes(1, 1000)).await;
    let forged = [bytes(2, 1000), vec![0; 32]].concat();
    Scripted::start(&acme, vec![answer("200 OK", "content-length: 1032\r\n", &forged)]);
    let error = pull_error(receiver.connector.payload(&receiver.grant(0), soon()).await);
    assert!(matches!(error, PullError::PeerMisbehaved { node: NodeId(1), .. }), "{error}");
    assert!(receiver.connector.inbox().read(&receiver.grant(0)).await.unwrap().is_none());
    receiver.connector.shutdown().await;
    assert!(receiver.reports.now().is_empty());
}

#[tokio::test]
async fn more_bytes_than_the_ledger_says_are_not_taken() {
    let [acme, globex] = network(["acme", "globex"]);
    let receiver = Site::start(&globex, &["globex"], quick());
    announced_batch(&acme, &receiver, &bytes(1, 1000)).await;
    Scripted::start(&acme, vec![answer("200 OK", "content-length: 5000\r\n", &[0; 5000])]);
    let error = pull_error(receiver.connector.payload(&receiver.grant(0), soon()).await);
    assert!(matches!(error, PullError::PeerMisbehaved { .. }), "{error}");
}

#[tokio::test]
async fn a_resumed_pull_asks_for_the_missing_range_of_the_same_payload() {
    let [acme, globex] = network(["acme", "globex"]);
    let receiver = Site::start(&globex, &["globex"], quick());
    let commitment = announced_batch(&acme, &receiver, &bytes(1, 1000)).await;
    let half = answer("200 OK", "content-length: 1032\r\n", &bytes(1, 1000)[..400]);
    let misplaced =
        answer("206 Partial Content", "content-range: bytes 7-1031/1032\r\ncontent-length: 1025\r\n", &[0; 1025]);
    let server = Scripted::start(&acme, vec![half, misplaced]);
    let error = pull_error(receiver.connector.payload(&receiver.grant(0), soon()).await);
    assert!(matches!(error, PullError::PeerMisbehaved { .. }), "{error}");
    let requests = server.requests.lock().clone();
    assert!(!requests[0].contains("range: "), "{}", requests[0]);
    assert!(requests[1].contains("range: bytes=400-\r\n"), "{}", requests[1]);
    assert!(requests[1].contains(&format!("if-range: \"{commitment}\"\r\n")), "{}", requests[1]);
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_pull() {
    let [acme, globex] = network(["acme", "globex"]);
    let (sender, receiver) = (Site::serve(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    sender.send(0, 1, bytes(1, 5000), &[&receiver]).await;
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let (connector, grant) = (receiver.connector.clone(), receiver.grant(0));
            tokio::spawn(async move {
                if number % 10 == 0 {
                    connector.announce(&grant);
                }
                connector.payload(&grant, soon()).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().to_bytes(), bytes(1, 5000));
    }
    receiver.reports.wait(|reports| !reports.is_empty()).await;
    receiver.connector.shutdown().await;
    sender.connector.shutdown().await;
    assert_eq!(receiver.reports.now().len(), 1, "one Receive");
    assert_eq!(sender.reports.now().len(), 1, "one Retrieve");
}

#[tokio::test]
async fn announced_batches_are_pulled_ahead_and_acknowledged() {
    let [acme, globex] = network(["acme", "globex"]);
    let (sender, receiver) = (Site::serve(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    for number in 0..100 {
        sender.send(number, 1, bytes(number as u64, 500), &[&receiver]).await;
        assert_eq!(receiver.connector.announce(&receiver.grant(number)), Announced::Queued);
        assert_eq!(sender.connector.announce(&sender.grant(number)), Announced::Own);
    }
    let covers = |reports: &Vec<Transaction>| {
        reports.iter().any(|report| matches!(report, Transaction::Receive(receive) if receive.last == 99))
    };
    receiver.reports.wait(covers).await;
    sender.connector.shutdown().await;
    for number in 0..100 {
        let kept = receiver.connector.inbox().read(&receiver.grant(number)).await.unwrap().unwrap();
        assert_eq!(kept.to_bytes(), bytes(number as u64, 500));
    }
}

#[tokio::test]
async fn what_is_announced_above_the_limit_is_left_for_later() {
    let [acme, globex] = network(["acme", "globex"]);
    let mut options = quick();
    options.prefetch.queue_per_peer_limit = 1;
    let receiver = Site::start(&globex, &["globex"], options);
    announced_batch(&acme, &receiver, &bytes(1, 10)).await;
    let announced: Vec<_> = (0..10).map(|_| receiver.connector.announce(&receiver.grant(0))).collect();
    assert_eq!(announced[0], Announced::Queued);
    assert!(announced[1..].iter().all(|announced| *announced == Announced::Lazy), "{announced:?}");
}

#[tokio::test]
async fn a_batch_in_the_inbox_that_was_never_acknowledged_is_when_it_is_announced_again() {
    let [acme, globex] = network(["acme", "globex"]);
    let (sender, receiver) = (Site::serve(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    sender.send(0, 1, bytes(1, 500), &[&receiver]).await;
    let payload = sender.connector.payload(&sender.grant(0), soon()).await.unwrap();
    receiver.connector.inbox().keep(&payload).await.unwrap();
    receiver.connector.payload(&receiver.grant(0), soon()).await.unwrap();
    assert!(receiver.reports.now().is_empty());
    receiver.connector.announce(&receiver.grant(0));
    let reports = receiver.reports.wait(|reports| !reports.is_empty()).await;
    assert!(matches!(reports[..], [Transaction::Receive(Receive { first: 0, last: 0, .. })]));
    assert_eq!(sender.view.questions(), 0, "nothing was pulled");
}

#[tokio::test]
async fn a_node_that_lags_is_asked_again_until_it_has_the_batch() {
    let [acme, globex] = network(["acme", "globex"]);
    let (sender, receiver) = (Site::serve(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    let entry = sender.send(0, 1, bytes(1, 500), &[&receiver]).await;
    sender.view.forget(0);
    sender.view.at_question(4, move |view| view.append(entry));
    assert!(receiver.connector.payload(&receiver.grant(0), soon()).await.is_ok());
    assert!(sender.view.questions() >= 4);
}

#[tokio::test]
async fn a_connector_that_is_away_is_named_and_delays_nobody_else() {
    let [acme, globex, initech] = network(["acme", "globex", "initech"]);
    drop(acme.listener());
    let mut options = quick();
    options.pull.deadline = Duration::from_millis(300);
    let receiver = Site::start(&globex, &["globex"], options);
    announced_batch(&acme, &receiver, &bytes(1, 10)).await;
    let sender = Site::serve(&initech, &["globex"], quick());
    sender.send(1, 1, bytes(2, 10), &[&receiver]).await;
    let grants = [receiver.grant(0), receiver.grant(1)];
    let mut payloads = receiver.connector.payloads(&grants, soon()).await;
    assert_eq!(payloads.pop().unwrap().unwrap().to_bytes(), bytes(2, 10));
    let error = pull_error(payloads.pop().unwrap());
    assert!(matches!(error, PullError::PeerUnavailable { node: NodeId(1), .. }), "{error}");
}

#[tokio::test]
async fn a_pull_that_comes_late_goes_on_for_the_next_who_asks() {
    let [acme, globex] = network(["acme", "globex"]);
    let (sender, receiver) = (Site::start(&acme, &["globex"], quick()), Site::start(&globex, &["globex"], quick()));
    sender.send(0, 1, bytes(1, 10), &[&receiver]).await;
    let outcome = receiver.connector.payload(&receiver.grant(0), Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(outcome.unwrap_err(), DeliverError::Late { node: acme.node() });
    sender.connector.serve(acme.listener(), sender.view.clone());
    receiver.reports.wait(|reports| !reports.is_empty()).await;
    sender.connector.shutdown().await;
    assert!(receiver.connector.payload(&receiver.grant(0), soon()).await.is_ok());
}

#[tokio::test]
async fn a_payload_damaged_at_the_sender_is_never_served_and_its_neighbours_are() {
    let [acme, globex] = network(["acme", "globex"]);
    let dir = tempfile::tempdir().unwrap();
    let mut options = quick();
    options.disk = DiskOptions { segment_bytes: 1 << 20, ..DiskOptions::default() };
    options.cache_bytes_limit = 0;
    let stores = Stores::open(dir.path(), &options).unwrap();
    let sender = Site::on(stores, &acme, &["globex"], options);
    sender.connector.serve(acme.listener(), sender.view.clone());
    let receiver = Site::start(&globex, &["globex"], quick());
    for number in 0..5 {
        sender.send(number, 1, bytes(number as u64, 2000), &[&receiver]).await;
    }
    flip_a_byte(&dir.path().join("outbox"), &bytes(2, 2000));
    let grants: Vec<_> = (0..5).map(|number| receiver.grant(number)).collect();
    for (number, payload) in receiver.connector.payloads(&grants, soon()).await.into_iter().enumerate() {
        match number {
            2 => assert_eq!(pull_error(payload), PullError::PeerLost { node: acme.node(), reason: "corrupt" }),
            _ => assert_eq!(payload.unwrap().to_bytes(), bytes(number as u64, 2000)),
        }
    }
    let own = sender.connector.payload(&sender.grant(2), soon()).await.unwrap_err();
    assert!(matches!(own, DeliverError::Outbox(waybill_connector::outbox::OutboxError::Corrupt { .. })), "{own}");
    let refused = |reports: &Vec<Transaction>| {
        let refuse = Refuse { to: org("globex"), offset: 2, reason: RefuseReason::PayloadCorrupt as u16 };
        reports.contains(&Transaction::Refuse(refuse))
    };
    sender.reports.wait(refused).await;
}

#[tokio::test]
async fn a_payload_damaged_at_the_receiver_is_pulled_again() {
    let [acme, globex] = network(["acme", "globex"]);
    let dir = tempfile::tempdir().unwrap();
    let mut options = quick();
    options.cache_bytes_limit = 0;
    let stores = Stores::open(dir.path(), &options).unwrap();
    let receiver = Site::on(stores, &globex, &["globex"], options);
    let sender = Site::serve(&acme, &["globex"], quick());
    sender.send(0, 1, bytes(1, 2000), &[&receiver]).await;
    receiver.connector.payload(&receiver.grant(0), soon()).await.unwrap();
    receiver.reports.wait(|reports| !reports.is_empty()).await;
    flip_a_byte(&dir.path().join("inbox"), &bytes(1, 2000));
    let questions = sender.view.questions();
    assert_eq!(receiver.connector.payload(&receiver.grant(0), soon()).await.unwrap().to_bytes(), bytes(1, 2000));
    assert!(sender.view.questions() > questions);
}

/// Flips a bit of a payload wherever it is on the disk.
fn flip_a_byte(dir: &std::path::Path, batch: &[u8]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(batch.len()).position(|window| window == batch) {
            bytes[at + batch.len() / 2] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("the payload is in no file of {}", dir.display());
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_reports_what_happened() {
    let [acme, globex] = network(["acme", "globex"]);
    let mut options = quick();
    options.evidence.linger = Duration::from_secs(3600);
    let (sender, receiver) =
        (Site::serve(&acme, &["globex"], options.clone()), Site::start(&globex, &["globex"], options));
    sender.send(0, 1, bytes(1, 10), &[&receiver]).await;
    receiver.connector.payload(&receiver.grant(0), soon()).await.unwrap();
    timeout(Duration::from_secs(4), sender.connector.shutdown()).await.expect("no connection holds it up");
    assert_eq!(sender.reports.now().len(), 1, "the Retrieve");
    timeout(PATIENCE, receiver.connector.shutdown()).await.unwrap();
    let late = receiver.connector.payload(&receiver.grant(0), soon()).await;
    assert!(late.is_ok(), "from memory, even now");
    assert!(Arc::strong_count(&sender.connector) == 1);
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_tree(&path, &target) } else { std::fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

#[tokio::test]
async fn a_connector_that_was_killed_has_what_it_kept_whatever_became_of_its_index() {
    let [acme] = network(["acme"]);
    let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |dir: &std::path::Path| {
        let (dir, who) = (dir.to_owned(), acme.who.clone());
        async move { waybill_connector::Connector::open(&dir, who, Reports::new(), quick()).await }
    };
    let connector = open(dir.path()).await.unwrap();
    let mut stored = Vec::new();
    for number in 0..50 {
        stored.push(connector.outbox().keep(vec![bytes(number, 1000).into()]).await.unwrap());
    }
    assert!(open(dir.path()).await.is_err(), "the directory is in use");
    // What is on the disk while it runs is what a kill leaves.
    copy_tree(dir.path(), killed.path());
    for spoil in [None, Some("conf"), Some("db")] {
        if let Some(file) = spoil {
            std::fs::write(killed.path().join("index").join(file), bytes(9, 5000)).unwrap();
        }
        let again = open(killed.path()).await.unwrap();
        for (number, stored) in stored.iter().enumerate() {
            let view = View::new(&[]);
            let send = waybill_types::transaction::Send {
                connector: stored.connector(),
                commitment: stored.commitment(),
                size_bytes: stored.size_bytes(),
                record_count: 1,
                attributes: 0,
                base_timestamp_ms: 0,
                max_timestamp_ms: 0,
                producer: None,
            };
            view.append(Arc::new(entry(&org("acme"), 0, send)));
            let read = again.outbox().read(&view.grant("acme", 0)).await.unwrap();
            assert_eq!(read.to_bytes(), bytes(number as u64, 1000), "index file spoilt: {spoil:?}");
        }
        again.shutdown().await;
    }
}

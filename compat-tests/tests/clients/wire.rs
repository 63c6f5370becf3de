//! Bytes that no client sends: a node answers as Kafka does or closes the connection, says so, and goes on.

use std::thread;
use std::time::{Duration, Instant};

use waybill_compat_tests::http;
use waybill_compat_tests::kcat::kcat;
use waybill_compat_tests::network::{Data, Network};
use waybill_compat_tests::process::resident_bytes;
use waybill_compat_tests::wait::{LIMIT, eventually};
use waybill_compat_tests::wire::{
    self, Fields, Producer, Wire, api, fetch_batches, fetch_request, fetched, init_producer_id_request,
    limited_fetch_request, metadata_request, produce_request, record_batch, request,
};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const OFFSET_NOT_AVAILABLE: i16 = 78;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;

/// Everything that must close the connection: what it is, and the bytes as they go over the wire.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |frame: &[u8]| [&i32::try_from(frame.len()).expect("small").to_be_bytes(), frame].concat();
    // A count of two thousand million topics and three bytes of the first: 154 GB, if it were believed.
    let metadata = |version| framed(&request(api::METADATA, version, 7, &[0x7f, 0xff, 0xff, 0xff, 0, 1, b'a']));
    let flexible_header = |api_key: i16, version: i16| {
        let mut frame = request(api_key, version, 7, &[]);
        frame.push(0);
        frame
    };
    // The same in a compact count: five bytes say 4,294,967,294.
    let compact = [flexible_header(api::METADATA, 9), vec![0xff, 0xff, 0xff, 0xff, 0x0f, 2, b'a']].concat();
    // A count that never ends.
    let endless = [flexible_header(api::METADATA, 12), vec![0xff; 7]].concat();
    let text_beyond_the_frame = request(api::METADATA, 1, 7, &[0, 0, 0, 1, 0x7f, 0xff, b'a']);
    let mut negative_client = request(api::METADATA, 1, 7, &[]);
    negative_client[8..10].copy_from_slice(&(-2_i16).to_be_bytes());
    let mut fetch_of_everything = fetch_request(7, "orders", 0, 0, 0);
    let topics_at = fetch_of_everything.len() - 4 - (4 + 4 + 8 + 8 + 4) - 4 - (2 + 6) - 4;
    assert_eq!(fetch_of_everything[topics_at..topics_at + 6], [0, 0, 0, 1, 0, 6], "a count of one, a name of six");
    fetch_of_everything[topics_at..topics_at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    vec![
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("a browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("noise", (0..4_096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 21) as u8 | 0x80).collect()),
        ("a negative length", (-1_i32).to_be_bytes().to_vec()),
        ("the smallest length", i32::MIN.to_be_bytes().to_vec()),
        ("two gigabytes announced", i32::MAX.to_be_bytes().to_vec()),
        ("an empty frame", framed(&[])),
        ("one byte", framed(&[0])),
        ("three bytes", framed(&[0, 3, 0])),
        ("seven bytes", framed(&[0, 3, 0, 1, 0, 0, 0])),
        ("a header and nothing else", framed(&request(api::FETCH, 4, 7, &[]))),
        ("metadata with seven bytes, version 1", metadata(1)),
        ("metadata with seven bytes, version 8", metadata(8)),
        ("metadata with seven bytes, version 9", framed(&compact)),
        ("metadata with seven bytes, version 12", framed(&endless)),
        ("a text longer than its frame", framed(&text_beyond_the_frame)),
        ("a client id of -2 bytes", framed(&negative_client)),
        ("a fetch of two thousand million topics", framed(&fetch_of_everything)),
        ("an API that is not Kafka's", framed(&request(999, 0, 7, &[0; 16]))),
        ("a negative API", framed(&request(-1, 0, 7, &[0; 16]))),
        ("a version from the future", framed(&request(api::METADATA, 99, 7, &[0; 16]))),
    ]
}

/// Sends bytes on a connection of their own and expects that the node ends it without an answer.
fn expect_closed(network: &Network<'_>, what: &str, bytes: &[u8]) {
    let mut wire = Wire::connect(network.kafka("acme"));
    wire.send_raw(bytes);
    let answer = wire.receive();
    assert!(answer.is_none(), "{what} was answered with {answer:?}");
}

#[test]
fn malformed_frames_cost_a_connection_and_nothing_else() {
    let data = Data::new();
    let network = data.start();
    kcat(&["-b", network.kafka("acme"), "-P", "-t", "orders"], b"before\n");
    let bytes_before = resident_bytes(network.pid());
    let counted_before = http::metric(network.http("acme"), "malformed").unwrap_or_default();

    for _ in 0..5 {
        for (what, bytes) in malformed() {
            expect_closed(&network, what, &bytes);
        }
    }
    // A frame that stops in the middle is only an impolite client: the node waits, and lets go when it does.
    let mut torn = Wire::connect(network.kafka("acme"));
    torn.send_raw(&metadata_request(1, "orders")[..9]);
    torn.finish();
    assert_eq!(torn.receive(), None);

    let counted = http::metric(network.http("acme"), "malformed").expect("a counter of malformed frames");
    assert!(counted - counted_before >= 50.0, "of some hundred malformed frames {counted} were counted");
    let grown = resident_bytes(network.pid()).saturating_sub(bytes_before);
    assert!(grown < 100 << 20, "a hundred bad frames cost {} MB", grown >> 20);

    // And everything still works, on the same node.
    kcat(&["-b", network.kafka("acme"), "-P", "-t", "orders"], b"after\n");
    let read = kcat(&["-b", network.kafka("acme"), "-C", "-t", "orders", "-o", "beginning", "-e", "-q"], b"");
    assert_eq!(read.text(), "before\nafter\n");
    network.terminate();
}

#[test]
fn thousands_of_announced_megabytes_are_not_reserved() {
    let data = Data::new();
    let network = data.start();
    let bytes_before = resident_bytes(network.pid());
    // A hundred connections that each announce a frame of a hundred megabytes and send a kilobyte of it.
    let idle: Vec<Wire> = (0..100)
        .map(|_| {
            let mut wire = Wire::connect(network.kafka("acme"));
            wire.send_raw(&104_000_000_i32.to_be_bytes());
            wire.send_raw(&[0; 1_024]);
            wire
        })
        .collect();
    let mut wire = Wire::connect(network.kafka("acme"));
    for correlation in 0..20 {
        wire.send(&metadata_request(correlation, "orders"));
        assert_eq!(wire.receive_correlation(), Some(correlation), "others are served meanwhile");
    }
    let grown = resident_bytes(network.pid()).saturating_sub(bytes_before);
    assert!(grown < 512 << 20, "100 idle connections cost {} MB", grown >> 20);
    drop(idle);
    network.terminate();
}

#[test]
fn a_client_from_the_future_learns_which_versions_there_are() {
    let data = Data::new();
    let network = data.start();
    let mut wire = Wire::connect(network.kafka("acme"));
    // No tagged fields in the header, the client's name and version, and what the future may bring.
    wire.send(&request(api::API_VERSIONS, 99, 5, b"\0\x07future\x039.9\0\xff\xff\xff\xff"));
    let response = wire.receive().expect("an answer that any client can read");
    let mut fields = Fields(&response);
    assert_eq!(fields.i32(), 5, "correlation id, and no tagged fields behind it");
    assert_eq!(fields.i16(), UNSUPPORTED_VERSION);
    let own = ranges(&mut fields).into_iter().find(|row| row.0 == api::API_VERSIONS).expect("this API's own row");
    assert!(own.1 == 0 && own.2 < 99, "{own:?}");

    // The connection is still good for a version that both know.
    wire.send(&request(api::API_VERSIONS, 0, 6, &[]));
    let response = wire.receive().expect("an answer");
    let mut fields = Fields(&response);
    assert_eq!((fields.i32(), fields.i16()), (6, 0));
    let rows = ranges(&mut fields);
    let range = |key| rows.iter().find(|row| row.0 == key).map(|row| (row.1, row.2));
    assert_eq!(range(api::PRODUCE).map(|range| range.0), Some(0), "else librdkafka 2.0 does not compress");
    assert_eq!(range(11).map(|range| range.0), Some(0), "JoinGroup");
    assert!(range(api::FETCH).is_some_and(|(_, max)| max <= 12), "no topic ids yet");
    assert!(range(68).is_none() && range(71).is_none(), "what is not served is not advertised");
    network.terminate();
}

/// The rest of an ApiVersions response of version 0: key, lowest and highest version of each API.
fn ranges(fields: &mut Fields<'_>) -> Vec<(i16, i16, i16)> {
    let rows = (0..fields.i32()).map(|_| (fields.i16(), fields.i16(), fields.i16())).collect();
    assert!(fields.0.is_empty(), "a body of version 0 ends here");
    rows
}

#[test]
fn acks_0_gets_no_bytes_and_a_corrupt_batch_is_named() {
    let data = Data::new();
    let network = data.start();
    let acme = network.kafka("acme");
    kcat(&["-b", acme, "-P", "-t", "orders"], b"zero\n");
    let mut wire = Wire::connect(acme);
    wire.send(&produce_request(1, 0, "orders", 0, &record_batch(Producer::NONE, &["unanswered"])));
    wire.send(&metadata_request(2, "orders"));
    assert_eq!(wire.receive_correlation(), Some(2), "the first bytes answer the second request");

    let mut wire = Wire::connect(acme);
    wire.send(&produce_request(3, -1, "orders", 0, &record_batch(Producer::NONE, &["answered"])));
    assert_eq!(produce_error(&mut wire, 3), 0);
    let mut corrupt = record_batch(Producer::NONE, &["corrupt"]);
    *corrupt.last_mut().expect("bytes") ^= 1;
    wire.send(&produce_request(4, -1, "orders", 0, &corrupt));
    assert_eq!(produce_error(&mut wire, 4), CORRUPT_MESSAGE);

    // Without an answer there is one way to say no.
    wire.send(&produce_request(5, 0, "orders", 0, &corrupt));
    assert_eq!(wire.receive(), None, "an error under acks=0 closes the connection");

    eventually("three good records", LIMIT, || {
        let read = kcat(&["-b", acme, "-C", "-t", "orders", "-o", "beginning", "-e", "-q"], b"").text();
        let mut lines: Vec<&str> = read.lines().collect();
        lines.sort_unstable();
        (lines == ["answered", "unanswered", "zero"]).then_some(())
    });
    network.terminate();
}

/// The error code of the one partition in the next response to Produce.
fn produce_error(wire: &mut Wire, correlation: i32) -> i16 {
    produced(wire, correlation).0
}

/// The error code and the base offset of the one partition in the next response to Produce.
fn produced(wire: &mut Wire, correlation: i32) -> (i16, i64) {
    let response = wire.receive().expect("a response to Produce");
    let mut fields = Fields(&response);
    assert_eq!(fields.i32(), correlation);
    assert_eq!((fields.i32(), fields.string(), fields.i32(), fields.i32()), (1, "orders".into(), 1, 0));
    (fields.i16(), fields.i64())
}

#[test]
fn a_repeated_batch_gets_its_old_offset_and_a_gap_is_refused() {
    let data = Data::new();
    let mut network = data.start();
    kcat(&["-b", network.kafka("acme"), "-P", "-t", "orders"], b"zero\n");
    let producer = |organisation: &str| {
        let mut wire = Wire::connect(network.kafka(organisation));
        wire.send(&init_producer_id_request(1));
        let response = wire.receive().expect("a response to InitProducerId");
        let mut fields = Fields(&response);
        assert_eq!((fields.i32(), fields.i32(), fields.i16()), (1, 0, 0), "correlation, throttle time, error");
        (fields.i64(), fields.i16())
    };
    let (id, epoch) = producer("acme");
    assert_ne!(producer("acme"), (id, epoch), "each producer has an id of its own");
    assert_ne!(producer("globex").0, id, "no organisation can take another's ids");
    assert_eq!(epoch, 0);

    let batch = |sequence, values: &[&str]| record_batch(Producer { id, epoch, sequence }, values);
    let send = |network: &Network<'_>, batch: &[u8]| {
        let mut wire = Wire::connect(network.kafka("acme"));
        wire.send(&produce_request(2, -1, "orders", 0, batch));
        produced(&mut wire, 2)
    };
    assert_eq!(send(&network, &batch(0, &["a", "b", "c"])), (0, 1));
    assert_eq!(send(&network, &batch(3, &["d"])), (0, 4));
    assert_eq!(send(&network, &batch(4, &["e"])), (0, 5));
    assert_eq!(send(&network, &batch(0, &["a", "b", "c"])), (0, 1), "the first batch again, from another connection");
    assert_eq!(send(&network, &batch(9, &["too early"])).0, OUT_OF_ORDER_SEQUENCE_NUMBER);
    network.kill();
    network = data.start();
    assert_eq!(send(&network, &batch(4, &["e"])), (0, 5), "the last batch again, after a kill");
    assert_eq!(send(&network, &batch(5, &["f"])), (0, 6));
    // A producer that nobody remembers, its ledger entries long expired elsewhere, begins anywhere.
    let stranger = record_batch(Producer { id: id + 1_000, epoch: 0, sequence: 77 }, &["g"]);
    assert_eq!(send(&network, &stranger), (0, 7));
    let read = kcat(&["-b", network.kafka("acme"), "-C", "-t", "orders", "-o", "beginning", "-e", "-q"], b"");
    assert_eq!(read.text(), "zero\na\nb\nc\nd\ne\nf\ng\n");
    network.terminate();
}

#[test]
fn a_fetch_gives_whole_batches_within_its_limits() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    kcat(&["-b", acme, "-P", "-t", "orders"], b"zero\n");
    let mut wire = Wire::connect(acme);
    for values in [&["a", "b", "c"][..], &["d", "e"], &["f"]] {
        wire.send(&produce_request(1, -1, "orders", 0, &record_batch(Producer::NONE, values)));
        assert_eq!(produce_error(&mut wire, 1), 0);
    }
    let all = [(0, 1), (1, 3), (4, 2), (6, 1)];
    for broker in [acme, globex] {
        eventually("all batches are here", LIMIT, || {
            let batches = fetch_batches(broker, "orders", 0, 0).ok()?;
            (wire::extents(&batches) == all).then_some(())
        });
        let mut wire = Wire::connect(broker);
        let mut fetch = |offset, bytes_max| {
            wire.send(&limited_fetch_request(1, ("orders", 0, offset), 200, bytes_max));
            fetched(&wire.receive().expect("a response")).map(|batches| wire::extents(&batches))
        };
        assert_eq!(fetch(2, 50_000), Ok(all[1..].to_vec()), "from the middle of a batch: the batch whole");
        assert_eq!(fetch(0, 1), Ok(all[..1].to_vec()), "one batch, however small the limit");
        assert_eq!(fetch(5, 1), Ok(all[2..3].to_vec()));
        assert_eq!(fetch(0, 160), Ok(all[..2].to_vec()), "as many as fit");
        assert_eq!(fetch(7, 50_000), Ok(vec![]), "at the end there is nothing yet");
        assert_eq!(fetch(-5, 50_000), Err(OFFSET_OUT_OF_RANGE));
        wire.send(&limited_fetch_request(1, ("never-was", 0, 0), 200, 50_000));
        assert_eq!(fetched(&wire.receive().expect("a response")), Err(UNKNOWN_TOPIC_OR_PARTITION));
    }
    // Beyond the end: a gateway may lag behind the others, and an offset out of range would send the client elsewhere.
    assert_eq!(fetch_batches(acme, "orders", 0, 1_000_000), Err(OFFSET_NOT_AVAILABLE));
    network.terminate();
}

#[test]
fn a_long_poll_is_never_overtaken_and_holds_nobody_else() {
    let data = Data::new();
    let network = data.start();
    let acme = network.kafka("acme");
    kcat(&["-b", acme, "-P", "-t", "orders"], b"zero\n");
    let end = 1;
    assert!(fetch_batches(acme, "orders", 0, 0).is_ok_and(|batches| !batches.is_empty()));

    // A fetch at the end of the partition waits its time; the request behind it waits with it.
    let mut waiting = Wire::connect(acme);
    let started = Instant::now();
    waiting.send(&fetch_request(1, "orders", 0, end, 2_000));
    waiting.send(&metadata_request(2, "orders"));
    let mut other = Wire::connect(acme);
    other.send(&metadata_request(3, "orders"));
    assert_eq!(other.receive_correlation(), Some(3));
    assert!(started.elapsed() < Duration::from_millis(1_900), "another connection waited for this one's long poll");
    assert_eq!(waiting.receive_correlation(), Some(1));
    assert!(started.elapsed() >= Duration::from_millis(1_900), "the long poll ended early: {:?}", started.elapsed());
    assert_eq!(waiting.receive_correlation(), Some(2));

    // A record wakes it before its time, at the other organisation too.
    for (organisation, offset) in [("acme", end), ("globex", end + 1)] {
        let mut waiting = Wire::connect(network.kafka(organisation));
        eventually("this node serves the partition", LIMIT, || {
            fetch_batches(network.kafka(organisation), "orders", 0, 0).ok().filter(|batches| !batches.is_empty())
        });
        waiting.send(&fetch_request(5, "orders", 0, offset, 25_000));
        waiting.send(&metadata_request(6, "orders"));
        let started = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| kcat(&["-b", acme, "-P", "-t", "orders"], b"news\n"));
            let response = waiting.receive().expect("a response");
            assert!(response.windows(4).any(|window| window == b"news"), "{organisation}: the record is in it");
        });
        assert!(started.elapsed() < Duration::from_secs(20), "{organisation}: not woken");
        assert_eq!(waiting.receive_correlation(), Some(6));
    }
    network.terminate();
}

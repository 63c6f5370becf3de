//! Debian's kcat, unchanged: what acme writes, globex reads.

use waybill_compat_tests::kcat::{kcat, try_kcat};
use waybill_compat_tests::network::Data;
use waybill_compat_tests::wait::{LIMIT, eventually};
use waybill_compat_tests::wire;

/// `key|value|headers|partition|offset` of everything in a topic, as kcat prints it.
fn read_all(broker: &str, topic: &str) -> String {
    let format = "%k|%s|%h|%p|%o\n";
    kcat(&["-b", broker, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", format], b"").text()
}

#[test]
fn kcat_reads_at_globex_what_kcat_wrote_at_acme() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));

    // The topic does not exist: Metadata creates it.
    let lines = b"1:one book\n2:two lamps\n1:a second book\n";
    kcat(&["-b", acme, "-P", "-t", "orders", "-K:", "-H", "source=web", "-H", "source=again"], lines);
    let headers = "source=web,source=again";
    let expected = format!("1|one book|{headers}|0|0\n2|two lamps|{headers}|0|1\n1|a second book|{headers}|0|2\n");
    eventually("globex reads what acme wrote", LIMIT, || (read_all(globex, "orders") == expected).then_some(()));
    assert_eq!(read_all(acme, "orders"), expected, "acme reads its own as well");

    // Binary payloads arrive byte for byte: every byte value, the delimiters of text among them.
    let binary: Vec<u8> = (0..400_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = data.beside("binary");
    std::fs::write(&file, &binary).expect("a file");
    kcat(&["-b", acme, "-P", "-t", "scans", "-p", "0", file.to_str().expect("a plain path")], b"");
    let read = eventually("the scan arrives", LIMIT, || {
        let read = try_kcat(&["-b", globex, "-C", "-t", "scans", "-o", "beginning", "-e", "-q", "-f", "%s"], b"");
        (read.status.success() && !read.stdout.is_empty()).then_some(read.stdout)
    });
    assert!(read == binary, "400,000 bytes came back as {} other bytes", read.len());

    // Both gateways list both topics, and each names its own address as the leader's.
    for broker in [acme, globex] {
        let listing = kcat(&["-b", broker, "-L"], b"").text();
        assert!(listing.contains(&format!(" at {broker}")), "{listing}");
        for topic in ["orders", "scans"] {
            assert!(listing.contains(&format!("topic \"{topic}\" with 1 partitions")), "{listing}");
        }
    }
    network.terminate();
}

#[test]
fn every_codec_passes_untouched_and_none_is_silently_dropped() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    // Kafka's numbers for the codecs, as they stand in a batch's attributes.
    for (codec, number) in [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        let topic = format!("packed-{codec}");
        let lines: String = (0..2_000).map(|number| format!("{number} the same words again and again\n")).collect();
        // One message set: small ones may stay uncompressed because compressing them gains nothing.
        let settings = ["-z", codec, "-X", "linger.ms=200", "-X", "debug=msg"];
        let arguments = [&["-b", acme, "-P", "-t", &topic][..], &settings].concat();
        let produced = kcat(&arguments, lines.as_bytes());
        assert!(!produced.stderr.contains("does not support"), "{codec}: {}", produced.stderr);

        let read = eventually(&format!("{codec} arrives"), LIMIT, || {
            let read = try_kcat(&["-b", globex, "-C", "-t", &topic, "-o", "beginning", "-e", "-q"], b"");
            (read.stdout.len() >= lines.len()).then(|| read.text())
        });
        assert!(read == lines, "{codec}: {} bytes for {}", read.len(), lines.len());

        let codecs = wire::codecs(&wire::fetch_batches(globex, &topic, 0, 0).expect("batches"));
        assert!(codecs.contains(&number), "{codec} was sent, and the batches carry {codecs:?}");
    }
    network.terminate();
}

#[test]
fn a_group_goes_on_where_it_has_committed() {
    let data = Data::new();
    let network = data.start();
    let (acme, globex) = (network.kafka("acme"), network.kafka("globex"));
    let audit = |count: &str| {
        let settings = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"];
        kcat(&[&["-b", globex, "-q", "-c", count], &settings[..], &["-G", "audit", "orders"]].concat(), b"").text()
    };
    kcat(&["-b", acme, "-P", "-t", "orders"], b"one\ntwo\nthree\n");
    eventually("globex hears of the topic", LIMIT, || read_all(globex, "orders").contains("three").then_some(()));
    assert_eq!(audit("3"), "one\ntwo\nthree\n");
    kcat(&["-b", acme, "-P", "-t", "orders"], b"four\nfive\n");
    assert_eq!(audit("2"), "four\nfive\n", "the group's second run starts behind its commit");
    network.terminate();
}

#[test]
fn a_witness_holds_the_ledger_and_may_not_read() {
    let data = Data::new();
    let network = data.start();
    kcat(&["-b", network.kafka("acme"), "-P", "-t", "orders"], b"one\n");
    for witness in ["notary", "observer"] {
        eventually("the witness's refusal", LIMIT, || {
            let arguments = ["-b", network.kafka(witness), "-C", "-t", "orders", "-o", "beginning", "-e"];
            let refused = try_kcat(&arguments, b"");
            assert!(refused.stdout.is_empty(), "a witness was given {}", refused.text());
            refused.stderr.to_lowercase().contains("authorization failed").then_some(())
        });
    }
    network.terminate();
}

//! `waybill dev` as a command: its words, its exit codes, what it leaves behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use waybill_compat_tests::network::{Data, ORGANISATIONS, STOP_LIMIT};
use waybill_compat_tests::wait::LIMIT;
use waybill_compat_tests::{binary, command, http, kcat, process};

/// Kills what a failed test would leave.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_port_in_use_is_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let data = Data::new();
    let mut dev = binary::command(&["dev", "--port", &port, "--data-dir"]);
    let refused = command::run(dev.arg(data.path()), b"", LIMIT);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    let sentences: Vec<&str> = refused.stderr.lines().filter(|line| line.contains(&port)).collect();
    assert_eq!(sentences.len(), 1, "{}", refused.stderr);
    assert!(sentences[0].contains("--port"), "the sentence names the flag: {}", refused.stderr);
}

#[test]
fn ctrl_c_ends_cleanly_and_an_ephemeral_network_leaves_nothing() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (here, temporary) = (place.path().join("here"), place.path().join("temporary"));
    fs::create_dir(&here).expect("a folder");
    fs::create_dir(&temporary).expect("a folder");
    let mut dev = binary::command(&["dev", "--port", "0", "--ephemeral"]);
    dev.current_dir(&here).env("TMPDIR", &temporary);
    dev.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(dev.spawn().expect("the binary `waybill` starts"));
    let errors = running.0.stderr.take().expect("piped");
    let log = thread::spawn(move || std::io::read_to_string(errors));
    let mut banner = BufReader::new(running.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let started = Instant::now();
    assert!(banner.any(|line| line.starts_with("ready")), "never ready: {:?}", log.join());
    assert!(started.elapsed() < LIMIT);

    process::interrupt(&running.0);
    let interrupted = Instant::now();
    let status = loop {
        if let Some(status) = running.0.try_wait().expect("a child of ours") {
            break status;
        }
        assert!(interrupted.elapsed() < STOP_LIMIT, "still running after Ctrl-C");
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
    for folder in [here, temporary] {
        let left: Vec<_> = fs::read_dir(&folder).expect("a folder").map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

#[test]
fn the_operators_port_tells_how_a_node_is() {
    let data = Data::new();
    let network = data.start();
    assert_eq!(network.nodes().len(), ORGANISATIONS.len());
    kcat::kcat(&["-b", network.kafka("acme"), "-P", "-t", "orders"], b"one\n");
    for organisation in ORGANISATIONS {
        for path in ["/livez", "/readyz"] {
            let (status, body) = http::get(network.http(organisation), path).expect("an answer");
            assert_eq!(status, 200, "{organisation}{path}: {body}");
        }
        let (status, body) = http::get(network.http(organisation), "/metrics").expect("an answer");
        assert_eq!(status, 200, "{body}");
        assert!(body.lines().any(|line| line.starts_with("# TYPE ")), "Prometheus text, with types: {body}");
        let samples = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for sample in samples {
            let number = sample.rsplit(' ').next().map(str::parse::<f64>);
            assert!(matches!(number, Some(Ok(_))), "a sample ends with a number: {sample}");
        }
        assert_eq!(http::get(network.http(organisation), "/nothing-here").expect("an answer").0, 404);
    }
    network.interrupt();
}

#[test]
fn json_logs_are_json_line_by_line() {
    let data = Data::new();
    let mut dev = binary::command(&["dev", "--port", "0", "--log-format", "json", "--data-dir"]);
    dev.arg(data.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(dev.spawn().expect("the binary `waybill` starts"));
    let errors = running.0.stderr.take().expect("piped");
    let log = thread::spawn(move || std::io::read_to_string(errors).expect("text"));
    let mut banner = BufReader::new(running.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(banner.any(|line| line.starts_with("ready")), "never ready");
    process::terminate(&running.0);
    banner.for_each(drop);
    let log = log.join().expect("a reader");
    assert!(!log.is_empty(), "a start is worth a line");
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string(), "{line}");
    }
}

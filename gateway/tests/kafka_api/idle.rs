//! Clients that are gone without a word give their connections back: who sends nothing, and who reads nothing.

use crate::client::Client;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::ApiVersionsRequest;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use waybill_gateway::dev::{Dev, Options};
use waybill_gateway::telemetry;

/// Long enough for who is not idle on a busy machine, short enough to wait for.
const IDLE_MAX: Duration = Duration::from_secs(5);

#[test]
fn the_idle_are_cut_off_and_nobody_else() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-api-idle");
    // A remnant of an earlier run, if there is one.
    let _ = std::fs::remove_dir_all(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let options = Options { connection_idle_max: IDLE_MAX, ..Options::new(dir.clone()) };
    let dev = runtime.block_on(Dev::start(options, telemetry::metrics())).expect("the network starts");
    let acme = dev.endpoints().organisations[0].kafka;

    let mut deaf = Deaf::connect(acme);
    let started = Instant::now();
    let (mut silent, mut halting, mut busy) = (Client::connect(acme), Client::connect(acme), Client::connect(acme));
    halting.send_bytes(&[0, 0, 0]);
    while started.elapsed() < 2 * IDLE_MAX {
        assert_eq!(busy.ask(0, &ApiVersionsRequest::default()).error_code, 0);
        std::thread::sleep(IDLE_MAX / 20);
    }
    assert_eq!((silent.frame(), halting.frame()), (None, None));
    assert!(deaf.is_cut_off(), "it could go on asking");
    assert_eq!(busy.ask(0, &ApiVersionsRequest::default()).error_code, 0);
    runtime.block_on(dev.shutdown());
    std::fs::remove_dir_all(&dir).expect("its files are ours");
}

/// Asks until nothing more can be sent, and reads nothing.
struct Deaf(TcpStream);

impl Deaf {
    fn connect(address: SocketAddr) -> Self {
        let mut deaf = Deaf(TcpStream::connect(address).expect("connects"));
        deaf.0.set_write_timeout(Some(IDLE_MAX / 10)).expect("a time limit");
        while deaf.ask().is_ok() {}
        deaf
    }

    fn is_cut_off(&mut self) -> bool {
        matches!(self.ask(), Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
    }

    fn ask(&mut self) -> Result<(), ErrorKind> {
        let mut requests = BytesMut::new();
        for _ in 0..1_000 {
            requests.put_slice(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]);
        }
        self.0.write_all(&requests).map_err(|error| error.kind())
    }
}

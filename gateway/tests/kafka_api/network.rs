//! The network under test: started once, used by every test, ended with the process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use waybill_gateway::dev::{Dev, Endpoint, Options, Secured};
use waybill_gateway::telemetry;

/// Where the organisations' gateways are. acme and globex trade and read each other's topics; notary only witnesses.
pub struct Network {
    pub acme: Endpoint,
    pub globex: Endpoint,
    pub notary: Endpoint,
}

/// Users of acme, and their passwords.
pub const USERS: [(&str, &str); 2] = [("alice", "alice's secret"), ("bob", "bob:has=a,comma")];

/// Long enough for log-ins on a busy machine, short enough to wait for.
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(15);

/// Starts the network when it is first asked for.
pub fn network() -> &'static Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-api");
        // A remnant of an earlier run, if there is one.
        let _ = std::fs::remove_dir_all(&dir);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let users = USERS.map(|(user, password)| format!("acme:{user}:{password}").parse().expect("a user"));
        let options = Options {
            secure: true,
            users: users.to_vec(),
            authentication_timeout: AUTHENTICATION_TIMEOUT,
            ..Options::new(dir)
        };
        let dev = runtime.block_on(Dev::start(options, telemetry::metrics())).expect("the network starts");
        let [acme, globex, notary, _] = &dev.endpoints().organisations[..] else { panic!("four organisations") };
        let network = Network { acme: acme.clone(), globex: globex.clone(), notary: notary.clone() };
        // Both live as long as the process does.
        std::mem::forget(dev);
        std::mem::forget(runtime);
        network
    })
}

/// acme's gateway.
pub fn acme() -> SocketAddr {
    network().acme.kafka
}

/// globex's gateway.
pub fn globex() -> SocketAddr {
    network().globex.kafka
}

/// The gateway of a witness.
pub fn notary() -> SocketAddr {
    network().notary.kafka
}

/// acme's listeners with TLS and log-in.
pub fn secured() -> &'static Secured {
    network().acme.secured.as_ref().expect("listeners with TLS and log-in")
}

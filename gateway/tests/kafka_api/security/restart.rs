//! Users, certificates and ports are the same after a restart that names no users.

use super::{MECHANISMS, log_in};
use crate::client::Client;
use crate::requests::code;
use std::path::{Path, PathBuf};
use waybill_gateway::dev::{Dev, Options, Secured};
use waybill_gateway::telemetry;

/// Runs a network of its own until the visit to acme's listeners is over.
fn visited(dir: &Path, user: Option<&str>, visit: impl FnOnce(&Secured)) -> Secured {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let users = user.map(|user| user.parse().expect("a user"));
    let options = Options { secure: true, users: users.into_iter().collect(), ..Options::new(PathBuf::from(dir)) };
    let dev = runtime.block_on(Dev::start(options, telemetry::metrics())).expect("the network starts");
    let secured = dev.endpoints().organisations[0].secured.clone().expect("secured listeners");
    visit(&secured);
    runtime.block_on(dev.shutdown());
    secured
}

#[test]
fn users_certificates_and_ports_outlive_a_restart() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-api-users");
    // A remnant of an earlier run, if there is one.
    let _ = std::fs::remove_dir_all(&dir);
    let ca = |secured: &Secured| std::fs::read(&secured.ca).expect("the authority's certificate");
    let enter = |secured: &Secured, password| {
        for mechanism in MECHANISMS {
            let answer = log_in(&mut Client::connect(secured.sasl_plaintext), mechanism, "dora", password);
            assert_eq!(answer.error_code, 0, "{mechanism}");
        }
    };
    let before = visited(&dir, Some("acme:dora:old"), |secured| enter(secured, "old"));
    let certificate = ca(&before);
    let after = visited(&dir, None, |secured| enter(secured, "old"));
    assert_eq!(ca(&after), certificate);
    assert_eq!((after.ssl, after.sasl_plaintext, after.sasl_ssl), (before.ssl, before.sasl_plaintext, before.sasl_ssl));
    visited(&dir, Some("acme:dora:new"), |secured| {
        enter(secured, "new");
        let answer = log_in(&mut Client::connect(secured.sasl_plaintext), "PLAIN", "dora", "old");
        assert_eq!(answer.error_code, code::SASL_AUTHENTICATION_FAILED);
    });
    std::fs::remove_dir_all(&dir).expect("its files are ours");
}

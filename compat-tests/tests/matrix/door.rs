//! Where a client comes in to an organisation, and what it shows there.

use serde_json::{Value, json};
use waybill_compat_tests::network::Network;

/// A listener, with what it demands.
#[derive(Clone, Debug)]
pub struct Door {
    bootstrap: String,
    security: Option<Value>,
}

impl Door {
    /// The plain listener, which asks nobody.
    pub fn plain(network: &Network<'_>, organisation: &str) -> Self {
        Self { bootstrap: network.kafka(organisation).to_owned(), security: None }
    }

    /// A listener with TLS, log-in, or both.
    pub fn secured(network: &Network<'_>, organisation: &str, protocol: &str, log_in: Option<&LogIn<'_>>) -> Self {
        let secured = network.secured(organisation);
        let mut security = json!({"protocol": protocol});
        if protocol.ends_with("SSL") {
            security["ca"] = json!(secured.ca);
        }
        if let Some(LogIn { mechanism, username, password }) = log_in {
            security["mechanism"] = json!(mechanism);
            security["username"] = json!(username);
            security["password"] = json!(password);
        }
        Self { bootstrap: secured.listener(protocol).to_owned(), security: Some(security) }
    }

    /// A task for a client that comes in here.
    pub fn task(&self, mut fields: Value) -> Value {
        fields["bootstrap"] = json!(self.bootstrap);
        if let Some(security) = &self.security {
            fields["security"] = security.clone();
        }
        fields
    }
}

/// Who a client says it is.
#[derive(Clone, Copy, Debug)]
pub struct LogIn<'a> {
    pub mechanism: &'a str,
    pub username: &'a str,
    pub password: &'a str,
}

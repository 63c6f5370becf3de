//! Who is at the other end of a client's connection, and over what: listeners, TLS, log-in by SASL.
//!
//! A node has several [`Listener`]s, each with a [`SecurityProtocol`] as in Kafka. Behind each is a socket, a
//! [`crate::server::Door`]. What passes one with SASL has come by [`authenticate`]:
//!
//! ```text
//! socket -> TLS handshake -> authenticate: ApiVersions, SaslHandshake, tokens -> Authenticated -> requests
//!           '------------------ one time limit, small frames -----------------'
//! ```
//!
//! # Invariants
//! - An [`Authenticated`] is made by a completed [`sasl::Dialogue`] and nowhere else.
//! - Passwords are neither kept nor logged: users are SCRAM credentials on the organisation's ledger. PLAIN derives
//!   from the password what SCRAM keeps, off the reactor and few at a time ([`Users`]).
//! - Keys and proofs are compared in constant time, and a user who does not exist is asked, answered and calculated
//!   like one who does.
//!
//! # Deliberately absent
//! - SASLprep (RFC 4013): names and passwords are taken as their UTF-8 bytes, as Kafka and librdkafka take them. A
//!   password that is typed in another Unicode form is another password.
//! - Channel binding (`SCRAM-...-PLUS`), delegation tokens, GSSAPI, OAUTHBEARER, client certificates.
//! - Who may do what: every user of an organisation may do what the organisation may, until there are ACLs.

pub mod authenticate;
mod credential;
mod listener;
mod plain;
pub mod sasl;
mod scram;
pub mod tls;
mod users;

pub(crate) use credential::from_salted_password;
pub use credential::{NoRandomness, derive};
pub use listener::{Address, Listener, SecurityProtocol};
pub use users::Users;

use std::fmt;
use std::sync::Arc;
use waybill_ledger::organisation::ScramMechanism;

/// How a user proves who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself (RFC 4616): for TLS listeners.
    Plain,
    /// A proof that the password is known (RFC 5802).
    Scram(ScramMechanism),
}

impl Mechanism {
    /// What is offered on every listener with SASL.
    pub const ALL: [Mechanism; 3] =
        [Mechanism::Plain, Mechanism::Scram(ScramMechanism::Sha256), Mechanism::Scram(ScramMechanism::Sha512)];

    /// Its name in the registry of SASL mechanisms.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(ScramMechanism::Sha256) => "SCRAM-SHA-256",
            Mechanism::Scram(ScramMechanism::Sha512) => "SCRAM-SHA-512",
        }
    }

    /// The mechanism of this name, if it is offered.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A user who has proved to be who they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    user: Arc<str>,
    mechanism: Mechanism,
}

impl Authenticated {
    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// How they proved it.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }
}

/// Who asks, in Kafka's sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Whoever reaches a listener without SASL.
    Anonymous,
    /// A user of the organisation.
    User(Authenticated),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Anonymous => f.write_str("User:ANONYMOUS"),
            Principal::User(authenticated) => write!(f, "User:{}", authenticated.user()),
        }
    }
}

//! Listeners: what clients are told to connect to, depending on where they ask.

use std::collections::BTreeMap;
use std::fmt;
use waybill_types::NodeId;

/// What a connection is wrapped in, as in Kafka's `listener.security.protocol.map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// Log-in without encryption.
    SaslPlaintext,
    /// Log-in over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether the connection is encrypted.
    pub const fn uses_tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    /// Whether a client logs in first.
    pub const fn uses_sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Host and port, as clients are told them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or a number.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl From<std::net::SocketAddr> for Address {
    fn from(address: std::net::SocketAddr) -> Self {
        Address { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One of the organisation's listeners. A client that asks here is told addresses of this listener, at every node: it
/// could not log in at another, or would send its records unencrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, the same at all nodes of the organisation.
    pub name: String,
    /// What its connections are wrapped in.
    pub protocol: SecurityProtocol,
    addresses: BTreeMap<NodeId, Address>,
}

impl Listener {
    /// A listener that is named after its protocol, as Kafka's are by default, with its address at each node.
    pub fn new(protocol: SecurityProtocol, addresses: impl IntoIterator<Item = (NodeId, Address)>) -> Self {
        Listener { name: protocol.name().into(), protocol, addresses: addresses.into_iter().collect() }
    }

    /// Every node of the organisation that has this listener, in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Address)> {
        self.addresses.iter().map(|(node, address)| (*node, address))
    }

    /// Where a node has this listener.
    pub fn address(&self, node: NodeId) -> Option<&Address> {
        self.addresses.get(&node)
    }
}

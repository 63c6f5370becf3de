//! The doors of a node: its plain listener and, with `--secure`, those with TLS and log-in.

use super::certificates::Certificates;
use super::endpoints::Secured;
use super::network::DevOrg;
use super::{DevError, file_error};
use crate::security::{Address, Listener, SecurityProtocol};
use crate::server::Door;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What clients come in by.
pub(super) struct Doors {
    pub(super) all: Vec<Door>,
    /// Where the plain one is.
    pub(super) plain: SocketAddr,
    /// Where the others are.
    pub(super) secured: Option<Secured>,
}

impl Doors {
    /// The certificate is made when it is first needed, and stays.
    pub(super) fn new(
        org: &DevOrg,
        plain: TcpListener,
        secured: Vec<(SecurityProtocol, TcpListener)>,
    ) -> Result<Self, DevError> {
        let bound = |socket: &TcpListener| socket.local_addr().map_err(|source| file_error(&org.dir, source));
        let plain_address = bound(&plain)?;
        let at = |wanted| secured.iter().find(|(protocol, _)| *protocol == wanted).map(|(_, socket)| bound(socket));
        let (mut tls, mut described) = (None, None);
        if let (Some(ssl), Some(sasl_plaintext), Some(sasl_ssl)) =
            (at(SecurityProtocol::Ssl), at(SecurityProtocol::SaslPlaintext), at(SecurityProtocol::SaslSsl))
        {
            let certificates = Certificates::open(&org.dir, org.id.as_str())?;
            tls = Some(certificates.files.load()?);
            let ca = std::path::absolute(&certificates.ca).map_err(|source| file_error(&certificates.ca, source))?;
            described = Some(Secured { ssl: ssl?, sasl_plaintext: sasl_plaintext?, sasl_ssl: sasl_ssl?, ca });
        }
        let mut all = Vec::with_capacity(1 + secured.len());
        for (protocol, socket) in std::iter::once((SecurityProtocol::Plaintext, plain)).chain(secured) {
            // The organisation has one node, so one address per listener.
            let address = Address::from(bound(&socket)?);
            let listener = Listener::new(protocol, [(org.identity.node, address)]);
            all.push(Door::new(socket, Arc::new(listener), tls.clone())?);
        }
        Ok(Doors { all, plain: plain_address, secured: described })
    }
}

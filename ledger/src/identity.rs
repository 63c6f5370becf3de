//! A node's keys, and which organisation and node a peer's certificate is.
//!
//! Every link is TLS 1.3 with certificates on both sides. A node's certificate is issued by its organisation's CA and
//! names `node-N.ORG.waybill`. A certificate counts for an organisation only if *that* organisation's CA issued it:
//! no CA can make a node of another organisation.

use crate::genesis::Genesis;
use parking_lot::RwLock;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use waybill_types::{NodeId, OrgId, PublicKey, Signature};

/// What a node signs and shows.
pub struct Identity {
    /// The organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    key: Ed25519KeyPair,
    certificate: CertificateDer<'static>,
    tls_key: PrivateKeyDer<'static>,
}

/// Why keys or certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The node's own key file is not an Ed25519 key in PKCS#8.
    #[error("the signing key is not Ed25519 in PKCS#8 form: {0}")]
    SigningKey(String),
    /// The node's own TLS key or certificate is refused by the TLS library.
    #[error("the node's TLS key or certificate cannot be used: {0}")]
    OwnCertificate(String),
    /// An organisation's CA certificate is not one.
    #[error("the CA certificate of {org} cannot be used: {reason}")]
    CaCertificate {
        /// The organisation.
        org: OrgId,
        /// What the TLS library says.
        reason: String,
    },
    /// The peer showed nothing, or nothing that a known CA issued.
    #[error("the peer's certificate was issued by no organisation of this network")]
    UnknownIssuer,
    /// The certificate's name is no node of the organisation that issued it.
    #[error("the peer's certificate was issued by {org} and names no node of it")]
    UnknownNode {
        /// The issuer.
        org: OrgId,
    },
    /// A node that the directory does not have.
    #[error("node {0} is not in the directory")]
    NotListed(NodeId),
}

impl Identity {
    /// Puts a node's keys together: signing key and TLS key as PKCS#8 DER, certificate as DER.
    pub fn new(
        org: OrgId,
        node: NodeId,
        signing_key: &[u8],
        certificate: Vec<u8>,
        tls_key: Vec<u8>,
    ) -> Result<Self, IdentityError> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(signing_key)
            .map_err(|error| IdentityError::SigningKey(error.to_string()))?;
        let tls_key = PrivateKeyDer::try_from(tls_key).map_err(|error| IdentityError::OwnCertificate(error.into()))?;
        Ok(Identity { org, node, key, certificate: certificate.into(), tls_key })
    }

    /// Signs with the node's Ed25519 key. Every preimage starts with its own domain tag.
    pub fn sign(&self, preimage: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.key.sign(preimage).as_ref());
        Signature(bytes)
    }

    /// What the node shows to its peers.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What the signatures verify with.
    pub fn public_key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.key.public_key().as_ref());
        PublicKey(bytes)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, {})", self.org, node_name(self.org.as_str(), self.node))
    }
}

/// The name in a node's certificate.
pub fn node_name(org: &str, node: NodeId) -> String {
    format!("node-{node}.{org}.waybill")
}

/// A peer after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Whose it is.
    pub org: OrgId,
    /// What its signatures verify with.
    pub key: PublicKey,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where other organisations pull payloads from it; none for a witness.
    pub connector_address: Option<String>,
}

/// The organisations' CAs and the nodes: the certificates that links accept, and where to dial.
#[derive(Debug)]
pub struct Directory {
    known: RwLock<Arc<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    authorities: BTreeMap<OrgId, CertificateDer<'static>>,
    nodes: BTreeMap<NodeId, NodeEntry>,
}

impl Directory {
    /// The directory of a network that is as its genesis says.
    pub fn from_genesis(genesis: &Genesis) -> Arc<Self> {
        let authorities = genesis
            .organisations
            .iter()
            .map(|org| (org.id.clone(), CertificateDer::from(org.ca_certificate.to_vec())))
            .collect();
        let entry = |node: &crate::genesis::GenesisNode| NodeEntry {
            org: node.org.clone(),
            key: node.key,
            peer_address: node.peer_address.clone(),
            connector_address: node.connector_address.clone(),
        };
        let nodes = genesis.nodes.iter().map(|node| (node.id, entry(node))).collect();
        Arc::new(Directory { known: RwLock::new(Arc::new(Known { authorities, nodes })) })
    }

    /// What is known of a node.
    pub fn node(&self, node: NodeId) -> Option<NodeEntry> {
        self.known().nodes.get(&node).cloned()
    }

    /// Every node.
    pub fn nodes(&self) -> Vec<(NodeId, NodeEntry)> {
        self.known().nodes.iter().map(|(id, entry)| (*id, entry.clone())).collect()
    }

    /// What a node's signatures verify with.
    pub fn key(&self, node: NodeId) -> Option<PublicKey> {
        self.known().nodes.get(&node).map(|entry| entry.key)
    }

    /// Where a node's connector serves pulls.
    pub fn connector_address(&self, node: NodeId) -> Option<String> {
        self.known().nodes.get(&node).and_then(|entry| entry.connector_address.clone())
    }

    /// Notes where a node is reached now; its keys and certificates stay what they are.
    pub fn set_addresses(&self, node: NodeId, peer_address: String, connector_address: Option<String>) {
        let mut known = self.known.write();
        let mut changed = Known { authorities: known.authorities.clone(), nodes: known.nodes.clone() };
        if let Some(entry) = changed.nodes.get_mut(&node) {
            (entry.peer_address, entry.connector_address) = (peer_address, connector_address);
        }
        *known = Arc::new(changed);
    }

    /// The name that a node's certificate must carry.
    pub fn server_name(&self, node: NodeId) -> Result<ServerName<'static>, IdentityError> {
        let known = self.known();
        let entry = known.nodes.get(&node).ok_or(IdentityError::NotListed(node))?;
        ServerName::try_from(node_name(entry.org.as_str(), node)).map_err(|_| IdentityError::NotListed(node))
    }

    /// TLS for dialling `node`: only its own organisation's CA is trusted, and our certificate is shown.
    pub fn client_config(&self, identity: &Identity, node: NodeId) -> Result<Arc<ClientConfig>, IdentityError> {
        let known = self.known();
        let entry = known.nodes.get(&node).ok_or(IdentityError::NotListed(node))?;
        let authority =
            known.authorities.get(&entry.org).ok_or_else(|| IdentityError::UnknownNode { org: entry.org.clone() })?;
        let roots = Arc::new(roots([(&entry.org, authority)])?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| ca_error(&entry.org, error))?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| IdentityError::OwnCertificate(error.to_string()))?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.tls_key.clone_key())
            .map_err(|error| IdentityError::OwnCertificate(error.to_string()))?;
        Ok(Arc::new(config))
    }

    /// TLS for accepting peers: a certificate of any organisation of the network is asked for; then [`Self::peer`]
    /// says whose it is.
    pub fn server_config(&self, identity: &Identity) -> Result<Arc<ServerConfig>, IdentityError> {
        let known = self.known();
        let roots = Arc::new(roots(&known.authorities)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| ca_error(&identity.org, error))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| IdentityError::OwnCertificate(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![identity.certificate.clone()], identity.tls_key.clone_key())
            .map_err(|error| IdentityError::OwnCertificate(error.to_string()))?;
        Ok(Arc::new(config))
    }

    /// Which node a peer's certificate is, after a handshake that proved its key.
    pub fn peer(&self, certificates: &[CertificateDer<'_>]) -> Result<Peer, IdentityError> {
        let (leaf, intermediates) = certificates.split_first().ok_or(IdentityError::UnknownIssuer)?;
        let certificate = webpki::EndEntityCert::try_from(leaf).map_err(|_| IdentityError::UnknownIssuer)?;
        let known = self.known();
        let issuer = known.authorities.iter().find(|(_, authority)| issued_by(&certificate, intermediates, authority));
        let (org, _) = issuer.ok_or(IdentityError::UnknownIssuer)?;
        let names = |node: NodeId| {
            ServerName::try_from(node_name(org.as_str(), node))
                .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        };
        let node = known.nodes.iter().find(|(id, entry)| entry.org == *org && names(**id));
        let (node, _) = node.ok_or_else(|| IdentityError::UnknownNode { org: org.clone() })?;
        Ok(Peer { org: org.clone(), node: *node })
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().clone()
    }
}

fn issued_by(
    certificate: &webpki::EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    authority: &CertificateDer<'_>,
) -> bool {
    let Ok(anchor) = webpki::anchor_from_trusted_cert(authority) else { return false };
    certificate
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            intermediates,
            UnixTime::now(),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .is_ok()
}

fn roots<'a>(
    authorities: impl IntoIterator<Item = (&'a OrgId, &'a CertificateDer<'static>)>,
) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for (org, authority) in authorities {
        roots.add(authority.clone()).map_err(|error| ca_error(org, error))?;
    }
    Ok(roots)
}

fn ca_error(org: &OrgId, error: impl ToString) -> IdentityError {
    IdentityError::CaCertificate { org: org.clone(), reason: error.to_string() }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

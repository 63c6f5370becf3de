//! The throw-away network of `waybill dev`: four organisations, their CAs, keys and genesis, made once per data directory.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use waybill_ledger::genesis::{Genesis, GenesisError, GenesisNode, GenesisOrg};
use waybill_ledger::identity::{Identity, IdentityError, node_name};
use waybill_types::{NodeId, OrgId, PublicKey};

/// Name, and whether it trades (has a connector) or only witnesses.
pub const ORGANISATIONS: [(&str, bool); 4] = [("acme", true), ("globex", true), ("notary", false), ("observer", false)];

/// Real addresses are chosen at each start and told to the directory.
const ADDRESS_AT_START: &str = "127.0.0.1:0";

/// Why the network cannot be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A file of the data directory.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The genesis file.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A key or certificate of the data directory.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Making keys or certificates failed.
    #[error("keys or certificates cannot be made: {0}")]
    Make(String),
}

/// A member of the network, with everything that its node needs to speak for it.
#[derive(Debug)]
pub struct DevOrg {
    /// The organisation.
    pub id: OrgId,
    /// Whether it has a connector.
    pub trades: bool,
    /// Its one node's keys.
    pub identity: Identity,
    /// Its own directory below the data directory.
    pub dir: PathBuf,
}

/// The network in a data directory.
#[derive(Debug)]
pub struct DevNetwork {
    /// Its beginning.
    pub genesis: Genesis,
    /// The organisations, in the order of their node ids.
    pub organisations: Vec<DevOrg>,
}

impl DevNetwork {
    /// Loads the network of `data_dir`, or makes one there.
    pub fn open(data_dir: &Path, now_ms: u64) -> Result<Self, NetworkError> {
        let genesis_path = data_dir.join("genesis.json");
        if !genesis_path.exists() {
            Self::make(data_dir, &genesis_path, now_ms)?;
        }
        let genesis = Genesis::load(&genesis_path)?;
        let mut organisations = Vec::new();
        for (index, (name, trades)) in ORGANISATIONS.into_iter().enumerate() {
            let dir = data_dir.join(name);
            let read = |file: &str| {
                let path = dir.join("keys").join(file);
                fs::read(&path).map_err(|source| file_error(&path, source))
            };
            let id = organisation(name)?;
            let identity = Identity::new(
                id.clone(),
                node_id(index),
                &read("signing.pk8")?,
                read("tls.crt.der")?,
                read("tls.key.der")?,
            )?;
            organisations.push(DevOrg { id, trades, identity, dir });
        }
        Ok(DevNetwork { genesis, organisations })
    }

    /// Writes all keys first and the genesis last: without a genesis the network is made anew.
    fn make(data_dir: &Path, genesis_path: &Path, now_ms: u64) -> Result<(), NetworkError> {
        let (mut organisations, mut nodes) = (Vec::new(), Vec::new());
        for (index, (name, trades)) in ORGANISATIONS.into_iter().enumerate() {
            let id = organisation(name)?;
            let keys = NodeKeys::make(name, node_id(index))?;
            keys.save(&data_dir.join(name).join("keys"))?;
            organisations.push(GenesisOrg {
                id: id.clone(),
                ca_certificate: keys.ca_certificate.clone().into(),
                root_key: keys.root_key,
            });
            nodes.push(GenesisNode {
                id: node_id(index),
                org: id,
                key: keys.public_key,
                peer_address: ADDRESS_AT_START.into(),
                connector_address: trades.then(|| ADDRESS_AT_START.into()),
            });
        }
        let system_replicas = nodes.iter().map(|node| node.id).collect();
        let genesis = Genesis { name: "dev".into(), created_ms: now_ms, organisations, nodes, system_replicas };
        genesis.save(genesis_path)?;
        Ok(())
    }
}

fn node_id(index: usize) -> NodeId {
    NodeId(index as u32 + 1)
}

fn organisation(name: &str) -> Result<OrgId, NetworkError> {
    OrgId::new(name).map_err(|error| NetworkError::Make(error.to_string()))
}

/// An organisation's throw-away CA and the keys of its one node. The CA's key is forgotten at once.
struct NodeKeys {
    ca_certificate: Vec<u8>,
    root_key: PublicKey,
    public_key: PublicKey,
    signing_key: Vec<u8>,
    certificate: Vec<u8>,
    tls_key: Vec<u8>,
}

impl NodeKeys {
    fn make(org: &str, node: NodeId) -> Result<Self, NetworkError> {
        let failed = |error: rcgen::Error| NetworkError::Make(error.to_string());
        let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
        authority.distinguished_name.push(DnType::OrganizationName, org);
        authority.distinguished_name.push(DnType::CommonName, format!("{org} throw-away CA of waybill dev"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_key = KeyPair::generate().map_err(failed)?;
        let ca_certificate = authority.self_signed(&authority_key).map_err(failed)?.der().to_vec();
        let issuer = Issuer::new(authority, authority_key);

        let mut params = CertificateParams::new(vec![node_name(org, node)]).map_err(failed)?;
        params.distinguished_name.push(DnType::OrganizationName, org);
        params.distinguished_name.push(DnType::CommonName, node_name(org, node));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let tls_key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&tls_key, &issuer).map_err(failed)?.der().to_vec();

        let (_, root_key) = ed25519()?;
        let (signing_key, public_key) = ed25519()?;
        Ok(NodeKeys {
            ca_certificate,
            root_key,
            public_key,
            signing_key,
            certificate,
            tls_key: tls_key.serialize_der(),
        })
    }

    fn save(&self, dir: &Path) -> Result<(), NetworkError> {
        fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
        for (file, bytes) in
            [("signing.pk8", &self.signing_key), ("tls.crt.der", &self.certificate), ("tls.key.der", &self.tls_key)]
        {
            let path = dir.join(file);
            write_private(&path, bytes).map_err(|source| file_error(&path, source))?;
        }
        Ok(())
    }
}

fn ed25519() -> Result<(Vec<u8>, PublicKey), NetworkError> {
    let refused = |what: &str| NetworkError::Make(format!("Ed25519 {what}"));
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| refused("generation failed"))?;
    let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).map_err(|_| refused("key was refused"))?;
    let public = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| refused("key has an odd length"))?;
    Ok((key.as_ref().to_vec(), PublicKey(public)))
}

/// Readable by the owner alone: they are keys, even if throw-away ones.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn file_error(path: &Path, source: io::Error) -> NetworkError {
    NetworkError::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waybill_ledger::identity::{Directory, Peer};

    #[test]
    fn a_network_is_made_once_and_its_certificates_name_their_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let made = DevNetwork::open(dir.path(), 1_000).unwrap();
        let loaded = DevNetwork::open(dir.path(), 2_000).unwrap();
        assert_eq!(loaded.genesis, made.genesis);
        let directory = Directory::from_genesis(&made.genesis);
        for org in &loaded.organisations {
            let certificate = fs::read(org.dir.join("keys/tls.crt.der")).unwrap().into();
            let peer = directory.peer(&[certificate]).unwrap();
            assert_eq!(peer, Peer { org: org.id.clone(), node: org.identity.node });
            assert_eq!(directory.key(org.identity.node), Some(org.identity.public_key()));
        }
    }
}

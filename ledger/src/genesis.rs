//! The network's beginning: which organisations and nodes there are before the first block. Its digest names the
//! network, and every signature and certificate starts from that name.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use waybill_types::codec::{Codec, DecodeError};
use waybill_types::digest::Hasher;
use waybill_types::transaction::Config;
use waybill_types::{Body, ClusterId, LedgerId, Member, Membership, NetworkId, NodeId, OrgId, PublicKey, codec_struct};

use bytes::Bytes;

/// Everything that all nodes of a network must agree on before they talk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// A name for people; 1 to 63 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// When the network was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The organisations, in ascending order of name.
    pub organisations: Vec<GenesisOrg>,
    /// The nodes, in ascending order of id.
    pub nodes: Vec<GenesisNode>,
    /// The nodes that order the system ledger, in the order of their replica indices.
    pub system_replicas: Vec<NodeId>,
}
codec_struct!(Genesis { name, created_ms, organisations, nodes, system_replicas });

/// An organisation at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisOrg {
    /// Its name.
    pub id: OrgId,
    /// Its CA certificate (X.509, DER): issues the certificates of its nodes and connectors.
    pub ca_certificate: Bytes,
    /// Its offline root key.
    pub root_key: PublicKey,
}
codec_struct!(GenesisOrg { id, ca_certificate, root_key });

/// A node at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisNode {
    /// Its number, unique in the network; also its Kafka broker id.
    pub id: NodeId,
    /// Whose it is.
    pub org: OrgId,
    /// What its votes and envelopes verify with.
    pub key: PublicKey,
    /// Where other nodes reach it, `host:port`.
    pub peer_address: String,
    /// Where other organisations' connectors pull from it, `host:port`; none for a witness.
    pub connector_address: Option<String>,
}
codec_struct!(GenesisNode { id, org, key, peer_address, connector_address });

/// Why a genesis is not one.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not JSON of the expected shape.
    #[error("{path}: not a genesis file: {reason}")]
    Shape {
        /// The file.
        path: String,
        /// What is wrong, with line and column where JSON knows them.
        reason: String,
    },
    /// The content contradicts itself.
    #[error("the genesis is not usable: {0}")]
    Content(String),
}

impl Genesis {
    /// Reads and checks a genesis file.
    pub fn load(path: &Path) -> Result<Self, GenesisError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| GenesisError::File { path: path.display().to_string(), source })?;
        Self::parse(&text).map_err(|error| match error {
            GenesisError::Shape { reason, .. } => GenesisError::Shape { path: path.display().to_string(), reason },
            other => other,
        })
    }

    /// Parses and checks a genesis from its JSON text.
    pub fn parse(text: &str) -> Result<Self, GenesisError> {
        let shape = |reason: String| GenesisError::Shape { path: "genesis".into(), reason };
        let json: GenesisJson = serde_json::from_str(text).map_err(|error| shape(error.to_string()))?;
        let genesis = json.into_genesis().map_err(shape)?;
        genesis.check().map_err(GenesisError::Content)?;
        Ok(genesis)
    }

    /// Writes the file for people and for `waybill receipt verify --genesis`.
    pub fn save(&self, path: &Path) -> Result<(), GenesisError> {
        std::fs::write(path, self.to_json())
            .map_err(|source| GenesisError::File { path: path.display().to_string(), source })
    }

    /// The JSON text; the same for the same genesis.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&GenesisJson::from(self)).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The digest that names the network.
    pub fn network_id(&self) -> NetworkId {
        NetworkId(Hasher::digest(b"waybill-genesis-v1", &self.to_bytes()))
    }

    /// Every node with its key.
    pub fn members(&self) -> Vec<Member> {
        self.nodes.iter().map(GenesisNode::member).collect()
    }

    /// The replicas of the system ledger's first epoch.
    pub fn system_membership(&self) -> Membership {
        let by_id: BTreeMap<_, _> = self.nodes.iter().map(|node| (node.id, node)).collect();
        let members = self.system_replicas.iter().filter_map(|id| by_id.get(id)).map(|node| node.member()).collect();
        Membership { epoch: 1, members }
    }

    /// The first body of the system ledger.
    pub fn system_body(&self) -> Body {
        let orgs: Vec<OrgId> = self.organisations.iter().map(|org| org.id.clone()).collect();
        let config = self.organisations.first().map(|first| Config {
            version: 1,
            ledger: LedgerId::SYSTEM,
            topic: "__system".into(),
            owner: first.id.clone(),
            readers: orgs.clone(),
            writers: orgs,
            origins: self.members(),
            batch_bytes_limit: 0,
            log_append_time: false,
        });
        Body { proposed_time_ms: self.created_ms, checkpoint: true, config, envelopes: Vec::new() }
    }

    /// The cluster that orders the system ledger.
    pub fn system_cluster(&self) -> ClusterId {
        ClusterId::new(self.network_id(), LedgerId::SYSTEM, Body::digest(&self.system_body().to_bytes()))
    }

    fn check(&self) -> Result<(), String> {
        if OrgId::new(&self.name).is_err() {
            return Err(format!("the network's name {:?} is not 1 to 63 of a-z, 0-9 and '-'", self.name));
        }
        if !self.organisations.is_sorted_by(|left, right| left.id < right.id) || self.organisations.is_empty() {
            return Err("organisations are missing, repeated or not in ascending order".into());
        }
        if !self.nodes.is_sorted_by(|left, right| left.id < right.id) || self.nodes.is_empty() {
            return Err("nodes are missing, repeated or not in ascending order".into());
        }
        for node in &self.nodes {
            if !self.organisations.iter().any(|org| org.id == node.org) {
                return Err(format!("node {} is of the unknown organisation {}", node.id, node.org));
            }
            if i32::try_from(node.id.0).is_err() {
                return Err(format!("node id {} is above 2147483647, Kafka's largest broker id", node.id));
            }
        }
        let replicas: BTreeSet<_> = self.system_replicas.iter().collect();
        let known = |id: &&NodeId| self.nodes.iter().any(|node| node.id == **id);
        if replicas.is_empty() || replicas.len() != self.system_replicas.len() || !replicas.iter().all(known) {
            return Err("the system ledger's replicas are missing, repeated or unknown".into());
        }
        Ok(())
    }
}

impl GenesisNode {
    /// The node as a signer.
    pub fn member(&self) -> Member {
        Member { node: self.id, org: self.org.clone(), key: self.key }
    }
}

/// The file's shape: the same fields, with bytes as hexadecimal text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisJson {
    name: String,
    created_ms: u64,
    organisations: Vec<OrgJson>,
    nodes: Vec<NodeJson>,
    system_replicas: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrgJson {
    id: String,
    root_key: String,
    ca_certificate: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeJson {
    id: u32,
    org: String,
    key: String,
    peer_address: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    connector_address: Option<String>,
}

impl From<&Genesis> for GenesisJson {
    fn from(genesis: &Genesis) -> Self {
        GenesisJson {
            name: genesis.name.clone(),
            created_ms: genesis.created_ms,
            organisations: genesis
                .organisations
                .iter()
                .map(|org| OrgJson {
                    id: org.id.to_string(),
                    root_key: to_hex(&org.root_key.0),
                    ca_certificate: to_hex(&org.ca_certificate),
                })
                .collect(),
            nodes: genesis
                .nodes
                .iter()
                .map(|node| NodeJson {
                    id: node.id.0,
                    org: node.org.to_string(),
                    key: to_hex(&node.key.0),
                    peer_address: node.peer_address.clone(),
                    connector_address: node.connector_address.clone(),
                })
                .collect(),
            system_replicas: genesis.system_replicas.iter().map(|node| node.0).collect(),
        }
    }
}

impl GenesisJson {
    fn into_genesis(self) -> Result<Genesis, String> {
        let org_id = |name: &str| OrgId::new(name).map_err(|error: DecodeError| format!("{name:?}: {error}"));
        let key = |text: &str| {
            let bytes = from_hex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.map(PublicKey).ok_or_else(|| format!("{text:?} is not a key: 64 hexadecimal digits"))
        };
        let organisations = self.organisations.iter().map(|org| {
            let certificate = from_hex(&org.ca_certificate).ok_or("a CA certificate is not hexadecimal")?;
            Ok(GenesisOrg { id: org_id(&org.id)?, ca_certificate: certificate.into(), root_key: key(&org.root_key)? })
        });
        let nodes = self.nodes.iter().map(|node| {
            Ok(GenesisNode {
                id: NodeId(node.id),
                org: org_id(&node.org)?,
                key: key(&node.key)?,
                peer_address: node.peer_address.clone(),
                connector_address: node.connector_address.clone(),
            })
        });
        Ok(Genesis {
            organisations: organisations.collect::<Result<_, String>>()?,
            nodes: nodes.collect::<Result<_, String>>()?,
            name: self.name,
            created_ms: self.created_ms,
            system_replicas: self.system_replicas.into_iter().map(NodeId).collect(),
        })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower-case hexadecimal only, so that one genesis has one text.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Genesis {
        let org = |name: &str| OrgId::new(name).unwrap();
        Genesis {
            name: "dev".into(),
            created_ms: 1,
            organisations: vec![GenesisOrg {
                id: org("acme"),
                ca_certificate: Bytes::from_static(b"der"),
                root_key: PublicKey([1; 32]),
            }],
            nodes: vec![GenesisNode {
                id: NodeId(1),
                org: org("acme"),
                key: PublicKey([2; 32]),
                peer_address: "127.0.0.1:1".into(),
                connector_address: None,
            }],
            system_replicas: vec![NodeId(1)],
        }
    }

    #[test]
    fn a_genesis_survives_its_file_and_keeps_its_name() {
        let genesis = sample();
        let again = Genesis::parse(&genesis.to_json()).unwrap();
        assert_eq!(again, genesis);
        assert_eq!(again.network_id(), genesis.network_id());
    }

    #[test]
    fn a_genesis_that_contradicts_itself_is_refused_with_a_reason() {
        let mut genesis = sample();
        genesis.nodes[0].org = OrgId::new("globex").unwrap();
        let error = Genesis::parse(&genesis.to_json()).unwrap_err().to_string();
        assert!(error.contains("unknown organisation globex"), "{error}");
        let error = Genesis::parse("{").unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}

//! Links between nodes over real TLS on loopback: who gets through, what arrives, what a restart of a peer looks like.

use bytes::Bytes;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use waybill_consensus::peers::{BoxFuture, CallError, Handler, Limits, Peers, Service};
use waybill_ledger::genesis::{Genesis, GenesisNode, GenesisOrg};
use waybill_ledger::identity::{Directory, Identity, Peer, node_name};
use waybill_types::{ClusterId, Digest, NodeId, OrgId};

const CLUSTER: ClusterId = ClusterId(Digest([7; 32]));
const PATIENCE: Duration = Duration::from_secs(20);

/// What reached a node.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Message(NodeId, Bytes),
    Connected(NodeId),
}

struct Recorder {
    seen: mpsc::UnboundedSender<Seen>,
    callers: Mutex<Vec<Peer>>,
}

impl Handler for Recorder {
    fn on_message(&self, from: NodeId, cluster: ClusterId, message: Bytes) -> BoxFuture<'_, ()> {
        assert_eq!(cluster, CLUSTER);
        self.seen.send(Seen::Message(from, message)).unwrap();
        Box::pin(async {})
    }
    fn on_call(&self, from: Peer, _: Service, request: Bytes) -> BoxFuture<'_, Option<Bytes>> {
        self.callers.lock().push(from);
        let answer = (request != "silence").then(|| [b"answer to ".as_ref(), &request].concat().into());
        Box::pin(async move { answer })
    }
    fn on_connected(&self, peer: NodeId) {
        self.seen.send(Seen::Connected(peer)).unwrap();
    }
}

/// Two organisations with a CA and a node each.
fn pair() -> (Genesis, Vec<Arc<Identity>>) {
    let (mut organisations, mut nodes, mut identities) = (Vec::new(), Vec::new(), Vec::new());
    for (index, name) in ["acme", "globex"].into_iter().enumerate() {
        let (org, node) = (OrgId::new(name).unwrap(), NodeId(index as u32 + 1));
        let (ca_certificate, issuer) = authority();
        let identity = issue(&issuer, org.clone(), name, node);
        let root_key = identity.public_key();
        organisations.push(GenesisOrg { id: org.clone(), ca_certificate, root_key });
        let peer_address = "127.0.0.1:0".into();
        nodes.push(GenesisNode { id: node, org, key: identity.public_key(), peer_address, connector_address: None });
        identities.push(Arc::new(identity));
    }
    let system_replicas = vec![NodeId(1), NodeId(2)];
    (Genesis { name: "links".into(), created_ms: 1, organisations, nodes, system_replicas }, identities)
}

fn authority() -> (Bytes, Issuer<'static, KeyPair>) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let certificate = authority.self_signed(&key).unwrap().der().to_vec();
    (certificate.into(), Issuer::new(authority, key))
}

/// A node's keys, with a certificate for the name of `named_org`'s node.
fn issue(issuer: &Issuer<'_, KeyPair>, org: OrgId, named_org: &str, node: NodeId) -> Identity {
    let mut params = CertificateParams::new(vec![node_name(named_org, node)]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let tls_key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&tls_key, issuer).unwrap().der().to_vec();
    let signing = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Identity::new(org, node, signing.as_ref(), certificate, tls_key.serialize_der()).unwrap()
}

struct Running {
    peers: Peers,
    seen: mpsc::UnboundedReceiver<Seen>,
    handler: Arc<Recorder>,
}

impl Running {
    fn start(identity: &Arc<Identity>, directory: &Arc<Directory>, listener: TcpListener) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let handler = Arc::new(Recorder { seen: sender, callers: Mutex::default() });
        let peers = Peers::start(identity.clone(), directory.clone(), listener, Limits::default(), handler.clone());
        Running { peers: peers.unwrap(), seen, handler }
    }

    async fn next(&mut self) -> Seen {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("nothing came in time").unwrap()
    }
}

async fn listeners(directory: &Directory) -> [TcpListener; 2] {
    let listeners = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    for (listener, node) in listeners.iter().zip([NodeId(1), NodeId(2)]) {
        directory.set_addresses(node, listener.local_addr().unwrap().to_string(), None);
    }
    listeners
}

#[tokio::test]
async fn messages_arrive_in_order_and_calls_are_answered_for_whom_the_certificate_names() {
    let (genesis, identities) = pair();
    let directory = Directory::from_genesis(&genesis);
    let [first, second] = listeners(&directory).await;
    let mut acme = Running::start(&identities[0], &directory, first);
    let mut globex = Running::start(&identities[1], &directory, second);
    assert_eq!(acme.next().await, Seen::Connected(NodeId(2)));
    assert_eq!(globex.next().await, Seen::Connected(NodeId(1)));
    let message = |index: usize| Bytes::from(vec![index as u8; 1 + index * 4000]);
    for index in 0..100 {
        acme.peers.send(NodeId(2), CLUSTER, message(index));
    }
    for index in 0..100 {
        assert_eq!(globex.next().await, Seen::Message(NodeId(1), message(index)));
    }
    let call = |to: u32, request: &'static str, timeout| {
        acme.peers.call(NodeId(to), Service::Blocks, Bytes::from_static(request.as_bytes()), timeout)
    };
    assert_eq!(call(2, "hello", PATIENCE).await.unwrap(), "answer to hello");
    assert_eq!(call(2, "silence", Duration::from_millis(50)).await, Err(CallError::NoAnswer));
    assert_eq!(call(9, "nobody has this number", PATIENCE).await, Err(CallError::NoLink));
    let caller = globex.handler.callers.lock()[0].clone();
    assert_eq!(caller, Peer { org: OrgId::new("acme").unwrap(), node: NodeId(1) });
}

#[tokio::test]
async fn a_peer_that_comes_back_is_told_of_as_a_new_link() {
    let (genesis, identities) = pair();
    let directory = Directory::from_genesis(&genesis);
    let [first, second] = listeners(&directory).await;
    let mut acme = Running::start(&identities[0], &directory, first);
    let address = second.local_addr().unwrap();
    let globex = Running::start(&identities[1], &directory, second);
    assert_eq!(acme.next().await, Seen::Connected(NodeId(2)));
    globex.peers.stop();
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut again = Running::start(&identities[1], &directory, listener);
    assert_eq!(acme.next().await, Seen::Connected(NodeId(2)));
    assert_eq!(again.next().await, Seen::Connected(NodeId(1)));
    acme.peers.send(NodeId(2), CLUSTER, Bytes::from_static(b"welcome"));
    assert_eq!(again.next().await, Seen::Message(NodeId(1), Bytes::from_static(b"welcome")));
}

#[test]
fn a_certificate_counts_only_for_the_organisation_whose_authority_issued_it() {
    let (mut genesis, identities) = pair();
    let (ca_certificate, issuer) = authority();
    // Globex's own authority signs a certificate with the name of acme's node.
    let as_acme = issue(&issuer, OrgId::new("globex").unwrap(), "acme", NodeId(1));
    let shown = |identity: &Identity| [identity.certificate().clone()];
    let strict = Directory::from_genesis(&genesis);
    assert!(strict.peer(&shown(&as_acme)).unwrap_err().to_string().contains("no organisation of this network"));
    assert_eq!(strict.peer(&shown(&identities[0])).unwrap().node, NodeId(1));
    genesis.organisations[1].ca_certificate = ca_certificate;
    let betrayed = Directory::from_genesis(&genesis);
    let refused = betrayed.peer(&shown(&as_acme)).unwrap_err().to_string();
    assert!(refused.contains("issued by globex and names no node"), "{refused}");
}

//! A network for tests: organisations with real CAs, certificates and sockets; a ledger that is just a list, seen by
//! each node through its own eyes; connectors on stores in memory unless a test says otherwise.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod raw;

use parking_lot::{Mutex, RwLock};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use waybill_connector::store::{Pending, memory::MemoryStore};
use waybill_connector::{Connector, EvidenceSink, Options, Permissions, Refusal, Stores, Who};
use waybill_ledger::contract::{Grant, authorise};
use waybill_ledger::genesis::{Genesis, GenesisNode, GenesisOrg};
use waybill_ledger::identity::{Directory, Identity, node_name};
use waybill_ledger::partition::Entry;
use waybill_types::transaction::{Config, Send};
use waybill_types::{LedgerId, NodeId, Offset, OrgId, PublicKey, TopicId, Transaction};

pub const LEDGER: LedgerId = LedgerId::new(TopicId([7; 16]), 3);

/// Long enough for a machine that does much else; nothing waits for it unless a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// An organisation with one node.
pub struct Member {
    pub who: Who,
    pub address: String,
    listener: Mutex<Option<std::net::TcpListener>>,
}

impl Member {
    /// The socket that the node's address names.
    pub fn listener(&self) -> TcpListener {
        let listener = self.listener.lock().take().expect("taken once");
        TcpListener::from_std(listener).unwrap()
    }

    pub fn node(&self) -> NodeId {
        self.who.identity.node
    }
}

/// Nodes 1, 2, ... of organisations of these names.
pub fn network<const N: usize>(names: [&str; N]) -> [Member; N] {
    let (mut organisations, mut nodes, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for (index, name) in names.into_iter().enumerate() {
        let node = NodeId(index as u32 + 1);
        let (ca_certificate, identity) = identity(name, node);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let root_key = PublicKey([0; 32]);
        organisations.push(GenesisOrg { id: org(name), ca_certificate: ca_certificate.into(), root_key });
        nodes.push(GenesisNode {
            id: node,
            org: org(name),
            key: identity.public_key(),
            peer_address: String::new(),
            connector_address: Some(address.clone()),
        });
        parts.push((identity, listener, address));
    }
    let system_replicas = nodes.iter().map(|node| node.id).collect();
    let genesis = Genesis { name: "test".into(), created_ms: 1, organisations, nodes, system_replicas };
    let directory = Directory::from_genesis(&genesis);
    let mut parts = parts.into_iter();
    std::array::from_fn(|_| {
        let (identity, listener, address) = parts.next().unwrap();
        let network = genesis.network_id();
        let who = Who { identity: Arc::new(identity), directory: directory.clone(), network };
        Member { who, address, listener: Mutex::new(Some(listener)) }
    })
}

/// A CA, and a node's keys with a certificate of it.
pub fn identity(name: &str, node: NodeId) -> (Vec<u8>, Identity) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate().unwrap();
    let ca_certificate = authority.self_signed(&authority_key).unwrap().der().to_vec();
    let issuer = Issuer::new(authority, authority_key);
    let mut params = CertificateParams::new(vec![node_name(name, node)]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let tls_key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&tls_key, &issuer).unwrap().der().to_vec();
    let signing_key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let identity = Identity::new(org(name), node, signing_key.as_ref(), certificate, tls_key.serialize_der()).unwrap();
    assert_eq!(
        Ed25519KeyPair::from_pkcs8(signing_key.as_ref()).unwrap().public_key().as_ref(),
        identity.public_key().0
    );
    (ca_certificate, identity)
}

/// One partition's ledger as one node sees it.
pub struct View {
    entries: RwLock<BTreeMap<Offset, Arc<Entry>>>,
    readers: RwLock<BTreeSet<OrgId>>,
    /// Each question this node was asked, and what may happen then.
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    count: usize,
    at: BTreeMap<usize, Action>,
}

type Action = Box<dyn FnOnce(&View) + std::marker::Send>;

impl View {
    pub fn new(readers: &[&str]) -> Arc<Self> {
        let readers = RwLock::new(readers.iter().map(|name| org(name)).collect());
        Arc::new(View { entries: RwLock::default(), readers, asked: Mutex::default() })
    }

    pub fn append(&self, entry: Arc<Entry>) {
        self.entries.write().insert(entry.base_offset, entry);
    }

    pub fn forget(&self, offset: Offset) {
        self.entries.write().remove(&offset);
    }

    pub fn revoke(&self, name: &str) {
        self.readers.write().remove(&org(name));
    }

    /// How often this node was asked for permission.
    pub fn questions(&self) -> usize {
        self.asked.lock().count
    }

    /// Does something just before the question of this number, from 1, is answered.
    pub fn at_question(&self, number: usize, action: impl FnOnce(&View) + std::marker::Send + 'static) {
        self.asked.lock().at.insert(number, Box::new(action));
    }

    pub fn grant(&self, name: &str, offset: Offset) -> Grant {
        self.decide(&org(name), LEDGER, offset).unwrap()
    }

    fn decide(&self, org: &OrgId, ledger: LedgerId, offset: Offset) -> Result<Grant, Refusal> {
        if ledger != LEDGER {
            return Err(Refusal::UnknownLedger);
        }
        let entry = self.entries.read().get(&offset).cloned().ok_or(Refusal::NotReached)?;
        let config = Config {
            version: 1,
            ledger: LEDGER,
            topic: "orders".into(),
            owner: entry.sender.clone(),
            readers: self.readers.read().iter().cloned().collect(),
            writers: Vec::new(),
            origins: Vec::new(),
            batch_bytes_limit: u32::MAX,
            log_append_time: false,
        };
        authorise(&config, org, &entry).map_err(|_| Refusal::Denied)
    }
}

impl Permissions for View {
    fn authorise(&self, org: &OrgId, ledger: LedgerId, offset: Offset) -> Result<Grant, Refusal> {
        let action = {
            let mut asked = self.asked.lock();
            asked.count += 1;
            let count = asked.count;
            asked.at.remove(&count)
        };
        if let Some(action) = action {
            action(self);
        }
        self.decide(org, ledger, offset)
    }
}

/// Everything that a connector reported.
pub struct Reports(watch::Sender<Vec<Transaction>>);

impl Reports {
    pub fn new() -> Arc<Self> {
        Arc::new(Reports(watch::Sender::new(Vec::new())))
    }

    pub fn now(&self) -> Vec<Transaction> {
        self.0.borrow().clone()
    }

    /// Waits until what was reported is enough.
    pub async fn wait(&self, enough: impl FnMut(&Vec<Transaction>) -> bool) -> Vec<Transaction> {
        let mut reports = self.0.subscribe();
        let waited = timeout(PATIENCE, reports.wait_for(enough)).await;
        waited.unwrap_or_else(|_| panic!("only {:?} was reported", self.now())).unwrap().clone()
    }
}

impl EvidenceSink for Reports {
    fn report(&self, transactions: Vec<(LedgerId, Transaction)>) -> Pending<'_, ()> {
        Box::pin(async move {
            self.0.send_modify(|all| {
                all.extend(transactions.into_iter().map(|(ledger, transaction)| {
                    assert_eq!(ledger, LEDGER);
                    transaction
                }));
            });
        })
    }
}

/// A member's connector, its node's view of the ledger, and what it reported.
pub struct Site {
    pub connector: Arc<Connector>,
    pub view: Arc<View>,
    pub reports: Arc<Reports>,
    pub node: NodeId,
    pub org: OrgId,
}

impl Site {
    pub fn start(member: &Member, readers: &[&str], options: Options) -> Self {
        let memory = || Arc::new(MemoryStore::default());
        let stores = Stores { outbox: memory(), inbox: memory(), requests: memory() };
        Self::on(stores, member, readers, options)
    }

    pub fn on(stores: Stores, member: &Member, readers: &[&str], options: Options) -> Self {
        let reports = Reports::new();
        let connector = Connector::new(stores, member.who.clone(), reports.clone(), options);
        let (node, org) = (member.node(), member.who.identity.org.clone());
        Site { connector, view: View::new(readers), reports, node, org }
    }

    /// Like [`start`](Self::start), and serves.
    pub fn serve(member: &Member, readers: &[&str], options: Options) -> Self {
        let site = Self::start(member, readers, options);
        site.connector.serve(member.listener(), site.view.clone());
        site
    }

    /// Keeps a batch and puts it on everybody's ledger.
    pub async fn send(&self, offset: Offset, record_count: u32, batch: Vec<u8>, others: &[&Site]) -> Arc<Entry> {
        let stored = self.connector.outbox().keep(vec![batch.into()]).await.unwrap();
        let send = Send {
            connector: stored.connector(),
            commitment: stored.commitment(),
            size_bytes: stored.size_bytes(),
            record_count,
            attributes: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer: None,
        };
        let entry = Arc::new(entry(&self.org, offset, send));
        for site in others.iter().chain([&self]) {
            site.view.append(entry.clone());
        }
        entry
    }

    pub fn grant(&self, offset: Offset) -> Grant {
        self.view.grant(self.org.as_str(), offset)
    }
}

pub fn entry(sender: &OrgId, base_offset: Offset, send: Send) -> Entry {
    Entry {
        ledger: LEDGER,
        base_offset,
        height: 1,
        leaf_index: 1,
        time_ms: 1,
        log_append_time: false,
        sender: sender.clone(),
        origin: send.connector,
        send,
    }
}

/// Short pauses between retries, and reports at once.
pub fn quick() -> Options {
    let mut options = Options::default();
    options.pull.backoff_first = Duration::from_millis(1);
    options.pull.backoff_max = Duration::from_millis(5);
    options.evidence.linger = Duration::from_millis(1);
    options
}

/// Bytes that do not repeat.
pub fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

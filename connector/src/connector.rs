//! A connector put together: what the node's gateway holds.

use crate::consignment::Consignment;
use crate::deliver::{DeliverError, Delivery};
use crate::evidence::{Evidence, EvidenceSink, Reporter, receive_digest};
use crate::flights::Flights;
use crate::inbox::Inbox;
use crate::options::Options;
use crate::outbox::{Outbox, OutboxError};
use crate::payload::Verified;
use crate::permissions::Permissions;
use crate::prefetch::{Announced, Prefetch};
use crate::pull::Puller;
use crate::request::SignedPullRequest;
use crate::serve::Server;
use crate::store::disk::{DiskOptions, DiskStore, OpenError};
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use waybill_ledger::contract::Grant;
use waybill_ledger::identity::{Directory, Identity};
use waybill_types::codec::Codec;
use waybill_types::{Commitment, Digest, NetworkId, OrgId};

/// sled's cache for the indices: the newest positions are in memory anyway.
const INDEX_CACHE_BYTES: u64 = 8 << 20;

/// Who this connector is, and whom it knows.
#[derive(Clone, Debug)]
pub struct Who {
    /// Its node's keys.
    pub identity: Arc<Identity>,
    /// The network's nodes.
    pub directory: Arc<Directory>,
    /// The network.
    pub network: NetworkId,
}

/// Where a connector keeps things.
#[derive(Clone, Debug)]
pub struct Stores {
    /// What this organisation sent.
    pub outbox: Arc<dyn Store>,
    /// What it received.
    pub inbox: Arc<dyn Store>,
    /// The signed pull requests that it answered.
    pub requests: Arc<dyn Store>,
}

impl Stores {
    /// Disk stores below `dir`. Blocks while the segments are scanned.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let index = open_index(&dir.join("index"))?;
        let open = |name: &str, disk: &DiskOptions| -> Result<Arc<dyn Store>, OpenError> {
            let tree = index.open_tree(name)?;
            Ok(Arc::new(DiskStore::open(name, &dir.join(name), tree, disk)?))
        };
        // Requests are small and few.
        let small = DiskOptions { segment_bytes: options.disk.segment_bytes.min(4 << 20), ..options.disk.clone() };
        let (outbox, inbox) = (open("outbox", &options.disk)?, open("inbox", &options.disk)?);
        Ok(Stores { outbox, inbox, requests: open("requests", &small)? })
    }
}

/// Opens the indices. They are derived: if they do not open, they are made anew.
fn open_index(dir: &Path) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new().path(dir).cache_capacity(INDEX_CACHE_BYTES).flush_every_ms(None);
    config.open().or_else(|error| {
        tracing::warn!(dir = %dir.display(), %error, "the payload index does not open and is rebuilt");
        std::fs::remove_dir_all(dir).map_err(sled::Error::Io)?;
        Ok(config.open()?)
    })
}

/// The connector of one node.
#[derive(Debug)]
pub struct Connector {
    who: Who,
    options: Options,
    outbox: Arc<Outbox>,
    inbox: Arc<Inbox>,
    requests: Arc<dyn Store>,
    evidence: Evidence,
    delivery: Arc<Delivery>,
    prefetch: Prefetch,
    servers: Mutex<Vec<JoinHandle<()>>>,
    reporter: Mutex<Option<JoinHandle<()>>>,
    stop_serving: watch::Sender<bool>,
    stop_reporting: watch::Sender<bool>,
}

impl Connector {
    /// Opens the connector whose disk stores are below `dir`. Needs a tokio runtime.
    pub async fn open(
        dir: &Path,
        who: Who,
        sink: Arc<dyn EvidenceSink>,
        options: Options,
    ) -> Result<Arc<Self>, OpenError> {
        let (dir, disk) = (dir.to_owned(), options.clone());
        let opening = tokio::task::spawn_blocking(move || Stores::open(&dir, &disk));
        let stores = opening.await.map_err(|error| sled::Error::Io(std::io::Error::other(error)))??;
        Ok(Self::new(stores, who, sink, options))
    }

    /// A connector on stores of any kind. Needs a tokio runtime.
    pub fn new(stores: Stores, who: Who, sink: Arc<dyn EvidenceSink>, options: Options) -> Arc<Self> {
        let (org, node) = (who.identity.org.clone(), who.identity.node);
        let outbox = Outbox::new(node, stores.outbox, options.cache_bytes_limit, options.batch_bytes_limit);
        let (outbox, inbox) = (Arc::new(outbox), Arc::new(Inbox::new(stores.inbox, options.cache_bytes_limit)));
        let (evidence, events) = Evidence::queue(options.evidence.queue_limit);
        let (stop_reporting, reporting) = watch::channel(false);
        let reporter = Reporter {
            receiver: org.clone(),
            sink,
            requests: stores.requests.clone(),
            linger: options.evidence.linger,
            batch_limit: options.evidence.batch_limit.max(1),
        };
        let reporter = tokio::spawn(reporter.drive(events, reporting));
        let Who { identity, directory, network } = who.clone();
        let delivery = Arc::new(Delivery {
            org,
            node,
            outbox: outbox.clone(),
            inbox: inbox.clone(),
            puller: Puller::new(identity, directory, network, options.pull.clone()),
            evidence: evidence.clone(),
            flights: Flights::default(),
            tasks: Tasks::default(),
            pull_deadline: options.pull.deadline,
            batch_bytes_limit: options.batch_bytes_limit,
        });
        Arc::new(Connector {
            prefetch: Prefetch::new(delivery.clone(), options.prefetch.clone()),
            who,
            options,
            outbox,
            inbox,
            requests: stores.requests,
            evidence,
            delivery,
            servers: Mutex::default(),
            reporter: Mutex::new(Some(reporter)),
            stop_serving: watch::Sender::new(false),
            stop_reporting,
        })
    }

    /// What this organisation sent.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// What this organisation received.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Serves pulls on `listener` until [`shutdown`](Self::shutdown), to whom `permissions` allows it.
    pub fn serve(&self, listener: TcpListener, permissions: Arc<dyn Permissions>) {
        let (outbox, evidence) = (self.outbox.clone(), self.evidence.clone());
        let server = Server::new(self.who.clone(), outbox, permissions, evidence, self.options.serve.clone());
        self.servers.lock().push(tokio::spawn(server.drive(listener, self.stop_serving.subscribe())));
    }

    /// The batch that the contract allows us, from the outbox, the inbox or the sender's connector. A pull that takes
    /// longer than the deadline goes on in the background, for the next who asks.
    pub async fn payload(&self, grant: &Grant, deadline: Instant) -> Result<Verified, DeliverError> {
        let mut payloads = self.payloads(std::slice::from_ref(grant), deadline).await;
        payloads.pop().unwrap_or(Err(DeliverError::ShuttingDown))
    }

    /// Several batches, in the order asked for; those of one sender and ledger are pulled together.
    pub async fn payloads(&self, grants: &[Grant], deadline: Instant) -> Vec<Result<Verified, DeliverError>> {
        self.delivery.payloads(grants.iter().map(Consignment::from).collect(), deadline).await
    }

    /// Tells of a new batch on our own copy of a ledger: if another connector holds it, it is pulled now. Never waits.
    /// After a restart, batches whose `Receive` is not on the ledger yet are announced again.
    pub fn announce(&self, grant: &Grant) -> Announced {
        self.prefetch.announce(Consignment::from(grant))
    }

    /// The signed request behind a `Retrieve` that this connector reported.
    pub async fn pull_request(&self, request: &Digest) -> Result<Option<SignedPullRequest>, StoreError> {
        let reading = self.requests.read(vec![Commitment(*request)]).await.pop();
        let Some(kept) = reading.transpose()?.flatten() else { return Ok(None) };
        let signed = SignedPullRequest::from_bytes(&kept.batch).ok().filter(|signed| signed.digest() == *request);
        signed.map(Some).ok_or_else(|| StoreError::Corrupt("the pull request is not what its digest says".into()))
    }

    /// Whether a `Receive` of `receiver` proves that it was served these batches, all of them our own, in the order of
    /// their offsets.
    pub async fn proves_receipt(
        &self,
        receiver: &OrgId,
        batches: &[Grant],
        salts: &Digest,
    ) -> Result<bool, OutboxError> {
        let mut known = Vec::with_capacity(batches.len());
        for grant in batches {
            known.push(self.outbox.salt(grant.entry().send.commitment).await?);
        }
        Ok(receive_digest(receiver, &known) == *salts)
    }

    /// Stops: answers that are under way end, pulls are given up, what happened is reported, everything is durable.
    pub async fn shutdown(&self) {
        self.stop_serving.send_replace(true);
        let servers = std::mem::take(&mut *self.servers.lock());
        for server in servers {
            log_panic(server.await);
        }
        self.delivery.tasks.shutdown().await;
        self.stop_reporting.send_replace(true);
        let reporter = self.reporter.lock().take();
        if let Some(reporter) = reporter {
            log_panic(reporter.await);
        }
        self.outbox.close().await;
        self.inbox.close().await;
        self.requests.close().await;
    }
}

fn log_panic(outcome: Result<(), tokio::task::JoinError>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "a task of the connector did not end well");
    }
}

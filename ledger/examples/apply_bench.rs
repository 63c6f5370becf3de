//! What it costs to apply bodies: `cargo run --release -p waybill-ledger --example apply_bench [all | SCENARIO]`.
//!
//! Each figure is of the median body, so that the machine's other work counts little. What the hashes of the same bodies,
//! leaves and tree cost alone is told too: no implementation is below it.

use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use waybill_ledger::contract::SystemState;
use waybill_ledger::journal::Position;
use waybill_ledger::partition::{BodyError, BodySource, Partition, Reader};
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::merkle::{self, Frontier};
use waybill_types::transaction::{Config, CreateTopic, Producer, Send, SystemChange};
use waybill_types::*;

const LEDGER: LedgerId = LedgerId::new(TopicId([7; 16]), 0);
const NETWORK: NetworkId = NetworkId(Digest([1; 32]));
const BLOCKS: usize = 1000;
const RUNS: usize = 5;

type Scenario = fn() -> Result<(), Failure>;
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let wanted = std::env::args().nth(1).unwrap_or_else(|| "all".into());
    let scenarios: [(&str, Scenario); 5] = [
        ("apply", apply),
        ("checkpoint", checkpoints),
        ("flush", flush),
        ("topics", topics),
        ("first-bodies", first_bodies),
    ];
    for (name, scenario) in scenarios {
        if wanted == "all" || wanted == name {
            println!("{name}");
            scenario()?;
        }
    }
    Ok(())
}

/// Bodies of 100 transactions each, in envelopes of 1 and of 100; and one transaction per body.
fn apply() -> Result<(), Failure> {
    for (envelopes, transactions) in [(1, 1), (100, 1), (1, 100), (10, 100)] {
        for idempotent in [false, true] {
            let mut load = Load::new(idempotent, 100);
            let bodies: Vec<Bytes> = (0..BLOCKS).map(|_| load.body(envelopes, transactions, false)).collect();
            let count = envelopes * transactions;
            let mut took = Vec::new();
            for _ in 0..RUNS {
                let (mut partition, _) = started()?;
                took.extend(applied(&mut partition, &bodies)?);
            }
            let hashing = (0..RUNS).flat_map(|_| hashing(&bodies)).collect();
            let kind = if idempotent { "idempotent" } else { "plain" };
            println!(
                "  {envelopes:>3} envelopes of {transactions:>3}, {kind:<10}: {:>5} ns per transaction, {:>5} ns of them SHA-256",
                per(median(took), count),
                per(median(hashing), count),
            );
        }
    }
    Ok(())
}

/// What a checkpoint adds to a block, by how many producers there are and how many of them have sent since the last.
fn checkpoints() -> Result<(), Failure> {
    for (producers, active) in [(0, 0), (4000, 0), (4000, 1), (4000, 100)] {
        let mut cost = [Duration::ZERO; 2];
        for (which, checkpoint) in [false, true].into_iter().enumerate() {
            let (mut partition, _) = started()?;
            let mut load = Load::new(true, producers);
            while load.sent < producers {
                execute(&mut partition, load.body(1, 100, true))?;
            }
            let bodies: Vec<Bytes> = (0..BLOCKS).map(|_| load.body(active.min(1), active, checkpoint)).collect();
            cost[which] = median(applied(&mut partition, &bodies)?);
        }
        let added = cost[1].saturating_sub(cost[0]);
        println!("  {producers:>4} producers, {active:>3} active: {:>7} ns per checkpoint", added.as_nanos());
    }
    Ok(())
}

/// Taking, writing and dropping what 1,000 blocks of 100 transactions have led to.
fn flush() -> Result<(), Failure> {
    for idempotent in [false, true] {
        let mut best = [Duration::MAX; 3];
        for _ in 0..RUNS {
            let (mut partition, _) = started()?;
            let mut load = Load::new(idempotent, 100);
            for number in 1..=BLOCKS {
                let applied = execute(&mut partition, load.body(1, 100, number == BLOCKS))?;
                if let Some(checkpoint) = applied {
                    partition.certified(&Certificate { checkpoint, signatures: Vec::new() })?;
                }
            }
            let began = Instant::now();
            let flush = partition.take_flush().ok_or("nothing to flush")?;
            best[0] = best[0].min(began.elapsed());
            let began = Instant::now();
            let flushed = flush.write()?;
            best[1] = best[1].min(began.elapsed());
            let began = Instant::now();
            partition.flushed(flushed);
            best[2] = best[2].min(began.elapsed());
        }
        let [take, write, drop] = best.map(|best| per(best, BLOCKS));
        let kind = if idempotent { "idempotent" } else { "plain" };
        println!("  100 per block, {kind:<10}: take {take} ns, write {write} ns, drop {drop} ns per block");
    }
    Ok(())
}

/// Topics of 10 partitions, each created in its own block with a checkpoint.
fn topics() -> Result<(), Failure> {
    let config = Config { ledger: LedgerId::SYSTEM, topic: "__system".into(), ..config(4) };
    let first = Body { proposed_time_ms: 1000, checkpoint: true, config: Some(config), envelopes: Vec::new() };
    let (mut partition, _) = open(LedgerId::SYSTEM, &first)?;
    let cluster = cluster(LedgerId::SYSTEM, &first);
    let mut kept = None;
    for hundred in 0..10u64 {
        let mut took = Duration::ZERO;
        for number in hundred * 100..(hundred + 1) * 100 {
            let body = Body { checkpoint: true, ..body(cluster, number, vec![create_topic(number)]) };
            let body = body.to_bytes();
            let began = Instant::now();
            execute(&mut partition, body)?;
            took += began.elapsed();
            // Gateways hold on to the state that they see.
            kept = partition.system().cloned();
        }
        if matches!(hundred, 0 | 4 | 9) {
            println!("  topics {:>4} to {:>4}: {:>7} ns per topic", hundred * 100, hundred * 100 + 99, per(took, 100));
        }
    }
    println!("  {} topics", kept.as_ref().map_or(0, SystemState::topic_count));
    Ok(())
}

/// What every node computes to start 10,000 partitions, in networks of 4 and of 100 nodes.
fn first_bodies() -> Result<(), Failure> {
    for nodes in [4, 100] {
        let mut state = None;
        let config = Config { ledger: LedgerId::SYSTEM, topic: "__system".into(), ..config(nodes) };
        let mut leaves = vec![Leaf {
            height: 1,
            time_ms: 1,
            origin: None,
            transaction: Transaction::Config(config),
            outcome: Outcome::Recorded,
        }];
        leaves.extend((0..1000).map(|number| Leaf {
            height: 2,
            time_ms: 1,
            origin: Some((header(ClusterId(Digest::ZERO), number, &[]), 0)),
            transaction: create_topic(number),
            outcome: Outcome::Recorded,
        }));
        let began = Instant::now();
        SystemState::replay(&mut state, &leaves);
        let state = state.ok_or("no state")?;
        println!("  {nodes:>3} nodes: replay {} ns per topic", per(began.elapsed(), 1000));
        let began = Instant::now();
        let ledgers = state.topics().flat_map(|topic| topic.ledgers().collect::<Vec<_>>());
        let clusters: Vec<_> = ledgers.filter_map(|ledger| state.cluster(NETWORK, ledger)).collect();
        println!("  {nodes:>3} nodes: cluster {} ns per partition", per(began.elapsed(), clusters.len()));
    }
    Ok(())
}

/// The bodies' transactions, numbered on.
struct Load {
    idempotent: bool,
    producers: usize,
    sent: usize,
    envelopes: u64,
}

impl Load {
    fn new(idempotent: bool, producers: usize) -> Self {
        Load { idempotent, producers, sent: 0, envelopes: 0 }
    }

    fn body(&mut self, envelopes: usize, transactions: usize, checkpoint: bool) -> Bytes {
        let cluster = cluster(LEDGER, &first_body());
        let envelopes = (0..envelopes).map(|_| {
            let sends: Vec<_> = (0..transactions).map(|_| self.send()).collect();
            self.envelopes += 1;
            envelope(cluster, self.envelopes - 1, sends)
        });
        let envelopes = envelopes.collect();
        let proposed_time_ms = 1000 + self.envelopes;
        Body { proposed_time_ms, checkpoint, config: None, envelopes }.to_bytes()
    }

    fn send(&mut self) -> Transaction {
        let (producer, round) = (self.sent % self.producers.max(1), self.sent / self.producers.max(1));
        self.sent += 1;
        let producer = Producer { id: producer as i64, epoch: 0, base_sequence: 10 * round as i32 };
        Transaction::Send(Send {
            connector: NodeId(0),
            commitment: Commitment(Digest([self.sent as u8; 32])),
            size_bytes: 1000,
            record_count: 10,
            attributes: 0,
            base_timestamp_ms: 500,
            max_timestamp_ms: 600,
            producer: self.idempotent.then_some(producer),
        })
    }
}

struct NoBodies;

impl BodySource for NoBodies {
    fn body(&self, _position: Position) -> Result<Bytes, BodyError> {
        Err(BodyError::Missing)
    }
}

fn started() -> Result<(Partition, Reader), Failure> {
    open(LEDGER, &first_body())
}

fn open(ledger: LedgerId, first: &Body) -> Result<(Partition, Reader), Failure> {
    let db = sled::Config::new().temporary(true).open()?;
    let members = first.config.iter().flat_map(|config| config.origins.iter().take(4).cloned()).collect();
    let membership = Membership { epoch: 1, members };
    let cluster = cluster(ledger, first);
    let (mut partition, reader) =
        Partition::open((*db).clone(), NETWORK, ledger, cluster, membership, 1 << 40, Arc::new(NoBodies))?;
    execute(&mut partition, first.to_bytes())?;
    Ok((partition, reader))
}

fn execute(partition: &mut Partition, body: Bytes) -> Result<Option<Checkpoint>, Failure> {
    let applied = partition.apply(partition.executed_height() + 1, body, Position { segment: 0, offset: 0 })?;
    let refused = applied.outcomes.iter().find(|outcome| matches!(outcome, Outcome::Rejected(_)));
    refused.map_or(Ok(applied.checkpoint), |refused| Err(format!("{refused:?}").into()))
}

/// How long each body took.
fn applied(partition: &mut Partition, bodies: &[Bytes]) -> Result<Vec<Duration>, Failure> {
    let timed = |body: &Bytes| {
        let began = Instant::now();
        let checkpoint = execute(partition, body.clone())?;
        let took = began.elapsed();
        if let Some(checkpoint) = checkpoint {
            partition.certified(&Certificate { checkpoint, signatures: Vec::new() })?;
        }
        Ok(took)
    };
    bodies.iter().map(timed).collect()
}

/// The same hashes without anything around them: bodies, leaves, the ledger's tree.
fn hashing(bodies: &[Bytes]) -> Vec<Duration> {
    let leaves = |body: &Bytes| {
        let body = Body::from_bytes(body).unwrap_or_default();
        let of = |envelope: Envelope| {
            let header = envelope.header;
            let leaf = move |transaction| Leaf {
                height: 1,
                time_ms: 1,
                origin: Some((header, 0)),
                transaction,
                outcome: Outcome::Appended { base_offset: 1 },
            };
            envelope.transactions.into_iter().map(move |transaction| leaf(transaction).to_bytes())
        };
        body.envelopes.into_iter().flat_map(of).collect::<Vec<Bytes>>()
    };
    let leaves: Vec<_> = bodies.iter().map(leaves).collect();
    let mut tree = Frontier::default();
    let timed = |(body, leaves): (&Bytes, &Vec<Bytes>)| {
        let began = Instant::now();
        std::hint::black_box(Body::digest(body));
        leaves.iter().for_each(|leaf| tree.push(merkle::leaf_hash(leaf)));
        began.elapsed()
    };
    bodies.iter().zip(&leaves).map(timed).collect()
}

fn envelope(cluster: ClusterId, number: u64, transactions: Vec<Transaction>) -> Envelope {
    let header = header(cluster, number, &transactions);
    // Signatures are PBFT's to check.
    Envelope { header, signature: Signature([0; 64]), transactions }
}

fn header(cluster: ClusterId, number: u64, transactions: &[Transaction]) -> EnvelopeHeader {
    let leaves: Vec<_> = transactions.iter().map(|transaction| merkle::leaf_hash(&transaction.to_bytes())).collect();
    let (count, root) = (transactions.len() as u32, merkle::root(&leaves));
    EnvelopeHeader { cluster, origin: NodeId(0), incarnation: 0, number, count, root }
}

fn body(cluster: ClusterId, number: u64, transactions: Vec<Transaction>) -> Body {
    let envelopes = vec![envelope(cluster, number, transactions)];
    Body { proposed_time_ms: 1000 + number, checkpoint: false, config: None, envelopes }
}

fn create_topic(number: u64) -> Transaction {
    let mut id = [0; 16];
    id.copy_from_slice(&merkle::leaf_hash(&number.to_be_bytes()).0[..16]);
    Transaction::System(SystemChange::CreateTopic(CreateTopic {
        name: format!("topic-{number}"),
        id: TopicId(id),
        partitions: vec![(0..4).map(NodeId).collect(); 10],
        readers: vec![],
        writers: vec![],
        settings: vec![("retention.ms".into(), "604800000".into())],
    }))
}

fn config(nodes: u32) -> Config {
    let org = |number: u32| OrgId::new(&format!("org-{number}"));
    let member = |node| Some(Member { node: NodeId(node), org: org(node).ok()?, key: PublicKey([0; 32]) });
    let origins: Vec<Member> = (0..nodes).filter_map(member).collect();
    let orgs: Vec<OrgId> = origins.iter().map(|member| member.org.clone()).collect();
    Config {
        version: 1,
        ledger: LEDGER,
        topic: "orders".into(),
        owner: orgs[0].clone(),
        readers: orgs.clone(),
        writers: orgs,
        origins,
        batch_bytes_limit: 1 << 20,
        log_append_time: false,
    }
}

fn first_body() -> Body {
    Body { proposed_time_ms: 1000, checkpoint: true, config: Some(config(4)), envelopes: Vec::new() }
}

fn cluster(ledger: LedgerId, first: &Body) -> ClusterId {
    ClusterId::new(NETWORK, ledger, Body::digest(&first.to_bytes()))
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}

fn per(took: Duration, count: usize) -> u128 {
    took.as_nanos() / count.max(1) as u128
}

//! Anchoring, every kind of rejection, snapshots, receipts from the global ledger, and the same chains through the
//! partition that replicas run.

use super::*;
use crate::journal::Position;
use crate::partition::{Applied, BodyError, BodySource, Partition, Reader};
use crate::receipt::fixture::{
    self, Chain, ORDERS, ORDERS_0, START_MS, commit, four, org, receive, refuse, retrieve, send, story,
};
use crate::receipt::{Deliveries, LedgerSource, Level, export};
use std::sync::atomic::{AtomicUsize, Ordering};
use waybill_types::membership::Membership;
use waybill_types::transaction::SystemChange;
use waybill_types::{Body, ClusterId, Digest, Outcome, Transaction};

fn database() -> sled::Db {
    sled::Config::new().temporary(true).open().unwrap()
}

fn open(db: &sled::Db, genesis: &Genesis) -> GlobalLedger {
    GlobalLedger::open(db.clone().into_inner(), Arc::new(genesis.clone())).unwrap()
}

/// `into_inner` of sled's `Db`: its default tree.
trait IntoInner {
    fn into_inner(self) -> sled::Tree;
}

impl IntoInner for sled::Db {
    fn into_inner(self) -> sled::Tree {
        use std::ops::Deref;
        self.deref().clone()
    }
}

fn anchor(chain: &Chain, from: usize, to: usize, certificate: &Certificate) -> Anchor {
    Anchor { ledger: chain.ledger, blocks: chain.blocks[from..to].to_vec(), certificate: certificate.clone() }
}

/// The command that brings everything of a chain up to its last certificate.
fn whole(chain: &Chain) -> Anchor {
    let certificate = chain.certificates.last().unwrap();
    anchor(chain, 0, certificate.checkpoint.height as usize, certificate)
}

fn apply(global: &GlobalLedger, index: u64, anchor: &Anchor) -> Answer {
    let command = Command::Anchor(anchor.clone()).to_bytes();
    Answer::from_bytes(&global.apply(&index.to_be_bytes(), &command).unwrap()).unwrap()
}

fn reason(answer: Answer) -> (Height, Reason) {
    match answer {
        Answer::Rejected(Rejected { height, reason, .. }) => (height, reason),
        Answer::Anchored(height) => panic!("anchored at {height}"),
    }
}

/// A digest of each row, so that a difference names its key and no more.
fn content(db: &sled::Db) -> Vec<String> {
    let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let rows = db.iter().map(Result::unwrap);
    rows.map(|(key, row)| format!("{} {:?}", hex(&key), Digest(sha256(&row)))).collect()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    waybill_types::digest::Hasher::digest(b"test", bytes).0
}

fn filled(genesis: &Genesis) -> (sled::Db, GlobalLedger, Chain, Chain) {
    let (system, orders) = story(genesis);
    let db = database();
    let global = open(&db, genesis);
    assert_eq!(apply(&global, 1, &whole(&system)), Answer::Anchored(2));
    assert_eq!(apply(&global, 2, &whole(&orders)), Answer::Anchored(4));
    (db, global, system, orders)
}

#[test]
fn certified_blocks_are_kept_and_survive_a_restart() {
    let genesis = four();
    let (db, global, system, orders) = filled(&genesis);
    let check = |global: &GlobalLedger| {
        assert_eq!(global.applied().as_deref(), Some(&2u64.to_be_bytes()[..]));
        assert_eq!(global.ledgers(), [(LedgerId::SYSTEM, 2), (ORDERS_0, 4)].map(|pair| pair));
        assert_eq!(global.head(ORDERS_0).unwrap().head, orders.blocks[3].header.hash());
        assert_eq!(global.blocks(ORDERS_0, 2).collect::<Result<Vec<_>, _>>().unwrap(), orders.blocks[1..]);
        assert_eq!(global.block(ORDERS_0, 5).unwrap(), None);
        assert_eq!(global.latest_certificate(ORDERS_0).unwrap().as_ref(), orders.certificates.last());
        assert_eq!(global.topic("orders").unwrap().leaf_index, 1);
        assert_eq!(global.system().topic_named("orders").unwrap().id, ORDERS);
        assert_eq!(global.system_version(), 2);
        let mut state = None;
        SystemState::replay(&mut state, &system.leaves);
        assert_eq!(*global.system(), state.unwrap());
        for (index, leaf) in (0..).zip(&orders.leaves) {
            assert_eq!(global.view(ORDERS_0).signed_leaf(index).unwrap().unwrap().leaf, *leaf);
        }
    };
    check(&global);
    drop(global);
    check(&open(&db, &genesis));
}

#[test]
fn blocks_in_pieces_repeated_and_overlapping_give_the_same_ledger() {
    let genesis = four();
    let (db, whole_ledger, system, orders) = filled(&genesis);
    let pieces = database();
    let global = open(&pieces, &genesis);
    assert_eq!(apply(&global, 1, &anchor(&system, 0, 1, &system.certificates[0])), Answer::Anchored(1));
    assert_eq!(apply(&global, 1, &anchor(&system, 0, 2, &system.certificates[1])), Answer::Anchored(2), "overlapping");
    assert_eq!(apply(&global, 1, &anchor(&system, 0, 1, &system.certificates[0])), Answer::Anchored(2), "older");
    for (from, certificate) in [(0, 0), (1, 1), (0, 2), (2, 2)] {
        let certificate = &orders.certificates[certificate];
        let to = certificate.checkpoint.height as usize;
        assert_eq!(apply(&global, 2, &anchor(&orders, from, to, certificate)), Answer::Anchored(to as u64));
    }
    assert_eq!(global.head(ORDERS_0), whole_ledger.head(ORDERS_0));
    for offset in 0..16 {
        let deliveries = |global: &GlobalLedger| global.view(ORDERS_0).deliveries(offset).unwrap();
        assert_eq!(deliveries(&global), deliveries(&whole_ledger));
    }
    assert!(content(&pieces).len() > content(&db).len(), "it has more certificates");
    assert_eq!(global.rejected(ORDERS_0), 0);
}

#[test]
fn what_is_not_proved_is_rejected_alike_everywhere() {
    let genesis = four();
    let (system, orders) = story(&genesis);
    let (here, there) = (database(), database());
    let both = [open(&here, &genesis), open(&there, &genesis)];
    let mut index = 0;
    let mut ask = |anchor: &Anchor| {
        index += 1;
        let [left, right] = [&both[0], &both[1]].map(|global| apply(global, index, anchor));
        assert_eq!(left, right);
        left
    };
    assert_eq!(reason(ask(&whole(&orders))), (0, Reason::UnknownLedger), "the system ledger does not name it yet");
    assert_eq!(ask(&whole(&system)), Answer::Anchored(2));

    let good = whole(&orders);
    let mut second_partition = good.clone();
    second_partition.ledger.partition = 2;
    assert_eq!(reason(ask(&second_partition)), (0, Reason::UnknownLedger));
    type Forge = Box<dyn Fn(&mut Anchor)>;
    let cases: Vec<(&str, Reason, Forge)> = vec![
        ("a gap", Reason::Gap, Box::new(|anchor| drop(anchor.blocks.remove(0)))),
        ("a hole", Reason::NoRange, Box::new(|anchor| drop(anchor.blocks.remove(1)))),
        ("no blocks", Reason::NoRange, Box::new(|anchor| anchor.blocks.clear())),
        ("height 0", Reason::NoRange, Box::new(|anchor| anchor.blocks[0].header.height = 0)),
        ("a missing last block", Reason::Unproved, Box::new(|anchor| drop(anchor.blocks.pop()))),
        ("a forged signature", Reason::Unproved, Box::new(|anchor| anchor.certificate.signatures[1].1.0[5] ^= 1)),
        ("a signature too few", Reason::Unproved, Box::new(|anchor| anchor.certificate.signatures.truncate(2))),
        (
            "a repeated signature",
            Reason::Unproved,
            Box::new(|anchor| {
                anchor.certificate.signatures[2] = anchor.certificate.signatures[1];
            }),
        ),
        ("another state", Reason::Unproved, Box::new(|anchor| anchor.certificate.checkpoint.state_root.0[0] ^= 1)),
        (
            "a forged outcome",
            Reason::Unproved,
            Box::new(|anchor| {
                let refused = waybill_types::Rejection::NotAuthorised;
                anchor.blocks[2].outcomes[1] = Outcome::Rejected(refused);
            }),
        ),
        ("a missing outcome", Reason::Unproved, Box::new(|anchor| anchor.blocks[1].outcomes.truncate(2))),
        (
            "a forged body",
            Reason::Unproved,
            Box::new(|anchor| {
                let mut body = anchor.blocks[1].body.to_vec();
                *body.last_mut().unwrap() ^= 1;
                anchor.blocks[1].body = body.into();
            }),
        ),
        ("a forged time", Reason::Unproved, Box::new(|anchor| anchor.blocks[1].header.time_ms += 1)),
    ];
    for (what, expected, forge) in cases {
        let mut forged = good.clone();
        forge(&mut forged);
        assert_eq!(reason(ask(&forged)), (0, expected), "{what}");
    }
    assert_eq!(ask(&good), Answer::Anchored(4), "none of it has left a trace");
    assert_eq!(both[0].rejected(ORDERS_0), 13);
    assert_eq!(both[0].rejected_elsewhere(), 2);
    assert_eq!(content(&here), content(&there));
}

#[test]
fn bytes_that_are_no_command_are_rejected() {
    let genesis = four();
    let (_db, global, _, _) = filled(&genesis);
    for garbage in [&b""[..], b"\x02", b"\x01\xff\xff\xff\xff", &[0; 100]] {
        let answer = global.apply(b"index", &Bytes::copy_from_slice(garbage)).unwrap();
        assert_eq!(reason(Answer::from_bytes(&answer).unwrap()), (0, Reason::Malformed));
    }
    assert_eq!(global.applied().as_deref(), Some(&b"index"[..]), "Raft goes on behind them");
    assert_eq!(global.rejected_elsewhere(), 4);
    global.advance(b"blank").unwrap();
    assert_eq!(global.applied().as_deref(), Some(&b"blank"[..]));
}

#[test]
fn another_clusters_chain_is_rejected_and_another_block_is_a_conflict() {
    let genesis = four();
    let (_db, global, _, orders) = filled(&genesis);
    // The same topic, created at another time: another first body, so another cluster.
    let mut system = Chain::system(&genesis);
    system.execute(START_MS + 5, vec![(1, vec![fixture::create_orders(&[1, 2, 3, 4])])]);
    let mut other = Chain::partition(&genesis, &system, ORDERS_0);
    other.certify(&[0, 1, 2]);
    other.execute(START_MS + 2_000, vec![(1, vec![send(1, 5)])]);
    other.certify(&[0, 1, 2]);
    assert_eq!(reason(apply(&global, 3, &whole(&other))), (4, Reason::Conflict));
    let empty = open(&database(), &genesis);
    apply(&empty, 1, &whole(&story(&genesis).0));
    assert_eq!(reason(apply(&empty, 2, &whole(&other))), (0, Reason::Unproved));
    let mut relabelled = whole(&other);
    relabelled.certificate = other.signed(orders.certificates[0].checkpoint.clone(), &[0, 1, 2]);
    assert_eq!(reason(apply(&empty, 3, &relabelled)), (0, Reason::Unproved));

    // Enough replicas of the right cluster, of too few organisations' ledgers: another network's.
    let mut later = genesis.clone();
    later.created_ms += 1;
    let (foreign, _) = story(&later);
    assert_eq!(reason(apply(&open(&database(), &genesis), 1, &whole(&foreign))), (0, Reason::Unproved));
}

#[test]
fn a_topics_blocks_are_taken_after_its_deletion_too() {
    let genesis = four();
    let (db, global, mut system, mut orders) = filled(&genesis);
    let delete = SystemChange::DeleteTopic(ORDERS);
    system.execute(START_MS + 6_000, vec![(1, vec![Transaction::System(delete)])]);
    system.certify(&[1, 2, 3]);
    let new_id = TopicId([0xcd; 16]);
    system.execute(START_MS + 7_000, vec![(1, vec![fixture::create_topic("orders", new_id, &[1])])]);
    system.certify(&[1, 2, 3]);
    assert_eq!(apply(&global, 3, &whole(&system)), Answer::Anchored(4));
    orders.execute(START_MS + 6_500, vec![(2, vec![commit(16)])]);
    orders.certify(&[0, 1, 3]);
    assert_eq!(apply(&global, 4, &whole(&orders)), Answer::Anchored(5));
    drop(global);
    let global = open(&db, &genesis);
    assert_eq!(global.topic("orders").unwrap().topic.id, new_id, "the name is the newer topic's");
    assert_eq!(global.topic_by_id(ORDERS).unwrap().topic.name, "orders");
    assert!(global.system().topic(ORDERS).is_none());
}

#[test]
fn watchers_see_each_change_once() {
    let genesis = four();
    let (system, orders) = story(&genesis);
    let global = open(&database(), &genesis);
    let (calls, topics) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(9)));
    let (counted, seen) = (calls.clone(), topics.clone());
    global.subscribe(Box::new(move |system| {
        counted.fetch_add(1, Ordering::SeqCst);
        seen.store(system.topic_count(), Ordering::SeqCst);
    }));
    assert_eq!((calls.load(Ordering::SeqCst), topics.load(Ordering::SeqCst)), (1, 0), "the present state at once");
    apply(&global, 1, &whole(&system));
    assert_eq!((calls.load(Ordering::SeqCst), topics.load(Ordering::SeqCst)), (2, 1));
    apply(&global, 2, &whole(&system));
    apply(&global, 3, &whole(&orders));
    assert_eq!(calls.load(Ordering::SeqCst), 2, "neither a repetition nor another ledger changes the system");
}

#[test]
fn a_snapshot_makes_an_equal_ledger() {
    let genesis = four();
    let (db, global, _, orders) = filled(&genesis);
    reason(apply(&global, 3, &Anchor { blocks: vec![], ..whole(&orders) }));
    let mut snapshot = Vec::new();
    let applied = global.write_snapshot(&mut snapshot).unwrap();
    assert_eq!(applied.as_deref(), Some(&3u64.to_be_bytes()[..]));
    let fresh = database();
    let copy = open(&fresh, &genesis);
    assert_eq!(copy.install_snapshot(&mut snapshot.as_slice()).unwrap(), applied);
    assert_eq!(content(&fresh), content(&db));
    assert_eq!(*copy.system(), *global.system());
    assert_eq!(copy.rejected(ORDERS_0), 1);
    let mut again = Vec::new();
    copy.write_snapshot(&mut again).unwrap();
    assert_eq!(again, snapshot);
    copy.install_snapshot(&mut snapshot.as_slice()).unwrap();
    assert_eq!(content(&fresh), content(&db), "taking it over twice changes nothing");
    drop(copy);
    assert_eq!(open(&fresh, &genesis).applied(), applied);
}

#[test]
fn a_snapshot_that_breaks_in_the_middle_leaves_a_ledger_that_goes_on() {
    let genesis = four();
    let (db, global, _, orders) = filled(&genesis);
    let mut snapshot = Vec::new();
    global.write_snapshot(&mut snapshot).unwrap();
    let fresh = database();
    for end in (0..snapshot.len()).step_by(191) {
        let copy = open(&fresh, &genesis);
        assert!(copy.install_snapshot(&mut &snapshot[..end]).is_err(), "cut at {end}");
        assert_eq!(copy.applied(), None, "only a whole snapshot sets it");
        let height = copy.height(ORDERS_0);
        assert!(copy.blocks(ORDERS_0, 1).all(|block| block.is_ok()) && height <= 4);
    }
    let copy = open(&fresh, &genesis);
    assert_eq!(apply(&copy, 2, &whole(&orders)), Answer::Anchored(4), "commands go on behind what is here");
    copy.install_snapshot(&mut snapshot.as_slice()).unwrap();
    assert_eq!(copy.view(ORDERS_0).deliveries(5).unwrap(), global.view(ORDERS_0).deliveries(5).unwrap());
    assert_eq!(content(&fresh), content(&db));
}

#[test]
fn a_damaged_or_forged_snapshot_is_refused() {
    let genesis = four();
    let (_db, global, system, mut orders) = filled(&genesis);
    let mut snapshot = Vec::new();
    global.write_snapshot(&mut snapshot).unwrap();
    for at in (0..snapshot.len()).step_by(149) {
        let mut damaged = snapshot.clone();
        damaged[at] ^= 0x10;
        let copy = open(&database(), &genesis);
        assert!(copy.install_snapshot(&mut damaged.as_slice()).is_err(), "byte {at}");
    }
    let mut later = genesis.clone();
    later.created_ms += 1;
    let elsewhere = open(&database(), &later).install_snapshot(&mut snapshot.as_slice());
    assert!(matches!(elsewhere, Err(SnapshotError::OtherNetwork)));

    // A Byzantine node that stored a forged certificate offers a snapshot of it.
    orders.execute(START_MS + 8_000, vec![(1, vec![send(1, 1)])]);
    let mut forged = orders.certify(&[0, 1, 2]);
    forged.signatures[0].1.0[0] ^= 1;
    let byzantine = database();
    let forger = open(&byzantine, &genesis);
    apply(&forger, 1, &whole(&system));
    apply(&forger, 2, &whole(&orders));
    let key = Key::Certificate(ORDERS_0, forged.checkpoint.height).encode();
    byzantine.insert(key, forged.to_bytes().as_ref()).unwrap();
    let mut snapshot = Vec::new();
    forger.write_snapshot(&mut snapshot).unwrap();
    let refused = global.install_snapshot(&mut snapshot.as_slice());
    assert!(matches!(refused, Err(SnapshotError::Refused { ledger: ORDERS_0, .. })), "{refused:?}");
    assert_eq!(global.height(ORDERS_0), 4);
    assert_eq!(global.applied().as_deref(), Some(&2u64.to_be_bytes()[..]));
}

#[test]
fn a_snapshot_is_of_one_moment_while_commands_go_on() {
    struct Applying<'a> {
        global: &'a GlobalLedger,
        anchor: Option<Anchor>,
        written: Vec<u8>,
    }
    impl std::io::Write for Applying<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if let Some(anchor) = self.anchor.take() {
                assert_eq!(apply(self.global, 9, &anchor), Answer::Anchored(5));
            }
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let genesis = four();
    let (_db, global, _, mut orders) = filled(&genesis);
    orders.execute(START_MS + 8_000, vec![(1, vec![send(1, 1)])]);
    orders.certify(&[0, 1, 2]);
    let mut out = Applying { global: &global, anchor: Some(whole(&orders)), written: Vec::new() };
    let applied = global.write_snapshot(&mut out).unwrap();
    assert_eq!(applied.as_deref(), Some(&2u64.to_be_bytes()[..]));
    let copy = open(&database(), &genesis);
    copy.install_snapshot(&mut out.written.as_slice()).unwrap();
    assert_eq!((copy.height(ORDERS_0), global.height(ORDERS_0)), (4, 5));
}

#[test]
fn another_networks_store_is_not_opened() {
    let genesis = four();
    let (db, global, _, _) = filled(&genesis);
    drop(global);
    let mut later = genesis;
    later.created_ms += 1;
    let tree = db.into_inner();
    assert!(matches!(GlobalLedger::open(tree, Arc::new(later)), Err(StoreError::OtherNetwork)));
}

#[test]
fn the_earliest_evidence_of_each_offset_is_found_however_reports_are_cut() {
    let genesis = four();
    let (system, mut orders) = story(&genesis);
    let reports = [(1, 7, 9), (1, 0, 15), (2, 3, 12), (2, 15, 15), (2, 0, 15), (1, 4, 8)];
    for (node, first, last) in reports {
        orders.execute(START_MS + 9_000, vec![(node, vec![receive(first, last)])]);
    }
    orders.execute(
        START_MS + 9_500,
        vec![
            (1, vec![retrieve("globex", 2, 9), retrieve("globex", 0, 15), commit(3), commit(2), refuse("umbrella", 8)]),
            (2, vec![commit(12), commit(5), commit(16)]),
        ],
    );
    orders.certify(&[0, 1, 2]);
    let global = open(&database(), &genesis);
    apply(&global, 1, &whole(&system));
    assert_eq!(apply(&global, 2, &whole(&orders)), Answer::Anchored(11));
    for offset in 0..16 {
        let mut found = global.view(ORDERS_0).deliveries(offset).unwrap();
        // The fixture's search knows refusals by their exact offset only.
        found.retain(|(level, ..)| *level != Level::Refused);
        found.sort();
        let mut expected = orders.deliveries(offset).unwrap();
        expected.retain(|(level, ..)| *level != Level::Refused);
        assert_eq!(found, expected, "offset {offset}");
    }
    for (offset, refused) in [(5, Some("initech")), (6, Some("umbrella")), (15, Some("umbrella")), (4, None)] {
        let found = global.view(ORDERS_0).deliveries(offset).unwrap();
        let found = found.into_iter().find(|(level, ..)| *level == Level::Refused);
        assert_eq!(found.map(|(_, to, _)| to), refused.map(org), "offset {offset}");
    }
    for offset in 0..16 {
        let view = (global.view(LedgerId::SYSTEM), global.view(ORDERS_0));
        export(&genesis, &view.0, &view.1, "orders", offset).unwrap();
    }
}

#[test]
fn nobody_speaks_for_another_sender() {
    let genesis = four();
    let mut system = Chain::system(&genesis);
    let mut create = fixture::create_orders(&[1, 2, 3, 4]);
    if let Transaction::System(SystemChange::CreateTopic(create)) = &mut create {
        create.writers = vec![org("globex")];
        create.readers = vec![org("globex"), org("umbrella")];
    }
    system.execute(START_MS, vec![(1, vec![create])]);
    system.certify(&[0, 1, 2]);
    let mut orders = Chain::partition(&genesis, &system, ORDERS_0);
    orders.execute(START_MS, vec![(1, vec![send(1, 2)]), (2, vec![send(2, 2)])]);
    // globex reports deliveries of all batches, acme's among them, before acme does.
    orders.execute(START_MS + 1, vec![(2, vec![retrieve("umbrella", 0, 3), refuse("initech", 0)])]);
    orders.certify(&[0, 1, 2]);
    let global = open(&database(), &genesis);
    assert_eq!(apply(&global, 1, &whole(&system)), Answer::Anchored(2));
    assert_eq!(apply(&global, 2, &whole(&orders)), Answer::Anchored(3));
    let told = |global: &GlobalLedger, offset| {
        let receipt = export(&genesis, &global.view(LedgerId::SYSTEM), &global.view(ORDERS_0), "orders", offset);
        receipt.unwrap().evidence.into_iter().map(|found| (found.level, found.org.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(told(&global, 0), [(Level::Sent, "acme".into())]);
    assert_eq!(told(&global, 2), [(Level::Sent, "globex".into()), (Level::Retrieved, "umbrella".into())]);
    orders.execute(START_MS + 2, vec![(1, vec![retrieve("umbrella", 0, 3)])]);
    orders.certify(&[0, 1, 2]);
    assert_eq!(apply(&global, 3, &whole(&orders)), Answer::Anchored(4));
    assert_eq!(told(&global, 0), [(Level::Sent, "acme".into()), (Level::Retrieved, "umbrella".into())]);
}

#[test]
fn envelopes_that_did_not_execute_have_no_leaves() {
    let genesis = four();
    let (system, orders) = story(&genesis);
    // The primary repeats an envelope and leaves a gap in another origin's numbers.
    let body = Body::from_bytes(&orders.blocks[1].body).unwrap();
    let mut repeated = body.clone();
    let gap =
        waybill_types::Envelope::new(orders.cluster, waybill_types::NodeId(2), 0, 5, vec![receive(0, 0)], |preimage| {
            fixture::sign(waybill_types::NodeId(2), preimage)
        });
    repeated.envelopes = vec![gap, body.envelopes[0].clone(), body.envelopes[0].clone()];
    let (mut partition, reader) = partition(&orders);
    execute(&mut partition, &orders.blocks[0].body);
    let applied = execute(&mut partition, &repeated.to_bytes());
    assert_eq!((applied.outcomes.len(), applied.skipped.len()), (3, 2));
    let certificate = orders.signed(applied.checkpoint.unwrap(), &[0, 1, 2]);
    let global = open(&database(), &genesis);
    apply(&global, 1, &whole(&system));
    let blocks = reader.blocks(1, 2, usize::MAX).unwrap();
    assert_eq!(apply(&global, 2, &Anchor { ledger: ORDERS_0, blocks, certificate }), Answer::Anchored(2));
    for index in 0..4 {
        let ours = global.view(ORDERS_0).signed_leaf(index).unwrap();
        assert_eq!(ours, reader.signed_leaf(index).unwrap());
    }
    assert_eq!(global.view(ORDERS_0).signed_leaf(4).unwrap(), None);
}

#[test]
fn the_partition_that_replicas_run_makes_the_same_blocks_and_receipts() {
    let genesis = four();
    let (_db, global, system, orders) = filled(&genesis);
    let (mut partition, reader) = partition(&orders);
    for block in &orders.blocks {
        let applied = execute(&mut partition, &block.body);
        assert_eq!((&applied.header, &applied.outcomes), (&block.header, &block.outcomes));
        let certificate = orders.certificates.iter().find(|found| found.checkpoint.height == block.header.height);
        if let Some(certificate) = certificate {
            partition.certified(certificate).unwrap();
        }
    }
    let from_global = export(&genesis, &global.view(LedgerId::SYSTEM), &global.view(ORDERS_0), "orders", 5).unwrap();
    assert_eq!(from_global, export(&genesis, &system, &orders, "orders", 5).unwrap());
    let mut without_refusals = from_global;
    without_refusals.evidence.retain(|evidence| evidence.level != Level::Refused);
    assert_eq!(export(&genesis, &system, &reader, "orders", 5).unwrap(), without_refusals);
}

/// A replica's partition over its own database. Its bodies stay in memory: nothing is flushed here.
fn partition(chain: &Chain) -> (Partition, Reader) {
    let network = chain.genesis.network_id();
    let (cluster, membership): (ClusterId, Membership) = (chain.cluster, chain.membership.clone());
    let tree = database().into_inner();
    Partition::open(tree, network, chain.ledger, cluster, membership, 64, Arc::new(NoJournal)).unwrap()
}

fn execute(partition: &mut Partition, body: &Bytes) -> Applied {
    partition.apply(partition.executed_height() + 1, body.clone(), Position::from_bytes([0; Position::BYTES])).unwrap()
}

struct NoJournal;

impl BodySource for NoJournal {
    fn body(&self, _position: Position) -> Result<Bytes, BodyError> {
        Err(BodyError::Missing)
    }
}

#[test]
fn golden_command() {
    let genesis = four();
    let (_, orders) = story(&genesis);
    let encoded = Command::Anchor(anchor(&orders, 1, 2, &orders.certificates[1])).to_bytes();
    assert_eq!(encoded.len(), 977);
    let golden = "091f1de87c350f94080c9935bebe722e0cbbac9e2382f8eeafe01ef43e57bdd4";
    assert_eq!(Digest(sha256(&encoded)).to_string(), golden);
    assert_eq!(Answer::Anchored(7).to_bytes().as_ref(), [1, 0, 0, 0, 0, 0, 0, 0, 7]);
    let rejected = Rejected { height: 1, reason: Reason::Gap, detail: "x".into() };
    assert_eq!(Answer::Rejected(rejected).to_bytes().as_ref(), [2, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 1, b'x']);
}

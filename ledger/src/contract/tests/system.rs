//! Topics come, are found, and go.

use super::super::system::{
    PARTITIONS_PER_TOPIC_MAX, SETTING_BYTES_MAX, SystemEvent, SystemState, TOPIC_BYTES_PER_ORGANISATION_MAX,
};
use super::super::{Contract, may_read, may_write};
use super::*;
use Rejection::*;
use waybill_types::envelope::EnvelopeHeader;
use waybill_types::transaction::{AddPartitions, CreateTopic, SystemChange};

/// Seven nodes of five organisations: org-0 has nodes 0 and 5, org-1 has 1 and 6.
fn state() -> SystemState {
    let orgs: Vec<_> = (0..5).map(|number| org(&format!("org-{number}"))).collect();
    SystemState::new(Arc::new(Config {
        version: 1,
        ledger: LedgerId::SYSTEM,
        topic: "__system".into(),
        owner: orgs[0].clone(),
        readers: orgs.clone(),
        writers: orgs[..4].to_vec(),
        origins: (0..7).map(|node| member(NodeId(node), orgs[node as usize % 5].as_str())).collect(),
        batch_bytes_limit: 0,
        log_append_time: false,
    }))
}

fn create() -> CreateTopic {
    CreateTopic {
        name: "lab-results".into(),
        id: TopicId([1; 16]),
        partitions: vec![vec![NodeId(0), NodeId(1), NodeId(2), NodeId(3)]; 3],
        readers: vec![org("org-1")],
        writers: vec![org("org-2")],
        settings: vec![("max.message.bytes".into(), "5000".into()), ("retention.ms".into(), "-1".into())],
    }
}

fn apply(state: &mut SystemState, node: u32, change: SystemChange) -> (Outcome, Option<SystemEvent>) {
    state.execute(&call(NodeId(node), 0), &Transaction::System(change))
}

#[test]
fn a_topic_comes_is_found_and_goes() {
    let mut state = state();
    let (outcome, event) = apply(&mut state, 6, SystemChange::CreateTopic(create()));
    assert_eq!(outcome, Outcome::Recorded);
    let topic = state.topic_named("lab-results").unwrap().clone();
    assert_eq!(event, Some(SystemEvent::TopicCreated(topic.clone())));
    assert_eq!((topic.owner.as_str(), topic.created_ms, topic.created_height), ("org-1", 1000, 2));
    assert_eq!(state.topic(create().id), Some(&topic));
    assert_eq!(topic.ledgers().count(), 3);
    let (outcome, event) = apply(&mut state, 1, SystemChange::DeleteTopic(create().id));
    assert_eq!((outcome, event), (Outcome::Recorded, Some(SystemEvent::TopicDeleted(topic))));
    assert_eq!((state.topic_count(), state.topic_named("lab-results")), (0, None));
    let again = apply(&mut state, 1, SystemChange::CreateTopic(create())).0;
    assert_eq!(again, Outcome::Rejected(Invalid), "an id is used once");
    let other = CreateTopic { id: TopicId([2; 16]), ..create() };
    assert_eq!(apply(&mut state, 1, SystemChange::CreateTopic(other)).0, Outcome::Recorded, "a name may be used again");
}

#[test]
fn what_a_new_topic_must_be() {
    let placed =
        |nodes: &[u32]| CreateTopic { partitions: vec![nodes.iter().map(|node| NodeId(*node)).collect()], ..create() };
    let set = |name: &str, value: &str| CreateTopic { settings: vec![(name.into(), value.into())], ..create() };
    let table = [
        ("as it is", create(), None),
        ("one replica", placed(&[3]), None),
        ("nowhere", placed(&[]), Some(Invalid)),
        ("three replicas", placed(&[0, 1, 2]), Some(Invalid)),
        ("a node twice", placed(&[0, 1, 2, 2]), Some(Invalid)),
        ("an organisation twice", placed(&[0, 5, 1, 2]), Some(Invalid)),
        ("an unknown node", placed(&[0, 1, 2, 9]), Some(Invalid)),
        ("seven replicas of all five organisations", placed(&[0, 1, 2, 3, 4, 5, 6]), None),
        ("no partition", CreateTopic { partitions: vec![], ..create() }, Some(Invalid)),
        (
            "too many partitions",
            CreateTopic { partitions: vec![vec![NodeId(1)]; PARTITIONS_PER_TOPIC_MAX + 1], ..create() },
            Some(Invalid),
        ),
        ("a bad name", CreateTopic { name: "a b".into(), ..create() }, Some(Invalid)),
        ("the system ledger's name", CreateTopic { name: "__system".into(), ..create() }, Some(Invalid)),
        ("the system ledger's id", CreateTopic { id: LedgerId::SYSTEM.topic, ..create() }, Some(Invalid)),
        ("no id", CreateTopic { id: TopicId([0; 16]), ..create() }, Some(Invalid)),
        ("an unknown reader", CreateTopic { readers: vec![org("nobody")], ..create() }, Some(Invalid)),
        ("a reader twice", CreateTopic { readers: vec![org("org-1"); 2], ..create() }, Some(Invalid)),
        ("an unknown writer", CreateTopic { writers: vec![org("nobody")], ..create() }, Some(Invalid)),
        ("a wrong size", set("max.message.bytes", "much"), Some(Invalid)),
        ("a wrong clock", set("message.timestamp.type", "Mine"), Some(Invalid)),
        ("append time", set("message.timestamp.type", "LogAppendTime"), None),
        ("a long setting", set("x", &"y".repeat(5000)), Some(Invalid)),
    ];
    for (name, create, expected) in table {
        let mut state = state();
        let before = state.root();
        let expected = expected.map_or(Outcome::Recorded, Outcome::Rejected);
        assert_eq!(apply(&mut state, 1, SystemChange::CreateTopic(create)).0, expected, "{name}");
        assert_eq!(state.root() == before, expected != Outcome::Recorded, "{name}");
    }
}

#[test]
fn names_that_differ_in_dots_collide() {
    let mut state = state();
    let named = |name: &str, id| {
        SystemChange::CreateTopic(CreateTopic { name: name.into(), id: TopicId([id; 16]), ..create() })
    };
    assert_eq!(apply(&mut state, 1, named("a.b", 1)).0, Outcome::Recorded);
    assert_eq!(apply(&mut state, 2, named("a.b", 2)).0, Outcome::Rejected(TopicExists));
    assert_eq!(apply(&mut state, 1, named("a_b", 3)).0, Outcome::Rejected(Invalid));
    assert_eq!(state.topic_named("a_b"), None);
    assert!(state.topic_named("a.b").is_some());
}

#[test]
fn who_may_change_topics() {
    let mut state = state();
    let create = SystemChange::CreateTopic(create());
    assert_eq!(apply(&mut state, 4, create.clone()).0, Outcome::Rejected(NotAuthorised), "not a writer of __system");
    assert_eq!(apply(&mut state, 99, create.clone()).0, Outcome::Rejected(NotAuthorised), "an unknown node");
    assert_eq!(apply(&mut state, 1, create).0, Outcome::Recorded);
    let delete = |id| SystemChange::DeleteTopic(TopicId([id; 16]));
    assert_eq!(apply(&mut state, 2, delete(1)).0, Outcome::Rejected(NotAuthorised));
    assert_eq!(apply(&mut state, 1, delete(2)).0, Outcome::Rejected(UnknownTopic));
    let other = state.execute(&call(NodeId(0), 0), &Transaction::Config((**state.config()).clone()));
    assert_eq!(other, (Outcome::Rejected(Invalid), None));
}

#[test]
fn a_partition_begins_with_what_its_topic_says() {
    let mut state = state();
    apply(&mut state, 1, SystemChange::CreateTopic(create()));
    let ledger = LedgerId::new(create().id, 2);
    let body = state.first_body(ledger).unwrap();
    assert!(body.checkpoint && body.envelopes.is_empty());
    assert_eq!(body.proposed_time_ms, 1000);
    let config = body.config.clone().unwrap();
    assert_eq!((config.batch_bytes_limit, config.log_append_time), (5000, false));
    assert_eq!(config.origins, state.nodes());
    assert!(may_read(&config, &org("org-1")) && may_write(&config, &org("org-1")), "the owner");
    assert!(may_write(&config, &org("org-2")) && !may_read(&config, &org("org-2")));
    assert!(Contract::begin(ledger, config).is_ok());
    let membership = state.membership(ledger).unwrap();
    assert_eq!(membership.members.iter().map(|member| member.node.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let network = NetworkId(Digest::ZERO);
    let cluster = ClusterId::new(network, ledger, Body::digest(&body.to_bytes()));
    assert_eq!(state.cluster(network, ledger), Some(cluster));
    let beyond = LedgerId::new(create().id, 3);
    assert!(state.first_body(beyond).is_none() && state.membership(beyond).is_none());
}

fn further(state: &SystemState, count: usize) -> AddPartitions {
    let placement = vec![NodeId(1), NodeId(2), NodeId(3), NodeId(4)];
    state.topic(create().id).unwrap().with_further(vec![placement; count])
}

#[test]
fn a_topic_gets_further_partitions_and_keeps_what_it_has() {
    let mut state = state();
    apply(&mut state, 6, SystemChange::CreateTopic(create()));
    let (before, root) = (state.clone(), state.root());
    let add = further(&state, 2);
    let (outcome, event) = apply(&mut state, 1, SystemChange::AddPartitions(add));
    let topic = state.topic_named("lab-results").unwrap().clone();
    assert_eq!((outcome, event), (Outcome::Recorded, Some(SystemEvent::PartitionsAdded(topic.clone()))));
    assert_eq!((topic.partitions.len(), topic.created_ms, state.topic_count()), (5, 1000, 1));
    assert_ne!(state.root(), root);
    let ledger = |partition| LedgerId::new(create().id, partition);
    for partition in 0..3 {
        let body = |state: &SystemState| state.first_body(ledger(partition)).unwrap();
        assert_eq!(body(&state), body(&before), "a ledger that has begun stays the same");
        assert_eq!(state.membership(ledger(partition)), before.membership(ledger(partition)));
    }
    let new = state.membership(ledger(4)).unwrap();
    assert_eq!(new.members.iter().map(|member| member.node.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(state.first_body(ledger(4)).unwrap().proposed_time_ms, 1000);
    assert!(state.first_body(ledger(5)).is_none());
    let mut decoded = SystemState::from_bytes(&state.to_bytes()).unwrap();
    assert_eq!((decoded == state, decoded.root()), (true, state.root()), "the totals, too");
    assert_eq!(apply(&mut state, 1, SystemChange::DeleteTopic(create().id)).0, Outcome::Recorded);
    let gone = apply(&mut state, 1, SystemChange::AddPartitions(further(&before, 1))).0;
    assert_eq!(gone, Outcome::Rejected(UnknownTopic));
}

#[test]
fn what_further_partitions_must_be() {
    let mut state = state();
    apply(&mut state, 1, SystemChange::CreateTopic(create()));
    let good = further(&state, 1);
    let with = |change: fn(&mut AddPartitions)| {
        let mut add = good.clone();
        change(&mut add);
        add
    };
    let table = [
        ("none", with(|add| _ = add.topic.partitions.pop())),
        ("fewer", with(|add| add.topic.partitions.truncate(2))),
        ("others than there are", with(|add| add.topic.partitions[0].reverse())),
        ("three replicas", with(|add| _ = add.topic.partitions[3].pop())),
        ("too many", further(&state, PARTITIONS_PER_TOPIC_MAX - 2)),
        ("another name", with(|add| add.topic.name.push('x'))),
        ("another reader", with(|add| add.topic.readers.push(org("org-3")))),
        ("another writer", with(|add| add.topic.writers.clear())),
        ("other settings", with(|add| add.topic.settings.clear())),
        ("another time", with(|add| add.created_ms += 1)),
        ("another block", with(|add| add.created_height += 1)),
    ];
    let root = state.root();
    for (name, add) in table {
        assert_eq!(apply(&mut state, 1, SystemChange::AddPartitions(add)).0, Outcome::Rejected(Invalid), "{name}");
    }
    let other_owner = apply(&mut state, 2, SystemChange::AddPartitions(good.clone())).0;
    assert_eq!((other_owner, state.root()), (Outcome::Rejected(NotAuthorised), root));
    assert_eq!(apply(&mut state, 1, SystemChange::AddPartitions(good.clone())).0, Outcome::Recorded);
    let late = apply(&mut state, 1, SystemChange::AddPartitions(good)).0;
    assert_eq!(late, Outcome::Rejected(Invalid), "of two at the same time, the second has to look again");
}

#[test]
fn replayed_from_certified_leaves_it_is_the_same_state() {
    let mut executed = state();
    let config = Leaf {
        height: 1,
        time_ms: 7,
        origin: None,
        transaction: Transaction::Config((**executed.config()).clone()),
        outcome: Outcome::Recorded,
    };
    let header = |node| EnvelopeHeader {
        cluster: ClusterId(Digest::ZERO),
        origin: NodeId(node),
        incarnation: 1,
        number: 0,
        count: 1,
        root: Digest::ZERO,
    };
    let second = CreateTopic { name: "other".into(), id: TopicId([2; 16]), ..create() };
    let enlarged = {
        let mut state = state();
        apply(&mut state, 2, SystemChange::CreateTopic(second.clone()));
        let topic = state.topic(second.id).unwrap();
        topic.with_further([vec![NodeId(3)]])
    };
    let changes = [
        (1, SystemChange::CreateTopic(create())),
        (2, SystemChange::CreateTopic(create())),
        (2, SystemChange::CreateTopic(second.clone())),
        (2, SystemChange::AddPartitions(enlarged)),
        (1, SystemChange::DeleteTopic(create().id)),
    ];
    let mut events = Vec::new();
    let mut leaves = Vec::new();
    for (node, change) in changes {
        let (outcome, event) = apply(&mut executed, node, change.clone());
        events.extend(event);
        let origin = Some((header(node), 0));
        leaves.push(Leaf { height: 2, time_ms: 1000, origin, transaction: Transaction::System(change), outcome });
    }
    let mut replayed = None;
    assert_eq!(SystemState::replay(&mut replayed, &leaves), [], "nothing before the configuration");
    assert_eq!(replayed, None);
    SystemState::replay(&mut replayed, &[config]);
    assert_eq!(SystemState::replay(&mut replayed, &leaves), events);
    assert_eq!((events.len(), replayed.as_ref()), (4, Some(&executed)));
    let bytes = executed.to_bytes();
    let mut decoded = SystemState::from_bytes(&bytes).unwrap();
    assert_eq!((&decoded, decoded.to_bytes()), (&executed, bytes));
    assert_eq!(decoded.root(), executed.root());
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut state = state();
    apply(&mut state, 1, SystemChange::CreateTopic(create()));
    let mut before = state.clone();
    let root = before.root();
    apply(&mut state, 1, SystemChange::DeleteTopic(create().id));
    assert_eq!((before.topic_count(), state.topic_count(), before.root()), (1, 0, root));
}

#[test]
fn one_organisation_cannot_fill_everybodys_memory_with_topics() {
    let mut state = state();
    let value = "x".repeat(SETTING_BYTES_MAX);
    let settings = (0..100).map(|number| (format!("setting-{number}"), value.clone())).collect();
    let large = CreateTopic { settings, ..create() };
    let mut named = |node, number: usize| {
        let mut id = [9; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let create = CreateTopic { name: format!("t{number:05}"), id: TopicId(id), ..large.clone() };
        apply(&mut state, node, SystemChange::CreateTopic(create)).0
    };
    let room = (0..).find(|number| named(1, *number) != Outcome::Recorded).unwrap();
    let bytes = large.to_bytes().len();
    assert!(
        (TOPIC_BYTES_PER_ORGANISATION_MAX / (bytes + 50)..=TOPIC_BYTES_PER_ORGANISATION_MAX / bytes).contains(&room)
    );
    assert_eq!(named(2, room + 1), Outcome::Recorded, "another organisation");
    assert_eq!(named(6, room + 2), Outcome::Rejected(Invalid), "another node of the same");
    let mut decoded = SystemState::from_bytes(&state.to_bytes()).unwrap();
    assert_eq!((decoded == state, decoded.root()), (true, state.root()));
    let mut id = [9; 16];
    id[..8].copy_from_slice(&7usize.to_be_bytes());
    // What is deleted makes room again, whether it was executed or restored.
    for mut state in [state, decoded] {
        assert_eq!(apply(&mut state, 1, SystemChange::DeleteTopic(TopicId(id))).0, Outcome::Recorded);
        for (number, expected) in [(1, Outcome::Recorded), (2, Outcome::Rejected(Invalid))] {
            let create = CreateTopic { name: format!("u{number:05}"), id: TopicId([number; 16]), ..large.clone() };
            assert_eq!(apply(&mut state, 1, SystemChange::CreateTopic(create)).0, expected);
        }
    }
}

#[test]
fn the_root_tells_every_part_of_the_state() {
    let mut state = state();
    let mut roots = vec![state.root()];
    let other = CreateTopic { name: "other".into(), id: TopicId([0xf0; 16]), ..create() };
    for change in [
        SystemChange::CreateTopic(create()),
        SystemChange::CreateTopic(other),
        SystemChange::DeleteTopic(create().id),
        SystemChange::CreateTopic(CreateTopic { id: TopicId([2; 16]), ..create() }),
        SystemChange::DeleteTopic(TopicId([2; 16])),
    ] {
        assert_eq!(apply(&mut state, 1, change).0, Outcome::Recorded);
        roots.push(state.root());
        assert_eq!(SystemState::from_bytes(&state.to_bytes()).unwrap().root(), state.root());
    }
    roots.sort();
    roots.dedup();
    assert_eq!(roots.len(), 6);
    let mut other = SystemState::new(Arc::new(Config { version: 2, ..(**state.config()).clone() }));
    assert!(!roots.contains(&other.root()), "the configuration counts");
}

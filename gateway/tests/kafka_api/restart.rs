//! What is the same after every node has been restarted: names, sequences of producers, generations, positions.

use crate::client::Client;
use crate::groups::{Member, commit_noted, committed_noted, join_request};
use crate::idempotence::{numbered, producer_id};
use crate::requests::*;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;
use waybill_gateway::dev::{Dev, Options};
use waybill_gateway::telemetry;

/// How the nodes come to their end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// They write down what they know.
    Told,
    /// Their tasks stop where they are.
    Killed,
}

/// A network of its own, for this test stops it.
struct Network {
    runtime: Runtime,
    dir: PathBuf,
    dev: Dev,
}

impl Network {
    fn start(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // A remnant of an earlier run, if there is one.
        let _ = std::fs::remove_dir_all(&dir);
        Self::start_in(dir)
    }

    /// As a process that ends: with its runtime go the tasks that still hold the node's files.
    fn restart(self, end: End) -> Self {
        let Network { runtime, dir, dev } = self;
        match end {
            End::Told => runtime.block_on(dev.shutdown()),
            End::Killed => drop(dev),
        }
        drop(runtime);
        Self::start_in(dir)
    }

    fn start_in(dir: PathBuf) -> Self {
        let options = Options::new(dir.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let dev = runtime.block_on(Dev::start(options, telemetry::metrics())).expect("the network starts");
        Network { runtime, dir, dev }
    }

    fn acme(&self) -> SocketAddr {
        self.dev.endpoints().organisations[0].kafka
    }

    fn stop(self) {
        self.runtime.block_on(self.dev.shutdown());
        std::fs::remove_dir_all(&self.dir).expect("its files are ours");
    }
}

/// Cluster, node, topic and leader epoch, as clients are told.
fn names(client: &mut Client, name: &str) -> (Option<String>, i32, uuid::Uuid, i32) {
    wait_until_known(client, name);
    let response = client.ask(12, &named(name).with_allow_auto_topic_creation(false));
    let topic = &response.topics[0];
    let epoch = topic.partitions[0].leader_epoch;
    (response.cluster_id.map(|id| id.to_string()), response.brokers[0].node_id.0, topic.topic_id, epoch)
}

#[test]
fn a_restart_changes_no_name_and_forgets_no_sequence_no_generation_and_no_position() {
    remembers_all("kafka-api-restart", End::Told);
}

#[test]
fn nodes_that_are_killed_forget_nothing_that_they_have_answered() {
    remembers_all("kafka-api-killed", End::Killed);
}

fn remembers_all(dir: &str, end: End) {
    let (topic, dynamic, fixed) = ("restart-topic", "restart-dynamic", "restart-static");
    let network = Network::start(dir);
    let mut client = Client::connect(network.acme());
    assert_eq!(create(&mut client, creatable(topic)).error_code, 0);
    let names_before = names(&mut client, topic);
    let producer = producer_id(&mut client);
    for sequence in 0..7 {
        assert_eq!(append(&mut client, topic, numbered(producer, 4, sequence, 1)), i64::from(sequence));
    }
    let mut member = Member::join(&mut client, dynamic);
    assert_eq!(member.sync(&mut client, &[(member.id.clone(), "its share")]), (0, "its share".into()));
    assert_eq!(commit_noted(&mut client, &member, topic, 3, "half way \u{1F69A}"), 0);
    let desk = join_request(fixed, 9).with_group_instance_id(Some(text("desk-1")));
    let mut before = Member::joined(fixed, Some("desk-1"), &client.ask(9, &desk));
    assert_eq!(before.sync(&mut client, &[(before.id.clone(), "the desk's share")]).0, 0);

    let network = network.restart(end);
    let mut client = Client::connect(network.acme());
    assert_eq!(names(&mut client, topic), names_before);
    eventually("the node has executed all of it again", || {
        listed(&mut client, 8, &list_offsets_request(topic, 0, -1)).offset == 7
    });
    let mut sent = |epoch, sequence| {
        let produced = produce(&mut client, topic, numbered(producer, epoch, sequence, 1));
        (produced.error_code, produced.base_offset)
    };
    for sequence in 2..7 {
        assert_eq!(sent(4, sequence), (0, i64::from(sequence)), "the last five are known as repetitions");
    }
    assert_eq!(sent(4, 1), (code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
    assert_eq!(sent(3, 7), (code::INVALID_PRODUCER_EPOCH, -1));
    assert_eq!(sent(4, 7), (0, 7), "and the sequence goes on");
    assert_ne!(producer_id(&mut client), producer, "no id is given twice");

    assert_eq!(member.heartbeat(&mut client), 0, "the member is in its generation");
    assert_eq!(member.sync(&mut client, &[]), (0, "its share".into()));
    assert_eq!(committed_noted(&mut client, dynamic), [(topic.to_string(), 3, "half way \u{1F69A}".to_string())]);
    assert_eq!(commit_noted(&mut client, &member, topic, 4, ""), 0);
    // A static member that was restarted together with the coordinator.
    let mut after = Member::joined(fixed, Some("desk-1"), &client.ask(9, &desk));
    assert_eq!(after.generation, before.generation);
    assert_eq!(after.sync(&mut client, &[]), (0, "the desk's share".into()));
    assert_eq!(before.heartbeat(&mut client), code::FENCED_INSTANCE_ID);
    network.stop();
}

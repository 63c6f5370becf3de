//! Submissions, and the bounds of what peers and origins can make a replica hold.

use super::cluster::{Cluster, body, envelope};
use super::normal::pre_prepare;
use crate::io::{Event, Input};
use crate::message::{Fetch, Message, Status};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use waybill_types::{Body, Digest};

fn status() -> Message {
    Message::Status(Status { view: 0, changing: false, wish: 0, stable: 0, executed: 0, slots: Bytes::new() })
}

#[test]
fn a_submission_reaches_the_ledger_once_however_often_it_is_sent() {
    let mut cluster = Cluster::new(4);
    let envelope = cluster.envelope(2);
    for _ in 0..3 {
        cluster.input(2, Input::Submit(envelope.clone()));
    }
    cluster.run();
    for index in 0..4 {
        cluster.inject(2, (index + 1) % 4, &Message::Submit(envelope.clone()));
        cluster.inject(2, (index + 1) % 4, &Message::Complain(envelope.clone()));
    }
    cluster.run();
    cluster.pass(2_000);
    assert_eq!(cluster.effective(1), [(2, 0)]);
    assert!(cluster.nodes.iter().all(|node| node.replica.as_ref().unwrap().next_timeout().is_none()));
}

#[test]
fn a_lost_submission_is_complained_about_and_executed_in_the_same_view() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let origin = (primary + 1) % 4;
    cluster.pass_only(move |from, _, message| usize::from(from) != origin || !matches!(message, Message::Submit(_)));
    cluster.submit(origin);
    assert!(cluster.effective(origin).is_empty());
    cluster.pass(450);
    assert_eq!(cluster.effective(origin).len(), 1);
    assert_eq!(cluster.replica(origin).view(), 0);
}

#[test]
fn an_envelope_of_a_node_without_a_replica_is_brought_to_execution() {
    let mut cluster = Cluster::with(4, |config| {
        let outsider = crate::simulator::keys::Keys::of(50, false).public();
        config.origins.insert(waybill_types::NodeId(50), outsider);
    });
    let keys = crate::simulator::keys::Keys::of(50, false);
    let outsider = envelope(&cluster.nodes[0].config, &keys, 50, 0);
    cluster.input(3, Input::Submit(outsider));
    cluster.run();
    assert_eq!(cluster.effective(0), [(50, 0)]);
}

#[test]
fn a_replica_takes_as_much_as_it_has_room_for() {
    let mut cluster = Cluster::with(4, |config| config.limits.origin_envelopes = 3);
    cluster.pass_only(|_, _, _| false);
    let origin = (cluster.primary_of(0) + 1) % 4;
    for room in [3, 2, 1, 0] {
        assert_eq!(cluster.replica(origin).room(), room);
        cluster.submit(origin);
    }
    let dropped = |event: &&Event| matches!(event, Event::SubmissionDropped { number: 3, .. });
    assert_eq!(cluster.nodes[origin].events.iter().filter(dropped).count(), 1);
}

#[test]
fn an_origin_cannot_set_a_correct_primary_up_with_two_incarnations() {
    let mut cluster = Cluster::new(4);
    let primary = cluster.primary_of(0);
    let liar = (primary + 1) % 4;
    // To the primary it shows the middle of a later life, to the backups the beginning of an earlier one.
    let early = cluster.envelope(liar);
    let node = &cluster.nodes[liar];
    let mut later = envelope(&node.config, &node.keys, liar as u32, 5);
    later.header.incarnation = 2;
    later.signature = crate::Signatures::sign(&node.keys, &later.header.preimage());
    cluster.inject(liar, primary, &Message::Submit(later));
    for backup in (0..4).filter(|index| *index != primary && *index != liar) {
        cluster.inject(liar, backup, &Message::Complain(early.clone()));
    }
    cluster.run();
    cluster.pass(3_000);
    assert_eq!(cluster.effective(0), [(liar as u32, 0)]);
    assert!(cluster.nodes.iter().all(|node| node.replica.as_ref().unwrap().view() == 0));
}

#[test]
fn origins_take_turns_when_a_body_cannot_hold_all() {
    let mut cluster = Cluster::with(4, |config| {
        config.limits.body_envelopes = 2;
        config.limits.window = 1;
    });
    let primary = cluster.primary_of(0);
    let (greedy, modest) = ((primary + 1) % 4, (primary + 2) % 4);
    for _ in 0..20 {
        let envelope = cluster.envelope(greedy);
        cluster.input(primary, Input::Submit(envelope));
    }
    let envelope = cluster.envelope(modest);
    cluster.input(primary, Input::Submit(envelope));
    cluster.run();
    let place = cluster.effective(0).iter().position(|(origin, _)| *origin as usize == modest).unwrap();
    assert!(place <= 6, "it came {place}th");
}

#[test]
fn what_lies_beyond_the_watermarks_or_the_window_is_not_held() {
    let mut cluster = Cluster::with(4, |config| {
        config.checkpoint_interval = 64;
        config.limits.window = 2;
    });
    let primary = cluster.primary_of(0);
    let backup = (primary + 1) % 4;
    let envelope = cluster.envelope(primary);
    cluster.pass_only(|_, _, _| false);
    let height = cluster.heights()[0];
    for sequence in (height + 2)..(height + 200) {
        let proposal = pre_prepare(&cluster, 0, sequence, body(vec![envelope.clone()]));
        cluster.inject(primary, backup, &proposal);
    }
    let replica = cluster.nodes[backup].replica.as_ref().unwrap();
    let held = replica.log.after(0).filter(|(_, slot)| slot.offer.is_some()).count();
    assert!(held <= 8, "{held} bodies of proposals that cannot be accepted");
}

#[test]
fn a_peer_that_floods_with_questions_is_answered_at_a_limited_rate() {
    let mut cluster = Cluster::new(4);
    cluster.submit(0);
    cluster.pass_only(|_, _, _| false);
    cluster.nodes[1].sent.clear();
    let digest = Body::digest(&cluster.nodes[1].ledger.block(2).unwrap().body);
    for _ in 0..1000 {
        cluster.inject(2, 1, &status());
        cluster.inject(2, 1, &Message::Fetch(Fetch { sequence: 2, digest }));
    }
    assert!(cluster.nodes[1].sent.len() < 60, "{} answers", cluster.nodes[1].sent.len());
}

#[test]
fn extreme_numbers_from_a_peer_do_no_harm() {
    let mut cluster = Cluster::new(4);
    let max = u64::MAX;
    let digest = Digest([1; 32]);
    let messages: Vec<Message> = vec![
        Message::Status(Status {
            view: max,
            changing: true,
            wish: max,
            stable: max,
            executed: max,
            slots: Bytes::from_static(&[1, 2, 3, 9]),
        }),
        Message::Status(Status {
            view: 0,
            changing: false,
            wish: 0,
            stable: max,
            executed: max - 1,
            slots: Bytes::from_static(&[1, 2, 3, 9]),
        }),
        Message::Fetch(Fetch { sequence: max, digest }),
        Message::Commit(crate::message::Commit { view: max, sequence: max, digest }),
        Message::Commit(crate::message::Commit { view: max, sequence: 3, digest }),
        super::normal::prepare(&cluster, 1, max, max, digest),
        super::normal::prepare(&cluster, 1, max, 3, digest),
        pre_prepare(&cluster, max, max, Body::default_bytes()),
        pre_prepare(&cluster, max, 3, Body::default_bytes()),
    ];
    for message in messages {
        for to in [0, 2, 3] {
            cluster.inject(1, to, &message);
        }
    }
    cluster.run();
    cluster.submit(2);
    cluster.pass(1_000);
    assert_eq!(cluster.effective(0), [(2, 0)]);
    assert!([0, 2, 3].iter().all(|index| cluster.replica(*index).view() == 0));
}

#[test]
fn garbage_is_blamed_on_its_sender() {
    let mut cluster = Cluster::new(4);
    let valid = status().to_wire(1);
    let mut trailing = valid.to_vec();
    trailing.push(0);
    for bytes in [Bytes::new(), valid.slice(..valid.len() - 1), Bytes::from(trailing), Bytes::from(vec![0xff; 64])] {
        cluster.input(0, Input::Message { from: 3, bytes });
    }
    let blamed = |event: &&Event| matches!(event, Event::PeerMisbehaved { peer: 3, .. });
    assert_eq!(cluster.nodes[0].events.iter().filter(blamed).count(), 4);
    cluster.input(0, Input::Message { from: 3, bytes: status().to_wire(2) });
    assert_eq!(cluster.nodes[0].events.iter().filter(blamed).count(), 4, "another epoch is no crime");
}

/// The null request's bytes.
trait DefaultBytes {
    fn default_bytes() -> Bytes;
}

impl DefaultBytes for Body {
    fn default_bytes() -> Bytes {
        waybill_types::Codec::to_bytes(&Body::default())
    }
}

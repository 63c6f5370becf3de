//! Leaders that go, members that come back, partitions, losses, snapshots.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::super::{BarrierError, COMMAND_BYTES_MAX, WriteError};
use super::harness::{Cluster, PATIENCE, Tally, copy_dir, soon};

#[tokio::test]
async fn a_group_of_one_leads_itself_and_finds_everything_again() {
    let mut cluster = Cluster::start(1).await;
    cluster.write_many(1, "before", 5).await;
    cluster.stop_all().await;
    cluster.start_all().await;
    assert_eq!(cluster.write(1, "after").await, "5:after");
    cluster.group(1).barrier(PATIENCE).await.unwrap();
    assert_eq!(cluster.converges(6).await.len(), 6);
}

#[tokio::test]
async fn what_was_answered_survives_a_crash_at_any_time() {
    let mut cluster = Cluster::start(1).await;
    cluster.write_many(1, "c", 20).await;
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(&cluster.journal_dir(1), crashed.path());
    cluster.write_many(1, "later", 3).await;
    cluster.stop_all().await;
    std::fs::remove_dir_all(cluster.journal_dir(1)).unwrap();
    copy_dir(crashed.path(), &cluster.journal_dir(1));
    cluster.start_all().await;
    assert_eq!(cluster.write(1, "after").await, "20:after");
}

#[tokio::test]
async fn commands_that_wait_together_share_an_entry() {
    let cluster = Cluster::start(1).await;
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let group = cluster.group(1).clone();
        writes.spawn(async move { group.write(Bytes::from(format!("c{number}")), PATIENCE).await });
    }
    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
    }
    let commands: BTreeSet<Bytes> = cluster.converges(1000).await.into_iter().collect();
    assert_eq!(commands.len(), 1000);
    let last_index = cluster.group(1).status().last_index.unwrap();
    assert!(last_index < 250, "1000 commands took {last_index} entries");
}

#[tokio::test]
async fn every_member_takes_writes_and_all_apply_the_same() {
    let cluster = Cluster::start(3).await;
    for id in [1, 2, 3] {
        cluster.write_many(id, &format!("at{id}-"), 10).await;
    }
    assert_eq!(cluster.converges(30).await.len(), 30);
}

#[tokio::test]
async fn a_read_behind_a_barrier_sees_what_was_written_elsewhere() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.followers(leader)[0];
    for number in 0..20 {
        cluster.write(leader, &format!("c{number}")).await;
        cluster.group(follower).barrier(PATIENCE).await.unwrap();
        assert_eq!(cluster.running[&follower].machine.commands().len(), number + 1);
    }
    cluster.net.set_cut_off(follower, &cluster.ids, true);
    let blind = cluster.group(follower).barrier(Duration::from_millis(200)).await;
    assert_eq!(blind, Err(BarrierError::NoAnswer));
}

#[tokio::test]
async fn when_the_leader_stops_the_others_go_on_and_it_catches_up_when_it_is_back() {
    let mut cluster = Cluster::start(3).await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        cluster.write_many(leader, &format!("round{round}-"), 10).await;
        cluster.stop_member(leader).await;
        let rest = cluster.followers(leader);
        cluster.write_many(rest[0], &format!("without{leader}-"), 10).await;
        cluster.start_member(leader).await;
        cluster.converges(20 * (round + 1)).await;
    }
}

#[tokio::test]
async fn a_group_that_was_off_has_lost_nothing() {
    let mut cluster = Cluster::start(3).await;
    cluster.write_many(2, "c", 25).await;
    cluster.converges(25).await;
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.write_many(3, "d", 5).await;
    cluster.converges(30).await;
}

#[tokio::test]
async fn a_member_that_was_away_for_long_gets_a_snapshot() {
    let mut cluster = Cluster::off(3);
    cluster.options.snapshot_after_entries = 20;
    cluster.options.kept_entries = 5;
    cluster.options.snapshot_chunk_bytes = 100;
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let [away, other] = cluster.followers(leader)[..] else { unreachable!() };
    cluster.write_many(leader, "early", 10).await;
    cluster.converges(10).await;
    cluster.stop_member(away).await;
    cluster.write_many(other, "meanwhile", 100).await;
    cluster.status_of(leader, |status| status.purged_index >= Some(40)).await;

    cluster.start_member(away).await;
    cluster.converges(110).await;
    assert!(cluster.running[&away].machine.installs.load(Ordering::Relaxed) >= 1);
    cluster.write_many(away, "late", 10).await;
    cluster.converges(120).await;

    // What it got is its own now: the others are not needed to find it again.
    cluster.stop_all().await;
    cluster.start_member(away).await;
    let machine = &cluster.running[&away].machine;
    assert!(machine.commands().len() >= 110, "{}", machine.commands().len());
    cluster.start_member(leader).await;
    cluster.start_member(other).await;
    cluster.write(other, "end").await;
    cluster.converges(121).await;
}

#[tokio::test]
async fn a_log_of_large_entries_is_shortened_by_bytes_and_not_more_often_than_the_state_is_large() {
    let mut cluster = Cluster::off(1);
    cluster.options.snapshot_after_bytes = 100_000;
    cluster.options.kept_bytes = 20_000;
    cluster.start_all().await;
    let command = |number: u8| Bytes::from(vec![number; 10_000]);
    let mut snapshots = BTreeSet::new();
    for number in 0..100 {
        cluster.group(1).write(command(number), PATIENCE).await.unwrap();
        snapshots.extend(cluster.group(1).status().snapshot_index);
    }
    // The machine keeps all, so each snapshot must wait for a quarter of the last one: at 100, 200, 300, 400, 500, 625, 781, 976 kB.
    assert!((3..=9).contains(&snapshots.len()), "{snapshots:?}");
    let last = snapshots.last().unwrap() - 2;
    let status = cluster.status_of(1, |status| status.purged_index >= Some(last)).await;
    assert!(status.purged_index <= status.snapshot_index, "{status:?}");

    cluster.stop_all().await;
    cluster.start_all().await;
    assert_eq!(cluster.converges(100).await, (0..100).map(command).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_leader_that_is_cut_off_answers_nothing_and_what_only_it_has_is_undone() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.write_many(leader, "before", 5).await;
    cluster.converges(5).await;
    cluster.net.set_cut_off(leader, &cluster.ids, true);
    let alone = cluster.group(leader).write(Bytes::from_static(b"alone"), Duration::from_millis(300)).await;
    assert_eq!(alone, Err(WriteError::NoAnswer));

    let rest = cluster.followers(leader);
    let next = cluster.leader_among(&rest).await;
    cluster.write_many(next, "without", 5).await;
    cluster.net.set_cut_off(leader, &cluster.ids, false);
    let commands = cluster.converges(10).await;
    assert!(!commands.contains(&Bytes::from_static(b"alone")));

    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.write(leader, "end").await;
    assert!(!cluster.converges(11).await.contains(&Bytes::from_static(b"alone")));
}

#[tokio::test]
async fn a_member_that_was_cut_off_does_not_depose_the_leader_when_it_is_back() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let away = cluster.followers(leader)[0];
    cluster.write(leader, "before").await;
    cluster.converges(1).await;
    let term = cluster.group(leader).status().term;
    cluster.net.set_cut_off(away, &cluster.ids, true);
    // Long enough for several elections; there is nothing to wait for, since nothing may happen.
    tokio::time::sleep(cluster.options.election_max * 4).await;
    assert_eq!(cluster.group(away).status().term, term);
    cluster.net.set_cut_off(away, &cluster.ids, false);
    cluster.write(away, "after").await;
    cluster.converges(2).await;
    let status = cluster.group(leader).status();
    assert_eq!((status.leader, status.term), (Some(leader), term));
}

#[tokio::test]
async fn on_links_that_lose_every_tenth_message_all_writes_are_answered_and_all_members_agree() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    cluster.net.lose_one_of.store(10, Ordering::Relaxed);
    let mut writes = tokio::task::JoinSet::new();
    for id in [1, 2, 3] {
        for number in 0..50 {
            let group = cluster.group(id).clone();
            let command = Bytes::from(format!("at{id}-{number}"));
            writes.spawn(async move { (group.write(command.clone(), PATIENCE).await, command) });
        }
    }
    while let Some(written) = soon(writes.join_next()).await {
        let (answer, command) = written.unwrap();
        assert!(answer.unwrap().ends_with(&command));
    }
    cluster.net.lose_one_of.store(0, Ordering::Relaxed);
    cluster.write(cluster.leader().await, "end").await;
    for member in cluster.running.values() {
        member.group.barrier(PATIENCE).await.unwrap();
    }
    let commands = cluster.converges(151).await;
    // At least once: a command whose answer was lost may be there twice.
    assert_eq!(commands.iter().collect::<BTreeSet<_>>().len(), 151);
}

#[tokio::test]
async fn a_group_starts_when_a_majority_is_there_whoever_is_missing() {
    let mut cluster = Cluster::off(4);
    for id in [4, 3, 2] {
        cluster.start_member(id).await;
    }
    cluster.write_many(3, "c", 3).await;
    cluster.start_member(1).await;
    cluster.converges(3).await;
}

#[tokio::test]
async fn large_commands_travel_and_too_large_ones_do_not() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.followers(cluster.leader().await)[0];
    let large = Bytes::from(vec![7; 3 << 20]);
    let answer = cluster.group(follower).write(large.clone(), PATIENCE).await.unwrap();
    assert!(answer.ends_with(&large));
    cluster.converges(1).await;
    let bytes = COMMAND_BYTES_MAX + 1;
    let refused = cluster.group(follower).write(Bytes::from(vec![0; bytes]), PATIENCE).await;
    assert_eq!(refused, Err(WriteError::TooLong { bytes }));
}

#[tokio::test]
async fn an_append_that_takes_longer_than_a_heartbeat_is_sent_once() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.write(leader, "before").await;
    let delay_ms = cluster.options.heartbeat.as_millis() as u64 * 4;
    cluster.net.large_delay_ms.store(delay_ms, Ordering::Relaxed);
    cluster.net.large_bytes.store(100_000, Ordering::Relaxed);
    let counted_before = cluster.net.large_requests.load(Ordering::Relaxed);
    cluster.group(leader).write(Bytes::from(vec![7; 200_000]), PATIENCE).await.unwrap();
    cluster.converges(2).await;
    let counted = cluster.net.large_requests.load(Ordering::Relaxed) - counted_before;
    assert_eq!(counted, 2, "one to each follower");
}

#[tokio::test]
async fn a_crash_between_a_received_snapshot_and_its_installation_loses_nothing() {
    let mut cluster = Cluster::off(3);
    cluster.options.snapshot_after_entries = 20;
    cluster.options.kept_entries = 0;
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let away = cluster.followers(leader)[0];
    cluster.write_many(leader, "early", 10).await;
    cluster.converges(10).await;
    cluster.stop_member(away).await;
    cluster.write_many(leader, "meanwhile", 60).await;
    cluster.status_of(leader, |status| status.purged_index >= Some(30)).await;

    cluster.start_member_with(away, Tally::that_fails_to_install()).await;
    cluster.status_of(away, |status| status.stopped.is_some()).await;
    cluster.stop_member(away).await;
    cluster.start_member(away).await;
    cluster.write(away, "end").await;
    cluster.converges(71).await;
}

#[tokio::test]
async fn a_member_whose_machine_fails_stops_and_says_so() {
    let cluster = Cluster::start(1).await;
    cluster.write_many(1, "c", 3).await;
    *cluster.running[&1].machine.fails_at.lock() = Some(3);
    let failed = cluster.group(1).write(Bytes::from_static(b"fails"), PATIENCE).await;
    assert_eq!(failed, Err(WriteError::Stopped));
    let status = cluster.status_of(1, |status| status.stopped.is_some()).await;
    assert!(status.stopped.is_some_and(|why| why.contains("the storage is gone")));
}

#[tokio::test]
async fn a_stopped_member_says_so() {
    let mut cluster = Cluster::start(1).await;
    cluster.write(1, "c").await;
    let group = cluster.group(1).clone();
    cluster.stop_all().await;
    assert_eq!(group.write(Bytes::from_static(b"late"), PATIENCE).await, Err(WriteError::Stopped));
    assert_eq!(group.barrier(PATIENCE).await, Err(BarrierError::Stopped));
    assert!(group.status().stopped.is_some());
}

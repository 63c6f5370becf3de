//! A member that lies: it is refused, and the group goes on.

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteRequest};
use openraft::{CommittedLeaderId, EntryPayload, LeaderId};

use super::super::message::{ChunkAnswer, Request, Response};
use super::super::snapshot::{Applied, Snapshots};
use super::super::types::{Entry, LogId, Membership, StoredMembership, TypeConfig, Vote};
use super::super::wire::Wire;
use super::harness::{Cluster, PATIENCE, Tally};

async fn ask(cluster: &Cluster, from: u64, to: u64, request: &Request) -> Response {
    let answer = cluster.group(to).handle(from, request.to_wire()).await;
    let Ok(response) = Response::from_wire(&answer) else { unreachable!("{answer:?}") };
    response
}

async fn assert_refused(cluster: &Cluster, from: u64, to: u64, request: Request) {
    let response = ask(cluster, from, to, &request).await;
    assert!(matches!(response, Response::Refused(_)), "{:?}", request.to_wire());
}

fn leader_vote(term: u64, node_id: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id }, committed: true }
}

fn blank(term: u64, node: u64, index: u64) -> Entry {
    Entry { log_id: LogId::new(CommittedLeaderId::new(term, node), index), payload: EntryPayload::Blank }
}

fn append(vote: Vote, prev_log_id: Option<LogId>, entries: Vec<Entry>) -> Request {
    Request::Append(AppendEntriesRequest { vote, prev_log_id, leader_commit: None, entries })
}

#[tokio::test]
async fn garbage_strangers_and_impostors_are_refused() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let victim = cluster.followers(leader)[0];
    cluster.write_many(victim, "before", 3).await;
    cluster.converges(3).await;

    for garbage in [&b""[..], b"\x00", b"\xff\xff\xff\xff\xff", &[1; 40], &[4, 0xff, 0xff, 0xff, 0xff]] {
        let answer = cluster.group(victim).handle(leader, Bytes::copy_from_slice(garbage)).await;
        assert!(matches!(Response::from_wire(&answer), Ok(Response::Refused(_))), "{garbage:?}");
    }
    let liar = cluster.followers(leader)[1];
    let after = 1000;
    assert_refused(&cluster, 99, victim, Request::ReadIndex).await;
    assert_refused(&cluster, liar, victim, append(leader_vote(after, leader), None, vec![])).await;
    let vote = |vote| Request::Vote(VoteRequest { vote, last_log_id: None });
    assert_refused(&cluster, liar, victim, vote(Vote::new(after, leader))).await;
    assert_refused(&cluster, liar, victim, vote(leader_vote(after, liar))).await;
    assert_refused(&cluster, liar, victim, vote(Vote::new(u64::MAX, liar))).await;
    assert_refused(&cluster, liar, victim, append(leader_vote(u64::MAX, liar), None, vec![])).await;

    cluster.write_many(victim, "after", 3).await;
    cluster.converges(6).await;
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test]
async fn a_false_leader_cannot_break_the_log_or_change_the_membership() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let [liar, victim] = cluster.followers(leader)[..] else { unreachable!() };
    cluster.write_many(victim, "before", 3).await;
    cluster.converges(3).await;
    cluster.group(victim).barrier(PATIENCE).await.unwrap();
    let (term, last) = (cluster.group(victim).status().term + 1, cluster.group(victim).status().last_index.unwrap());
    let vote = leader_vote(term, liar);
    let prev = Some(blank(term, liar, last).log_id);

    assert_refused(&cluster, liar, victim, append(vote, prev, vec![blank(term, liar, last + 2)])).await;
    assert_refused(&cluster, liar, victim, append(vote, None, vec![blank(term, liar, 1)])).await;
    assert_refused(&cluster, liar, victim, append(vote, prev, vec![blank(term + 1, liar, last + 1)])).await;
    assert_refused(&cluster, liar, victim, append(vote, prev, vec![blank(0, liar, last + 1)])).await;
    let mine = Membership::new(vec![BTreeSet::from([liar])], BTreeSet::from([liar]));
    let takeover = Entry { payload: EntryPayload::Membership(mine), ..blank(term, liar, last + 1) };
    assert_refused(&cluster, liar, victim, append(vote, prev, vec![takeover])).await;

    // In place of what is committed it can put nothing.
    assert_refused(&cluster, liar, victim, append(vote, None, vec![blank(term, liar, 0), blank(term, liar, 1)])).await;
    assert_refused(&cluster, liar, victim, append(vote, prev, vec![])).await;

    // It may win an election and be taken for a leader: then the others elect another one.
    ask(&cluster, liar, victim, &append(vote, None, vec![])).await;
    assert_eq!(cluster.status_of(victim, |status| status.term >= term).await.leader, Some(liar));
    cluster.write_many(leader, "after", 3).await;
    let commands = cluster.converges(6).await;
    assert_eq!(commands[..3], ["before0", "before1", "before2"]);
}

#[tokio::test]
async fn a_snapshot_that_does_not_prove_itself_is_refused_and_the_member_lives_on() {
    let mut cluster = Cluster::off(3);
    cluster.start_member(1).await;
    cluster.start_member(2).await;
    cluster.start_member_with(3, Tally::distrustful()).await;
    cluster.write_many(1, "c", 3).await;
    cluster.converges(3).await;
    let leader = cluster.leader().await;
    let liar = if leader == 1 { 2 } else { 1 };
    let term = cluster.group(3).status().term + 1;

    let dir = tempfile::tempdir().unwrap();
    let own = Membership::new(vec![cluster.ids.clone()], cluster.ids.clone());
    let forged = |membership| {
        let log_id = Some(blank(term, liar, 1000).log_id);
        let applied = Applied { log_id, partial: 0, membership: StoredMembership::new(None, membership) };
        let stored = Snapshots::open(dir.path()).unwrap().make(|_| Ok(applied.to_wire())).unwrap();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut stored.open().unwrap(), &mut data).unwrap();
        let vote = leader_vote(term, liar);
        InstallSnapshotRequest::<TypeConfig> { vote, meta: stored.meta, offset: 0, data, done: true }
    };
    assert_refused(&cluster, liar, 3, Request::SnapshotChunk(forged(own.clone()))).await;
    let other = Membership::new(vec![BTreeSet::from([liar])], BTreeSet::from([liar]));
    assert_refused(&cluster, liar, 3, Request::SnapshotChunk(forged(other))).await;
    let mut damaged = forged(own.clone());
    damaged.data[10] ^= 1;
    assert_refused(&cluster, liar, 3, Request::SnapshotChunk(damaged)).await;
    let mut in_the_middle = forged(own);
    in_the_middle.offset = 77;
    let answer = ask(&cluster, liar, 3, &Request::SnapshotChunk(in_the_middle)).await;
    assert!(matches!(answer, Response::SnapshotChunk(ChunkAnswer::Mismatch)));

    assert_eq!(std::fs::read_dir(cluster.snapshot_dir(3)).unwrap().count(), 0);
    cluster.write_many(3, "d", 3).await;
    cluster.converges(6).await;
}

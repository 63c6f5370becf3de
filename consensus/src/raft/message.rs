//! What members of a group ask each other. One request, one answer, each a tag and its content.

use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse};
use waybill_types::codec::{DecodeError, Reader};

use super::types::{Commands, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use super::wire::Wire;

pub(super) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    SnapshotChunk(InstallSnapshotRequest<TypeConfig>),
    /// Propose these commands: the asker takes the asked for the leader.
    Write(Commands),
    /// Up to which index must somebody have applied who is to read everything that is committed now?
    ReadIndex,
    /// Would you vote for somebody whose log ends here?
    Poll(Option<LogId>),
}

pub(super) enum Response {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    SnapshotChunk(ChunkAnswer),
    Write(Vec<Bytes>),
    ReadIndex(Option<u64>),
    Poll(bool),
    /// The asked is not the leader, but may know who is.
    NotLeader(Option<u64>),
    /// The asked cannot or will not, for this reason.
    Refused(String),
}

/// The answer to a chunk of a snapshot.
pub(super) enum ChunkAnswer {
    Taken(Vote),
    /// The chunk does not continue what came before: begin again.
    Mismatch,
}

impl Wire for Request {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Request::Append(append) => {
                out.push(1);
                append.vote.put(out);
                append.prev_log_id.put(out);
                append.leader_commit.put(out);
                append.entries.put(out);
            }
            Request::Vote(vote) => {
                out.push(2);
                vote.vote.put(out);
                vote.last_log_id.put(out);
            }
            Request::SnapshotChunk(chunk) => {
                out.push(3);
                chunk.vote.put(out);
                put_meta(&chunk.meta, out);
                chunk.offset.put(out);
                chunk.done.put(out);
                out.extend_from_slice(&chunk.data);
            }
            Request::Write(commands) => {
                out.push(4);
                commands.put(out);
            }
            Request::ReadIndex => out.push(5),
            Request::Poll(last_log_id) => {
                out.push(6);
                last_log_id.put(out);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match u8::read(input)? {
            1 => {
                let (vote, prev_log_id, leader_commit) =
                    (Vote::read(input)?, Option::read(input)?, Option::read(input)?);
                Request::Append(AppendEntriesRequest { vote, prev_log_id, leader_commit, entries: Vec::read(input)? })
            }
            2 => Request::Vote(VoteRequest { vote: Vote::read(input)?, last_log_id: Option::read(input)? }),
            3 => {
                let (vote, meta) = (Vote::read(input)?, take_meta(input)?);
                let (offset, done) = (u64::read(input)?, bool::read(input)?);
                let data = input.take(input.remaining())?.to_vec();
                Request::SnapshotChunk(InstallSnapshotRequest { vote, meta, offset, data, done })
            }
            4 => Request::Write(Commands::read(input)?),
            5 => Request::ReadIndex,
            6 => Request::Poll(Option::read(input)?),
            tag => return Err(DecodeError::UnknownTag(tag)),
        })
    }
}

impl Wire for Response {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Response::Append(AppendEntriesResponse::Success) => out.extend([1, 0]),
            Response::Append(AppendEntriesResponse::PartialSuccess(upto)) => {
                out.extend([1, 1]);
                upto.put(out);
            }
            Response::Append(AppendEntriesResponse::Conflict) => out.extend([1, 2]),
            Response::Append(AppendEntriesResponse::HigherVote(vote)) => {
                out.extend([1, 3]);
                vote.put(out);
            }
            Response::Vote(answer) => {
                out.push(2);
                answer.vote.put(out);
                answer.vote_granted.put(out);
                answer.last_log_id.put(out);
            }
            Response::SnapshotChunk(ChunkAnswer::Taken(vote)) => {
                out.extend([3, 0]);
                vote.put(out);
            }
            Response::SnapshotChunk(ChunkAnswer::Mismatch) => out.extend([3, 1]),
            Response::Write(answers) => {
                out.push(4);
                Commands(Arc::from(answers.as_slice())).put(out);
            }
            Response::ReadIndex(index) => {
                out.push(5);
                index.put(out);
            }
            Response::Poll(granted) => {
                out.push(6);
                granted.put(out);
            }
            Response::NotLeader(leader) => {
                out.push(7);
                leader.put(out);
            }
            Response::Refused(why) => {
                out.push(8);
                why.put(out);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match u8::read(input)? {
            1 => Response::Append(match u8::read(input)? {
                0 => AppendEntriesResponse::Success,
                1 => AppendEntriesResponse::PartialSuccess(Option::read(input)?),
                2 => AppendEntriesResponse::Conflict,
                3 => AppendEntriesResponse::HigherVote(Vote::read(input)?),
                tag => return Err(DecodeError::UnknownTag(tag)),
            }),
            2 => {
                let (vote, granted) = (Vote::read(input)?, bool::read(input)?);
                Response::Vote(VoteResponse { vote, vote_granted: granted, last_log_id: Option::read(input)? })
            }
            3 => Response::SnapshotChunk(match u8::read(input)? {
                0 => ChunkAnswer::Taken(Vote::read(input)?),
                1 => ChunkAnswer::Mismatch,
                tag => return Err(DecodeError::UnknownTag(tag)),
            }),
            4 => Response::Write(Commands::read(input)?.0.to_vec()),
            5 => Response::ReadIndex(Option::read(input)?),
            6 => Response::Poll(bool::read(input)?),
            7 => Response::NotLeader(Option::read(input)?),
            8 => Response::Refused(String::read(input)?),
            tag => return Err(DecodeError::UnknownTag(tag)),
        })
    }
}

fn put_meta(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    meta.last_log_id.put(out);
    meta.last_membership.put(out);
    meta.snapshot_id.put(out);
}

fn take_meta(input: &mut Reader) -> Result<SnapshotMeta, DecodeError> {
    let (last_log_id, last_membership) = (Option::read(input)?, StoredMembership::read(input)?);
    Ok(SnapshotMeta { last_log_id, last_membership, snapshot_id: String::read(input)? })
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::super::types::Entry;
    use super::*;

    fn log_id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1, 2), index)
    }

    fn requests() -> Vec<Request> {
        let entries = vec![Entry { log_id: log_id(4), payload: EntryPayload::Blank }];
        let vote = Vote::new(1, 2);
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(3)),
            last_membership: StoredMembership::default(),
            snapshot_id: "id".to_owned(),
        };
        vec![
            Request::Append(AppendEntriesRequest { vote, prev_log_id: Some(log_id(3)), leader_commit: None, entries }),
            Request::Vote(VoteRequest { vote, last_log_id: None }),
            Request::SnapshotChunk(InstallSnapshotRequest {
                vote,
                meta,
                offset: 7,
                data: b"chunk".to_vec(),
                done: true,
            }),
            Request::Write(Commands(Arc::from([Bytes::from_static(b"c")]))),
            Request::ReadIndex,
            Request::Poll(Some(log_id(9))),
        ]
    }

    fn responses() -> Vec<Response> {
        vec![
            Response::Append(AppendEntriesResponse::Success),
            Response::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(1)))),
            Response::Append(AppendEntriesResponse::Conflict),
            Response::Append(AppendEntriesResponse::HigherVote(Vote::new(3, 3))),
            Response::Vote(VoteResponse { vote: Vote::new(1, 1), vote_granted: true, last_log_id: Some(log_id(1)) }),
            Response::SnapshotChunk(ChunkAnswer::Taken(Vote::new(1, 1))),
            Response::SnapshotChunk(ChunkAnswer::Mismatch),
            Response::Write(vec![Bytes::from_static(b"a"), Bytes::new()]),
            Response::ReadIndex(Some(5)),
            Response::Poll(true),
            Response::NotLeader(Some(2)),
            Response::Refused("why".to_owned()),
        ]
    }

    /// What was decoded encodes to the same bytes, and no prefix of them decodes.
    fn assert_one_encoding<T: Wire>(message: &T, open_ended: bool) {
        let bytes = message.to_wire();
        let Ok(decoded) = T::from_wire(&bytes) else { unreachable!("{bytes:?} does not decode") };
        assert_eq!(decoded.to_wire(), bytes);
        if !open_ended {
            (0..bytes.len()).for_each(|length| assert!(T::from_wire(&bytes.slice(..length)).is_err(), "{length}"));
        }
    }

    #[test]
    fn every_request_and_response_has_one_encoding() {
        // A chunk's data reaches to the end of the message.
        requests()
            .iter()
            .for_each(|request| assert_one_encoding(request, matches!(request, Request::SnapshotChunk(_))));
        responses().iter().for_each(|response| assert_one_encoding(response, false));
    }

    #[test]
    fn golden_append() {
        let [Request::Append(append), ..] = &requests()[..] else { unreachable!() };
        let bytes = Request::Append(append.clone()).to_wire();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let leader = "00000000000000010000000000000002";
        let expected = format!("01{leader}00") // vote
            + &format!("01{leader}0000000000000003") // previous log id
            + "00" // committed: none
            + "00000001" // one entry
            + &format!("{leader}000000000000000400");
        assert_eq!(hex, expected);
    }
}

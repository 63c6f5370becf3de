//! From this member to the others.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{EmptyNode, SnapshotSegmentId};
use tokio::task::JoinHandle;
use waybill_types::codec::DecodeError;

use super::message::{ChunkAnswer, Request, Response};
use super::options::Options;
use super::types::{GroupId, LogId, TypeConfig, Vote};
use super::wire::Wire;

/// How long to leave a member alone that could not be reached.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(500);

/// Carries a request of a group to a node, and its answer back. The node knows the asker by the link, not by the request.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Asks node `to`; its [`Group::handle`](super::Group::handle) answers.
    fn call(
        &self,
        to: u64,
        group: GroupId,
        request: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, Unreachable>> + Send;
}

/// A node gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {to} cannot be reached: {why}")]
pub struct Unreachable {
    /// The node.
    pub to: u64,
    /// What is known of the cause.
    pub why: String,
}

type Called<'a> = Pin<Box<dyn Future<Output = Result<Bytes, Unreachable>> + Send + 'a>>;

/// [`Transport`] as an object, so that a group has no type parameter.
trait AnyTransport: Send + Sync {
    fn call(&self, to: u64, group: GroupId, request: Bytes, timeout: Duration) -> Called<'_>;
}

impl<T: Transport> AnyTransport for T {
    fn call(&self, to: u64, group: GroupId, request: Bytes, timeout: Duration) -> Called<'_> {
        Box::pin(Transport::call(self, to, group, request, timeout))
    }
}

/// Why a member gave no answer to a question.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error("node {0} did not answer in time")]
    Late(u64),
    #[error("the answer of node {0} is malformed: {1}")]
    Malformed(u64, DecodeError),
    #[error("node {0} answers another question")]
    Mismatched(u64),
    #[error("node {0} refuses: {1}")]
    Refused(u64, String),
}

/// The other members of a group.
#[derive(Clone)]
pub(super) struct Members {
    transport: Arc<dyn AnyTransport>,
    group: GroupId,
}

impl Members {
    pub fn new(transport: impl Transport, group: GroupId) -> Self {
        Self { transport: Arc::new(transport), group }
    }

    pub async fn ask(&self, to: u64, request: &Request, timeout: Duration) -> Result<Response, AskError> {
        let call = self.transport.call(to, self.group, request.to_wire(), timeout);
        let answer = tokio::time::timeout(timeout, call).await.map_err(|_| AskError::Late(to))??;
        match Response::from_wire(&answer).map_err(|error| AskError::Malformed(to, error))? {
            Response::Refused(why) => Err(AskError::Refused(to, why)),
            response => Ok(response),
        }
    }
}

/// Makes a [`Link`] to each member, as openraft asks for it.
pub(super) struct Links {
    members: Members,
    append_timeout: Duration,
}

impl Links {
    pub fn new(members: Members, options: &Options) -> Self {
        Self { members, append_timeout: options.append_timeout }
    }
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link { members: self.members.clone(), to: target, append_timeout: self.append_timeout, sending: None }
    }
}

/// openraft's way to one member.
pub(super) struct Link {
    members: Members,
    to: u64,
    append_timeout: Duration,
    sending: Option<Sending>,
}

/// An append that is on its way.
///
/// openraft drops an append that takes longer than a heartbeat interval, and sends the same entries again. On a link that needs longer
/// for them that would never end, and fill the link. So an append with entries goes on when openraft drops it, and the next one
/// that begins where it began waits for its answer.
struct Sending {
    vote: Vote,
    prev_log_id: Option<LogId>,
    last_log_id: LogId,
    answer: JoinHandle<Result<Response, AskError>>,
}

impl Sending {
    fn covers(&self, rpc: &AppendEntriesRequest<TypeConfig>, last: LogId) -> bool {
        self.vote == rpc.vote && self.prev_log_id == rpc.prev_log_id && self.last_log_id <= last
    }
}

type Failed<E = openraft::error::Infallible> = RPCError<u64, EmptyNode, RaftError<u64, E>>;

impl Link {
    /// Whatever goes wrong is an unreachable member to openraft: it then pauses, where after other errors it tries again at once.
    fn failed<E: std::error::Error>(error: &AskError) -> Failed<E> {
        RPCError::Unreachable(openraft::error::Unreachable::new(error))
    }

    fn mismatched<E: std::error::Error>(&self) -> Failed<E> {
        Self::failed(&AskError::Mismatched(self.to))
    }

    fn send(&self, rpc: AppendEntriesRequest<TypeConfig>, last_log_id: LogId) -> Sending {
        let (vote, prev_log_id) = (rpc.vote, rpc.prev_log_id);
        let (members, to, timeout) = (self.members.clone(), self.to, self.append_timeout);
        let answer = tokio::spawn(async move { members.ask(to, &Request::Append(rpc), timeout).await });
        Sending { vote, prev_log_id, last_log_id, answer }
    }

    /// Sends entries up to `last`, or waits for those that are on their way. The second value tells up to which entry the answer
    /// counts.
    async fn append(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        last: LogId,
    ) -> (Result<Response, AskError>, LogId) {
        let sending = match self.sending.take() {
            Some(sending) if sending.covers(&rpc, last) => sending,
            _ => self.send(rpc, last),
        };
        let upto = sending.last_log_id;
        let to = self.to;
        // While this waits it may be dropped; then `sending` stays.
        let answer = (&mut self.sending.insert(sending).answer).await;
        self.sending = None;
        (answer.unwrap_or(Err(AskError::Late(to))), upto)
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        let Some(last) = rpc.entries.last().map(|entry| entry.log_id) else {
            let answer = self.members.ask(self.to, &Request::Append(rpc), option.hard_ttl()).await;
            return match answer.map_err(|error| Self::failed(&error))? {
                Response::Append(answer) => Ok(answer),
                _ => Err(self.mismatched()),
            };
        };
        let (answer, upto) = self.append(rpc, last).await;
        match answer.map_err(|error| Self::failed(&error))? {
            Response::Append(AppendEntriesResponse::Success) if upto < last => {
                Ok(AppendEntriesResponse::PartialSuccess(Some(upto)))
            }
            Response::Append(answer) => Ok(answer),
            _ => Err(self.mismatched()),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<InstallSnapshotError>> {
        let segment = |offset| SnapshotSegmentId { id: rpc.meta.snapshot_id.clone(), offset };
        let mismatch = SnapshotMismatch { expect: segment(0), got: segment(rpc.offset) };
        let answer = self.members.ask(self.to, &Request::SnapshotChunk(rpc), option.hard_ttl()).await;
        match answer.map_err(|error| Self::failed(&error))? {
            Response::SnapshotChunk(ChunkAnswer::Taken(vote)) => Ok(InstallSnapshotResponse { vote }),
            Response::SnapshotChunk(ChunkAnswer::Mismatch) => {
                Err(RPCError::RemoteError(RemoteError::new(self.to, RaftError::APIError(mismatch.into()))))
            }
            _ => Err(self.mismatched()),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, Failed> {
        let answer = self.members.ask(self.to, &Request::Vote(rpc), option.hard_ttl()).await;
        match answer.map_err(|error| Self::failed(&error))? {
            Response::Vote(answer) => Ok(answer),
            _ => Err(self.mismatched()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}

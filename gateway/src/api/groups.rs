//! The classic group protocol: JoinGroup 0 to 9, SyncGroup 0 to 5, Heartbeat 0 to 4, LeaveGroup 0 to 5.
//!
//! What a group does is in [`crate::group`]; here requests become its inputs, and its errors Kafka's codes.

use crate::api::Context;
use crate::broker::Broker;
use crate::connection::ConnectionError;
use crate::coordinator::NO_TOKEN;
use crate::error::Refusal;
use crate::group::{GroupError, Heartbeat, Identity, Join, Leave, Protocol, Sync};
use crate::request::Request;
use crate::response::Response;
use crate::server::stopped;
use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use tokio::sync::watch;

/// Handles the requests of the group protocol; they wait for other members, but not for a node that stops.
pub async fn handle(
    broker: &Arc<Broker>,
    context: &Context,
    request: Request,
    mut stop: watch::Receiver<bool>,
) -> Result<Response, ConnectionError> {
    let api = request.api();
    let answered = async {
        match request {
            Request::JoinGroup(request) => context.answer(api, &join(broker, context, request).await),
            Request::SyncGroup(request) => context.answer(api, &sync(broker, request).await),
            Request::Heartbeat(request) => context.answer(api, &heartbeat(broker, request).await),
            Request::LeaveGroup(request) => context.answer(api, &leave(broker, context, request).await),
            other => {
                // The table of versions lets nothing else through.
                tracing::error!(api = ?other.api(), "an API is advertised and not handled");
                context.answer(api, &HeartbeatResponse::default().with_error_code(Refusal::UnsupportedVersion.code()))
            }
        }
    };
    tokio::select! {
        response = answered => Ok(response?),
        () = stopped(&mut stop) => Err(std::io::Error::other("the node stops").into()),
    }
}

/// Kafka's code for a group's refusal.
pub(super) fn code(error: GroupError) -> i16 {
    Refusal::from(error).code()
}

/// What is kept of a request for long is copied out of its frame, which may be far larger.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn text(text: String) -> StrBytes {
    StrBytes::from_string(text)
}

async fn join(broker: &Broker, context: &Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let mut fresh = [0; 16];
    if SystemRandom::new().fill(&mut fresh).is_err() {
        return JoinGroupResponse::default().with_error_code(Refusal::Internal.code());
    }
    let protocols = request
        .protocols
        .iter()
        .map(|protocol| Protocol { name: protocol.name.to_string(), metadata: own(&protocol.metadata) });
    let join = Join {
        token: NO_TOKEN,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        client_id: context.client_id.to_string(),
        // Kafka's form, which its tools print.
        client_host: format!("/{}", context.address.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        requires_member_id: context.version >= 4,
        can_skip_assignment: context.version >= 9,
        fresh: u128::from_be_bytes(fresh),
    };
    let refused = |code: i16, member_id: StrBytes| {
        JoinGroupResponse::default()
            .with_error_code(code)
            .with_generation_id(-1)
            .with_member_id(member_id)
            // Null from version 7 on, which no version before can say.
            .with_protocol_name((context.version < 7).then(StrBytes::default))
    };
    match broker.groups.join(&request.group_id, join).await {
        Ok(Ok(joined)) => JoinGroupResponse::default()
            .with_generation_id(joined.generation)
            .with_protocol_type(Some(text(joined.protocol_type)))
            .with_protocol_name(Some(text(joined.protocol)))
            .with_leader(text(joined.leader))
            // Never encodable before version 9; a group offers it only to members that can skip.
            .with_skip_assignment(joined.skip_assignment && context.version >= 9)
            .with_member_id(text(joined.member_id))
            .with_members(
                joined
                    .members
                    .into_iter()
                    .map(|member| {
                        JoinGroupResponseMember::default()
                            .with_member_id(text(member.member_id))
                            .with_group_instance_id(member.instance_id.map(text))
                            .with_metadata(member.metadata)
                    })
                    .collect(),
            ),
        Ok(Err(refusal)) => refused(code(refusal.error), text(refusal.member_id)),
        Err(refusal) => refused(refusal.code(), request.member_id),
    }
}

async fn sync(broker: &Broker, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments = request.assignments.iter();
    let sync = Sync {
        token: NO_TOKEN,
        identity: Identity {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: assignments.map(|given| (given.member_id.to_string(), own(&given.assignment))).collect(),
    };
    match broker.groups.sync(&request.group_id, sync).await {
        Ok(Ok(synced)) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Ok(Err(error)) => SyncGroupResponse::default().with_error_code(code(error)),
        Err(refusal) => SyncGroupResponse::default().with_error_code(refusal.code()),
    }
}

async fn heartbeat(broker: &Broker, request: HeartbeatRequest) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        token: NO_TOKEN,
        identity: Identity {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
            generation: request.generation_id,
        },
    };
    let code = match broker.groups.heartbeat(&request.group_id, heartbeat).await {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => code(error),
        // As in Kafka: nobody's session ends while groups are being loaded.
        Err(Refusal::CoordinatorLoading) => 0,
        Err(refusal) => refusal.code(),
    };
    HeartbeatResponse::default().with_error_code(code)
}

async fn leave(broker: &Broker, context: &Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let members = if context.version < 3 {
        vec![(request.member_id.to_string(), None)]
    } else {
        let leaving = request.members.iter();
        leaving
            .map(|member| (member.member_id.to_string(), member.group_instance_id.as_ref().map(|id| id.to_string())))
            .collect()
    };
    match broker.groups.leave(&request.group_id, Leave { token: NO_TOKEN, members }).await {
        Ok(Ok(left)) if context.version < 3 => {
            let error = left.first().and_then(|member| member.result.err());
            LeaveGroupResponse::default().with_error_code(error.map_or(0, code))
        }
        Ok(Ok(left)) => LeaveGroupResponse::default().with_members(
            left.into_iter()
                .map(|member| {
                    MemberResponse::default()
                        .with_member_id(text(member.member_id))
                        .with_group_instance_id(member.instance_id.map(text))
                        .with_error_code(member.result.err().map_or(0, code))
                })
                .collect(),
        ),
        Ok(Err(error)) => LeaveGroupResponse::default().with_error_code(code(error)),
        Err(refusal) => LeaveGroupResponse::default().with_error_code(refusal.code()),
    }
}

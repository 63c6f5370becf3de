//! DescribeGroups, versions 0 to 6: state, protocol and members of groups.

use crate::api::{Context, operations};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::group::{Description, MemberDescription};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

/// Before this version an unknown group was a dead one without an error (KIP-1043).
const UNKNOWN_SINCE: i16 = 6;
/// The first version that can ask for authorised operations (KIP-430).
const OPERATIONS_SINCE: i16 = 3;

/// Describes each group.
pub async fn handle(broker: &Broker, context: &Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let asked = request.include_authorized_operations && context.version >= OPERATIONS_SINCE;
    let mut groups = Vec::with_capacity(request.groups.len());
    for name in request.groups {
        let described = match broker.groups.describe(&name).await {
            Ok(Some(description)) => {
                let operations = if asked { operations::GROUP } else { operations::NOT_ASKED };
                described(description).with_authorized_operations(operations)
            }
            Ok(None) => unknown(context, &name),
            Err(refusal) => DescribedGroup::default().with_error_code(refusal.code()),
        };
        groups.push(described.with_group_id(name));
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn described(description: Description) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(description.state))
        .with_protocol_type(description.protocol_type.into())
        .with_protocol_data(description.protocol.into())
        .with_members(description.members.into_iter().map(member).collect())
}

fn member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(member.member_id.into())
        .with_group_instance_id(member.instance_id.map(Into::into))
        .with_client_id(member.client_id.into())
        .with_client_host(member.client_host.into())
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

fn unknown(context: &Context, name: &GroupId) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    if context.version < UNKNOWN_SINCE {
        return dead;
    }
    let reason = format!("Group {} not found.", name.0);
    dead.with_error_code(Refusal::UnknownGroup.code()).with_error_message(Some(reason.into()))
}

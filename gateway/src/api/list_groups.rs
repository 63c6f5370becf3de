//! ListGroups, versions 0 to 5: the organisation's groups, by state (KIP-518) and by type (KIP-848) if asked so.

use crate::broker::Broker;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

/// The only type of group that is served.
const CLASSIC: &str = "classic";

/// Lists the groups; an empty filter lets all through.
pub async fn handle(broker: &Broker, request: &ListGroupsRequest) -> ListGroupsResponse {
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    if !passes(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let groups = match broker.groups.list().await {
        Ok(groups) => groups,
        Err(refusal) => return ListGroupsResponse::default().with_error_code(refusal.code()),
    };
    let listed = groups.into_iter().filter(|group| passes(&request.states_filter, group.state)).map(|group| {
        ListedGroup::default()
            .with_group_id(GroupId(group.name.into()))
            .with_protocol_type(group.protocol_type.into())
            .with_group_state(StrBytes::from_static_str(group.state))
            .with_group_type(StrBytes::from_static_str(CLASSIC))
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

//! DeleteGroups, versions 0 to 2: groups without members go, with their offsets.

use crate::broker::Broker;
use crate::error::Refusal;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

/// Deletes the groups, one after the other.
pub async fn handle(broker: &Broker, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for name in request.groups_names {
        let refusal = match broker.groups.delete(&name).await {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => Some(Refusal::UnknownGroup),
            Ok(Err(error)) => Some(Refusal::from(error)),
            Err(refusal) => Some(refusal),
        };
        let result = DeletableGroupResult::default().with_error_code(refusal.map_or(0, Refusal::code));
        results.push(result.with_group_id(name));
    }
    DeleteGroupsResponse::default().with_results(results)
}

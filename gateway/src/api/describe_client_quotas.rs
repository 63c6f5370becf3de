//! DescribeClientQuotas, versions 0 and 1 (KIP-546): there are none, for nothing sets them yet. `kafka-configs` asks for
//! a user's quotas together with the user's credentials, and shows neither unless both are answered.

use crate::error::Refusal;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_ANY_NAMED: i8 = 2;

type Refused = (Refusal, &'static str);

/// Checks the filter as Kafka does, and finds nothing.
pub fn handle(request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    match check(&request.components) {
        Ok(()) => DescribeClientQuotasResponse::default().with_error_message(None).with_entries(Some(Vec::new())),
        Err((refusal, reason)) => DescribeClientQuotasResponse::default()
            .with_error_code(refusal.code())
            .with_error_message(Some(StrBytes::from_static_str(reason)))
            .with_entries(None),
    }
}

fn check(components: &[ComponentData]) -> Result<(), Refused> {
    let invalid = |reason| Err((Refusal::InvalidRequest, reason));
    let mut seen: Vec<&str> = Vec::new();
    for component in components {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return invalid("Invalid empty entity type.");
        }
        if seen.contains(&kind) {
            return invalid("An entity type cannot appear more than once in the filter.");
        }
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            return Err((Refusal::UnsupportedVersion, "Unsupported entity type"));
        }
        match (component.match_type, &component._match) {
            (MATCH_EXACT, Some(_)) | (MATCH_DEFAULT | MATCH_ANY_NAMED, None) => {}
            (MATCH_EXACT | MATCH_DEFAULT | MATCH_ANY_NAMED, _) => {
                return invalid("A match string belongs to an exact match, and to no other.");
            }
            _ => return invalid("Unknown match type"),
        }
        seen.push(kind);
    }
    if seen.contains(&IP) && seen.len() > 1 {
        return invalid("An IP filter component should not be used with a user or clientId filter component.");
    }
    Ok(())
}

//! ApiVersions, versions 0 to 4 (KIP-511): what is in the table of [`crate::versions`], nothing else.
//!
//! A version above 4 is answered in version 0 with error 35 and the list, so that the client can choose again. The
//! response header is always version 0.

use crate::api::Context;
use crate::response::{EncodeError, Response};
use crate::versions::{self, Api};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// Answers with the table.
pub fn handle(_: &ApiVersionsRequest) -> ApiVersionsResponse {
    let rows = versions::TABLE.iter().map(|row| {
        ApiVersion::default().with_api_key(row.api.key()).with_min_version(row.min).with_max_version(row.max)
    });
    ApiVersionsResponse::default().with_api_keys(rows.collect())
}

/// The answer to a version that is not known here.
pub fn unsupported(context: &Context) -> Result<Response, EncodeError> {
    let body = handle(&ApiVersionsRequest::default()).with_error_code(ResponseError::UnsupportedVersion.code());
    Response::encode(Api::ApiVersions, 0, context.correlation_id, &body)
}

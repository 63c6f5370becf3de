//! SaslAuthenticate, versions 0 to 2 (KIP-152, KIP-368): one token of the mechanism, and the answer to it. Sessions do
//! not expire, which a lifetime of 0 says.

use crate::error::Refusal;
use crate::security::sasl::{AuthenticationError, Step};
use bytes::Bytes;
use kafka_protocol::messages::SaslAuthenticateResponse;
use kafka_protocol::protocol::StrBytes;

/// The mechanism's reply, or why there is none.
pub fn answer(outcome: &Result<Step, AuthenticationError>) -> SaslAuthenticateResponse {
    match outcome {
        Ok(step) => SaslAuthenticateResponse::default()
            .with_error_message(None)
            .with_auth_bytes(Bytes::copy_from_slice(&step.reply)),
        Err(error) => refused((*error).into(), error.message()),
    }
}

/// The answer where nobody logs in.
pub fn out_of_place() -> SaslAuthenticateResponse {
    let reason = "SaslAuthenticate request received after successful authentication";
    refused(Refusal::IllegalSaslState, reason.into())
}

fn refused(refusal: Refusal, reason: String) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_code(refusal.code())
        .with_error_message(Some(StrBytes::from_string(reason)))
}

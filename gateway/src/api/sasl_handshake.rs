//! SaslHandshake, versions 0 and 1 (KIP-43, KIP-152): the client chooses a mechanism. After version 0 its tokens come
//! bare, after version 1 in SaslAuthenticate.

use crate::error::Refusal;
use crate::security::Mechanism;
use crate::security::sasl::AuthenticationError;
use kafka_protocol::messages::SaslHandshakeResponse;
use kafka_protocol::protocol::StrBytes;

/// Says whether the mechanism was taken, and which there are.
pub fn answer(outcome: Result<(), AuthenticationError>) -> SaslHandshakeResponse {
    let mechanisms = Mechanism::ALL.map(|mechanism| StrBytes::from_static_str(mechanism.name()));
    let code = outcome.map_or_else(|error| Refusal::from(error).code(), |()| 0);
    SaslHandshakeResponse::default().with_error_code(code).with_mechanisms(mechanisms.to_vec())
}

/// The answer where nobody logs in.
pub fn out_of_place() -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(Refusal::IllegalSaslState.code())
}

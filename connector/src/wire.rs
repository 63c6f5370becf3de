//! What connectors say to each other over HTTP: paths, error codes, the frames of a multi-get.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/ledgers/{topic-hex}/{partition}/batches/{offset}` | `batch`, `salt[32]`; ranges as of RFC 9110 over both together, the commitment as `ETag` |
//! | `POST /v1/ledgers/{topic-hex}/{partition}/batches` with first offsets, `i64` big-endian each, ascending | for each batch `offset i64`, `length u32`, `batch`, `salt[32]` |
//!
//! Both carry the header [`PULL_HEADER`](crate::request::PULL_HEADER). Offsets are those of batches' first records. A
//! multi-get that cannot go on ends after a whole batch; whoever asks again from there gets the reason as a status. An
//! error carries its code in the header [`ERROR_HEADER`], and as JSON with a sentence for people.

use crate::permissions::Refusal;
use crate::request::from_hex;
use hyper::StatusCode;
use waybill_types::{Commitment, LedgerId, Offset, TopicId};

/// The header with the code of an error.
pub(crate) const ERROR_HEADER: &str = "waybill-error";

/// `offset i64 | length u32` in front of each batch of a multi-get.
pub(crate) const FRAME_HEAD_BYTES: usize = 12;

/// What follows each batch.
pub(crate) const SALT_BYTES: usize = 32;

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// One batch.
    Batch(LedgerId, Offset),
    /// Several batches, named in the body.
    Batches(LedgerId),
}

impl Route {
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix("/v1/ledgers/")?.split('/');
        let topic = from_hex(segments.next()?.as_bytes())?;
        let topic = TopicId(topic.as_ref().try_into().ok()?);
        let partition = segments.next()?.parse().ok()?;
        let ledger = LedgerId::new(topic, partition);
        if segments.next()? != "batches" {
            return None;
        }
        let route = match segments.next() {
            None => Route::Batches(ledger),
            Some(offset) => Route::Batch(ledger, offset.parse().ok().filter(|offset| *offset >= 0)?),
        };
        segments.next().is_none().then_some(route)
    }

    pub fn path(self) -> String {
        match self {
            Route::Batches(ledger) => format!("/v1/ledgers/{}/{}/batches", ledger.topic, ledger.partition),
            Route::Batch(ledger, offset) => {
                format!("/v1/ledgers/{}/{}/batches/{offset}", ledger.topic, ledger.partition)
            }
        }
    }
}

/// The entity tag of a payload.
pub(crate) fn etag(commitment: &Commitment) -> String {
    format!("\"{commitment}\"")
}

/// Why a connector answers without a payload. The codes travel between connectors: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// The request makes no sense.
    BadRequest,
    /// The pull request is missing, forged, stale or somebody else's.
    BadPullRequest,
    /// Its own node does not allow it.
    Refused(Refusal),
    /// Another connector holds this payload.
    Elsewhere,
    /// The payload is damaged.
    Corrupt,
    /// The payload is not there any more.
    Missing,
    /// The store does not answer.
    Unavailable,
    /// The asking organisation has too much under way.
    Busy,
    /// The range asked for is outside the payload.
    Range,
}

impl ErrorCode {
    const ALL: [ErrorCode; 13] = [
        ErrorCode::BadRequest,
        ErrorCode::BadPullRequest,
        ErrorCode::Refused(Refusal::Denied),
        ErrorCode::Refused(Refusal::UnknownLedger),
        ErrorCode::Refused(Refusal::NotReached),
        ErrorCode::Refused(Refusal::NoBatch),
        ErrorCode::Refused(Refusal::Gone),
        ErrorCode::Elsewhere,
        ErrorCode::Corrupt,
        ErrorCode::Missing,
        ErrorCode::Unavailable,
        ErrorCode::Busy,
        ErrorCode::Range,
    ];

    pub fn code(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad-request",
            ErrorCode::BadPullRequest => "bad-pull-request",
            ErrorCode::Refused(refusal) => refusal.code(),
            ErrorCode::Elsewhere => "elsewhere",
            ErrorCode::Corrupt => "corrupt",
            ErrorCode::Missing => "missing",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Busy => "busy",
            ErrorCode::Range => "range",
        }
    }

    pub fn from_code(code: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.code().as_bytes() == code)
    }

    pub fn status(self) -> StatusCode {
        match self {
            ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            ErrorCode::BadPullRequest => StatusCode::UNAUTHORIZED,
            ErrorCode::Refused(Refusal::Denied) => StatusCode::FORBIDDEN,
            ErrorCode::Refused(Refusal::UnknownLedger | Refusal::NoBatch) => StatusCode::NOT_FOUND,
            ErrorCode::Refused(Refusal::NotReached) => StatusCode::TOO_EARLY,
            ErrorCode::Refused(Refusal::Gone) | ErrorCode::Missing => StatusCode::GONE,
            ErrorCode::Elsewhere => StatusCode::MISDIRECTED_REQUEST,
            ErrorCode::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Busy => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Range => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }

    /// A sentence for whoever looks with curl.
    pub fn sentence(self) -> String {
        match self {
            ErrorCode::BadRequest => "the request is malformed".into(),
            ErrorCode::BadPullRequest => "the signed pull request does not stand".into(),
            ErrorCode::Refused(refusal) => refusal.to_string(),
            ErrorCode::Elsewhere => "another connector holds this payload".into(),
            ErrorCode::Corrupt => "the payload is damaged on its medium and is not served".into(),
            ErrorCode::Missing => "the payload is not here any more".into(),
            ErrorCode::Unavailable => "the store does not answer".into(),
            ErrorCode::Busy => "your organisation has too many pulls under way".into(),
            ErrorCode::Range => "the range is outside the payload".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_parsed_back_and_others_are_refused() {
        let ledger = LedgerId::new(TopicId([0xab; 16]), 7);
        for route in [Route::Batches(ledger), Route::Batch(ledger, 42)] {
            assert_eq!(Route::parse(&route.path()), Some(route));
        }
        let topic = "ab".repeat(16);
        for path in [
            "/".to_owned(),
            format!("/v1/ledgers/{topic}/7"),
            format!("/v1/ledgers/{topic}/7/batches/-1"),
            format!("/v1/ledgers/{topic}/7/batches/1/2"),
            format!("/v1/ledgers/{topic}/x/batches/1"),
            format!("/v1/ledgers/{}/7/batches/1", topic.to_uppercase()),
            format!("/v1/ledgers/{topic}ab/7/batches/1"),
        ] {
            assert_eq!(Route::parse(&path), None, "{path}");
        }
    }

    #[test]
    fn error_codes_are_parsed_back() {
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code().as_bytes()), Some(error));
            assert!(error.status().is_client_error() || error.status().is_server_error());
        }
        assert_eq!(ErrorCode::from_code(b""), None);
    }
}

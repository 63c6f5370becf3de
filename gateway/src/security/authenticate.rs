//! Log-in: what a connection with SASL does before its first request.
//!
//! Only ApiVersions, SaslHandshake and SaslAuthenticate are served here, in small frames; anything else ends the
//! connection, as in Kafka. The caller limits the time.

use super::sasl::{AuthenticationError, Dialogue};
use super::{Authenticated, Users};
use crate::api::{self, Context, sasl_authenticate, sasl_handshake};
use crate::connection::{Caller, ConnectionError, next_frame};
use crate::frame::{Cutter, FRAME_BYTES_LIMIT, RequestHeader, UNAUTHENTICATED_FRAME_BYTES_LIMIT};
use crate::request::{DecodeError, Request};
use crate::response::Response;
use crate::versions::Api;
use bytes::{BufMut, Bytes};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// A refusal is sent so much later than a welcome, as by Kafka (`connection.failed.authentication.delay.ms`): guessing
/// takes time.
const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// A user, and the dialogue in which they may log in again.
pub(crate) type LoggedIn = (Authenticated, Dialogue);

/// Serves a client until it has logged in; none if it leaves before.
pub(crate) async fn authenticate<R, W>(
    caller: &Caller,
    users: Arc<Users>,
    cutter: &mut Cutter,
    reader: &mut R,
    writer: &mut W,
) -> Result<Option<LoggedIn>, ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut dialogue = Dialogue::new(users);
    cutter.limit(UNAUTHENTICATED_FRAME_BYTES_LIMIT);
    loop {
        cutter.expect_tokens(dialogue.expects_raw_token());
        let Some(frame) = next_frame(cutter, reader).await? else { return Ok(None) };
        let outcome = if dialogue.expects_raw_token() {
            raw_token(&mut dialogue, &frame, writer).await?
        } else {
            request(&mut dialogue, caller, &frame, writer).await?
        };
        if let Some(authenticated) = outcome {
            metrics::counter!("waybill_kafka_authentications_total", "mechanism" => authenticated.mechanism().name())
                .increment(1);
            tracing::debug!(client = %caller.address, user = authenticated.user(), "authenticated");
            cutter.limit(FRAME_BYTES_LIMIT);
            cutter.expect_tokens(false);
            return Ok(Some((authenticated, dialogue)));
        }
    }
}

/// What one step of SASL comes to: an answer in any case, and a user, nobody yet, or a reason to close.
pub(crate) struct Stepped {
    pub(crate) response: Response,
    pub(crate) outcome: Result<Option<Authenticated>, AuthenticationError>,
}

/// Takes a step that came as a Kafka request; none if the request is something else.
pub(crate) async fn step(
    dialogue: &mut Dialogue,
    context: &Context,
    request: &Request,
) -> Result<Option<Stepped>, ConnectionError> {
    let api = request.api();
    let (response, outcome) = match request {
        Request::SaslHandshake(request) => {
            let outcome = dialogue.handle_handshake(context.version, &request.mechanism);
            (context.answer(api, &sasl_handshake::answer(outcome))?, outcome.map(|()| None))
        }
        Request::SaslAuthenticate(request) => {
            let outcome = dialogue.handle_token(&request.auth_bytes).await;
            if outcome.is_err() {
                tokio::time::sleep(FAILURE_DELAY).await;
            }
            let response = context.answer(api, &sasl_authenticate::answer(&outcome))?;
            (response, outcome.map(|step| step.authenticated))
        }
        _ => return Ok(None),
    };
    Ok(Some(Stepped { response, outcome }))
}

async fn request<W: AsyncWrite + Unpin>(
    dialogue: &mut Dialogue,
    caller: &Caller,
    frame: &Bytes,
    writer: &mut W,
) -> Result<Option<Authenticated>, ConnectionError> {
    const SERVED: [Api; 3] = [Api::ApiVersions, Api::SaslHandshake, Api::SaslAuthenticate];
    let (header, body) = RequestHeader::read(frame)?;
    // Before decoding: a stranger reaches three decoders, no more.
    if SERVED.iter().all(|api| api.key() != header.api_key) {
        return Err(ConnectionError::NotLoggedIn(header.api_key));
    }
    let context = Context::new(&header, caller);
    let request = match Request::decode(&header, body) {
        Err(DecodeError::UnsupportedVersion { api: Api::ApiVersions, .. }) => {
            Response::write_all(vec![api::versions::unsupported(&context)?], writer).await?;
            return Ok(None);
        }
        decoded => decoded?,
    };
    if let Request::ApiVersions(request) = &request {
        let response = context.answer(Api::ApiVersions, &api::versions::handle(request))?;
        Response::write_all(vec![response], writer).await?;
        return Ok(None);
    }
    let Some(stepped) = step(dialogue, &context, &request).await? else { return Ok(None) };
    Response::write_all(vec![stepped.response], writer).await?;
    Ok(stepped.outcome?)
}

/// A handshake of version 0 is followed by tokens behind their lengths. A refusal has no form there.
async fn raw_token<W: AsyncWrite + Unpin>(
    dialogue: &mut Dialogue,
    token: &[u8],
    writer: &mut W,
) -> Result<Option<Authenticated>, ConnectionError> {
    let step = match dialogue.handle_token(token).await {
        Ok(step) => step,
        Err(error) => {
            tokio::time::sleep(FAILURE_DELAY).await;
            return Err(error.into());
        }
    };
    let mut reply = Vec::with_capacity(4 + step.reply.len());
    reply.put_u32(step.reply.len() as u32);
    reply.put_slice(&step.reply);
    writer.write_all(&reply).await?;
    writer.flush().await?;
    Ok(step.authenticated)
}

#[cfg(test)]
mod tests {
    //! Whatever strangers send, whole or torn: nobody gets in, nothing breaks, and the end of their stream is the end.

    use super::*;
    use crate::security::{Listener, Principal, SecurityProtocol};
    use crate::versions::TABLE;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;
    use waybill_ledger::organisation::Organisation;

    fn caller() -> Caller {
        Caller {
            address: "127.0.0.1:1".parse().unwrap(),
            listener: Listener::new(SecurityProtocol::SaslPlaintext, []).into(),
            principal: Principal::Anonymous,
        }
    }

    /// Sends all of it in pieces of this size, and hears whatever is answered, to the end.
    fn outcome(bytes: &[u8], piece: usize) -> Result<Option<LoggedIn>, ConnectionError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let users = Arc::new(Users::new(Arc::new(Organisation::new(1).unwrap()), b"secret"));
            let (stranger, gateway) = tokio::io::duplex(64 * 1024);
            let (mut hears, mut says) = tokio::io::split(stranger);
            let (mut reader, mut writer) = tokio::io::split(gateway);
            let (mut cutter, caller) = (Cutter::new(FRAME_BYTES_LIMIT), caller());
            let talk = async {
                for piece in bytes.chunks(piece) {
                    if says.write_all(piece).await.is_err() {
                        break;
                    }
                }
                // The gateway may be gone already.
                let _ = says.shutdown().await;
            };
            let listen = async {
                let mut heard = Vec::new();
                let _ = hears.read_to_end(&mut heard).await;
            };
            let login = async {
                let outcome = authenticate(&caller, users, &mut cutter, &mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
                drop((reader, writer));
                outcome
            };
            let ended = async { tokio::join!(login, talk, listen).0 };
            tokio::time::timeout(Duration::from_secs(30), ended).await.expect("an end")
        })
    }

    /// A request of the three that are served, or of another, with a body of noise or of a token.
    fn request() -> impl Strategy<Value = Vec<u8>> {
        let keys: Vec<i16> = TABLE.iter().map(|row| row.api.key()).chain([17, 18, 36, 17, 18, 36, 36]).collect();
        let body = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..24),
            Just(b"\x00\x05PLAIN".to_vec()),
            Just(b"\x00\x0dSCRAM-SHA-256".to_vec()),
            Just(b"\x00\x00\x00\x0en,,n=eve,r=abcd".to_vec()),
            Just(b"\x00\x00\x00\x08\0eve\0pwd".to_vec()),
        ];
        (proptest::sample::select(keys), 0_i16..4, body).prop_map(|(key, version, body)| {
            let mut frame = Vec::new();
            frame.put_u32(10 + body.len() as u32);
            frame.put_i16(key);
            frame.put_i16(version);
            frame.put_i32(7);
            frame.put_i16(-1);
            frame.put_slice(&body);
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn no_stranger_gets_in(
            requests in proptest::collection::vec(request(), 1..5),
            noise in proptest::collection::vec(any::<u8>(), 0..12),
            piece in 1_usize..40,
        ) {
            let bytes = [requests.concat(), noise].concat();
            prop_assert!(!matches!(outcome(&bytes, piece), Ok(Some(_))));
        }
    }

    #[test]
    fn a_stream_that_ends_between_two_steps_is_no_error() {
        let mut handshake = vec![0, 0, 0, 17, 0, 17, 0, 1, 0, 0, 0, 7, 0xff, 0xff];
        handshake.put_slice(b"\0\x05PLAIN");
        assert!(matches!(outcome(&handshake, 5), Ok(None)));
        assert!(matches!(outcome(b"", 1), Ok(None)));
        let metadata = [0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff];
        assert!(matches!(outcome(&metadata, 3), Err(ConnectionError::NotLoggedIn(3))));
    }
}

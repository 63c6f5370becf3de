//! From a socket to a connection whose requests are served: TLS and log-in, where the listener asks for them.

use super::{Caller, Connection, ConnectionError};
use crate::broker::Broker;
use crate::frame::{Cutter, FRAME_BYTES_LIMIT};
use crate::security::Principal;
use crate::security::authenticate::authenticate;
use crate::server::{Way, stopped};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a closing connection may take to say so.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one client until either side ends it. One log line says why, if it was not the client's wish.
pub(crate) async fn drive(
    broker: Arc<Broker>,
    way: Way,
    stream: TcpStream,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    // Responses leave at once: a client waits for each.
    let _ = stream.set_nodelay(true);
    metrics::gauge!("waybill_kafka_connections").increment(1);
    let caller = Caller { address, listener: way.listener, principal: Principal::Anonymous };
    let deadline = Instant::now() + broker.settings.authentication_timeout;
    let served = match way.tls {
        None => {
            let (reader, writer) = stream.into_split();
            serve(broker, caller, reader, writer, deadline, stop).await
        }
        Some(acceptor) => match within(deadline, stop.clone(), acceptor.accept(stream)).await {
            Some(Ok(Ok(stream))) => {
                let (reader, writer) = tokio::io::split(stream);
                serve(broker, caller, reader, writer, deadline, stop).await
            }
            Some(Ok(Err(error))) => Err(ConnectionError::Tls(error)),
            Some(Err(too_slow)) => Err(too_slow),
            None => Ok(()),
        },
    };
    if let Err(error) = served {
        error.report(address);
    }
    metrics::gauge!("waybill_kafka_connections").decrement(1);
}

/// Waits for a step before the first request; none when the node stops.
async fn within<T>(
    deadline: Instant,
    mut stop: watch::Receiver<bool>,
    step: impl Future<Output = T>,
) -> Option<Result<T, ConnectionError>> {
    tokio::select! {
        () = stopped(&mut stop) => None,
        done = tokio::time::timeout_at(deadline, step) => Some(done.map_err(|_| ConnectionError::TooSlow)),
    }
}

async fn serve<R, W>(
    broker: Arc<Broker>,
    mut caller: Caller,
    mut reader: R,
    mut writer: W,
    deadline: Instant,
    stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut cutter = Cutter::new(FRAME_BYTES_LIMIT);
    let mut dialogue = None;
    if caller.listener.protocol.uses_sasl() {
        let login = authenticate(&caller, broker.users.clone(), &mut cutter, &mut reader, &mut writer);
        match within(deadline, stop.clone(), login).await {
            Some(Ok(Ok(Some((user, begun))))) => {
                caller.principal = Principal::User(user);
                dialogue = Some(begun);
            }
            Some(Ok(Ok(None))) | None => return Ok(()),
            Some(Ok(Err(error)) | Err(error)) => {
                farewell(&mut writer).await;
                return Err(error);
            }
        }
    }
    let mut connection = Connection { broker, reader, writer, cutter, caller, dialogue, stop };
    let served = connection.serve().await;
    farewell(&mut connection.writer).await;
    served
}

/// TLS says goodbye, so that the client knows that nothing was cut off.
async fn farewell<W: AsyncWrite + Unpin>(writer: &mut W) {
    // A client that is gone hears nothing, and that is as well.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, writer.shutdown()).await;
}

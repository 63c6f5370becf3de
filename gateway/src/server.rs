//! Accepts Kafka clients, up to a limit, and gives each connection its task.

use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::connection;

/// How long connections may finish what is under way when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves clients until `stop` says so, then lets what is in flight be answered.
pub async fn serve(broker: Arc<Broker>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(broker.settings.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: give others time to close.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::warn!(%address, limit = broker.settings.connections_max, "too many connections: closed");
            metrics::counter!("waybill_kafka_connections_refused_total").increment(1);
            continue;
        };
        let (broker, stop) = (broker.clone(), stop.clone());
        connections.spawn(async move {
            connection::drive(broker, stream, address, stop).await;
            drop(slot);
        });
    }
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "connections were still busy when the node stopped");
    }
}

/// Resolves when the node stops.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is as good as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

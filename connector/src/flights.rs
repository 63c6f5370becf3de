//! One pull per batch, however many ask for it at the same time.

use crate::deliver::DeliverError;
use crate::payload::Verified;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::Arc;
use tokio::sync::watch;
use waybill_types::{LedgerId, Offset};

type Outcome = Result<Verified, DeliverError>;
type Key = (LedgerId, Offset);

/// The batches that are being fetched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flights(Arc<DashMap<Key, watch::Receiver<Option<Outcome>>>>);

/// What the one who fetches holds. Dropping it ends the flight: whoever asks later starts another.
#[derive(Debug)]
pub(crate) struct Landing {
    flights: Flights,
    key: Key,
    outcome: watch::Sender<Option<Outcome>>,
}

/// What everybody who asked holds.
#[derive(Debug)]
pub(crate) struct Waiting(watch::Receiver<Option<Outcome>>);

impl Flights {
    /// Joins the batch's flight. The first gets a landing too, and must see to it.
    pub fn join(&self, ledger: LedgerId, offset: Offset) -> (Waiting, Option<Landing>) {
        let key = (ledger, offset);
        match self.0.entry(key) {
            Entry::Occupied(flight) => (Waiting(flight.get().clone()), None),
            Entry::Vacant(place) => {
                let (outcome, waiting) = watch::channel(None);
                place.insert(waiting.clone());
                (Waiting(waiting), Some(Landing { flights: self.clone(), key, outcome }))
            }
        }
    }
}

impl Landing {
    /// Tells everybody who waits, and everybody who asks until this is dropped.
    pub fn resolve(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.0.remove(&self.key);
    }
}

impl Waiting {
    /// The outcome; an error if the flight was given up without one.
    pub async fn outcome(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(DeliverError::ShuttingDown)),
            Err(_) => Err(DeliverError::ShuttingDown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;
    use bytes::Bytes;
    use waybill_types::Salt;

    #[tokio::test]
    async fn many_wait_for_one_and_a_flight_that_is_given_up_leaves_nobody_waiting() {
        let flights = Flights::default();
        let (first, landing) = flights.join(LedgerId::SYSTEM, 1);
        let (second, none) = flights.join(LedgerId::SYSTEM, 1);
        assert!(none.is_none());
        assert!(flights.join(LedgerId::SYSTEM, 2).1.is_some(), "another batch");
        let payload = Payload::hash(vec![Bytes::from_static(b"x")], Salt([0; 32])).await.into_own();
        let landing = landing.unwrap();
        landing.resolve(Ok(payload));
        let (late, none) = flights.join(LedgerId::SYSTEM, 1);
        assert!(none.is_none(), "not landed yet");
        drop(landing);
        for waiting in [first, second, late] {
            assert!(waiting.outcome().await.is_ok());
        }
        let (waiting, landing) = flights.join(LedgerId::SYSTEM, 1);
        drop(landing.unwrap());
        assert_eq!(waiting.outcome().await.unwrap_err(), DeliverError::ShuttingDown);
        assert!(flights.0.is_empty());
    }
}

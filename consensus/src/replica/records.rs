//! What a replica's stream in the node's journal holds, and how it is read back.
//!
//! | first byte | then | written |
//! |---|---|---|
//! | 1 | a record of the PBFT core; some hold a body | when the core says so, synced |
//! | 2 | `u64` height and the digest of the executed body | at execution, lazily: it only saves a second vote |
//! | 3 | `u64` height and a body fetched from a peer | before it is applied, lazily |
//! | 4 | a certificate | when a checkpoint is stable; what sled holds never reaches beyond it |

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::Arc;
use waybill_ledger::journal::{Journal, Position, StreamId};
use waybill_ledger::partition::{BodyError, BodySource};
use waybill_pbft::record;
use waybill_types::codec::Reader;
use waybill_types::digest::Hasher;
use waybill_types::{Body, Certificate, Codec, Digest, Height, LedgerId};

const CORE: u8 = 1;
const EXECUTED: u8 = 2;
const FETCHED: u8 = 3;
const STABLE: u8 = 4;

/// The stream of a ledger's replica.
pub fn stream_of(ledger: LedgerId) -> StreamId {
    let digest = Hasher::digest(b"waybill-stream-v1", &ledger.to_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest.0[..16]);
    StreamId(id)
}

pub(super) fn core_record(record: Bytes) -> Vec<Bytes> {
    vec![Bytes::from_static(&[CORE]), record]
}

pub(super) fn executed_record(height: Height, body: Digest) -> Vec<Bytes> {
    let mut bytes = BytesMut::with_capacity(41);
    bytes.put_u8(EXECUTED);
    bytes.put_u64(height);
    bytes.put_slice(&body.0);
    vec![bytes.freeze()]
}

/// The record of a body that was fetched from a peer.
pub(crate) fn fetched_record(height: Height, body: Bytes) -> Vec<Bytes> {
    let mut bytes = BytesMut::with_capacity(9);
    bytes.put_u8(FETCHED);
    bytes.put_u64(height);
    vec![bytes.freeze(), body]
}

pub(super) fn stable_record(certificate: &Certificate) -> Vec<Bytes> {
    vec![Bytes::from_static(&[STABLE]), certificate.to_bytes()]
}

/// Reads bodies back from the journal.
#[derive(Debug)]
pub(crate) struct JournalBodies(pub(crate) Arc<Journal>);

impl BodySource for JournalBodies {
    fn body(&self, position: Position) -> Result<Bytes, BodyError> {
        let record = self.0.read(position).map_err(|error| BodyError::Unreadable(error.to_string()))?;
        body_of(record).map(|(_, body)| body).ok_or_else(|| BodyError::Unreadable("the record holds no body".into()))
    }
}

fn body_of(record: Bytes) -> Option<(Height, Bytes)> {
    let mut input = Reader::new(record);
    match u8::decode(&mut input).ok()? {
        CORE => record::accepted(&input.take(input.remaining()).ok()?).map(|stored| (stored.sequence, stored.body)),
        FETCHED => Some((u64::decode(&mut input).ok()?, input.take(input.remaining()).ok()?)),
        _ => None,
    }
}

/// What the scan of the journal found for one replica. It holds positions, and of records only what the core still needs.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What sled already has: bodies up to here are not remembered.
    applied: Height,
    bodies: BTreeMap<Height, Vec<(Digest, Position)>>,
    executed: BTreeMap<Height, Digest>,
    core: Vec<Bytes>,
    certificates: Vec<Certificate>,
}

impl Recovered {
    /// For a ledger of which sled holds the blocks up to `applied`.
    pub fn new(applied: Height) -> Self {
        Recovered { applied, ..Self::default() }
    }

    /// Takes the stream's next record. False if it is none that a replica writes.
    #[must_use]
    pub fn visit(&mut self, position: Position, record: Bytes) -> bool {
        let Some((kind, rest)) = record.split_first().map(|(kind, _)| (*kind, record.slice(1..))) else { return false };
        match kind {
            CORE => {
                if let Some(stored) = record::accepted(&rest) {
                    self.remember_body(stored.sequence, stored.digest, position);
                }
                if record::enters_view(&rest) {
                    // Only records about views are needed whatever is stable, and these are superseded.
                    self.core.retain(|earlier| !record::needed(earlier, Height::MAX));
                }
                self.core.push(rest);
                true
            }
            EXECUTED => {
                let mut input = Reader::new(rest);
                let (Ok(height), Ok(digest)) = (u64::decode(&mut input), Digest::decode(&mut input)) else {
                    return false;
                };
                if height > self.applied {
                    self.executed.insert(height, digest);
                }
                true
            }
            FETCHED => {
                let Some((height, body)) = body_of(record) else { return false };
                self.remember_body(height, Body::digest(&body), position);
                true
            }
            STABLE => {
                let Ok(certificate) = Certificate::from_bytes(&rest) else { return false };
                let stable = certificate.checkpoint.height;
                self.core.retain(|earlier| record::needed(earlier, stable));
                // Of those that sled has, only the newest matters: the core starts from it.
                self.certificates.pop_if(|last| last.checkpoint.height <= self.applied.min(stable));
                if self.certificates.last().is_none_or(|last| last.checkpoint.height < stable) {
                    self.certificates.push(certificate);
                }
                true
            }
            _ => false,
        }
    }

    fn remember_body(&mut self, height: Height, digest: Digest, position: Position) {
        if height > self.applied {
            let known = self.bodies.entry(height).or_default();
            if !known.iter().any(|(other, _)| *other == digest) {
                known.push((digest, position));
            }
        }
    }

    /// Where the body is that was executed at `height`, if the journal knows that.
    pub(super) fn executed_body(&self, height: Height) -> Option<Position> {
        let digest = self.executed.get(&height)?;
        self.bodies.get(&height)?.iter().find(|(other, _)| other == digest).map(|(_, position)| *position)
    }

    /// The bodies that are not executed yet, as far as they are known.
    pub(super) fn bodies_after(&self, height: Height) -> BTreeMap<Height, Vec<(Digest, Position)>> {
        self.bodies.range(height + 1..).map(|(height, bodies)| (*height, bodies.clone())).collect()
    }

    /// The certificates, in ascending order.
    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// What the core needs, in order.
    pub(super) fn into_core_records(self) -> Vec<Bytes> {
        self.core
    }
}

#[cfg(test)]
mod tests {
    //! What the scan of a stream remembers, and what it may forget.

    use super::*;
    use waybill_types::{Checkpoint, ClusterId, NetworkId};

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    fn joined(parts: Vec<Bytes>) -> Bytes {
        Bytes::from(parts.concat())
    }

    fn body(time_ms: u64) -> Bytes {
        Body { proposed_time_ms: time_ms, ..Body::default() }.to_bytes()
    }

    fn certificate(height: Height) -> Certificate {
        let checkpoint = Checkpoint {
            network: NetworkId(Digest::ZERO),
            ledger: LedgerId::SYSTEM,
            cluster: ClusterId(Digest::ZERO),
            epoch: 1,
            height,
            head: Digest::ZERO,
            time_ms: 1,
            tree_size: 1,
            tree_root: Digest::ZERO,
            state_root: Digest::ZERO,
        };
        Certificate { checkpoint, signatures: Vec::new() }
    }

    #[test]
    fn of_two_bodies_at_a_height_the_executed_one_is_found() {
        let mut recovered = Recovered::default();
        assert!(recovered.visit(at(1), joined(fetched_record(5, body(1)))));
        assert!(recovered.visit(at(2), joined(fetched_record(5, body(2)))));
        assert_eq!(recovered.executed_body(5), None, "nobody says which was executed");
        assert!(recovered.visit(at(3), joined(executed_record(5, Body::digest(&body(2))))));
        assert_eq!(recovered.executed_body(5), Some(at(2)));
        assert_eq!(recovered.bodies_after(4).len(), 1);
        assert!(recovered.bodies_after(5).is_empty());
    }

    #[test]
    fn what_sled_has_is_passed_over_and_older_certificates_with_it() {
        let mut recovered = Recovered::new(10);
        for height in [9, 10, 11] {
            assert!(recovered.visit(at(height as u32), joined(fetched_record(height, body(height)))));
            assert!(recovered.visit(at(0), joined(executed_record(height, Body::digest(&body(height))))));
            assert!(recovered.visit(at(0), joined(stable_record(&certificate(height)))));
        }
        assert_eq!(recovered.executed_body(9), None);
        assert_eq!(recovered.executed_body(11), Some(at(11)));
        let heights: Vec<_> = recovered.certificates().iter().map(|kept| kept.checkpoint.height).collect();
        assert_eq!(heights, [11]);
    }

    #[test]
    fn a_record_of_nobodys_is_refused() {
        let mut recovered = Recovered::default();
        for record in [&[][..], &[9], &[EXECUTED, 1], &[STABLE, 1], &[FETCHED]] {
            assert!(!recovered.visit(at(1), Bytes::copy_from_slice(record)), "{record:?}");
        }
    }
}

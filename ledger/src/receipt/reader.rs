//! A partition's own ledger as a source of receipts, on the nodes that have a replica.

use super::{Deliveries, LedgerSource, Level, SourceError};
use crate::partition::{Reader, SignedLeaf};
use waybill_types::{Certificate, Digest, LedgerId, Offset, OrgId};

impl LedgerSource for Reader {
    fn ledger(&self) -> LedgerId {
        Reader::ledger(self)
    }

    fn signed_leaf(&self, index: u64) -> Result<Option<SignedLeaf>, SourceError> {
        Ok(Reader::signed_leaf(self, index)?)
    }

    fn inclusion(&self, index: u64, tree_size: u64) -> Result<Option<Vec<Digest>>, SourceError> {
        Ok(Reader::inclusion(self, index, tree_size)?)
    }

    fn certificate_covering(&self, index: u64) -> Result<Option<Certificate>, SourceError> {
        Ok(self.certificate_covering_leaf(index)?.map(|certificate| certificate.as_ref().clone()))
    }
}

/// Without refusals, which a partition does not index: the global ledger has them.
impl Deliveries for Reader {
    fn deliveries(&self, offset: Offset) -> Result<Vec<(Level, OrgId, u64)>, SourceError> {
        let Some(entry) = self.entry_at(offset)?.filter(|entry| entry.base_offset <= offset) else {
            return Ok(Vec::new());
        };
        let mut found = vec![(Level::Sent, entry.sender.clone(), entry.leaf_index)];
        for (org, index) in self.retrieves(offset)? {
            if self.said_by(index, &entry.sender)? {
                found.push((Level::Retrieved, org, index));
            }
        }
        found.extend(self.receives(offset)?.into_iter().map(|(org, index)| (Level::Received, org, index)));
        found.extend(self.commits(offset)?.into_iter().map(|(org, index)| (Level::Committed, org, index)));
        Ok(found)
    }
}

impl Reader {
    /// Whether a node of this organisation put the leaf on the ledger.
    fn said_by(&self, index: u64, org: &OrgId) -> Result<bool, SourceError> {
        let origin = self.leaf(index)?.and_then(|leaf| leaf.origin).map(|(header, _)| header.origin);
        let config = self.config();
        let mut origins = config.iter().flat_map(|config| &config.origins);
        Ok(origins.any(|member| Some(member.node) == origin && member.org == *org))
    }
}

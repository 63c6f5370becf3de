//! Who the replicas of one epoch are, and how many of them decide.

use crate::codec_struct;
use crate::ids::{Epoch, NodeId, OrgId};
use crate::keys::PublicKey;
use alloc::{collections::BTreeSet, vec::Vec};

/// A node that signs: a replica of a cluster, or an origin of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Whose node it is: the unit of fault.
    pub org: OrgId,
    /// What its signatures verify with.
    pub key: PublicKey,
}
codec_struct!(Member { node, org, key });

/// The replicas of a cluster in one epoch. A replica's index in PBFT is its place here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which epoch this set orders.
    pub epoch: Epoch,
    /// The replicas, in the order of their indices.
    pub members: Vec<Member>,
}
codec_struct!(Membership { epoch, members });

impl Membership {
    /// How many replicas there are (n).
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// How many organisations may be faulty (f): the largest with 3f + 1 <= n.
    pub fn faults(&self) -> usize {
        faults(self.size())
    }

    /// How many replicas make a quorum.
    pub fn quorum(&self) -> usize {
        quorum(self.size())
    }

    /// The index of `node`, if it is a replica.
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.node == node)
    }

    /// How many organisations these replicas belong to: a verifier counts these, not replicas.
    pub fn organisations(&self) -> usize {
        self.members.iter().map(|member| &member.org).collect::<BTreeSet<_>>().len()
    }
}

/// How many of `n` replicas may be faulty.
pub const fn faults(n: usize) -> usize {
    n.saturating_sub(1) / 3
}

/// `ceil((n + f + 1) / 2)`: any two quorums share a correct replica, for every n (2f + 1 is too few at n = 5 and 6).
pub const fn quorum(n: usize) -> usize {
    (n + faults(n) + 2) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_of_one_to_ten() {
        let table = [
            (1, 0, 1),
            (2, 0, 2),
            (3, 0, 2),
            (4, 1, 3),
            (5, 1, 4),
            (6, 1, 4),
            (7, 2, 5),
            (8, 2, 6),
            (9, 2, 6),
            (10, 3, 7),
        ];
        for (n, f, q) in table {
            assert_eq!((faults(n), quorum(n)), (f, q), "n = {n}");
            assert!(2 * q > n + f, "two quorums share a correct replica, n = {n}");
            assert!(q <= n - f, "the correct replicas alone make a quorum, n = {n}");
        }
    }
}

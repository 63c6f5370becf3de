//! Why something about a partition could not be done, one enum per operation.

use crate::contract::BeginError;
use waybill_types::checkpoint::CertificateError;
use waybill_types::{DecodeError, Height};

/// A body that the journal did not give back.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The journal has no record there any more.
    #[error("the journal has no record at this position")]
    Missing,
    /// The record could not be read, or is no body.
    #[error("the journal's record cannot be read: {0}")]
    Unreadable(String),
}

/// Why a partition's derived state cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sled::Error),
    /// What is stored contradicts itself: [`forget`](super::forget) the ledger and rebuild it from the journal.
    #[error("the derived state is damaged: {0}")]
    Corrupt(&'static str),
    /// It is of another network or cluster.
    #[error("the derived state is of another cluster")]
    OtherCluster,
    /// The journal's records of the last blocks cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Why a body cannot be applied. Nothing has changed, and nothing after it can be applied either.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Bodies come one by one.
    #[error("sequence {got} cannot follow height {height}")]
    OutOfOrder {
        /// The last block.
        height: Height,
        /// What came.
        got: Height,
    },
    /// The bytes are no body, although PBFT has decided on them.
    #[error("the body does not decode: {0}")]
    Body(#[from] DecodeError),
    /// The first body is not the one that the cluster is named after.
    #[error("the first body is of another cluster")]
    OtherBeginning,
    /// The first body's configuration starts no contract.
    #[error(transparent)]
    Begin(#[from] BeginError),
}

/// Why a certificate says nothing about this partition's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertifiedError {
    /// It is of another network, ledger, cluster or epoch.
    #[error("the certificate is of another cluster or epoch")]
    OtherCluster,
    /// Its block is not executed yet.
    #[error("the certificate is of height {0}, which is not executed")]
    NotExecuted(Height),
    /// No checkpoint was made at its height.
    #[error("the certificate is of height {0}, where no checkpoint was made")]
    NoCheckpoint(Height),
    /// A quorum has certified something else than what was executed here. The replica must stop and say so.
    #[error("what was executed differs from what a quorum has certified at height {0}")]
    Diverged(Height),
}

/// Why a reader has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sled::Error),
    /// A stored row is not what its key says.
    #[error("a stored row is damaged: {0}")]
    Corrupt(&'static str),
    /// The block's body cannot be read back.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Why blocks and a certificate do not continue a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is no block.
    #[error("no blocks were given")]
    Empty,
    /// The certificate is of another network, ledger or cluster.
    #[error("the certificate is of another cluster")]
    OtherCluster,
    /// The certificate proves nothing.
    #[error("the certificate proves nothing: {0}")]
    Certificate(#[from] CertificateError),
    /// The last block is not the one that the certificate is about.
    #[error("the last block, of height {0}, is not the certified one")]
    NotCertified(Height),
    /// Heights do not follow each other.
    #[error("height {got} does not follow height {height}")]
    NotContiguous {
        /// The chain's height.
        height: Height,
        /// What came.
        got: Height,
    },
    /// A block of another ledger.
    #[error("the block of height {0} is of another ledger")]
    OtherLedger(Height),
    /// A block does not name the one before it.
    #[error("the block of height {0} follows another block")]
    WrongPrevious(Height),
    /// A body is not the one that its header names.
    #[error("the body of height {0} is not the one of its header")]
    WrongBody(Height),
    /// The first body is not the one that the cluster is named after.
    #[error("the first body is of another cluster")]
    OtherBeginning,
    /// A body does not decode.
    #[error("the body of height {0} does not decode")]
    Undecodable(Height),
    /// Outcomes are too few, too many, or cannot be those of their transactions.
    #[error("the outcomes of height {0} do not fit its transactions")]
    WrongOutcomes(Height),
    /// Transactions and outcomes do not lead to the header's tree.
    #[error("the transactions and outcomes of height {0} are not those of its tree")]
    WrongTree(Height),
    /// The header's time or offset is not what execution derives.
    #[error("the header of height {0} is not what its body leads to")]
    WrongHeader(Height),
}

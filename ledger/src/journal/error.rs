//! One small error per operation. Failures of the disk while the journal runs have none: they end the process (see [`fatal`]).

use std::io;
use std::path::{Path, PathBuf};

use super::format::Position;

/// Why a journal does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option is outside its limits.
    #[error("journal option {option} is {value}, which is not within {limits}")]
    Option {
        /// The field of [`Options`](super::Options).
        option: &'static str,
        /// What was asked for.
        value: u64,
        /// What can be had.
        limits: &'static str,
    },
    /// Another process, or another journal in this one, has the directory open.
    #[error("the journal in {} is already open, by process {holder}", dir.display())]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
        /// Process id of the holder as it noted it, or a question mark.
        holder: String,
    },
    /// Something that had been synced is not what was written: the disk or somebody has altered it. Nothing was changed.
    #[error("the journal is corrupt: {} at offset {offset}: {what}", file.display())]
    Corrupt {
        /// The segment's file.
        file: PathBuf,
        /// Offset of the first thing in it that is wrong.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A segment between others is gone.
    #[error("the journal in {} lacks segment {segment}", dir.display())]
    MissingSegment {
        /// The journal's directory.
        dir: PathBuf,
        /// The missing segment's number.
        segment: u64,
    },
    /// The caller has state up to [`Options::scan_from`](super::Options::scan_from), and the journal does not reach that far: records
    /// that the state was made from are gone, or it belongs to another journal.
    #[error("the journal in {} ends at {end}: the record at {scan_from}, from which on it was to be read, is gone", dir.display())]
    EndsBefore {
        /// The journal's directory.
        dir: PathBuf,
        /// Where the next record would be.
        end: Position,
        /// Where reading was to begin.
        scan_from: Position,
    },
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The visitor refused a record.
    #[error("the record at {position} of the journal in {} cannot be applied: {source}", dir.display())]
    Visitor {
        /// The journal's directory.
        dir: PathBuf,
        /// The refused record.
        position: Position,
        /// The visitor's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Why an append is refused. Nothing of it is kept, and its callback is dropped uncalled.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is slower than the appends: try again when some of them are done.
    #[error("the journal has {queued_bytes} bytes waiting to be written; its limit is {limit}")]
    QueueFull {
        /// Bytes that were waiting.
        queued_bytes: u64,
        /// [`Options::queue_bytes_limit`](super::Options::queue_bytes_limit).
        limit: u64,
    },
    /// No record may be longer than [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
    #[error("a record of {bytes} bytes is more than a journal takes")]
    RecordTooLarge {
        /// The record's length.
        bytes: u64,
    },
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment was removed, or never was.
    #[error("the journal has no segment {}", position.segment)]
    UnknownSegment {
        /// What was asked for.
        position: Position,
    },
    /// No record begins there, or its bytes are not what was written.
    #[error("{} at offset {}: {what}", file.display(), position.offset)]
    Corrupt {
        /// The segment's file.
        file: PathBuf,
        /// What was asked for.
        position: Position,
        /// What is wrong.
        what: &'static str,
    },
    /// A system call failed.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The segment's file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Ends the process. After a failed write or sync nobody can say what is on the disk (the kernel may have dropped the dirty pages
/// and reported the error once), so the only safe way on is to start again from what recovery finds.
pub(super) fn fatal(journal: &str, action: &str, path: &Path, error: &io::Error) -> ! {
    tracing::error!(journal, path = %path.display(), %error, "cannot {action}: the journal's promises no longer hold, aborting");
    std::process::abort()
}

//! The journal's directory: who holds it, which files are in it, how a segment's file comes to be.
//!
//! | name | what |
//! |---|---|
//! | `lock` | locked (flock) while the journal is open; contains the holder's process id |
//! | `<16 hex digits>.segment` | a segment, by number |
//! | `<16 hex digits>.spare` | the file of a removed segment, kept to be written again |
//! | `next.tmp` | a segment in the making |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::error::OpenError;
use super::format;

const SEGMENT_SUFFIX: &str = "segment";
const SPARE_SUFFIX: &str = "spare";

/// Holds the directory; dropping it lets go.
#[derive(Debug)]
pub(super) struct DirectoryLock(File);

impl DirectoryLock {
    /// Creates the directory where it is missing and takes its lock.
    pub fn acquire(dir: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(OpenError::io("create the directory", dir))?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(OpenError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { dir: dir.to_owned(), holder: noted_holder(&file) });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::io("lock", &path)(source)),
        }
        // The note serves people only; what counts is the lock.
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(OpenError::io("write", &path))?;
        Ok(Self(file))
    }
}

impl Drop for DirectoryLock {
    /// Closing the file alone would leave the lock to a child process that is being started just now and has not let go of its copy.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "cannot unlock the journal's directory");
        }
    }
}

fn noted_holder(file: &File) -> String {
    let mut noted = String::new();
    match file.take(20).read_to_string(&mut noted) {
        Ok(length) if length > 0 => noted,
        _ => "?".to_owned(),
    }
}

/// What [`list`] found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Numbers of the segments, ascending, without gaps.
    pub segments: Vec<u64>,
    /// Files that may be written again.
    pub spares: Vec<PathBuf>,
}

/// The segments and spares of a journal's directory. Files of other names are not touched.
pub(super) fn list(dir: &Path) -> Result<Listing, OpenError> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir).map_err(OpenError::io("list", dir))? {
        let path = entry.map_err(OpenError::io("list", dir))?.path();
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| u64::from_str_radix(stem, 16).ok());
        match (number, suffix) {
            (Some(number), Some(SEGMENT_SUFFIX)) if path == segment_path(dir, number) => listing.segments.push(number),
            (Some(_), Some(SPARE_SUFFIX)) => listing.spares.push(path),
            _ => {}
        }
    }
    listing.segments.sort_unstable();
    match listing.segments.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        Some(pair) => Err(OpenError::MissingSegment { dir: dir.to_owned(), segment: pair[0] + 1 }),
        None => Ok(listing),
    }
}

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{SEGMENT_SUFFIX}"))
}

pub(super) fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{SPARE_SUFFIX}"))
}

/// Where a segment is made that is not made of a spare.
pub(super) fn making_path(dir: &Path) -> PathBuf {
    dir.join("next.tmp")
}

/// Makes the names in the directory durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a segment's file, or writes `spare` anew. When this returns, the file is durably there, as long as asked for, with its
/// header in it: a segment's name never stands for anything less, whenever the machine stops.
pub(super) fn create_segment(
    dir: &Path,
    number: u64,
    file_bytes: u64,
    spare: Option<PathBuf>,
) -> io::Result<(File, u64)> {
    let nonce = random_nonce()?;
    let fresh = spare.is_none();
    let making = spare.unwrap_or_else(|| making_path(dir));
    let mut options = OpenOptions::new();
    // Payloads, and what log-ins are checked against: its owner's alone.
    options.create(true).truncate(fresh).read(true).write(true).mode(0o600);
    let file = options.open(&making)?;
    preallocate(&file, file_bytes)?;
    file.write_all_at(&format::segment_header(number, nonce), 0)?;
    file.sync_all()?;
    fs::rename(&making, segment_path(dir, number))?;
    sync_directory(dir)?;
    Ok((file, nonce))
}

/// Reserves the blocks up to `file_bytes`, so that no later write of the segment meets a full disk, and a sync has no new length to
/// record.
pub(super) fn preallocate(file: &File, file_bytes: u64) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, file_bytes)) {
        Ok(()) => Ok(()),
        // A file system without it (NFS 3, ZFS): the length at least. A full disk is then met by a write, and is as fatal.
        Err(Errno::OPNOTSUPP) if file.metadata()?.len() < file_bytes => file.set_len(file_bytes),
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn random_nonce() -> io::Result<u64> {
    let mut nonce = [0; 8];
    SystemRandom::new().fill(&mut nonce).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(u64::from_le_bytes(nonce))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn segments_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = create_segment(dir.path(), 1, 4_096, None).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

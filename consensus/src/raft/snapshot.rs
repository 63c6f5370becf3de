//! Snapshots as files: one directory per group, of which the newest file counts.
//!
//! ```text
//! | magic "WBRSNAP1" | body: what the machine wrote | meta | length of meta: 4 | SHA-256 of all before: 32 |
//! ```
//!
//! The meta stands behind the body because a machine knows it when it has written. A file is written under another name, synced
//! and renamed: one with a snapshot's name is whole, and its digest tells damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use waybill_types::codec::{DecodeError, Reader};

use super::types::{LogId, SnapshotMeta, StoredMembership};
use super::wire::Wire;

const MAGIC: [u8; 8] = *b"WBRSNAP1";
const DIGEST_BYTES: usize = 32;
const TAIL_BYTES: usize = 4 + DIGEST_BYTES;
/// A meta is a log id and a membership; nobody has so many nodes.
const META_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 1 << 18;

/// How far a machine has applied: what it keeps as its `meta`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// The last entry that was applied whole.
    pub log_id: Option<LogId>,
    /// How many commands of the entry after it were applied too.
    pub partial: u32,
    pub membership: StoredMembership,
}

impl Wire for Applied {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id.put(out);
        self.partial.put(out);
        self.membership.put(out);
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let (log_id, partial) = (Option::read(input)?, u32::read(input)?);
        Ok(Applied { log_id, partial, membership: StoredMembership::read(input)? })
    }
}

/// A verified snapshot on the disk.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    path: PathBuf,
    /// The machine's meta, as bytes.
    pub applied_bytes: Bytes,
    pub applied: Applied,
    /// For openraft; its id is made from the content, so that equal ids mean equal bytes.
    pub meta: SnapshotMeta,
    body_bytes: u64,
}

impl Stored {
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    pub fn file_bytes(&self) -> u64 {
        self.body_bytes + (MAGIC.len() + self.applied_bytes.len() + TAIL_BYTES) as u64
    }

    /// What the machine wrote.
    pub fn body(&self) -> io::Result<impl Read + use<>> {
        let mut file = self.open()?;
        file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file).take(self.body_bytes))
    }
}

/// A group's snapshot directory.
#[derive(Debug)]
pub(super) struct Snapshots {
    dir: PathBuf,
    newest: Mutex<Option<Stored>>,
    made: AtomicU64,
}

impl Snapshots {
    /// Opens the directory, creating it where it is missing. Leftovers of a crash and all but the newest intact snapshot are removed.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let this = Self { dir: dir.to_owned(), newest: Mutex::new(None), made: AtomicU64::new(0) };
        let mut newest: Option<Stored> = None;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("tmp") => fs::remove_file(&path)?,
                Some("snapshot") => match verify(&path) {
                    Ok(stored) if newest.as_ref().is_none_or(|newest| newest.is_older_than(&stored)) => {
                        newest = Some(stored);
                    }
                    Ok(_) => {}
                    // Kept for whoever wants to look; another is made from the machine, or comes from the leader.
                    Err(error) => tracing::warn!(path = %path.display(), %error, "ignoring a damaged Raft snapshot"),
                },
                _ => {}
            }
        }
        if let Some(newest) = newest {
            this.keep(newest)?;
        }
        Ok(this)
    }

    pub fn newest(&self) -> Option<Stored> {
        self.newest.lock().clone()
    }

    /// Makes a snapshot of what `write` writes; it returns the meta.
    pub fn make(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<Bytes>) -> io::Result<Stored> {
        let (path, file) = self.create()?;
        let mut out = Digesting { out: BufWriter::with_capacity(BUFFER_BYTES, file), context: Context::new(&SHA256) };
        let written = (|| {
            out.write_all(&MAGIC)?;
            let meta = write(&mut out)?;
            let length = u32::try_from(meta.len()).map_err(io::Error::other)?;
            out.write_all(&meta)?;
            out.write_all(&length.to_be_bytes())?;
            let Digesting { mut out, context } = out;
            out.write_all(context.finish().as_ref())?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        })();
        self.finish(&path, written, |_| Ok(()))
    }

    /// An empty file to receive a snapshot into, and its name.
    pub fn create(&self) -> io::Result<(PathBuf, File)> {
        let path = self.dir.join(format!("{}.tmp", self.made.fetch_add(1, Ordering::Relaxed)));
        let mut options = OpenOptions::new();
        // An organisation's ledger holds what log-ins are checked against: its owner's alone.
        let file = options.create(true).truncate(true).read(true).write(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    /// Makes a file that [`create`](Self::create) gave, when its content is complete, the newest snapshot; `accept` decides
    /// whether it is one. The file is gone if this fails.
    pub fn adopt(&self, path: &Path, accept: impl FnOnce(&Stored) -> io::Result<()>) -> io::Result<Stored> {
        self.finish(path, File::open(path).and_then(|file| file.sync_all()), accept)
    }

    /// Copies a snapshot from an open file and makes it the newest.
    pub fn copy(&self, source: &mut File) -> io::Result<Stored> {
        let (path, mut file) = self.create()?;
        source.seek(SeekFrom::Start(0))?;
        let copied = io::copy(source, &mut file).and_then(|_| file.sync_all());
        self.finish(&path, copied, |_| Ok(()))
    }

    fn finish(
        &self,
        path: &Path,
        written: io::Result<()>,
        accept: impl FnOnce(&Stored) -> io::Result<()>,
    ) -> io::Result<Stored> {
        let adopted = written.and_then(|()| verify(path)).and_then(|mut stored| {
            accept(&stored)?;
            let index = stored.meta.last_log_id.map_or(0, |log_id| log_id.index);
            stored.path = self.dir.join(format!("{index:016x}-{}.snapshot", stored.digest_prefix()));
            fs::rename(path, &stored.path)?;
            File::open(&self.dir)?.sync_all()?;
            self.keep(stored)
        });
        if adopted.is_err() {
            let _may_have_been_renamed = fs::remove_file(path);
        }
        adopted
    }

    /// Lets `stored` be the newest, unless a newer one is there, and removes the others. One that comes late (made here while a
    /// newer one came from the leader) stays until the next, since its maker is going to open it.
    fn keep(&self, stored: Stored) -> io::Result<Stored> {
        let mut newest = self.newest.lock();
        if newest.as_ref().is_none_or(|newest| !stored.is_older_than(newest)) {
            *newest = Some(stored.clone());
        }
        let kept = [Some(&stored.path), newest.as_ref().map(|newest| &newest.path)];
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "snapshot") && !kept.contains(&Some(&path)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(stored)
    }
}

impl Stored {
    fn is_older_than(&self, other: &Stored) -> bool {
        self.meta.last_log_id < other.meta.last_log_id
    }

    fn digest_prefix(&self) -> &str {
        self.meta.snapshot_id.rsplit('-').next().unwrap_or_default()
    }
}

/// Reads a whole file, and what it is if it is a snapshot.
fn verify(path: &Path) -> io::Result<Stored> {
    let mut file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let digested_bytes = file_bytes.checked_sub(DIGEST_BYTES as u64).ok_or_else(|| invalid("it is too short"))?;
    let digest = digest_of(BufReader::with_capacity(BUFFER_BYTES, &file).take(digested_bytes))?;

    let tail_at = file_bytes.checked_sub(TAIL_BYTES as u64).ok_or_else(|| invalid("it is too short"))?;
    let mut tail = [0; TAIL_BYTES];
    file.seek(SeekFrom::Start(tail_at))?;
    file.read_exact(&mut tail)?;
    let (length, expected) = tail.split_at(4);
    if expected != digest {
        return Err(invalid("its content does not match its digest"));
    }
    let mut magic = [0; MAGIC.len()];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(invalid("it is not a snapshot of this version"));
    }
    let meta_bytes = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let body_and_meta_bytes = tail_at - MAGIC.len() as u64;
    if meta_bytes > META_BYTES_MAX || meta_bytes as u64 > body_and_meta_bytes {
        return Err(invalid("the length of its meta is wrong"));
    }
    let mut meta = vec![0; meta_bytes];
    file.seek(SeekFrom::Start(tail_at - meta_bytes as u64))?;
    file.read_exact(&mut meta)?;
    let applied_bytes = Bytes::from(meta);
    let applied = Applied::from_wire(&applied_bytes).map_err(io::Error::other)?;
    let body_bytes = body_and_meta_bytes - meta_bytes as u64;
    Ok(Stored { path: path.to_owned(), meta: openraft_meta(&applied, &digest), applied_bytes, applied, body_bytes })
}

fn openraft_meta(applied: &Applied, digest: &[u8]) -> SnapshotMeta {
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let last = applied.log_id.map_or_else(|| "none".to_owned(), |log_id| log_id.to_string());
    SnapshotMeta {
        last_log_id: applied.log_id,
        last_membership: applied.membership.clone(),
        snapshot_id: format!("{last}-{digest}"),
    }
}

fn digest_of(mut input: impl Read) -> io::Result<[u8; DIGEST_BYTES]> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    context.finish().as_ref().try_into().map_err(io::Error::other)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Digests what is written through it.
struct Digesting<W> {
    out: W,
    context: Context,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.context.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::*;

    fn applied(index: u64) -> Bytes {
        let log_id = Some(LogId::new(CommittedLeaderId::new(1, 1), index));
        Applied { log_id, ..Applied::default() }.to_wire()
    }

    fn make(snapshots: &Snapshots, index: u64, body: &[u8]) -> Stored {
        let made = snapshots.make(|out| out.write_all(body).map(|()| applied(index)));
        made.unwrap()
    }

    fn body(stored: &Stored) -> Vec<u8> {
        let mut body = Vec::new();
        stored.body().unwrap().read_to_end(&mut body).unwrap();
        body
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn snapshots_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        make(&snapshots, 1, b"keys");
        for entry in fs::read_dir(dir.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn the_newest_is_kept_alone_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        assert!(snapshots.newest().is_none());
        make(&snapshots, 5, b"five");
        let seven = make(&snapshots, 7, b"seven");
        fs::write(dir.path().join("9.tmp"), b"left over").unwrap();
        let again = Snapshots::open(dir.path()).unwrap();
        let newest = again.newest().unwrap();
        assert_eq!((newest.meta.clone(), body(&newest)), (seven.meta, b"seven".to_vec()));
        assert_eq!(names(dir.path()).len(), 1);
        // An older one does not displace it.
        make(&again, 6, b"six");
        assert_eq!(body(&again.newest().unwrap()), b"seven");
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        let stored = make(&snapshots, 5, b"some content");
        let good = fs::read(&stored.path).unwrap();
        let other = dir.path().join("other.tmp");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&other, &bad).unwrap();
            assert!(verify(&other).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            fs::write(&other, &good[..length]).unwrap();
            assert!(verify(&other).is_err(), "{length} bytes");
        }
        fs::write(&stored.path, &good[..good.len() - 1]).unwrap();
        assert!(Snapshots::open(dir.path()).unwrap().newest().is_none());
    }

    #[test]
    fn a_failing_writer_and_a_refused_snapshot_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        let failed = snapshots.make(|out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        assert!(failed.is_err());
        let from = tempfile::tempdir().unwrap();
        let sent = make(&Snapshots::open(from.path()).unwrap(), 3, b"three");
        let (path, mut file) = snapshots.create().unwrap();
        io::copy(&mut sent.open().unwrap(), &mut file).unwrap();
        assert!(snapshots.adopt(&path, |_| Err(io::Error::other("forged"))).is_err());
        assert_eq!(names(dir.path()), Vec::<String>::new());

        let (path, mut file) = snapshots.create().unwrap();
        io::copy(&mut sent.open().unwrap(), &mut file).unwrap();
        let adopted = snapshots.adopt(&path, |_| Ok(())).unwrap();
        assert_eq!(adopted.file_bytes(), adopted.open().unwrap().metadata().unwrap().len());
        assert_eq!((adopted.meta, body(&snapshots.newest().unwrap())), (sent.meta, b"three".to_vec()));
    }
}

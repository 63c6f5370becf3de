//! The set of segments: their open files, their creation, their removal and reuse.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::Advice;

use super::directory;
use super::format::{self, FIRST_RECORD};

/// Files kept open for reading beside those in use. A payload store has thousands of segments, a process by default 1,024 files.
const OPEN_FILES_MAX: usize = 64;

/// An open segment. Whoever reads holds it by `Arc`, and no file is reused while somebody does.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub nonce: u64,
    pub path: PathBuf,
    pub file: File,
}

/// Why [`Segments::open`] gives no segment.
#[derive(Debug)]
pub(super) enum SegmentError {
    Unknown,
    Header { file: PathBuf, what: &'static str },
    Io { file: PathBuf, source: io::Error },
}

#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    spares_max: usize,
    set: Mutex<Set>,
    /// Held while segments are removed: two removals at once would leave gaps.
    removal: Mutex<()>,
}

#[derive(Debug, Default)]
struct Set {
    /// Every segment of the journal. The weak side finds a file that somebody reads although it is no longer in `open`, so that
    /// there is at most one `Segment` of a number, and its count of holders is the truth.
    known: BTreeMap<u64, Weak<Segment>>,
    open: HashMap<u64, OpenFile>,
    clock: u64,
    spares: Vec<PathBuf>,
}

#[derive(Debug)]
struct OpenFile {
    /// Held, so that the file stays open.
    _segment: Arc<Segment>,
    last_used: u64,
}

impl Segments {
    /// The set that `listing` found. Spares above `spares_max` are deleted, and a segment that a crash left in the making.
    pub fn new(dir: &Path, listing: directory::Listing, spares_max: usize) -> io::Result<Self> {
        let mut spares = listing.spares;
        for excess in spares.drain(spares_max.min(spares.len())..) {
            fs::remove_file(excess)?;
        }
        match fs::remove_file(directory::making_path(dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let known = listing.segments.into_iter().map(|number| (number, Weak::new())).collect();
        let set = Mutex::new(Set { known, spares, ..Set::default() });
        Ok(Self { dir: dir.to_owned(), spares_max, set, removal: Mutex::new(()) })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.set.lock().known.keys().copied().collect()
    }

    /// The oldest and the newest; an open journal has at least one.
    pub fn numbers_range(&self) -> RangeInclusive<u64> {
        let set = self.set.lock();
        let oldest = set.known.keys().next().copied().unwrap_or(0);
        oldest..=set.known.keys().next_back().copied().unwrap_or(0)
    }

    /// The segment of this number, opened if it is not.
    pub fn open(&self, number: u64) -> Result<Arc<Segment>, SegmentError> {
        let mut set = self.set.lock();
        let Some(known) = set.known.get(&number) else { return Err(SegmentError::Unknown) };
        let segment = match known.upgrade() {
            Some(segment) => segment,
            None => Arc::new(open_segment(&self.dir, number)?),
        };
        set.keep_open(&segment);
        Ok(segment)
    }

    /// Creates the segment `number` with room for `file_bytes`, in a spare file if one is left and `reuse` allows it.
    pub fn create(&self, number: u64, file_bytes: u64, reuse: bool) -> io::Result<Arc<Segment>> {
        let spare = if reuse { self.set.lock().spares.pop() } else { None };
        let (file, nonce) = directory::create_segment(&self.dir, number, file_bytes, spare)?;
        let path = directory::segment_path(&self.dir, number);
        let segment = Arc::new(Segment { number, nonce, path, file });
        self.set.lock().keep_open(&segment);
        Ok(segment)
    }

    /// Advises the system to forget what it has cached of a synced segment. The memory then serves the segments to come, instead of
    /// growing until the system is short of it.
    pub fn drop_from_page_cache(&self, number: u64) {
        if let Ok(segment) = self.open(number)
            && let Err(error) = rustix::fs::fadvise(&segment.file, 0, None, Advice::DontNeed)
        {
            tracing::debug!(path = %segment.path.display(), %error, "the page cache takes no advice");
        }
    }

    /// Removes the segments below `number`, but never the newest, which is being written. Oldest first and each durably before the
    /// next, so that a crash leaves no gap.
    pub fn remove_before(&self, number: u64) -> io::Result<usize> {
        let _one_at_a_time = self.removal.lock();
        let mut removed = 0;
        while self.remove_oldest_below(number)? {
            removed += 1;
        }
        Ok(removed)
    }

    fn remove_oldest_below(&self, number: u64) -> io::Result<bool> {
        let (oldest, reusable) = {
            let mut set = self.set.lock();
            let Some(oldest) =
                set.known.keys().next().copied().filter(|oldest| *oldest < number && set.known.len() > 1)
            else {
                return Ok(false);
            };
            set.open.remove(&oldest);
            // Still open means that somebody reads it: those bytes must not change, so the file goes when the reader has gone.
            let read = set.known.remove(&oldest).is_some_and(|segment| segment.strong_count() > 0);
            (oldest, !read && set.spares.len() < self.spares_max)
        };
        let path = directory::segment_path(&self.dir, oldest);
        let spare = directory::spare_path(&self.dir, oldest);
        let gone = if reusable { fs::rename(&path, &spare) } else { fs::remove_file(&path) };
        if let Err(error) = gone {
            self.set.lock().known.insert(oldest, Weak::new());
            return Err(error);
        }
        // Only after this may the spare be written: before, a crash could bring it back under its old name.
        directory::sync_directory(&self.dir)?;
        if reusable {
            self.set.lock().spares.push(spare);
        }
        Ok(true)
    }
}

impl Set {
    fn keep_open(&mut self, segment: &Arc<Segment>) {
        self.clock += 1;
        self.known.insert(segment.number, Arc::downgrade(segment));
        let last_used = self.clock;
        self.open.insert(segment.number, OpenFile { _segment: Arc::clone(segment), last_used });
        if self.open.len() > OPEN_FILES_MAX {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.last_used).map(|(number, _)| *number);
            oldest.and_then(|number| self.open.remove(&number));
        }
    }
}

fn open_segment(dir: &Path, number: u64) -> Result<Segment, SegmentError> {
    let path = directory::segment_path(dir, number);
    let mut block = Vec::new();
    let opened = OpenOptions::new().read(true).write(true).open(&path).and_then(|file| {
        block = vec![0; FIRST_RECORD.min(file.metadata()?.len()) as usize];
        file.read_exact_at(&mut block, 0)?;
        Ok(file)
    });
    let file = match opened {
        Ok(file) => file,
        Err(source) => return Err(SegmentError::Io { file: path, source }),
    };
    match format::parse_segment_header(&block, number) {
        Ok(nonce) => Ok(Segment { number, nonce, path, file }),
        Err(what) => Err(SegmentError::Header { file: path, what }),
    }
}

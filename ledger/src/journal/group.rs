//! The bytes of one write: small parts copied together, large ones by reference, handed to the system as one vector.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;

use bytes::Bytes;

/// Up to here copying is cheaper than one more element of the vector.
const COPY_BYTES_MAX: usize = 4096;

/// IOV_MAX of Linux: longer vectors are refused.
const SLICES_MAX: usize = 1024;

/// What the staging buffer may keep between groups.
const STAGED_BYTES_KEPT: usize = 1 << 20;

/// Bytes that follow each other in the file.
#[derive(Debug, Default)]
pub(super) struct Group {
    staged: Vec<u8>,
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
enum Chunk {
    Staged(Range<usize>),
    Shared(Bytes),
}

impl Group {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends a copy of `bytes`.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.staged.len();
        self.staged.extend_from_slice(bytes);
        match self.chunks.last_mut() {
            Some(Chunk::Staged(range)) => range.end = self.staged.len(),
            _ => self.chunks.push(Chunk::Staged(start..self.staged.len())),
        }
    }

    /// Appends `bytes` without copying them if they are many.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            self.push_copy(&bytes);
        } else {
            self.chunks.push(Chunk::Shared(bytes));
        }
    }

    /// Writes all of it at `offset`, in as few calls as the system allows, and is empty again.
    pub fn write_to(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let mut written = 0;
        for chunks in self.chunks.chunks(SLICES_MAX) {
            let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(self.bytes_of(chunk))).collect();
            written += write_all_at(file, &mut slices, offset + written)?;
        }
        self.chunks.clear();
        self.staged.clear();
        self.staged.shrink_to(STAGED_BYTES_KEPT);
        Ok(())
    }

    fn bytes_of<'a>(&'a self, chunk: &'a Chunk) -> &'a [u8] {
        match chunk {
            Chunk::Staged(range) => &self.staged[range.clone()],
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// Writes every slice. One call does it, unless the system takes less (it never takes more than 2 GiB at once).
fn write_all_at(file: &File, mut slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<u64> {
    let mut written = 0;
    while !slices.is_empty() {
        let taken = rustix::io::retry_on_intr(|| rustix::io::pwritev(file, slices, offset + written))?;
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        written += taken as u64;
        IoSlice::advance_slices(&mut slices, taken);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn small_and_large_parts_and_more_of_them_than_a_vector_takes_arrive_in_order() {
        let mut expected = Vec::new();
        let mut group = Group::default();
        for index in 0..3000_usize {
            let part = vec![index as u8; if index % 2 == 0 { 3 } else { COPY_BYTES_MAX + index }];
            expected.extend_from_slice(&part);
            group.push(part.into());
        }
        let mut file = tempfile::tempfile().unwrap();
        group.write_to(&file, 10).unwrap();
        assert!(group.is_empty());
        group.push_copy(b"tail");
        group.push(Bytes::new());
        group.write_to(&file, 10 + expected.len() as u64).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        expected.splice(0..0, [0; 10]);
        expected.extend_from_slice(b"tail");
        assert!(bytes == expected);
    }
}

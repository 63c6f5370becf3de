//! The bytes of one write: small parts copied together, large ones by reference, handed to the system as one vector.

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;

use bytes::Bytes;
use rustix::fs::Advice;

use super::format::BLOCK_BYTES;

/// Up to here copying is cheaper than one more element of the vector.
const COPY_BYTES_MAX: usize = 4096;

/// IOV_MAX of Linux: longer vectors are refused.
const SLICES_MAX: usize = 1024;

/// Written by one call; of a larger group the disk begins with the first such piece while the second is copied.
const WRITE_BYTES: usize = 2 << 20;

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

    /// Writes all of it at `offset`, in as few calls as the system allows, and is empty again. Of a large group the disk gets what is
    /// written while the rest is being copied, instead of all of it at the sync.
    pub fn write_to(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let (mut at, mut handed_over) = (offset, offset);
        let mut slices = Vec::new();
        let mut bytes = 0;
        for chunk in &self.chunks {
            let mut rest = self.bytes_of(chunk);
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(WRITE_BYTES - bytes));
                slices.push(IoSlice::new(piece));
                (bytes, rest) = (bytes + piece.len(), behind);
                if bytes < WRITE_BYTES && slices.len() < SLICES_MAX {
                    continue;
                }
                at += write_all_at(file, &mut slices, at)?;
                slices.clear();
                bytes = 0;
                if at - handed_over >= WRITE_BYTES as u64 {
                    handed_over = hand_over(file, handed_over, at);
                }
            }
        }
        write_all_at(file, &mut slices, at)?;
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

/// Lets the system begin to write what is in the page cache between these offsets, whole blocks of it; returns where it goes on. The
/// advice is meant for clean pages, which are forgotten, but dirty ones are first sent to the disk, without anybody waiting for it. A
/// system that does otherwise writes at the sync.
fn hand_over(file: &File, from: u64, to: u64) -> u64 {
    let (from, end) = (from.next_multiple_of(BLOCK_BYTES), to / BLOCK_BYTES * BLOCK_BYTES);
    let Some(length) = end.checked_sub(from).and_then(NonZeroU64::new) else { return from };
    match rustix::fs::fadvise(file, from, Some(length), Advice::DontNeed) {
        Ok(()) => end,
        Err(_) => to,
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
    fn a_group_of_several_writes_arrives_in_order() {
        let parts: Vec<Bytes> = [100, WRITE_BYTES, 2 * WRITE_BYTES + 4097, 5, WRITE_BYTES - 1, 3]
            .iter()
            .enumerate()
            .map(|(index, length)| (0..*length).map(|at| (at / 7 + index) as u8).collect())
            .collect();
        let mut group = Group::default();
        parts.iter().for_each(|part| group.push(part.clone()));
        let mut file = tempfile::tempfile().unwrap();
        group.write_to(&file, 24).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes[24..] == parts.concat());
    }

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

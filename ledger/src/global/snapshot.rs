//! The whole global ledger as a stream, in bounded memory, and taking one over.
//!
//! A snapshot certifies itself: it consists of blocks and the certificates over them, and whoever takes it over checks
//! each chain as if its blocks came one command at a time. So it is not trusted, and it replaces nothing: blocks that
//! are here already stay, and the others are appended behind them. If the stream ends or breaks in the middle, or the
//! node dies, what was appended until then is certified all the same; Raft's log id is set at the very end, and
//! commands that are applied again, or the snapshot sent again, skip what is here.
//!
//! # Stream
//! Frames of `kind: u8 | length: u32 | payload | CRC-32C: u32`, big-endian, the checksum over all before it in the frame:
//! one *begin*, then per ledger one *ledger*, *blocks* and *certificates* in the order of height, and one *end* with
//! the SHA-256 of everything before it. The system ledger comes first, since the others' replicas are named there.

use super::command::{ANCHOR_BYTES_MAX, Anchor, Answer, BLOCKS_PER_ANCHOR_MAX, Command, Rejected};
use super::keys::Key;
use super::rows::LedgerRow;
use super::stage::Stage;
use super::{GlobalLedger, StoreError};
use bytes::Bytes;
use std::io::{self, Read, Write};
use std::sync::Arc;
use waybill_types::digest::Hasher;
use waybill_types::{Block, Certificate, Codec, DecodeError, Digest, Height, LedgerId, NetworkId, codec_struct};

const MAGIC: [u8; 8] = *b"WB-GLOB\x01";
/// Nothing in a frame is larger than the command that brought it.
const FRAME_BYTES_MAX: usize = ANCHOR_BYTES_MAX;

/// What heads a snapshot.
#[derive(Debug, PartialEq, Eq)]
struct Begin {
    magic: [u8; 8],
    network: NetworkId,
    /// Raft's log id that the snapshot is as of.
    applied: Option<Bytes>,
    rejected_elsewhere: u64,
    ledgers: u32,
}
codec_struct!(Begin { magic, network, applied, rejected_elsewhere, ledgers });

/// What heads a ledger's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    ledger: LedgerId,
    height: Height,
    rejected: u64,
}
codec_struct!(Part { ledger, height, rejected });

mod kind {
    pub const BEGIN: u8 = 1;
    pub const LEDGER: u8 = 2;
    pub const BLOCK: u8 = 3;
    pub const CERTIFICATE: u8 = 4;
    pub const END: u8 = 5;
}

/// Why a snapshot cannot be written or taken over.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream failed.
    #[error("the snapshot's stream failed: {0}")]
    Io(#[from] io::Error),
    /// This node's own storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream is not a snapshot, or was damaged or cut.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// A part of the stream does not decode.
    #[error("the snapshot is damaged: {0}")]
    Undecodable(#[from] DecodeError),
    /// It is of another network.
    #[error("the snapshot is of another network")]
    OtherNetwork,
    /// Blocks that are not certified, or contradict those that are here.
    #[error("the snapshot's blocks of {ledger} are refused: {rejected}")]
    Refused {
        /// Of which ledger.
        ledger: LedgerId,
        /// Why.
        rejected: Rejected,
    },
}

impl GlobalLedger {
    /// Writes everything up to now, while commands go on being applied. Returns Raft's log id that it is as of.
    pub fn write_snapshot(&self, out: &mut dyn Write) -> Result<Option<Bytes>, SnapshotError> {
        let (begin, parts) = self.outline();
        let applied = begin.applied.clone();
        let mut out = FrameWriter { out, hasher: snapshot_hasher() };
        out.frame(kind::BEGIN, &begin)?;
        for part in parts {
            out.frame(kind::LEDGER, &part)?;
            self.write_ledger(&part, &mut out)?;
        }
        let digest = out.hasher.clone().finish();
        out.frame(kind::END, &digest)?;
        out.out.flush()?;
        Ok(applied)
    }

    /// Takes over a snapshot and returns Raft's log id that it is as of. After an error the ledger is as usable as
    /// before, and may have some more blocks.
    pub fn install_snapshot(&self, input: &mut dyn Read) -> Result<Option<Bytes>, SnapshotError> {
        let _one_at_a_time = self.writer.lock();
        let mut frames = FrameReader { input, hasher: snapshot_hasher() };
        let begin: Begin = frames.expect(kind::BEGIN)?;
        if begin.magic != MAGIC {
            return Err(SnapshotError::Damaged("it is not a snapshot, or of another version"));
        }
        if begin.network != self.network {
            return Err(SnapshotError::OtherNetwork);
        }
        let mut parts = Vec::new();
        for _ in 0..begin.ledgers {
            let part: Part = frames.expect(kind::LEDGER)?;
            self.install_ledger(&part, &mut frames)?;
            parts.push(part);
        }
        let digest = frames.hasher.clone().finish();
        if frames.expect::<Digest>(kind::END)? != digest {
            return Err(SnapshotError::Damaged("its digest differs from its content"));
        }
        self.finish_install(begin, &parts)
    }

    /// What a snapshot holds, as of one moment. The blocks themselves never change, so they can be read later.
    fn outline(&self) -> (Begin, Vec<Part>) {
        let memory = self.memory.read();
        let rows = memory.ledgers.values();
        let part = |row: &LedgerRow| Part { ledger: row.tip.ledger, height: row.tip.height, rejected: row.rejected };
        let mut parts: Vec<Part> = rows.map(|row| part(row)).collect();
        parts.sort_by_key(|part| (part.ledger != LedgerId::SYSTEM, part.ledger));
        let begin = Begin {
            magic: MAGIC,
            network: self.network,
            applied: memory.applied.clone(),
            rejected_elsewhere: memory.rejected_elsewhere,
            ledgers: parts.len() as u32,
        };
        (begin, parts)
    }

    fn write_ledger(&self, part: &Part, out: &mut FrameWriter<'_>) -> Result<(), SnapshotError> {
        let stage = Stage::new(&self.tree);
        let mut next = 1;
        while next <= part.height {
            let certificate = stage.at_or_after::<Certificate>(&Key::Certificate(part.ledger, next))?;
            let (height, certificate) = certificate.ok_or_else(|| StoreError::missing(part.ledger, next))?;
            for height in next..=height {
                let block: Block = stage
                    .get(&Key::Block(part.ledger, height))?
                    .ok_or_else(|| StoreError::missing(part.ledger, height))?;
                out.frame(kind::BLOCK, &block)?;
            }
            out.frame(kind::CERTIFICATE, &certificate)?;
            next = height + 1;
        }
        Ok(())
    }

    fn install_ledger(&self, part: &Part, frames: &mut FrameReader<'_>) -> Result<(), SnapshotError> {
        let mut height = 0;
        while height < part.height {
            let anchor = self.read_range(part.ledger, frames)?;
            height = anchor.certificate.checkpoint.height;
            // Blocks that are here already are read past, for the digest's sake.
            if height <= self.height(part.ledger) {
                continue;
            }
            match self.apply_decoded(None, Some(Command::Anchor(anchor)))? {
                Answer::Anchored(_) => {}
                Answer::Rejected(rejected) => {
                    return Err(SnapshotError::Refused { ledger: part.ledger, rejected });
                }
            }
        }
        Ok(())
    }

    /// Blocks up to the next certificate: never more than one command has brought.
    fn read_range(&self, ledger: LedgerId, frames: &mut FrameReader<'_>) -> Result<Anchor, SnapshotError> {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        loop {
            match frames.take()? {
                (kind::BLOCK, block) if blocks.len() < BLOCKS_PER_ANCHOR_MAX && bytes <= ANCHOR_BYTES_MAX => {
                    bytes += block.len();
                    blocks.push(Block::from_bytes(&block)?);
                }
                (kind::CERTIFICATE, certificate) => {
                    return Ok(Anchor { ledger, blocks, certificate: Certificate::from_bytes(&certificate)? });
                }
                _ => return Err(SnapshotError::Damaged("a certificate is missing")),
            }
        }
    }

    fn finish_install(&self, begin: Begin, parts: &[Part]) -> Result<Option<Bytes>, SnapshotError> {
        let mut stage = Stage::new(&self.tree);
        let mut memory = self.memory.write();
        for part in parts {
            let Some(row) = memory.ledgers.get_mut(&part.ledger) else { continue };
            let mut counted = row.as_ref().clone();
            counted.rejected = part.rejected;
            stage.put(&Key::Ledger(part.ledger), &counted);
            *row = Arc::new(counted);
        }
        if memory.rejected_elsewhere != begin.rejected_elsewhere {
            stage.put(&Key::RejectedElsewhere, &begin.rejected_elsewhere);
        }
        if let Some(applied) = &begin.applied {
            stage.put(&Key::Applied, applied);
        }
        stage.commit()?;
        memory.rejected_elsewhere = begin.rejected_elsewhere;
        memory.applied = begin.applied.clone();
        drop(memory);
        // Raft forgets the log entries that the snapshot stands for.
        self.flush()?;
        Ok(begin.applied)
    }
}

fn snapshot_hasher() -> Hasher {
    Hasher::new(b"waybill-global-snapshot-v1")
}

struct FrameWriter<'a> {
    out: &'a mut dyn Write,
    hasher: Hasher,
}

impl FrameWriter<'_> {
    fn frame(&mut self, kind: u8, content: &impl Codec) -> Result<(), SnapshotError> {
        let mut frame = vec![kind, 0, 0, 0, 0];
        content.encode(&mut frame);
        let length = frame.len() - 5;
        if length > FRAME_BYTES_MAX {
            return Err(SnapshotError::Damaged("a block is larger than a frame"));
        }
        frame[1..5].copy_from_slice(&(length as u32).to_be_bytes());
        frame.extend_from_slice(&crc32c::crc32c(&frame).to_be_bytes());
        self.hasher.update(&frame);
        self.out.write_all(&frame)?;
        Ok(())
    }
}

struct FrameReader<'a> {
    input: &'a mut dyn Read,
    hasher: Hasher,
}

impl FrameReader<'_> {
    fn take(&mut self) -> Result<(u8, Bytes), SnapshotError> {
        let mut head = [0; 5];
        self.input.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(SnapshotError::Damaged("a frame is too long"));
        }
        // Read as it comes: a damaged length must not allocate ahead of the bytes that are there.
        let mut frame = head.to_vec();
        Read::take(&mut *self.input, length as u64 + 4).read_to_end(&mut frame)?;
        if frame.len() != 5 + length + 4 {
            return Err(SnapshotError::Damaged("it is cut"));
        }
        let (content, checksum) = frame.split_at(5 + length);
        if crc32c::crc32c(content).to_be_bytes() != checksum {
            return Err(SnapshotError::Damaged("a checksum differs"));
        }
        self.hasher.update(&frame);
        Ok((head[0], Bytes::from(frame).slice(5..5 + length)))
    }

    fn expect<T: Codec>(&mut self, kind: u8) -> Result<T, SnapshotError> {
        match self.take()? {
            (found, content) if found == kind => Ok(T::from_bytes(&content)?),
            _ => Err(SnapshotError::Damaged("its parts are out of order")),
        }
    }
}

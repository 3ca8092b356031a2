//! A frame: one log record with where it came from.
//!
//! ```text
//!  0  length      u32  bytes of payload, at most PAYLOAD_BYTES_MAX
//!  4  epoch       u32  of the stream
//!  8  partition   u32  (u32::MAX: a marker of a log segment)
//! 12  offset      u64  in that partition
//! 20  header crc  u32  CRC32C of bytes 0..20, seeded "tailors frame header"
//! 24  payload crc u32  CRC32C of the payload's first MiB, seeded "tailors frame", epoch, partition, offset, piece
//! 28  payload     length bytes
//!     crcs        u32 per further MiB of payload
//! ```
//! The header has a checksum of its own, so that a damaged payload can be stepped over and told apart from a damaged row of frames.

use tailors_model::limits::PAYLOAD_BYTES_MAX;

use crate::FormatError;
use crate::bytes::{Cursor, check_crc, seeded_crc};
use crate::pieces;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 28;

const WHAT: &str = "frame";
const CHECKED_HEADER_BYTES: usize = 20;
const HEADER_SEED: &[u8] = b"tailors frame header";
const PAYLOAD_SEED: &[u8; 13] = b"tailors frame";

/// One record, borrowed from the bytes it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Epoch of the stream.
    pub epoch: u32,
    /// Partition.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
    /// The record's value.
    pub payload: &'a [u8],
}

/// A frame's header alone, its checksum good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Bytes of the whole frame, header and all checksums included.
    pub frame_len: usize,
    /// Epoch of the stream.
    pub epoch: u32,
    /// Partition.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
    payload_len: usize,
    payload_crc: u32,
}

/// Bytes of the frame of a payload of `payload_len` bytes.
pub fn frame_len(payload_len: usize) -> usize {
    HEADER_BYTES + payload_len + pieces::tail_len(payload_len)
}

/// Appends a frame. The caller has checked that the payload has at most `PAYLOAD_BYTES_MAX` bytes; no reader takes a longer one.
pub fn encode(out: &mut Vec<u8>, epoch: u32, partition: u32, offset: u64, payload: &[u8]) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX as usize);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let seed = payload_seed(epoch, partition, offset);
    out.reserve(frame_len(payload.len()));
    let start = out.len();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&partition.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    let header_crc = seeded_crc(HEADER_SEED, &out[start..]);
    out.extend_from_slice(&header_crc.to_le_bytes());
    out.extend_from_slice(&pieces::first(&seed, payload).to_le_bytes());
    out.extend_from_slice(payload);
    pieces::put_tail(out, &seed, payload);
}

/// The frame at the start of `bytes`, all its checksums good, and how many bytes it takes.
pub fn decode(bytes: &[u8]) -> Result<(Frame<'_>, usize), FormatError> {
    let header = decode_header(bytes)?;
    let mut cursor = Cursor::new(WHAT, bytes);
    cursor.take(HEADER_BYTES)?;
    let payload = cursor.take(header.payload_len)?;
    let tail = cursor.take(pieces::tail_len(header.payload_len))?;
    let seed = payload_seed(header.epoch, header.partition, header.offset);
    pieces::check(WHAT, &seed, payload, header.payload_crc, tail)?;
    Ok((Frame { epoch: header.epoch, partition: header.partition, offset: header.offset, payload }, header.frame_len))
}

/// The header at the start of `bytes`; the payload need not be there.
pub fn decode_header(bytes: &[u8]) -> Result<FrameHeader, FormatError> {
    let mut cursor = Cursor::new(WHAT, bytes);
    let (length, epoch, partition, offset) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u64()?);
    let (header_crc, payload_crc) = (cursor.u32()?, cursor.u32()?);
    check_crc("frame header", HEADER_SEED, &bytes[..CHECKED_HEADER_BYTES], header_crc)?;
    if length > PAYLOAD_BYTES_MAX {
        return Err(FormatError::invalid(WHAT, format!("payload of {length} bytes, at most {PAYLOAD_BYTES_MAX}")));
    }
    let payload_len = length as usize;
    Ok(FrameHeader { frame_len: frame_len(payload_len), epoch, partition, offset, payload_len, payload_crc })
}

/// Bytes of the whole frame at the start of `bytes`, from its header, whose checksum is checked.
pub fn peek_len(bytes: &[u8]) -> Result<usize, FormatError> {
    decode_header(bytes).map(|header| header.frame_len)
}

fn payload_seed(epoch: u32, partition: u32, offset: u64) -> [u8; 29] {
    let mut seed = [0; 29];
    seed[..13].copy_from_slice(PAYLOAD_SEED);
    seed[13..17].copy_from_slice(&epoch.to_le_bytes());
    seed[17..21].copy_from_slice(&partition.to_le_bytes());
    seed[21..29].copy_from_slice(&offset.to_le_bytes());
    seed
}

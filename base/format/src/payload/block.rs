//! A block of a payload: zstd, checksums, and the bound on what it may unfold to.

use std::cell::RefCell;

use tailors_model::limits::PAYLOAD_BYTES_MAX;
use zstd::bulk::{Compressor, Decompressor};

use super::envelope::{self, Envelope, IDENTITY_BYTES, WHAT};
use crate::FormatError;
use crate::pieces;

/// Bytes that a block may unfold to whatever its stored length; above them at most [`RATIO_MAX`] times the stored length.
const FREE_BYTES: u64 = 8 << 20;
const RATIO_MAX: u64 = 200;
/// Shorter blocks are stored plain: zstd's own header would eat what it wins.
const COMPRESS_FROM_BYTES: usize = 64;

/// Which block; the number is its place in the envelope and part of its checksum's seed.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Labels = 0,
    Runs = 1,
    Points = 2,
}

/// Where a block lies.
#[derive(Clone, Copy, Default)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) stored_len: u32,
    pub(super) raw_len: u32,
    pub(super) crc: u32,
}

impl Block {
    /// End of the block and its further checksums.
    pub(super) fn end(&self) -> usize {
        self.start + self.stored_len as usize + pieces::tail_len(self.stored_len as usize)
    }
}

thread_local! {
    /// A zstd context is 150 kB: made once per thread, not once per block. It carries nothing from block to block.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `raw` as a block to `body`; `identity` is the payload's.
pub(super) fn put(
    body: &mut Vec<u8>,
    part: Part,
    identity: &[u8],
    raw: &[u8],
    zstd: &mut Option<Compressor<'static>>,
) -> Result<Block, FormatError> {
    let start = body.len();
    let raw_len = u32::try_from(raw.len()).ok().filter(|len| *len <= PAYLOAD_BYTES_MAX);
    let raw_len =
        raw_len.ok_or_else(|| FormatError::invalid(WHAT, format!("a block of {} bytes, at most {PAYLOAD_BYTES_MAX}", raw.len())))?;
    let mut squeezed = Vec::new();
    if raw.len() >= COMPRESS_FROM_BYTES {
        let failed = |error: std::io::Error| FormatError::invalid(WHAT, format!("zstd: {error}"));
        if zstd.is_none() {
            *zstd = Some(Compressor::new(1).map_err(failed)?);
        }
        if let Some(zstd) = zstd {
            squeezed = zstd.compress(raw).map_err(failed)?;
        }
    }
    let small = !squeezed.is_empty() && squeezed.len() < raw.len() && unfolds(squeezed.len() as u64, u64::from(raw_len));
    body.extend_from_slice(if small { &squeezed } else { raw });
    let seed = seed(identity, part);
    let crc = pieces::first(&seed, &body[start..]);
    let stored_len = u32::try_from(body.len() - start).map_err(|_| FormatError::invalid(WHAT, "block too long"))?;
    pieces::put_tail(body, &seed, if small { &squeezed } else { raw });
    Ok(Block { start, stored_len, raw_len, crc })
}

/// The raw bytes of a block of a payload, or of a prefix of one that holds it.
pub(super) fn get(payload: &[u8], part: Part) -> Result<(Envelope, Vec<u8>), FormatError> {
    let envelope = envelope::read(payload)?;
    let block = envelope.blocks[part as usize];
    let truncated = || FormatError::Truncated { what: WHAT, needed: block.end() as u64, present: payload.len() as u64 };
    let bytes = payload.get(block.start..block.end()).ok_or_else(truncated)?;
    let (stored, tail) = bytes.split_at(block.stored_len as usize);
    pieces::check(WHAT, &seed(&payload[..IDENTITY_BYTES], part), stored, block.crc, tail)?;
    if block.stored_len == block.raw_len {
        return Ok((envelope, stored.to_vec()));
    }
    if block.raw_len > PAYLOAD_BYTES_MAX || !unfolds(u64::from(block.stored_len), u64::from(block.raw_len)) {
        let why = format!("a block of {} bytes claims to unfold to {}", block.stored_len, block.raw_len);
        return Err(FormatError::invalid(WHAT, why));
    }
    let raw = decompress(stored, block.raw_len as usize)?;
    Ok((envelope, raw))
}

fn decompress(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, FormatError> {
    let failed = |error: std::io::Error| FormatError::invalid(WHAT, format!("zstd: {error}"));
    let raw = DECOMPRESSOR.with(|slot| {
        let mut slot = slot.borrow_mut();
        if slot.is_none() {
            *slot = Some(Decompressor::new().map_err(failed)?);
        }
        match slot.as_mut() {
            Some(zstd) => zstd.decompress(stored, raw_len).map_err(failed),
            None => Err(FormatError::invalid(WHAT, "no zstd context")),
        }
    })?;
    if raw.len() != raw_len {
        return Err(FormatError::invalid(WHAT, format!("a block unfolds to {} bytes, not {raw_len}", raw.len())));
    }
    Ok(raw)
}

fn unfolds(stored: u64, raw: u64) -> bool {
    raw <= FREE_BYTES.max(stored.saturating_mul(RATIO_MAX))
}

fn seed(identity: &[u8], part: Part) -> [u8; IDENTITY_BYTES + 1] {
    let mut seed = [0; IDENTITY_BYTES + 1];
    let bytes = identity.len().min(IDENTITY_BYTES);
    seed[..bytes].copy_from_slice(&identity[..bytes]);
    seed[IDENTITY_BYTES] = part as u8;
    seed
}

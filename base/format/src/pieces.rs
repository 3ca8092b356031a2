//! Checksums of bytes that may be longer than one checksum may cover (`CHECKED_BYTES_MAX`, 1 MiB).
//!
//! ```text
//! somewhere before   crc32c u32 of piece 0, seeded
//! bytes              pieces of 1 MiB, the last one shorter; no bytes at all are one empty piece
//! right behind       crc32c u32 of piece 1, piece 2, ... each seeded with the seed and its number (u32)
//! ```
//! So what is short, nearly everything, costs one checksum, and the bytes stay in one stretch.

use tailors_model::limits::CHECKED_BYTES_MAX;

use crate::FormatError;

/// Bytes of the checksums behind `len` bytes.
pub(crate) fn tail_len(len: usize) -> usize {
    len.saturating_sub(1) / CHECKED_BYTES_MAX * 4
}

/// Checksum of piece 0.
pub(crate) fn first(seed: &[u8], bytes: &[u8]) -> u32 {
    piece_crc(seed, 0, &bytes[..bytes.len().min(CHECKED_BYTES_MAX)])
}

/// Appends the checksums of the pieces after the first.
pub(crate) fn put_tail(out: &mut Vec<u8>, seed: &[u8], bytes: &[u8]) {
    for (number, piece) in (0u32..).zip(bytes.chunks(CHECKED_BYTES_MAX)).skip(1) {
        out.extend_from_slice(&piece_crc(seed, number, piece).to_le_bytes());
    }
}

/// Checks all pieces; `tail` is what [`put_tail`] appended.
pub(crate) fn check(what: &'static str, seed: &[u8], bytes: &[u8], first: u32, tail: &[u8]) -> Result<(), FormatError> {
    if tail.len() != tail_len(bytes.len()) {
        return Err(FormatError::invalid(what, format!("{} bytes of checksums for {} bytes", tail.len(), bytes.len())));
    }
    let pieces = std::iter::once(bytes.chunks(CHECKED_BYTES_MAX).next().unwrap_or_default()).chain(bytes.chunks(CHECKED_BYTES_MAX).skip(1));
    let stored = std::iter::once(first).chain(tail.as_chunks::<4>().0.iter().map(|crc| u32::from_le_bytes(*crc)));
    for ((number, piece), stored) in (0u32..).zip(pieces).zip(stored) {
        let computed = piece_crc(seed, number, piece);
        if computed != stored {
            return Err(FormatError::Checksum { what, stored, computed });
        }
    }
    Ok(())
}

fn piece_crc(seed: &[u8], number: u32, piece: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(seed), &number.to_le_bytes()), piece)
}

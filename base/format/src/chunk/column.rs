//! Columns of the index: lists of integers and of byte strings in blocks, each block in the smallest of a closed set of encodings.
//!
//! ```text
//! column   blocks of <= 65,536 values, the count comes from the context: encoding u8 | length varint | bytes
//!          0 CONST         one varint: every value
//!          1 VARINT        LEB128 each
//!          2 ZSTD_VARINT   the same, zstd
//!          3 ZSTD_DELTA    zigzag differences (the first from 0) as LEB128, zstd
//!          4 ZSTD_FIXED    little-endian of the smallest width of 1, 2, 4, 8 bytes (a byte before the zstd frame), zstd
//!          5 PCO           pco chunk metadata and one page, u64
//!          6 PCO_DELTA     the same of the zigzag differences (the first from 0)
//!          7 STEP          the first value and the zigzag difference of each two neighbours, varints
//! strings  column of lengths of the shared prefix with the string before | column of lengths of the rest | blob of the rests
//! blob     pieces of <= 65,536 bytes: 0 | bytes, or 1 | length varint | zstd; the total comes from the context
//! ```

use bytes::Bytes;

use super::coder::{PcoChunk, encode_pco};
use super::zigzag::{unzigzag, zigzag};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

/// Values of one block: what a handful of bytes may stand for is bounded by it.
pub(super) const BLOCK_VALUES: usize = 65_536;
const BLOB_PIECE_BYTES: usize = 65_536;
/// For a look, and for what is kept: the highest level is worth its time on little only.
const ZSTD_LEVELS: [i32; 3] = [1, 19, 9];
const LITTLE_BYTES: usize = 8_192;

const CONST: u8 = 0;
const VARINT: u8 = 1;
const ZSTD_VARINT: u8 = 2;
const ZSTD_DELTA: u8 = 3;
const ZSTD_FIXED: u8 = 4;
const PCO: u8 = 5;
const PCO_DELTA: u8 = 6;
const STEP: u8 = 7;

fn zstd_error(what: &'static str, error: std::io::Error) -> FormatError {
    FormatError::invalid(what, format!("zstd: {error}"))
}

fn zstd(bytes: &[u8], level: i32) -> Result<Vec<u8>, FormatError> {
    zstd::bulk::compress(bytes, level).map_err(|error| zstd_error("column", error))
}

fn best_zstd(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    zstd(bytes, ZSTD_LEVELS[if bytes.len() <= LITTLE_BYTES { 1 } else { 2 }])
}

fn unzstd(what: &'static str, bytes: &[u8], most: usize) -> Result<Vec<u8>, FormatError> {
    zstd::bulk::decompress(bytes, most).map_err(|error| zstd_error(what, error))
}

fn varints(values: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::new();
    values.for_each(|value| put_varint(&mut out, value));
    out
}

/// Appends a column.
pub(super) fn put_column(out: &mut Vec<u8>, values: &[u64]) -> Result<(), FormatError> {
    for block in values.chunks(BLOCK_VALUES) {
        let (encoding, bytes) = encode_block(block)?;
        out.push(encoding);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(&bytes);
    }
    Ok(())
}

fn encode_block(block: &[u64]) -> Result<(u8, Vec<u8>), FormatError> {
    let first = block.first().copied().unwrap_or(0);
    if block.iter().all(|value| *value == first) {
        return Ok((CONST, varints(std::iter::once(first))));
    }
    let step = block.get(1).map_or(0, |second| second.wrapping_sub(first));
    if block.len() > 2 && block.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
        return Ok((STEP, varints([first, zigzag(step as i64)].into_iter())));
    }
    let plain = varints(block.iter().copied());
    let mut best = (VARINT, plain);
    if block.len() < 8 {
        return Ok(best);
    }
    let mut before = 0u64;
    let deltas: Vec<u64> = block.iter().map(|value| zigzag(value.wrapping_sub(std::mem::replace(&mut before, *value)) as i64)).collect();
    let delta_bytes = varints(deltas.iter().copied());
    let width = fixed_width(block);
    let mut fixed = Vec::with_capacity(block.len() * width);
    block.iter().for_each(|value| fixed.extend_from_slice(&value.to_le_bytes()[..width]));
    // Which of them suits zstd best shows at any level.
    let mut forms = [(ZSTD_VARINT, &best.1), (ZSTD_DELTA, &delta_bytes), (ZSTD_FIXED, &fixed)].map(|(number, plain)| (number, plain, 0));
    for form in &mut forms {
        form.2 = zstd(form.1, ZSTD_LEVELS[0])?.len();
    }
    let (number, plain, _) = forms.into_iter().min_by_key(|form| form.2).unwrap_or((ZSTD_VARINT, &best.1, 0));
    let mut small = if number == ZSTD_FIXED { vec![width as u8] } else { Vec::new() };
    small.append(&mut best_zstd(plain)?);
    let candidates = [
        (number, small),
        (PCO, encode_pco(block, &[block.len()])?.into_single_page()),
        (PCO_DELTA, encode_pco(&deltas, &[block.len()])?.into_single_page()),
    ];
    for candidate in candidates {
        if candidate.1.len() < best.1.len() {
            best = candidate;
        }
    }
    Ok(best)
}

fn fixed_width(block: &[u64]) -> usize {
    let most = block.iter().copied().max().unwrap_or(0);
    [1, 2, 4].into_iter().find(|width| most >> (8 * width) == 0).unwrap_or(8)
}

/// Reads a column of `count` values; takes memory block by block as the bytes of each are there.
pub(super) fn take_column(what: &'static str, cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<u64>, FormatError> {
    let mut out = Vec::new();
    while out.len() < count {
        let n = (count - out.len()).min(BLOCK_VALUES);
        let encoding = cursor.u8()?;
        let length = cursor.count(1)?;
        decode_block(what, encoding, cursor.take(length)?, n, &mut out)?;
    }
    Ok(out)
}

fn decode_block(what: &'static str, encoding: u8, bytes: &[u8], n: usize, out: &mut Vec<u64>) -> Result<(), FormatError> {
    match encoding {
        CONST => {
            let mut cursor = Cursor::new(what, bytes);
            let value = cursor.varint()?;
            cursor.finish()?;
            out.resize(out.len() + n, value);
        }
        STEP => {
            let mut cursor = Cursor::new(what, bytes);
            let (mut value, step) = (cursor.varint()?, unzigzag(cursor.varint()?) as u64);
            cursor.finish()?;
            for _ in 0..n {
                out.push(value);
                value = value.wrapping_add(step);
            }
        }
        VARINT => take_varints(what, bytes, n, out)?,
        ZSTD_VARINT => take_varints(what, &unzstd(what, bytes, n * 10)?, n, out)?,
        ZSTD_DELTA => {
            let from = out.len();
            take_varints(what, &unzstd(what, bytes, n * 10)?, n, out)?;
            sum_up(&mut out[from..]);
        }
        ZSTD_FIXED => {
            let mut cursor = Cursor::new(what, bytes);
            let width = usize::from(cursor.u8()?);
            if ![1, 2, 4, 8].contains(&width) {
                return Err(FormatError::invalid(what, format!("values of {width} bytes")));
            }
            let plain = unzstd(what, cursor.take(cursor.remaining())?, n * width)?;
            if plain.len() != n * width {
                return Err(FormatError::invalid(what, "column of another length"));
            }
            out.extend(plain.chunks_exact(width).map(|bytes| bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))));
        }
        PCO | PCO_DELTA => {
            let (chunk, page) = PcoChunk::<u64>::open(what, bytes)?;
            let from = out.len();
            out.resize(from + n, 0);
            chunk.read_page(what, page, &mut Default::default(), &mut Vec::new(), &mut out[from..])?;
            if encoding == PCO_DELTA {
                sum_up(&mut out[from..]);
            }
        }
        number => return Err(FormatError::Unknown { what, field: "column encoding", number: u64::from(number) }),
    }
    Ok(())
}

fn sum_up(differences: &mut [u64]) {
    let mut before = 0u64;
    for value in differences {
        before = before.wrapping_add(unzigzag(*value) as u64);
        *value = before;
    }
}

fn take_varints(what: &'static str, bytes: &[u8], n: usize, out: &mut Vec<u64>) -> Result<(), FormatError> {
    let mut cursor = Cursor::new(what, bytes);
    for _ in 0..n {
        out.push(cursor.varint()?);
    }
    cursor.finish()
}

/// Reads a column whose values must each be at most `most`.
pub(super) fn take_bounded(what: &'static str, cursor: &mut Cursor<'_>, count: usize, most: u64) -> Result<Vec<u32>, FormatError> {
    let most = most.min(u64::from(u32::MAX));
    let values = take_column(what, cursor, count)?;
    let narrow = |value: u64| u32::try_from(value).ok().filter(|value| u64::from(*value) <= most);
    let bad = |value| FormatError::invalid(what, format!("{value} where at most {most} can be"));
    values.into_iter().map(|value| narrow(value).ok_or_else(|| bad(value))).collect()
}

/// Appends a blob.
pub(super) fn put_blob(out: &mut Vec<u8>, blob: &[u8]) -> Result<(), FormatError> {
    for piece in blob.chunks(BLOB_PIECE_BYTES) {
        let small = best_zstd(piece)?;
        if small.len() + 3 < piece.len() {
            out.push(1);
            put_varint(out, small.len() as u64);
            out.extend_from_slice(&small);
        } else {
            out.push(0);
            out.extend_from_slice(piece);
        }
    }
    Ok(())
}

/// Reads a blob of `length` bytes; takes memory piece by piece as the bytes of each are there.
pub(super) fn take_blob(what: &'static str, cursor: &mut Cursor<'_>, length: usize) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    while out.len() < length {
        let n = (length - out.len()).min(BLOB_PIECE_BYTES);
        match cursor.u8()? {
            0 => out.extend_from_slice(cursor.take(n)?),
            1 => {
                let small = cursor.count(1)?;
                let piece = unzstd(what, cursor.take(small)?, n)?;
                if piece.len() != n {
                    return Err(FormatError::invalid(what, "blob piece of another length"));
                }
                out.extend_from_slice(&piece);
            }
            number => return Err(FormatError::Unknown { what, field: "blob encoding", number: u64::from(number) }),
        }
    }
    Ok(out)
}

/// Appends strings, each without what it shares with the one before.
pub(super) fn put_strings<'a>(out: &mut Vec<u8>, strings: impl Iterator<Item = &'a [u8]>) -> Result<(), FormatError> {
    let (mut prefixes, mut lengths, mut blob): (Vec<u64>, Vec<u64>, Vec<u8>) = Default::default();
    let mut before: &[u8] = &[];
    for string in strings {
        let shared = before.iter().zip(string).take_while(|(a, b)| a == b).count();
        prefixes.push(shared as u64);
        lengths.push((string.len() - shared) as u64);
        blob.extend_from_slice(&string[shared..]);
        before = string;
    }
    put_column(out, &prefixes)?;
    put_column(out, &lengths)?;
    put_blob(out, &blob)
}

/// Reads `count` strings of at most `most` bytes each; they share one allocation.
pub(super) fn take_strings(what: &'static str, cursor: &mut Cursor<'_>, count: usize, most: usize) -> Result<Vec<Bytes>, FormatError> {
    let prefixes = take_bounded(what, cursor, count, most as u64)?;
    let lengths = take_bounded(what, cursor, count, most as u64)?;
    let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    let total = usize::try_from(total).map_err(|_| FormatError::invalid(what, "strings too long"))?;
    let blob = take_blob(what, cursor, total)?;
    let mut all: Vec<u8> = Vec::with_capacity(total);
    let mut edges = Vec::with_capacity(count);
    let (mut rest, mut before) = (blob.as_slice(), 0..0);
    for (prefix, length) in prefixes.into_iter().zip(lengths) {
        let (prefix, length) = (prefix as usize, length as usize);
        if prefix > before.len() || prefix + length > most {
            return Err(FormatError::invalid(what, "string prefix or length out of bounds"));
        }
        let (own, after) = rest.split_at(length);
        rest = after;
        let start = all.len();
        all.extend_from_within(before.start..before.start + prefix);
        all.extend_from_slice(own);
        before = start..all.len();
        edges.push(before.clone());
    }
    let all = Bytes::from(all);
    Ok(edges.into_iter().map(|edge| all.slice(edge)).collect())
}

//! Series -> page reads -> points. A page is checked, decoded once into scratch, and handed out in slices.

use std::ops::Range;

use pco::DecompressorScratch;
use tailors_model::ShardId;

use super::ChunkIndex;
use super::encode::{Encoding, PAGE_POINTS_MAX};
use super::index::{ChunkEntry, PageEntry};
use super::layout::{HEADER_BYTES, TRAILER_BYTES, WHAT, check_header};
use super::pages::PcoChunk;
use super::value::to_value;
use crate::FormatError;
use crate::bytes::Cursor;

/// One page to read, and which series are wanted from it; or, with an empty range, constants that the index answers.
#[derive(Clone, Debug)]
pub struct PageRead {
    /// File bytes to fetch, checksum included; empty when the index alone answers.
    pub range: Range<u64>,
    page: Option<usize>,
    parts: Vec<Part>,
}

impl PageRead {
    /// Series that this read hands out points of.
    pub fn series(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.iter().map(|part| part.series)
    }

    /// Points that this read hands out.
    pub fn points(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.points)).sum()
    }
}

/// What a decoder hands out: series, timestamps in milliseconds from the span's start, values.
pub type EachSeries<'a> = dyn FnMut(u32, &[u32], &[f64]) + 'a;

/// Points `skip..skip + points` of a series, at `offset` of their page.
#[derive(Clone, Copy, Debug)]
struct Part {
    series: u32,
    skip: u32,
    offset: u32,
    points: u32,
}

/// Buffers of a decoding thread, reused from page to page and from file to file.
#[derive(Default)]
pub struct DecodeScratch {
    /// The chunk opened last: file, number, tables.
    chunk: Option<(u128, u32, OpenChunk)>,
    pco: DecompressorScratch,
    narrow: Vec<i32>,
    wide: Vec<i64>,
    values: Vec<f64>,
    times: Vec<u32>,
}

impl std::fmt::Debug for DecodeScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecodeScratch").finish_non_exhaustive()
    }
}

enum OpenChunk {
    I32(PcoChunk<i32>),
    I64(PcoChunk<i64>),
    F64(PcoChunk<f64>),
    Raw,
}

impl OpenChunk {
    fn open(what: &'static str, encoding: Encoding, meta: &[u8]) -> Result<Self, FormatError> {
        let (chunk, rest) = match encoding {
            Encoding::DecI32 => PcoChunk::open(what, meta).map(|(chunk, rest)| (Self::I32(chunk), rest))?,
            Encoding::DecI64 => PcoChunk::open(what, meta).map(|(chunk, rest)| (Self::I64(chunk), rest))?,
            Encoding::F64 => PcoChunk::open(what, meta).map(|(chunk, rest)| (Self::F64(chunk), rest))?,
            Encoding::Raw => (Self::Raw, meta),
        };
        if rest.is_empty() { Ok(chunk) } else { Err(FormatError::invalid(what, "chunk metadata of another length")) }
    }
}

impl ChunkIndex {
    /// What to read for these series (any order, each once or more), in file order; numbers that are no series are passed over.
    pub fn plan_reads(&self, series: &[u32]) -> Vec<PageRead> {
        let mut wanted: Vec<u32> = series.iter().copied().filter(|series| (*series as usize) < self.series.len()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut constants: Vec<Part> = Vec::new();
        let mut reads: Vec<PageRead> = Vec::new();
        for series in wanted {
            let points = self.points_of(series);
            let Some(first) = self.series[series as usize].first() else {
                constants.push(Part { series, skip: 0, offset: 0, points });
                continue;
            };
            let mut skip = 0;
            let mut page = self.pages.partition_point(|page| page.first + u64::from(page.points) <= first);
            // parse() made sure that pages hold exactly the points of the series.
            while skip < points && page < self.pages.len() {
                let entry = &self.pages[page];
                let offset = (first + u64::from(skip) - entry.first) as u32;
                let part = Part { series, skip, offset, points: (points - skip).min(entry.points - offset) };
                match reads.last_mut() {
                    Some(read) if read.page == Some(page) => read.parts.push(part),
                    _ => {
                        let range = entry.at..entry.at + u64::from(entry.length);
                        reads.push(PageRead { range, page: Some(page), parts: vec![part] });
                    }
                }
                skip += part.points;
                page += 1;
            }
        }
        if !constants.is_empty() {
            reads.insert(0, PageRead { range: 0..0, page: None, parts: constants });
        }
        reads
    }

    /// Decodes what was planned: `bytes` are exactly those of `read.range`. A series longer than a page (2^16 points) is handed out in several
    /// parts, in time order. Timestamps are milliseconds from the span's start.
    ///
    /// # Errors
    /// Any damage of the page. Nothing of a damaged page is handed out.
    pub fn decode(&self, read: &PageRead, bytes: &[u8], scratch: &mut DecodeScratch, each: &mut EachSeries<'_>) -> Result<(), FormatError> {
        let Some(page) = read.page else {
            return self.decode_constants(read, scratch, each);
        };
        let page = self.pages.get(page).ok_or_else(|| FormatError::invalid(WHAT, "a read of another file"))?;
        self.decode_page(page, bytes, scratch)?;
        for part in &read.parts {
            scratch.times.clear();
            self.times.expand(self.entry(part.series)?.time, part.skip, part.points, &mut scratch.times)?;
            let values = scratch.values.get(part.offset as usize..(part.offset + part.points) as usize);
            each(part.series, &scratch.times, values.ok_or_else(|| FormatError::invalid(WHAT, "a read of another file"))?);
        }
        Ok(())
    }

    fn decode_constants(&self, read: &PageRead, scratch: &mut DecodeScratch, each: &mut EachSeries<'_>) -> Result<(), FormatError> {
        for part in &read.parts {
            let entry = self.entry(part.series)?;
            let value = entry.constant().ok_or_else(|| FormatError::invalid(WHAT, "a read of another file"))?;
            let mut skip = 0;
            while skip < part.points {
                let n = (part.points - skip).min(PAGE_POINTS_MAX as u32);
                scratch.times.clear();
                self.times.expand(entry.time, skip, n, &mut scratch.times)?;
                scratch.values.clear();
                scratch.values.resize(n as usize, value);
                each(part.series, &scratch.times, &scratch.values);
                skip += n;
            }
        }
        Ok(())
    }

    /// The values of a page into `scratch.values`.
    fn decode_page(&self, page: &PageEntry, bytes: &[u8], scratch: &mut DecodeScratch) -> Result<(), FormatError> {
        let what = "chunk file page";
        let body = self.check_page(page, bytes)?;
        let chunk = self.chunks.get(page.chunk as usize).ok_or_else(|| FormatError::invalid(what, "page of no chunk"))?;
        let opened = match scratch.chunk.take() {
            Some((file, number, opened)) if (file, number) == (self.identity, page.chunk) => opened,
            _ => OpenChunk::open(what, chunk.encoding, self.chunk_meta.get(chunk.meta.clone()).unwrap_or(&[]))?,
        };
        let (_, _, opened) = scratch.chunk.insert((self.identity, page.chunk, opened));
        let n = page.points as usize;
        scratch.values.clear();
        scratch.values.resize(n, 0.0);
        let values = &mut scratch.values;
        let mut cursor = Cursor::new(what, body);
        let exceptions = take_exceptions(what, chunk, &mut cursor, n)?;
        let body = cursor.take(cursor.remaining())?;
        match opened {
            OpenChunk::I32(pco) => {
                scratch.narrow.resize(n, 0);
                pco.read_page(what, body, &mut scratch.pco, &mut scratch.narrow)?;
                let scaled = scratch.narrow.iter().map(|integer| i64::from(*integer).wrapping_mul(chunk.divisor));
                values.iter_mut().zip(scaled).for_each(|(value, integer)| *value = to_value(integer, chunk.exponent));
            }
            OpenChunk::I64(pco) => {
                scratch.wide.resize(n, 0);
                pco.read_page(what, body, &mut scratch.pco, &mut scratch.wide)?;
                let scaled = scratch.wide.iter().map(|integer| integer.wrapping_mul(chunk.divisor));
                values.iter_mut().zip(scaled).for_each(|(value, integer)| *value = to_value(integer, chunk.exponent));
            }
            OpenChunk::F64(pco) => pco.read_page(what, body, &mut scratch.pco, values)?,
            OpenChunk::Raw => {
                if body.len() != n * 8 {
                    return Err(FormatError::invalid(what, "raw page of another length"));
                }
                let doubles = body.chunks_exact(8).map(|bytes| bytes.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)));
                values.iter_mut().zip(doubles).for_each(|(value, bits)| *value = f64::from_bits(bits));
            }
        }
        for (at, bits) in exceptions {
            values[at] = f64::from_bits(bits);
        }
        Ok(())
    }
}

/// Positions below `points` and bits of the values that are no decimals.
fn take_exceptions(
    what: &'static str,
    chunk: &ChunkEntry,
    cursor: &mut Cursor<'_>,
    points: usize,
) -> Result<Vec<(usize, u64)>, FormatError> {
    let count = if chunk.exceptions { cursor.count(2)? } else { 0 };
    if count == 0 {
        return Ok(Vec::new());
    }
    let patterns = cursor.count(8)?;
    let patterns = (0..patterns).map(|_| cursor.u64()).collect::<Result<Vec<u64>, _>>()?;
    let mut next = 0u64;
    let mut exceptions = Vec::with_capacity(count);
    for _ in 0..count {
        let at = next.saturating_add(cursor.varint()?);
        if at >= points as u64 {
            return Err(FormatError::invalid(what, "exception outside its page"));
        }
        exceptions.push((at as usize, 0));
        next = at + 1;
    }
    for exception in &mut exceptions {
        let pattern = usize::try_from(cursor.varint()?).ok().and_then(|pattern| patterns.get(pattern));
        exception.1 = *pattern.ok_or_else(|| FormatError::invalid(what, "exception without a pattern"))?;
    }
    Ok(exceptions)
}

/// Checks every byte of a whole file (header, trailer, index, each page) by decoding all of it. Returns the index.
///
/// # Errors
/// Any damage, and a file of another shard.
pub fn verify_file(shard: ShardId, bytes: &[u8]) -> Result<ChunkIndex, FormatError> {
    let file_len = bytes.len() as u64;
    let tail = ChunkIndex::tail_range(bytes.last_chunk::<TRAILER_BYTES>().map_or(bytes, |trailer| trailer), file_len)?;
    // Checked by the trailer: the tail begins behind the header and ends with the file.
    let index = ChunkIndex::parse(shard, &bytes[tail.start as usize..], file_len)?;
    check_header(&bytes[..HEADER_BYTES], index.seal, index.span())?;
    let mut scratch = DecodeScratch::default();
    for page in &index.pages {
        index.decode_page(page, &bytes[page.at as usize..(page.at + u64::from(page.length)) as usize], &mut scratch)?;
    }
    Ok(index)
}

//! Series -> page reads -> points. A page is checked, decoded once into scratch, and handed out in slices.

use std::ops::Range;

use tailors_model::ShardId;

use super::ChunkIndex;
use super::decode::{DecodeScratch, slice_of};
use super::layout::{HEADER_BYTES, TRAILER_BYTES, WHAT, check_header};
use super::pages::PAGE_POINTS_MAX;
use crate::FormatError;

/// One page to read, and which series are wanted from it; or, with an empty range, constants that the index answers.
#[derive(Clone, Debug)]
pub struct PageRead {
    /// File bytes to fetch, checksum included; empty when the index alone answers.
    pub range: Range<u64>,
    pub(super) page: Option<usize>,
    pub(super) parts: Vec<Part>,
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
pub(super) struct Part {
    pub(super) series: u32,
    pub(super) skip: u32,
    pub(super) offset: u32,
    pub(super) points: u32,
}

impl ChunkIndex {
    /// What to read for these series (any order, each once or more), in series order; numbers that are no series are passed over.
    pub fn plan_reads(&self, series: &[u32]) -> Vec<PageRead> {
        let mut wanted: Vec<u32> = series.iter().copied().filter(|series| (*series as usize) < self.series.len()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut reads: Vec<PageRead> = Vec::new();
        for series in wanted {
            let points = self.points_of(series);
            let Some(first) = self.series[series as usize].first_value() else {
                let part = Part { series, skip: 0, offset: 0, points };
                // In its place: a series of several entries may be constant in some of them, and its points come in time order.
                match reads.last_mut() {
                    Some(read) if read.page.is_none() => read.parts.push(part),
                    _ => reads.push(PageRead { range: 0..0, page: None, parts: vec![part] }),
                }
                continue;
            };
            let mut skip = 0;
            // Series in order mostly share the page of the one before, or begin the next.
            let near = reads.last().and_then(|read| read.page).and_then(|last| (last..last + 2).find(|page| self.is_on(*page, first)));
            let mut page = near.unwrap_or_else(|| self.page_of(first));
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
        reads
    }

    /// Whether a page holds this value of the file.
    fn is_on(&self, page: usize, value: u64) -> bool {
        self.pages.get(page).is_some_and(|page| (page.first..page.first + u64::from(page.points)).contains(&value))
    }

    /// Decodes what was planned: `bytes` are exactly those of `read.range`. A series longer than a page (2^16 points) is handed out in several
    /// parts, in time order. Timestamps are milliseconds from the span's start.
    ///
    /// # Errors
    /// Any damage of the page; [`FormatError::OtherKind`] if it holds no doubles. Nothing of a damaged page is handed out.
    pub fn decode(&self, read: &PageRead, bytes: &[u8], scratch: &mut DecodeScratch, each: &mut EachSeries<'_>) -> Result<(), FormatError> {
        let Some(page) = read.page else {
            return self.decode_constants(read, scratch, each);
        };
        let page = self.pages.get(page).ok_or_else(|| FormatError::invalid(WHAT, "a read of another file"))?;
        self.decode_page(page, bytes, scratch)?;
        for part in &read.parts {
            self.expand_times(self.entry(part.series)?.time, part.skip, part.points, scratch)?;
            let values = scratch.values.get(part.offset as usize..(part.offset + part.points) as usize);
            each(part.series, &scratch.times, values.ok_or_else(|| FormatError::invalid(WHAT, "a read of another file"))?);
        }
        Ok(())
    }

    /// Timestamps of a series, milliseconds from the span's start, into `out`, in place of what is there.
    ///
    /// # Errors
    /// A number that is no series of this file: a bug of the caller.
    pub fn read_times(&self, series: u32, out: &mut Vec<u32>) -> Result<(), FormatError> {
        out.clear();
        self.times.expand(self.entry(series)?.time, 0, self.points_of(series), out)
    }

    fn decode_constants(&self, read: &PageRead, scratch: &mut DecodeScratch, each: &mut EachSeries<'_>) -> Result<(), FormatError> {
        for part in &read.parts {
            let entry = self.entry(part.series)?;
            let value = entry.constant().ok_or_else(|| FormatError::invalid(WHAT, "a read of another file"))?;
            let mut skip = 0;
            while skip < part.points {
                let n = (part.points - skip).min(PAGE_POINTS_MAX as u32);
                self.expand_times(entry.time, skip, n, scratch)?;
                let values = slice_of(&mut scratch.values, n as usize);
                values.fill(value);
                each(part.series, &scratch.times, values);
                skip += n;
            }
        }
        Ok(())
    }

    /// Timestamps into `scratch.times`, unless they are there already: series of a metric mostly share theirs.
    pub(super) fn expand_times(&self, column: u32, skip: u32, n: u32, scratch: &mut DecodeScratch) -> Result<(), FormatError> {
        let wanted = Some((self.identity, column, skip, n));
        if scratch.times_of != wanted {
            scratch.times_of = None;
            scratch.times.clear();
            self.times.expand(column, skip, n, &mut scratch.times)?;
            scratch.times_of = wanted;
        }
        Ok(())
    }
}

impl ChunkIndex {
    /// Bytes before the first page.
    pub const HEADER_BYTES: usize = HEADER_BYTES;

    /// Checks the first [`Self::HEADER_BYTES`] of the file. Reading needs nothing of them: a damaged header tells that the file is not as it was written.
    ///
    /// # Errors
    /// Any damage of the header, and the header of another file.
    pub fn check_header(&self, header: &[u8]) -> Result<(), FormatError> {
        check_header(header, self.seal, self.span())
    }
}

/// Checks every byte of a whole file (header, trailer, index, each page) by decoding all of it. Returns the index.
///
/// # Errors
/// Any damage, and a file of another shard.
pub fn verify_file(shard: ShardId, bytes: &[u8]) -> Result<ChunkIndex, FormatError> {
    let index = open_whole(shard, bytes)?;
    let mut scratch = DecodeScratch::default();
    // Pages that chunks share come once for each: every one of them has a transform of its own.
    for page in &index.pages {
        index.check_values_of(page, &bytes[page.at as usize..(page.at + u64::from(page.length)) as usize], &mut scratch)?;
    }
    Ok(index)
}

/// Checks every byte of a whole file but its pages.
pub(super) fn open_whole(shard: ShardId, bytes: &[u8]) -> Result<ChunkIndex, FormatError> {
    let file_len = bytes.len() as u64;
    let tail = ChunkIndex::tail_range(bytes.last_chunk::<TRAILER_BYTES>().map_or(bytes, |trailer| trailer), file_len)?;
    // Checked by the trailer: the tail begins behind the header and ends with the file.
    let index = ChunkIndex::parse(shard, &bytes[tail.start as usize..], file_len)?;
    check_header(&bytes[..HEADER_BYTES], index.seal, index.span())?;
    index.labels()?;
    Ok(index)
}

//! One page -> its values: check, undo the coder, sum up differences, undo the transform, put exceptions back. No allocation once warm.

use super::ChunkIndex;
use super::aggregate::Aggregate;
use super::coder::{CoderScratch, OpenCoder};
use super::column::take_column;
use super::distribution::DistributionScratch;
use super::index::{ChunkEntry, PageEntry};
use super::layout::WHAT;
use super::pages::DICTIONARY_MAX;
use super::value::{ROUNDER, Transform, from_ordered};
use super::values::ValueKind;
use super::zigzag::unzigzag;
use crate::FormatError;
use crate::bytes::Cursor;

const WHAT_PAGE: &str = "chunk file page";

/// Buffers of a decoding thread, reused from page to page and from file to file.
#[derive(Default)]
pub struct DecodeScratch {
    /// The chunk opened last: file, number, tables.
    chunk: Option<(u128, u32, OpenChunk)>,
    coder: CoderScratch,
    exceptions: Vec<(u32, u64)>,
    patterns: Vec<u64>,
    /// Points and first integer of each part of the page.
    parts: Vec<(u32, i64)>,
    coded: Vec<i64>,
    integers: Vec<i64>,
    pub(super) values: Vec<f64>,
    pub(super) times: Vec<u32>,
    /// What `times` holds: file, column, skipped, points.
    pub(super) times_of: Option<(u128, u32, u32, u32)>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) distributions: DistributionScratch,
}

impl std::fmt::Debug for DecodeScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecodeScratch").finish_non_exhaustive()
    }
}

struct OpenChunk {
    coder: OpenCoder,
    /// Of [`Transform::Dictionary`].
    dictionary: Vec<f64>,
}

impl OpenChunk {
    fn open(chunk: &ChunkEntry, meta: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(WHAT_PAGE, meta);
        let mut dictionary = Vec::new();
        if chunk.transform == Transform::Dictionary {
            let count = usize::try_from(cursor.varint()?).ok().filter(|count| *count <= DICTIONARY_MAX);
            let count = count.ok_or_else(|| FormatError::invalid(WHAT_PAGE, "dictionary longer than its limit"))?;
            dictionary.extend(take_column(WHAT_PAGE, &mut cursor, count)?.into_iter().map(|entry| from_ordered(entry as i64)));
        }
        let coder = OpenCoder::open(WHAT_PAGE, chunk.coder, cursor.take(cursor.remaining())?)?;
        Ok(Self { coder, dictionary })
    }
}

/// A slice of a buffer that only ever grows.
pub(super) fn slice_of<T: Copy + Default>(buffer: &mut Vec<T>, n: usize) -> &mut [T] {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
    &mut buffer[..n]
}

impl ChunkIndex {
    /// The values of a page into `scratch.values`; what lies behind them there is of other pages.
    pub(super) fn decode_page(&self, page: &PageEntry, bytes: &[u8], scratch: &mut DecodeScratch) -> Result<(), FormatError> {
        let body = self.check_page(page, bytes)?;
        let chunk = self.chunks.get(page.chunk as usize).ok_or_else(|| FormatError::invalid(WHAT, "page of no chunk"))?;
        let kind = chunk.transform.kind();
        if kind != ValueKind::Doubles {
            return Err(FormatError::OtherKind { what: WHAT_PAGE, found: kind.name(), wanted: ValueKind::Doubles.name() });
        }
        let opened = match scratch.chunk.take() {
            Some((file, number, opened)) if (file, number) == (self.identity, page.chunk) => opened,
            _ => OpenChunk::open(chunk, self.chunk_meta.get(chunk.meta.clone()).unwrap_or(&[]))?,
        };
        let (_, _, opened) = scratch.chunk.insert((self.identity, page.chunk, opened));
        let n = page.points as usize;
        let mut cursor = Cursor::new(WHAT_PAGE, body);
        scratch.exceptions.clear();
        if chunk.exceptions {
            take_exceptions(&mut cursor, n, &mut scratch.patterns, &mut scratch.exceptions)?;
        }
        let values = slice_of(&mut scratch.values, n);
        let integers = if chunk.delta {
            self.take_firsts(page, &mut cursor, &mut scratch.parts)?;
            let coded = slice_of(&mut scratch.coded, n.saturating_sub(scratch.parts.len()));
            opened.coder.read(WHAT_PAGE, cursor.take(cursor.remaining())?, &mut scratch.coder, coded)?;
            let integers = slice_of(&mut scratch.integers, n);
            sum_up(&scratch.parts, coded, integers);
            integers
        } else {
            let integers = slice_of(&mut scratch.integers, n);
            opened.coder.read(WHAT_PAGE, cursor.take(cursor.remaining())?, &mut scratch.coder, integers)?;
            integers
        };
        to_values(chunk, &opened.dictionary, integers, values)?;
        for (at, bits) in &scratch.exceptions {
            values[*at as usize] = f64::from_bits(*bits);
        }
        Ok(())
    }

    /// Points and first integer of each part of a page of differences.
    fn take_firsts(&self, page: &PageEntry, cursor: &mut Cursor<'_>, parts: &mut Vec<(u32, i64)>) -> Result<(), FormatError> {
        parts.clear();
        let (mut at, end, mut first) = (page.first, page.first + u64::from(page.points), 0i64);
        let mut varying = self.varying.get(page.first_varying as usize..).unwrap_or(&[]).iter();
        while at < end {
            let series = varying.next().and_then(|series| self.series.get(*series as usize));
            let series = series.ok_or_else(|| FormatError::invalid(WHAT_PAGE, "page beyond the last series"))?;
            let series_end = (series.first + u64::from(self.times.points(series.time))).min(end);
            first = first.wrapping_add(unzigzag(cursor.varint()?));
            parts.push(((series_end - at) as u32, first));
            at = series_end;
        }
        Ok(())
    }
}

/// Differences -> integers, part by part; `coded` has one less than `integers` for each part.
fn sum_up(parts: &[(u32, i64)], coded: &[i64], integers: &mut [i64]) {
    let (mut coded, mut integers) = (coded, integers);
    for (points, first) in parts {
        let (own, rest) = coded.split_at(*points as usize - 1);
        let (out, after) = integers.split_at_mut(*points as usize);
        let mut sum = *first;
        out[0] = sum;
        for (out, difference) in out[1..].iter_mut().zip(own) {
            sum = sum.wrapping_add(*difference);
            *out = sum;
        }
        (coded, integers) = (rest, after);
    }
}

fn to_values(chunk: &ChunkEntry, dictionary: &[f64], integers: &[i64], values: &mut [f64]) -> Result<(), FormatError> {
    let pairs = values.iter_mut().zip(integers);
    let outside = || FormatError::invalid(WHAT_PAGE, "integer outside what its transform takes");
    match chunk.transform {
        // Refused before.
        Transform::Sketch | Transform::Histogram => return Err(outside()),
        Transform::Double => pairs.for_each(|(value, integer)| *value = from_ordered(*integer)),
        Transform::Dictionary => {
            for (value, integer) in pairs {
                *value = *usize::try_from(*integer).ok().and_then(|at| dictionary.get(at)).ok_or_else(outside)?;
            }
        }
        Transform::Decimal(_) | Transform::Binary(_) => {
            // Below 2^51 an integer added to the bits of 1.5 x 2^52 is the double behind it: made vectors of, unlike a conversion.
            let (factor, divisor, mut over) = (chunk.divisor as f64, chunk.transform.divisor(), 0i64);
            let plain = |integer: i64| f64::from_bits((integer as u64).wrapping_add(ROUNDER.to_bits())) - ROUNDER;
            if chunk.divisor == 1 && divisor == 1.0 {
                pairs.for_each(|(value, integer)| {
                    over |= integer ^ (integer >> 63);
                    *value = plain(*integer);
                });
            } else {
                pairs.for_each(|(value, integer)| {
                    over |= integer ^ (integer >> 63);
                    *value = plain(*integer) * factor / divisor;
                });
            }
            if over >> 51 != 0 {
                return Err(outside());
            }
        }
    }
    Ok(())
}

/// Positions below `points` and bits of the values that their transform can't hold.
pub(super) fn take_exceptions(
    cursor: &mut Cursor<'_>,
    points: usize,
    patterns: &mut Vec<u64>,
    exceptions: &mut Vec<(u32, u64)>,
) -> Result<(), FormatError> {
    let count = cursor.count(2)?;
    if count == 0 {
        return Ok(());
    }
    patterns.clear();
    for _ in 0..cursor.count(8)? {
        patterns.push(cursor.u64()?);
    }
    let mut next = 0u64;
    for _ in 0..count {
        let at = next.saturating_add(cursor.varint()?);
        if at >= points as u64 {
            return Err(FormatError::invalid(WHAT_PAGE, "exception outside its page"));
        }
        exceptions.push((at as u32, 0));
        next = at + 1;
    }
    for exception in exceptions {
        let pattern = usize::try_from(cursor.varint()?).ok().and_then(|pattern| patterns.get(pattern));
        exception.1 = *pattern.ok_or_else(|| FormatError::invalid(WHAT_PAGE, "exception without a pattern"))?;
    }
    Ok(())
}

//! One page -> its values: check, undo the coder, sum up differences, undo the transform, put exceptions back. No allocation once warm.

use super::ChunkIndex;
use super::aggregate::Aggregate;
use super::coder::{CoderScratch, OpenCoder};
use super::column::take_column;
use super::distribution::DistributionScratch;
use super::exceptions::{Codes, Exception, Exceptions};
use super::index::{ChunkEntry, PageEntry};
use super::layout::WHAT;
use super::pages::DICTIONARY_MAX;
use super::value::{FRACTION_MAX, Transform, from_ordered, to_double};
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
    exceptions: Exceptions,
    /// Points and first integer of each part of the page, and what its first value is if that is an exception.
    parts: Vec<FirstOfPart>,
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

type FirstOfPart = (u32, i64, Option<Exception>);

struct OpenChunk {
    coder: OpenCoder,
    /// Of [`Transform::Dictionary`].
    dictionary: Vec<f64>,
    codes: Option<Codes>,
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
        let codes = if chunk.exceptions { Some(Codes::take(WHAT_PAGE, &mut cursor)?) } else { None };
        let coder = OpenCoder::open(WHAT_PAGE, chunk.coder, cursor.take(cursor.remaining())?)?;
        Ok(Self { coder, dictionary, codes })
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
        // Looked at where it lies: it is large, pages of short series are small.
        let is_open = |(file, number, _): &(u128, u32, OpenChunk)| (*file, *number) == (self.identity, page.chunk);
        if !scratch.chunk.as_ref().is_some_and(is_open) {
            scratch.chunk = None;
            let opened = OpenChunk::open(chunk, self.chunk_meta.get(chunk.meta.clone()).unwrap_or(&[]))?;
            scratch.chunk = Some((self.identity, page.chunk, opened));
        }
        let Some((_, _, opened)) = &scratch.chunk else { return Err(FormatError::invalid(WHAT, "page of no chunk")) };
        let n = page.points as usize;
        let mut cursor = Cursor::new(WHAT_PAGE, body);
        let codes = opened.codes.as_ref();
        match codes {
            Some(_) => scratch.exceptions.begin(&mut cursor)?,
            None => scratch.exceptions.clear(),
        }
        let values = slice_of(&mut scratch.values, n);
        let integers = if chunk.delta {
            self.take_firsts(page, &mut cursor, codes, &mut scratch.parts)?;
            let coded = slice_of(&mut scratch.coded, n.saturating_sub(scratch.parts.len()));
            opened.coder.read(WHAT_PAGE, cursor.take(cursor.remaining())?, &mut scratch.coder, coded)?;
            if let Some(codes) = codes {
                take_from_parts(codes, &scratch.parts, coded, &mut scratch.exceptions)?;
            }
            let integers = slice_of(&mut scratch.integers, n);
            sum_up(&scratch.parts, coded, integers);
            integers
        } else {
            let integers = slice_of(&mut scratch.integers, n);
            opened.coder.read(WHAT_PAGE, cursor.take(cursor.remaining())?, &mut scratch.coder, integers)?;
            if let Some(codes) = codes {
                scratch.exceptions.take_from(WHAT_PAGE, codes, 0, integers)?;
            }
            integers
        };
        scratch.exceptions.end(WHAT_PAGE)?;
        to_values(chunk, &opened.dictionary, integers, values)?;
        for (at, bits) in &scratch.exceptions.met {
            values[*at as usize] = f64::from_bits(*bits);
        }
        Ok(())
    }

    /// Points and first integer of each part of a page of differences.
    fn take_firsts(
        &self,
        page: &PageEntry,
        cursor: &mut Cursor<'_>,
        codes: Option<&Codes>,
        parts: &mut Vec<FirstOfPart>,
    ) -> Result<(), FormatError> {
        parts.clear();
        let (mut at, end, mut first) = (page.first, page.first + u64::from(page.points), 0i64);
        let mut varying = self.varying.get(page.first_varying as usize..).unwrap_or(&[]).iter();
        while at < end {
            let series = varying.next().and_then(|series| self.series.get(*series as usize));
            let series = series.ok_or_else(|| FormatError::invalid(WHAT_PAGE, "page beyond the last series"))?;
            let series_end = (series.first + u64::from(self.times.points(series.time))).min(end);
            let (mut difference, mut exception) = (cursor.varint()?, None);
            if let Some(codes) = codes {
                if difference & 1 == 1 {
                    let known = codes.of_number(cursor.varint()?);
                    exception = Some(known.ok_or_else(|| FormatError::invalid(WHAT_PAGE, "exception that stands for no value"))?);
                }
                difference >>= 1;
            }
            first = first.wrapping_add(unzigzag(difference));
            parts.push(((series_end - at) as u32, first, exception));
            at = series_end;
        }
        Ok(())
    }
}

/// Notes the exceptions of a page of differences, part by part; 0 takes their place.
fn take_from_parts(codes: &Codes, parts: &[FirstOfPart], coded: &mut [i64], exceptions: &mut Exceptions) -> Result<(), FormatError> {
    let (mut at, mut coded) = (0, coded);
    for (points, _, first) in parts {
        if first.is_some() {
            exceptions.note(WHAT_PAGE, at, *first)?;
        }
        let (own, rest) = coded.split_at_mut(*points as usize - 1);
        exceptions.take_from(WHAT_PAGE, codes, at + 1, own)?;
        (at, coded) = (at + points, rest);
    }
    Ok(())
}

/// Differences -> integers, part by part; `coded` has one less than `integers` for each part.
fn sum_up(parts: &[FirstOfPart], coded: &[i64], integers: &mut [i64]) {
    let (mut coded, mut integers) = (coded, integers);
    for (points, first, _) in parts {
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

/// Whether an integer of a fraction is within what readers agree on, its divisor taken in. -2^51, which is not, is in files of early encoders of 1.0.
fn is_fraction(integer: i64, divisor: i64) -> bool {
    let limit = FRACTION_MAX as i64;
    integer.checked_mul(divisor).is_some_and(|whole| (-limit..limit).contains(&whole))
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
            let (factor, divisor, mut over) = (chunk.divisor as f64, chunk.transform.divisor(), 0i64);
            if chunk.divisor == 1 && divisor == 1.0 {
                pairs.for_each(|(value, integer)| {
                    over |= integer ^ (integer >> 63);
                    *value = to_double(*integer);
                });
            } else {
                pairs.for_each(|(value, integer)| {
                    over |= integer ^ (integer >> 63);
                    *value = to_double(*integer) * factor / divisor;
                });
            }
            // `over` is at least as great as each of them, and less than twice the greatest: mostly that tells.
            let most = (over as u64 + 1).saturating_mul(chunk.divisor.unsigned_abs());
            if most > FRACTION_MAX && !integers.iter().all(|integer| is_fraction(*integer, chunk.divisor)) {
                return Err(outside());
            }
        }
    }
    Ok(())
}

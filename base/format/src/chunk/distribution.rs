//! Chunks whose values are sketches or histograms: cut into pages by what they hold, taken apart into columns, and read again.
//!
//! Like doubles, the values of a chunk are one sequence in series order, and a page holds parts of series. A page ends at 1,024 points, or
//! before it holds more than 2^17 *items* (bins of sketches; buckets, spans and bounds of histograms), so that decoding one takes
//! a few megabytes at most. The chunk has coder 5, no flags and divisor 1: each of its columns has a coder of its own (`component.rs`).

use tailors_model::limits::{CHECKED_BYTES_MAX, DISTRIBUTION_ITEMS_MAX, PACKED_PAGE_POINTS, PCO_CHUNK_POINTS, SERIES_STATS_POINTS};
use tailors_model::{NativeHistogram, Sketch};

use super::ChunkIndex;
use super::coder::Coder;
use super::component::{ColumnScratch, ColumnWriter};
use super::histogram::{OpenHistograms, put_histograms};
use super::index::{NONE, PageEntry};
use super::layout::WHAT;
use super::pages::{Chunk, PAGE_POINTS_MAX};
use super::read::{PageRead, Part};
use super::sketch::{OpenSketches, put_sketches};
use super::summary::Summary;
use super::value::Transform;
use super::values::{SeriesValues, ValueKind, Values};
use crate::FormatError;
use crate::bytes::Cursor;
use crate::chunk::DecodeScratch;

const WHAT_PAGE: &str = "chunk file page";
/// Items of a page at most.
pub(super) const PAGE_ITEMS_MAX: usize = 1 << 17;
/// Items of a chunk: what an encoder holds of them at once, and enough for tables to pay.
const CHUNK_ITEMS: usize = 1 << 20;

/// Refuses values that are none, or more than a page could hold.
pub(super) fn check_values(values: &SeriesValues) -> Result<(), FormatError> {
    let too_many = |items: usize, of: &str| {
        let why = format!("{items} {of}, at most {DISTRIBUTION_ITEMS_MAX} can be: join bins before they are written");
        FormatError::invalid("bucket", why)
    };
    for sketch in values.sketches() {
        sketch.check().map_err(|error| FormatError::invalid("bucket", format!("sketch: {error}")))?;
        if sketch.bins.len() > DISTRIBUTION_ITEMS_MAX {
            return Err(too_many(sketch.bins.len(), "bins in a sketch"));
        }
    }
    for histogram in values.histograms() {
        histogram.check().map_err(|error| FormatError::invalid("bucket", format!("native histogram: {error}")))?;
        let items = items_of_histogram(histogram);
        if items > DISTRIBUTION_ITEMS_MAX {
            return Err(too_many(items, "buckets, spans and bounds in a native histogram"));
        }
    }
    Ok(())
}

fn items_of_sketch(sketch: &Sketch) -> usize {
    sketch.bins.len()
}

fn items_of_histogram(histogram: &NativeHistogram) -> usize {
    let layout = &histogram.layout;
    let (positive, negative) = layout.buckets();
    layout.positive.len() + layout.negative.len() + layout.bounds.len() + (positive + negative) as usize
}

/// Encodes series of sketches or of histograms, in order.
pub(super) fn encode_distributions(kind: ValueKind, series: &[&SeriesValues]) -> Result<Vec<Chunk>, FormatError> {
    match kind {
        ValueKind::Doubles => Err(FormatError::invalid("bucket", "doubles have chunks of their own")),
        ValueKind::Sketches => {
            let series: Vec<&[Sketch]> = series.iter().map(|values| values.sketches()).collect();
            encode_series(&series, Transform::Sketch, items_of_sketch, put_sketches)
        }
        ValueKind::Histograms => {
            let series: Vec<&[NativeHistogram]> = series.iter().map(|values| values.histograms()).collect();
            encode_series(&series, Transform::Histogram, items_of_histogram, put_histograms)
        }
    }
}

type Put<T> = fn(&[Vec<&[T]>], &mut ColumnWriter) -> Result<(), FormatError>;

fn encode_series<T>(series: &[&[T]], transform: Transform, items: fn(&T) -> usize, put: Put<T>) -> Result<Vec<Chunk>, FormatError> {
    let mut items_max = PAGE_ITEMS_MAX;
    let mut points_max = PAGE_POINTS_MAX;
    loop {
        let mut chunks = Vec::new();
        for pages in cut_chunks(cut_pages(series, items, points_max, items_max)) {
            let parts: Vec<Vec<&[T]>> = pages.iter().map(|page| page.parts.clone()).collect();
            let mut columns = ColumnWriter::new(parts.len());
            put(&parts, &mut columns)?;
            chunks.push(chunk_of(&pages, transform, columns));
        }
        // Random counts or doubles: a page of fewer of them will do.
        let fits = |chunk: &Chunk| chunk.page_lengths.iter().all(|length| *length < CHECKED_BYTES_MAX);
        if chunks.iter().all(fits) || (items_max, points_max) == (1, 1) {
            return Ok(chunks);
        }
        (items_max, points_max) = ((items_max / 2).max(1), (points_max / 2).max(1));
    }
}

fn chunk_of<T>(pages: &[Page<'_, T>], transform: Transform, columns: ColumnWriter) -> Chunk {
    Chunk {
        transform,
        coder: Coder::Columns,
        divisor: 1,
        exceptions: false,
        delta: false,
        meta: columns.meta,
        page_points: pages.iter().map(|page| page.points).collect(),
        page_lengths: columns.pages.iter().map(Vec::len).collect(),
        page_summaries: pages.iter().map(|page| page.has_short.then_some(Summary::Absent)).collect(),
        bytes: columns.pages.concat(),
    }
}

/// Parts of series that share a page.
struct Page<'a, T> {
    parts: Vec<&'a [T]>,
    points: usize,
    items: usize,
    /// Of a series too short for a summary of its own, had it one.
    has_short: bool,
}

/// Short series share pages until there are 1,024 points; a part of a long one has its page alone.
fn cut_pages<'a, T>(series: &[&'a [T]], items: fn(&T) -> usize, points_max: usize, items_max: usize) -> Vec<Page<'a, T>> {
    let mut pages: Vec<Page<'a, T>> = Vec::new();
    let mut is_open = false;
    for values in series {
        let mut rest = *values;
        while !rest.is_empty() {
            let mut own = 0;
            let fits = |(at, value): &(usize, &T)| {
                own += items(value);
                *at == 0 || *at < points_max && own <= items_max
            };
            let (part, after) = rest.split_at(rest.iter().enumerate().take_while(fits).count());
            let own: usize = part.iter().map(items).sum();
            let alone = part.len() < values.len() || part.len() >= PACKED_PAGE_POINTS;
            let joins =
                |page: &&mut Page<'a, T>| is_open && !alone && page.points + part.len() <= points_max && page.items + own <= items_max;
            let has_short = values.len() < SERIES_STATS_POINTS as usize;
            match pages.last_mut().filter(joins) {
                Some(page) => {
                    page.parts.push(part);
                    page.points += part.len();
                    page.items += own;
                    page.has_short |= has_short;
                }
                None => pages.push(Page { parts: vec![part], points: part.len(), items: own, has_short }),
            }
            is_open = !alone && pages.last().is_some_and(|page| page.points < PACKED_PAGE_POINTS);
            rest = after;
        }
    }
    pages
}

/// Pages of each chunk.
fn cut_chunks<T>(pages: Vec<Page<'_, T>>) -> Vec<Vec<Page<'_, T>>> {
    let mut chunks: Vec<Vec<Page<'_, T>>> = Vec::new();
    let (mut points, mut items) = (0, 0);
    for page in pages {
        (points, items) = (points + page.points, items + page.items);
        match chunks.last_mut() {
            Some(chunk) if points <= PCO_CHUNK_POINTS && items <= CHUNK_ITEMS => chunk.push(page),
            _ => {
                (points, items) = (page.points, page.items);
                chunks.push(vec![page]);
            }
        }
    }
    chunks
}

/// The sum of lengths that bytes claim; refused if one is negative or all are more than `most`.
pub(super) fn take_total(lengths: impl Iterator<Item = i64>, most: usize) -> Result<usize, FormatError> {
    let mut total = 0usize;
    for length in lengths {
        let sum = usize::try_from(length).ok().and_then(|length| total.checked_add(length)).filter(|total| *total <= most);
        total = sum.ok_or_else(|| FormatError::invalid(WHAT_PAGE, format!("more than {most} bins, buckets or spans")))?;
    }
    Ok(total)
}

/// What a double is expected to be; 0 for any NaN, whose bits machines differ in.
pub(super) fn predicted(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

/// What an average is expected to be.
pub(super) fn average(sum: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { predicted(sum / count as f64) }
}

/// An opened chunk.
enum OpenChunk {
    Sketches(OpenSketches),
    Histograms(OpenHistograms),
}

/// Buffers of decoding; what was decoded last.
#[derive(Default)]
pub(super) struct DistributionScratch {
    /// The chunk opened last: file, number, tables.
    chunk: Option<(u128, u32, OpenChunk)>,
    columns: ColumnScratch,
    parts: Vec<u32>,
    sketches: Vec<Sketch>,
    histograms: Vec<NativeHistogram>,
}

/// What a decoder hands out: series, timestamps in milliseconds from the span's start, values.
pub type EachValues<'a> = dyn FnMut(u32, &[u32], Values<'_>) + 'a;

impl ChunkIndex {
    /// What the values of a series are; constants are doubles.
    ///
    /// # Errors
    /// A number that is no series of this file: a bug of the caller.
    pub fn kind(&self, series: u32) -> Result<ValueKind, FormatError> {
        let page = self.entry(series)?.first_value().and_then(|first| self.pages.get(self.page_of(first)));
        Ok(page.map_or(ValueKind::Doubles, |page| self.kind_of_page(page)))
    }

    pub(super) fn kind_of_page(&self, page: &PageEntry) -> ValueKind {
        self.chunks.get(page.chunk as usize).map_or(ValueKind::Doubles, |chunk| chunk.transform.kind())
    }

    /// Decodes what was planned, whatever its kind; else as [`Self::decode`].
    ///
    /// # Errors
    /// Any damage of the page. Nothing of a damaged page is handed out.
    pub fn decode_values(
        &self,
        read: &PageRead,
        bytes: &[u8],
        scratch: &mut DecodeScratch,
        each: &mut EachValues<'_>,
    ) -> Result<(), FormatError> {
        let foreign = || FormatError::invalid(WHAT, "a read of another file");
        let page = read.page.map(|page| self.pages.get(page).ok_or_else(foreign)).transpose()?;
        let kind = page.map_or(ValueKind::Doubles, |page| self.kind_of_page(page));
        let Some(page) = page.filter(|_| kind != ValueKind::Doubles) else {
            return self.decode(read, bytes, scratch, &mut |series, times, values| each(series, times, Values::Doubles(values)));
        };
        self.decode_distributions(page, bytes, &mut scratch.distributions)?;
        for Part { series, skip, offset, points } in read.parts.iter().copied() {
            self.expand_times(self.entry(series)?.time, skip, points, scratch)?;
            let (own, range) = (&scratch.distributions, offset as usize..(offset + points) as usize);
            let values = match kind {
                ValueKind::Histograms => own.histograms.get(range).map(Values::Histograms),
                _ => own.sketches.get(range).map(Values::Sketches),
            };
            each(series, &scratch.times, values.ok_or_else(foreign)?);
        }
        Ok(())
    }

    /// Decodes a page of any kind and drops the values.
    pub(super) fn check_values_of(&self, page: &PageEntry, bytes: &[u8], scratch: &mut DecodeScratch) -> Result<(), FormatError> {
        match self.kind_of_page(page) {
            ValueKind::Doubles => self.decode_page(page, bytes, scratch),
            ValueKind::Sketches | ValueKind::Histograms => self.decode_distributions(page, bytes, &mut scratch.distributions),
        }
    }

    fn decode_distributions(&self, page: &PageEntry, bytes: &[u8], scratch: &mut DistributionScratch) -> Result<(), FormatError> {
        let body = self.check_page(page, bytes)?;
        let chunk = self.chunks.get(page.chunk as usize).ok_or_else(|| FormatError::invalid(WHAT, "page of no chunk"))?;
        let DistributionScratch { chunk: last, columns, parts, sketches, histograms } = scratch;
        let opened = match last.take() {
            Some((file, number, opened)) if (file, number) == (self.identity, page.chunk) => opened,
            _ => {
                let mut meta = Cursor::new(WHAT_PAGE, self.chunk_meta.get(chunk.meta.clone()).unwrap_or(&[]));
                let opened = if chunk.transform == Transform::Sketch {
                    OpenChunk::Sketches(OpenSketches::open(&mut meta)?)
                } else {
                    OpenChunk::Histograms(OpenHistograms::open(&mut meta)?)
                };
                meta.finish()?;
                opened
            }
        };
        self.parts_of(page, parts)?;
        let mut cursor = Cursor::new(WHAT_PAGE, body);
        sketches.clear();
        histograms.clear();
        match &opened {
            OpenChunk::Sketches(open) => open.read(&mut cursor, parts, columns, sketches)?,
            OpenChunk::Histograms(open) => open.read(&mut cursor, parts, columns, histograms)?,
        }
        *last = Some((self.identity, page.chunk, opened));
        cursor.finish()
    }

    /// Points of each part of a page.
    fn parts_of(&self, page: &PageEntry, parts: &mut Vec<u32>) -> Result<(), FormatError> {
        parts.clear();
        let (mut at, end) = (page.first, page.first + u64::from(page.points));
        let mut varying = self.varying.get(page.first_varying as usize..).unwrap_or(&[]).iter();
        while at < end {
            let series = varying.next().and_then(|series| self.series.get(*series as usize));
            let series = series.ok_or_else(|| FormatError::invalid(WHAT_PAGE, "page beyond the last series"))?;
            let series_end = (series.first + u64::from(self.times.points(series.time))).min(end);
            parts.push((series_end - at) as u32);
            at = series_end;
        }
        Ok(())
    }

    /// A series that was taken for one of doubles.
    pub(super) fn not_doubles(&self, series: u32) -> FormatError {
        let found = self.kind(series).map_or("no values", ValueKind::name);
        FormatError::OtherKind { what: WHAT, found, wanted: ValueKind::Doubles.name() }
    }

    /// Whether each series is of one kind, and summaries are absent of sketches and histograms and of nothing else.
    pub(super) fn check_kinds(&self, what: &'static str) -> Result<(), FormatError> {
        let (mut before, mut place) = (None, 0);
        let is_summary_of = |summary: Option<&Summary>, kind: ValueKind| {
            summary.is_none_or(|summary| matches!(summary, Summary::Absent) == (kind != ValueKind::Doubles))
        };
        for page in &self.pages {
            let kind = self.kind_of_page(page);
            let mut is_good = page.summary == NONE || is_summary_of(self.page_summaries.get(page.summary as usize), kind);
            while let Some(series) = self.varying.get(place).map(|series| &self.series[*series as usize]) {
                if series.first >= page.first + u64::from(page.points) {
                    break;
                }
                is_good &= is_summary_of(self.summaries.get(series.summary as usize), kind);
                place += 1;
            }
            let continues =
                self.varying.get(page.first_varying as usize).is_some_and(|series| self.series[*series as usize].first < page.first);
            if !is_good || continues && before != Some(kind) {
                return Err(FormatError::invalid(what, "a series of two kinds, or a summary of another kind"));
            }
            before = Some(kind);
        }
        Ok(())
    }
}

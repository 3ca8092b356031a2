//! Files of some windows -> buckets of a day's file (rfcs/0003): the same format over 86,400 s, written by [`super::assemble`].
//!
//! In: opened files, each with the time for which it speaks. Out: a plan (pure: from indexes alone), and per part of it one bucket. A metric whose
//! pages of the whole day are fetched by one read anyway is copied: its pages stay as they are, after their checksums were compared, and get new
//! ones. Any other metric is encoded anew, so that all values of a series lie side by side. Invariants: equal inputs in equal order give equal
//! buckets; the tally of what went in is that of what comes out, window by window, to the bit. Parts come in file order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tailors_model::limits::{BUCKET_POINTS, BUCKET_SERIES_POINTS};
use tailors_model::{MetricMeta, OrgId, Tag};

use super::encode::{BucketInput, EncodedBucket, SeriesColumn, encode_bucket};
use super::tally::{DayTally, series_key};
use super::{ChunkIndex, DecodeScratch, SeriesValues, Span, ValueKind, Values};
use crate::FormatError;

/// Bytes of a metric's pages of a day up to which they are copied: below it the gaps between the pages of one series are fetched with them.
pub const DAY_COPY_BYTES: u64 = 64 << 10;

const WHAT: &str = "day";

/// One file, and the time for which it speaks.
#[derive(Clone, Debug)]
pub struct DayInput {
    /// The opened file; a window's, or a day's.
    pub index: Arc<ChunkIndex>,
    /// First point that counts, Unix milliseconds.
    pub from_ms: i64,
    /// End of the points that count, exclusive.
    pub to_ms: i64,
}

/// What went wrong, and with which input.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{error}")]
pub struct DayError {
    /// Position among the inputs; `None` when it is none of theirs.
    pub input: Option<usize>,
    /// What.
    pub error: FormatError,
}

impl DayError {
    fn of(input: usize) -> impl Fn(FormatError) -> Self {
        move |error| Self { input: Some(input), error }
    }

    fn ours(error: FormatError) -> Self {
        Self { input: None, error }
    }
}

/// One bucket of the day to come.
#[derive(Clone, Debug)]
pub struct DayPart {
    org: OrgId,
    metric: Bytes,
    meta: MetricMeta,
    work: Work,
}

/// (input, series in it).
type Entry = (u32, u32);
/// Of each series of a bucket its entries, in time order.
type Bucket = Vec<Vec<Entry>>;

#[derive(Clone, Debug)]
enum Work {
    /// All series of a metric (by position) of one input, as they are.
    Copy { input: usize, metric: usize },
    /// Series, whole.
    Encode(Bucket),
}

/// Pages fetched: of each input byte ranges with their bytes.
#[derive(Clone, Debug, Default)]
pub struct DayPages(Vec<BTreeMap<u64, Bytes>>);

impl DayPages {
    /// Takes bytes that begin at `start` of an input.
    pub fn put(&mut self, input: usize, start: u64, bytes: Bytes) {
        if self.0.len() <= input {
            self.0.resize_with(input + 1, BTreeMap::new);
        }
        self.0[input].insert(start, bytes);
    }

    fn get(&self, input: usize, range: &Range<u64>) -> Result<&[u8], DayError> {
        let (start, bytes) = match self.0.get(input).and_then(|known| known.range(..=range.start).next_back()) {
            Some(found) => found,
            None if range.is_empty() => return Ok(&[]),
            None => return Err(DayError::ours(FormatError::invalid(WHAT, "a page that was not fetched"))),
        };
        let own = (range.start - start) as usize..(range.end - start) as usize;
        if range.is_empty() {
            return Ok(&[]);
        }
        bytes.get(own).ok_or_else(|| DayError::ours(FormatError::invalid(WHAT, "a page that was not fetched")))
    }
}

/// The parts of a day, in file order. Inputs come in time order; those of one window in the order of its manifest.
///
/// # Errors
/// Damaged labels of an input.
pub fn plan_day(inputs: &[DayInput], copy_bytes_max: u64) -> Result<Vec<DayPart>, DayError> {
    let mut metrics: BTreeMap<(OrgId, &Bytes), Vec<(usize, usize)>> = BTreeMap::new();
    for (number, input) in inputs.iter().enumerate() {
        for (at, metric) in input.index.metrics().iter().enumerate() {
            if input.is_touched(metric.min_ms, metric.max_ms) {
                metrics.entry((metric.org, &metric.metric)).or_default().push((number, at));
            }
        }
    }
    let mut parts = Vec::new();
    for ((org, metric), members) in metrics {
        // What the newest window says of a metric counts, as it does for readers.
        let newest = members.last().and_then(|(input, at)| inputs[*input].index.metrics().get(*at));
        let meta = newest.map(|newest| newest.meta.clone()).unwrap_or_default();
        let part = |work| DayPart { org, metric: metric.clone(), meta: meta.clone(), work };
        if can_copy(inputs, &members, copy_bytes_max) {
            parts.extend(members.into_iter().map(|(input, metric)| part(Work::Copy { input, metric })));
        } else {
            parts.extend(cut(inputs, &members)?.into_iter().map(|series| part(Work::Encode(series))));
        }
    }
    Ok(parts)
}

/// Whether the pages of a metric are few, count as they are, and follow each other in time.
fn can_copy(inputs: &[DayInput], members: &[(usize, usize)], bytes_max: u64) -> bool {
    let (mut bytes, mut after_ms) = (0, i64::MIN);
    for (input, at) in members {
        let DayInput { index, from_ms, to_ms } = &inputs[*input];
        let Some(metric) = index.metrics().get(*at) else { return false };
        if metric.min_ms < *from_ms || metric.max_ms >= *to_ms || metric.min_ms <= after_ms {
            return false;
        }
        let Some(pages) = index.pages_of(metric) else { return false };
        bytes += index.bytes_of_pages(pages);
        after_ms = metric.max_ms;
    }
    // Constants have no pages: nothing to save, and one entry a series is better than six.
    (1..=bytes_max).contains(&bytes)
}

/// The series of a metric in order of first appearance, in buckets of at most 2^22 points; a longer series has a bucket per entry.
fn cut(inputs: &[DayInput], members: &[(usize, usize)]) -> Result<Vec<Bucket>, DayError> {
    let mut known: BTreeMap<(Vec<Tag>, ValueKind), usize> = BTreeMap::new();
    let mut series: Vec<(u64, Vec<Entry>)> = Vec::new();
    for (number, at) in members {
        let input = &inputs[*number];
        let Some(metric) = input.index.metrics().get(*at) else { continue };
        for entry in metric.series.clone() {
            let points = u64::from(input.index.points_between(entry, input.from_ms, input.to_ms));
            if points == 0 {
                continue;
            }
            let damaged = DayError::of(*number);
            let identity = (input.index.tags(entry).map_err(&damaged)?, input.index.kind(entry).map_err(&damaged)?);
            let slot = *known.entry(identity).or_insert(series.len());
            if slot == series.len() {
                series.push((0, Vec::new()));
            }
            series[slot].0 += points;
            series[slot].1.push((*number as u32, entry));
        }
    }
    let (mut buckets, mut open, mut sum): (Vec<Bucket>, Bucket, u64) = Default::default();
    for (points, entries) in series {
        if sum + points > BUCKET_POINTS && !open.is_empty() {
            buckets.push(std::mem::take(&mut open));
            sum = 0;
        }
        if points > BUCKET_POINTS {
            buckets.extend(entries.into_iter().map(|entry| vec![vec![entry]]));
            continue;
        }
        sum += points.max(BUCKET_SERIES_POINTS);
        open.push(entries);
    }
    if !open.is_empty() {
        buckets.push(open);
    }
    Ok(buckets)
}

impl DayInput {
    /// Whether points from `min_ms` to `max_ms` (both inside) may count.
    fn is_touched(&self, min_ms: i64, max_ms: i64) -> bool {
        min_ms < self.to_ms && max_ms >= self.from_ms
    }
}

impl DayPart {
    /// What to fetch of each input: (input, ranges in ascending order, neighbours joined).
    pub fn reads(&self, inputs: &[DayInput]) -> Vec<(usize, Vec<Range<u64>>)> {
        let reads = self.series_by_input(inputs).into_iter().map(|(input, series)| {
            let mut ranges: Vec<Range<u64>> = Vec::new();
            let mut pages: Vec<Range<u64>> = inputs[input].index.plan_reads(&series).into_iter().map(|read| read.range).collect();
            pages.retain(|range| !range.is_empty());
            pages.sort_unstable_by_key(|range| range.start);
            for page in pages {
                match ranges.last_mut() {
                    Some(last) if last.end >= page.start => last.end = last.end.max(page.end),
                    _ => ranges.push(page),
                }
            }
            (input, ranges)
        });
        reads.collect()
    }

    /// Points that may be held while this part is encoded.
    pub fn points(&self, inputs: &[DayInput]) -> u64 {
        let points = |(input, series): (usize, Vec<u32>)| {
            let DayInput { index, from_ms, to_ms } = &inputs[input];
            series.iter().map(|own| u64::from(index.points_between(*own, *from_ms, *to_ms))).sum::<u64>()
        };
        self.series_by_input(inputs).into_iter().map(points).sum()
    }

    fn series_by_input(&self, inputs: &[DayInput]) -> BTreeMap<usize, Vec<u32>> {
        let mut by_input: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        match &self.work {
            Work::Copy { input, metric } => {
                let series = inputs[*input].index.metrics().get(*metric).map(|metric| metric.series.clone()).unwrap_or_default();
                by_input.insert(*input, series.collect());
            }
            Work::Encode(series) => {
                for (input, entry) in series.iter().flatten() {
                    by_input.entry(*input as usize).or_default().push(*entry);
                }
            }
        }
        by_input
    }

    /// Makes the bucket from the bytes of [`Self::reads`] and adds its points to `tally`. `span` is the day's.
    ///
    /// # Errors
    /// Damage of a page names its input; points outside the span.
    pub fn encode(
        &self,
        inputs: &[DayInput],
        pages: &DayPages,
        span: Span,
        scratch: &mut DecodeScratch,
        tally: &mut DayTally,
    ) -> Result<EncodedBucket, DayError> {
        match &self.work {
            Work::Copy { input, metric } => self.copy(inputs, (*input, *metric), pages, span, scratch, tally),
            Work::Encode(series) => self.encode_anew(inputs, series, pages, span, scratch, tally),
        }
    }

    /// Adds the points of [`Self::reads`] to `tally`, as [`Self::encode`] does, and makes nothing of them.
    ///
    /// # Errors
    /// Damage of a page names its input.
    pub fn count(&self, inputs: &[DayInput], pages: &DayPages, scratch: &mut DecodeScratch, tally: &mut DayTally) -> Result<(), DayError> {
        for (number, series) in self.series_by_input(inputs) {
            let DayInput { index, from_ms, to_ms } = &inputs[number];
            let start_ms = index.span().start_ms;
            let mut keys: BTreeMap<u32, u64> = BTreeMap::new();
            for entry in &series {
                keys.insert(*entry, series_key(self.org, &self.metric, &index.tags(*entry).map_err(DayError::of(number))?));
            }
            for read in index.plan_reads(&series) {
                let mut add = |entry: u32, times: &[u32], values: Values<'_>| {
                    let Some(key) = keys.get(&entry) else { return };
                    let from = times.partition_point(|time| start_ms + i64::from(*time) < *from_ms);
                    let to = times.partition_point(|time| start_ms + i64::from(*time) < *to_ms);
                    tally.add(*key, start_ms, &times[from..to], values.part(from..to));
                };
                index.decode_values(&read, pages.get(number, &read.range)?, scratch, &mut add).map_err(DayError::of(number))?;
            }
        }
        Ok(())
    }

    fn copy(
        &self,
        inputs: &[DayInput],
        (number, at): (usize, usize),
        pages: &DayPages,
        span: Span,
        scratch: &mut DecodeScratch,
        tally: &mut DayTally,
    ) -> Result<EncodedBucket, DayError> {
        let index = &inputs[number].index;
        let metric = index.metrics().get(at).ok_or_else(|| DayError::ours(FormatError::invalid(WHAT, "a metric of another file")))?;
        let series: Vec<u32> = metric.series.clone().collect();
        // Decoded all the same: a page that can't be read is not passed on, and its points are counted as a reader counts them.
        let mut keys = Vec::with_capacity(series.len());
        for entry in &series {
            keys.push(series_key(self.org, &self.metric, &index.tags(*entry).map_err(DayError::of(number))?));
        }
        for read in index.plan_reads(&series) {
            let bytes = pages.get(number, &read.range)?;
            let first = metric.series.start;
            let mut add = |entry: u32, times: &[u32], values: Values<'_>| {
                tally.add(keys[(entry - first) as usize], index.span().start_ms, times, values);
            };
            index.decode_values(&read, bytes, scratch, &mut add).map_err(DayError::of(number))?;
        }
        let shift = shift_of(index, span).ok_or_else(|| DayError::of(number)(outside()))?;
        let meta = &self.meta;
        index.copy_metric(metric, meta, shift, |range| pages.get(number, range).ok()).map_err(DayError::of(number))
    }

    fn encode_anew(
        &self,
        inputs: &[DayInput],
        series: &[Vec<Entry>],
        pages: &DayPages,
        span: Span,
        scratch: &mut DecodeScratch,
        tally: &mut DayTally,
    ) -> Result<EncodedBucket, DayError> {
        let mut columns = Vec::with_capacity(series.len());
        let mut keys = Vec::with_capacity(series.len());
        let mut wanted: BTreeMap<usize, Vec<(u32, usize)>> = BTreeMap::new();
        for (slot, entries) in series.iter().enumerate() {
            let mut points = 0;
            for (input, entry) in entries {
                wanted.entry(*input as usize).or_default().push((*entry, slot));
                let DayInput { index, from_ms, to_ms } = &inputs[*input as usize];
                points += index.points_between(*entry, *from_ms, *to_ms) as usize;
            }
            let Some((newest, entry)) = entries.last().map(|(input, entry)| (*input as usize, *entry)) else { continue };
            let tags = inputs[newest].index.tags(entry).map_err(DayError::of(newest))?;
            let meta = inputs[newest].index.meta(entry).map_err(DayError::of(newest))?.clone();
            keys.push(series_key(self.org, &self.metric, &tags));
            let kind = inputs[newest].index.kind(entry).map_err(DayError::of(newest))?;
            columns.push(SeriesColumn { tags, meta, timestamps: Vec::with_capacity(points), values: SeriesValues::of_kind(kind, points) });
        }
        for (number, mut wanted) in wanted {
            let DayInput { index, from_ms, to_ms } = &inputs[number];
            wanted.sort_unstable();
            let start_ms = index.span().start_ms;
            let shift = start_ms - span.start_ms;
            let mut is_inside = true;
            let numbers: Vec<u32> = wanted.iter().map(|(entry, _)| *entry).collect();
            for read in index.plan_reads(&numbers) {
                let mut take = |entry: u32, times: &[u32], values: Values<'_>| {
                    let Ok(at) = wanted.binary_search_by_key(&entry, |(entry, _)| *entry) else { return };
                    let from = times.partition_point(|time| start_ms + i64::from(*time) < *from_ms);
                    let to = times.partition_point(|time| start_ms + i64::from(*time) < *to_ms);
                    let column = &mut columns[wanted[at].1];
                    tally.add(keys[wanted[at].1], start_ms, &times[from..to], values.part(from..to));
                    column.values.extend(values.part(from..to));
                    column.timestamps.extend(times[from..to].iter().map(|time| {
                        let time = i64::from(*time) + shift;
                        is_inside &= (0..i64::from(span.span_ms)).contains(&time);
                        time as u32
                    }));
                };
                index.decode_values(&read, pages.get(number, &read.range)?, scratch, &mut take).map_err(DayError::of(number))?;
            }
            if !is_inside {
                return Err(DayError::of(number)(outside()));
            }
        }
        let (org, metric, meta) = (self.org, self.metric.clone(), self.meta.clone());
        encode_bucket(&BucketInput { org, metric, meta, series: columns }).map_err(DayError::ours)
    }
}

/// Milliseconds by which times of a file grow in the day's; `None` when it lies outside.
fn shift_of(index: &ChunkIndex, span: Span) -> Option<u32> {
    let own = index.span();
    let shift = u32::try_from(own.start_ms - span.start_ms).ok()?;
    (u64::from(shift) + u64::from(own.span_ms) <= u64::from(span.span_ms)).then_some(shift)
}

fn outside() -> FormatError {
    FormatError::invalid(WHAT, "a file of another day")
}

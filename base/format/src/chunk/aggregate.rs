//! Pages -> count, sum, minimum and maximum per step of time, without handing out points.
//!
//! Where in a page a step begins follows from the runs of the time column; no timestamp is written out. Series that lie in one step whole are
//! answered from the index. The sum of 16 values and more runs in eight lanes, which are added at the end: neighbours 4 apart, then 2, then 1.

use super::ChunkIndex;
use super::decode::DecodeScratch;
use super::index::ChunkEntry;
use super::layout::WHAT;
use super::read::PageRead;
use super::summary::{Statistics, Summary};
use crate::FormatError;

/// Sums beside each other: an addition takes as long as four begin in.
const LANES: usize = 8;
/// Values from which on lanes are worth it.
const LANES_FROM: usize = 2 * LANES;

/// Even steps of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steps {
    /// Start of the first one, milliseconds from the span's start; points before it count nowhere.
    pub start: u32,
    /// Length of each in milliseconds, at least 1.
    pub step: u32,
    /// How many; points after them count nowhere.
    pub count: u32,
}

/// Of the points of a step. NaNs are counted apart. Of zeros of either sign, which are equal, minimum and maximum are the one that came first, as in
/// the statistics of a file.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Aggregate {
    /// Points that are no NaN.
    pub count: u64,
    /// Points that are NaN.
    pub nans: u64,
    /// Their sum.
    pub sum: f64,
    /// The least; infinity if there is none.
    pub min: f64,
    /// The greatest; minus infinity if there is none.
    pub max: f64,
}

impl Aggregate {
    /// Of no points.
    pub const NONE: Self = Self { count: 0, nans: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Takes in other points.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.nans += other.nans;
        self.sum += other.sum;
        self.min = less(self.min, other.min);
        self.max = greater(self.max, other.max);
    }

    fn of_equal(value: f64, count: u64) -> Self {
        if value.is_nan() {
            return Self { nans: count, ..Self::NONE };
        }
        Self { count, nans: 0, sum: value * count as f64, min: value, max: value }
    }

    fn of_statistics(own: &Statistics) -> Self {
        let count = own.count - own.nans;
        if count == 0 {
            return Self { nans: own.nans, ..Self::NONE };
        }
        Self { count, nans: own.nans, sum: own.sum, min: own.min, max: own.max }
    }

    /// Of some values.
    #[inline]
    pub fn of(values: &[f64]) -> Self {
        Self::of_values(values, true)
    }

    /// Without `has_odd`, no value is -0.0.
    #[inline]
    fn of_values(values: &[f64], has_odd: bool) -> Self {
        if values.len() < LANES_FROM { Self::of_few(values) } else { Self::of_many(values, has_odd) }
    }

    fn of_many(values: &[f64], has_odd: bool) -> Self {
        let (mut sum, mut min, mut max) = ([0.0; LANES], [f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let (blocks, rest) = values.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                sum[lane] += block[lane];
                min[lane] = less(min[lane], block[lane]);
                max[lane] = greater(max[lane], block[lane]);
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            sum[lane] += value;
            min[lane] = less(min[lane], *value);
            max[lane] = greater(max[lane], *value);
        }
        let sum = fold_lanes(sum, |a, b| a + b);
        if sum.is_nan() {
            return Self::of_some_nans(values);
        }
        let (mut least, mut greatest) = (fold_lanes(min, less), fold_lanes(max, greater));
        if has_odd {
            (least, greatest) = (first_zero(least, min, values), first_zero(greatest, max, values));
        }
        Self { count: values.len() as u64, nans: 0, sum, min: least, max: greatest }
    }

    /// Left to right: lanes are not worth setting up.
    #[inline]
    fn of_few(values: &[f64]) -> Self {
        let (mut sum, mut min, mut max) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            sum += value;
            min = less(min, *value);
            max = greater(max, *value);
        }
        if sum.is_nan() { Self::of_some_nans(values) } else { Self { count: values.len() as u64, nans: 0, sum, min, max } }
    }

    #[cold]
    fn of_some_nans(values: &[f64]) -> Self {
        let mut out = Self::NONE;
        values.iter().for_each(|value| out.add(&Self::of_equal(*value, 1)));
        out
    }
}

/// The least; of equal ones the first, NaNs are passed over. Not `f64::min`: which zero it takes is open.
#[inline]
fn less(first: f64, second: f64) -> f64 {
    if second < first { second } else { first }
}

/// The greatest, in the same way.
#[inline]
fn greater(first: f64, second: f64) -> f64 {
    if second > first { second } else { first }
}

/// An extreme of all lanes; if it is a zero and lanes hold zeros of both signs, the one that comes first in the values.
#[inline]
fn first_zero(extreme: f64, lanes: [f64; LANES], values: &[f64]) -> f64 {
    // Without an early end this is made vectors of: least and greatest are zeros often, of both signs hardly ever.
    let is_mixed = || lanes.iter().fold(false, |mixed, lane| mixed | ((*lane == extreme) & (lane.to_bits() != extreme.to_bits())));
    if extreme == 0.0 && is_mixed() { first_equal(extreme, values) } else { extreme }
}

#[cold]
fn first_equal(extreme: f64, values: &[f64]) -> f64 {
    values.iter().copied().find(|value| *value == extreme).unwrap_or(extreme)
}

#[inline]
fn fold_lanes(mut lanes: [f64; LANES], take: impl Fn(f64, f64) -> f64) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = take(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// What an aggregation hands out: series, number of the first step, steps from there on (those without points are
/// [`Aggregate::NONE`]). A series comes several times if it has several parts.
pub type EachSteps<'a> = dyn FnMut(u32, u32, &[Aggregate]) + 'a;

impl ChunkIndex {
    /// Plans an aggregation of series: hands out at once what the index knows (constants; series of 256 points and more that lie in one step),
    /// returns what to read for the rest, for [`Self::aggregate`].
    ///
    /// # Errors
    /// A number that is no series of this file: a bug of the caller.
    pub fn plan_aggregate(&self, series: &[u32], steps: &Steps, each: &mut EachSteps<'_>) -> Result<Vec<PageRead>, FormatError> {
        let (mut rest, mut scratch) = (Vec::new(), Vec::new());
        for number in series {
            let entry = self.entry(*number)?;
            let (first, last) = self.times.edges(entry.time);
            let whole = self.step_of(first, steps).filter(|step| self.step_of(last, steps) == Some(*step));
            if let Some(value) = entry.constant() {
                let points = self.times.points(entry.time);
                let one = Aggregate::of_equal(value, 1);
                let first = self.each_step(entry.time, 0, points, steps, &mut scratch, |from, to| {
                    let n = u64::from(to - from);
                    Aggregate { count: one.count * n, nans: one.nans * n, sum: one.sum * n as f64, ..one }
                })?;
                each(*number, first, &scratch);
            } else if let Some((step, own)) = whole.zip(self.statistics(*number)) {
                each(*number, step, &[Aggregate::of_statistics(&own)]);
            } else {
                rest.push(*number);
            }
        }
        Ok(self.plan_reads(&rest))
    }

    /// Aggregates what was planned: `bytes` are exactly those of `read.range`.
    ///
    /// # Errors
    /// Any damage of the page. Nothing of a damaged page is handed out.
    pub fn aggregate(
        &self,
        read: &PageRead,
        bytes: &[u8],
        steps: &Steps,
        scratch: &mut DecodeScratch,
        each: &mut EachSteps<'_>,
    ) -> Result<(), FormatError> {
        let foreign = || FormatError::invalid(WHAT, "a read of another file");
        let page = read.page.ok_or_else(foreign)?;
        let page = self.pages.get(page).ok_or_else(foreign)?;
        self.decode_page(page, bytes, scratch)?;
        let chunk = self.chunks.get(page.chunk as usize).ok_or_else(foreign)?;
        // No integer becomes -0.0: it is an exception.
        let has_odd = chunk.exceptions || !chunk.transform.is_fraction();
        let mut aggregates = std::mem::take(&mut scratch.aggregates);
        for part in &read.parts {
            let values = scratch.values.get(part.offset as usize..(part.offset + part.points) as usize).ok_or_else(foreign)?;
            let time = self.entry(part.series)?.time;
            let first = self.each_step(time, part.skip, part.points, steps, &mut aggregates, |from, to| {
                Aggregate::of_values(values.get(from as usize..to as usize).unwrap_or(&[]), has_odd)
            })?;
            each(part.series, first, &aggregates);
        }
        scratch.aggregates = aggregates;
        Ok(())
    }

    /// All points of a metric as one, from the index alone: constants, summaries of series, summaries of pages with shorter ones.
    ///
    /// # Errors
    /// A position that is no metric of this file: a bug of the caller. [`FormatError::OtherKind`] if it has sketches or histograms.
    pub fn aggregate_metric(&self, metric_index: usize) -> Result<Aggregate, FormatError> {
        let metric = self.metrics.get(metric_index).ok_or_else(|| FormatError::invalid(WHAT, format!("no metric {metric_index}")))?;
        let (mut out, mut page_before) = (Aggregate::NONE, usize::MAX);
        for series in metric.series.clone() {
            let entry = self.entry(series)?;
            // A page with a summary holds each of its series whole.
            let page = entry.first_value().map(|first| self.page_of(first));
            let Some((page, chunk, own)) = page.and_then(|page| self.page_summary(page)) else {
                if matches!(self.summaries.get(entry.summary as usize), Some(Summary::Absent)) {
                    return Err(self.not_doubles(series));
                }
                self.statistics(series).iter().for_each(|own| out.add(&Aggregate::of_statistics(own)));
                continue;
            };
            if page != page_before {
                page_before = page;
                let count = u64::from(self.pages.get(page).map_or(0, |page| page.points));
                let own = match own {
                    Summary::Absent => return Err(self.not_doubles(series)),
                    Summary::Doubles(own) => own.statistics(count),
                    Summary::Integers(own) => own.statistics(chunk.transform, chunk.divisor, count),
                };
                out.add(&Aggregate::of_statistics(&own));
            }
        }
        Ok(out)
    }

    fn page_summary(&self, number: usize) -> Option<(usize, &ChunkEntry, &Summary)> {
        let page = self.pages.get(number)?;
        Some((number, self.chunks.get(page.chunk as usize)?, self.page_summaries.get(page.summary as usize)?))
    }

    fn step_of(&self, time: u32, steps: &Steps) -> Option<u32> {
        let step = time.checked_sub(steps.start)? / steps.step.max(1);
        (step < steps.count).then_some(step)
    }

    /// Aggregates of points `skip..skip + n` of a time column by step, and the number of the first; `of` gets positions from `skip` on.
    #[inline]
    fn each_step(
        &self,
        time: u32,
        skip: u32,
        n: u32,
        steps: &Steps,
        out: &mut Vec<Aggregate>,
        of: impl Fn(u32, u32) -> Aggregate,
    ) -> Result<u32, FormatError> {
        out.clear();
        let mut first = 0;
        self.times.each_step(time, skip, n, steps, |step, from, to| {
            if out.is_empty() {
                first = step;
            }
            let at = (step - first) as usize;
            if at == out.len() {
                out.push(of(from, to));
                return;
            }
            if at > out.len() {
                out.resize(at + 1, Aggregate::NONE);
            }
            out[at].add(&of(from, to));
        })?;
        Ok(first)
    }
}

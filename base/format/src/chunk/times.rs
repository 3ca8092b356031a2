//! Time columns: the timestamps of a series, each distinct list once per file.
//!
//! ```text
//! times   columns varint | runs of each column (0 = irregular)
//!         per run: gap from the end of the run before (the first: from the span's start) | step | points - 1
//!         per irregular column: points | first | divisor;  then all differences / divisor, column after column
//! ```

use super::aggregate::Steps;
use super::column::{put_column, take_bounded};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const WHAT: &str = "chunk file times";

/// Points in even steps. Milliseconds from the span's start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TimeRun {
    pub(super) start: u32,
    pub(super) step: u32,
    pub(super) points: u32,
}

impl TimeRun {
    fn end(&self) -> u32 {
        self.start + self.step * (self.points - 1)
    }
}

/// Timestamps of a series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum TimeColumn {
    Runs(Vec<TimeRun>),
    Irregular(Vec<u32>),
}

impl TimeColumn {
    /// `None` where timestamps don't strictly increase, or there are none.
    pub(super) fn of(timestamps: &[u32]) -> Option<Self> {
        let mut runs = Vec::with_capacity(1);
        let mut rest = timestamps;
        while let Some(start) = rest.first().copied() {
            let step = rest.get(1).map_or(0, |next| next.wrapping_sub(start));
            let more = even_steps(rest, step);
            let run = TimeRun { start, step, points: more as u32 + 1 };
            let is_after = runs.last().is_none_or(|before: &TimeRun| before.end() < start);
            // Differences are modulo 2^32: a run that falls does not end where it should.
            if !is_after || more as u64 * u64::from(step) + u64::from(start) != u64::from(rest[more]) || (more > 0 && step == 0) {
                return None;
            }
            runs.push(run);
            rest = &rest[more + 1..];
            // A run costs about three differences.
            if runs.len() * 3 > timestamps.len() + 8 {
                let increase = timestamps.is_sorted_by(|before, after| before < after);
                return increase.then(|| Self::Irregular(timestamps.to_vec()));
            }
        }
        (!runs.is_empty()).then_some(Self::Runs(runs))
    }

    /// For hash tables of columns; equal columns have equal ones.
    pub(super) fn hash(&self) -> u64 {
        let mix = |hash: u64, field: u32| (hash ^ u64::from(field)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        match self {
            Self::Runs(runs) => runs.iter().fold(0, |hash, run| mix(mix(mix(hash, run.start), run.step), run.points)),
            Self::Irregular(times) => times.iter().fold(1, |hash, time| mix(hash, *time)),
        }
    }

    pub(super) fn last(&self) -> u32 {
        match self {
            Self::Runs(runs) => runs.last().map_or(0, TimeRun::end),
            Self::Irregular(times) => times.last().copied().unwrap_or(0),
        }
    }

    pub(super) fn first(&self) -> u32 {
        match self {
            Self::Runs(runs) => runs.first().map_or(0, |run| run.start),
            Self::Irregular(times) => times.first().copied().unwrap_or(0),
        }
    }
}

/// How many of the first differences are `step`.
fn even_steps(times: &[u32], step: u32) -> usize {
    let is_even = |pair: &[u32; 2]| pair[1].wrapping_sub(pair[0]) == step;
    let mut done = 0;
    // Blocks without an early end are made vectors of.
    while let Some(block) = times.get(done..done + 65)
        && block.array_windows().fold(true, |even, pair| even & is_even(pair))
    {
        done += 64;
    }
    done + times[done..].array_windows().take_while(|pair| is_even(pair)).count()
}

/// The section of these columns.
pub(super) fn put_times(columns: &[TimeColumn]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    put_varint(&mut out, columns.len() as u64);
    let (mut counts, mut gaps, mut steps, mut points): (Vec<u64>, Vec<u64>, Vec<u64>, Vec<u64>) = Default::default();
    let (mut lengths, mut firsts, mut divisors, mut deltas): (Vec<u64>, Vec<u64>, Vec<u64>, Vec<u64>) = Default::default();
    for column in columns {
        match column {
            TimeColumn::Runs(runs) => {
                counts.push(runs.len() as u64);
                let mut end = 0;
                for run in runs {
                    gaps.push(u64::from(run.start - end));
                    steps.push(u64::from(run.step));
                    points.push(u64::from(run.points - 1));
                    end = run.end();
                }
            }
            TimeColumn::Irregular(times) => {
                counts.push(0);
                let divisor = times.windows(2).fold(0, |divisor, pair| gcd(divisor, pair[1] - pair[0])).max(1);
                lengths.push(times.len() as u64);
                firsts.push(u64::from(times.first().copied().unwrap_or(0)));
                divisors.push(u64::from(divisor));
                deltas.extend(times.windows(2).map(|pair| u64::from((pair[1] - pair[0]) / divisor)));
            }
        }
    }
    for column in [&counts, &gaps, &steps, &points, &lengths, &firsts, &divisors, &deltas] {
        put_column(&mut out, column)?;
    }
    Ok(out)
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A column of an opened file: a slice of [`Times::runs`] or of [`Times::irregular`].
#[derive(Clone, Copy, Debug)]
struct Column {
    from: u32,
    len: u32,
    points: u32,
    first: u32,
    last: u32,
    irregular: bool,
}

/// All time columns of an opened file.
#[derive(Debug, Default)]
pub(super) struct Times {
    columns: Vec<Column>,
    runs: Vec<TimeRun>,
    irregular: Vec<u32>,
}

impl Times {
    /// Reads the section; every timestamp lies below `span_ms`. Pays from `allowance`.
    pub(super) fn read(bytes: &[u8], span_ms: u32, allowance: &mut u64) -> Result<Self, FormatError> {
        let mut cursor = Cursor::within(WHAT, bytes, *allowance);
        let count = usize::try_from(cursor.varint()?).map_err(|_| outside())?;
        let span = u64::from(span_ms);
        let counts = take_bounded(WHAT, &mut cursor, count, span)?;
        let runs = counts.iter().map(|runs| *runs as usize).sum();
        let gaps = take_bounded(WHAT, &mut cursor, runs, span)?;
        let steps = take_bounded(WHAT, &mut cursor, runs, span)?;
        let points = take_bounded(WHAT, &mut cursor, runs, span)?;
        let irregular = counts.iter().filter(|runs| **runs == 0).count();
        let lengths = take_bounded(WHAT, &mut cursor, irregular, span)?;
        let firsts = take_bounded(WHAT, &mut cursor, irregular, span)?;
        let divisors = take_bounded(WHAT, &mut cursor, irregular, span)?;
        let deltas = lengths.iter().map(|points| points.saturating_sub(1) as usize).sum();
        let deltas = take_bounded(WHAT, &mut cursor, deltas, span)?;
        cursor.pay(counts.len(), size_of::<Column>())?;
        cursor.pay(gaps.len(), size_of::<TimeRun>())?;
        cursor.pay(lengths.len() + deltas.len(), size_of::<u32>())?;
        *allowance = cursor.allowance();
        cursor.finish()?;

        let mut times = Self::default();
        let mut runs = gaps.into_iter().zip(steps).zip(points).map(|((gap, step), more)| (gap, step, more));
        let mut irregular = lengths.into_iter().zip(firsts).zip(divisors);
        let mut deltas = deltas.as_slice();
        for count in counts {
            let column = if count > 0 {
                times.take_runs(runs.by_ref().take(count as usize), span)?
            } else {
                let ((points, first), divisor) = irregular.next().ok_or_else(outside)?;
                let (own, rest) = deltas.split_at_checked(points.saturating_sub(1) as usize).ok_or_else(outside)?;
                deltas = rest;
                times.take_irregular(first, divisor, points, own, span)?
            };
            times.columns.push(column);
        }
        Ok(times)
    }

    fn take_runs(&mut self, runs: impl Iterator<Item = (u32, u32, u32)>, span: u64) -> Result<Column, FormatError> {
        let from = self.runs.len() as u32;
        let (mut end, mut points) = (0u64, 0u64);
        for (i, (gap, step, more)) in runs.enumerate() {
            let start = end + u64::from(gap);
            end = start + u64::from(step) * u64::from(more);
            points += u64::from(more) + 1;
            if end >= span || (more > 0 && step == 0) || (i > 0 && gap == 0) {
                return Err(outside());
            }
            self.runs.push(TimeRun { start: start as u32, step, points: more + 1 });
        }
        let first = self.runs.get(from as usize).map_or(0, |run| run.start);
        // Strictly increasing and below the span, so there are no more points than fit a u32.
        Ok(Column { from, len: self.runs.len() as u32 - from, points: points as u32, first, last: end as u32, irregular: false })
    }

    fn take_irregular(&mut self, first: u32, divisor: u32, points: u32, deltas: &[u32], span: u64) -> Result<Column, FormatError> {
        let from = self.irregular.len() as u32;
        let mut time = u64::from(first);
        if points == 0 || time >= span {
            return Err(outside());
        }
        self.irregular.push(first);
        for delta in deltas {
            time += u64::from(*delta) * u64::from(divisor);
            if time >= span || *delta == 0 || divisor == 0 {
                return Err(outside());
            }
            self.irregular.push(time as u32);
        }
        Ok(Column { from, len: points, points, first, last: time as u32, irregular: true })
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn points(&self, column: u32) -> u32 {
        self.columns.get(column as usize).map_or(0, |column| column.points)
    }

    /// Earliest and latest timestamp.
    pub(super) fn edges(&self, column: u32) -> (u32, u32) {
        self.columns.get(column as usize).map_or((0, 0), |column| (column.first, column.last))
    }

    /// Points of a column at `from <= time < to`.
    pub(super) fn points_between(&self, column: u32, from: u32, to: u32) -> u32 {
        let Some(column) = self.columns.get(column as usize) else { return 0 };
        if from <= column.first && column.last < to {
            return column.points;
        }
        let part = column.from as usize..(column.from + column.len) as usize;
        if column.irregular {
            let times = self.irregular.get(part).unwrap_or(&[]);
            return (times.partition_point(|time| *time < to).saturating_sub(times.partition_point(|time| *time < from))) as u32;
        }
        let below = |run: &TimeRun, time: u32| time.checked_sub(run.start).map_or(0, |own| own.div_ceil(run.step.max(1)).min(run.points));
        self.runs.get(part).unwrap_or(&[]).iter().map(|run| below(run, to).saturating_sub(below(run, from))).sum()
    }

    /// A column as it is written, every timestamp `shift` later; the caller knows that they stay below 2^32.
    pub(super) fn shifted(&self, column: u32, shift: u32) -> Result<TimeColumn, FormatError> {
        let column = self.columns.get(column as usize).ok_or_else(outside)?;
        let part = column.from as usize..(column.from + column.len) as usize;
        if column.irregular {
            let times = self.irregular.get(part).ok_or_else(outside)?;
            return Ok(TimeColumn::Irregular(times.iter().map(|time| time + shift).collect()));
        }
        let runs = self.runs.get(part).ok_or_else(outside)?;
        Ok(TimeColumn::Runs(runs.iter().map(|run| TimeRun { start: run.start + shift, ..*run }).collect()))
    }

    /// Appends timestamps `skip..skip + n` of a column; the caller has paid for `n`.
    pub(super) fn expand(&self, column: u32, skip: u32, n: u32, out: &mut Vec<u32>) -> Result<(), FormatError> {
        let column = self.columns.get(column as usize).ok_or_else(outside)?;
        if u64::from(skip) + u64::from(n) > u64::from(column.points) {
            return Err(outside());
        }
        let part = column.from as usize..(column.from + column.len) as usize;
        if column.irregular {
            let times = self.irregular.get(part).ok_or_else(outside)?;
            out.extend_from_slice(&times[skip as usize..(skip + n) as usize]);
            return Ok(());
        }
        let (mut skip, mut n) = (skip, n);
        for run in self.runs.get(part).ok_or_else(outside)? {
            let from = skip.min(run.points);
            let take = n.min(run.points - from);
            out.extend((from..from + take).map(|i| run.start + i * run.step));
            skip -= from;
            n -= take;
            if n == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Splits timestamps `skip..skip + n` of a column by step: number of the step, positions from `skip` on. Nothing is written out.
    pub(super) fn each_step(
        &self,
        column: u32,
        skip: u32,
        n: u32,
        steps: &Steps,
        mut each: impl FnMut(u32, u32, u32),
    ) -> Result<(), FormatError> {
        let column = self.columns.get(column as usize).ok_or_else(outside)?;
        if u64::from(skip) + u64::from(n) > u64::from(column.points) {
            return Err(outside());
        }
        let part = column.from as usize..(column.from + column.len) as usize;
        if column.irregular {
            let times = self.irregular.get(part).ok_or_else(outside)?;
            split_times(&times[skip as usize..(skip + n) as usize], steps, &mut each);
            return Ok(());
        }
        let (mut skip, mut n, mut done) = (skip, n, 0);
        for run in self.runs.get(part).ok_or_else(outside)? {
            let from = skip.min(run.points);
            let take = n.min(run.points - from);
            if take > 0 {
                split_run(TimeRun { start: run.start + from * run.step, step: run.step, points: take }, done, steps, &mut each);
            }
            (skip, n, done) = (skip - from, n - take, done + take);
            if n == 0 {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.columns.capacity() * size_of::<Column>() + self.runs.capacity() * size_of::<TimeRun>() + self.irregular.capacity() * 4
    }
}

/// Points of a run by step; `done` points came before it.
#[inline]
fn split_run(run: TimeRun, done: u32, steps: &Steps, each: &mut impl FnMut(u32, u32, u32)) {
    let (length, distance) = (steps.step.max(1), run.step.max(1));
    // Points before the first step.
    let mut at = if run.start >= steps.start { 0 } else { (steps.start - run.start).div_ceil(distance).min(run.points) };
    // Where points divide steps evenly, every step after the first has as many.
    let even = if length.is_multiple_of(distance) { length / distance } else { 0 };
    let (mut step, mut first) = (0, true);
    while at < run.points {
        let mut points = even;
        if first || even == 0 {
            let since = run.start + at * run.step - steps.start;
            step = since / length;
            points = (length - since % length).div_ceil(distance);
            first = false;
        }
        if step >= steps.count {
            return;
        }
        let to = at.saturating_add(points).min(run.points);
        each(step, done + at, done + to);
        (at, step) = (to, step + 1);
    }
}

fn split_times(times: &[u32], steps: &Steps, each: &mut impl FnMut(u32, u32, u32)) {
    let length = u64::from(steps.step.max(1));
    let mut at = times.partition_point(|time| *time < steps.start);
    while let Some(time) = times.get(at) {
        let step = u64::from(time - steps.start) / length;
        if step >= u64::from(steps.count) {
            return;
        }
        let end = u64::from(steps.start) + (step + 1) * length;
        let to = at + times[at..].iter().take_while(|time| u64::from(**time) < end).count();
        each(step as u32, at as u32, to as u32);
        at = to;
    }
}

fn outside() -> FormatError {
    FormatError::invalid(WHAT, "timestamps out of order or outside the span")
}

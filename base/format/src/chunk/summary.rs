//! Summaries: count, minimum, maximum, sum, first and last value of a series, answered without touching its pages.
//!
//! Kept exactly: as integers of the series' chunk where all its values are such, else as doubles. NaNs are counted apart; minimum, maximum and sum
//! are over the rest. A sum of integers is exact before it becomes a double; a sum of doubles runs left to right.

use super::column::{put_column, take_bounded, take_column};
use super::value::Transform;
use super::zigzag::{unzigzag, zigzag};
use crate::FormatError;
use crate::bytes::Cursor;

/// What aggregates over all points of a series need.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Statistics {
    /// Points, NaNs included.
    pub count: u64,
    /// Points that are NaN.
    pub nans: u64,
    /// Least value that is no NaN; NaN if there is none.
    pub min: f64,
    /// Greatest value that is no NaN; NaN if there is none.
    pub max: f64,
    /// Sum of the values that are no NaN.
    pub sum: f64,
    /// Earliest value.
    pub first: f64,
    /// Latest value.
    pub last: f64,
}

/// Of some values, as an index holds it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Summary {
    Integers(IntegerSummary),
    Doubles(DoubleSummary),
    /// Of sketches and histograms.
    Absent,
}

/// In integers of the chunk: `integer x divisor` is what its transform takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IntegerSummary {
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) sum: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct DoubleSummary {
    pub(super) nans: u32,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) first: f64,
    pub(super) last: f64,
}

impl IntegerSummary {
    /// `None` when there is no integer, or the sum is too great.
    pub(super) fn of(integers: &[i64]) -> Option<Self> {
        let (first, last) = (*integers.first()?, *integers.last()?);
        let (mut min, mut max, mut sum) = (first, first, 0i128);
        // Integers are below 2^51 and a block is short enough for its sum to fit.
        for block in integers.chunks(2_048) {
            let mut block_sum = 0i64;
            for integer in block {
                min = min.min(*integer);
                max = max.max(*integer);
                block_sum = block_sum.wrapping_add(*integer);
            }
            sum += i128::from(block_sum);
        }
        Some(Self { min, max, sum: i64::try_from(sum).ok()?, first, last })
    }

    pub(super) fn statistics(&self, transform: Transform, divisor: i64, count: u64) -> Statistics {
        let value = |integer: i64| (i128::from(integer) * i128::from(divisor)) as f64 / transform.divisor();
        Statistics {
            count,
            nans: 0,
            min: value(self.min),
            max: value(self.max),
            sum: value(self.sum),
            first: value(self.first),
            last: value(self.last),
        }
    }
}

impl DoubleSummary {
    /// Of values, left to right; at least one.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut out = Self { nans: 0, min: f64::NAN, max: f64::NAN, sum: 0.0, first: 0.0, last: 0.0 };
        for (i, value) in values.enumerate() {
            if i == 0 {
                out.first = value;
            }
            out.last = value;
            if value.is_nan() {
                out.nans += 1;
                continue;
            }
            out.sum += value;
            // Not `f64::min`: which zero it takes is open.
            if out.min.is_nan() || value < out.min {
                out.min = value;
            }
            if out.max.is_nan() || value > out.max {
                out.max = value;
            }
        }
        out
    }

    pub(super) fn statistics(&self, count: u64) -> Statistics {
        let Self { nans, min, max, sum, first, last } = *self;
        Statistics { count, nans: u64::from(nans), min, max, sum, first, last }
    }
}

type IntegerField = fn(&(IntegerSummary, u32)) -> u64;

/// Appends summaries, each with its number of points. `edges`: first and last values too.
///
/// ```text
/// form of each (0 integers, 1 doubles, 2 absent)
/// integers  minimum zigzag | maximum - minimum | sum - points x middle, zigzag, modulo 2^64 | first - minimum | maximum - last
/// doubles   NaNs | bits of minimum | maximum | sum | first | last
/// ```
pub(super) fn put_summaries(out: &mut Vec<u8>, summaries: &[(Summary, u32)], edges: bool) -> Result<(), FormatError> {
    let form = |summary: &Summary| match summary {
        Summary::Integers(_) => 0,
        Summary::Doubles(_) => 1,
        Summary::Absent => 2,
    };
    put_column(out, &summaries.iter().map(|(summary, _)| form(summary)).collect::<Vec<_>>())?;
    let integers: Vec<(IntegerSummary, u32)> = summaries
        .iter()
        .filter_map(|(summary, points)| if let Summary::Integers(integers) = summary { Some((*integers, *points)) } else { None })
        .collect();
    let fields: [IntegerField; 5] = [
        |(own, _)| zigzag(own.min),
        |(own, _)| own.max.abs_diff(own.min),
        |(own, points)| zigzag(own.sum.wrapping_sub(middle(own.min, own.max.abs_diff(own.min)).wrapping_mul(i64::from(*points)))),
        |(own, _)| own.first.abs_diff(own.min),
        |(own, _)| own.max.abs_diff(own.last),
    ];
    for field in &fields[..if edges { 5 } else { 3 }] {
        put_column(out, &integers.iter().map(field).collect::<Vec<_>>())?;
    }
    let doubles: Vec<DoubleSummary> =
        summaries.iter().filter_map(|(summary, _)| if let Summary::Doubles(doubles) = summary { Some(*doubles) } else { None }).collect();
    let fields: [fn(&DoubleSummary) -> u64; 6] = [
        |own| u64::from(own.nans),
        |own| own.min.to_bits(),
        |own| own.max.to_bits(),
        |own| own.sum.to_bits(),
        |own| own.first.to_bits(),
        |own| own.last.to_bits(),
    ];
    for field in &fields[..if edges { 6 } else { 4 }] {
        put_column(out, &doubles.iter().map(field).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn middle(min: i64, range: u64) -> i64 {
    min.wrapping_add((range / 2) as i64)
}

/// Reads what [`put_summaries`] wrote, one for each of `points`.
pub(super) fn take_summaries(
    what: &'static str,
    cursor: &mut Cursor<'_>,
    points: &[u32],
    edges: bool,
) -> Result<Vec<Summary>, FormatError> {
    let forms = take_bounded(what, cursor, points.len(), 2)?;
    let of_form = |wanted: u32| forms.iter().filter(|form| **form == wanted).count();
    let (integers, doubles) = (of_form(0), of_form(1));
    let mut columns: Vec<Vec<u64>> = Vec::with_capacity(11);
    for _ in 0..if edges { 5 } else { 3 } {
        columns.push(take_column(what, cursor, integers)?);
    }
    columns.resize_with(5, Vec::new);
    for _ in 0..if edges { 6 } else { 4 } {
        columns.push(take_column(what, cursor, doubles)?);
    }
    columns.resize_with(11, Vec::new);
    let at = |column: usize, row: usize| columns[column].get(row).copied().unwrap_or(0);
    let (mut integer, mut double) = (0, 0);
    let summary = |(form, points): (&u32, &u32)| {
        if *form == 2 {
            return Ok(Summary::Absent);
        }
        if *form == 1 {
            let row = double;
            double += 1;
            let value = |column: usize| f64::from_bits(at(column, row));
            let nans = u32::try_from(at(5, row)).ok().filter(|nans| nans <= points);
            let nans = nans.ok_or_else(|| FormatError::invalid(what, "more NaNs than points"))?;
            return Ok(Summary::Doubles(DoubleSummary {
                nans,
                min: value(6),
                max: value(7),
                sum: value(8),
                first: value(9),
                last: value(10),
            }));
        }
        let row = integer;
        integer += 1;
        let (min, range) = (unzigzag(at(0, row)), at(1, row));
        let max = min.wrapping_add(range as i64);
        let sum = unzigzag(at(2, row)).wrapping_add(middle(min, range).wrapping_mul(i64::from(*points)));
        let (first, last) = (min.wrapping_add(at(3, row) as i64), max.wrapping_sub(at(4, row) as i64));
        Ok(Summary::Integers(IntegerSummary { min, max, sum, first, last }))
    };
    forms.iter().zip(points).map(summary).collect()
}

//! Native histograms <-> columns: each page says once which layouts its histograms have; counts are differences, bucket by bucket, where that is shorter.
//!
//! ```text
//! page head  layouts varint | schema of each, zigzag | counts in doubles (1) or integers (0) | bits of the zero threshold
//!            | positive spans | negative spans | bounds | zigzag offsets of the spans, layout after layout, positive first
//!            | lengths of the spans | bits of the bounds; all but the first in columns of the index (`column.rs`)
//! integers   number of its layout, of each histogram                          differences: from the histogram before
//!            reset hint of each                                               plain
//!            zero bucket, positive, negative buckets of each that counts in integers
//! doubles    the same of each that counts in doubles
//! integers   count of each: in integers - the sum of its buckets, modulo 2^64; in doubles, as ordered integers, - the sum of its buckets
//! doubles    sum of each                                                      differences: from the histogram before
//! ```
//! Differences of a bucket: from the same bucket of the histogram of the same flavour before in the part; from 0 if it had none, or another schema or bounds.

use std::collections::BTreeMap;

use tailors_model::histogram::indices;
use tailors_model::{BucketCounts, BucketLayout, BucketSpan, HistogramCounts, NativeHistogram, ResetHint};

use super::column::{put_column, take_bounded, take_column};
use super::component::{ColumnScratch, ColumnWriter, NONE, OpenColumn, differences, differences_from, match_keys, sum_up, sum_up_from};
use super::distribution::{PAGE_ITEMS_MAX, predicted, take_total};
use super::value::{from_ordered, to_ordered};
use super::zigzag::{unzigzag, zigzag};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const WHAT: &str = "chunk file page";

/// A layout of a page, and the flavour of the counts in it.
struct Shape {
    layout: BucketLayout,
    is_double: bool,
    positive: usize,
    negative: usize,
}

impl Shape {
    fn of(layout: BucketLayout, is_double: bool) -> Self {
        let (positive, negative) = layout.buckets();
        Self { layout, is_double, positive: positive as usize, negative: negative as usize }
    }

    /// Zero bucket, positive buckets, negative buckets.
    fn slots(&self) -> usize {
        1 + self.positive + self.negative
    }

    /// What a histogram of it counts towards the limit of a page.
    fn items(&self) -> usize {
        self.layout.positive.len() + self.layout.negative.len() + self.layout.bounds.len() + self.positive + self.negative
    }
}

/// Which layouts a page has, and which one each of its histograms.
#[derive(Default)]
struct Shapes {
    shapes: Vec<Shape>,
    numbers: Vec<u32>,
}

impl Shapes {
    fn of_page(histograms: &[&NativeHistogram]) -> Self {
        let (mut out, mut known): (Self, BTreeMap<Vec<u64>, u32>) = Default::default();
        for histogram in histograms {
            let is_double = matches!(histogram.counts, HistogramCounts::Doubles(_));
            let last = out.numbers.last().copied();
            let same = last.filter(|last| {
                out.shapes.get(*last as usize).is_some_and(|shape| shape.is_double == is_double && shape.layout == histogram.layout)
            });
            let number = same.unwrap_or_else(|| {
                *known.entry(words(&histogram.layout, is_double)).or_insert_with(|| {
                    out.shapes.push(Shape::of(histogram.layout.clone(), is_double));
                    out.shapes.len() as u32 - 1
                })
            });
            out.numbers.push(number);
        }
        out
    }

    fn shape(&self, number: u32) -> &Shape {
        &self.shapes[number as usize]
    }

    /// Counts of a flavour in the page.
    fn slots(&self, is_double: bool) -> usize {
        self.numbers.iter().map(|number| self.shape(*number)).filter(|shape| shape.is_double == is_double).map(Shape::slots).sum()
    }

    /// For each count of a flavour in the page, the position of the same bucket's count before, or [`NONE`].
    fn before(&self, parts: &[u32], is_double: bool) -> Vec<u32> {
        let mut out = Vec::with_capacity(self.slots(is_double));
        let mut numbers = self.numbers.iter();
        for points in parts {
            let mut last: Option<(u32, u32)> = None;
            for number in numbers.by_ref().take(*points as usize).filter(|number| self.shape(**number).is_double == is_double) {
                let (start, own) = (out.len() as u32, self.shape(*number));
                match last {
                    Some((before, at)) if before == *number => out.extend(at..at + own.slots() as u32),
                    Some((before, at)) if self.shape(before).layout.is_alike(&own.layout) => {
                        self.match_buckets(own, self.shape(before), at, &mut out)
                    }
                    _ => out.resize(out.len() + own.slots(), NONE),
                }
                last = Some((*number, start));
            }
        }
        out
    }

    /// Buckets of one index, where the layout changed.
    fn match_buckets(&self, own: &Shape, before: &Shape, at: u32, out: &mut Vec<u32>) {
        out.push(at);
        let sides = [
            (&own.layout.positive, &before.layout.positive, at + 1),
            (&own.layout.negative, &before.layout.negative, at + 1 + before.positive as u32),
        ];
        for (spans, earlier, start) in sides {
            match_keys(indices(spans), indices(earlier), start, out);
        }
    }

    fn put(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        put_varint(out, self.shapes.len() as u64);
        let fields: [fn(&Shape) -> u64; 6] = [
            |shape| zigzag(i64::from(shape.layout.schema)),
            |shape| u64::from(shape.is_double),
            |shape| shape.layout.zero_threshold.to_bits(),
            |shape| shape.layout.positive.len() as u64,
            |shape| shape.layout.negative.len() as u64,
            |shape| shape.layout.bounds.len() as u64,
        ];
        for field in fields {
            put_column(out, &self.shapes.iter().map(field).collect::<Vec<_>>())?;
        }
        let spans = || self.shapes.iter().flat_map(|shape| shape.layout.positive.iter().chain(&shape.layout.negative));
        put_column(out, &spans().map(|span| zigzag(i64::from(span.offset))).collect::<Vec<_>>())?;
        put_column(out, &spans().map(|span| u64::from(span.length)).collect::<Vec<_>>())?;
        put_column(out, &self.shapes.iter().flat_map(|shape| &shape.layout.bounds).map(|bound| bound.to_bits()).collect::<Vec<_>>())
    }

    /// Reads the layouts of a page of so many histograms.
    fn take(page: &mut Cursor<'_>, points: usize) -> Result<Self, FormatError> {
        let bad = |why: &str| FormatError::invalid(WHAT, why);
        let count = usize::try_from(page.varint()?).ok().filter(|count| *count <= points);
        let count = count.ok_or_else(|| bad("more layouts than histograms"))?;
        let schemas = take_column(WHAT, page, count)?;
        let flavours = take_bounded(WHAT, page, count, 1)?;
        let thresholds = take_column(WHAT, page, count)?;
        let mut lengths = || take_bounded(WHAT, page, count, PAGE_ITEMS_MAX as u64);
        let (positive, negative, bounds) = (lengths()?, lengths()?, lengths()?);
        let total = |lengths: &[u32]| take_total(lengths.iter().map(|length| i64::from(*length)), PAGE_ITEMS_MAX);
        let (spans, bounds_len) = (total(&positive)? + total(&negative)?, total(&bounds)?);
        let offsets = take_column(WHAT, page, spans)?;
        let span_lengths = take_bounded(WHAT, page, spans, u64::from(u32::MAX))?;
        let bound_bits = take_column(WHAT, page, bounds_len)?;
        let offsets: Option<Vec<i32>> = offsets.into_iter().map(|offset| i32::try_from(unzigzag(offset)).ok()).collect();
        let offsets = offsets.ok_or_else(|| bad("offset of a span out of range"))?;
        let mut spans = offsets.into_iter().zip(span_lengths).map(|(offset, length)| BucketSpan { offset, length });
        let mut bound_bits = bound_bits.into_iter().map(f64::from_bits);
        let mut shapes = Vec::with_capacity(count);
        for at in 0..count {
            let layout = BucketLayout {
                schema: i32::try_from(unzigzag(schemas[at])).map_err(|_| bad("schema out of range"))?,
                zero_threshold: f64::from_bits(thresholds[at]),
                positive: spans.by_ref().take(positive[at] as usize).collect(),
                negative: spans.by_ref().take(negative[at] as usize).collect(),
                bounds: bound_bits.by_ref().take(bounds[at] as usize).collect(),
            };
            layout.check().map_err(|error| bad(error.0))?;
            shapes.push(Shape::of(layout, flavours[at] == 1));
        }
        Ok(Self { shapes, numbers: Vec::new() })
    }
}

/// A layout as words, equal for equal bits.
fn words(layout: &BucketLayout, is_double: bool) -> Vec<u64> {
    let span = |span: &BucketSpan| u64::from(span.offset as u32) << 32 | u64::from(span.length);
    let mut out = vec![u64::from(is_double), layout.schema as u64, layout.zero_threshold.to_bits(), layout.positive.len() as u64];
    out.push(layout.negative.len() as u64);
    out.extend(layout.positive.iter().chain(&layout.negative).map(span));
    out.extend(layout.bounds.iter().map(|bound| bound.to_bits()));
    out
}

fn slots<T: Copy>(own: &BucketCounts<T>) -> impl Iterator<Item = T> + '_ {
    std::iter::once(own.zero).chain(own.positive.iter().copied()).chain(own.negative.iter().copied())
}

/// What the count is beyond the sum of the buckets.
fn more(histogram: &NativeHistogram) -> i64 {
    match &histogram.counts {
        HistogramCounts::Integers(own) => own.count.wrapping_sub(slots(own).fold(0, u64::wrapping_add)) as i64,
        HistogramCounts::Doubles(own) => {
            to_ordered(own.count).wrapping_sub(to_ordered(predicted(slots(own).fold(0.0, |sum, count| sum + count))))
        }
    }
}

/// Writes the histograms of a chunk: page by page, part by part.
pub(super) fn put_histograms(pages: &[Vec<&[NativeHistogram]>], out: &mut ColumnWriter) -> Result<(), FormatError> {
    let all = || pages.iter().flatten().copied().flatten();
    let parts: Vec<Vec<usize>> = pages.iter().map(|page| page.iter().map(|part| part.len()).collect()).collect();
    let sizes: Vec<usize> = parts.iter().map(|page| page.iter().sum()).collect();
    let shapes: Vec<Shapes> = pages.iter().map(|page| Shapes::of_page(&page.iter().copied().flatten().collect::<Vec<_>>())).collect();
    for (shapes, page) in shapes.iter().zip(&mut out.pages) {
        shapes.put(page)?;
    }
    let numbers: Vec<i64> = shapes.iter().flat_map(|shapes| &shapes.numbers).map(|number| i64::from(*number)).collect();
    out.integers(&numbers, Some(&differences(&numbers, &parts)), &sizes)?;
    out.integers(&all().map(|histogram| histogram.hint as i64).collect::<Vec<_>>(), None, &sizes)?;
    let slot_sizes = |is_double| shapes.iter().map(|shapes| shapes.slots(is_double)).collect::<Vec<usize>>();
    let from_before = |integers: &[i64], is_double: bool| -> Vec<i64> {
        let (mut out, mut rest) = (Vec::with_capacity(integers.len()), integers);
        for (shapes, page) in shapes.iter().zip(&parts) {
            let page: Vec<u32> = page.iter().map(|points| *points as u32).collect();
            let before = shapes.before(&page, is_double);
            let (own, after) = rest.split_at(before.len());
            out.append(&mut differences_from(own, &before));
            rest = after;
        }
        out
    };
    let (mut integers, mut doubles): (Vec<i64>, Vec<f64>) = Default::default();
    for histogram in all() {
        match &histogram.counts {
            HistogramCounts::Integers(own) => integers.extend(slots(own).map(|count| count as i64)),
            HistogramCounts::Doubles(own) => doubles.extend(slots(own)),
        }
    }
    out.integers(&integers, Some(&from_before(&integers, false)), &slot_sizes(false))?;
    out.doubles(&doubles, &slot_sizes(true), |integers| from_before(integers, true))?;
    out.integers(&all().map(more).collect::<Vec<_>>(), None, &sizes)?;
    out.doubles(&all().map(|histogram| histogram.sum).collect::<Vec<_>>(), &sizes, |integers| differences(integers, &parts))
}

/// Opened columns of a chunk of histograms.
pub(super) struct OpenHistograms {
    numbers: OpenColumn,
    hints: OpenColumn,
    integers: OpenColumn,
    doubles: OpenColumn,
    more: OpenColumn,
    sums: OpenColumn,
}

impl OpenHistograms {
    pub(super) fn open(meta: &mut Cursor<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            numbers: OpenColumn::integers(meta)?,
            hints: OpenColumn::plain(meta)?,
            integers: OpenColumn::integers(meta)?,
            doubles: OpenColumn::doubles(meta)?,
            more: OpenColumn::plain(meta)?,
            sums: OpenColumn::doubles(meta)?,
        })
    }

    /// The histograms of a page into `out`; `parts`: points of each part.
    pub(super) fn read(
        &self,
        page: &mut Cursor<'_>,
        parts: &[u32],
        scratch: &mut ColumnScratch,
        out: &mut Vec<NativeHistogram>,
    ) -> Result<(), FormatError> {
        let bad = |why: &str| FormatError::invalid(WHAT, why);
        let points: usize = parts.iter().map(|points| *points as usize).sum();
        let mut shapes = Shapes::take(page, points)?;
        let numbers = self.numbers.read_values(page, parts, scratch)?;
        let number = |number: i64| u32::try_from(number).ok().filter(|number| (*number as usize) < shapes.shapes.len());
        let numbers: Option<Vec<u32>> = numbers.into_iter().map(number).collect();
        shapes.numbers = numbers.ok_or_else(|| bad("a histogram of no layout"))?;
        take_total(shapes.numbers.iter().map(|number| shapes.shape(*number).items() as i64), PAGE_ITEMS_MAX)?;
        let hints = self.hints.read(page, points, scratch)?;
        let undo = |integers: &mut [i64], is_double: bool| sum_up_from(integers, &shapes.before(parts, is_double));
        let mut integers = self.integers.read(page, shapes.slots(false), scratch)?;
        if self.integers.is_differences {
            undo(&mut integers, false);
        }
        let doubles = self.doubles.read_doubles(page, shapes.slots(true), scratch, |integers| undo(integers, true))?;
        let more = self.more.read(page, points, scratch)?;
        let sums = self.sums.read_doubles(page, points, scratch, |integers| sum_up(integers, parts))?;
        let (mut integers, mut doubles) = (integers.into_iter().map(|integer| integer as u64), doubles.into_iter());
        for (at, number) in shapes.numbers.iter().enumerate() {
            let shape = shapes.shape(*number);
            let counts = if shape.is_double {
                let mut own = take_counts(&mut doubles, shape);
                own.count = from_ordered(more[at].wrapping_add(to_ordered(predicted(slots(&own).fold(0.0, |sum, count| sum + count)))));
                HistogramCounts::Doubles(own)
            } else {
                let mut own = take_counts(&mut integers, shape);
                own.count = slots(&own).fold(more[at] as u64, u64::wrapping_add);
                HistogramCounts::Integers(own)
            };
            let hint = u8::try_from(hints[at]).ok().and_then(ResetHint::from_u8);
            let hint = hint.ok_or(FormatError::Unknown { what: WHAT, field: "reset hint", number: hints[at] as u64 })?;
            out.push(NativeHistogram { layout: shape.layout.clone(), counts, sum: sums[at], hint });
        }
        Ok(())
    }
}

fn take_counts<T: Default>(from: &mut impl Iterator<Item = T>, shape: &Shape) -> BucketCounts<T> {
    let zero = from.next().unwrap_or_default();
    let positive = from.by_ref().take(shape.positive).collect();
    BucketCounts { count: T::default(), zero, positive, negative: from.by_ref().take(shape.negative).collect() }
}

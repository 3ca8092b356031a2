//! Native histogram: one sample of a Prometheus histogram with buckets of its own, as remote write carries it.
//!
//! Buckets are given by spans, as sent: a span skips `offset` buckets (the first one: from bucket 0) and then names `length` neighbours. Bucket i of
//! schema n ends at 2^(i / 2^n), inclusive; of the custom schema it ends at bound i, the last one at infinity. Counts are absolute, not differences. Layout
//! and counts are kept as sent, bit for bit: empty buckets and spans of length 0 are not tidied away.

use crate::sketch::{Malformed, MergeError, merge_sorted};

/// Schema of custom buckets.
pub const SCHEMA_CUSTOM: i32 = -53;
/// Coarsest exponential schema: a bucket's bounds are 65,536 apart.
pub const SCHEMA_MIN: i32 = -4;
/// Finest exponential schema: 256 buckets between two powers of two.
pub const SCHEMA_MAX: i32 = 8;
/// Sum of a marker that the series ended; Prometheus' own NaN.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a counter began anew before this sample.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum ResetHint {
    /// Not said: compare.
    #[default]
    Unknown = 0,
    /// It did.
    Reset = 1,
    /// It did not.
    NotReset = 2,
    /// It is no counter.
    Gauge = 3,
}

impl ResetHint {
    /// The hint with this number, `None` for an unknown one.
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Unknown, Self::Reset, Self::NotReset, Self::Gauge].get(usize::from(number)).copied()
    }
}

/// Neighbouring buckets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketSpan {
    /// Buckets skipped since the span before; of the first one: index of its first bucket.
    pub offset: i32,
    /// Buckets in it.
    pub length: u32,
}

/// Which buckets a histogram has: samples of a series mostly share theirs.
#[derive(Clone, Debug, Default)]
pub struct BucketLayout {
    /// [`SCHEMA_MIN`] to [`SCHEMA_MAX`], or [`SCHEMA_CUSTOM`].
    pub schema: i32,
    /// Values of at most this magnitude are in the zero bucket.
    pub zero_threshold: f64,
    /// Of positive values.
    pub positive: Vec<BucketSpan>,
    /// Of negative values.
    pub negative: Vec<BucketSpan>,
    /// Upper bounds of custom buckets, ascending; none of exponential ones.
    pub bounds: Vec<f64>,
}

/// Counts of one flavour.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BucketCounts<T> {
    /// Values, as sent.
    pub count: T,
    /// Values in the zero bucket.
    pub zero: T,
    /// Of the buckets of the positive spans, in their order.
    pub positive: Vec<T>,
    /// Of the buckets of the negative spans, in their order.
    pub negative: Vec<T>,
}

/// Counts of a histogram.
#[derive(Clone, Debug)]
pub enum HistogramCounts {
    /// As instrumented code counts.
    Integers(BucketCounts<u64>),
    /// As rates and recording rules leave them.
    Doubles(BucketCounts<f64>),
}

/// One sample of a native histogram.
#[derive(Clone, Debug)]
pub struct NativeHistogram {
    /// Which buckets.
    pub layout: BucketLayout,
    /// How many values in each.
    pub counts: HistogramCounts,
    /// Sum of the values, as sent.
    pub sum: f64,
    /// Whether the counter began anew.
    pub hint: ResetHint,
}

impl BucketLayout {
    /// Buckets of positive and of negative values.
    pub fn buckets(&self) -> (u64, u64) {
        let buckets = |spans: &[BucketSpan]| spans.iter().map(|span| u64::from(span.length)).sum();
        (buckets(&self.positive), buckets(&self.negative))
    }

    /// Whether a bucket of one means what the bucket of the same index means of the other.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.schema == other.schema && bits(&self.bounds).eq(bits(&other.bounds))
    }

    /// Whether this can be a layout.
    ///
    /// # Errors
    /// An unknown schema, bounds that do not fit it, spans that overlap or leave the range of an i32.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.schema != SCHEMA_CUSTOM && !(SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            return Err(Malformed("schema is neither -4 to 8 nor -53"));
        }
        if self.schema != SCHEMA_CUSTOM && !self.bounds.is_empty() {
            return Err(Malformed("bounds of a schema that has none"));
        }
        if !self.bounds.is_sorted_by(|a, b| a < b) || self.bounds.first().is_some_and(|bound| bound.is_nan()) {
            return Err(Malformed("custom bounds do not ascend"));
        }
        for spans in [&self.positive, &self.negative] {
            let mut next = 0i64;
            for (place, span) in spans.iter().enumerate() {
                if place > 0 && span.offset < 0 {
                    return Err(Malformed("spans overlap"));
                }
                next += i64::from(span.offset) + i64::from(span.length);
                if i32::try_from(next).is_err() {
                    return Err(Malformed("a bucket's index passes 2^31 - 1"));
                }
            }
        }
        Ok(())
    }
}

/// Indices of the buckets of spans, ascending; of a layout that was checked.
pub fn indices(spans: &[BucketSpan]) -> impl Iterator<Item = i32> + '_ {
    spans
        .iter()
        .scan(0i32, |next, span| {
            let start = next.wrapping_add(span.offset);
            *next = start.wrapping_add(span.length as i32);
            Some(start..*next)
        })
        .flatten()
}

impl NativeHistogram {
    /// The marker that a series ended (remote write): no buckets, a sum that is Prometheus' own NaN.
    pub fn is_stale(&self) -> bool {
        self.sum.to_bits() == STALE_BITS
    }

    /// Whether this can be a histogram.
    ///
    /// # Errors
    /// A layout that can't be one, or not a count for each of its buckets.
    pub fn check(&self) -> Result<(), Malformed> {
        self.layout.check()?;
        let present = match &self.counts {
            HistogramCounts::Integers(own) => (own.positive.len() as u64, own.negative.len() as u64),
            HistogramCounts::Doubles(own) => (own.positive.len() as u64, own.negative.len() as u64),
        };
        if present == self.layout.buckets() { Ok(()) } else { Err(Malformed("as many counts as buckets are needed")) }
    }

    /// The histogram of both; of two exponential schemas the finer one's buckets are joined into the coarser one's. Integer counts are exact:
    /// the order of merges changes none of them. Counts in doubles, and `sum`, are additions of doubles. Hints that differ leave
    /// [`ResetHint::Unknown`]. Neighbouring buckets share a span in the result.
    ///
    /// # Errors
    /// Any [`MergeError`]. Both must have passed [`Self::check`].
    pub fn merge(&self, other: &Self) -> Result<Self, MergeError> {
        let (a, b) = (&self.layout, &other.layout);
        if self.is_stale() || other.is_stale() {
            return Err(MergeError::Stale);
        }
        if (a.schema == SCHEMA_CUSTOM || b.schema == SCHEMA_CUSTOM) && !a.is_alike(b) {
            return Err(MergeError::Bounds);
        }
        if a.zero_threshold.to_bits() != b.zero_threshold.to_bits() {
            return Err(MergeError::ZeroThreshold(a.zero_threshold, b.zero_threshold));
        }
        let schema = a.schema.min(b.schema);
        let (positive, negative, counts) = match (&self.counts, &other.counts) {
            (HistogramCounts::Integers(own), HistogramCounts::Integers(others)) => {
                let merged = merge_counts((a, own), (b, others), schema, u64::checked_add).ok_or(MergeError::Overflow)?;
                (merged.0, merged.1, HistogramCounts::Integers(merged.2))
            }
            (HistogramCounts::Doubles(own), HistogramCounts::Doubles(others)) => {
                let merged = merge_counts((a, own), (b, others), schema, |a, b| Some(a + b)).ok_or(MergeError::Overflow)?;
                (merged.0, merged.1, HistogramCounts::Doubles(merged.2))
            }
            _ => return Err(MergeError::Flavour),
        };
        let layout = BucketLayout { schema, zero_threshold: a.zero_threshold, positive, negative, bounds: a.bounds.clone() };
        let hint = if self.hint == other.hint { self.hint } else { ResetHint::Unknown };
        Ok(Self { layout, counts, sum: self.sum + other.sum, hint })
    }
}

type Merged<T> = (Vec<BucketSpan>, Vec<BucketSpan>, BucketCounts<T>);

fn merge_counts<T: Copy>(
    a: (&BucketLayout, &BucketCounts<T>),
    b: (&BucketLayout, &BucketCounts<T>),
    schema: i32,
    add: fn(T, T) -> Option<T>,
) -> Option<Merged<T>> {
    let side = |a_spans, a_counts, b_spans, b_counts| {
        let a = reduced(a_spans, a_counts, a.0.schema - schema, add)?;
        let b = reduced(b_spans, b_counts, b.0.schema - schema, add)?;
        merge_sorted(&a, &b, |(index, _)| *index, |a, b| Some((a.0, add(a.1, b.1)?)))
    };
    let positive = side(&a.0.positive, &a.1.positive, &b.0.positive, &b.1.positive)?;
    let negative = side(&a.0.negative, &a.1.negative, &b.0.negative, &b.1.negative)?;
    let (count, zero) = (add(a.1.count, b.1.count)?, add(a.1.zero, b.1.zero)?);
    let counts = |side: &[(i32, T)]| side.iter().map(|(_, count)| *count).collect();
    let counts = BucketCounts { count, zero, positive: counts(&positive), negative: counts(&negative) };
    Some((spans_of(&positive), spans_of(&negative), counts))
}

/// Buckets by index, each 2^`halvings` joined into one: bucket i of schema n lies in bucket ceil(i / 2) of schema n - 1.
fn reduced<T: Copy>(spans: &[BucketSpan], counts: &[T], halvings: i32, add: fn(T, T) -> Option<T>) -> Option<Vec<(i32, T)>> {
    let mut out: Vec<(i32, T)> = Vec::with_capacity(counts.len());
    for (index, count) in indices(spans).zip(counts) {
        let index = ((i64::from(index) - 1) >> halvings) as i32 + 1;
        match out.last_mut() {
            Some(last) if last.0 == index => last.1 = add(last.1, *count)?,
            _ => out.push((index, *count)),
        }
    }
    Some(out)
}

fn spans_of<T>(buckets: &[(i32, T)]) -> Vec<BucketSpan> {
    let (mut spans, mut next): (Vec<BucketSpan>, i32) = (Vec::new(), 0);
    for (index, _) in buckets {
        match spans.last_mut() {
            Some(last) if *index == next => last.length += 1,
            _ => spans.push(BucketSpan { offset: index.wrapping_sub(next), length: 1 }),
        }
        next = index.wrapping_add(1);
    }
    spans
}

fn bits(doubles: &[f64]) -> impl Iterator<Item = u64> + '_ {
    doubles.iter().map(|double| double.to_bits())
}

/// Bit for bit: a NaN equals itself, zeros differ by sign.
impl PartialEq for BucketLayout {
    fn eq(&self, other: &Self) -> bool {
        self.is_alike(other)
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && (&self.positive, &self.negative) == (&other.positive, &other.negative)
    }
}

/// Bit for bit: a NaN equals itself, zeros differ by sign.
impl PartialEq for HistogramCounts {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integers(a), Self::Integers(b)) => a == b,
            (Self::Doubles(a), Self::Doubles(b)) => {
                let heads = |own: &BucketCounts<f64>| (own.count.to_bits(), own.zero.to_bits());
                heads(a) == heads(b) && bits(&a.positive).eq(bits(&b.positive)) && bits(&a.negative).eq(bits(&b.negative))
            }
            _ => false,
        }
    }
}

/// Bit for bit: a NaN equals itself, zeros differ by sign.
impl PartialEq for NativeHistogram {
    fn eq(&self, other: &Self) -> bool {
        self.sum.to_bits() == other.sum.to_bits() && self.hint == other.hint && self.layout == other.layout && self.counts == other.counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn integers(schema: i32, buckets: &[(i32, u64)], negative: &[(i32, u64)], zero: u64) -> NativeHistogram {
        let sorted = |buckets: &[(i32, u64)]| buckets.iter().copied().collect::<BTreeMap<i32, u64>>().into_iter().collect::<Vec<_>>();
        let (positive, negative) = (sorted(buckets), sorted(negative));
        let counts = |side: &[(i32, u64)]| side.iter().map(|(_, count)| *count).collect::<Vec<u64>>();
        let count = zero + counts(&positive).iter().chain(&counts(&negative)).sum::<u64>();
        let layout = BucketLayout {
            schema,
            zero_threshold: 1e-128,
            positive: spans_of(&positive),
            negative: spans_of(&negative),
            bounds: Vec::new(),
        };
        let counts = BucketCounts { count, zero, positive: counts(&positive), negative: counts(&negative) };
        NativeHistogram { layout, counts: HistogramCounts::Integers(counts), sum: count as f64 / 4.0, hint: ResetHint::Unknown }
    }

    fn histogram() -> impl Strategy<Value = NativeHistogram> {
        let side = || prop::collection::vec((-70i32..70, 0u64..50), 0..30);
        (SCHEMA_MIN..=SCHEMA_MAX, side(), side(), 0u64..9, 0u8..4).prop_map(|(schema, positive, negative, zero, hint)| NativeHistogram {
            hint: ResetHint::from_u8(hint).unwrap(),
            ..integers(schema, &positive, &negative, zero)
        })
    }

    fn counts(histogram: &NativeHistogram) -> &BucketCounts<u64> {
        match &histogram.counts {
            HistogramCounts::Integers(counts) => counts,
            HistogramCounts::Doubles(_) => panic!("integers were merged"),
        }
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_commutative(a in histogram(), b in histogram(), c in histogram()) {
            let left = a.merge(&b).unwrap().merge(&c).unwrap();
            let right = a.merge(&b.merge(&c).unwrap()).unwrap();
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(a.merge(&b).unwrap(), b.merge(&a).unwrap());
            left.check().unwrap();
            let total = |histogram: &NativeHistogram| counts(histogram).positive.iter().sum::<u64>() + counts(histogram).zero;
            prop_assert_eq!(total(&left), total(&a) + total(&b) + total(&c));
            prop_assert_eq!(left.layout.schema, a.layout.schema.min(b.layout.schema).min(c.layout.schema));
        }

        /// A value's bucket in the coarse schema is where its bucket of the fine schema goes.
        #[test]
        fn reduction_puts_values_where_the_coarser_schema_does(exponents in prop::collection::vec(-3000i32..3000, 1..40), schema in -3i32..=8) {
            // Values 2^(e / 1024), inside their bucket at every schema but where 2^n divides, then on its upper edge: both are ceil.
            let bucket = |exponent: i32, schema: i32| (i64::from(exponent) << (schema + 4)).div_euclid(1 << 14)
                + i64::from((i64::from(exponent) << (schema + 4)).rem_euclid(1 << 14) > 0);
            let of = |schema: i32| {
                let mut out: BTreeMap<i32, u64> = BTreeMap::new();
                exponents.iter().for_each(|exponent| *out.entry(bucket(*exponent, schema) as i32).or_default() += 1);
                integers(schema, &out.into_iter().collect::<Vec<_>>(), &[], 0)
            };
            let empty = integers(schema - 1, &[], &[], 0);
            let merged = of(schema).merge(&empty).unwrap();
            prop_assert_eq!(merged.layout, of(schema - 1).layout.clone());
            prop_assert_eq!(&merged.counts, &of(schema - 1).counts);
        }
    }

    #[test]
    fn what_has_no_sum_is_a_typed_error() {
        let one = integers(3, &[(1, 5)], &[], 0);
        let full = integers(3, &[(1, u64::MAX)], &[], 0);
        assert_eq!(full.merge(&one), Err(MergeError::Overflow));
        // Two buckets of the finer schema that pass the limit only when they are joined.
        let mut great = integers(3, &[(1, 1), (2, 1)], &[], 0);
        great.counts = HistogramCounts::Integers(BucketCounts { count: 1, zero: 0, positive: vec![u64::MAX, 1], negative: Vec::new() });
        assert_eq!(great.merge(&integers(2, &[], &[], 0)), Err(MergeError::Overflow));
        let custom = |bounds: &[f64]| NativeHistogram {
            layout: BucketLayout { schema: SCHEMA_CUSTOM, bounds: bounds.to_vec(), ..one.layout.clone() },
            ..one.clone()
        };
        assert_eq!(custom(&[1.0, 2.0]).merge(&custom(&[1.0, 3.0])), Err(MergeError::Bounds));
        assert_eq!(custom(&[1.0, 2.0]).merge(&one), Err(MergeError::Bounds));
        assert_eq!(counts(&custom(&[1.0]).merge(&custom(&[1.0])).unwrap()).positive, [10]);
        let mut wide = one.clone();
        wide.layout.zero_threshold = 0.5;
        assert_eq!(one.merge(&wide), Err(MergeError::ZeroThreshold(1e-128, 0.5)));
        let doubles = BucketCounts { count: 1.0, zero: 0.0, positive: vec![1.0], negative: Vec::new() };
        assert_eq!(one.merge(&NativeHistogram { counts: HistogramCounts::Doubles(doubles), ..one.clone() }), Err(MergeError::Flavour));
        let stale = NativeHistogram { sum: f64::from_bits(STALE_BITS), ..integers(0, &[], &[], 0) };
        assert_eq!(stale.merge(&one), Err(MergeError::Stale));
    }

    #[test]
    fn layouts_that_cannot_be_are_refused() {
        let span = |offset, length| BucketSpan { offset, length };
        let layout = |schema, positive: Vec<BucketSpan>| BucketLayout { schema, positive, ..Default::default() };
        assert!(layout(3, vec![span(-9, 2), span(0, 1), span(4, 0), span(1, 7)]).check().is_ok());
        assert!(layout(9, vec![]).check().is_err());
        assert!(layout(-5, vec![]).check().is_err());
        assert!(layout(3, vec![span(1, 1), span(-1, 1)]).check().is_err());
        assert!(layout(3, vec![span(i32::MAX, 1)]).check().is_err());
        assert!(layout(3, vec![span(i32::MIN, u32::MAX), span(i32::MAX, u32::MAX)]).check().is_err());
        assert!(BucketLayout { bounds: vec![1.0], ..layout(3, vec![]) }.check().is_err());
        assert!(BucketLayout { bounds: vec![1.0, 1.0], ..layout(SCHEMA_CUSTOM, vec![]) }.check().is_err());
        assert!(BucketLayout { bounds: vec![f64::NAN], ..layout(SCHEMA_CUSTOM, vec![]) }.check().is_err());
        let mut short = integers(3, &[(1, 5), (9, 5)], &[], 0);
        short.layout.positive.pop();
        assert!(short.check().is_err());
        assert_eq!(indices(&[span(-3, 2), span(0, 1), span(2, 2)]).collect::<Vec<_>>(), [-3, -2, -1, 2, 3]);
    }
}

//! A bucket -> its pages and what the index will say of its series. Pure; knows no shard, span or position, so buckets encode in parallel.

use bytes::Bytes;
use hashbrown::HashTable;
use tailors_model::limits::{METRIC_BYTES_MAX, PACKED_PAGE_POINTS, SERIES_STATS_POINTS};
use tailors_model::{MetricMeta, OrgId, Tag};

use super::distribution::{check_values, encode_distributions};
use super::labels::TagSets;
use super::pages::{Chunk, EncodeScratch, encode_group};
use super::plan::plan;
use super::summary::Summary;
use super::times::TimeColumn;
use super::value::{Class, classify};
use super::values::{SeriesValues, ValueKind};
use crate::FormatError;

const WHAT: &str = "bucket";

/// One series of a bucket.
#[derive(Clone, Debug)]
pub struct SeriesColumn {
    /// Canonical tags (sorted, no duplicates).
    pub tags: Vec<Tag>,
    /// Metadata of this series where it differs from the metric's, else equal to [`BucketInput::meta`] or default.
    pub meta: MetricMeta,
    /// Milliseconds from the start of the span, strictly increasing, at least one.
    pub timestamps: Vec<u32>,
    /// Values of one kind; as many as `timestamps`.
    pub values: SeriesValues,
}

/// Some series of one metric: the unit of parallel encoding.
#[derive(Clone, Debug)]
pub struct BucketInput {
    /// Tenant.
    pub org: OrgId,
    /// Metric name.
    pub metric: Bytes,
    /// Metadata of the metric.
    pub meta: MetricMeta,
    /// Series, in any order; no two of one kind of values with equal tags.
    pub series: Vec<SeriesColumn>,
}

/// A series as the file's index will hold it.
#[derive(Clone, Debug)]
pub(super) struct BucketSeries {
    /// Where it differs from the metric's.
    pub(super) meta: Option<MetricMeta>,
    /// Column of [`EncodedBucket::times`].
    pub(super) time: u32,
    /// The value of a constant series; the others' lie in the chunks, in series order.
    pub(super) constant: Option<f64>,
    /// Of series that are long enough for one of their own.
    pub(super) summary: Option<Summary>,
    pub(super) points: u32,
}

/// An encoded bucket, ready for [`crate::chunk::assemble`].
#[derive(Clone, Debug)]
pub struct EncodedBucket {
    pub(super) org: OrgId,
    pub(super) metric: Bytes,
    pub(super) meta: MetricMeta,
    pub(super) series: Vec<BucketSeries>,
    /// Of each series.
    pub(super) tags: TagSets,
    pub(super) times: Vec<TimeColumn>,
    pub(super) chunks: Vec<Chunk>,
    points: u64,
}

impl EncodedBucket {
    /// From parts that belong together.
    pub(super) fn of_parts(
        (org, metric, meta): (OrgId, Bytes, MetricMeta),
        (series, tags): (Vec<BucketSeries>, TagSets),
        times: Vec<TimeColumn>,
        chunks: Vec<Chunk>,
        points: u64,
    ) -> Self {
        Self { org, metric, meta, series, tags, times, chunks, points }
    }

    /// Points in it.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Series in it.
    pub fn series(&self) -> u64 {
        self.series.len() as u64
    }

    /// Bytes of its pages.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum()
    }
}

/// Encodes a bucket. Pure and deterministic: equal series in any order give equal bytes.
///
/// # Errors
/// [`FormatError::Invalid`] when the input breaks what [`BucketInput`] asks for: that is a bug of the caller.
pub fn encode_bucket(input: &BucketInput) -> Result<EncodedBucket, FormatError> {
    let tags = TagSets::of(input.series.iter().map(|series| series.tags.as_slice()));
    let (by_tags, times) = check(input, &tags)?;
    let columns = input.series.as_slice();
    let class = |series: &SeriesColumn| match &series.values {
        SeriesValues::Doubles(values) => classify(values),
        SeriesValues::Sketches(_) | SeriesValues::Histograms(_) => Class::Distribution,
    };
    let classes: Vec<Class> = columns.iter().map(class).collect();
    let mut order: Vec<(usize, Option<Summary>)> =
        by_tags.iter().filter(|at| classes[**at] == Class::Const).map(|at| (*at, None)).collect();
    let (mut chunks, mut scratch) = (Vec::new(), EncodeScratch::default());
    for group in plan(columns, &by_tags, &classes) {
        let values: Vec<&[f64]> = group.series.iter().map(|at| columns[*at].values.doubles()).collect();
        let summaries = encode_group(&values, group.transform, group.delta, &mut scratch, &mut chunks)?;
        order.extend(group.series.into_iter().zip(summaries));
    }
    for kind in [ValueKind::Sketches, ValueKind::Histograms] {
        let mut own: Vec<usize> = by_tags.iter().copied().filter(|at| columns[*at].values.kind() == kind).collect();
        // Long ones first, as with doubles: they have pages of their own.
        own.sort_by_key(|at| columns[*at].values.len() < PACKED_PAGE_POINTS);
        let values: Vec<&SeriesValues> = own.iter().map(|at| &columns[*at].values).collect();
        chunks.append(&mut encode_distributions(kind, &values)?);
        let summary = |at: usize| (columns[at].values.len() >= SERIES_STATS_POINTS as usize).then_some(Summary::Absent);
        order.extend(own.into_iter().map(|at| (at, summary(at))));
    }
    let tags = tags.in_order(order.iter().map(|(at, _)| *at));
    let (times, numbers) = times.in_order(order.iter().map(|(at, _)| *at));
    let points = columns.iter().map(|series| series.values.len() as u64).sum();
    let entry = |((at, summary), time): ((usize, Option<Summary>), u32)| {
        let column = &columns[at];
        let own_meta = column.meta != input.meta && column.meta != MetricMeta::default();
        BucketSeries {
            meta: own_meta.then(|| column.meta.clone()),
            time,
            constant: column.values.doubles().first().copied().filter(|_| classes[at] == Class::Const),
            summary,
            points: column.values.len() as u32,
        }
    };
    let series = order.into_iter().zip(numbers).map(entry).collect();
    Ok(EncodedBucket { org: input.org, metric: input.metric.clone(), meta: input.meta.clone(), series, tags, times, chunks, points })
}

/// Distinct time columns of a bucket.
#[derive(Default)]
struct Times {
    columns: Vec<TimeColumn>,
    known: HashTable<u32>,
    /// Column of each series, in input order.
    of_series: Vec<u32>,
}

impl Times {
    /// Takes those of the next series; `None` if they don't strictly increase. Series of a metric mostly come at the same times.
    fn push(&mut self, timestamps: &[u32]) -> Option<()> {
        let (column, columns) = (TimeColumn::of(timestamps)?, &mut self.columns);
        let last = self.of_series.last().copied().filter(|last| columns[*last as usize] == column);
        let number = last.unwrap_or_else(|| {
            let hash = column.hash();
            self.known.find(hash, |number| columns[*number as usize] == column).copied().unwrap_or_else(|| {
                self.known.insert_unique(hash, columns.len() as u32, |number| columns[*number as usize].hash());
                columns.push(column);
                columns.len() as u32 - 1
            })
        });
        self.of_series.push(number);
        Some(())
    }

    /// The columns in order of first use by series in this order, and the column of each of these.
    fn in_order(self, series: impl Iterator<Item = usize>) -> (Vec<TimeColumn>, Vec<u32>) {
        let mut columns: Vec<Option<TimeColumn>> = self.columns.into_iter().map(Some).collect();
        let (mut ordered, mut new_numbers) = (Vec::with_capacity(columns.len()), vec![0; columns.len()]);
        let number = |at: usize| {
            let old = self.of_series[at] as usize;
            if let Some(column) = columns[old].take() {
                new_numbers[old] = ordered.len() as u32;
                ordered.push(column);
            }
            new_numbers[old]
        };
        let of_series = series.map(number).collect();
        (ordered, of_series)
    }
}

/// The series in order of their tags, and their times.
fn check(input: &BucketInput, tags: &TagSets) -> Result<(Vec<usize>, Times), FormatError> {
    let bad = |why: &str| Err(FormatError::invalid(WHAT, why));
    if input.metric.len() > METRIC_BYTES_MAX {
        return bad("metric name longer than its limit");
    }
    let mut times = Times::default();
    for (at, series) in input.series.iter().enumerate() {
        if series.timestamps.len() != series.values.len() || series.values.is_empty() {
            return bad("a series needs as many values as timestamps, and at least one");
        }
        if u32::try_from(series.values.len()).is_err() || times.push(&series.timestamps).is_none() {
            return bad("timestamps do not strictly increase");
        }
        if !tags.set(at).is_sorted_by(|a, b| a < b) {
            return bad("tags are not canonical");
        }
        check_values(&series.values)?;
    }
    let mut by_tags: Vec<usize> = (0..input.series.len()).collect();
    let key = |at: usize| (tags.set(at), input.series[at].values.kind());
    if by_tags.is_sorted_by(|a, b| key(*a) < key(*b)) {
        return Ok((by_tags, times));
    }
    by_tags.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)));
    if by_tags.windows(2).any(|pair| key(pair[0]) == key(pair[1])) {
        return bad("two series with equal tags");
    }
    Ok((by_tags, times))
}

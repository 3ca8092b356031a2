//! Bucket edges from the census (formats.md section 3): (org, metric, floor(exclusive prefix sum of points in key order / 2^22)), points
//! counted before dedupe, a series of less as 32 (so that no bucket has more series than an index may hold). A series of more than 2^22 points has buckets of its own, one per window / 2^j. Numbers grow in (org, metric,
//! key, time) order, so they are the order of buckets in the file.

use std::collections::BTreeMap;

use bytes::Bytes;
use tailors_model::OrgId;
use tailors_model::limits::{BUCKET_POINTS, BUCKET_SERIES_POINTS};
use tailors_model::window::WINDOW_MS;

/// Greatest j: slices of a second; what is denser consists of duplicates.
const SLICE_BITS_MAX: u32 = 13;

/// Where the points of a series go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Bucket of its first slice.
    pub first: u32,
    /// j: the window is cut into 2^j slices; 0: one bucket.
    pub slice_bits: u32,
}

impl Place {
    /// Bucket of a point, `offset_ms` into the window.
    pub fn bucket(self, offset_ms: u32) -> u32 {
        // Below 2^j because the offset is below the window's length.
        self.first + ((u64::from(offset_ms) << self.slice_bits) / WINDOW_MS as u64) as u32
    }
}

#[derive(Clone, Debug)]
struct Edge {
    first_key: u128,
    place: Place,
}

/// All buckets of one build.
#[derive(Clone, Default, Debug)]
pub struct Buckets {
    metrics: BTreeMap<OrgId, BTreeMap<Bytes, Vec<Edge>>>,
    names: Vec<(OrgId, Bytes)>,
    /// Census rows taken, that is distinct series.
    series: u64,
    /// First bucket of each series that is cut -> how many it has.
    cut: BTreeMap<u32, u32>,
}

impl Buckets {
    /// How many.
    pub fn count(&self) -> u32 {
        self.names.len() as u32
    }

    /// Distinct series of the census.
    pub fn series(&self) -> u64 {
        self.series
    }

    /// Series in the buckets given as (bucket, series in it), in order of bucket: the slices of a cut series are one.
    pub fn series_in(&self, filled: impl Iterator<Item = (u32, u64)>) -> u64 {
        let (mut series, mut last_cut) = (0, None);
        for (bucket, in_bucket) in filled.filter(|(_, in_bucket)| *in_bucket > 0) {
            let cut = self.cut.range(..=bucket).next_back().filter(|(first, slices)| bucket - **first < **slices);
            match cut {
                None => series += in_bucket,
                Some((first, _)) => {
                    series += u64::from(last_cut != Some(*first));
                    last_cut = Some(*first);
                }
            }
        }
        series
    }

    /// Org and metric of a bucket.
    pub fn metric(&self, bucket: u32) -> Option<&(OrgId, Bytes)> {
        self.names.get(bucket as usize)
    }

    /// The edges of a metric, to be asked once per payload and metric.
    pub fn of_metric(&self, org: OrgId, metric: &[u8]) -> Option<MetricBuckets<'_>> {
        self.metrics.get(&org)?.get(metric).map(|edges| MetricBuckets(edges))
    }
}

/// The edges of one metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricBuckets<'a>(&'a [Edge]);

impl MetricBuckets<'_> {
    /// Where a series of this metric goes; `None` before the first series of the census.
    pub fn place(&self, key: u128) -> Option<Place> {
        if let [only] = self.0 {
            return Some(only.place);
        }
        let at = self.0.partition_point(|edge| edge.first_key <= key).checked_sub(1)?;
        self.0.get(at).map(|edge| edge.place)
    }
}

/// Takes census rows in (org, metric, key) order.
#[derive(Default, Debug)]
pub struct BucketsBuilder {
    buckets: Buckets,
    metric: Option<(OrgId, Bytes)>,
    edges: Vec<Edge>,
    sum: u64,
    index: u64,
    cut: bool,
}

impl BucketsBuilder {
    /// The next row; rows of one series must have been added up before.
    pub fn push(&mut self, org: OrgId, metric: &[u8], key: u128, points: u64) {
        let same = self.metric.as_ref().is_some_and(|(at, name)| *at == org && name == metric);
        if !same {
            self.end_metric();
            self.metric = Some((org, Bytes::copy_from_slice(metric)));
        }
        self.buckets.series += 1;
        let index = self.sum / BUCKET_POINTS;
        let slice_bits = slice_bits(points);
        let new = self.edges.is_empty() || self.cut || index != self.index || slice_bits > 0;
        if new {
            let first = self.buckets.count();
            if let Some(name) = &self.metric {
                self.buckets.names.extend(std::iter::repeat_n(name.clone(), 1 << slice_bits));
            }
            if slice_bits > 0 {
                self.buckets.cut.insert(first, 1 << slice_bits);
            }
            self.edges.push(Edge { first_key: key, place: Place { first, slice_bits } });
        }
        (self.index, self.cut) = (index, slice_bits > 0);
        self.sum += points.max(BUCKET_SERIES_POINTS);
    }

    fn end_metric(&mut self) {
        if let Some((org, name)) = self.metric.take() {
            self.buckets.metrics.entry(org).or_default().insert(name, std::mem::take(&mut self.edges));
        }
        (self.sum, self.index, self.cut) = (0, 0, false);
    }

    /// All rows were given.
    pub fn finish(mut self) -> Buckets {
        self.end_metric();
        self.buckets
    }
}

/// j for a series of this many points: the smallest that leaves at most 2^22 per slice.
fn slice_bits(points: u64) -> u32 {
    (0..SLICE_BITS_MAX).find(|bits| points.div_ceil(1 << bits) <= BUCKET_POINTS).unwrap_or(SLICE_BITS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_follow_the_prefix_sum_and_large_series_are_cut() {
        let mut builder = BucketsBuilder::default();
        let half = BUCKET_POINTS / 2;
        for (key, points) in [(1, half), (2, half), (3, half), (4, half - 1), (5, 1), (6, 3 * BUCKET_POINTS), (7, 1)] {
            builder.push(OrgId(1), b"a", key, points);
        }
        builder.push(OrgId(1), b"b", 1, 1);
        builder.push(OrgId(2), b"a", 9, 1);
        let buckets = builder.finish();
        let a = buckets.of_metric(OrgId(1), b"a").expect("metric a");
        let first = |key| a.place(key).map(|place| place.first);
        assert_eq!([first(1), first(2), first(3), first(4), first(5)], [Some(0), Some(0), Some(1), Some(1), Some(1)]);
        let cut = a.place(6).expect("cut series");
        assert_eq!((cut.first, cut.slice_bits), (2, 2));
        assert_eq!((cut.bucket(0), cut.bucket(WINDOW_MS as u32 / 4), cut.bucket(WINDOW_MS as u32 - 1)), (2, 3, 5));
        assert_eq!((first(7), first(0), first(u128::MAX)), (Some(6), None, Some(6)));
        assert_eq!(buckets.of_metric(OrgId(1), b"b").and_then(|b| b.place(1)).map(|place| place.first), Some(7));
        assert_eq!((buckets.count(), buckets.series()), (9, 9));
        // Two whole buckets of two and three series, three of the four slices of the cut one, and one behind it.
        assert_eq!(buckets.series_in([(0, 2), (1, 3), (2, 1), (3, 0), (4, 1), (5, 1), (6, 1)].into_iter()), 7);
        assert_eq!(buckets.metric(8).map(|(org, _)| *org), Some(OrgId(2)));
    }
}

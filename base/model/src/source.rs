//! The storage seam of queries: pin one state of history, resolve series in it, read their points in an absolute window. It knows no PromQL;
//! lookback, offset and names-as-labels stay in the engine.
//!
//! Invariants: everything read through one [`PinnedSource`] is of one feed number (protocol.md 2.4 step 5), and points that cannot be read are
//! an error or a named range of [`Selection::partial`], never silently absent (P6).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::{MetricMeta, OrgId, Series, Tag};

/// A boxed future, so that the seam needs no async runtime.
pub type SourceFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SourceError>> + Send + 'a>>;

/// Decides which series are wanted; built by the query engine from its matchers.
pub trait SeriesFilter: Send + Sync {
    /// Cheap test on the stored metric name, before any tag is looked at.
    fn metric(&self, metric: &[u8]) -> bool;
    /// The whole test.
    fn series(&self, series: &Series) -> bool;
    /// The whole test for series whose tags are among these, which are in canonical order, each once: a file's dictionary. What can be settled tag by
    /// tag is settled here, once for all series that have the tag; so many series will be tested, so that few are not paid for with a large dictionary.
    fn on_tags<'a>(&'a self, tags: &'a [Tag], series: usize) -> TagTest<'a> {
        let _ = (tags, series);
        Box::new(|_, _| None)
    }
}

/// Tests a series by its metric and the numbers (positions in the dictionary, ascending) of its tags. `None`: ask [`SeriesFilter::series`].
pub type TagTest<'a> = Box<dyn Fn(&[u8], &[u32]) -> Option<bool> + 'a>;

/// What was found, and ranges that could not be read where partial answers are allowed.
pub type Found<T> = (Vec<T>, Vec<PartialRange>);

/// One selected series.
#[derive(Clone, Debug)]
pub struct SelectedSeries {
    /// Who it is.
    pub series: Arc<Series>,
    /// Kind, unit, interval, description.
    pub meta: MetricMeta,
    /// Points of it in the windows that the range touches: what a read of it may cost.
    pub points_max: u64,
}

/// Points of a series in one file, none of them NaN, without the points.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Whole {
    /// Earliest point, Unix milliseconds.
    pub first_ms: i64,
    /// Latest point.
    pub last_ms: i64,
    /// Points.
    pub count: u64,
    /// The least value; of equal ones (zeros) the earliest.
    pub min: f64,
    /// The greatest value; of equal ones (zeros) the earliest.
    pub max: f64,
    /// Earliest value.
    pub first: f64,
    /// Latest value.
    pub last: f64,
}

/// What a scan hands out of a series.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Unix milliseconds, strictly increasing, and values, bit-exact.
    Points(&'a [i64], &'a [f64]),
    /// Times of points none of which is NaN.
    Times(&'a [i64]),
    /// All points of a file.
    Whole(Whole),
}

/// What a scan must know of a series' points in a file. More can come: of times and wholes it is points where the source knows no better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// [`Part::Whole`].
    Whole,
    /// [`Part::Times`].
    Times,
    /// [`Part::Points`].
    Points,
}

/// Says what a scan needs: position of the series among those asked for, its earliest and latest point in a file, Unix milliseconds.
pub type NeedOf<'a> = &'a (dyn Fn(usize, i64, i64) -> Need + Sync);

/// Takes series part by part: position of the series among those asked for, part. Points come in time order, from part to part too; times and wholes
/// at any time. Called on threads that may compute.
pub type EachPart = Box<dyn FnMut(usize, Part<'_>) + Send>;

/// A window, shard and generation that an answer used.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UsedGeneration {
    /// Window start, Unix milliseconds.
    pub window_ms: i64,
    /// Shard name.
    pub shard: String,
    /// Generation, from 1.
    pub generation: u32,
    /// Kind of the seal it stands on, e.g. `closed`.
    pub seal: String,
}

/// A range that could not be read: from and to (Unix milliseconds, half-open), and why.
pub type PartialRange = (i64, i64, String);

/// What a pinned state says of a time range.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Coverage {
    /// Generations that hold points of the range, in window order.
    pub used: Vec<UsedGeneration>,
    /// End of the unbroken row of complete windows from the range's first one, Unix milliseconds; `None` when that one is not complete.
    pub complete_until_ms: Option<i64>,
    /// Things worth saying: windows that are open or not built.
    pub notes: Vec<String>,
}

/// Why a source could not answer. The texts name a stable id.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// A limit of the query; names it, its value and the way out.
    #[error("{0}")]
    Limit(String),
    /// Stored data is missing or corrupt (P6).
    #[error("{0}")]
    Data(String),
    /// The store does not answer now; try again.
    #[error("{0}")]
    Retry(String),
}

/// What a read must not exceed.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Series selected.
    pub series: u64,
    /// Points read.
    pub points: u64,
    /// Whether a corrupt or missing file may become a `partial` range instead of an error.
    pub allow_partial: bool,
}

/// Series of a time range, from live data, chunks, rollups, all of them merged, or an old system under migration.
pub trait SeriesSource: Send + Sync {
    /// Pins a state at most 10 s old at `now_ms` (Unix milliseconds), or, if `newest`, the newest there is.
    fn pin(&self, now_ms: i64, newest: bool) -> SourceFuture<'_, Arc<dyn PinnedSource>>;
}

/// One state of all history, named by a feed number.
pub trait PinnedSource: Send + Sync {
    /// The feed number that is pinned.
    fn feed(&self) -> u64;

    /// What is there of `from_ms <= time < to_ms` for this org.
    fn coverage(&self, org: OrgId, from_ms: i64, to_ms: i64) -> Coverage;

    /// Names of the metrics that have a point in a window that the range touches, sorted, each once.
    fn metrics(&self, org: OrgId, from_ms: i64, to_ms: i64, allow_partial: bool) -> SourceFuture<'_, Vec<Bytes>>;

    /// The series that pass the filter and have a point in the range (at least every such one); their points can be read from the answer.
    /// `limits.points` is checked against what a read of all of them would cost.
    fn select<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        from_ms: i64,
        to_ms: i64,
        limits: ReadLimits,
    ) -> SourceFuture<'a, Arc<dyn Selection>>;

    /// Tag keys of the series that pass the filter and have a point in the range, sorted, each once.
    fn tag_keys<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        from_ms: i64,
        to_ms: i64,
        allow_partial: bool,
    ) -> SourceFuture<'a, Found<Bytes>>;

    /// What such series have of some keys: canonical tags, sorted, each list once.
    fn tag_lists<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        keys: KeyTest<'a>,
        from_ms: i64,
        to_ms: i64,
        allow_partial: bool,
    ) -> SourceFuture<'a, Found<Vec<Tag>>>;
}

/// Tag keys that are meant.
pub type KeyTest<'a> = &'a (dyn Fn(&[u8]) -> bool + Sync);

/// Series that were found, and the way to their points.
pub trait Selection: Send + Sync {
    /// In the order of their identity (metric, then canonical tags), each once.
    fn series(&self) -> &[SelectedSeries];

    /// Hands out the points of the series with these numbers (positions in `series()`) at `from_ms <= time < to_ms`, clipped to the selection's
    /// range: each series in time order, series among each other in any. Of points that can't be read some may have been handed out before the
    /// error, or before their range is named. What is not needed is not handed out, if the source can tell.
    fn scan<'a>(&'a self, numbers: &'a [usize], from_ms: i64, to_ms: i64, need: NeedOf<'a>, each: EachPart) -> SourceFuture<'a, ()>;

    /// Ranges found unreadable so far; only where partial answers are allowed.
    fn partial(&self) -> Vec<PartialRange>;
}

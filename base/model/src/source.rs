//! The storage seam of queries: resolve series, read their points in an absolute window. It knows no PromQL; lookback and offset stay in the engine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{MetricMeta, OrgId, Series};

/// A boxed future, so that the seam needs no async runtime.
pub type SourceFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides which series are wanted; built by the query engine from its matchers.
pub trait SeriesFilter: Send + Sync {
    /// Cheap test on the stored metric name, before any tag is looked at.
    fn metric(&self, metric: &[u8]) -> bool;
    /// The whole test.
    fn series(&self, series: &Series) -> bool;
}

/// One selected series with its points, in time order, each timestamp once.
#[derive(Clone, Debug)]
pub struct SeriesPoints {
    /// Who it is.
    pub series: Arc<Series>,
    /// Unix milliseconds, strictly increasing.
    pub timestamps_ms: Vec<i64>,
    /// Values, bit-exact; as long as `timestamps_ms`.
    pub values: Vec<f64>,
}

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

/// What an answer was made of and what is missing from it.
#[derive(Clone, Default, Debug)]
pub struct Provenance {
    /// Feed number that was pinned.
    pub feed: u64,
    /// Generations read.
    pub used: Vec<UsedGeneration>,
    /// End of the unbroken row of complete windows from the range's first one, Unix milliseconds.
    pub complete_until_ms: Option<i64>,
    /// Ranges that could not be read: from, to (Unix milliseconds), why. Never silently empty (P6).
    pub partial: Vec<(i64, i64, String)>,
    /// Things worth saying: open windows, translated names.
    pub notes: Vec<String>,
}

/// Why a source could not answer.
#[derive(Debug, thiserror::Error)]
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
    /// All points of the series that pass the filter with `from_ms <= time < to_ms`.
    fn points<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        from_ms: i64,
        to_ms: i64,
        limits: ReadLimits,
    ) -> SourceFuture<'a, Result<(Vec<SeriesPoints>, Provenance), SourceError>>;

    /// The series that pass the filter and have a point in a window that the range touches, with their metadata.
    fn series<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        from_ms: i64,
        to_ms: i64,
        limits: ReadLimits,
    ) -> SourceFuture<'a, Result<(Vec<(Arc<Series>, MetricMeta)>, Provenance), SourceError>>;
}

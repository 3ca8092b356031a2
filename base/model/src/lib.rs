//! The words of the system as types: org, series, point, window, shard, route, clock.
//!
//! In: nothing. Out: what every other crate speaks. Invariants: no I/O, no async runtime, no wall clock; equal input gives equal output on
//! every machine. Killed here: nothing is lost, nothing is kept.

pub mod clock;
pub mod histogram;
pub mod limits;
pub mod payload;
pub mod route;
pub mod series;
pub mod shard;
pub mod sketch;
pub mod source;
pub mod window;

pub use clock::{Clock, ManualClock};
pub use histogram::{BucketCounts, BucketLayout, BucketSpan, HistogramCounts, NativeHistogram, ResetHint};
pub use payload::PayloadHeader;
pub use route::RouteTable;
pub use series::{MetricKind, MetricMeta, OrgId, Series, SeriesHash, Tag, TagKind, canonical_tags};
pub use shard::ShardId;
pub use sketch::{Bin, Malformed, MergeError, Sketch};
pub use window::Window;

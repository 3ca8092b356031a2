//! Chunk file: the points of one span (a 4 h window) of a shard, laid out for reading. Bytes are drawn in `docs/formats/chunk.md`.
//!
//! In: buckets, each some series of one (org, metric), in any order. Out: one or more files; back: series, labels, points (doubles, sketches
//! or native histograms), bit-exact.
//! Invariants: equal input gives equal bytes whatever the order of series, threads or workers; nothing in a file depends on a generation
//! or attempt; every byte is under a CRC32C seeded with (shard, span start, region, position); a file is read by its tail (index) and by
//! single pages. Killed here: nothing is kept.
//!
//! ```text
//! header 32 B | pages | times | series index | labels | directory | trailer 64 B
//! ```

mod aggregate;
mod assemble;
mod coder;
mod column;
mod component;
mod copy;
mod day;
mod decode;
mod distribution;
mod encode;
mod exceptions;
mod histogram;
mod index;
mod labels;
pub(crate) mod layout;
mod pages;
mod parse;
mod plan;
mod read;
mod report;
mod select;
mod sketch;
mod summary;
mod tally;
mod times;
mod value;
mod values;
mod zigzag;

/// For [`crate::version`].
pub(crate) const VERSION: (u16, u16) = (layout::MAJOR, layout::MINOR);

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod day_tests;
#[cfg(test)]
mod distribution_tests;
#[cfg(test)]
mod tests;

pub use aggregate::{Aggregate, EachSteps, Steps};
pub use assemble::{ChunkFile, assemble};
pub use day::{DAY_COPY_BYTES, DayError, DayInput, DayPages, DayPart, plan_day};
pub use decode::DecodeScratch;
pub use distribution::EachValues;
pub use encode::{BucketInput, EncodedBucket, SeriesColumn, encode_bucket};
pub use index::{ChunkIndex, MetricEntry};
pub use layout::Span;
pub use read::{EachSeries, PageRead, verify_file};
pub use report::{ChunkReport, EncodingReport, MetricReport};
pub use select::{Groups, TagMarks};
pub use summary::Statistics;
pub use tally::{DayTally, WindowTally, verify_day_file};
pub use values::{SeriesValues, ValueKind, Values};

/// Number of this encoder: stands in every plan, because equal bytes are promised only for equal encoders.
pub const ENCODER_VERSION: u32 = 3;

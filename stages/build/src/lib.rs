//! Build: the raw payloads of one window x shard become chunk files and the value of a manifest.
//!
//! In: a plan, its chain nodes, the route table. Out: chunk files under an attempt key, a [`ManifestDoc`](tailors_format::doc::ManifestDoc)
//! that is *not yet put* (publishing is control's), and the parts of the job's history. Invariants: B-1, read = written + duplicates +
//! corrupt + rejected; P4, the greatest (received_at_us, epoch, partition, offset, index) wins; equal inputs give equal bytes for any number
//! of partitions and splits, because bucket edges come from the census alone and every order is total. Killed here: files stay under an
//! attempt that nobody names; the job is run again.

pub mod buckets;
mod census;
pub mod day;
mod encode;
pub mod error;
mod inputs;
mod labels;
pub mod merge;
mod operator;
mod payload;
mod row;
pub mod run;
mod runs;
pub mod settings;
mod tally;

pub use day::{DayOrder, DayOutput, run_day};
pub use error::BuildError;
pub use run::{BuildDeps, BuildOutput, run};
pub use settings::Settings;

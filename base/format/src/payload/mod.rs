//! A payload: points of one org and one window, one log record, understandable alone. Written by the intake, copied as-is by capture, read by build.
//!
//! ```text
//! envelope     136 B plain: who, when, how much, and length and checksum of each block   (`envelope`)
//! label block  dictionaries of metrics, tags and metadata; series by number              (`labels`)
//! run block    per run: series, points, first timestamp, step                            (`runs`)
//! point block  timestamps of irregular runs, values as columns                           (`values`)
//! ```
//! Each block is zstd-1, or plain where zstd wins nothing. Capture and the planner read the envelope only, a census all but the point block.
//! Index of a point (P4's last tie-break) = its position over all runs in order. Page: `docs/formats/payload.md`.

mod block;
mod decimal;
mod envelope;
mod labels;
mod runs;
mod tables;
mod values;
mod writer;

pub use envelope::{ENVELOPE_BYTES, Stamp, census_len, read_header};
pub use labels::{LabelSeries, Labels, decode_labels};
pub use runs::{Run, decode_runs};
pub use tables::{SeriesMeta, TagRef};
pub use values::{Points, decode_points};
pub use writer::PayloadWriter;

#[cfg(test)]
mod tests;

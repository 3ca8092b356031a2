//! PromQL over published generations, and Prometheus' HTTP API around it.
//!
//! In: HTTP requests whose org a middleware has put into the request's extensions, and a [`tailors_model::source::SeriesSource`]. Out: answers
//! equal to Prometheus 3's, each with a member `tailors` that names the feed number, windows and generations it was made of. Invariants: one
//! pinned feed number per query; a missing or corrupt file is an error or a named range, never a silent gap (P6); every limit names itself.
//! Killed here: nothing is lost, nothing was kept.

pub mod error;
pub mod http;
pub mod promql;
pub mod run;
pub mod settings;
pub mod source;

pub use error::QueryError;
pub use http::{QueryDeps, router};
pub use settings::{Limits, SourceSettings};
pub use source::ChunkSource;

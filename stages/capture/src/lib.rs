//! Capture: copies what the log holds to raw files as it is, and commits it in a chain of nodes per partition.
//!
//! In: frames of every partition, read through `Log`. Out: one raw file per flush (extents by partition, section and window) and one chain node
//! per partition that took part; then the log's committed position, a hint that is never believed (C0). Invariants: every record is in exactly
//! one committed node (P2): the key of the next node follows from the node before it, so put-if-absent picks one winner. A record is never
//! refused for its content: a bad envelope goes to section `none` and is counted. Memory is bounded by two flushes. Killed here: an orphan raw
//! file at most; the next start reads the chain's head and goes on from there.

mod assign;
mod buffer;
mod error;
mod flush;
mod run;
mod settings;
#[cfg(test)]
mod tests;

pub use error::CaptureError;
pub use run::{CaptureDeps, FlushTargets, Flushing, OrgWindows, run};
pub use settings::Settings;

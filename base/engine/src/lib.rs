//! The only DataFusion glue that stages share: raw files as a source, a session with counted memory, errors that come out as they went in.
//!
//! In: extents of raw files on the object store, a physical plan. Out: record batches. Invariants: every frame of an extent is read by
//! exactly one split, whatever the cuts; a damaged frame is an error that names its segment, never a skipped one; tracked memory stays in
//! the pool given. A physical plan is the seam: [`LocalSession`] runs it in this process, a distributed constructor can take its place.
//! Killed here: nothing was written.

pub mod error;
pub mod keep;
pub mod raw;
mod reader;
pub mod session;
pub mod stream;

pub use error::{EngineError, find_error, is_out_of_memory};
pub use keep::RawKeep;
pub use raw::{RawExtent, RawSource, RawSplit, RawSplitExec, plan_splits, raw_schema};
pub use session::LocalSession;
pub use stream::{StreamExec, StreamFn};

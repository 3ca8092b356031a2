//! Control: decides when a window's data counts (seals), what is built from it (plans), and makes it visible (manifest, feed, done).
//!
//! In: the chain, the log's ends, the clock. Out: seals, plans, manifests, feed entries, done marks, `gone` marks before deletions. Invariants
//! (protocol.md 2.3-2.5): a seal is decided in one order (newest seal, clock, offsets, route version, put) and its ends never go back; only the
//! highest buildable seal is planned; g+1 only after g is decided; a generation is in the feed before a done mark names it; `gone` before a
//! deletion. All of it holds with several controls at once: every decision is a put-if-absent, the loser adopts the winner's. Killed here:
//! documents are the state; the next start reads them and goes on, files of an unfinished attempt are orphans.

mod compact;
mod control;
mod day;
mod dirty;
mod error;
mod gc;
mod hand;
pub mod job;
mod jobs;
mod plan;
mod seal;
mod sealing;
mod settings;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub use compact::{CompactOutcome, CompactedShard};
pub use control::{Control, ControlDeps};
pub use error::ControlError;
pub use hand::{BuildOutcome, BuiltShard, SealOutcome};
pub use job::{BuildJob, DayJob, JobError, RunBuild, RunDay};
pub use settings::Settings;
pub use status::{SealStatus, Status, WindowState, WindowStatus};

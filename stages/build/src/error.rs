//! Why a build did not give a generation, by remedy.

use tailors_store::objects::StoreError;

/// A failed attempt; nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store does not answer now: run the plan again later.
    #[error("store: {0}; the plan can be run again")]
    Retry(String),
    /// A raw segment is unreadable or damaged after three fetches: quarantine it (protocol.md 2.4 step 8).
    #[error("raw segment {segment}: {why}")]
    Input {
        /// Object key of the raw file.
        segment: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two series have one working key; names both.
    #[error("{0}")]
    Collision(String),
    /// This worker may not run this plan (another encoder version): let another one do it.
    #[error("{0}")]
    Refused(String),
    /// The memory budget is too small even with spilling: give the job more or fewer cores.
    #[error("memory budget: {0}")]
    Memory(String),
    /// The store refuses for good (access denied, disk failed).
    #[error("store: {0}")]
    Fatal(String),
    /// The output doesn't balance or doesn't read back: never published; report it.
    #[error("bug: {0}")]
    Bug(String),
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Retry(why) => Self::Retry(why),
            other => Self::Fatal(other.to_string()),
        }
    }
}

//! What a command or the loop can fail with, by remedy.

use tailors_format::FormatError;
use tailors_model::{ShardId, Window};
use tailors_store::{StoreError, log::LogError};

/// Why control could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The store; its own kinds say the remedy.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There are points but no seal. Remedy: `tailors seal --window`.
    #[error("window {window} has points but no seal; declare its data first: tailors seal --window {window_text}")]
    NoSeal {
        /// The window.
        window: Window,
        /// Its start in RFC 3339, as the command takes it.
        window_text: String,
    },
    /// A job failed too often. Remedy: the reason says it; `tailors build` tries again.
    #[error("the build of window {window} of {shard} is parked: {why}")]
    Parked {
        /// The window.
        window: Window,
        /// The shard.
        shard: ShardId,
        /// The last failure.
        why: String,
    },
    /// A day that can't be put into one file now. Remedy: the reason says it.
    #[error("day {day} can't be compacted: {why}")]
    DayOpen {
        /// Its start in RFC 3339.
        day: String,
        /// Why not, and what to do.
        why: String,
    },
    /// Something did not come in time. Remedy: look at capture, try again.
    #[error("{0}")]
    Timeout(String),
    /// A document of ours is not what it must be.
    #[error("bug: {0}")]
    Bug(String),
}

impl ControlError {
    /// Whether what is on the disk is not known any more: an fsync failed, in the log or in the store.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fatal(_)) | Self::Log(LogError::Fatal(_)))
    }
}

impl From<FormatError> for ControlError {
    fn from(error: FormatError) -> Self {
        Self::Bug(error.to_string())
    }
}

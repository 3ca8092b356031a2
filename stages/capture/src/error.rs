//! What ends capture; everything that a retry can mend is retried inside.

use tailors_format::FormatError;
use tailors_store::{StoreError, log::LogError};

/// Why capture stopped.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Records are gone from the log before they were captured: retention or damage. Remedy: decide, then `up --accept-holes`.
    #[error("partition {partition}: the log has lost {start}..{end} before they were captured; `up --accept-holes` records them as lost")]
    Hole {
        /// Partition.
        partition: u32,
        /// Chain head.
        start: u64,
        /// Next offset that the log has.
        end: u64,
    },
    /// The chain knows more than the log: another log under the same identity. Remedy: bring the right log back.
    #[error("partition {partition}: captured up to {next}, but the log ends at {log_end}; this is not the log that was captured")]
    Recreated {
        /// Partition.
        partition: u32,
        /// Chain head.
        next: u64,
        /// End of the log.
        log_end: u64,
    },
    /// The partition's chain was ended; nobody may commit behind an end node.
    #[error("partition {partition} of stream {epoch} was ended at {next}")]
    Ended {
        /// Stream epoch.
        epoch: u32,
        /// Partition.
        partition: u32,
        /// Where it ended.
        next: u64,
    },
    /// The store refuses for good (credentials, poisoned handle).
    #[error("capture stops: {0}")]
    Store(#[from] StoreError),
    /// The log can't go on in this process.
    #[error("capture stops: {0}")]
    Log(#[from] LogError),
    /// A document of our own could not be encoded.
    #[error("bug in capture: {0}")]
    Bug(#[from] FormatError),
}

impl CaptureError {
    /// Whether what is on the disk is not known any more: an fsync failed, in the log or in the store.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fatal(_)) | Self::Log(LogError::Fatal(_)))
    }
}

//! The log that needs no server: one sequence of segment files for all partitions, written by one thread, one fsync for each group commit.
//!
//! In: payloads. Out: raw-file frames at offsets. Invariants: P1 (an append resolves only when its frame is fsynced; readers see only what
//! is), P2 (offsets of a partition are given once and never again). What if killed here: a torn tail is cut at the next start and nothing
//! acknowledged is in it; damage below what was fsynced refuses the start.
//!
//! ```text
//! DIR/lock                      held (flock) while the log is open
//! DIR/identity.json             minted once; DIR/committed.json: positions of capture, a hint
//! DIR/segment-{number:012}.tlog  header, then batches: frames of any partitions in order, then a marker; the rest is allocated space (zeros)
//! ```
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tailors_model::Clock;

use super::{Log, LogBatch, LogBounds, LogError, StreamIdentity};

/// When a write is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Each group commit ends with fdatasync; only then it is acknowledged (P1).
    Always,
    /// Left to the kernel: a process crash loses nothing, a power cut may lose acknowledged records.
    Never,
}

/// Settings of the embedded log; take [`Default`] and change what you need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EmbeddedLogSettings {
    /// Number of partitions; may grow from start to start, never shrink.
    pub partitions: u32,
    /// When a write is durable.
    pub fsync: Fsync,
    /// Bytes of a segment, allocated when it is begun; a larger batch gets a larger segment.
    pub segment_bytes: u64,
    /// Longest wait for company before a group commit, milliseconds.
    pub group_commit_ms: u64,
    /// Bytes of the largest payload taken.
    pub record_bytes_max: u64,
    /// Start in spite of damage below what was fsynced; what can't be read is a hole in the offsets.
    pub accept_damage: bool,
    /// Bytes of recently written frames kept in memory for readers at the tail.
    pub cache_bytes: usize,
    /// Bytes that all segments together may allocate, `None` = what the disk gives; past it the log is as on a full disk.
    pub quota_bytes: Option<u64>,
}

impl Default for EmbeddedLogSettings {
    fn default() -> Self {
        Self {
            partitions: 4,
            fsync: Fsync::Always,
            segment_bytes: 64 << 20,
            group_commit_ms: 3,
            record_bytes_max: u64::from(tailors_model::limits::PAYLOAD_BYTES_MAX),
            accept_damage: false,
            cache_bytes: 32 << 20,
            quota_bytes: None,
        }
    }
}

/// An open embedded log.
#[derive(Debug)]
pub struct EmbeddedLog {
    identity: StreamIdentity,
}

impl EmbeddedLog {
    /// The identity kept in `dir`; the first call creates `dir` and mints it from 16 random bytes of `mint`.
    pub fn identity(dir: &Path, mint: impl FnOnce() -> [u8; 16]) -> Result<StreamIdentity, LogError> {
        todo!()
    }

    /// Opens the log in `dir`, which must have an identity; blocks for the recovery scan. `chain_heads[partition]` = what the chain says is
    /// captured: the next offset is max(log end, chain head), a difference is counted.
    pub fn open(
        dir: &Path,
        settings: EmbeddedLogSettings,
        epoch: u32,
        clock: Arc<dyn Clock>,
        chain_heads: Vec<Option<u64>>,
    ) -> Result<Arc<Self>, LogError> {
        todo!()
    }

    /// Greatest `received_at_us` of all payloads kept (Unix microseconds), 0 when there is none: the intake starts above it.
    pub fn last_received_at_us(&self) -> i64 {
        todo!()
    }

    /// Resolves with the reason once the log is beyond use (an fsync failed): the process must end, nothing is retried.
    pub async fn fatal(&self) -> String {
        todo!()
    }

    /// Writes what is queued, seals the last segment, gives the lock back. Appends after it are `Unavailable`.
    pub async fn close(&self) -> Result<(), LogError> {
        todo!()
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn identity(&self) -> &StreamIdentity {
        &self.identity
    }
    fn epoch(&self) -> u32 {
        todo!()
    }
    fn partitions(&self) -> u32 {
        todo!()
    }
    async fn append(&self, partition: u32, payload: Bytes) -> Result<u64, LogError> {
        todo!()
    }
    async fn bounds(&self, partition: u32) -> Result<LogBounds, LogError> {
        todo!()
    }
    async fn read(&self, partition: u32, position: u64, bytes_max: usize, wait_ms: u64) -> Result<LogBatch, LogError> {
        todo!()
    }
    fn pause(&self, partition: u32) {}
    fn resume(&self, partition: u32) {}
    async fn commit(&self, partition: u32, next: u64) -> Result<(), LogError> {
        todo!()
    }
    async fn committed(&self, partition: u32) -> Result<Option<u64>, LogError> {
        todo!()
    }
    async fn retain(&self, older_than_us: i64) -> Result<u64, LogError> {
        todo!()
    }
}

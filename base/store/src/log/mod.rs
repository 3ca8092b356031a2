//! `Log`: append, read and commit of payloads by partition. Implementations: embedded segments, in-memory faulty; Kafka joins with its own issue.
//! All of them pass the suite in `conformance`.

pub mod conformance;
pub mod embedded;
pub mod memory;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

/// Who a log is: equal identities are the same offsets. The registry turns it into an epoch (protocol.md 2.1).
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct StreamIdentity {
    /// Kafka cluster id, or a UUID the embedded log minted when it was created.
    pub cluster: String,
    /// Topic UUID.
    pub topic_uuid: String,
    /// Topic name, for people.
    pub name: String,
}

/// Offsets that can be read now: `start <= offset < end`. Offsets may have gaps; `end` is the next one to become readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// Oldest offset kept.
    pub start: u64,
    /// One past the newest readable (fsynced) record.
    pub end: u64,
}

/// One record as a raw-file frame: capture copies its bytes after a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    /// Its offset.
    pub offset: u64,
    /// The whole frame (`tailors_format::raw::frame`), which holds epoch, partition, offset and payload.
    pub frame: Bytes,
}

/// What a poll brought.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LogBatch {
    /// Records in offset order; may be empty.
    pub records: Vec<LogRecord>,
    /// Position after this batch: where the next poll goes on. Beyond the last record where offsets have gaps.
    pub next: u64,
}

/// What went wrong, by remedy.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log can't take or give records now (disk full, broker away): answer 503, try again.
    #[error("the log does not take records now: {0}")]
    Unavailable(String),
    /// The record is larger than the log takes.
    #[error("a record of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The position asked for is outside the bounds; nothing is reset silently.
    #[error("offset {asked} of partition {partition} is outside {start}..={end}")]
    OutOfRange {
        /// Partition.
        partition: u32,
        /// Position asked for.
        asked: u64,
        /// Log start.
        start: u64,
        /// Log end.
        end: u64,
    },
    /// Stored records are damaged below what was fsynced; names the segment and offset.
    #[error("{0}")]
    Damaged(String),
    /// An fsync failed or the directory is not usable: the process must end, fsync is never retried.
    #[error("{0}")]
    Fatal(String),
}

/// A partitioned, append-only sequence of payloads.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// Who this log is.
    fn identity(&self) -> &StreamIdentity;

    /// The epoch under which the registry knows it; part of every frame.
    fn epoch(&self) -> u32;

    /// Whether offsets between two records are lost records. Kafka leaves gaps where nothing is missing (compaction, transaction markers).
    fn gaps_are_losses(&self) -> bool {
        false
    }

    /// Number of partitions; may grow, never shrink.
    fn partitions(&self) -> u32;

    /// Appends one payload; resolves with its offset once it is durable (acks=all, or fsynced). An error says nothing about whether it became
    /// durable: the sender retries and P4 removes the double.
    async fn append(&self, partition: u32, payload: Bytes) -> Result<u64, LogError>;

    /// Log start and end of a partition (Kafka: earliest offset and high watermark).
    async fn bounds(&self, partition: u32) -> Result<LogBounds, LogError>;

    /// Records from `position` on, about `bytes_max` bytes, at least one record if there is one. Waits at most `wait_ms` for the first.
    /// `position == end` gives an empty batch; outside the bounds is an error.
    async fn read(&self, partition: u32, position: u64, bytes_max: usize, wait_ms: u64) -> Result<LogBatch, LogError>;

    /// Stops fetching ahead for a partition (memory over budget); reading goes on after `resume`.
    fn pause(&self, partition: u32);

    /// Ends a pause.
    fn resume(&self, partition: u32);

    /// Stores `next` as the consumer position of capture: a hint and the bound of retention, never the truth.
    async fn commit(&self, partition: u32, next: u64) -> Result<(), LogError>;

    /// The committed position; `None` when there is none.
    async fn committed(&self, partition: u32) -> Result<Option<u64>, LogError>;

    /// Unlinks what is older than `older_than_us` (received, Unix microseconds) *and* below the committed position. Kafka: a no-op.
    async fn retain(&self, older_than_us: i64) -> Result<u64, LogError>;
}

//! `status --json`: fields as interfaces.md A lists them.

use tailors_format::doc::SealKind;
use tailors_model::ShardId;

use crate::{Control, ControlError};

/// The whole answer.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Every record received before this is in the chain, Unix milliseconds.
    pub captured_to_ms: i64,
    /// One row per window and shard with points, in order.
    pub windows: Vec<WindowStatus>,
}

/// Seal of a row.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SealStatus {
    /// Number.
    pub k: u32,
    /// Kind.
    pub kind: SealKind,
}

/// Where a window of a shard stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowState {
    /// Points, no seal asks for more than is built, and the window is not complete.
    Open,
    /// A seal waits for a build.
    Sealed,
    /// A job runs.
    Building,
    /// The newest seal is built.
    Built,
    /// Its job failed too often.
    Parked,
}

/// One window of one shard.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct WindowStatus {
    /// Start, RFC 3339.
    pub window: String,
    /// Shard.
    pub shard: ShardId,
    /// Newest seal; null without one.
    pub seal: Option<SealStatus>,
    /// Current generation; null without one.
    pub generation: Option<u32>,
    /// Points of the current generation, after P4.
    pub points: u64,
    /// Points that lost to another of their series and timestamp.
    pub duplicates: u64,
    /// Points that came after the closed seal; a part of those read.
    pub late: u64,
    /// Points that could not be decoded or lie outside what was admitted.
    pub corrupt: u64,
    /// Latest point, Unix milliseconds; null without one.
    pub max_timestamp_ms: Option<i64>,
    /// Bytes of the files of the current manifest.
    pub bytes: u64,
    /// `bytes / points`; null without points.
    pub bytes_per_point: Option<f64>,
    /// Where it stands.
    pub state: WindowState,
    /// Seconds since the oldest captured point was received that no generation holds; 0 when all are held.
    pub lag_s: i64,
}

impl Control {
    /// The status of every window with points.
    ///
    /// # Errors
    /// Store and log errors.
    pub async fn status(&self) -> Result<Status, ControlError> {
        todo!()
    }
}

//! History of one attempt at a plan: beside the manifest, never inside it (timers differ from run to run, manifests must not).

use std::collections::BTreeMap;

use super::Document;

/// Object `job/v1/{shard}/{T}/{g}/{attempt}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobDoc {
    /// When it began, Unix milliseconds.
    pub started_ms: i64,
    /// When it ended, Unix milliseconds.
    pub ended_ms: i64,
    /// `published`, `lost_race`, or what failed.
    pub outcome: String,
    /// Raw bytes read, census included.
    pub raw_bytes_read: u64,
    /// Stage -> microseconds.
    pub stages_us: BTreeMap<String, u64>,
    /// Peak of the tracked memory, bytes.
    pub memory_peak_bytes: u64,
}

impl Document for JobDoc {
    const FORMAT: &'static str = crate::document_format!("job");
}

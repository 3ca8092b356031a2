//! Manifests: the one object that makes a generation visible, or cancels it.

use tailors_model::ShardId;

use super::Document;

/// Whether a generation exists or never will.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestKind {
    /// Visible.
    Published,
    /// Cancelled for ever.
    Tombstone,
}

/// How a file takes part in a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// Holds the window's series.
    Base,
    /// Replaces the series it holds.
    Overlay,
    /// Holds a whole day, this window's share of it counts.
    Day,
}

/// One file of a generation.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Object key.
    pub key: String,
    /// Role.
    pub role: FileRole,
    /// First millisecond it may hold.
    pub from_ms: i64,
    /// End, exclusive.
    pub to_ms: i64,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, hex.
    pub hash: String,
    /// Points of this window in it.
    pub points: u64,
}

impl ManifestFile {
    /// Whether this is the same day's file as one that the window before names: both are read as one file with their joined range.
    pub fn continues(&self, before: &Self) -> bool {
        self.role == FileRole::Day && self.key == before.key && before.to_ms == self.from_ms
    }
}

/// What a build read and what became of it. Conservation: read = written + duplicates + corrupt + rejected.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Points that the envelopes promise.
    pub read: u64,
    /// Points in the files.
    pub written: u64,
    /// Points that lost to a greater one of the same series and timestamp (P4).
    pub duplicates: u64,
    /// Points undecodable, of another window, or outside the admitted limits.
    pub corrupt: u64,
    /// Points that went to the rejected ledger.
    pub rejected: u64,
    /// Points read from nodes that start at or beyond the closed seal; a part of `read`.
    pub late: u64,
}

impl Counts {
    /// Invariant B-1: nothing read is unaccounted for.
    pub fn balances(&self) -> bool {
        self.read == self.written + self.duplicates + self.corrupt + self.rejected
    }
}

/// Object `man/v1/{shard}/{T}/{g}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestDoc {
    /// Published or tombstone.
    pub kind: ManifestKind,
    /// Why it was cancelled; tombstones only.
    pub reason: Option<String>,
    /// Shard.
    pub shard: ShardId,
    /// Window start, Unix seconds.
    pub window: i64,
    /// Generation.
    pub g: u32,
    /// Seal it stands on.
    pub k: u32,
    /// Base generation; 0 without one.
    pub base_g: u32,
    /// SHA-256, hex, of the plan's bytes.
    pub plan_digest: String,
    /// Route version of the plan.
    pub route_version: u32,
    /// Files in order.
    pub files: Vec<ManifestFile>,
    /// What was read and what became of it.
    pub counts: Counts,
    /// Series in the files.
    pub series: u64,
    /// Latest point, Unix milliseconds; none when empty.
    pub max_timestamp_ms: Option<i64>,
    /// Greatest received_at of any input, Unix microseconds.
    pub received_at_max_us: i64,
    /// Offsets that are lost inside the range: (epoch, partition, start, next).
    pub holes: Vec<(u32, u32, u64, u64)>,
    /// Raw files left out.
    pub quarantined: Vec<String>,
    /// Encoder version.
    pub encoder: u32,
    /// Writer uuid.
    pub writer: String,
    /// Attempt id.
    pub attempt: String,
}

impl Document for ManifestDoc {
    const FORMAT: &'static str = crate::document_format!("manifest");
}

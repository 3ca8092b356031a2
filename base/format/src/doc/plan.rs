//! Plans: the fixed inputs of one generation. Nothing about machines, splits or budgets (those belong to the job).

use tailors_model::ShardId;

use super::Document;

/// Why a generation at the k of its base is planned; a plan at a higher k needs none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanReason {
    /// A newer seal.
    Seal,
    /// Inputs quarantined.
    Quarantine,
    /// The generation before was cancelled.
    Tombstone,
    /// Raw inputs are gone.
    RawGone,
    /// New format or encoder.
    Format,
    /// Overlays folded.
    Fold,
    /// Six windows into a day file.
    Day,
    /// A file was found damaged.
    Scrub,
}

/// A chain node: (epoch, partition, start).
pub type NodeRef = (u32, u32, u64);

/// Object `plan/v1/{shard}/{T}/{g}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanDoc {
    /// Shard.
    pub shard: ShardId,
    /// Window start, Unix seconds.
    pub window: i64,
    /// Generation, from 1.
    pub g: u32,
    /// Seal it stands on.
    pub k: u32,
    /// Newest published generation before it; 0 without one.
    pub base_g: u32,
    /// Why.
    pub reason: PlanReason,
    /// Highest route version of the seal and its nodes.
    pub route_version: u32,
    /// How many nodes are its input.
    pub nodes: u64,
    /// SHA-256, hex, over the sorted node list `epoch/partition/start\n`.
    pub nodes_digest: String,
    /// Points the envelopes promise after the org filter.
    pub points_expected: u64,
    /// Raw files left out.
    pub quarantine: Vec<String>,
    /// Encoder version; a worker of another one refuses the job.
    pub encoder: u32,
    /// Of a plan with reason `day`: the generations that its file is made of, as (window start in Unix seconds, g), in order. Not written where it
    /// is empty, so that other plans have the bytes that they always had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub day: Vec<(i64, u32)>,
}

impl Document for PlanDoc {
    const FORMAT: &'static str = crate::document_format!("plan");
}

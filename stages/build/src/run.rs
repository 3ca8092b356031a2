//! The recipe: inputs -> census -> buckets -> build -> assemble -> upload -> verify -> manifest value.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryPool;
use tailors_format::doc::{ManifestDoc, NodeDoc, NodeRef, PlanDoc};
use tailors_model::{Clock, RouteTable};
use tailors_store::objects::Objects;

use crate::{BuildError, Settings};

/// What a build needs from outside.
#[derive(Clone)]
pub struct BuildDeps {
    /// Where raw files are and chunk files go.
    pub objects: Objects,
    /// The job's share of the process' memory.
    pub memory: Arc<dyn MemoryPool>,
    /// For the job's timers; no byte of the output depends on it.
    pub clock: Arc<dyn Clock>,
    /// Writer uuid, for the manifest.
    pub writer: String,
    /// (epoch, partition) -> end of the closed seal: points of nodes that start at or beyond it are counted as late. Empty when the
    /// window has no closed seal yet.
    pub late_from: BTreeMap<(u32, u32), u64>,
}

/// What a build made.
#[derive(Clone, Debug)]
pub struct BuildOutput {
    /// The manifest to put at `key::manifest(shard, window, g)`; its files are stored and were read back.
    pub manifest: ManifestDoc,
    /// Raw bytes read, census included.
    pub raw_bytes_read: u64,
    /// Stage -> microseconds, for the job's history.
    pub stages_us: BTreeMap<String, u64>,
    /// Peak of the tracked memory, bytes.
    pub memory_peak_bytes: u64,
    /// Start of the run, Unix milliseconds.
    pub started_ms: i64,
    /// End of the run, Unix milliseconds.
    pub ended_ms: i64,
    /// Payloads read whose org belongs to another shard (left out, not counted as read).
    pub payloads_filtered: u64,
}

/// Runs `plan` over `nodes` (its input list, holes included) and uploads the files under `attempt`. Killed at any point: run it again.
pub async fn run(
    plan: &PlanDoc,
    nodes: &[(NodeRef, NodeDoc)],
    routes: &RouteTable,
    deps: BuildDeps,
    settings: &Settings,
    attempt: &str,
) -> Result<BuildOutput, BuildError> {
    // NOT FINISHED: inputs, census and the pure leaves are there; the second plan (runs, encode), upload and verify are not.
    let _ = (nodes, routes, deps, settings, attempt);
    Err(BuildError::Refused(format!("the build of generation {} is not written yet", plan.g)))
}

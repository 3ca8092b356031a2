//! One build as plain data, and how control has it run. Control depends on no stage: the binary wires `run_build`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use tailors_format::doc::{JobDoc, ManifestDoc, NodeDoc, NodeRef, PlanDoc};
use tailors_model::RouteTable;

/// One attempt at a plan.
#[derive(Clone, Debug)]
pub struct BuildJob {
    /// What to build.
    pub plan: PlanDoc,
    /// Its inputs, sorted by (epoch, partition, start); exactly those of `plan.nodes_digest`.
    pub nodes: Vec<(NodeRef, NodeDoc)>,
    /// The route table of `plan.route_version`.
    pub routes: RouteTable,
    /// Name of this attempt, unique for ever.
    pub attempt: String,
    /// (epoch, partition) -> end of the closed seal: points of nodes that start at or beyond it count as late. Empty before there is one.
    pub late_from: BTreeMap<(u32, u32), u64>,
}

/// Why an attempt failed, by remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JobError {
    /// Try again later (store away, disk full, memory).
    #[error("{0}")]
    Retry(String),
    /// A raw file can't be read as what the chain says it is.
    #[error("raw file {segment}: {why}")]
    Input {
        /// Key of the raw file.
        segment: String,
        /// What is wrong with it.
        why: String,
    },
    /// An invariant of ours does not hold (books don't balance, outputs differ).
    #[error("bug: {0}")]
    Bug(String),
    /// Stopped because the process ends.
    #[error("cancelled")]
    Cancelled,
}

/// Runs one attempt and returns the manifest (not yet put) and the attempt's history. Control fills in all that follows from the plan (shard,
/// window, g, k, base, plan digest, route version, encoder, writer, attempt, holes, quarantine list), so a builder may leave those as it likes.
pub type RunBuild = Arc<dyn Fn(BuildJob) -> BoxFuture<'static, Result<(ManifestDoc, JobDoc), JobError>> + Send + Sync>;

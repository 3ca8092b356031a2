//! One build as plain data, and how control has it run. Control depends on no stage: the binary wires `run_build`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use tailors_format::doc::{JobDoc, ManifestDoc, ManifestFile, NodeDoc, NodeRef, PlanDoc};
use tailors_model::{RouteTable, ShardId, Window};

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
    /// A raw file can't be read as what the chain says it is, or a window's file as what its manifest says.
    #[error("{segment}: {why}")]
    Input {
        /// Key of the file.
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

/// One attempt at a day's file.
#[derive(Clone, Debug)]
pub struct DayJob {
    /// Shard.
    pub shard: ShardId,
    /// The day's first window.
    pub day: Window,
    /// Published generations that the file is made of, in window order; those of the plans' `day`.
    pub inputs: Vec<ManifestDoc>,
    /// Plans that the file is for, in window order; the base of each is among the inputs.
    pub targets: Vec<PlanDoc>,
    /// Files that published generations of the same inputs name: taken instead of new ones if they hold what they should.
    pub made: Vec<ManifestFile>,
    /// Name of this attempt, unique for ever.
    pub attempt: String,
}

/// Runs one attempt at a day's file and returns, for each target in order, the files of its manifest, and the attempt's history.
pub type RunDay = Arc<dyn Fn(DayJob) -> BoxFuture<'static, Result<(Vec<Vec<ManifestFile>>, JobDoc), JobError>> + Send + Sync>;

//! Plans: the fixed inputs of a generation (protocol.md 2.4 step 1), and the history of attempts at them.

use sha2::{Digest, Sha256};
use tailors_format::doc::{Document, JobDoc, NodeRef, PlanDoc};
use tailors_format::key;
use tailors_model::{ShardId, Window};

use crate::objects::{Objects, PutDoc, StoreError};
use crate::seals::{misplaced, window_of};

/// Plan of generation g; `None` when it is not planned.
pub async fn get(objects: &Objects, shard: ShardId, window: Window, g: u32) -> Result<Option<PlanDoc>, StoreError> {
    let key = key::plan(shard, window, g);
    let plan: Option<PlanDoc> = objects.get_doc(&key).await?;
    match plan {
        Some(plan) if (plan.shard, plan.window, plan.g) != (shard, window.start_s(), g) => Err(misplaced("plan", &key)),
        plan => Ok(plan),
    }
}

/// Puts a plan; `Lost` brings the winner's, which the loser adopts.
pub async fn put_plan(objects: &Objects, plan: &PlanDoc) -> Result<PutDoc<PlanDoc>, StoreError> {
    objects.put_doc(&plan_key(plan)?, plan).await
}

/// SHA-256, hex, of a plan's bytes: `plan_digest` of its manifest.
pub fn digest(plan: &PlanDoc) -> Result<String, StoreError> {
    let key = plan_key(plan)?;
    let bytes = plan.to_bytes(&key).map_err(|error| StoreError::Fatal(format!("{key}: {error}")))?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// SHA-256, hex, over the sorted node list: `nodes_digest` of a plan.
pub fn nodes_digest(nodes: &[NodeRef]) -> String {
    let mut sorted = nodes.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    for (epoch, partition, start) in sorted {
        hash.update(format!("{epoch}/{partition}/{start}\n"));
    }
    hex(&hash.finalize())
}

/// Keeps the history of an attempt.
pub async fn put_job(
    objects: &Objects,
    shard: ShardId,
    window: Window,
    g: u32,
    attempt: &str,
    job: &JobDoc,
) -> Result<PutDoc<JobDoc>, StoreError> {
    objects.put_doc(&key::job(shard, window, g, attempt), job).await
}

fn plan_key(plan: &PlanDoc) -> Result<String, StoreError> {
    Ok(key::plan(plan.shard, window_of("plan", plan.window)?, plan.g))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

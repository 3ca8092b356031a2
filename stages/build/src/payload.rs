//! One payload of the raw source, checked and counted: what census and build have in common.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use tailors_format::payload::{Labels, Run, decode_labels, decode_runs, read_header};
use tailors_model::limits::{METRIC_BYTES_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX};
use tailors_model::{PayloadHeader, RouteTable, ShardId, Window};

use tailors_engine::EngineError;

use crate::inputs::Input;
use crate::labels::{Identity, identities};
use crate::merge::Order;
use crate::tally::PassCounts;

/// What a pass knows of its job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) shard: ShardId,
    pub(crate) window: Window,
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) inputs: Arc<Vec<Input>>,
}

/// A payload of this shard whose labels and runs are good.
pub(crate) struct Decoded<'a> {
    pub(crate) header: PayloadHeader,
    /// Order of its first point.
    pub(crate) order: Order,
    pub(crate) labels: Labels,
    pub(crate) identities: Vec<Identity>,
    pub(crate) runs: Vec<Run>,
    pub(crate) bytes: &'a [u8],
}

/// Hands the good payloads of a batch to `each` and counts all. Both passes count alike; the build's counts are the manifest's.
pub(crate) fn for_each<E: From<EngineError>>(
    job: &Job,
    batch: &RecordBatch,
    row: usize,
    counts: &mut PassCounts,
    each: impl FnOnce(&mut PassCounts, Decoded<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let extent = batch.column(0).as_primitive::<UInt32Type>().value(row);
    let offset = batch.column(1).as_primitive::<UInt64Type>().value(row);
    let bytes = batch.column(2).as_binary_view().value(row);
    let Some(input) = job.inputs.get(extent as usize) else {
        return Err(EngineError::Fatal(format!("row of extent {extent}, which the job has not")).into());
    };
    let raw = &input.extent;
    // Capture puts bad envelopes into section `none`; one in another section means a damaged segment.
    let damaged = |error: tailors_format::FormatError| EngineError::input(&raw.key, format!("offset {offset}: {error}"));
    let header = read_header(bytes).map_err(damaged)?;
    let points = u64::from(header.points);
    let at = counts.extents.entry(extent).or_default();
    *at = (at.0 + 1, at.1 + points);
    if job.routes.shard(header.org, job.window) != job.shard {
        counts.filtered_payloads += 1;
        counts.filtered_points += points;
        return Ok(());
    }
    counts.read += points;
    counts.late += if input.late { points } else { 0 };
    counts.received_at_max_us = counts.received_at_max_us.max(header.received_at_us);
    let decoded = if header.window == job.window { decode_labels(bytes).ok().zip(decode_runs(bytes).ok()) } else { None };
    let consistent = decoded.filter(|(labels, runs)| {
        is_well_formed(labels)
            && runs.iter().map(|run| u64::from(run.points)).sum::<u64>() == points
            && runs.iter().all(|run| (run.series as usize) < labels.series.len())
    });
    let Some((labels, runs)) = consistent else {
        counts.corrupt += points;
        return Ok(());
    };
    let order = Order { received_at_us: header.received_at_us, epoch: raw.epoch, partition: raw.partition, offset, index: 0 };
    let identities = identities(&labels);
    each(counts, Decoded { header, order, labels, identities, runs, bytes })
}

/// Whether every series is one that a chunk file can hold: canonical tags, names within their limits. Our intake never sends another; a payload that
/// breaks it is undecodable like one of broken bytes, and no reason to fail everybody's build.
fn is_well_formed(labels: &Labels) -> bool {
    labels.metrics.iter().all(|metric| metric.len() <= METRIC_BYTES_MAX)
        && labels.tags.iter().all(|tag| tag.key.len() <= TAG_KEY_BYTES_MAX && tag.value.len() <= TAG_VALUE_BYTES_MAX)
        && labels.series.iter().all(|series| labels.tags_of(series).is_sorted_by(|a, b| a < b))
}

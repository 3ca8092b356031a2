//! The recipe: inputs -> census -> buckets -> build -> assemble -> upload -> verify -> manifest value.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::compute::SortOptions;
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use tailors_engine::{
    EngineError, LocalSession, RawExtent, RawKeep, RawSource, RawSplitExec, StreamExec, StreamFn, find_error, is_out_of_memory, plan_splits,
};
use tailors_format::chunk::{ChunkFile, ENCODER_VERSION, EncodedBucket, Span, assemble, verify_file};
use tailors_format::doc::{Counts, FileRole, ManifestDoc, ManifestFile, ManifestKind, NodeDoc, NodeRef, PlanDoc};
use tailors_format::key;
use tailors_model::window::WINDOW_MS;
use tailors_model::{Clock, RouteTable, ShardId, Window};
use tailors_store::objects::Objects;
use tailors_store::{manifests, plans};

use crate::census::census;
use crate::encode::{Encoded, Encoder, Shared};
use crate::inputs::{Inputs, inputs};
use crate::operator::drive;
use crate::payload::Job;
use crate::row;
use crate::runs::{BATCH_ROWS, Rows};
use crate::tally::{PassCounts, Tally};
use crate::{BuildError, Settings};

/// Rows of the census' batches.
const CENSUS_BATCH_ROWS: usize = 8_192;

/// What a build needs from outside.
#[derive(Clone)]
pub struct BuildDeps {
    /// Where raw files are and chunk files go.
    pub objects: Objects,
    /// The job's share of the process' memory. A `FairSpillPool`: in a greedy one the first sort takes all, and the next has nothing to spill.
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
///
/// # Errors
/// Nothing is published in any case; what to do is the variant of [`BuildError`].
pub async fn run(
    plan: &PlanDoc,
    nodes: &[(NodeRef, NodeDoc)],
    routes: &RouteTable,
    deps: BuildDeps,
    settings: &Settings,
    attempt: &str,
) -> Result<BuildOutput, BuildError> {
    let window = check_plan(plan)?;
    let mut timer = Timer::start(Arc::clone(&deps.clock));
    let started_ms = deps.clock.now_ms();
    let Inputs { extents, holes } = inputs(plan, window, nodes, routes, &deps.late_from)?;
    let bytes_read = Arc::new(AtomicU64::new(0));
    let raw: Vec<RawExtent> = extents.iter().map(|input| input.extent.clone()).collect();
    let splits = plan_splits(&deps.objects, &raw, settings.split_bytes, &bytes_read).await.map_err(raw_error)?;
    timer.lap("inputs");
    let job = Job { shard: plan.shard, window, routes: Arc::new(routes.clone()), inputs: Arc::new(extents) };
    let session = LocalSession::new(settings.cores, CENSUS_BATCH_ROWS, Arc::clone(&deps.memory), settings.spill_dir.clone());
    let session = session.map_err(plan_error)?;
    let keep = Arc::new(RawKeep::new(&session.memory(), keep_bytes_max(settings, &deps.memory)));
    let source = RawSource {
        objects: deps.objects.clone(),
        extents: Arc::new(raw),
        splits: Arc::new(splits),
        fetch_bytes_max: settings.fetch_bytes_max,
        bytes_read: Arc::clone(&bytes_read),
        keep: Some(Arc::clone(&keep)),
    };
    let Built { encoded, counts, series } = build(&session, source, &keep, &job, settings.cores.max(1), &mut timer).await?;
    check_inputs(plan, &job, &counts)?;
    let written = encoded.buckets.values().map(EncodedBucket::points).sum();
    let totals =
        Counts { read: counts.read, written, duplicates: encoded.duplicates, corrupt: counts.corrupt, rejected: 0, late: counts.late };
    if !totals.balances() {
        return Err(BuildError::Bug(format!("B-1: what was read is not what became of it: {totals:?}")));
    }
    let output = upload(plan, window, encoded, &deps.objects, attempt, &mut timer).await?;
    let manifest = ManifestDoc {
        kind: ManifestKind::Published,
        reason: None,
        shard: plan.shard,
        window: plan.window,
        g: plan.g,
        k: plan.k,
        base_g: plan.base_g,
        plan_digest: plans::digest(plan)?,
        route_version: plan.route_version,
        files: output.files,
        counts: totals,
        series,
        max_timestamp_ms: output.max_ms,
        received_at_max_us: counts.received_at_max_us,
        holes,
        quarantined: plan.quarantine.clone(),
        encoder: ENCODER_VERSION,
        writer: deps.writer.clone(),
        attempt: attempt.to_owned(),
    };
    Ok(BuildOutput {
        manifest,
        raw_bytes_read: bytes_read.load(Ordering::Relaxed),
        stages_us: timer.stages_us,
        memory_peak_bytes: session.memory_peak_bytes(),
        started_ms,
        ended_ms: deps.clock.now_ms(),
        payloads_filtered: counts.filtered_payloads,
    })
}

/// Bytes of raw data that may be kept for the second plan: at most a quarter of the pool, since the sorts of that plan need room to begin at all.
fn keep_bytes_max(settings: &Settings, memory: &Arc<dyn MemoryPool>) -> u64 {
    match memory.memory_limit() {
        MemoryLimit::Finite(bytes) => settings.keep_raw_bytes_max.min(bytes as u64 / 4),
        MemoryLimit::Infinite | MemoryLimit::Unknown => settings.keep_raw_bytes_max,
    }
}

/// Whether this worker may run the plan; its window.
fn check_plan(plan: &PlanDoc) -> Result<Window, BuildError> {
    if plan.encoder != ENCODER_VERSION {
        return Err(BuildError::Refused(format!("plan {} is for encoder {}, this is encoder {ENCODER_VERSION}", plan.g, plan.encoder)));
    }
    Window::starting_at_s(plan.window).ok_or_else(|| BuildError::Bug(format!("{} is no window", plan.window)))
}

/// What the two plans gave.
struct Built {
    encoded: Encoded,
    counts: PassCounts,
    /// Distinct series with points.
    series: u64,
}

/// Census, then build.
async fn build(
    session: &LocalSession,
    source: RawSource,
    keep: &RawKeep,
    job: &Job,
    cores: usize,
    timer: &mut Timer,
) -> Result<Built, BuildError> {
    let tally = Arc::new(Tally::default());
    let buckets = Arc::new(census(session, source.clone(), job, &tally, cores).await.map_err(plan_error)?);
    keep.stop();
    timer.lap("census");
    let shared = Arc::new(Shared { buckets, metas: tally.take_metas(), encoded: Mutex::default() });
    let pass = Arc::new(Tally::default());
    let session = session.with_batch_rows(BATCH_ROWS);
    let physical = build_plan(source, job, &pass, &shared, cores).map_err(plan_error)?;
    let done = session.collect(physical).await;
    keep.clear();
    done.map_err(plan_error)?;
    timer.lap("build");
    let encoded = shared.take();
    let series = shared.buckets.series_in(encoded.buckets.iter().map(|(number, bucket)| (*number, bucket.series())));
    Ok(Built { encoded, counts: pass.counts(), series })
}

/// raw splits -> rows -> repartition by bucket -> sort by bucket -> encode.
fn build_plan(source: RawSource, job: &Job, pass: &Arc<Tally>, shared: &Arc<Shared>, cores: usize) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let (job, pass, buckets) = (job.clone(), Arc::clone(pass), Arc::clone(&shared.buckets));
    let rows: StreamFn = Arc::new(move |input, context| {
        let rows = Rows::new(job.clone(), Arc::clone(&buckets), Arc::clone(&pass), context.memory_pool());
        drive(input, rows, row::schema())
    });
    let raw: Arc<dyn ExecutionPlan> = Arc::new(RawSplitExec::new(source, cores));
    let rows: Arc<dyn ExecutionPlan> = Arc::new(StreamExec::new("RowsExec", raw, row::schema(), rows));
    let bucket = col("bucket", &row::schema())?;
    let spread = RepartitionExec::try_new(rows, Partitioning::Hash(vec![Arc::clone(&bucket)], cores))?;
    let options = SortOptions { descending: false, nulls_first: false };
    let order = LexOrdering::new([PhysicalSortExpr::new(bucket, options)]);
    let order = order.ok_or_else(|| DataFusionError::Internal("no sort columns".to_owned()))?;
    let sorted: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(order, Arc::new(spread)).with_preserve_partitioning(true));
    let shared = Arc::clone(shared);
    let encode: StreamFn =
        Arc::new(move |input, context| drive(input, Encoder::new(Arc::clone(&shared), context.memory_pool()), row::schema()));
    Ok(Arc::new(StreamExec::new("EncodeExec", sorted, row::schema(), encode)))
}

/// What was read must be what the chain and the plan promise.
fn check_inputs(plan: &PlanDoc, job: &Job, counts: &PassCounts) -> Result<(), BuildError> {
    for (number, input) in (0u32..).zip(job.inputs.iter()) {
        let (payloads, points) = counts.extents.get(&number).copied().unwrap_or_default();
        if (payloads, points) != (input.payloads, input.points) {
            let raw = &input.extent;
            let why = format!(
                "bytes {}..{} hold {payloads} payloads with {points} points, its node says {} with {}",
                raw.start, raw.end, input.payloads, input.points
            );
            return Err(BuildError::Input { segment: raw.key.clone(), why });
        }
    }
    // A plan counts sections, which may hold payloads of other shards.
    let seen = counts.read + counts.filtered_points;
    if plan.points_expected == seen || plan.points_expected == counts.read {
        return Ok(());
    }
    Err(BuildError::Bug(format!(
        "{seen} points in the extents, {} of them this shard's, the plan expects {}",
        counts.read, plan.points_expected
    )))
}

/// Files as the manifest names them.
struct Uploaded {
    files: Vec<ManifestFile>,
    max_ms: Option<i64>,
}

/// Assembles, uploads, reads back and verifies.
async fn upload(
    plan: &PlanDoc,
    window: Window,
    encoded: Encoded,
    objects: &Objects,
    attempt: &str,
    timer: &mut Timer,
) -> Result<Uploaded, BuildError> {
    let shard = plan.shard;
    let span = Span { start_ms: window.start_ms(), span_ms: WINDOW_MS as u32 };
    let buckets: Vec<EncodedBucket> = encoded.buckets.into_values().collect();
    let files = blocking(move || assemble(shard, span, buckets)).await?.map_err(|error| BuildError::Bug(error.to_string()))?;
    timer.lap("assemble");
    let mut out = Uploaded { files: Vec::with_capacity(files.len()), max_ms: None };
    for (number, file) in (0u32..).zip(files) {
        let ChunkFile { bytes, points, min_ms, max_ms, .. } = file;
        let key = key::chunk(shard, window, plan.g, attempt, number);
        let bytes = Bytes::from(bytes);
        objects.put_data(&key, bytes.clone()).await?;
        timer.lap("upload");
        let back = objects.get(&key).await?;
        let (len, at) = (bytes.len() as u64, key.clone());
        let hash = blocking(move || verify(shard, &at, &bytes, &back, points)).await??;
        timer.lap("verify");
        if min_ms < window.start_ms() || max_ms >= window.end_ms() {
            return Err(BuildError::Bug(format!("{key} holds points of another window")));
        }
        let (from_ms, to_ms) = (window.start_ms(), window.end_ms());
        out.files.push(ManifestFile { key, role: FileRole::Base, from_ms, to_ms, bytes: len, hash, points });
        out.max_ms = out.max_ms.max(Some(max_ms));
    }
    Ok(out)
}

/// Whether the stored file is the one made, and reads back whole; its SHA-256, hex.
fn verify(shard: ShardId, key: &str, made: &Bytes, stored: &Bytes, points: u64) -> Result<String, BuildError> {
    if made != stored {
        return Err(BuildError::Retry(format!("{key} came back with other bytes than were put")));
    }
    let index = verify_file(shard, stored).map_err(|error| BuildError::Bug(format!("{key}: {error}")))?;
    let indexed: u64 = index.metrics().iter().map(|metric| metric.points).sum();
    if indexed != points {
        return Err(BuildError::Bug(format!("{key}: {indexed} points in its index, {points} were written")));
    }
    Ok(manifests::file_hash(stored))
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BuildError::Bug(error.to_string()))
}

fn raw_error(error: EngineError) -> BuildError {
    match error {
        EngineError::Retry(why) => BuildError::Retry(why),
        EngineError::Input { segment, why } => BuildError::Input { segment, why },
        EngineError::Fatal(why) => BuildError::Fatal(why),
    }
}

/// The error as it went into the plan, out of DataFusion's wrapping.
fn plan_error(error: DataFusionError) -> BuildError {
    if let Some(raw) = find_error::<EngineError>(&error) {
        return raw_error(raw.clone());
    }
    if let Some(BuildError::Collision(why)) = find_error::<BuildError>(&error) {
        return BuildError::Collision(why.clone());
    }
    if is_out_of_memory(&error) {
        return BuildError::Memory(error.to_string());
    }
    // Of a spill file: the disk is full or failing. Writes to it come wrapped by arrow, so the root that DataFusion names is not enough.
    if let Some(io) = find_error::<std::io::Error>(&error) {
        return BuildError::Retry(format!("spilling: {io}"));
    }
    BuildError::Bug(error.to_string())
}

/// Where the time went.
pub(crate) struct Timer {
    clock: Arc<dyn Clock>,
    last_us: i64,
    pub(crate) stages_us: BTreeMap<String, u64>,
}

impl Timer {
    pub(crate) fn start(clock: Arc<dyn Clock>) -> Self {
        let last_us = clock.now_us();
        Self { clock, last_us, stages_us: BTreeMap::new() }
    }

    /// What passed since the last lap was this stage's.
    pub(crate) fn lap(&mut self, stage: &str) {
        let now_us = self.clock.now_us();
        // A clock may go back.
        *self.stages_us.entry(stage.to_owned()).or_default() += u64::try_from(now_us - self.last_us).unwrap_or(0);
        self.last_us = now_us;
    }
}

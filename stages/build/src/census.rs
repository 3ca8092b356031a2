//! First plan: raw splits -> (org, metric, key, points) per payload -> repartition -> aggregate -> sort -> bucket edges.
//!
//! Rows are added up per task before they leave it, so the exchange carries series, not runs.

use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, FixedSizeBinaryArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use futures::TryStreamExt;
use hashbrown::HashMap;
use tailors_engine::{LocalSession, RawSource, RawSplitExec, StreamExec, StreamFn};
use tailors_model::{MetricKind, OrgId};

use crate::buckets::{Buckets, BucketsBuilder};
use crate::merge::Order;
use crate::operator::{Operator, drive};
use crate::payload::{Decoded, Job, for_each};
use crate::tally::{Metas, PassCounts, Tally};

/// Series that a task adds up before it hands them on.
const TASK_SERIES_MAX: usize = 1 << 16;
/// Bytes of one of them, map included.
const SERIES_BYTES: usize = 64;
/// Series in one batch.
const BATCH_SERIES: usize = 8_192;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("org", DataType::UInt32, false),
        Field::new("metric", DataType::Binary, false),
        Field::new("key", DataType::FixedSizeBinary(16), false),
        Field::new("points", DataType::UInt64, false),
    ]))
}

/// Runs the census.
pub(crate) async fn census(session: &LocalSession, source: RawSource, job: &Job, tally: &Arc<Tally>, cores: usize) -> PlanResult<Buckets> {
    let mut rows = session.stream(plan(source, job, tally, cores)?)?;
    let mut builder = BucketsBuilder::default();
    while let Some(batch) = rows.try_next().await? {
        let (orgs, metrics) = (batch.column(0).as_primitive::<UInt32Type>(), batch.column(1).as_binary::<i32>());
        let (keys, points) = (batch.column(2).as_fixed_size_binary(), batch.column(3).as_primitive::<UInt64Type>());
        for row in 0..batch.num_rows() {
            let key = keys.value(row).try_into().map(u128::from_be_bytes).map_err(|_| DataFusionError::Internal("key".to_owned()))?;
            builder.push(OrgId(orgs.value(row)), metrics.value(row), key, points.value(row));
        }
    }
    Ok(builder.finish())
}

fn plan(source: RawSource, job: &Job, tally: &Arc<Tally>, cores: usize) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let (job, tally) = (job.clone(), Arc::clone(tally));
    let function: StreamFn =
        Arc::new(move |input, context| drive(input, State::new(job.clone(), Arc::clone(&tally), context.memory_pool()), schema()));
    let raw: Arc<dyn ExecutionPlan> = Arc::new(RawSplitExec::new(source, cores));
    let rows: Arc<dyn ExecutionPlan> = Arc::new(StreamExec::new("CensusExec", raw, schema(), function));
    let names = ["org", "metric", "key"];
    let group = names.iter().map(|name| Ok((col(name, &schema())?, (*name).to_owned()))).collect::<PlanResult<Vec<_>>>()?;
    let hash = group.iter().map(|(expr, _)| Arc::clone(expr)).collect();
    let spread: Arc<dyn ExecutionPlan> = Arc::new(RepartitionExec::try_new(rows, Partitioning::Hash(hash, cores))?);
    let sum = AggregateExprBuilder::new(sum_udaf(), vec![col("points", &schema())?]).schema(schema()).alias("points").build()?;
    let by = PhysicalGroupBy::new_single(group);
    let added = AggregateExec::try_new(AggregateMode::SinglePartitioned, by, vec![Arc::new(sum)], vec![None], spread, schema())?;
    let added: Arc<dyn ExecutionPlan> = Arc::new(added);
    let sort = |name: &&str| {
        let options = SortOptions { descending: false, nulls_first: false };
        Ok(PhysicalSortExpr::new(col(name, &added.schema())?, options))
    };
    let order = LexOrdering::new(names.iter().map(sort).collect::<PlanResult<Vec<_>>>()?);
    let order = order.ok_or_else(|| DataFusionError::Internal("no sort columns".to_owned()))?;
    let sorted = Arc::new(SortExec::new(order.clone(), Arc::clone(&added)).with_preserve_partitioning(true));
    Ok(Arc::new(SortPreservingMergeExec::new(order, sorted)))
}

/// One task of the census.
struct State {
    job: Job,
    tally: Arc<Tally>,
    reservation: MemoryReservation,
    counts: PassCounts,
    metas: Metas,
    metrics: HashMap<(OrgId, Bytes), u32>,
    names: Vec<(OrgId, Bytes)>,
    points: HashMap<(u32, u128), u64>,
}

impl State {
    fn new(job: Job, tally: Arc<Tally>, memory: &Arc<dyn MemoryPool>) -> Self {
        Self {
            job,
            tally,
            reservation: MemoryConsumer::new("census").register(memory),
            counts: PassCounts::default(),
            metas: Metas::default(),
            metrics: HashMap::new(),
            names: Vec::new(),
            points: HashMap::new(),
        }
    }

    fn add(&mut self, payload: &Decoded<'_>) {
        let org = payload.header.org;
        self.add_metas(payload);
        let mut numbers = Vec::with_capacity(payload.labels.metrics.len());
        for metric in &payload.labels.metrics {
            let known = self.metrics.get(&(org, metric.clone())).copied();
            numbers.push(known.unwrap_or_else(|| {
                let (number, name) = (self.names.len() as u32, Bytes::copy_from_slice(metric));
                self.names.push((org, name.clone()));
                self.metrics.insert((org, name), number);
                number
            }));
        }
        for run in &payload.runs {
            // `for_each` checked the series number, decode_labels the metric's.
            let series = &payload.labels.series[run.series as usize];
            let at = (numbers[series.metric as usize], payload.identities[run.series as usize].key);
            *self.points.entry(at).or_default() += u64::from(run.points);
        }
    }

    /// Metadata of metrics, as series say it and as it came without samples.
    fn add_metas(&mut self, payload: &Decoded<'_>) {
        let (org, labels, none) = (payload.header.org, &payload.labels, Bytes::new());
        let mut last: Option<(u32, MetricKind, &Bytes, u32)> = None;
        for (index, series) in labels.series.iter().enumerate() {
            let said = (series.metric, series.kind, &series.unit, series.interval_s);
            if series.kind == MetricKind::Unknown && series.unit.is_empty() && series.interval_s == 0 || last == Some(said) {
                continue;
            }
            last = Some(said);
            let order = Order { index: index as u32, ..payload.order };
            self.metas.of(org, &labels.metrics[series.metric as usize]).say(order, series.kind, &series.unit, series.interval_s, &none);
        }
        for (number, (metric, meta)) in labels.metadata.iter().enumerate() {
            let Some(name) = labels.metrics.get(*metric as usize) else { continue };
            // What is said of a metric as such counts more than what one of its series says in the same payload.
            let index = (labels.series.len() + number) as u32;
            let order = Order { index, ..payload.order };
            self.metas.of(org, name).say(order, meta.kind, &meta.unit, meta.interval_s, &meta.help);
        }
    }

    fn flush(&mut self) -> PlanResult<Vec<RecordBatch>> {
        self.reservation.try_resize(self.points.len() * SERIES_BYTES)?;
        // Drained in the map's order: what follows sorts.
        let rows: Vec<((u32, u128), u64)> = self.points.drain().collect();
        rows.chunks(BATCH_SERIES).map(|rows| self.batch(rows)).collect()
    }

    fn batch(&self, rows: &[((u32, u128), u64)]) -> PlanResult<RecordBatch> {
        let name = |metric: u32| &self.names[metric as usize];
        let orgs = UInt32Array::from_iter_values(rows.iter().map(|((metric, _), _)| name(*metric).0.0));
        let metrics = BinaryArray::from_iter_values(rows.iter().map(|((metric, _), _)| &name(*metric).1));
        // Big-endian, so that bytes sort as the numbers do.
        let keys = FixedSizeBinaryArray::try_from_iter(rows.iter().map(|((_, key), _)| key.to_be_bytes()))?;
        let points = UInt64Array::from_iter_values(rows.iter().map(|(_, points)| *points));
        Ok(RecordBatch::try_new(schema(), vec![Arc::new(orgs), Arc::new(metrics), Arc::new(keys), Arc::new(points)])?)
    }
}

impl Operator for State {
    async fn take(&mut self, batch: &RecordBatch) -> PlanResult<Vec<RecordBatch>> {
        for row in 0..batch.num_rows() {
            let mut counts = std::mem::take(&mut self.counts);
            let job = self.job.clone();
            let taken = for_each::<DataFusionError>(&job, batch, row, &mut counts, |_, payload| {
                self.add(&payload);
                Ok(())
            });
            self.counts = counts;
            taken?;
            tokio::task::yield_now().await;
        }
        if self.points.len() >= TASK_SERIES_MAX { self.flush() } else { Ok(Vec::new()) }
    }

    async fn finish(mut self) -> PlanResult<Vec<RecordBatch>> {
        self.tally.add(&self.counts);
        self.tally.add_metas(std::mem::take(&mut self.metas));
        if self.points.is_empty() { Ok(Vec::new()) } else { self.flush() }
    }
}

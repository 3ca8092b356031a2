//! First half of the build plan: payloads -> rows, points rechecked one by one, sorted into buckets.
//!
//! A task gathers some MiB per bucket before it lets rows go, so that tags travel once per row instead of once per payload.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use hashbrown::HashMap;
use tailors_format::payload::{Points, Run, decode_points};
use tailors_model::window::WINDOW_MS;

use crate::buckets::{Buckets, MetricBuckets, Place};
use crate::merge::Order;
use crate::operator::Operator;
use crate::payload::{Decoded, Job, for_each};
use crate::row::{NewRun, ROW_POINTS_MAX, RowBuilder, batch};
use crate::tally::{PassCounts, Tally};

/// Bytes of open rows at which a task lets them go.
const TASK_BYTES_MAX: usize = 8 << 20;
/// Rows in one batch, of the operators behind too: at most 0.8 MiB, so that a sort can begin, and has something to spill, within a small budget.
pub(crate) const BATCH_ROWS: usize = 8;

/// One task of the first half.
pub(crate) struct Rows {
    job: Job,
    buckets: Arc<Buckets>,
    tally: Arc<Tally>,
    reservation: MemoryReservation,
    counts: PassCounts,
    gather: Gather,
}

/// Rows that grow, and those that are full.
#[derive(Default)]
struct Gather {
    open: HashMap<u32, RowBuilder>,
    full: Vec<(u32, RowBuilder)>,
    bytes: usize,
    stamps: Vec<u32>,
}

impl Rows {
    pub(crate) fn new(job: Job, buckets: Arc<Buckets>, tally: Arc<Tally>, memory: &Arc<dyn MemoryPool>) -> Self {
        let reservation = MemoryConsumer::new("build rows").register(memory);
        Self { job, buckets, tally, reservation, counts: PassCounts::default(), gather: Gather::default() }
    }

    fn flush(&mut self) -> PlanResult<Vec<RecordBatch>> {
        let mut rows = std::mem::take(&mut self.gather.full);
        rows.extend(self.gather.open.drain());
        self.gather.bytes = 0;
        let batches = rows.chunks(BATCH_ROWS).map(batch).collect();
        self.reservation.free();
        batches
    }
}

impl Operator for Rows {
    async fn take(&mut self, batch: &RecordBatch) -> PlanResult<Vec<RecordBatch>> {
        let mut out = Vec::new();
        for row in 0..batch.num_rows() {
            let (buckets, gather) = (&self.buckets, &mut self.gather);
            for_each::<DataFusionError>(&self.job, batch, row, &mut self.counts, |counts, payload| gather.add(buckets, counts, &payload))?;
            // Grown, not asked for: a task can't go below its own few MiB, the sort behind it can spill.
            let more = self.gather.bytes.saturating_sub(self.reservation.size());
            self.reservation.grow(more);
            if self.gather.bytes >= TASK_BYTES_MAX {
                out.append(&mut self.flush()?);
            }
            tokio::task::yield_now().await;
        }
        Ok(out)
    }

    async fn finish(mut self) -> PlanResult<Vec<RecordBatch>> {
        self.tally.add(&self.counts);
        self.flush()
    }
}

impl Gather {
    fn add(&mut self, buckets: &Buckets, counts: &mut PassCounts, payload: &Decoded<'_>) -> PlanResult<()> {
        let decoded = decode_points(payload.bytes, &payload.runs).ok().filter(|points| is_whole(&payload.runs, points));
        let Some(points) = decoded else {
            counts.corrupt += u64::from(payload.header.points);
            return Ok(());
        };
        let edges: Vec<Option<MetricBuckets<'_>>> =
            payload.labels.metrics.iter().map(|metric| buckets.of_metric(payload.header.org, metric)).collect();
        let admitted = Admitted::of(payload);
        let (mut stamps, mut first, mut irregular) = (std::mem::take(&mut self.stamps), 0usize, 0usize);
        for run in &payload.runs {
            let length = run.points as usize;
            stamps.clear();
            if run.is_irregular() {
                stamps.extend_from_slice(&points.timestamps[irregular..irregular + length]);
                irregular += length;
            } else {
                stamps.extend((0..run.points).map(|at| run.first_ms.wrapping_add(at.wrapping_mul(run.step_ms))));
            }
            let series = &payload.labels.series[run.series as usize];
            let place = edges[series.metric as usize].and_then(|edges| edges.place(payload.identities[run.series as usize].key));
            let place = place.ok_or_else(|| DataFusionError::Internal("a series that the census has not seen".to_owned()))?;
            let at = RunAt { run, first: first as u32, place, admitted };
            counts.corrupt += self.add_run(payload, &at, &stamps, &points.values[first..first + length])?;
            first += length;
        }
        self.stamps = stamps;
        Ok(())
    }

    /// Appends the good points of a run, in stretches of one bucket; how many were not good.
    fn add_run(&mut self, payload: &Decoded<'_>, run: &RunAt<'_>, stamps: &[u32], values: &[f64]) -> PlanResult<u64> {
        let (mut at, mut corrupt) = (0, 0);
        while let Some(stamp) = stamps.get(at) {
            if !run.admitted.holds(*stamp) {
                (at, corrupt) = (at + 1, corrupt + 1);
                continue;
            }
            let bucket = run.place.bucket(*stamp);
            let same = |stamp: &&u32| run.admitted.holds(**stamp) && (run.place.slice_bits == 0 || run.place.bucket(**stamp) == bucket);
            let end = at + stamps[at..].iter().take(ROW_POINTS_MAX).take_while(same).count();
            let number = run.run.series as usize;
            let new = NewRun {
                order: Order { index: run.first + at as u32, ..payload.order },
                identity: payload.identities[number],
                series: &payload.labels.series[number],
                timestamps: &stamps[at..end],
                values: &values[at..end],
            };
            let row = self.open.entry(bucket).or_default();
            if row.points() > 0 && row.points() + (end - at) > ROW_POINTS_MAX {
                self.full.push((bucket, std::mem::take(row)));
            }
            let before = row.bytes();
            row.push(&new, payload.labels.tags_of(new.series))?;
            self.bytes += row.bytes() - before;
            at = end;
        }
        Ok(corrupt)
    }
}

/// A run and where it stands.
struct RunAt<'a> {
    run: &'a Run,
    /// Position of its first point in the payload.
    first: u32,
    place: Place,
    admitted: Admitted,
}

/// The times that a payload's envelope admits, as offsets in the window.
#[derive(Clone, Copy)]
struct Admitted {
    from: i64,
    to: i64,
}

impl Admitted {
    fn of(payload: &Decoded<'_>) -> Self {
        let start = payload.header.window.start_ms();
        let from = payload.header.admitted_from_ms.saturating_sub(start).max(0);
        Self { from, to: payload.header.admitted_to_ms.saturating_sub(start).min(WINDOW_MS - 1) }
    }

    fn holds(self, offset_ms: u32) -> bool {
        (self.from..=self.to).contains(&i64::from(offset_ms))
    }
}

/// Whether the point block has as many of everything as the runs say.
fn is_whole(runs: &[Run], points: &Points) -> bool {
    let count = |runs: &mut dyn Iterator<Item = &Run>| runs.map(|run| run.points as usize).sum::<usize>();
    count(&mut runs.iter()) == points.values.len() && count(&mut runs.iter().filter(|run| run.is_irregular())) == points.timestamps.len()
}

//! Second half of the build plan: rows sorted by bucket -> encoded buckets, one at a time per partition, on the blocking pool.
//!
//! Encoded buckets leave by the side, in a map by number: they are no rows, and the file wants them in that order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use hashbrown::HashMap;
use tailors_format::chunk::{BucketInput, EncodedBucket, SeriesColumn, encode_bucket};
use tailors_model::{MetricMeta, OrgId};

use crate::buckets::Buckets;
use crate::labels::get_tags;
use crate::merge::{Order, RunPoints, merge};
use crate::operator::Operator;
use crate::row::{Row, collision, internal, points};
use crate::tally::{BestMeta, Metas};

/// What the partitions made.
#[derive(Default, Debug)]
pub(crate) struct Encoded {
    /// Bucket -> what became of it.
    pub(crate) buckets: BTreeMap<u32, EncodedBucket>,
    /// Points that lost (P4).
    pub(crate) duplicates: u64,
}

/// What all partitions share.
pub(crate) struct Shared {
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) metas: Metas,
    pub(crate) encoded: Mutex<Encoded>,
}

impl Shared {
    /// The result; empty afterwards.
    pub(crate) fn take(&self) -> Encoded {
        std::mem::take(&mut self.encoded.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One task of the second half.
pub(crate) struct Encoder {
    shared: Arc<Shared>,
    reservation: MemoryReservation,
    /// Bytes of it that encoded buckets hold.
    encoded_bytes: usize,
    open: Option<Open>,
}

impl Encoder {
    pub(crate) fn new(shared: Arc<Shared>, memory: &Arc<dyn MemoryPool>) -> Self {
        let reservation = MemoryConsumer::new("bucket encoding").register(memory);
        Self { shared, reservation, encoded_bytes: 0, open: None }
    }

    /// Encodes what is open.
    async fn close(&mut self) -> PlanResult<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let bucket = open.bucket;
        let name = self.shared.buckets.metric(bucket).cloned();
        let (org, metric) = name.ok_or_else(|| DataFusionError::Internal(format!("a row of bucket {bucket}, which is none")))?;
        let meta = self.shared.metas.value(&(org, metric.clone()));
        let work = tokio::task::spawn_blocking(move || open.encode(org, metric, meta));
        let (encoded, duplicates) = work.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
        self.encoded_bytes += encoded.memory_bytes();
        self.reservation.resize(self.encoded_bytes);
        let mut all = self.shared.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        all.duplicates += duplicates;
        match all.buckets.insert(bucket, encoded) {
            None => Ok(()),
            Some(_) => Err(DataFusionError::Internal(format!("bucket {bucket} came twice"))),
        }
    }
}

impl Operator for Encoder {
    async fn take(&mut self, batch: &RecordBatch) -> PlanResult<Vec<RecordBatch>> {
        let mut number = None;
        for at in 0..batch.num_rows() {
            let row = Row::of(batch, at)?;
            let bucket = row.bucket;
            if self.open.as_ref().is_some_and(|open| open.bucket != bucket) {
                self.close().await?;
                number = None;
            }
            let open = self.open.get_or_insert_with(|| Open { bucket, ..Open::default() });
            let batch_number = *number.get_or_insert_with(|| {
                // Grown, not asked for: a bucket has a fixed size, and the sort before it can spill. Twice: rows, then columns.
                self.reservation.grow(2 * batch.get_array_memory_size());
                open.batches.push(batch.clone());
                open.batches.len() as u32 - 1
            });
            open.add(batch_number, at as u32, &row)?;
        }
        Ok(Vec::new())
    }

    async fn finish(mut self) -> PlanResult<Vec<RecordBatch>> {
        self.close().await?;
        Ok(Vec::new())
    }
}

/// A bucket whose rows are still coming.
#[derive(Default)]
struct Open {
    bucket: u32,
    batches: Vec<RecordBatch>,
    /// (batch, row in it).
    rows: Vec<(u32, u32)>,
    payloads: Vec<Order>,
    numbers: HashMap<u128, u32>,
    series: Vec<OpenSeries>,
    runs: Vec<OpenRun>,
}

struct OpenSeries {
    print: u64,
    /// As they travel.
    tags: Box<[u8]>,
    meta: BestMeta,
    runs: u32,
}

/// A run, by numbers: there may be millions.
#[derive(Clone, Copy)]
struct OpenRun {
    series: u32,
    payload: u32,
    index: u32,
    row: u32,
    /// First point in the row.
    start: u32,
    points: u32,
}

impl Open {
    fn add(&mut self, batch: u32, at: u32, row: &Row<'_>) -> PlanResult<()> {
        let row_number = self.rows.len() as u32;
        self.rows.push((batch, at));
        let first_payload = self.payloads.len() as u32;
        self.payloads.extend_from_slice(&row.payloads);
        let numbers = row.series.iter().map(|series| self.number(series)).collect::<PlanResult<Vec<u32>>>()?;
        let bad = || DataFusionError::Internal("a row whose runs are not its own".to_owned());
        let (mut start, none) = (0u32, Bytes::new());
        for run in row.runs() {
            let number = *numbers.get(run.series as usize).ok_or_else(bad)?;
            let payload = *row.payloads.get(run.payload as usize).ok_or_else(bad)?;
            let series = &mut self.series[number as usize];
            series.runs += 1;
            if let Some(meta) = run.meta {
                let (kind, interval_s, unit) = row.metas.get(meta as usize).ok_or_else(bad)?;
                series.meta.say(Order { index: run.index, ..payload }, *kind, unit, *interval_s, &none);
            }
            let new = OpenRun {
                series: number,
                payload: first_payload + run.payload,
                index: run.index,
                row: row_number,
                start,
                points: run.points,
            };
            self.runs.push(new);
            start += run.points;
        }
        if row.timestamps.len() == start as usize * 4 && row.values.len() == start as usize * 8 { Ok(()) } else { Err(bad()) }
    }

    fn number(&mut self, series: &crate::row::RowSeries<'_>) -> PlanResult<u32> {
        let key = series.identity.key;
        if let Some(number) = self.numbers.get(&key) {
            let known = &self.series[*number as usize];
            if known.print == series.identity.print && *known.tags == *series.tags {
                return Ok(*number);
            }
            return Err(collision(key, &known.tags, series.tags));
        }
        let number = self.series.len() as u32;
        self.numbers.insert(key, number);
        self.series.push(OpenSeries { print: series.identity.print, tags: series.tags.into(), meta: BestMeta::default(), runs: 0 });
        Ok(number)
    }

    /// Merges series by series and encodes; blocking. Returns the points that lost, too.
    fn encode(self, org: OrgId, metric: Bytes, meta: MetricMeta) -> PlanResult<(EncodedBucket, u64)> {
        let order = self.by_series();
        let (mut columns, mut duplicates, mut at) = (Vec::with_capacity(self.series.len()), 0, 0usize);
        let mut runs: Vec<RunPoints<'_>> = Vec::new();
        for series in &self.series {
            let end = at + series.runs as usize;
            runs.clear();
            runs.extend(order[at..end].iter().map(|run| self.run(self.runs[*run as usize])));
            at = end;
            let (mut timestamps, mut values) = (Vec::new(), Vec::new());
            duplicates += merge(&mut runs, &mut timestamps, &mut values);
            timestamps.shrink_to_fit();
            values.shrink_to_fit();
            let tags = get_tags(&series.tags).map_err(internal)?;
            columns.push(SeriesColumn { tags, meta: series.meta.value(&meta), timestamps, values: values.into() });
        }
        drop(runs);
        drop(self);
        let encoded = encode_bucket(&BucketInput { org, metric, meta, series: columns }).map_err(internal)?;
        Ok((encoded, duplicates))
    }

    /// Numbers of the runs, series by series (a counting sort).
    fn by_series(&self) -> Vec<u32> {
        let mut next: Vec<u32> = Vec::with_capacity(self.series.len());
        let mut sum = 0;
        for series in &self.series {
            next.push(sum);
            sum += series.runs;
        }
        let mut order = vec![0; self.runs.len()];
        for (number, run) in self.runs.iter().enumerate() {
            let at = &mut next[run.series as usize];
            order[*at as usize] = number as u32;
            *at += 1;
        }
        order
    }

    fn run(&self, run: OpenRun) -> RunPoints<'_> {
        let (batch, row) = self.rows[run.row as usize];
        let (timestamps, values) = points(&self.batches[batch as usize], row as usize);
        let (start, end) = (run.start as usize, (run.start + run.points) as usize);
        let order = Order { index: run.index, ..self.payloads[run.payload as usize] };
        // Lengths were checked when the row came.
        RunPoints { order, timestamps: &timestamps[start * 4..end * 4], values: &values[start * 8..end * 8] }
    }
}

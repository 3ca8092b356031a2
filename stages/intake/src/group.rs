//! Admitted points, grouped by window (and partition, where a metric fixes it), become payloads.
//!
//! Invariants: a payload holds one org and one window; entries of a series keep their request order, within a payload and from one payload to the
//! next, whose `received_at_us` is greater (P4); a payload is cut between series where that is possible, at 64 k points or 900 kB.

use bytes::Bytes;

use tailors_format::payload::{PayloadWriter, Stamp};
use tailors_model::limits::{PAYLOAD_POINTS_MAX, PAYLOAD_SPLIT_BYTES};
use tailors_model::{MetricMeta, OrgId, Window};

use crate::Partitioning;
use crate::admit::Admitted;
use crate::decode::SeriesBatch;
use crate::partition;
use crate::refusal::{Cause, Refusal};

/// Bytes a point takes in a payload before compression, at most: a value and an irregular timestamp.
const POINT_BYTES: usize = 12;

/// Gives out what makes a payload unique: `received_at_us` and sequence number.
pub(crate) trait Receipts {
    /// Strictly increasing in this process, Unix microseconds.
    fn received_at_us(&self) -> i64;
    /// Position among this intake's payloads.
    fn sequence(&self) -> u64;
}

/// What all payloads of a request share.
pub(crate) struct Shared<'r> {
    pub(crate) org: OrgId,
    pub(crate) admitted: Admitted,
    pub(crate) now_ms: i64,
    pub(crate) intake_id: u64,
    pub(crate) hash_seed: u64,
    pub(crate) receipts: &'r dyn Receipts,
    pub(crate) partitioning: Partitioning,
    pub(crate) partitions: u32,
    pub(crate) windows_max: usize,
}

/// A payload to append.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Where to; `None` = anywhere.
    pub(crate) partition: Option<u32>,
    pub(crate) payload: Bytes,
}

struct Open {
    window: Window,
    partition: Option<u32>,
    writer: PayloadWriter,
}

/// The payloads of one request, under construction.
pub(crate) struct Groups<'r> {
    shared: Shared<'r>,
    open: Vec<Open>,
    last: usize,
    windows: Vec<Window>,
    metadata: Vec<(Bytes, MetricMeta)>,
    ready: Vec<Ready>,
    points: u64,
    spare: &'r mut Vec<PayloadWriter>,
}

/// What a request came to.
#[derive(Debug)]
pub(crate) struct Grouped {
    pub(crate) ready: Vec<Ready>,
    /// Windows with points.
    pub(crate) windows: Vec<Window>,
    pub(crate) points: u64,
}

impl<'r> Groups<'r> {
    /// Nothing yet; `spare` lends writers and gets them back.
    pub(crate) fn new(shared: Shared<'r>, spare: &'r mut Vec<PayloadWriter>) -> Self {
        Self { shared, open: Vec::new(), last: 0, windows: Vec::new(), metadata: Vec::new(), ready: Vec::new(), points: 0, spare }
    }

    /// Adds admitted points of a series.
    pub(crate) fn add(&mut self, batch: &SeriesBatch<'_>, timestamps_ms: &[i64], values: &[f64]) -> Result<(), Refusal> {
        let partition = match self.shared.partitioning {
            Partitioning::Balanced => None,
            Partitioning::Metric => Some(partition::of_metric(self.shared.org, batch.metric, self.shared.partitions)),
        };
        let mut at = 0;
        while let Some(first_ms) = timestamps_ms.get(at) {
            let window = Window::of_ms(*first_ms);
            let inside = |time_ms: &&i64| window.start_ms() <= **time_ms && **time_ms < window.end_ms();
            let end = at + timestamps_ms[at..].iter().take_while(inside).count();
            let index = self.group(window, partition)?;
            self.add_in_window(index, batch, &timestamps_ms[at..end], &values[at..end])?;
            at = end;
        }
        self.points += timestamps_ms.len() as u64;
        Ok(())
    }

    /// Adds metadata that came without samples; it travels with the newest window, or alone in the current one.
    pub(crate) fn add_metadata(&mut self, metric: &[u8], meta: MetricMeta) {
        self.metadata.push((Bytes::copy_from_slice(metric), meta));
    }

    /// Metadata so far.
    pub(crate) fn metadata_len(&self) -> usize {
        self.metadata.len()
    }

    /// Closes all payloads.
    pub(crate) fn finish(mut self) -> Result<Grouped, Refusal> {
        let metadata = std::mem::take(&mut self.metadata);
        if !metadata.is_empty() {
            let newest = (0..self.open.len()).max_by_key(|index| self.open[*index].window);
            let index = newest.unwrap_or_else(|| self.begin(Window::of_ms(self.shared.now_ms), None));
            for (metric, meta) in &metadata {
                self.open[index].writer.metadata(metric, meta);
                self.cut_if_large(index)?;
            }
        }
        for mut open in std::mem::take(&mut self.open) {
            if !open.writer.is_empty() {
                self.ready.push(close(&self.shared, &mut open)?);
            }
            self.spare.push(open.writer);
        }
        Ok(Grouped { ready: self.ready, windows: self.windows, points: self.points })
    }

    fn add_in_window(
        &mut self,
        index: usize,
        batch: &SeriesBatch<'_>,
        mut timestamps_ms: &[i64],
        mut values: &[f64],
    ) -> Result<(), Refusal> {
        while !timestamps_ms.is_empty() {
            let open = &mut self.open[index];
            let present = open.writer.points_len();
            // What fits a payload of its own is not torn apart; what doesn't is cut in request order.
            let whole = timestamps_ms.len().min(PAYLOAD_POINTS_MAX as usize);
            let large = open.writer.bytes_estimate() + whole * POINT_BYTES > PAYLOAD_SPLIT_BYTES;
            if present > 0 && (present as usize + whole > PAYLOAD_POINTS_MAX as usize || large) {
                let ready = close(&self.shared, open)?;
                self.ready.push(ready);
            }
            let open = &mut self.open[index];
            let (now, later) = timestamps_ms.split_at(whole);
            let (now_values, later_values) = values.split_at(whole);
            let series = open.writer.series(batch.metric, batch.tags, batch.meta);
            open.writer.points(series, now, now_values);
            (timestamps_ms, values) = (later, later_values);
        }
        Ok(())
    }

    fn cut_if_large(&mut self, index: usize) -> Result<(), Refusal> {
        if self.open[index].writer.bytes_estimate() >= PAYLOAD_SPLIT_BYTES {
            let ready = close(&self.shared, &mut self.open[index])?;
            self.ready.push(ready);
        }
        Ok(())
    }

    #[inline]
    fn group(&mut self, window: Window, partition: Option<u32>) -> Result<usize, Refusal> {
        let fits = |open: &Open| open.window == window && open.partition == partition;
        if self.open.get(self.last).is_some_and(fits) {
            return Ok(self.last);
        }
        if let Some(index) = self.open.iter().position(fits) {
            self.last = index;
            return Ok(index);
        }
        if !self.windows.contains(&window) {
            if self.windows.len() >= self.shared.windows_max {
                let text =
                    format!("points of more than {} windows of 4 h in one request; send smaller spans of time", self.shared.windows_max);
                return Err(Refusal::new(Cause::Windows, text));
            }
            self.windows.push(window);
        }
        Ok(self.begin(window, partition))
    }

    fn begin(&mut self, window: Window, partition: Option<u32>) -> usize {
        let writer = self.spare.pop().unwrap_or_else(|| PayloadWriter::with_hash_seed(self.shared.hash_seed));
        self.open.push(Open { window, partition, writer });
        self.last = self.open.len() - 1;
        self.last
    }
}

fn close(shared: &Shared<'_>, open: &mut Open) -> Result<Ready, Refusal> {
    let stamp = Stamp {
        org: shared.org,
        window: open.window,
        received_at_us: shared.receipts.received_at_us(),
        intake_id: shared.intake_id,
        sequence: shared.receipts.sequence(),
        admitted_from_ms: shared.admitted.from_ms,
        admitted_to_ms: shared.admitted.to_ms,
    };
    let payload = open.writer.finish(&stamp).map_err(|error| Refusal::new(Cause::Internal, format!("encode a payload: {error}")))?;
    Ok(Ready { partition: open.partition, payload: Bytes::from(payload) })
}

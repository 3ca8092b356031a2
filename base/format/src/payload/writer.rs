//! The writer of a payload.

use tailors_model::MetricMeta;
use tailors_model::limits::{PAYLOAD_BYTES_MAX, PAYLOAD_POINTS_MAX};
use tailors_model::window::WINDOW_MS;
use zstd::bulk::Compressor;

use super::block::{self, Part};
use super::envelope::{self, Counted, ENVELOPE_BYTES, IDENTITY_BYTES, WHAT};
use super::runs::{self, OpenRun};
use super::tables::Tables;
use super::values::Columns;
use super::{SeriesMeta, Stamp, TagRef};
use crate::FormatError;

/// Fewest points of a regular run amid irregular ones.
const REGULAR_POINTS: usize = 8;

/// Collects points of one org and one window; reused, so that dictionaries and the zstd context keep their memory.
#[derive(Default)]
pub struct PayloadWriter {
    tables: Tables,
    runs: Vec<OpenRun>,
    columns: Columns,
    points: u64,
    /// Earliest and latest time, Unix milliseconds.
    times: Option<(i64, i64)>,
    /// The caller's first mistake.
    wrong: Option<&'static str>,
    zstd: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for PayloadWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadWriter").field("series", &self.tables.series_len()).field("points", &self.points).finish_non_exhaustive()
    }
}

impl PayloadWriter {
    /// An empty writer. Its dictionaries are hashed with seed 0: see [`PayloadWriter::with_hash_seed`].
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer whose hash tables a sender can't aim at: `seed` is drawn once per process. It never reaches the bytes.
    pub fn with_hash_seed(seed: u64) -> Self {
        Self { tables: Tables::with_hash_seed(seed), ..Self::default() }
    }

    /// Number of a series within this payload, the same for the same labels and metadata. Tags must be canonical (sorted, no duplicates).
    /// The number holds until `finish`.
    pub fn series(&mut self, metric: &[u8], tags: &[TagRef<'_>], meta: SeriesMeta<'_>) -> u32 {
        self.tables.series(metric, tags, meta)
    }

    /// Appends points of a series in request order, Unix milliseconds, all inside the window that `finish` will name. Finds regular runs by itself.
    pub fn points(&mut self, series: u32, timestamps_ms: &[i64], values: &[f64]) {
        if timestamps_ms.len() != values.len() {
            self.wrong.get_or_insert("timestamps and values of different number");
            return;
        }
        if series as usize >= self.tables.series_len() {
            self.wrong.get_or_insert("points of an unknown series");
            return;
        }
        self.points += values.len() as u64;
        let mut done = 0;
        while done < values.len() {
            let (mut left, step_ms) = stretch(&timestamps_ms[done..]);
            while left > 0 {
                let taken = self.columns.values(&values[done..done + left]);
                self.run(series, &timestamps_ms[done..done + taken], step_ms);
                done += taken;
                left -= taken;
            }
        }
    }

    fn run(&mut self, series: u32, timestamps_ms: &[i64], step_ms: u32) {
        let (Some(first), Some(last)) = (timestamps_ms.first(), timestamps_ms.last()) else { return };
        let step_ms = if timestamps_ms.len() == 1 { 1 } else { step_ms };
        let (mut min, mut max) = (*first, *last);
        if step_ms == 0 {
            self.columns.stamps(timestamps_ms);
            min = timestamps_ms.iter().copied().fold(min, i64::min);
            max = timestamps_ms.iter().copied().fold(max, i64::max);
        }
        let (before_min, before_max) = self.times.unwrap_or((min, max));
        self.times = Some((min.min(before_min), max.max(before_max)));
        // A run's points are counted against PAYLOAD_POINTS_MAX in `finish`.
        self.runs.push(OpenRun { series, points: timestamps_ms.len() as u32, first_unix_ms: *first, step_ms });
    }

    /// Metadata of a metric that came without samples.
    pub fn metadata(&mut self, metric: &[u8], meta: &MetricMeta) {
        self.tables.metadata(metric, meta);
    }

    /// Points so far.
    pub fn points_len(&self) -> u32 {
        u32::try_from(self.points).unwrap_or(u32::MAX)
    }

    /// Bytes before compression: an upper bound of what `finish` will give, for practical purposes.
    pub fn bytes_estimate(&self) -> usize {
        ENVELOPE_BYTES + self.tables.bytes_estimate() + 8 * self.runs.len() + self.columns.bytes_estimate()
    }

    /// Whether there is neither a point nor metadata.
    pub fn is_empty(&self) -> bool {
        self.points == 0 && !self.tables.has_metadata()
    }

    /// The payload; clears the writer for reuse, also on error. Errors are the caller's mistakes: a point outside the window, an unknown series number,
    /// slices of different length, more than any reader takes.
    pub fn finish(&mut self, stamp: &Stamp) -> Result<Vec<u8>, FormatError> {
        let payload = self.payload(stamp);
        self.tables.clear();
        self.runs.clear();
        self.columns.clear();
        (self.points, self.times, self.wrong) = (0, None, None);
        payload
    }

    fn payload(&mut self, stamp: &Stamp) -> Result<Vec<u8>, FormatError> {
        if let Some(wrong) = self.wrong {
            return Err(FormatError::invalid(WHAT, wrong));
        }
        let (min_ms, max_ms) = self.times.unwrap_or((stamp.window.start_ms(), stamp.window.start_ms()));
        if min_ms < stamp.window.start_ms() || max_ms >= stamp.window.end_ms() {
            return Err(FormatError::invalid(WHAT, "a point outside its window"));
        }
        let points = u32::try_from(self.points).ok().filter(|points| *points <= PAYLOAD_POINTS_MAX);
        let points = points.ok_or_else(|| FormatError::invalid(WHAT, format!("{} points, at most {PAYLOAD_POINTS_MAX}", self.points)))?;
        let mut payload = Vec::with_capacity(ENVELOPE_BYTES);
        envelope::put_identity(&mut payload, stamp);
        let mut body = Vec::new();
        let mut put = |part: Part, raw: &[u8]| block::put(&mut body, part, &payload[..IDENTITY_BYTES], raw, &mut self.zstd);
        let raw = &mut self.scratch;
        raw.clear();
        self.tables.encode(raw)?;
        let labels = put(Part::Labels, raw)?;
        raw.clear();
        runs::encode(raw, &self.runs, stamp.window);
        let runs = put(Part::Runs, raw)?;
        raw.clear();
        self.columns.encode(raw);
        let values = put(Part::Points, raw)?;
        let counted = Counted { series: self.tables.series_len() as u32, points, min_ms, max_ms };
        envelope::put_rest(&mut payload, stamp, &counted, &[labels, runs, values]);
        payload.extend_from_slice(&body);
        if payload.len() > PAYLOAD_BYTES_MAX as usize {
            return Err(FormatError::invalid(WHAT, format!("{} bytes, at most {PAYLOAD_BYTES_MAX}", payload.len())));
        }
        Ok(payload)
    }
}

/// How many of the first timestamps make one run, and its step; 0 = irregular.
fn stretch(timestamps_ms: &[i64]) -> (usize, u32) {
    let points = timestamps_ms.len();
    if points < 2 {
        return (points, 1);
    }
    let step_at = |place: usize| timestamps_ms[place + 1].wrapping_sub(timestamps_ms[place]);
    let step = step_at(0);
    let regular = (1..points - 1).find(|place| step_at(*place) != step).unwrap_or(points - 1) + 1;
    let forward = |step: i64| step > 0 && step < WINDOW_MS;
    if forward(step) && (regular == points || regular >= REGULAR_POINTS) {
        // Below WINDOW_MS it fits.
        return (regular, step as u32);
    }
    // Irregular up to where a regular stretch begins; never 0, for the first stretch was too short.
    let mut same = 1;
    for place in 1..points - 1 {
        same = if step_at(place) == step_at(place - 1) { same + 1 } else { 1 };
        if same + 1 >= REGULAR_POINTS && forward(step_at(place)) {
            let begin = place + 2 - REGULAR_POINTS;
            return (begin.max(1), 0);
        }
    }
    (points, 0)
}

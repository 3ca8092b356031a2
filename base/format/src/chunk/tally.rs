//! What is in a file, window by window, in a few numbers: two files with equal tallies hold the same points, in whatever order and pages.

use tailors_model::window::{DAY_WINDOWS, WINDOW_MS};
use tailors_model::{OrgId, ShardId, Tag};
use xxhash_rust::xxh3::Xxh3;

use super::read::open_whole;
use super::{ChunkIndex, DecodeScratch, Values};
use crate::FormatError;

/// Points of one window: how many, and a sum over a hash of (series, timestamp, bits of the value or a hash of it) of each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WindowTally {
    /// How many.
    pub points: u64,
    /// Sum of their hashes, modulo 2^64.
    pub sum: u64,
}

/// The windows of a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DayTally {
    start_ms: i64,
    /// In time order.
    pub windows: [WindowTally; DAY_WINDOWS],
    /// Points of other days; none if all is well.
    pub outside: u64,
}

impl DayTally {
    /// Nothing yet, of the day that starts at `start_ms`, Unix milliseconds.
    pub fn new(start_ms: i64) -> Self {
        Self { start_ms, windows: Default::default(), outside: 0 }
    }

    /// Adds points of one series: timestamps in milliseconds from `from_ms` (Unix milliseconds), ascending.
    pub(super) fn add(&mut self, key: u64, from_ms: i64, times: &[u32], values: Values<'_>) {
        let (mut times, mut values) = (times, values);
        while let Some(first) = times.first() {
            let first_ms = from_ms + i64::from(*first) - self.start_ms;
            let window = first_ms.div_euclid(WINDOW_MS);
            let end_ms = self.start_ms + (window + 1) * WINDOW_MS;
            let points = times.partition_point(|time| from_ms + i64::from(*time) < end_ms);
            let (own, later) = times.split_at(points);
            let (own_values, later_values) = (values.part(0..points), values.part(points..times.len()));
            let place = usize::try_from(window).ok().and_then(|window| self.windows.get_mut(window));
            match place {
                Some(tally) => {
                    tally.points += points as u64;
                    let mut own = own.iter();
                    own_values.each_bits(|bits| {
                        let time = own.next().copied().unwrap_or(0);
                        tally.sum = tally.sum.wrapping_add(hash(key, from_ms + i64::from(time), bits));
                    });
                }
                None => self.outside += points as u64,
            }
            (times, values) = (later, later_values);
        }
    }

    /// Adds what another one counted of the same day.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.windows.iter_mut().zip(&other.windows) {
            own.points += other.points;
            own.sum = own.sum.wrapping_add(other.sum);
        }
        self.outside += other.outside;
    }
}

/// Two multiplications: every bit of time and value reaches the upper half of the sum.
fn hash(key: u64, time_ms: i64, bits: u64) -> u64 {
    let mut mixed = (key ^ (time_ms as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(bits);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 32)
}

/// Stands for a series in a tally.
pub(super) fn series_key(org: OrgId, metric: &[u8], tags: &[Tag]) -> u64 {
    let mut hasher = Xxh3::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    put(&org.0.to_le_bytes());
    put(metric);
    for tag in tags {
        put(&tag.key);
        put(&[tag.kind as u8]);
        put(&tag.value);
    }
    hasher.digest()
}

/// Checks every byte of a whole file as [`super::verify_file`] does, and counts its points by window of the day that starts at `start_ms`.
///
/// # Errors
/// Any damage, and a file of another shard.
pub fn verify_day_file(shard: ShardId, bytes: &[u8], start_ms: i64) -> Result<(ChunkIndex, DayTally), FormatError> {
    // Every page holds points of some series, so all of them are decoded below.
    let index = open_whole(shard, bytes)?;
    let mut tally = DayTally::new(start_ms);
    let mut scratch = DecodeScratch::default();
    for metric in index.metrics() {
        let series: Vec<u32> = metric.series.clone().collect();
        let mut keys = Vec::with_capacity(series.len());
        for entry in &series {
            keys.push(series_key(metric.org, &metric.metric, &index.tags(*entry)?));
        }
        for read in index.plan_reads(&series) {
            let page = bytes.get(read.range.start as usize..read.range.end as usize).unwrap_or(&[]);
            let mut add = |entry: u32, times: &[u32], values: Values<'_>| {
                tally.add(keys[(entry - metric.series.start) as usize], index.span().start_ms, times, values);
            };
            index.decode_values(&read, page, &mut scratch, &mut add)?;
        }
    }
    Ok((index, tally))
}

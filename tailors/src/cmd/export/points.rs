//! One chunk file -> its points in file order, a few pages at a time. In: an object of a store, or a file that lies anywhere.
//!
//! Every page and section is checked before anything of it is handed on, so damage ends the export before a wrong value is written.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use tailors_format::FormatError;
use tailors_format::chunk::{ChunkIndex, DecodeScratch, PageRead, ValueKind};
use tailors_format::doc::ManifestFile;
use tailors_model::{OrgId, ShardId, Window};
use tailors_store::{Objects, StoreError};

use super::table::{Labels, Table};
use crate::cmd::inspect;
use crate::exit::Failure;

/// Bytes of pages fetched at once, unless one is longer.
const FETCH_BYTES: u64 = 4 << 20;

/// Which points are wanted.
pub(super) struct Wanted {
    pub(super) org: Option<OrgId>,
    /// Names; one that ends with `*` is a prefix. None: all.
    pub(super) metrics: Vec<String>,
    /// Unix milliseconds, inclusive.
    pub(super) from_ms: i64,
    /// Exclusive.
    pub(super) to_ms: i64,
}

impl Wanted {
    fn metric(&self, org: OrgId, name: &[u8]) -> bool {
        // Queries know a stored name by its translation too, so a user may know no other.
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_:".contains(c) { c } else { '_' };
        let translated: String = String::from_utf8_lossy(name).chars().map(plain).collect();
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix.as_bytes()) || translated.starts_with(prefix),
            None => name == wanted.as_bytes() || translated == *wanted,
        };
        self.org.is_none_or(|wanted| wanted == org) && (self.metrics.is_empty() || self.metrics.iter().any(fits))
    }

    /// The same of a shorter time.
    pub(super) fn within(&self, from_ms: i64, to_ms: i64) -> Self {
        Self { org: self.org, metrics: self.metrics.clone(), from_ms: self.from_ms.max(from_ms), to_ms: self.to_ms.min(to_ms) }
    }

    /// Whether the range touches a window.
    pub(super) fn of_window(&self, window: &Window) -> bool {
        self.touches(window.start_ms(), window.end_ms() - 1)
    }

    /// Whether times from `first_ms` to and with `last_ms` touch the range.
    pub(super) fn touches(&self, first_ms: i64, last_ms: i64) -> bool {
        first_ms < self.to_ms && last_ms >= self.from_ms
    }
}

/// A chunk file.
pub(super) enum Source<'a> {
    /// Of a store, as a manifest names it.
    Stored(&'a Objects, ShardId, &'a ManifestFile),
    /// By itself.
    Alone(&'a Path, File),
}

impl Source<'_> {
    fn name(&self) -> String {
        match self {
            Self::Stored(_, _, file) => file.key.clone(),
            Self::Alone(path, _) => path.display().to_string(),
        }
    }

    fn len(&self) -> Result<u64, Failure> {
        match self {
            Self::Stored(_, _, file) => Ok(file.bytes),
            Self::Alone(_, file) => Ok(file.metadata()?.len()),
        }
    }

    async fn get(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Failure> {
        match self {
            Self::Stored(objects, _, file) => objects.get_ranges(&file.key, ranges).await.map_err(|error| match error {
                StoreError::NotFound(key) => damaged(
                    &key,
                    "is not in the store: lost, or deleted because a newer generation replaced it while this command ran; run it again to see which",
                ),
                StoreError::Data { .. } => Failure::unavailable(format!("TLR-4020: {error}")),
                error => error.into(),
            }),
            Self::Alone(path, file) => {
                let read = |range: &Range<u64>| {
                    let mut bytes = vec![0; (range.end - range.start) as usize];
                    file.read_exact_at(&mut bytes, range.start).map(|()| Bytes::from(bytes))
                };
                let all: std::io::Result<Vec<Bytes>> = ranges.iter().map(read).collect();
                all.map_err(|error| Failure::unavailable(format!("{}: {error}", path.display())))
            }
        }
    }

    /// The index; its checksums and the header's are compared.
    async fn index(&self) -> Result<ChunkIndex, Failure> {
        let (name, length) = (self.name(), self.len()?);
        let header = 0..length.min(ChunkIndex::HEADER_BYTES as u64);
        let trailer = length.saturating_sub(ChunkIndex::TRAILER_BYTES as u64)..length;
        let ends = self.get(&[header, trailer]).await?;
        let range = ChunkIndex::tail_range(&ends[1], length).map_err(|error| damaged(&name, error))?;
        let tail = self.get(std::slice::from_ref(&range)).await?.concat();
        let shard = match self {
            Self::Stored(_, shard, _) => *shard,
            Self::Alone(path, _) => {
                inspect::shard_of(path, &tail, length).map_err(|failure| Failure::unavailable(format!("TLR-4020: {}", failure.message)))?
            }
        };
        let index = ChunkIndex::parse(shard, &tail, length).map_err(|error| damaged(&name, error))?;
        index.check_header(&ends[0]).map_err(|error| damaged(&name, error))?;
        Ok(index)
    }
}

fn damaged(name: &str, error: impl std::fmt::Display) -> Failure {
    Failure::unavailable(format!("TLR-4020: {name}: {error}"))
}

/// What was wanted and has no place in a column of doubles: sketches and histograms.
#[derive(Default)]
pub(super) struct PassedOver {
    pub(super) series: u64,
    /// All of these series' points, in or out of the range.
    pub(super) points: u64,
}

/// Appends what is wanted of a file to the table.
pub(super) async fn read<W: Write + Send>(
    source: &Source<'_>,
    wanted: &Wanted,
    scratch: &mut DecodeScratch,
    table: &mut Table<W>,
    cant_write: &dyn Fn(ParquetError) -> Failure,
    passed_over: &mut PassedOver,
) -> Result<(), Failure> {
    let index = source.index().await?;
    let mut rows = Rows { index: &index, name: source.name(), wanted, labels: None, failed: None, table };
    for metric in index.metrics() {
        if !wanted.metric(metric.org, &metric.metric) || !wanted.touches(metric.min_ms, metric.max_ms) {
            continue;
        }
        let inside = |series: &u32| index.edges_of(*series).is_some_and(|(first, last)| wanted.touches(first, last));
        let mut series: Vec<u32> = metric.series.clone().filter(inside).collect();
        series.retain(|series| {
            let is_number = index.kind(*series).is_ok_and(|kind| kind == ValueKind::Doubles);
            if !is_number {
                passed_over.series += 1;
                passed_over.points += u64::from(index.points_of(*series));
            }
            is_number
        });
        for reads in in_file_order(&index, &series) {
            for some in batches(&reads) {
                let ranges: Vec<Range<u64>> = some.iter().map(|read| read.range.clone()).collect();
                for (read, bytes) in some.iter().zip(source.get(&ranges).await?) {
                    let decoded = index.decode(read, &bytes, scratch, &mut |series, times, values| rows.add(series, times, values));
                    decoded.map_err(|error| damaged(&rows.name, error))?;
                    match rows.failed.take() {
                        Some(Failed::Write(error)) => return Err(cant_write(error)),
                        Some(Failed::Series(failure)) => return Err(failure),
                        None => {}
                    }
                }
            }
        }
    }
    Ok(())
}

/// Reads of series in the order of their numbers. A plan puts constants first, which is where they mostly are; a metric of several buckets has more of
/// them further behind, and a series that was cut by time would come out of its order.
fn in_file_order(index: &ChunkIndex, series: &[u32]) -> Vec<Vec<PageRead>> {
    let all = index.plan_reads(series);
    let constants: Vec<u32> = all.first().filter(|read| read.range.is_empty()).map(|read| read.series().collect()).unwrap_or_default();
    let is_constant = |series: &u32| constants.binary_search(series).is_ok();
    if series.is_sorted_by_key(|series| !is_constant(series)) {
        return vec![all];
    }
    series.chunk_by(|a, b| is_constant(a) == is_constant(b)).map(|alike| index.plan_reads(alike)).collect()
}

/// Reads that are fetched together.
fn batches(reads: &[PageRead]) -> Vec<&[PageRead]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, read) in reads.iter().enumerate() {
        let length = read.range.end - read.range.start;
        if bytes + length > FETCH_BYTES && place > start {
            batches.push(&reads[start..place]);
            (start, bytes) = (place, 0);
        }
        bytes += length;
    }
    batches.push(&reads[start..]);
    batches
}

/// Why a row could not be appended.
enum Failed {
    Write(ParquetError),
    Series(Failure),
}

/// Decoded points on their way into the table.
struct Rows<'a, W: Write + Send> {
    index: &'a ChunkIndex,
    name: String,
    wanted: &'a Wanted,
    /// Of the series that came last.
    labels: Option<(u32, Arc<Labels>)>,
    failed: Option<Failed>,
    table: &'a mut Table<W>,
}

impl<W: Write + Send> Rows<'_, W> {
    /// Points of a series; after a failure nothing more is taken.
    fn add(&mut self, series: u32, times: &[u32], values: &[f64]) {
        let start_ms = self.index.span().start_ms;
        // What of the range lies in this file, in its own milliseconds.
        let own = |at_ms: i64| u32::try_from(at_ms.saturating_sub(start_ms)).unwrap_or(if at_ms < start_ms { 0 } else { u32::MAX });
        let (from, to) = (own(self.wanted.from_ms), own(self.wanted.to_ms));
        let inside = times.partition_point(|at| *at < from)..times.partition_point(|at| *at < to);
        if inside.is_empty() || self.failed.is_some() {
            return;
        }
        let added = self
            .labels_of(series)
            .map_err(Failed::Series)
            .and_then(|labels| self.table.push(&labels, start_ms, &times[inside.clone()], &values[inside]).map_err(Failed::Write));
        self.failed = added.err();
    }

    fn labels_of(&mut self, series: u32) -> Result<Arc<Labels>, Failure> {
        if let Some((_, labels)) = self.labels.as_ref().filter(|(last, _)| *last == series) {
            return Ok(labels.clone());
        }
        let error = |error: FormatError| damaged(&self.name, error);
        let place = self.index.metrics().partition_point(|metric| metric.series.end <= series);
        let metric = &self.index.metrics()[place];
        let (tags, meta) = (self.index.tags(series).map_err(error)?, self.index.meta(series).map_err(error)?);
        let labels = Labels::new(metric.org, &metric.metric, &tags, meta).map_err(|why| damaged(&self.name, why))?;
        let labels = Arc::new(labels);
        self.labels = Some((series, labels.clone()));
        Ok(labels)
    }
}

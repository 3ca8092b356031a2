//! The index of a file: everything but its pages, parsed and checked once, then cached by readers.
//!
//! No series says where its values lie: non-constant series follow each other in file order through pages and chunks, so running sums of their
//! points tell page and offset. What does not add up is refused when the index is parsed.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use tailors_model::{MetricMeta, OrgId, ShardId, Tag};
use xxhash_rust::xxh3::xxh3_128;

use super::coder::Coder;
use super::labels::Labels;
use super::layout::{Region, Seal, Span, TRAILER_BYTES, Trailer, WHAT};
use super::summary::{Statistics, Summary};
use super::times::Times;
use super::value::Transform;
use crate::FormatError;

/// Bytes of a unit or description that a file may hold.
pub(super) const META_BYTES_MAX: usize = 1 << 20;
/// Memory that an index may take, and again its labels: a block of equal values is 3 bytes, so bytes alone don't bound it. Enough for
/// `CHUNK_FILE_SERIES` series that say nothing (constants of equal times, hosts numbered in sequence); others bring bytes.
pub(super) const ALLOWANCE_BYTES: u64 = 256 << 20;
/// What each byte of the tail adds.
pub(super) const ALLOWANCE_PER_BYTE: u64 = 64;
/// Page of a series that has none: its value stands in the index.
pub(super) const CONSTANT: u64 = u64::MAX;

/// One metric of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricEntry {
    /// Tenant.
    pub org: OrgId,
    /// Metric name.
    pub metric: Bytes,
    /// Metadata of the metric.
    pub meta: MetricMeta,
    /// Its series, by number in this file. A series that its builder cut into several buckets by time appears once per bucket, in that order.
    pub series: Range<u32>,
    /// Points of all its series.
    pub points: u64,
    /// Earliest point, Unix milliseconds.
    pub min_ms: i64,
    /// Latest point, Unix milliseconds.
    pub max_ms: i64,
}

/// Values of one class, as the directory names them.
#[derive(Clone, Debug)]
pub(super) struct ChunkEntry {
    pub(super) transform: Transform,
    pub(super) coder: Coder,
    pub(super) divisor: i64,
    pub(super) exceptions: bool,
    /// Pages hold differences inside each part.
    pub(super) delta: bool,
    pub(super) meta: Range<usize>,
    pub(super) pages: Range<usize>,
    /// The chunk that these pages were written for.
    pub(super) original: u32,
}

/// One page: where it lies, and which values of the file's sequence it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageEntry {
    /// Position in the file.
    pub(super) at: u64,
    /// Bytes with checksum.
    pub(super) length: u32,
    /// Number of its first value among all values of the file.
    pub(super) first: u64,
    pub(super) points: u32,
    pub(super) chunk: u32,
    /// Of [`ChunkIndex::varying`]: the series that its first value belongs to.
    pub(super) first_varying: u32,
    /// In [`ChunkIndex::page_summaries`]; [`NONE`] if each of its series has its own.
    pub(super) summary: u32,
}

/// No summary.
pub(super) const NONE: u32 = u32::MAX;

/// One series: its tag set and time column, and where its values are.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeriesEntry {
    pub(super) set: u32,
    pub(super) time: u32,
    /// Number of its first value among all values of the file; [`CONSTANT`] for a constant.
    pub(super) first: u64,
    /// The value of a constant.
    pub(super) constant: f64,
    /// Number of its summary; [`NONE`] if it has none.
    pub(super) summary: u32,
}

impl SeriesEntry {
    pub(super) fn constant(&self) -> Option<f64> {
        (self.first == CONSTANT).then_some(self.constant)
    }

    pub(super) fn first_value(&self) -> Option<u64> {
        (self.first != CONSTANT).then_some(self.first)
    }
}

/// All of a file but the pages; what a reader caches.
#[derive(Debug)]
pub struct ChunkIndex {
    pub(super) trailer: Trailer,
    pub(super) seal: Seal,
    /// Tells chunks of this file from those of others in a reader's scratch.
    pub(super) identity: u128,
    pub(super) file_len: u64,
    pub(super) metrics: Vec<MetricEntry>,
    pub(super) series: Vec<SeriesEntry>,
    /// Series that are no constants.
    pub(super) varying: Vec<u32>,
    pub(super) summaries: Vec<Summary>,
    pub(super) page_summaries: Vec<Summary>,
    pub(super) own_meta: Vec<(u32, MetricMeta)>,
    pub(super) times: Times,
    /// The section, checked; parsed when first asked for: scans never do.
    label_bytes: Vec<u8>,
    labels: OnceLock<Result<Labels, FormatError>>,
    pub(super) chunks: Vec<ChunkEntry>,
    pub(super) chunk_meta: Vec<u8>,
    pub(super) pages: Vec<PageEntry>,
}

impl ChunkIndex {
    /// Bytes of the trailer.
    pub const TRAILER_BYTES: usize = TRAILER_BYTES;

    /// From the last [`Self::TRAILER_BYTES`] of a file (more may be given): where its index lies, contiguous up to the file's end.
    ///
    /// # Errors
    /// Any damage of the trailer, and a `file_len` that is not the file's.
    pub fn tail_range(trailer: &[u8], file_len: u64) -> Result<Range<u64>, FormatError> {
        Ok(Trailer::read(trailer, file_len)?.times_at..file_len)
    }

    /// Reads the bytes of [`Self::tail_range`].
    ///
    /// # Errors
    /// Any damage, a file of another shard, and anything that does not add up.
    pub fn parse(shard: ShardId, tail: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let trailer = Trailer::read(tail, file_len)?;
        if tail.len() as u64 != file_len - trailer.times_at {
            return Err(FormatError::Truncated { what: WHAT, needed: file_len - trailer.times_at, present: tail.len() as u64 });
        }
        let seal = Seal::new(shard, trailer.span);
        let mut sections = Vec::with_capacity(4);
        for (region, what, range) in trailer.sections(file_len - TRAILER_BYTES as u64) {
            let bytes = (range.start - trailer.times_at) as usize..(range.end - trailer.times_at) as usize;
            let bytes = tail.get(bytes).ok_or_else(|| FormatError::invalid(WHAT, "section outside the tail"))?;
            sections.push(seal.take_section(what, region, range.start, bytes)?);
        }
        let [times, series, labels, directory] = sections.as_slice() else {
            return Err(FormatError::invalid(WHAT, "not four sections"));
        };
        let mut allowance = ALLOWANCE_BYTES + ALLOWANCE_PER_BYTE * tail.len() as u64;
        let mut index = Self {
            trailer,
            seal,
            identity: xxh3_128(tail),
            file_len,
            metrics: Vec::new(),
            series: Vec::new(),
            varying: Vec::new(),
            summaries: Vec::new(),
            page_summaries: Vec::new(),
            own_meta: Vec::new(),
            times: Times::read(times, trailer.span.span_ms, &mut allowance)?,
            label_bytes: labels.clone(),
            labels: OnceLock::new(),
            chunks: Vec::new(),
            chunk_meta: Vec::new(),
            pages: Vec::new(),
        };
        let values = index.read_series(series, &mut allowance)?;
        index.read_directory(directory, values, allowance)?;
        Ok(index)
    }

    /// Span of the file.
    pub fn span(&self) -> Span {
        self.trailer.span
    }

    /// Number of the encoder that wrote the file.
    pub fn encoder(&self) -> u32 {
        self.trailer.encoder
    }

    /// About how many bytes of memory this index takes.
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.metrics.iter().map(|metric| metric.metric.len() + metric.meta.unit.len() + metric.meta.help.len()).sum();
        size_of::<Self>()
            + names
            + self.metrics.capacity() * size_of::<MetricEntry>()
            + self.series.capacity() * size_of::<SeriesEntry>()
            + self.own_meta.capacity() * size_of::<(u32, MetricMeta)>()
            + self.chunks.capacity() * size_of::<ChunkEntry>()
            + self.pages.capacity() * size_of::<PageEntry>()
            + self.chunk_meta.capacity()
            + self.times.memory_bytes()
            + self.label_bytes.capacity()
            // Labels not yet parsed will take about this much.
            + self.labels.get().and_then(|labels| labels.as_ref().ok()).map_or(self.label_bytes.len() * 8, Labels::memory_bytes)
    }

    /// Metrics sorted by (org, name).
    pub fn metrics(&self) -> &[MetricEntry] {
        &self.metrics
    }

    /// Series entries of the file; their numbers are below this.
    pub fn series_len(&self) -> u32 {
        self.series.len() as u32
    }

    /// Labels, parsed and checked against the series that name them.
    pub(super) fn labels(&self) -> Result<&Labels, FormatError> {
        let read = || {
            let labels = Labels::read(&self.label_bytes, ALLOWANCE_BYTES + ALLOWANCE_PER_BYTE * self.label_bytes.len() as u64)?;
            if self.series.iter().all(|series| (series.set as usize) < labels.sets()) {
                return Ok(labels);
            }
            Err(FormatError::invalid("chunk file labels", "series without labels"))
        };
        self.labels.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// Canonical tags of a series.
    ///
    /// # Errors
    /// Damage of the labels; a number that is no series of this file: a bug of the caller.
    pub fn tags(&self, series: u32) -> Result<Vec<Tag>, FormatError> {
        let mut tags = Vec::new();
        self.labels()?.tags(self.entry(series)?.set, &mut tags);
        Ok(tags)
    }

    /// Metadata of a series where it differs from the metric's.
    pub fn own_meta(&self, series: u32) -> Option<&MetricMeta> {
        let at = self.own_meta.binary_search_by_key(&series, |(series, _)| *series).ok()?;
        self.own_meta.get(at).map(|(_, meta)| meta)
    }

    /// Metadata of a series: its own where it has some, else the metric's.
    ///
    /// # Errors
    /// A number that is no series of this file: a bug of the caller.
    pub fn meta(&self, series: u32) -> Result<&MetricMeta, FormatError> {
        self.entry(series)?;
        let metric = self.metrics.partition_point(|metric| metric.series.end <= series);
        let metric = self.metrics.get(metric).map(|metric| &metric.meta);
        self.own_meta(series).or(metric).ok_or_else(|| no_series(series))
    }

    /// Points of a series; 0 for a number that is none.
    pub fn points_of(&self, series: u32) -> u32 {
        self.series.get(series as usize).map_or(0, |entry| self.times.points(entry.time))
    }

    /// Earliest and latest point of a series, Unix milliseconds; `None` for a number that is none.
    pub fn edges_of(&self, series: u32) -> Option<(i64, i64)> {
        let (first, last) = self.times.edges(self.series.get(series as usize)?.time);
        let start = self.trailer.span.start_ms;
        Some((start + i64::from(first), start + i64::from(last)))
    }

    /// What aggregates over all points of a series need, if the index knows it: of constants and of series of 256 doubles and more.
    pub fn statistics(&self, series: u32) -> Option<Statistics> {
        let entry = self.series.get(series as usize)?;
        let count = u64::from(self.times.points(entry.time));
        if let Some(value) = entry.constant() {
            let nans = if value.is_nan() { count } else { 0 };
            let sum = if value.is_nan() { 0.0 } else { value * count as f64 };
            return Some(Statistics { count, nans, min: value, max: value, sum, first: value, last: value });
        }
        match self.summaries.get(entry.summary as usize)? {
            Summary::Absent => None,
            Summary::Doubles(doubles) => Some(doubles.statistics(count)),
            Summary::Integers(integers) => {
                let page = self.pages.get(self.page_of(entry.first))?;
                let chunk = self.chunks.get(page.chunk as usize)?;
                Some(integers.statistics(chunk.transform, chunk.divisor, count))
            }
        }
    }

    /// The page that holds a value.
    pub(super) fn page_of(&self, value: u64) -> usize {
        self.pages.partition_point(|page| page.first + u64::from(page.points) <= value)
    }

    pub(super) fn entry(&self, series: u32) -> Result<&SeriesEntry, FormatError> {
        self.series.get(series as usize).ok_or_else(|| no_series(series))
    }

    /// Where a page lies, and that it is a page, for its checksum.
    pub(super) fn check_page<'a>(&self, page: &PageEntry, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let what = "chunk file page";
        if bytes.len() as u64 != u64::from(page.length) {
            return Err(FormatError::Truncated { what, needed: u64::from(page.length), present: bytes.len() as u64 });
        }
        self.seal.checked(what, Region::Pages, page.at, bytes)
    }
}

fn no_series(series: u32) -> FormatError {
    FormatError::invalid(WHAT, format!("no series {series}"))
}

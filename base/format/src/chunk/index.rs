//! The index of a file: everything but its pages, parsed and checked once, then cached by readers.
//!
//! No series says where its values lie: non-constant series follow each other in file order through pages and chunks, so running sums of their
//! points tell page and offset. What does not add up is refused when the index is parsed.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use tailors_model::limits::{METRIC_BYTES_MAX, SERIES_STATS_POINTS};
use tailors_model::{MetricKind, MetricMeta, OrgId, ShardId, Tag};
use xxhash_rust::xxh3::xxh3_128;

use super::assemble::BITS;
use super::coder::Coder;
use super::column::{take_blob, take_bounded, take_column, take_strings};
use super::labels::Labels;
use super::layout::{CRC_BYTES, HEADER_BYTES, Region, Seal, Span, TRAILER_BYTES, Trailer, WHAT};
use super::pages::PAGE_POINTS_MAX;
use super::summary::{Statistics, Summary, take_summaries};
use super::times::Times;
use super::value::{EXPONENT_MAX, SCALE_MAX, Transform, to_value};
use super::zigzag::unzigzag;
use crate::FormatError;
use crate::bytes::Cursor;

/// Bytes of a unit or description that a file may hold.
const META_BYTES_MAX: usize = 1 << 20;
/// Page of a series that has none: its value stands in the index.
const CONSTANT: u64 = u64::MAX;

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
    first: u64,
    /// The value of a constant.
    constant: f64,
    /// Number of its summary; [`NONE`] if it has none.
    summary: u32,
}

impl SeriesEntry {
    pub(super) fn constant(&self) -> Option<f64> {
        (self.first == CONSTANT).then_some(self.constant)
    }

    pub(super) fn first(&self) -> Option<u64> {
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
    summaries: Vec<Summary>,
    page_summaries: Vec<Summary>,
    own_meta: Vec<(u32, MetricMeta)>,
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
            times: Times::read(times, trailer.span.span_ms)?,
            label_bytes: labels.clone(),
            labels: OnceLock::new(),
            chunks: Vec::new(),
            chunk_meta: Vec::new(),
            pages: Vec::new(),
        };
        let values = index.read_series(series)?;
        index.read_directory(directory, values)?;
        Ok(index)
    }

    /// Reads the series index; returns how many values the pages must hold.
    fn read_series(&mut self, bytes: &[u8]) -> Result<u64, FormatError> {
        let what = "chunk file series index";
        let mut cursor = Cursor::new(what, bytes);
        let count = cursor.varint()?;
        let count = u32::try_from(count).map_err(|_| FormatError::invalid(what, "more than 2^32 series"))? as usize;
        let most = |count: usize| count.saturating_sub(1) as u64;
        let sets = take_bounded(what, &mut cursor, count, u64::from(u32::MAX))?;
        let times = take_bounded(what, &mut cursor, count, most(self.times.len()))?;
        let flags = take_bounded(what, &mut cursor, count, 1)?;
        let constants = flags.iter().filter(|flag| **flag == 1).count();
        let exponents = take_bounded(what, &mut cursor, constants, u64::from(BITS))?;
        let numbers = take_column(what, &mut cursor, constants)?;
        let exponents_len = exponents.len();
        let constant = |(exponent, number): (u32, u64)| {
            if exponent == u32::from(BITS) { f64::from_bits(number) } else { to_value(unzigzag(number), exponent as u8) }
        };
        let mut constants = exponents.into_iter().zip(numbers).map(constant);
        if count > 0 && self.times.len() == 0 {
            return Err(FormatError::invalid(what, "series without times"));
        }
        let mut values = 0u64;
        let mut summarized: Vec<u32> = Vec::new();
        self.series.reserve_exact(count);
        self.varying.reserve_exact(count - exponents_len);
        for ((set, time), flag) in sets.into_iter().zip(times).zip(flags) {
            let mut entry = SeriesEntry { set, time, first: CONSTANT, constant: 0.0, summary: NONE };
            if flag == 1 {
                entry.constant = constants.next().ok_or_else(|| FormatError::invalid(what, "constant without a value"))?;
            } else {
                let points = self.times.points(time);
                entry.first = values;
                values += u64::from(points);
                if points >= SERIES_STATS_POINTS {
                    entry.summary = summarized.len() as u32;
                    summarized.push(points);
                }
                self.varying.push(self.series.len() as u32);
            }
            self.series.push(entry);
        }
        self.summaries = take_summaries(what, &mut cursor, &summarized, true)?;
        let own = usize::try_from(cursor.varint()?).map_err(|_| FormatError::invalid(what, "too much metadata"))?;
        let gaps = take_bounded(what, &mut cursor, own, count as u64)?;
        let mut next = 0u64;
        for (gap, meta) in gaps.into_iter().zip(take_metas(what, &mut cursor, own)?) {
            let at = next + u64::from(gap);
            if at >= count as u64 {
                return Err(FormatError::invalid(what, "metadata of no series"));
            }
            self.own_meta.push((at as u32, meta));
            next = at + 1;
        }
        cursor.finish()?;
        Ok(values)
    }

    fn read_directory(&mut self, bytes: &[u8], values: u64) -> Result<(), FormatError> {
        let what = "chunk file directory";
        let mut cursor = Cursor::new(what, bytes);
        let size = |count: u64| usize::try_from(count).map_err(|_| FormatError::invalid(what, "too many"));
        let count = size(cursor.varint()?)?;
        let orgs = take_bounded(what, &mut cursor, count, u64::from(u32::MAX))?;
        let names = take_strings(what, &mut cursor, count, METRIC_BYTES_MAX)?;
        let metas = take_metas(what, &mut cursor, count)?;
        let series = take_bounded(what, &mut cursor, count, self.series.len() as u64)?;
        let mut start = 0u64;
        for (((org, metric), meta), count) in orgs.into_iter().zip(names).zip(metas).zip(series) {
            let end = start + u64::from(count);
            let own = self.series.get(start as usize..end as usize).filter(|own| !own.is_empty());
            let own = own.ok_or_else(|| FormatError::invalid(what, "series of the metrics do not add up"))?;
            let points = own.iter().map(|series| u64::from(self.times.points(series.time))).sum();
            let edges = own.iter().map(|series| self.times.edges(series.time));
            let (min, max) = edges.fold((u32::MAX, 0), |(min, max), (first, last)| (min.min(first), max.max(last)));
            let at = |offset: u32| self.trailer.span.start_ms + i64::from(offset);
            let series = start as u32..end as u32;
            self.metrics.push(MetricEntry { org: OrgId(org), metric, meta, series, points, min_ms: at(min), max_ms: at(max) });
            start = end;
        }
        if start != self.series.len() as u64 || !self.metrics.is_sorted_by(|a, b| (a.org, &a.metric) < (b.org, &b.metric)) {
            return Err(FormatError::invalid(what, "metrics out of order or not covering all series"));
        }
        self.read_chunks(what, &mut cursor, values)?;
        cursor.finish()
    }

    fn read_chunks(&mut self, what: &'static str, cursor: &mut Cursor<'_>, values: u64) -> Result<(), FormatError> {
        let bad = |why: &str| FormatError::invalid(what, why);
        let count = usize::try_from(cursor.varint()?).map_err(|_| bad("too many chunks"))?;
        let same = take_bounded(what, cursor, count, count as u64)?;
        let transforms = take_bounded(what, cursor, count, u64::from(u8::MAX))?;
        let parameters = take_bounded(what, cursor, count, u64::from(u8::MAX))?;
        let divisors = take_column(what, cursor, count)?;
        let own = same.iter().filter(|same| **same == 0).count();
        let pages = take_bounded(what, cursor, own, u64::from(u32::MAX))?;
        let coders = take_bounded(what, cursor, own, u64::from(u8::MAX))?;
        let flags = take_bounded(what, cursor, own, 3)?;
        let lengths = take_bounded(what, cursor, own, 1 << 20)?;
        self.chunk_meta = take_blob(what, cursor, lengths.iter().map(|length| *length as usize).sum())?;
        let page_count = pages.iter().map(|pages| *pages as usize).sum();
        let page_points = take_bounded(what, cursor, page_count, PAGE_POINTS_MAX as u64)?;
        let page_lengths = take_bounded(what, cursor, page_count, 1 << 20)?;

        let (mut meta, mut page, mut own) = (0, 0, 0);
        for i in 0..count {
            let unknown = |field, number: u32| FormatError::Unknown { what, field, number: u64::from(number) };
            let transform = transform_of(transforms[i], parameters[i]).ok_or_else(|| unknown("transform", transforms[i]))?;
            let divisor = i64::try_from(divisors[i]).ok().filter(|divisor| *divisor > 0).ok_or_else(|| bad("divisor out of range"))?;
            if same[i] > 0 {
                let original = i.checked_sub(same[i] as usize).and_then(|original| self.chunks.get(original));
                let original = original.ok_or_else(|| bad("a chunk with the pages of none"))?.clone();
                self.chunks.push(ChunkEntry { transform, divisor, ..original });
                continue;
            }
            let coder = Coder::from_u8(coders[own] as u8).ok_or_else(|| unknown("coder", coders[own]))?;
            let (meta_end, page_end) = (meta + lengths[own] as usize, page + pages[own] as usize);
            let (exceptions, delta) = (flags[own] & 1 != 0, flags[own] & 2 != 0);
            let (meta_range, pages, original) = (meta..meta_end, page..page_end, i as u32);
            self.chunks.push(ChunkEntry { transform, coder, divisor, exceptions, delta, meta: meta_range, pages, original });
            (meta, page, own) = (meta_end, page_end, own + 1);
        }
        self.place_pages(what, &page_points, &page_lengths, values)?;
        let summarized: Vec<u32> = self.pages.iter().filter(|page| page.summary != NONE).map(|page| page.points).collect();
        self.page_summaries = take_summaries(what, cursor, &summarized, false)?;
        Ok(())
    }

    /// Running sums: where each page lies, and which series' values it holds. Pages that a chunk shares with another one come again.
    fn place_pages(&mut self, what: &'static str, points: &[u32], lengths: &[u32], values: u64) -> Result<(), FormatError> {
        let bad = |why: &str| FormatError::invalid(what, why);
        let (mut at, mut first, mut varying, mut summaries) = (HEADER_BYTES as u64, 0, 0, 0);
        let mut positions: Vec<u64> = Vec::with_capacity(points.len());
        for (number, chunk) in self.chunks.iter_mut().enumerate() {
            let entries = self.pages.len();
            for page in chunk.pages.clone() {
                let (points, length) = (points[page], lengths[page] + CRC_BYTES as u32);
                if number == chunk.original as usize {
                    positions.push(at);
                    at += u64::from(length);
                }
                let position = positions.get(page).copied().ok_or_else(|| bad("pages before their chunk"))?;
                let mut entry =
                    PageEntry { at: position, length, first, points, chunk: number as u32, first_varying: varying, summary: NONE };
                first += u64::from(points);
                let mut has_short = false;
                while let Some(series) = self.varying.get(varying as usize).map(|series| &self.series[*series as usize]) {
                    let end = series.first + u64::from(self.times.points(series.time));
                    has_short |= series.summary == NONE;
                    varying += u32::from(end <= first);
                    if end >= first {
                        break;
                    }
                }
                if points == 0 || first > values {
                    return Err(bad("page without points, or beyond the last series"));
                }
                if has_short {
                    entry.summary = summaries;
                    summaries += 1;
                }
                self.pages.push(entry);
            }
            chunk.pages = entries..self.pages.len();
        }
        if at != self.trailer.times_at || first != values {
            return Err(bad("pages do not add up to the file, or their points not to the series"));
        }
        Ok(())
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
            let labels = Labels::read(&self.label_bytes)?;
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

    /// Series of a metric (position in [`Self::metrics`]) whose tags pass the filter; none when the metric is not of `org`.
    ///
    /// # Errors
    /// A position that is no metric of this file: a bug of the caller.
    pub fn select(&self, org: OrgId, metric_index: usize, filter: &mut dyn FnMut(&[Tag]) -> bool) -> Result<Vec<u32>, FormatError> {
        let metric = self.metrics.get(metric_index).ok_or_else(|| FormatError::invalid(WHAT, format!("no metric {metric_index}")))?;
        if metric.org != org {
            return Ok(Vec::new());
        }
        let (mut tags, mut selected, labels) = (Vec::new(), Vec::new(), self.labels()?);
        for series in metric.series.clone() {
            labels.tags(self.entry(series)?.set, &mut tags);
            if filter(&tags) {
                selected.push(series);
            }
        }
        Ok(selected)
    }

    /// What aggregates over all points of a series need, if the index knows it: of constants and of series of 256 points and more.
    pub fn statistics(&self, series: u32) -> Option<Statistics> {
        let entry = self.series.get(series as usize)?;
        let count = u64::from(self.times.points(entry.time));
        if let Some(value) = entry.constant() {
            let nans = if value.is_nan() { count } else { 0 };
            let sum = if value.is_nan() { 0.0 } else { value * count as f64 };
            return Some(Statistics { count, nans, min: value, max: value, sum, first: value, last: value });
        }
        match self.summaries.get(entry.summary as usize)? {
            Summary::Doubles(doubles) => Some(doubles.statistics(count)),
            Summary::Integers(integers) => {
                let page = self.pages.get(self.page_of(entry.first))?;
                let chunk = self.chunks.get(page.chunk as usize)?;
                Some(integers.statistics(chunk.transform, chunk.divisor, count))
            }
        }
    }

    pub(super) fn first_value(&self, series: &SeriesEntry) -> u64 {
        series.first
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

fn transform_of(number: u32, parameter: u32) -> Option<Transform> {
    let parameter = u8::try_from(parameter).ok()?;
    match number {
        1 if parameter <= EXPONENT_MAX => Some(Transform::Decimal(parameter)),
        2 if parameter <= SCALE_MAX => Some(Transform::Binary(parameter)),
        3 if parameter == 0 => Some(Transform::Double),
        4 if parameter == 0 => Some(Transform::Dictionary),
        _ => None,
    }
}

fn no_series(series: u32) -> FormatError {
    FormatError::invalid(WHAT, format!("no series {series}"))
}

fn take_metas(what: &'static str, cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<MetricMeta>, FormatError> {
    let kinds = take_bounded(what, cursor, count, u64::from(u8::MAX))?;
    let intervals = take_bounded(what, cursor, count, u64::from(u32::MAX))?;
    let units = take_strings(what, cursor, count, META_BYTES_MAX)?;
    let helps = take_strings(what, cursor, count, META_BYTES_MAX)?;
    let fields = kinds.into_iter().zip(intervals).zip(units).zip(helps);
    fields
        .map(|(((kind, interval_s), unit), help)| {
            let unknown = FormatError::Unknown { what, field: "metric kind", number: u64::from(kind) };
            Ok(MetricMeta { kind: MetricKind::from_u8(kind as u8).ok_or(unknown)?, unit, interval_s, help })
        })
        .collect()
}

//! Sections of the tail -> [`ChunkIndex`]: series index and directory, with the running sums that place every value. What does not add up is refused.

use super::assemble::BITS;
use super::coder::Coder;
use super::column::{take_blob, take_bounded, take_column, take_strings};
use super::index::{CONSTANT, ChunkEntry, ChunkIndex, META_BYTES_MAX, MetricEntry, NONE, PageEntry, SeriesEntry};
use super::layout::{CRC_BYTES, HEADER_BYTES};
use super::pages::PAGE_POINTS_MAX;
use super::summary::take_summaries;
use super::value::{EXPONENT_MAX, SCALE_MAX, Transform, to_value};
use super::values::ValueKind;
use super::zigzag::unzigzag;
use crate::FormatError;
use crate::bytes::Cursor;
use tailors_model::limits::{METRIC_BYTES_MAX, SERIES_STATS_POINTS};
use tailors_model::{MetricKind, MetricMeta, OrgId};

impl ChunkIndex {
    /// Reads the series index, paying from `allowance`; returns how many values the pages must hold.
    pub(super) fn read_series(&mut self, bytes: &[u8], allowance: &mut u64) -> Result<u64, FormatError> {
        let what = "chunk file series index";
        let mut cursor = Cursor::within(what, bytes, *allowance);
        let count = cursor.varint()?;
        let count = u32::try_from(count).map_err(|_| FormatError::invalid(what, "more than 2^32 series"))? as usize;
        let most = |count: usize| count.saturating_sub(1) as u64;
        let sets = take_bounded(what, &mut cursor, count, u64::from(u32::MAX))?;
        let times = take_bounded(what, &mut cursor, count, most(self.times.len()))?;
        let runs = usize::try_from(cursor.varint()?).ok().filter(|runs| *runs <= count + 1);
        let runs = runs.ok_or_else(|| FormatError::invalid(what, "more runs of constants than series"))?;
        let runs = take_bounded(what, &mut cursor, runs, count as u64)?;
        if runs.iter().map(|run| u64::from(*run)).sum::<u64>() != count as u64 {
            return Err(FormatError::invalid(what, "runs of constants do not add up"));
        }
        let constants = runs.iter().skip(1).step_by(2).map(|run| *run as usize).sum();
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
        cursor.pay(count, size_of::<SeriesEntry>())?;
        cursor.pay(count - exponents_len, size_of::<u32>())?;
        let mut values = 0u64;
        let mut summarized: Vec<u32> = Vec::new();
        self.series.reserve_exact(count);
        self.varying.reserve_exact(count - exponents_len);
        let is_constant = runs.iter().zip([false, true].into_iter().cycle()).flat_map(|(run, is)| std::iter::repeat_n(is, *run as usize));
        for ((set, time), is_constant) in sets.into_iter().zip(times).zip(is_constant) {
            let mut entry = SeriesEntry { set, time, first: CONSTANT, constant: 0.0, summary: NONE };
            if is_constant {
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
        *allowance = cursor.allowance();
        cursor.finish()?;
        Ok(values)
    }

    pub(super) fn read_directory(&mut self, bytes: &[u8], values: u64, allowance: u64) -> Result<(), FormatError> {
        let what = "chunk file directory";
        let mut cursor = Cursor::within(what, bytes, allowance);
        let size = |count: u64| usize::try_from(count).map_err(|_| FormatError::invalid(what, "too many"));
        let count = size(cursor.varint()?)?;
        let orgs = take_bounded(what, &mut cursor, count, u64::from(u32::MAX))?;
        let names = take_strings(what, &mut cursor, count, METRIC_BYTES_MAX)?;
        let metas = take_metas(what, &mut cursor, count)?;
        let series = take_bounded(what, &mut cursor, count, self.series.len() as u64)?;
        cursor.pay(count, size_of::<MetricEntry>())?;
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

        cursor.pay(count, size_of::<ChunkEntry>())?;
        let (mut meta, mut page, mut own) = (0, 0, 0);
        for i in 0..count {
            let unknown = |field, number: u32| FormatError::Unknown { what, field, number: u64::from(number) };
            let transform = transform_of(transforms[i], parameters[i]).ok_or_else(|| unknown("transform", transforms[i]))?;
            let divisor = i64::try_from(divisors[i]).ok().filter(|divisor| *divisor > 0).ok_or_else(|| bad("divisor out of range"))?;
            if same[i] > 0 {
                let original = i.checked_sub(same[i] as usize).and_then(|original| self.chunks.get(original));
                let original = original.filter(|original| original.transform.kind() == transform.kind());
                let original = original.ok_or_else(|| bad("a chunk with the pages of none, or of one of another kind"))?.clone();
                self.chunks.push(ChunkEntry { transform, divisor, ..original });
                continue;
            }
            let coder = Coder::from_u8(coders[own] as u8).ok_or_else(|| unknown("coder", coders[own]))?;
            let (meta_end, page_end) = (meta + lengths[own] as usize, page + pages[own] as usize);
            let (exceptions, delta) = (flags[own] & 1 != 0, flags[own] & 2 != 0);
            let (meta_range, pages, original) = (meta..meta_end, page..page_end, i as u32);
            let is_plain = (coder, flags[own], divisor) == (Coder::Columns, 0, 1);
            if exceptions && !transform.is_fraction() {
                return Err(bad("exceptions of what holds every double"));
            }
            if is_plain != (transform.kind() != ValueKind::Doubles) || coder == Coder::Columns && !is_plain {
                return Err(bad("a coder of another kind of values"));
            }
            self.chunks.push(ChunkEntry { transform, coder, divisor, exceptions, delta, meta: meta_range, pages, original });
            (meta, page, own) = (meta_end, page_end, own + 1);
        }
        // Shared pages come once per chunk.
        let placed = self.chunks.iter().map(|chunk| chunk.pages.len()).fold(page_points.len(), usize::saturating_add);
        cursor.pay(placed, size_of::<PageEntry>())?;
        self.place_pages(what, &page_points, &page_lengths, values)?;
        let summarized: Vec<u32> = self.pages.iter().filter(|page| page.summary != NONE).map(|page| page.points).collect();
        self.page_summaries = take_summaries(what, cursor, &summarized, false)?;
        self.check_kinds(what)
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
}

pub(super) fn transform_of(number: u32, parameter: u32) -> Option<Transform> {
    let parameter = u8::try_from(parameter).ok()?;
    match number {
        1 if parameter <= EXPONENT_MAX => Some(Transform::Decimal(parameter)),
        2 if parameter <= SCALE_MAX => Some(Transform::Binary(parameter)),
        3 if parameter == 0 => Some(Transform::Double),
        4 if parameter == 0 => Some(Transform::Dictionary),
        5 if parameter == 0 => Some(Transform::Sketch),
        6 if parameter == 0 => Some(Transform::Histogram),
        _ => None,
    }
}

fn take_metas(what: &'static str, cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<MetricMeta>, FormatError> {
    let kinds = take_bounded(what, cursor, count, u64::from(u8::MAX))?;
    let intervals = take_bounded(what, cursor, count, u64::from(u32::MAX))?;
    let units = take_strings(what, cursor, count, META_BYTES_MAX)?;
    let helps = take_strings(what, cursor, count, META_BYTES_MAX)?;
    cursor.pay(count, size_of::<(u32, MetricMeta)>())?;
    let fields = kinds.into_iter().zip(intervals).zip(units).zip(helps);
    fields
        .map(|(((kind, interval_s), unit), help)| {
            let unknown = FormatError::Unknown { what, field: "metric kind", number: u64::from(kind) };
            Ok(MetricMeta { kind: MetricKind::from_u8(kind as u8).ok_or(unknown)?, unit, interval_s, help })
        })
        .collect()
}

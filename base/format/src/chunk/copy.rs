//! A metric of an opened file -> a bucket of another file, its pages as they are: checked by their old seals, to be sealed anew by `assemble`.

use std::ops::Range;

use tailors_model::MetricMeta;

use super::encode::{BucketSeries, EncodedBucket};
use super::index::{ChunkIndex, MetricEntry, NONE};
use super::labels::TagSets;
use super::layout::{CRC_BYTES, WHAT};
use super::pages::Chunk;
use super::times::TimeColumn;
use crate::FormatError;

impl ChunkIndex {
    /// The pages that hold a metric's values and no other's, in whole chunks; `None` where a file has none such.
    pub(super) fn pages_of(&self, metric: &MetricEntry) -> Option<Range<usize>> {
        let entries = self.series.get(metric.series.start as usize..metric.series.end as usize)?;
        let varying = || entries.iter().filter(|entry| entry.constant().is_none());
        let (Some(first), Some(last)) = (varying().next(), varying().next_back()) else { return Some(0..0) };
        let end = last.first + u64::from(self.times.points(last.time));
        let pages = self.page_of(first.first)..self.page_of(end - 1) + 1;
        let (first_page, last_page) = (self.pages.get(pages.start)?, self.pages.get(pages.end - 1)?);
        let is_alone = first_page.first == first.first && last_page.first + u64::from(last_page.points) == end;
        let starts = self.chunks.get(first_page.chunk as usize)?.pages.start == pages.start;
        let ends = self.chunks.get(last_page.chunk as usize)?.pages.end == pages.end;
        (is_alone && starts && ends).then_some(pages)
    }

    /// Bytes of pages, checksums included.
    pub(super) fn bytes_of_pages(&self, pages: Range<usize>) -> u64 {
        self.pages.get(pages).unwrap_or(&[]).iter().map(|page| u64::from(page.length)).sum()
    }

    /// Points of a series at `from_ms <= time < to_ms`, Unix milliseconds; 0 for a number that is none.
    pub fn points_between(&self, series: u32, from_ms: i64, to_ms: i64) -> u32 {
        let start_ms = self.span().start_ms;
        let own = |at_ms: i64| u32::try_from(at_ms - start_ms).unwrap_or(if at_ms < start_ms { 0 } else { u32::MAX });
        self.series.get(series as usize).map_or(0, |entry| self.times.points_between(entry.time, own(from_ms), own(to_ms)))
    }

    /// A metric as a bucket whose times are `shift` milliseconds later; `meta` is what the new file says of the metric, `page` gives bytes of this file.
    pub(super) fn copy_metric<'a>(
        &self,
        metric: &MetricEntry,
        meta: &MetricMeta,
        shift: u32,
        page: impl Fn(&Range<u64>) -> Option<&'a [u8]>,
    ) -> Result<EncodedBucket, FormatError> {
        let bad = |why: &str| FormatError::invalid(WHAT, why);
        let pages = self.pages_of(metric).ok_or_else(|| bad("pages that hold values of two metrics"))?;
        let mut numbers: Vec<(u32, u32)> = Vec::new();
        let mut times: Vec<TimeColumn> = Vec::new();
        let (mut series, mut sets) = (Vec::with_capacity(metric.series.len()), Vec::with_capacity(metric.series.len()));
        for number in metric.series.clone() {
            let entry = self.entry(number)?;
            let known = numbers.binary_search_by_key(&entry.time, |(column, _)| *column);
            let time = match known {
                Ok(at) => numbers[at].1,
                Err(at) => {
                    numbers.insert(at, (entry.time, times.len() as u32));
                    times.push(self.times.shifted(entry.time, shift)?);
                    times.len() as u32 - 1
                }
            };
            let own = self.meta(number)?;
            sets.push(self.tags(number)?);
            series.push(BucketSeries {
                meta: (own != meta).then(|| own.clone()),
                time,
                constant: entry.constant(),
                summary: self.summaries.get(entry.summary as usize).copied(),
                points: self.times.points(entry.time),
            });
        }
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut chunk_number = None;
        for entry in self.pages.get(pages).unwrap_or(&[]) {
            let from = self.chunks.get(entry.chunk as usize).ok_or_else(|| bad("page of no chunk"))?;
            if chunk_number.replace(entry.chunk) != Some(entry.chunk) {
                chunks.push(Chunk {
                    transform: from.transform,
                    coder: from.coder,
                    divisor: from.divisor.unsigned_abs(),
                    exceptions: from.exceptions,
                    delta: from.delta,
                    meta: self.chunk_meta.get(from.meta.clone()).unwrap_or(&[]).to_vec(),
                    page_points: Vec::with_capacity(from.pages.len()),
                    page_lengths: Vec::with_capacity(from.pages.len()),
                    page_summaries: Vec::with_capacity(from.pages.len()),
                    bytes: Vec::new(),
                });
            }
            let stored = page(&(entry.at..entry.at + u64::from(entry.length))).ok_or_else(|| bad("a page that was not fetched"))?;
            let body = self.check_page(entry, stored)?;
            debug_assert_eq!(body.len() + CRC_BYTES, entry.length as usize, "a page and its checksum");
            let Some(chunk) = chunks.last_mut() else { continue };
            chunk.page_points.push(entry.points as usize);
            chunk.page_lengths.push(body.len());
            chunk.page_summaries.push(if entry.summary == NONE { None } else { self.page_summaries.get(entry.summary as usize).copied() });
            chunk.bytes.extend_from_slice(body);
        }
        Ok(EncodedBucket::of_parts(
            (metric.org, metric.metric.clone(), meta.clone()),
            (series, TagSets::of(sets.iter().map(Vec::as_slice))),
            times,
            chunks,
            metric.points,
        ))
    }
}

//! Values of a group of series -> chunks of pages: cut, transform, divide, difference, compress, and what summaries need on the way.
//!
//! ```text
//! page   odd doubles (if the chunk has exceptions) | first integer of each part (if it holds differences) | integers, as the chunk's coder writes them
//! ```
//! A *part* is what a page holds of one series: all of a short one, up to 65,536 points of a long one.

use std::ops::Range;

use tailors_model::limits::{PACKED_PAGE_POINTS, PCO_CHUNK_POINTS, SERIES_STATS_POINTS};

use super::coder::{Coded, Coder, encode_bytes, encode_integers};
use super::column::put_column;
use super::exceptions::{Codes, put_odds};
use super::summary::{DoubleSummary, IntegerSummary, Summary};
use super::value::{Transform, differences, divide, gcd_of, to_integers};
use super::zigzag::zigzag;
use crate::FormatError;
use crate::bytes::put_varint;

/// Points of a page at most, so that its checksum never covers more than 1 MiB, whatever the values.
pub(super) const PAGE_POINTS_MAX: usize = 65_536;
/// Entries of a dictionary at most: it lies in the index.
pub(super) const DICTIONARY_MAX: usize = 16_384;
/// Points that a page of the byte coder holds at least: zstd learns from what it has seen.
const BYTES_PAGE_POINTS: usize = 16_384;

/// Values of one class, at most 2^18, in pages.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) transform: Transform,
    pub(super) coder: Coder,
    pub(super) divisor: u64,
    /// Some integers stand for exceptions.
    pub(super) exceptions: bool,
    /// Pages hold differences inside each part.
    pub(super) delta: bool,
    /// What stands for exceptions, or the dictionary, if there are any, and the coder's metadata.
    pub(super) meta: Vec<u8>,
    pub(super) page_points: Vec<usize>,
    pub(super) page_lengths: Vec<usize>,
    /// Of pages that hold a series too short for a summary of its own.
    pub(super) page_summaries: Vec<Option<Summary>>,
    pub(super) bytes: Vec<u8>,
}

/// Buffers of encoding, reused from chunk to chunk.
#[derive(Default)]
pub(super) struct EncodeScratch {
    /// One for each value.
    integers: Vec<i64>,
    exceptions: Vec<(usize, u64)>,
    /// What is given to the coder where that is not `integers`: one for each value, or for each value but the first of a part.
    coded: Vec<i64>,
}

/// A run of one series' points.
#[derive(Clone, Copy, Debug)]
struct Part {
    series: usize,
    skip: usize,
    points: usize,
    is_short: bool,
}

/// Encodes the series of a group, in order. Returns the summaries of those that have one.
pub(super) fn encode_group(
    series: &[&[f64]],
    transform: Transform,
    delta: bool,
    scratch: &mut EncodeScratch,
    chunks: &mut Vec<Chunk>,
) -> Result<Vec<Option<Summary>>, FormatError> {
    let mut summaries: Vec<Option<Summary>> = vec![None; series.len()];
    for parts in cut_chunks(series) {
        let values = || parts.iter().map(|part| &series[part.series][part.skip..part.skip + part.points]);
        let mut chunk = encode_chunk(&parts, values, transform, delta, scratch)?;
        summarize(&parts, series, &mut chunk, scratch, &mut summaries);
        chunks.push(chunk);
    }
    Ok(summaries)
}

/// Parts of each chunk.
fn cut_chunks(series: &[&[f64]]) -> Vec<Vec<Part>> {
    let mut chunks: Vec<Vec<Part>> = Vec::new();
    let mut points = 0;
    for (number, values) in series.iter().enumerate() {
        let parts = values.len().div_ceil(PAGE_POINTS_MAX);
        for part in 0..parts {
            let (skip, end) = (values.len() * part / parts, values.len() * (part + 1) / parts);
            // A short rest had better share a chunk than open one.
            if chunks.is_empty() || points + (end - skip) > PCO_CHUNK_POINTS {
                chunks.push(Vec::new());
                points = 0;
            }
            points += end - skip;
            let part = Part { series: number, skip, points: end - skip, is_short: values.len() < SERIES_STATS_POINTS as usize };
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(part);
            }
        }
    }
    chunks
}

/// Parts of each page: packed until a page has `packed` points, parts of that many alone.
fn cut_pages(parts: &[Part], packed: usize) -> Vec<Range<usize>> {
    let mut pages: Vec<Range<usize>> = Vec::new();
    let (mut from, mut points) = (0, 0);
    for (i, part) in parts.iter().enumerate() {
        let alone = part.points >= packed;
        if alone && points > 0 {
            pages.push(from..i);
            (from, points) = (i, 0);
        }
        points += part.points;
        if points >= packed {
            pages.push(from..i + 1);
            (from, points) = (i + 1, 0);
        }
    }
    if points > 0 {
        let rest = parts.len();
        match pages.last_mut() {
            // A rest joins the page before, unless a long part has that alone.
            Some(last) if last.len() > 1 || parts[last.start].points < packed => last.end = rest,
            _ => pages.push(from..rest),
        }
    }
    pages
}

fn encode_chunk<'a, I: Iterator<Item = &'a [f64]>>(
    parts: &[Part],
    values: impl Fn() -> I,
    transform: Transform,
    delta: bool,
    scratch: &mut EncodeScratch,
) -> Result<Chunk, FormatError> {
    let EncodeScratch { integers, exceptions, .. } = scratch;
    integers.clear();
    integers.reserve(parts.iter().map(|part| part.points).sum());
    exceptions.clear();
    values().for_each(|values| to_integers(values, transform, integers, exceptions));
    let (mut divisor, mut dictionary) = (1, Vec::new());
    match transform {
        Transform::Decimal(_) | Transform::Binary(_) => divisor = gcd_of(integers),
        Transform::Double if !delta => dictionary = dictionary_of(integers).unwrap_or_default(),
        _ => {}
    }
    divide(integers, divisor);
    let plain = Plan { parts, transform, divisor, delta };
    let chunk = plain.encode(&scratch.integers, &scratch.exceptions, &mut scratch.coded)?;
    if dictionary.is_empty() {
        return Ok(chunk);
    }
    let codes: Vec<i64> = scratch.integers.iter().map(|integer| dictionary.partition_point(|entry| entry < integer) as i64).collect();
    let mut other = Plan { transform: Transform::Dictionary, ..plain }.encode(&codes, &[], &mut scratch.coded)?;
    let mut meta = Vec::new();
    put_varint(&mut meta, dictionary.len() as u64);
    put_column(&mut meta, &dictionary.iter().map(|entry| *entry as u64).collect::<Vec<_>>())?;
    meta.append(&mut other.meta);
    other.meta = meta;
    Ok(if other.len() < chunk.len() { other } else { chunk })
}

/// Distinct integers, sorted, if they are few.
fn dictionary_of(integers: &[i64]) -> Option<Vec<i64>> {
    let few = |integers: &[i64]| {
        let mut distinct = integers.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        (distinct.len() <= DICTIONARY_MAX && distinct.len() * 3 <= integers.len()).then_some(distinct)
    };
    let step = integers.len().div_ceil(2_048).max(1);
    let mut sample: Vec<i64> = integers.iter().step_by(step).copied().collect();
    let sampled = sample.len();
    sample.sort_unstable();
    sample.dedup();
    if sample.len() * 10 > sampled * 9 { None } else { few(integers) }
}

/// How the integers of a chunk are to be written.
#[derive(Clone, Copy)]
struct Plan<'a> {
    parts: &'a [Part],
    transform: Transform,
    divisor: i64,
    delta: bool,
}

impl Plan<'_> {
    /// Tries the coders on the integers, keeps the smaller.
    fn encode(self, integers: &[i64], exceptions: &[(usize, u64)], scratch: &mut Vec<i64>) -> Result<Chunk, FormatError> {
        let (coded, codes) = self.code(integers, exceptions, scratch);
        let pages = cut_pages(self.parts, PACKED_PAGE_POINTS);
        let (coder, best) = encode_integers(coded, &self.coded_sizes(&pages))?;
        // Where entropy coding leaves little, repeated patterns may leave less.
        if best.len() * 2 < integers.len() {
            let wide = cut_pages(self.parts, BYTES_PAGE_POINTS);
            let heads = |pages: &[Range<usize>]| pages.len() * super::layout::CRC_BYTES;
            let most = (best.len() + heads(&pages)).saturating_sub(heads(&wide));
            if let Some(bytes) = encode_bytes(coded, &self.coded_sizes(&wide), most)? {
                return Ok(self.chunk(Coder::Bytes, bytes, &wide, (integers, exceptions, codes)));
            }
        }
        Ok(self.chunk(coder, best, &pages, (integers, exceptions, codes)))
    }

    /// What the coder gets: integers or differences inside each part, and integers that stand for exceptions.
    fn code<'a>(&self, integers: &'a [i64], exceptions: &[(usize, u64)], out: &'a mut Vec<i64>) -> (&'a [i64], Option<Codes>) {
        if !self.delta && exceptions.is_empty() {
            return (integers, None);
        }
        out.clear();
        if self.delta {
            let mut rest = integers;
            for part in self.parts {
                let (own, after) = rest.split_at(part.points);
                out.extend(differences(own));
                rest = after;
            }
        } else {
            out.extend_from_slice(integers);
        }
        if exceptions.is_empty() {
            return (out, None);
        }
        let codes = Codes::of(out, exceptions);
        let (mut parts, mut end, mut firsts) = (self.parts.iter(), 0, 0);
        for (at, bits) in exceptions {
            while *at >= end {
                firsts += usize::from(self.delta);
                end += parts.next().map_or(usize::MAX, |part| part.points);
            }
            // The first value of a part is no difference: it stands in the page's head.
            let is_first = self.delta && *at == end - self.parts[firsts - 1].points;
            if !is_first {
                out[at - firsts] = codes.integer(*bits);
            }
        }
        (out, Some(codes))
    }

    fn points(&self, page: &Range<usize>) -> usize {
        self.parts[page.clone()].iter().map(|part| part.points).sum()
    }

    fn coded_sizes(&self, pages: &[Range<usize>]) -> Vec<usize> {
        pages.iter().map(|page| self.points(page) - if self.delta { page.len() } else { 0 }).collect()
    }

    fn chunk(self, coder: Coder, coded: Coded, pages: &[Range<usize>], (integers, exceptions, codes): Source<'_>) -> Chunk {
        let mut meta = Vec::new();
        if let Some(codes) = &codes {
            codes.put(&mut meta);
        }
        meta.extend_from_slice(&coded.meta);
        let mut chunk = Chunk {
            transform: self.transform,
            coder,
            divisor: self.divisor.unsigned_abs(),
            exceptions: codes.is_some(),
            delta: self.delta,
            meta,
            page_points: Vec::with_capacity(pages.len()),
            page_lengths: Vec::with_capacity(pages.len()),
            page_summaries: Vec::with_capacity(pages.len()),
            bytes: Vec::with_capacity(coded.pages.len() + pages.len() * 8),
        };
        let (mut start, mut rest, mut bytes) = (0, exceptions, coded.pages.as_slice());
        for (page, length) in pages.iter().zip(coded.page_lengths) {
            let (before, points) = (chunk.bytes.len(), self.points(page));
            let (own, after) = rest.split_at(rest.partition_point(|(at, _)| *at < start + points));
            if let Some(codes) = &codes {
                put_odds(&mut chunk.bytes, codes, own);
            }
            if self.delta {
                self.put_firsts(&mut chunk.bytes, &self.parts[page.clone()], (start, integers), codes.as_ref().map(|codes| (codes, own)));
            }
            let (body, following) = bytes.split_at(length);
            chunk.bytes.extend_from_slice(body);
            chunk.page_points.push(points);
            chunk.page_lengths.push(chunk.bytes.len() - before);
            chunk.page_summaries.push(None);
            (start, rest, bytes) = (start + points, after, following);
        }
        chunk
    }

    /// First integer of each part, as the difference from that of the part before; in a chunk with exceptions, also whether it is one, and which.
    fn put_firsts(
        &self,
        out: &mut Vec<u8>,
        parts: &[Part],
        (start, integers): (usize, &[i64]),
        exceptions: Option<(&Codes, &[(usize, u64)])>,
    ) {
        let (mut before, mut at) = (0i64, start);
        for part in parts {
            let first = zigzag(integers[at].wrapping_sub(before));
            if let Some((codes, exceptions)) = exceptions {
                let found = exceptions.binary_search_by_key(&at, |(at, _)| *at).ok();
                put_varint(out, first << 1 | u64::from(found.is_some()));
                found.iter().for_each(|found| put_varint(out, codes.number(exceptions[*found].1) as u64));
            } else {
                put_varint(out, first);
            }
            before = integers[at];
            at += part.points;
        }
    }
}

/// Integers of a chunk, its exceptions, and what stands for them.
type Source<'a> = (&'a [i64], &'a [(usize, u64)], Option<Codes>);

impl Chunk {
    fn len(&self) -> usize {
        self.meta.len() + self.bytes.len()
    }
}

/// Fills in the summaries of long series, and of pages with short ones.
fn summarize(parts: &[Part], series: &[&[f64]], chunk: &mut Chunk, scratch: &EncodeScratch, summaries: &mut [Option<Summary>]) {
    let is_fraction = chunk.transform.is_fraction();
    let summary = |range: Range<usize>, values: &mut dyn Iterator<Item = f64>| {
        let has_exception =
            scratch.exceptions.partition_point(|(at, _)| *at < range.start) < scratch.exceptions.partition_point(|(at, _)| *at < range.end);
        let integers = is_fraction && !has_exception;
        let integers = integers.then(|| IntegerSummary::of(&scratch.integers[range])).flatten();
        integers.map_or_else(|| Summary::Doubles(DoubleSummary::of(values)), Summary::Integers)
    };
    let (mut part, mut start) = (0, 0);
    for (page, points) in chunk.page_points.iter().enumerate() {
        let (first_part, end, mut has_short) = (part, start + points, false);
        let mut at = start;
        while at < end {
            let own = parts[part];
            let values = series[own.series];
            has_short |= own.is_short;
            if !own.is_short && own.skip == 0 {
                // A series of several parts may have several divisors.
                let range = if own.points == values.len() { at..at + own.points } else { 0..0 };
                summaries[own.series] = Some(summary(range, &mut values.iter().copied()));
            }
            at += own.points;
            part += 1;
        }
        if has_short {
            let values = parts[first_part..part].iter().flat_map(|own| &series[own.series][own.skip..own.skip + own.points]);
            chunk.page_summaries[page] = Some(summary(start..end, &mut values.copied()));
        }
        start = end;
    }
}

//! A bucket -> its pages: classify, order, transform, cut, compress. Pure; knows no shard, span or position, so buckets encode in parallel.

use std::collections::BTreeMap;

use bytes::Bytes;
use tailors_model::limits::{METRIC_BYTES_MAX, PACKED_PAGE_POINTS, PCO_CHUNK_POINTS};
use tailors_model::{MetricMeta, OrgId, Tag};

use super::pages::{PcoBytes, encode_best};
use super::times::TimeColumn;
use super::value::{Class, classify, fits, gcd_of, to_integer};
use crate::FormatError;
use crate::bytes::put_varint;

const WHAT: &str = "bucket";
/// Points of a page at most, so that its checksum never covers more than 1 MiB, whatever the values.
pub(super) const PAGE_POINTS_MAX: usize = 65_536;

/// One series of a bucket.
#[derive(Clone, Debug)]
pub struct SeriesColumn {
    /// Canonical tags (sorted, no duplicates).
    pub tags: Vec<Tag>,
    /// Metadata of this series where it differs from the metric's, else equal to [`BucketInput::meta`] or default.
    pub meta: MetricMeta,
    /// Milliseconds from the start of the span, strictly increasing, at least one.
    pub timestamps: Vec<u32>,
    /// Values; as long as `timestamps`.
    pub values: Vec<f64>,
}

/// Some series of one metric: the unit of parallel encoding.
#[derive(Clone, Debug)]
pub struct BucketInput {
    /// Tenant.
    pub org: OrgId,
    /// Metric name.
    pub metric: Bytes,
    /// Metadata of the metric.
    pub meta: MetricMeta,
    /// Series, in any order; no two with equal tags.
    pub series: Vec<SeriesColumn>,
}

/// Encodings of a chunk of values; closed, an unknown number is an error. 5 BIN, 6 DICT, 7 BYTES and 8 SAME are kept for the codec issue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Encoding {
    /// Integers x divisor / 10^exponent as pco i32.
    DecI32 = 1,
    /// The same as pco i64.
    DecI64 = 2,
    /// pco f64.
    F64 = 3,
    /// Little-endian doubles.
    Raw = 4,
}

impl Encoding {
    pub(super) fn from_u8(number: u8) -> Option<Self> {
        [Self::DecI32, Self::DecI64, Self::F64, Self::Raw].into_iter().find(|encoding| *encoding as u8 == number)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DecI32 => "dec-i32",
            Self::DecI64 => "dec-i64",
            Self::F64 => "f64",
            Self::Raw => "raw",
        }
    }
}

/// Values of one class, at most 2^18, in pages.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) encoding: Encoding,
    pub(super) exponent: u8,
    pub(super) divisor: u64,
    /// Every page begins with its exceptions.
    pub(super) exceptions: bool,
    pub(super) meta: Vec<u8>,
    pub(super) page_points: Vec<usize>,
    pub(super) page_lengths: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// A series as the file's index will hold it.
#[derive(Clone, Debug)]
pub(super) struct BucketSeries {
    pub(super) tags: Vec<Tag>,
    /// Where it differs from the metric's.
    pub(super) meta: Option<MetricMeta>,
    /// Column of [`EncodedBucket::times`].
    pub(super) time: u32,
    /// The value of a constant series; the others' lie in the chunks, in series order.
    pub(super) constant: Option<f64>,
}

/// An encoded bucket, ready for [`crate::chunk::assemble`].
#[derive(Clone, Debug)]
pub struct EncodedBucket {
    pub(super) org: OrgId,
    pub(super) metric: Bytes,
    pub(super) meta: MetricMeta,
    pub(super) series: Vec<BucketSeries>,
    pub(super) times: Vec<TimeColumn>,
    pub(super) chunks: Vec<Chunk>,
    points: u64,
}

impl EncodedBucket {
    /// Points in it.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Series in it.
    pub fn series(&self) -> u64 {
        self.series.len() as u64
    }

    /// Bytes of its pages.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum()
    }
}

/// Encodes a bucket. Pure and deterministic: equal series in any order give equal bytes.
///
/// # Errors
/// [`FormatError::Invalid`] when the input breaks what [`BucketInput`] asks for: that is a bug of the caller.
pub fn encode_bucket(input: &BucketInput) -> Result<EncodedBucket, FormatError> {
    check(input)?;
    let classes: Vec<Class> = input.series.iter().map(|series| classify(&series.values)).collect();
    let (mut order, mut chunks) = encode_classes(input, &classes)?;
    // Series at different exponents: one class for all decimals may share bins better. Tried on the real bytes.
    if let Some(common) = common_exponent(input, &classes) {
        let merged: Vec<Class> =
            classes.iter().map(|class| if matches!(class, Class::Decimal(_)) { Class::Decimal(common) } else { *class }).collect();
        let (other_order, other) = encode_classes(input, &merged)?;
        let size = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.meta.len() + chunk.bytes.len()).sum::<usize>();
        if size(&other) < size(&chunks) {
            (order, chunks) = (other_order, other);
        }
    }
    let mut times: Vec<TimeColumn> = Vec::new();
    let mut known: BTreeMap<TimeColumn, u32> = BTreeMap::new();
    let mut series = Vec::with_capacity(order.len());
    for i in order {
        let column = &input.series[i];
        let time_column = TimeColumn::of(&column.timestamps);
        let time = *known.entry(time_column).or_insert_with_key(|column| {
            times.push(column.clone());
            times.len() as u32 - 1
        });
        let own_meta = column.meta != input.meta && column.meta != MetricMeta::default();
        series.push(BucketSeries {
            tags: column.tags.clone(),
            meta: own_meta.then(|| column.meta.clone()),
            time,
            constant: column.values.first().copied().filter(|_| classes[i] == Class::Const),
        });
    }
    let points = input.series.iter().map(|series| series.values.len() as u64).sum();
    Ok(EncodedBucket { org: input.org, metric: input.metric.clone(), meta: input.meta.clone(), series, times, chunks, points })
}

fn check(input: &BucketInput) -> Result<(), FormatError> {
    let bad = |why: &str| Err(FormatError::invalid(WHAT, why));
    if input.metric.len() > METRIC_BYTES_MAX {
        return bad("metric name longer than its limit");
    }
    for series in &input.series {
        if series.timestamps.len() != series.values.len() || series.values.is_empty() {
            return bad("a series needs as many values as timestamps, and at least one");
        }
        if u32::try_from(series.values.len()).is_err() || !series.timestamps.is_sorted_by(|a, b| a < b) {
            return bad("timestamps do not strictly increase");
        }
        if !series.tags.is_sorted_by(|a, b| a < b) {
            return bad("tags are not canonical");
        }
    }
    let mut tags: Vec<&[Tag]> = input.series.iter().map(|series| series.tags.as_slice()).collect();
    tags.sort_unstable();
    if tags.windows(2).any(|pair| pair[0] == pair[1]) { bad("two series with equal tags") } else { Ok(()) }
}

/// The greatest exponent in use, if there are several and every decimal series is as exact at it.
fn common_exponent(input: &BucketInput, classes: &[Class]) -> Option<u8> {
    let exponents = || classes.iter().filter_map(|class| if let Class::Decimal(e) = class { Some(*e) } else { None });
    let (least, most) = (exponents().min()?, exponents().max()?);
    let all_fit =
        || classes.iter().zip(&input.series).all(|(class, series)| !matches!(class, Class::Decimal(_)) || fits(&series.values, most));
    (least != most && all_fit()).then_some(most)
}

/// Order of the series (constants, then by class, long before short, by tags), and the chunks of all but the constants in that order.
fn encode_classes(input: &BucketInput, classes: &[Class]) -> Result<(Vec<usize>, Vec<Chunk>), FormatError> {
    let is_short = |i: usize| input.series[i].values.len() < PACKED_PAGE_POINTS;
    let mut order: Vec<usize> = (0..input.series.len()).collect();
    order.sort_by(|a, b| {
        let key = |i: usize| (classes[i], is_short(i) && classes[i] != Class::Const, &input.series[i].tags);
        key(*a).cmp(&key(*b))
    });
    let mut chunks = Vec::new();
    for group in order.chunk_by(|a, b| classes[*a] == classes[*b]) {
        let class = classes[group[0]];
        if class == Class::Const {
            continue;
        }
        let lengths: Vec<usize> = group.iter().map(|i| input.series[*i].values.len()).collect();
        let mut values = group.iter().flat_map(|i| input.series[*i].values.iter().copied());
        for page_points in cut(&lengths) {
            let part: Vec<f64> = values.by_ref().take(page_points.iter().sum()).collect();
            chunks.push(encode_chunk(&part, class, page_points)?);
        }
    }
    Ok((order, chunks))
}

/// Pages of each chunk, in points: long series in parts of at most 2^16, short ones packed until a page has 1,024.
fn cut(series_points: &[usize]) -> Vec<Vec<usize>> {
    let mut pages: Vec<(usize, bool)> = Vec::new();
    let mut packed = 0;
    for points in series_points {
        if *points < PACKED_PAGE_POINTS {
            packed += points;
            if packed >= PACKED_PAGE_POINTS {
                pages.push((packed, true));
                packed = 0;
            }
            continue;
        }
        let mut rest = *points;
        while rest > 0 {
            let part = rest.min(PAGE_POINTS_MAX);
            pages.push((part, false));
            rest -= part;
        }
    }
    match pages.last_mut() {
        Some((points, true)) => *points += packed,
        _ if packed > 0 => pages.push((packed, true)),
        _ => {}
    }
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for (points, _) in pages {
        if points > room {
            chunks.push(Vec::new());
            room = PCO_CHUNK_POINTS;
        }
        room -= points;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(points);
        }
    }
    chunks
}

fn encode_chunk(values: &[f64], class: Class, page_points: Vec<usize>) -> Result<Chunk, FormatError> {
    match class {
        Class::Decimal(exponent) => encode_decimal(values, exponent, page_points),
        Class::Const | Class::Float => encode_float(values, page_points),
    }
}

fn encode_float(values: &[f64], page_points: Vec<usize>) -> Result<Chunk, FormatError> {
    let pco = encode_best(values, &page_points)?;
    let plain = Chunk {
        encoding: Encoding::F64,
        exponent: 0,
        divisor: 1,
        exceptions: false,
        meta: pco.meta,
        page_points,
        page_lengths: pco.page_lengths,
        bytes: pco.pages,
    };
    if plain.meta.len() + plain.bytes.len() < values.len() * 8 {
        return Ok(plain);
    }
    let page_lengths = plain.page_points.iter().map(|points| points * 8).collect();
    let bytes = values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
    Ok(Chunk { encoding: Encoding::Raw, meta: Vec::new(), page_lengths, bytes, ..plain })
}

fn encode_decimal(values: &[f64], exponent: u8, page_points: Vec<usize>) -> Result<Chunk, FormatError> {
    let mut exceptions: Vec<(usize, u64)> = Vec::new();
    let mut integers: Vec<i64> = Vec::with_capacity(values.len());
    for (i, value) in values.iter().enumerate() {
        let integer = to_integer(*value, exponent).unwrap_or_else(|| {
            exceptions.push((i, value.to_bits()));
            integers.last().copied().unwrap_or(0)
        });
        integers.push(integer);
    }
    let divisor = gcd_of(&integers);
    integers.iter_mut().for_each(|integer| *integer /= divisor);
    let narrow: Option<Vec<i32>> = integers.iter().map(|integer| i32::try_from(*integer).ok()).collect();
    let (encoding, pco) = match narrow {
        Some(narrow) => (Encoding::DecI32, encode_best(&narrow, &page_points)?),
        None => (Encoding::DecI64, encode_best(&integers, &page_points)?),
    };
    let mut chunk = Chunk {
        encoding,
        exponent,
        divisor: divisor.unsigned_abs(),
        exceptions: !exceptions.is_empty(),
        meta: Vec::new(),
        page_points,
        page_lengths: Vec::new(),
        bytes: Vec::new(),
    };
    chunk.put_pages(pco, &exceptions);
    Ok(chunk)
}

impl Chunk {
    /// Takes over pco's pages, each behind its exceptions: count varint, and if any: distinct patterns varint, each u64, then per exception
    /// the gap from the position after the one before, then per exception the number of its pattern.
    fn put_pages(&mut self, pco: PcoBytes, exceptions: &[(usize, u64)]) {
        self.meta = pco.meta;
        if !self.exceptions {
            (self.bytes, self.page_lengths) = (pco.pages, pco.page_lengths);
            return;
        }
        let (mut start, mut rest, mut pages) = (0, exceptions, pco.pages.as_slice());
        for (points, length) in self.page_points.iter().zip(pco.page_lengths) {
            let before = self.bytes.len();
            let (own, after) = rest.split_at(rest.partition_point(|(at, _)| *at < start + points));
            put_exceptions(&mut self.bytes, start, own);
            let (page, following) = pages.split_at(length);
            self.bytes.extend_from_slice(page);
            self.page_lengths.push(self.bytes.len() - before);
            (start, rest, pages) = (start + points, after, following);
        }
    }
}

fn put_exceptions(out: &mut Vec<u8>, page_start: usize, exceptions: &[(usize, u64)]) {
    put_varint(out, exceptions.len() as u64);
    if exceptions.is_empty() {
        return;
    }
    let mut patterns: Vec<u64> = exceptions.iter().map(|(_, bits)| *bits).collect();
    patterns.sort_unstable();
    patterns.dedup();
    put_varint(out, patterns.len() as u64);
    patterns.iter().for_each(|bits| out.extend_from_slice(&bits.to_le_bytes()));
    let mut next = page_start;
    for (at, _) in exceptions {
        put_varint(out, (at - next) as u64);
        next = at + 1;
    }
    for (_, bits) in exceptions {
        put_varint(out, patterns.partition_point(|pattern| pattern < bits) as u64);
    }
}

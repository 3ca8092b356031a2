//! Encoded buckets -> files: places pages, numbers time columns and tag sets in file order, seals every byte with what it is.
//!
//! ```text
//! pages          per page: its bytes | crc u32; pages of all chunks in file order, nothing between
//! series index   series varint | tag set of each | time column of each
//!                runs varint | length of each: series that are no constants, constants, and so on in turn
//!                constants, in series order: exponent (15 = bits) | zigzag integer or bits
//!                summaries of the other series of 256 points and more, in series order
//!                own metadata: count varint | series (gap from the one before) | metadata
//! directory      metrics varint | org of each | name strings | metadata | series of each
//!                chunks varint | per chunk: same | transform | exponent | divisor
//!                per chunk with own pages: pages | coder | flags | length of meta; blob of metas
//!                per page of those: points | bytes (checksum not counted)
//!                summaries of the pages, of all chunks, with a series of less than 256 points
//! metadata       kind | interval_s | unit strings | help strings
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashTable;
use tailors_model::limits::{CHUNK_FILE_BYTES, CHUNK_FILE_SERIES};
use tailors_model::{MetricMeta, OrgId, ShardId};
use xxhash_rust::xxh3::xxh3_128;

use super::column::{put_blob, put_column, put_strings};
use super::encode::EncodedBucket;
use super::labels::{TagSets, put_labels};
use super::layout::{Region, Seal, Span, Trailer, put_header};
use super::pages::Chunk;
use super::read::open_whole;
use super::summary::{Summary, put_summaries};
use super::times::{TimeColumn, put_times};
use super::value::{Transform, constant_parts};
use super::zigzag::zigzag;
use super::{ENCODER_VERSION, encode::BucketSeries};
use crate::FormatError;
use crate::bytes::put_varint;

const WHAT: &str = "chunk file";
/// Series and buckets from which on a file is opened as readers do before it counts; with fewer, no labels of allowed lengths take too much.
const CHECKED_SERIES: u64 = 1 << 15;
const CHECKED_BUCKETS: usize = 1 << 13;
/// Exponent of a constant that is stored as its bits.
pub(super) const BITS: u8 = 15;

/// A whole file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Points in it.
    pub points: u64,
    /// Series entries in it.
    pub series: u64,
    /// Earliest point, Unix milliseconds.
    pub min_ms: i64,
    /// Latest point, Unix milliseconds.
    pub max_ms: i64,
}

/// Puts buckets, in (org, metric, bucket) order, into files; a new file begins at the first bucket edge past `CHUNK_FILE_BYTES` of pages
/// or `CHUNK_FILE_SERIES` series.
/// Buckets without series are left out; no buckets, no file.
///
/// # Errors
/// [`FormatError::Invalid`] when buckets are out of order or hold a timestamp outside the span.
pub fn assemble(shard: ShardId, span: Span, buckets: Vec<EncodedBucket>) -> Result<Vec<ChunkFile>, FormatError> {
    if !buckets.is_sorted_by(|a, b| (a.org, &a.metric) <= (b.org, &b.metric)) {
        return Err(FormatError::invalid(WHAT, "buckets are not in (org, metric) order"));
    }
    let mut files = Vec::new();
    let (mut file, mut bytes, mut series) = (Vec::new(), 0, 0);
    for bucket in buckets.into_iter().filter(|bucket| bucket.series() > 0) {
        bytes += bucket.bytes();
        series += bucket.series();
        file.push(bucket);
        if bytes > CHUNK_FILE_BYTES || series > CHUNK_FILE_SERIES {
            write_files(shard, span, &std::mem::take(&mut file), &mut files)?;
            (bytes, series) = (0, 0);
        }
    }
    if !file.is_empty() {
        write_files(shard, span, &file, &mut files)?;
    }
    Ok(files)
}

/// Writes buckets as one file, or, where its index would take more memory than a reader gives, as files of half of them.
fn write_files(shard: ShardId, span: Span, buckets: &[EncodedBucket], files: &mut Vec<ChunkFile>) -> Result<(), FormatError> {
    let file = write_file(shard, span, buckets)?;
    let is_large = file.series > CHECKED_SERIES || buckets.len() > CHECKED_BUCKETS;
    match if is_large { open_whole(shard, &file.bytes).map(drop) } else { Ok(()) } {
        Ok(()) => files.push(file),
        Err(error) if buckets.len() < 2 => return Err(error),
        Err(_) => {
            let (first, rest) = buckets.split_at(buckets.len() / 2);
            write_files(shard, span, first, files)?;
            write_files(shard, span, rest, files)?;
        }
    }
    Ok(())
}

fn write_file(shard: ShardId, span: Span, buckets: &[EncodedBucket]) -> Result<ChunkFile, FormatError> {
    let (times, time_of_series) = merge_times(buckets);
    let first = times.iter().map(TimeColumn::first).min().unwrap_or(0);
    let last = times.iter().map(TimeColumn::last).max().unwrap_or(0);
    if last >= span.span_ms {
        return Err(FormatError::invalid(WHAT, format!("a point at {last} ms of a span of {} ms", span.span_ms)));
    }
    let seal = Seal::new(shard, span);
    let mut out = Vec::new();
    put_header(&mut out, seal, span);
    let chunks = merge_chunks(buckets);
    for chunk in chunks.iter().filter(|chunk| chunk.same == 0).map(|chunk| chunk.chunk) {
        let mut rest = chunk.bytes.as_slice();
        for length in &chunk.page_lengths {
            let (page, after) = rest.split_at(*length);
            let crc = seal.crc(Region::Pages, out.len() as u64, page);
            out.extend_from_slice(page);
            out.extend_from_slice(&crc.to_le_bytes());
            rest = after;
        }
    }
    let series: Vec<&BucketSeries> = buckets.iter().flat_map(|bucket| &bucket.series).collect();
    let (labels, sets) = put_labels(&buckets.iter().map(|bucket| &bucket.tags).collect::<Vec<&TagSets>>())?;
    let times_at = out.len() as u64;
    seal.put_section(&mut out, Region::Times, &put_times(&times)?);
    let series_at = out.len() as u64;
    seal.put_section(&mut out, Region::Series, &put_series(&series, &sets, &time_of_series)?);
    let labels_at = out.len() as u64;
    seal.put_section(&mut out, Region::Labels, &labels);
    let directory_at = out.len() as u64;
    seal.put_section(&mut out, Region::Directory, &put_directory(buckets, &chunks)?);
    Trailer { times_at, series_at, labels_at, directory_at, span, encoder: ENCODER_VERSION }.put(&mut out);
    Ok(ChunkFile {
        bytes: out,
        points: buckets.iter().map(EncodedBucket::points).sum(),
        series: series.len() as u64,
        min_ms: span.start_ms + i64::from(first),
        max_ms: span.start_ms + i64::from(last),
    })
}

/// A chunk of a file, and how many chunks before it the one stands whose pages are also its own (0: it has its own).
struct FileChunk<'a> {
    chunk: &'a Chunk,
    same: u64,
}

/// All chunks of a file. Metrics often tell the same in other words (pages and bytes, one node of one): equal pages are stored once.
fn merge_chunks(buckets: &[EncodedBucket]) -> Vec<FileChunk<'_>> {
    type Pages<'a> = (&'a [u8], &'a [u8], &'a [usize], &'a [usize], bool, bool, u8);
    let mut known: BTreeMap<u128, (usize, Pages<'_>)> = BTreeMap::new();
    let mut chunks: Vec<FileChunk<'_>> = Vec::new();
    for chunk in buckets.iter().flat_map(|bucket| &bucket.chunks) {
        let pages: Pages<'_> =
            (&chunk.meta, &chunk.bytes, &chunk.page_points, &chunk.page_lengths, chunk.exceptions, chunk.delta, chunk.coder as u8);
        let (number, first) = *known.entry(xxh3_128(&chunk.bytes)).or_insert((chunks.len(), pages));
        let same = if first == pages { chunks.len() - number } else { 0 };
        chunks.push(FileChunk { chunk, same: same as u64 });
    }
    chunks
}

/// Distinct time columns of a file in order of first use, and the column of each series.
fn merge_times(buckets: &[EncodedBucket]) -> (Vec<TimeColumn>, Vec<u64>) {
    let mut known: HashTable<(u64, u64)> = HashTable::new();
    let (mut times, mut of_series): (Vec<TimeColumn>, Vec<u64>) = Default::default();
    for bucket in buckets {
        let number = |column: &TimeColumn| {
            let hash = column.hash();
            let found = known.find(hash, |(_, number)| times[*number as usize] == *column).map(|(_, number)| *number);
            found.unwrap_or_else(|| {
                known.insert_unique(hash, (hash, times.len() as u64), |(hash, _)| *hash);
                times.push(column.clone());
                times.len() as u64 - 1
            })
        };
        // Columns of a bucket are numbered in order of first use, as those of the file are.
        let numbers: Vec<u64> = bucket.times.iter().map(number).collect();
        of_series.extend(bucket.series.iter().map(|series| numbers[series.time as usize]));
    }
    (times, of_series)
}

fn put_series(series: &[&BucketSeries], sets: &[u64], times: &[u64]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    put_varint(&mut out, series.len() as u64);
    put_column(&mut out, sets)?;
    put_column(&mut out, times)?;
    put_runs_of_constants(&mut out, series)?;
    let constants = series.iter().filter_map(|series| series.constant).map(|value| {
        let decimal = constant_parts(value).map(|(exponent, integer)| (exponent, zigzag(integer)));
        let (exponent, number) = decimal.unwrap_or((BITS, value.to_bits()));
        (u64::from(exponent), number)
    });
    let (exponents, numbers): (Vec<u64>, Vec<u64>) = constants.unzip();
    put_column(&mut out, &exponents)?;
    put_column(&mut out, &numbers)?;
    let summaries: Vec<(Summary, u32)> = series.iter().filter_map(|series| Some((series.summary?, series.points))).collect();
    put_summaries(&mut out, &summaries, true)?;
    let own: Vec<(usize, &MetricMeta)> = series.iter().enumerate().filter_map(|(i, series)| Some((i, series.meta.as_ref()?))).collect();
    put_varint(&mut out, own.len() as u64);
    let mut next = 0;
    put_column(&mut out, &own.iter().map(|(i, _)| (i - std::mem::replace(&mut next, i + 1)) as u64).collect::<Vec<_>>())?;
    put_metas(&mut out, &own.iter().map(|(_, meta)| *meta).collect::<Vec<_>>())?;
    Ok(out)
}

/// Which series are constants: a bucket begins with its constants, so there are few runs.
fn put_runs_of_constants(out: &mut Vec<u8>, series: &[&BucketSeries]) -> Result<(), FormatError> {
    let (mut runs, mut is_constant): (Vec<u64>, bool) = (vec![0], false);
    for series in series {
        if series.constant.is_some() != is_constant {
            is_constant = !is_constant;
            runs.push(0);
        }
        runs.last_mut().into_iter().for_each(|run| *run += 1);
    }
    put_varint(out, runs.len() as u64);
    put_column(out, &runs)
}

fn put_metas(out: &mut Vec<u8>, metas: &[&MetricMeta]) -> Result<(), FormatError> {
    put_column(out, &metas.iter().map(|meta| meta.kind as u64).collect::<Vec<_>>())?;
    put_column(out, &metas.iter().map(|meta| u64::from(meta.interval_s)).collect::<Vec<_>>())?;
    put_strings(out, metas.iter().map(|meta| meta.unit.as_ref()))?;
    put_strings(out, metas.iter().map(|meta| meta.help.as_ref()))
}

fn put_directory(buckets: &[EncodedBucket], chunks: &[FileChunk<'_>]) -> Result<Vec<u8>, FormatError> {
    let mut metrics: Vec<(OrgId, &Bytes, &MetricMeta, u64)> = Vec::new();
    for bucket in buckets {
        match metrics.last_mut() {
            // A metric of several buckets is one entry; P4 gives them one metadata, so the first bucket's stands.
            Some(metric) if (metric.0, metric.1) == (bucket.org, &bucket.metric) => metric.3 += bucket.series(),
            _ => metrics.push((bucket.org, &bucket.metric, &bucket.meta, bucket.series())),
        }
    }
    let mut out = Vec::new();
    put_varint(&mut out, metrics.len() as u64);
    put_column(&mut out, &metrics.iter().map(|metric| u64::from(metric.0.0)).collect::<Vec<_>>())?;
    put_strings(&mut out, metrics.iter().map(|metric| metric.1.as_ref()))?;
    put_metas(&mut out, &metrics.iter().map(|metric| metric.2).collect::<Vec<_>>())?;
    put_column(&mut out, &metrics.iter().map(|metric| metric.3).collect::<Vec<_>>())?;

    put_varint(&mut out, chunks.len() as u64);
    put_column(&mut out, &chunks.iter().map(|chunk| chunk.same).collect::<Vec<_>>())?;
    let fields: [fn(&Chunk) -> u64; 3] = [
        |chunk| u64::from(transform_parts(chunk.transform).0),
        |chunk| u64::from(transform_parts(chunk.transform).1),
        |chunk| chunk.divisor,
    ];
    for field in fields {
        put_column(&mut out, &chunks.iter().map(|chunk| field(chunk.chunk)).collect::<Vec<_>>())?;
    }
    let own: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.same == 0).map(|chunk| chunk.chunk).collect();
    let fields: [fn(&Chunk) -> u64; 4] = [
        |chunk| chunk.page_points.len() as u64,
        |chunk| chunk.coder as u64,
        |chunk| u64::from(chunk.exceptions) | u64::from(chunk.delta) << 1,
        |chunk| chunk.meta.len() as u64,
    ];
    for field in fields {
        put_column(&mut out, &own.iter().map(|chunk| field(chunk)).collect::<Vec<_>>())?;
    }
    put_blob(&mut out, &own.iter().flat_map(|chunk| chunk.meta.iter().copied()).collect::<Vec<_>>())?;
    let pages = |lengths: fn(&Chunk) -> &Vec<usize>| -> Vec<u64> {
        own.iter().flat_map(|chunk| lengths(chunk)).map(|length| *length as u64).collect()
    };
    put_column(&mut out, &pages(|chunk| &chunk.page_points))?;
    put_column(&mut out, &pages(|chunk| &chunk.page_lengths))?;
    let summaries = chunks.iter().flat_map(|chunk| chunk.chunk.page_summaries.iter().zip(&chunk.chunk.page_points));
    let summaries: Vec<(Summary, u32)> = summaries.filter_map(|(summary, points)| Some(((*summary)?, *points as u32))).collect();
    put_summaries(&mut out, &summaries, false)?;
    Ok(out)
}

/// Number and parameter of a transform.
pub(super) fn transform_parts(transform: Transform) -> (u8, u8) {
    match transform {
        Transform::Decimal(exponent) => (1, exponent),
        Transform::Binary(scale) => (2, scale),
        Transform::Double => (3, 0),
        Transform::Dictionary => (4, 0),
        Transform::Sketch => (5, 0),
        Transform::Histogram => (6, 0),
    }
}

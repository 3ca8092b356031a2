//! Chunk files for readers: indexes opened once and kept, pages by few large ranged reads, series and aggregates made of them.
//!
//! In: key, length and shard of a file, or its bytes in memory. Out: points, or aggregates per step without points. Cold, an index costs two
//! ranged reads (one where it fits the first), cached none; what the index answers costs no read at all. Invariants: of one series points come in
//! time order; nothing of a damaged page is handed out; equal files give equal sums. Killed here: nothing is kept.

mod cache;
mod fetch;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tailors_format::FormatError;
use tailors_format::chunk::{Aggregate, ChunkIndex, DecodeScratch, Steps};
use tailors_model::{OrgId, ShardId, Tag};
use tokio::sync::Semaphore;

use crate::{Objects, StoreError};
use cache::IndexCache;
pub use fetch::{Fetch, Pages};

/// Bytes read from the end of a file at first: most indexes fit.
pub const TAIL_BYTES: u64 = 128 << 10;

/// How files are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReaderSettings {
    /// Memory of cached indexes, bytes.
    pub index_cache_bytes: u64,
    /// Bytes of one ranged read of pages, unless one page is longer.
    pub read_bytes_max: u64,
    /// Bytes between two pages that are read along rather than begin another read.
    pub gap_bytes_max: u64,
    /// Reads of one scan that are on their way or wait for being decoded, at least 1.
    pub reads_ahead: usize,
    /// Bytes of the same over all scans; the next read of a scan always goes, so no scan waits for another.
    pub ahead_bytes_max: u64,
}

impl Default for ReaderSettings {
    fn default() -> Self {
        Self { index_cache_bytes: 256 << 20, read_bytes_max: 8 << 20, gap_bytes_max: 256 << 10, reads_ahead: 8, ahead_bytes_max: 128 << 20 }
    }
}

/// Opens chunk files on the object store; clones share cache and budget.
#[derive(Clone, Debug)]
pub struct ChunkReader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    objects: Objects,
    settings: ReaderSettings,
    indexes: Mutex<IndexCache>,
    /// KiB that scans may have ahead.
    ahead: Arc<Semaphore>,
}

impl ChunkReader {
    /// Reads nothing yet.
    pub fn new(objects: Objects, settings: ReaderSettings) -> Self {
        let ahead = Arc::new(Semaphore::new(fetch::kib(settings.ahead_bytes_max) as usize));
        Self(Arc::new(Shared { objects, settings, indexes: Mutex::default(), ahead }))
    }

    /// The file of this key and length in bytes, with its index from the cache or from its last bytes.
    ///
    /// # Errors
    /// [`StoreError::Data`] when it is damaged, of another length or shard; else what the store says.
    pub async fn open(&self, shard: ShardId, key: &str, file_bytes: u64) -> Result<OpenFile, StoreError> {
        let cached = self.0.indexes.lock().unwrap_or_else(PoisonError::into_inner).get(key);
        let index = match cached {
            Some(index) => index,
            None => {
                let index = Arc::new(read_index(&self.0.objects, shard, key, file_bytes).await?.0);
                let most = self.0.settings.index_cache_bytes;
                self.0.indexes.lock().unwrap_or_else(PoisonError::into_inner).put(key, index.clone(), most);
                index
            }
        };
        Ok(OpenFile { place: Place::Store(self.0.clone(), key.into()), index })
    }
}

/// Reads an index from a file's last bytes; also how many bytes that took.
///
/// # Errors
/// As [`ChunkReader::open`].
pub async fn read_index(objects: &Objects, shard: ShardId, key: &str, file_bytes: u64) -> Result<(ChunkIndex, u64), StoreError> {
    let damaged = |error: FormatError| StoreError::data(key, error);
    let at = file_bytes.saturating_sub(TAIL_BYTES);
    let mut tail = objects.get_range(key, at..file_bytes).await?;
    let mut bytes_read = tail.len() as u64;
    let range = ChunkIndex::tail_range(trailer_of(&tail).map_err(damaged)?, file_bytes).map_err(damaged)?;
    match range.start.checked_sub(at) {
        Some(skip) => tail = tail.slice(skip as usize..),
        None => {
            tail = objects.get_range(key, range).await?;
            bytes_read += tail.len() as u64;
        }
    }
    let parsed = tokio::task::spawn_blocking(move || ChunkIndex::parse(shard, &tail, file_bytes)).await;
    let parsed = parsed.map_err(|error| StoreError::Fatal(format!("{key}: parsing the index ended early: {error}")))?;
    Ok((parsed.map_err(damaged)?, bytes_read))
}

fn trailer_of(tail: &[u8]) -> Result<&[u8], FormatError> {
    let (needed, present) = (ChunkIndex::TRAILER_BYTES as u64, tail.len() as u64);
    let start = tail.len().checked_sub(ChunkIndex::TRAILER_BYTES);
    start.and_then(|start| tail.get(start..)).ok_or(FormatError::Truncated { what: "chunk file", needed, present })
}

/// Where the pages are.
#[derive(Clone, Debug)]
enum Place {
    Store(Arc<Shared>, Arc<str>),
    Memory(Bytes),
}

/// A chunk file whose index is there; clones share it. What reads or aggregates also decodes on the calling thread: on a server, call it where
/// computing is allowed, or take [`Fetch`] and decode elsewhere.
#[derive(Clone, Debug)]
pub struct OpenFile {
    place: Place,
    index: Arc<ChunkIndex>,
}

impl OpenFile {
    /// A file in memory.
    ///
    /// # Errors
    /// Any damage of the index, and a file of another shard.
    pub fn of_bytes(shard: ShardId, bytes: Bytes) -> Result<Self, FormatError> {
        let file_bytes = bytes.len() as u64;
        let tail = ChunkIndex::tail_range(trailer_of(&bytes)?, file_bytes)?;
        let index = ChunkIndex::parse(shard, bytes.get(tail.start as usize..).unwrap_or(&[]), file_bytes)?;
        Ok(Self { place: Place::Memory(bytes), index: Arc::new(index) })
    }

    /// Its index: metrics, labels, statistics.
    pub fn index(&self) -> &Arc<ChunkIndex> {
        &self.index
    }

    /// Object key, or that the file is in memory: for messages.
    pub fn name(&self) -> &str {
        match &self.place {
            Place::Store(_, key) => key,
            Place::Memory(_) => "chunk file in memory",
        }
    }

    /// Series with exactly these canonical tags: one, or several in time order if the builder cut it; none if there is none.
    ///
    /// # Errors
    /// Damage of the labels.
    pub fn find(&self, org: OrgId, metric: &[u8], tags: &[Tag]) -> Result<Vec<u32>, StoreError> {
        self.index.find(org, metric, tags).map_err(|error| self.damaged(error))
    }

    /// All series of a metric; none if it is not there.
    pub fn series_of(&self, org: OrgId, metric: &[u8]) -> Vec<u32> {
        let metrics = self.index.metrics();
        let at = metrics.binary_search_by(|entry| (entry.org, &entry.metric[..]).cmp(&(org, metric)));
        at.ok().and_then(|at| metrics.get(at)).map_or_else(Vec::new, |metric| metric.series.clone().collect())
    }

    /// Points of these series: number of the series, milliseconds from the span's start, values. A series longer than a page comes in parts.
    ///
    /// # Errors
    /// Any damage, and what the store says; points of pages before it have then been handed out.
    pub async fn read(&self, series: &[u32], scratch: &mut DecodeScratch, each: Each<'_>) -> Result<(), StoreError> {
        let mut fetch = Fetch::new(vec![(self.clone(), self.index.plan_reads(series))]);
        while let Some((_, pages)) = fetch.next().await {
            for (read, bytes) in pages?.iter() {
                self.index.decode(read, bytes, scratch, each).map_err(|error| self.damaged(error))?;
            }
        }
        Ok(())
    }

    /// Count, sum, minimum and maximum of these series per step: number of the series, of the first step, steps from there on. What the index
    /// knows comes first and costs no read; no point is written out. A series comes several times if it has several parts.
    ///
    /// # Errors
    /// As [`Self::read`]; a number that is no series of this file.
    pub async fn aggregate(
        &self,
        series: &[u32],
        steps: &Steps,
        scratch: &mut DecodeScratch,
        each: EachStep<'_>,
    ) -> Result<(), StoreError> {
        let plan = self.index.plan_aggregate(series, steps, each).map_err(|error| self.damaged(error))?;
        let mut fetch = Fetch::new(vec![(self.clone(), plan)]);
        while let Some((_, pages)) = fetch.next().await {
            for (read, bytes) in pages?.iter() {
                self.index.aggregate(read, bytes, steps, scratch, each).map_err(|error| self.damaged(error))?;
            }
        }
        Ok(())
    }

    /// The same of all series that have the same tags of these keys together: each such list of tags (canonical; empty where a series has none of
    /// them) and its steps, `steps.count` of them. Averages are sums divided by counts.
    ///
    /// # Errors
    /// As [`Self::aggregate`].
    pub async fn aggregate_by(
        &self,
        series: &[u32],
        keys: &[&[u8]],
        steps: &Steps,
        scratch: &mut DecodeScratch,
    ) -> Result<BTreeMap<Vec<Tag>, Vec<Aggregate>>, StoreError> {
        let groups = self.index.group(series, keys).map_err(|error| self.damaged(error))?;
        let mut sums = vec![vec![Aggregate::NONE; steps.count as usize]; groups.tags.len()];
        let mut each = |series: u32, first: u32, own: &[Aggregate]| {
            let Some(sums) = groups.of(series).and_then(|group| sums.get_mut(group)) else { return };
            sums.iter_mut().skip(first as usize).zip(own).for_each(|(sum, own)| sum.add(own));
        };
        self.aggregate(series, steps, scratch, &mut each).await?;
        Ok(groups.tags.into_iter().zip(sums).collect())
    }

    fn damaged(&self, error: FormatError) -> StoreError {
        StoreError::data(self.name(), error)
    }
}

/// What takes points, on whatever thread reads: [`tailors_format::chunk::EachSeries`].
pub type Each<'a> = &'a mut (dyn FnMut(u32, &[u32], &[f64]) + Send + 'a);

/// What takes steps, on whatever thread reads: [`tailors_format::chunk::EachSteps`].
pub type EachStep<'a> = &'a mut (dyn FnMut(u32, u32, &[Aggregate]) + Send + 'a);

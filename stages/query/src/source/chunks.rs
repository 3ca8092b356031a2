//! Published chunk files as a [`SeriesSource`]: catalog, cached indexes, ranged reads, decoding across threads.
//!
//! Invariants: everything of one query comes from one snapshot; a file that is missing or corrupt is an error, or a named range if the caller
//! allows partial answers (P6); files of a series are appended in window order, so its points are in time order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tailors_format::FormatError;
use tailors_format::chunk::{ChunkIndex, DecodeScratch, PageRead, ValueKind};
use tailors_format::doc::{FileRole, ManifestFile};
use tailors_model::source::{
    Coverage, EachPart, PartialRange, PinnedSource, ReadLimits, SelectedSeries, Selection, SeriesFilter, SeriesSource, SourceError,
    SourceFuture, UsedGeneration,
};
use tailors_model::{MetricMeta, OrgId, Series, ShardId, Tag, Window};
use tailors_store::catalog::{Catalog, Snapshot};
use tailors_store::{Objects, StoreError};

use crate::settings::SourceSettings;

/// Bytes read from the end of a file at first: most indexes fit.
const TAIL_BYTES: u64 = 128 << 10;

/// Reads chunk files; clones share the cache.
#[derive(Clone)]
pub struct ChunkSource(Arc<Shared>);

struct Shared {
    catalog: Arc<Catalog>,
    objects: Objects,
    settings: SourceSettings,
    indexes: Mutex<IndexCache>,
}

impl ChunkSource {
    /// Reads nothing yet.
    pub fn new(catalog: Arc<Catalog>, objects: Objects, settings: SourceSettings) -> Self {
        Self(Arc::new(Shared { catalog, objects, settings, indexes: Mutex::default() }))
    }
}

impl SeriesSource for ChunkSource {
    fn pin(&self, now_ms: i64, newest: bool) -> SourceFuture<'_, Arc<dyn PinnedSource>> {
        Box::pin(async move {
            let age_ms = if newest { 0 } else { self.0.settings.snapshot_age_ms_max };
            let snapshot = self.0.catalog.snapshot(age_ms, now_ms).await.map_err(source_error)?;
            let pinned: Arc<dyn PinnedSource> = Arc::new(Pinned { shared: self.0.clone(), snapshot });
            Ok(pinned)
        })
    }
}

fn source_error(error: StoreError) -> SourceError {
    if error.is_retryable() { SourceError::Retry(error.to_string()) } else { SourceError::Data(error.to_string()) }
}

/// Indexes used last stay, up to a number of bytes.
#[derive(Default)]
struct IndexCache {
    entries: BTreeMap<String, (Arc<ChunkIndex>, u64)>,
    bytes: u64,
    uses: u64,
}

impl IndexCache {
    fn get(&mut self, key: &str) -> Option<Arc<ChunkIndex>> {
        self.uses += 1;
        let (index, used) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(index.clone())
    }

    fn put(&mut self, key: &str, index: Arc<ChunkIndex>, bytes_max: u64) {
        self.uses += 1;
        self.bytes += index.memory_bytes() as u64;
        if let Some((old, _)) = self.entries.insert(key.to_owned(), (index, self.uses)) {
            self.bytes -= old.memory_bytes() as u64;
        }
        while self.bytes > bytes_max && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            let Some((index, _)) = oldest.and_then(|key| self.entries.remove(&key)) else { break };
            self.bytes -= index.memory_bytes() as u64;
        }
    }
}

impl Shared {
    fn cache(&self) -> MutexGuard<'_, IndexCache> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn index(&self, shard: ShardId, file: &ManifestFile) -> Result<Arc<ChunkIndex>, StoreError> {
        if let Some(index) = self.cache().get(&file.key) {
            return Ok(index);
        }
        let damaged = |error: FormatError| StoreError::data(&file.key, error);
        let at = file.bytes.saturating_sub(TAIL_BYTES);
        let mut tail = self.objects.get_range(&file.key, at..file.bytes).await?;
        let trailer = tail.len().checked_sub(ChunkIndex::TRAILER_BYTES).map(|start| tail.slice(start..));
        let needed = (ChunkIndex::TRAILER_BYTES as u64, tail.len() as u64);
        let short = || FormatError::Truncated { what: "chunk file", needed: needed.0, present: needed.1 };
        let range = ChunkIndex::tail_range(&trailer.ok_or_else(|| damaged(short()))?, file.bytes).map_err(damaged)?;
        tail = match range.start.checked_sub(at) {
            Some(skip) => tail.slice(skip as usize..),
            None => self.objects.get_range(&file.key, range).await?,
        };
        let length = file.bytes;
        let parsed = tokio::task::spawn_blocking(move || ChunkIndex::parse(shard, &tail, length)).await;
        let index = parsed.map_err(|error| StoreError::Fatal(error.to_string()))?.map_err(damaged)?;
        let index = Arc::new(index);
        self.cache().put(&file.key, index.clone(), self.settings.index_cache_bytes);
        Ok(index)
    }
}

/// One snapshot.
struct Pinned {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
}

/// A file that a range touches.
#[derive(Clone)]
struct File {
    shard: ShardId,
    file: ManifestFile,
}

/// Unreadable ranges, when they are allowed.
struct Unread {
    allowed: bool,
    ranges: Mutex<BTreeSet<PartialRange>>,
}

impl Unread {
    fn new(allowed: bool) -> Arc<Self> {
        Arc::new(Self { allowed, ranges: Mutex::default() })
    }

    fn note(&self, from_ms: i64, to_ms: i64, error: SourceError) -> Result<(), SourceError> {
        match error {
            SourceError::Data(why) if self.allowed => {
                self.ranges.lock().unwrap_or_else(PoisonError::into_inner).insert((from_ms, to_ms, why));
                Ok(())
            }
            error => Err(error),
        }
    }
}

impl Pinned {
    /// Keys of the snapshot that a range touches and that may hold this org.
    fn in_range<T>(
        map: &BTreeMap<(Window, ShardId), T>,
        org: OrgId,
        from_ms: i64,
        to_ms: i64,
    ) -> impl Iterator<Item = (Window, ShardId, &T)> {
        let first = (Window::of_ms(from_ms), ShardId::Mod { count: 0, index: 0 });
        let inside = map.range(first..).take_while(move |((window, _), _)| window.start_ms() < to_ms);
        inside.filter(move |((_, shard), _)| holds(*shard, org)).map(|((window, shard), value)| (*window, *shard, value))
    }

    fn files(&self, org: OrgId, from_ms: i64, to_ms: i64, unread: &Unread) -> Result<Vec<File>, SourceError> {
        for (window, shard, why) in Self::in_range(&self.snapshot.damaged, org, from_ms, to_ms) {
            let error = SourceError::Data(format!("the manifest of window {window}, shard {shard} can't be read: {why}"));
            unread.note(window.start_ms().max(from_ms), window.end_ms().min(to_ms), error)?;
        }
        let mut files = Vec::new();
        for (_, shard, manifest) in Self::in_range(&self.snapshot.windows, org, from_ms, to_ms) {
            for file in manifest.files.iter().filter(|file| file.from_ms < to_ms && file.to_ms > from_ms) {
                if file.role == FileRole::Base {
                    files.push(File { shard, file: file.clone() });
                    continue;
                }
                let error = SourceError::Data(format!("{} has a role that this version cannot read", file.key));
                unread.note(file.from_ms.max(from_ms), file.to_ms.min(to_ms), error)?;
            }
        }
        Ok(files)
    }

    /// The readable files of a range with their indexes, in window order.
    async fn open(&self, org: OrgId, from_ms: i64, to_ms: i64, unread: &Unread) -> Result<Vec<(File, Arc<ChunkIndex>)>, SourceError> {
        let files = self.files(org, from_ms, to_ms, unread)?;
        let opens = files.into_iter().map(|file| async move {
            let index = self.shared.index(file.shard, &file.file).await;
            (file, index)
        });
        let mut opens = stream::iter(opens).buffered(self.shared.settings.files_in_flight.max(1));
        let mut opened = Vec::new();
        while let Some((file, index)) = opens.next().await {
            match index {
                Ok(index) => opened.push((file, index)),
                Err(error) => unread.note(file.file.from_ms.max(from_ms), file.file.to_ms.min(to_ms), source_error(error))?,
            }
        }
        Ok(opened)
    }
}

/// Whether a shard can hold an org's points; which of several does is decided by the route at build time, the others then hold none of it.
fn holds(shard: ShardId, org: OrgId) -> bool {
    match shard {
        ShardId::Mod { count, .. } => count > 0 && ShardId::of_org(org, count) == shard,
        ShardId::Org(owner) => owner == org,
    }
}

impl PinnedSource for Pinned {
    fn feed(&self) -> u64 {
        self.snapshot.feed
    }

    fn coverage(&self, org: OrgId, from_ms: i64, to_ms: i64) -> Coverage {
        let mut coverage = Coverage { complete_until_ms: self.snapshot.complete_until_ms(from_ms, to_ms), ..Coverage::default() };
        for (window, shard, manifest) in Self::in_range(&self.snapshot.windows, org, from_ms, to_ms) {
            let kind = self.snapshot.seal_kind(manifest).map_or("unknown", |kind| kind.as_str());
            if !self.snapshot.is_complete(window) {
                coverage.notes.push(format!("window {} is open: its data so far, {kind} seal, generation {}", rfc3339(window), manifest.g));
            }
            if !manifest.holes.is_empty() {
                let lost: u64 = manifest.holes.iter().map(|(_, _, start, next)| next - start).sum();
                coverage
                    .notes
                    .push(format!("window {}: up to {lost} records of the log were lost before they were captured", rfc3339(window)));
            }
            if !manifest.quarantined.is_empty() {
                let files = manifest.quarantined.len();
                coverage.notes.push(format!("window {}: {files} damaged raw files are left out", rfc3339(window)));
            }
            coverage.used.push(UsedGeneration {
                window_ms: window.start_ms(),
                shard: shard.to_string(),
                generation: manifest.g,
                seal: kind.to_owned(),
            });
        }
        for (window, why) in self.snapshot.doubtful.iter().filter(|(window, _)| window.start_ms() < to_ms && window.end_ms() > from_ms) {
            coverage.notes.push(format!("window {}: {why}; whether it is complete is not known", rfc3339(*window)));
        }
        let built: BTreeSet<i64> = coverage.used.iter().map(|used| used.window_ms).collect();
        let sealed = self.snapshot.seals.keys().map(|(window, _)| *window);
        let waiting = sealed.chain(self.snapshot.known.iter().chain(&self.snapshot.open).copied());
        let waiting: BTreeSet<Window> = waiting.filter(|window| window.start_ms() < to_ms && window.end_ms() > from_ms).collect();
        for window in waiting.into_iter().filter(|window| !built.contains(&window.start_ms()) && !self.snapshot.is_complete(*window)) {
            coverage.notes.push(format!("window {} is not built", rfc3339(window)));
        }
        coverage
    }

    fn metrics(&self, org: OrgId, from_ms: i64, to_ms: i64, allow_partial: bool) -> SourceFuture<'_, Vec<Bytes>> {
        Box::pin(async move {
            // Ranges that can't be read are named by the selection that follows.
            let unread = Unread::new(allow_partial);
            let files = self.open(org, from_ms, to_ms, &unread).await?;
            let names = files.iter().flat_map(|(_, index)| of_org(index, org).map(|(_, metric)| metric.metric.clone()));
            Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
        })
    }

    fn select<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        from_ms: i64,
        to_ms: i64,
        limits: ReadLimits,
    ) -> SourceFuture<'a, Arc<dyn Selection>> {
        Box::pin(async move {
            let unread = Unread::new(limits.allow_partial);
            let files = self.open(org, from_ms, to_ms, &unread).await?;
            let found = find(&files, org, filter, from_ms, to_ms, limits)?;
            let (series, parts) = found.into_iter().unzip();
            let selection: Arc<dyn Selection> =
                Arc::new(ChunkSelection { shared: self.shared.clone(), files, series, parts, from_ms, to_ms, unread });
            Ok(selection)
        })
    }
}

fn rfc3339(window: Window) -> String {
    chrono::DateTime::from_timestamp(window.start_s(), 0)
        .map_or_else(|| window.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

/// Metrics of an org in a file with their positions.
fn of_org(index: &ChunkIndex, org: OrgId) -> impl Iterator<Item = (usize, &tailors_format::chunk::MetricEntry)> {
    let first = index.metrics().partition_point(|metric| metric.org < org);
    index.metrics().iter().enumerate().skip(first).take_while(move |(_, metric)| metric.org == org)
}

/// (file, series in it), in window order.
type Parts = Vec<(u32, u32)>;

/// Found series in the order of their identity, each with where its points are.
///
/// A series stands in file after file: each identity is tested once, and known again by its tags.
fn find(
    files: &[(File, Arc<ChunkIndex>)],
    org: OrgId,
    filter: &dyn SeriesFilter,
    from_ms: i64,
    to_ms: i64,
    limits: ReadLimits,
) -> Result<Vec<(SelectedSeries, Parts)>, SourceError> {
    let mut found: Vec<(SelectedSeries, Parts)> = Vec::new();
    let mut known: HashMap<Bytes, HashMap<Vec<Tag>, Option<usize>>> = HashMap::new();
    // Points, and series that have any in the range.
    let (mut points, mut inside) = (0_u64, 0_u64);
    for (number, (file, index)) in files.iter().enumerate() {
        let damaged = |error: FormatError| SourceError::Data(format!("{}: {error}", file.file.key));
        for (at, metric) in of_org(index, org).filter(|(_, metric)| filter.metric(&metric.metric)) {
            let known = known.entry(metric.metric.clone()).or_default();
            let mut passed = Vec::new();
            let mut test = |tags: &[Tag]| {
                let slot = known.get(tags).copied().unwrap_or_else(|| {
                    let series = Series { metric: metric.metric.clone(), tags: tags.to_vec() };
                    let slot = filter.series(&series).then(|| {
                        let series = Arc::new(series);
                        found.push((SelectedSeries { series, meta: MetricMeta::default(), points_max: 0 }, Vec::new()));
                        found.len() - 1
                    });
                    known.insert(tags.to_vec(), slot);
                    slot
                });
                passed.extend(slot);
                slot.is_some()
            };
            let selected = index.select(org, at, &mut test).map_err(damaged)?;
            for (series, slot) in selected.into_iter().zip(passed) {
                // Sketches and histograms are no samples yet.
                let is_doubles = index.kind(series).map_err(damaged)? == ValueKind::Doubles;
                if !is_doubles || !index.edges_of(series).is_some_and(|(first, last)| first < to_ms && last >= from_ms) {
                    continue;
                }
                let count = u64::from(index.points_of(series));
                let (selected, parts) = &mut found[slot];
                // The newest metadata counts.
                selected.meta = index.meta(series).map_err(damaged)?.clone();
                selected.points_max += count;
                inside += u64::from(parts.is_empty());
                parts.push((number as u32, series));
                points += count;
            }
            exceeds(inside, limits.series, "series", "query.limits.series_max")?;
            exceeds(points, limits.points, "points", "query.limits.points_max")?;
        }
    }
    found.retain(|(_, parts)| !parts.is_empty());
    found.sort_by(|a, b| a.0.series.cmp(&b.0.series));
    Ok(found)
}

fn exceeds(value: u64, most: u64, what: &str, setting: &str) -> Result<(), SourceError> {
    if value <= most {
        return Ok(());
    }
    Err(SourceError::Limit(format!(
        "the query selects more than {most} {what} ({setting}): ask for a shorter range or use narrower matchers"
    )))
}

struct ChunkSelection {
    shared: Arc<Shared>,
    files: Vec<(File, Arc<ChunkIndex>)>,
    series: Vec<SelectedSeries>,
    parts: Vec<Parts>,
    from_ms: i64,
    to_ms: i64,
    unread: Arc<Unread>,
}

impl Selection for ChunkSelection {
    fn series(&self) -> &[SelectedSeries] {
        &self.series
    }

    fn scan<'a>(&'a self, numbers: &'a [usize], from_ms: i64, to_ms: i64, each: EachPart) -> SourceFuture<'a, ()> {
        let (from_ms, to_ms) = (from_ms.max(self.from_ms), to_ms.min(self.to_ms));
        Box::pin(async move {
            let mut by_file: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
            for (slot, number) in numbers.iter().enumerate() {
                for (file, series) in self.parts.get(*number).into_iter().flatten() {
                    by_file.entry(*file).or_default().push((*series, slot));
                }
            }
            let wanted = by_file.into_iter().filter(|(file, _)| {
                let file = &self.files[*file as usize].0.file;
                file.from_ms < to_ms && file.to_ms > from_ms
            });
            let fetches = wanted.map(|(file, wanted)| async move { (file, self.fetch(file, wanted).await) });
            let mut fetches = stream::iter(fetches).buffered(self.shared.settings.files_in_flight.max(1));
            let mut decoder = Decoder { scratch: DecodeScratch::default(), times: Vec::new(), from_ms, to_ms, each };
            while let Some((file, fetched)) = fetches.next().await {
                let done = match fetched {
                    Ok(fetched) => {
                        let decoded = tokio::task::spawn_blocking(move || {
                            let done = decoder.decode(&fetched);
                            (decoder, done)
                        });
                        let done;
                        (decoder, done) = decoded.await.map_err(|error| SourceError::Data(format!("decoding ended early: {error}")))?;
                        done
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = done {
                    let file = &self.files[file as usize].0.file;
                    // As the selection sees it, so that all tiles name the same range.
                    self.unread.note(file.from_ms.max(self.from_ms), file.to_ms.min(self.to_ms), error)?;
                }
            }
            Ok(())
        })
    }

    fn partial(&self) -> Vec<PartialRange> {
        self.unread.ranges.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Pages of one file, as planned.
struct Fetched {
    key: String,
    index: Arc<ChunkIndex>,
    /// (series, slot), sorted.
    wanted: Vec<(u32, usize)>,
    reads: Vec<(PageRead, Bytes)>,
}

impl ChunkSelection {
    /// The pages that hold the wanted (series, slot) of one file.
    async fn fetch(&self, file: u32, mut wanted: Vec<(u32, usize)>) -> Result<Fetched, SourceError> {
        let (file, index) = &self.files[file as usize];
        wanted.sort_unstable();
        let series: Vec<u32> = wanted.iter().map(|(series, _)| *series).collect();
        let plan = index.plan_reads(&series);
        let ranges: Vec<_> = plan.iter().map(|read| read.range.clone()).collect();
        let (objects, key) = (self.shared.objects.clone(), file.file.key.clone());
        // On its own task, so that the next files come while one is decoded.
        let got = tokio::spawn(async move { objects.get_ranges(&key, &ranges).await }).await;
        let pages = got.map_err(|error| SourceError::Data(format!("reading ended early: {error}")))?.map_err(source_error)?;
        Ok(Fetched { key: file.file.key.clone(), index: index.clone(), wanted, reads: plan.into_iter().zip(pages).collect() })
    }
}

/// Decodes file after file of one scan and hands the points on.
struct Decoder {
    scratch: DecodeScratch,
    times: Vec<i64>,
    from_ms: i64,
    to_ms: i64,
    each: EachPart,
}

impl Decoder {
    fn decode(&mut self, file: &Fetched) -> Result<(), SourceError> {
        let Self { scratch, times, from_ms, to_ms, each } = self;
        let start_ms = file.index.span().start_ms;
        // What of the range lies in this file, in its own milliseconds.
        let own = |at_ms: i64| u32::try_from(at_ms - start_ms).unwrap_or(if at_ms < start_ms { 0 } else { u32::MAX });
        let (from, to) = (own(*from_ms), own(*to_ms));
        let mut part = |series: u32, timestamps: &[u32], values: &[f64]| {
            let Ok(at) = file.wanted.binary_search_by_key(&series, |(series, _)| *series) else { return };
            let inside = timestamps.partition_point(|at| *at < from)..timestamps.partition_point(|at| *at < to);
            if !inside.is_empty() {
                times.clear();
                times.extend(timestamps[inside.clone()].iter().map(|at| start_ms + i64::from(*at)));
                each(file.wanted[at].1, times, &values[inside]);
            }
        };
        for (read, bytes) in &file.reads {
            let decoded = file.index.decode(read, bytes, scratch, &mut part);
            decoded.map_err(|error| SourceError::Data(format!("{}: {error}", file.key)))?;
        }
        Ok(())
    }
}

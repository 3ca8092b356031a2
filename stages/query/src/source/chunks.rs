//! Published chunk files as a [`SeriesSource`]: which files of the catalog a range touches, their series, decoding across threads.
//!
//! Invariants: everything of one query comes from one snapshot; a file that is missing or corrupt is an error, or a named range if the caller
//! allows partial answers (P6); files of a series are appended in window order, so its points are in time order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tailors_format::chunk::{DecodeScratch, Statistics};
use tailors_format::doc::{FileRole, ManifestFile};
use tailors_model::source::{
    Coverage, EachPart, Found, KeyTest, Need, NeedOf, Part, PartialRange, PinnedSource, ReadLimits, SelectedSeries, Selection,
    SeriesFilter, SeriesSource, SourceError, SourceFuture, UsedGeneration, Whole,
};
use tailors_model::{OrgId, ShardId, Tag, Window};
use tailors_store::catalog::{Catalog, Snapshot};
use tailors_store::chunks::{ChunkReader, Fetch, OpenFile, Pages, ReaderSettings};
use tailors_store::{Objects, StoreError};

use super::find::{self, Parts, Wanted, of_org};
use crate::settings::SourceSettings;

/// Reads chunk files; clones share the cache.
#[derive(Clone)]
pub struct ChunkSource(Arc<Shared>);

struct Shared {
    catalog: Arc<Catalog>,
    reader: ChunkReader,
    settings: SourceSettings,
}

impl ChunkSource {
    /// Reads nothing yet.
    pub fn new(catalog: Arc<Catalog>, objects: Objects, settings: SourceSettings) -> Self {
        let SourceSettings { index_cache_bytes, files_in_flight, .. } = settings;
        let reader = ReaderSettings { index_cache_bytes, reads_ahead: files_in_flight.max(1), ..ReaderSettings::default() };
        Self(Arc::new(Shared { catalog, reader: ChunkReader::new(objects, reader), settings }))
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

/// One snapshot.
struct Pinned {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
}

/// A file that a range touches.
#[derive(Clone)]
pub(super) struct File {
    shard: ShardId,
    pub(super) file: ManifestFile,
}

impl File {
    /// What of a range this file speaks for: of a day's file only the windows that name it.
    pub(super) fn clip(&self, range_ms: &Range<i64>) -> Range<i64> {
        range_ms.start.max(self.file.from_ms)..range_ms.end.min(self.file.to_ms)
    }
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

    fn list(&self) -> Vec<PartialRange> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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
                match file.role {
                    FileRole::Base => files.push(File { shard, file: file.clone() }),
                    FileRole::Day => push_day(&mut files, shard, file),
                    FileRole::Overlay => {
                        let error = SourceError::Data(format!("{} has a role that this version cannot read", file.key));
                        unread.note(file.from_ms.max(from_ms), file.to_ms.min(to_ms), error)?;
                    }
                }
            }
        }
        Ok(files)
    }

    /// The readable files of a range with their indexes, in window order.
    async fn open(&self, org: OrgId, from_ms: i64, to_ms: i64, unread: &Unread) -> Result<Vec<(File, OpenFile)>, SourceError> {
        let files = self.files(org, from_ms, to_ms, unread)?;
        let opens = files.into_iter().map(|file| async move {
            let opened = self.shared.reader.open(file.shard, &file.file.key, file.file.bytes).await;
            (file, opened)
        });
        let mut opens = stream::iter(opens).buffered(self.shared.settings.files_in_flight.max(1));
        let mut opened = Vec::new();
        while let Some((file, done)) = opens.next().await {
            match done {
                Ok(done) => opened.push((file, done)),
                Err(error) => unread.note(file.file.from_ms.max(from_ms), file.file.to_ms.min(to_ms), source_error(error))?,
            }
        }
        Ok(opened)
    }
}

/// A day's file of one more window: neighbours that name the same one are one file with their joined range, opened and read once. What a window has
/// of its own stands between them, so that the points of a series stay in time order.
fn push_day(files: &mut Vec<File>, shard: ShardId, file: &ManifestFile) {
    match files.iter_mut().rev().find(|known| file.continues(&known.file)) {
        Some(known) => known.file.to_ms = file.to_ms,
        None => files.push(File { shard, file: file.clone() }),
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
            let names = files.iter().flat_map(|(_, opened)| of_org(opened.index(), org).map(|metric| metric.metric.clone()));
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
            let found = find::selected(&files, &Wanted { org, filter, from_ms, to_ms }, limits)?;
            let (series, parts) = found.into_iter().unzip();
            let selection: Arc<dyn Selection> = Arc::new(ChunkSelection { files, series, parts, from_ms, to_ms, unread });
            Ok(selection)
        })
    }

    fn tag_keys<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        from_ms: i64,
        to_ms: i64,
        allow_partial: bool,
    ) -> SourceFuture<'a, Found<Bytes>> {
        Box::pin(async move {
            let unread = Unread::new(allow_partial);
            let files = self.open(org, from_ms, to_ms, &unread).await?;
            let keys = find::tag_keys(&files, &Wanted { org, filter, from_ms, to_ms })?;
            Ok((keys.into_iter().collect(), unread.list()))
        })
    }

    fn tag_lists<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        keys: KeyTest<'a>,
        from_ms: i64,
        to_ms: i64,
        allow_partial: bool,
    ) -> SourceFuture<'a, Found<Vec<Tag>>> {
        Box::pin(async move {
            let unread = Unread::new(allow_partial);
            let files = self.open(org, from_ms, to_ms, &unread).await?;
            let lists = find::tag_lists(&files, &Wanted { org, filter, from_ms, to_ms }, keys)?;
            Ok((lists.into_iter().collect(), unread.list()))
        })
    }
}

fn rfc3339(window: Window) -> String {
    chrono::DateTime::from_timestamp(window.start_s(), 0)
        .map_or_else(|| window.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

struct ChunkSelection {
    files: Vec<(File, OpenFile)>,
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

    fn scan<'a>(&'a self, numbers: &'a [usize], from_ms: i64, to_ms: i64, need: NeedOf<'a>, each: EachPart) -> SourceFuture<'a, ()> {
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
            let mut decoder = Decoder { scratch: DecodeScratch::default(), times: Vec::new(), each };
            let (mut files, mut slots, mut plans, mut known) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (file, mut wanted) in wanted {
                wanted.sort_unstable();
                let (own, opened) = &self.files[file as usize];
                let range_ms = own.clip(&(from_ms..to_ms));
                let from_index = split(opened, &mut wanted, need, &range_ms);
                if !from_index.is_empty() {
                    known.push((opened.clone(), range_ms, from_index));
                }
                let series: Vec<u32> = wanted.iter().map(|(series, _)| *series).collect();
                plans.push((opened.clone(), opened.index().plan_reads(&series)));
                files.push(file);
                slots.push(Arc::new(wanted));
            }
            if !known.is_empty() {
                decoder = computed(move || {
                    let done = known.iter().try_for_each(|(file, range_ms, known)| decoder.know(file, range_ms, known));
                    done.map(|()| decoder)
                })
                .await??;
            }
            let mut fetch = Fetch::new(plans);
            while let Some((at, fetched)) = fetch.next().await {
                let (file, opened) = &self.files[files[at] as usize];
                let done = match fetched {
                    Ok(pages) => {
                        let (opened, slots, range_ms) = (opened.clone(), slots[at].clone(), file.clip(&(from_ms..to_ms)));
                        let done;
                        (decoder, done) = computed(move || {
                            let done = decoder.decode(&opened, &range_ms, &slots, &pages);
                            (decoder, done)
                        })
                        .await?;
                        done
                    }
                    Err(error) => Err(source_error(error)),
                };
                if let Err(error) = done {
                    fetch.skip(at);
                    // As the selection sees it, so that all tiles name the same range.
                    self.unread.note(file.file.from_ms.max(self.from_ms), file.file.to_ms.min(self.to_ms), error)?;
                }
            }
            Ok(())
        })
    }

    fn partial(&self) -> Vec<PartialRange> {
        self.unread.list()
    }
}

/// Runs what computes on a thread that may.
async fn computed<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| SourceError::Data(format!("decoding ended early: {error}")))
}

/// What the index of a file knows of a series: all of it, or its times.
enum Known {
    Whole(Whole),
    Times(u32),
}

/// Takes out of (series, slot) what is not needed, and what the index answers, which is returned by slot.
fn split(file: &OpenFile, wanted: &mut Vec<(u32, usize)>, need: NeedOf<'_>, range_ms: &Range<i64>) -> Vec<(usize, Known)> {
    let (index, mut known) = (file.index(), Vec::new());
    wanted.retain(|(series, slot)| {
        let Some((first_ms, last_ms)) = index.edges_of(*series) else { return false };
        let need = need(*slot, first_ms, last_ms);
        if matches!(need, Need::Nothing | Need::Points) {
            return need == Need::Points;
        }
        let Some(own) = index.statistics(*series).filter(|own| own.nans == 0) else { return true };
        let Statistics { count, min, max, first, last, .. } = own;
        let is_inside = range_ms.contains(&first_ms) && range_ms.contains(&last_ms);
        known.push(match need {
            Need::Whole if is_inside => (*slot, Known::Whole(Whole { first_ms, last_ms, count, min, max, first, last })),
            Need::Whole => return true,
            _ => (*slot, Known::Times(*series)),
        });
        false
    });
    known
}

/// Decodes file after file of one scan and hands the points on.
struct Decoder {
    scratch: DecodeScratch,
    times: Vec<i64>,
    each: EachPart,
}

impl Decoder {
    /// Hands on what the index knows of a range.
    fn know(&mut self, file: &OpenFile, range_ms: &Range<i64>, known: &[(usize, Known)]) -> Result<(), SourceError> {
        let (start_ms, mut offsets) = (file.index().span().start_ms, Vec::new());
        for (slot, known) in known {
            match known {
                Known::Whole(whole) => (self.each)(*slot, Part::Whole(*whole)),
                Known::Times(series) => {
                    let read = file.index().read_times(*series, &mut offsets);
                    read.map_err(|error| SourceError::Data(format!("{}: {error}", file.name())))?;
                    let times = offsets.iter().map(|at| start_ms + i64::from(*at));
                    self.times.clear();
                    self.times.extend(times.filter(|at| range_ms.contains(at)));
                    (self.each)(*slot, Part::Times(&self.times));
                }
            }
        }
        Ok(())
    }

    /// `slots` are (series, slot), sorted.
    fn decode(&mut self, file: &OpenFile, range_ms: &Range<i64>, slots: &[(u32, usize)], pages: &Pages) -> Result<(), SourceError> {
        let Self { scratch, times, each } = self;
        let start_ms = file.index().span().start_ms;
        // What of the range lies in this file, in its own milliseconds.
        let own = |at_ms: i64| u32::try_from(at_ms - start_ms).unwrap_or(if at_ms < start_ms { 0 } else { u32::MAX });
        let (from, to) = (own(range_ms.start), own(range_ms.end));
        let mut part = |series: u32, timestamps: &[u32], values: &[f64]| {
            let Ok(at) = slots.binary_search_by_key(&series, |(series, _)| *series) else { return };
            let inside = timestamps.partition_point(|at| *at < from)..timestamps.partition_point(|at| *at < to);
            if !inside.is_empty() {
                times.clear();
                times.extend(timestamps[inside.clone()].iter().map(|at| start_ms + i64::from(*at)));
                each(slots[at].1, Part::Points(times, &values[inside]));
            }
        };
        for (read, bytes) in pages.iter() {
            let decoded = file.index().decode(read, bytes, scratch, &mut part);
            decoded.map_err(|error| SourceError::Data(format!("{}: {error}", file.name())))?;
        }
        Ok(())
    }
}

//! Reads are few and exact, whatever the store: counted on a store that joins near ranges as far ones do; damage, budget, groups.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use tailors_format::chunk::{Aggregate, BucketInput, DecodeScratch, SeriesColumn, Span, Steps, assemble, encode_bucket};
use tailors_model::window::WINDOW_MS;
use tailors_model::{MetricMeta, OrgId, ShardId, Tag};

use futures::StreamExt;

use super::*;

const ORG: OrgId = OrgId(7);
const SPAN: Span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };
const KEY: &str = "chunks/one.tchk";

/// In memory, with the ranges that were asked for; near ranges come joined, as the trait does it for stores far away.
#[derive(Clone, Debug, Default)]
struct FarStore {
    inner: Arc<InMemory>,
    asked: Arc<Mutex<Vec<Range<u64>>>>,
}

impl FarStore {
    fn asked(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl std::fmt::Display for FarStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FarStore")
    }
}

#[async_trait]
impl ObjectStore for FarStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if let Some(GetRange::Bounded(range)) = &options.range {
            self.asked.lock().unwrap().push(range.clone());
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn shard() -> ShardId {
    ShardId::of_org(ORG, 64)
}

/// splitmix64.
fn noise(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn tags_of(series: u64) -> Vec<Tag> {
    vec![Tag::pair("dc", if series.is_multiple_of(3) { "a" } else { "b" }), Tag::pair("host", format!("{:016x}", noise(series)))]
}

/// A file of metrics with so many series of so many points each; one of four is a constant.
fn file(metrics: &[(&str, u64)], points: u64) -> Bytes {
    let buckets = metrics.iter().zip(0..).map(|((metric, series), seed)| {
        let series = (0..*series).map(|series| {
            let value =
                |i| if series % 4 == 1 { 2.5 } else { f64::from_bits(0x4000_0000_0000_0000 | noise(seed << 40 | series << 20 | i) >> 12) };
            let (timestamps, values): (_, Vec<f64>) = (0..points).map(|i| ((i * WINDOW_MS as u64 / points) as u32, value(i))).unzip();
            SeriesColumn { tags: tags_of(series), meta: MetricMeta::default(), timestamps, values: values.into() }
        });
        encode_bucket(&BucketInput {
            org: ORG,
            metric: Bytes::from((*metric).to_owned()),
            meta: MetricMeta::default(),
            series: series.collect(),
        })
    });
    let encoded = buckets.map(|bucket| bucket.unwrap()).collect();
    Bytes::from(assemble(shard(), SPAN, encoded).unwrap().remove(0).bytes)
}

async fn stored(bytes: &Bytes, settings: ReaderSettings) -> (FarStore, ChunkReader) {
    let store = FarStore::default();
    let objects =
        Objects::new(Arc::new(store.clone()), crate::RetrySettings { deadline_ms: 2_000, backoff_min_ms: 1, backoff_max_ms: 4 }, 1);
    objects.put_data(KEY, bytes.clone()).await.unwrap();
    store.asked();
    (store, ChunkReader::new(objects, settings))
}

/// Count, sum, minimum, maximum.
type Expected = (u64, f64, f64, f64);

type Rows = BTreeMap<u32, Vec<(u32, u64)>>;

async fn rows(file: &OpenFile, series: &[u32]) -> Rows {
    let mut rows = Rows::new();
    let mut each = |series: u32, times: &[u32], values: &[f64]| {
        rows.entry(series).or_default().extend(times.iter().copied().zip(values.iter().map(|value| value.to_bits())));
    };
    file.read(series, &mut DecodeScratch::default(), &mut each).await.unwrap();
    rows
}

#[tokio::test]
async fn cold_is_one_or_two_reads_cached_none_and_a_metric_one() {
    let (small, large) = (file(&[("cpu", 40), ("mem", 8)], 900), file(&[("cpu", 20_000)], 3));
    assert!(large.len() as u64 > 2 * TAIL_BYTES && small.len() as u64 > TAIL_BYTES, "{} {}", large.len(), small.len());
    for (bytes, cold) in [(&small, 1), (&large, 2)] {
        let (store, reader) = stored(bytes, ReaderSettings::default()).await;
        let opened = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap();
        assert_eq!(store.asked().len(), cold);
        let again = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap();
        assert_eq!(store.asked(), []);
        assert!(Arc::ptr_eq(opened.index(), again.index()));
        let (all, memory) = (opened.series_of(ORG, b"cpu"), OpenFile::of_bytes(shard(), bytes.clone()).unwrap());
        assert_eq!(rows(&opened, &all).await, rows(&memory, &all).await);
        assert_eq!(store.asked().len(), 1, "pages of a metric lie together");
    }
    let (store, reader) = stored(&small, ReaderSettings::default()).await;
    let opened = reader.open(shard(), KEY, small.len() as u64).await.unwrap();
    store.asked();
    let one = opened.find(ORG, b"mem", &tags_of(2)).unwrap();
    assert_eq!((one.len(), rows(&opened, &one).await[&one[0]].len(), store.asked().len()), (1, 900, 1));
    let constant = opened.find(ORG, b"mem", &tags_of(1)).unwrap();
    assert_eq!((rows(&opened, &constant).await[&constant[0]].len(), store.asked().len()), (900, 0));
    assert_eq!(opened.find(ORG, b"mem", &tags_of(8)).unwrap(), [0; 0]);
    assert!(opened.series_of(ORG, b"me").is_empty() && opened.series_of(OrgId(8), b"mem").is_empty());
}

#[tokio::test]
async fn near_pages_come_together_and_no_read_is_longer_than_allowed() {
    let bytes = file(&[("cpu", 24)], 1_100);
    let settings = ReaderSettings { read_bytes_max: 40_000, gap_bytes_max: 9_000, ..ReaderSettings::default() };
    let (store, reader) = stored(&bytes, settings).await;
    let opened = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap();
    store.asked();
    let memory = OpenFile::of_bytes(shard(), bytes.clone()).unwrap();
    let all = opened.series_of(ORG, b"cpu");
    // 18 pages of 7 KB; constants have none.
    let varying: Vec<u32> = all.iter().copied().filter(|series| !opened.index().plan_reads(&[*series])[0].range.is_empty()).collect();
    for (series, expected) in
        [(all.clone(), 4), (varying.iter().copied().step_by(2).collect(), 3), (varying.iter().copied().step_by(6).collect(), 3)]
    {
        assert_eq!(rows(&opened, &series).await, rows(&memory, &series).await);
        let asked = store.asked();
        assert!(asked.len() == expected, "{} series: {asked:?}", series.len());
        assert!(asked.iter().all(|range| range.end - range.start <= 40_000), "{asked:?}");
    }
}

#[tokio::test]
async fn without_budget_reads_come_one_by_one_and_scans_do_not_wait_for_each_other() {
    let bytes = file(&[("cpu", 24)], 1_100);
    let settings = ReaderSettings { read_bytes_max: 9_500, ahead_bytes_max: 1, ..ReaderSettings::default() };
    let (store, reader) = stored(&bytes, settings).await;
    let opened = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap();
    store.asked();
    let plan = || vec![(opened.clone(), opened.index().plan_reads(&opened.series_of(ORG, b"cpu")))];
    let (mut one, mut other, mut pages) = (Fetch::new(plan()), Fetch::new(plan()), 0);
    while let Some((_, got)) = one.next().await {
        pages += got
            .unwrap()
            .iter()
            .filter(|(read, bytes)| !read.range.is_empty() && bytes.len() as u64 == read.range.end - read.range.start)
            .count();
        other.next().await.unwrap().1.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(store.asked().len(), 2, "one each");
    }
    assert_eq!(pages, 18);
    let (store, reader) = stored(&bytes, ReaderSettings { ahead_bytes_max: 1 << 20, reads_ahead: 5, ..settings }).await;
    let opened = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap();
    store.asked();
    let mut fetch = Fetch::new(vec![(opened.clone(), opened.index().plan_reads(&opened.series_of(ORG, b"cpu")))]);
    let first = fetch.next().await.unwrap().1.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(store.asked().len(), 5, "as many as allowed");
    drop((first, fetch));
}

#[tokio::test]
async fn a_damaged_or_missing_file_is_an_error_and_spares_the_others() {
    let bytes = file(&[("cpu", 12)], 1_100);
    let settings = ReaderSettings { read_bytes_max: 9_500, ..ReaderSettings::default() };
    let (store, reader) = stored(&bytes, settings).await;
    let opened = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap();
    assert!(matches!(reader.open(shard(), "chunks/none.tchk", 9_000).await, Err(StoreError::NotFound(_))));
    for length in [0, 10, bytes.len() as u64 - 1, bytes.len() as u64 + 1] {
        let (_, reader) = stored(&bytes, settings).await;
        assert!(matches!(reader.open(shard(), KEY, length).await, Err(StoreError::Data { .. })), "{length}");
    }
    let other = ShardId::Org(OrgId(9));
    let (_, fresh) = stored(&bytes, settings).await;
    assert!(matches!(fresh.open(other, KEY, bytes.len() as u64).await, Err(StoreError::Data { .. })));
    assert!(OpenFile::of_bytes(other, bytes.clone()).is_err() && OpenFile::of_bytes(shard(), bytes.slice(..bytes.len() - 1)).is_err());

    let mut bad = bytes.to_vec();
    bad[40] ^= 1;
    store.inner.put_opts(&Path::from(KEY), PutPayload::from(bad), PutOptions::default()).await.unwrap();
    let series = opened.series_of(ORG, b"cpu");
    let failed = opened.read(&series, &mut DecodeScratch::default(), &mut |_, _, _| {}).await;
    assert!(matches!(&failed, Err(StoreError::Data { key, .. }) if key == KEY), "{failed:?}");
    store.inner.delete_stream(Box::pin(futures::stream::iter([Ok(Path::from(KEY))]))).collect::<Vec<_>>().await;
    let memory = OpenFile::of_bytes(shard(), bytes).unwrap();
    let plan = || opened.index().plan_reads(&series);
    let mut fetch = Fetch::new(vec![(opened.clone(), plan()), (memory, plan())]);
    let (file, gone) = fetch.next().await.unwrap();
    assert!(file == 0 && matches!(gone, Err(StoreError::NotFound(_))));
    let mut pages = 0;
    while let Some((file, got)) = fetch.next().await {
        assert_eq!(file, 1, "nothing more of the file that failed");
        pages += got.unwrap().iter().count();
    }
    assert_eq!(pages, plan().len());
}

#[tokio::test]
async fn aggregates_by_tags_are_those_of_the_points() {
    let bytes = file(&[("cpu", 20), ("mem", 3)], 480);
    let (store, reader) = stored(&bytes, ReaderSettings::default()).await;
    let opened = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap();
    store.asked();
    let series = opened.series_of(ORG, b"cpu");
    let steps = Steps { start: 1_000, step: 3_600_000, count: 4 };
    let points = rows(&opened, &series).await;
    for keys in [&[&b"dc"[..]][..], &[b"dc", b"host"], &[b"none"], &[]] {
        let mut expected: BTreeMap<Vec<Tag>, [Expected; 4]> = BTreeMap::new();
        for (series, points) in &points {
            let tags = opened.index().tags(*series).unwrap().into_iter().filter(|tag| keys.contains(&&tag.key[..])).collect();
            let group = expected.entry(tags).or_insert([(0, 0.0, f64::INFINITY, f64::NEG_INFINITY); 4]);
            for (time, bits) in points {
                let Some(step) = time.checked_sub(1_000).and_then(|since| group.get_mut((since / 3_600_000) as usize)) else { continue };
                let value = f64::from_bits(*bits);
                *step = (step.0 + 1, step.1 + value, step.2.min(value), step.3.max(value));
            }
        }
        let found = opened.aggregate_by(&series, keys, &steps, &mut DecodeScratch::default()).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (found, expected) in found.values().flatten().zip(expected.values().flatten()) {
            let Aggregate { count, nans, sum, min, max } = *found;
            assert_eq!((count, nans, min, max), (expected.0, 0, expected.2, expected.3));
            assert!((sum - expected.1).abs() <= 1e-9 * expected.1.abs(), "{sum} {}", expected.1);
        }
    }
    store.asked();
    let whole = Steps { start: 0, step: WINDOW_MS as u32, count: 1 };
    let all = opened.aggregate_by(&series, &[b"dc"], &whole, &mut DecodeScratch::default()).await.unwrap();
    assert_eq!(all.values().map(|steps| steps[0].count).sum::<u64>(), 20 * 480);
    assert_eq!(store.asked(), [], "whole series are answered by the index");
}

#[tokio::test]
async fn the_cache_keeps_what_was_used_last_and_never_less_than_one() {
    let bytes = file(&[("cpu", 4)], 20);
    let (store, reader) = stored(&bytes, ReaderSettings::default()).await;
    let one = reader.open(shard(), KEY, bytes.len() as u64).await.unwrap().index().memory_bytes() as u64;
    let objects = reader.0.objects.clone();
    let reader = ChunkReader::new(objects.clone(), ReaderSettings { index_cache_bytes: one * 5 / 2, ..ReaderSettings::default() });
    let open = |key: &'static str| {
        let (reader, length) = (reader.clone(), bytes.len() as u64);
        async move { reader.open(shard(), key, length).await.unwrap() }
    };
    for key in ["chunks/a", "chunks/b", "chunks/c"] {
        objects.put_data(key, bytes.clone()).await.unwrap();
    }
    // Labels are parsed after an index came in: what it counts for stays the same.
    open("chunks/a").await.index().tags(0).unwrap();
    open("chunks/b").await;
    open("chunks/a").await;
    store.asked();
    open("chunks/c").await;
    open("chunks/a").await;
    assert_eq!(store.asked().len(), 1);
    open("chunks/b").await;
    assert_eq!(store.asked().len(), 1, "it was used least");
}

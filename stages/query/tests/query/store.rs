//! A real store in a temporary directory: points encoded to chunk files, published by manifest and feed, read through [`ChunkSource`] and asked
//! over HTTP, so that a test of an answer also tests the file behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use bytes::Bytes;
use serde_json::Value;
use tailors_format::chunk::{
    BucketInput, DAY_COPY_BYTES, DayInput, DayPages, DayTally, DecodeScratch, ENCODER_VERSION, SeriesColumn, Span, assemble, encode_bucket,
    plan_day, verify_file,
};
use tailors_format::doc::{Counts, DoneDoc, FeedDoc, FileRole, ManifestDoc, ManifestFile, ManifestKind, SealDoc, SealKind};
use tailors_format::key;
use tailors_model::clock::ManualClock;
use tailors_model::source::SeriesSource;
use tailors_model::window::{DAY_MS, WINDOW_MS};
use tailors_model::{MetricMeta, OrgId, ShardId, Tag, Window, canonical_tags};
use tailors_query::{ChunkSource, Limits, QueryDeps, SourceSettings, router};
use tailors_store::catalog::Catalog;
use tailors_store::objects::local::LocalStore;
use tailors_store::{Objects, feed, manifests, seals};
use tower::ServiceExt;

pub(crate) const ORG: OrgId = OrgId(1);

/// One series: metric name, tags, points (Unix milliseconds, value) in time order.
pub(crate) type Line = (String, Vec<Tag>, Vec<(i64, f64)>);

/// Tags of `k=v` words and bare ones.
pub(crate) fn tags(words: &str) -> Vec<Tag> {
    let tag = |word: &str| match word.split_once('=') {
        Some((key, value)) => Tag::pair(key.to_owned(), value.to_owned()),
        None => Tag::bare(word.to_owned()),
    };
    words.split_whitespace().map(tag).collect()
}

/// A store and the directory it lies in.
pub(crate) struct Store {
    pub(crate) root: PathBuf,
    pub(crate) objects: Objects,
    published: u64,
    /// What is said of metrics.
    pub(crate) metas: BTreeMap<String, MetricMeta>,
    /// Sketches and histograms by metric, put into every window.
    pub(crate) distributions: Vec<(String, SeriesColumn)>,
    /// Removes a temporary directory with the store.
    _dir: Option<tempfile::TempDir>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let store = Self::at(dir.path());
        Self { _dir: Some(dir), ..store }
    }

    /// In a directory that stays.
    pub(crate) fn at(root: &Path) -> Self {
        let objects = Objects::new(Arc::new(LocalStore::open(root).expect("opens")), Default::default(), 1);
        Self { root: root.to_owned(), objects, published: 0, metas: BTreeMap::new(), distributions: Vec::new(), _dir: None }
    }

    /// Over any store.
    pub(crate) fn over(objects: Objects) -> Self {
        Self { root: PathBuf::new(), objects, published: 0, metas: BTreeMap::new(), distributions: Vec::new(), _dir: None }
    }

    /// Puts the current files of a day's windows into one, and publishes a generation of each that names it.
    pub(crate) async fn compact_day(&mut self, day: Window) {
        let (mut inputs, mut files, mut bases) = (Vec::new(), Vec::new(), Vec::new());
        for window in day.day() {
            let Some(base) = manifests::newest_published(&self.objects, Self::shard(), window).await.expect("read") else { continue };
            for file in &base.files {
                let bytes = self.objects.get(&file.key).await.expect("there");
                let index = Arc::new(verify_file(Self::shard(), &bytes).expect("sound"));
                inputs.push(DayInput { index, from_ms: file.from_ms, to_ms: file.to_ms });
                files.push(bytes);
            }
            bases.push(base);
        }
        let span = Span { start_ms: day.start_ms(), span_ms: DAY_MS as u32 };
        let (mut tally, mut scratch, mut buckets) = (DayTally::new(day.start_ms()), DecodeScratch::default(), Vec::new());
        for part in plan_day(&inputs, DAY_COPY_BYTES).expect("plans") {
            let mut pages = DayPages::default();
            for (input, ranges) in part.reads(&inputs) {
                ranges
                    .into_iter()
                    .for_each(|range| pages.put(input, range.start, files[input].slice(range.start as usize..range.end as usize)));
            }
            buckets.push(part.encode(&inputs, &pages, span, &mut scratch, &mut tally).expect("encodes"));
        }
        let file = assemble(Self::shard(), span, buckets).expect("assembles").remove(0);
        let key = key::day_chunk(Self::shard(), day, &format!("t{}", self.published), 0);
        self.objects.put_data(&key, file.bytes.clone()).await.expect("day file");
        for base in bases {
            let window = Window::starting_at_s(base.window).expect("window");
            let (key, bytes, points) = (key.clone(), file.bytes.len() as u64, base.counts.written);
            let (from_ms, to_ms) = (window.start_ms(), window.end_ms());
            let files = vec![ManifestFile { key, role: FileRole::Day, from_ms, to_ms, bytes, hash: String::new(), points }];
            let manifest = ManifestDoc { g: base.g + 1, base_g: base.g, files, ..base };
            manifests::put_manifest(&self.objects, &manifest).await.expect("manifest");
            let entry = FeedDoc { shard: Self::shard(), window: window.start_s(), g: manifest.g };
            self.published = feed::append(&self.objects, &entry, self.published + 1).await.expect("feed");
        }
    }

    pub(crate) fn shard() -> ShardId {
        ShardId::of_org(ORG, 64)
    }

    /// Publishes the points of each window as its next generation, all on a closed seal with its done mark.
    pub(crate) async fn publish(&mut self, lines: &[Line]) {
        let mut windows: BTreeMap<Window, Vec<Line>> = BTreeMap::new();
        for (metric, tags, points) in lines {
            for part in points.chunk_by(|a, b| Window::of_ms(a.0) == Window::of_ms(b.0)) {
                windows.entry(Window::of_ms(part[0].0)).or_default().push((metric.clone(), tags.clone(), part.to_vec()));
            }
        }
        for (window, lines) in windows {
            self.publish_window(window, lines, SealKind::Closed).await;
        }
    }

    /// Publishes one window.
    pub(crate) async fn publish_window(&mut self, window: Window, lines: Vec<Line>, kind: SealKind) {
        let known = manifests::all(&self.objects, Self::shard(), window).await.expect("manifests");
        let g = known.len() as u32 + 1;
        let (key, bytes, points, series) = encode(window, g, lines, &self.distributions, &self.metas);
        self.objects.put_data(&key, bytes.clone()).await.expect("chunk file");
        let (from_ms, to_ms) = (window.start_ms(), window.end_ms());
        let seal =
            SealDoc { kind, window: window.start_s(), k: g, ends: BTreeMap::new(), route_version: 1, decided_ms: 0, writer: String::new() };
        seals::put(&self.objects, &seal).await.expect("seal");
        let manifest = ManifestDoc {
            kind: ManifestKind::Published,
            reason: None,
            shard: Self::shard(),
            window: window.start_s(),
            g,
            k: g,
            base_g: g - 1,
            plan_digest: String::new(),
            route_version: 1,
            files: vec![ManifestFile { key, role: FileRole::Base, from_ms, to_ms, bytes: bytes.len() as u64, hash: String::new(), points }],
            counts: Counts { read: points, written: points, ..Counts::default() },
            series,
            max_timestamp_ms: Some(to_ms - 1),
            received_at_max_us: 0,
            holes: Vec::new(),
            quarantined: Vec::new(),
            encoder: ENCODER_VERSION,
            writer: String::new(),
            attempt: String::new(),
        };
        manifests::put_manifest(&self.objects, &manifest).await.expect("manifest");
        let entry = FeedDoc { shard: Self::shard(), window: window.start_s(), g };
        self.published = feed::append(&self.objects, &entry, self.published + 1).await.expect("feed");
        if kind.is_complete() {
            let shards = BTreeMap::from([(Self::shard().to_string(), g)]);
            let done = DoneDoc { window: window.start_s(), k: g, route_version: 1, shards };
            seals::put_done(&self.objects, &done).await.expect("done mark");
        }
    }

    /// Path of a window's chunk file.
    pub(crate) fn chunk_path(&self, window: Window, g: u32) -> PathBuf {
        self.root.join(key::chunk(Self::shard(), window, g, "t", 0))
    }

    /// A fresh process: nothing cached.
    pub(crate) fn open(&self, limits: Limits, now_ms: i64) -> Server {
        Server::of(Arc::new(self.source()), limits, now_ms)
    }

    /// Reads what is published.
    pub(crate) fn source(&self) -> ChunkSource {
        ChunkSource::new(Arc::new(Catalog::new(self.objects.clone())), self.objects.clone(), SourceSettings::default())
    }
}

fn encode(
    window: Window,
    g: u32,
    lines: Vec<Line>,
    distributions: &[(String, SeriesColumn)],
    metas: &BTreeMap<String, MetricMeta>,
) -> (String, Bytes, u64, u64) {
    let mut metrics: BTreeMap<String, Vec<SeriesColumn>> = BTreeMap::new();
    for (metric, mut tags, points) in lines {
        canonical_tags(&mut tags);
        let (timestamps, values): (_, Vec<f64>) = points.iter().map(|(at, value)| ((at - window.start_ms()) as u32, *value)).unzip();
        metrics.entry(metric).or_default().push(SeriesColumn { tags, meta: MetricMeta::default(), timestamps, values: values.into() });
    }
    for (metric, column) in distributions {
        metrics.entry(metric.clone()).or_default().push(column.clone());
    }
    let encoded = metrics.into_iter().map(|(metric, series)| {
        let meta = metas.get(&metric).cloned().unwrap_or_default();
        encode_bucket(&BucketInput { org: ORG, metric: metric.into(), meta, series }).expect("encodes")
    });
    let span = Span { start_ms: window.start_ms(), span_ms: WINDOW_MS as u32 };
    let file = assemble(Store::shard(), span, encoded.collect()).expect("assembles").remove(0);
    (key::chunk(Store::shard(), window, g, "t", 0), Bytes::from(file.bytes), file.points, file.series)
}

/// The routes, as a client sees them.
pub(crate) struct Server(Router);

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) allow: Option<String>,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Server {
    /// Over another source.
    pub(crate) fn of(source: Arc<dyn SeriesSource>, limits: Limits, now_ms: i64) -> Self {
        Self(router(QueryDeps { source, clock: Arc::new(ManualClock::at_ms(now_ms)), limits }))
    }

    pub(crate) async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Reply {
        self.ask(Method::GET, path, parameters).await
    }

    pub(crate) async fn post(&self, path: &str, parameters: &[(&str, &str)]) -> Reply {
        self.ask(Method::POST, path, parameters).await
    }

    /// Parameters go into the form of a POST, else into the URL.
    pub(crate) async fn ask(&self, method: Method, path: &str, parameters: &[(&str, &str)]) -> Reply {
        let form: Vec<String> = parameters.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let form = form.join("&");
        let request = if method == Method::POST {
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(Body::from(form))
        } else {
            Request::builder().method(method).uri(format!("{path}?{form}")).body(Body::empty())
        };
        let mut request = request.expect("request");
        request.extensions_mut().insert(ORG);
        let response = self.0.clone().oneshot(request).await.expect("never fails");
        let status: StatusCode = response.status();
        let allow = response.headers().get(header::ALLOW).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("body");
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        Reply { status: status.as_u16(), allow, json: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }
}

fn escape(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

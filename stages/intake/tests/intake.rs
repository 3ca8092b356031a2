//! The intake through its router: the reply matrix of interfaces.md B8 cell by cell, and what lies in the log afterwards.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop here")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use prost::Message;
use tower::ServiceExt;

use tailors_format::payload::{decode_labels, decode_points, decode_runs, read_header};
use tailors_format::raw::frame;
use tailors_intake::{Authorizer, Intake, IntakeDeps, LatePolicy, OrgSettings, Partitioning, Principal, Scope, Settings, Unavailable};
use tailors_model::{ManualClock, OrgId, PayloadHeader, TagKind};
use tailors_store::log::Log;
use tailors_store::log::memory::MemoryLog;

/// 2025-11-21T12:40:00Z: 40 minutes into a window.
const NOW_MS: i64 = 1_763_728_800_000;
const WINDOW_MS: i64 = 14_400_000;

#[derive(Debug)]
struct Keys;

#[async_trait]
impl Authorizer for Keys {
    async fn authorize(&self, key: &str, _now_ms: i64) -> Result<Option<Principal>, Unavailable> {
        let scopes = match key {
            "write" => vec![Scope::Write],
            "backfill" => vec![Scope::Backfill],
            "query" => vec![Scope::Query],
            "down" => return Err(Unavailable("the store is away".to_owned())),
            _ => return Ok(None),
        };
        Ok(Some(Principal { org: Some(OrgId(7)), scopes }))
    }
}

struct Rig {
    router: Router,
    intake: Arc<Intake>,
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    dirty: Arc<AtomicUsize>,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let log = Arc::new(MemoryLog::new(4, 1));
        let clock = Arc::new(ManualClock::at_ms(NOW_MS));
        let dirty = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dirty);
        let intake = Arc::new(Intake::new(IntakeDeps {
            log: log.clone(),
            clock: clock.clone(),
            authorizer: Arc::new(Keys),
            settings,
            intake_id: 99,
            hash_seed: 100,
            received_floor_us: NOW_MS * 1_000 + 5,
            dirty_windows: Arc::new(move |_| count.load(Ordering::SeqCst)),
            windows_with_points: tokio::sync::watch::channel(Default::default()).0,
        }));
        Self { router: tailors_intake::router(Arc::clone(&intake)), intake, log, clock, dirty }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (retry_after, allow) = (header("retry-after"), header("allow"));
        Reply { status: parts.status.as_u16(), body: String::from_utf8(body.to_vec()).unwrap(), retry_after, allow }
    }

    async fn write(&self, request: &WriteRequest) -> Reply {
        self.send(rw("write", snappy(&request.encode_to_vec()))).await
    }

    async fn stored(&self) -> Stored {
        let mut stored = Stored::default();
        for partition in 0..4 {
            let bounds = self.log.bounds(partition).await.unwrap();
            for record in self.log.read(partition, bounds.start, 1 << 30, 0).await.unwrap().records {
                let (frame, _) = frame::decode(&record.frame).unwrap();
                stored.add(frame.payload);
            }
        }
        stored
    }
}

struct Reply {
    status: u16,
    body: String,
    retry_after: Option<String>,
    allow: Option<String>,
}

/// What lies in the log: per series and time the value's bits that wins (greatest `received_at_us`, then index).
#[derive(Default)]
struct Stored {
    headers: Vec<PayloadHeader>,
    points: BTreeMap<(String, i64), (i64, u64)>,
    metadata: Vec<(String, String)>,
    written: usize,
    payload_metrics: Vec<BTreeSet<String>>,
    payload_bytes: usize,
}

impl Stored {
    fn add(&mut self, payload: &[u8]) {
        let header = read_header(payload).unwrap();
        let labels = decode_labels(payload).unwrap();
        let runs = decode_runs(payload).unwrap();
        let points = decode_points(payload, &runs).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let name = |series: u32| {
            let series = &labels.series[series as usize];
            let refs = &labels.tag_refs[series.tags_start as usize..(series.tags_start + series.tags_len) as usize];
            let tag = |at: &u32| {
                let tag = &labels.tags[*at as usize];
                if tag.kind == TagKind::Bare { text(&tag.key) } else { format!("{}={}", text(&tag.key), text(&tag.value)) }
            };
            let tags: Vec<String> = refs.iter().map(tag).collect();
            format!("{}{{{}}}", text(&labels.metrics[series.metric as usize]), tags.join(","))
        };
        let (mut irregular, mut values) = (points.timestamps.iter(), points.values.iter());
        for run in &runs {
            for i in 0..run.points {
                let offset = if run.step_ms == 0 { *irregular.next().unwrap() } else { run.first_ms + i * run.step_ms };
                let time_ms = header.window.start_ms() + i64::from(offset);
                assert!((header.admitted_from_ms..=header.admitted_to_ms).contains(&time_ms));
                let new = (header.received_at_us, values.next().unwrap().to_bits());
                let old = self.points.entry((name(run.series), time_ms)).or_insert(new);
                if new.0 >= old.0 {
                    *old = new;
                }
                self.written += 1;
            }
        }
        assert_eq!(header.org, OrgId(7));
        self.payload_metrics.push(labels.metrics.iter().map(|metric| text(metric)).collect());
        self.metadata.extend(labels.metadata.iter().map(|(metric, meta)| (text(&labels.metrics[*metric as usize]), text(&meta.help))));
        self.headers.push(header);
        self.payload_bytes += payload.len();
    }

    fn names(&self) -> Vec<(&str, i64, f64)> {
        self.points.iter().map(|((name, time), (_, bits))| (name.as_str(), *time, f64::from_bits(*bits))).collect()
    }
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
}

fn series(name: &str, labels: &[(&str, &str)], samples: impl IntoIterator<Item = (i64, f64)>) -> TimeSeries {
    let mut all = vec![("__name__", name)];
    all.extend(labels);
    TimeSeries {
        labels: all.into_iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect(),
        samples: samples.into_iter().map(|(timestamp, value)| Sample { value, timestamp }).collect(),
        histograms: Vec::new(),
    }
}

fn request(timeseries: Vec<TimeSeries>) -> WriteRequest {
    WriteRequest { timeseries, metadata: Vec::new() }
}

fn one(time_ms: i64) -> WriteRequest {
    request(vec![series("m", &[], [(time_ms, 1.0)])])
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

fn rw(key: &str, body: Vec<u8>) -> Request<Body> {
    let head = Request::post("/api/v1/write").header("authorization", format!("Bearer {key}")).header("content-encoding", "snappy");
    head.header("content-type", "application/x-protobuf").body(Body::from(body)).unwrap()
}

fn dd(key: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post("/api/v2/series").header("dd-api-key", key).header("content-type", "application/json").body(body.into()).unwrap()
}

fn dd_points(points: &str) -> String {
    format!(r#"{{"series":[{{"metric":"m","tags":["a:b","c"],"type":3,"points":[{points}]}}]}}"#)
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn good_points_are_stored_to_the_bit() {
    let rig = Rig::new(Settings::default());
    let reply = rig
        .write(&request(vec![
            series("up", &[("host", "a")], (0..500).map(|i| (NOW_MS + i * 1_000, 0.1 * i as f64))),
            series("up", &[("host", "b")], [(NOW_MS, f64::NAN), (NOW_MS + 7, f64::MIN_POSITIVE / 8.0)]),
        ]))
        .await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    let reply = rig.send(dd("write", dd_points(&format!(r#"{{"timestamp":{}.5,"value":0.3}}"#, NOW_MS / 1_000)))).await;
    assert_eq!((reply.status, reply.body.as_str()), (202, r#"{"errors":[]}"#));
    let stored = rig.stored().await;
    assert_eq!(stored.headers.len(), 2, "one payload per request and window");
    assert_eq!(stored.written, 503);
    assert_eq!(stored.points[&("up{host=a}".to_owned(), NOW_MS + 3_000)].1, (0.1f64 * 3.0).to_bits());
    assert_eq!(stored.points[&("up{host=b}".to_owned(), NOW_MS + 7)].1, (f64::MIN_POSITIVE / 8.0).to_bits());
    assert_eq!(stored.points[&("m{a=b,c}".to_owned(), NOW_MS + 500)].1, 0.3f64.to_bits());
    let received: BTreeSet<i64> = stored.headers.iter().map(|header| header.received_at_us).collect();
    assert_eq!(received.into_iter().collect::<Vec<_>>(), [NOW_MS * 1_000 + 6, NOW_MS * 1_000 + 7], "above the floor, strictly increasing");
    let sequences: BTreeSet<u64> = stored.headers.iter().map(|header| header.sequence).collect();
    assert_eq!(sequences.len(), 2);
    assert_eq!(rig.intake.counts().points[&OrgId(7)], 503);
}

#[tokio::test]
async fn every_encoding_of_datadog_and_validate() {
    use std::io::Write;
    let rig = Rig::new(Settings::default());
    let json = |second: i64| dd_points(&format!(r#"{{"timestamp":{second},"value":1}}"#));
    let now_s = NOW_MS / 1_000;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(json(now_s).as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(json(now_s + 1).as_bytes()).unwrap();
    let zstd = zstd::encode_all(json(now_s + 2).as_bytes(), 1).unwrap();
    let bodies =
        [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap()), ("zstd", zstd), ("identity", json(now_s + 3).into_bytes())];
    for (encoding, body) in bodies {
        assert_eq!(rig.send(with(dd("write", body), "content-encoding", encoding)).await.status, 202, "{encoding}");
    }
    assert_eq!(rig.stored().await.written, 4);
    let validate = |uri: &str| Request::get(uri).body(Body::empty()).unwrap();
    let reply = rig.send(validate("/api/v1/validate?api_key=write")).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"valid":true}"#));
    assert_eq!(rig.send(validate("/api/v1/validate?api_key=x")).await.status, 403);
    assert_eq!(rig.send(validate("/api/v1/validate")).await.status, 403);
    assert_eq!(rig.send(validate("/api/v1/validate?api_key=down")).await.status, 503);
}

#[tokio::test]
async fn matrix_undecodable_body() {
    let rig = Rig::new(Settings::default());
    let whole = snappy(&one(NOW_MS).encode_to_vec());
    let reply = rig.send(rw("write", whole[..whole.len() - 3].to_vec())).await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.starts_with("TLR-1001: "), "{}", reply.body);
    assert_eq!(rig.send(rw("write", snappy(b"\x0a\xff"))).await.status, 400);
    let reply = rig.send(dd("write", "{")).await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.starts_with(r#"{"errors":["TLR-1001: "#), "{}", reply.body);
    assert_eq!(rig.stored().await.written, 0);
}

#[tokio::test]
async fn matrix_content_type_and_encoding() {
    let rig = Rig::new(Settings::default());
    let body = snappy(&one(NOW_MS).encode_to_vec());
    let write = |name, value| with(rw("write", body.clone()), name, value);
    assert_eq!(rig.send(write("content-type", "text/csv")).await.status, 400);
    assert_eq!(rig.send(write("content-encoding", "br")).await.status, 400);
    assert_eq!(rig.send(write("content-type", "application/x-protobuf;proto=prometheus.WriteRequest")).await.status, 204);
    let reply = rig.send(write("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")).await;
    assert_eq!(reply.status, 415);
    assert!(reply.body.contains("protobuf_message: prometheus.WriteRequest"), "{}", reply.body);
    for (name, value) in [("content-type", "application/x-protobuf"), ("content-encoding", "br")] {
        let reply = rig.send(with(dd("write", r#"{"series":[]}"#), name, value)).await;
        assert_eq!(reply.status, 400, "a 415 would be repeated for ever");
    }
}

#[tokio::test]
async fn matrix_one_bad_series_among_good() {
    let rig = Rig::new(Settings::default());
    let long = "x".repeat(10_000);
    let tags: Vec<(String, String)> = (0..500).map(|i| (format!("l{i:03}"), "v".to_owned())).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut histogram = series("h", &[], [(NOW_MS, 4.0)]);
    histogram.histograms = vec![Sample::default()];
    let all = vec![
        series("good", &[], [(NOW_MS, 1.0)]),
        series(&long, &[], [(NOW_MS, 1.0)]),
        series("m", &tags, [(NOW_MS, 1.0)]),
        series("", &[], [(NOW_MS, 1.0)]),
        series("m", &[(&long, "v")], [(NOW_MS, 1.0)]),
        series("m", &[("k", &long)], [(NOW_MS, 1.0)]),
        histogram,
    ];
    let reply = rig.write(&request(all)).await;
    assert_eq!(reply.status, 400);
    for id in ["TLR-1305", "TLR-1308", "TLR-1309", "TLR-1310", "TLR-1311", "TLR-1314"] {
        assert!(reply.body.contains(id), "{id} in {}", reply.body);
    }
    assert_eq!(rig.stored().await.names(), [("good{}", NOW_MS, 1.0), ("h{}", NOW_MS, 4.0)]);
    let now_s = NOW_MS / 1_000;
    let points = format!(
        r#"{{"timestamp":"x","value":1}},{{"timestamp":{now_s},"value":2}},{{"timestamp":-5,"value":2}},{{"timestamp":7258118400,"value":2}}"#
    );
    let reply = rig.send(dd("write", dd_points(&points))).await;
    assert_eq!(reply.status, 202);
    for id in ["TLR-1301", "TLR-1302", "TLR-1303"] {
        assert!(reply.body.contains(id), "{id} in {}", reply.body);
    }
    let counts = rig.intake.counts();
    assert_eq!(counts.points[&OrgId(7)], 3);
    for reason in
        ["no_name", "too_many_tags", "long_name", "long_tag_key", "long_tag_value", "native_histogram", "bad_timestamp", "late", "future"]
    {
        assert_eq!(counts.refused_points[&(OrgId(7), reason)], 1, "{reason}");
    }
}

#[tokio::test]
async fn matrix_late_and_ahead() {
    let rig = Rig::new(Settings::default());
    let (oldest, newest) = (NOW_MS - 10 * 86_400_000, NOW_MS + 900_000);
    let reply = rig.write(&request(vec![series("m", &[], [(oldest, 1.0), (oldest - 1, 2.0), (newest, 3.0), (newest + 1, 4.0)])])).await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("TLR-1301") && reply.body.contains("TLR-1302") && reply.body.contains("864000 s"), "{}", reply.body);
    assert_eq!(rig.stored().await.names(), [("m{}", oldest, 1.0), ("m{}", newest, 3.0)]);
    let backfill = |time_ms| rw("backfill", snappy(&one(time_ms).encode_to_vec()));
    assert_eq!(rig.send(backfill(NOW_MS - 456 * 86_400_000)).await.status, 204);
    assert_eq!(rig.send(backfill(NOW_MS - 456 * 86_400_000 - 1)).await.status, 400);
    assert_eq!(rig.send(backfill(newest + 1)).await.status, 400, "backfill lifts the age limit, nothing else");
    let point = |time_s: i64| dd_points(&format!(r#"{{"timestamp":{time_s},"value":1}}"#));
    assert_eq!(rig.send(dd("write", point(0))).await.status, 202);
    assert_eq!(rig.send(dd("write", point(NOW_MS / 1_000 + 901))).await.status, 202);
    let org = OrgSettings { late_policy: LatePolicy::Refuse, ..OrgSettings::default() };
    let rig = Rig::new(Settings { overrides: BTreeMap::from([(OrgId(7), org)]), ..Settings::default() });
    assert_eq!(rig.write(&one(NOW_MS - 3 * 3_600_000)).await.status, 204);
    assert_eq!(rig.write(&one(NOW_MS - 3 * 3_600_000 - 1)).await.status, 400);
}

#[tokio::test]
async fn matrix_windows_and_dirty_windows() {
    let rig = Rig::new(Settings::default());
    let windows = |count: i64| request(vec![series("m", &[], (0..count).map(|i| (NOW_MS - i * WINDOW_MS, 1.0)))]);
    let backfill = |count| rw("backfill", snappy(&windows(count).encode_to_vec()));
    assert_eq!(rig.send(backfill(64)).await.status, 204);
    assert_eq!(rig.stored().await.headers.len(), 64);
    let reply = rig.send(backfill(65)).await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.starts_with("TLR-1204"), "{}", reply.body);
    let points: Vec<String> = (0..65).map(|i| format!(r#"{{"timestamp":{},"value":1}}"#, (NOW_MS - i * WINDOW_MS) / 1_000)).collect();
    assert_eq!(rig.send(dd("backfill", dd_points(&points.join(",")))).await.status, 400);

    rig.dirty.store(512, Ordering::SeqCst);
    let reply = rig.write(&one(NOW_MS - WINDOW_MS)).await;
    assert_eq!((reply.status, reply.retry_after.as_deref()), (429, Some("5")));
    let late = dd_points(&format!(r#"{{"timestamp":{},"value":1}}"#, (NOW_MS - WINDOW_MS) / 1_000));
    assert_eq!(rig.send(dd("write", late)).await.status, 429);
    assert_eq!(rig.write(&one(NOW_MS)).await.status, 204, "the current window dirties nothing");
    rig.dirty.store(511, Ordering::SeqCst);
    assert_eq!(rig.write(&one(NOW_MS - WINDOW_MS)).await.status, 204);
}

#[tokio::test]
async fn matrix_keys() {
    let rig = Rig::new(Settings::default());
    let body = snappy(&one(NOW_MS).encode_to_vec());
    for (key, write, datadog) in [("nobody", 401, 403), ("query", 403, 403), ("down", 503, 503)] {
        assert_eq!(rig.send(rw(key, body.clone())).await.status, write, "{key}");
        assert_eq!(rig.send(dd(key, r#"{"series":[]}"#)).await.status, datadog, "{key}");
    }
    let mut none = rw("x", body.clone());
    none.headers_mut().remove("authorization");
    assert_eq!(rig.send(none).await.status, 401);
    let query = Request::post("/api/v1/write?api_key=write").body(Body::from(body.clone())).unwrap();
    assert_eq!(rig.send(query).await.status, 401, "?api_key= is for Datadog's paths");
    let query = Request::post("/api/v2/series?api_key=write").body(Body::from(r#"{"series":[]}"#)).unwrap();
    assert_eq!(rig.send(query).await.status, 202);
    assert_eq!(rig.send(with(rw("x", body), "authorization", "Basic dTp3cml0ZQ==")).await.status, 204);
    let reply = rig.send(Request::get("/api/v1/write").body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status, reply.allow.as_deref()), (405, Some("POST")));
    assert_eq!(rig.send(Request::put("/api/v2/series").body(Body::empty()).unwrap()).await.status, 405);
    assert_eq!(rig.send(Request::post("/api/v1/validate").body(Body::empty()).unwrap()).await.status, 405);
}

#[tokio::test]
async fn matrix_over_size_limit() {
    let rig = Rig::new(Settings::default());
    for (size, status) in [(16 << 20, 400), ((16 << 20) + 1, 413)] {
        assert_eq!(rig.send(rw("write", vec![0xff; size])).await.status, status, "{size}");
    }
    for (size, status) in [(512_000, 400), (512_001, 413)] {
        assert_eq!(rig.send(dd("write", vec![b' '; size])).await.status, status, "{size}");
    }
    let bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 1).unwrap();
    let reply = rig.send(with(dd("write", bomb.clone()), "content-encoding", "zstd")).await;
    assert!(reply.status == 413 && reply.body.contains("TLR-1202"), "{}", reply.body);
    assert_eq!(rig.send(with(rw("write", bomb), "content-encoding", "zstd")).await.status, 413);
    assert_eq!(rig.send(rw("write", snappy(&vec![0; (32 << 20) + 1]))).await.status, 413);
    // 1 M points fit, one more doesn't.
    let points = |count: i64| request(vec![series("m", &[], (0..count).map(|i| (NOW_MS - i % 1_000, 1.0)))]);
    assert_eq!(rig.write(&points(1_000_000)).await.status, 204);
    let reply = rig.write(&points(1_000_001)).await;
    assert!(reply.status == 413 && reply.body.contains("TLR-1203"), "{}", reply.body);
    assert_eq!(rig.stored().await.written, 1_000_000);
}

#[tokio::test]
async fn matrix_rate_quota_and_log_away() {
    let org = OrgSettings { points_per_s_max: 1, ..OrgSettings::default() };
    let rig = Rig::new(Settings { org, ..Settings::default() });
    for _ in 0..10 {
        assert_eq!(rig.write(&one(NOW_MS)).await.status, 204);
    }
    let reply = rig.write(&one(NOW_MS)).await;
    assert_eq!((reply.status, reply.retry_after.as_deref()), (429, Some("1")));
    let json = dd_points(&format!(r#"{{"timestamp":{},"value":1}}"#, NOW_MS / 1_000));
    assert_eq!(rig.send(dd("write", json.clone())).await.status, 429);
    rig.clock.set_ms(NOW_MS + 2_000);
    assert_eq!(rig.write(&one(NOW_MS)).await.status, 204);

    let rig = Rig::new(Settings::default());
    rig.log.set_unavailable(true);
    let reply = rig.write(&one(NOW_MS)).await;
    assert_eq!((reply.status, reply.retry_after.as_deref()), (503, Some("5")));
    assert_eq!(rig.send(dd("write", json)).await.status, 503);
    assert_eq!(rig.intake.counts().points.get(&OrgId(7)), None);
    rig.log.set_unavailable(false);
    assert_eq!(rig.write(&one(NOW_MS)).await.status, 204);
}

#[tokio::test]
async fn metadata_alone_and_with_points() {
    let rig = Rig::new(Settings::default());
    let metadata = vec![Metadata { kind: 1, name: "a_total".to_owned(), help: "how many".to_owned() }];
    assert_eq!(rig.write(&WriteRequest { timeseries: Vec::new(), metadata: metadata.clone() }).await.status, 204);
    let stored = rig.stored().await;
    assert_eq!(stored.metadata, [("a_total".to_owned(), "how many".to_owned())]);
    assert_eq!((stored.headers[0].points, stored.headers[0].window.start_ms()), (0, NOW_MS - NOW_MS % WINDOW_MS));
    assert_eq!(rig.write(&WriteRequest { timeseries: one(NOW_MS).timeseries, metadata }).await.status, 204);
    assert_eq!(rig.stored().await.headers.len(), 2, "with points no payload of its own");
    assert_eq!(rig.write(&WriteRequest::default()).await.status, 204, "nothing to store is no error");
    assert_eq!(rig.send(rw("write", Vec::new())).await.status, 400, "no bytes are no snappy block");
    assert_eq!(rig.stored().await.headers.len(), 2);
}

#[tokio::test]
async fn large_requests_split_and_keep_their_order() {
    let rig = Rig::new(Settings::default());
    // The same time again and again: the last one of the request wins, through all splits.
    let samples = (0..150_000).map(|i| (NOW_MS + i % 1_000, i as f64));
    assert_eq!(rig.write(&request(vec![series("m", &[], samples), series("m", &[], [(NOW_MS, -1.0)])])).await.status, 204);
    let stored = rig.stored().await;
    assert_eq!((stored.headers.len(), stored.written), (3, 150_001));
    assert!(stored.headers.iter().all(|header| header.points <= 65_536));
    assert_eq!(f64::from_bits(stored.points[&("m{}".to_owned(), NOW_MS)].1), -1.0);
    assert_eq!(f64::from_bits(stored.points[&("m{}".to_owned(), NOW_MS + 999)].1), 149_999.0);

    let rig = Rig::new(Settings { partitioning: Partitioning::Metric, ..Settings::default() });
    let many = |_| request((0..100).map(|i| series(&format!("m{i}"), &[], [(NOW_MS, 1.0)])).collect());
    assert_eq!(rig.write(&many(0)).await.status, 204);
    assert_eq!(rig.write(&many(1)).await.status, 204);
    let stored = rig.stored().await;
    assert_eq!(stored.headers.len(), 8, "one payload per partition and request");
    let alone = stored.payload_metrics.chunks(2).all(|pair| pair[0] == pair[1]);
    assert!(alone, "a metric stays in its partition");
}

#[tokio::test]
async fn headers_above_16_kib_are_turned_away() {
    let rig = Rig::new(Settings::default());
    let padded = |bytes: usize| with(rw("write", snappy(&one(NOW_MS).encode_to_vec())), "x-padding", &"p".repeat(bytes));
    assert_eq!(rig.send(padded(15 << 10)).await.status, 204);
    let reply = rig.send(padded(16 << 10)).await;
    assert_eq!((reply.status, &reply.body[..8]), (431, "TLR-1207"));
}

#[test]
fn every_id_is_documented() {
    use tailors_intake::refusal::{Cause, Reason};
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md")).unwrap();
    let ids: Vec<&str> =
        Cause::ALL.iter().map(|cause| cause.id_name().0).chain(Reason::ALL.iter().map(|reason| reason.describe().0)).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "one meaning each");
    for id in ids {
        assert!(text.contains(&format!("| {id} |")), "{id}");
    }
}

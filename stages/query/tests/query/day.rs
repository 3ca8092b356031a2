//! Day files under queries: what a year of one key costs in reads, and that windows in and beside a day's file are read once each.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{Line, Server, Store, tags};
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tailors_format::doc::SealKind;
use tailors_model::Window;
use tailors_model::window::{DAY_MS, WINDOW_MS};
use tailors_query::Limits;
use tailors_store::Objects;

/// A store that counts reads of chunk files; ranges are joined as object_store joins them for a store far away.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<InMemory>, Arc<AtomicU64>);

impl Counting {
    /// Reads since the last call.
    fn reads(&self) -> u64 {
        self.1.swap(0, Ordering::SeqCst)
    }
}

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_chunk = location.as_ref().ends_with(".tchk") && !options.head;
        self.1.fetch_add(u64::from(is_chunk), Ordering::SeqCst);
        self.0.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

const START_MS: i64 = 20_000 * DAY_MS;

fn day() -> Window {
    Window::of_ms(START_MS)
}

/// Points of a host every `step_ms` of a time range; its value is constant in every third window.
fn line(metric: &str, host: &str, range: Range<i64>, step_ms: i64) -> Line {
    let value = |at: i64| match (Window::of_ms(at).start_ms() - START_MS) / WINDOW_MS % 3 {
        2 => 7.5,
        _ => (at / 1_000).wrapping_mul(2_654_435_761).rem_euclid(10_000) as f64 / 100.0,
    };
    let points = (range.start..range.end).step_by(step_ms as usize).map(|at| (at, value(at))).collect();
    (metric.to_owned(), tags(&format!("host={host}")), points)
}

/// All points of `metric{host="a"}` in a range, as (seconds, value).
async fn points(server: &Server, metric: &str, range: Range<i64>) -> Vec<(f64, String)> {
    let seconds = (range.end - range.start) / 1_000;
    let query = format!("{metric}{{host=\"a\"}}[{seconds}s]");
    // Ranges are open to the left.
    let reply = server.get("/api/v1/query", &[("query", &query), ("time", &format!("{}", (range.end - 1) as f64 / 1e3))]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let result = reply.json["data"]["result"].as_array().expect("a matrix").clone();
    assert!(result.len() <= 1, "one series: {}", reply.text);
    let values = result.first().map(|series| series["values"].as_array().expect("values").clone()).unwrap_or_default();
    let point = |pair: serde_json::Value| (pair[0].as_f64().expect("time"), pair[1].as_str().expect("value").to_owned());
    values.into_iter().map(point).collect()
}

fn expected(lines: &[Line], range: Range<i64>) -> Vec<(f64, String)> {
    let points = lines.iter().flat_map(|line| &line.2).filter(|(at, _)| range.contains(at));
    let mut points: Vec<_> = points.map(|(at, value)| (*at as f64 / 1e3, format!("{value}"))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

#[tokio::test]
async fn a_year_of_one_key_costs_365_reads() {
    let counting = Counting::default();
    let mut store = Store::over(Objects::new(Arc::new(counting.clone()), Default::default(), 1));
    let end_ms = START_MS + 365 * DAY_MS;
    let lines: Vec<Line> = ["a", "b"].map(|host| line("load", host, START_MS..end_ms, 1_800_000)).into();
    // Constants cost no read of pages: this year has none.
    let lines: Vec<Line> = lines
        .into_iter()
        .map(|(metric, tags, points)| (metric, tags, points.into_iter().map(|(at, _)| (at, (at / 1_800_000 % 97) as f64 / 10.0)).collect()))
        .collect();
    store.publish(&lines).await;
    let (from, to) = (format!("{}", (START_MS + DAY_MS) / 1_000 - 1), format!("{}", end_ms / 1_000 - 1));
    let year = [("query", "sum_over_time(load{host=\"a\"}[1d])"), ("start", &from), ("end", &to), ("step", "86400")];
    let mut answers = Vec::new();
    for (cold_most, warm) in [(2 * 2_190, 2_190), (2 * 365, 365)] {
        let server = store.open(Limits::default(), end_ms);
        counting.reads();
        let first = server.get("/api/v1/query_range", &year).await;
        assert_eq!(first.status, 200, "{}", first.text);
        assert!(counting.reads() <= cold_most, "an index and a range of pages from each file");
        let again = server.get("/api/v1/query_range", &year).await;
        assert_eq!(counting.reads(), warm, "indexes are in memory");
        assert_eq!(first.json["data"]["result"], again.json["data"]["result"]);
        answers.push(first.json["data"]["result"].clone());
        if warm == 2_190 {
            for number in 0..365 {
                store.compact_day(Window::of_ms(START_MS + number * DAY_MS)).await;
            }
        }
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0][0]["values"].as_array().map(Vec::len), Some(365));
}

#[tokio::test]
async fn points_in_and_beside_a_day_file_come_once_and_in_order() {
    let mut store = Store::new();
    let whole = START_MS - WINDOW_MS..START_MS + DAY_MS + WINDOW_MS;
    let mut lines = vec![line("load", "a", whole.clone(), 10_000), line("load", "b", whole.clone(), 10_000)];
    // Another metric, too large to be copied: encoded anew.
    let large: Vec<Line> =
        (0..30).map(|i| line("big", if i == 0 { "a" } else { ["c", "d", "e"][i % 3] }, whole.clone(), 5_000)).take(4).collect();
    store.publish(&[lines.clone(), large.clone()].concat()).await;
    let ranges = || {
        [
            whole.clone(),
            START_MS..START_MS + DAY_MS,
            START_MS + 1..START_MS + WINDOW_MS / 2,
            START_MS + WINDOW_MS - 30_000..START_MS + 3 * WINDOW_MS,
        ]
    };
    let check = async |store: &Store, lines: &[Line]| {
        let server = store.open(Limits::default(), whole.end);
        for range in ranges() {
            // `expected` begins behind the first instant, as a range does.
            let inside = range.start..range.end;
            assert!(points(&server, "load", inside.clone()).await == expected(&lines[..1], inside.clone()), "load in {inside:?}");
            assert!(points(&server, "big", inside.clone()).await == expected(&large[..1], inside.clone()), "big in {inside:?}");
        }
    };
    check(&store, &lines).await;
    store.compact_day(day()).await;
    check(&store, &lines).await;
    // The third window is built anew with other points: those in the day's file count no more, and those around it come in order.
    let third = START_MS + 2 * WINDOW_MS..START_MS + 3 * WINDOW_MS;
    lines[0].2.retain(|(at, _)| !third.contains(at) || at % 20_000 == 0);
    let anew = |line: &Line| (line.0.clone(), line.1.clone(), line.2.iter().copied().filter(|(at, _)| third.contains(at)).collect());
    let newer: Vec<Line> = lines.iter().chain(&large).map(anew).collect();
    store.publish_window(Window::of_ms(third.start), newer, SealKind::Late).await;
    check(&store, &lines).await;
    // And the day of both.
    store.compact_day(day()).await;
    check(&store, &lines).await;
}

#[tokio::test]
async fn a_limit_counts_only_the_windows_asked_for() {
    let mut store = Store::new();
    store.publish(&[line("load", "a", START_MS..START_MS + DAY_MS, 10_000)]).await;
    store.compact_day(day()).await;
    let limits = Limits { points_max: 1_440, ..Limits::default() };
    let server = store.open(limits, START_MS + DAY_MS);
    assert_eq!(points(&server, "load", START_MS + WINDOW_MS..START_MS + 2 * WINDOW_MS).await.len(), 1_440, "a window of the day");
    let query = [("query", "load[1d]"), ("time", &format!("{}", (START_MS + DAY_MS) / 1_000 - 1))];
    assert_eq!(server.get("/api/v1/query", &query).await.status, 422, "the whole day is more");
}

//! What the index of a file answers is what its points say: every question is asked of a source that hands out what is needed, and of one that is
//! made to hand out all points; and files whose pages are destroyed still answer where no page is needed.

use std::sync::Arc;

use crate::store::{Line, Server, Store, tags};
use bytes::Bytes;
use tailors_model::source::{
    Coverage, EachPart, Found, KeyTest, Need, NeedOf, PartialRange, PinnedSource, ReadLimits, SelectedSeries, Selection, SeriesFilter,
    SeriesSource, SourceFuture,
};
use tailors_model::{OrgId, Tag, Window};
use tailors_query::Limits;

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// 2026-11-20T00:00:00Z.
const START_S: i64 = 1_795_132_800;
const WINDOWS: i64 = 4;

/// A source that is made to hand out all points.
struct Plain(Arc<dyn SeriesSource>);

impl SeriesSource for Plain {
    fn pin(&self, now_ms: i64, newest: bool) -> SourceFuture<'_, Arc<dyn PinnedSource>> {
        Box::pin(async move {
            let pinned = self.0.pin(now_ms, newest).await?;
            Ok(Arc::new(PlainPinned(pinned)) as Arc<dyn PinnedSource>)
        })
    }
}

struct PlainPinned(Arc<dyn PinnedSource>);

impl PinnedSource for PlainPinned {
    fn feed(&self) -> u64 {
        self.0.feed()
    }

    fn coverage(&self, org: OrgId, from_ms: i64, to_ms: i64) -> Coverage {
        self.0.coverage(org, from_ms, to_ms)
    }

    fn metrics(&self, org: OrgId, from_ms: i64, to_ms: i64, allow_partial: bool) -> SourceFuture<'_, Vec<Bytes>> {
        self.0.metrics(org, from_ms, to_ms, allow_partial)
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
            let selection = self.0.select(org, filter, from_ms, to_ms, limits).await?;
            Ok(Arc::new(PlainSelection(selection)) as Arc<dyn Selection>)
        })
    }

    fn tag_keys<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        from: i64,
        to: i64,
        partial: bool,
    ) -> SourceFuture<'a, Found<Bytes>> {
        self.0.tag_keys(org, filter, from, to, partial)
    }

    fn tag_lists<'a>(
        &'a self,
        org: OrgId,
        filter: &'a dyn SeriesFilter,
        keys: KeyTest<'a>,
        from: i64,
        to: i64,
        partial: bool,
    ) -> SourceFuture<'a, Found<Vec<Tag>>> {
        self.0.tag_lists(org, filter, keys, from, to, partial)
    }
}

struct PlainSelection(Arc<dyn Selection>);

impl Selection for PlainSelection {
    fn series(&self) -> &[SelectedSeries] {
        self.0.series()
    }

    fn scan<'a>(&'a self, numbers: &'a [usize], from_ms: i64, to_ms: i64, _: NeedOf<'a>, each: EachPart) -> SourceFuture<'a, ()> {
        self.0.scan(numbers, from_ms, to_ms, &|_, _, _| Need::Points, each)
    }

    fn partial(&self) -> Vec<PartialRange> {
        self.0.partial()
    }
}

/// xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

/// Series of every sort over some windows: decimals, constants, NaNs, stale markers, zeros of both signs, few points, gaps, equal labels.
fn lines(random: &mut Random) -> Vec<Line> {
    let mut lines = Vec::new();
    for series in 0..18_u64 {
        let each_s = random.of(&[10, 10, 15, 60, 300]);
        let odd = random.of(&[f64::NAN, STALE, -0.0, f64::INFINITY]);
        let mut points = Vec::new();
        for window in 0..WINDOWS {
            // Zeros of one sign in one window and of the other in the next: which counts is a question of order.
            let (constant, gap) = (random.of(&[0.0, -0.0, 42.0, f64::NAN, 1.5]), random.below(7) == 0);
            for at_s in (window * 14_400..(window + 1) * 14_400).step_by(each_s).filter(|_| !gap) {
                let value = match series % 6 {
                    0 => (random.below(2_000) as f64 - 1_000.0) / 100.0,
                    1 => constant,
                    2 if random.below(200) == 0 => odd,
                    2 => random.below(5) as f64,
                    3 => random.of(&[0.0, -0.0, 1.0]),
                    4 => random.of(&[0.0, -0.0]),
                    _ => f64::from_bits(random.below(1 << 62)),
                };
                points.push(((START_S + at_s) * 1_000 + (series % 3) as i64, value));
            }
        }
        // Two series that PromQL takes for one: an empty value is as none.
        let twin = if series == 17 { " twin=" } else { "" };
        lines.push((format!("m{}", series % 2), tags(&format!("s={}{twin}", if series == 17 { 15 } else { series })), points));
    }
    lines
}

const FUNCTIONS: [&str; 13] = [
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "absent_over_time",
    "avg_over_time",
    "sum_over_time",
    "rate",
    "resets",
    "stddev_over_time",
    "changes",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_the_same_with_all_points() {
    let mut asked = 0;
    for seed in 1..=3 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut store = Store::new();
        store.publish(&lines(&mut random)).await;
        let now_ms = (START_S + 86_400) * 1_000;
        let (quick, plain) =
            (store.open(Limits::default(), now_ms), Server::of(Arc::new(Plain(Arc::new(store.source()))), Limits::default(), now_ms));
        for _ in 0..160 {
            let range_s = random.of(&[1, 60, 61, 600, 3_600, 14_400, 14_399, 20_000, 28_800, 86_400]);
            let step_s = random.of(&[range_s, range_s, range_s, range_s / 2 + 1, range_s * 3, 7_200, 14_400, 36_000]).max(60);
            let (start_s, steps) = (START_S - 3_600 + random.below(20_000) as i64, random.of(&[0, 1, 5, 40]));
            let (selector, function) =
                (random.of(&["m0", "m1", "{__name__=~\"m.\"}", "m1{s=\"15\"}", "m0{s!=\"0\"}"]), random.of(&FUNCTIONS));
            let at = random.of(&["", "", " offset 1h", " @ end()"]);
            let query = match random.below(8) {
                0 => format!("{selector}{at}"),
                1 => format!("timestamp({selector}{at})"),
                _ => format!("{function}({selector}[{range_s}s]{at})"),
            };
            let (start, end, step) = (start_s.to_string(), (start_s + steps * step_s).to_string(), step_s.to_string());
            let range = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
            let instant = [("query", query.as_str()), ("time", &end)];
            for (path, parameters) in [("/api/v1/query_range", &range[..]), ("/api/v1/query", &instant[..])] {
                let (one, other) = (quick.get(path, parameters).await, plain.get(path, parameters).await);
                assert_eq!(one.json["data"]["result"], other.json["data"]["result"], "seed {seed}: {query} {start} {end} {step}");
                assert_eq!((one.status, &one.json["tailors"]), (other.status, &other.json["tailors"]), "{query}");
                asked += usize::from(one.json["data"]["result"].as_array().is_some_and(|result| !result.is_empty()));
            }
        }
    }
    assert!(asked > 500, "{asked} answers with a value");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_no_answer_needs_are_not_read() {
    let mut store = Store::new();
    let mut random = Random(5);
    let mut points = || (0..WINDOWS * 1_440).map(|i| ((START_S + i * 10) * 1_000, random.below(10_000) as f64 / 10.0)).collect();
    store.publish(&[("m".to_owned(), tags("s=1"), points()), ("m".to_owned(), tags("s=2"), points())]).await;
    // Of all windows but the last nothing is left but header and index.
    for window in 0..WINDOWS - 1 {
        let path = store.chunk_path(Window::of_ms((START_S + window * 14_400) * 1_000), 1);
        let mut bytes = std::fs::read(&path).expect("chunk file");
        bytes[32..600].fill(0xff);
        std::fs::write(&path, bytes).expect("writes");
    }
    let server = store.open(Limits::default(), (START_S + 86_400) * 1_000);
    let end = (START_S + WINDOWS * 14_400).to_string();
    let start = (START_S + 14_400 - 10).to_string();
    for (query, status) in [
        ("max_over_time(m[4h])", 200),
        ("min_over_time(m[4h])", 200),
        ("last_over_time(m[4h])", 200),
        ("count_over_time(m[4h])", 200),
        ("count_over_time(m[10m])", 200),
        ("present_over_time(m[1m])", 200),
        ("max_over_time(m[10m])", 500),
        ("avg_over_time(m[4h])", 500),
        ("sum_over_time(m[4h])", 500),
        ("m", 500),
    ] {
        let parameters = [("query", query), ("start", start.as_str()), ("end", end.as_str()), ("step", "14400")];
        let reply = server.get("/api/v1/query_range", &parameters).await;
        assert_eq!(reply.status, status, "{query}: {}", reply.text);
    }
    // Only what the last step looks at is read.
    let late = [("query", "rate(m[5m])"), ("time", end.as_str())];
    assert_eq!(server.get("/api/v1/query", &late).await.status, 200);
    let parameters = [("query", "avg_over_time(m[5m])"), ("start", &(START_S - 14_400).to_string()), ("end", &end), ("step", "72000")];
    assert_eq!(server.get("/api/v1/query_range", &parameters).await.status, 200);
    let everything = [("query", "m[1d]"), ("time", end.as_str())];
    assert_eq!(server.get("/api/v1/query", &everything).await.status, 500);
}

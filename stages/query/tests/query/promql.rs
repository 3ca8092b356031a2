//! The evaluator against Prometheus' documented semantics, over an in-memory source; with `TAILORS_PROMQLTEST=DIR` also against a directory of
//! Prometheus' own `.test` files.

mod promqltest;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tailors_model::source::{
    self, Coverage, EachPart, KeyTest, NeedOf, Part, PartialRange, PinnedSource, ReadLimits, SelectedSeries, Selection, SeriesFilter,
    SeriesSource, SourceError, SourceFuture,
};
use tailors_model::{MetricMeta, OrgId, Series, Tag, canonical_tags};
use tailors_query::promql::{Answer, Context, Value, eval_instant, eval_range};
use tailors_query::{Limits, QueryError};

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

#[derive(Clone, Default)]
struct Memory(Vec<Stored>);

/// A series and its points.
type Stored = (Arc<Series>, Vec<(i64, f64)>);

impl Memory {
    /// Adds `name k=v k=v bare` with points (Unix seconds, value).
    fn with(self, series: &str, points: &[(f64, f64)]) -> Self {
        let mut words = series.split(' ');
        let metric = words.next().unwrap_or_default().to_owned();
        let tag = |word: &str| match word.split_once('=') {
            Some((key, value)) => Tag::pair(key.to_owned(), value.to_owned()),
            None => Tag::bare(word.to_owned()),
        };
        self.add(metric, words.map(tag).collect(), points.iter().map(|(at, value)| ((at * 1_000.0) as i64, *value)).collect())
    }

    fn add(mut self, metric: String, mut tags: Vec<Tag>, points: Vec<(i64, f64)>) -> Self {
        canonical_tags(&mut tags);
        self.0.push((Arc::new(Series { metric: metric.into(), tags }), points));
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        self
    }

    fn context(self) -> Context {
        Context { source: Arc::new(self), org: OrgId(1), limits: Limits::default(), allow_partial: false }
    }
}

impl SeriesSource for Memory {
    fn pin(&self, _: i64, _: bool) -> SourceFuture<'_, Arc<dyn PinnedSource>> {
        Box::pin(async { Ok(Arc::new(self.clone()) as Arc<dyn PinnedSource>) })
    }
}

impl PinnedSource for Memory {
    fn feed(&self) -> u64 {
        7
    }

    fn coverage(&self, _: OrgId, _: i64, _: i64) -> Coverage {
        Coverage::default()
    }

    fn metrics(&self, _: OrgId, _: i64, _: i64, _: bool) -> SourceFuture<'_, Vec<Bytes>> {
        let mut names: Vec<Bytes> = self.0.iter().map(|(series, _)| series.metric.clone()).collect();
        names.dedup();
        Box::pin(async { Ok(names) })
    }

    fn select<'a>(
        &'a self,
        _: OrgId,
        filter: &'a dyn SeriesFilter,
        from_ms: i64,
        to_ms: i64,
        limits: ReadLimits,
    ) -> SourceFuture<'a, Arc<dyn Selection>> {
        Box::pin(async move {
            let wanted = self.0.iter().filter(|(series, _)| filter.metric(&series.metric) && filter.series(series));
            let clipped = wanted.map(|(series, points)| {
                let points: Vec<_> = points.iter().copied().filter(|(at, _)| (from_ms..to_ms).contains(at)).collect();
                let found = SelectedSeries { series: series.clone(), meta: MetricMeta::default(), points_max: points.len() as u64 };
                (found, points)
            });
            let (series, points): (Vec<_>, Vec<_>) = clipped.unzip();
            if series.len() as u64 > limits.series {
                return Err(SourceError::Limit("series".to_owned()));
            }
            Ok(Arc::new(Found { series, points }) as Arc<dyn Selection>)
        })
    }

    fn tag_keys<'a>(&'a self, org: OrgId, filter: &'a dyn SeriesFilter, from: i64, to: i64, partial: bool) -> SourceFuture<'a, Keys> {
        Box::pin(async move {
            let (lists, unread) = self.tag_lists(org, filter, &|_| true, from, to, partial).await?;
            let keys: BTreeSet<Bytes> = lists.into_iter().flatten().map(|tag| tag.key).collect();
            Ok((keys.into_iter().collect(), unread))
        })
    }

    fn tag_lists<'a>(
        &'a self,
        _: OrgId,
        filter: &'a dyn SeriesFilter,
        keys: KeyTest<'a>,
        _: i64,
        _: i64,
        _: bool,
    ) -> SourceFuture<'a, source::Found<Vec<Tag>>> {
        let wanted = self.0.iter().filter(|(series, _)| filter.metric(&series.metric) && filter.series(series));
        let lists: BTreeSet<Vec<Tag>> =
            wanted.map(|(series, _)| series.tags.iter().filter(|tag| keys(&tag.key)).cloned().collect()).collect();
        Box::pin(async { Ok((lists.into_iter().collect(), Vec::new())) })
    }
}

type Keys = source::Found<Bytes>;

struct Found {
    series: Vec<SelectedSeries>,
    points: Vec<Vec<(i64, f64)>>,
}

impl Selection for Found {
    fn series(&self) -> &[SelectedSeries] {
        &self.series
    }

    fn scan<'a>(&'a self, numbers: &'a [usize], from_ms: i64, to_ms: i64, _: NeedOf<'a>, mut each: EachPart) -> SourceFuture<'a, ()> {
        for (slot, number) in numbers.iter().enumerate() {
            let inside = self.points[*number].iter().copied().filter(|(at, _)| (from_ms..to_ms).contains(at));
            let (times, values): (Vec<i64>, Vec<f64>) = inside.unzip();
            // In parts of three, so that windows lie across their edges.
            times.chunks(3).zip(values.chunks(3)).for_each(|(times, values)| each(slot, Part::Points(times, values)));
        }
        Box::pin(async { Ok(()) })
    }

    fn partial(&self) -> Vec<PartialRange> {
        Vec::new()
    }
}

async fn at(context: &Context, query: &str, at_s: f64) -> Result<Answer, QueryError> {
    eval_instant(context, query, (at_s * 1_000.0) as i64).await
}

/// `{labels} value` lines of an instant answer.
async fn lines(context: &Context, query: &str, at_s: f64) -> Vec<String> {
    match at(context, query, at_s).await.expect(query).value {
        Value::Vector(samples) => samples.into_iter().map(|(labels, _, value)| format!("{labels} {value}")).collect(),
        Value::Scalar(_, value) => vec![value.to_string()],
        other => panic!("{query}: {other:?}"),
    }
}

fn counter() -> Memory {
    let points: Vec<_> = (0..=10).map(|i| (f64::from(i) * 60.0, f64::from(i) * 10.0)).collect();
    Memory::default().with("m_total job=a", &points)
}

#[tokio::test]
async fn rates_are_extrapolated_to_the_edges() {
    let context = counter().context();
    // (300, 600]: points 360..600, 40 more; 60 s to the start < 66 s: whole window.
    assert_eq!(lines(&context, "increase(m_total[5m])", 600.0).await, ["{job=\"a\"} 50"]);
    assert_eq!(lines(&context, "rate(m_total[5m])", 600.0).await, [format!("{{job=\"a\"}} {}", 50.0 / 300.0)]);
    // (0, 300] left-open: the point at 0 does not count, and the counter was zero at 0.
    assert_eq!(lines(&context, "count_over_time(m_total[5m])", 300.0).await, ["{job=\"a\"} 5"]);
    assert_eq!(lines(&context, "delta(m_total[5m])", 630.0).await, ["{job=\"a\"} 50"]);
    assert_eq!(lines(&context, "irate(m_total[5m])", 600.0).await, [format!("{{job=\"a\"}} {}", 10.0 / 60.0)]);
    assert!(lines(&context, "rate(m_total[1m])", 600.0).await.is_empty());
}

#[tokio::test]
async fn counters_reset_and_never_come_from_below_zero() {
    let memory = Memory::default().with("c", &[(10.0, 1.0), (20.0, 5.0), (30.0, 2.0), (40.0, 4.0)]);
    let context = memory.context();
    // 4 - 1 + 5 = 8 over 30 s; start: to zero 30 * 1/8 = 3.75 s < 10 s; end: 0.
    assert_eq!(lines(&context, "increase(c[40s])", 40.0).await, [format!("{{}} {}", 8.0 * (33.75 / 30.0))]);
    assert_eq!(lines(&context, "resets(c[40s])", 40.0).await, ["{} 1"]);
    assert_eq!(lines(&context, "changes(c[40s])", 40.0).await, ["{} 3"]);
    // The reset between 20 and 30 lies outside a window that starts after 20.
    assert_eq!(lines(&context, "resets(c[20s])", 40.0).await, ["{} 0"]);
}

#[tokio::test]
async fn lookback_is_left_open_and_stale_markers_end_series() {
    let memory = Memory::default().with("g", &[(0.0, 1.0), (10.0, STALE), (20.0, 3.0)]);
    let context = memory.context();
    assert_eq!(lines(&context, "g", 9.0).await, ["{__name__=\"g\"} 1"]);
    assert!(lines(&context, "g", 15.0).await.is_empty());
    assert_eq!(lines(&context, "count_over_time(g[1m])", 20.0).await, ["{} 2"]);
    assert_eq!(lines(&context, "g", 319.999).await, ["{__name__=\"g\"} 3"]);
    assert!(lines(&context, "g", 320.0).await.is_empty());
    assert_eq!(lines(&context, "timestamp(g)", 25.5).await, ["{} 20"]);
    assert_eq!(lines(&context, "g offset 20s", 29.0).await, ["{__name__=\"g\"} 1"]);
    assert_eq!(lines(&context, "g @ 5", 1_000.0).await, ["{__name__=\"g\"} 1"]);
    assert_eq!(lines(&context, "absent(nothing{a=\"b\",c=~\"d\"})", 20.0).await, ["{a=\"b\"} 1"]);
}

fn requests() -> Memory {
    let one = |value: f64| vec![(0.0, value)];
    Memory::default()
        .with("r job=api instance=0 group=prod", &one(100.0))
        .with("r job=api instance=1 group=prod", &one(200.0))
        .with("r job=api instance=0 group=canary", &one(300.0))
        .with("r job=app instance=0 group=prod", &one(500.0))
        .with("limit job=api", &one(150.0))
        .with("limit job=app", &one(600.0))
}

#[tokio::test]
async fn aggregations_group_and_rank() {
    let context = requests().context();
    assert_eq!(lines(&context, "sum by (job) (r)", 0.0).await, ["{job=\"api\"} 600", "{job=\"app\"} 500"]);
    assert_eq!(lines(&context, "avg without (instance, group) (r)", 0.0).await, ["{job=\"api\"} 200", "{job=\"app\"} 500"]);
    assert_eq!(lines(&context, "count(r) + max(r) - min(r)", 0.0).await, ["{} 404"]);
    assert_eq!(lines(&context, "group(r)", 0.0).await, ["{} 1"]);
    assert_eq!(lines(&context, "stddev(r)", 0.0).await, [format!("{{}} {}", (87_500.0_f64 / 4.0).sqrt())]);
    assert_eq!(lines(&context, "quantile(0.5, r)", 0.0).await, ["{} 250"]);
    let top = lines(&context, "topk(2, r)", 0.0).await;
    assert!(top[0].ends_with(" 500") && top[1].ends_with(" 300") && top.len() == 2, "{top:?}");
    let bottom = lines(&context, "bottomk by (job) (1, r)", 0.0).await;
    assert!(bottom.len() == 2 && bottom[0].ends_with(" 100") && bottom[1].ends_with(" 500"), "{bottom:?}");
    assert_eq!(lines(&context, "count_values(\"v\", r > bool 150)", 0.0).await, ["{v=\"1\"} 3", "{v=\"0\"} 1"]);
    assert_eq!(lines(&context, "sort_desc(sum by (group) (r))", 0.0).await, ["{group=\"prod\"} 800", "{group=\"canary\"} 300"]);
}

#[tokio::test]
async fn vectors_match_on_ignoring_and_groups() {
    let context = requests().context();
    let over = lines(&context, "r > on(job) group_left limit", 0.0).await;
    assert_eq!(over.len(), 2, "{over:?}");
    assert!(over[0].starts_with("{__name__=\"r\""), "{over:?}");
    assert_eq!(lines(&context, "limit - on(job) sum by (job) (r)", 0.0).await, ["{job=\"api\"} -450", "{job=\"app\"} 100"]);
    assert_eq!(lines(&context, "count(r * on(job) group_left() limit)", 0.0).await, ["{} 4"]);
    assert_eq!(lines(&context, "count(limit * on(job) group_right() r)", 0.0).await, ["{} 4"]);
    let error = at(&context, "r * on(job) limit", 0.0).await.expect_err("many to one");
    assert_eq!(error.status().0, 422);
    let error = at(&context, "limit * on(job) r", 0.0).await.expect_err("many on the right");
    assert!(error.to_string().contains("found duplicate series for the match group {job=\"api\"} on the right hand-side"), "{error}");
    assert_eq!(lines(&context, "count(r and on(job) limit{job=\"api\"})", 0.0).await, ["{} 3"]);
    assert_eq!(lines(&context, "count(r unless on(job) limit{job=\"api\"})", 0.0).await, ["{} 1"]);
    assert_eq!(lines(&context, "count(r or limit)", 0.0).await, ["{} 6"]);
    assert_eq!(lines(&context, "1 + 2 ^ 3 % 5", 0.0).await, ["4"]);
    assert_eq!(lines(&context, "-limit{job=\"api\"}", 0.0).await, ["{job=\"api\"} -150"]);
    assert_eq!(lines(&context, "200 < limit", 0.0).await, ["{__name__=\"limit\", job=\"app\"} 600"]);
}

#[tokio::test]
async fn names_and_tags_become_labels() {
    let memory = Memory::default()
        .with("system.cpu.user kube.ns=x canary role=a role=b", &[(0.0, 1.0)])
        .with("system.cpu.user kube.ns=y role=c", &[(0.0, 2.0)])
        .with("plain_name", &[(0.0, 3.0)])
        .with("plain.name", &[(0.0, 4.0)]);
    let context = memory.context();
    let answer = at(&context, "sum by (kube_ns) (system_cpu_user)", 0.0).await.expect("translated");
    assert_eq!(answer.coverage.notes, ["the name system_cpu_user was read as \"system.cpu.user\""]);
    assert_eq!(lines(&context, "sum by (kube_ns) (system_cpu_user)", 0.0).await, ["{kube_ns=\"x\"} 1", "{kube_ns=\"y\"} 2"]);
    assert_eq!(lines(&context, "sum({\"system.cpu.user\", canary=\"true\"})", 0.0).await, ["{} 1"]);
    assert_eq!(lines(&context, "count(system_cpu_user{role=\"b\"})", 0.0).await, ["{} 1"]);
    assert_eq!(lines(&context, "count(system_cpu_user{role=\"a,b\"})", 0.0).await, ["{} 1"]);
    assert_eq!(lines(&context, "sum(system_cpu_user{role!=\"b\"})", 0.0).await, ["{} 2"]);
    assert_eq!(lines(&context, "plain_name", 0.0).await, ["{__name__=\"plain_name\"} 3"]);
    assert_eq!(lines(&context, "count({__name__=~\"system_.*|plain.name\"})", 0.0).await, ["{} 4"]);
    let error = at(&context, "abs({__name__=~\"plain.name\"})", 0.0).await.expect_err("equal label sets");
    assert!(error.to_string().contains("plain.name") && error.to_string().contains("plain_name"), "{error}");
}

#[tokio::test]
async fn ranges_subqueries_and_limits() {
    let context = counter().context();
    let answer = eval_range(&context, "sum(m_total)", 0, 120_000, 60_000).await.expect("range");
    let Value::Matrix(series) = answer.value else { panic!("no matrix") };
    assert_eq!(series[0].1, [(0, 0.0), (60_000, 10.0), (120_000, 20.0)]);
    assert_eq!(lines(&context, "max_over_time(m_total[5m:1m])", 600.0).await, ["{job=\"a\"} 100"]);
    assert_eq!(lines(&context, "avg_over_time(rate(m_total[2m])[3m:1m])", 600.0).await, [format!("{{job=\"a\"}} {}", 10.0 / 60.0)]);
    assert_eq!(eval_range(&context, "1", 0, 11_001_000, 1_000).await.expect_err("steps").status().0, 400);
    assert!(eval_range(&context, "1", 0, 11_000_000, 1_000).await.is_ok());
    assert_eq!(at(&context, "sum(", 0.0).await.expect_err("parse").status().0, 400);
    let error = at(&context, "double_exponential_smoothing(m_total[5m], 0.5, 0.5)", 0.0).await.expect_err("flag");
    assert!(error.status().0 == 400 && error.to_string().contains("\"double_exponential_smoothing\" is not enabled"), "{error}");
    let open = Context { limits: Limits { experimental_functions: true, ..Limits::default() }, ..context.clone() };
    assert_eq!(lines(&open, "double_exponential_smoothing(m_total[5m], 0.5, 0.5)", 600.0).await, ["{job=\"a\"} 100"]);
    let error = at(&open, "info(m_total)", 0.0).await.expect_err("unknown");
    assert!(error.status().0 == 422 && error.to_string().contains("info"), "{error}");
    let small = Context { limits: Limits { series_max: 0, ..Limits::default() }, ..context };
    assert_eq!(at(&small, "m_total", 0.0).await.expect_err("series").status().0, 422);
}

#[test]
fn numbers_are_written_as_prometheus_does() {
    let text = |value: f64| {
        let mut out = String::new();
        tailors_query::promql::value::write_number(&mut out, value);
        out
    };
    let cases = [
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (123_456_789.0, "123456789"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (-0.0, "-0"),
        (1e20, "100000000000000000000"),
    ];
    for (value, wanted) in cases {
        assert_eq!(text(value), wanted);
    }
}

#[test]
fn escaped_names_are_read() {
    use tailors_query::promql::labels::unescape;
    assert_eq!(unescape("U__kube_2e_ns"), "kube.ns");
    assert_eq!(unescape("U__a__b"), "a_b");
    assert_eq!(unescape("plain"), "plain");
    assert_eq!(unescape("U__bad_zz_"), "U__bad_zz_");
}

/// Numbers whose sums need their compensation, with gaps, resets and marks that end a series.
fn rugged(points: i64) -> Vec<(i64, f64)> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let value = |random: u64| match random % 50 {
        0 => STALE,
        1 => f64::NAN,
        2 => -0.0,
        3 => 0.0,
        4 => 1e17,
        5 => -1e17,
        _ => (random % 100_000) as f64 / 100.0 - 300.0,
    };
    let points = (0..points).map(|i| (i * 1_000, random())).filter(|(at, random)| random % 7 != 0 && at / 100_000 % 5 != 3);
    points.map(|(at, random)| (at, value(random))).collect()
}

/// The plain definition: every window by itself.
fn plainly(points: &[(i64, f64)], function: &str, from_ms: i64, to_ms: i64) -> Option<f64> {
    let inside = points.iter().filter(|(at, value)| *at > from_ms && *at <= to_ms && value.to_bits() != STALE.to_bits());
    let values: Vec<f64> = inside.map(|(_, value)| *value).collect();
    if values.is_empty() {
        return None;
    }
    let best =
        |better: fn(f64, f64) -> bool| values.iter().fold(values[0], |best, v| if better(*v, best) || best.is_nan() { *v } else { best });
    let sum = || {
        let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
        for value in &values {
            let total = sum + value;
            lost += if sum.abs() >= value.abs() { (sum - total) + value } else { (value - total) + sum };
            sum = total;
        }
        sum + lost
    };
    Some(match function {
        "min_over_time" => best(|value, best| value < best),
        "max_over_time" => best(|value, best| value > best),
        "count_over_time" => values.len() as f64,
        "sum_over_time" => sum(),
        _ => sum() / values.len() as f64,
    })
}

#[tokio::test]
async fn overlapping_windows_equal_each_by_itself() {
    let points = rugged(3_000);
    let numbers: Vec<(i64, f64)> =
        points.iter().map(|(at, value)| (*at, if value.is_nan() && value.to_bits() != STALE.to_bits() { 1.0 } else { *value })).collect();
    let context =
        Memory::default().add("odd".to_owned(), Vec::new(), points.clone()).add("even".to_owned(), Vec::new(), numbers.clone()).context();
    for (name, points) in [("odd", &points), ("even", &numbers)] {
        for function in ["min_over_time", "max_over_time", "count_over_time", "sum_over_time", "avg_over_time"] {
            // Steps that divide the range, that don't, that exceed it; ranges below and above the gaps.
            for (range_s, step_s) in [(60, 20), (60, 7), (61, 30), (600, 1), (50, 50), (20, 55), (1_000, 333)] {
                let query = format!("{function}({name}[{range_s}s])");
                let answer = eval_range(&context, &query, -5_000, 3_200_000, step_s * 1_000).await.expect("answers");
                let Value::Matrix(series) = answer.value else { panic!("{query}") };
                let mut got = series[0].1.iter().copied().peekable();
                for at in (-5_000..=3_200_000).step_by(step_s as usize * 1_000) {
                    let wanted = plainly(points, function, at - range_s * 1_000, at);
                    let found = got.next_if(|(time, _)| *time == at).map(|(_, value)| value);
                    let same = match (wanted, found) {
                        (Some(a), Some(b)) if function.starts_with('m') || function.starts_with('c') => {
                            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                        }
                        (Some(a), Some(b)) => a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-12 * a.abs().max(1e-300),
                        (a, b) => a.is_none() && b.is_none(),
                    };
                    assert!(same, "{query} step {step_s} at {at}: wanted {wanted:?}, got {found:?}");
                }
                assert_eq!(got.next(), None, "{query}");
            }
        }
    }
}

/// A range query is cut into tiles, over series or over steps; an instant one is not.
#[tokio::test(flavor = "multi_thread")]
async fn tiles_do_not_show() {
    let long: Vec<(i64, f64)> = (0..600_000).map(|i| (i * 10_000, ((i * 7_919) % 1_009) as f64 / 4.0)).collect();
    let mut memory = Memory::default().add("long".to_owned(), Vec::new(), long.clone());
    for i in 0..12 {
        let points = long.iter().skip(i * 1_000).take(60_000).copied().collect();
        memory = memory.add("wide".to_owned(), vec![Tag::pair("i".to_owned(), i.to_string())], points);
    }
    let context = memory.context();
    let (step_ms, end_ms) = (3_600_000, 5_999_000_000);
    for query in [
        "avg_over_time(long[25m])",
        "rate(long[7m] offset 3m)",
        "long",
        "quantile_over_time(scalar(long) / 300, long[5m])",
        "sum(rate(wide[1h])) by (i)",
        "wide",
    ] {
        let answer = eval_range(&context, query, 0, end_ms, step_ms).await.expect(query);
        let Value::Matrix(series) = answer.value else { panic!("{query}") };
        for at_ms in (0..=end_ms).step_by(step_ms as usize * 37) {
            let Value::Vector(wanted) = eval_instant(&context, query, at_ms).await.expect(query).value else { panic!("{query}") };
            let found = series.iter().filter_map(|(labels, points)| {
                let (_, value) = points.iter().find(|(time, _)| *time == at_ms)?;
                Some((labels.clone(), at_ms, *value))
            });
            let found: Vec<_> = found.collect();
            let text = |samples: &[(tailors_query::promql::Labels, i64, f64)]| format!("{samples:?}");
            assert_eq!(text(&found), text(&wanted), "{query} at {at_ms}");
        }
        assert!(series.iter().map(|(_, points)| points.len()).sum::<usize>() > 150, "{query}");
    }
}

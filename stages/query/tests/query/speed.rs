//! A month in 180 windows, of 20 series at 1 s and of 1,000 at 5 min, and how long Grafana waits for it. Not run by default:
//! `cargo test --release -p tailors-query --test query -- speed --ignored --nocapture`; `TAILORS_SPEED_STORE=DIR` keeps the store for the next run.
#![allow(clippy::disallowed_methods, reason = "it measures by the real clock")]

use std::path::PathBuf;
use std::time::Instant;

use crate::store::{Line, Store, tags};
use tailors_model::Window;
use tailors_query::Limits;
use tailors_store::feed;

/// End of the month, 2026-11-20T00:00:00Z, as in the load generator that rivals are measured with.
const END_S: i64 = 1_795_132_800;
const DAYS: i64 = 30;
const SERIES: usize = 20;
const RUNS: u32 = 5;
/// Pixels of a wide panel.
const STEPS: i64 = 1_500;

/// A generator of one series' values: walk of two decimals, counter, constant, integers, full mantissa.
struct Values {
    kind: usize,
    state: u64,
    last: i64,
}

impl Values {
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn next(&mut self) -> f64 {
        let random = self.random();
        match self.kind {
            0 => {
                self.last += (random % 41) as i64 - 20;
                self.last as f64 / 100.0
            }
            1 => {
                self.last += (random % 10) as i64;
                self.last as f64
            }
            2 => 42.0,
            3 => (random % 1_000) as f64,
            _ => 50.0 + 10.0 * ((random >> 11) as f64 / (1_u64 << 53) as f64),
        }
    }
}

/// CPU milliseconds of this process, all threads.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<f64> = stat.rsplit(')').next().into_iter().flat_map(str::split_whitespace).map(|f| f.parse().unwrap_or(0.0)).collect();
    // Ticks of 10 ms: user and system, fields 14 and 15 of which the first two are cut off.
    (fields[11] + fields[12]) * 10.0
}

/// A store of a month: so many series with a point each so many seconds, kept for the next run under this name.
async fn month(name: &str, series: usize, each_s: i64) -> Store {
    let keep = std::env::var_os("TAILORS_SPEED_STORE").map(|root| PathBuf::from(root).join(name));
    let mut store = match &keep {
        Some(root) => {
            std::fs::create_dir_all(root).expect("directory");
            Store::at(root)
        }
        None => Store::new(),
    };
    let windows = DAYS * 6;
    if feed::get(&store.objects, windows as u64).await.expect("feed").is_some() {
        return store;
    }
    let generator = |i: usize| Values { kind: i % 5, state: i as u64 * 7_919 + 1, last: 100_000 };
    let mut generators: Vec<Values> = (0..series).map(generator).collect();
    let mut window = Window::of_ms((END_S - DAYS * 86_400) * 1_000);
    for _ in 0..windows {
        let line = |(i, values): (usize, &mut Values)| -> Line {
            let points = (0..14_400 / each_s).map(|s| (window.start_ms() + s * each_s * 1_000, values.next())).collect();
            (format!("bench_kind{}", i % 5), tags(&format!("series={i} service=s{}", i % 20)), points)
        };
        let lines: Vec<Line> = generators.iter_mut().enumerate().map(line).collect();
        store.publish(&lines).await;
        window = window.next();
    }
    store
}

async fn measure(store: &Store, step_s: i64, queries: &[String]) {
    let (start, end, step) = ((END_S - DAYS * 86_400 + step_s).to_string(), END_S.to_string(), step_s.to_string());
    let wanted = std::env::var("TAILORS_SPEED_ONLY").unwrap_or_default();
    println!("   cold      best       CPU");
    for query in queries.iter().filter(|query| query.contains(&wanted)) {
        let server = store.open(Limits::default(), END_S * 1_000);
        let (mut cold_ms, mut best_ms, mut cpu_began_ms, mut points) = (0.0, f64::INFINITY, 0.0, 0);
        for run in 0..=RUNS {
            let began = Instant::now();
            let parameters = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
            let reply = server.post("/api/v1/query_range", &parameters).await;
            let took_ms = began.elapsed().as_secs_f64() * 1e3;
            assert_eq!(reply.status, 200, "{}", reply.text);
            let result = reply.json["data"]["result"].as_array().expect("matrix");
            points = result.iter().map(|series| series["values"].as_array().expect("values").len()).sum::<usize>();
            if run == 0 {
                (cold_ms, cpu_began_ms) = (took_ms, cpu_ms());
            } else {
                best_ms = best_ms.min(took_ms);
            }
        }
        let cpu_ms = (cpu_ms() - cpu_began_ms) / f64::from(RUNS);
        println!("{cold_ms:7.0} {best_ms:7.0} ms {cpu_ms:7.0} ms  {points:6} values  {query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; takes a minute to make its data"]
async fn month_of_20_series() {
    let store = month("month", SERIES, 1).await;
    let step_s = DAYS * 86_400 / STEPS;
    let all = "{__name__=~\"bench_kind.*\"}";
    let one = "bench_kind0{series=\"0\"}";
    let queries = [
        format!("avg_over_time({all}[{step_s}s])"),
        format!("avg_over_time({all}[{}s])", step_s * 10),
        format!("avg_over_time({all}[7d])"),
        format!("max_over_time({all}[{step_s}s])"),
        format!("rate({all}[{step_s}s])"),
        format!("quantile_over_time(0.95, {all}[{step_s}s])"),
        format!("count_over_time({all}[{step_s}s])"),
        all.to_owned(),
        format!("avg_over_time({one}[{step_s}s])"),
        format!("max_over_time({one}[{step_s}s])"),
        format!("quantile_over_time(0.95, {one}[{step_s}s])"),
        format!("rate(bench_kind1{{series=\"1\"}}[{step_s}s])"),
        one.to_owned(),
    ];
    measure(&store, step_s, &queries).await;
    // A day a step: what the index of a file says of all its points is enough for some.
    let day = 86_400;
    let functions = ["max_over_time", "last_over_time", "count_over_time", "avg_over_time"];
    let mut queries: Vec<String> = functions.iter().map(|function| format!("{function}({all}[1d])")).collect();
    queries.push(format!("rate({all}[5m])"));
    measure(&store, day, &queries).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; takes a minute to make its data"]
async fn month_of_1000_series() {
    let store = month("wide", 1_000, 300).await;
    let step_s = DAYS * 86_400 / STEPS;
    let all = "{__name__=~\"bench_kind.*\"}";
    let queries = [
        format!("sum by (service) ({all})"),
        format!("sum by (service) (rate({all}[{step_s}s]))"),
        "bench_kind2{series=\"7\"}".to_owned(),
        "count(bench_kind2)".to_owned(),
    ];
    measure(&store, step_s, &queries).await;
}

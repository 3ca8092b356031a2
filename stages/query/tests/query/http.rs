//! The HTTP API as clients see it: shapes, verbs, limits with their ids, and what an answer says when stored files are missing or damaged.

use crate::store::{Line, Reply, Server, Store, tags};
use axum::http::Method;
use serde_json::{Value, json};
use tailors_format::chunk::SeriesColumn;
use tailors_format::doc::SealKind;
use tailors_model::{Bin, MetricKind, MetricMeta, Sketch, Window};
use tailors_query::Limits;

/// Edge of two windows, Unix seconds.
const T0: i64 = 1_795_219_200;
const NOW_MS: i64 = (T0 + 3_600) * 1_000;

/// `m{i="0"}` to `m{i="9"}` with a point each 10 s of the ten minutes on both sides of the edge.
fn lines() -> Vec<Line> {
    let points = |i: i64| (-60..=60).map(|n| ((T0 + n * 10) * 1_000, (n * i) as f64)).collect();
    (0..10).map(|i| ("m".to_owned(), tags(&format!("i={i} odd={}", i % 2)), points(i))).collect()
}

async fn store() -> Store {
    let mut store = Store::new();
    store.publish(&lines()).await;
    store
}

async fn server() -> (Store, Server) {
    let store = store().await;
    let server = store.open(Limits::default(), NOW_MS);
    (store, server)
}

const RANGE: [(&str, &str); 4] = [("query", "m"), ("start", "1795218700"), ("end", "1795219700"), ("step", "50")];

fn with<'a>(parameters: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [parameters, more].concat()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[track_caller]
fn refused(reply: &Reply, status: u16, kind: &str, id: &str) {
    assert_eq!((reply.status, &reply.json["status"], &reply.json["errorType"]), (status, &json!("error"), &json!(kind)), "{}", reply.text);
    assert_eq!(keys(&reply.json), ["error", "errorType", "status"]);
    assert!(reply.json["error"].as_str().is_some_and(|text| text.contains(id)), "{}", reply.text);
}

#[tokio::test]
async fn answers_have_the_shape_of_prometheus() {
    let (_store, server) = server().await;
    let parameters = [("query", "m{i=\"3\"}"), ("time", "1795219205.5")];
    let reply = server.get("/api/v1/query", &parameters).await;
    let wanted = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"m","i":"3","odd":"1"},"value":[1795219205.500,"0"]}]},"tailors":{"#;
    assert!(reply.text.starts_with(wanted), "{}", reply.text);
    assert_eq!(server.post("/api/v1/query", &parameters).await.text, reply.text);
    assert_eq!(keys(&reply.json["tailors"]), ["complete_until_ms", "feed", "notes", "partial", "windows"]);
    let reply = server.get("/api/v1/query_range", &with(&RANGE, &[("limit", "2")])).await;
    assert_eq!(reply.json["data"]["result"].as_array().map(Vec::len), Some(2));
    assert_eq!(reply.json["warnings"], json!(["results truncated due to limit"]));
    let scalar = server.get("/api/v1/query", &[("query", "1e-7"), ("time", "4")]).await;
    assert!(scalar.text.starts_with(r#"{"status":"success","data":{"resultType":"scalar","result":[4,"1e-07"]},"#), "{}", scalar.text);
}

#[tokio::test]
async fn statistics_come_when_asked_for() {
    let (_store, server) = server().await;
    assert!(server.get("/api/v1/query_range", &RANGE).await.json["data"]["stats"].is_null());
    let reply = server.get("/api/v1/query_range", &with(&RANGE, &[("stats", "all")])).await;
    let stats = &reply.json["data"]["stats"];
    assert_eq!(keys(&stats["samples"]), ["peakSamples", "samplesRead", "totalQueryableSamples"]);
    // Ten series at steps of 50 s from 300 s before the first on: 101 points each and those looked back at.
    assert_eq!(stats["samples"]["samplesRead"], 10 * (100 + 11));
    assert!(stats["timings"]["execTotalTime"].is_number(), "{stats}");
    let reply = server.get("/api/v1/query", &[("query", "m"), ("stats", "maybe")]).await;
    assert!(reply.json["warnings"][0].as_str().is_some_and(|text| text.contains("\"stats\" is deprecated")), "{}", reply.text);
}

#[tokio::test]
async fn wrong_verbs_are_405_and_name_the_right_ones() {
    let (_store, server) = server().await;
    let both = ["query", "query_range", "format_query", "labels", "series"];
    let get_only = ["label/i/values", "metadata", "rules", "alerts", "status/buildinfo"];
    for path in both {
        let reply = server.ask(Method::PUT, &format!("/api/v1/{path}"), &[]).await;
        assert_eq!((reply.status, reply.allow.as_deref()), (405, Some("GET,HEAD,POST")), "{path}");
    }
    for path in get_only {
        let reply = server.post(&format!("/api/v1/{path}"), &[]).await;
        assert_eq!((reply.status, reply.allow.as_deref()), (405, Some("GET,HEAD")), "{path}");
    }
    assert_eq!(server.get("/api/v1/nothing", &[]).await.status, 404);
}

#[tokio::test]
async fn what_grafana_asks_first() {
    let (_store, server) = server().await;
    assert_eq!(server.get("/api/v1/query", &[("query", "1+1"), ("time", "4")]).await.json["data"]["result"], json!([4, "2"]));
    let build = server.get("/api/v1/status/buildinfo", &[]).await;
    assert!(build.json["data"]["version"].as_str().is_some_and(|version| version.starts_with("3.")), "{}", build.text);
    assert!(build.json["data"]["features"].is_null(), "{}", build.text);
    assert_eq!(server.get("/api/v1/rules", &[]).await.json, json!({"status": "success", "data": {"groups": []}}));
    assert_eq!(server.get("/api/v1/alerts", &[]).await.json, json!({"status": "success", "data": {"alerts": []}}));
    assert_eq!(server.get("/api/v1/label/__name__/values", &[]).await.json, json!({"status": "success", "data": ["m"]}));
}

#[tokio::test]
async fn metadata_is_what_senders_said() {
    let mut store = Store::new();
    let meta =
        |kind: MetricKind, help: &'static str, unit: &'static str| MetricMeta { kind, help: help.into(), unit: unit.into(), interval_s: 0 };
    store.metas.insert("m".to_owned(), meta(MetricKind::Counter, "Requests \"served\".", ""));
    store.metas.insert("temp".to_owned(), meta(MetricKind::Gauge, "", "celsius"));
    let line = |name: &str| (name.to_owned(), tags("a=b"), vec![(T0 * 1_000, 1.0)]);
    store.publish(&[line("m"), line("temp"), line("unsaid")]).await;
    let server = store.open(Limits::default(), NOW_MS);
    let m = json!([{"type": "counter", "help": "Requests \"served\".", "unit": ""}]);
    let all = server.get("/api/v1/metadata", &[]).await;
    assert_eq!(all.json["data"], json!({"m": m, "temp": [{"type": "gauge", "help": "", "unit": "celsius"}]}), "{}", all.text);
    assert_eq!(server.get("/api/v1/metadata", &[("metric", "m")]).await.json["data"], json!({"m": m}));
    assert_eq!(server.get("/api/v1/metadata", &[("limit", "1")]).await.json["data"], json!({"m": m}));
    assert_eq!(server.get("/api/v1/metadata", &[("metric", "unsaid")]).await.json["data"], json!({}));
}

#[tokio::test]
async fn each_limit_has_its_id() {
    let store = store().await;
    let limits = Limits::default();
    let ask = async |limits: Limits, parameters: &[(&str, &str)]| store.open(limits, NOW_MS).get("/api/v1/query_range", parameters).await;
    refused(&ask(Limits { series_max: 9, ..limits }, &RANGE).await, 422, "execution", "query.limits.series_max");
    refused(&ask(Limits { series_max: 9, ..limits }, &RANGE).await, 422, "execution", "TLR-2010");
    refused(&ask(Limits { points_max: 1_000, ..limits }, &RANGE).await, 422, "execution", "query.limits.points_max");
    refused(&ask(Limits { steps_max: 19, ..limits }, &RANGE).await, 400, "bad_data", "TLR-2012");
    refused(&ask(Limits { answer_bytes_max: 1_000, ..limits }, &RANGE).await, 422, "execution", "TLR-2013");
    refused(&ask(Limits { memory_bytes_max: 1_000, ..limits }, &RANGE).await, 422, "execution", "TLR-2014");
    refused(&ask(Limits { time_ms_max: 0, ..limits }, &RANGE).await, 503, "timeout", "TLR-2015");
    refused(&ask(limits, &with(&RANGE, &[("timeout", "0.0001")])).await, 503, "timeout", "TLR-2015");
    let enough = Limits { series_max: 10, points_max: 1_210, steps_max: 20, ..limits };
    assert_eq!(ask(enough, &RANGE).await.status, 200);
    let far = [("query", "m"), ("start", "0"), ("end", "11001"), ("step", "1")];
    let reply = ask(limits, &far).await;
    refused(
        &reply,
        400,
        "bad_data",
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    );
}

#[tokio::test]
async fn what_is_not_spoken_is_named() {
    let store = store().await;
    let open = store.open(Limits { experimental_functions: true, ..Limits::default() }, NOW_MS);
    refused(&open.get("/api/v1/query", &[("query", "info(m)")]).await, 422, "execution", "\"info\"");
    refused(&open.get("/api/v1/query", &[("query", "limit_ratio(0.5, m)")]).await, 422, "execution", "\"limit_ratio\"");
    let closed = store.open(Limits::default(), NOW_MS);
    refused(&closed.get("/api/v1/query", &[("query", "info(m)")]).await, 400, "bad_data", "\"info\" is not enabled");
    refused(&closed.get("/api/v1/query", &[("query", "unheard_of(m)")]).await, 400, "bad_data", "unheard_of");
}

/// Asks for all of the range, strictly and with `partial=true`, a server that has nothing cached.
async fn damaged(store: &Store) -> (Reply, Reply) {
    let fresh = || store.open(Limits::default(), NOW_MS);
    let strict = fresh().get("/api/v1/query_range", &RANGE).await;
    (strict, fresh().get("/api/v1/query_range", &with(&RANGE, &[("partial", "true")])).await)
}

#[track_caller]
fn says_what_is_missing((strict, partial): &(Reply, Reply)) {
    refused(strict, 500, "internal", "TLR-2030");
    assert_eq!(partial.status, 200, "{}", partial.text);
    let missing = &partial.json["tailors"]["partial"];
    // The part of the second window that the range touches: its last step included.
    assert_eq!((missing[0][0].as_i64(), missing[0][1].as_i64()), (Some(T0 * 1_000), Some(1_795_219_700_001)), "{missing}");
    assert!(partial.json["warnings"][0].as_str().is_some_and(|text| text.contains("TLR-2030")), "{}", partial.text);
    let values = partial.json["data"]["result"][3]["values"].as_array().expect("values");
    // The first window ends before the edge; its last point is looked back at for 5 minutes.
    assert_eq!(values.last(), Some(&json!([T0 + 250, "-3"])), "{values:?}");
}

#[tokio::test]
async fn a_missing_file_is_an_error_or_a_named_range() {
    let store = store().await;
    std::fs::remove_file(store.chunk_path(Window::of_ms(T0 * 1_000), 1)).expect("removes");
    says_what_is_missing(&damaged(&store).await);
}

#[tokio::test]
async fn a_damaged_file_is_an_error_or_a_named_range() {
    for part in ["pages", "index", "cut"] {
        let store = store().await;
        let path = store.chunk_path(Window::of_ms(T0 * 1_000), 1);
        let mut bytes = std::fs::read(&path).expect("reads");
        let length = bytes.len();
        match part {
            // Behind the header of 32 bytes; in the directory before the trailer of 64; the end gone.
            "pages" => (36..44).for_each(|at| bytes[at] ^= 1),
            "index" => bytes[length - 80] ^= 1,
            _ => bytes.truncate(length / 2),
        }
        std::fs::remove_file(&path).expect("removes");
        std::fs::write(&path, bytes).expect("writes");
        says_what_is_missing(&damaged(&store).await);
    }
}

#[tokio::test]
async fn a_file_that_goes_while_it_is_cached_is_not_passed_over() {
    let (store, server) = server().await;
    assert_eq!(server.get("/api/v1/query_range", &RANGE).await.status, 200);
    std::fs::remove_file(store.chunk_path(Window::of_ms(T0 * 1_000), 1)).expect("removes");
    refused(&server.get("/api/v1/query_range", &RANGE).await, 500, "internal", "TLR-2030");
}

#[tokio::test]
async fn a_superseded_file_is_followed_by_its_successor() {
    let (mut store, server) = server().await;
    let window = Window::of_ms(T0 * 1_000);
    assert_eq!(
        server.get("/api/v1/query", &[("query", "m{i=\"3\"}"), ("time", "1795219210")]).await.json["data"]["result"][0]["value"][1],
        "3"
    );
    store.publish_window(window, vec![("m".to_owned(), tags("i=3 odd=1"), vec![(T0 * 1_000, 7.0)])], SealKind::Late).await;
    std::fs::remove_file(store.chunk_path(window, 1)).expect("removes");
    // The pin is younger than 10 s and names the file that is gone.
    let reply = server.get("/api/v1/query", &[("query", "m{i=\"3\"}"), ("time", "1795219210")]).await;
    assert_eq!(reply.json["data"]["result"][0]["value"][1], "7", "{}", reply.text);
    assert_eq!(reply.json["tailors"]["windows"][1]["generation"], 2);
    assert_eq!(reply.json["tailors"]["windows"][1]["seal"], "late");
}

#[tokio::test]
async fn an_open_window_is_said_in_notes() {
    let mut store = Store::new();
    let window = Window::of_ms(T0 * 1_000);
    store.publish_window(window, vec![("m".to_owned(), tags(""), vec![(T0 * 1_000, 7.0)])], SealKind::Provisional).await;
    let reply = store.open(Limits::default(), NOW_MS).get("/api/v1/query", &[("query", "m"), ("time", "1795219210")]).await;
    let tailors = &reply.json["tailors"];
    assert_eq!(tailors["windows"][0]["seal"], "provisional");
    assert_eq!(tailors["complete_until_ms"], Value::Null);
    assert!(tailors["notes"].to_string().contains("is open"), "{tailors}");
    assert!(reply.json["infos"].is_null());
}

#[tokio::test]
async fn sketches_and_histograms_are_passed_over() {
    let mut store = Store::new();
    let sketch = Sketch { bins: vec![Bin { key: 1_338, count: 2 }], count: 2, sum: 2.0, min: 1.0, max: 1.0, avg: 1.0 };
    let column = |words: &str| {
        let (meta, timestamps) = (MetricMeta::default(), (0..300).map(|i| i * 1_000).collect());
        SeriesColumn { tags: tags(words), meta, timestamps, values: vec![sketch.clone(); 300].into() }
    };
    store.distributions = vec![("m".to_owned(), column("i=1")), ("m".to_owned(), column("i=2")), ("latency".to_owned(), column("i=1"))];
    let points = (0..30).map(|n| ((T0 + n * 10) * 1_000, n as f64)).collect();
    store.publish(&[("m".to_owned(), tags("i=1"), points)]).await;
    let server = store.open(Limits::default(), NOW_MS);
    let ask = async |query: &str| server.get("/api/v1/query", &[("query", query), ("time", "1795219490")]).await;
    assert_eq!(ask("m").await.json["data"]["result"], json!([{"metric": {"__name__": "m", "i": "1"}, "value": [1_795_219_490, "29"]}]));
    assert_eq!(ask("sum_over_time(m[5m])").await.json["data"]["result"][0]["value"][1], "435");
    for query in ["latency", "avg_over_time(latency[5m])"] {
        let reply = ask(query).await;
        assert_eq!((reply.status, &reply.json["data"]["result"]), (200, &json!([])), "{}", reply.text);
    }
}

#[tokio::test]
async fn names_with_dots_are_found_from_any_dashboard() {
    let mut store = Store::new();
    let at = T0 * 1_000;
    let line = |name: &str, words: &str, value: f64| (name.to_owned(), tags(words), vec![(at, value)]);
    store.publish(&[line("system.cpu.user", "kube.ns=a role=x role=y canary", 1.0), line("system.cpu.user", "kube.ns=b", 2.0)]).await;
    let server = store.open(Limits::default(), NOW_MS);
    let ask = async |query: &str| server.get("/api/v1/query", &[("query", query), ("time", "1795219210")]).await;
    let reply = ask("sum by (kube_ns) (system_cpu_user)").await;
    assert_eq!(reply.json["data"]["result"][1]["metric"], json!({"kube_ns": "b"}), "{}", reply.text);
    assert!(reply.json["tailors"]["notes"].to_string().contains("system.cpu.user"));
    for query in ["{\"system.cpu.user\",role=\"y\"}", "{\"system.cpu.user\",role=\"x,y\"}", "system_cpu_user{canary=\"true\"}"] {
        assert_eq!(ask(query).await.json["data"]["result"][0]["value"][1], "1", "{query}");
    }
    for name in ["kube.ns", "U__kube_2e_ns", "kube_ns"] {
        assert_eq!(server.get(&format!("/api/v1/label/{name}/values"), &[]).await.json["data"], json!(["a", "b"]), "{name}");
    }
    let found = server.get("/api/v1/series", &[("match[]", "system_cpu_user{kube_ns=\"a\"}")]).await;
    assert_eq!(found.json["data"], json!([{"__name__": "system.cpu.user", "canary": "true", "kube.ns": "a", "role": "x,y"}]));
}

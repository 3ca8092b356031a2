//! Prometheus' own answers, recorded by `scripts/prom-diff --record`, against ours to the same questions about the same points: from chunk files
//! of two windows, over HTTP. Equal means: status, error type, result type, label sets, times, values (as text, else to a relative 1e-12), order
//! where Prometheus defines one, warnings and infos.

use std::collections::BTreeSet;

use crate::store::{Line, Reply, Store, tags};
use axum::http::Method;
use serde_json::Value;
use tailors_model::Tag;
use tailors_query::Limits;

const POINTS: &str = include_str!("prometheus/points.jsonl");
const ANSWERS: &str = include_str!("prometheus/answers.jsonl");
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

fn lines() -> Vec<Line> {
    let of = |line: &str| {
        let json: Value = serde_json::from_str(line).expect("JSON");
        let labels = json["labels"].as_object().expect("labels");
        let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
        let tags = pairs.map(|(name, value)| Tag::pair(name.clone(), value.as_str().expect("text").to_owned())).collect();
        let points = json["points"].as_array().expect("points").iter().map(|point| {
            let text = point[1].as_str().expect("text");
            (point[0].as_i64().expect("ms"), if text == "stale" { STALE } else { text.parse().expect("number") })
        });
        (labels["__name__"].as_str().expect("name").to_owned(), tags, points.collect())
    };
    POINTS.lines().map(of).collect()
}

fn near(a: &str, b: &str) -> bool {
    let (Ok(x), Ok(y)) = (a.parse::<f64>(), b.parse::<f64>()) else { return a == b };
    a == b || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-12 * x.abs().max(y.abs())
}

/// `[time, "value"]`.
fn same_point(a: &Value, b: &Value) -> bool {
    a[0] == b[0] && a[1].as_str().zip(b[1].as_str()).is_some_and(|(a, b)| near(a, b))
}

fn same_item(a: &Value, b: &Value) -> bool {
    let values = |item: &Value| item["values"].as_array().cloned().unwrap_or_else(|| vec![item["value"].clone()]);
    let (x, y) = (values(a), values(b));
    a["metric"] == b["metric"] && x.len() == y.len() && x.iter().zip(&y).all(|(x, y)| same_point(x, y))
}

fn sorted(list: &Value) -> Vec<Value> {
    let mut list = list.as_array().cloned().unwrap_or_default();
    list.sort_by_key(|item| item.get("metric").unwrap_or(item).to_string());
    list
}

/// What differs, if anything.
fn difference(question: &Value, reply: &Reply) -> Option<String> {
    let wanted = &question["answer"];
    if wanted["status"] != reply.status || wanted["errorType"] != reply.json["errorType"] {
        return Some(format!("status {} {}: {}", reply.status, reply.json["errorType"], reply.json["error"]));
    }
    for part in ["warnings", "infos"] {
        let texts = |from: &Value| {
            let texts = from[part].as_array().into_iter().flatten().map(Value::to_string);
            // The one annotation that is not written here.
            texts.filter(|text| !text.contains("needed to be fixed for monotonicity")).collect::<BTreeSet<_>>()
        };
        let (theirs, ours) = (texts(wanted), texts(&reply.json));
        if theirs != ours && reply.status == 200 {
            return Some(format!("{part}: wanted {theirs:?}\n       got {ours:?}"));
        }
    }
    let (a, b) = (&wanted["data"], &reply.json["data"]);
    let (theirs, ours) = (&a["result"], &b["result"]);
    let same = if a["resultType"].is_null() {
        let of_series = a.as_array().is_some_and(|list| list.first().is_some_and(Value::is_object));
        if of_series { sorted(a) == sorted(b) } else { a == b }
    } else if a["resultType"] != b["resultType"] {
        false
    } else if a["resultType"] == "scalar" || a["resultType"] == "string" {
        same_point(theirs, ours)
    } else {
        let in_order = |list: &Value| if question["ordered"] == true { list.as_array().cloned().unwrap_or_default() } else { sorted(list) };
        let (theirs, ours) = (in_order(theirs), in_order(ours));
        theirs.len() == ours.len() && theirs.iter().zip(&ours).all(|(a, b)| same_item(a, b))
    };
    (!same).then(|| format!("wanted {}\n       got {}", cut(a), cut(b)))
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_prometheus() {
    let mut store = Store::new();
    store.publish(&lines()).await;
    let server = store.open(Limits::default(), 1_795_222_000_000);
    let (mut wrong, mut all) = (Vec::new(), 0);
    for line in ANSWERS.lines() {
        let question: Value = serde_json::from_str(line).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let parameters: Vec<(String, String)> =
            question["params"].as_array().expect("list").iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let method = Method::from_bytes(question["method"].as_str().unwrap_or("GET").as_bytes()).expect("method");
        let reply = server.ask(method, &text(&question["path"]), &parameters).await;
        all += 1;
        if let Some(what) = difference(&question, &reply) {
            wrong.push(format!("{} {parameters:?}\n       {what}", question["path"]));
        }
    }
    assert!(all > 1_500, "only {all} questions");
    assert!(wrong.is_empty(), "{} of {all} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_answer_names_what_it_was_made_of() {
    let mut store = Store::new();
    store.publish(&[("m".to_owned(), tags("a=b"), vec![(1_795_219_199_000, 1.0), (1_795_219_200_000, 2.0)])]).await;
    let reply = store.open(Limits::default(), 1_795_222_000_000).get("/api/v1/query", &[("query", "m[1m]"), ("time", "1795219200")]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let windows = reply.json["tailors"]["windows"].as_array().expect("windows");
    let names: Vec<_> = windows.iter().map(|used| (used["window"].as_str(), used["generation"].as_u64(), used["seal"].as_str())).collect();
    let wanted = [(Some("2026-11-20T20:00:00Z"), Some(1), Some("closed")), (Some("2026-11-21T00:00:00Z"), Some(1), Some("closed"))];
    assert_eq!(names, wanted);
    assert_eq!(reply.json["tailors"]["feed"], 2);
    assert_eq!(reply.json["tailors"]["complete_until_ms"], 1_795_233_600_000_i64);
    assert_eq!(reply.json["tailors"]["partial"], serde_json::json!([]));
}

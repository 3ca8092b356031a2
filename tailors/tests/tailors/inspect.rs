//! `tailors inspect` of chunk files: every byte counts once, and what is dear comes first.

use crate::support::{Ended, run};
#[allow(dead_code, reason = "end_to_end.rs uses the rest")]
use serde_json::Value;
use tailors_format::chunk::{BucketInput, SeriesColumn, SeriesValues, Span, assemble, encode_bucket};
use tailors_model::{MetricMeta, OrgId, ShardId};

fn inspect(more: &[&str]) -> (u64, Ended) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../base/format/golden/chunk");
    let versions = std::fs::read_dir(folder).expect("golden files").map(|version| version.expect("a version").path());
    let file = versions.max().expect("a version").join("everything.tchk");
    let bytes = std::fs::metadata(&file).expect("a file").len();
    (bytes, run(&[&["inspect", file.to_str().expect("UTF-8")], more].concat()))
}

fn sum(rows: &Value, field: &str) -> u64 {
    rows.as_array().expect("rows").iter().map(|row| row[field].as_u64().expect("a number")).sum()
}

#[test]
fn every_byte_counts_once() {
    let (bytes, ended) = inspect(&["--json"]);
    let shown: Value = serde_json::from_str(&ended.ok()).expect("JSON");
    let parts = shown["parts"].as_object().expect("parts");
    assert_eq!((shown["bytes"].as_u64(), parts.values().filter_map(Value::as_u64).sum::<u64>()), (Some(bytes), bytes));
    let pages: u64 = ["pages", "page checksums"].iter().filter_map(|part| parts[*part].as_u64()).sum();
    assert_eq!(sum(&shown["metrics"], "bytes"), pages);
    assert_eq!(Some(sum(&shown["metrics"], "points")), shown["points"].as_u64());
    for metric in shown["metrics"].as_array().expect("rows") {
        for field in ["bytes", "points"] {
            assert_eq!(Some(sum(&metric["encodings"], field)), metric[field].as_u64(), "{metric}");
        }
    }
}

#[test]
fn the_dearest_come_first() {
    let (_, ended) = inspect(&["--json"]);
    let shown: Value = serde_json::from_str(&ended.ok()).expect("JSON");
    let worst = |by: &str, field: &str| {
        let names = shown["worst"][by].as_array().expect("names").iter();
        let row = |name: &Value| {
            shown["metrics"].as_array().expect("rows").iter().find(|row| row["metric"] == name["metric"]).expect("a row").clone()
        };
        names.map(|name| row(name)[field].as_f64().expect("a number")).collect::<Vec<_>>()
    };
    let (bytes, per_point) = (worst("bytes", "bytes"), worst("bytes_per_point", "bytes_per_point"));
    assert!(bytes.len() == 10 && bytes.is_sorted_by(|a, b| a >= b), "{bytes:?}");
    assert!(!per_point.is_empty() && per_point.is_sorted_by(|a, b| a >= b), "{per_point:?}");
    // Random doubles cost most by the point, but there are too few of them to matter.
    let names: Vec<&str> =
        shown["worst"]["bytes_per_point"].as_array().expect("names").iter().filter_map(|row| row["metric"].as_str()).collect();
    assert!(!names.contains(&"bits"), "{names:?}");
    let text = inspect(&[]).1.ok();
    let after = text.split("metrics of most bytes  ").nth(1).expect("a list");
    assert!(
        after.lines().nth(1).is_some_and(|line| line.trim().starts_with(shown["worst"]["bytes"][0]["metric"].as_str().expect("a name"))),
        "{text}"
    );
}

/// A shard holds many orgs, which may call their metrics the same.
#[test]
fn orgs_are_told_apart() {
    let bucket = |org: u32, points: u32| {
        let values: Vec<f64> = (0..points).map(|n| f64::from(n.wrapping_mul(2_654_435_761) >> 8)).collect();
        let series = SeriesColumn {
            tags: vec![],
            meta: MetricMeta::default(),
            timestamps: (0..points).map(|n| n * 1_000).collect(),
            values: SeriesValues::Doubles(values),
        };
        let input = BucketInput { org: OrgId(org), metric: "m".into(), meta: MetricMeta::default(), series: vec![series] };
        encode_bucket(&input).expect("encodes")
    };
    let (shard, span) = (ShardId::of_org(OrgId(7), 64), Span { start_ms: 0, span_ms: 14_400_000 });
    let bytes = assemble(shard, span, vec![bucket(7, 2_000), bucket(71, 3_000)]).expect("a file").remove(0).bytes;
    let temp = tempfile::tempdir().expect("temp dir");
    let file = temp.path().join("x.tchk");
    std::fs::write(&file, bytes).expect("writes");
    let text = run(&["inspect", file.to_str().expect("UTF-8")]).ok();
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
    assert!(at("org 71 ") < at("org 7 ") && at("m (org 71)") < at("m (org 7)"), "{text}");
    let text = run(&["inspect", file.to_str().expect("UTF-8"), "--metric", "m"]).ok();
    assert!(text.contains("m of org 7:") && text.contains("m of org 71:"), "{text}");
}

#[test]
fn one_metric_is_told_in_detail() {
    let text = inspect(&["--metric", "decimal"]).1.ok();
    for part in ["decimal of org 7: Gauge, in byte", "1e-2", "tag key", "host", "canary"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let rows: Value = serde_json::from_str(&inspect(&["--metric", "decimal", "--json"]).1.ok()).expect("JSON");
    let host = rows[0]["keys"].as_array().expect("keys").iter().find(|key| key["key"] == "host").expect("a key");
    assert_eq!((host["values"].as_u64(), host["series"].as_u64()), (Some(3), Some(3)));
    let (_, ended) = inspect(&["--metric", "nothing"]);
    assert!(ended.code == 1 && ended.err.contains("no metric `nothing`"), "{}", ended.err);
}

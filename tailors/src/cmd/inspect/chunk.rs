//! What a chunk file's bytes go to: by part, by metric, and which metrics are the dearest; or one metric in detail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Value, json};
use tailors_format::FormatError;
use tailors_format::chunk::{ChunkIndex, ChunkReport, EncodingReport, MetricEntry, MetricReport};
use tailors_model::window::DAY_MS;
use tailors_model::{OrgId, ShardId, Tag, Window};

use crate::time::rfc3339;

/// Metrics in each list of the text; `--json` has all.
const METRICS_SHOWN: usize = 10;
/// Tag keys of a metric that are shown.
const KEYS_SHOWN: usize = 12;
/// A metric of fewer points is dear by the point without mattering.
const DEAR_POINTS_MIN: u64 = 1_000;
/// So is one of a smaller share of the bytes of all metrics.
const DEAR_SHARE_MIN: f64 = 0.001;
/// Columns of a metric's name.
const NAME_WIDTH: usize = 36;

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// Metrics whose pages take most, the dearest first.
fn by_bytes(report: &ChunkReport) -> Vec<&MetricReport> {
    let mut metrics: Vec<&MetricReport> = report.metrics.iter().collect();
    metrics.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| (a.org, &a.metric).cmp(&(b.org, &b.metric))));
    metrics
}

/// Metrics that matter at all, by bytes per point, the dearest first.
fn by_bytes_per_point(report: &ChunkReport) -> Vec<&MetricReport> {
    let all: u64 = report.metrics.iter().map(|metric| metric.bytes).sum();
    let matters = |metric: &&MetricReport| metric.points >= DEAR_POINTS_MIN && ratio(metric.bytes, all) >= DEAR_SHARE_MIN;
    let mut metrics: Vec<&MetricReport> = by_bytes(report).into_iter().filter(matters).collect();
    metrics.sort_by(|a, b| ratio(b.bytes, b.points).total_cmp(&ratio(a.bytes, a.points)));
    metrics
}

/// Its encodings with their share of the metric's points, the largest first.
fn encodings(metric: &MetricReport) -> String {
    let mut encodings: Vec<&EncodingReport> = metric.encodings.iter().collect();
    encodings.sort_by(|a, b| b.points.cmp(&a.points).then_with(|| a.name.cmp(&b.name)));
    let shown = encodings.iter().map(|encoding| format!("{} {:.0}%", encoding.name, 100.0 * ratio(encoding.points, metric.points)));
    shown.collect::<Vec<_>>().join(", ")
}

/// Totals of each org: a file holds those of a shard.
fn by_org(report: &ChunkReport) -> BTreeMap<OrgId, MetricReport> {
    let mut orgs: BTreeMap<OrgId, MetricReport> = BTreeMap::new();
    for metric in &report.metrics {
        let org = metric.org;
        let empty = || MetricReport { org, metric: format!("org {org}"), series: 0, points: 0, bytes: 0, encodings: Vec::new() };
        let total = orgs.entry(org).or_insert_with(empty);
        (total.series, total.points, total.bytes) =
            (total.series + metric.series, total.points + metric.points, total.bytes + metric.bytes);
    }
    orgs
}

fn list(out: &mut String, title: &str, metrics: &[&MetricReport], file: u64, with_org: bool) {
    let _ = writeln!(out, "\n{title:<38}{:>12}{:>8}{:>9}{:>12}{:>9}  encodings", "bytes", "share", "B/point", "points", "series");
    for metric in metrics.iter().take(METRICS_SHOWN) {
        let (share, per_point) = (100.0 * ratio(metric.bytes, file), ratio(metric.bytes, metric.points));
        let name = if with_org { format!("{} (org {})", metric.metric, metric.org) } else { metric.metric.clone() };
        let numbers = format!("{:>12}{share:>7.1}%{per_point:>9.3}{:>12}{:>9}", metric.bytes, metric.points, metric.series);
        let _ = writeln!(out, "{}", format!("  {name:<NAME_WIDTH$}{numbers}  {}", encodings(metric)).trim_end());
    }
    if metrics.len() > METRICS_SHOWN {
        let _ = writeln!(out, "  … and {} more; --json has all metrics, --metric NAME one in detail", metrics.len() - METRICS_SHOWN);
    }
}

/// The file in text.
pub(super) fn shown(shard: ShardId, index: &ChunkIndex) -> String {
    let (span, report) = (index.span(), index.report());
    let file: u64 = report.parts.iter().map(|(_, bytes)| bytes).sum();
    let is_day = i64::from(span.span_ms) == DAY_MS;
    let mut out = format!(
        "{} of {shard}, {} + {} s, encoder {}\n{file} bytes, {} points, {} series, {} metrics, {:.3} bytes/point\n\n",
        if is_day { "day file" } else { "chunk file" },
        rfc3339(span.start_ms),
        span.span_ms / 1_000,
        index.encoder(),
        report.points,
        report.series,
        report.metrics.len(),
        ratio(file, report.points)
    );
    let _ = writeln!(out, "{:<38}{:>12}{:>8}{:>9}{:>12}", "part", "bytes", "share", "B/point", "B/series");
    for (part, bytes) in report.parts.iter().chain([&("all", file)]) {
        let (share, per_point) = (100.0 * ratio(*bytes, file), ratio(*bytes, report.points));
        let _ = writeln!(out, "  {part:<NAME_WIDTH$}{bytes:>12}{share:>7.1}%{per_point:>9.3}{:>12.1}", ratio(*bytes, report.series));
    }
    if is_day {
        out.push_str("\npoints by window\n");
        for window in Window::of_ms(span.start_ms).day() {
            let points = |series: u32| u64::from(index.points_between(series, window.start_ms(), window.end_ms()));
            let points: u64 = (0..index.series_len()).map(points).sum();
            let _ = writeln!(out, "  {:<NAME_WIDTH$}{points:>12}", rfc3339(window.start_ms()));
        }
    }
    let orgs = by_org(&report);
    if orgs.len() > 1 {
        let mut totals: Vec<&MetricReport> = orgs.values().collect();
        totals.sort_by_key(|total| std::cmp::Reverse(total.bytes));
        list(&mut out, "orgs of most bytes", &totals, file, false);
    }
    list(&mut out, "metrics of most bytes", &by_bytes(&report), file, orgs.len() > 1);
    list(&mut out, "metrics of most bytes per point", &by_bytes_per_point(&report), file, orgs.len() > 1);
    let floor = format!("at least {DEAR_POINTS_MIN} points and {} % of these bytes", 100.0 * DEAR_SHARE_MIN);
    let _ = write!(
        out,
        "\nA metric's bytes are its pages and their checksums. Per point only metrics of {floor}.\nEncodings have the share of the metric's points; --help tells what they are."
    );
    out
}

fn json_of(metric: &MetricReport) -> Value {
    json!({"org": metric.org, "metric": metric.metric, "series": metric.series, "points": metric.points, "bytes": metric.bytes,
        "bytes_per_point": ratio(metric.bytes, metric.points), "encodings": metric.encodings})
}

/// The same for programs, with all metrics in file order; `worst` names metrics, the dearest first.
pub(super) fn json(shard: ShardId, index: &ChunkIndex) -> Value {
    let report = index.report();
    let parts: serde_json::Map<String, Value> = report.parts.iter().map(|(part, bytes)| ((*part).to_owned(), json!(bytes))).collect();
    let names = |metrics: Vec<&MetricReport>| {
        metrics.into_iter().take(METRICS_SHOWN).map(|metric| json!({"org": metric.org, "metric": metric.metric})).collect::<Vec<_>>()
    };
    json!({
        "shard": shard, "start": rfc3339(index.span().start_ms), "span_s": index.span().span_ms / 1_000, "encoder": index.encoder(),
        "bytes": report.parts.iter().map(|(_, bytes)| bytes).sum::<u64>(), "points": report.points, "series": report.series, "parts": parts,
        "worst": {"bytes": names(by_bytes(&report)), "bytes_per_point": names(by_bytes_per_point(&report))},
        "metrics": report.metrics.iter().map(json_of).collect::<Vec<_>>(),
    })
}

/// Distinct tags of a metric's series.
struct Keys {
    /// Per key its distinct values, and how many series have it.
    keys: BTreeMap<Bytes, (BTreeSet<Tag>, u64)>,
}

impl Keys {
    fn of(index: &ChunkIndex, metric: &MetricEntry) -> Result<Self, FormatError> {
        let mut keys: BTreeMap<Bytes, (BTreeSet<Tag>, u64)> = BTreeMap::new();
        for series in metric.series.clone() {
            for same_key in index.tags(series)?.chunk_by(|a, b| a.key == b.key) {
                let (values, of_series) = keys.entry(same_key[0].key.clone()).or_default();
                values.extend(same_key.iter().cloned());
                *of_series += 1;
            }
        }
        Ok(Self { keys })
    }

    /// (key, distinct values, series), most values first.
    fn sorted(&self) -> Vec<(String, usize, u64)> {
        let keys = self.keys.iter().map(|(key, (values, series))| (String::from_utf8_lossy(key).into_owned(), values.len(), *series));
        let mut keys: Vec<(String, usize, u64)> = keys.collect();
        keys.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        keys
    }
}

/// One metric of every org that has it, in text or JSON; `None` when the file doesn't hold it.
pub(super) fn metric(index: &ChunkIndex, name: &str, as_json: bool) -> Result<Option<String>, FormatError> {
    let report = index.report();
    let file: u64 = report.parts.iter().map(|(_, bytes)| bytes).sum();
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (entry, own) in index.metrics().iter().zip(&report.metrics).filter(|(entry, _)| entry.metric == name.as_bytes()) {
        let keys = Keys::of(index, entry)?.sorted();
        if as_json {
            let mut row = json_of(own);
            row["first"] = json!(rfc3339(entry.min_ms));
            row["last"] = json!(rfc3339(entry.max_ms));
            row["keys"] = keys.iter().map(|(key, values, series)| json!({"key": key, "values": values, "series": series})).collect();
            rows.push(row);
        } else {
            detail(&mut text, entry, own, &keys, file);
        }
    }
    if as_json {
        return Ok((!rows.is_empty()).then(|| Value::from(rows).to_string()));
    }
    Ok(Some(text.trim_end().to_owned()).filter(|text| !text.is_empty()))
}

fn detail(out: &mut String, entry: &MetricEntry, own: &MetricReport, keys: &[(String, usize, u64)], file: u64) {
    let unit = String::from_utf8_lossy(&entry.meta.unit);
    let unit = if unit.is_empty() { String::new() } else { format!(", in {unit}") };
    let _ = writeln!(
        out,
        "{} of org {}: {:?}{unit}, {} to {}\n{} bytes of pages ({:.1} % of the file), {} points, {} series, {:.3} bytes/point, {:.1} points/series\n",
        own.metric,
        own.org,
        entry.meta.kind,
        rfc3339(entry.min_ms),
        rfc3339(entry.max_ms),
        own.bytes,
        100.0 * ratio(own.bytes, file),
        own.points,
        own.series,
        ratio(own.bytes, own.points),
        ratio(own.points, own.series)
    );
    let _ = writeln!(out, "{:<38}{:>12}{:>8}{:>9}{:>12}{:>9}", "encoding", "bytes", "share", "B/point", "points", "pages");
    for encoding in &own.encodings {
        let (share, per_point) = (100.0 * ratio(encoding.bytes, own.bytes), ratio(encoding.bytes, encoding.points));
        let numbers = format!("{:>12}{share:>7.1}%{per_point:>9.3}{:>12}{:>9}", encoding.bytes, encoding.points, encoding.pages);
        let _ = writeln!(out, "  {:<NAME_WIDTH$}{numbers}", encoding.name);
    }
    let _ = writeln!(out, "\n{:<38}{:>12}{:>9}", "tag key", "values", "series");
    for (key, values, series) in keys.iter().take(KEYS_SHOWN) {
        let _ = writeln!(out, "  {key:<NAME_WIDTH$}{values:>12}{series:>9}");
    }
    if keys.len() > KEYS_SHOWN {
        let _ = writeln!(out, "  … and {} more keys; --json has all", keys.len() - KEYS_SHOWN);
    }
    out.push('\n');
}

//! `tailors inspect FILE`: what one of our files holds, told by its magic; JSON documents are shown as they are.

use std::path::Path;

use serde_json::{Value, json};
use tailors_format::chunk::{ChunkIndex, ChunkReport};
use tailors_format::raw;
use tailors_model::{OrgId, ShardId};

use crate::exit::Failure;
use crate::out::say;
use crate::time::rfc3339;

/// Metrics shown in text; `--json` has all.
const METRICS_SHOWN: usize = 15;

pub(crate) fn run(path: &Path, as_json: bool) -> Result<(), Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let shown = match extension {
        "tchk" => chunk(path, &bytes, as_json)?,
        "traw" => raw_file(path, &bytes)?,
        "tlog" => segment(path, &bytes)?,
        _ => document(path, &bytes)?,
    };
    say!("{shown}");
    Ok(())
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::unavailable(format!("{}: {error}", path.display()))
}

/// The shard is part of every checksum; it stands in the key, `…/chunk/v1/{shard}/…`.
fn shard_of(path: &Path) -> Option<ShardId> {
    path.components().filter_map(|part| part.as_os_str().to_str()?.parse().ok()).next_back()
}

fn chunk(path: &Path, bytes: &[u8], as_json: bool) -> Result<String, Failure> {
    let shard = shard_of(path).unwrap_or_else(|| ShardId::of_org(OrgId(1), 64));
    let size = bytes.len() as u64;
    let trailer = &bytes[bytes.len().saturating_sub(ChunkIndex::TRAILER_BYTES)..];
    let tail = ChunkIndex::tail_range(trailer, size).map_err(|error| damaged(path, error))?;
    let index = ChunkIndex::parse(shard, &bytes[tail.start as usize..tail.end as usize], size).map_err(|error| damaged(path, error))?;
    let span = index.span();
    let report = index.report();
    if as_json {
        return Ok(chunk_json(&report, size).to_string());
    }
    let per_point = |bytes: u64, points: u64| if points == 0 { 0.0 } else { bytes as f64 / points as f64 };
    let mut out = format!(
        "chunk file of {shard}, {} + {} s\n{} points, {} series, {size} bytes, {:.3} bytes/point\n\nbytes by part\n",
        rfc3339(span.start_ms),
        span.span_ms / 1_000,
        report.points,
        report.series,
        per_point(size, report.points)
    );
    for (part, bytes) in &report.parts {
        out.push_str(&format!("  {part:<24}{bytes:>12}{:>9.3}\n", per_point(*bytes, report.points)));
    }
    let mut metrics: Vec<_> = report.metrics.iter().collect();
    metrics.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.metric.cmp(&b.metric)));
    out.push_str(&format!("\nlargest metrics{:>33}{:>9}{:>12}{:>9}  encodings\n", "points", "series", "bytes", "B/point"));
    for metric in metrics.into_iter().take(METRICS_SHOWN) {
        let encodings: Vec<_> = metric.encodings.iter().map(|(name, count)| format!("{name} x{count}")).collect();
        let size = per_point(metric.bytes, metric.points);
        out.push_str(&format!(
            "  {:<34}{:>12}{:>9}{:>12}{size:>9.3}  {}\n",
            metric.metric,
            metric.points,
            metric.series,
            metric.bytes,
            encodings.join(", ")
        ));
    }
    Ok(out)
}

fn chunk_json(report: &ChunkReport, size: u64) -> Value {
    let parts: serde_json::Map<String, Value> = report.parts.iter().map(|(part, bytes)| ((*part).to_owned(), json!(bytes))).collect();
    let metrics: Vec<Value> = report
        .metrics
        .iter()
        .map(|m| json!({"org": m.org, "metric": m.metric, "series": m.series, "points": m.points, "bytes": m.bytes, "encodings": m.encodings}))
        .collect();
    json!({"bytes": size, "points": report.points, "series": report.series, "parts": parts, "metrics": metrics})
}

fn raw_file(path: &Path, bytes: &[u8]) -> Result<String, Failure> {
    let trailer = raw::file::read_trailer(bytes, bytes.len() as u64).map_err(|error| damaged(path, error))?;
    let mut out = format!("raw file, {} bytes, {} extents\n", bytes.len(), trailer.extents.len());
    for extent in &trailer.extents {
        let key = &extent.key;
        out.push_str(&format!(
            "  partition {} section {} window {}: bytes {}..{}, {} payloads, {} points\n",
            key.partition,
            key.section,
            rfc3339(key.window_s * 1_000),
            extent.start,
            extent.end,
            extent.payloads,
            extent.points
        ));
    }
    Ok(out)
}

fn segment(path: &Path, bytes: &[u8]) -> Result<String, Failure> {
    let scan = raw::segment::scan(bytes).map_err(|error| damaged(path, error))?;
    Ok(format!(
        "log segment, {} bytes, {} records, good up to byte {}, {:?}",
        bytes.len(),
        scan.records.len(),
        scan.good_until,
        scan.verdict
    ))
}

fn document(path: &Path, bytes: &[u8]) -> Result<String, Failure> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| damaged(path, "none of our files: no known extension and no JSON"))?;
    serde_json::to_string_pretty(&value).map_err(|error| damaged(path, error))
}

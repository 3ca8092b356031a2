//! `tailors inspect FILE`: what one of our files holds, after every checksum in it was compared; damage ends with exit code 3 and a sentence.
//!
//! Files are told by their first and last bytes, not by their names. Only where a checksum covers a file's key does its place count: documents, and
//! the shard of chunk files. What is none of ours is not shown: `client.json` holds keys.

use std::io::Read;
use std::path::{Component, Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tailors_format::chunk::{ChunkIndex, ChunkReport, verify_file};
use tailors_format::doc;
use tailors_format::raw::{self, segment::Verdict};
use tailors_format::sniff::FileKind;
use tailors_model::window::DAY_MS;
use tailors_model::{OrgId, ShardId, Window};

use crate::exit::Failure;
use crate::out::say;
use crate::time::rfc3339;

/// Metrics shown in text; `--json` has all.
const METRICS_SHOWN: usize = 15;
/// Orgs without a shard of their own are spread over so many.
const MOD_COUNT: u16 = 64;
/// Bytes that a body may unfold to.
const BODY_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn run(path: &Path, as_json: bool) -> Result<(), Failure> {
    if path.file_name().is_some_and(|name| name == "client.json") {
        return Err(Failure::usage(format!("{}: holds keys, which are never shown", path.display())));
    }
    let bytes = std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    if bytes.is_empty() {
        return Err(damaged(path, "the file is empty; none of ours ever is"));
    }
    let shown = match FileKind::of(&bytes) {
        Some(FileKind::Chunk) => chunk(path, &bytes, as_json)?,
        Some(FileKind::Raw) => raw_file(path, &bytes, as_json)?,
        Some(FileKind::Segment) => segment(path, &bytes, as_json)?,
        Some(FileKind::Document) => document(path, &bytes)?,
        Some(FileKind::Body) => body(path, &bytes)?,
        None => return Err(damaged(path, "none of our files, or both its ends are damaged: it neither begins nor ends as one")),
    };
    say!("{shown}");
    Ok(())
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::unavailable(format!("{}: {error}", path.display()))
}

/// The parts of a file's whole path.
fn parts(path: &Path) -> Vec<String> {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let parts =
        whole.components().filter_map(|part| if let Component::Normal(part) = part { part.to_str().map(str::to_owned) } else { None });
    parts.collect()
}

/// The shard is part of every checksum. It stands in the key, `…/chunk/v1/{shard}/…`; of a copy that lies elsewhere, those of the mod route are tried.
fn shard_of(path: &Path, tail: &[u8], size: u64) -> Result<ShardId, Failure> {
    if let Some(shard) = parts(path).iter().filter_map(|part| part.parse().ok()).next_back() {
        return Ok(shard);
    }
    let fits = |shard: &ShardId| ChunkIndex::parse(*shard, tail, size).is_ok();
    let tried = (0..u32::from(MOD_COUNT)).map(|org| ShardId::of_org(OrgId(org), MOD_COUNT)).find(fits);
    tried.ok_or_else(|| damaged(path, "the index is damaged, or belongs to a shard that the path does not name: checksums cover it"))
}

fn chunk(path: &Path, bytes: &[u8], as_json: bool) -> Result<String, Failure> {
    let size = bytes.len() as u64;
    let trailer = &bytes[bytes.len().saturating_sub(ChunkIndex::TRAILER_BYTES)..];
    let tail = ChunkIndex::tail_range(trailer, size).map_err(|error| damaged(path, error))?;
    let shard = shard_of(path, &bytes[tail.start as usize..tail.end as usize], size)?;
    let index = verify_file(shard, bytes).map_err(|error| damaged(path, error))?;
    let span = index.span();
    let report = index.report();
    if as_json {
        return Ok(chunk_json(&report, size).to_string());
    }
    let per_point = |bytes: u64, points: u64| if points == 0 { 0.0 } else { bytes as f64 / points as f64 };
    let is_day = i64::from(span.span_ms) == DAY_MS;
    let mut out = format!(
        "{} of {shard}, {} + {} s\n{} points, {} series, {size} bytes, {:.3} bytes/point\n",
        if is_day { "day file" } else { "chunk file" },
        rfc3339(span.start_ms),
        span.span_ms / 1_000,
        report.points,
        report.series,
        per_point(size, report.points)
    );
    if is_day {
        out.push_str("\npoints by window\n");
        for window in Window::of_ms(span.start_ms).day() {
            let points = |series: u32| u64::from(index.points_between(series, window.start_ms(), window.end_ms()));
            let points: u64 = (0..index.series_len()).map(points).sum();
            out.push_str(&format!("  {:<24}{points:>12}\n", rfc3339(window.start_ms())));
        }
    }
    out.push_str("\nbytes by part\n");
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

fn raw_file(path: &Path, bytes: &[u8], as_json: bool) -> Result<String, Failure> {
    let trailer = raw::file::verify(bytes).map_err(|error| damaged(path, error))?;
    if as_json {
        let extents = trailer.extents.iter().map(|extent| {
            let key = &extent.key;
            json!({"partition": key.partition, "section": key.section, "window": rfc3339(key.window_s * 1_000), "bytes": extent.end - extent.start,
                "payloads": extent.payloads, "points": extent.points})
        });
        return Ok(json!({"bytes": bytes.len(), "extents": extents.collect::<Vec<_>>()}).to_string());
    }
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

fn segment(path: &Path, bytes: &[u8], as_json: bool) -> Result<String, Failure> {
    let scan = raw::segment::scan(bytes).map_err(|error| damaged(path, error))?;
    let state = match &scan.verdict {
        Verdict::Clean => "every record is good".to_owned(),
        Verdict::TornTail { at } => {
            format!("torn tail from byte {at}: a batch was being written when the machine stopped, nothing of it was acknowledged")
        }
        Verdict::NoMarker => "no batch was written whole, so nothing in it was acknowledged, and the header can't be checked".to_owned(),
        Verdict::Damage { at, why } => {
            return Err(damaged(path, format!("log segment damaged at byte {at}, below what was fsynced: {why}")));
        }
    };
    if as_json {
        return Ok(json!({"bytes": bytes.len(), "records": scan.records.len(), "good_until": scan.good_until, "state": state}).to_string());
    }
    Ok(format!("log segment, {} bytes, {} records up to byte {}; {state}", bytes.len(), scan.records.len(), scan.good_until))
}

/// The checksum covers the object's key, which is what the path ends with: how much of it, the checksum itself tells.
fn document(path: &Path, bytes: &[u8]) -> Result<String, Failure> {
    let parts = parts(path);
    let mut read = (0..parts.len()).map(|from| doc::read_any("document", &parts[from..].join("/"), bytes));
    let fields = read.find_map(Result::ok).ok_or_else(|| {
        damaged(path, "the document is damaged, or not at its place in a store: its checksum covers its key, and fits no key that this path ends with")
    })?;
    serde_json::to_string_pretty(&fields).map_err(|error| damaged(path, error))
}

/// The name is the hash of the bytes.
fn body(path: &Path, bytes: &[u8]) -> Result<String, Failure> {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if parts(path).last() != Some(&hash) {
        return Err(damaged(
            path,
            "begins as a document's body, whose name is the SHA-256 of its bytes; damaged, renamed, or none of our files",
        ));
    }
    let mut text = Vec::new();
    zstd::stream::read::Decoder::new(bytes)?.take(BODY_BYTES_MAX).read_to_end(&mut text)?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| damaged(path, error))?;
    serde_json::to_string_pretty(&value).map_err(|error| damaged(path, error))
}

//! Golden chunk files, kept for ever: today's code reads every one of them as it was meant, writes the newest to the byte, refuses their corrupt
//! twins; and a second reader, `docs/formats/reader.py`, written from the specification alone, says the same.
//!
//! `TAILORS_GOLDEN=write` makes the newest anew. The second reader runs where `TAILORS_PYTHON` names a Python with numpy, pcodec, zstandard.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use bytes::Bytes;
use tailors_format::chunk::{
    BucketInput, ChunkIndex, DecodeScratch, SeriesColumn, SeriesValues, Span, Values, assemble, encode_bucket, verify_file,
};
use tailors_format::version::CHUNK_FILE;
use tailors_model::{MetricKind, MetricMeta, OrgId, ShardId, Tag, TagKind, window::WINDOW_MS};

use super::chunk_values;

const SPAN: Span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };
const SHARD: &str = "mod-0064-0007";

/// Version of today's encoder, and of its golden files.
static NEWEST: LazyLock<String> = LazyLock::new(|| format!("{}.{}", CHUNK_FILE.0, CHUNK_FILE.1));

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/chunk")
}

fn shard() -> ShardId {
    ShardId::of_org(OrgId(7), 64)
}

/// splitmix64.
pub(crate) fn noise(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn walk(seed: u64, n: u64, step: u64) -> impl Iterator<Item = i64> {
    (0..n).scan(1_000i64, move |at, i| {
        *at += (noise(seed << 32 | i) % (2 * step + 1)) as i64 - step as i64;
        Some(*at)
    })
}

fn series(host: u64, step_ms: u32, values: Vec<f64>) -> SeriesColumn {
    column(host, step_ms, values)
}

pub(crate) fn column(host: u64, step_ms: u32, values: impl Into<SeriesValues>) -> SeriesColumn {
    let values = values.into();
    let timestamps = (0..values.len() as u32).map(|i| i * step_ms).collect();
    let tags = vec![
        Tag::bare("canary"),
        Tag::pair("env", if host.is_multiple_of(2) { "prod" } else { "dev" }),
        Tag::pair("host", format!("h{host:04}")),
    ];
    SeriesColumn { tags, meta: MetricMeta::default(), timestamps, values }
}

pub(crate) fn bucket(metric: &str, series: Vec<SeriesColumn>) -> BucketInput {
    let meta =
        MetricMeta { kind: MetricKind::Gauge, unit: Bytes::from_static(b"byte"), interval_s: 10, help: Bytes::from_static(b"a help") };
    BucketInput { org: OrgId(7), metric: Bytes::from(metric.to_owned()), meta, series }
}

/// A few bytes of much: for every prefix and every bit.
fn small() -> Vec<BucketInput> {
    let mut own = series(3, 1_000, vec![f64::NAN, 1.5, -0.0, f64::INFINITY, 2.25, 3.0, 4.0, 5.0]);
    own.meta = MetricMeta { kind: MetricKind::Counter, interval_s: 20, ..Default::default() };
    let mut irregular = series(1, 0, walk(9, 9, 3).map(|i| i as f64).collect());
    irregular.timestamps = vec![5, 7, 20, 21, 95, 230, 231, 300, 411];
    let decimals = walk(1, 30, 40).map(|i| i as f64 / 100.0).collect();
    vec![
        bucket("cpu", vec![series(1, 1_000, decimals), series(2, 1_000, vec![3.25; 12]), own]),
        bucket("mem", vec![irregular, series(2, 1_000, vec![4_096.0, 8_192.0, 4_096.0])]),
        bucket("noise", vec![series(1, 1_000, (0..20).map(|i| f64::from_bits(noise(i))).collect())]),
    ]
}

/// Every transform, coder and flag.
fn everything() -> Vec<BucketInput> {
    let decimal = |seed, n| walk(seed, n, 30).map(|i| i as f64 / 100.0).collect::<Vec<f64>>();
    let special = |values: Vec<f64>| {
        let odd = [f64::NAN, -0.0, f64::NEG_INFINITY, f64::from_bits(0x7ff0_0000_0000_0002), 0.1 + 0.2];
        // The first value of a series too, and more NaNs than have integers of their own.
        let at = |(i, value): (usize, f64)| match i {
            0 => f64::INFINITY,
            60..80 => f64::from_bits(0x7ff8_0000_0000_0000 | i as u64),
            _ if i % 40 == 7 => odd[i / 40 % 5],
            _ => value,
        };
        values.into_iter().enumerate().map(at).collect::<Vec<f64>>()
    };
    let quotients: Vec<f64> = (0..6_000).map(|i| (noise(i) % 20) as f64 / (noise(i + 9_000) % 9 + 3) as f64).collect();
    let doubles = |seed: u64, n: u64| (0..n).map(move |i| 20.0 + (noise(seed << 32 | i) >> 12) as f64 / 1e15).collect::<Vec<f64>>();
    let mut jittered = series(5, 0, decimal(50, 300));
    jittered.timestamps = (0..300u32).map(|i| i * 10_000 + (noise(u64::from(i)) % 900) as u32).collect();
    vec![
        bucket("bits", vec![series(1, 1_000, (0..300).map(|i| f64::from_bits(noise(i))).collect()), series(2, 1_000, vec![0.1 + 0.2; 5])]),
        bucket("bytes", (0..3).map(|host| series(host, 2_000, (0..3_000).map(|i| f64::from(i / 7 % 13 * 5)).collect())).collect()),
        bucket("counts", (0..40).map(|host| series(host, 10_000, (0..90).map(|i| (noise(host << 32 | i) % 9) as f64).collect())).collect()),
        bucket("decimal", vec![series(1, 1_000, decimal(1, 2_000)), series(2, 1_000, special(decimal(2, 600))), jittered]),
        bucket("doubles", vec![series(1, 1_000, doubles(1, 400)), series(2, 1_000, special(doubles(2, 100)))]),
        bucket("eighths", vec![series(1, 1_000, walk(4, 500, 999_999).map(|i| (i as f64) / 4_194_304.0).collect())]),
        bucket("huge", vec![series(1, 1_000, (0..600).map(|i| (noise(i) % (1 << 50)) as f64).collect())]),
        bucket("long", vec![series(1, 100, walk(6, 70_001, 1).map(|i| i as f64).collect())]),
        bucket("pages", vec![series(1, 1_000, walk(7, 1_500, 50).map(|i| i as f64).collect())]),
        bucket("pages.bytes", vec![series(1, 1_000, walk(7, 1_500, 50).map(|i| i as f64 * 4_096.0).collect())]),
        bucket("quotients", vec![series(1, 1_000, quotients)]),
    ]
}

fn write(buckets: &[BucketInput]) -> Vec<u8> {
    let encoded = buckets.iter().map(|bucket| encode_bucket(bucket).unwrap()).collect();
    let mut files = assemble(shard(), SPAN, encoded).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0).bytes
}

pub(crate) fn hex(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

/// Points as `reader.py` prints them.
fn shown(times: &[u32], values: Values<'_>) -> Vec<String> {
    let values: Vec<String> = match values {
        Values::Doubles(values) => values.iter().map(|value| hex(*value)).collect(),
        Values::Sketches(values) => values.iter().map(chunk_values::shown_sketch).collect(),
        Values::Histograms(values) => values.iter().map(chunk_values::shown_histogram).collect(),
    };
    times.iter().zip(values).map(|(time, value)| format!("{time}:{value}")).collect()
}

/// What `reader.py` prints.
fn listing(index: &ChunkIndex, file: &[u8]) -> String {
    let mut lines = Vec::new();
    let mut scratch = DecodeScratch::default();
    for metric in index.metrics() {
        for number in metric.series.clone() {
            let tag = |tag: &Tag| {
                let value = if tag.kind == TagKind::Pair { format!(":{}", String::from_utf8_lossy(&tag.value)) } else { String::new() };
                format!("{}{value}", String::from_utf8_lossy(&tag.key))
            };
            let tags: Vec<String> = index.tags(number).unwrap().iter().map(tag).collect();
            let meta = index.meta(number).unwrap();
            let (unit, help) = (String::from_utf8_lossy(&meta.unit), String::from_utf8_lossy(&meta.help));
            let summary = index.statistics(number).map_or("-".to_owned(), |own| {
                let doubles = [own.min, own.max, own.sum, own.first, own.last].map(hex).join(" ");
                format!("{} {} {doubles}", own.count, own.nans)
            });
            let mut points = Vec::new();
            for read in index.plan_reads(&[number]) {
                let each = &mut |_: u32, times: &[u32], values: Values<'_>| points.append(&mut shown(times, values));
                index.decode_values(&read, &file[read.range.start as usize..read.range.end as usize], &mut scratch, each).unwrap();
            }
            let name = String::from_utf8_lossy(&metric.metric);
            let meta = format!("{} {} {unit} {help}", meta.kind as u8, meta.interval_s);
            lines.push(format!("{}\t{name}\t{}\t{meta}\t{summary}\t{}", metric.org.0, tags.join(","), points.join(" ")));
        }
    }
    lines.sort();
    lines.join("\n") + "\n"
}

/// (version, name) of all golden files.
fn golden() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for version in std::fs::read_dir(directory()).unwrap() {
        let version = version.unwrap().file_name().into_string().unwrap();
        for file in std::fs::read_dir(directory().join(&version)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if let Some(name) = name.strip_suffix(".tchk").filter(|name| !name.ends_with("-corrupt")) {
                found.push((version.clone(), name.to_owned()));
            }
        }
    }
    found.sort();
    found
}

fn read(version: &str, file: &str) -> Vec<u8> {
    std::fs::read(directory().join(version).join(file)).unwrap()
}

fn truth(version: &str, name: &str) -> String {
    String::from_utf8(zstd::decode_all(read(version, &format!("{name}.txt.zst")).as_slice()).unwrap()).unwrap()
}

#[test]
fn the_newest_are_what_this_encoder_writes() {
    for (name, buckets) in [("small", small()), ("everything", everything()), ("distributions", chunk_values::buckets())] {
        let bytes = write(&buckets);
        let path = directory().join(&*NEWEST).join(name);
        if std::env::var("TAILORS_GOLDEN").is_ok_and(|value| value == "write") {
            let index = verify_file(shard(), &bytes).unwrap();
            let mut corrupt = bytes.clone();
            let middle = corrupt.len() / 3;
            corrupt[middle] ^= 4;
            std::fs::write(path.with_extension("tchk"), &bytes).unwrap();
            std::fs::write(directory().join(&*NEWEST).join(format!("{name}-corrupt.tchk")), corrupt).unwrap();
            std::fs::write(path.with_extension("txt.zst"), zstd::encode_all(listing(&index, &bytes).as_bytes(), 19).unwrap()).unwrap();
        }
        assert!(
            read(&NEWEST, &format!("{name}.tchk")) == bytes,
            "{name}: the encoder writes other bytes; a new encoder version needs new golden files"
        );
    }
}

#[test]
fn all_are_read_as_they_were_meant() {
    let golden = golden();
    assert!(golden.len() >= 2);
    for (version, name) in golden {
        let bytes = read(&version, &format!("{name}.tchk"));
        let index = verify_file(shard(), &bytes).unwrap();
        assert!(listing(&index, &bytes) == truth(&version, &name), "{version}/{name}");
        assert!(verify_file(shard(), &read(&version, &format!("{name}-corrupt.tchk"))).is_err(), "{version}/{name}");
    }
}

/// What was written is what the listing says: the truth is not taken from the reader alone.
#[test]
fn everything_comes_back() {
    for (name, buckets) in [("everything", everything()), ("distributions", chunk_values::buckets())] {
        let listing = truth(&NEWEST, name);
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), buckets.iter().map(|bucket| bucket.series.len()).sum::<usize>());
        for bucket in &buckets {
            for series in &bucket.series {
                let host = String::from_utf8_lossy(&series.tags[2].value).into_owned();
                let head = (format!("7\t{}\t", String::from_utf8_lossy(&bucket.metric)), format!("host:{host}\t"));
                let values = match &series.values {
                    SeriesValues::Doubles(values) => Values::Doubles(values),
                    SeriesValues::Sketches(values) => Values::Sketches(values),
                    SeriesValues::Histograms(values) => Values::Histograms(values),
                };
                let tail = format!("\t{}", shown(&series.timestamps, values).join(" "));
                let found = lines.iter().any(|line| line.starts_with(&head.0) && line.contains(&head.1) && line.ends_with(&tail));
                assert!(found, "{}{}", head.0, head.1);
            }
        }
    }
    let report = verify_file(shard(), &read(&NEWEST, "everything.tchk")).unwrap().report();
    // Each byte counts once, shared pages too.
    let bytes = |parts: &str| report.parts.iter().filter(|(part, _)| part.starts_with(parts)).map(|(_, bytes)| bytes).sum::<u64>();
    assert_eq!(bytes(""), read(&NEWEST, "everything.tchk").len() as u64);
    assert_eq!(bytes("page"), report.metrics.iter().map(|metric| metric.bytes).sum::<u64>());
    let used: Vec<&str> = report.metrics.iter().flat_map(|metric| &metric.encodings).map(|encoding| encoding.name.as_str()).collect();
    for part in ["const", "1e-2", "2^-", "f64", "dictionary", "delta", "x4096", "same", "pco32", "pco64", "bytes", "raw"] {
        assert!(used.iter().any(|name| name.contains(part)), "no golden file has {part}: {used:?}");
    }
}

#[test]
fn the_second_reader_agrees() {
    let Ok(python) = std::env::var("TAILORS_PYTHON") else {
        eprintln!("TAILORS_PYTHON is not set: docs/formats/reader.py was not run");
        return;
    };
    let reader = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/reader.py");
    let run = |path: PathBuf| Command::new(&python).arg(&reader).arg(path).arg(SHARD).output().unwrap();
    for (version, name) in golden().into_iter().filter(|(version, _)| *version == *NEWEST) {
        let output = run(directory().join(&version).join(format!("{name}.tchk")));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == truth(&version, &name).as_bytes(), "{name}: reader.py reads something else");
        let output = run(directory().join(&version).join(format!("{name}-corrupt.tchk")));
        assert!(!output.status.success(), "{name}: reader.py accepts the corrupt twin");
    }
}

//! `tailors export --parquet`: what other tools read is what is stored, bit for bit; and what ends early or is damaged leaves nothing behind.
//!
//! The file is read back with the parquet crate and, where `TAILORS_PYTHON` names a Python with duckdb, with DuckDB.

#[allow(dead_code, reason = "end_to_end.rs uses the rest")]
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{CLOSED_WINDOW, CLOSED_WINDOW_MS, Ended, Server, run, write_request};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use tailors_format::chunk::{
    BucketInput, ChunkIndex, DecodeScratch, SeriesColumn, SeriesValues, Span, ValueKind, assemble, encode_bucket, verify_file,
};
use tailors_format::doc::{Document, GoneDoc};
use tailors_model::{MetricMeta, OrgId, ShardId, Tag, TagKind, Window};

/// The window after [`CLOSED_WINDOW`], closed too.
const NEXT_WINDOW: &str = "2026-11-20T08:00:00Z";
const NEXT_WINDOW_MS: i64 = CLOSED_WINDOW_MS + 14_400_000;
/// What Prometheus calls stale: a NaN with a payload.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// One row.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    org: i64,
    metric: String,
    /// Key and value; none of a bare tag.
    tags: Vec<(String, Option<String>)>,
    time_ms: i64,
    bits: u64,
    /// Kind, unit, interval.
    meta: (String, Option<String>, i64),
}

impl Row {
    /// As `duckdb.py` below prints it.
    fn line(&self) -> String {
        let tag = |(key, value): &(String, Option<String>)| value.as_ref().map_or(key.clone(), |value| format!("{key}:{value}"));
        let tags: Vec<String> = self.tags.iter().map(tag).collect();
        format!("{}\t{}\t{}\t{}\t{:016x}", self.org, self.metric, tags.join(","), self.time_ms, self.bits)
    }
}

fn text(field: &Field) -> String {
    let Field::Str(text) = field else { panic!("no text: {field}") };
    text.clone()
}

fn long(field: &Field) -> i64 {
    match field {
        Field::Long(number) | Field::TimestampMillis(number) => *number,
        other => panic!("no number: {other}"),
    }
}

/// All rows, and the numbers of their series.
fn rows(path: &Path) -> (Vec<Row>, Vec<i64>) {
    let reader = SerializedFileReader::new(File::open(path).expect("opens")).expect("a whole Parquet file");
    let (mut rows, mut series) = (Vec::new(), Vec::new());
    for row in reader.get_row_iter(None).expect("rows") {
        let row = row.expect("a row");
        let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
        let [org, metric, tags, time, value, kind, unit, interval, number] = fields[..] else { panic!("other columns: {row}") };
        let (Field::MapInternal(map), Field::Double(value)) = (tags, value) else { panic!("other types: {row}") };
        let tags = map.entries().iter().flat_map(|(key, values)| {
            let Field::ListInternal(values) = values else { panic!("no list: {values}") };
            values.elements().iter().map(move |value| (text(key), Some(value).filter(|value| **value != Field::Null).map(text)))
        });
        let unit = Some(unit).filter(|unit| **unit != Field::Null).map(text);
        let (tags, meta) = (tags.collect(), (text(kind), unit, long(interval)));
        rows.push(Row { org: long(org), metric: text(metric), tags, time_ms: long(time), bits: value.to_bits(), meta });
        series.push(long(number));
    }
    (rows, series)
}

/// Numbers of a chunk file as its decoder gives them, in file order.
fn decoded(shard: ShardId, bytes: &[u8]) -> Vec<Row> {
    let index: ChunkIndex = verify_file(shard, bytes).expect("a good file");
    let (mut rows, mut scratch) = (Vec::new(), DecodeScratch::default());
    for metric in index.metrics() {
        for series in metric.series.clone().filter(|series| index.kind(*series).expect("a series") == ValueKind::Doubles) {
            let tags = index.tags(series).expect("tags");
            let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            let tags = tags.iter().map(|tag| (utf8(&tag.key), (tag.kind == TagKind::Pair).then(|| utf8(&tag.value))));
            let meta = index.meta(series).expect("metadata");
            let unit = Some(utf8(&meta.unit)).filter(|unit| !unit.is_empty());
            let meta = (format!("{:?}", meta.kind).to_lowercase(), unit, i64::from(meta.interval_s));
            let row = Row { org: i64::from(metric.org.0), metric: utf8(&metric.metric), tags: tags.collect(), time_ms: 0, bits: 0, meta };
            for read in index.plan_reads(&[series]) {
                let each = &mut |_: u32, times: &[u32], values: &[f64]| {
                    let points = times.iter().zip(values);
                    rows.extend(points.map(|(time, value)| Row {
                        time_ms: index.span().start_ms + i64::from(*time),
                        bits: value.to_bits(),
                        ..row.clone()
                    }));
                };
                index.decode(&read, &bytes[read.range.start as usize..read.range.end as usize], &mut scratch, each).expect("decodes");
            }
        }
    }
    rows
}

/// Golden files of the newest version.
fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../base/format/golden/chunk");
    let versions = std::fs::read_dir(folder).expect("golden files").map(|version| version.expect("a version").path());
    versions.max().expect("a version").join(name)
}

fn export(source: &[&str], out: &Path, more: &[&str]) -> Ended {
    run(&[&["export", "--parquet", out.to_str().expect("UTF-8")], source, more].concat())
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// What DuckDB reads in a file, row by row.
fn duckdb(path: &Path) -> Option<String> {
    const SCRIPT: &str = r#"
import sys, struct, duckdb
rows = duckdb.sql(f"select org, metric, tags, epoch_ms(timestamp), value from '{sys.argv[1]}'").fetchall()
for org, metric, tags, time_ms, value in rows:
    tags = ",".join(key if value is None else f"{key}:{value}" for key, values in tags.items() for value in values)
    print(org, metric, tags, time_ms, struct.pack(">d", value).hex(), sep="\t")
"#;
    let Ok(python) = std::env::var("TAILORS_PYTHON") else {
        eprintln!("TAILORS_PYTHON is not set: DuckDB was not asked");
        return None;
    };
    let ended = Ended::of(&Command::new(python).args(["-c", SCRIPT]).arg(path).output().expect("Python runs"));
    Some(ended.ok())
}

#[test]
fn a_chunk_file_comes_back_bit_for_bit() {
    let temp = tempfile::tempdir().expect("temp dir");
    for name in ["small", "everything"] {
        let (file, out) = (golden(&format!("{name}.tchk")), temp.path().join(format!("{name}.parquet")));
        let said = export(&["--file", file.to_str().expect("UTF-8")], &out, &[]).ok();
        let expected = decoded(ShardId::of_org(OrgId(7), 64), &std::fs::read(&file).expect("reads"));
        let (read, series) = rows(&out);
        assert!(said.starts_with(&format!("wrote {} points", expected.len())), "{said}");
        let at = read.iter().zip(&expected).position(|(read, expected)| read != expected);
        assert_eq!((at, read.len()), (None, expected.len()), "{name}: {:?}", at.map(|at| (&read[at], &expected[at])));
        assert!(read.iter().any(|row| f64::from_bits(row.bits).is_nan()), "{name} has NaNs");
        // A number of a series is that of its metric and tags.
        for (a, b) in (1..read.len()).map(|at| (at - 1, at)) {
            let same = (&read[a].metric, &read[a].tags) == (&read[b].metric, &read[b].tags);
            assert_eq!(series[a] == series[b], same, "{name}, row {b}");
        }
        if let Some(lines) = duckdb(&out) {
            assert!(lines.lines().eq(read.iter().map(Row::line)), "{name}: DuckDB reads something else");
        }
    }
}

#[test]
fn sketches_are_passed_over_and_said() {
    let temp = tempfile::tempdir().expect("temp dir");
    let (file, out) = (golden("distributions.tchk"), temp.path().join("x.parquet"));
    let index = verify_file(ShardId::of_org(OrgId(7), 64), &std::fs::read(&file).expect("reads")).expect("a good file");
    let is_number = |series: &u32| index.kind(*series).expect("a series") == ValueKind::Doubles;
    let (numbers, others): (Vec<u32>, Vec<u32>) = (0..index.series_len()).partition(is_number);
    assert!(!numbers.is_empty() && !others.is_empty());
    let source = ["--file", file.to_str().expect("UTF-8")];
    let said = export(&source, &out, &[]).ok();
    assert!(said.contains(&format!("note: {} series of sketches", others.len())), "{said}");
    assert!(rows(&out).0 == decoded(ShardId::of_org(OrgId(7), 64), &std::fs::read(&file).expect("reads")));
    let ended = export(&source, &temp.path().join("none.parquet"), &["--metric", "sketch.*"]);
    assert!(ended.code == 1 && ended.err.contains("only sketches and histograms"), "{}", ended.err);
    assert_eq!(names_in(temp.path()), ["x.parquet"]);
}

/// A metric of two buckets, as a build cuts a long one by time: constants of the second stand behind values of the first, and a series goes on.
#[test]
fn a_series_cut_by_time_stays_in_order() {
    let temp = tempfile::tempdir().expect("temp dir");
    let bucket = |from: u32, values: [fn(u32) -> f64; 2]| {
        let series = values.into_iter().enumerate().map(|(host, value)| SeriesColumn {
            tags: vec![Tag::pair("host", host.to_string())],
            meta: MetricMeta::default(),
            timestamps: (from..from + 500).map(|n| n * 1_000).collect(),
            values: SeriesValues::Doubles((from..from + 500).map(value).collect()),
        });
        let input = BucketInput { org: OrgId(7), metric: "m".into(), meta: MetricMeta::default(), series: series.collect() };
        encode_bucket(&input).expect("encodes")
    };
    let still: fn(u32) -> f64 = |_| 7.0;
    let moving: fn(u32) -> f64 = |n| f64::from(n * n % 101);
    let buckets = vec![bucket(0, [moving, still]), bucket(500, [still, moving])];
    let (shard, span) = (ShardId::of_org(OrgId(7), 64), Span { start_ms: NEXT_WINDOW_MS, span_ms: 14_400_000 });
    let bytes = assemble(shard, span, buckets).expect("a file").remove(0).bytes;
    let (file, out) = (temp.path().join("x.tchk"), temp.path().join("x.parquet"));
    std::fs::write(&file, &bytes).expect("writes");
    export(&["--file", file.to_str().expect("UTF-8")], &out, &[]).ok();
    let (read, series) = rows(&out);
    assert!(read == decoded(shard, &bytes) && read.len() == 2_000);
    for number in series.iter().collect::<std::collections::BTreeSet<_>>() {
        let times: Vec<i64> = read.iter().zip(&series).filter(|(_, own)| *own == number).map(|(row, _)| row.time_ms).collect();
        assert!(times.len() == 1_000 && times.is_sorted(), "series {number}");
    }
}

#[test]
fn damage_is_said_and_leaves_nothing() {
    let temp = tempfile::tempdir().expect("temp dir");
    let (file, out) = (temp.path().join("x.tchk"), temp.path().join("x.parquet"));
    let source = ["--file", file.to_str().expect("UTF-8")];
    let whole = std::fs::read(golden("small.tchk")).expect("reads");
    // Header, pages, index and trailer; then cut short; then the twin.
    let flips = (0..whole.len()).step_by(29).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cuts = [0, 1, 31, 64, 500, whole.len() - 1].map(|end| whole[..end].to_vec());
    let twin = std::fs::read(golden("small-corrupt.tchk")).expect("reads");
    for bytes in flips.chain(cuts).chain([twin]) {
        std::fs::write(&file, &bytes).expect("writes");
        let ended = export(&source, &out, &[]);
        assert!(ended.code == 3 && ended.err.contains("TLR-4020"), "{} {}", ended.code, ended.err);
        assert_eq!(names_in(temp.path()), ["x.tchk"], "{}", ended.err);
    }
    let ended = export(&["--file", "/nowhere/x.tchk"], &out, &[]);
    assert!(ended.code == 2 && ended.err.contains("/nowhere/x.tchk"), "{}", ended.err);
    std::fs::write(&file, &whole).expect("writes");
    let ended = export(&source, &temp.path().join("nowhere/x.parquet"), &[]);
    assert!(ended.code == 3 && ended.err.contains("can't be written"), "{}", ended.err);
}

#[test]
fn a_file_that_is_there_stays_unless_told() {
    let temp = tempfile::tempdir().expect("temp dir");
    let (file, out) = (golden("small.tchk"), temp.path().join("x.parquet"));
    let source = ["--file", file.to_str().expect("UTF-8")];
    std::fs::write(&out, b"mine").expect("writes");
    let ended = export(&source, &out, &[]);
    assert!(ended.code == 2 && ended.err.contains("TLR-4021"), "{}", ended.err);
    assert_eq!(std::fs::read(&out).expect("reads"), b"mine");
    let ended = export(&source, &out, &["--overwrite", "--metric", "nothing"]);
    assert!(ended.code == 1 && ended.err.contains("no stored point"), "{}", ended.err);
    assert_eq!(std::fs::read(&out).expect("reads"), b"mine", "nothing to write replaces nothing");
    export(&source, &out, &["--overwrite"]).ok();
    assert!(!rows(&out).0.is_empty());
    assert_eq!(names_in(temp.path()), ["x.parquet"]);
    for no_file in [temp.path(), Path::new("/dev/null"), Path::new("..")] {
        assert_eq!(export(&source, no_file, &["--overwrite"]).code, 2, "{}", no_file.display());
    }
    let link = temp.path().join("link");
    std::os::unix::fs::symlink(&out, &link).expect("links");
    export(&source, &link, &["--overwrite"]).ok();
    assert!(link.is_symlink() && names_in(temp.path()).len() == 2);
    std::fs::remove_file(&link).expect("removes");
    assert_eq!(export(&source, &out, &["--overwrite", "--from", "10", "--to", "10"]).code, 2);
    let zero = export(&source, &out, &["--overwrite", "--metric", "cpu", "--metric", "no*", "--org", "7"]).ok();
    assert!(zero.starts_with("wrote"), "{zero}");
    let metrics: std::collections::BTreeSet<String> = rows(&out).0.into_iter().map(|row| row.metric).collect();
    assert_eq!(metrics.into_iter().collect::<Vec<_>>(), ["cpu", "noise"]);
}

/// Chunk files of a store.
fn chunk_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    let below = entries.flat_map(|path| if path.is_dir() { chunk_files(&path) } else { vec![path] });
    below.filter(|path| path.extension().is_some_and(|extension| extension == "tchk")).collect()
}

#[test]
fn a_store_comes_out_as_it_was_sent() {
    let temp = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&temp.path().join("data"), &["--set", "build.enabled=false"]);
    let corners = [1.5, -0.0, f64::INFINITY, f64::from_bits(STALE), f64::from_bits(0x7ff8_0000_0000_0001), 0.1 + 0.2, f64::MIN_POSITIVE];
    let points: Vec<(i64, f64)> = (-50..50).map(|n| (NEXT_WINDOW_MS + n * 1_000, corners[n.rem_euclid(7) as usize])).collect();
    assert!(server.write(&server.key, &write_request(&[crate::support::series("scraped.value", "a", &points)])).status < 300);
    let at_s = NEXT_WINDOW_MS / 1_000 + 60;
    let body = format!(
        "{{\"series\":[{{\"metric\":\"agent.value\",\"type\":1,\"interval\":10,\"unit\":\"byte\",\"points\":[{{\"timestamp\":{at_s},\"value\":7}}],\
         \"tags\":[\"canary\",\"role:web\",\"role:db\",\"empty:\"]}}]}}"
    );
    let headers = [("dd-api-key", server.key.as_str()), ("content-type", "application/json")];
    assert_eq!(server.http("POST", "/api/v2/series", &headers, body.as_bytes()).status, 202);
    server.seal_and_build(CLOSED_WINDOW);
    server.seal_and_build(NEXT_WINDOW);

    // Beside the server that runs.
    let out = temp.path().join("all.parquet");
    let data = ["--data", server.dir.to_str().expect("UTF-8")];
    let said = export(&data, &out, &[]).ok();
    assert!(said.starts_with("wrote 101 points"), "{said}");
    let (all, series) = rows(&out);
    let scraped: Vec<(i64, u64)> = all.iter().filter(|row| row.metric == "scraped.value").map(|row| (row.time_ms, row.bits)).collect();
    assert_eq!(scraped, points.iter().map(|(at, value)| (*at, value.to_bits())).collect::<Vec<_>>());
    let agent = all.iter().find(|row| row.metric == "agent.value").expect("a row");
    let pair = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    assert_eq!(agent.tags, [("canary".to_owned(), None), pair("empty", ""), pair("role", "db"), pair("role", "web")]);
    assert_eq!(agent.meta, ("count".to_owned(), Some("byte".to_owned()), 10));
    assert_eq!((agent.org, agent.time_ms, agent.bits), (1, at_s * 1_000, 7f64.to_bits()));
    assert_eq!(series.iter().collect::<std::collections::BTreeSet<_>>().len(), 2);
    if let Some(lines) = duckdb(&out) {
        assert!(lines.lines().eq(all.iter().map(Row::line)), "DuckDB reads something else");
    }

    // Chosen: by the name that queries know, by time; the end is exclusive.
    let edge = NEXT_WINDOW_MS / 1_000;
    let (from, to) = ((edge - 5).to_string(), (edge + 5).to_string());
    let some = export(&data, &out, &["--overwrite", "--metric", "scraped_val*", "--from", &from, "--to", &to]).ok();
    assert!(some.starts_with("wrote 10 points"), "{some}");
    let times: Vec<i64> = rows(&out).0.iter().map(|row| row.time_ms - NEXT_WINDOW_MS).collect();
    assert_eq!(times, (-5..5).map(|n| n * 1_000).collect::<Vec<_>>());
    assert_eq!(export(&data, &out, &["--overwrite", "--org", "2"]).code, 1);
    let store = server.dir.join("store");
    let again = export(&["--store", store.to_str().expect("UTF-8")], &temp.path().join("again.parquet"), &["--org", "1"]).ok();
    assert!(again.starts_with("wrote 101 points"), "{again}");

    // Its pin went with it; and a generation whose files may go any time is not begun with.
    assert!(std::fs::read_dir(store.join("pin/v1")).expect("pins were put").next().is_none());
    let shard = ShardId::of_org(OrgId(1), 64);
    let gone = tailors_format::key::gone(shard, Window::of_ms(NEXT_WINDOW_MS), 1);
    std::fs::create_dir_all(store.join(&gone).parent().expect("a folder")).expect("made");
    std::fs::write(store.join(&gone), GoneDoc { superseded_by: 2 }.to_bytes(&gone).expect("a document")).expect("writes");
    let late = export(&data, &temp.path().join("late.parquet"), &[]);
    assert!(late.code == 3 && late.err.contains("replaced faster"), "{}", late.err);
    std::fs::remove_file(store.join(&gone)).expect("removes");
    assert!(std::fs::read_dir(store.join("pin/v1")).expect("pins").next().is_none(), "released though it failed");

    // One file of the store is damaged, then gone: the other's points are not passed off as all.
    let file = chunk_files(&store).pop().expect("a chunk file");
    let mut bytes = std::fs::read(&file).expect("reads");
    bytes[40] ^= 1;
    for damage in ["changed", "gone"] {
        std::fs::remove_file(&file).expect("removes");
        if damage == "changed" {
            std::fs::write(&file, &bytes).expect("writes");
        }
        let ended = export(&data, &temp.path().join("damaged.parquet"), &[]);
        assert!(ended.code == 3 && ended.err.contains("TLR-4020") && ended.err.contains(".tchk"), "{damage}: {}", ended.err);
        assert!(!names_in(temp.path()).iter().any(|name| name.contains("damaged")), "{damage}: {:?}", names_in(temp.path()));
    }
    let ended = export(&["--store", server.dir.to_str().expect("UTF-8")], &temp.path().join("none.parquet"), &[]);
    assert!(ended.code == 1 && ended.err.contains("feed 0"), "{}", ended.err);
    assert_eq!(export(&["--data", "/nowhere"], &temp.path().join("none.parquet"), &[]).code, 3);
}

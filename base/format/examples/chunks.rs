//! Sizes and speeds of chunk files on one core: `chunks CLASS [SERIES [STEP_S]]` for a class of base/synth, `chunks FILE.csv.zst` for a recording.
//! CPU time of this process counts, not the clock: other work on the machine moves it less.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use tailors_format::chunk::{
    Aggregate, BucketInput, ChunkFile, ChunkIndex, DecodeScratch, SeriesColumn, Span, Steps, assemble, encode_bucket, verify_file,
};
use tailors_model::{MetricMeta, OrgId, ShardId, Tag, canonical_tags};
use tailors_synth::{Class, Spec};

const START_S: i64 = 125_000 * 14_400;
const SPAN: Span = Span { start_ms: START_S * 1_000, span_ms: 14_400_000 };

type Columns = BTreeMap<String, BTreeMap<Vec<Tag>, (Vec<u32>, Vec<f64>)>>;

fn shard() -> ShardId {
    ShardId::of_org(OrgId(1), 64)
}

fn synthetic(class: Class, series: u32, step_s: u32) -> Columns {
    let mut columns = Columns::new();
    for series in tailors_synth::generate(Spec { class, seed: 4, series, start_s: START_S, seconds: 14_400, step_s }) {
        let mut tags: Vec<Tag> = series.tags.into_iter().map(|(key, value)| Tag::pair(key, value)).collect();
        canonical_tags(&mut tags);
        let column = series.points.iter().map(|(at, value)| ((at - START_S * 1_000) as u32, *value)).unzip();
        columns.entry(series.metric).or_default().insert(tags, column);
    }
    columns
}

fn recording(path: &str) -> Columns {
    let mut rows = csv::Reader::from_reader(zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap());
    let (mut columns, mut start) = (Columns::new(), None);
    for row in rows.records() {
        let row = row.unwrap();
        let at = (row[0].parse::<f64>().unwrap() * 1_000.0).floor() as i64;
        let at = (at - *start.get_or_insert(at)) as u32;
        let mut tags: Vec<Tag> = row[2].split(',').filter(|tag| !tag.is_empty()).map(tag).collect();
        canonical_tags(&mut tags);
        let (times, values) = columns.entry(row[1].to_owned()).or_default().entry(tags).or_default();
        if times.last().is_none_or(|last| *last < at) {
            times.push(at);
            values.push(row[3].parse().unwrap());
        }
    }
    columns
}

fn tag(text: &str) -> Tag {
    text.split_once(':').map_or_else(|| Tag::bare(text.to_owned()), |(key, value)| Tag::pair(key.to_owned(), value.to_owned()))
}

fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Least CPU seconds of several runs.
fn best<T>(runs: usize, mut work: impl FnMut() -> T) -> (T, f64) {
    let mut least = f64::INFINITY;
    let mut last = None;
    for _ in 0..runs {
        // The kernel counts in ticks.
        let (start, mut times, mut used) = (cpu_s(), 0, 0.0);
        while used < 0.05 {
            last = Some(std::hint::black_box(work()));
            times += 1;
            used = cpu_s() - start;
        }
        least = least.min(used / f64::from(times));
    }
    (last.unwrap(), least)
}

fn read_all(files: &[(ChunkFile, ChunkIndex)], scratch: &mut DecodeScratch) -> (u64, u64) {
    let (mut points, mut sum) = (0, 0u64);
    for (file, index) in files {
        let all: Vec<u32> = (0..index.series_len()).collect();
        for read in index.plan_reads(&all) {
            let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
            let each = &mut |_: u32, times: &[u32], values: &[f64]| {
                points += times.len() as u64;
                sum ^= u64::from(times[times.len() - 1]) ^ values[values.len() - 1].to_bits();
            };
            index.decode(&read, bytes, scratch, each).unwrap();
        }
    }
    (points, sum)
}

/// All series of each file by minutes, as a query of `sum(...)` takes them.
fn scan(files: &[ChunkFile], scratch: &mut DecodeScratch) -> Vec<Aggregate> {
    let minutes = std::env::var("STEP_MINUTES").map_or(1, |minutes| minutes.parse().unwrap());
    let steps = Steps { start: 0, step: 60_000 * minutes, count: 240 / minutes };
    let mut out = vec![Aggregate::NONE; steps.count as usize];
    for file in files {
        let index = open(file);
        let all: Vec<u32> = (0..index.series_len()).collect();
        let mut each = |_: u32, step: u32, aggregates: &[Aggregate]| {
            out[step as usize..].iter_mut().zip(aggregates).for_each(|(out, own)| out.add(own));
        };
        for read in index.plan_aggregate(&all, &steps, &mut each).unwrap() {
            let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
            index.aggregate(&read, bytes, &steps, scratch, &mut each).unwrap();
        }
    }
    out
}

fn open(file: &ChunkFile) -> ChunkIndex {
    let tail = ChunkIndex::tail_range(&file.bytes, file.bytes.len() as u64).unwrap();
    ChunkIndex::parse(shard(), &file.bytes[tail.start as usize..], file.bytes.len() as u64).unwrap()
}

/// One series from bytes in memory, with its index cached; and all series of the first metric whose tag begins with something.
fn look_up((file, index): &(ChunkFile, ChunkIndex), scratch: &mut DecodeScratch, runs: usize) {
    let longest = (0..index.series_len()).filter(|series| index.statistics(*series).is_none_or(|own| own.min < own.max));
    let longest = longest.max_by_key(|series| index.points_of(*series)).unwrap();
    let (metric, tags) = (index.metrics().iter().find(|metric| metric.series.contains(&longest)).unwrap(), index.tags(longest).unwrap());
    let (points, seconds) = best(runs, || {
        let found = index.find(metric.org, &metric.metric, &tags).unwrap();
        let mut points = 0;
        for read in index.plan_reads(&found) {
            let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
            index.decode(&read, bytes, scratch, &mut |_, times, _| points += times.len()).unwrap();
        }
        points
    });
    println!("one series of {points} points: {:.1} us", seconds * 1e6);
    let Some(key) = tags.first().map(|tag| &tag.key) else { return };
    let (found, seconds) = best(runs, || {
        let marks = index.mark_tags(key, &mut |tag| tag.value.starts_with(b"1")).unwrap();
        index.select_marked(metric.org, 0, &[(marks, true)]).unwrap().len()
    });
    println!("prefix matcher on {}: {found} series in {:.2} ms", String::from_utf8_lossy(key), seconds * 1e3);
}

fn report(files: &[(ChunkFile, ChunkIndex)], points: f64) {
    let bytes: usize = files.iter().map(|(file, _)| file.bytes.len()).sum();
    println!("whole {:.5} B/point, {bytes} B in {} files", bytes as f64 / points, files.len());
    for (file, index) in files {
        let report = index.report();
        let series = report.series as f64;
        for (part, bytes) in &report.parts {
            println!("  {part:16} {bytes:>10} B {:.5} B/point {:.3} B/series", *bytes as f64 / points, *bytes as f64 / series);
        }
        let mut metrics = report.metrics.clone();
        metrics.sort_by_key(|metric| std::cmp::Reverse(metric.bytes));
        for metric in metrics.iter().take(std::env::var("TOP").map_or(16, |top| top.parse().unwrap())) {
            println!(
                "  {:32} {:>6} series {:>9} points {:>9} B {:.4} B/point {:?}",
                metric.metric,
                metric.series,
                metric.points,
                metric.bytes,
                metric.bytes as f64 / metric.points as f64,
                metric.encodings
            );
        }
        assert_eq!(report.parts.iter().map(|part| part.1).sum::<u64>(), file.bytes.len() as u64);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u32| arguments.get(at).map_or(or, |text| text.parse().unwrap());
    let columns = match Class::parse(&arguments[0]) {
        Some(class) => synthetic(class, number(1, 20_000), number(2, 30)),
        None => recording(&arguments[0]),
    };
    let column = |(tags, (timestamps, values)): (_, (_, Vec<f64>))| SeriesColumn {
        tags,
        meta: MetricMeta::default(),
        timestamps,
        values: values.into(),
    };
    let buckets: Vec<BucketInput> = columns
        .into_iter()
        .map(|(metric, series)| BucketInput {
            org: OrgId(1),
            metric: metric.into(),
            meta: MetricMeta::default(),
            series: series.into_iter().map(column).collect(),
        })
        .collect();
    let points: u64 = buckets.iter().flat_map(|bucket| &bucket.series).map(|series| series.values.len() as u64).sum();
    let n = points as f64;
    let runs = std::env::var("RUNS").map_or(5, |runs| runs.parse().unwrap());
    let (encoded, encode_s) = best(runs, || buckets.iter().map(|bucket| encode_bucket(bucket).unwrap()).collect::<Vec<_>>());
    if std::env::var_os("ASSEMBLE_ONLY").is_some() {
        let (_, seconds) = best(runs, || assemble(shard(), SPAN, encoded.clone()).unwrap());
        println!("copy and assemble {:.1} ms", seconds * 1e3);
        return;
    }
    drop(encoded);
    if std::env::var_os("ENCODE_ONLY").is_some() {
        println!("encode {:.1} M points/s", n / encode_s / 1e6);
        return;
    }
    let encode = || buckets.iter().map(|bucket| encode_bucket(bucket).unwrap()).collect::<Vec<_>>();
    let (files, assemble_s) = best(runs, || assemble(shard(), SPAN, encode()).unwrap());
    let files: Vec<(ChunkFile, ChunkIndex)> =
        files.into_iter().map(|file| (verify_file(shard(), &file.bytes).map(|index| (file, index))).unwrap()).collect();
    let mut scratch = DecodeScratch::default();
    let ((read, _), decode_s) = best(runs * 4, || read_all(&files, &mut scratch));
    assert_eq!(read, points);
    let bare: Vec<ChunkFile> = files.iter().map(|(file, _)| file.clone()).collect();
    let (_, open_s) = best(runs * 4, || bare.iter().map(open).collect::<Vec<_>>());
    let (sums, scan_s) = best(std::env::var("SCANS").map_or(runs * 4, |scans| scans.parse().unwrap()), || scan(&bare, &mut scratch));
    assert_eq!(sums.iter().map(|own| own.count + own.nans).sum::<u64>(), points);
    report(&files, n);
    look_up(&files[0], &mut scratch, runs);
    println!(
        "{points} points; M points/s: encode {:.1}, with assemble {:.1}, decode {:.1}, open and scan {:.1}; open {:.2} ms",
        n / encode_s / 1e6,
        n / assemble_s / 1e6,
        n / decode_s / 1e6,
        n / scan_s / 1e6,
        open_s * 1e3
    );
}

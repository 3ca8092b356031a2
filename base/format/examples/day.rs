//! Six window files against the day's file, on one core: `day CLASS [SERIES [STEP_S]]` for a class of base/synth. Copied whole, encoded anew, and by
//! the rule: bytes, CPU seconds, and what one key costs a reader.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tailors_format::chunk::{
    BucketInput, ChunkFile, ChunkIndex, DAY_COPY_BYTES, DayInput, DayPages, DayTally, DecodeScratch, SeriesColumn, Span, assemble,
    encode_bucket, plan_day, verify_day_file,
};
use tailors_model::window::{DAY_MS, WINDOW_MS};
use tailors_model::{MetricMeta, OrgId, ShardId, Tag, Window, canonical_tags};
use tailors_synth::{Class, Spec};

const DAY: Span = Span { start_ms: 20_000 * DAY_MS, span_ms: DAY_MS as u32 };
/// Gap between two ranges below which object_store joins them to one read.
const GAP_BYTES: u64 = 1 << 20;

fn shard() -> ShardId {
    ShardId::of_org(OrgId(1), 64)
}

fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Buckets of each window.
fn windows(class: Class, series: u32, step_s: u32) -> Vec<Vec<BucketInput>> {
    let start_s = DAY.start_ms / 1_000;
    let mut windows: Vec<BTreeMap<String, Vec<SeriesColumn>>> = vec![BTreeMap::new(); 6];
    for series in tailors_synth::generate(Spec { class, seed: 4, series, start_s, seconds: 86_400, step_s }) {
        let mut tags: Vec<Tag> = series.tags.into_iter().map(|(key, value)| Tag::pair(key, value)).collect();
        canonical_tags(&mut tags);
        for points in series.points.chunk_by(|a, b| Window::of_ms(a.0) == Window::of_ms(b.0)) {
            let window = Window::of_ms(points[0].0);
            let (timestamps, values) = points.iter().map(|(at, value)| ((at - window.start_ms()) as u32, *value)).unzip();
            let column = SeriesColumn { tags: tags.clone(), meta: MetricMeta::default(), timestamps, values };
            windows[((window.start_ms() - DAY.start_ms) / WINDOW_MS) as usize].entry(series.metric.clone()).or_default().push(column);
        }
    }
    let bucket = |(metric, series): (String, Vec<SeriesColumn>)| {
        let most = ((1 << 22) / series[0].values.len().max(1)).max(1);
        let cut: Vec<Vec<SeriesColumn>> = series.chunks(most).map(<[SeriesColumn]>::to_vec).collect();
        cut.into_iter().map(move |series| BucketInput { org: OrgId(1), metric: metric.clone().into(), meta: MetricMeta::default(), series })
    };
    windows.into_iter().map(|metrics| metrics.into_iter().flat_map(bucket).collect()).collect()
}

fn open(file: &ChunkFile) -> Arc<ChunkIndex> {
    let length = file.bytes.len() as u64;
    let tail = ChunkIndex::tail_range(&file.bytes, length).unwrap();
    Arc::new(ChunkIndex::parse(shard(), &file.bytes[tail.start as usize..], length).unwrap())
}

/// Reads and bytes that one series costs on average, as object_store joins ranges.
fn key_cost(files: &[(ChunkFile, Arc<ChunkIndex>)]) -> (f64, f64) {
    let mut keys: BTreeSet<(Bytes, Vec<Tag>)> = BTreeSet::new();
    for (_, index) in files {
        for metric in index.metrics() {
            keys.extend(metric.series.clone().step_by(37).map(|series| (metric.metric.clone(), index.tags(series).unwrap())));
        }
    }
    let (mut reads, mut bytes) = (0u64, 0u64);
    for (metric, tags) in &keys {
        for (_, index) in files {
            let series = index.find(OrgId(1), metric, tags).unwrap();
            let mut ranges: Vec<Range<u64>> = index.plan_reads(&series).into_iter().map(|read| read.range).collect();
            ranges.retain(|range| !range.is_empty());
            ranges.sort_by_key(|range| range.start);
            let mut last: Option<u64> = None;
            for range in ranges {
                let joined = last.filter(|end| range.start <= end + GAP_BYTES);
                reads += u64::from(joined.is_none());
                bytes += range.end.saturating_sub(joined.unwrap_or(range.start));
                last = Some(last.unwrap_or(0).max(range.end));
            }
        }
    }
    (reads as f64 / keys.len() as f64, bytes as f64 / keys.len() as f64)
}

fn tell(name: &str, files: &[(ChunkFile, Arc<ChunkIndex>)], points: f64, cpu: f64) {
    let bytes: usize = files.iter().map(|(file, _)| file.bytes.len()).sum();
    let tail: u64 = files
        .iter()
        .map(|(_, index)| index.report().parts.iter().filter(|part| !part.0.starts_with("page")).map(|part| part.1).sum::<u64>())
        .sum();
    let series: u64 = files.iter().map(|(file, _)| file.series).sum();
    let (reads, key_bytes) = key_cost(files);
    println!(
        "{name:12} {bytes:>10} B {:.4} B/point, index {tail:>9} B, {series:>7} entries; {:.1} ns/point, {:.1} M points/CPU-s; one key: {reads:.2} reads, {key_bytes:.0} B",
        bytes as f64 / points,
        cpu * 1e9 / points,
        points / cpu / 1e6
    );
}

fn compact(windows: &[(ChunkFile, Arc<ChunkIndex>)], copy_bytes_max: u64) -> (Vec<ChunkFile>, DayTally) {
    let inputs: Vec<DayInput> = windows
        .iter()
        .map(|(_, index)| {
            let from_ms = index.span().start_ms;
            DayInput { index: Arc::clone(index), from_ms, to_ms: from_ms + WINDOW_MS }
        })
        .collect();
    let mut tally = DayTally::new(DAY.start_ms);
    let mut scratch = DecodeScratch::default();
    let mut buckets = Vec::new();
    for part in plan_day(&inputs, copy_bytes_max).unwrap() {
        let mut pages = DayPages::default();
        for (input, ranges) in part.reads(&inputs) {
            for range in ranges {
                pages.put(input, range.start, Bytes::copy_from_slice(&windows[input].0.bytes[range.start as usize..range.end as usize]));
            }
        }
        buckets.push(part.encode(&inputs, &pages, DAY, &mut scratch, &mut tally).unwrap());
    }
    (assemble(shard(), DAY, buckets).unwrap(), tally)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u32| arguments.get(at).map_or(or, |text| text.parse().unwrap());
    let windows = windows(Class::parse(&arguments[0]).unwrap(), number(1, 20_000), number(2, 30));
    let start = cpu_s();
    let files: Vec<(ChunkFile, Arc<ChunkIndex>)> = windows
        .iter()
        .zip(0..)
        .flat_map(|(buckets, number)| {
            let span = Span { start_ms: DAY.start_ms + number * WINDOW_MS, span_ms: WINDOW_MS as u32 };
            assemble(shard(), span, buckets.iter().map(|bucket| encode_bucket(bucket).unwrap()).collect()).unwrap()
        })
        .map(|file| {
            let index = open(&file);
            (file, index)
        })
        .collect();
    let built_s = cpu_s() - start;
    let points = files.iter().map(|(file, _)| file.points).sum::<u64>();
    println!("{points} points");
    tell("six windows", &files, points as f64, built_s);
    for (name, copy_bytes_max) in [("copied", u64::MAX), ("encoded anew", 0), ("by the rule", DAY_COPY_BYTES)] {
        let start = cpu_s();
        let (made, tally) = compact(&files, copy_bytes_max);
        let cpu = cpu_s() - start;
        let start = cpu_s();
        let mut counted = DayTally::new(DAY.start_ms);
        for file in &made {
            counted.merge(&verify_day_file(shard(), &file.bytes, DAY.start_ms).unwrap().1);
        }
        let check_ns = (cpu_s() - start) * 1e9 / points as f64;
        assert_eq!(counted, tally);
        assert_eq!(counted.windows.iter().map(|window| window.points).sum::<u64>(), points);
        let made: Vec<_> = made.into_iter().map(|file| (open(&file), file)).map(|(index, file)| (file, index)).collect();
        tell(name, &made, points as f64, cpu);
        println!("{:12} checking and counting the file: {check_ns:.1} ns/point", "");
    }
}

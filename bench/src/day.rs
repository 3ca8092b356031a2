//! Six window files against the day's file made of them: bytes, CPU time, and what one key costs a reader.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tailors_format::chunk::{
    BucketInput, ChunkFile, ChunkIndex, DAY_COPY_BYTES, DayInput, DayPages, DayTally, DecodeScratch, SeriesColumn, Span, assemble,
    encode_bucket, plan_day, verify_day_file,
};
use tailors_model::limits::BUCKET_POINTS;
use tailors_model::window::{DAY_MS, WINDOW_MS};
use tailors_model::{MetricMeta, Tag, Window, canonical_tags};
use tailors_synth::{Class, Spec};

use crate::Outcome;
use crate::codec::{self, BYTES_PER_POINT, shard};
use crate::data::{ORG, kind_of};
use crate::report::Row;
use crate::timing::time_cpu;

const DAY: Span = Span { start_ms: 20_000 * DAY_MS, span_ms: DAY_MS as u32 };
/// Gap between two ranges below which the store joins them to one read.
const GAP_BYTES: u64 = 1 << 20;
/// Of the series, every so many are asked for.
const KEYS_STEP: usize = 37;

/// Number of the kind of series of `month` that never change.
const CONSTANTS: usize = 2;

/// A file and its index.
type Opened = (ChunkFile, Arc<ChunkIndex>);

/// Buckets of each window of a day.
fn windows(class: Class, series: u32, wanted: impl Fn(&str, &SeriesColumn) -> bool) -> Vec<Vec<BucketInput>> {
    let start_s = DAY.start_ms / 1_000;
    let mut windows: Vec<BTreeMap<String, Vec<SeriesColumn>>> = vec![BTreeMap::new(); 6];
    for series in tailors_synth::generate(Spec { class, seed: 4, series, start_s, seconds: 86_400, step_s: 1 }) {
        let mut tags: Vec<Tag> = series.tags.into_iter().map(|(key, value)| Tag::pair(key, value)).collect();
        canonical_tags(&mut tags);
        for points in series.points.chunk_by(|a, b| Window::of_ms(a.0) == Window::of_ms(b.0)) {
            let window = Window::of_ms(points[0].0);
            let (timestamps, values): (_, Vec<f64>) = points.iter().map(|(at, value)| ((at - window.start_ms()) as u32, *value)).unzip();
            let column = SeriesColumn { tags: tags.clone(), meta: MetricMeta::default(), timestamps, values: values.into() };
            if wanted(&series.metric, &column) {
                windows[((window.start_ms() - DAY.start_ms) / WINDOW_MS) as usize].entry(series.metric.clone()).or_default().push(column);
            }
        }
    }
    let bucket = |(metric, series): (String, Vec<SeriesColumn>)| {
        let most = (BUCKET_POINTS as usize / series[0].values.len().max(1)).max(1);
        let cut: Vec<Vec<SeriesColumn>> = series.chunks(most).map(<[SeriesColumn]>::to_vec).collect();
        cut.into_iter().map(move |series| BucketInput { org: ORG, metric: metric.clone().into(), meta: MetricMeta::default(), series })
    };
    windows.into_iter().map(|metrics| metrics.into_iter().flat_map(bucket).collect()).collect()
}

fn open(file: ChunkFile) -> Outcome<Opened> {
    let index = Arc::new(codec::open(&file.bytes)?);
    Ok((file, index))
}

fn build(windows: &[Vec<BucketInput>]) -> Outcome<Vec<Opened>> {
    let mut files = Vec::new();
    for (buckets, number) in windows.iter().zip(0..) {
        let span = Span { start_ms: DAY.start_ms + number * WINDOW_MS, span_ms: WINDOW_MS as u32 };
        let encoded = buckets.iter().map(encode_bucket).collect::<Result<Vec<_>, _>>()?;
        for file in assemble(shard(), span, encoded)? {
            files.push(open(file)?);
        }
    }
    Ok(files)
}

/// The day's files, counted and compared.
fn compact(windows: &[Opened]) -> Outcome<(Vec<Opened>, f64)> {
    let inputs: Vec<DayInput> = windows
        .iter()
        .map(|(_, index)| {
            let from_ms = index.span().start_ms;
            DayInput { index: Arc::clone(index), from_ms, to_ms: from_ms + WINDOW_MS }
        })
        .collect();
    let make = || -> Outcome<_> {
        let mut tally = DayTally::new(DAY.start_ms);
        let (mut scratch, mut buckets) = (DecodeScratch::default(), Vec::new());
        for part in plan_day(&inputs, DAY_COPY_BYTES)? {
            let mut pages = DayPages::default();
            for (input, ranges) in part.reads(&inputs) {
                for range in ranges {
                    pages.put(
                        input,
                        range.start,
                        Bytes::copy_from_slice(&windows[input].0.bytes[range.start as usize..range.end as usize]),
                    );
                }
            }
            buckets.push(part.encode(&inputs, &pages, DAY, &mut scratch, &mut tally)?);
        }
        Ok((assemble(shard(), DAY, buckets)?, tally))
    };
    let (made, cpu_s) = time_cpu(make);
    let (files, tally) = made?;
    let mut counted = DayTally::new(DAY.start_ms);
    for file in &files {
        counted.merge(&verify_day_file(shard(), &file.bytes, DAY.start_ms)?.1);
    }
    if counted != tally {
        return Err("day: read back other points than were written".into());
    }
    Ok((files.into_iter().map(open).collect::<Outcome<_>>()?, cpu_s))
}

fn bytes(files: &[Opened]) -> f64 {
    files.iter().map(|(file, _)| file.bytes.len() as f64).sum()
}

/// Reads of pages that one series costs on average, as the store joins ranges.
fn reads_of_a_key(files: &[Opened]) -> Outcome<f64> {
    let mut keys: BTreeSet<(Bytes, Vec<Tag>)> = BTreeSet::new();
    for (_, index) in files {
        for metric in index.metrics() {
            for series in
                metric.series.clone().step_by(KEYS_STEP).filter(|series| index.statistics(*series).is_none_or(|own| own.min < own.max))
            {
                keys.insert((metric.metric.clone(), index.tags(series)?));
            }
        }
    }
    let mut reads = 0u64;
    for (metric, tags) in &keys {
        for (_, index) in files {
            let mut ranges: Vec<Range<u64>> =
                index.plan_reads(&index.find(ORG, metric, tags)?).into_iter().map(|read| read.range).collect();
            ranges.retain(|range| !range.is_empty());
            ranges.sort_by_key(|range| range.start);
            let mut last: Option<u64> = None;
            for range in ranges {
                reads += u64::from(last.is_none_or(|end| range.start > end + GAP_BYTES));
                last = Some(last.unwrap_or(0).max(range.end));
            }
        }
    }
    Ok(reads as f64 / keys.len() as f64)
}

/// All rows.
pub(crate) fn measure(quick: bool, rows: &mut Vec<Row>) -> Outcome<()> {
    for (name, class, series) in [("month", Class::Month, 20), ("mix", Class::Mix, if quick { 2_000 } else { 20_000 })] {
        let six = build(&windows(class, series, |_, _| true))?;
        let points: u64 = six.iter().map(|(file, _)| file.points).sum();
        let (day, cpu_s) = compact(&six)?;
        let n = points as f64;
        let size = Row::lower(format!("day of {name}: size"), bytes(&day) / n, BYTES_PER_POINT);
        rows.push(size.rival("six window files", bytes(&six) / n));
        rows.push(Row::lower(format!("day of {name}: CPU"), cpu_s * 1e9 / n, "ns/point"));
        let reads = Row::lower(format!("day of {name}: one key"), reads_of_a_key(&day)?, "reads").reach(1.0);
        rows.push(reads.rival("six window files", reads_of_a_key(&six)?));
    }
    // What constants cost: by how much the file grows with them.
    let (with, _) = compact(&build(&windows(Class::Month, 20, |_, _| true))?)?;
    let (without, _) = compact(&build(&windows(Class::Month, 20, |metric, series| kind_of(metric.as_bytes(), series) != CONSTANTS))?)?;
    let points: u64 = with.iter().map(|(file, _)| file.points).sum::<u64>() - without.iter().map(|(file, _)| file.points).sum::<u64>();
    let row = Row::lower("day of month: constant", (bytes(&with) - bytes(&without)) / points as f64, BYTES_PER_POINT);
    rows.push(row.reach(0.0003).recorded("VictoriaMetrics", 0.0003));
    Ok(())
}

//! A day from its windows: the same points to the bit whether copied or encoded anew, the same bytes every time, damage named by its input.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tailors_model::window::{DAY_MS, WINDOW_MS};
use tailors_model::{MetricKind, MetricMeta, OrgId, ShardId, Tag};

use super::distribution_tests::{cumulative, latencies};
use super::*;

use crate::FormatError;

const DAY: Span = Span { start_ms: 20_000 * DAY_MS, span_ms: DAY_MS as u32 };
const ORG: OrgId = OrgId(7);

type Points = BTreeMap<(Bytes, Vec<Tag>), Vec<(i64, u64)>>;

fn shard() -> ShardId {
    ShardId::of_org(ORG, 64)
}

fn meta(help: &'static [u8]) -> MetricMeta {
    MetricMeta { kind: MetricKind::Gauge, unit: Bytes::new(), interval_s: 10, help: Bytes::from_static(help) }
}

fn noise(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Value of a series at a point; constant in window 2 for series 3, always for series 4, odd doubles in between for series 5.
fn value(window: u64, series: u64, i: u64) -> f64 {
    match series {
        3 if window == 2 => 7.25,
        4 => 64.0,
        5 if i % 40 == 7 => [f64::NAN, -0.0, f64::INFINITY, f64::from_bits(0x7ff0_0000_0000_0002)][(i / 40 % 4) as usize],
        6 => f64::from_bits(noise(window << 40 | i) >> 2 | 1 << 60),
        _ => (noise(series << 50 | window << 40 | i) % 2_000) as f64 / 100.0,
    }
}

/// A window's file: four metrics, most of `points` points a series; series 2 is missing in window 3, series 8 comes in slices of two buckets.
fn window(number: u64, points: u64) -> Bytes {
    let span = Span { start_ms: DAY.start_ms + number as i64 * WINDOW_MS, span_ms: WINDOW_MS as u32 };
    let series = |series: u64, from: u64, to: u64| {
        let jitter = |i: u64| if series == 1 { (noise(i) % 900) as u32 } else { 0 };
        let tags = vec![Tag::bare("canary"), Tag::pair("host", format!("h{series:03}"))];
        let timestamps = (from..to).map(|i| i as u32 * 10_000 + jitter(i)).collect();
        SeriesColumn {
            tags,
            meta: MetricMeta::default(),
            timestamps,
            values: (from..to).map(|i| value(number, series, i)).collect::<Vec<f64>>().into(),
        }
    };
    let sketches: SeriesValues = (0..30).map(|i| latencies(number << 8 | i, 20)).collect::<Vec<_>>().into();
    let histograms: SeriesValues = cumulative(number, 30).into();
    let with = |series: SeriesColumn, values: SeriesValues| SeriesColumn { values, ..series };
    let bucket = |metric: &'static [u8], series| {
        let help: &[u8] = if number == 5 { b"newer" } else { b"older" };
        BucketInput { org: ORG, metric: Bytes::from_static(metric), meta: meta(help), series }
    };
    let all: Vec<SeriesColumn> = (1..8).filter(|own| (*own, number) != (2, 3)).map(|own| series(own, 0, points)).collect();
    let buckets = [
        bucket(b"app.a", all.clone()),
        bucket(b"app.a", vec![series(8, 0, points / 2)]),
        bucket(b"app.a", vec![series(8, points / 2, points)]),
        bucket(b"app.b", all),
        bucket(b"app.constant", vec![series(4, 0, points)]),
        bucket(b"app.distributions", vec![with(series(1, 0, 30), sketches), with(series(2, 0, 30), histograms), series(3, 0, 30)]),
    ];
    let encoded = buckets.iter().map(|bucket| encode_bucket(bucket).expect("encodes")).collect();
    assemble(shard(), span, encoded).expect("assembles").remove(0).bytes.into()
}

fn open(bytes: &Bytes) -> Arc<ChunkIndex> {
    Arc::new(verify_file(shard(), bytes).expect("sound"))
}

/// The input of a whole window.
fn input(bytes: &Bytes) -> DayInput {
    let index = open(bytes);
    let span = index.span();
    DayInput { index, from_ms: span.start_ms, to_ms: span.start_ms + i64::from(span.span_ms) }
}

fn compact(inputs: &[DayInput], files: &[Bytes], copy_bytes_max: u64) -> Result<(Vec<ChunkFile>, DayTally), DayError> {
    let (mut tally, mut scratch, mut buckets) = (DayTally::new(DAY.start_ms), DecodeScratch::default(), Vec::new());
    let mut counted = DayTally::new(DAY.start_ms);
    for part in plan_day(inputs, copy_bytes_max)? {
        let mut pages = DayPages::default();
        for (number, ranges) in part.reads(inputs) {
            for range in ranges {
                pages.put(number, range.start, files[number].slice(range.start as usize..range.end as usize));
            }
        }
        buckets.push(part.encode(inputs, &pages, DAY, &mut scratch, &mut tally)?);
        part.count(inputs, &pages, &mut scratch, &mut counted)?;
    }
    assert_eq!(counted, tally);
    Ok((assemble(shard(), DAY, buckets).expect("assembles"), tally))
}

/// All points of some time, in the order in which a reader gets them.
fn points(file: &[u8], from_ms: i64, to_ms: i64, out: &mut Points) {
    let index = verify_file(shard(), file).expect("sound");
    let mut scratch = DecodeScratch::default();
    for metric in index.metrics() {
        let mut names: BTreeMap<Vec<Tag>, Vec<u32>> = BTreeMap::new();
        for series in metric.series.clone() {
            names.entry(index.tags(series).expect("tags")).or_default().push(series);
        }
        for (tags, series) in names {
            let own = out.entry((metric.metric.clone(), tags)).or_default();
            for read in index.plan_reads(&series) {
                let page = &file[read.range.start as usize..read.range.end as usize];
                let mut each = |_: u32, times: &[u32], values: Values<'_>| {
                    let mut bits = Vec::new();
                    values.each_bits(|own| bits.push(own));
                    let at = times.iter().map(|time| index.span().start_ms + i64::from(*time));
                    own.extend(at.zip(bits).filter(|(at, _)| (from_ms..to_ms).contains(at)));
                };
                index.decode_values(&read, page, &mut scratch, &mut each).expect("decodes");
            }
        }
    }
    out.retain(|_, points| !points.is_empty());
}

fn all_points(files: &[Bytes]) -> Points {
    let mut out = Points::new();
    files.iter().for_each(|file| points(file, i64::MIN, i64::MAX, &mut out));
    out
}

#[test]
fn a_day_holds_the_points_of_its_windows_to_the_bit() {
    let files: Vec<Bytes> = (0..6).map(|number| window(number, 300)).collect();
    let inputs: Vec<DayInput> = files.iter().map(input).collect();
    let expected = all_points(&files);
    for copy_bytes_max in [0, u64::MAX] {
        let (made, tally) = compact(&inputs, &files, copy_bytes_max).expect("compacts");
        assert_eq!(made.len(), 1);
        let mut got = Points::new();
        points(&made[0].bytes, i64::MIN, i64::MAX, &mut got);
        assert!(got == expected, "points differ, copied up to {copy_bytes_max}");
        assert!(got.values().all(|points| points.is_sorted_by(|a, b| a.0 < b.0)), "a reader gets them in time order");
        let (index, counted) = verify_day_file(shard(), &made[0].bytes, DAY.start_ms).expect("sound");
        assert_eq!(counted, tally);
        assert_eq!(
            counted.windows.map(|window| window.points),
            [300 * 16, 300 * 16, 300 * 16, 300 * 14, 300 * 16, 300 * 16].map(|points| points + 90)
        );
        assert_eq!(index.span(), DAY);
        // Only what the newest window says of a metric is left where series are whole; copied entries keep their own.
        let metric = &index.metrics()[0];
        assert_eq!(metric.meta.help, "newer");
        let entries = if copy_bytes_max == 0 { 8 } else { 6 * 9 - 1 };
        assert_eq!(metric.series.len(), entries);
        if copy_bytes_max > 0 {
            assert_eq!(index.meta(metric.series.start).expect("meta").help, "older");
        }
        assert_eq!(index.metrics()[2].series.len(), 1, "constants have no pages worth copying");
        for at in (0..made[0].bytes.len()).step_by(211) {
            let mut damaged = made[0].bytes.clone();
            damaged[at] ^= 16;
            assert!(verify_day_file(shard(), &damaged, DAY.start_ms).is_err(), "byte {at}");
        }
        let again = compact(&inputs, &files, copy_bytes_max).expect("compacts").0;
        assert!(again[0].bytes == made[0].bytes, "equal inputs give equal bytes");
    }
}

#[test]
fn copied_pages_are_the_same_bytes_and_statistics_stay() {
    let files: Vec<Bytes> = (0..6).map(|number| window(number, 300)).collect();
    let inputs: Vec<DayInput> = files.iter().map(input).collect();
    let made = compact(&inputs, &files, u64::MAX).expect("compacts").0.remove(0);
    let index = verify_file(shard(), &made.bytes).expect("sound");
    let tags = vec![Tag::bare("canary"), Tag::pair("host", "h007")];
    let of = |index: &ChunkIndex, file: &[u8]| {
        let series = index.find(ORG, b"app.b", &tags).expect("found");
        let reads = index.plan_reads(&series);
        let pages: Vec<Vec<u8>> =
            reads.iter().map(|read| file[read.range.start as usize..read.range.end as usize - layout::CRC_BYTES].to_vec()).collect();
        let statistics: Vec<Option<Statistics>> = series.iter().map(|series| index.statistics(*series)).collect();
        (pages, statistics)
    };
    let parts: Vec<_> = files.iter().map(|file| of(&open(file), file)).collect();
    let (pages, statistics) = of(&index, &made.bytes);
    assert_eq!(pages, parts.iter().flat_map(|part| part.0.clone()).collect::<Vec<_>>());
    assert_eq!(statistics, parts.iter().flat_map(|part| part.1.clone()).collect::<Vec<_>>());
    assert!(statistics.iter().all(Option::is_some));
}

#[test]
fn one_key_of_a_day_is_one_stretch() {
    // Incompressible series 6: its pages of a day are far beyond what is copied.
    let files: Vec<Bytes> = (0..6).map(|number| window(number, 1_440)).collect();
    let inputs: Vec<DayInput> = files.iter().map(input).collect();
    let made = compact(&inputs, &files, DAY_COPY_BYTES).expect("compacts").0.remove(0);
    let index = verify_file(shard(), &made.bytes).expect("sound");
    for metric in index.metrics() {
        for host in 1..9 {
            let tags = vec![Tag::bare("canary"), Tag::pair("host", format!("h{host:03}"))];
            let series = index.find(ORG, &metric.metric, &tags).expect("looked");
            let reads: Vec<_> = index.plan_reads(&series).into_iter().map(|read| read.range).filter(|range| !range.is_empty()).collect();
            let Some((first, last)) = reads.first().zip(reads.last()) else { continue };
            assert!(last.end - first.start <= 1_440 * 6 * 9 + DAY_COPY_BYTES, "{host} lies in {}..{}", first.start, last.end);
            assert!(series.len() == 1 || last.end - first.start <= DAY_COPY_BYTES, "encoded whole, or a small metric");
        }
    }
}

#[test]
fn a_day_is_made_again_with_one_window_of_its_own() {
    let files: Vec<Bytes> = (0..6).map(|number| window(number, 200)).collect();
    let inputs: Vec<DayInput> = files.iter().map(input).collect();
    for first_copied in [0, u64::MAX] {
        let old: Bytes = compact(&inputs, &files, first_copied).expect("compacts").0.remove(0).bytes.into();
        // Window 2 was built anew with more points; the day's file still holds its old ones.
        let newer = window(2, 260);
        let index = open(&old);
        let edges = [DAY.start_ms, DAY.start_ms + 2 * WINDOW_MS, DAY.start_ms + 3 * WINDOW_MS, DAY.start_ms + DAY_MS];
        let inputs = [
            DayInput { index: Arc::clone(&index), from_ms: edges[0], to_ms: edges[1] },
            input(&newer),
            DayInput { index, from_ms: edges[2], to_ms: edges[3] },
        ];
        let files = [old.clone(), newer.clone(), old.clone()];
        let mut expected = Points::new();
        points(&old, edges[0], edges[1], &mut expected);
        points(&newer, i64::MIN, i64::MAX, &mut expected);
        points(&old, edges[2], edges[3], &mut expected);
        let (made, tally) = compact(&inputs, &files, DAY_COPY_BYTES).expect("compacts");
        let mut got = Points::new();
        points(&made[0].bytes, i64::MIN, i64::MAX, &mut got);
        assert!(got == expected);
        assert_eq!(
            tally.windows.map(|window| window.points),
            [200 * 16, 200 * 16, 260 * 16, 200 * 14, 200 * 16, 200 * 16].map(|points| points + 90)
        );
    }
}

#[test]
fn damage_names_its_input() {
    let files: Vec<Bytes> = (0..6).map(|number| window(number, 200)).collect();
    let inputs: Vec<DayInput> = files.iter().map(input).collect();
    for copy_bytes_max in [0, u64::MAX] {
        for byte in [40, 700, 2_000] {
            let mut damaged = files.clone();
            let mut bytes = damaged[4].to_vec();
            bytes[byte] ^= 1;
            damaged[4] = bytes.into();
            let error = compact(&inputs, &damaged, copy_bytes_max).expect_err("a checksum differs");
            assert_eq!(error.input, Some(4), "{error}");
            assert!(matches!(error.error, FormatError::Checksum { .. }), "{error}");
        }
        // A file of another day.
        let mut other = inputs.clone();
        let span = Span { start_ms: DAY.start_ms + DAY_MS, span_ms: WINDOW_MS as u32 };
        let bucket = BucketInput {
            org: ORG,
            metric: Bytes::from_static(b"app.z"),
            meta: MetricMeta::default(),
            series: vec![SeriesColumn { tags: vec![], meta: MetricMeta::default(), timestamps: vec![1, 2], values: vec![0.5, 1.5].into() }],
        };
        let stray: Bytes =
            assemble(shard(), span, vec![encode_bucket(&bucket).expect("encodes")]).expect("assembles").remove(0).bytes.into();
        other.push(input(&stray));
        let mut with_stray = files.clone();
        with_stray.push(stray);
        assert_eq!(compact(&other, &with_stray, copy_bytes_max).expect_err("outside").input, Some(6));
    }
}

#[test]
fn tallies_see_every_change() {
    let mut base = DayTally::new(DAY.start_ms);
    let times = [0, 10_000, WINDOW_MS as u32 - 1, WINDOW_MS as u32, 5 * WINDOW_MS as u32];
    base.add(9, DAY.start_ms, &times, Values::Doubles(&[1.0, 2.0, 3.0, 4.0, 5.0]));
    assert_eq!(base.windows.map(|window| window.points), [3, 1, 0, 0, 0, 1]);
    // In other pieces, relative to another start: the same.
    let mut pieces = DayTally::new(DAY.start_ms);
    pieces.add(9, DAY.start_ms + WINDOW_MS, &[0, 4 * WINDOW_MS as u32], Values::Doubles(&[4.0, 5.0]));
    pieces.add(9, DAY.start_ms, &times[..3], Values::Doubles(&[1.0, 2.0, 3.0]));
    assert_eq!(base, pieces);
    let changed = [
        (8, times, 1.0),
        (9, [1, 10_000, times[2], times[3], times[4]], 1.0),
        (9, times, -1.0),
        (9, times, f64::from_bits(1.0f64.to_bits() + 1)),
    ];
    for (key, times, value) in changed {
        let mut other = DayTally::new(DAY.start_ms);
        other.add(key, DAY.start_ms, &times, Values::Doubles(&[value, 2.0, 3.0, 4.0, 5.0]));
        assert_ne!(base.windows[0], other.windows[0]);
    }
    base.add(9, DAY.start_ms + DAY_MS, &[0], Values::Doubles(&[1.0]));
    assert_eq!(base.outside, 1);
}

#[test]
fn points_of_a_series_are_counted_by_time() {
    for number in [1, 2] {
        let file = window(0, 300);
        let index = open(&file);
        let tags = vec![Tag::bare("canary"), Tag::pair("host", format!("h{number:03}"))];
        let series = index.find(ORG, b"app.b", &tags).expect("found")[0];
        let mut all = Points::new();
        points(&file, i64::MIN, i64::MAX, &mut all);
        let own = &all[&(Bytes::from_static(b"app.b"), tags)];
        for (from, to) in [(0, WINDOW_MS), (1, 10_000), (0, 1), (9_999, 10_001), (500_000, 400_000), (-5, 777_777), (2_990_000, DAY_MS)] {
            let (from_ms, to_ms) = (DAY.start_ms + from, DAY.start_ms + to);
            let expected = own.iter().filter(|(at, _)| (from_ms..to_ms).contains(at)).count();
            assert_eq!(index.points_between(series, from_ms, to_ms) as usize, expected, "{number}: {from}..{to}");
        }
    }
}

//! Sketches and native histograms in chunk files: exact round trips, equal bytes for any input order, sizes, limits, typed refusals.

use bytes::Bytes;
use proptest::prelude::*;
use tailors_model::limits::DISTRIBUTION_ITEMS_MAX;
use tailors_model::{
    Bin, BucketCounts, BucketLayout, BucketSpan, HistogramCounts, MetricMeta, NativeHistogram, OrgId, ResetHint, ShardId, Sketch, Tag,
    window::WINDOW_MS,
};

use super::component::OpenColumn;
use super::*;
use crate::FormatError;
use crate::bytes::Cursor;

const SPAN: Span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };
const STALE: f64 = f64::from_bits(tailors_model::histogram::STALE_BITS);

fn shard() -> ShardId {
    ShardId::of_org(OrgId(7), 64)
}

fn series(host: usize, values: impl Into<SeriesValues>) -> SeriesColumn {
    let values = values.into();
    let timestamps = (0..values.len() as u32).map(|i| i * 1_000).collect();
    SeriesColumn { tags: vec![Tag::pair("host", format!("h{host:04}"))], meta: MetricMeta::default(), timestamps, values }
}

fn bucket(metric: &str, series: Vec<SeriesColumn>) -> BucketInput {
    BucketInput { org: OrgId(7), metric: Bytes::from(metric.to_owned()), meta: MetricMeta::default(), series }
}

fn file(buckets: &[BucketInput]) -> Vec<u8> {
    let encoded = buckets.iter().map(|bucket| encode_bucket(bucket).unwrap()).collect();
    assemble(shard(), SPAN, encoded).unwrap().remove(0).bytes
}

/// A value and what tells it from others, bit by bit.
#[derive(Clone, PartialEq, Debug)]
enum Point {
    Double(u64),
    Sketch(Sketch),
    Histogram(NativeHistogram),
}

fn points(values: Values<'_>) -> Vec<Point> {
    match values {
        Values::Doubles(values) => values.iter().map(|value| Point::Double(value.to_bits())).collect(),
        Values::Sketches(values) => values.iter().cloned().map(Point::Sketch).collect(),
        Values::Histograms(values) => values.iter().cloned().map(Point::Histogram).collect(),
    }
}

fn borrowed(values: &SeriesValues) -> Values<'_> {
    match values {
        SeriesValues::Doubles(values) => Values::Doubles(values),
        SeriesValues::Sketches(values) => Values::Sketches(values),
        SeriesValues::Histograms(values) => Values::Histograms(values),
    }
}

type Row = (Vec<Tag>, ValueKind, Vec<(u32, Point)>);

fn rows(bytes: &[u8]) -> Vec<Row> {
    let index = verify_file(shard(), bytes).unwrap();
    let all: Vec<u32> = (0..index.series_len()).collect();
    let mut rows: Vec<Row> = all.iter().map(|series| (index.tags(*series).unwrap(), index.kind(*series).unwrap(), Vec::new())).collect();
    let mut scratch = DecodeScratch::default();
    for read in index.plan_reads(&all) {
        let page = &bytes[read.range.start as usize..read.range.end as usize];
        let each = &mut |series: u32, times: &[u32], values: Values<'_>| {
            rows[series as usize].2.extend(times.iter().copied().zip(points(values)));
        };
        index.decode_values(&read, page, &mut scratch, each).unwrap();
    }
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    rows
}

fn rows_of(series: &[SeriesColumn]) -> Vec<Row> {
    let row = |own: &SeriesColumn| {
        let points = own.timestamps.iter().copied().zip(points(borrowed(&own.values))).collect();
        (own.tags.clone(), own.values.kind(), points)
    };
    let mut rows: Vec<Row> = series.iter().map(row).collect();
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    rows
}

/// splitmix64.
fn noise(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Of latencies of about 20 ms, log-normal with sigma 0.5, as the agent makes it of so many samples.
fn latencies(seed: u64, samples: u64) -> Sketch {
    let (mut sum, mut min, mut max) = (0.0, f64::INFINITY, 0f64);
    let key = |value: f64| (value.ln() / 1.015_625f64.ln()).round_ties_even() as i32 + 1338;
    let keys: Vec<(i32, u64)> = (0..samples)
        .map(|i| {
            // Twelve uniform numbers make nearly a normal one.
            let uniform = |at: u64| (noise(seed << 32 | i << 4 | at) >> 11) as f64 / (1u64 << 53) as f64;
            let value = 0.02 * (0.5 * ((0..12).map(uniform).sum::<f64>() - 6.0)).exp();
            (sum, min, max) = (sum + value, min.min(value), max.max(value));
            (key(value), 1)
        })
        .collect();
    Sketch { bins: Sketch::bins_of(keys).unwrap(), count: samples, sum, min, max, avg: sum / samples as f64 }
}

/// A cumulative histogram of requests, schema 3: at each step some more per bucket.
fn cumulative(seed: u64, n: u64) -> Vec<NativeHistogram> {
    let mut positive = vec![0u64; 24];
    let histogram = |i: u64| {
        for (at, count) in positive.iter_mut().enumerate() {
            *count += noise(seed << 32 | i << 8 | at as u64) % (1 + (at as u64 * (24 - at as u64)) / 8);
        }
        let layout = BucketLayout {
            schema: 3,
            zero_threshold: 2f64.powi(-128),
            positive: vec![BucketSpan { offset: -40, length: 24 }],
            ..Default::default()
        };
        let counts = BucketCounts { count: positive.iter().sum::<u64>() + 5, zero: 5, positive: positive.clone(), negative: Vec::new() };
        let sum = counts.count as f64 / 64.0;
        NativeHistogram { layout, counts: HistogramCounts::Integers(counts), sum, hint: ResetHint::Unknown }
    };
    (0..n).map(histogram).collect()
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (-10_000i64..10_000, 0i32..6).prop_map(|(i, e)| i as f64 / 10f64.powi(e)),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop_oneof![Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(STALE), Just(0.0)],
    ]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..40, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let keys = prop_oneof![
        4 => prop::collection::btree_map(1_000i32..1_400, count(), 0..30),
        1 => prop::collection::btree_map(any::<i32>(), count(), 0..10),
    ];
    let is_honest = any::<bool>();
    (keys, is_honest, any::<u32>(), (double(), double(), double(), double())).prop_map(|(keys, is_honest, count, (sum, min, max, avg))| {
        let bins = Sketch::bins_of(keys).unwrap();
        let total = bins.iter().fold(0u64, |sum, bin| sum.wrapping_add(bin.count));
        let (count, avg) = if is_honest { (total, sum / total as f64) } else { (u64::from(count), avg) };
        Sketch { bins, count, sum, min, max, avg }
    })
}

fn spans() -> impl Strategy<Value = Vec<BucketSpan>> {
    let span = |(offset, length)| BucketSpan { offset, length };
    (-60i32..60, prop::collection::vec((0i32..4, 0u32..5), 0..4)).prop_map(move |(first, rest)| {
        rest.into_iter().enumerate().map(|(at, (offset, length))| span((if at == 0 { first } else { offset }, length))).collect()
    })
}

fn layout() -> impl Strategy<Value = BucketLayout> {
    let exponential = (-4i32..=8, double(), spans(), spans()).prop_map(|(schema, zero_threshold, positive, negative)| BucketLayout {
        schema,
        zero_threshold,
        positive,
        negative,
        bounds: Vec::new(),
    });
    let bounds = prop::collection::btree_set(-50i32..50, 0..6).prop_map(|bounds| bounds.into_iter().map(|b| f64::from(b) / 4.0).collect());
    let custom = (bounds, spans()).prop_map(|(bounds, positive)| BucketLayout { schema: -53, bounds, positive, ..Default::default() });
    prop_oneof![3 => exponential, 1 => custom]
}

/// Histograms of a few layouts, in turn, of both flavours, with stale markers.
fn histograms() -> impl Strategy<Value = Vec<NativeHistogram>> {
    let one = (0usize..3, 0u8..4, prop::bool::weighted(0.2), double(), prop::collection::vec((count(), double()), 50), any::<bool>());
    (prop::collection::vec(layout(), 3), prop::collection::vec(one, 1..40)).prop_map(|(layouts, ones)| {
        let histogram = |(number, hint, is_double, sum, counts, is_stale): (usize, u8, bool, f64, Vec<(u64, f64)>, bool)| {
            let layout = layouts[number].clone();
            let (positive, negative) = layout.buckets();
            let (positive, negative) = (positive as usize, negative as usize);
            let hint = ResetHint::from_u8(hint).unwrap();
            if is_stale && counts[0].0 % 8 == 0 {
                let counts = HistogramCounts::Integers(BucketCounts::default());
                return NativeHistogram { layout: BucketLayout::default(), counts, sum: STALE, hint: ResetHint::Unknown };
            }
            let counts = if is_double {
                let own: Vec<f64> = counts.iter().map(|count| count.1).collect();
                let (count, zero) = (own[0], own[1]);
                let (positive, negative) = (own[2..2 + positive].to_vec(), own[25..25 + negative].to_vec());
                HistogramCounts::Doubles(BucketCounts { count, zero, positive, negative })
            } else {
                let own: Vec<u64> = counts.iter().map(|count| count.0).collect();
                let (positive, negative) = (own[2..2 + positive].to_vec(), own[25..25 + negative].to_vec());
                let count = positive.iter().chain(&negative).fold(own[1], |sum, count| sum.wrapping_add(*count));
                HistogramCounts::Integers(BucketCounts { count, zero: own[1], positive, negative })
            };
            NativeHistogram { layout, counts, sum, hint }
        };
        ones.into_iter().map(histogram).collect()
    })
}

fn values() -> impl Strategy<Value = SeriesValues> {
    prop_oneof![
        2 => prop::collection::vec(sketch(), 1..40).prop_map(SeriesValues::from),
        2 => histograms().prop_map(SeriesValues::from),
        1 => prop::collection::vec(double(), 1..40).prop_map(SeriesValues::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sketch_and_histogram_comes_back_bit_for_bit(all in prop::collection::vec(values(), 1..9)) {
        let columns: Vec<SeriesColumn> = all.into_iter().enumerate().map(|(host, values)| series(host, values)).collect();
        prop_assert_eq!(rows(&file(&[bucket("m", columns.clone())])), rows_of(&columns));
    }

    #[test]
    fn order_of_series_changes_no_byte(all in prop::collection::vec(values(), 1..9), rotate in 0usize..9) {
        // Half of them share their tags with one of another kind, as a Prometheus series that changed from doubles to histograms does.
        let mut columns: Vec<SeriesColumn> = all.into_iter().enumerate().map(|(host, values)| series(host / 2, values)).collect();
        columns.sort_by(|a, b| (&a.tags, a.values.kind()).cmp(&(&b.tags, b.values.kind())));
        columns.dedup_by(|a, b| (&a.tags, a.values.kind()) == (&b.tags, b.values.kind()));
        let bytes = file(&[bucket("m", columns.clone())]);
        prop_assert_eq!(rows(&bytes), rows_of(&columns));
        let n = columns.len();
        columns.rotate_left(rotate % n);
        prop_assert!(file(&[bucket("m", columns)]) == bytes);
    }
}

/// What codecs.md section 6 measured, bytes per one-second sketch without sum, minimum and maximum: 4.8, 21, 70, 132.
#[test]
fn sketches_are_as_small_as_planned() {
    for (samples, target) in [(5, 4.8), (50, 21.0), (500, 70.0), (5_000, 132.0)] {
        let n = if samples == 5_000 { 300 } else { 3_000 };
        let plain = |sketch: Sketch| Sketch { sum: 1.0, min: 1.0, max: 1.0, avg: 1.0 / samples as f64, ..sketch };
        let sketches: Vec<Sketch> = (0..n).map(|i| latencies(i, samples)).collect();
        let bins: usize = sketches.iter().map(|sketch| sketch.bins.len()).sum();
        let whole = file(&[bucket("m", vec![series(1, sketches.clone())])]).len() as f64 / n as f64;
        let size = file(&[bucket("m", vec![series(1, sketches.into_iter().map(plain).collect::<Vec<_>>())])]).len() as f64 / n as f64;
        println!("{samples} samples: {:.1} bins, {size:.2} bytes, with doubles {whole:.2}; {target}", bins as f64 / n as f64);
        assert!(size <= target, "{samples} samples a second: {size:.2} bytes a sketch");
    }
}

#[test]
fn cumulative_histograms_are_stored_as_differences() {
    let n = 2_000;
    let histograms = cumulative(1, n);
    let size = |histograms: Vec<NativeHistogram>| file(&[bucket("m", vec![series(1, histograms)])]).len() as f64 / n as f64;
    let differences = size(histograms.clone());
    // The same counts in an order without a trend: what they cost plain.
    let mut shuffled = histograms;
    shuffled.sort_by_key(|histogram| noise(histogram.sum.to_bits()));
    let plain = size(shuffled);
    println!("24 buckets: {differences:.2} bytes a histogram, without a trend {plain:.2}");
    assert!(differences < 16.0 && differences * 2.0 < plain, "{differences:.2} bytes a histogram, {plain:.2} without a trend");
}

#[test]
fn an_idle_histogram_costs_next_to_nothing() {
    let idle = vec![cumulative(1, 50).remove(49); 5_000];
    let bytes = file(&[bucket("m", vec![series(1, idle)])]);
    assert!(bytes.len() < 900, "{} bytes", bytes.len());
}

#[test]
fn asking_for_doubles_is_a_typed_error() {
    let doubles = (0..300).map(|i| f64::from(i) / 4.0).collect::<Vec<f64>>();
    let sketches = (0..300).map(|i| latencies(i, 5)).collect::<Vec<_>>();
    let columns = vec![series(0, doubles.clone()), series(1, sketches), series(2, cumulative(3, 20))];
    let bytes = file(&[bucket("m", columns), bucket("plain", vec![series(0, doubles), series(1, vec![2.5; 9])])]);
    let index = verify_file(shard(), &bytes).unwrap();
    let kinds: Vec<ValueKind> = (0..index.series_len()).map(|series| index.kind(series).unwrap()).collect();
    use ValueKind::*;
    assert_eq!(kinds, [Doubles, Sketches, Histograms, Doubles, Doubles]);
    assert!(index.kind(5).is_err());
    assert_eq!(index.statistics(0).map(|own| own.count), Some(300));
    assert_eq!(index.statistics(1), None);
    assert!(matches!(index.aggregate_metric(0), Err(FormatError::OtherKind { found: "sketches", .. })));
    assert_eq!(index.aggregate_metric(1).map(|own| own.count), Ok(309));
    let steps = Steps { start: 0, step: 1_000, count: 99 };
    let mut scratch = DecodeScratch::default();
    for (number, found) in [(1, "sketches"), (2, "native histograms")] {
        for read in index.plan_aggregate(&[number], &steps, &mut |_, _, _| panic!("handed out")).unwrap() {
            let page = &bytes[read.range.start as usize..read.range.end as usize];
            let refused = FormatError::OtherKind { what: "chunk file page", found, wanted: "doubles" };
            assert_eq!(index.decode(&read, page, &mut scratch, &mut |_, _, _| panic!("handed out")), Err(refused.clone()));
            assert_eq!(index.aggregate(&read, page, &steps, &mut scratch, &mut |_, _, _| panic!("handed out")), Err(refused));
        }
    }
    let report = index.report();
    assert_eq!(report.parts.iter().map(|(_, bytes)| bytes).sum::<u64>(), bytes.len() as u64);
    let columns = |encoding: &EncodingReport| encoding.name == "sketch columns" && encoding.points == 300;
    assert!(report.metrics[0].encodings.iter().any(columns), "{:?}", report.metrics[0]);
}

#[test]
fn what_no_page_can_hold_is_refused() {
    let encode = |values: SeriesValues| encode_bucket(&bucket("m", vec![series(1, values)]));
    let bins = |n: usize| (0..n as i32).map(|key| Bin { key, count: 1 + noise(key as u64) }).collect::<Vec<_>>();
    let of = |bins: Vec<Bin>| Sketch { bins, ..Default::default() };
    assert!(encode(vec![of(bins(DISTRIBUTION_ITEMS_MAX))].into()).is_ok());
    assert!(encode(vec![of(bins(DISTRIBUTION_ITEMS_MAX + 1))].into()).unwrap_err().to_string().contains("at most 32768"));
    assert!(encode(vec![of(vec![Bin { key: 2, count: 1 }, Bin { key: 1, count: 1 }])].into()).is_err());
    let mut malformed = cumulative(1, 1);
    malformed[0].layout.positive[0].length = u32::MAX;
    assert!(encode(malformed.into()).is_err());
    let mut wide = cumulative(1, 1);
    wide[0].layout.positive.extend(vec![BucketSpan { offset: 0, length: 0 }; DISTRIBUTION_ITEMS_MAX]);
    assert!(encode(wide.into()).unwrap_err().to_string().contains("native histogram"));
    let twice = vec![series(1, vec![of(bins(1))]), series(1, vec![of(bins(2))])];
    assert!(encode_bucket(&bucket("m", twice)).is_err());
}

/// Pages are cut where they hold enough bins, and again where random bins make them too long for one checksum.
#[test]
fn long_and_wide_series_span_pages_and_chunks() {
    let wide = |n: u64, counts: fn(u64) -> u64| -> Vec<Sketch> {
        let bins = move |seed: u64| {
            (0..1_000).map(move |i| Bin { key: i * 5 + (noise(seed << 12 | i as u64) % 5) as i32, count: counts(seed << 12 | i as u64) })
        };
        (0..n).map(|seed| Sketch { bins: bins(seed).collect(), count: seed, ..Default::default() }).collect()
    };
    let columns = vec![
        series(1, wide(1_300, |_| 1)),
        series(2, wide(280, |seed| noise(seed) | 1)),
        series(3, cumulative(4, 1_500)),
        series(4, cumulative(5, 200)),
        series(5, cumulative(6, 300)),
    ];
    let bytes = file(&[bucket("m", columns.clone())]);
    assert_eq!(rows(&bytes), rows_of(&columns));
    let index = verify_file(shard(), &bytes).unwrap();
    assert!(index.pages.iter().all(|page| page.length <= 1 << 20));
    assert!(index.pages.len() > 20 && index.chunks.len() >= 3, "{} pages, {} chunks", index.pages.len(), index.chunks.len());
    assert!(index.plan_reads(&[4]).iter().all(|read| read.points() >= 200));
}

#[test]
fn every_prefix_and_every_flipped_bit_is_an_error() {
    let columns = vec![series(1, (0..20).map(|i| latencies(i, 20)).collect::<Vec<_>>()), series(2, cumulative(3, 20))];
    let bytes = file(&[bucket("m", columns)]);
    for end in 0..bytes.len() {
        assert!(verify_file(shard(), &bytes[..end]).is_err(), "prefix of {end}");
    }
    let mut damaged = bytes;
    for bit in 0..damaged.len() * 8 {
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_file(shard(), &damaged).is_err(), "bit {bit}");
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn unknown_numbers_of_a_column_are_typed_errors() {
    let unknown = |open: fn(&mut Cursor<'_>) -> Result<OpenColumn, FormatError>, bytes: &[u8]| {
        matches!(open(&mut Cursor::new("test", bytes)), Err(FormatError::Unknown { .. }))
    };
    assert!(unknown(OpenColumn::integers, &[2, 0, 0]));
    assert!(unknown(OpenColumn::integers, &[0, 5, 0]));
    assert!(unknown(OpenColumn::integers, &[0, 9, 0]));
    assert!(unknown(OpenColumn::doubles, &[4, 0, 1, 0, 0, 0, 0]));
    assert!(unknown(OpenColumn::doubles, &[1, 15, 1, 0, 0, 0, 0]));
    assert!(OpenColumn::plain(&mut Cursor::new("test", &[1, 0, 0])).is_err());
    assert!(OpenColumn::integers(&mut Cursor::new("test", &[1, 0, 0])).is_ok());
    assert!(OpenColumn::doubles(&mut Cursor::new("test", &[1, 2, 0, 0, 0, 0, 0])).is_err());
    assert!(OpenColumn::doubles(&mut Cursor::new("test", &[1, 2, 5, 0, 0, 0, 0])).is_ok());
}

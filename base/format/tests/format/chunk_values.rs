//! Sketches and native histograms of the golden files, made of integers alone: the same on every machine.

use tailors_format::chunk::BucketInput;
use tailors_model::histogram::STALE_BITS;
use tailors_model::{Bin, BucketCounts, BucketLayout, BucketSpan, HistogramCounts, NativeHistogram, ResetHint, Sketch};

use super::golden_chunk::{bucket, column, hex, noise, walk};

/// Every form, coder, layout and flavour.
pub(crate) fn buckets() -> Vec<BucketInput> {
    let short = |host: u64| column(host, 10_000, (0..20 + host).map(|i| sketch(host << 32 | i, 30, 4)).collect::<Vec<_>>());
    let mut doubles_then_histograms = vec![column(1, 1_000, (0..30).map(f64::from).collect::<Vec<f64>>())];
    doubles_then_histograms.push(column(1, 1_000, cumulative(7, 60)));
    vec![
        bucket("histogram.cumulative", vec![column(1, 1_000, cumulative(1, 400)), column(2, 15_000, cumulative(2, 90))]),
        bucket("histogram.custom", vec![column(1, 1_000, custom(80)), column(2, 1_000, custom(9))]),
        bucket("histogram.doubles", vec![column(1, 1_000, rates(150)), column(2, 1_000, odd())]),
        bucket("histogram.mixed", doubles_then_histograms),
        bucket("histogram.random", vec![column(1, 1_000, random(40))]),
        bucket("sketch.long", vec![column(1, 1_000, (0..1_200).map(|i| sketch(i, 4, 3)).collect::<Vec<_>>())]),
        bucket("sketch.odd", vec![column(1, 1_000, odd_sketches())]),
        bucket("sketch.random", vec![column(1, 1_000, (0..30).map(random_sketch).collect::<Vec<_>>())]),
        bucket("sketch.short", (0..12).map(short).collect()),
        bucket("sketch.wide", vec![column(1, 1_000, vec![wide(); 140])]),
    ]
}

fn sketch(seed: u64, bins: u64, spread: u64) -> Sketch {
    let keys = (0..bins)
        .map(|i| (1_300 + (i * spread + noise(seed << 16 | i) % spread) as i32, 1 + noise(seed << 20 | i) % (1 + i.min(bins - i))));
    let bins = Sketch::bins_of(keys).unwrap();
    let count: u64 = bins.iter().map(|bin| bin.count).sum();
    let sum = (noise(seed) >> 20) as f64 / 1_024.0;
    // The agent averages as values come, so its average is a little off.
    let avg = f64::from_bits((sum / count as f64).to_bits() + seed % 3);
    Sketch { bins, count, sum, min: f64::from((noise(seed) % 1_000) as f32 / 7.0), max: (noise(seed) % 10_000) as f64 / 10.0, avg }
}

/// 140 of them are more than a page takes.
fn wide() -> Sketch {
    Sketch { bins: (0..1_000).map(|key| Bin { key, count: 1 }).collect(), count: 1_000, ..Default::default() }
}

fn random_sketch(seed: u64) -> Sketch {
    let double = |at: u64| f64::from_bits(noise(seed << 8 | at));
    let bins = (0..50).map(|i| Bin {
        key: i * 40_000_000 - 1_000_000_000 + (noise(seed << 8 | i as u64) % 1_000_000) as i32,
        count: noise(seed << 9 | i as u64) | 1,
    });
    Sketch { bins: bins.collect(), count: noise(seed), sum: double(0), min: double(1), max: double(2), avg: double(3) }
}

fn odd_sketches() -> Vec<Sketch> {
    let empty = Sketch::default();
    let far = Sketch {
        bins: vec![Bin { key: i32::MIN, count: u64::MAX }, Bin { key: 0, count: 1 }, Bin { key: i32::MAX, count: 2 }],
        count: 7,
        sum: f64::NAN,
        min: f64::NEG_INFINITY,
        max: f64::INFINITY,
        avg: f64::from_bits(0x7ff8_0000_0000_0005),
    };
    let one = Sketch { bins: vec![Bin { key: 1_338, count: 1 }], count: 1, sum: 1.0, min: 1.0, max: 1.0, avg: 1.0 };
    vec![empty.clone(), one.clone(), far, one, empty]
}

fn spans(spans: &[(i32, u32)]) -> Vec<BucketSpan> {
    spans.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
}

fn integers(layout: BucketLayout, zero: u64, positive: Vec<u64>, negative: Vec<u64>, sum: f64) -> NativeHistogram {
    let count = positive.iter().chain(&negative).sum::<u64>() + zero;
    let counts = HistogramCounts::Integers(BucketCounts { count, zero, positive, negative });
    NativeHistogram { layout, counts, sum, hint: ResetHint::Unknown }
}

/// Grows a bucket on each side now and then, resets once, ends with a stale marker.
fn cumulative(seed: u64, n: u64) -> Vec<NativeHistogram> {
    let mut counts = vec![0u64; 40];
    let mut out: Vec<NativeHistogram> = Vec::new();
    for i in 0..n {
        if i == n / 2 {
            counts = vec![0; 40];
        }
        counts.iter_mut().enumerate().for_each(|(at, count)| *count += noise(seed << 32 | i << 8 | at as u64) % (1 + at as u64 % 9));
        let more = (i / 70).min(8) as u32;
        let layout = BucketLayout {
            schema: 3,
            zero_threshold: 2f64.powi(-128),
            positive: spans(&[(-12 - more as i32, 8 + more), (3, 6)]),
            negative: spans(&[(1, 2 + more)]),
            bounds: Vec::new(),
        };
        let positive = counts[8 - more as usize..22].to_vec();
        let mut own = integers(layout, counts[39], positive, counts[22..24 + more as usize].to_vec(), 0.0);
        own.sum = counts.iter().sum::<u64>() as f64 / 8.0;
        own.hint = if i == n / 2 { ResetHint::Reset } else { ResetHint::NotReset };
        out.push(own);
    }
    out.push(integers(BucketLayout::default(), 0, Vec::new(), Vec::new(), f64::from_bits(STALE_BITS)));
    out
}

/// Bounds that change once: nothing is the same bucket then.
fn custom(n: u64) -> Vec<NativeHistogram> {
    let histogram = |i: u64| {
        let bounds = if i < n / 2 { vec![0.005, 0.1, 1.0, 2.5] } else { vec![0.005, 0.1, 2.0, 5.0] };
        let layout = BucketLayout { schema: -53, bounds, positive: spans(&[(0, 2), (1, 2)]), ..Default::default() };
        integers(layout, 0, (0..4).map(|at| i * at * 3).collect(), Vec::new(), i as f64 * 1.5)
    };
    (0..n).map(histogram).collect()
}

/// In doubles, as a recording rule leaves them.
fn rates(n: u64) -> Vec<NativeHistogram> {
    let sums: Vec<i64> = walk(31, n, 500).collect();
    let histogram = |i: u64| {
        let layout = BucketLayout {
            schema: -1,
            zero_threshold: 1e-6,
            positive: spans(&[(2, 3)]),
            negative: spans(&[(0, 0), (5, 2)]),
            bounds: Vec::new(),
        };
        let own = |at: u64| (noise(i << 8 | at) % 400) as f64 / 20.0;
        let (positive, negative): (Vec<f64>, Vec<f64>) = ((1..4).map(own).collect(), (4..6).map(own).collect());
        let count = positive.iter().chain(&negative).fold(own(0), |sum, count| sum + count);
        let counts = HistogramCounts::Doubles(BucketCounts { count, zero: own(0), positive, negative });
        NativeHistogram { layout, counts, sum: sums[i as usize] as f64 / 3.0, hint: ResetHint::Gauge }
    };
    (0..n).map(histogram).collect()
}

/// Both flavours in one series; counts that no counter has.
fn odd() -> Vec<NativeHistogram> {
    let layout = || BucketLayout { schema: 8, zero_threshold: -0.0, positive: spans(&[(i32::MAX - 3, 3)]), ..Default::default() };
    let counts = BucketCounts { count: -1.5, zero: f64::NAN, positive: vec![-0.0, f64::INFINITY, 1e300], negative: Vec::new() };
    let doubles = NativeHistogram { layout: layout(), counts: HistogramCounts::Doubles(counts), sum: f64::NAN, hint: ResetHint::Gauge };
    let mut great = integers(layout(), 1, vec![2, 3, 4], Vec::new(), -0.0);
    great.counts =
        HistogramCounts::Integers(BucketCounts { count: 3, zero: u64::MAX, positive: vec![u64::MAX, 0, 9], negative: Vec::new() });
    vec![
        integers(layout(), 1, vec![2, 3, 4], Vec::new(), 1.0),
        doubles.clone(),
        great,
        doubles,
        integers(layout(), 2, vec![2, 9, 4], Vec::new(), 2.0),
    ]
}

fn random(n: u64) -> Vec<NativeHistogram> {
    let histogram = |i: u64| {
        let layout = BucketLayout { schema: (i % 13) as i32 - 4, positive: spans(&[((noise(i) % 99) as i32, 30)]), ..Default::default() };
        let positive: Vec<u64> = (0..30).map(|at| noise(i << 8 | at) >> 8).collect();
        integers(layout, 0, positive, Vec::new(), f64::from_bits(noise(i)))
    };
    (0..n).map(histogram).collect()
}

/// As `reader.py` prints it.
pub(crate) fn shown_sketch(own: &Sketch) -> String {
    let bins: Vec<String> = own.bins.iter().map(|bin| format!("{}={}", bin.key, bin.count)).collect();
    let doubles = [own.sum, own.min, own.max, own.avg].map(hex).join("/");
    format!("sketch/{}/{doubles}/{}", own.count, bins.join(","))
}

/// As `reader.py` prints it.
pub(crate) fn shown_histogram(own: &NativeHistogram) -> String {
    let spans = |spans: &[BucketSpan]| spans.iter().map(|span| format!("{}+{}", span.offset, span.length)).collect::<Vec<_>>().join(",");
    let integer = |count: &u64| count.to_string();
    let double = |count: &f64| hex(*count);
    let counts = match &own.counts {
        HistogramCounts::Integers(own) => shown_counts("integers", own, integer),
        HistogramCounts::Doubles(own) => shown_counts("doubles", own, double),
    };
    let layout = &own.layout;
    let bounds: Vec<String> = layout.bounds.iter().map(|bound| hex(*bound)).collect();
    let (positive, negative, bounds) = (spans(&layout.positive), spans(&layout.negative), bounds.join(","));
    let (schema, threshold, hint, sum) = (layout.schema, hex(layout.zero_threshold), own.hint as u8, hex(own.sum));
    format!("histogram/{schema}/{threshold}/{hint}/{sum}/{positive}/{negative}/{bounds}/{counts}")
}

fn shown_counts<T>(flavour: &str, own: &BucketCounts<T>, one: fn(&T) -> String) -> String {
    let all = |counts: &[T]| counts.iter().map(one).collect::<Vec<_>>().join(",");
    format!("{flavour}/{}/{}/{}/{}", one(&own.count), one(&own.zero), all(&own.positive), all(&own.negative))
}

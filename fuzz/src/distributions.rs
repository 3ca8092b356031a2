//! Sketches and native histograms made of bytes: through a chunk file and back they are the same, and merging loses no count.

use bytes::Bytes;
use tailors_format::chunk::{BucketInput, DecodeScratch, SeriesColumn, SeriesValues, Values, verify_file};
use tailors_model::{BucketCounts, BucketLayout, BucketSpan, HistogramCounts, MetricMeta, NativeHistogram, OrgId, ResetHint, Sketch, Tag};

use crate::files::{chunk_of, shard};

/// Values of one series at most: a search is fast while inputs are small.
const VALUES_MAX: usize = 64;

/// Bytes as numbers; zeros when they are used up.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn i32(&mut self) -> i32 {
        i32::from_le_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    fn u64(&mut self) -> u64 {
        u64::from(self.i32() as u32) << 32 | u64::from(self.i32() as u32)
    }

    /// Mostly small, at times any.
    fn count(&mut self) -> u64 {
        let small = self.u8();
        if small < 250 { u64::from(small) } else { self.u64() }
    }

    /// Mostly a decimal, at times any bits.
    fn double(&mut self) -> f64 {
        let small = self.u8();
        if small < 200 { f64::from(small) / 10.0 } else { f64::from_bits(self.u64()) }
    }
}

fn bucket(series: Vec<SeriesValues>) -> BucketInput {
    let column = |(number, values): (usize, SeriesValues)| SeriesColumn {
        tags: vec![Tag::pair("host", format!("h{number:03}"))],
        meta: MetricMeta::default(),
        timestamps: (0..values.len() as u32).map(|at| at * 1_000).collect(),
        values,
    };
    let series = series.into_iter().enumerate().map(column).collect();
    BucketInput { org: OrgId(7), metric: Bytes::from_static(b"m"), meta: MetricMeta::default(), series }
}

/// Per series 1 B how many values; per value what the numbers say, until the bytes end.
fn split<T>(data: &[u8], one: fn(&mut Numbers<'_>) -> T) -> Vec<Vec<T>> {
    let (mut numbers, mut all) = (Numbers(data), Vec::new());
    while !numbers.0.is_empty() && all.len() < 8 {
        let wanted = 1 + usize::from(numbers.u8()) % VALUES_MAX;
        let mut series = Vec::new();
        while series.len() < wanted && !numbers.0.is_empty() {
            series.push(one(&mut numbers));
        }
        if !series.is_empty() {
            all.push(series);
        }
    }
    all
}

fn sketch(numbers: &mut Numbers<'_>) -> Sketch {
    let (form, mut key) = (numbers.u8(), 0i32);
    let keys: Vec<(i32, u64)> = (0..form % 32)
        .map(|_| {
            key = if form >= 224 { numbers.i32() } else { key + i32::from(numbers.u8() as i8) };
            (key, numbers.count())
        })
        .collect();
    let bins = Sketch::bins_of(keys).unwrap_or_default();
    let total = bins.iter().fold(0u64, |sum, bin| sum.wrapping_add(bin.count));
    let count = if form & 32 == 0 { total } else { numbers.count() };
    Sketch { bins, count, sum: numbers.double(), min: numbers.double(), max: numbers.double(), avg: numbers.double() }
}

fn spans(numbers: &mut Numbers<'_>) -> Vec<BucketSpan> {
    let count = numbers.u8() % 4;
    let span = |at: u8| {
        let (offset, length) = (numbers.u8(), numbers.u8() % 6);
        let offset = if at == 0 { i32::from(offset as i8) } else { i32::from(offset % 16) };
        BucketSpan { offset, length: u32::from(length) }
    };
    (0..count).map(span).collect()
}

fn histogram(numbers: &mut Numbers<'_>) -> NativeHistogram {
    let form = numbers.u8();
    let (schema, bounds) = match form % 14 {
        13 => (-53, (0..form / 32).map(|at| f64::from(at) * 0.5).collect()),
        schema => (i32::from(schema) - 4, Vec::new()),
    };
    let layout = BucketLayout { schema, zero_threshold: numbers.double(), positive: spans(numbers), negative: spans(numbers), bounds };
    let (positive, negative) = layout.buckets();
    let counts = if form & 128 == 0 {
        let (zero, more) = (numbers.count(), numbers.u8() % 8);
        let (positive, negative): (Vec<u64>, Vec<u64>) =
            ((0..positive).map(|_| numbers.count()).collect(), (0..negative).map(|_| numbers.count()).collect());
        let count = positive.iter().chain(&negative).fold(zero, |sum, count| sum.wrapping_add(*count)).wrapping_add(u64::from(more));
        HistogramCounts::Integers(BucketCounts { count, zero, positive, negative })
    } else {
        let (count, zero) = (numbers.double(), numbers.double());
        let (positive, negative) = ((0..positive).map(|_| numbers.double()).collect(), (0..negative).map(|_| numbers.double()).collect());
        HistogramCounts::Doubles(BucketCounts { count, zero, positive, negative })
    };
    NativeHistogram { layout, counts, sum: numbers.double(), hint: ResetHint::from_u8(form % 4).unwrap_or_default() }
}

/// Writes, reads, compares.
fn round_trip(series: Vec<SeriesValues>) {
    let input = bucket(series);
    let bytes = chunk_of(&input).unwrap_or_default();
    let index = verify_file(shard(), &bytes).unwrap_or_else(|error| panic!("what was written is read: {error}"));
    let (mut scratch, mut points) = (DecodeScratch::default(), 0);
    for read in index.plan_reads(&(0..index.series_len()).collect::<Vec<_>>()) {
        let page = &bytes[read.range.start as usize..read.range.end as usize];
        let mut each = |number: u32, times: &[u32], values: Values<'_>| {
            let tags = index.tags(number).unwrap_or_default();
            let sent = input.series.iter().find(|series| series.tags == tags).map(|series| &series.values);
            // A part begins where its first timestamp says.
            let from = times.first().map_or(0, |time| *time as usize / 1_000);
            match (sent, values) {
                (Some(SeriesValues::Sketches(sent)), Values::Sketches(read)) => assert_eq!(&sent[from..from + read.len()], read),
                (Some(SeriesValues::Histograms(sent)), Values::Histograms(read)) => assert_eq!(&sent[from..from + read.len()], read),
                _ => panic!("values of another kind"),
            }
            points += times.len();
        };
        index.decode_values(&read, page, &mut scratch, &mut each).unwrap_or_else(|error| panic!("what was written is read: {error}"));
    }
    assert_eq!(points, input.series.iter().map(|series| series.values.len()).sum::<usize>());
}

/// Sketches through a file; merges of neighbours.
pub(crate) fn sketches(data: &[u8]) -> bool {
    let all = split(data, sketch);
    let total = |sketch: &Sketch| sketch.bins.iter().map(|bin| u128::from(bin.count)).sum::<u128>();
    for pair in all.iter().flat_map(|series| series.windows(2)) {
        let (left, right) = (pair[0].merge(&pair[1]), pair[1].merge(&pair[0]));
        let (Ok(left), Ok(right)) = (&left, &right) else {
            assert!(left.is_err() && right.is_err());
            continue;
        };
        left.check().unwrap_or_else(|error| panic!("merged: {error}"));
        assert_eq!((&left.bins, left.count), (&right.bins, right.count));
        assert_eq!((left.min.to_bits(), left.max.to_bits()), (right.min.to_bits(), right.max.to_bits()));
        assert_eq!(total(left), total(&pair[0]) + total(&pair[1]));
    }
    let is_any = !all.is_empty();
    if is_any {
        round_trip(all.into_iter().map(SeriesValues::from).collect());
    }
    is_any
}

/// Histograms through a file; merges of neighbours.
pub(crate) fn histograms(data: &[u8]) -> bool {
    let all = split(data, histogram);
    let total = |own: &NativeHistogram| match &own.counts {
        HistogramCounts::Integers(own) => own.positive.iter().chain(&own.negative).map(|count| u128::from(*count)).sum::<u128>(),
        HistogramCounts::Doubles(_) => 0,
    };
    for pair in all.iter().flat_map(|series| series.windows(2)) {
        let (left, right) = (pair[0].merge(&pair[1]), pair[1].merge(&pair[0]));
        let (Ok(left), Ok(right)) = (&left, &right) else {
            assert!(left.is_err() && right.is_err());
            continue;
        };
        left.check().unwrap_or_else(|error| panic!("merged: {error}"));
        assert_eq!(left.layout, right.layout);
        assert_eq!(total(left), total(&pair[0]) + total(&pair[1]));
        if let HistogramCounts::Integers(_) = left.counts {
            assert_eq!(left.counts, right.counts);
        }
    }
    let is_any = !all.is_empty();
    if is_any {
        round_trip(all.into_iter().map(SeriesValues::from).collect());
    }
    is_any
}

pub(crate) fn sketch_seeds() -> Vec<Vec<u8>> {
    let one: Vec<u8> = [&[5u8][..], &[10, 3, 2, 1, 5, 9, 4, 1, 1, 2], &[50, 1, 100, 20]].concat();
    vec![[&[3u8][..], &one, &one, &one].concat(), [&[9u8][..], &[225, 1, 2, 3, 4, 255], &[255; 40]].concat(), vec![0; 30]]
}

pub(crate) fn histogram_seeds() -> Vec<Vec<u8>> {
    let one: Vec<u8> = [&[7u8][..], &[1, 2, 250, 3, 1, 2, 1, 4, 2], &[5, 0], &[1, 2, 3, 4, 5, 6, 7], &[10]].concat();
    let doubles: Vec<u8> = [&[136u8][..], &[1, 1, 2, 2, 0], &[50, 10, 30, 20], &[220, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    vec![[&[4u8][..], &one, &one, &one].concat(), [&[9u8][..], &doubles, &one, &doubles].concat(), [&[3u8][..], &[13 + 224; 40]].concat()]
}

/// What a reader of chunk files starts from.
pub(crate) fn seed_buckets() -> Vec<BucketInput> {
    let of = |values: Vec<SeriesValues>| bucket(values);
    let sketches = sketch_seeds().into_iter().map(|seed| of(split(&seed, sketch).into_iter().map(SeriesValues::from).collect()));
    let histograms = histogram_seeds().into_iter().map(|seed| of(split(&seed, histogram).into_iter().map(SeriesValues::from).collect()));
    sketches.chain(histograms).collect()
}

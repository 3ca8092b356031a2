//! What is measured on: the host recording of `fixtures/` and fleets of base/synth, each in one window.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tailors_format::chunk::{BucketInput, SeriesColumn, Span};
use tailors_model::window::{WINDOW_MS, WINDOW_S};
use tailors_model::{MetricMeta, OrgId, Tag, Window, canonical_tags};
use tailors_synth::{Class, Spec};

use crate::Outcome;

/// The tenant of all that is measured.
pub(crate) const ORG: OrgId = OrgId(1);
/// Start of the window that all data is put in, Unix seconds.
pub(crate) const START_S: i64 = 125_000 * WINDOW_S;
/// The span of every file.
pub(crate) const SPAN: Span = Span { start_ms: START_S * 1_000, span_ms: WINDOW_MS as u32 };
/// One seed for all: figures of two runs differ by the code alone.
const SEED: u64 = 4;

/// The window of [`START_S`].
pub(crate) fn window() -> Window {
    Window::of_ms(START_S * 1_000)
}

/// Series by metric, both sorted.
pub(crate) struct Dataset {
    pub(crate) name: &'static str,
    pub(crate) buckets: Vec<BucketInput>,
}

/// Timestamps and values by tags.
type OfMetric = BTreeMap<Vec<Tag>, (Vec<u32>, Vec<f64>)>;
type Columns = BTreeMap<Bytes, OfMetric>;

/// Tags whose text is one allocation, as the build makes them.
fn in_one_piece(tags: &[Tag]) -> Vec<Tag> {
    let mut rest: Bytes = tags.iter().flat_map(|tag| [&tag.key[..], &tag.value[..]]).collect::<Vec<&[u8]>>().concat().into();
    tags.iter().map(|tag| Tag { key: rest.split_to(tag.key.len()), kind: tag.kind, value: rest.split_to(tag.value.len()) }).collect()
}

impl Dataset {
    fn of(name: &'static str, columns: Columns) -> Self {
        let bucket = |(metric, series): (Bytes, OfMetric)| {
            let column = |(tags, (timestamps, values)): (Vec<Tag>, (_, Vec<f64>))| SeriesColumn {
                tags: in_one_piece(&tags),
                meta: MetricMeta::default(),
                timestamps,
                values: values.into(),
            };
            BucketInput { org: ORG, metric, meta: MetricMeta::default(), series: series.into_iter().map(column).collect() }
        };
        Self { name, buckets: columns.into_iter().map(bucket).collect() }
    }

    /// Every series with its metric, in file order of the metrics.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&Bytes, &SeriesColumn)> {
        self.buckets.iter().flat_map(|bucket| bucket.series.iter().map(move |series| (&bucket.metric, series)))
    }

    pub(crate) fn points(&self) -> u64 {
        self.series().map(|(_, series)| series.values.len() as u64).sum()
    }

    /// Sum over all points that any lost, doubled or changed point changes; independent of order.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.series().fold(0, |sum, (_, series)| sum.wrapping_add(fingerprint(&series.timestamps, series.values.doubles())))
    }

    /// The same without the series that `drop` names.
    pub(crate) fn without(&self, drop: impl Fn(&Bytes, &SeriesColumn) -> bool) -> Self {
        let mut buckets = Vec::new();
        for bucket in &self.buckets {
            let series: Vec<_> = bucket.series.iter().filter(|series| !drop(&bucket.metric, series)).cloned().collect();
            if !series.is_empty() {
                buckets.push(BucketInput { org: ORG, metric: bucket.metric.clone(), meta: bucket.meta.clone(), series });
            }
        }
        Self { name: self.name, buckets }
    }
}

/// [`Dataset::fingerprint`] of a part; timestamps are milliseconds from the window's start.
pub(crate) fn fingerprint(timestamps: &[u32], values: &[f64]) -> u64 {
    let one = |(time, value): (&u32, &f64)| {
        (value.to_bits() ^ u64::from(*time).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    };
    timestamps.iter().zip(values).map(one).fold(0, |sum, point: u64| sum.wrapping_add(point.wrapping_mul(point | 1)))
}

/// The recording that lies in the repository.
pub(crate) fn host_fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/host-1hz.csv.zst")
}

/// A CSV (`timestamp,metric,tags,value`, plain or zstd), its first second moved to the window's start; the first of equal timestamps counts.
pub(crate) fn host(path: &Path) -> Outcome<Dataset> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let zipped = path.extension().is_some_and(|extension| extension == "zst");
    let input: Box<dyn Read> = if zipped { Box::new(zstd::Decoder::new(file)?) } else { Box::new(file) };
    let mut rows = csv::Reader::from_reader(input);
    let (mut row, mut columns, mut start) = (csv::StringRecord::new(), Columns::new(), None);
    let mut known: BTreeMap<String, Vec<Tag>> = BTreeMap::new();
    while rows.read_record(&mut row)? {
        let [timestamp, metric, tags, value] = [&row[0], &row[1], &row[2], &row[3]];
        let time_ms = (timestamp.parse::<f64>()? * 1_000.0).floor() as i64;
        let offset = u32::try_from(time_ms - *start.get_or_insert(time_ms))?;
        if !known.contains_key(tags) {
            known.insert(tags.to_owned(), tags_of(tags));
        }
        if !columns.contains_key(metric.as_bytes()) {
            columns.insert(Bytes::copy_from_slice(metric.as_bytes()), BTreeMap::new());
        }
        let (Some(series), Some(tags)) = (columns.get_mut(metric.as_bytes()), known.get(tags)) else { continue };
        if !series.contains_key(tags) {
            series.insert(tags.clone(), (Vec::new(), Vec::new()));
        }
        let Some((timestamps, values)) = series.get_mut(tags) else { continue };
        if timestamps.last().is_none_or(|last| *last < offset) {
            timestamps.push(offset);
            values.push(value.parse()?);
        }
    }
    Ok(Dataset::of("host", columns))
}

fn tags_of(text: &str) -> Vec<Tag> {
    let one = |tag: &str| match tag.split_once(':') {
        Some((key, value)) => Tag::pair(key.to_owned(), value.to_owned()),
        None => Tag::bare(tag.to_owned()),
    };
    let mut tags: Vec<Tag> = text.split(',').filter(|tag| !tag.is_empty()).map(one).collect();
    canonical_tags(&mut tags);
    tags
}

fn synthetic(name: &'static str, class: Class, series: u32, step_s: u32) -> Dataset {
    let spec = Spec { class, seed: SEED, series, start_s: START_S, seconds: WINDOW_S as u32, step_s };
    let mut columns = Columns::new();
    for series in tailors_synth::generate(spec) {
        let mut tags: Vec<Tag> = series.tags.into_iter().map(|(key, value)| Tag::pair(key, value)).collect();
        canonical_tags(&mut tags);
        let column = series.points.iter().map(|(at_ms, value)| ((at_ms - START_S * 1_000) as u32, *value)).unzip();
        columns.entry(Bytes::from(series.metric)).or_default().insert(tags, column);
    }
    Dataset::of(name, columns)
}

/// 20,000 series at 1 s, 5 M points: its table is in `docs/numbers.md`.
pub(crate) fn mix(quick: bool) -> Dataset {
    synthetic("mix", Class::Mix, if quick { 4_000 } else { 20_000 }, 1)
}

/// One window of the month: 20 series at 1 s.
pub(crate) fn month() -> Dataset {
    synthetic("month", Class::Month, 20, 1)
}

/// One window of the fleet at 1 s: 500 hosts, quick 100, so that each kind has as many.
pub(crate) fn fleet(quick: bool) -> Dataset {
    synthetic("fleet", Class::Fleet, if quick { 200 } else { 1_000 }, 1)
}

/// 100 series whose points come 10 to 15 whole seconds apart, as likely as not, each series by itself.
pub(crate) fn jitter() -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut columns = OfMetric::new();
    for host in 0..100 {
        let mut at_s = rng.random_range(0..15u32);
        let mut timestamps = Vec::new();
        while i64::from(at_s) < WINDOW_S {
            timestamps.push(at_s * 1_000);
            at_s += rng.random_range(10..=15u32);
        }
        let values = vec![1.0; timestamps.len()];
        columns.insert(vec![Tag::pair("host", format!("host-{host:03}"))], (timestamps, values));
    }
    Dataset::of("jitter", Columns::from([(Bytes::from_static(b"up"), columns)]))
}

/// Kinds of `rw_load.py`, by number.
pub(crate) const KINDS: [&str; 5] = ["gauge", "counter", "constant", "integers", "mantissa"];

/// Kind of a series of `month` or `fleet`.
pub(crate) fn kind_of(metric: &[u8], series: &SeriesColumn) -> usize {
    if let Some(digit) = metric.strip_prefix(b"bench_kind").and_then(|rest| rest.first()) {
        return usize::from(digit.wrapping_sub(b'0'));
    }
    let host =
        series.tags.iter().find(|tag| &tag.key[..] == b"host").and_then(|tag| std::str::from_utf8(tag.value.strip_prefix(b"host-")?).ok());
    let number: usize = host.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if metric == b"fleet_value" { number / 20 % 5 } else { 1 }
}

/// One line per series: metric and tags; what rivals store as labels.
pub(crate) fn label_lines(dataset: &Dataset) -> String {
    let mut lines = String::new();
    for (metric, series) in dataset.series() {
        lines.push_str(&String::from_utf8_lossy(metric));
        lines.push('|');
        lines.push_str(&tags_text(&series.tags));
        lines.push('\n');
    }
    lines
}

/// `k:v,k:v`.
pub(crate) fn tags_text(tags: &[Tag]) -> String {
    let one = |tag: &Tag| {
        let (key, value) = (String::from_utf8_lossy(&tag.key), String::from_utf8_lossy(&tag.value));
        if tag.kind == tailors_model::TagKind::Bare { key.into_owned() } else { format!("{key}:{value}") }
    };
    tags.iter().map(one).collect::<Vec<_>>().join(",")
}

//! Bench `codec`: bytes per point of whole chunk files (labels and checksums in), and what writing and reading them costs on one core.
//!
//! In: the host recording, and base/synth's `mix`, `month`, `fleet`, each in one window. Every file is read back and compared before it counts.
//! Parts of a file have no reach of their own; the entropy that bounds a decimal metric is computed from the very data.

use std::collections::BTreeMap;
use std::path::Path;

use tailors_format::chunk::{
    Aggregate, BucketInput, ChunkFile, ChunkIndex, ChunkReport, DecodeScratch, EachSeries, Steps, assemble, encode_bucket, verify_file,
};
use tailors_model::{OrgId, ShardId};

use crate::Outcome;
use crate::churn;
use crate::data::{self, Dataset, KINDS, SPAN, fingerprint};
use crate::day;
use crate::report::Row;
use crate::rivals::{Measured, gorilla, parquet, zstd};
use crate::timing::{best_s, keep, time_cpu};

pub(crate) const BYTES_PER_POINT: &str = "B/point";
pub(crate) const SPEED: &str = "M points/s/core";
/// A query's steps: a minute each, through the window.
const STEPS: Steps = Steps { start: 0, step: 60_000, count: SPAN.span_ms / 60_000 };
/// Points of a series, on average, from which on increments say what its values must cost; of shorter ones the first values do too.
const INCREMENTS_FROM: usize = 1_000;
/// (kind, reach in month, reach in fleet, VictoriaMetrics, Prometheus), bytes/point.
const KIND_REACH: [(usize, f64, f64, f64, f64); 5] = [
    (0, 0.72, 0.72, 0.721, 6.53),
    (1, 0.535, 0.535, 0.607, 2.12),
    (2, 0.0003, 0.0003, 0.0003, 0.51),
    (3, 0.675, 0.62, 0.720, 1.46),
    (4, 6.16, 6.16, 5.44, 6.81),
];

/// All rows, or those of one data set.
pub(crate) fn run(host: &Path, quick: bool, only: Option<&str>) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    if wanted("host") {
        measure_host(&data::host(host)?, quick, &mut rows)?;
    }
    if wanted("mix") {
        measure_mix(&data::mix(quick), quick, &mut rows)?;
    }
    if wanted("month") {
        measure_kinds(&data::month(), quick, &mut rows)?;
    }
    if wanted("fleet") {
        measure_kinds(&data::fleet(quick), quick, &mut rows)?;
    }
    if wanted("jitter") {
        measure_jitter(&data::jitter(), &mut rows)?;
    }
    if wanted("day") {
        day::measure(quick, &mut rows)?;
    }
    if wanted("churn") {
        churn::measure(quick, &mut rows)?;
    }
    if rows.is_empty() { Err(format!("no data set {}", only.unwrap_or_default()).into()) } else { Ok(rows) }
}

pub(crate) fn shard() -> ShardId {
    ShardId::of_org(OrgId(1), 64)
}

/// Files of a data set, opened.
struct Stored {
    files: Vec<(ChunkFile, ChunkIndex)>,
    points: u64,
    encode_s: f64,
}

impl Stored {
    /// Encodes, checks every byte, compares every point.
    fn of(dataset: &Dataset) -> Outcome<Self> {
        let (files, encode_s) = time_cpu(|| encode(&dataset.buckets));
        let (mut opened, mut sum) = (Vec::new(), 0u64);
        for file in files? {
            let index = verify_file(shard(), &file.bytes)?;
            opened.push((file, index));
        }
        let stored = Self { points: dataset.points(), files: opened, encode_s };
        stored.read(&mut |_, times, values| sum = sum.wrapping_add(fingerprint(times, values)))?;
        if sum != dataset.fingerprint() {
            return Err(format!("{}: read back other points than were written", dataset.name).into());
        }
        Ok(stored)
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(file, _)| file.bytes.len() as u64).sum()
    }

    fn bytes_per_point(&self) -> f64 {
        self.bytes() as f64 / self.points as f64
    }

    fn reports(&self) -> Vec<ChunkReport> {
        self.files.iter().map(|(_, index)| index.report()).collect()
    }

    fn read(&self, each: &mut EachSeries<'_>) -> Outcome<()> {
        let mut scratch = DecodeScratch::default();
        for (file, index) in &self.files {
            let all: Vec<u32> = (0..index.series_len()).collect();
            for read in index.plan_reads(&all) {
                index.decode(&read, &file.bytes[read.range.start as usize..read.range.end as usize], &mut scratch, each)?;
            }
        }
        Ok(())
    }

    fn decode_s(&self) -> Outcome<f64> {
        best_s(20, 2.0, || self.read(&mut |_, times, values| keep(times, values)))
    }

    /// Opening by the trailer, and an aggregate of all series per step, as a query of everything takes it.
    fn scan_s(&self) -> Outcome<f64> {
        let points: u64 = self.scan()?.iter().map(|own| own.count + own.nans).sum();
        if points != self.points {
            return Err(format!("a scan saw {points} points of {}", self.points).into());
        }
        best_s(20, 2.0, || self.scan())
    }

    fn scan(&self) -> Outcome<Vec<Aggregate>> {
        let (mut out, mut scratch) = (vec![Aggregate::NONE; STEPS.count as usize], DecodeScratch::default());
        for (file, _) in &self.files {
            let index = open(&file.bytes)?;
            let all: Vec<u32> = (0..index.series_len()).collect();
            let mut each = |_: u32, step: u32, aggregates: &[Aggregate]| {
                out[step as usize..].iter_mut().zip(aggregates).for_each(|(out, own)| out.add(own));
            };
            for read in index.plan_aggregate(&all, &STEPS, &mut each)? {
                let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
                index.aggregate(&read, bytes, &STEPS, &mut scratch, &mut each)?;
            }
        }
        Ok(out)
    }
}

/// Opens a file in memory by its trailer, as a reader does.
pub(crate) fn open(bytes: &[u8]) -> Outcome<ChunkIndex> {
    let length = bytes.len() as u64;
    let tail = ChunkIndex::tail_range(bytes, length)?;
    Ok(ChunkIndex::parse(shard(), &bytes[tail.start as usize..], length)?)
}

pub(crate) fn encode(buckets: &[BucketInput]) -> Outcome<Vec<ChunkFile>> {
    let encoded = buckets.iter().map(encode_bucket).collect::<Result<Vec<_>, _>>()?;
    Ok(assemble(shard(), SPAN, encoded)?)
}

/// Rivals of a data set, all measured now.
struct Rivals([(&'static str, Measured); 4]);

impl Rivals {
    fn of(dataset: &Dataset) -> Outcome<Self> {
        Ok(Self([
            ("Parquet+zstd", parquet::measure(dataset, parquet::Values::Dictionary)?),
            ("Parquet+zstd split", parquet::measure(dataset, parquet::Values::ByteStreamSplit)?),
            ("zstd-3", zstd::measure(dataset)?),
            ("Gorilla", gorilla::measure(dataset)?),
        ]))
    }

    fn beside(&self, row: Row, value: impl Fn(&Measured) -> f64) -> Row {
        self.0.iter().fold(row, |row, (name, measured)| row.rival(name, value(measured)))
    }

    fn sizes(&self, row: Row, points: u64) -> Row {
        self.beside(row, |measured| measured.bytes as f64 / points as f64)
    }

    /// The smaller of both Parquets, bytes.
    fn parquet_bytes(&self) -> usize {
        self.0[0].1.bytes.min(self.0[1].1.bytes)
    }

    fn zstd_decode_s(&self) -> f64 {
        self.0[2].1.decode_s
    }
}

fn measure_host(dataset: &Dataset, quick: bool, rows: &mut Vec<Row>) -> Outcome<()> {
    let (stored, rivals) = (Stored::of(dataset)?, Rivals::of(dataset)?);
    let size = Row::lower("host: size", stored.bytes_per_point(), BYTES_PER_POINT).reach(0.33);
    rows.push(rivals.sizes(size, stored.points).recorded("VictoriaMetrics", 1.31).recorded("Prometheus", 1.67));
    push_parts(dataset.name, &stored, rows);
    push_speeds(dataset, &stored, &rivals, false, quick, rows)
}

fn measure_mix(dataset: &Dataset, quick: bool, rows: &mut Vec<Row>) -> Outcome<()> {
    let (stored, rivals) = (Stored::of(dataset)?, Rivals::of(dataset)?);
    let reach = 0.54 * rivals.parquet_bytes() as f64 / stored.points as f64;
    rows.push(rivals.sizes(Row::lower("mix: size", stored.bytes_per_point(), BYTES_PER_POINT).reach(reach), stored.points));
    push_parts(dataset.name, &stored, rows);
    let reports = stored.reports();
    for bucket in &dataset.buckets {
        let Some((entropy, of_increments)) = entropy_bytes(bucket) else { continue };
        let own = reports.iter().flat_map(|report| &report.metrics).filter(|metric| metric.metric.as_bytes() == bucket.metric);
        let (bytes, points) = own.fold((0, 0), |sum, metric| (sum.0 + metric.bytes, sum.1 + metric.points));
        let name = format!("mix: values of {}", String::from_utf8_lossy(&bucket.metric));
        let row = Row::lower(name, bytes as f64 / points as f64, BYTES_PER_POINT).rival("order-0 entropy", entropy);
        let bounds = !of_increments || points as usize >= bucket.series.len() * INCREMENTS_FROM;
        rows.push(if bounds { row.reach(1.03 * entropy + 0.005) } else { row });
    }
    push_speeds(dataset, &stored, &rivals, true, quick, rows)
}

/// What timestamps cost that follow no grid.
fn measure_jitter(dataset: &Dataset, rows: &mut Vec<Row>) -> Outcome<()> {
    let stored = Stored::of(dataset)?;
    let parts = stored.reports().into_iter().flat_map(|report| report.parts);
    let times: u64 = parts.filter(|(part, _)| *part == "times").map(|(_, bytes)| bytes).sum();
    let row = Row::lower("jitter, 10 to 15 s: timestamps", times as f64 / stored.points as f64, BYTES_PER_POINT).reach(0.36);
    rows.push(row.rival("order-0 entropy", 6f64.log2() / 8.0));
    Ok(())
}

/// Month and fleet: exact; and each kind in a file of its own, as `rw_load.py --kinds` makes it. Constants have no pages: for them counts by how much
/// the common file grows with them.
fn measure_kinds(dataset: &Dataset, quick: bool, rows: &mut Vec<Row>) -> Outcome<()> {
    let (stored, rivals) = (Stored::of(dataset)?, Rivals::of(dataset)?);
    let name = dataset.name;
    let is_month = name == "month";
    let (reach, victoria, prometheus) = if is_month { (1.625, 1.55, 3.53) } else { (1.075, 1.07, 2.84) };
    let size = Row::lower(format!("{name}: size"), stored.bytes_per_point(), BYTES_PER_POINT).reach(reach);
    rows.push(rivals.sizes(size, stored.points).recorded("VictoriaMetrics", victoria).recorded("Prometheus", prometheus));
    push_parts(name, &stored, rows);
    for (kind, month, fleet, victoria, prometheus) in KIND_REACH {
        let bytes_of =
            |dataset: &Dataset| -> Outcome<f64> { Ok(encode(&dataset.buckets)?.iter().map(|file| file.bytes.len() as f64).sum()) };
        let own = dataset.without(|metric, series| data::kind_of(metric, series) != kind);
        let bytes = if KINDS[kind] == "constant" {
            stored.bytes() as f64 - bytes_of(&dataset.without(|metric, series| data::kind_of(metric, series) == kind))?
        } else {
            bytes_of(&own)?
        };
        let row = Row::lower(format!("{name}: {}", KINDS[kind]), bytes / own.points() as f64, BYTES_PER_POINT);
        let row = row.reach(if is_month { month } else { fleet });
        rows.push(row.recorded("VictoriaMetrics", victoria).recorded("Prometheus", prometheus));
    }
    if is_month {
        return Ok(());
    }
    push_speeds(dataset, &stored, &rivals, false, quick, rows)?;
    push_one_series(dataset, &stored, rows)
}

fn push_parts(name: &str, stored: &Stored, rows: &mut Vec<Row>) {
    let mut parts: BTreeMap<usize, (&'static str, u64)> = BTreeMap::new();
    let reports = stored.reports();
    for report in &reports {
        for (place, (part, bytes)) in report.parts.iter().enumerate() {
            parts.entry(place).or_insert((part, 0)).1 += bytes;
        }
    }
    for (part, bytes) in parts.into_values() {
        rows.push(Row::lower(format!("{name}: of it {part}"), bytes as f64 / stored.points as f64, BYTES_PER_POINT));
    }
    let part_bytes = |wanted: &str| {
        reports.iter().flat_map(|report| &report.parts).filter(|(part, _)| *part == wanted).map(|(_, bytes)| *bytes).sum::<u64>()
    };
    let series: u64 = reports.iter().map(|report| report.series).sum();
    let index = part_bytes("labels") + part_bytes("series index");
    rows.push(Row::lower(format!("{name}: labels and series index"), index as f64 / series as f64, "B/series"));
}

/// The reach of issue 5 is for `mix`; the others show how it varies with the data.
fn push_speeds(dataset: &Dataset, stored: &Stored, rivals: &Rivals, has_reach: bool, quick: bool, rows: &mut Vec<Row>) -> Outcome<()> {
    let name = dataset.name;
    let speed = |seconds: f64| stored.points as f64 / seconds / 1e6;
    let encode_s = best_s(if quick { 2 } else { 5 }, 3.0, || encode(&dataset.buckets))?.min(stored.encode_s);
    let (decode_s, scan_s) = (stored.decode_s()?, stored.scan_s()?);
    let reach = |row: Row, reach: f64| if has_reach { row.reach(reach) } else { row };
    let encode = reach(Row::higher(format!("{name}: encode"), speed(encode_s), SPEED), 30.0);
    rows.push(rivals.beside(encode, |measured| speed(measured.encode_s)));
    let decode = reach(Row::higher(format!("{name}: page decode"), speed(decode_s), SPEED), 280.0);
    rows.push(rivals.beside(decode, |measured| speed(measured.decode_s)));
    let scan = reach(Row::higher(format!("{name}: whole-file scan"), speed(scan_s), SPEED), 250.0);
    rows.push(rivals.beside(scan, |measured| speed(measured.decode_s)).recorded("VictoriaMetrics", 125.0).recorded("Prometheus", 19.0));
    let ratio = reach(Row::higher(format!("{name}: page decode / zstd-3's"), rivals.zstd_decode_s() / decode_s, "x"), 1.5);
    rows.push(ratio.rival("zstd-3", 1.0));
    Ok(())
}

/// One series of 4 h at 1 s, the median of several two-decimal gauges: index (or footer) cached, bytes in memory.
fn push_one_series(dataset: &Dataset, stored: &Stored, rows: &mut Vec<Row>) -> Outcome<()> {
    let cached = parquet::Cached::open(parquet::write(dataset, parquet::Values::ByteStreamSplit)?)?;
    let (mut ours, mut theirs, mut gorillas) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut scratch) = (0, DecodeScratch::default());
    for (metric, series) in dataset.series() {
        let points = series.values.len();
        let row = first;
        first += points;
        if data::kind_of(metric, series) != 0 || ours.len() == 20 {
            continue;
        }
        ours.push(best_s(20, 0.05, || read_one(stored, metric, &series.tags, points, &mut scratch))? * 1e6);
        theirs.push(
            best_s(5, 0.1, || cached.rows(row, points).and_then(|n| if n == points { Ok(()) } else { Err("Parquet: other rows".into()) }))?
                * 1e6,
        );
        let stream = gorilla::encode(&series.timestamps, series.values.doubles());
        let (mut times, mut values) = (Vec::new(), Vec::new());
        gorillas.push(
            best_s(10, 0.05, || -> Outcome<()> {
                gorilla::decode(&stream, &mut times, &mut values);
                Ok(())
            })? * 1e6,
        );
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let row = Row::lower("fleet: one 4 h series from memory", median(ours), "us").reach(60.0);
    rows.push(row.rival("Parquet, footer cached", median(theirs)).rival("Gorilla, bytes at hand", median(gorillas)));
    Ok(())
}

/// Finds the series by its labels, plans, decodes.
fn read_one(stored: &Stored, metric: &[u8], tags: &[tailors_model::Tag], points: usize, scratch: &mut DecodeScratch) -> Outcome<f64> {
    let (mut sum, mut got) = (0.0, 0);
    for (file, index) in &stored.files {
        for read in index.plan_reads(&index.find(data::ORG, metric, tags)?) {
            index.decode(&read, &file.bytes[read.range.start as usize..read.range.end as usize], scratch, &mut |_, _, values| {
                got += values.len();
                sum += values.first().copied().unwrap_or(0.0);
            })?;
        }
    }
    if got == points { Ok(sum) } else { Err(format!("{got} points of {points} of one series").into()) }
}

/// Order-0 entropy of a metric's increments or of its values, whichever is less, bytes per point, with Miller and Madow's correction.
/// What is no number (NaN, infinities, -0.0) is a symbol of its own. Also says whether it is that of increments. `None` for constants and for what
/// is no decimal.
fn entropy_bytes(bucket: &BucketInput) -> Option<(f64, bool)> {
    let mut values: BTreeMap<(bool, i64), u64> = BTreeMap::new();
    let mut increments = values.clone();
    for series in &bucket.series {
        let mut before = None;
        for value in series.values.doubles() {
            // Ten thousandths hold every decimal of base/synth exactly.
            let scaled = (value * 10_000.0).round();
            if !value.is_finite() || value.to_bits() == (-0.0f64).to_bits() {
                let symbol = (true, value.to_bits() as i64);
                *values.entry(symbol).or_default() += 1;
                *increments.entry(symbol).or_default() += 1;
                continue;
            }
            if scaled / 10_000.0 != *value {
                return None;
            }
            *values.entry((false, scaled as i64)).or_default() += 1;
            if let Some(before) = before.replace(scaled as i64) {
                *increments.entry((false, scaled as i64 - before)).or_default() += 1;
            }
        }
    }
    let (values, increments) = (bits(&values) / 8.0, bits(&increments) / 8.0);
    (values > 0.0).then_some((values.min(increments), increments < values))
}

fn bits<K>(counts: &BTreeMap<K, u64>) -> f64 {
    let total = counts.values().sum::<u64>() as f64;
    let plain: f64 = counts.values().map(|count| -(*count as f64) * (*count as f64 / total).log2()).sum::<f64>() / total;
    plain + (counts.len().saturating_sub(1)) as f64 / (2.0 * total) * std::f64::consts::LOG2_E
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_a_coin_is_a_bit() {
        let counts = BTreeMap::from([(0, 500_000), (1, 500_000)]);
        assert!((bits(&counts) - 1.0).abs() < 1e-5);
        assert_eq!(bits(&BTreeMap::from([(3, 9)])), 0.0);
    }
}

//! A window in which a million containers came and went: what a series costs when it has 30 points.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tailors_format::chunk::{BucketInput, ChunkFile, ChunkIndex, DecodeScratch, SeriesColumn, verify_file};
use tailors_model::{MetricMeta, Tag, canonical_tags};

use crate::Outcome;
use crate::codec::{BYTES_PER_POINT, SPEED, encode, open, shard};
use crate::data::{Dataset, ORG, SPAN, fingerprint};
use crate::report::Row;
use crate::rivals::parquet;
use crate::timing::{best_s, time_cpu};

/// Metrics that the series are spread over; each series has a container of its own, so that none shares its labels.
const METRICS: u32 = 4;
const POINTS: u32 = 30;
const STEP_MS: u32 = 10_000;

/// How a container is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    /// 16 random hexadecimal digits: 8 bytes that nothing can spare.
    Uid,
    /// Counted through.
    Counted,
}

/// `series` series of 5 minutes, points every 10 s; a walk of integers.
fn dataset(series: u32, name: Name) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let bucket = |metric: u32| BucketInput {
        org: ORG,
        metric: format!("container.metric_{metric:02}").into(),
        meta: MetricMeta::default(),
        series: Vec::new(),
    };
    let mut buckets: Vec<BucketInput> = (0..METRICS).map(bucket).collect();
    for number in 0..series {
        let uid: u64 = rng.random();
        let uid = if name == Name::Uid { format!("{uid:016x}") } else { format!("{number:016x}") };
        let pair = |key: &'static str, value: String| Tag::pair(key, value);
        let (host, service) = (format!("host-{:04}", number % 500), format!("svc-{:02}", number % 40));
        let mut tags = vec![pair("container_id", uid), pair("host", host), pair("service", service), pair("env", "prod".to_owned())];
        canonical_tags(&mut tags);
        // Agents look at fixed seconds of their own.
        let start = rng.random_range(0..(SPAN.span_ms - POINTS * STEP_MS) / 1_000) * 1_000;
        let timestamps = (0..POINTS).map(|i| start + i * STEP_MS).collect();
        let mut value = rng.random_range(0..1_000);
        let mut next = || {
            value += rng.random_range(-8..=8);
            f64::from(value)
        };
        let values = (0..POINTS).map(|_| next()).collect::<Vec<f64>>().into();
        buckets[(number % METRICS) as usize].series.push(SeriesColumn { tags, meta: MetricMeta::default(), timestamps, values });
    }
    // A build's rows come sorted.
    buckets.iter_mut().for_each(|bucket| bucket.series.sort_unstable_by(|a, b| a.tags.cmp(&b.tags)));
    Dataset { name: "churn", buckets }
}

/// A file and its index.
type Opened = (ChunkIndex, ChunkFile);

/// Bytes of labels and series index.
fn index_bytes(index: &ChunkIndex) -> u64 {
    let of_series = ["labels", "series index", "times"];
    index.report().parts.iter().filter(|(part, _)| of_series.contains(part)).map(|(_, bytes)| bytes).sum()
}

/// All rows.
pub(crate) fn measure(quick: bool, rows: &mut Vec<Row>) -> Outcome<()> {
    let series = if quick { 100_000 } else { 1_000_000 };
    let data = dataset(series, Name::Uid);
    let (files, encode_s) = time_cpu(|| encode(&data.buckets));
    let files: Vec<Opened> = files?.into_iter().map(|file| Ok((verify_file(shard(), &file.bytes)?, file))).collect::<Outcome<_>>()?;
    let theirs = parquet::measure(&data, parquet::Values::Dictionary)?;
    let (points, fingerprint) = (data.points() as f64, data.fingerprint());
    drop(data);
    let metric = b"container.metric_01";
    let of_metric = |index: &ChunkIndex| -> Vec<u32> {
        index.metrics().iter().filter(|own| own.metric == metric[..]).flat_map(|own| own.series.clone()).collect()
    };
    let one_metric_s = best_s(5, 2.0, || read(&files, of_metric))?;
    if read(&files, |index| (0..index.series_len()).collect())? != fingerprint {
        return Err("churn: read back other points than were written".into());
    }
    let open_s = best_s(5, 2.0, || files.iter().map(|(_, file)| open(&file.bytes)).collect::<Outcome<Vec<_>>>())?;
    let with_labels = || files.iter().map(|(_, file)| open(&file.bytes).and_then(|index| Ok(index.tags(0)?))).collect::<Outcome<Vec<_>>>();
    let label_s = best_s(5, 5.0, with_labels)? - open_s;
    let counted = encode(&dataset(series, Name::Counted).buckets)?;
    let counted: u64 = counted.iter().map(|file| open(&file.bytes).map(|index| index_bytes(&index))).sum::<Outcome<u64>>()?;
    let bytes: u64 = files.iter().map(|(index, _)| index_bytes(index)).sum();
    let (size, n) = (files.iter().map(|(_, file)| file.bytes.len()).sum::<usize>() as f64, f64::from(series));
    let asked: usize = files.iter().map(|(index, _)| of_metric(index).len()).sum();

    let size = Row::lower(format!("churn, {series} series of {POINTS}: size"), size / points, BYTES_PER_POINT);
    rows.push(size.rival("Parquet+zstd", theirs.bytes as f64 / points));
    rows.push(Row::lower("churn: index, times and labels", bytes as f64 / n, "B/series").reach(28.0));
    rows.push(Row::lower("churn: of it uids", (bytes as f64 - counted as f64) / n, "B/series"));
    let build = Row::higher("churn: encode", points / encode_s / 1e6, SPEED);
    rows.push(build.rival("Parquet+zstd", points / theirs.encode_s / 1e6));
    rows.push(Row::lower("churn: open, index in memory", open_s * 1e3, "ms"));
    rows.push(Row::lower("churn: labels, when first asked for", label_s * 1e3, "ms"));
    let scan = Row::lower(format!("churn: one metric of {METRICS}, {} series", asked), one_metric_s * 1e3, "ms");
    rows.push(scan.rival("Parquet+zstd, all rows", theirs.decode_s * 1e3));
    Ok(())
}

/// Reads some series of each file; the fingerprint of their points.
fn read(files: &[Opened], series: impl Fn(&ChunkIndex) -> Vec<u32>) -> Outcome<u64> {
    let (mut sum, mut scratch) = (0u64, DecodeScratch::default());
    for (index, file) in files {
        for read in index.plan_reads(&series(index)) {
            let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
            index.decode(&read, bytes, &mut scratch, &mut |_, times, values| sum = sum.wrapping_add(fingerprint(times, values)))?;
        }
    }
    Ok(sum)
}

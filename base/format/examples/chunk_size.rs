//! Bytes per point, by part, of a CSV (`timestamp,metric,tags,value`; plain or .zst) in one chunk file, and the speed of encode and decode on one
//! core: `cargo run -p tailors-format --example chunk_size -- fixtures/host-1hz.csv.zst [metrics]`. The file's first second becomes the window's.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::time::Instant;

use bytes::Bytes;
use tailors_format::chunk::{BucketInput, ChunkIndex, DecodeScratch, SeriesColumn, Span, assemble, encode_bucket, verify_file};
use tailors_model::window::WINDOW_MS;
use tailors_model::{MetricMeta, OrgId, ShardId, Tag, canonical_tags};

type Columns = BTreeMap<Bytes, BTreeMap<Vec<Tag>, (Vec<u32>, Vec<f64>)>>;

fn read_csv(path: &str) -> Result<Columns, Box<dyn Error>> {
    let file = File::open(path)?;
    let input: Box<dyn Read> = if path.ends_with(".zst") { Box::new(zstd::Decoder::new(file)?) } else { Box::new(file) };
    let mut rows = csv::Reader::from_reader(input);
    let (mut row, mut columns, mut start) = (csv::StringRecord::new(), Columns::new(), None);
    while rows.read_record(&mut row)? {
        let [timestamp, metric, tags, value] = [&row[0], &row[1], &row[2], &row[3]];
        let time_ms = (timestamp.parse::<f64>()? * 1_000.0).floor() as i64;
        let start = *start.get_or_insert(time_ms);
        let split = |tag: &str| match tag.split_once(':') {
            Some((key, value)) => Tag::pair(key.to_owned(), value.to_owned()),
            None => Tag::bare(tag.to_owned()),
        };
        let mut tags: Vec<Tag> = tags.split(',').filter(|tag| !tag.is_empty()).map(split).collect();
        canonical_tags(&mut tags);
        let column = columns.entry(Bytes::copy_from_slice(metric.as_bytes())).or_default().entry(tags).or_default();
        let offset = u32::try_from(time_ms - start)?;
        if column.0.last().is_none_or(|last| *last < offset) {
            column.0.push(offset);
            column.1.push(value.parse()?);
        }
    }
    Ok(columns)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which CSV?")?;
    let buckets: Vec<BucketInput> = read_csv(&path)?
        .into_iter()
        .map(|(metric, series)| {
            let series = series.into_iter().map(|(tags, (timestamps, values))| SeriesColumn {
                tags,
                meta: MetricMeta::default(),
                timestamps,
                values,
            });
            BucketInput { org: OrgId(1), metric, meta: MetricMeta::default(), series: series.collect() }
        })
        .collect();
    let shard = ShardId::of_org(OrgId(1), 64);
    let span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };
    let started = Instant::now();
    let encoded = buckets.iter().map(encode_bucket).collect::<Result<Vec<_>, _>>()?;
    let buckets_s = started.elapsed().as_secs_f64();
    let files = assemble(shard, span, encoded)?;
    let encode_s = started.elapsed().as_secs_f64();
    let truth: BTreeMap<(&Bytes, &Vec<Tag>), &SeriesColumn> =
        buckets.iter().flat_map(|bucket| bucket.series.iter().map(move |series| ((&bucket.metric, &series.tags), series))).collect();
    for file in files {
        let started = Instant::now();
        verify_file(shard, &file.bytes)?;
        let verify_s = started.elapsed().as_secs_f64();
        let tail = ChunkIndex::tail_range(&file.bytes, file.bytes.len() as u64)?;
        let started = Instant::now();
        let index = ChunkIndex::parse(shard, &file.bytes[tail.start as usize..], file.bytes.len() as u64)?;
        let open_s = started.elapsed().as_secs_f64();
        let all: Vec<u32> = (0..index.series_len()).collect();
        let (mut scratch, mut points, mut different) = (DecodeScratch::default(), 0u64, 0u64);
        let started = Instant::now();
        let mut sum = 0.0;
        for read in index.plan_reads(&all) {
            let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
            index.decode(&read, bytes, &mut scratch, &mut |_, times, values| {
                points += times.len() as u64;
                sum += values.iter().sum::<f64>();
            })?;
        }
        let decode_s = started.elapsed().as_secs_f64();
        for metric in index.metrics() {
            let series: Vec<u32> = metric.series.clone().collect();
            for read in index.plan_reads(&series) {
                let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
                index.decode(&read, bytes, &mut scratch, &mut |series, times, values| {
                    let tags = index.tags(series).unwrap_or_default();
                    let same = truth.get(&(&metric.metric, &tags)).is_some_and(|truth| {
                        truth.timestamps == times && truth.values.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits()))
                    });
                    different += u64::from(!same);
                })?;
            }
        }
        let report = index.report();
        let per_point = |bytes: u64| bytes as f64 / file.points as f64;
        let crc = crc32c::crc32c(&file.bytes);
        println!("{} series, {} points ({points} decoded, {different} series different), crc32c {crc:08x}", report.series, file.points);
        for (part, bytes) in &report.parts {
            println!("{part:>16} {bytes:>10} B {:>8.4} B/point", per_point(*bytes));
        }
        println!("{:>16} {:>10} B {:>8.4} B/point", "file", file.bytes.len(), per_point(file.bytes.len() as u64));
        let speed = |seconds: f64| file.points as f64 / seconds / 1e6;
        println!(
            "encode buckets {:.1} M points/s, with assemble {:.1}; verify {:.1}; decode all {:.1}; open {:.1} ms, {} kB in memory",
            speed(buckets_s),
            speed(encode_s),
            speed(verify_s),
            speed(decode_s),
            open_s * 1e3,
            index.memory_bytes() / 1000
        );
        if args.next().is_some() {
            for metric in &report.metrics {
                println!(
                    "{:>9} B {:>8} points {:>6} series  {} {:?}",
                    metric.bytes, metric.points, metric.series, metric.metric, metric.encodings
                );
            }
        }
        assert_eq!((points, different), (file.points, 0), "round trip; checksum of values {sum}");
    }
    Ok(())
}

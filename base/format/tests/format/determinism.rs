//! Equal input, equal bytes: the same points in 100 fresh processes, with series in another order, on other numbers of threads. Whatever
//! changes from process to process (hash seeds, addresses, who is done first) must not reach a file. (formats.md section 3; ARCHITECTURE.md)

use std::process::{Command, Stdio};
use std::sync::Mutex;

use bytes::Bytes;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use tailors_format::chunk::{BucketInput, SeriesColumn, Span, assemble, encode_bucket};
use tailors_format::payload::{PayloadWriter, SeriesMeta, Stamp, TagRef};
use tailors_model::{MetricMeta, OrgId, ShardId, Tag, TagKind, Window, window::WINDOW_MS};

const PROCESSES: u64 = 100;
/// At once.
const TOGETHER: usize = 4;
/// Tells a child which of them it is.
const CHILD: &str = "TAILORS_DETERMINISM_CHILD";
const SPAN: Span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };

/// Values of one kind; every transform and coder gets some.
fn values(metric: usize, host: u64, random: &mut ChaCha8Rng) -> Vec<f64> {
    let n = if metric.is_multiple_of(3) { 900 } else { random.random_range(2..120) };
    let mut level = random.random_range(0..1_000_000i64);
    let mut value = |i: u64| -> f64 {
        level += random.random_range(-30..=30i64);
        match metric {
            0 => level as f64 / 100.0,
            1 => level as f64,
            2 => (level * 4_096) as f64,
            3 => f64::from_bits(random.random()),
            4 => 20.0 + (random.random::<u64>() >> 12) as f64 / 1e15,
            5 => level as f64 / 4_194_304.0,
            6 => (i / 7 % 13 * 5) as f64,
            7 => random.random_range(0..20u32) as f64 / random.random_range(3..12u32) as f64,
            8 if i % 40 == 7 => [f64::NAN, -0.0, f64::INFINITY, f64::from_bits(0x7ff0_0000_0000_0002)][(i / 40 % 4) as usize],
            8 => level as f64 / 10.0,
            _ => host as f64,
        }
    };
    (0..n).map(&mut value).collect()
}

/// The same in every process.
fn input() -> Vec<BucketInput> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let bucket = |(metric, random): (usize, &mut ChaCha8Rng)| {
        let series = (0..30u64).map(|host| {
            let values = values(metric, host, random);
            let step = [1_000, 1_000, 10_000][(host % 3) as usize];
            let jitter = |i: u32| if host % 10 == 3 { i * i % 7 } else { 0 };
            SeriesColumn {
                tags: vec![Tag::pair("env", if host % 2 == 0 { "prod" } else { "dev" }), Tag::pair("host", format!("h{host:04}"))],
                meta: MetricMeta::default(),
                timestamps: (0..values.len() as u32).map(|i| i * step + jitter(i)).collect(),
                values: values.into(),
            }
        });
        let series = series.collect();
        BucketInput { org: OrgId(7), metric: Bytes::from(format!("metric.{metric}")), meta: MetricMeta::default(), series }
    };
    let mut buckets: Vec<BucketInput> = (0..10).map(|metric| bucket((metric, &mut random))).collect();
    // The numbers of another metric in other words: pages that two metrics share.
    let mut again = buckets[0].clone();
    again.metric = Bytes::from_static(b"metric.again");
    for series in &mut again.series {
        series.values = series.values.doubles().iter().map(|value| (value * 100.0).round()).collect::<Vec<f64>>().into();
    }
    buckets.push(again);
    buckets
}

/// Chunk files of the input, shuffled, encoded on some threads in whatever order they come to it.
fn chunk_files(mut buckets: Vec<BucketInput>, seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // As they stand in a file.
    buckets.sort_by(|a, b| a.metric.cmp(&b.metric));
    let mut buckets: Vec<(usize, BucketInput)> = buckets.into_iter().enumerate().collect();
    buckets.shuffle(&mut random);
    buckets.iter_mut().for_each(|(_, bucket)| bucket.series.shuffle(&mut random));
    let (todo, done) = (Mutex::new(buckets), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..1 + seed % 5 {
            scope.spawn(|| {
                loop {
                    let Some((place, bucket)) = todo.lock().unwrap().pop() else { return };
                    let encoded = encode_bucket(&bucket).unwrap();
                    done.lock().unwrap().push((place, encoded));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(place, _)| *place);
    let encoded = done.into_iter().map(|(_, encoded)| encoded).collect();
    let files = assemble(ShardId::of_org(OrgId(7), 64), SPAN, encoded).unwrap();
    files.into_iter().flat_map(|file| file.bytes).collect()
}

/// A payload of the same series; their order is part of it, hash seeds are not.
fn payload(buckets: &[BucketInput]) -> Vec<u8> {
    let mut writer = PayloadWriter::new();
    for bucket in buckets {
        for series in &bucket.series {
            let tags: Vec<TagRef<'_>> =
                series.tags.iter().map(|tag| TagRef { key: &tag.key, kind: TagKind::Pair, value: &tag.value }).collect();
            let number = writer.series(&bucket.metric, &tags, SeriesMeta::default());
            let few = series.values.len().min(20);
            let times: Vec<i64> = series.timestamps[..few].iter().map(|time| SPAN.start_ms + i64::from(*time)).collect();
            writer.points(number, &times, &series.values.doubles()[..few]);
        }
    }
    let window = Window::of_ms(SPAN.start_ms);
    let (admitted_from_ms, admitted_to_ms) = (window.start_ms(), window.end_ms());
    writer.finish(&Stamp { org: OrgId(7), window, received_at_us: 1, intake_id: 2, sequence: 3, admitted_from_ms, admitted_to_ms }).unwrap()
}

/// What a child does; alone it says nothing.
#[test]
fn one_process() {
    let Ok(seed) = std::env::var(CHILD) else { return };
    let buckets = input();
    let payload = Sha256::digest(payload(&buckets));
    let chunk = Sha256::digest(chunk_files(buckets, seed.parse().unwrap()));
    println!("\nhashes {chunk:x} {payload:x}");
}

#[test]
fn a_hundred_processes_write_the_same_bytes() {
    let hashes = |seed: u64| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "determinism::one_process", "--nocapture"]).env(CHILD, seed.to_string());
        child.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
    };
    let mut first = None;
    for seeds in (0..PROCESSES).collect::<Vec<_>>().chunks(TOGETHER) {
        let children: Vec<_> = seeds.iter().map(|seed| (*seed, hashes(*seed))).collect();
        for (seed, child) in children {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = said.lines().find(|line| line.starts_with("hashes ")).unwrap_or_else(|| panic!("process {seed} said {said}"));
            let first = first.get_or_insert_with(|| line.to_owned());
            assert_eq!(line, first, "process {seed} wrote other bytes");
        }
    }
}

//! A day's file over a real store in memory: what its windows held, the same bytes for any number of cores, damage named by its file.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use object_store::memory::InMemory;
use tailors_build::{BuildError, DayOrder, DayOutput, Settings, run_day};
use tailors_format::chunk::{BucketInput, DayTally, ENCODER_VERSION, SeriesColumn, Span, assemble, encode_bucket, verify_day_file};
use tailors_format::doc::{Counts, FileRole, ManifestDoc, ManifestFile, ManifestKind};
use tailors_format::key;
use tailors_model::window::{DAY_MS, WINDOW_MS};
use tailors_model::{Clock, ManualClock, MetricMeta, OrgId, ShardId, Tag, Window};
use tailors_store::{Objects, manifests};

fn day() -> Window {
    Window::of_ms(20_000 * DAY_MS)
}

fn shard() -> ShardId {
    ShardId::of_org(OrgId(1), 64)
}

/// Three small metrics and one of 40 series whose pages are encoded anew.
fn file(window: Window, number: u64, extra: u64) -> Bytes {
    let series = |metric: u64, series: u64| {
        let seed = metric << 32 | series << 16 | number << 8 | extra;
        let value = |i: u32| (u64::from(i).wrapping_mul(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 | 1) >> 3) % 50_000;
        SeriesColumn {
            tags: vec![Tag::pair("host", format!("h{series:04}"))],
            meta: MetricMeta::default(),
            timestamps: (0..720).map(|i| i * 20_000).collect(),
            values: (0..720).map(|i| value(i) as f64 / 100.0).collect::<Vec<f64>>().into(),
        }
    };
    let bucket = |metric: u64| BucketInput {
        org: OrgId(1),
        metric: Bytes::from(format!("metric.{metric}")),
        meta: MetricMeta::default(),
        series: (0..if metric == 2 { 40 } else { 2 + extra }).map(|own| series(metric, own)).collect(),
    };
    let span = Span { start_ms: window.start_ms(), span_ms: WINDOW_MS as u32 };
    let encoded = (0..4).map(|metric| encode_bucket(&bucket(metric)).unwrap()).collect();
    assemble(shard(), span, encoded).unwrap().remove(0).bytes.into()
}

/// Stores a window's file and gives its manifest.
async fn generation(objects: &Objects, window: Window, number: u64, extra: u64) -> ManifestDoc {
    let bytes = file(window, number, extra);
    let key = key::chunk(shard(), window, 1 + extra as u32, "a", 0);
    objects.put_data(&key, bytes.clone()).await.unwrap();
    let points = (40 + 3 * (2 + extra)) * 720;
    let file = ManifestFile {
        key,
        role: FileRole::Base,
        from_ms: window.start_ms(),
        to_ms: window.end_ms(),
        bytes: bytes.len() as u64,
        hash: manifests::file_hash(&bytes),
        points,
    };
    ManifestDoc {
        kind: ManifestKind::Published,
        reason: None,
        shard: shard(),
        window: window.start_s(),
        g: 1 + extra as u32,
        k: 1,
        base_g: 0,
        plan_digest: String::new(),
        route_version: 1,
        files: vec![file],
        counts: Counts { read: points, written: points, ..Counts::default() },
        series: 46,
        max_timestamp_ms: None,
        received_at_max_us: 0,
        holes: Vec::new(),
        quarantined: Vec::new(),
        encoder: ENCODER_VERSION,
        writer: String::new(),
        attempt: "a".to_owned(),
    }
}

/// Five windows of the day: the fourth has no points.
async fn order(objects: &Objects, attempt: &str) -> DayOrder {
    let mut inputs = Vec::new();
    for (number, window) in day().day().into_iter().enumerate().filter(|(number, _)| *number != 3) {
        inputs.push(generation(objects, window, number as u64, 0).await);
    }
    let targets = inputs.iter().map(|input| Window::starting_at_s(input.window).unwrap()).collect();
    DayOrder { shard: shard(), day: day(), inputs, targets, made: Vec::new(), attempt: attempt.to_owned() }
}

async fn run(order: &DayOrder, objects: &Objects, cores: usize, memory_bytes: usize) -> Result<DayOutput, BuildError> {
    let memory: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(memory_bytes));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_ms(0));
    run_day(order, objects, &memory, &clock, &Settings { cores, ..Settings::default() }).await
}

fn objects() -> Objects {
    Objects::new(Arc::new(InMemory::new()), Default::default(), 1)
}

async fn tally(objects: &Objects, key: &str) -> DayTally {
    verify_day_file(shard(), &objects.get(key).await.unwrap(), day().start_ms()).unwrap().1
}

#[tokio::test]
async fn a_file_of_five_windows_is_the_same_for_any_number_of_cores() {
    let objects = objects();
    let mut hashes = Vec::new();
    for (cores, attempt) in [(1, "one"), (4, "four")] {
        let order = order(&objects, attempt).await;
        let output = run(&order, &objects, cores, 1 << 30).await.unwrap();
        assert_eq!(output.files.len(), 5);
        let key = key::day_chunk(shard(), day(), attempt, 0);
        for (window, files) in order.targets.iter().zip(&output.files) {
            let [file] = files.as_slice() else { panic!("one file") };
            assert_eq!((&file.key, file.role, file.points), (&key, FileRole::Day, 46 * 720));
            assert_eq!((file.from_ms, file.to_ms), (window.start_ms(), window.end_ms()));
            hashes.push(file.hash.clone());
        }
        // To the bit, by the inputs' own counts.
        let mut expected = DayTally::new(day().start_ms());
        for input in &order.inputs {
            expected.merge(&tally(&objects, &input.files[0].key).await);
        }
        assert_eq!(tally(&objects, &key).await, expected);
        assert!(output.bytes_read > 0 && output.memory_peak_bytes > 0);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1);
}

#[tokio::test]
async fn what_is_made_is_taken_if_it_is_sound_and_made_anew_if_not() {
    let objects = objects();
    let mut order = order(&objects, "one").await;
    let first = run(&order, &objects, 2, 1 << 30).await.unwrap();
    order.made = first.files[0].clone();
    order.attempt = "two".to_owned();
    order.targets = order.targets.split_off(3);
    let taken = run(&order, &objects, 2, 1 << 30).await.unwrap();
    assert_eq!(taken.files, first.files[3..]);
    assert_eq!(objects.size(&key::day_chunk(shard(), day(), "two", 0)).await, Ok(None));
    // Of the windows that name it already nothing is read: what they were made of may be gone.
    assert!(taken.bytes_read * 2 < first.bytes_read, "{} of {}", taken.bytes_read, first.bytes_read);
    let superseded = objects.get(&order.inputs[0].files[0].key).await.unwrap();
    objects.delete(&order.inputs[0].files[0].key).await.unwrap();
    assert_eq!(run(&order, &objects, 2, 1 << 30).await.unwrap().files, first.files[3..]);
    objects.put_data(&order.inputs[0].files[0].key, superseded).await.unwrap();
    // Lost, or other bytes than its manifest says.
    let mut other = order.clone();
    other.made[0].hash = manifests::file_hash(b"other");
    other.attempt = "three".to_owned();
    assert_eq!(run(&other, &objects, 2, 1 << 30).await.unwrap().files[0][0].key, key::day_chunk(shard(), day(), "three", 0));
    objects.delete(&order.made[0].key).await.unwrap();
    assert_eq!(run(&order, &objects, 2, 1 << 30).await.unwrap().files[0][0].key, key::day_chunk(shard(), day(), "two", 0));
}

#[tokio::test]
async fn a_day_is_made_of_a_day_file_and_a_newer_window() {
    let objects = objects();
    let mut order = order(&objects, "one").await;
    let first = run(&order, &objects, 2, 1 << 30).await.unwrap();
    let mut expected = tally(&objects, &first.files[0][0].key).await;
    for (input, files) in order.inputs.iter_mut().zip(first.files) {
        (input.g, input.files) = (2, files);
    }
    order.inputs[1] = generation(&objects, order.targets[1], 1, 2).await;
    expected.windows[1] = tally(&objects, &order.inputs[1].files[0].key).await.windows[1];
    order.attempt = "again".to_owned();
    let again = run(&order, &objects, 2, 1 << 30).await.unwrap();
    assert_eq!(tally(&objects, &again.files[0][0].key).await, expected);
    assert_eq!(again.files.iter().map(|files| files[0].points).collect::<Vec<_>>(), [46 * 720, 52 * 720, 46 * 720, 46 * 720, 46 * 720]);
}

#[tokio::test]
async fn inputs_that_are_not_what_they_should_be_are_named() {
    let objects = objects();
    let order = order(&objects, "one").await;
    let input = |error: BuildError| match error {
        BuildError::Input { segment, why } => (segment, why),
        other => panic!("{other}"),
    };
    let key = order.inputs[2].files[0].key.clone();
    let sound = objects.get(&key).await.unwrap();
    for at in [50, sound.len() - 200, sound.len() - 20] {
        let mut damaged = sound.to_vec();
        damaged[at] ^= 8;
        objects.delete(&key).await.unwrap();
        objects.put_data(&key, damaged).await.unwrap();
        let (segment, why) = input(run(&order, &objects, 2, 1 << 30).await.unwrap_err());
        assert_eq!(segment, key, "{why}");
        assert!(why.contains("chunk file"), "{why}");
    }
    objects.delete(&key).await.unwrap();
    assert_eq!(input(run(&order, &objects, 2, 1 << 30).await.unwrap_err()).0, key);
    objects.put_data(&key, sound).await.unwrap();
    // Books that promise more than the files hold.
    let mut other = order.clone();
    other.inputs[2].counts.written += 1;
    let (segment, why) = input(run(&other, &objects, 2, 1 << 30).await.unwrap_err());
    assert_eq!((segment, why.contains("its files hold 33120")), (key, true), "{why}");
    // A budget that takes no batch says so.
    assert!(matches!(run(&order, &objects, 2, 1 << 16).await.unwrap_err(), BuildError::Memory(_)));
    assert_eq!(objects.list(&key::day_chunks(shard(), day())).await, Ok(Vec::new()), "nothing is stored of an input that can't be read");
}

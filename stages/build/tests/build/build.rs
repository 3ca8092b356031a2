//! Raw files in an in-memory store -> `run` -> chunk files, decoded and compared with a naive model: a map filled in P4 order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, UnboundedMemoryPool};
use object_store::memory::InMemory;
use tailors_build::{BuildDeps, BuildError, BuildOutput, Settings, run};
use tailors_format::chunk::{DecodeScratch, ENCODER_VERSION, verify_file};
use tailors_format::doc::{NodeDoc, NodeKind, NodeRef, PlanDoc, PlanReason, RawRef};
use tailors_format::key;
use tailors_format::payload::{PayloadWriter, SeriesMeta, Stamp, TagRef};
use tailors_format::raw::file::{ExtentKey, RawFileWriter};
use tailors_format::raw::frame;
use tailors_model::clock::ManualClock;
use tailors_model::window::WINDOW_MS;
use tailors_model::{MetricKind, MetricMeta, OrgId, RouteTable, ShardId, TagKind, Window};
use tailors_store::objects::{Objects, RetrySettings};

const WINDOW: Window = Window::of_ms(1_795_132_800_000);
const ORG: OrgId = OrgId(1);

/// Order of a payload: received_at, epoch, partition, offset.
type At = (i64, u32, u32, u64);
/// Org, metric, tag values.
type Name = (OrgId, String, Vec<String>);
/// Series -> offset in the window -> bits of the value.
type Content = BTreeMap<Name, BTreeMap<u32, u64>>;

/// One call of the intake: points of one series.
#[derive(Clone)]
struct Sent {
    metric: &'static str,
    tags: Vec<String>,
    kind: MetricKind,
    points: Vec<(u32, f64)>,
}

#[derive(Clone)]
struct TestPayload {
    org: OrgId,
    at: At,
    sent: Vec<Sent>,
    admitted: (i64, i64),
    /// Breaks its point block, in a frame whose checksum is good.
    is_broken: bool,
    /// Its labels are none that a chunk file can hold.
    is_malformed: bool,
    metadata: Option<(&'static str, MetricMeta)>,
}

impl TestPayload {
    fn new(at: At, sent: Vec<Sent>) -> Self {
        let admitted = (WINDOW.start_ms() - WINDOW_MS, WINDOW.end_ms() + WINDOW_MS);
        Self { org: ORG, at, sent, admitted, is_broken: false, is_malformed: false, metadata: None }
    }

    fn points(&self) -> u64 {
        self.sent.iter().map(|sent| sent.points.len() as u64).sum()
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = PayloadWriter::new();
        for sent in &self.sent {
            let tags: Vec<TagRef<'_>> =
                sent.tags.iter().map(|value| TagRef { key: b"host", kind: TagKind::Pair, value: value.as_bytes() }).collect();
            let meta = SeriesMeta { kind: sent.kind, ..SeriesMeta::default() };
            let series = writer.series(sent.metric.as_bytes(), &tags, meta);
            let times: Vec<i64> = sent.points.iter().map(|(offset, _)| WINDOW.start_ms() + i64::from(*offset)).collect();
            let values: Vec<f64> = sent.points.iter().map(|(_, value)| *value).collect();
            writer.points(series, &times, &values);
        }
        if let Some((metric, meta)) = &self.metadata {
            writer.metadata(metric.as_bytes(), meta);
        }
        let (from, to) = self.admitted;
        let stamp = Stamp {
            org: self.org,
            window: WINDOW,
            received_at_us: self.at.0,
            intake_id: 7,
            sequence: self.at.3,
            admitted_from_ms: from,
            admitted_to_ms: to,
        };
        let mut bytes = writer.finish(&stamp).unwrap();
        if self.is_broken {
            *bytes.last_mut().unwrap() ^= 0x55;
        }
        bytes
    }
}

/// A store with one raw file per (epoch, partition), and what a plan of it is.
struct Case {
    objects: Objects,
    nodes: Vec<(NodeRef, NodeDoc)>,
    plan: PlanDoc,
    routes: RouteTable,
    raw_bytes: u64,
}

fn shard() -> ShardId {
    ShardId::of_org(ORG, 64)
}

async fn case(payloads: &[TestPayload]) -> Case {
    let objects = Objects::new(Arc::new(InMemory::new()), RetrySettings::default(), 1);
    let mut files: BTreeMap<(u32, u32), Vec<&TestPayload>> = BTreeMap::new();
    for payload in payloads {
        files.entry((payload.at.1, payload.at.2)).or_default().push(payload);
    }
    let (mut nodes, mut raw_bytes) = (Vec::new(), 0);
    for (flush, ((epoch, partition), mut payloads)) in (0u64..).zip(files) {
        payloads.sort_by_key(|payload| payload.at.3);
        let section = shard().to_string();
        let mut writer = RawFileWriter::new("writer", flush, 1);
        writer.begin_extent(ExtentKey { partition, section: section.clone(), window_s: WINDOW.start_s() });
        for payload in &payloads {
            let mut bytes = Vec::new();
            frame::encode(&mut bytes, epoch, partition, payload.at.3, &payload.encode());
            writer.frame(&bytes, payload.points(), payload.at.0).unwrap();
        }
        let raw = writer.finish().unwrap();
        let key = key::raw("writer", flush, 1);
        raw_bytes += raw.bytes.len() as u64;
        let rows: Vec<_> = raw
            .extents
            .iter()
            .map(|extent| (extent.start, extent.end, extent.payloads, extent.points, extent.received_min_us, extent.received_max_us))
            .collect();
        let node = NodeDoc {
            kind: NodeKind::Data,
            start: 0,
            next: payloads.last().unwrap().at.3 + 1,
            raw: Some(RawRef { key: key.clone(), bytes: raw.bytes.len() as u64, crc32c: format!("{:08x}", raw.crc32c) }),
            extents: BTreeMap::from([(section, BTreeMap::from([(WINDOW.to_string(), rows)]))]),
            route_version: 1,
            records: payloads.len() as u64,
            payloads: payloads.len() as u64,
            points: raw.extents.iter().map(|extent| extent.points).sum(),
            envelope_corrupt: 0,
            time_ms: None,
            received_at_us: None,
            writer: "writer".to_owned(),
            attempt: 1,
        };
        objects.put_data(&key, raw.bytes).await.unwrap();
        nodes.push(((epoch, partition, 0), node));
    }
    let plan = PlanDoc {
        shard: shard(),
        window: WINDOW.start_s(),
        g: 1,
        k: 1,
        base_g: 0,
        reason: PlanReason::Seal,
        route_version: 1,
        nodes: nodes.len() as u64,
        nodes_digest: String::new(),
        points_expected: payloads.iter().map(TestPayload::points).sum(),
        quarantine: Vec::new(),
        encoder: ENCODER_VERSION,
        day: Vec::new(),
    };
    Case { objects, nodes, plan, routes: RouteTable::initial(64), raw_bytes }
}

impl Case {
    async fn run_with(&self, settings: &Settings, memory: Arc<dyn MemoryPool>, attempt: &str) -> Result<BuildOutput, BuildError> {
        let clock = Arc::new(ManualClock::at_ms(WINDOW.end_ms()));
        let late_from = BTreeMap::from([((1, 1), 0)]);
        let deps = BuildDeps { objects: self.objects.clone(), memory, clock, writer: "builder".to_owned(), late_from };
        run(&self.plan, &self.nodes, &self.routes, deps, settings, attempt).await
    }

    async fn run(&self, settings: &Settings, attempt: &str) -> Result<BuildOutput, BuildError> {
        self.run_with(settings, Arc::new(UnboundedMemoryPool::default()), attempt).await
    }

    async fn files(&self, output: &BuildOutput) -> Vec<Bytes> {
        let mut files = Vec::new();
        for file in &output.manifest.files {
            files.push(self.objects.get(&file.key).await.unwrap());
        }
        files
    }
}

/// What the files hold, and the metadata of each metric.
fn read(files: &[Bytes]) -> (Content, BTreeMap<String, MetricMeta>) {
    let (mut content, mut metas) = (Content::new(), BTreeMap::new());
    for file in files {
        let index = verify_file(shard(), file).unwrap();
        let mut names = BTreeMap::new();
        for metric in index.metrics() {
            let text = String::from_utf8(metric.metric.to_vec()).unwrap();
            metas.insert(text.clone(), metric.meta.clone());
            for series in metric.series.clone() {
                let tags = index.tags(series).unwrap().iter().map(|tag| String::from_utf8(tag.value.to_vec()).unwrap()).collect();
                names.insert(series, (metric.org, text.clone(), tags));
            }
        }
        let mut scratch = DecodeScratch::default();
        for read in index.plan_reads(&names.keys().copied().collect::<Vec<_>>()) {
            let bytes = &file[read.range.start as usize..read.range.end as usize];
            let mut each = |series: u32, times: &[u32], values: &[f64]| {
                let at = content.entry(names[&series].clone()).or_default();
                for (time, value) in times.iter().zip(values) {
                    assert_eq!(at.insert(*time, value.to_bits()), None, "a timestamp twice");
                }
            };
            index.decode(&read, bytes, &mut scratch, &mut each).unwrap();
        }
    }
    (content, metas)
}

/// The naive model: content, duplicates, corrupt, read.
fn model(payloads: &[TestPayload]) -> (Content, u64, u64, u64) {
    let mut sorted: Vec<&TestPayload> = payloads.iter().filter(|payload| ShardId::of_org(payload.org, 64) == shard()).collect();
    sorted.sort_by_key(|payload| payload.at);
    let (mut content, mut duplicates, mut corrupt, mut read) = (Content::new(), 0, 0, 0);
    for payload in sorted {
        read += payload.points();
        if payload.is_broken || payload.is_malformed {
            corrupt += payload.points();
            continue;
        }
        for sent in &payload.sent {
            for (offset, value) in &sent.points {
                let time = WINDOW.start_ms() + i64::from(*offset);
                if time < payload.admitted.0 || time > payload.admitted.1 {
                    corrupt += 1;
                    continue;
                }
                let name = (payload.org, sent.metric.to_owned(), sent.tags.clone());
                duplicates += u64::from(content.entry(name).or_default().insert(*offset, value.to_bits()).is_some());
            }
        }
    }
    (content, duplicates, corrupt, read)
}

/// Numbers from a seed.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// Payloads of two orgs of the shard and one of another, with many equal timestamps and equal received_at.
fn mixed(count: u64, seed: u64) -> Vec<TestPayload> {
    let mut next = random(seed);
    let metrics = ["cpu", "disk", "requests"];
    let mut payloads = Vec::new();
    for number in 0..count {
        let mut sent = Vec::new();
        for _ in 0..1 + next(8) {
            let length = 1 + next(40) as u32;
            let first = next(50) as u32 * 10_000;
            let regular = next(2) == 0;
            let times: Vec<u32> = (0..length).map(|at| if regular { first + at * 10_000 } else { next(200) as u32 * 10_000 }).collect();
            let points = times.into_iter().map(|time| (time, if next(20) == 0 { f64::NAN } else { next(10_000) as f64 / 100.0 })).collect();
            let (metric, tags) = (metrics[next(3) as usize], (0..next(3)).map(|_| format!("host-{}", next(5))).collect::<Vec<_>>());
            let mut tags = tags;
            tags.sort();
            tags.dedup();
            sent.push(Sent { metric, tags, kind: MetricKind::Unknown, points });
        }
        let at = (1_000_000 + next(30) as i64, 1 + next(2) as u32, next(2) as u32, number);
        let mut payload = TestPayload::new(at, sent);
        payload.org = [ORG, ORG, OrgId(65), OrgId(2)][next(4) as usize];
        payloads.push(payload);
    }
    payloads
}

fn small(cores: usize, split_bytes: u64, fetch_bytes_max: u64, keep_raw_bytes_max: u64) -> Settings {
    Settings { cores, split_bytes, fetch_bytes_max, keep_raw_bytes_max, spill_dir: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_result_is_the_models_whatever_cores_splits_and_memory() {
    let payloads = mixed(300, 11);
    let case = case(&payloads).await;
    let (content, duplicates, corrupt, read_points) = model(&payloads);
    assert!(duplicates > 100, "the test needs duplicates");
    let mut first: Option<(Vec<Bytes>, BuildOutput)> = None;
    let variants =
        [small(1, 1 << 30, 8 << 20, 0), small(4, 1 << 30, 8 << 20, 1 << 30), small(4, 3_000, 1_000, 0), small(2, 700, 64 << 10, 20_000)];
    for (number, settings) in variants.iter().enumerate() {
        let output = case.run(settings, &format!("attempt-{number}")).await.unwrap();
        let files = case.files(&output).await;
        let counts = output.manifest.counts;
        assert!(counts.balances());
        assert_eq!((counts.read, counts.duplicates, counts.corrupt, counts.rejected), (read_points, duplicates, corrupt, 0));
        assert_eq!(counts.written, output.manifest.files.iter().map(|file| file.points).sum::<u64>());
        assert_eq!(output.manifest.series, content.len() as u64);
        assert_eq!(read(&files).0, content);
        assert!(output.manifest.files.iter().zip(&files).all(|(named, file)| named.bytes == file.len() as u64 && named.hash.len() == 64));
        let max = content.values().filter_map(|points| points.keys().max()).max().map(|offset| WINDOW.start_ms() + i64::from(*offset));
        assert_eq!(output.manifest.max_timestamp_ms, max);
        let (kept_files, kept) = first.get_or_insert_with(|| (files.clone(), output.clone()));
        assert_eq!(files, *kept_files, "equal inputs give equal bytes");
        assert_eq!((counts, output.payloads_filtered), (kept.manifest.counts, kept.payloads_filtered));
        assert!(counts.late > 0 && counts.late < counts.read && output.payloads_filtered > 0);
        if settings.split_bytes == 1 << 30 {
            assert!(output.raw_bytes_read <= 3 * case.raw_bytes, "{} of {}", output.raw_bytes_read, case.raw_bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_nodes_does_not_matter() {
    let payloads = mixed(200, 5);
    let mut case = case(&payloads).await;
    let settings = small(2, 32 << 20, 8 << 20, 128 << 20);
    let output = case.run(&settings, "a").await.unwrap();
    case.nodes.reverse();
    let again = case.run_with(&settings, Arc::new(FairSpillPool::new(16 << 20)), "b").await.unwrap();
    assert_eq!(case.files(&output).await, case.files(&again).await);
    assert!(again.memory_peak_bytes > 0 && again.raw_bytes_read <= 3 * case.raw_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_outside_the_admitted_limits_and_broken_payloads_are_corrupt() {
    let sent = |points: Vec<(u32, f64)>| vec![Sent { metric: "cpu", tags: vec!["a".to_owned()], kind: MetricKind::Gauge, points }];
    let regular = (0..100).map(|at| (at * 1_000, f64::from(at))).collect::<Vec<_>>();
    let mut limited = TestPayload::new((1, 1, 0, 1), sent(regular.clone()));
    limited.admitted = (WINDOW.start_ms() + 10_000, WINDOW.start_ms() + 50_000);
    let mut broken = TestPayload::new((2, 1, 0, 2), sent(regular));
    broken.is_broken = true;
    let irregular = TestPayload::new((3, 1, 0, 3), sent(vec![(60_001, 1.5), (10_000, 2.5), (10_000, 3.5)]));
    let payloads = [limited, broken, irregular];
    let case = case(&payloads).await;
    let output = case.run(&Settings::default(), "a").await.unwrap();
    let (content, duplicates, corrupt, read_points) = model(&payloads);
    assert_eq!((duplicates, corrupt, read_points), (2, 159, 203));
    let counts = output.manifest.counts;
    assert_eq!((counts.read, counts.duplicates, counts.corrupt), (read_points, duplicates, corrupt));
    assert_eq!(read(&case.files(&output).await).0, content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_that_no_chunk_file_can_hold_are_corrupt_and_fail_nobody() {
    let sent = |tags: &[&str]| {
        vec![Sent {
            metric: "cpu",
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            kind: MetricKind::Gauge,
            points: vec![(5, 1.0), (6, 2.0)],
        }]
    };
    let long = "x".repeat(3_000);
    let mut payloads: Vec<TestPayload> = [&["a", "b"][..], &["b", "a"], &["a", "a"], &["a", &long], &["c"]]
        .iter()
        .zip(1u64..)
        .map(|(tags, offset)| TestPayload::new((1, 1, 0, offset), sent(tags)))
        .collect();
    payloads[1..4].iter_mut().for_each(|payload| payload.is_malformed = true);
    let case = case(&payloads).await;
    let output = case.run(&Settings::default(), "a").await.unwrap();
    let (content, duplicates, corrupt, read_points) = model(&payloads);
    let counts = output.manifest.counts;
    assert_eq!((counts.read, counts.duplicates, counts.corrupt), (read_points, duplicates, corrupt));
    assert_eq!((read_points, corrupt, counts.written), (10, 6, 4));
    assert_eq!(read(&case.files(&output).await).0, content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_frame_names_its_file() {
    let case = case(&mixed(50, 3)).await;
    let key = case.nodes[1].1.raw.as_ref().unwrap().key.clone();
    let mut bytes = case.objects.get(&key).await.unwrap().to_vec();
    bytes[500] ^= 1;
    case.objects.delete(&key).await.unwrap();
    case.objects.put_data(&key, bytes).await.unwrap();
    match case.run(&Settings::default(), "a").await {
        Err(BuildError::Input { segment, .. }) => assert_eq!(segment, key),
        other => panic!("{other:?}"),
    }
    case.objects.delete(&key).await.unwrap();
    match case.run(&Settings::default(), "b").await {
        Err(BuildError::Input { segment, .. }) => assert_eq!(segment, key),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_promises_other_counts_is_an_input_error_and_another_encoder_is_refused() {
    let mut case = case(&mixed(50, 4)).await;
    case.plan.encoder += 1;
    assert!(matches!(case.run(&Settings::default(), "a").await, Err(BuildError::Refused(_))));
    case.plan.encoder -= 1;
    case.plan.points_expected += 1;
    assert!(matches!(case.run(&Settings::default(), "b").await, Err(BuildError::Bug(_))));
    case.plan.points_expected -= 1;
    for rows in case.nodes[0].1.extents.values_mut().flat_map(BTreeMap::values_mut) {
        rows[0].3 += 1;
    }
    assert!(matches!(case.run(&Settings::default(), "c").await, Err(BuildError::Input { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_gives_a_manifest_without_files() {
    let mut payloads = mixed(20, 9);
    payloads.iter_mut().for_each(|payload| payload.org = OrgId(2));
    let case = case(&payloads).await;
    let output = case.run(&Settings::default(), "a").await.unwrap();
    assert!(output.manifest.files.is_empty() && output.manifest.max_timestamp_ms.is_none());
    assert_eq!((output.manifest.counts, output.payloads_filtered), (Default::default(), 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latest_metadata_wins() {
    let sent =
        |kind, host: &str, at: u32| vec![Sent { metric: "cpu", tags: vec![host.to_owned()], kind, points: vec![(at, 1.0), (at + 7, 2.0)] }];
    let mut last = TestPayload::new((9, 1, 1, 1), sent(MetricKind::Unknown, "a", 500));
    last.metadata =
        Some(("cpu", MetricMeta { unit: Bytes::from_static(b"percent"), help: Bytes::from_static(b"busy"), ..MetricMeta::default() }));
    let payloads = [
        TestPayload::new((1, 1, 0, 1), sent(MetricKind::Counter, "a", 1_000)),
        TestPayload::new((2, 1, 0, 2), sent(MetricKind::Gauge, "b", 1_000)),
        last,
    ];
    let case = case(&payloads).await;
    let output = case.run(&Settings::default(), "a").await.unwrap();
    let files = case.files(&output).await;
    let meta =
        MetricMeta { kind: MetricKind::Gauge, unit: Bytes::from_static(b"percent"), interval_s: 0, help: Bytes::from_static(b"busy") };
    assert_eq!(read(&files).1["cpu"], meta);
    let index = verify_file(shard(), &files[0]).unwrap();
    let own: Vec<_> = (0..index.series_len()).map(|series| index.meta(series).unwrap().kind).collect();
    assert!(own.contains(&MetricKind::Counter) && own.contains(&MetricKind::Gauge), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_of_more_than_a_buckets_points_is_cut_by_time() {
    let sent = |number: u32| {
        // Every third millisecond; a payload in time order, so most of them lie in one slice.
        let points = (0..65_536).map(|at| ((number * 65_536 + at) * 3, f64::from(at % 100))).collect();
        vec![Sent { metric: "dense", tags: Vec::new(), kind: MetricKind::Unknown, points }]
    };
    let payloads: Vec<TestPayload> = (0..65).map(|number| TestPayload::new((5, 1, 0, u64::from(number)), sent(number))).collect();
    let case = case(&payloads).await;
    let one = case.run(&small(1, 1 << 30, 8 << 20, 1 << 30), "a").await.unwrap();
    let four = case.run(&small(4, 64 << 10, 8 << 20, 1 << 30), "b").await.unwrap();
    assert_eq!((one.manifest.counts.written, one.manifest.counts.duplicates), (65 * 65_536, 0));
    let files = case.files(&one).await;
    assert_eq!(files, case.files(&four).await);
    let tight = case.run_with(&small(2, 64 << 10, 8 << 20, 1 << 30), Arc::new(FairSpillPool::new(24 << 20)), "c").await.unwrap();
    assert_eq!(files, case.files(&tight).await, "a sort that spilled");
    let index = verify_file(shard(), &files[0]).unwrap();
    assert_eq!(index.metrics().len(), 1);
    assert_eq!(index.series_len(), 2, "two halves of the window");
    assert_eq!(one.manifest.series, 1, "of one series");
    assert_eq!(read(&files).0.values().map(BTreeMap::len).sum::<usize>(), 65 * 65_536);
}

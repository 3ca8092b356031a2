//! Capture over a log and a store in memory: exactly once through restarts, races and faults; nothing refused for its content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use tailors_format::doc::{NodeDoc, NodeKind};
use tailors_format::payload::{PayloadWriter, SeriesMeta, Stamp, TagRef};
use tailors_format::raw::segment;
use tailors_model::series::TagKind;
use tailors_model::{ManualClock, OrgId, Window};
use tailors_store::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use tailors_store::log::memory::MemoryLog;
use tailors_store::log::{Log, LogError};
use tailors_store::objects::faulty::{Fault, FaultyStore};
use tailors_store::{Objects, RetrySettings, chain, routes};
use tokio::sync::watch;

use crate::{CaptureDeps, CaptureError, FlushTargets, Flushing, Settings, run};

const PARTITIONS: u32 = 2;

fn payload(org: u32, window: Window, points: i64, sequence: u64) -> Bytes {
    let mut writer = PayloadWriter::new();
    let tags = [TagRef { key: b"host", kind: TagKind::Pair, value: b"a" }];
    let series = writer.series(b"cpu", &tags, SeriesMeta::default());
    let timestamps: Vec<i64> = (0..points).map(|n| window.start_ms() + n * 1_000).collect();
    let values: Vec<f64> = (0..points).map(|n| n as f64).collect();
    writer.points(series, &timestamps, &values);
    let stamp = Stamp {
        org: OrgId(org),
        window,
        received_at_us: 1_000_000 + sequence as i64,
        intake_id: 1,
        sequence,
        admitted_from_ms: window.start_ms(),
        admitted_to_ms: window.end_ms(),
    };
    Bytes::from(writer.finish(&stamp).expect("encodes"))
}

struct Bench {
    log: Arc<MemoryLog>,
    objects: Objects,
    clock: Arc<ManualClock>,
    targets: watch::Sender<FlushTargets>,
    /// Whose points the flushes said they bring.
    told: Arc<Mutex<BTreeSet<(OrgId, Window)>>>,
}

impl Bench {
    async fn new() -> Self {
        let objects = Objects::new(Arc::new(InMemory::new()), RetrySettings::default(), 1);
        routes::init(&objects, 64).await.expect("routes");
        let clock = Arc::new(ManualClock::at_ms(1_000_000));
        Self {
            log: Arc::new(MemoryLog::new(PARTITIONS, 1)),
            objects,
            clock,
            targets: watch::channel(FlushTargets::new()).0,
            told: Arc::default(),
        }
    }

    fn deps(&self, writer: &str) -> CaptureDeps {
        CaptureDeps {
            log: self.log.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            writer: writer.to_owned(),
            settings: Settings { idle_ms: 1, restart_after_ms: 0, ..Settings::default() },
            seals_waiting: self.targets.subscribe(),
            flushing: {
                let told = Arc::clone(&self.told);
                Flushing(Arc::new(move |orgs| told.lock().expect("not poisoned").extend(orgs)))
            },
            accept_holes: false,
        }
    }

    /// Runs capture until the chain of every partition is at the log's end.
    async fn run_until_captured(&self, writer: &str) -> Result<(), CaptureError> {
        let (stop, stopped) = watch::channel(false);
        let mut ends = FlushTargets::new();
        for partition in 0..PARTITIONS {
            ends.insert(partition, self.log.bounds(partition).await.expect("bounds").end);
        }
        self.targets.send_replace(ends.clone());
        let captured = async {
            for (partition, end) in ends {
                loop {
                    match chain::head(&self.objects, 1, partition, 0).await {
                        Ok(head) if head.next >= end => break,
                        _ => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                }
            }
            stop.send_replace(true);
        };
        let both = async { tokio::join!(run(self.deps(writer), stopped), captured).0 };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("captured in time")
    }

    async fn nodes(&self, partition: u32) -> Vec<NodeDoc> {
        chain::head(&self.objects, 1, partition, 0).await.expect("head").walked
    }
}

#[tokio::test]
async fn one_object_per_flush_with_extents_by_section_and_window() {
    let bench = Bench::new().await;
    let (early, late) = (Window::of_ms(1_795_132_800_000), Window::of_ms(1_795_132_800_000).next());
    for (n, (org, window)) in [(1, early), (1, late), (2, early), (1, early)].into_iter().enumerate() {
        bench.log.append(0, payload(org, window, 3, n as u64)).await.expect("appended");
    }
    bench.log.append(0, Bytes::from_static(b"no envelope")).await.expect("appended");
    bench.log.append(1, payload(1, early, 5, 9)).await.expect("appended");
    bench.run_until_captured("aa").await.expect("captured");
    let (first, second) = (bench.nodes(0).await, bench.nodes(1).await);
    let raws: Vec<_> = first.iter().chain(&second).filter_map(|node| node.raw.clone()).collect();
    let total = |nodes: &[NodeDoc]| {
        nodes
            .iter()
            .map(|node| (node.records, node.payloads, node.points, node.envelope_corrupt))
            .fold((0, 0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3))
    };
    assert_eq!(total(&first), (5, 4, 12, 1));
    assert_eq!(total(&second), (1, 1, 5, 0));
    let mut frames = 0;
    for raw in &raws {
        let bytes = bench.objects.get(&raw.key).await.expect("stored");
        assert_eq!(bytes.len() as u64, raw.bytes);
        let trailer = tailors_format::raw::file::verify(&bytes).expect("a whole raw file");
        frames += trailer.extents.iter().map(|extent| extent.payloads).sum::<u32>();
    }
    assert!(frames >= 6);
    let sections: Vec<&String> = first.iter().flat_map(|node| node.extents.keys()).collect();
    assert!(sections.iter().any(|section| *section == "none") && sections.iter().any(|section| *section == "mod-0064-0002"));
    let windows: BTreeMap<_, _> = first.iter().flat_map(|node| node.extents.get("mod-0064-0001").cloned().unwrap_or_default()).collect();
    assert_eq!(windows.keys().cloned().collect::<Vec<_>>(), vec![early.to_string(), late.to_string()]);
    assert_eq!(bench.log.committed(0).await.expect("hint"), Some(5));
    let told: Vec<(OrgId, Window)> = bench.told.lock().expect("not poisoned").iter().copied().collect();
    assert_eq!(told, [(OrgId(1), early), (OrgId(1), late), (OrgId(2), early)], "whose points they are is said before they are committed");
}

#[tokio::test]
async fn the_chain_counts_and_not_the_hint() {
    let bench = Bench::new().await;
    let window = Window::of_ms(1_795_132_800_000);
    for n in 0..4 {
        bench.log.append(0, payload(1, window, 1, n)).await.expect("appended");
    }
    bench.run_until_captured("aa").await.expect("captured");
    for n in 4..6 {
        bench.log.append(0, payload(1, window, 1, n)).await.expect("appended");
    }
    // Somebody moved the offset past what is captured.
    bench.log.commit(0, 6).await.expect("moved");
    bench.run_until_captured("bb").await.expect("captured");
    let nodes = bench.nodes(0).await;
    assert_eq!(nodes.iter().map(|node| node.records).sum::<u64>(), 6);
    assert!(nodes.windows(2).all(|pair| pair[0].next == pair[1].start));
}

#[tokio::test]
async fn two_writers_capture_every_record_once() {
    let bench = Bench::new().await;
    let window = Window::of_ms(1_795_132_800_000);
    for n in 0..50 {
        bench.log.append((n % 2) as u32, payload(1, window, 1, n)).await.expect("appended");
    }
    let (one, two) = tokio::join!(bench.run_until_captured("aa"), bench.run_until_captured("bb"));
    one.expect("one");
    two.expect("two");
    for partition in 0..PARTITIONS {
        assert_eq!(bench.nodes(partition).await.iter().map(|node| node.records).sum::<u64>(), 25);
    }
}

#[tokio::test]
async fn lost_records_stop_capture_until_somebody_accepts_the_hole() {
    let bench = Bench::new().await;
    let window = Window::of_ms(1_795_132_800_000);
    bench.log.append(0, payload(1, window, 1, 0)).await.expect("appended");
    bench.run_until_captured("aa").await.expect("captured");
    for n in 1..4 {
        bench.log.append(0, payload(1, window, 1, n)).await.expect("appended");
    }
    bench.log.move_start(0, 3).expect("retention overtook");
    let (_stop, stopped) = watch::channel(false);
    let refused = run(bench.deps("bb"), stopped.clone()).await;
    assert!(matches!(refused, Err(CaptureError::Hole { partition: 0, start: 1, end: 3 })), "{refused:?}");
    let accept = CaptureDeps { accept_holes: true, ..bench.deps("cc") };
    let ended = tokio::time::timeout(Duration::from_millis(200), run(accept, stopped)).await;
    assert!(ended.is_err(), "it goes on");
    assert_eq!(
        bench.nodes(0).await.iter().filter(|node| node.kind == NodeKind::Hole).map(|node| (node.start, node.next)).collect::<Vec<_>>(),
        vec![(1, 3)]
    );
}

#[tokio::test]
async fn accepted_damage_of_the_log_becomes_a_hole() {
    let dir = tempfile::tempdir().expect("temp dir");
    let clock = Arc::new(ManualClock::at_ms(1_000_000));
    let open = |accept_damage| {
        let settings = EmbeddedLogSettings { partitions: PARTITIONS, accept_damage, ..Default::default() };
        EmbeddedLog::open(dir.path(), settings, 1, clock.clone(), vec![None; PARTITIONS as usize])
    };
    EmbeddedLog::identity(dir.path(), || [7; 16]).expect("identity");
    let window = Window::of_ms(1_795_132_800_000);
    let log = open(false).expect("opens");
    for n in 0..6 {
        log.append((n / 5) as u32, payload(1, window, 1, n)).await.expect("appended");
    }
    log.close().await.expect("closes");
    drop(log);
    let file = std::fs::read_dir(dir.path()).expect("lists").filter_map(|entry| Some(entry.ok()?.path()));
    let file = file.filter(|path| path.extension().is_some_and(|extension| extension == "tlog")).max().expect("a segment");
    let mut bytes = std::fs::read(&file).expect("reads");
    let record = segment::scan(&bytes).expect("scans").records[2].entry;
    bytes[record.position as usize + record.length as usize - 1] ^= 1;
    std::fs::write(&file, bytes).expect("damages");
    assert!(matches!(open(false), Err(LogError::Damaged(_))));
    let log = open(true).expect("accepted");
    let objects = Objects::new(Arc::new(InMemory::new()), RetrySettings::default(), 1);
    routes::init(&objects, 64).await.expect("routes");
    let (_targets, seals_waiting) = watch::channel(FlushTargets::new());
    let settings = Settings { idle_ms: 1, flush_after_s: 0, ..Settings::default() };
    let writer = "aa".to_owned();
    let deps = CaptureDeps {
        log,
        objects: objects.clone(),
        clock,
        writer,
        settings,
        seals_waiting,
        flushing: Flushing(Arc::new(|_| {})),
        accept_holes: true,
    };
    let (stop, stopped) = watch::channel(false);
    let refused = run(CaptureDeps { accept_holes: false, ..deps.clone() }, stopped.clone());
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.expect("ends");
    assert!(matches!(refused, Err(CaptureError::Hole { partition: 0, start: 2, end: 3 })), "{refused:?}");
    let capture = tokio::spawn(run(deps, stopped));
    let nodes = async {
        loop {
            match chain::head(&objects, 1, 0, 0).await {
                Ok(head) if head.next == 5 => break head.walked,
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    let nodes = tokio::time::timeout(Duration::from_secs(20), nodes).await.expect("goes on");
    let holes: Vec<_> = nodes.iter().filter(|node| node.kind == NodeKind::Hole).map(|node| (node.start, node.next)).collect();
    assert_eq!((holes, nodes.iter().map(|node| node.records).sum::<u64>()), (vec![(2, 3)], 4));
    assert!(nodes.windows(2).all(|pair| pair[0].next == pair[1].start), "C1: the chain has no gap");
    stop.send_replace(true);
    capture.await.expect("joined").expect("ended well");
}

#[tokio::test]
async fn a_flush_that_fails_behind_full_buffers_stops_nothing() {
    let faulty = Arc::new(FaultyStore::new(1));
    let objects = Objects::new(faulty.clone(), RetrySettings { deadline_ms: 200, ..RetrySettings::default() }, 1);
    routes::init(&objects, 64).await.expect("routes");
    let bench = Bench { objects, ..Bench::new().await };
    let window = Window::of_ms(1_795_132_800_000);
    let mut deps = bench.deps("aa");
    deps.settings = Settings { flush_payloads_max: 2, read_bytes_max: 1, ..deps.settings };
    let (stop, stopped) = watch::channel(false);
    let capture = tokio::spawn(run(deps, stopped));
    bench.log.append(0, payload(1, window, 1, 0)).await.expect("appended");
    bench.log.append(0, payload(1, window, 1, 1)).await.expect("appended");
    while bench.nodes_or_none(0).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The next flush retries until its deadline; behind it the next buffer fills, and more is waiting.
    (0..30).for_each(|_| faulty.fail_next_put(Fault::BeforeApply));
    for n in 2..8 {
        bench.log.append(0, payload(1, window, 1, n)).await.expect("appended");
    }
    let captured = async {
        while bench.nodes_or_none(0).await.iter().map(|node| node.records).sum::<u64>() < 8 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), captured).await.expect("goes on by itself");
    stop.send_replace(true);
    capture.await.expect("joined").expect("ended well");
}

#[tokio::test]
async fn rotation_by_time_and_by_size_of_the_node() {
    let bench = Bench::new().await;
    let first = Window::of_ms(1_795_132_800_000);
    let mut window = first;
    for n in 0..40 {
        bench.log.append(0, payload(1, window, 1, n)).await.expect("appended");
        window = window.next();
    }
    let (stop, stopped) = watch::channel(false);
    let mut deps = bench.deps("aa");
    deps.settings.node_bytes_max = 2_048;
    let capture = tokio::spawn(run(deps, stopped));
    while bench.nodes_or_none(0).await.iter().map(|node| node.records).sum::<u64>() < 32 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(bench.nodes(0).await.iter().all(|node| node.extents["mod-0064-0001"].len() <= 8));
    // The rest is too small to rotate by size; its age does it.
    bench.clock.set_ms(1_000_000 + 600_000);
    while bench.nodes(0).await.iter().map(|node| node.records).sum::<u64>() < 40 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.send_replace(true);
    capture.await.expect("joined").expect("ended well");
}

impl Bench {
    async fn nodes_or_none(&self, partition: u32) -> Vec<NodeDoc> {
        chain::head(&self.objects, 1, partition, 0).await.map(|head| head.walked).unwrap_or_default()
    }
}

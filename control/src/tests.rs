//! Decisions on a clock set by hand, over a store and a log in memory; nodes are committed as capture would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use object_store::memory::InMemory;
use tailors_format::doc::{
    Counts, FileRole, JobDoc, ManifestDoc, ManifestFile, ManifestKind, NodeDoc, NodeKind, PlanReason, RawRef, SealDoc, SealKind,
};
use tailors_format::key;
use tailors_model::{ManualClock, OrgId, RouteTable, ShardId, Window};
use tailors_store::log::Log;
use tailors_store::log::memory::MemoryLog;
use tailors_store::{Objects, RetrySettings, chain, feed, manifests, registry, routes, seals};
use tokio::sync::watch;

use crate::plan::{self, Step};
use crate::seal::{self, NewPoints, SealCase};
use crate::status::WindowState;
use crate::{BuildJob, Control, ControlDeps, ControlError, DayJob, JobError, RunBuild, RunDay, Settings};

mod days;
mod races;

const T: i64 = 1_795_132_800;
const HOUR_MS: i64 = 3_600_000;

fn window() -> Window {
    Window::starting_at_s(T).expect("a window's start")
}

fn shard() -> ShardId {
    ShardId::of_org(OrgId(1), 64)
}

/// A store, a log, a clock and a builder that takes every point of its plan.
struct Bench {
    objects: Objects,
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    control: Control,
    builds: Arc<AtomicU32>,
    flush_to: watch::Sender<BTreeMap<u32, u64>>,
    windows_with_points: watch::Sender<BTreeSet<Window>>,
    next: u64,
}

fn builder(objects: &Objects, builds: &Arc<AtomicU32>, fail: Option<JobError>) -> RunBuild {
    let (objects, builds) = (objects.clone(), Arc::clone(builds));
    Arc::new(move |job: BuildJob| {
        let (objects, fail) = (objects.clone(), fail.clone());
        builds.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if let Some(error) = fail {
                return Err(error);
            }
            let key = key::chunk(job.plan.shard, Window::starting_at_s(job.plan.window).expect("window"), job.plan.g, &job.attempt, 0);
            objects.put_data(&key, Bytes::from_static(b"chunk")).await.map_err(|error| JobError::Retry(error.to_string()))?;
            Ok((built(&job, key), history()))
        })
    })
}

/// Writes what the inputs decide, and takes what is made.
fn day_maker(objects: &Objects) -> RunDay {
    let objects = objects.clone();
    Arc::new(move |job: DayJob| {
        let objects = objects.clone();
        Box::pin(async move {
            let bytes = format!("{:?}", job.inputs.iter().map(|input| (input.window, input.g)).collect::<Vec<_>>());
            let mut key = key::day_chunk(job.shard, job.day, &job.attempt, 0);
            match job.made.first() {
                Some(made) if objects.get_opt(&made.key).await.is_ok_and(|found| found.is_some_and(|found| found == bytes)) => {
                    key.clone_from(&made.key);
                }
                _ => objects.put_data(&key, bytes.clone()).await.map_err(|error| JobError::Retry(error.to_string()))?,
            }
            let files = job.targets.iter().map(|plan| {
                let base =
                    job.inputs.iter().find(|input| (input.window, input.g) == (plan.window, plan.base_g)).expect("its base is an input");
                vec![ManifestFile {
                    key: key.clone(),
                    role: FileRole::Day,
                    from_ms: plan.window * 1_000,
                    to_ms: plan.window * 1_000 + 4 * HOUR_MS,
                    bytes: bytes.len() as u64,
                    hash: manifests::file_hash(bytes.as_bytes()),
                    points: base.counts.written,
                }]
            });
            Ok((files.collect(), history()))
        })
    })
}

fn history() -> JobDoc {
    JobDoc { started_ms: 0, ended_ms: 100, outcome: String::new(), raw_bytes_read: 1, stages_us: BTreeMap::new(), memory_peak_bytes: 0 }
}

fn built(job: &BuildJob, key: String) -> ManifestDoc {
    let file = ManifestFile {
        key,
        role: FileRole::Base,
        from_ms: job.plan.window * 1_000,
        to_ms: job.plan.window * 1_000 + 4 * HOUR_MS,
        bytes: 5,
        hash: manifests::file_hash(b"chunk"),
        points: job.plan.points_expected,
    };
    let mut manifest = plan::tombstone(&job.plan, String::new(), "", Vec::new(), "builder");
    manifest.kind = ManifestKind::Published;
    manifest.files = vec![file];
    manifest.counts = Counts { read: job.plan.points_expected, written: job.plan.points_expected, ..Counts::default() };
    manifest
}

impl Bench {
    async fn new(created_ms: i64, now_ms: i64, settings: Settings, fail: Option<JobError>) -> Self {
        Self::on(Objects::new(Arc::new(InMemory::new()), RetrySettings::default(), 1), created_ms, now_ms, settings, fail).await
    }

    async fn on(objects: Objects, created_ms: i64, now_ms: i64, settings: Settings, fail: Option<JobError>) -> Self {
        let log = Arc::new(MemoryLog::new(1, 1));
        registry::register_stream(&objects, log.identity(), created_ms).await.expect("registered");
        routes::init(&objects, 64).await.expect("routes");
        chain::ensure_genesis(&objects, 1, 0, 0, "w").await.expect("genesis");
        let clock = Arc::new(ManualClock::at_ms(now_ms));
        let builds = Arc::new(AtomicU32::new(0));
        let (flush_to, _) = watch::channel(BTreeMap::new());
        let (windows_with_points, _) = watch::channel(BTreeSet::new());
        let control = Control::new(ControlDeps {
            log: log.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            store_clock: Arc::new(ManualClock::at_ms(i64::MAX / 2_000)),
            settings,
            writer: "w".to_owned(),
            run_build: builder(&objects, &builds, fail),
            run_day: day_maker(&objects),
            flush_to: flush_to.clone(),
            windows_with_points: windows_with_points.clone(),
        });
        Self { objects, log, clock, control, builds, flush_to, windows_with_points, next: 0 }
    }

    /// Another control plans what is due and dies before its builder is reached.
    async fn plan_and_die(&self) {
        let stuck = Control::new(ControlDeps { run_build: Arc::new(|_| Box::pin(std::future::pending())), ..self.control.deps().clone() });
        stuck.tick().await.expect("ticks");
        stuck.tick().await.expect("ticks");
    }

    /// Appends a record and commits its node with points of the window.
    async fn capture(&mut self, window: Window, points: u64, received_ms: i64) {
        self.log.append(0, Bytes::from_static(b"payload")).await.expect("appended");
        self.commit(window, points, received_ms).await;
    }

    /// Commits the node of one record.
    async fn commit(&mut self, window: Window, points: u64, received_ms: i64) {
        let row = (0, 100, 1, points, received_ms * 1_000, received_ms * 1_000);
        let node = NodeDoc {
            kind: NodeKind::Data,
            start: self.next,
            next: self.next + 1,
            raw: Some(RawRef { key: key::raw("w", self.next + 1, 1), bytes: 100, crc32c: "00000000".to_owned() }),
            extents: BTreeMap::from([(shard().to_string(), BTreeMap::from([(window.to_string(), vec![row])]))]),
            route_version: 1,
            records: 1,
            payloads: 1,
            points,
            envelope_corrupt: 0,
            time_ms: Some((window.start_ms(), window.start_ms())),
            received_at_us: Some((received_ms * 1_000, received_ms * 1_000)),
            writer: "w".to_owned(),
            attempt: 1,
        };
        chain::commit(&self.objects, 1, 0, &node).await.expect("committed");
        self.next += 1;
    }

    /// Ticks until nothing runs any more.
    async fn settle(&self) {
        for _ in 0..20 {
            self.control.tick().await.expect("ticks");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn newest(&self, window: Window) -> Option<SealDoc> {
        seals::newest(&self.objects, window).await.expect("read")
    }

    async fn generations(&self, window: Window) -> Vec<ManifestDoc> {
        manifests::all(&self.objects, shard(), window).await.expect("read")
    }
}

fn case(now_ms: i64) -> SealCase<'static> {
    SealCase {
        window: window(),
        newest: None,
        closed_k: None,
        created_ms: 0,
        any_points: true,
        new: Some(NewPoints { points: 1, first_received_ms: T * 1_000, last_received_ms: T * 1_000 }),
        first_seen_ms: Some(T * 1_000),
        published_ms: None,
        outstanding: false,
        build_ms: 0,
        now_ms,
        captured_to_ms: now_ms,
    }
}

fn seal(kind: SealKind, k: u32) -> SealDoc {
    SealDoc { kind, window: T, k, ends: BTreeMap::new(), route_version: 1, decided_ms: 0, writer: "w".to_owned() }
}

#[test]
fn seal_timing() {
    let settings = Settings::for_up();
    let start = T * 1_000;
    assert_eq!(settings.close_after_ms(), 7 * HOUR_MS + 240_000);
    assert_eq!(seal::due(&case(start + 19_999), &settings), None);
    assert_eq!(seal::due(&case(start + 20_000), &settings), Some(SealKind::Provisional));
    assert_eq!(seal::due(&SealCase { build_ms: 2_000, ..case(start + 39_999) }, &settings), None, "q is 20 builds");
    assert_eq!(seal::due(&SealCase { outstanding: true, ..case(start + 20_000) }, &settings), None);
    assert_eq!(seal::due(&case(start + 20_000), &Settings::default()), None, "a setting");
    let close = start + settings.close_after_ms();
    assert_eq!(seal::due(&case(close), &settings), Some(SealKind::Closed));
    let empty = SealCase { any_points: false, new: None, first_seen_ms: None, ..case(close) };
    assert_eq!(seal::due(&empty, &settings), Some(SealKind::Closed), "an empty window closes too");
    // Backfill: ended before the store was created.
    let old = SealCase { created_ms: start + 100 * HOUR_MS, ..case(start + 200 * HOUR_MS) };
    let just_now = |ago_ms: i64, first_ms: i64| {
        Some(NewPoints { points: 1, first_received_ms: old.now_ms - first_ms, last_received_ms: old.now_ms - ago_ms })
    };
    assert_eq!(seal::due(&SealCase { new: just_now(19_999, 30_000), ..old }, &settings), None);
    assert_eq!(seal::due(&SealCase { new: just_now(20_000, 30_000), ..old }, &settings), Some(SealKind::Closed));
    assert_eq!(seal::due(&SealCase { new: just_now(0, HOUR_MS), ..old }, &settings), Some(SealKind::Closed), "at the latest after 1 h");
    let behind = SealCase { captured_to_ms: old.now_ms - 1, new: just_now(20_000, 30_000), ..old };
    assert_eq!(seal::due(&behind, &settings), None, "no pause while what came since lies in the log");
    assert_eq!(seal::due(&SealCase { new: just_now(20_000, HOUR_MS), ..behind }, &settings), Some(SealKind::Closed), "for 1 h at most");
    assert_eq!(seal::due(&SealCase { any_points: false, new: None, ..old }, &settings), None);
    // Late seals: 1, 2, 4 .. 24 h for points that never pause.
    let late = seal(SealKind::Late, 4);
    let fourth = SealCase { newest: Some(&late), closed_k: Some(1), ..old };
    assert_eq!(seal::due(&SealCase { new: None, ..fourth }, &settings), None);
    assert_eq!(seal::due(&SealCase { new: just_now(0, 8 * HOUR_MS - 1), ..fourth }, &settings), None);
    assert_eq!(seal::due(&SealCase { new: just_now(0, 8 * HOUR_MS), ..fourth }, &settings), Some(SealKind::Late));
    assert_eq!(seal::due(&SealCase { new: just_now(20_000, 20_000), ..fourth }, &settings), Some(SealKind::Late));
}

#[test]
fn ends_never_go_back() {
    let mut newest = seal(SealKind::Hand, 3);
    newest.set_end(1, 0, 10);
    let ends = [(1, 0, 7), (1, 1, 5)];
    let decision = seal::Decision {
        window: window(),
        kind: SealKind::Closed,
        newest: Some(&newest),
        now_ms: 0,
        ends: &ends,
        route_version: 1,
        writer: "w",
    };
    let next = seal::next(&decision);
    assert_eq!((next.k, next.end(1, 0), next.end(1, 1)), (4, Some(10), Some(5)));
}

#[test]
fn a_tombstone_is_never_a_base() {
    let sealed = seal(SealKind::Closed, 3);
    let chain = tailors_store::chain::ChainView::new();
    let inputs = plan::inputs(&chain, &RouteTable::initial(64), (window(), shard()), None, &[]);
    let mut first = plan::plan((window(), shard()), &seal(SealKind::Hand, 1), &[], &inputs, PlanReason::Seal, 1);
    let mut published = plan::tombstone(&first, String::new(), "", Vec::new(), "w");
    published.kind = ManifestKind::Published;
    first.g = 2;
    let tombstone = plan::tombstone(&first, String::new(), "quarantine", vec!["raw".to_owned()], "w");
    let decided = [published, tombstone];
    assert_eq!(plan::base(&decided).map(|base| base.g), Some(1));
    assert_eq!(plan::step(&sealed, Some(3), &decided, Some("a"), "b"), Step::Build(PlanReason::Quarantine));
    let next = plan::plan((window(), shard()), &sealed, &decided, &inputs, PlanReason::Quarantine, 1);
    assert_eq!((next.g, next.base_g, next.quarantine), (3, 1, vec!["raw".to_owned()]));
    assert_eq!(plan::step(&sealed, Some(3), &decided[..1], Some("a"), "a"), Step::Inherit, "below the closed seal");
    assert_eq!(plan::step(&seal(SealKind::Hand, 2), None, &decided[..1], Some("a"), "a"), Step::Satisfied);
    assert_eq!(plan::step(&seal(SealKind::Hand, 1), None, &decided[..1], Some("a"), "b"), Step::Satisfied, "k is not above the base's");
}

#[tokio::test]
async fn early_look_then_closed_then_late() {
    let start = T * 1_000;
    let mut bench = Bench::new(start - HOUR_MS, start + 60_000, Settings::for_up(), None).await;
    bench.capture(window(), 10, start + 50_000).await;
    bench.settle().await;
    assert_eq!(bench.newest(window()).await, None, "not quiet for q yet");
    bench.clock.set_ms(start + 81_000);
    bench.settle().await;
    assert_eq!(bench.newest(window()).await.map(|seal| (seal.k, seal.kind)), Some((1, SealKind::Provisional)));
    assert_eq!(bench.generations(window()).await.len(), 1);
    // C(W): nothing new, so the manifest names the base's files and no build runs.
    bench.clock.set_ms(start + Settings::for_up().close_after_ms());
    bench.settle().await;
    let generations = bench.generations(window()).await;
    assert_eq!(generations.len(), 2);
    assert_eq!(generations[0].files, generations[1].files);
    assert_eq!(bench.builds.load(Ordering::SeqCst), 1);
    assert!(seals::done(&bench.objects, window(), 2).await.expect("read").is_some());
    let before = Window::of_ms(start - HOUR_MS);
    assert_eq!(bench.newest(before).await.map(|seal| seal.kind), Some(SealKind::Closed), "empty windows close");
    assert!(seals::done(&bench.objects, before, 1).await.expect("read").is_some_and(|done| done.shards.is_empty()));
    // A late point: rebuilt, done marked again, the superseded files of g 1 kept while g 2 names them, then gone.
    bench.capture(window(), 3, start + 8 * HOUR_MS).await;
    bench.clock.set_ms(start + 8 * HOUR_MS + 20_000);
    bench.settle().await;
    let generations = bench.generations(window()).await;
    assert_eq!(generations.iter().map(|m| (m.g, m.k, m.counts.written)).collect::<Vec<_>>(), vec![(1, 1, 10), (2, 2, 10), (3, 3, 13)]);
    assert_eq!(bench.builds.load(Ordering::SeqCst), 2);
    assert_eq!(seals::done(&bench.objects, window(), 3).await.expect("read").map(|done| done.shards[&shard().to_string()]), Some(3));
    bench.clock.set_ms(start + 12 * HOUR_MS);
    bench.settle().await;
    let gone = manifests::gone(&bench.objects, shard(), window(), 1).await.expect("read");
    assert_eq!(gone.map(|gone| gone.superseded_by), Some(2), "as of the sweep that first had the proof");
    assert_eq!(bench.objects.size(&generations[0].files[0].key).await.expect("read"), None);
    assert!(bench.objects.size(&generations[2].files[0].key).await.expect("read").is_some());
    let status = bench.control.status().await.expect("status");
    let row = &status.windows[0];
    assert_eq!((row.state, row.points, row.generation, row.lag_s), (WindowState::Built, 13, Some(3), 0));
    assert_eq!(row.window, "2026-11-20T00:00:00Z");
    assert_eq!(bench.control.dirty_windows(OrgId(1)), 0);
}

#[tokio::test]
async fn backfill_is_closed_when_quiet_and_counts_as_dirty_until_built() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings { build_enabled: false, ..Settings::for_up() }, None).await;
    for n in 0..5 {
        let old = Window::starting_at_s(T + n * 14_400).expect("window");
        bench.capture(old, 10, created).await;
    }
    bench.settle().await;
    assert_eq!(bench.control.dirty_windows(OrgId(1)), 5);
    assert_eq!(bench.newest(window()).await, None);
    bench.clock.set_ms(created + 20_000);
    bench.settle().await;
    assert_eq!(bench.newest(window()).await.map(|seal| seal.kind), Some(SealKind::Closed));
    assert_eq!(bench.builds.load(Ordering::SeqCst), 0);
    let outcome = bench.control.build_window(window(), None).await.expect("built");
    assert_eq!((outcome.shards[0].generation, outcome.shards[0].points, outcome.shards[0].built), (1, 10, true));
    bench.settle().await;
    assert_eq!(bench.control.dirty_windows(OrgId(1)), 4);
    assert!(seals::done(&bench.objects, window(), 1).await.expect("read").is_some());
}

#[tokio::test]
async fn by_hand_is_idempotent_and_says_what_is_missing() {
    let start = T * 1_000;
    let mut bench = Bench::new(start, start + HOUR_MS, Settings { hand_timeout_s: 1, ..Settings::default() }, None).await;
    let empty = bench.control.seal_by_hand(window()).await.expect("no points is fine");
    assert_eq!((empty.seal, empty.points_hint), (None, 0));
    assert!(bench.control.build_window(window(), None).await.expect("fine").shards.is_empty());
    bench.capture(window(), 7, start).await;
    assert!(matches!(bench.control.build_window(window(), None).await, Err(ControlError::NoSeal { .. })));
    let sealed = bench.control.seal_by_hand(window()).await.expect("sealed");
    assert_eq!(
        (sealed.written, sealed.points_hint, sealed.seal.as_ref().map(|seal| (seal.k, seal.kind))),
        (true, 7, Some((1, SealKind::Hand)))
    );
    let again = bench.control.seal_by_hand(window()).await.expect("sealed");
    assert_eq!((again.written, again.seal), (false, sealed.seal));
    let (one, two) = tokio::join!(bench.control.build_window(window(), None), bench.control.build_window(window(), Some(shard())));
    assert_eq!((one.expect("built").shards[0].generation, two.expect("joined").shards[0].generation), (1, 1));
    assert_eq!(bench.builds.load(Ordering::SeqCst), 1, "the second one joined the first's job");
    assert!(!bench.control.build_window(window(), None).await.expect("built").shards[0].built);
    // What capture has not committed is waited for, and not for ever.
    bench.log.append(0, Bytes::from_static(b"more")).await.expect("appended");
    assert!(matches!(bench.control.seal_by_hand(window()).await, Err(ControlError::Timeout(_))));
    assert_eq!(bench.flush_to.borrow().get(&0), Some(&2), "capture was asked");
}

#[tokio::test]
async fn a_failing_job_is_parked_and_blocks_nobody() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let settings = Settings { backoff_min_ms: 0, ..Settings::for_up() };
    let mut bench = Bench::new(created, created, settings, Some(JobError::Retry("disk full".to_owned()))).await;
    bench.capture(window(), 1, created - 60_000).await;
    bench.capture(window().next(), 1, created - 60_000).await;
    bench.settle().await;
    let states: Vec<WindowState> = bench.control.status().await.expect("status").windows.iter().map(|row| row.state).collect();
    assert_eq!(states, vec![WindowState::Parked, WindowState::Parked]);
    assert_eq!(bench.builds.load(Ordering::SeqCst), 6, "three attempts each");
    bench.clock.set_ms(created + 60_000);
    bench.settle().await;
    assert!(bench.builds.load(Ordering::SeqCst) > 6, "what may pass is tried again");
}

#[tokio::test]
async fn a_damaged_raw_file_is_left_out_within_the_budget_only() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    for (budget, quarantined) in [(100, false), (1_000_000, true)] {
        let settings = Settings { backoff_min_ms: 0, corrupt_payloads_per_million: budget, ..Settings::for_up() };
        let input = JobError::Input { segment: key::raw("w", 1, 1), why: "checksum".to_owned() };
        let mut bench = Bench::new(created, created, settings, Some(input)).await;
        bench.capture(window(), 1, created - 60_000).await;
        bench.settle().await;
        let generations = bench.generations(window()).await;
        let tombstones = generations.iter().filter(|manifest| manifest.kind == ManifestKind::Tombstone).count();
        assert_eq!(tombstones > 0, quarantined);
        if quarantined {
            assert_eq!(generations[0].quarantined, vec![key::raw("w", 1, 1)]);
        } else {
            assert_eq!(bench.control.status().await.expect("status").windows[0].state, WindowState::Parked);
        }
    }
}

#[tokio::test]
async fn a_restart_repairs_the_feed_and_goes_on_with_the_open_plan() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings::for_up(), None).await;
    bench.capture(window(), 4, created - 60_000).await;
    bench.plan_and_die().await;
    bench.settle().await;
    assert_eq!(bench.generations(window()).await.len(), 1);
    assert!(feed::get(&bench.objects, 1).await.expect("read").is_some());
    // A manifest that never reached the feed.
    let mut unfed = bench.generations(window()).await.remove(0);
    unfed.window = window().next().start_s();
    bench.capture(window().next(), 4, created - 60_000).await;
    unfed.k = 1;
    manifests::put_manifest(&bench.objects, &unfed).await.expect("put");
    bench.clock.set_ms(created + 60_000);
    bench.settle().await;
    let entry = feed::get(&bench.objects, 2).await.expect("read").expect("repaired");
    assert_eq!((entry.window, entry.g), (unfed.window, 1));
}

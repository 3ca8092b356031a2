//! Day files: when a day is due, what a kill at each put leaves, two controls, late seals, inputs that can't be read, and what is deleted.

use std::collections::BTreeMap;

use futures::FutureExt;
use tailors_store::catalog::Catalog;
use tailors_store::objects::faulty::{FaultRates, FaultyStore};
use tailors_store::plans;
use tokio::sync::Notify;

use super::*;

/// When the store was made: the day is backfill.
const CREATED: i64 = T * 1_000 + 1_000 * HOUR_MS;

fn windows() -> [Window; 6] {
    window().day()
}

/// Windows of the day with points: the fourth has none.
fn with_points() -> Vec<Window> {
    windows().into_iter().enumerate().filter(|(number, _)| *number != 3).map(|(_, window)| window).collect()
}

fn objects(store: &FaultyStore) -> Objects {
    Objects::new(Arc::new(store.clone()), RetrySettings::default(), 1)
}

/// A store with five built windows of a day, and no day file yet.
async fn built(store: &FaultyStore) -> Bench {
    let settings = Settings { day_after_s: 0, ..Settings::for_up() };
    let mut bench = Bench::on(objects(store), CREATED, CREATED, settings, None).await;
    for (number, window) in with_points().into_iter().enumerate() {
        bench.capture(window, 10 + number as u64, CREATED - 60_000).await;
    }
    bench.settle().await;
    for window in with_points() {
        assert_eq!(bench.generations(window).await.len(), 1);
    }
    bench
}

/// A control of another process on a store, with the settings of `up`.
fn control(bench: &Bench, objects: &Objects, writer: &str) -> Control {
    Control::new(ControlDeps {
        objects: objects.clone(),
        writer: writer.to_owned(),
        settings: Settings { backoff_min_ms: 0, ..Settings::for_up() },
        run_build: builder(objects, &bench.builds, None),
        run_day: day_maker(objects),
        ..bench.control.deps().clone()
    })
}

/// Ticks for a while; a dead process never comes back from one.
async fn tick(control: &Control, times: usize) {
    for _ in 0..times {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(50), control.tick()).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// Keys of the day files that current generations name, by window.
async fn named(objects: &Objects) -> BTreeMap<Window, Vec<String>> {
    let mut named = BTreeMap::new();
    for window in with_points() {
        let current = manifests::newest_published(objects, shard(), window).await.expect("read").expect("published");
        named.insert(window, current.files.iter().filter(|file| file.role == FileRole::Day).map(|file| file.key.clone()).collect());
    }
    named
}

async fn day_files(objects: &Objects) -> Vec<String> {
    objects.list(&key::day_chunks(shard(), window())).await.expect("listed")
}

/// What holds at the end of every story: points as built, each generation in the feed, each file there.
async fn check(objects: &Objects) {
    let snapshot = Catalog::new(objects.clone()).snapshot(0, CREATED).await.expect("reads");
    for (number, window) in with_points().into_iter().enumerate() {
        let all = manifests::all(objects, shard(), window).await.expect("read");
        let current = plan::base(&all).expect("published");
        assert_eq!(snapshot.manifest(window, shard()).map(|manifest| manifest.g), Some(current.g), "{window}: current in the feed");
        assert!(snapshot.is_complete(window), "{window}");
        assert!(current.counts.written >= 10 + number as u64);
        assert_eq!(current.files.iter().map(|file| file.points).sum::<u64>(), current.counts.written);
        for file in &current.files {
            assert!(objects.size(&file.key).await.expect("read").is_some(), "{} is named and not there", file.key);
        }
    }
}

#[tokio::test]
async fn six_windows_name_one_file_and_the_rest_is_the_bases() {
    let bench = built(&FaultyStore::new(1)).await;
    let control = control(&bench, &bench.objects, "day");
    tick(&control, 8).await;
    let files = day_files(&bench.objects).await;
    assert_eq!(files.len(), 1);
    for window in with_points() {
        let all = bench.generations(window).await;
        let [base, day] = all.as_slice() else { panic!("two generations, not {}", all.len()) };
        assert_eq!((day.g, day.k, day.base_g, &day.files[0].key), (2, base.k, 1, &files[0]));
        assert_eq!((day.files[0].from_ms, day.files[0].to_ms), (window.start_ms(), window.end_ms()));
        assert_eq!((day.counts, &day.holes, &day.quarantined), (base.counts, &base.holes, &base.quarantined));
        let plan = plans::get(&bench.objects, shard(), window, 2).await.expect("read").expect("planned");
        let of_base = plans::get(&bench.objects, shard(), window, 1).await.expect("read").expect("planned");
        assert_eq!(plan.day, with_points().iter().map(|window| (window.start_s(), 1)).collect::<Vec<_>>());
        assert_eq!(
            (plan.reason, plan.nodes_digest, plan.points_expected),
            (PlanReason::Day, of_base.nodes_digest, of_base.points_expected)
        );
    }
    assert!(bench.generations(windows()[3]).await.is_empty(), "a window without points stays without");
    check(&bench.objects).await;
    let rows = control.status().await.expect("status").windows;
    assert!(rows.iter().all(|row| row.in_day_file && row.state == WindowState::Built));
    let bytes = bench.objects.size(&files[0]).await.expect("read").expect("there");
    assert!((bytes - 5..=bytes).contains(&rows.iter().map(|row| row.bytes).sum::<u64>()), "the file is shared out by points");
    // Nothing more to do, whoever looks; and the window files go when the grace is over.
    for minutes in 1..4 {
        bench.clock.set_ms(CREATED + minutes * 61_000);
        tick(&control, 4).await;
    }
    assert_eq!((bench.generations(window()).await.len(), day_files(&bench.objects).await), (2, files));
    assert_eq!(bench.objects.list(&key::chunks(shard(), window(), 1)).await, Ok(Vec::new()));
    assert!(manifests::gone(&bench.objects, shard(), window(), 1).await.expect("read").is_some());
    check(&bench.objects).await;
}

#[tokio::test]
async fn a_day_is_left_alone_for_as_long_as_the_setting_says() {
    let bench = built(&FaultyStore::new(1)).await;
    let entered_ms = bench.objects.last_modified_ms(&key::feed(5)).await.expect("read").expect("there");
    let clock = Arc::new(ManualClock::at_ms(entered_ms + 3_599_000));
    let patient = Control::new(ControlDeps { store_clock: clock.clone(), ..control(&bench, &bench.objects, "day").deps().clone() });
    tick(&patient, 5).await;
    assert_eq!(bench.generations(window()).await.len(), 1);
    clock.set_ms(entered_ms + 3_600_000);
    bench.clock.set_ms(CREATED + 10_000);
    tick(&patient, 5).await;
    assert_eq!(bench.generations(window()).await.len(), 2);
}

#[tokio::test]
async fn a_day_with_an_unbuilt_window_or_one_window_waits() {
    let mut bench = built(&FaultyStore::new(1)).await;
    // Points of the empty window that nobody built, and a day of which one window has points.
    bench.capture(windows()[3], 7, CREATED - 1_000).await;
    bench.capture(windows()[5].next(), 7, CREATED - 60_000).await;
    let control = control(&bench, &bench.objects, "day");
    tick(&control, 3).await;
    assert_eq!(bench.generations(window()).await.len(), 1, "the points of window 4 are not quiet yet");
    let refused = control.compact_day(window(), None).await.expect_err("refused");
    assert!(refused.to_string().contains("2026-11-20T12:00:00Z has points that are not built"), "{refused}");
    let alone = control.compact_day(windows()[5].next(), None).await.expect("fine");
    assert!(alone.message[0].ends_with("nothing to gain"), "{:?}", alone.message);
    bench.clock.set_ms(CREATED + 20_000);
    tick(&control, 12).await;
    assert_eq!(bench.generations(windows()[3]).await.len(), 2, "built, then put into the day's file");
    assert_eq!(bench.generations(windows()[5].next()).await.len(), 1);
    let young = control.compact_day(Window::of_ms(CREATED), None).await.expect("no points there");
    assert_eq!(young.shards, Vec::new());
    check(&bench.objects).await;
}

#[tokio::test]
async fn a_kill_at_any_put_is_made_good_by_the_next_process() {
    let store = FaultyStore::new(1);
    let bench = built(&store).await;
    let mut kills = 0;
    for (put, applied) in (1..).flat_map(|put| [(put, false), (put, true)]) {
        let (first, second) = {
            let first = store.fork(put);
            let second = first.beside(put);
            (first, second)
        };
        first.kill_at_put(put, applied);
        let dead = control(&bench, &objects(&first), "dead");
        tick(&dead, 4).await;
        if !first.is_killed() {
            break;
        }
        kills += 1;
        let objects = objects(&second);
        let next = control(&bench, &objects, "next");
        // A restart looks at eight windows every five seconds.
        for seconds in 0..3 {
            bench.clock.set_ms(CREATED + (put as i64 * 10 + seconds) * 61_000);
            tick(&next, 4).await;
        }
        check(&objects).await;
        let named = named(&objects).await;
        assert!(named.values().all(|files| files.len() == 1), "put {put}, applied {applied}: {named:?}");
        let mut files: Vec<String> = named.into_values().flatten().collect();
        files.dedup();
        assert_eq!(files.len(), 1, "put {put}, applied {applied}: the rest took the file of the first");
        for window in with_points() {
            assert_eq!(manifests::all(&objects, shard(), window).await.expect("read").len(), 2, "put {put}, applied {applied}");
        }
        // An orphan goes, now or with the next day that is touched; what is named stays.
        assert_eq!(day_files(&objects).await, files, "put {put}, applied {applied}");
    }
    // Five plans, the file, five manifests, five feed entries and the history.
    assert!(kills >= 2 * 17, "{kills} kills");
}

#[tokio::test]
async fn no_day_file_is_left_by_two_kills_in_a_row() {
    let store = FaultyStore::new(1);
    let bench = built(&store).await;
    // Five plans and the file.
    store.kill_at_put(6, true);
    tick(&control(&bench, &objects(&store), "first"), 4).await;
    assert!(store.is_killed());
    let mut orphans = 0;
    for put in 1.. {
        let second = store.fork(put);
        let third = objects(&second.beside(put));
        second.kill_at_put(put, true);
        tick(&control(&bench, &objects(&second), "second"), 4).await;
        if !second.is_killed() {
            break;
        }
        orphans += usize::from(day_files(&third).await.len() == 2);
        let next = control(&bench, &third, "third");
        for minutes in 0..3 {
            bench.clock.set_ms(CREATED + (put as i64 * 10 + minutes) * 61_000);
            tick(&next, 4).await;
        }
        check(&third).await;
        let mut files: Vec<String> = named(&third).await.into_values().flatten().collect();
        files.dedup();
        assert_eq!(day_files(&third).await, files, "put {put}");
    }
    // The file, five manifests, five feed entries and the history.
    assert_eq!(orphans, 12);
}

#[tokio::test]
async fn two_controls_make_one_generation_of_each_window() {
    let store = FaultyStore::new(1);
    let bench = built(&store).await;
    for seed in 0..12 {
        let mine = store.fork(seed);
        let other = mine.beside(seed + 100);
        let objects = objects(&mine.beside(seed + 200));
        let rates = FaultRates { before_apply: 40, after_apply: 40, spurious_exists: 40, truncated: 20 };
        mine.set_rates(rates);
        other.set_rates(rates);
        let (mine, other) = (control(&bench, &self::objects(&mine), "mine"), control(&bench, &self::objects(&other), "other"));
        let (first, second) = (tick(&mine, 6), tick(&other, 6));
        tokio::join!(first, second);
        let last = control(&bench, &objects, "last");
        for minute in 0..3 {
            bench.clock.set_ms(CREATED + (seed as i64 * 10 + minute) * 61_000);
            tick(&last, 4).await;
        }
        check(&objects).await;
        for (window, files) in named(&objects).await {
            assert_eq!(files.len(), 1, "seed {seed}: {window}");
        }
    }
}

/// A day maker that waits until it is let go.
fn held(objects: &Objects) -> (RunDay, Arc<Notify>) {
    let (go, inner) = (Arc::new(Notify::new()), day_maker(objects));
    let waits = go.clone();
    let run: RunDay = Arc::new(move |job| {
        let (waits, inner) = (waits.clone(), inner.clone());
        async move {
            waits.notified().await;
            inner(job).await
        }
        .boxed()
    });
    (run, go)
}

#[tokio::test]
async fn a_late_seal_while_the_day_is_made_waits_for_it_and_counts() {
    let mut bench = built(&FaultyStore::new(1)).await;
    let (run_day, go) = held(&bench.objects);
    let control = Control::new(ControlDeps { run_day, ..control(&bench, &bench.objects, "day").deps().clone() });
    tick(&control, 3).await;
    // Late points of the second window, sealed while the file is being made.
    bench.capture(windows()[1], 5, CREATED + 1_000).await;
    bench.clock.set_ms(CREATED + 21_000);
    tick(&control, 3).await;
    assert_eq!(bench.newest(windows()[1]).await.map(|seal| (seal.k, seal.kind)), Some((2, SealKind::Late)));
    assert_eq!(bench.generations(windows()[1]).await.len(), 1, "the day's plan has to be decided first");
    go.notify_one();
    tick(&control, 8).await;
    let late = bench.generations(windows()[1]).await;
    let story: Vec<_> = late.iter().map(|m| (m.k, m.counts.written, m.files[0].role)).collect();
    assert_eq!(story, [(1, 11, FileRole::Base), (1, 11, FileRole::Day), (2, 16, FileRole::Base)]);
    check(&bench.objects).await;
    // Its day's file stays while the others use it, though it names it no more and its grace is over.
    let quiet = Control::new(ControlDeps { settings: Settings { day_after_s: 0, ..Settings::for_up() }, ..control.deps().clone() });
    let first = day_files(&bench.objects).await;
    for minutes in 1..4 {
        bench.clock.set_ms(CREATED + minutes * 61_000);
        tick(&quiet, 4).await;
    }
    assert!(manifests::gone(&bench.objects, shard(), windows()[1], 2).await.expect("read").is_some());
    assert_eq!((day_files(&bench.objects).await, first.len()), (first, 1));
    check(&bench.objects).await;
    // Left alone for long enough, the day is made again of the file and the new generation; then the first file goes.
    for minutes in 5..9 {
        go.notify_one();
        bench.clock.set_ms(CREATED + minutes * 61_000);
        tick(&control, 6).await;
    }
    let again = plans::get(&bench.objects, shard(), windows()[0], 3).await.expect("read").expect("planned");
    assert_eq!(again.day.iter().map(|(_, g)| *g).collect::<Vec<_>>(), [2, 3, 2, 2, 2]);
    assert_eq!(bench.generations(windows()[1]).await.len(), 4);
    assert_eq!(day_files(&bench.objects).await.len(), 1);
    check(&bench.objects).await;
}

#[tokio::test]
async fn a_window_whose_next_generation_is_taken_is_left_out() {
    let bench = built(&FaultyStore::new(1)).await;
    // Another process is about to build the second window anew.
    let mut scrub = plans::get(&bench.objects, shard(), windows()[1], 1).await.expect("read").expect("planned");
    (scrub.g, scrub.base_g, scrub.reason) = (2, 1, PlanReason::Scrub);
    plans::put_plan(&bench.objects, &scrub).await.expect("put");
    let control = control(&bench, &bench.objects, "day");
    tick(&control, 8).await;
    let mut roles = Vec::new();
    for window in with_points() {
        roles.push(bench.generations(window).await.last().expect("published").files[0].role);
    }
    assert_eq!(roles, [FileRole::Day, FileRole::Base, FileRole::Day, FileRole::Day, FileRole::Day]);
    check(&bench.objects).await;
}

#[tokio::test]
async fn inputs_that_can_not_be_read_leave_the_windows_as_they_are() {
    let mut bench = built(&FaultyStore::new(1)).await;
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let run_day: RunDay = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Err(JobError::Input { segment: "a window's file".to_owned(), why: "checksum".to_owned() }) }.boxed()
    });
    let broken = Control::new(ControlDeps { run_day, ..control(&bench, &bench.objects, "day").deps().clone() });
    for seconds in 0..4 {
        bench.clock.set_ms(CREATED + seconds * 11_000);
        tick(&broken, 6).await;
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 3, "three attempts, and no more with the same inputs");
    for window in with_points() {
        let all = bench.generations(window).await;
        assert_eq!(all.iter().map(|manifest| manifest.kind).collect::<Vec<_>>(), [ManifestKind::Published, ManifestKind::Tombstone]);
    }
    check(&bench.objects).await;
    // After a restart too; by hand it is tried, and said.
    let restarted = Control::new(broken.deps().clone());
    for seconds in 5..9 {
        bench.clock.set_ms(CREATED + seconds * 11_000);
        tick(&restarted, 4).await;
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
    let told = restarted.compact_day(window(), None).await.expect_err("still damaged");
    assert!(told.to_string().contains("can't be read"), "{told}");
    assert_eq!(attempts.load(Ordering::SeqCst), 6);
    // Late points are built over the tombstones, and the day of new inputs is tried again.
    bench.capture(windows()[1], 5, CREATED + 100_000).await;
    bench.clock.set_ms(CREATED + 121_000);
    let control = control(&bench, &bench.objects, "day");
    for seconds in 0..3 {
        bench.clock.set_ms(CREATED + 121_000 + seconds * 11_000);
        tick(&control, 8).await;
    }
    let current = manifests::newest_published(&bench.objects, shard(), windows()[1]).await.expect("read").expect("published");
    assert_eq!((current.counts.written, current.files[0].role), (16, FileRole::Day));
    check(&bench.objects).await;
}

#[tokio::test]
async fn plans_of_an_older_encoder_are_cancelled_and_the_day_is_planned_anew() {
    for published in [false, true] {
        let bench = built(&FaultyStore::new(1)).await;
        let inputs: Vec<(i64, u32)> = with_points().iter().map(|window| (window.start_s(), 1)).collect();
        let mut planned = Vec::new();
        // The process before the upgrade planned three of five windows, made the file, and perhaps published the first.
        for window in &with_points()[..3] {
            let of_base = plans::get(&bench.objects, shard(), *window, 1).await.expect("read").expect("planned");
            let mut old = plan::day_plan(of_base, &bench.generations(*window).await[0], 2, &inputs);
            old.encoder -= 1;
            plans::put_plan(&bench.objects, &old).await.expect("put");
            planned.push(old);
        }
        let orphan = key::day_chunk(shard(), window(), "old", 0);
        bench.objects.put_data(&orphan, Bytes::from_static(b"of the older encoder")).await.expect("put");
        if published {
            let mut manifest = bench.generations(window()).await.remove(0);
            let file =
                ManifestFile { key: orphan.clone(), role: FileRole::Day, bytes: 20, hash: "old".to_owned(), ..manifest.files.remove(0) };
            (manifest.g, manifest.base_g, manifest.files, manifest.encoder) = (2, 1, vec![file], planned[0].encoder);
            manifest.plan_digest = plans::digest(&planned[0]).expect("digest");
            manifests::put_manifest(&bench.objects, &manifest).await.expect("put");
        }
        let control = control(&bench, &bench.objects, "day");
        if published {
            // By hand it is the same, without a wait.
            let done = control.compact_day(window(), None).await.expect("compacts");
            assert_eq!(done.shards[0].files, 1, "{:?}", done.message);
        }
        for minutes in 1..5 {
            bench.clock.set_ms(CREATED + minutes * 61_000);
            tick(&control, 6).await;
        }
        let second = bench.generations(windows()[1]).await;
        let story: Vec<_> = second.iter().map(|manifest| (manifest.kind, manifest.reason.as_deref())).collect();
        let (built, cancelled) = ((ManifestKind::Published, None), (ManifestKind::Tombstone, Some("day encoder")));
        assert_eq!(story, [built, cancelled, built]);
        let plan = plans::get(&bench.objects, shard(), windows()[1], 3).await.expect("read").expect("planned");
        assert_eq!((plan.encoder, plan.base_g), (tailors_format::chunk::ENCODER_VERSION, 1));
        assert_eq!(plan.day.iter().map(|(_, g)| *g).collect::<Vec<_>>(), [if published { 2 } else { 1 }, 1, 1, 1, 1]);
        let named = named(&bench.objects).await;
        let made = day_files(&bench.objects).await;
        assert_eq!(made.len(), 1, "the older encoder's file goes");
        assert!(made[0] != orphan && named.values().all(|files| *files == made), "{named:?}");
        check(&bench.objects).await;
    }
}

#[tokio::test]
async fn a_plan_of_a_newer_encoder_waits_for_one_who_has_it() {
    let bench = built(&FaultyStore::new(1)).await;
    let of_base = plans::get(&bench.objects, shard(), window(), 1).await.expect("read").expect("planned");
    let inputs: Vec<(i64, u32)> = with_points().iter().map(|window| (window.start_s(), 1)).collect();
    let mut newer = plan::day_plan(of_base, &bench.generations(window()).await[0], 2, &inputs);
    newer.encoder += 1;
    plans::put_plan(&bench.objects, &newer).await.expect("put");
    let control = control(&bench, &bench.objects, "day");
    tick(&control, 6).await;
    assert_eq!(bench.generations(window()).await.len(), 1, "it is not this one's to decide");
    assert!(day_files(&bench.objects).await.is_empty());
    let told = control.compact_day(window(), None).await.expect_err("parked");
    assert!(told.to_string().contains("asks for encoder"), "{told}");
}

#[tokio::test]
async fn by_hand_a_day_does_not_wait() {
    let bench = built(&FaultyStore::new(1)).await;
    let settings = Settings { day_after_s: 0, build_enabled: false, ..Settings::for_up() };
    let control = Control::new(ControlDeps { settings, ..control(&bench, &bench.objects, "day").deps().clone() });
    tick(&control, 3).await;
    let done = control.compact_day(windows()[4], None).await.expect("compacts");
    let row = &done.shards[0];
    assert_eq!((row.windows, row.points, row.files_before, row.files), (5, 10 + 11 + 12 + 13 + 14, 5, 1));
    assert!(done.message[0].starts_with("day 2026-11-20 of mod-0064-0001: 5 window(s), 60 points, 5 file(s)"), "{:?}", done.message);
    let again = control.compact_day(window(), Some(shard())).await.expect("fine");
    assert!(again.message[0].ends_with("nothing to gain"));
    assert_eq!(bench.generations(window()).await.len(), 2);
    check(&bench.objects).await;
}

#[tokio::test]
async fn a_file_that_an_open_plan_may_still_name_is_no_orphan() {
    let store = FaultyStore::new(1);
    let bench = built(&store).await;
    // Five plans, the file, the first manifest and its feed entry; the second manifest was never put.
    store.kill_at_put(9, false);
    let paused = control(&bench, &objects(&store), "paused");
    tick(&paused, 4).await;
    assert!(store.is_killed());
    let alive = objects(&store.beside(2));
    let made = day_files(&alive).await;
    assert_eq!(named(&alive).await.values().filter(|files| **files == made).count(), 1);
    // Another control, which builds nothing, sweeps; it also finds a file that a killed attempt left.
    let orphan = key::day_chunk(shard(), window(), "left", 0);
    alive.put_data(&orphan, Bytes::from_static(b"orphan")).await.expect("put");
    let settings = Settings { build_enabled: false, ..Settings::for_up() };
    let sweeper = Control::new(ControlDeps { settings, ..control(&bench, &alive, "sweeper").deps().clone() });
    for minutes in 1..3 {
        bench.clock.set_ms(CREATED + minutes * 61_000);
        tick(&sweeper, 3).await;
        sweeper.0.state.lock().await.day_sweeps.insert((window(), shard()));
    }
    assert_eq!(day_files(&alive).await.len(), 2, "four plans are open: nobody knows which file their manifests will name");
    let next = control(&bench, &alive, "next");
    for minutes in 3..6 {
        bench.clock.set_ms(CREATED + minutes * 61_000);
        tick(&next, 4).await;
    }
    assert_eq!(day_files(&alive).await, made);
    assert!(named(&alive).await.values().all(|files| *files == made));
    check(&alive).await;
}

#[tokio::test]
async fn a_file_whose_user_is_gone_is_not_lent() {
    let store = FaultyStore::new(1);
    let bench = built(&store).await;
    // Five plans, the file, the first manifest and its feed entry.
    store.kill_at_put(9, false);
    tick(&control(&bench, &objects(&store), "dead"), 4).await;
    assert!(store.is_killed());
    let alive = objects(&store.beside(2));
    let made = day_files(&alive).await;
    assert_eq!(named(&alive).await[&windows()[0]], made);
    // Its only user is on its way out: a sweep that looked before may be about to delete the file.
    let gone = tailors_format::doc::GoneDoc { superseded_by: 3 };
    manifests::put_gone(&alive, shard(), windows()[0], 2, &gone).await.expect("put");
    let next = control(&bench, &alive, "next");
    for minutes in 1..4 {
        bench.clock.set_ms(CREATED + minutes * 61_000);
        tick(&next, 4).await;
    }
    let named = named(&alive).await;
    for window in with_points().into_iter().skip(1) {
        assert_eq!(named[&window].len(), 1, "{window}");
        assert_ne!(named[&window], made, "{window}");
    }
}

#[tokio::test]
async fn a_damaged_document_of_a_newer_day_stops_no_other_day() {
    let mut bench = built(&FaultyStore::new(1)).await;
    let newer = windows()[5].next().day();
    for window in [newer[0], newer[1]] {
        bench.capture(window, 7, CREATED - 60_000).await;
    }
    bench.settle().await;
    bench.objects.put_data(&key::seal(newer[3], 1), Bytes::from_static(b"no seal")).await.expect("put");
    let control = control(&bench, &bench.objects, "day");
    tick(&control, 8).await;
    assert_eq!(bench.generations(newer[0]).await.len(), 1, "nothing is decided for a day with a damaged document");
    assert_eq!(bench.generations(window()).await.len(), 2);
    check(&bench.objects).await;
}

//! What control does beside its own path: another control on the same store, a log that was made anew, points that still flow, failed attempts.

use super::*;

#[tokio::test]
async fn a_window_that_still_gets_points_is_not_sealed_in_a_seeming_pause() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings::for_up(), None).await;
    bench.capture(window(), 10, created).await;
    // Acknowledged, and not in the chain yet: points of the same window, for all that control knows.
    bench.log.append(0, Bytes::from_static(b"payload")).await.expect("appended");
    bench.clock.set_ms(created + 25_000);
    bench.settle().await;
    assert_eq!(bench.newest(window()).await, None, "the chain is silent since 25 s, the log is not");
    // Capture catches up; the pause counts from what it found.
    bench.commit(window(), 10, created + 24_000).await;
    bench.settle().await;
    assert_eq!(bench.newest(window()).await, None);
    bench.clock.set_ms(created + 44_000);
    bench.settle().await;
    assert_eq!(bench.generations(window()).await.iter().map(|m| m.counts.written).collect::<Vec<_>>(), [20], "built once");
}

#[tokio::test]
async fn what_another_control_decided_is_seen_though_nothing_is_due() {
    let start = T * 1_000;
    let settings = Settings { provisional: false, ..Settings::for_up() };
    let mut bench = Bench::new(start, start + HOUR_MS, settings, None).await;
    bench.capture(window(), 10, start + 1_000).await;
    bench.settle().await;
    // Another process seals and builds by hand, and dies before the feed entry.
    let seal = SealDoc {
        ends: BTreeMap::from([("0000000001".to_owned(), BTreeMap::from([("00000".to_owned(), 1)]))]),
        ..super::seal(SealKind::Hand, 1)
    };
    seals::put(&bench.objects, &seal).await.expect("put");
    let mut view = tailors_store::chain::ChainView::new();
    view.refresh(&bench.objects, &[1], 1).await.expect("read");
    let inputs = plan::inputs(&view, &RouteTable::initial(64), (window(), shard()), Some(&seal), &[]);
    let planned = plan::plan((window(), shard()), &seal, &[], &inputs, PlanReason::Seal, 1);
    tailors_store::plans::put_plan(&bench.objects, &planned).await.expect("put");
    let mut manifest = plan::tombstone(&planned, tailors_store::plans::digest(&planned).expect("digest"), "", Vec::new(), "other");
    manifest.kind = ManifestKind::Published;
    manifest.reason = None;
    manifest.counts = Counts { read: 10, written: 10, ..Counts::default() };
    manifests::put_manifest(&bench.objects, &manifest).await.expect("put");
    bench.clock.set_ms(start + HOUR_MS + 5_000);
    bench.settle().await;
    let entry = feed::get(&bench.objects, 1).await.expect("read").expect("repaired, all the time and not only on start");
    assert_eq!((entry.window, entry.g), (T, 1));
    assert_eq!(bench.builds.load(Ordering::SeqCst), 0, "its generation is as good as mine");
    assert_eq!(bench.control.status().await.expect("status").windows[0].state, WindowState::Built);
}

#[tokio::test]
async fn a_log_made_anew_ends_the_old_stream_and_says_what_is_lost() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings { build_enabled: false, ..Settings::for_up() }, None).await;
    bench.capture(window(), 10, created).await;
    // Five records that capture never saw, below a closed seal at the log's end.
    for _ in 0..5 {
        bench.log.append(0, Bytes::from_static(b"payload")).await.expect("appended");
    }
    bench.control.tick().await.expect("ticks");
    bench.clock.set_ms(created + 2 * HOUR_MS);
    bench.control.tick().await.expect("ticks");
    assert_eq!(bench.newest(window()).await.and_then(|seal| seal.end(1, 0)), Some(6));
    // The directory of the log is lost; a new one takes its name.
    let log = Arc::new(MemoryLog::new(1, 2));
    assert_eq!(registry::register_stream(&bench.objects, log.identity(), created).await, Ok(2));
    chain::ensure_genesis(&bench.objects, 2, 0, 0, "w").await.expect("genesis");
    bench.control = Control::new(ControlDeps { log, settings: Settings::for_up(), ..bench.control.deps().clone() });
    bench.settle().await;
    assert!(registry::is_ended(&bench.objects, 1).await.expect("read"));
    let generations = bench.generations(window()).await;
    assert_eq!(generations.iter().map(|m| (m.counts.written, m.holes.clone())).collect::<Vec<_>>(), [(10, vec![(1, 0, 1, 6)])]);
}

#[tokio::test]
async fn a_failed_attempt_leaves_no_files() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings { backoff_min_ms: 0, ..Settings::for_up() }, None).await;
    let objects = bench.objects.clone();
    let run_build: RunBuild = Arc::new(move |job: BuildJob| {
        let objects = objects.clone();
        Box::pin(async move {
            let key = key::chunk(job.plan.shard, window(), job.plan.g, &job.attempt, 0);
            objects.put_data(&key, Bytes::from_static(b"chunk")).await.map_err(|error| JobError::Retry(error.to_string()))?;
            Err(JobError::Retry("the disk is full behind it".to_owned()))
        })
    });
    bench.control = Control::new(ControlDeps { run_build, ..bench.control.deps().clone() });
    bench.capture(window(), 1, created - 60_000).await;
    bench.settle().await;
    assert_eq!(bench.control.status().await.expect("status").windows[0].state, WindowState::Parked);
    assert_eq!(bench.objects.list(&key::chunks(shard(), window(), 1)).await, Ok(Vec::new()));
}

#[tokio::test]
async fn the_loop_can_be_spawned_and_ends_when_told_to() {
    let bench = Bench::new(T * 1_000, T * 1_000, Settings::for_up(), None).await;
    let (stop, stopped) = watch::channel(false);
    let control = bench.control.clone();
    let running = tokio::spawn(async move { control.run(stopped).await });
    stop.send_replace(true);
    assert!(running.await.expect("no panic").is_ok());
}

#[tokio::test]
async fn a_shard_that_can_not_be_built_takes_no_early_looks_from_the_others() {
    let start = T * 1_000;
    let mut bench = Bench::new(start, start, Settings::for_up(), Some(JobError::Bug("a damaged raw file".to_owned()))).await;
    bench.capture(window(), 10, start).await;
    bench.settle().await;
    bench.clock.set_ms(start + 20_000);
    bench.settle().await;
    assert_eq!(bench.newest(window()).await.map(|seal| seal.k), Some(1));
    bench.capture(window(), 10, start + 21_000).await;
    bench.clock.set_ms(start + 60_000);
    bench.settle().await;
    assert_eq!(bench.newest(window()).await.map(|seal| (seal.k, seal.kind)), Some((2, SealKind::Provisional)));
}

#[tokio::test]
async fn a_damaged_document_of_one_window_stops_no_other() {
    let start = T * 1_000;
    let mut bench = Bench::new(start, start, Settings::for_up(), None).await;
    bench.objects.put_data(&key::seal(window(), 1), Bytes::from_static(b"no document")).await.expect("put");
    bench.capture(window(), 10, start).await;
    bench.capture(window().next(), 10, start).await;
    bench.settle().await;
    bench.clock.set_ms(start + 20_000);
    bench.settle().await;
    assert_eq!(bench.generations(window().next()).await.len(), 1);
    assert!(bench.generations(window()).await.is_empty(), "nothing is decided on a guess");
    let catalog = tailors_store::catalog::Catalog::new(bench.objects.clone());
    let snapshot = catalog.snapshot(0, start + 20_000).await.expect("queries of other windows go on");
    assert!(snapshot.doubtful.contains_key(&window()) && !snapshot.is_complete(window()));
    assert_eq!(snapshot.of_window(window().next()).count(), 1);
}

#[tokio::test]
async fn a_lost_chunk_file_is_built_anew_by_hand() {
    let start = T * 1_000;
    let mut bench = Bench::new(start, start + 8 * HOUR_MS, Settings { provisional: false, ..Settings::for_up() }, None).await;
    bench.capture(window(), 10, start).await;
    bench.settle().await;
    let first = bench.generations(window()).await;
    assert_eq!(first.len(), 1);
    let (stop, stopped) = watch::channel(false);
    let control = bench.control.clone();
    let running = tokio::spawn(async move { control.run(stopped).await });
    let build = || async { bench.control.build_window(window(), None).await.expect("built").shards[0].generation };
    assert_eq!(build().await, 1, "nothing is wrong yet");
    bench.objects.delete(&first[0].files[0].key).await.expect("lost");
    assert_eq!(build().await, 2);
    assert_eq!(build().await, 2, "and that is whole");
    let second = &bench.generations(window()).await[1];
    assert_eq!((second.k, second.base_g, second.counts.written), (first[0].k, 1, 10));
    stop.send_replace(true);
    running.await.expect("joined").expect("ended well");
}

#[tokio::test]
async fn a_pin_holds_superseded_files_and_a_killed_readers_ends() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings::for_up(), None).await;
    bench.capture(window(), 10, created - 60_000).await;
    bench.settle().await;
    let old = bench.generations(window()).await.remove(0).files.remove(0).key;
    let pin = tailors_store::pins::Pin::put(bench.objects.clone(), "reader", 1).await.expect("put");
    drop(pin);
    bench.capture(window(), 5, created).await;
    let put_ms = bench.objects.last_modified_ms(&key::pin("reader", 1)).await.expect("read").expect("stands");
    // The grace is over, and the reader, killed without a word, may still be at it.
    let store_clock = Arc::new(ManualClock::at_ms(put_ms + 599_000));
    let settings = Settings { reader_grace_s: 0, ..Settings::for_up() };
    bench.control = Control::new(ControlDeps { store_clock: store_clock.clone(), settings, ..bench.control.deps().clone() });
    for (minutes, held) in [(1, true), (3, true), (5, false)] {
        bench.clock.set_ms(created + minutes * 61_000);
        if !held {
            store_clock.set_ms(put_ms + 600_000);
        }
        bench.settle().await;
        assert_eq!(bench.generations(window()).await.len(), 2);
        assert_eq!(bench.objects.size(&old).await.expect("read").is_some(), held, "minute {minutes}");
    }
    assert_eq!(bench.objects.list(key::PINS).await, Ok(Vec::new()), "what has ended is cleared away");
}

#[tokio::test]
async fn a_window_of_the_past_is_not_complete_while_its_points_wait_for_a_seal() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings::for_up(), None).await;
    let catalog = tailors_store::catalog::Catalog::told(bench.objects.clone(), bench.windows_with_points.subscribe());
    bench.settle().await;
    assert!(catalog.snapshot(0, created).await.expect("reads").is_complete(window()), "nothing was sent for it");
    bench.capture(window(), 10, created).await;
    bench.settle().await;
    assert_eq!(bench.newest(window()).await, None, "points may still flow");
    assert!(!catalog.snapshot(0, created).await.expect("reads").is_complete(window()));
    bench.clock.set_ms(created + 20_000);
    bench.settle().await;
    assert!(catalog.snapshot(0, created + 20_000).await.expect("reads").is_complete(window()));
}

#[tokio::test]
async fn a_settled_window_is_let_go_of_and_comes_back_with_late_points() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings::for_up(), None).await;
    for _ in 0..3 {
        bench.capture(window(), 10, created - 60_000).await;
    }
    bench.settle().await;
    assert_eq!(bench.generations(window()).await.len(), 1);
    assert!(!bench.control.0.state.lock().await.chain.is_whole(window()), "its nodes are not kept in memory");
    assert!(!bench.control.build_window(window(), None).await.expect("built").shards[0].built);
    // A restart finds the done mark and does not look further; the status is the same.
    let restart = |bench: &mut Bench| bench.control = Control::new(bench.control.deps().clone());
    restart(&mut bench);
    bench.settle().await;
    let status = bench.control.status().await.expect("status");
    assert_eq!((status.windows.len(), status.windows[0].points, status.windows[0].state), (1, 30, WindowState::Built));
    assert_eq!(bench.control.seal_by_hand(window()).await.expect("said").points_hint, 30);
    // Late points: the window is planned again with all of its nodes.
    bench.capture(window(), 5, created + 1_000).await;
    bench.clock.set_ms(created + 2_000);
    bench.settle().await;
    assert_eq!(bench.control.dirty_windows(OrgId(1)), 1);
    bench.clock.set_ms(created + 21_000);
    bench.settle().await;
    assert_eq!(bench.generations(window()).await.iter().map(|m| (m.k, m.counts.written)).collect::<Vec<_>>(), [(1, 30), (2, 35)]);
    assert_eq!(bench.control.dirty_windows(OrgId(1)), 0);
    // Another restart: what was superseded before it is deleted all the same.
    restart(&mut bench);
    for seconds in [30, 90, 150] {
        bench.clock.set_ms(created + seconds * 1_000);
        bench.settle().await;
    }
    let gone = manifests::gone(&bench.objects, shard(), window(), 1).await.expect("read");
    assert_eq!(gone.map(|gone| gone.superseded_by), Some(2));
}

#[tokio::test]
async fn what_a_killed_attempt_left_goes_once_its_generation_is_decided() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings::for_up(), None).await;
    bench.capture(window(), 4, created - 60_000).await;
    // A process that planned, uploaded, and died.
    let objects = bench.objects.clone();
    let run_build: RunBuild = Arc::new(move |job: BuildJob| {
        let objects = objects.clone();
        Box::pin(async move {
            let key = key::chunk(job.plan.shard, window(), job.plan.g, "killed", 0);
            objects.put_data(&key, Bytes::from_static(b"orphan")).await.map_err(|error| JobError::Retry(error.to_string()))?;
            std::future::pending().await
        })
    });
    let killed = Control::new(ControlDeps { run_build, ..bench.control.deps().clone() });
    for _ in 0..5 {
        killed.tick().await.expect("ticks");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(bench.objects.list(&key::chunks(shard(), window(), 1)).await.map(|files| files.len()), Ok(1));
    bench.settle().await;
    bench.clock.set_ms(created + 61_000);
    bench.settle().await;
    let named: Vec<String> = bench.generations(window()).await[0].files.iter().map(|file| file.key.clone()).collect();
    assert_eq!(bench.objects.list(&key::chunks(shard(), window(), 1)).await, Ok(named), "what the manifest names, and nothing else");
}

#[tokio::test]
async fn a_plan_of_an_older_encoder_is_cancelled_and_planned_anew() {
    let created = T * 1_000 + 1_000 * HOUR_MS;
    let mut bench = Bench::new(created, created, Settings::for_up(), None).await;
    bench.capture(window(), 4, created - 60_000).await;
    // Before the upgrade.
    bench.plan_and_die().await;
    let planned = tailors_store::plans::get(&bench.objects, shard(), window(), 1).await.expect("read").expect("planned");
    bench.objects.delete(&key::plan(shard(), window(), 1)).await.expect("deleted");
    let older = tailors_format::doc::PlanDoc { encoder: planned.encoder - 1, ..planned.clone() };
    tailors_store::plans::put_plan(&bench.objects, &older).await.expect("put");
    bench.settle().await;
    let decided: Vec<_> = bench.generations(window()).await.into_iter().map(|m| (m.g, m.kind, m.encoder, m.counts.written)).collect();
    let (before, now) = (older.encoder, planned.encoder);
    assert_eq!(decided, [(1, ManifestKind::Tombstone, before, 0), (2, ManifestKind::Published, now, 4)]);
    assert!(seals::done(&bench.objects, window(), 1).await.expect("read").is_some_and(|done| done.shards[&shard().to_string()] == 2));
}

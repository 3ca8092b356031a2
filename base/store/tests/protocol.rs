//! The protocol documents on a store that fails on purpose: registry, chain, feed, manifests, catalog, keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tailors_format::doc::{
    Counts, DoneDoc, FeedDoc, ManifestDoc, ManifestKind, NodeDoc, NodeKind, PlanDoc, PlanReason, RawRef, Scope, SealDoc, SealKind,
};
use tailors_format::key;
use tailors_model::window::WINDOW_MS;
use tailors_model::{OrgId, ShardId, Window};
use tailors_store::auth::{self, Authenticator, NewKey};
use tailors_store::catalog::Catalog;
use tailors_store::chain::{self, ChainView, Commit};
use tailors_store::feed::{self, FeedView};
use tailors_store::log::StreamIdentity;
use tailors_store::manifests::{self, PutManifest};
use tailors_store::objects::faulty::{Fault, FaultRates, FaultyStore};
use tailors_store::{Objects, PutDoc, RetrySettings, StoreError, plans, registry, routes, seals};

const T: Window = Window::of_ms(1_795_132_800_000);

fn store(seed: u64) -> (FaultyStore, Objects) {
    let store = FaultyStore::new(seed);
    let retry = RetrySettings { deadline_ms: 10_000, backoff_min_ms: 1, backoff_max_ms: 2 };
    (store.clone(), Objects::new(Arc::new(store), retry, seed))
}

fn rates() -> FaultRates {
    FaultRates { before_apply: 60, after_apply: 120, spurious_exists: 60, truncated: 40 }
}

fn identity(topic: &str) -> StreamIdentity {
    StreamIdentity { cluster: "c".to_owned(), topic_uuid: topic.to_owned(), name: "points".to_owned() }
}

fn shard(org: u32) -> ShardId {
    ShardId::of_org(OrgId(org), 64)
}

fn node(writer: &str, attempt: u32, start: u64, next: u64) -> NodeDoc {
    let rows = BTreeMap::from([(T.to_string(), vec![(0, 10, 1, next - start, 0, 0)])]);
    NodeDoc {
        kind: NodeKind::Data,
        start,
        next,
        raw: Some(RawRef { key: key::raw(writer, u64::from(attempt), 1), bytes: 10, crc32c: "00000000".to_owned() }),
        extents: BTreeMap::from([(shard(1).to_string(), rows)]),
        route_version: 1,
        records: next - start,
        payloads: next - start,
        points: next - start,
        envelope_corrupt: 0,
        time_ms: None,
        received_at_us: None,
        writer: writer.to_owned(),
        attempt,
    }
}

fn seal(window: Window, k: u32, kind: SealKind, ends: &[(u32, u32, u64)]) -> SealDoc {
    let mut seal =
        SealDoc { kind, window: window.start_s(), k, ends: BTreeMap::new(), route_version: 1, decided_ms: 0, writer: "w".to_owned() };
    for (epoch, partition, end) in ends {
        seal.set_end(*epoch, *partition, *end);
    }
    seal
}

fn manifest(shard: ShardId, window: Window, g: u32, k: u32, kind: ManifestKind) -> ManifestDoc {
    ManifestDoc {
        kind,
        reason: None,
        shard,
        window: window.start_s(),
        g,
        k,
        base_g: 0,
        plan_digest: "p".to_owned(),
        route_version: 1,
        files: vec![],
        counts: Counts::default(),
        series: 0,
        max_timestamp_ms: None,
        received_at_max_us: 0,
        holes: vec![],
        quarantined: vec![],
        encoder: 1,
        writer: "w".to_owned(),
        attempt: "a".to_owned(),
    }
}

#[tokio::test]
async fn streams_get_dense_epochs_and_routes_begin_with_one() {
    let (faults, objects) = store(1);
    faults.set_rates(rates());
    assert_eq!(registry::store_created_ms(&objects).await, Ok(None));
    for (topic, epoch) in [("a", 1), ("b", 2), ("a", 1), ("c", 3), ("b", 2)] {
        assert_eq!(registry::register_stream(&objects, &identity(topic), 100 + i64::from(epoch)).await, Ok(epoch));
    }
    let streams = registry::streams(&objects).await.expect("reads");
    assert_eq!(streams.iter().map(|(epoch, doc)| (*epoch, doc.topic_uuid.as_str())).collect::<Vec<_>>(), [(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(registry::store_created_ms(&objects).await, Ok(Some(101)));
    assert!(matches!(routes::newest(&objects).await, Err(StoreError::NotFound(_))));
    assert_eq!(routes::init(&objects, 64).await.expect("inits").mod_count, 64);
    assert_eq!(routes::init(&objects, 32).await.expect("inits").mod_count, 64, "N is fixed when the store is created");
}

#[tokio::test]
async fn a_commit_is_mine_or_lost() {
    let (faults, objects) = store(2);
    assert!(matches!(chain::head(&objects, 1, 0, 5).await, Err(StoreError::NotFound(_))));
    assert_eq!(chain::ensure_genesis(&objects, 1, 0, 7, "a").await, Ok(7));
    assert_eq!(chain::ensure_genesis(&objects, 1, 0, 9, "b").await, Ok(7));
    let mine = node("a", 1, 7, 10);
    faults.fail_next_put(Fault::AfterApply);
    assert_eq!(chain::commit(&objects, 1, 0, &mine).await, Ok(Commit::Mine));
    assert_eq!(chain::commit(&objects, 1, 0, &mine).await, Ok(Commit::Mine), "a retried put");
    assert_eq!(chain::commit(&objects, 1, 0, &node("b", 1, 7, 9)).await, Ok(Commit::Lost(mine.clone())));
    for (start, next) in [(10, 20), (20, 40), (40, 41), (41, 100)] {
        assert_eq!(chain::commit(&objects, 1, 0, &node("a", 2, start, next)).await, Ok(Commit::Mine));
    }
    for (hint, walked) in [(0, 5), (7, 5), (8, 5), (100, 1), (99, 1), (5_000, 1), (u64::MAX, 1)] {
        let head = chain::head(&objects, 1, 0, hint).await.expect("walks");
        assert_eq!((head.next, head.ended), (100, false), "hint {hint}");
        assert!(head.walked.len() <= walked, "hint {hint}: {} nodes read", head.walked.len());
    }
    assert_eq!(chain::get(&objects, 1, 0, 20).await, Ok(Some(node("a", 2, 20, 40))));
    assert_eq!(chain::get(&objects, 1, 0, 21).await, Ok(None));
    let backwards = chain::commit(&objects, 1, 0, &NodeDoc { next: 100, ..node("a", 3, 100, 101) }).await;
    assert!(matches!(backwards, Err(StoreError::Fatal(_))), "{backwards:?}");
    let end = NodeDoc { kind: NodeKind::End, raw: None, next: 100, extents: BTreeMap::new(), ..node("c", 1, 100, 101) };
    assert_eq!(chain::commit(&objects, 1, 0, &end).await, Ok(Commit::Mine));
    assert_eq!(chain::commit(&objects, 1, 0, &node("a", 4, 100, 101)).await, Ok(Commit::Lost(end)), "nobody commits behind an end");
    let head = chain::head(&objects, 1, 0, 100).await.expect("walks");
    assert_eq!((head.next, head.ended), (100, true));
}

/// A writer that believes it owns the partition: it crashes, loses its memory and its hint, and takes flushes of any size.
async fn write_chain(objects: Objects, writer: &'static str, seed: u64, until: u64) -> Vec<(u64, u64)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut mine = Vec::new();
    let mut attempt = 0;
    'restart: loop {
        let hint = random.random_range(0..until + 50);
        let mut at = match chain::head(&objects, 1, 0, hint).await {
            Ok(head) => head.next,
            Err(StoreError::Retry(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        while at < until {
            attempt += 1;
            let next = at + random.random_range(1..8);
            // As long as a retry waits, so that neither runs through while the other does.
            tokio::time::sleep(std::time::Duration::from_millis(random.random_range(0..3))).await;
            match chain::commit(&objects, 1, 0, &node(writer, attempt, at, next)).await {
                Ok(Commit::Mine) => {
                    mine.push((at, next));
                    at = next;
                }
                Ok(Commit::Lost(other)) => at = other.next,
                Err(StoreError::Retry(_)) => continue 'restart,
                Err(error) => panic!("{error}"),
            }
            if random.random_bool(0.05) {
                continue 'restart;
            }
        }
        return mine;
    }
}

#[tokio::test]
async fn racing_writers_never_overlap_or_gap() {
    let mut real_races = 0;
    for seed in 0..6 {
        let (faults, objects) = store(seed);
        chain::ensure_genesis(&objects, 1, 0, 3, "a").await.expect("puts");
        faults.set_rates(rates());
        let a = tokio::spawn(write_chain(objects.clone(), "a", seed * 2, 300));
        let b = tokio::spawn(write_chain(objects.clone(), "b", seed * 2 + 1, 300));
        let (a, b) = (a.await.expect("ends"), b.await.expect("ends"));
        faults.set_rates(FaultRates::default());
        let chain = chain::head(&objects, 1, 0, 0).await.expect("walks");
        let mut at = 3;
        for node in &chain.walked {
            assert_eq!(node.start, at);
            at = node.next;
            let (owner, other) = if node.writer == "a" { (&a, &b) } else { (&b, &a) };
            assert!(owner.contains(&(node.start, node.next)) && !other.contains(&(node.start, node.next)), "seed {seed}: {node:?}");
        }
        assert_eq!(a.len() + b.len(), chain.walked.len(), "seed {seed}: everything said to be committed stands, and nothing else");
        real_races += u32::from(!a.is_empty() && !b.is_empty());
        assert_eq!(objects.list("cap/v1").await.expect("lists").len(), chain.walked.len() + 1, "no stray node");
    }
    assert!(real_races >= 4, "both writers commit in most runs: {real_races}");
}

#[tokio::test]
async fn a_view_reads_each_node_once() {
    let (faults, objects) = store(3);
    let mut view = ChainView::new();
    view.refresh(&objects, &[1], 3).await.expect("reads");
    assert_eq!(view.heads().count(), 0);
    for partition in 0..2 {
        chain::ensure_genesis(&objects, 1, partition, 0, "a").await.expect("puts");
        for start in 0..20 {
            chain::commit(&objects, 1, partition, &node("a", start + 1, u64::from(start) * 5, u64::from(start) * 5 + 5))
                .await
                .expect("commits");
        }
    }
    view.refresh(&objects, &[1], 3).await.expect("reads");
    assert_eq!((view.head(1, 0), view.head(1, 1), view.head(1, 2)), (Some(100), Some(100), None));
    let before = faults.counts().0;
    view.refresh(&objects, &[1], 2).await.expect("reads");
    assert_eq!(faults.counts().0 - before, 2, "an idle refresh is one GET per partition");
    let hole = NodeDoc { kind: NodeKind::Hole, raw: None, extents: BTreeMap::new(), ..node("a", 30, 100, 130) };
    chain::commit(&objects, 1, 1, &hole).await.expect("commits");
    view.refresh(&objects, &[1], 2).await.expect("reads");
    assert_eq!(view.windows(), [T]);
    assert_eq!(view.points(T), 200);
    assert_eq!(view.nodes_of_window(T, None).len(), 40);
    let sealed = seal(T, 1, SealKind::Closed, &[(1, 0, 51), (1, 1, 100)]);
    let nodes = view.nodes_of_window(T, Some(&sealed));
    assert_eq!(nodes.len(), 11 + 20, "nodes that start below the end, whole");
    assert!(nodes.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(view.reached(&sealed) && view.holes(&sealed).is_empty());
    let further = seal(T, 2, SealKind::Late, &[(1, 0, 101), (1, 1, 120), (1, 2, 0)]);
    assert!(!view.reached(&further));
    assert_eq!(view.holes(&further), [(1, 1, 100, 130)]);
    let end = NodeDoc { kind: NodeKind::End, raw: None, next: 100, extents: BTreeMap::new(), ..node("c", 1, 100, 101) };
    chain::commit(&objects, 1, 0, &end).await.expect("commits");
    view.refresh(&objects, &[1], 2).await.expect("reads");
    assert!(view.ended(1, 0) && view.reached(&further), "an ended partition counts as reached");
}

#[tokio::test]
async fn a_new_view_begins_at_the_indexes_and_reads_nodes_again_when_asked() {
    let (faults, objects) = store(23);
    chain::ensure_genesis(&objects, 1, 0, 0, "a").await.expect("puts");
    let total = 2 * chain::INDEX_EVERY as u64 + 10;
    for start in 0..total {
        // Received a second apart, up to the window's start.
        let received_us = (T.start_s() - total as i64 + start as i64) * 1_000_000;
        let data = NodeDoc { received_at_us: Some((received_us, received_us)), ..node("a", start as u32 + 1, start, start + 1) };
        let hole = NodeDoc { kind: NodeKind::Hole, raw: None, extents: BTreeMap::new(), ..node("a", start as u32 + 1, start, start + 1) };
        chain::commit(&objects, 1, 0, if start == 700 { &hole } else { &data }).await.expect("commits");
    }
    let mut control = ChainView::new();
    control.refresh(&objects, &[1], 1).await.expect("reads");
    control.put_indexes(&objects).await.expect("puts");
    control.put_indexes(&objects).await.expect("nothing is due");
    assert_eq!(objects.list("capidx/v1").await.expect("lists"), [key::capidx(1, 0, 1), key::capidx(1, 0, 2)]);
    let before = faults.counts().0;
    let mut view = ChainView::new();
    view.refresh(&objects, &[1], 1).await.expect("reads");
    assert!(faults.counts().0 - before < 40, "{} requests for {total} nodes", faults.counts().0 - before);
    assert_eq!((view.head(1, 0), view.points(T), view.nodes_len(T)), (Some(total), total - 1, total as usize - 1));
    assert_eq!(view.last_received_ms(1, 0), control.last_received_ms(1, 0));
    assert_eq!(view.holes(&seal(T, 1, SealKind::Closed, &[(1, 0, total)])), [(1, 0, 700, 701)]);
    let next_week = Window::of_ms(T.start_ms() + 42 * WINDOW_MS);
    assert!(view.holes(&seal(next_week, 1, SealKind::Closed, &[(1, 0, total)])).is_empty(), "it was over long before that window");
    // Only the newest nodes are there; the others come when they are asked for, beyond a seal or all.
    assert_eq!((view.is_whole(T), view.nodes_of_window(T, None).len()), (false, 10));
    view.recall(&objects, T, Some(&seal(T, 1, SealKind::Closed, &[(1, 0, total - 30)]))).await.expect("reads");
    assert_eq!(view.nodes_of_window(T, None).len(), 30);
    view.recall(&objects, T, None).await.expect("reads");
    assert!(view.is_whole(T));
    assert_eq!(view.nodes_of_window(T, None), control.nodes_of_window(T, None));
    view.forget(T);
    assert!(view.nodes_of_window(T, None).is_empty() && view.points(T) == total - 1);
    // An index that is damaged, and one that is missing: the nodes themselves are read.
    for key in [key::capidx(1, 0, 2)] {
        objects.delete(&key).await.expect("deletes");
        objects.put_data(&key, b"nonsense".to_vec()).await.expect("puts");
    }
    let mut poor = ChainView::new();
    poor.refresh(&objects, &[1], 1).await.expect("reads");
    assert_eq!((poor.head(1, 0), poor.points(T)), (Some(total), total - 1));
}

#[tokio::test]
async fn the_feed_is_dense_under_racing_appends() {
    let (faults, objects) = store(4);
    faults.set_rates(rates());
    let tasks: Vec<_> = (0..6u32)
        .map(|writer| {
            let objects = objects.clone();
            tokio::spawn(async move {
                for g in 1..=10 {
                    let entry = FeedDoc { shard: shard(writer), window: T.start_s(), g };
                    // Any hint is fine: behind, right, far ahead.
                    feed::append(&objects, &entry, u64::from(g * writer * 7)).await.expect("appends");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("ends");
    }
    let mut view = FeedView::new();
    view.refresh(&objects).await.expect("reads");
    assert_eq!(view.seq(), objects.list("feed/v1").await.expect("lists").len() as u64, "no gap");
    for writer in 0..6 {
        assert_eq!(view.current(shard(writer), T), Some(10));
        assert!((1..=10).all(|g| view.holds(shard(writer), T, g)));
    }
    let again = FeedDoc { shard: shard(0), window: T.start_s(), g: 10 };
    feed::append(&objects, &again, 1).await.expect("appends");
    feed::append(&objects, &FeedDoc { g: 11, ..again }, view.seq() + 1).await.expect("appends");
    let before = view.seq();
    view.refresh(&objects).await.expect("reads");
    assert_eq!((view.seq(), view.seq_of(shard(0), T, 11)), (before + 1, Some(before + 1)), "an equal entry is taken for the new one");
}

#[tokio::test]
async fn a_new_reader_begins_at_the_last_snapshot_of_the_feed() {
    let (_, objects) = store(21);
    let mut control = FeedView::new();
    let total = 2 * feed::SNAP_EVERY + 5;
    for seq in 1..=total {
        let entry = FeedDoc { shard: shard((seq % 7) as u32), window: T.start_s(), g: seq as u32 };
        assert_eq!(feed::append(&objects, &entry, seq).await, Ok(seq));
    }
    control.refresh(&objects).await.expect("reads");
    control.put_snapshots(&objects).await.expect("puts");
    control.put_snapshots(&objects).await.expect("nothing is due");
    assert_eq!(objects.list("snap/v1").await.expect("lists"), [key::snap(feed::SNAP_EVERY), key::snap(2 * feed::SNAP_EVERY)]);
    // Entries that the snapshot holds are not read any more: without them the answer is the same.
    for seq in [1, 4_096, 8_000] {
        objects.delete(&key::feed(seq)).await.expect("deletes");
    }
    let mut reader = FeedView::new();
    reader.refresh(&objects).await.expect("reads");
    assert_eq!((reader.seq(), reader.all()), (total, control.all()));
    assert_eq!(reader.seq_of(shard(1), T, 8), Some(8));
    assert!(reader.holds(shard(1), T, 8) && !reader.holds(shard(2), T, 8));
    // A snapshot that is damaged is not believed; the reader then needs every entry.
    let body = objects.list("").await.expect("lists").into_iter().filter(|key| key.contains("/body/v1/")).collect::<Vec<_>>();
    for key in &body {
        objects.delete(key).await.expect("deletes");
    }
    let mut poor = FeedView::new();
    poor.refresh(&objects).await.expect("reads");
    assert_eq!(poor.seq(), 0, "entry 1 is gone, and nothing is guessed");
}

#[tokio::test]
async fn an_ended_stream_takes_no_more_nodes_and_counts_as_reached() {
    let (faults, objects) = store(22);
    faults.set_rates(rates());
    assert_eq!(registry::register_stream(&objects, &identity("one"), 1).await, Ok(1));
    for partition in 0..6 {
        chain::ensure_genesis(&objects, 1, partition, 0, "w").await.expect("genesis");
    }
    chain::commit(&objects, 1, 5, &node("w", 1, 0, 10)).await.expect("committed");
    let sealed = seal(T, 1, SealKind::Closed, &[(1, 0, 0), (1, 5, 25)]);
    let mut view = ChainView::new();
    // The log in use has fewer partitions than the one before it.
    view.refresh(&objects, &[1], 2).await.expect("reads");
    assert_eq!((view.head(1, 5), view.reached(&sealed)), (Some(10), false));
    assert!(!registry::is_ended(&objects, 1).await.expect("reads"));
    let ended = registry::end_stream(&objects, 1, "w").await.expect("ends");
    assert_eq!(ended.ends.values().copied().collect::<Vec<_>>(), [0, 0, 0, 0, 0, 10]);
    assert_eq!(registry::end_stream(&objects, 1, "other").await, Ok(ended), "ended once");
    assert!(registry::is_ended(&objects, 1).await.expect("reads"));
    // A zombie of the old log: the end node stands where it wants to commit.
    assert!(
        matches!(chain::commit(&objects, 1, 5, &node("zombie", 1, 10, 12)).await, Ok(Commit::Lost(other)) if other.kind == NodeKind::End)
    );
    view.refresh(&objects, &[1], 2).await.expect("reads");
    assert!(view.reached(&sealed) && view.ended(1, 5));
    assert_eq!(view.holes(&sealed), [(1, 5, 10, 25)], "what lay between the end and the seal is lost, and said");
}

#[tokio::test]
async fn generations_are_decided_once() {
    let (faults, objects) = store(5);
    faults.set_rates(rates());
    let published = manifest(shard(1), T, 1, 1, ManifestKind::Published);
    assert_eq!(manifests::newest(&objects, shard(1), T).await, Ok(None));
    assert_eq!(manifests::put_manifest(&objects, &published).await, Ok(PutManifest::Mine));
    assert_eq!(manifests::put_manifest(&objects, &published).await, Ok(PutManifest::Mine));
    let other = ManifestDoc { attempt: "b".to_owned(), ..published.clone() };
    assert_eq!(manifests::put_manifest(&objects, &other).await, Ok(PutManifest::Same(published.clone())));
    let stranger = ManifestDoc { plan_digest: "q".to_owned(), ..other };
    assert!(matches!(manifests::put_manifest(&objects, &stranger).await, Err(StoreError::Fatal(_))));
    let tombstone = manifest(shard(1), T, 1, 1, ManifestKind::Tombstone);
    assert_eq!(manifests::put_manifest(&objects, &tombstone).await, Ok(PutManifest::Lost(published.clone())));
    let second = manifest(shard(1), T, 2, 1, ManifestKind::Tombstone);
    assert_eq!(manifests::put_manifest(&objects, &second).await, Ok(PutManifest::Mine));
    let zombie = manifest(shard(1), T, 2, 1, ManifestKind::Published);
    assert_eq!(manifests::put_manifest(&objects, &zombie).await, Ok(PutManifest::Lost(second.clone())));
    assert_eq!(manifests::newest(&objects, shard(1), T).await, Ok(Some(second)));
    assert_eq!(manifests::newest_published(&objects, shard(1), T).await, Ok(Some(published)));
    let plan = PlanDoc {
        shard: shard(1),
        window: T.start_s(),
        g: 3,
        k: 1,
        base_g: 1,
        reason: PlanReason::Tombstone,
        route_version: 1,
        nodes: 2,
        nodes_digest: plans::nodes_digest(&[(1, 0, 5), (1, 0, 0)]),
        points_expected: 7,
        quarantine: vec![],
        encoder: 1,
        day: Vec::new(),
    };
    assert_eq!(plan.nodes_digest, plans::nodes_digest(&[(1, 0, 0), (1, 0, 5)]));
    assert_eq!(plans::put_plan(&objects, &plan).await, Ok(PutDoc::Created));
    let mine = PlanDoc { points_expected: 8, ..plan.clone() };
    assert_eq!(plans::put_plan(&objects, &mine).await, Ok(PutDoc::Lost(plan.clone())), "the loser adopts the winner's plan");
    assert_ne!(plans::digest(&plan), plans::digest(&mine));
    assert_eq!(plans::get(&objects, shard(1), T, 3).await, Ok(Some(plan)));
    assert_eq!(seals::newest(&objects, T).await, Ok(None));
    for k in 1..=3 {
        assert_eq!(seals::put(&objects, &seal(T, k, SealKind::Provisional, &[])).await, Ok(PutDoc::Created));
    }
    assert_eq!(seals::newest(&objects, T).await.expect("reads").map(|seal| seal.k), Some(3));
    assert_eq!(seals::newest_after(&objects, T, 3).await, Ok(None));
}

async fn publish(objects: &Objects, window: Window, org: u32, g: u32, k: u32) {
    let manifest = manifest(shard(org), window, g, k, ManifestKind::Published);
    assert_eq!(manifests::put_manifest(objects, &manifest).await, Ok(PutManifest::Mine));
    feed::append(objects, &FeedDoc { shard: shard(org), window: window.start_s(), g }, 1).await.expect("appends");
}

fn done(window: Window, k: u32, shards: &[(u32, u32)]) -> DoneDoc {
    let shards = shards.iter().map(|(org, g)| (shard(*org).to_string(), *g)).collect();
    DoneDoc { window: window.start_s(), k, route_version: 1, shards }
}

#[tokio::test]
async fn the_catalog_follows() {
    let (_, objects) = store(6);
    let created = T.start_ms() + 1_000;
    let now = T.end_ms() + WINDOW_MS + 5;
    registry::register_stream(&objects, &identity("a"), created).await.expect("registers");
    let catalog = Catalog::new(objects.clone());
    let empty = catalog.snapshot(0, now).await.expect("reads");
    let before = Window::of_ms(T.start_ms() - 1);
    assert!(empty.is_complete(before) && !empty.is_complete(T), "what ended before the store was made has nothing to wait for");
    assert_eq!(empty.complete_until_ms(T.start_ms() - 1, now), Some(T.start_ms()));
    assert_eq!(empty.complete_until_ms(T.start_ms(), now), None);

    seals::put(&objects, &seal(T, 1, SealKind::Provisional, &[])).await.expect("puts");
    publish(&objects, T, 1, 1, 1).await;
    publish(&objects, T, 2, 1, 1).await;
    assert!(Arc::ptr_eq(&catalog.snapshot(10_000, now + 9_999).await.expect("reads"), &empty), "young enough");
    let early = catalog.snapshot(10_000, now + 10_000).await.expect("reads");
    assert_eq!((early.feed, early.windows.len(), early.is_complete(T)), (2, 2, false));
    assert_eq!(early.seal_kind(early.manifest(T, shard(1)).expect("there")), Some(SealKind::Provisional));

    seals::put(&objects, &seal(T, 2, SealKind::Closed, &[])).await.expect("puts");
    seals::put_done(&objects, &done(T, 2, &[(1, 2), (2, 1)])).await.expect("puts");
    assert!(!catalog.snapshot(0, now).await.expect("reads").is_complete(T), "a done mark counts only with the feed behind it");
    publish(&objects, T, 1, 2, 2).await;
    seals::put(&objects, &seal(T.next(), 1, SealKind::Closed, &[])).await.expect("puts");
    seals::put_done(&objects, &done(T.next(), 1, &[])).await.expect("puts");
    let whole = catalog.snapshot(0, now).await.expect("reads");
    assert!(whole.is_complete(T) && whole.is_complete(T.next()), "an empty window too");
    assert_eq!(whole.complete_until_ms(T.start_ms() + 5, now), Some(T.next().end_ms()));
    assert_eq!(whole.manifest(T, shard(1)).map(|manifest| manifest.g), Some(2));
    assert_eq!(whole.of_window(T).count(), 2);
    assert_eq!(early.manifest(T, shard(1)).map(|manifest| manifest.g), Some(1), "a pinned snapshot stays as it was");

    seals::put(&objects, &seal(T, 3, SealKind::Late, &[])).await.expect("puts");
    publish(&objects, T, 2, 2, 3).await;
    let late = catalog.snapshot(0, now).await.expect("reads");
    assert_eq!(late.seal_kind(late.manifest(T, shard(2)).expect("there")), Some(SealKind::Late));

    seals::put(&objects, &seal(before, 1, SealKind::Late, &[])).await.expect("puts");
    assert!(!catalog.snapshot(0, now).await.expect("reads").is_complete(before), "backfill made it a window with points");
    objects.delete(&key::manifest(shard(2), T, 2)).await.expect("deletes");
    let fresh = Catalog::new(objects).snapshot(0, now).await.expect("reads");
    assert!(fresh.damaged.contains_key(&(T, shard(2))) && fresh.manifest(T, shard(2)).is_none(), "a lost manifest is said (P6)");
}

#[tokio::test]
async fn keys_live_and_die() {
    let (faults, objects) = store(7);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let new = NewKey { org: Some(OrgId(7)), scopes: vec![Scope::Query, Scope::Backfill], expires_ms: Some(100_000) };
    let (id, text) = auth::create_key(&objects, &new, 0, &random.random_u8s()).await.expect("creates");
    let (_, other) =
        auth::create_key(&objects, &NewKey { org: None, scopes: vec![Scope::Admin], expires_ms: None }, 0, &random.random_u8s())
            .await
            .expect("creates");
    assert!(auth::create_key(&objects, &new, 0, &[0; 38]).await.is_err(), "an empty secret is refused");
    assert_eq!(format!("{text:?}"), "[redacted]");
    let parts: Vec<&str> = text.expose().split('_').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [3, 12, 64, 8]);
    for path in objects.list("").await.expect("lists") {
        let bytes = objects.get(&path).await.expect("gets");
        assert!(!String::from_utf8_lossy(&bytes).contains(parts[2]), "a dump of the store holds no usable key");
    }
    let authenticator = Authenticator::new(objects.clone());
    let grant = authenticator.authenticate(text.expose(), 1_000).await.expect("answers").expect("known");
    assert_eq!((grant.id.as_str(), grant.org), (id.as_str(), Some(OrgId(7))));
    assert!(grant.may(Scope::Write) && grant.may(Scope::Query) && !grant.may(Scope::Admin));
    assert!(authenticator.authenticate(other.expose(), 1_000).await.expect("answers").expect("known").may(Scope::Admin));

    let asked = faults.counts().0;
    let flipped = |at: usize| {
        let mut bytes = text.expose().as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(bytes).expect("text")
    };
    for at in [0, 4, 17, 40, text.expose().len() - 1] {
        assert_eq!(authenticator.authenticate(&flipped(at), 1_000).await, Ok(None), "byte {at}");
    }
    for bad in ["", "tlr_", "tlr_../../x_0_0", "Bearer x", &text.expose().to_uppercase(), &format!("{} ", text.expose())] {
        assert_eq!(authenticator.authenticate(bad, 1_000).await, Ok(None), "{bad:?}");
    }
    assert_eq!(faults.counts().0, asked, "a wrong checksum costs no look-up");
    let forged = |id: &str, secret: &str| {
        let body = format!("tlr_{id}_{secret}");
        format!("{body}_{:08x}", crc32c::crc32c(body.as_bytes()))
    };
    assert_eq!(authenticator.authenticate(&forged(parts[1], &"0".repeat(64)), 1_000).await, Ok(None), "right id, wrong secret");
    for _ in 0..5 {
        assert_eq!(authenticator.authenticate(&forged("0123456789ab", parts[2]), 1_000).await, Ok(None), "unknown id");
    }
    assert_eq!(faults.counts().0, asked + 1, "refusals are remembered, for a short while");
    assert_eq!(authenticator.authenticate(text.expose(), 100_000).await, Ok(None), "expired");

    assert_eq!(auth::revoke(&objects, "0123456789ab", 5_000).await, Ok(false));
    assert_eq!(auth::revoke(&objects, "../../seal", 5_000).await, Ok(false));
    assert_eq!(auth::revoke(&objects, &id, 5_000).await, Ok(true));
    assert_eq!(auth::revoke(&objects, &id, 6_000).await, Ok(true));
    assert_eq!(authenticator.authenticate(text.expose(), 5_000 + 29_999).await, Ok(None), "revoked within 30 s");
    assert_eq!(authenticator.authenticate(text.expose(), 5_000 - 29_999).await, Ok(None), "whatever the clock does");
    assert_eq!(Authenticator::new(objects.clone()).authenticate(text.expose(), 5_001).await, Ok(None));
    let listed = auth::list_keys(&objects).await.expect("lists");
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().find(|key| key.id == id).and_then(|key| key.revoked_ms), Some(5_000));
}

trait RandomBytes {
    fn random_u8s(&mut self) -> [u8; 38];
}

impl RandomBytes for ChaCha8Rng {
    fn random_u8s(&mut self) -> [u8; 38] {
        let mut bytes = [0; 38];
        rand::RngCore::fill_bytes(self, &mut bytes);
        bytes
    }
}

/// The long-lived readers run on tasks of their own.
#[tokio::test]
async fn readers_can_be_spawned() {
    let (_, objects) = store(8);
    let catalog = Arc::new(Catalog::new(objects.clone()));
    let snapshot = tokio::spawn(async move { catalog.snapshot(0, 0).await.map(|snapshot| snapshot.feed) });
    assert_eq!(snapshot.await.expect("ends"), Ok(0));
    let authenticator = Authenticator::new(objects.clone());
    assert_eq!(tokio::spawn(async move { authenticator.authenticate("x", 0).await }).await.expect("ends"), Ok(None));
    let view = tokio::spawn(async move {
        let mut view = ChainView::new();
        view.refresh(&objects, &[1], 1).await.map(|()| view.head(1, 0))
    });
    assert_eq!(view.await.expect("ends"), Ok(None));
}

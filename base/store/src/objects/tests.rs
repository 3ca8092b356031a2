//! Table C7 on a store that fails on purpose, and the local store: races, restart, damage, poison, paths.

use std::collections::BTreeSet;

use super::faulty::{Fault, FaultRates, FaultyStore};
use super::local::LocalStore;
use super::*;

fn quick() -> RetrySettings {
    RetrySettings { deadline_ms: 2_000, backoff_min_ms: 1, backoff_max_ms: 4 }
}

fn faulty() -> (FaultyStore, Objects) {
    let store = FaultyStore::new(1);
    (store.clone(), Objects::new(Arc::new(store), quick(), 1))
}

fn local(dir: &tempfile::TempDir) -> (LocalStore, Objects) {
    let store = LocalStore::open(dir.path()).expect("opens");
    (store.clone(), Objects::new(Arc::new(store), quick(), 1))
}

#[tokio::test]
async fn an_unknown_outcome_is_read_back() {
    let (store, objects) = faulty();
    store.fail_next_put(Fault::AfterApply);
    assert_eq!(objects.put_new("a/1", "mine").await, Ok(PutNew::Created), "applied, then the answer was lost");
    store.fail_next_put(Fault::BeforeApply);
    assert_eq!(objects.put_new("a/2", "mine").await, Ok(PutNew::Created), "never applied, tried again");
    store.fail_next_put(Fault::SpuriousExists);
    assert_eq!(objects.put_new("a/3", "mine").await, Ok(PutNew::Created), "a 409, tried again");
    assert_eq!(objects.put_new("a/1", "other").await, Ok(PutNew::Exists("mine".into())));
    store.fail_next_put(Fault::BeforeApply);
    assert_eq!(objects.put_new("a/1", "other").await, Ok(PutNew::Exists("mine".into())), "lost, though the answer was lost first");
    store.fail_next_put(Fault::SpuriousExists);
    store.fail_next_get(Fault::Truncated);
    assert_eq!(objects.put_new("a/1", "mine").await, Ok(PutNew::Created), "half a body is no other body");
    store.fail_next_put(Fault::Denied);
    assert!(matches!(objects.put_new("a/4", "x").await, Err(StoreError::Denied(_))));
    assert_eq!(objects.get_opt("a/4").await, Ok(None));
}

#[tokio::test]
async fn nothing_is_retried_past_the_deadline() {
    let (store, _) = faulty();
    let objects = Objects::new(Arc::new(store.clone()), RetrySettings { deadline_ms: 60, ..quick() }, 1);
    store.set_rates(FaultRates { before_apply: 1_000, ..FaultRates::default() });
    assert!(matches!(objects.put_new("a/1", "x").await, Err(StoreError::Retry(_))));
    assert!(matches!(objects.get("a/1").await, Err(StoreError::Retry(_))));
    assert!(matches!(objects.list("a").await, Err(StoreError::Retry(_))));
    let (requests, faults) = store.counts();
    assert!(requests == faults && requests > 6, "{requests} requests, {faults} faults");
}

#[tokio::test]
async fn reads_are_whole_or_errors() {
    let (store, objects) = faulty();
    let body: Vec<u8> = (0..=255).collect();
    objects.put_data("d/1", body.clone()).await.expect("puts");
    for fault in [Fault::Truncated, Fault::BeforeApply] {
        store.fail_next_get(fault);
        assert_eq!(objects.get("d/1").await.expect("gets"), body);
        store.fail_next_get(fault);
        assert_eq!(objects.get_range("d/1", 3..9).await.expect("gets"), body[3..9]);
    }
    let ranges = objects.get_ranges("d/1", &[200..256, 7..7, 0..2]).await.expect("gets");
    assert_eq!(ranges, [Bytes::copy_from_slice(&body[200..]), Bytes::new(), Bytes::copy_from_slice(&body[..2])]);
    assert!(matches!(objects.get_range("d/1", 250..257).await, Err(StoreError::Data { .. })), "ends early");
    assert!(matches!(objects.get_range("d/1", 300..301).await, Err(StoreError::Data { .. })), "begins past the end");
    assert_eq!(objects.get("d/2").await, Err(StoreError::NotFound("d/2".to_owned())));
    assert_eq!(objects.get_range("d/2", 0..1).await, Err(StoreError::NotFound("d/2".to_owned())));
    assert_eq!(objects.size("d/1").await, Ok(Some(256)));
    assert_eq!(objects.size("d/2").await, Ok(None));
    assert!(objects.last_modified_ms("d/1").await.expect("looks").is_some_and(|at| at > 0));
    objects.delete("d/1").await.expect("deletes");
    objects.delete("d/1").await.expect("deletes again");
    assert_eq!(objects.get_opt("d/1").await, Ok(None));
}

#[tokio::test]
async fn keys_never_leave_the_store() {
    let dir = tempfile::tempdir().expect("dir");
    let (_, objects) = local(&dir);
    for bad in [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/./b",
        "a//b",
        "a/",
        "A",
        "a b",
        "a%2e%2e/b",
        "a\0b",
        "a\\b",
        "ä",
        "a.tmp",
        "a/b.tmp",
    ] {
        assert!(matches!(objects.put_new(bad, "x").await, Err(StoreError::Fatal(_))), "{bad:?}");
        assert!(matches!(objects.get_opt(bad).await, Err(StoreError::Fatal(_))), "{bad:?}");
        assert!(matches!(objects.delete(bad).await, Err(StoreError::Fatal(_))), "{bad:?}");
    }
    assert!(matches!(objects.list("..").await, Err(StoreError::Fatal(_))));
    assert_eq!(objects.list("").await, Ok(vec![]));
}

async fn race(objects: Objects, rounds: usize) {
    for round in 0..rounds {
        let key = format!("race/{round}");
        let tasks: Vec<_> = (0..8)
            .map(|racer| {
                let (objects, key) = (objects.clone(), key.clone());
                tokio::spawn(async move { (racer, objects.put_new(&key, format!("racer {racer}")).await.expect("answers")) })
            })
            .collect();
        let mut winners = Vec::new();
        let mut seen = BTreeSet::new();
        for task in tasks {
            match task.await.expect("ends") {
                (racer, PutNew::Created) => winners.push(racer),
                (_, PutNew::Exists(bytes)) => {
                    seen.insert(bytes);
                }
            }
        }
        let stands = objects.get(&key).await.expect("gets");
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(stands, format!("racer {}", winners[0]));
        assert!(seen.iter().all(|bytes| *bytes == stands));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_eight_racing_puts_wins_locally() {
    let dir = tempfile::tempdir().expect("dir");
    let (_, objects) = local(&dir);
    race(objects.clone(), 32).await;
    assert_eq!(objects.list("race/").await.expect("lists").len(), 32);
    let left = std::fs::read_dir(dir.path().join("race")).expect("lists").count();
    assert_eq!(left, 32, "no temporary file stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_eight_racing_puts_wins_under_faults() {
    let (store, objects) = faulty();
    store.set_rates(FaultRates { before_apply: 100, after_apply: 150, spurious_exists: 100, truncated: 50 });
    race(objects, 32).await;
    assert!(store.counts().1 > 50);
}

#[tokio::test]
async fn the_probe_passes_here_and_cleans_up() {
    let dir = tempfile::tempdir().expect("dir");
    let (_, objects) = local(&dir);
    assert!(probe::run(&objects, "one").await.expect("runs").passed());
    assert_eq!(objects.list("").await, Ok(vec![]));
    let (_, objects) = faulty();
    assert!(probe::run(&objects, "one").await.expect("runs").passed());
}

#[tokio::test]
async fn local_objects_survive_a_restart_and_temporaries_do_not() {
    let dir = tempfile::tempdir().expect("dir");
    let (_, objects) = local(&dir);
    objects.put_new("a/b/c", "one").await.expect("puts");
    objects.put_data("a/b/d", "two").await.expect("puts");
    objects.put_data("a/b/d", "three").await.expect("overwrites");
    for left in ["x.tmp", "a/b/c.9-9.tmp"] {
        std::fs::write(dir.path().join(left), "half").expect("writes");
    }
    assert_eq!(objects.list("").await.expect("lists"), ["a/b/c", "a/b/d"]);
    let (_, objects) = local(&dir);
    assert!(!dir.path().join("x.tmp").exists() && !dir.path().join("a/b/c.9-9.tmp").exists());
    assert_eq!(objects.get("a/b/c").await.expect("gets"), "one");
    assert_eq!(objects.get("a/b/d").await.expect("gets"), "three");
    assert_eq!(objects.list_after("a/b/", "a/b/c").await.expect("lists"), ["a/b/d"]);
    assert_eq!(objects.list_dirs("a").await.expect("lists"), ["b"]);
    assert_eq!(objects.list("absent").await, Ok(vec![]));
    let read_only = Objects::new(Arc::new(LocalStore::open_read_only(dir.path()).expect("opens")), quick(), 1);
    assert_eq!(read_only.get("a/b/c").await.expect("gets"), "one");
    assert!(matches!(read_only.put_new("z", "x").await, Err(StoreError::Fatal(_))));
    assert!(matches!(read_only.delete("a/b/c").await, Err(StoreError::Fatal(_))));
}

#[tokio::test]
async fn damage_is_neither_absence_nor_emptiness() {
    let dir = tempfile::tempdir().expect("dir");
    let (_, objects) = local(&dir);
    std::fs::write(dir.path().join("empty"), "").expect("writes");
    assert!(matches!(objects.get_opt("empty").await, Err(StoreError::Data { .. })));
    assert!(matches!(objects.size("empty").await, Err(StoreError::Data { .. })));
    assert!(matches!(objects.put_new("empty", "x").await, Err(StoreError::Data { .. })));
    assert!(matches!(objects.put_new("e", "").await, Err(StoreError::Fatal(_))));
    objects.put_new("a/b", "x").await.expect("puts");
    assert!(matches!(objects.put_new("a", "x").await, Err(StoreError::Fatal(_))), "a and a/b never stand together");
    assert!(matches!(objects.put_new("a/b/c", "x").await, Err(StoreError::Fatal(_))));
    assert_eq!(objects.get_opt("a").await, Ok(None));
    assert_eq!(objects.get_opt("a/b/c").await, Ok(None));
    assert!(matches!(objects.get_range("a/b", 5..6).await, Err(StoreError::Data { .. })));
}

#[tokio::test]
async fn a_failed_fsync_ends_the_handle() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, objects) = local(&dir);
    objects.put_new("a/1", "x").await.expect("puts");
    store.fail_next_fsync();
    assert!(matches!(objects.put_new("a/2", "x").await, Err(StoreError::Fatal(_))));
    assert!(matches!(objects.put_new("a/3", "x").await, Err(StoreError::Fatal(_))));
    assert!(matches!(objects.get("a/1").await, Err(StoreError::Fatal(_))));
    let (_, objects) = local(&dir);
    assert_eq!(objects.list("").await.expect("lists"), ["a/1"], "nothing half-written appeared");
}

#[tokio::test]
async fn large_objects_go_in_parts() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, objects) = local(&dir);
    let body: Vec<u8> = (0..PART_BYTES as u32 * 2 + 77).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    objects.put_data("d/large", body.clone()).await.expect("puts");
    assert!(objects.get("d/large").await.expect("gets") == body);
    let mut upload = store.put_multipart(&Path::from("d/left")).await.expect("begins");
    upload.put_part("x".into()).await.expect("puts");
    drop(upload);
    assert_eq!(objects.list("").await.expect("lists"), ["d/large"]);
    assert_eq!(std::fs::read_dir(dir.path().join("d")).expect("lists").count(), 1, "a dropped upload is aborted");
    let (faulty, objects) = faulty();
    objects.put_data("d/large", body.clone()).await.expect("puts");
    assert_eq!(objects.size("d/large").await, Ok(Some(body.len() as u64)));
    drop(faulty);
}

#[tokio::test]
async fn the_local_store_copies_renames_and_keeps_preconditions() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, objects) = local(&dir);
    let (a, b, c) = (Path::from("a"), Path::from("b"), Path::from("c/d"));
    let put = store.put(&a, "one".into()).await.expect("puts");
    assert_eq!(store.head(&a).await.expect("looks").e_tag, put.e_tag);
    store.copy(&a, &b).await.expect("copies");
    assert!(matches!(store.copy_if_not_exists(&a, &b).await, Err(object_store::Error::AlreadyExists { .. })));
    store.rename(&b, &c).await.expect("renames");
    assert_eq!(objects.list("").await.expect("lists"), ["a", "c/d"]);
    let options = object_store::GetOptions { if_match: Some("other".to_owned()), ..Default::default() };
    assert!(matches!(store.get_opts(&a, options).await, Err(object_store::Error::Precondition { .. })));
    let suffix = object_store::GetOptions { range: Some(object_store::GetRange::Suffix(2)), ..Default::default() };
    assert_eq!(store.get_opts(&a, suffix).await.expect("gets").bytes().await.expect("reads"), "ne");
}

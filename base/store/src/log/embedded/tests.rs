//! The embedded log: conformance, kills, torn tails and damage, full disks, fsync errors.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tailors_format::raw::segment as layout;
use tailors_model::ManualClock;

use super::*;
use crate::log::conformance::{drain, suite};

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at_ms(1_000))
}

fn small() -> EmbeddedLogSettings {
    EmbeddedLogSettings { segment_bytes: 256 << 10, cache_bytes: 64 << 10, ..EmbeddedLogSettings::default() }
}

fn open_with(dir: &Path, settings: EmbeddedLogSettings) -> Result<Arc<EmbeddedLog>, LogError> {
    EmbeddedLog::identity(dir, || [7; 16])?;
    EmbeddedLog::open(dir, settings, 3, clock(), vec![])
}

fn open(dir: &Path) -> Arc<EmbeddedLog> {
    open_with(dir, small()).expect("opens")
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    segment::list(dir).expect("lists").into_iter().map(|number| dir.join(segment::name(number))).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("dir") {
        let entry = entry.expect("entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
    }
}

async fn fill(log: &EmbeddedLog, count: u64, bytes: usize) {
    for number in 0..count {
        log.append((number % 4) as u32, vec![number as u8; bytes].into()).await.expect("appends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_conforms() {
    for fsync in [Fsync::Always, Fsync::Never] {
        let root = tempfile::tempdir().expect("dir");
        let number = AtomicUsize::new(0);
        suite(|| {
            let dir = root.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
            async move { open_with(&dir, EmbeddedLogSettings { fsync, cache_bytes: 4 << 10, ..small() }).expect("opens") as Arc<dyn Log> }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_keeps_everything_and_the_lock_excludes() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 100, 9_000).await;
    log.commit(2, 11).await.expect("commits");
    assert!(matches!(open_with(dir.path(), small()), Err(LogError::Fatal(why)) if why.contains("open already")));
    log.close().await.expect("closes");
    assert!(matches!(log.append(0, Bytes::from_static(b"late")).await, Err(LogError::Unavailable(_))));
    for round in 0..10 {
        let log = open(dir.path());
        assert_eq!(log.committed(2).await.expect("committed"), Some(11));
        for partition in 0..4 {
            let found = drain(log.as_ref(), partition, 0).await;
            assert_eq!(found.len(), 25 + round);
            log.append(partition, vec![1; 100].into()).await.expect("appends");
        }
        log.close().await.expect("closes");
    }
    assert!(segments(dir.path()).len() > 4);
    let shrunk = open_with(dir.path(), EmbeddedLogSettings { partitions: 2, ..small() });
    assert!(matches!(shrunk, Err(LogError::Fatal(why)) if why.contains("only grow")));
    let grown = open_with(dir.path(), EmbeddedLogSettings { partitions: 6, ..small() }).expect("grows");
    assert_eq!(grown.append(5, Bytes::from_static(b"new")).await.expect("appends"), 0);
    assert_eq!(drain(grown.as_ref(), 1, 0).await.len(), 35);
}

#[tokio::test]
async fn next_offset_is_the_greater_of_log_end_and_chain_head() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 8, 10).await;
    log.close().await.expect("closes");
    drop(log);
    let log = EmbeddedLog::open(dir.path(), small(), 3, clock(), vec![Some(1), Some(50)]).expect("opens");
    assert_eq!(log.append(0, Bytes::from_static(b"a")).await.expect("appends"), 2);
    assert_eq!(log.append(1, Bytes::from_static(b"b")).await.expect("appends"), 50);
    let found: Vec<u64> = drain(log.as_ref(), 1, 0).await.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(found, [0, 1, 50], "the gap is stepped over");
    log.close().await.expect("closes");
    drop(log);
    assert_eq!(drain(open(dir.path()).as_ref(), 1, 2).await.len(), 1, "and is no damage at the next start");
    assert!(matches!(EmbeddedLog::open(dir.path(), small(), 4, clock(), vec![]), Err(LogError::Fatal(_))), "another epoch");
}

/// Copies the directory while appends run, tears or cuts the last segment above what was acknowledged by then, opens the copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_acknowledged() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for round in 0..12_u64 {
        let (live, copy) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let log = open(live.path());
        let mut acknowledged = Vec::new();
        for number in 0..random.random_range(1..60_u64) {
            let payload = Bytes::from(vec![number as u8; random.random_range(1..12_000)]);
            let partition = random.random_range(0..4_u32);
            acknowledged.push((partition, log.append(partition, payload.clone()).await.expect("appends"), payload));
        }
        let background: Vec<_> = (0..20)
            .map(|_| {
                let log = Arc::clone(&log);
                tokio::spawn(async move { log.append(0, vec![9; 3_000].into()).await })
            })
            .collect();
        let newest = segments(live.path()).pop().expect("a segment");
        let firm = log.shared.view().segments.back().map(|segment| (segment.path.clone(), segment.used)).expect("a segment");
        copy_dir(live.path(), copy.path());
        for task in background {
            let _ = task.await;
        }
        if firm.0 == newest {
            let torn = copy.path().join(newest.file_name().expect("name"));
            let mut bytes = std::fs::read(&torn).expect("reads");
            // Nothing to tear where the segment was ended and cut to what it holds meanwhile.
            let from = random.random_range(firm.1 as usize..=bytes.len());
            match round % 3 {
                0 => bytes.truncate(from),
                1 => random.fill(&mut bytes[from..]),
                _ => bytes[from..].fill(0),
            }
            std::fs::write(&torn, bytes).expect("writes");
        }
        let reopened = open(copy.path());
        for (partition, offset, payload) in &acknowledged {
            let batch = reopened.read(*partition, *offset, 1, 0).await.expect("reads");
            let (decoded, _) = tailors_format::raw::frame::decode(&batch.records[0].frame).expect("decodes");
            assert_eq!((decoded.offset, decoded.payload), (*offset, payload.as_ref()), "round {round}");
        }
        let bounds = reopened.bounds(0).await.expect("bounds");
        assert_eq!(reopened.append(0, Bytes::from_static(b"on")).await.expect("appends"), bounds.end);
        reopened.close().await.expect("closes");
        drop(reopened);
        assert_eq!(drain(open(copy.path()).as_ref(), 0, 0).await.len() as u64, bounds.end + 1);
    }
}

#[tokio::test]
async fn damage_refuses_the_start_and_is_a_hole_if_accepted() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 40, 1_000).await;
    log.close().await.expect("closes");
    drop(log);
    let path = segments(dir.path()).pop().expect("a segment");
    let whole = std::fs::read(&path).expect("reads");
    // A payload byte of the record with number 9: partition 1, offset 2.
    let at = whole.windows(500).position(|bytes| bytes == [9; 500]).expect("found") + 100;
    for flip in [at, at - 110] {
        let mut bytes = whole.clone();
        bytes[flip] ^= 4;
        std::fs::write(&path, &bytes).expect("writes");
        let refused = open_with(dir.path(), small()).expect_err("refused").to_string();
        assert!(refused.contains("segment-000000000000.tlog") && refused.contains("partition 1 offset 2"), "{refused}");
    }
    let log = open_with(dir.path(), EmbeddedLogSettings { accept_damage: true, ..small() }).expect("accepts");
    let found: Vec<u64> = drain(log.as_ref(), 1, 0).await.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(found, [0, 1, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(drain(log.as_ref(), 0, 0).await.len(), 10);
}

#[tokio::test]
async fn zero_byte_every_file() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 120, 9_000).await;
    log.commit(0, 3).await.expect("commits");
    log.close().await.expect("closes");
    drop(log);
    for entry in std::fs::read_dir(dir.path()).expect("dir").map(|entry| entry.expect("entry").path()) {
        let name = entry.file_name().expect("name").to_string_lossy().into_owned();
        for removed in [false, true] {
            let copy = tempfile::tempdir().expect("dir");
            copy_dir(dir.path(), copy.path());
            if removed { std::fs::remove_file(copy.path().join(&name)) } else { std::fs::write(copy.path().join(&name), b"") }
                .expect("zeroed");
            match open_with(copy.path(), small()) {
                Err(error) => assert!(error.to_string().contains(&name), "{name}: {error}"),
                Ok(_) => assert!(name == "lock" || name == COMMITTED || (removed && !refuses_without(dir.path(), &name)), "{name}"),
            }
        }
    }
}

/// The oldest and newest segments may be missing: retention takes the one, and nothing tells of the other but the chain head.
fn refuses_without(dir: &Path, name: &str) -> bool {
    let all = segments(dir);
    all[1..all.len() - 1].iter().any(|path| path.ends_with(name))
}

/// Any single flipped bit of a closed segment refuses the start or reads back true; it never gives a wrong record.
#[tokio::test]
async fn flipped_bits_are_found() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 8, 20).await;
    log.close().await.expect("closes");
    drop(log);
    let path = segments(dir.path()).pop().expect("a segment");
    let whole = std::fs::read(&path).expect("reads");
    let identity = EmbeddedLog::identity(dir.path(), || [0; 16]).expect("identity");
    let (header, header_len) = layout::Header::from_bytes(&whole, &identity.cluster).expect("header");
    let truth = layout::scan_frames(&whole, &header, header_len, |_| {});
    assert!(truth.damage.is_empty() && !truth.torn);
    assert_eq!(layout::scan(&whole).as_ref(), Ok(&truth), "the id is found in the file itself");
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok((header, header_len)) = layout::Header::from_bytes(&bytes, &identity.cluster) else { continue };
        let found = layout::scan_frames(&bytes, &header, header_len, |_| {});
        let same = found.records == truth.records;
        assert!(!found.damage.is_empty() || same, "bit {bit}: a record vanished silently");
    }
    for cut in 0..whole.len() {
        if let Ok((header, header_len)) = layout::Header::from_bytes(&whole[..cut], &identity.cluster) {
            let found = layout::scan_frames(&whole[..cut], &header, header_len, |_| {});
            assert!(found.damage.is_empty() && found.good_until <= cut as u64);
        }
    }
}

#[tokio::test]
async fn full_disk_is_unavailable_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open_with(dir.path(), EmbeddedLogSettings { quota_bytes: Some(512 << 10), ..small() }).expect("opens");
    let mut taken = 0;
    let refused = loop {
        match log.append(0, vec![1; 20_000].into()).await {
            Ok(offset) => taken = offset + 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    assert!(taken > 10 && drain(log.as_ref(), 0, 0).await.len() as u64 == taken, "what was taken stays readable");
    assert!(log.append(1, Bytes::from_static(b"x")).await.is_err());
    log.commit(0, taken).await.expect("commits");
    assert!(log.retain(i64::MAX).await.expect("retains") > 0);
    assert_eq!(log.append(0, Bytes::from_static(b"x")).await.expect("space came back"), taken, "no offset is lost over it");
    log.set_quota_bytes(None);
    fill(&log, 100, 20_000).await;
}

#[tokio::test]
async fn full_tmpfs_is_unavailable_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().expect("dir");
    let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).status();
    if !rustix::process::geteuid().is_root() || !mount.is_ok_and(|status| status.success()) {
        eprintln!("no tmpfs here; the quota's test stands for it");
        return;
    }
    let log = open(dir.path());
    let mut taken = 0;
    let refused = loop {
        match log.append(0, vec![1; 20_000].into()).await {
            Ok(offset) => taken = offset + 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, LogError::Unavailable(why) if why.contains("No space left")), "{refused}");
    log.close().await.expect("closes");
    drop(log);
    let log = open(dir.path());
    assert_eq!(drain(log.as_ref(), 0, 0).await.len() as u64, taken, "a full disk neither refuses the start nor takes a record");
    std::process::Command::new("mount").args(["-o", "remount,size=4m"]).arg(dir.path()).status().expect("remounts");
    assert_eq!(log.append(0, Bytes::from_static(b"x")).await.expect("space came back"), taken);
    log.close().await.expect("closes");
    drop(log);
    std::process::Command::new("umount").arg(dir.path()).status().expect("unmounts");
}

#[tokio::test]
async fn a_writer_that_panics_takes_the_log_with_it() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 4, 100).await;
    // An index without partitions: the writer's next batch reaches beyond it.
    log.shared.view().segments.back_mut().expect("a segment").index = Some(Vec::new());
    let answered = tokio::time::timeout(Duration::from_secs(20), log.append(0, Bytes::from_static(b"x"))).await;
    assert!(answered.expect("nobody waits for a thread that is gone").is_err());
    assert!(log.fatal().await.contains("panicked"));
    assert!(matches!(log.append(0, Bytes::from_static(b"x")).await, Err(LogError::Fatal(_))));
    let closed = tokio::time::timeout(Duration::from_secs(20), log.close()).await;
    assert!(closed.expect("ends").is_err());
}

#[tokio::test]
async fn a_failed_fsync_is_fatal_and_never_retried() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 4, 100).await;
    log.shared.fail_fsync.store(true, Ordering::Relaxed);
    assert!(matches!(log.append(0, Bytes::from_static(b"x")).await, Err(LogError::Fatal(_))));
    log.shared.fail_fsync.store(false, Ordering::Relaxed);
    let fsyncs = log.fsyncs();
    assert!(matches!(log.append(0, Bytes::from_static(b"x")).await, Err(LogError::Fatal(_))));
    assert!(log.fatal().await.contains("fsync"));
    assert_eq!(log.bounds(0).await.expect("bounds").end, 1, "readers don't see what was not fsynced");
    assert!(log.close().await.is_err());
    assert_eq!(log.fsyncs(), fsyncs, "not retried");
}

#[tokio::test]
async fn silence_is_covered_by_a_marker() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 1, 100).await;
    let used = log.shared.view().segments.back().map(|segment| segment.used);
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    let covered = log.shared.view().segments.back().map(|segment| segment.used);
    assert_eq!(covered, used.map(|used| used + layout::MARKER_BYTES), "one marker, and no more while silence lasts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_indexes_come_back() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 200, 9_000).await;
    log.shared.view().segments.iter_mut().rev().skip(1).for_each(|segment| segment.index = None);
    for partition in 0..4 {
        assert_eq!(drain(log.as_ref(), partition, 0).await.len(), 50);
    }
    log.commit(0, 50).await.expect("commits");
    assert_eq!(log.retain(i64::MAX).await.expect("retains"), 0, "three partitions are not captured");
    for partition in 1..4 {
        log.commit(partition, 25).await.expect("commits");
    }
    assert!(log.retain(i64::MAX).await.expect("retains") > 0);
    let start = log.bounds(1).await.expect("bounds").start;
    assert!(start > 0 && start <= 25, "{start}");
    assert!(matches!(log.read(1, 0, 1, 0).await, Err(LogError::OutOfRange { .. })));
}

/// Golden documents of the log lie with the others; `TAILORS_GOLDEN=write` makes them anew.
#[test]
fn documents_of_the_log_say_what_they_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/golden/documents");
    let identity = IdentityDoc { cluster: "c".to_owned(), name: "embedded".to_owned(), topic_uuid: "t".to_owned() };
    let committed = CommittedDoc { positions: vec![Some(7), None, Some(u64::MAX)] };
    let written = [
        (IdentityDoc::FORMAT, IDENTITY, identity.to_bytes(IDENTITY).expect("a small document")),
        (CommittedDoc::FORMAT, COMMITTED, committed.to_bytes(COMMITTED).expect("a small document")),
    ];
    for (format, key, bytes) in written {
        let (name, version) = format.rsplit_once('/').expect("kind and version");
        let (path, twin) = ["", "-corrupt"].map(|twin| folder.join(version).join(format!("{name}{twin}.json"))).into();
        if std::env::var("TAILORS_GOLDEN").is_ok_and(|value| value == "write") {
            let mut corrupt = bytes.clone();
            corrupt[bytes.len() / 2] ^= 1;
            std::fs::write(&path, &bytes).expect("writes");
            std::fs::write(&twin, corrupt).expect("writes");
        }
        let is_read = |bytes: &[u8]| match key {
            IDENTITY => {
                IdentityDoc::from_bytes(key, bytes).is_ok_and(|doc| (&*doc.cluster, &*doc.name, &*doc.topic_uuid) == ("c", "embedded", "t"))
            }
            _ => CommittedDoc::from_bytes(key, bytes).is_ok_and(|doc| doc.positions == [Some(7), None, Some(u64::MAX)]),
        };
        let mut kept = std::fs::read(path).expect("a golden file");
        assert!(kept == bytes, "{name}: other bytes are written; a new version needs new golden files");
        assert!(is_read(&kept) && !is_read(&std::fs::read(twin).expect("a corrupt twin")), "{name}");
        assert!((0..kept.len()).all(|end| !is_read(&kept[..end])), "{name}: a prefix is read");
        for bit in 0..kept.len() * 8 {
            kept[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_read(&kept), "{name}: bit {bit}");
            kept[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

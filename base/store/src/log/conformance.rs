//! What every `Log` must do, as checks that take a factory of empty logs; both implementations run them in their tests.
//!
//! A broken promise is a panic that names it: this module is called from tests only.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tailors_format::raw::frame;

use super::{Log, LogBatch, LogError};

/// Runs every check, each on a new empty log of at least two partitions from `make`.
pub async fn suite<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Arc<dyn Log>>,
{
    appended_is_read_back(make().await.as_ref()).await;
    bounds_and_outside(make().await.as_ref()).await;
    reads_are_cut_by_bytes(make().await.as_ref()).await;
    reads_wait(make().await).await;
    appends_side_by_side(make().await).await;
    commits_are_kept(make().await.as_ref()).await;
    pause_stops_and_resume_goes_on(make().await.as_ref()).await;
    refuses_what_it_must(make().await.as_ref()).await;
    retention_stops_at_committed(make().await.as_ref()).await;
    dropped_appends_do_no_harm(make().await).await;
}

/// A payload that differs for each number.
fn payload(number: u64, bytes: usize) -> Bytes {
    let mut payload = format!("payload {number} ").into_bytes();
    payload.resize(payload.len().max(bytes), (number % 251) as u8);
    payload.into()
}

async fn append(log: &dyn Log, partition: u32, payload: Bytes) -> u64 {
    match log.append(partition, payload).await {
        Ok(offset) => offset,
        Err(error) => panic!("an append to a sound log failed: {error}"),
    }
}

async fn read(log: &dyn Log, partition: u32, position: u64, bytes_max: usize, wait_ms: u64) -> LogBatch {
    match log.read(partition, position, bytes_max, wait_ms).await {
        Ok(batch) => batch,
        Err(error) => panic!("a read inside the bounds failed: {error}"),
    }
}

/// Everything from `position` to the end: (offset, payload); checks each frame against where it was found.
pub async fn drain(log: &dyn Log, partition: u32, mut position: u64) -> Vec<(u64, Bytes)> {
    let mut all = Vec::new();
    loop {
        let batch = read(log, partition, position, 256 << 10, 0).await;
        for record in &batch.records {
            let (decoded, used) = match frame::decode(&record.frame) {
                Ok(decoded) => decoded,
                Err(error) => panic!("partition {partition} offset {}: {error}", record.offset),
            };
            assert_eq!(used, record.frame.len(), "a record is exactly one frame");
            assert_eq!(
                (decoded.epoch, decoded.partition, decoded.offset),
                (log.epoch(), partition, record.offset),
                "the frame says where it is"
            );
            assert!(record.offset >= position && record.offset < batch.next, "records lie between position and next");
            position = record.offset + 1;
            all.push((record.offset, record.frame.slice_ref(decoded.payload)));
        }
        assert!(batch.next >= position, "next never goes back");
        if batch.records.is_empty() && batch.next == position {
            return all;
        }
        position = batch.next;
    }
}

async fn appended_is_read_back(log: &dyn Log) {
    for number in 0..20 {
        assert_eq!(append(log, 0, payload(number, 100)).await, number, "offsets are dense from 0");
    }
    assert_eq!(append(log, 1, payload(100, 10)).await, 0, "partitions count for themselves");
    let expected: Vec<_> = (0..20).map(|number| (number, payload(number, 100))).collect();
    assert_eq!(drain(log, 0, 0).await, expected, "what was appended is read back");
    assert_eq!(drain(log, 0, 7).await, expected[7..], "reading begins at the position");
    assert_eq!(drain(log, 1, 0).await, vec![(0, payload(100, 10))]);
}

async fn bounds_and_outside(log: &dyn Log) {
    for _ in 0..3 {
        append(log, 0, payload(1, 1)).await;
    }
    assert!(matches!(log.bounds(0).await, Ok(bounds) if (bounds.start, bounds.end) == (0, 3)), "bounds after three appends");
    assert!(matches!(log.bounds(1).await, Ok(bounds) if (bounds.start, bounds.end) == (0, 0)), "bounds of an empty partition");
    let batch = read(log, 0, 3, 1 << 20, 0).await;
    assert!(batch.records.is_empty() && batch.next == 3, "the end is a position, with nothing there");
    let beyond = log.read(0, 4, 1 << 20, 0).await;
    assert!(matches!(beyond, Err(LogError::OutOfRange { asked: 4, end: 3, .. })), "beyond the end is an error, no silent reset");
}

async fn reads_are_cut_by_bytes(log: &dyn Log) {
    for number in 0..10 {
        append(log, 0, payload(number, 1_000)).await;
    }
    let batch = read(log, 0, 0, 1, 0).await;
    assert_eq!((batch.records.len(), batch.next), (1, 1), "at least one record, however large");
    let batch = read(log, 0, 2, 3_500, 0).await;
    assert!((1..=4).contains(&batch.records.len()), "about bytes_max: {} records", batch.records.len());
    assert_eq!(batch.next, 2 + batch.records.len() as u64);
}

async fn reads_wait(log: Arc<dyn Log>) {
    let batch = read(log.as_ref(), 0, 0, 1 << 20, 20).await;
    assert!(batch.records.is_empty() && batch.next == 0, "nothing came");
    let reader = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.read(0, 0, 1 << 20, 10_000).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    append(log.as_ref(), 1, payload(9, 1)).await;
    append(log.as_ref(), 0, payload(1, 1)).await;
    match tokio::time::timeout(Duration::from_secs(5), reader).await {
        Ok(Ok(Ok(batch))) => assert_eq!(batch.records.len(), 1, "a waiting read gets the first record"),
        other => panic!("a waiting read was not woken: {other:?}"),
    }
}

async fn appends_side_by_side(log: Arc<dyn Log>) {
    let mut tasks = Vec::new();
    for number in 0..200_u64 {
        let log = Arc::clone(&log);
        tasks.push(tokio::spawn(async move { (number, append(log.as_ref(), (number % 2) as u32, payload(number, 500)).await) }));
    }
    let mut acknowledged = BTreeSet::new();
    for task in tasks {
        match task.await {
            Ok((number, offset)) => assert!(acknowledged.insert((number % 2, offset, payload(number, 500))), "an offset was given twice"),
            Err(error) => panic!("{error}"),
        }
    }
    let mut found = BTreeSet::new();
    for partition in 0..2 {
        for (offset, payload) in drain(log.as_ref(), partition, 0).await {
            found.insert((u64::from(partition), offset, payload));
        }
    }
    assert_eq!(found, acknowledged, "every acknowledged payload is at its offset, once");
}

async fn commits_are_kept(log: &dyn Log) {
    assert!(matches!(log.committed(0).await, Ok(None)), "no position to begin with");
    append(log, 0, payload(1, 1)).await;
    assert!(log.commit(0, 1).await.is_ok());
    assert!(matches!(log.committed(0).await, Ok(Some(1))));
    assert!(matches!(log.committed(1).await, Ok(None)), "positions are by partition");
}

async fn pause_stops_and_resume_goes_on(log: &dyn Log) {
    append(log, 0, payload(1, 1)).await;
    append(log, 1, payload(2, 1)).await;
    log.pause(0);
    assert_eq!(read(log, 1, 0, 1 << 20, 0).await.records.len(), 1, "another partition goes on");
    log.resume(0);
    assert_eq!(read(log, 0, 0, 1 << 20, 1_000).await.records.len(), 1, "reading goes on after resume");
}

async fn refuses_what_it_must(log: &dyn Log) {
    let limit = tailors_model::limits::PAYLOAD_BYTES_MAX as usize;
    assert!(matches!(log.append(0, vec![0; limit + 1].into()).await, Err(LogError::TooLarge { .. })), "larger than any reader takes");
    let none = log.partitions();
    assert!(log.append(none, payload(1, 1)).await.is_err(), "no such partition");
    assert!(log.bounds(none).await.is_err(), "no such partition");
    assert!(log.read(none, 0, 1, 0).await.is_err(), "no such partition");
    assert!(log.commit(none, 0).await.is_err(), "no such partition");
    log.pause(none);
    log.resume(none);
    assert!(matches!(log.bounds(0).await, Ok(bounds) if bounds.end == 0), "nothing refused was kept");
}

async fn retention_stops_at_committed(log: &dyn Log) {
    for number in 0..50 {
        append(log, 0, payload(number, 1_000)).await;
    }
    assert!(log.retain(i64::MAX).await.is_ok());
    assert_eq!(drain(log, 0, 0).await.len(), 50, "nothing is committed, so nothing goes");
    assert!(log.commit(0, 20).await.is_ok() && log.retain(i64::MIN).await.is_ok());
    assert_eq!(drain(log, 0, 0).await.len(), 50, "nothing is old enough, so nothing goes");
    assert!(log.retain(i64::MAX).await.is_ok());
    match log.bounds(0).await {
        Ok(bounds) => assert!(bounds.start <= 20 && bounds.end == 50, "{bounds:?}"),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(drain(log, 0, 20).await.len(), 30, "what is not captured stays");
}

async fn dropped_appends_do_no_harm(log: Arc<dyn Log>) {
    for number in 0..20 {
        let append = log.append(0, payload(number, 2_000));
        // Polled once, then dropped, as when a client hangs up: kept or not, but whole and once.
        let _ = tokio::time::timeout(Duration::from_micros(number * 50), append).await;
    }
    let last = append(log.as_ref(), 0, payload(99, 10)).await;
    let found = drain(log.as_ref(), 0, 0).await;
    assert_eq!(found.last(), Some(&(last, payload(99, 10))));
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "offsets rise");
    let distinct: BTreeSet<_> = found.iter().map(|(_, payload)| payload.clone()).collect();
    assert_eq!(distinct.len(), found.len(), "no payload twice");
}

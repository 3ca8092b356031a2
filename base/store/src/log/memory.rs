//! A log in memory with the same contract as the real ones, and faults that a test switches on.
//!
//! In: payloads, faults. Out: frames. Invariants: as `Log`'s. Nothing survives the process.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tailors_format::raw::frame;
use tailors_model::limits::PAYLOAD_BYTES_MAX;
use tokio::sync::watch;

use super::{Log, LogBatch, LogBounds, LogError, LogRecord, StreamIdentity};

/// What one append meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendFault {
    /// Nothing: the append succeeds (to let some pass before the next fault).
    Pass,
    /// The record is kept and readable, the caller sees an error.
    ReplyLost,
    /// The record is not kept, the caller sees an error.
    NotApplied,
}

#[derive(Debug, Default)]
struct Partition {
    start: u64,
    end: u64,
    records: VecDeque<(i64, LogRecord)>,
    committed: Option<u64>,
    paused: bool,
}

#[derive(Debug, Default)]
struct State {
    partitions: Vec<Partition>,
    faults: VecDeque<AppendFault>,
    unavailable: bool,
    now_us: i64,
}

/// See the module's header.
#[derive(Debug)]
pub struct MemoryLog {
    identity: StreamIdentity,
    epoch: u32,
    partitions: u32,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl MemoryLog {
    /// An empty log; its identity names the epoch.
    pub fn new(partitions: u32, epoch: u32) -> Self {
        let state = State { partitions: (0..partitions).map(|_| Partition::default()).collect(), ..State::default() };
        let identity = StreamIdentity { cluster: "memory".to_owned(), topic_uuid: format!("memory-{epoch}"), name: "memory".to_owned() };
        Self { identity, epoch, partitions, state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    /// The next appends meet these, one each, in order; afterwards all succeed.
    pub fn fail_appends(&self, faults: impl IntoIterator<Item = AppendFault>) {
        self.lock().faults.extend(faults);
    }

    /// While set, every call answers `Unavailable`.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.lock().unavailable = unavailable;
        self.changed.send_replace(());
    }

    /// Leaves a gap of `count` offsets after the newest record (as compaction and transaction markers do in Kafka).
    pub fn skip_offsets(&self, partition: u32, count: u64) -> Result<(), LogError> {
        find(&mut self.lock(), partition)?.end += count;
        self.changed.send_replace(());
        Ok(())
    }

    /// Moves the log start up to `start`, committed or not (as Kafka's retention does); never beyond the end, never back.
    pub fn move_start(&self, partition: u32, start: u64) -> Result<(), LogError> {
        let mut state = self.lock();
        let partition = find(&mut state, partition)?;
        partition.start = start.clamp(partition.start, partition.end);
        let start = partition.start;
        partition.records.retain(|(_, record)| record.offset >= start);
        Ok(())
    }

    /// Records appended from now on count as received then, Unix microseconds (only `retain` looks at it).
    pub fn set_now_us(&self, now_us: i64) {
        self.lock().now_us = now_us;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn available(&self) -> Result<MutexGuard<'_, State>, LogError> {
        let state = self.lock();
        if state.unavailable { Err(LogError::Unavailable("fault: unavailable".to_owned())) } else { Ok(state) }
    }
}

fn find(state: &mut State, partition: u32) -> Result<&mut Partition, LogError> {
    state.partitions.get_mut(partition as usize).ok_or(LogError::OutOfRange { partition, asked: 0, start: 0, end: 0 })
}

/// What can be read now; `None` = nothing yet.
fn take(state: &mut State, partition: u32, position: u64, bytes_max: usize) -> Result<Option<LogBatch>, LogError> {
    let found = find(state, partition)?;
    if position < found.start || position > found.end {
        return Err(LogError::OutOfRange { partition, asked: position, start: found.start, end: found.end });
    }
    if found.paused || position == found.end {
        return Ok(None);
    }
    let from = found.records.partition_point(|(_, record)| record.offset < position);
    let mut batch = LogBatch { records: Vec::new(), next: found.end };
    let mut bytes = 0;
    for (_, record) in found.records.iter().skip(from) {
        if !batch.records.is_empty() && bytes + record.frame.len() > bytes_max {
            batch.next = record.offset;
            break;
        }
        bytes += record.frame.len();
        batch.records.push(record.clone());
    }
    Ok(Some(batch))
}

#[async_trait]
impl Log for MemoryLog {
    fn identity(&self) -> &StreamIdentity {
        &self.identity
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    async fn append(&self, partition: u32, payload: Bytes) -> Result<u64, LogError> {
        if payload.len() > PAYLOAD_BYTES_MAX as usize {
            return Err(LogError::TooLarge { bytes: payload.len() as u64, limit: u64::from(PAYLOAD_BYTES_MAX) });
        }
        let mut state = self.available()?;
        let (now_us, fault) = (state.now_us, state.faults.pop_front().unwrap_or(AppendFault::Pass));
        let found = find(&mut state, partition)?;
        if fault == AppendFault::NotApplied {
            return Err(LogError::Unavailable("fault: not applied".to_owned()));
        }
        let offset = found.end;
        let mut bytes = Vec::with_capacity(frame::HEADER_BYTES + payload.len());
        frame::encode(&mut bytes, self.epoch, partition, offset, &payload);
        found.records.push_back((now_us, LogRecord { offset, frame: bytes.into() }));
        found.end += 1;
        drop(state);
        self.changed.send_replace(());
        if fault == AppendFault::ReplyLost { Err(LogError::Unavailable("fault: reply lost".to_owned())) } else { Ok(offset) }
    }

    async fn bounds(&self, partition: u32) -> Result<LogBounds, LogError> {
        let mut state = self.available()?;
        find(&mut state, partition).map(|found| LogBounds { start: found.start, end: found.end })
    }

    async fn read(&self, partition: u32, position: u64, bytes_max: usize, wait_ms: u64) -> Result<LogBatch, LogError> {
        let mut changed = self.changed.subscribe();
        let search = async {
            loop {
                changed.mark_unchanged();
                let found = take(&mut *self.available()?, partition, position, bytes_max)?;
                match found {
                    Some(batch) => return Ok(batch),
                    None if changed.changed().await.is_err() => return Ok(LogBatch { records: Vec::new(), next: position }),
                    None => {}
                }
            }
        };
        match tokio::time::timeout(Duration::from_millis(wait_ms), search).await {
            Ok(result) => result,
            Err(_) => Ok(LogBatch { records: Vec::new(), next: position }),
        }
    }

    fn pause(&self, partition: u32) {
        if let Ok(found) = find(&mut self.lock(), partition) {
            found.paused = true;
        }
    }

    fn resume(&self, partition: u32) {
        if let Ok(found) = find(&mut self.lock(), partition) {
            found.paused = false;
        }
        self.changed.send_replace(());
    }

    async fn commit(&self, partition: u32, next: u64) -> Result<(), LogError> {
        let mut state = self.available()?;
        find(&mut state, partition)?.committed = Some(next);
        Ok(())
    }

    async fn committed(&self, partition: u32) -> Result<Option<u64>, LogError> {
        let mut state = self.available()?;
        find(&mut state, partition).map(|found| found.committed)
    }

    async fn retain(&self, older_than_us: i64) -> Result<u64, LogError> {
        let mut state = self.available()?;
        let mut bytes = 0;
        for partition in &mut state.partitions {
            let committed = partition.committed.unwrap_or(0);
            while let Some((received_us, record)) = partition.records.front() {
                if *received_us >= older_than_us || record.offset >= committed {
                    break;
                }
                bytes += record.frame.len() as u64;
                partition.start = record.offset + 1;
                partition.records.pop_front();
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;

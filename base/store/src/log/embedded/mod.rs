//! The log that needs no server: one sequence of segment files for all partitions, written by one thread, one fsync for each group commit.
//!
//! In: payloads. Out: raw-file frames at offsets. Invariants: P1 (an append resolves only when its frame is fsynced; readers see only what
//! is), P2 (offsets of a partition are given once and never again). What if killed here: a torn tail is cut at the next start and nothing
//! acknowledged is in it; damage below what was fsynced refuses the start.
//!
//! ```text
//! DIR/lock                      held (flock) while the log is open
//! DIR/identity.json             minted once; DIR/committed.json: positions of capture, a hint
//! DIR/segment-{number:012}.tlog  header, then batches: frames of any partitions in order, then a marker; the rest is allocated space (zeros)
//! ```

mod files;
mod reader;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tailors_format::doc::Document;
use tailors_format::payload::read_header;
use tailors_model::Clock;
use tailors_model::limits::PAYLOAD_BYTES_MAX;
use tokio::sync::{Semaphore, oneshot};

use self::files::{classify, create_dir, read_whole, sync_dir, write_whole};
use self::reader::Look;
use self::recovery::{Start, recover};
use self::writer::{Request, Shared, Writer};
use super::{Log, LogBatch, LogBounds, LogError, StreamIdentity};

const IDENTITY: &str = "identity.json";
const COMMITTED: &str = "committed.json";
/// Bytes of payloads that may wait to be written; more callers wait for room.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Unit of that room.
const ROOM_BYTES: usize = 1 << 10;
/// Bytes of the largest segment: places inside one are 32 bits.
const SEGMENT_BYTES_MAX: u64 = 2 << 30;

#[derive(serde::Serialize, serde::Deserialize)]
struct IdentityDoc {
    cluster: String,
    name: String,
    topic_uuid: String,
}

impl Document for IdentityDoc {
    const FORMAT: &'static str = tailors_format::document_format!("log-identity");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct CommittedDoc {
    positions: Vec<Option<u64>>,
}

impl Document for CommittedDoc {
    const FORMAT: &'static str = tailors_format::document_format!("log-committed");
}

/// When a write is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Each group commit ends with fdatasync; only then it is acknowledged (P1).
    Always,
    /// Left to the kernel: a process crash loses nothing, a power cut may lose acknowledged records.
    Never,
}

/// Settings of the embedded log; take [`Default`] and change what you need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EmbeddedLogSettings {
    /// Number of partitions; may grow from start to start, never shrink.
    pub partitions: u32,
    /// When a write is durable.
    pub fsync: Fsync,
    /// Bytes of a segment, allocated when it is begun; a larger batch gets a larger segment.
    pub segment_bytes: u64,
    /// Longest wait for company before a group commit, milliseconds.
    pub group_commit_ms: u64,
    /// Bytes of the largest payload taken.
    pub record_bytes_max: u64,
    /// Start in spite of damage below what was fsynced; what can't be read is a hole in the offsets.
    pub accept_damage: bool,
    /// Bytes of recently written frames kept in memory for readers at the tail.
    pub cache_bytes: usize,
    /// Bytes that all segments together may allocate, `None` = what the disk gives; past it the log is as on a full disk.
    pub quota_bytes: Option<u64>,
}

impl Default for EmbeddedLogSettings {
    fn default() -> Self {
        Self {
            partitions: 4,
            fsync: Fsync::Always,
            segment_bytes: 64 << 20,
            group_commit_ms: 3,
            record_bytes_max: u64::from(tailors_model::limits::PAYLOAD_BYTES_MAX),
            accept_damage: false,
            cache_bytes: 32 << 20,
            quota_bytes: None,
        }
    }
}

/// An open embedded log.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    room: Arc<Semaphore>,
    paused: Vec<AtomicBool>,
    committed: Mutex<Vec<Option<u64>>>,
    /// One commit file is written at a time.
    committing: tokio::sync::Mutex<()>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// The identity kept in `dir`; the first call creates `dir` and mints it from 16 random bytes of `mint`.
    ///
    /// # Errors
    /// `Damaged` when the file is not whole, or is missing beside segments: an identity is never minted over existing records.
    pub fn identity(dir: &Path, mint: impl FnOnce() -> [u8; 16]) -> Result<StreamIdentity, LogError> {
        create_dir(dir)?;
        if let Some(bytes) = read_whole(dir, IDENTITY)? {
            return read_identity(dir, &bytes);
        }
        if let Some(number) = segment::list(dir)?.first() {
            let found = segment::name(*number);
            return Err(LogError::Damaged(format!("{}: no {IDENTITY}, but {found}; restore the file", dir.display())));
        }
        let seed = mint();
        let topic = Sha256::new().chain_update(b"tailors topic").chain_update(seed).finalize();
        let mut topic_seed = [0; 16];
        topic_seed.copy_from_slice(&topic[..16]);
        let minted = IdentityDoc { cluster: uuid(seed), name: "embedded".to_owned(), topic_uuid: uuid(topic_seed) };
        let bytes = minted.to_bytes(IDENTITY).map_err(|error| LogError::Fatal(error.to_string()))?;
        write_whole(dir, IDENTITY, &bytes, false)?;
        // Read back: another process may have been first.
        let bytes = read_whole(dir, IDENTITY)?.ok_or_else(|| LogError::Fatal(format!("{IDENTITY} vanished from {}", dir.display())))?;
        read_identity(dir, &bytes)
    }

    /// Opens the log in `dir`, which must have an identity; blocks for the recovery scan. `chain_heads[partition]` = what the chain says is
    /// captured: the next offset is max(log end, chain head), a difference is counted.
    ///
    /// # Errors
    /// `Damaged` names segment and offset; `Fatal` when another process has the log open, the partitions would shrink, the log was written
    /// under another epoch, or the directory can't be used.
    pub fn open(
        dir: &Path,
        settings: EmbeddedLogSettings,
        epoch: u32,
        clock: Arc<dyn Clock>,
        chain_heads: Vec<Option<u64>>,
    ) -> Result<Arc<Self>, LogError> {
        if settings.partitions == 0
            || settings.segment_bytes > SEGMENT_BYTES_MAX
            || settings.record_bytes_max > u64::from(PAYLOAD_BYTES_MAX)
        {
            return Err(LogError::Fatal(format!("log settings out of range: {settings:?}")));
        }
        let lock_file = lock(dir)?;
        let identity = Self::identity_kept(dir)?;
        let partitions = settings.partitions as usize;
        let (accept_damage, cache_bytes) = (settings.accept_damage, settings.cache_bytes);
        let found = recover(Start { dir, cluster: &identity.cluster, epoch, partitions, accept_damage, cache_bytes })?;
        let mut view = found.view;
        for (partition, (end, head)) in view.ends.iter_mut().zip(&chain_heads).enumerate() {
            let head = head.unwrap_or(0);
            if head > *end {
                metrics::counter!("tailors_log_skipped_offsets_total").increment(head - *end);
                tracing::warn!(partition, end = *end, head, "the chain is ahead of the log: offsets skipped");
                *end = head;
            }
        }
        let committed = read_committed(dir, partitions)?;
        let shared = Arc::new(Shared::new(dir.to_owned(), settings, identity, epoch, view, lock_file));
        shared.received_max_us.store(found.received_max_us, Ordering::Relaxed);
        let writer = Writer::new(Arc::clone(&shared), found.next_number);
        let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| classify("starting the log's writer", &error))?;
        Ok(Arc::new(Self {
            shared,
            clock,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX / ROOM_BYTES)),
            paused: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
            committed: Mutex::new(committed),
            committing: tokio::sync::Mutex::new(()),
            writer: Mutex::new(Some(thread)),
        }))
    }

    fn identity_kept(dir: &Path) -> Result<StreamIdentity, LogError> {
        let bytes = read_whole(dir, IDENTITY)?;
        let bytes =
            bytes.ok_or_else(|| LogError::Damaged(format!("{}: no {IDENTITY}; it is minted before the log is opened", dir.display())))?;
        read_identity(dir, &bytes)
    }

    /// Greatest `received_at_us` of all payloads kept (Unix microseconds), 0 when there is none: the intake starts above it.
    pub fn last_received_at_us(&self) -> i64 {
        self.shared.received_max_us.load(Ordering::Relaxed)
    }

    /// Resolves with the reason once the log is beyond use (an fsync failed): the process must end, nothing is retried.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.shared.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the log was dropped".to_owned(),
        }
    }

    /// Fsyncs so far, for figures.
    pub fn fsyncs(&self) -> u64 {
        self.shared.fsyncs.load(Ordering::Relaxed)
    }

    /// Changes [`EmbeddedLogSettings::quota_bytes`] while running.
    pub fn set_quota_bytes(&self, quota_bytes: Option<u64>) {
        self.shared.quota_bytes.store(quota_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Writes what is queued, seals the last segment, gives the lock back. Appends after it are `Unavailable`.
    ///
    /// # Errors
    /// `Fatal` when the log had died before, or did while closing.
    pub async fn close(&self) -> Result<(), LogError> {
        self.shared.begin_close();
        let mut done = self.shared.done.subscribe();
        // An error can't be: the sender lives in `shared`.
        let _ = done.wait_for(|done| *done).await;
        self.shared.check_alive()
    }

    fn at(&self, partition: u32) -> Result<usize, LogError> {
        if partition < self.shared.settings.partitions {
            return Ok(partition as usize);
        }
        Err(LogError::OutOfRange { partition, asked: 0, start: 0, end: 0 })
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.shared.begin_close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Waits for at most one group commit, so that whoever drops the log can open it again.
            let _ = thread.join();
        }
    }
}

/// `dir/lock`, held.
fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| classify(&format!("opening {}", path.display()), &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(error) => Err(LogError::Fatal(format!("the log in {} is open already ({error})", dir.display()))),
    }
}

fn read_identity(dir: &Path, bytes: &[u8]) -> Result<StreamIdentity, LogError> {
    let damaged = |error| LogError::Damaged(format!("{}: {error}; restore the file", dir.join(IDENTITY).display()));
    let found = IdentityDoc::from_bytes(IDENTITY, bytes).map_err(damaged)?;
    Ok(StreamIdentity { cluster: found.cluster, topic_uuid: found.topic_uuid, name: found.name })
}

/// Positions of capture; a damaged file is a lost hint, said and no more.
fn read_committed(dir: &Path, partitions: usize) -> Result<Vec<Option<u64>>, LogError> {
    let Some(bytes) = read_whole(dir, COMMITTED)? else { return Ok(vec![None; partitions]) };
    let mut positions = match CommittedDoc::from_bytes(COMMITTED, &bytes) {
        Ok(found) => found.positions,
        Err(error) => {
            tracing::warn!(file = %dir.join(COMMITTED).display(), %error, "committed positions are lost; capture goes on from the chain");
            Vec::new()
        }
    };
    positions.resize(partitions, None);
    Ok(positions)
}

/// RFC 9562 version 4 text of 16 random bytes.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LogError> + Send + 'static) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LogError::Unavailable(format!("the runtime is going down: {error}"))),
    }
}

/// Unlinks the oldest segment if it may go; the bytes it freed.
fn unlink_oldest(shared: &Shared, committed: &[Option<u64>], older_than_us: i64) -> Result<Option<u64>, LogError> {
    let mut view = shared.view();
    let Some(oldest) = view.segments.front().filter(|_| view.segments.len() > 1) else { return Ok(None) };
    let captured = oldest.ends.iter().zip(&oldest.header.bases).zip(committed);
    let captured = captured.into_iter().all(|((end, base), committed)| end == base || committed.is_some_and(|next| *end <= next));
    if !captured || oldest.received_max_us >= older_than_us {
        return Ok(None);
    }
    let Some(oldest) = view.segments.pop_front() else { return Ok(None) };
    drop(view);
    std::fs::remove_file(&oldest.path).map_err(|error| classify(&format!("removing {}", oldest.path.display()), &error))?;
    // One by one: after a crash no older segment may be there when a newer one is gone.
    sync_dir(&shared.dir)?;
    Ok(Some(oldest.allocated))
}

#[async_trait]
impl Log for EmbeddedLog {
    fn identity(&self) -> &StreamIdentity {
        &self.shared.identity
    }

    fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    /// Offsets are given without gaps; what is missing between two records is accepted damage.
    fn gaps_are_losses(&self) -> bool {
        true
    }

    fn partitions(&self) -> u32 {
        self.shared.settings.partitions
    }

    async fn append(&self, partition: u32, payload: Bytes) -> Result<u64, LogError> {
        self.at(partition)?;
        let limit = self.shared.settings.record_bytes_max;
        if payload.len() as u64 > limit {
            return Err(LogError::TooLarge { bytes: payload.len() as u64, limit });
        }
        self.shared.check_alive()?;
        let received_at_us = match read_header(&payload) {
            Ok(header) => {
                self.shared.received_max_us.fetch_max(header.received_at_us, Ordering::Relaxed);
                header.received_at_us
            }
            Err(_) => self.clock.now_us(),
        };
        let permits = (payload.len() / ROOM_BYTES + 1) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        let room = room.map_err(|_| LogError::Unavailable("the log is closed".to_owned()))?;
        let (reply, answer) = oneshot::channel();
        self.shared.push(Request { partition, payload, received_at_us, reply, _room: room })?;
        answer.await.unwrap_or_else(|_| Err(LogError::Unavailable("the log was closed before it answered".to_owned())))
    }

    async fn bounds(&self, partition: u32) -> Result<LogBounds, LogError> {
        let at = self.at(partition)?;
        let view = self.shared.view();
        Ok(LogBounds { start: view.start(at), end: view.ends[at] })
    }

    async fn read(&self, partition: u32, position: u64, bytes_max: usize, wait_ms: u64) -> Result<LogBatch, LogError> {
        let at = self.at(partition)?;
        let mut ends = self.shared.ends[at].subscribe();
        let waited = tokio::time::sleep(Duration::from_millis(wait_ms));
        tokio::pin!(waited);
        loop {
            ends.mark_unchanged();
            let paused = self.paused[at].load(Ordering::Relaxed);
            let look = reader::look(&mut self.shared.view(), self.shared.epoch, partition, position, bytes_max)?;
            match look {
                Look::Nothing => {}
                _ if paused => {}
                Look::Batch(batch) => return Ok(batch),
                Look::Disk(fetch) => return blocking(move || fetch.run()).await,
                Look::Index(rescan) => {
                    let number = rescan.number;
                    let index = blocking(move || rescan.run()).await?;
                    let mut view = self.shared.view();
                    if let Some(segment) = view.segments.iter_mut().find(|segment| segment.header.number == number) {
                        segment.index = Some(index);
                    }
                    view.bound_indexes(number);
                    continue;
                }
            }
            tokio::select! {
                biased;
                changed = ends.changed() => if changed.is_err() { return Ok(LogBatch { records: Vec::new(), next: position }) },
                () = &mut waited => return Ok(LogBatch { records: Vec::new(), next: position }),
            }
        }
    }

    fn pause(&self, partition: u32) {
        if let Ok(at) = self.at(partition) {
            self.paused[at].store(true, Ordering::Relaxed);
        }
    }

    fn resume(&self, partition: u32) {
        if let Ok(at) = self.at(partition) {
            self.paused[at].store(false, Ordering::Relaxed);
            self.shared.ends[at].send_modify(|_| {});
        }
    }

    async fn commit(&self, partition: u32, next: u64) -> Result<(), LogError> {
        let at = self.at(partition)?;
        self.shared.check_alive()?;
        let _one_at_a_time = self.committing.lock().await;
        let mut positions = self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        positions[at] = Some(next);
        let bytes =
            CommittedDoc { positions: positions.clone() }.to_bytes(COMMITTED).map_err(|error| LogError::Unavailable(error.to_string()))?;
        let dir = self.shared.dir.clone();
        let written = blocking(move || write_whole(&dir, COMMITTED, &bytes, true)).await;
        written.map_err(|error| self.shared.die(error))?;
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = positions;
        Ok(())
    }

    async fn committed(&self, partition: u32) -> Result<Option<u64>, LogError> {
        let at = self.at(partition)?;
        Ok(self.committed.lock().unwrap_or_else(PoisonError::into_inner)[at])
    }

    async fn retain(&self, older_than_us: i64) -> Result<u64, LogError> {
        self.shared.check_alive()?;
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut bytes = 0;
            while let Some(freed) = unlink_oldest(&shared, &committed, older_than_us).map_err(|error| shared.die(error))? {
                bytes += freed;
            }
            Ok(bytes)
        })
        .await
    }
}

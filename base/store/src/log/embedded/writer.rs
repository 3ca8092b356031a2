//! The one writer: gathers appends of all partitions, writes them with one call and one fdatasync, answers, shows them to readers.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tailors_format::raw::frame;
use tailors_format::raw::segment::{Entry, Header, MARKER_BYTES, put_marker};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::files::classify;
use super::segment::{self, Segment, View};
use super::{EmbeddedLogSettings, Fsync};
use crate::log::{LogError, StreamIdentity};

/// Bytes of one group commit, as far as its first record leaves it the choice.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// After this silence a marker alone is written (formats.md section 2).
const SILENCE: Duration = Duration::from_secs(1);

/// One append on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) partition: u32,
    pub(super) payload: Bytes,
    pub(super) received_at_us: i64,
    pub(super) reply: oneshot::Sender<Result<u64, LogError>>,
    /// Share of the memory that queued payloads may hold; given back when the request is answered.
    pub(super) _room: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Queue {
    requests: Vec<Request>,
    bytes: usize,
    /// Requests the writer is gathering; fewer need not wake it.
    wanted: usize,
    closing: bool,
}

/// What the handle, the writer and the readers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) settings: EmbeddedLogSettings,
    pub(super) identity: StreamIdentity,
    pub(super) epoch: u32,
    queue: Mutex<Queue>,
    wake: Condvar,
    view: Mutex<View>,
    /// Per partition: the end, for readers that wait.
    pub(super) ends: Vec<watch::Sender<u64>>,
    pub(super) received_max_us: AtomicI64,
    pub(super) fatal: watch::Sender<Option<String>>,
    pub(super) done: watch::Sender<bool>,
    pub(super) lock_file: Mutex<Option<File>>,
    pub(super) quota_bytes: AtomicU64,
    /// Fsyncs since the start, and a switch that makes the next one fail (tests).
    pub(super) fsyncs: AtomicU64,
    pub(super) fail_fsync: AtomicBool,
}

impl Shared {
    pub(super) fn new(dir: PathBuf, settings: EmbeddedLogSettings, identity: StreamIdentity, epoch: u32, view: View, lock: File) -> Self {
        let quota_bytes = AtomicU64::new(settings.quota_bytes.unwrap_or(u64::MAX));
        Self {
            dir,
            settings,
            identity,
            epoch,
            queue: Mutex::default(),
            wake: Condvar::new(),
            ends: view.ends.iter().map(|end| watch::Sender::new(*end)).collect(),
            view: Mutex::new(view),
            received_max_us: AtomicI64::new(0),
            fatal: watch::Sender::new(None),
            done: watch::Sender::new(false),
            lock_file: Mutex::new(Some(lock)),
            quota_bytes,
            fsyncs: AtomicU64::new(0),
            fail_fsync: AtomicBool::new(false),
        }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an append to the writer; gives it back when the log is closing.
    pub(super) fn push(&self, request: Request) -> Result<(), LogError> {
        let mut queue = self.queue();
        if queue.closing {
            return Err(LogError::Unavailable("the log is closed".to_owned()));
        }
        queue.bytes += request.payload.len();
        queue.requests.push(request);
        let enough = queue.requests.len() >= queue.wanted || queue.bytes >= BATCH_BYTES_MAX;
        drop(queue);
        if enough {
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(super) fn begin_close(&self) {
        self.queue().closing = true;
        self.wake.notify_one();
    }

    /// From here on every call answers `Fatal`; `error` is given back.
    pub(super) fn die(&self, error: LogError) -> LogError {
        if let LogError::Fatal(why) = &error {
            tracing::error!(why, "the log is beyond use");
            self.fatal.send_if_modified(|reason| {
                let first = reason.is_none();
                reason.get_or_insert_with(|| why.clone());
                first
            });
        }
        error
    }

    pub(super) fn check_alive(&self) -> Result<(), LogError> {
        self.fatal.borrow().as_ref().map_or(Ok(()), |why| Err(LogError::Fatal(why.clone())))
    }
}

/// The same error for each of several callers.
fn copy(error: &LogError) -> LogError {
    match error {
        LogError::Fatal(why) => LogError::Fatal(why.clone()),
        other => LogError::Unavailable(other.to_string()),
    }
}

#[derive(Debug)]
struct Active {
    file: Arc<File>,
    path: PathBuf,
    position: u64,
    /// Position up to which it is known to be fsynced.
    synced_to: u64,
    allocated: u64,
}

/// Sees to it that a writer that panics takes the log with it: nobody may wait for a thread that is gone.
struct Mourner(Arc<Shared>);

impl Drop for Mourner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.die(LogError::Fatal("the log's writer panicked".to_owned()));
            let mut queue = self.0.queue();
            queue.closing = true;
            // Whoever waits for one of these learns that no answer will come.
            queue.requests.clear();
            drop(queue);
            self.0.done.send_replace(true);
        }
    }
}

/// Lives on its own thread; see the module's header.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    next: Vec<u64>,
    next_number: u64,
    active: Option<Active>,
    spare: Vec<u8>,
    last_count: usize,
    covered: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, next_number: u64) -> Self {
        let next = shared.view().ends.clone();
        Self { shared, next, next_number, active: None, spare: Vec::new(), last_count: 1, covered: true }
    }

    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        let _mourner = Mourner(Arc::clone(&self.shared));
        while let Some(requests) = self.gather() {
            if requests.is_empty() {
                self.covered = true;
                if self.shared.settings.fsync == Fsync::Always {
                    let _ = self.cover().map_err(|error| self.shared.die(error));
                }
                continue;
            }
            self.commit(requests);
        }
        if self.shared.check_alive().is_ok() {
            let _ = self.seal().map_err(|error| self.shared.die(error));
        }
        *self.shared.lock_file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.done.send_replace(true);
    }

    /// The next group; empty = a second of silence with the last batch not yet covered; `None` = closed.
    fn gather(&mut self) -> Option<Vec<Request>> {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue();
        queue.wanted = 1;
        let idle = |queue: &mut Queue| queue.requests.is_empty() && !queue.closing;
        queue = if self.covered {
            shared.wake.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner)
        } else {
            shared.wake.wait_timeout_while(queue, SILENCE, idle).unwrap_or_else(PoisonError::into_inner).0
        };
        if queue.requests.is_empty() {
            return if queue.closing { None } else { Some(Vec::new()) };
        }
        // As many callers as last time are likely to be on their way again; more wait costs latency and gains nothing.
        queue.wanted = self.last_count;
        let wanted = self.last_count;
        let few = |queue: &mut Queue| queue.requests.len() < wanted && queue.bytes < BATCH_BYTES_MAX && !queue.closing;
        let wait = Duration::from_millis(shared.settings.group_commit_ms);
        queue = shared.wake.wait_timeout_while(queue, wait, few).unwrap_or_else(PoisonError::into_inner).0;
        queue.wanted = usize::MAX;
        let mut bytes = 0;
        let fitting = queue.requests.iter().take_while(|request| {
            bytes += request.payload.len();
            bytes <= BATCH_BYTES_MAX
        });
        let count = fitting.count().max(1);
        let rest = queue.requests.split_off(count);
        let requests = std::mem::replace(&mut queue.requests, rest);
        queue.bytes = queue.requests.iter().map(|request| request.payload.len()).sum();
        self.last_count = requests.len();
        Some(requests)
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let written = self.shared.check_alive().and_then(|()| self.write(&requests));
        match written {
            Ok(written) => {
                for (request, (_, offset, _)) in requests.into_iter().zip(written) {
                    let _ = request.reply.send(Ok(offset));
                }
            }
            Err(error) => {
                metrics::counter!("tailors_log_refused_appends_total").increment(requests.len() as u64);
                tracing::warn!(%error, "a group commit failed");
                for request in requests {
                    let _ = request.reply.send(Err(copy(&error)));
                }
            }
        }
    }

    /// Writes and publishes one group: (partition, offset, place in the buffer) of each. On an error nothing of it was shown, and the
    /// segment it may lie half written in is cut and left.
    fn write(&mut self, requests: &[Request]) -> Result<Vec<(u32, u64, Range<usize>)>, LogError> {
        let need = requests.iter().map(|request| frame::frame_len(request.payload.len())).sum::<usize>() as u64 + 2 * MARKER_BYTES;
        self.make_room(need).map_err(|error| self.shared.die(error))?;
        let Some(active) = self.active.as_mut() else { return Err(LogError::Fatal("no segment to write to".to_owned())) };
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer.reserve(need as usize);
        let mut next = self.next.clone();
        let mut written = Vec::with_capacity(requests.len());
        let mut received_max_us = 0;
        for request in requests {
            let offset = next[request.partition as usize];
            next[request.partition as usize] += 1;
            let begin = buffer.len();
            frame::encode(&mut buffer, self.shared.epoch, request.partition, offset, &request.payload);
            written.push((request.partition, offset, begin..buffer.len()));
            received_max_us = received_max_us.max(request.received_at_us);
        }
        put_marker(&mut buffer, &self.shared.identity.cluster, self.shared.epoch, active.synced_to);
        let begin = active.position;
        if let Err(error) = segment::write_all(&active.file, &buffer, begin) {
            let error = classify(&format!("writing {}", active.path.display()), &error);
            return Err(self.abandon(error));
        }
        active.position += buffer.len() as u64;
        let position = active.position;
        if self.shared.settings.fsync == Fsync::Always {
            fsync(&self.shared, active)?;
            self.covered = false;
        }
        self.next = next;
        self.publish(Bytes::from(buffer), begin, position, &written, received_max_us);
        Ok(written)
    }

    /// Shows a durable batch to readers.
    fn publish(&mut self, buffer: Bytes, begin: u64, position: u64, written: &[(u32, u64, Range<usize>)], received_max_us: i64) {
        metrics::counter!("tailors_log_group_commits_total").increment(1);
        metrics::counter!("tailors_log_appended_bytes_total").increment(buffer.len() as u64);
        let mut view = self.shared.view();
        if let Some(segment) = view.segments.back_mut() {
            segment.used = position;
            segment.received_max_us = segment.received_max_us.max(received_max_us);
            for (partition, offset, range) in written {
                let entry = Entry { offset: *offset, position: (begin + range.start as u64) as u32, length: range.len() as u32 };
                if let Some(index) = segment.index.as_mut() {
                    index[*partition as usize].push(entry);
                }
                segment.ends[*partition as usize] = offset + 1;
            }
        }
        view.ends.clone_from(&self.next);
        self.spare = view.cache.push(buffer, written).unwrap_or_default();
        drop(view);
        for (end, next) in self.shared.ends.iter().zip(&self.next) {
            end.send_if_modified(|end| std::mem::replace(end, *next) != *next);
        }
    }

    /// A segment with `need` bytes left: the active one, or a new one after it is sealed.
    fn make_room(&mut self, need: u64) -> Result<(), LogError> {
        if self.active.as_ref().is_some_and(|active| active.position + need <= active.allocated) {
            return Ok(());
        }
        self.seal()?;
        let shared = &self.shared;
        let mut view = shared.view();
        let previous_ends = view.segments.back().map_or_else(|| vec![0; self.next.len()], |before| before.ends.clone());
        let taken = view.allocated();
        view.bound_indexes(u64::MAX);
        drop(view);
        let header = Header {
            cluster: shared.identity.cluster.clone(),
            epoch: shared.epoch,
            number: self.next_number,
            previous_ends,
            bases: self.next.clone(),
        };
        let header_bytes = header.to_bytes();
        let header_len = header_bytes.len();
        let allocated = shared.settings.segment_bytes.max(need + header_len as u64);
        let quota = shared.quota_bytes.load(Ordering::Relaxed);
        if taken.saturating_add(allocated) > quota {
            return Err(LogError::Unavailable(format!("allocating {allocated} bytes: over the log's quota of {quota}")));
        }
        shared.fsyncs.fetch_add(2, Ordering::Relaxed);
        let file = Arc::new(segment::create(&shared.dir, &header_bytes, self.next_number, allocated)?);
        let path = shared.dir.join(segment::name(self.next_number));
        self.next_number += 1;
        let used = header_len as u64;
        self.active = Some(Active { file: Arc::clone(&file), path: path.clone(), position: used, synced_to: used, allocated });
        let (ends, index) = (self.next.clone(), Some(vec![Vec::new(); self.next.len()]));
        let segment = Segment { header, header_len, path, file, ends, used, allocated, received_max_us: 0, index, used_at: 0 };
        shared.view().segments.push_back(segment);
        Ok(())
    }

    /// Writes a marker that covers all before it.
    fn cover(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        if active.position + MARKER_BYTES > active.allocated {
            return Ok(());
        }
        let mut marker = Vec::new();
        put_marker(&mut marker, &self.shared.identity.cluster, self.shared.epoch, active.synced_to);
        if let Err(error) = segment::write_all(&active.file, &marker, active.position) {
            let error = classify(&format!("writing {}", active.path.display()), &error);
            return if matches!(error, LogError::Fatal(_)) { Err(error) } else { Ok(()) };
        }
        active.position += marker.len() as u64;
        fsync(&self.shared, active)?;
        if let Some(segment) = self.shared.view().segments.back_mut() {
            segment.used = active.position;
        }
        Ok(())
    }

    /// Ends the active segment: fsynced, covered, its unused space given back.
    fn seal(&mut self) -> Result<(), LogError> {
        if let Some(active) = self.active.as_mut()
            && self.shared.settings.fsync == Fsync::Never
        {
            fsync(&self.shared, active)?;
        }
        self.cover()?;
        let Some(active) = self.active.take() else { return Ok(()) };
        self.covered = true;
        cut(&self.shared, &active)
    }

    /// After a failed write: cuts the active segment where the last good batch ends, so that nothing of the failed one can ever be taken
    /// for a record, and goes on in a new one.
    fn abandon(&mut self, error: LogError) -> LogError {
        if let Some(active) = self.active.take()
            && let Err(worse) = cut(&self.shared, &active).and_then(|()| segment::sync(&active.file, &active.path, true))
        {
            return self.shared.die(worse);
        }
        self.shared.die(error)
    }
}

fn cut(shared: &Shared, active: &Active) -> Result<(), LogError> {
    active.file.set_len(active.position).map_err(|error| classify(&format!("cutting {}", active.path.display()), &error))?;
    if let Some(segment) = shared.view().segments.back_mut() {
        segment.allocated = active.position;
    }
    Ok(())
}

fn fsync(shared: &Shared, active: &mut Active) -> Result<(), LogError> {
    shared.fsyncs.fetch_add(1, Ordering::Relaxed);
    let injected = shared.fail_fsync.load(Ordering::Relaxed);
    let synced = if injected {
        Err(LogError::Fatal(format!("fsync of {} failed, the process must end: injected", active.path.display())))
    } else {
        segment::sync(&active.file, &active.path, false)
    };
    synced.map_err(|error| shared.die(error))?;
    active.synced_to = active.position;
    Ok(())
}

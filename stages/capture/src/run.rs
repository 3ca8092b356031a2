//! The loop: assign (C0), read and buffer (C1), rotate (C2), flush on a task of its own (C3..C8), free (C9).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tailors_model::{Clock, OrgId, RouteTable, Window};
use tailors_store::log::{Log, LogBatch, LogError};
use tailors_store::{Objects, StoreError, routes};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::assign::assign;
use crate::buffer::{Buffer, Room};
use crate::flush::{Flush, Heads, flush};
use crate::{CaptureError, Settings};

/// How long a flush that is on its way may finish when capture is told to end.
const STOP_AFTER: Duration = Duration::from_secs(5);

/// Partition -> offset that the chain should reach at once, because a seal (or a forced flush) waits for it. Only ever grows.
pub type FlushTargets = BTreeMap<u32, u64>;

/// Orgs and windows that a flush has points of.
pub type OrgWindows = BTreeSet<(OrgId, Window)>;

/// Told whose points a flush brings, and of which windows.
#[derive(Clone)]
pub struct Flushing(pub Arc<dyn Fn(&OrgWindows) + Send + Sync>);

impl std::fmt::Debug for Flushing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flushing")
    }
}

/// What capture needs.
#[derive(Clone, Debug)]
pub struct CaptureDeps {
    /// The log to copy.
    pub log: Arc<dyn Log>,
    /// The store to copy to.
    pub objects: Objects,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Uuid of this writer, new for every process: unique names of raw files come from it.
    pub writer: String,
    /// Settings.
    pub settings: Settings,
    /// Offsets that seals wait for.
    pub seals_waiting: watch::Receiver<FlushTargets>,
    /// Told before a flush commits whose points it brings, and of which windows.
    pub flushing: Flushing,
    /// Whether records that retention removed before they were captured may be written down as lost.
    pub accept_holes: bool,
}

/// Captures all partitions until `shutdown` turns true (or its sender goes away). Records that are buffered then stay in the log.
///
/// # Errors
/// What no retry mends: [`CaptureError`].
pub async fn run(deps: CaptureDeps, mut shutdown: watch::Receiver<bool>) -> Result<(), CaptureError> {
    let mut seals_waiting = deps.seals_waiting.clone();
    let mut capture =
        Capture { deps: Arc::new(deps), routes: None, partitions: BTreeMap::new(), paused: false, flushes: 0, on_its_way: None };
    let idle = Duration::from_millis(capture.deps.settings.idle_ms);
    loop {
        if *shutdown.borrow() {
            return capture.stop().await;
        }
        capture.finish_flush().await?;
        capture.release_gaps();
        capture.assign().await?;
        let read = capture.read().await?;
        let targets = seals_waiting.borrow_and_update().clone();
        let flushed = capture.on_its_way.is_none() && capture.is_due(&targets);
        if flushed {
            capture.start_flush();
        }
        if !read && !flushed {
            tokio::select! {
                changed = shutdown.changed() => if changed.is_err() { return capture.stop().await },
                // A closed channel says nothing more; the idle time then paces the loop.
                _ = async { if seals_waiting.changed().await.is_err() { std::future::pending::<()>().await } } => {}
                () = tokio::time::sleep(idle) => {}
            }
        }
    }
}

/// A partition as this writer sees it.
struct Partition {
    /// None: to be taken up (C0) at `retry_ms`.
    buffer: Option<Buffer>,
    retry_ms: i64,
    /// Offsets that the log turned out to have lost: nothing is read until all before them is committed, then they become a hole.
    gap: Option<Range<u64>>,
}

struct Capture {
    deps: Arc<CaptureDeps>,
    /// The table of the flush that is being filled; none: to be read before the next record is taken.
    routes: Option<Arc<RouteTable>>,
    partitions: BTreeMap<u32, Partition>,
    /// The log has been told to hand out nothing, because the buffers are full (C1).
    paused: bool,
    flushes: u32,
    on_its_way: Option<JoinHandle<Result<Heads, CaptureError>>>,
}

impl Capture {
    /// Takes up what has no position: at the start, after a lost race, after an unknown outcome.
    async fn assign(&mut self) -> Result<(), CaptureError> {
        let now_ms = self.deps.clock.now_ms();
        for partition in 0..self.deps.log.partitions() {
            let state = self.partitions.entry(partition).or_insert(Partition { buffer: None, retry_ms: now_ms, gap: None });
            let restart_after_ms = self.deps.settings.restart_after_ms as i64;
            // A time further ahead than it was ever set is one from before the clock was put back.
            if state.buffer.is_some() || (1..=restart_after_ms).contains(&state.retry_ms.saturating_sub(now_ms)) {
                continue;
            }
            match assign(&self.deps, partition, state.gap.clone()).await {
                Ok(head) => (state.buffer, state.gap) = (Some(Buffer::at(head)), None),
                Err(CaptureError::Store(error)) if !matches!(error, StoreError::Denied(_) | StoreError::Fatal(_)) => {
                    tracing::warn!(partition, %error, "the chain's head is not known yet");
                    state.retry_ms = now_ms + restart_after_ms;
                }
                Err(CaptureError::Log(error)) if !matches!(error, LogError::Fatal(_)) => {
                    tracing::warn!(partition, %error, "the log does not answer for this partition");
                    state.retry_ms = now_ms + restart_after_ms;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends partitions that stand before lost records back to C0, once everything before them is committed.
    fn release_gaps(&mut self) {
        if self.on_its_way.is_some() {
            return;
        }
        for state in self.partitions.values_mut().filter(|state| state.gap.is_some()) {
            state.buffer.take_if(|buffer| !buffer.moved());
        }
    }

    /// Reads every partition that has room, at most one batch each; tells whether anything new was taken.
    async fn read(&mut self) -> Result<bool, CaptureError> {
        let mut room = self.room();
        if room.is_full() != self.paused {
            self.paused = room.is_full();
            let log = &self.deps.log;
            self.partitions.keys().for_each(|partition| if self.paused { log.pause(*partition) } else { log.resume(*partition) });
        }
        if self.paused {
            return Ok(false);
        }
        let Some(routes) = self.routes().await? else { return Ok(false) };
        let settings = &self.deps.settings;
        let wanted: Vec<(u32, u64)> = self
            .partitions
            .iter()
            .filter_map(|(partition, state)| Some((*partition, state.buffer.as_ref().filter(|_| state.gap.is_none())?)))
            .filter(|(_, buffer)| !buffer.node_is_full(settings))
            .map(|(partition, buffer)| (partition, buffer.next))
            .collect();
        let log = &self.deps.log;
        let reads = wanted.iter().map(|(partition, position)| log.read(*partition, *position, settings.read_bytes_max, 0));
        let batches: Vec<Result<LogBatch, LogError>> = join_all(reads).await;
        let mut progressed = false;
        for ((partition, _), batch) in wanted.into_iter().zip(batches) {
            progressed |= self.take(partition, batch, &routes, &mut room)?;
        }
        Ok(progressed)
    }

    /// Takes a batch into a partition's buffer; a partition whose read failed starts again at C0.
    fn take(
        &mut self,
        partition: u32,
        batch: Result<LogBatch, LogError>,
        routes: &RouteTable,
        room: &mut Room,
    ) -> Result<bool, CaptureError> {
        let (now_ms, epoch) = (self.deps.clock.now_ms(), self.deps.log.epoch());
        let settings = &self.deps.settings;
        let Some(state) = self.partitions.get_mut(&partition) else { return Ok(false) };
        let Some(buffer) = state.buffer.as_mut() else { return Ok(false) };
        let before = buffer.next;
        let failure = match batch {
            Err(LogError::Fatal(why)) => return Err(LogError::Fatal(why).into()),
            Err(error) => Some(error.to_string()),
            Ok(batch) => {
                let mut failure = None;
                let mut all = true;
                let losses = self.deps.log.gaps_are_losses();
                for record in &batch.records {
                    if losses && record.offset > buffer.next {
                        state.gap = Some(buffer.next..record.offset);
                        all = false;
                        break;
                    }
                    match buffer.take((epoch, partition), record, routes, settings, room) {
                        Ok(true) => {}
                        Ok(false) => all = false,
                        Err(error) => failure = Some(format!("offset {}: {error}", record.offset)),
                    }
                    if !all || failure.is_some() {
                        break;
                    }
                }
                // The position counts, not last + 1: offsets without a record are covered too.
                if all && failure.is_none() && batch.next > buffer.next {
                    if losses {
                        state.gap = Some(buffer.next..batch.next);
                    } else {
                        buffer.next = batch.next;
                    }
                }
                if state.gap.is_some() {
                    // The hole is a node of its own, so what lies before it is committed first.
                    buffer.opened_ms = Some(i64::MIN);
                }
                failure
            }
        };
        let progressed = buffer.next > before;
        if progressed && buffer.opened_ms.is_none() {
            buffer.opened_ms = Some(now_ms);
        }
        if let Some(why) = failure {
            metrics::counter!("tailors_capture_read_failed_total").increment(1);
            tracing::error!(partition, why, "a partition can't be read; it is taken up anew");
            if buffer.moved() {
                // Good records before the bad one are flushed at once; the next failure then finds an empty buffer.
                buffer.opened_ms = Some(i64::MIN);
            } else {
                state.buffer = None;
                state.retry_ms = now_ms + settings.restart_after_ms as i64;
            }
        }
        Ok(progressed)
    }

    /// The table for the flush that is being filled: read once per rotation.
    async fn routes(&mut self) -> Result<Option<Arc<RouteTable>>, CaptureError> {
        if let Some(routes) = &self.routes {
            return Ok(Some(Arc::clone(routes)));
        }
        match routes::newest(&self.deps.objects).await {
            Ok(table) => {
                let table = Arc::new(table);
                self.routes = Some(Arc::clone(&table));
                Ok(Some(table))
            }
            Err(error @ (StoreError::Denied(_) | StoreError::Fatal(_))) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "the route table can't be read; nothing is captured until it can");
                Ok(None)
            }
        }
    }

    fn buffers(&self) -> impl Iterator<Item = (u32, &Buffer)> {
        self.partitions.iter().filter_map(|(partition, state)| Some((*partition, state.buffer.as_ref()?)))
    }

    fn room(&self) -> Room {
        let settings = &self.deps.settings;
        let payloads: u64 = self.buffers().map(|(_, buffer)| buffer.frames.len() as u64).sum();
        let bytes: usize = self.buffers().map(|(_, buffer)| buffer.bytes).sum();
        Room { payloads: settings.flush_payloads_max.saturating_sub(payloads), bytes: settings.flush_bytes_max.saturating_sub(bytes) }
    }

    /// C2. Rotation need not be deterministic.
    fn is_due(&self, targets: &FlushTargets) -> bool {
        let settings = &self.deps.settings;
        let flush_after_ms = i64::try_from(settings.flush_after_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        let now_ms = self.deps.clock.now_ms();
        // Opened in the future: the clock was put back since.
        let old = |buffer: &Buffer| buffer.opened_ms.is_some_and(|opened| !(0..flush_after_ms).contains(&now_ms.saturating_sub(opened)));
        let waited_for = |partition: u32, buffer: &Buffer| {
            targets.get(&partition).is_some_and(|target| buffer.start < *target && buffer.next >= *target)
        };
        let mut moved = self.buffers().filter(|(_, buffer)| buffer.moved()).peekable();
        moved.peek().is_some()
            && (self.room().is_full()
                || moved.any(|(partition, buffer)| old(buffer) || buffer.node_is_full(settings) || waited_for(partition, buffer)))
    }

    /// Hands everything buffered to a task; the buffers go on empty behind it.
    fn start_flush(&mut self) {
        let Some(routes) = self.routes.take() else { return };
        let mut buffers = BTreeMap::new();
        for (partition, state) in &mut self.partitions {
            if let Some(full) = state.buffer.take_if(|buffer| buffer.moved()) {
                state.buffer = Some(Buffer::at(full.next));
                buffers.insert(*partition, full);
            }
        }
        self.flushes += 1;
        let work = flush(Arc::clone(&self.deps), Flush { number: self.flushes, routes, buffers });
        self.on_its_way = Some(tokio::spawn(work));
    }

    /// Takes the outcome of a flush that has ended: partitions that were not committed drop what they read since and start again at C0.
    async fn finish_flush(&mut self) -> Result<(), CaptureError> {
        if !self.on_its_way.as_ref().is_some_and(JoinHandle::is_finished) {
            return Ok(());
        }
        let Some(task) = self.on_its_way.take() else { return Ok(()) };
        let now_ms = self.deps.clock.now_ms();
        let heads = match task.await {
            Ok(heads) => heads?,
            // A panic inside: nothing is known of any partition.
            Err(_) => self.partitions.keys().map(|partition| (*partition, None)).collect(),
        };
        for (partition, state) in &mut self.partitions {
            if heads.get(partition) == Some(&None) {
                state.buffer = None;
                state.retry_ms = now_ms;
            }
        }
        Ok(())
    }

    /// Revoke: no flush as a duty. One that is on its way may finish; what is buffered stays in the log.
    async fn stop(mut self) -> Result<(), CaptureError> {
        if let Some(task) = self.on_its_way.take()
            && let Ok(Ok(outcome)) = tokio::time::timeout(STOP_AFTER, task).await
        {
            outcome?;
        }
        Ok(())
    }
}

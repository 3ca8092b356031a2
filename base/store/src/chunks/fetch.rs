//! Planned pages -> few large ranged reads, some of them ahead, handed out in the order of the plan.
//!
//! Pages of a plan that follow each other within [`super::ReaderSettings::gap_bytes_max`] are one read of at most `read_bytes_max`. Which reads there
//! are depends on the plan and the settings alone. Reads ahead take from one budget over all scans and never wait for it: without budget only the
//! next read of a scan is under way.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tailors_format::chunk::PageRead;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::{OpenFile, Place, ReaderSettings, Shared};
use crate::StoreError;

/// Pages as planned, with their bytes.
#[derive(Debug)]
pub struct Pages {
    reads: Vec<PageRead>,
    bytes: Vec<Bytes>,
    /// Budget, given back when the pages have been decoded and dropped.
    _ahead: Option<OwnedSemaphorePermit>,
}

impl Pages {
    /// Each read with exactly the bytes of its range.
    pub fn iter(&self) -> impl Iterator<Item = (&PageRead, &Bytes)> {
        self.reads.iter().zip(&self.bytes)
    }
}

/// Pages of one ranged read.
struct Batch {
    /// Position of its file.
    file: usize,
    reads: Vec<PageRead>,
    span: Range<u64>,
}

/// A read under way, or done because the file is in memory.
enum Get {
    Asked(JoinHandle<Result<Vec<Bytes>, StoreError>>),
    There(Vec<Bytes>),
}

struct Running {
    file: usize,
    reads: Vec<PageRead>,
    get: Get,
    ahead: Option<OwnedSemaphorePermit>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody waits for it any more.
        if let Get::Asked(task) = &self.get {
            task.abort();
        }
    }
}

/// The pages of some plans, file after file, each plan in its order.
pub struct Fetch {
    files: Vec<OpenFile>,
    waiting: VecDeque<Batch>,
    running: VecDeque<Running>,
}

impl Fetch {
    /// Reads of each file, as [`tailors_format::chunk::ChunkIndex::plan_reads`] gives them. Nothing is asked for yet.
    pub fn new(plans: Vec<(OpenFile, Vec<PageRead>)>) -> Self {
        let (mut files, mut waiting) = (Vec::with_capacity(plans.len()), VecDeque::new());
        for (at, (file, plan)) in plans.into_iter().enumerate() {
            let settings = match &file.place {
                Place::Store(shared, _) => shared.settings,
                // Slices cost nothing, however many.
                Place::Memory(_) => ReaderSettings { read_bytes_max: u64::MAX, gap_bytes_max: u64::MAX, ..ReaderSettings::default() },
            };
            batches(at, plan, &settings, &mut waiting);
            files.push(file);
        }
        Self { files, waiting, running: VecDeque::new() }
    }

    /// The next pages, and the position of their file among those given. After an error nothing more of that file comes, other files do.
    /// Must run inside a tokio runtime. Safe to cancel.
    pub async fn next(&mut self) -> Option<(usize, Result<Pages, StoreError>)> {
        self.ask();
        let first = self.running.front_mut()?;
        let got = match &mut first.get {
            Get::There(bytes) => Ok(std::mem::take(bytes)),
            Get::Asked(task) => task.await.unwrap_or_else(|error| Err(StoreError::Fatal(format!("reading pages ended early: {error}")))),
        };
        let mut first = self.running.pop_front()?;
        let file = first.file;
        let pages = got.map(|bytes| Pages { reads: std::mem::take(&mut first.reads), bytes, _ahead: first.ahead.take() });
        if pages.is_err() {
            self.skip(file);
        }
        Some((file, pages))
    }

    /// Nothing more of this file: its bytes have been found damaged.
    pub fn skip(&mut self, file: usize) {
        self.waiting.retain(|batch| batch.file != file);
        self.running.retain(|running| running.file != file);
    }

    /// Starts reads as far as number and budget allow; the next one always.
    fn ask(&mut self) {
        while let Some(batch) = self.waiting.front() {
            let Some(file) = self.files.get(batch.file) else { return };
            let ahead = match &file.place {
                Place::Memory(_) if self.running.is_empty() => None,
                Place::Memory(_) => return,
                Place::Store(shared, _) => {
                    if self.running.len() >= shared.settings.reads_ahead.max(1) {
                        return;
                    }
                    let permit = shared.ahead.clone().try_acquire_many_owned(kib(batch.span.end - batch.span.start)).ok();
                    if permit.is_none() && !self.running.is_empty() {
                        return;
                    }
                    permit
                }
            };
            let Some(batch) = self.waiting.pop_front() else { return };
            let get = start(file, &batch);
            self.running.push_back(Running { file: batch.file, reads: batch.reads, get, ahead });
        }
    }
}

fn start(file: &OpenFile, batch: &Batch) -> Get {
    let ranges: Vec<Range<u64>> = batch.reads.iter().map(|read| read.range.clone()).collect();
    match &file.place {
        // A page that lies beyond the bytes is found damaged by its length.
        Place::Memory(bytes) => Get::There(ranges.iter().map(|range| slice(bytes, range)).collect()),
        Place::Store(shared, key) => {
            let (shared, key): (Arc<Shared>, Arc<str>) = (shared.clone(), key.clone());
            // Stores far away fetch near ranges together, the local one reads each by itself.
            Get::Asked(tokio::spawn(async move { shared.objects.get_ranges(&key, &ranges).await }))
        }
    }
}

fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let end = (range.end as usize).min(bytes.len());
    bytes.slice((range.start as usize).min(end)..end)
}

/// Cuts a plan into runs of near pages; reads that need no bytes go along with any.
fn batches(file: usize, plan: Vec<PageRead>, settings: &ReaderSettings, out: &mut VecDeque<Batch>) {
    let mut open: Option<Batch> = None;
    for read in plan {
        let (from, to) = (read.range.start, read.range.end);
        match &mut open {
            Some(batch) if read.range.is_empty() => batch.reads.push(read),
            Some(batch) if batch.span.is_empty() => {
                batch.span = read.range.clone();
                batch.reads.push(read);
            }
            // Pages that several chunks share can lie before the last one.
            Some(batch)
                if from >= batch.span.start
                    && from <= batch.span.end.saturating_add(settings.gap_bytes_max)
                    && to.max(batch.span.end) - batch.span.start <= settings.read_bytes_max =>
            {
                batch.span.end = batch.span.end.max(to);
                batch.reads.push(read);
            }
            _ => out.extend(open.replace(Batch { file, span: read.range.clone(), reads: vec![read] })),
        }
    }
    out.extend(open);
}

/// A number of bytes in the unit of the budget; what is more than it can count is as much as it can.
pub(super) fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX)
}

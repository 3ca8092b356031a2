//! One segment file: its creation in space allocated beforehand, its place in the view that readers share, and the cache of fresh frames.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pwrite};
use tailors_format::raw::segment::{Entry, Header};

use super::files::{classify, sync_dir};
use crate::log::LogError;

/// Name of a segment file.
pub(super) fn name(number: u64) -> String {
    format!("segment-{number:012}.tlog")
}

/// Segment numbers in `dir`, ascending; removes what a crash left half made.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, LogError> {
    let failed = |error: io::Error| classify(&format!("reading {}", dir.display()), &error);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(file_name) = entry.file_name().into_string() else { continue };
        if file_name.ends_with(".tmp") {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        } else if let Some(number) = file_name.strip_prefix("segment-").and_then(|rest| rest.strip_suffix(".tlog")) {
            numbers.extend(number.parse::<u64>());
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Creates a segment of `bytes` allocated bytes with its header, durable under its name; or leaves nothing behind.
pub(super) fn create(dir: &Path, header: &[u8], number: u64, bytes: u64) -> Result<File, LogError> {
    let path = dir.join(name(number));
    let temporary = path.with_extension("tmp");
    let made = (|| {
        let what = format!("allocating {bytes} bytes for {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(|error| classify(&what, &error))?;
        allocate(&file, bytes).map_err(|error| classify(&what, &error))?;
        write_all(&file, header, 0).map_err(|error| classify(&what, &error))?;
        sync(&file, &path, true)?;
        std::fs::rename(&temporary, &path).map_err(|error| classify(&what, &error))?;
        Ok(file)
    })();
    match made {
        Ok(file) => {
            sync_dir(dir)?;
            Ok(file)
        }
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Allocates; where the file system can't, writes zeros, which promises the same.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let piece = zeros.len().min((bytes - at) as usize);
        write_all(file, &zeros[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

/// Writes all of `bytes` at `position`: one call unless the kernel cuts it short.
pub(super) fn write_all(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                position += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fsync, with all metadata or only what reading the data takes. Any error is fatal; it is never retried.
pub(super) fn sync(file: &File, path: &Path, metadata: bool) -> Result<(), LogError> {
    let synced = if metadata { file.sync_all() } else { file.sync_data() };
    synced.map_err(|error| LogError::Fatal(format!("fsync of {} failed, the process must end: {error}", path.display())))
}

/// A segment as readers see it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) header_len: usize,
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Per partition: one past its last readable record (`bases` when it has none).
    pub(super) ends: Vec<u64>,
    /// Bytes in use.
    pub(super) used: u64,
    /// Bytes on disk.
    pub(super) allocated: u64,
    /// Greatest time of receipt of its payloads, Unix microseconds.
    pub(super) received_max_us: i64,
    /// Records by partition; `None` = dropped to bound memory, a scan brings it back.
    pub(super) index: Option<Vec<Vec<Entry>>>,
    /// Last turn in which a reader used the index.
    pub(super) used_at: u64,
}

impl Segment {
    fn index_entries(&self) -> usize {
        self.index.as_ref().map_or(0, |index| index.iter().map(Vec::len).sum())
    }
}

#[derive(Debug)]
struct CachedBatch {
    buffer: Bytes,
    records: Vec<u32>,
}

/// Recently written frames, so that readers at the tail cost no system call.
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    batches: VecDeque<CachedBatch>,
    frames: Vec<VecDeque<(u64, Bytes)>>,
}

impl Cache {
    /// An empty cache.
    pub(super) fn new(partitions: usize, bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, batches: VecDeque::new(), frames: vec![VecDeque::new(); partitions] }
    }

    /// Cached frames of a partition, oldest first; there is no gap between the last one and the end.
    pub(super) fn frames(&self, partition: usize) -> &VecDeque<(u64, Bytes)> {
        &self.frames[partition]
    }

    /// Takes a written batch in; gives back a buffer nobody uses any more, for the next one.
    pub(super) fn push(&mut self, buffer: Bytes, written: &[(u32, u64, std::ops::Range<usize>)]) -> Option<Vec<u8>> {
        let mut spare = None;
        self.bytes += buffer.len();
        let mut records = Vec::with_capacity(written.len());
        for (partition, offset, range) in written {
            self.frames[*partition as usize].push_back((*offset, buffer.slice(range.clone())));
            records.push(*partition);
        }
        self.batches.push_back(CachedBatch { buffer, records });
        while self.bytes > self.bytes_max
            && let Some(mut batch) = self.batches.pop_front()
        {
            self.bytes -= batch.buffer.len();
            for partition in batch.records {
                self.frames[partition as usize].pop_front();
            }
            batch.buffer.truncate(0);
            if batch.buffer.is_unique() {
                spare = Some(Vec::from(batch.buffer));
            }
        }
        spare
    }
}

/// What readers and the writer share about the segments.
#[derive(Debug)]
pub(super) struct View {
    pub(super) segments: VecDeque<Segment>,
    /// Per partition: one past its last readable record.
    pub(super) ends: Vec<u64>,
    pub(super) cache: Cache,
    pub(super) turn: u64,
}

/// Records whose places are kept in memory over all segments (16 bytes each).
const INDEX_ENTRIES_MAX: usize = 2 << 20;

impl View {
    /// Oldest offset kept of a partition.
    pub(super) fn start(&self, partition: usize) -> u64 {
        self.segments.front().and_then(|segment| segment.header.bases.get(partition).copied()).unwrap_or(self.ends[partition])
    }

    /// Bytes allocated by all segments.
    pub(super) fn allocated(&self) -> u64 {
        self.segments.iter().map(|segment| segment.allocated).sum()
    }

    /// Drops the longest unused indexes until the rest fits; never that of the newest segment or of `keep`.
    pub(super) fn bound_indexes(&mut self, keep: u64) {
        let mut entries: usize = self.segments.iter().map(Segment::index_entries).sum();
        let newest = self.segments.back().map(|segment| segment.header.number);
        while entries > INDEX_ENTRIES_MAX {
            let droppable = self
                .segments
                .iter_mut()
                .filter(|segment| segment.index.is_some() && segment.header.number != keep && Some(segment.header.number) != newest);
            let Some(oldest) = droppable.min_by_key(|segment| segment.used_at) else { break };
            entries -= oldest.index_entries();
            oldest.index = None;
        }
    }
}

//! Reading: from the cache of fresh frames at the tail, else with pread through the page cache, each frame checked.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tailors_format::raw::frame;
use tailors_format::raw::segment::{Entry, Header, scan_frames};

use super::segment::View;
use crate::log::{LogBatch, LogError, LogRecord};

/// Bytes between two wanted frames that are read along rather than skipped with a second call.
const READ_ALONG_BYTES: u64 = 16 << 10;

/// How a read goes on.
#[derive(Debug)]
pub(super) enum Look {
    /// Answered from memory.
    Batch(LogBatch),
    /// To be fetched from a file.
    Disk(Fetch),
    /// The index of this segment has to come back first.
    Index(Rescan),
    /// Nothing there yet.
    Nothing,
}

/// Frames to read from one segment.
#[derive(Debug)]
pub(super) struct Fetch {
    file: Arc<File>,
    path: PathBuf,
    epoch: u32,
    partition: u32,
    entries: Vec<Entry>,
    next: u64,
}

/// A segment to scan again for its index.
#[derive(Debug)]
pub(super) struct Rescan {
    pub(super) number: u64,
    file: Arc<File>,
    path: PathBuf,
    header: Header,
    header_len: usize,
    used: u64,
}

/// Finds what lies at `position`; positions inside a gap give the next record behind it.
pub(super) fn look(view: &mut View, epoch: u32, partition: u32, position: u64, bytes_max: usize) -> Result<Look, LogError> {
    let at = partition as usize;
    let (start, end) = (view.start(at), view.ends[at]);
    if position < start || position > end {
        return Err(LogError::OutOfRange { partition, asked: position, start, end });
    }
    if position == end {
        return Ok(Look::Nothing);
    }
    let fresh = view.cache.frames(at);
    if fresh.front().is_some_and(|(oldest, _)| *oldest <= position) {
        let from = fresh.partition_point(|(offset, _)| *offset < position);
        let (mut bytes, mut records) = (0, Vec::new());
        for (offset, frame) in fresh.iter().skip(from) {
            if !records.is_empty() && bytes + frame.len() > bytes_max {
                break;
            }
            bytes += frame.len();
            records.push(LogRecord { offset: *offset, frame: frame.clone() });
        }
        let next = records.last().map_or(end, |last| last.offset + 1);
        return Ok(Look::Batch(LogBatch { records, next }));
    }
    view.turn += 1;
    let turn = view.turn;
    let segment = view.segments.iter_mut().find(|segment| segment.ends.get(at).is_some_and(|end| position < *end));
    let Some(segment) = segment else {
        return Ok(Look::Batch(LogBatch { records: Vec::new(), next: end }));
    };
    segment.used_at = turn;
    let Some(index) = &segment.index else {
        return Ok(Look::Index(Rescan {
            number: segment.header.number,
            file: Arc::clone(&segment.file),
            path: segment.path.clone(),
            header: segment.header.clone(),
            header_len: segment.header_len,
            used: segment.used,
        }));
    };
    let records = &index[at];
    let from = records.partition_point(|entry| entry.offset < position);
    let (mut bytes, mut entries) = (0, Vec::new());
    for entry in &records[from..] {
        if !entries.is_empty() && bytes + entry.length as usize > bytes_max {
            break;
        }
        bytes += entry.length as usize;
        entries.push(*entry);
    }
    let next = match entries.last() {
        Some(last) if from + entries.len() < records.len() => last.offset + 1,
        _ => segment.ends[at],
    };
    let (file, path) = (Arc::clone(&segment.file), segment.path.clone());
    Ok(Look::Disk(Fetch { file, path, epoch, partition, entries, next }))
}

impl Fetch {
    /// Reads and checks the frames. Blocks.
    pub(super) fn run(self) -> Result<LogBatch, LogError> {
        let mut records = Vec::with_capacity(self.entries.len());
        let mut rest = self.entries.as_slice();
        while let Some(first) = rest.first() {
            let from = u64::from(first.position);
            let mut to = from + u64::from(first.length);
            let mut count = 1;
            for entry in &rest[1..] {
                if u64::from(entry.position) > to + READ_ALONG_BYTES {
                    break;
                }
                to = u64::from(entry.position) + u64::from(entry.length);
                count += 1;
            }
            let (run, after) = rest.split_at(count);
            rest = after;
            let mut bytes = vec![0; (to - from) as usize];
            self.file.read_exact_at(&mut bytes, from).map_err(|error| self.damaged(first.offset, &error.to_string()))?;
            let bytes = Bytes::from(bytes);
            for entry in run {
                let begin = (u64::from(entry.position) - from) as usize;
                let whole = bytes.slice(begin..begin + entry.length as usize);
                let (decoded, used) = frame::decode(&whole).map_err(|error| self.damaged(entry.offset, &error.to_string()))?;
                if (decoded.epoch, decoded.partition, decoded.offset, used) != (self.epoch, self.partition, entry.offset, whole.len()) {
                    return Err(self.damaged(entry.offset, "another frame lies there"));
                }
                records.push(LogRecord { offset: entry.offset, frame: whole });
            }
        }
        Ok(LogBatch { records, next: self.next })
    }

    fn damaged(&self, offset: u64, why: &str) -> LogError {
        LogError::Damaged(format!("{}: partition {} offset {offset}: {why}", self.path.display(), self.partition))
    }
}

impl Rescan {
    /// The index of the segment. Blocks; holds the segment in memory meanwhile.
    pub(super) fn run(self) -> Result<Vec<Vec<Entry>>, LogError> {
        let mut bytes = vec![0; self.used as usize];
        let failed = |why: String| LogError::Damaged(format!("{}: {why}", self.path.display()));
        self.file.read_exact_at(&mut bytes, 0).map_err(|error| failed(error.to_string()))?;
        Ok(scan_frames(&bytes, &self.header, self.header_len, |_| {}).by_partition())
    }
}

//! `tailors verify`: the one-to-one join of what was sent with what is stored, to the bit.
//!
//! Pins one feed number. The truth is spilled into one temporary file per (window, part), so that it need not be in time order; each part is sorted and
//! merged with the stored points of its series. Memory is bounded by a part. Extra counts only the truth's metrics and time range.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;
use tailors_format::chunk::{DecodeScratch, ValueKind};
use tailors_format::doc::ManifestFile;
use tailors_model::{OrgId, ShardId, Tag, TagKind, Window};
use tailors_store::catalog::Snapshot;
use tailors_store::chunks::{ChunkReader, ReaderSettings};
use tailors_store::{Objects, StoreError};
use tempfile::TempDir;

use super::{pinned, progress};
use crate::exit::Failure;
use crate::time::rfc3339;
use crate::truth::{self, Identity};

/// Parts of a window; each holds the series whose number leaves its remainder.
const PARTS: u32 = 8;
/// Bytes of one spilled record: series, time, value.
const RECORD_BYTES: usize = 20;
/// Bytes gathered before a spill file is opened and appended to.
const SPILL_BYTES: usize = 32 << 10;

/// The result of the join.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Report {
    /// Points of the truth, each (series, timestamp) once.
    pub(crate) points: u64,
    /// In the truth, not stored.
    pub(crate) missing: u64,
    /// Stored, not in the truth.
    pub(crate) extra: u64,
    /// Stored with another value.
    pub(crate) different: u64,
    /// Stored more than once.
    pub(crate) stored_twice: u64,
    /// Rows of the truth that repeat a (series, timestamp); the last one counts.
    pub(crate) sent_again: u64,
    /// Points that builds removed as duplicates (client retries, P4), in the windows joined.
    pub(crate) duplicates_removed: u64,
    /// Feed number that was pinned.
    pub(crate) feed: u64,
}

impl Report {
    /// Whether everything sent is stored, once, and nothing else.
    pub(crate) fn is_exact(&self) -> bool {
        (self.missing, self.extra, self.different, self.stored_twice) == (0, 0, 0, 0)
    }

    /// The line that ends `verify`.
    pub(crate) fn line(&self) -> String {
        format!("missing {}, extra {}, different {}, stored twice {}", self.missing, self.extra, self.different, self.stored_twice)
    }
}

#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
struct Record {
    series: u32,
    time_ms: i64,
    bits: u64,
}

/// Joins `truth`, its times shifted by `shift_ms`, with what `org` has in the store.
pub(crate) async fn run(store: &Path, org: OrgId, truth: &Path, shift_ms: i64, now_ms: i64) -> Result<Report, Failure> {
    let path = truth.to_owned();
    let spilled = tokio::task::spawn_blocking(move || Spilled::read(&path, shift_ms)).await;
    let spilled = spilled.map_err(|error| Failure::unavailable(error.to_string()))??;
    let range = spilled.range();
    let is_read = |window: &Window| range.contains(window);
    pinned::reading(store, now_ms, is_read, async |objects, snapshot| join_all(objects, snapshot, org, &spilled).await).await
}

async fn join_all(objects: &Objects, snapshot: &Snapshot, org: OrgId, spilled: &Spilled) -> Result<Report, Failure> {
    let mut report = Report { feed: snapshot.feed, sent_again: 0, ..Report::default() };
    let stored = snapshot.windows.keys().map(|(window, _)| *window);
    let range = spilled.range();
    let windows: BTreeSet<Window> = stored.filter(|window| range.contains(window)).chain(spilled.windows()).collect();
    let bar = progress::points("verify", spilled.points);
    // A file's index is read once for all its parts, and for all windows of a day's file.
    let reader = ChunkReader::new(objects.clone(), ReaderSettings::default());
    for window in windows {
        for part in 0..PARTS {
            let truth = spilled.part(window, part)?;
            bar.inc(truth.len() as u64);
            let stored = stored_points(&reader, snapshot, (org, window, part), spilled).await?;
            join(truth, stored, &mut report);
        }
        let manifests = snapshot.of_window(window);
        report.duplicates_removed += manifests.map(|(_, manifest)| manifest.counts.duplicates).sum::<u64>();
    }
    bar.finish_and_clear();
    Ok(report)
}

/// The truth on disk, by window and part.
struct Spilled {
    dir: TempDir,
    numbers: BTreeMap<Identity, u32>,
    metrics: BTreeSet<Vec<u8>>,
    parts: BTreeSet<(Window, u32)>,
    first_ms: i64,
    last_ms: i64,
    points: u64,
}

impl Spilled {
    fn read(path: &Path, shift_ms: i64) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let mut identities = Vec::new();
        let mut numbers: BTreeMap<Identity, u32> = BTreeMap::new();
        // Two spellings of one identity (rows whose tags differ in order) are one series: `same` maps file numbers to the first of them.
        let mut same: Vec<u32> = Vec::new();
        let mut open: BTreeMap<(Window, u32), Vec<u8>> = BTreeMap::new();
        let mut parts = BTreeSet::new();
        let (mut first_ms, mut last_ms, mut points) = (i64::MAX, i64::MIN, 0);
        truth::read_with(path, &mut identities, &mut |point, identities| {
            for identity in &identities[same.len()..] {
                let number = same.len() as u32;
                same.push(*numbers.entry(identity.clone()).or_insert(number));
            }
            let (series, time_ms) = (same[point.series as usize], point.time_ms + shift_ms);
            (first_ms, last_ms, points) = (first_ms.min(time_ms), last_ms.max(time_ms), points + 1);
            let at = (Window::of_ms(time_ms), series % PARTS);
            let buffer = open.entry(at).or_default();
            buffer.extend_from_slice(&series.to_le_bytes());
            buffer.extend_from_slice(&time_ms.to_le_bytes());
            buffer.extend_from_slice(&point.value.to_bits().to_le_bytes());
            if buffer.len() >= SPILL_BYTES {
                parts.insert(at);
                append(dir.path(), at, buffer)?;
            }
            Ok(())
        })?;
        for (at, mut buffer) in open {
            parts.insert(at);
            append(dir.path(), at, &mut buffer)?;
        }
        if points == 0 {
            return Err(Failure::usage(format!("{}: holds no points", path.display())));
        }
        let metrics = identities.iter().map(|identity: &Identity| identity.metric.clone().into_bytes()).collect();
        Ok(Self { dir, numbers, metrics, parts, first_ms, last_ms, points })
    }

    /// Windows from its first point to its last.
    fn range(&self) -> RangeInclusive<Window> {
        Window::of_ms(self.first_ms)..=Window::of_ms(self.last_ms)
    }

    fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        self.parts.iter().map(|(window, _)| *window)
    }

    fn part(&self, window: Window, part: u32) -> Result<Vec<Record>, Failure> {
        if !self.parts.contains(&(window, part)) {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        BufReader::new(File::open(self.dir.path().join(spill_name((window, part))))?).read_to_end(&mut bytes)?;
        let field = |record: &[u8], at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&record[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let records = bytes.chunks_exact(RECORD_BYTES).map(|record| Record {
            series: u32::from_le_bytes([record[0], record[1], record[2], record[3]]),
            time_ms: field(record, 4) as i64,
            bits: field(record, 12),
        });
        Ok(records.collect())
    }
}

fn spill_name((window, part): (Window, u32)) -> String {
    format!("{window}-{part}")
}

fn append(dir: &Path, at: (Window, u32), buffer: &mut Vec<u8>) -> Result<(), Failure> {
    File::options().create(true).append(true).open(dir.join(spill_name(at)))?.write_all(buffer)?;
    buffer.clear();
    Ok(())
}

/// Stored points of the truth's metrics whose series is in this part; `None` marks a series that the truth does not know (all of them in part 0).
async fn stored_points(
    reader: &ChunkReader,
    snapshot: &Snapshot,
    (org, window, part): (OrgId, Window, u32),
    truth: &Spilled,
) -> Result<Vec<(Option<u32>, Record)>, Failure> {
    let mut out = Stored { points: Vec::new(), unknown: BTreeMap::new() };
    for (shard, manifest) in snapshot.of_window(window) {
        for file in &manifest.files {
            let read = read_file(reader, (shard, file), (org, window, part), truth, &mut out).await;
            read.map_err(|error| match error {
                StoreError::NotFound(_) | StoreError::Data { .. } => {
                    let (window, part) = (rfc3339(window.start_ms()), part + 1);
                    Failure::unavailable(format!("TLR-4020: window {window}, {shard}, part {part} of {PARTS}: {error}"))
                }
                error => error.into(),
            })?;
        }
    }
    Ok(out.points)
}

struct Stored {
    points: Vec<(Option<u32>, Record)>,
    /// Series that the truth does not know get numbers of their own, down from the top, so that their doubles are seen too.
    unknown: BTreeMap<Identity, u32>,
}

async fn read_file(
    reader: &ChunkReader,
    (shard, file): (ShardId, &ManifestFile),
    (org, window, part): (OrgId, Window, u32),
    truth: &Spilled,
    out: &mut Stored,
) -> Result<(), StoreError> {
    let damaged = |error| StoreError::data(&file.key, error);
    let opened = reader.open(shard, &file.key, file.bytes).await?;
    let index = opened.index();
    let mut wanted: BTreeMap<u32, (Option<u32>, u32)> = BTreeMap::new();
    for metric in index.metrics().iter().filter(|metric| metric.org == org && truth.metrics.contains(metric.metric.as_ref())) {
        // Of a day's file only this window counts.
        let is_inside = |series: &u32| index.points_between(*series, window.start_ms(), window.end_ms()) > 0;
        for series in metric.series.clone().filter(is_inside) {
            // A truth file holds doubles.
            if index.kind(series).map_err(damaged)? != ValueKind::Doubles {
                continue;
            }
            let tags = index.tags(series).map_err(damaged)?;
            let identity = identity(&metric.metric, &tags);
            let known = truth.numbers.get(&identity).copied();
            if known.map_or(0, |number| number % PARTS) == part {
                let next = u32::MAX - out.unknown.len() as u32;
                wanted.insert(series, (known, known.unwrap_or_else(|| *out.unknown.entry(identity).or_insert(next))));
            }
        }
    }
    let base_ms = index.span().start_ms;
    let mut scratch = DecodeScratch::default();
    let series: Vec<u32> = wanted.keys().copied().collect();
    let each = &mut |series: u32, times: &[u32], values: &[f64]| {
        let Some((known, number)) = wanted.get(&series) else { return };
        for (offset, value) in times.iter().zip(values) {
            let time_ms = base_ms + i64::from(*offset);
            if Window::of_ms(time_ms) == window && (truth.first_ms..=truth.last_ms).contains(&time_ms) {
                out.points.push((*known, Record { series: *number, time_ms, bits: value.to_bits() }));
            }
        }
    };
    opened.read(&series, &mut scratch, each).await
}

/// Metric and labels as PromQL presents them (interfaces.md C0).
fn identity(metric: &[u8], tags: &[Tag]) -> Identity {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut labels: Vec<(String, String)> = Vec::with_capacity(tags.len());
    for tag in tags {
        let value = if tag.kind == TagKind::Bare { "true".to_owned() } else { text(&tag.value) };
        match labels.last_mut() {
            // Canonical tags are sorted: values of one key stand side by side.
            Some((key, joined)) if key.as_bytes() == tag.key => *joined = format!("{joined},{value}"),
            _ => labels.push((text(&tag.key), value)),
        }
    }
    Identity { metric: text(metric), labels }
}

fn join(mut truth: Vec<Record>, mut stored: Vec<(Option<u32>, Record)>, report: &mut Report) {
    // Stable: of rows that repeat a (series, timestamp) the last in the file is last here.
    truth.sort_by_key(|record| (record.series, record.time_ms));
    let rows = truth.len();
    truth.reverse();
    truth.dedup_by_key(|record| (record.series, record.time_ms));
    truth.reverse();
    report.sent_again += (rows - truth.len()) as u64;
    report.points += truth.len() as u64;
    stored.sort_by_key(|(_, record)| (record.series, record.time_ms));
    let rows = stored.len();
    stored.dedup_by_key(|(_, record)| (record.series, record.time_ms));
    report.stored_twice += (rows - stored.len()) as u64;
    let mut truth = truth.into_iter().peekable();
    for (known, have) in stored {
        let at = (have.series, have.time_ms);
        while truth.next_if(|sent| (sent.series, sent.time_ms) < at).is_some() {
            report.missing += 1;
        }
        match truth.next_if(|sent| known.is_some() && (sent.series, sent.time_ms) == at) {
            Some(sent) if sent.bits == have.bits => {}
            Some(_) => report.different += 1,
            None => report.extra += 1,
        }
    }
    report.missing += truth.count() as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(series: u32, time_ms: i64, value: f64) -> Record {
        Record { series, time_ms, bits: value.to_bits() }
    }

    #[test]
    fn the_join_finds_each_planted_kind() {
        let sent = vec![record(1, 10, 1.0), record(0, 10, 1.0), record(0, 11, 2.0), record(0, 12, 3.0), record(0, 11, 4.0)];
        let stored = vec![
            (Some(0), record(0, 11, 4.0)),
            (Some(0), record(0, 12, f64::from_bits(3.0f64.to_bits() + 1))),
            (Some(0), record(0, 13, 5.0)),
            (Some(1), record(1, 10, 1.0)),
            (Some(1), record(1, 10, 1.0)),
            (None, record(u32::MAX, 10, 1.0)),
        ];
        let mut report = Report::default();
        join(sent, stored, &mut report);
        assert_eq!(report.line(), "missing 1, extra 2, different 1, stored twice 1");
        assert_eq!((report.points, report.sent_again), (4, 1));
        assert!(!report.is_exact());
    }
}

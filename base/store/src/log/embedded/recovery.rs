//! The start: every segment is scanned; a torn tail is cut, damage below what was fsynced is refused or, if accepted, stepped over.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use tailors_format::payload::read_header;
use tailors_format::raw::frame;
use tailors_format::raw::segment::{Entry, Header, MARKER_BYTES, put_marker, scan_frames};

use super::files::{classify, sync_dir};
use super::segment::{Cache, Segment, View, list, name, sync, write_all};
use crate::log::LogError;

/// What recovery has to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    pub(super) dir: &'a Path,
    pub(super) cluster: &'a str,
    pub(super) epoch: u32,
    pub(super) partitions: usize,
    pub(super) accept_damage: bool,
    pub(super) cache_bytes: usize,
}

/// What it found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) view: View,
    pub(super) received_max_us: i64,
    pub(super) next_number: u64,
}

/// Reads what is there and makes its end firm: afterwards every segment is immutable and all that can be read is fsynced.
pub(super) fn recover(start: Start<'_>) -> Result<Recovered, LogError> {
    let numbers = list(start.dir)?;
    let cache = Cache::new(start.partitions, start.cache_bytes);
    let mut view = View { segments: VecDeque::new(), ends: vec![0; start.partitions], cache, turn: 0 };
    let mut received_max_us = 0;
    let mut lost_bytes_max = 0;
    for (at, number) in numbers.iter().copied().enumerate() {
        if at > 0 && numbers[at - 1] + 1 != number {
            damage(&start, format!("{}: there is no such file, but one after it", name(numbers[at - 1] + 1)))?;
        }
        let Some(mut loaded) = load(&start, number, at + 1 == numbers.len())? else { continue };
        joins(&start, &mut view, &loaded.segment.header)?;
        if at + 1 == numbers.len() {
            lost_bytes_max = loaded.lost_bytes_max;
        }
        received_max_us = received_max_us.max(loaded.segment.received_max_us);
        if !loaded.any_received {
            loaded.segment.received_max_us = loaded.modified_us;
        }
        view.ends.clone_from(&loaded.segment.ends);
        view.segments.push_back(loaded.segment);
        view.bound_indexes(number);
    }
    if lost_bytes_max > 0 {
        // Offsets that damage took from the end must not be given again (P2): step over as many as those bytes can have held.
        view.ends.iter_mut().for_each(|end| *end += lost_bytes_max / frame::HEADER_BYTES as u64);
    }
    let next_number = numbers.last().map_or(0, |last| last + 1);
    Ok(Recovered { view, received_max_us, next_number })
}

/// Damage: an error, or where it is accepted a warning and a count.
fn damage(start: &Start<'_>, what: String) -> Result<(), LogError> {
    if !start.accept_damage {
        return Err(LogError::Damaged(format!(
            "damaged log in {}: {what} (`up --accept-log-damage` starts with a hole)",
            start.dir.display()
        )));
    }
    metrics::counter!("tailors_log_damage_accepted_total").increment(1);
    tracing::error!(what, "log damage accepted: these offsets are a hole");
    Ok(())
}

/// The segment must begin where the one before it ends.
fn joins(start: &Start<'_>, view: &mut View, header: &Header) -> Result<(), LogError> {
    let Some(before) = view.segments.back_mut() else { return Ok(()) };
    for partition in 0..start.partitions {
        let (found, told) = (before.ends[partition], header.previous_ends[partition]);
        if found != told {
            let (held, next) = (name(before.header.number), name(header.number));
            damage(start, format!("{held}: partition {partition} offset {found}: records end here, {next} says at {told}"))?;
            before.ends[partition] = found.max(told);
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Loaded {
    segment: Segment,
    any_received: bool,
    modified_us: i64,
    lost_bytes_max: u64,
}

fn load(start: &Start<'_>, number: u64, last: bool) -> Result<Option<Loaded>, LogError> {
    let path = start.dir.join(name(number));
    let failed = |error: std::io::Error| classify(&format!("reading {}", path.display()), &error);
    let bytes = std::fs::read(&path).map_err(failed)?;
    let (mut header, header_len) = match Header::from_bytes(&bytes, start.cluster) {
        Ok(found) if found.0.number == number => found,
        other => {
            let why = other.map_or_else(|error| error.to_string(), |(header, _)| format!("holds segment {}", header.number));
            damage(start, format!("{} position 0: {why}; file of {} bytes", name(number), bytes.len()))?;
            std::fs::rename(&path, path.with_extension("tlog.damaged")).map_err(failed)?;
            sync_dir(start.dir)?;
            return Ok(None);
        }
    };
    check_settings(start, &header)?;
    header.previous_ends.resize(start.partitions, 0);
    header.bases.resize(start.partitions, 0);
    let mut received_max_us = None;
    let found = scan_frames(&bytes, &header, header_len, |payload| {
        received_max_us = received_max_us.max(read_header(payload).ok().map(|header| header.received_at_us));
    });
    let index = found.by_partition();
    let ends: Vec<u64> =
        index.iter().zip(&header.bases).map(|(records, base)| records.last().map_or(*base, |last| last.offset + 1)).collect();
    for hole in &found.damage {
        let first: Vec<String> = first_lost(&index, &header, hole.0);
        damage(start, format!("{} position {}: {}: {}", name(number), hole.0, first.join(" or "), hole.1))?;
    }
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut used = found.good_until;
    let closed = found.synced_to + MARKER_BYTES == used || used == header_len as u64;
    if last && !(closed && !found.torn && metadata.len() == used) {
        used = firm_up(&file, &path, start, used)?;
    }
    let modified_us = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_us = modified_us.and_then(|since| i64::try_from(since.as_micros()).ok()).unwrap_or(0);
    let segment = Segment {
        header,
        header_len,
        path,
        file: Arc::new(file),
        ends,
        used,
        allocated: if last { used } else { metadata.len() },
        received_max_us: received_max_us.unwrap_or(0),
        index: Some(index),
        used_at: 0,
    };
    let lost_bytes_max = if found.damage.is_empty() { 0 } else { used };
    Ok(Some(Loaded { segment, any_received: received_max_us.is_some(), modified_us, lost_bytes_max }))
}

/// Which records bad bytes at `position` may have been: the next one of each partition.
fn first_lost(index: &[Vec<Entry>], header: &Header, position: u64) -> Vec<String> {
    let lost = index.iter().zip(&header.bases).enumerate().map(|(partition, (records, base))| {
        let before = records.partition_point(|entry| u64::from(entry.position) < position);
        let offset = before.checked_sub(1).map_or(*base, |last| records[last].offset + 1);
        // Only a partition with a jump right there can have lost a record, unless nothing of it follows.
        (records.get(before).is_none_or(|next| next.offset != offset)).then(|| format!("partition {partition} offset {offset}"))
    });
    let lost: Vec<String> = lost.flatten().collect();
    if lost.is_empty() { vec!["a marker, no record".to_owned()] } else { lost }
}

fn check_settings(start: &Start<'_>, header: &Header) -> Result<(), LogError> {
    if header.epoch != start.epoch {
        let why = "the log belongs to another store, or the store was made anew";
        return Err(LogError::Fatal(format!(
            "{}: written under epoch {}, opened as {}: {why}",
            name(header.number),
            header.epoch,
            start.epoch
        )));
    }
    if header.bases.len() > start.partitions {
        let (had, now) = (header.bases.len(), start.partitions);
        return Err(LogError::Fatal(format!(
            "the log in {} has {had} partitions, {now} asked for: they may only grow",
            start.dir.display()
        )));
    }
    Ok(())
}

/// Cuts a torn tail at `used` and closes the segment with a marker that covers all of it; gives the new end.
fn firm_up(file: &std::fs::File, path: &Path, start: &Start<'_>, used: u64) -> Result<u64, LogError> {
    sync(file, path, true)?;
    let failed = |error: std::io::Error| classify(&format!("closing {}", path.display()), &error);
    let mut marker = Vec::new();
    put_marker(&mut marker, start.cluster, start.epoch, used);
    let end = match write_all(file, &marker, used) {
        Ok(()) => used + MARKER_BYTES,
        Err(error) => match failed(error) {
            // A full disk must not refuse a start (T7); without the marker the next scan only knows less.
            LogError::Unavailable(_) => used,
            worse => return Err(worse),
        },
    };
    file.set_len(end).map_err(failed)?;
    sync(file, path, true)?;
    Ok(end)
}

//! Labels: tag keys, tags and tag sets of a file, each once. Series name a tag set by number.
//!
//! ```text
//! labels   keys varint | strings
//!          tags varint, sorted | key of each | kind of each (0 bare, 1 pair) | value strings
//!          tag sets varint, sorted by tag numbers | tags of each | tag numbers, set after set
//! ```
//! Tag numbers follow the canonical order, so a sorted set of numbers is a canonical tag list. Postings follow from the sets when a file is opened.

use bytes::Bytes;
use tailors_model::limits::{SERIES_TAGS_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX};
use tailors_model::{Tag, TagKind};

use super::column::{put_column, put_strings, take_bounded, take_strings};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const WHAT: &str = "chunk file labels";

/// Labels of an opened file.
#[derive(Debug, Default)]
pub(super) struct Labels {
    tags: Vec<Tag>,
    /// Where each set ends in `numbers`.
    ends: Vec<u32>,
    numbers: Vec<u32>,
}

fn distinct<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

/// The section for series with these tags, and the tag set of each.
pub(super) fn put_labels(series: &[&[Tag]]) -> Result<(Vec<u8>, Vec<u64>), FormatError> {
    let sets = distinct(series.to_vec());
    let tags = distinct(sets.iter().flat_map(|set| set.iter()).collect());
    let keys = distinct(tags.iter().map(|tag| &tag.key).collect());
    if let Some(tag) = tags.iter().find(|tag| tag.key.len() > TAG_KEY_BYTES_MAX || tag.value.len() > TAG_VALUE_BYTES_MAX) {
        return Err(FormatError::invalid(WHAT, format!("tag of {} + {} bytes", tag.key.len(), tag.value.len())));
    }
    if sets.iter().any(|set| set.len() > SERIES_TAGS_MAX) {
        return Err(FormatError::invalid(WHAT, "series of more tags than the limit"));
    }
    let mut out = Vec::new();
    put_varint(&mut out, keys.len() as u64);
    put_strings(&mut out, keys.iter().map(|key| key.as_ref()))?;
    put_varint(&mut out, tags.len() as u64);
    put_column(&mut out, &tags.iter().map(|tag| keys.partition_point(|key| *key < &tag.key) as u64).collect::<Vec<_>>())?;
    put_column(&mut out, &tags.iter().map(|tag| tag.kind as u64).collect::<Vec<_>>())?;
    put_strings(&mut out, tags.iter().map(|tag| tag.value.as_ref()))?;
    put_varint(&mut out, sets.len() as u64);
    put_column(&mut out, &sets.iter().map(|set| set.len() as u64).collect::<Vec<_>>())?;
    let numbers = sets.iter().flat_map(|set| set.iter()).map(|tag| tags.partition_point(|other| *other < tag) as u64);
    put_column(&mut out, &numbers.collect::<Vec<_>>())?;
    let of_series = series.iter().map(|set| sets.partition_point(|other| other < set) as u64).collect();
    Ok((out, of_series))
}

impl Labels {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(WHAT, bytes);
        let size = |count: u64| usize::try_from(count).map_err(|_| FormatError::invalid(WHAT, "too many"));
        let keys = size(cursor.varint()?)?;
        let keys = take_strings(WHAT, &mut cursor, keys, TAG_KEY_BYTES_MAX)?;
        let count = size(cursor.varint()?)?;
        let tag_keys = take_bounded(WHAT, &mut cursor, count, keys.len().saturating_sub(1) as u64)?;
        let kinds = take_bounded(WHAT, &mut cursor, count, 1)?;
        let values = take_strings(WHAT, &mut cursor, count, TAG_VALUE_BYTES_MAX)?;
        let mut tags: Vec<Tag> = Vec::with_capacity(count);
        for ((key, kind), value) in tag_keys.into_iter().zip(kinds).zip(values) {
            let key: Bytes = keys.get(key as usize).cloned().ok_or_else(|| FormatError::invalid(WHAT, "tag without a key"))?;
            tags.push(Tag { key, kind: if kind == 0 { TagKind::Bare } else { TagKind::Pair }, value });
        }
        let sets = size(cursor.varint()?)?;
        let lengths = take_bounded(WHAT, &mut cursor, sets, SERIES_TAGS_MAX as u64)?;
        let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        let numbers = take_bounded(WHAT, &mut cursor, size(total)?, tags.len().saturating_sub(1) as u64)?;
        cursor.finish()?;
        if total > u64::from(u32::MAX) {
            return Err(FormatError::invalid(WHAT, "too many tags"));
        }
        let mut end = 0;
        let ends = lengths.iter().map(|length| {
            end += length;
            end
        });
        let ends: Vec<u32> = ends.collect();
        let labels = Self { tags, ends, numbers };
        let canonical = labels.tags.is_sorted_by(|a, b| a < b) && (0..sets).all(|set| labels.set(set).is_sorted_by(|a, b| a < b));
        if canonical { Ok(labels) } else { Err(FormatError::invalid(WHAT, "tags out of order")) }
    }

    /// Tag sets.
    pub(super) fn sets(&self) -> usize {
        self.ends.len()
    }

    fn set(&self, set: usize) -> &[u32] {
        let start = set.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0) as usize;
        self.ends.get(set).and_then(|end| self.numbers.get(start..*end as usize)).unwrap_or(&[])
    }

    /// Canonical tags of a set.
    pub(super) fn tags(&self, set: u32, out: &mut Vec<Tag>) {
        out.clear();
        out.extend(self.set(set as usize).iter().filter_map(|number| self.tags.get(*number as usize)).cloned());
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let strings: usize = self.tags.iter().map(|tag| tag.value.len()).sum();
        strings + self.tags.capacity() * size_of::<Tag>() + (self.ends.capacity() + self.numbers.capacity()) * 4
    }
}

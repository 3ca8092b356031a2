//! Dictionaries of a payload that is being written, and the label block's bytes. `labels` reads them.
//!
//! ```text
//! metrics      dictionary: count, lengths, bytes
//! keys         dictionary of tag keys
//! tags         count; per tag key number * 2 + kind; value lengths; values
//! metadata     dictionary of: kind u8, interval_s u32, unit
//! series       count; metric codes; metadata codes; tag counts; tag codes
//! alone        count; per entry metric number, kind, interval_s, unit length, help length; then units and helps
//! code         0: what the series before has (a tag: at this place), 1: the lowest number not seen yet, n + 2: number n
//! ```
//! All numbers are varints. Numbers are given in order of first use, so that codes are nearly all 0 and 1. Hashes never reach the bytes.

use hashbrown::HashTable;
use tailors_model::limits::{PAYLOAD_POINTS_MAX, SERIES_TAGS_MAX};
use tailors_model::{MetricKind, MetricMeta, TagKind};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::envelope::WHAT;
use crate::FormatError;
use crate::bytes::put_varint;

/// Tags in one payload's dictionary: what may unfold in a reader's memory.
pub(super) const TAGS_MAX: usize = 1 << 18;
/// Series, metrics, metadata entries in one payload.
pub(super) const SERIES_MAX: usize = PAYLOAD_POINTS_MAX as usize;

/// A tag, borrowed from a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TagRef<'a> {
    /// Key, or the whole text of a bare tag.
    pub key: &'a [u8],
    /// Bare or pair.
    pub kind: TagKind,
    /// Value; empty for a bare tag.
    pub value: &'a [u8],
}

/// Metadata that a sender gave with a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeriesMeta<'a> {
    /// What its numbers mean.
    pub kind: MetricKind,
    /// Unit as sent; empty when not said.
    pub unit: &'a [u8],
    /// Seconds between points of a count or rate; 0 when not said.
    pub interval_s: u32,
}

/// All of a payload's labels.
#[derive(Default)]
pub(super) struct Tables {
    seed: u64,
    metrics: Dictionary,
    keys: Dictionary,
    tags: Tags,
    metas: Dictionary,
    series: Vec<SeriesEntry>,
    /// Tag numbers of all series.
    refs: Vec<u32>,
    by_labels: HashTable<u32>,
    /// Series looked up last: the next one mostly shares its tags.
    last: Option<u32>,
    alone: Vec<(u32, MetricMeta)>,
    alone_bytes: usize,
    scratch_refs: Vec<u32>,
    scratch_meta: Vec<u8>,
}

#[derive(Clone, Copy)]
struct SeriesEntry {
    hash: u64,
    metric: u32,
    meta: u32,
    tags_start: u32,
    tags_len: u32,
}

impl Tables {
    pub(super) fn with_hash_seed(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Number of a series.
    pub(super) fn series(&mut self, metric: &[u8], tags: &[TagRef<'_>], meta: SeriesMeta<'_>) -> u32 {
        let last = self.last.map(|number| (number, self.series[number as usize]));
        let metric = self.metrics.number_near(self.seed, metric, last.map(|(_, last)| last.metric));
        self.scratch_meta.clear();
        self.scratch_meta.push(meta.kind as u8);
        self.scratch_meta.extend_from_slice(&meta.interval_s.to_le_bytes());
        self.scratch_meta.extend_from_slice(meta.unit);
        let meta = self.metas.number_near(self.seed, &self.scratch_meta, last.map(|(_, last)| last.meta));
        let before = last.map_or(&[][..], |(_, last)| refs_of(&self.refs, &last));
        self.scratch_refs.clear();
        for (place, tag) in tags.iter().enumerate() {
            let near = before.get(place).copied();
            let number = near.filter(|near| self.tags.is(&self.keys, *near, tag));
            self.scratch_refs.push(number.unwrap_or_else(|| self.tags.number(self.seed, &mut self.keys, tag, near)));
        }
        if let Some((number, last)) = last
            && (last.metric, last.meta) == (metric, meta)
            && before == self.scratch_refs
        {
            return number;
        }
        let number = self.series_number(metric, meta);
        self.last = Some(number);
        number
    }

    /// Number of the series whose tag numbers are in `scratch_refs`.
    fn series_number(&mut self, metric: u32, meta: u32) -> u32 {
        let mut hash = self.seed ^ (u64::from(metric) << 32 | u64::from(meta));
        for tag in &self.scratch_refs {
            hash = mix(hash ^ u64::from(*tag));
        }
        hash = mix(hash);
        let (series, refs) = (&self.series, &self.refs);
        let found = self.by_labels.find(hash, |number| {
            let entry = &series[*number as usize];
            (entry.metric, entry.meta) == (metric, meta) && refs_of(refs, entry) == self.scratch_refs
        });
        if let Some(number) = found {
            return *number;
        }
        let number = series.len() as u32;
        let tags_start = refs.len() as u32;
        self.refs.extend_from_slice(&self.scratch_refs);
        self.series.push(SeriesEntry { hash, metric, meta, tags_start, tags_len: self.scratch_refs.len() as u32 });
        let series = &self.series;
        self.by_labels.insert_unique(hash, number, |number| series[*number as usize].hash);
        number
    }

    pub(super) fn metadata(&mut self, metric: &[u8], meta: &MetricMeta) {
        let metric = self.metrics.number_near(self.seed, metric, None);
        self.alone_bytes += 16 + meta.unit.len() + meta.help.len();
        self.alone.push((metric, meta.clone()));
    }

    pub(super) fn series_len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn has_metadata(&self) -> bool {
        !self.alone.is_empty()
    }

    /// About the bytes that `encode` will give.
    pub(super) fn bytes_estimate(&self) -> usize {
        let strings = self.metrics.bytes_estimate() + self.keys.bytes_estimate() + self.metas.bytes_estimate();
        strings + self.tags.values.len() + 4 * self.tags.entries.len() + 6 * self.series.len() + self.refs.len() + self.alone_bytes
    }

    pub(super) fn clear(&mut self) {
        self.metrics.clear();
        self.keys.clear();
        self.tags.clear();
        self.metas.clear();
        self.series.clear();
        self.refs.clear();
        self.by_labels.clear();
        self.last = None;
        self.alone.clear();
        self.alone_bytes = 0;
    }

    /// Appends the label block.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let most = self.series.len().max(self.metrics.spans.len()).max(self.alone.len());
        let tags_most = self.series.iter().map(|series| series.tags_len as usize).max().unwrap_or(0);
        if most > SERIES_MAX || self.tags.entries.len() > TAGS_MAX || tags_most > SERIES_TAGS_MAX {
            return Err(FormatError::invalid(WHAT, "more series, metrics or tags than a reader takes"));
        }
        self.metrics.encode(out);
        self.keys.encode(out);
        self.tags.encode(out);
        self.metas.encode(out);
        put_varint(out, self.series.len() as u64);
        put_codes(out, self.series.iter().map(|series| series.metric));
        put_codes(out, self.series.iter().map(|series| series.meta));
        for series in &self.series {
            put_varint(out, u64::from(series.tags_len));
        }
        let (mut before, mut fresh) = (&[][..], 0);
        for series in &self.series {
            let refs = refs_of(&self.refs, series);
            for (place, tag) in refs.iter().enumerate() {
                put_code(out, *tag, before.get(place).copied(), &mut fresh);
            }
            before = refs;
        }
        put_varint(out, self.alone.len() as u64);
        for (metric, meta) in &self.alone {
            let numbers =
                [u64::from(*metric), meta.kind as u64, u64::from(meta.interval_s), meta.unit.len() as u64, meta.help.len() as u64];
            numbers.into_iter().for_each(|number| put_varint(out, number));
        }
        for (_, meta) in &self.alone {
            out.extend_from_slice(&meta.unit);
            out.extend_from_slice(&meta.help);
        }
        Ok(())
    }
}

fn refs_of<'a>(refs: &'a [u32], series: &SeriesEntry) -> &'a [u32] {
    &refs[series.tags_start as usize..][..series.tags_len as usize]
}

fn put_codes(out: &mut Vec<u8>, numbers: impl Iterator<Item = u32>) {
    let (mut before, mut fresh) = (None, 0);
    for number in numbers {
        put_code(out, number, before, &mut fresh);
        before = Some(number);
    }
}

/// `fresh` is the lowest number not seen yet.
fn put_code(out: &mut Vec<u8>, number: u32, before: Option<u32>, fresh: &mut u32) {
    if before == Some(number) {
        return out.push(0);
    }
    if number == *fresh {
        *fresh += 1;
        return out.push(1);
    }
    *fresh = (*fresh).max(number + 1);
    put_varint(out, u64::from(number) + 2);
}

fn mix(hash: u64) -> u64 {
    let wide = u128::from(hash ^ 0xf39c_c060_5ced_c835) * 0x9e37_79b9_7f4a_7c15;
    (wide >> 64) as u64 ^ wide as u64
}

/// Strings by number.
#[derive(Default)]
struct Dictionary {
    bytes: Vec<u8>,
    /// Start, length, hash.
    spans: Vec<(u32, u32, u64)>,
    numbers: HashTable<u32>,
}

impl Dictionary {
    fn get(&self, number: u32) -> &[u8] {
        let (start, len, _) = self.spans[number as usize];
        &self.bytes[start as usize..][..len as usize]
    }

    /// Number of a string; `near` is likely to be it.
    fn number_near(&mut self, seed: u64, bytes: &[u8], near: Option<u32>) -> u32 {
        if let Some(near) = near.filter(|near| self.get(*near) == bytes) {
            return near;
        }
        let hash = xxh3_64_with_seed(bytes, seed);
        if let Some(number) = self.numbers.find(hash, |number| self.get(*number) == bytes) {
            return *number;
        }
        let number = self.spans.len() as u32;
        self.spans.push((self.bytes.len() as u32, bytes.len() as u32, hash));
        self.bytes.extend_from_slice(bytes);
        let spans = &self.spans;
        self.numbers.insert_unique(hash, number, |number| spans[*number as usize].2);
        number
    }

    fn bytes_estimate(&self) -> usize {
        self.bytes.len() + 2 * self.spans.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.numbers.clear();
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.spans.len() as u64);
        for (_, len, _) in &self.spans {
            put_varint(out, u64::from(*len));
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// Tags by number; keys have numbers of their own.
#[derive(Default)]
struct Tags {
    values: Vec<u8>,
    entries: Vec<TagEntry>,
    numbers: HashTable<u32>,
}

struct TagEntry {
    hash: u64,
    key: u32,
    kind: TagKind,
    value_start: u32,
    value_len: u32,
}

impl Tags {
    fn is(&self, keys: &Dictionary, number: u32, tag: &TagRef<'_>) -> bool {
        let entry = &self.entries[number as usize];
        let value = &self.values[entry.value_start as usize..][..entry.value_len as usize];
        value == tag.value && entry.kind == tag.kind && keys.get(entry.key) == tag.key
    }

    /// Number of a tag; that of the tag `near` is likely to have its key.
    fn number(&mut self, seed: u64, keys: &mut Dictionary, tag: &TagRef<'_>, near: Option<u32>) -> u32 {
        let key = keys.number_near(seed, tag.key, near.map(|near| self.entries[near as usize].key));
        let hash = xxh3_64_with_seed(tag.value, mix(seed ^ (u64::from(key) << 1 | tag.kind as u64)));
        let (entries, values) = (&self.entries, &self.values);
        let found = self.numbers.find(hash, |number| {
            let entry = &entries[*number as usize];
            (entry.key, entry.kind) == (key, tag.kind) && values[entry.value_start as usize..][..entry.value_len as usize] == *tag.value
        });
        if let Some(number) = found {
            return *number;
        }
        let number = self.entries.len() as u32;
        let value_start = self.values.len() as u32;
        self.values.extend_from_slice(tag.value);
        self.entries.push(TagEntry { hash, key, kind: tag.kind, value_start, value_len: tag.value.len() as u32 });
        let entries = &self.entries;
        self.numbers.insert_unique(hash, number, |number| entries[*number as usize].hash);
        number
    }

    fn clear(&mut self) {
        self.values.clear();
        self.entries.clear();
        self.numbers.clear();
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        for entry in &self.entries {
            put_varint(out, u64::from(entry.key) << 1 | entry.kind as u64);
        }
        for entry in &self.entries {
            put_varint(out, u64::from(entry.value_len));
        }
        out.extend_from_slice(&self.values);
    }
}

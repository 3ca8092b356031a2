//! Identity: org, metric, canonical tags, and the 128-bit working key computed from them (formats.md section 0).

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Tenant; comes from the API key, never from a body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct OrgId(pub u32);

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a tag has a value of its own: `env:prod` is a pair, `canary` is bare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum TagKind {
    /// `v`; the text is the key, the value is empty.
    Bare = 0,
    /// `k:v`, also every Prometheus label.
    Pair = 1,
}

/// One tag. The derived order is the canonical one: key bytes, kind, value bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag {
    /// Key, or the whole text of a bare tag.
    pub key: Bytes,
    /// Bare or pair.
    pub kind: TagKind,
    /// Value; empty for a bare tag.
    pub value: Bytes,
}

impl Tag {
    /// A pair.
    pub fn pair(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), kind: TagKind::Pair, value: value.into() }
    }

    /// A bare tag.
    pub fn bare(text: impl Into<Bytes>) -> Self {
        Self { key: text.into(), kind: TagKind::Bare, value: Bytes::new() }
    }
}

/// Sorts tags and removes exact duplicates: the canonical form that identity is computed from.
pub fn canonical_tags(tags: &mut Vec<Tag>) {
    tags.sort_unstable();
    tags.dedup();
}

/// What a metric's numbers mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum MetricKind {
    /// Not said by the sender.
    #[default]
    Unknown = 0,
    /// A level.
    Gauge = 1,
    /// Events per interval (Datadog).
    Count = 2,
    /// Events per second, averaged over the interval (Datadog).
    Rate = 3,
    /// Ever growing until it resets (Prometheus, OpenTelemetry).
    Counter = 4,
    /// A sketch per interval.
    Distribution = 5,
    /// A histogram.
    Histogram = 6,
    /// A summary (Prometheus metadata only).
    Summary = 7,
}

impl MetricKind {
    /// The kind with this number, `None` for an unknown one.
    pub fn from_u8(number: u8) -> Option<Self> {
        use MetricKind::*;
        [Unknown, Gauge, Count, Rate, Counter, Distribution, Histogram, Summary].get(usize::from(number)).copied()
    }
}

/// Metadata of a metric or of one series where it differs: kind, unit, interval, description.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MetricMeta {
    /// What the numbers mean.
    pub kind: MetricKind,
    /// Unit as sent; empty when not said.
    pub unit: Bytes,
    /// Seconds between points of a count or rate; 0 when not said.
    pub interval_s: u32,
    /// Description as sent; empty when not said.
    pub help: Bytes,
}

/// A series inside an org: metric and canonical tags.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Series {
    /// Metric name as sent.
    pub metric: Bytes,
    /// Canonical tags.
    pub tags: Vec<Tag>,
}

impl Series {
    /// The working key of this series.
    pub fn hash(&self) -> SeriesHash {
        SeriesHash::of(metric_hash(&self.metric), self.tags.iter().map(tag_hash))
    }
}

/// xxh3-128 over the hashes of metric and tags in canonical order; computed when read, stored nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesHash(pub u128);

impl fmt::Debug for SeriesHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesHash({:032x})", self.0)
    }
}

impl SeriesHash {
    /// Combines the hashes of a metric and of its tags in canonical order.
    pub fn of(metric: u128, tags: impl Iterator<Item = u128>) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(&metric.to_le_bytes());
        for tag in tags {
            hasher.update(&tag.to_le_bytes());
        }
        Self(hasher.digest128())
    }
}

/// Hash of a metric name.
pub fn metric_hash(metric: &[u8]) -> u128 {
    xxh3_128(metric)
}

/// Hash of a tag in canonical encoding: u16 key length, key, kind, u16 value length, value.
pub fn tag_hash(tag: &Tag) -> u128 {
    let mut hasher = Xxh3::new();
    // Lengths fit: limits.rs caps both far below 64 KiB, and a longer one would only hash differently, never collide by construction.
    hasher.update(&(tag.key.len() as u16).to_le_bytes());
    hasher.update(&tag.key);
    hasher.update(&[tag.kind as u8]);
    hasher.update(&(tag.value.len() as u16).to_le_bytes());
    hasher.update(&tag.value);
    hasher.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_tags_sort_and_drop_exact_duplicates_only() {
        let mut tags = vec![Tag::pair("b", "1"), Tag::bare("a"), Tag::pair("a", ""), Tag::pair("b", "1"), Tag::pair("b", "0")];
        canonical_tags(&mut tags);
        assert_eq!(tags, vec![Tag::bare("a"), Tag::pair("a", ""), Tag::pair("b", "0"), Tag::pair("b", "1")]);
    }

    #[test]
    fn hash_tells_kind_and_order() {
        let one = Series { metric: Bytes::from_static(b"m"), tags: vec![Tag::bare("a")] };
        let two = Series { metric: Bytes::from_static(b"m"), tags: vec![Tag::pair("a", "")] };
        assert_ne!(one.hash(), two.hash());
        assert_eq!(one.hash(), one.clone().hash());
    }
}

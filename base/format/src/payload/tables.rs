//! Dictionaries of a payload that is being written, and the label block's bytes.

use tailors_model::{MetricKind, TagKind};

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

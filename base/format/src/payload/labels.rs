//! The label block, reading half; `tables` writes it.

use bytes::Bytes;
use tailors_model::{MetricKind, MetricMeta, Tag};

use crate::FormatError;

/// The label block: dictionaries, and series by number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels {
    /// Metric names.
    pub metrics: Vec<Bytes>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Series; the position is the series number of the runs.
    pub series: Vec<LabelSeries>,
    /// Tag numbers of all series, one after the other.
    pub tag_refs: Vec<u32>,
    /// Metadata that came without samples: metric number, metadata.
    pub metadata: Vec<(u32, MetricMeta)>,
}

/// One series of a payload. Two of them may have equal labels and different metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelSeries {
    /// Number in [`Labels::metrics`].
    pub metric: u32,
    /// First of its tag numbers in [`Labels::tag_refs`].
    pub tags_start: u32,
    /// How many of them; in canonical order.
    pub tags_len: u32,
    /// What its numbers mean.
    pub kind: MetricKind,
    /// Unit as sent; empty when not said.
    pub unit: Bytes,
    /// Seconds between points of a count or rate; 0 when not said.
    pub interval_s: u32,
}

impl Labels {
    /// Tag numbers of a series.
    pub fn refs_of(&self, series: &LabelSeries) -> &[u32] {
        // Both numbers were checked when the block was decoded.
        &self.tag_refs[series.tags_start as usize..][..series.tags_len as usize]
    }

    /// Tags of a series in canonical order.
    pub fn tags_of(&self, series: &LabelSeries) -> impl Iterator<Item = &Tag> {
        self.refs_of(series).iter().map(|tag| &self.tags[*tag as usize])
    }
}

/// Decodes the label block of a payload, or of a prefix of `census_len` bytes.
pub fn decode_labels(_payload: &[u8]) -> Result<Labels, FormatError> {
    todo!()
}

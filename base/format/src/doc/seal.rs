//! Seals: the end offset per partition up to which a window's data counts (protocol.md 2.3).

use std::collections::BTreeMap;

use super::Document;

/// Why a seal was written, and what may be said of a generation that stands on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealKind {
    /// An early look.
    Provisional,
    /// Asked for by a person before the window closed.
    Hand,
    /// Complete.
    Closed,
    /// Complete with points that came after the closed one.
    Late,
}

impl SealKind {
    /// The word used in documents and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Hand => "hand",
            Self::Closed => "closed",
            Self::Late => "late",
        }
    }

    /// Whether the window is complete at this seal.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Closed | Self::Late)
    }
}

/// Partition (five digits) -> end offset, of one stream.
pub type StreamEnds = BTreeMap<String, u64>;

/// Object `seal/v1/{T}/{k}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealDoc {
    /// Why.
    pub kind: SealKind,
    /// Window start, Unix seconds.
    pub window: i64,
    /// Number of this seal, from 1.
    pub k: u32,
    /// Stream epoch (ten digits) -> ends.
    pub ends: BTreeMap<String, StreamEnds>,
    /// Newest route version read.
    pub route_version: u32,
    /// When it was decided, Unix milliseconds; for people, no step compares it.
    pub decided_ms: i64,
    /// Writer uuid.
    pub writer: String,
}

impl SealDoc {
    /// End offset of a partition; `None` when it is absent (counts from its genesis).
    pub fn end(&self, epoch: u32, partition: u32) -> Option<u64> {
        self.ends.get(&format!("{epoch:010}"))?.get(&format!("{partition:05}")).copied()
    }

    /// Sets the end offset of a partition.
    pub fn set_end(&mut self, epoch: u32, partition: u32, end: u64) {
        self.ends.entry(format!("{epoch:010}")).or_default().insert(format!("{partition:05}"), end);
    }

    /// All (epoch, partition, end).
    pub fn all_ends(&self) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
        self.ends.iter().flat_map(|(epoch, ends)| {
            ends.iter().filter_map(move |(partition, end)| Some((epoch.parse().ok()?, partition.parse().ok()?, *end)))
        })
    }
}

impl Document for SealDoc {
    const FORMAT: &'static str = crate::document_format!("seal");
}

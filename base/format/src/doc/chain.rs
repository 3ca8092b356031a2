//! Genesis and nodes of a partition's chain, the commit of captured records; and the indexes derived from them.

use std::collections::BTreeMap;

use super::{BodyRef, Document};

/// Object `cap/v1/{epoch}/{partition}/genesis`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisDoc {
    /// First start of the chain.
    pub start: u64,
    /// Writer that put it.
    pub writer: String,
}

impl Document for GenesisDoc {
    const FORMAT: &'static str = crate::document_format!("genesis");
}

/// What a node says of its offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// They are in a raw file.
    Data,
    /// They are lost, explicitly.
    Hole,
    /// The stream ends here; next = start.
    End,
}

/// A raw file as a node names it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRef {
    /// Object key.
    pub key: String,
    /// Length in bytes.
    pub bytes: u64,
    /// CRC32C of the whole object, unseeded, eight hex digits.
    pub crc32c: String,
}

/// One extent: [start byte, end byte, payloads, points, received_at min us, received_at max us].
pub type ExtentRow = (u64, u64, u32, u64, i64, i64);

/// Object `cap/v1/{epoch}/{partition}/n/{start}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDoc {
    /// Data, hole or end.
    pub kind: NodeKind,
    /// First offset covered.
    pub start: u64,
    /// Consumer position after the last record covered.
    pub next: u64,
    /// Raw file; none for a hole or an end.
    pub raw: Option<RawRef>,
    /// Section (shard name, or `none` for bad envelopes) -> window start in seconds, ten digits -> extents.
    pub extents: BTreeMap<String, BTreeMap<String, Vec<ExtentRow>>>,
    /// Version of the route table that chose the sections.
    pub route_version: u32,
    /// Records covered.
    pub records: u64,
    /// Payloads whose envelope was good.
    pub payloads: u64,
    /// Points of those payloads.
    pub points: u64,
    /// Records whose envelope was bad; kept in section `none`.
    pub envelope_corrupt: u64,
    /// Earliest and latest point, Unix milliseconds; none without points.
    pub time_ms: Option<(i64, i64)>,
    /// Earliest and latest received_at, Unix microseconds; none without payloads.
    pub received_at_us: Option<(i64, i64)>,
    /// Writer uuid.
    pub writer: String,
    /// Attempt of that writer, so that a retried put is told from another's.
    pub attempt: u32,
}

impl NodeDoc {
    /// A node that brings no records: a hole over `start..next`, or the end at `start == next`.
    pub fn without_records(kind: NodeKind, start: u64, next: u64, writer: &str) -> Self {
        Self {
            kind,
            start,
            next,
            raw: None,
            extents: BTreeMap::new(),
            route_version: 0,
            records: 0,
            payloads: 0,
            points: 0,
            envelope_corrupt: 0,
            time_ms: None,
            received_at_us: None,
            writer: writer.to_owned(),
            attempt: 0,
        }
    }
}

impl Document for NodeDoc {
    const FORMAT: &'static str = crate::document_format!("node");
}

/// A node as an index says it: [start, next, kind, earliest received_at us or null, [[window start in Unix seconds, points]]]; windows in order.
pub type IndexRow = (u64, u64, NodeKind, Option<i64>, Vec<(i64, u64)>);

/// Object `capidx/v1/{epoch}/{partition}/{n}`, dense from 1: 1,024 nodes of a partition. Derived.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapIdxDoc {
    /// Start of the first node; the `next` of the index before it.
    pub start: u64,
    /// Next of the last node.
    pub next: u64,
    /// Greatest received_at of these nodes and those before, Unix microseconds; none without payloads.
    pub received_max_us: Option<i64>,
    /// A JSON array of [`IndexRow`], in order.
    pub body: BodyRef,
}

impl Document for CapIdxDoc {
    const FORMAT: &'static str = crate::document_format!("capidx");
}

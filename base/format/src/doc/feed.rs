//! Feed entries and their snapshots, done marks, gone marks and pins: what readers and retention follow.

use std::collections::BTreeMap;

use tailors_model::ShardId;

use super::{BodyRef, Document};

/// Object `feed/v1/{seq}`, dense from 1.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedDoc {
    /// Shard.
    pub shard: ShardId,
    /// Window start, Unix seconds.
    pub window: i64,
    /// Generation published.
    pub g: u32,
}

impl Document for FeedDoc {
    const FORMAT: &'static str = crate::document_format!("feed");
}

/// Object `snap/v1/{seq}`, every 4,096 numbers: the feed up to and with `seq`, so that a new reader need not read it entry by entry. Derived.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapDoc {
    /// Last number in it.
    pub seq: u64,
    /// Entries in the body.
    pub entries: u64,
    /// A JSON array of [`SnapEntry`], in order of seq.
    pub body: BodyRef,
}

impl Document for SnapDoc {
    const FORMAT: &'static str = crate::document_format!("snap");
}

/// An entry of a snapshot: [seq, shard, window start in Unix seconds, g]; of equal entries the first.
pub type SnapEntry = (u64, ShardId, i64, u32);

/// Object `done/v1/{T}/{k}` of a closed or late seal.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoneDoc {
    /// Window start, Unix seconds.
    pub window: i64,
    /// Seal.
    pub k: u32,
    /// Route version.
    pub route_version: u32,
    /// Shard -> generation; a shard not listed has no data.
    pub shards: BTreeMap<String, u32>,
}

impl Document for DoneDoc {
    const FORMAT: &'static str = crate::document_format!("done");
}

/// Object `gone/v1/{shard}/{T}/{g}`, put before the files go.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoneDoc {
    /// Published generation that replaces it; 0 when retention ended it.
    pub superseded_by: u32,
}

impl Document for GoneDoc {
    const FORMAT: &'static str = crate::document_format!("gone");
}

/// Object `pin/v1/{id}-{n}`: a long reader's hold on the files of a feed number.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinDoc {
    /// Feed number that is read.
    pub feed: u64,
    /// Seconds after the store's own time of this object when it holds nothing any more.
    pub expires_s: u64,
}

impl Document for PinDoc {
    const FORMAT: &'static str = crate::document_format!("pin");
}

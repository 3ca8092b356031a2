//! A stream's identity: a topic that is deleted and made anew under the same name is another stream.

use std::collections::BTreeMap;

use super::Document;

/// Object `stream/v1/{epoch}`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamDoc {
    /// Kafka cluster id, or the UUID minted by the embedded log.
    pub cluster: String,
    /// Topic UUID.
    pub topic_uuid: String,
    /// Topic name, for people.
    pub name: String,
    /// When the entry was written, Unix milliseconds; stream 1's is the creation of the store.
    pub created_ms: i64,
}

impl Document for StreamDoc {
    const FORMAT: &'static str = crate::document_format!("stream");
}

/// Object `stream-end/v1/{epoch}`: put after the end nodes that it lists stand, so that nobody can commit behind them.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamEndDoc {
    /// Partition (five digits) -> start of its end node.
    pub ends: BTreeMap<String, u64>,
    /// Writer that put it.
    pub writer: String,
}

impl Document for StreamEndDoc {
    const FORMAT: &'static str = crate::document_format!("stream-end");
}

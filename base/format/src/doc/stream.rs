//! A stream's identity: a topic that is deleted and made anew under the same name is another stream.

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
    const FORMAT: &'static str = "stream/0";
}

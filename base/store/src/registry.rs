//! Streams and their epochs: a log whose identity was never seen gets the next number (protocol.md 2.1). Entries are dense and never deleted.

use std::collections::BTreeMap;

use tailors_format::doc::{StreamDoc, StreamEndDoc};
use tailors_format::key;

use crate::chain;
use crate::log::StreamIdentity;
use crate::objects::{Objects, PutDoc, StoreError};

/// The epoch of a log: the entry with its identity, or a new one. `created_ms` (Unix milliseconds) is kept only in a new entry.
pub async fn register_stream(objects: &Objects, identity: &StreamIdentity, created_ms: i64) -> Result<u32, StoreError> {
    let mine =
        StreamDoc { cluster: identity.cluster.clone(), topic_uuid: identity.topic_uuid.clone(), name: identity.name.clone(), created_ms };
    let same = |doc: &StreamDoc| (&doc.cluster, &doc.topic_uuid, &doc.name) == (&mine.cluster, &mine.topic_uuid, &mine.name);
    for epoch in 1..u32::MAX {
        let key = key::stream(epoch);
        let found = match objects.get_doc::<StreamDoc>(&key).await? {
            Some(found) => found,
            None => match objects.put_doc(&key, &mine).await? {
                PutDoc::Created => return Ok(epoch),
                PutDoc::Lost(found) => found,
            },
        };
        if same(&found) {
            return Ok(epoch);
        }
    }
    Err(StoreError::Fatal("more streams than epochs".to_owned()))
}

/// All streams by epoch.
pub async fn streams(objects: &Objects) -> Result<Vec<(u32, StreamDoc)>, StoreError> {
    let mut streams = Vec::new();
    for epoch in 1..u32::MAX {
        match objects.get_doc(&key::stream(epoch)).await? {
            Some(doc) => streams.push((epoch, doc)),
            None => break,
        }
    }
    Ok(streams)
}

/// When the store was created (that of stream 1), Unix milliseconds; `None` while it has no stream.
pub async fn store_created_ms(objects: &Objects) -> Result<Option<i64>, StoreError> {
    Ok(objects.get_doc::<StreamDoc>(&key::stream(1)).await?.map(|doc| doc.created_ms))
}

/// Whether a stream was ended.
pub async fn is_ended(objects: &Objects, epoch: u32) -> Result<bool, StoreError> {
    Ok(objects.get_doc::<StreamEndDoc>(&key::stream_end(epoch)).await?.is_some())
}

/// Ends a stream: an end node at the head of every partition, then the list of them. Idempotent; what its log held beyond the heads is lost.
pub async fn end_stream(objects: &Objects, epoch: u32, writer: &str) -> Result<StreamEndDoc, StoreError> {
    let mut doc = StreamEndDoc { ends: BTreeMap::new(), writer: writer.to_owned() };
    let mut partition = 0;
    // Partitions are dense: the first one without a genesis ends the row.
    while let Some(end) = chain::end(objects, epoch, partition, writer).await? {
        doc.ends.insert(format!("{partition:05}"), end);
        partition += 1;
    }
    match objects.put_doc(&key::stream_end(epoch), &doc).await? {
        PutDoc::Created => Ok(doc),
        PutDoc::Lost(other) => Ok(other),
    }
}

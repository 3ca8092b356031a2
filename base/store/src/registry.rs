//! Streams and their epochs: a log whose identity was never seen gets the next number (protocol.md 2.1). Entries are dense and never deleted.

use tailors_format::doc::StreamDoc;
use tailors_format::key;

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

//! Indexes of the chain: every 1,024 nodes of a partition one object that says which windows they have points of (protocol.md 2.1, `capidx`).
//!
//! Derived and dense from 1: a planner that starts reads these and the newest nodes instead of all of them. One that can't be read costs only time.

use tailors_format::doc::{BodyRef, CapIdxDoc, IndexRow};
use tailors_format::{FormatError, key};

use crate::bodies;
use crate::objects::{Objects, StoreError};

/// Nodes from one index to the next.
pub const INDEX_EVERY: usize = 1_024;

/// Index n of a partition and its rows, if it stands and begins at `head`. A damaged one is said and passed over: the nodes themselves still stand.
pub(super) async fn read(
    objects: &Objects,
    (epoch, partition): (u32, u32),
    n: u32,
    head: u64,
) -> Result<Option<(CapIdxDoc, Vec<IndexRow>)>, StoreError> {
    match read_checked(objects, &key::capidx(epoch, partition, n), head).await {
        Err(error @ (StoreError::Data { .. } | StoreError::NotFound(_))) => {
            tracing::error!(%error, epoch, partition, n, "an index of the chain can't be read; its nodes are read one by one");
            Ok(None)
        }
        read => read,
    }
}

async fn read_checked(objects: &Objects, at: &str, head: u64) -> Result<Option<(CapIdxDoc, Vec<IndexRow>)>, StoreError> {
    let Some(doc) = objects.get_doc::<CapIdxDoc>(at).await? else { return Ok(None) };
    let rows: Vec<IndexRow> = bodies::get(objects, &doc.body).await?;
    let mut next = head;
    let linked = rows.iter().all(|(start, end, ..)| std::mem::replace(&mut next, *end) == *start);
    if rows.len() != INDEX_EVERY || doc.start != head || !linked || doc.next != next {
        return Err(StoreError::data(
            at,
            FormatError::invalid("index of the chain", "its rows are not the nodes behind the index before it"),
        ));
    }
    Ok(Some((doc, rows)))
}

/// Puts index n. Nodes never change, so whoever was first said the same.
pub(super) async fn put(
    objects: &Objects,
    (epoch, partition): (u32, u32),
    n: u32,
    rows: &[IndexRow],
    received_max_us: Option<i64>,
) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let body: BodyRef = bodies::put(objects, &rows).await?;
    let doc = CapIdxDoc { start: first.0, next: last.1, received_max_us, body };
    objects.put_doc(&key::capidx(epoch, partition, n), &doc).await.map(|_| ())
}

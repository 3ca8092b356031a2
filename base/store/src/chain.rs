//! The chain of a partition: genesis and nodes, committed by put-if-absent at the head (protocol.md 2.2; C0, C7).
//!
//! Invariant P2: the key of the next commit is the `next` of a node that was read, so writers compete for one key and no offset is covered twice or
//! skipped. The log's committed offset is a hint and never believed.

mod index;
mod view;

pub use index::INDEX_EVERY;
pub use view::ChainView;

use tailors_format::doc::{GenesisDoc, NodeDoc, NodeKind};
use tailors_format::{FormatError, key};

use crate::objects::{Objects, PutDoc, StoreError};

/// Where a chain ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainHead {
    /// The start of the next node: the position from which the log is to be read.
    pub next: u64,
    /// Whether an end node stands at `next`: nobody can commit any more.
    pub ended: bool,
    /// The nodes that were read on the way, in order.
    pub walked: Vec<NodeDoc>,
}

/// Outcome of a commit (C7).
// Short-lived, one per flush: a box would only make every match longer.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Commit {
    /// My node stands.
    Mine,
    /// Another node stands there: drop the buffer, go on at its `next`, count a lost race.
    Lost(NodeDoc),
}

/// Fixes the first start of a chain, or reads the one fixed before; gives that start.
pub async fn ensure_genesis(objects: &Objects, epoch: u32, partition: u32, start: u64, writer: &str) -> Result<u64, StoreError> {
    if let Some(start) = genesis(objects, epoch, partition).await? {
        return Ok(start);
    }
    let doc = GenesisDoc { start, writer: writer.to_owned() };
    match objects.put_doc(&key::genesis(epoch, partition), &doc).await? {
        PutDoc::Created => Ok(start),
        PutDoc::Lost(other) => Ok(other.start),
    }
}

/// First start of a chain; `None` when it has none yet.
pub async fn genesis(objects: &Objects, epoch: u32, partition: u32) -> Result<Option<u64>, StoreError> {
    Ok(objects.get_doc::<GenesisDoc>(&key::genesis(epoch, partition)).await?.map(|genesis| genesis.start))
}

/// Finds the head (C0): LISTs back from the hint until a node or genesis is found, then GETs `next` until it is absent.
/// [`StoreError::NotFound`] without a genesis.
pub async fn head(objects: &Objects, epoch: u32, partition: u32, hint: u64) -> Result<ChainHead, StoreError> {
    let genesis = genesis(objects, epoch, partition).await?.ok_or_else(|| StoreError::NotFound(key::genesis(epoch, partition)))?;
    let mut start = genesis;
    let mut back = 1u64;
    // A hint far beyond the head ends up at the genesis too, with a single LIST instead of a walk over all nodes.
    let mut after = hint;
    while after > genesis {
        after = hint.saturating_sub(back).max(genesis);
        back = back.saturating_mul(2);
        let listed = objects.list_after(&key::nodes(epoch, partition), &key::node(epoch, partition, after)).await?;
        // Any node is on the chain; the last one listed leaves the fewest to read.
        if let Some(found) = listed.last().and_then(|key| key::last_number(key)) {
            start = found;
            break;
        }
    }
    let mut walked = Vec::new();
    loop {
        let Some(node) = get(objects, epoch, partition, start).await? else {
            return Ok(ChainHead { next: start, ended: false, walked });
        };
        let ended = node.kind == NodeKind::End;
        start = node.next;
        walked.push(node);
        if ended {
            return Ok(ChainHead { next: start, ended, walked });
        }
    }
}

/// The node that starts at an offset; `None` when none does.
pub async fn get(objects: &Objects, epoch: u32, partition: u32, start: u64) -> Result<Option<NodeDoc>, StoreError> {
    let key = key::node(epoch, partition, start);
    let node: Option<NodeDoc> = objects.get_doc(&key).await?;
    if let Some(node) = &node {
        check(node, start).map_err(|error| StoreError::data(&key, error))?;
    }
    Ok(node)
}

/// Commits a node at its start (C7). Every answer but `Mine` and `Lost` leaves the outcome unknown: keep the data object and start from C0.
pub async fn commit(objects: &Objects, epoch: u32, partition: u32, node: &NodeDoc) -> Result<Commit, StoreError> {
    let key = key::node(epoch, partition, node.start);
    check(node, node.start).map_err(|error| StoreError::Fatal(format!("{key}: {error}")))?;
    match objects.put_doc(&key, node).await? {
        PutDoc::Created => Ok(Commit::Mine),
        // The whole document is compared, writer and attempt with it: an equal one is a retried put of mine.
        PutDoc::Lost(other) if other == *node => Ok(Commit::Mine),
        PutDoc::Lost(other) => {
            check(&other, node.start).map_err(|error| StoreError::data(&key, error))?;
            Ok(Commit::Lost(other))
        }
    }
}

/// Puts the end node of a partition at its head, so that nobody can commit behind it; gives its start. `None` for a partition without a genesis.
pub async fn end(objects: &Objects, epoch: u32, partition: u32, writer: &str) -> Result<Option<u64>, StoreError> {
    if genesis(objects, epoch, partition).await?.is_none() {
        return Ok(None);
    }
    let listed = objects.list(&key::nodes(epoch, partition)).await?;
    let mut hint = listed.last().and_then(|key| key::last_number(key)).map_or(0, |newest| newest.saturating_add(1));
    loop {
        let head = head(objects, epoch, partition, hint).await?;
        if head.ended {
            return Ok(Some(head.next));
        }
        let node = NodeDoc::without_records(NodeKind::End, head.next, head.next, writer);
        match commit(objects, epoch, partition, &node).await? {
            Commit::Mine => return Ok(Some(node.start)),
            // A zombie was first: its records are captured, the end comes after them.
            Commit::Lost(other) => hint = other.next,
        }
    }
}

/// What every node must say of its offsets.
fn check(node: &NodeDoc, start: u64) -> Result<(), FormatError> {
    let moves = if node.kind == NodeKind::End { node.next == node.start } else { node.next > node.start };
    if node.start != start || !moves {
        return Err(FormatError::invalid("node", format!("covers {}..{} at start {start}", node.start, node.next)));
    }
    if (node.kind == NodeKind::Data) != node.raw.is_some() {
        return Err(FormatError::invalid("node", "data nodes name a raw file, others none"));
    }
    Ok(())
}

//! All nodes of all partitions, followed by whoever plans: each is read once, then only the heads are looked at.
//!
//! Of every node the view keeps where it stands and which windows it has points of; the node itself only while one of those windows is worked on
//! ([`ChainView::forget`], [`ChainView::recall`]), so that months of flushes stay a few MB. A new view begins at the indexes (`super::index`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tailors_format::doc::{IndexRow, NodeDoc, NodeKind, NodeRef, SealDoc};
use tailors_format::key;
use tailors_model::Window;

use super::index::{self, INDEX_EVERY};
use super::{genesis, get};
use crate::objects::{Objects, StoreError};

/// Section of records whose envelope is bad: it belongs to no window.
const SECTION_NONE: &str = "none";
/// No intake admits points that lie further ahead, seconds.
const AHEAD_S_MAX: i64 = 86_400;
/// Nodes fetched at once while a view catches up.
const FETCH_AHEAD: usize = 32;

/// A partition's chain as far as it was read.
#[derive(Clone, Default, Debug)]
struct Partition {
    head: u64,
    ended: bool,
    /// Hole nodes by their start.
    holes: BTreeMap<u64, Hole>,
    /// Greatest received_at of all nodes, Unix microseconds.
    received_max_us: Option<i64>,
    /// Indexes that stand.
    indexed: u32,
    /// Nodes behind them, each with the greatest received_at up to it.
    pending: Vec<(IndexRow, Option<i64>)>,
}

/// Offsets that are lost.
#[derive(Clone, Copy, Debug)]
struct Hole {
    next: u64,
    /// When everything in it had been received, Unix microseconds: by then the next record was. `None` while there is none.
    received_before_us: Option<i64>,
}

/// The nodes with extents of one window.
#[derive(Clone, Default, Debug)]
struct WindowNodes {
    refs: BTreeSet<NodeRef>,
    /// Those of them that are kept.
    docs: BTreeMap<NodeRef, Arc<NodeDoc>>,
    points: u64,
}

/// An incremental copy of the chains.
#[derive(Clone, Default, Debug)]
pub struct ChainView {
    partitions: BTreeMap<(u32, u32), Partition>,
    windows: BTreeMap<Window, WindowNodes>,
    /// Epochs whose partitions were counted: an earlier log may have had more of them than the one in use.
    counted: BTreeSet<u32>,
}

impl ChainView {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on in partitions `0..partitions` of the streams (epochs); a partition without a genesis is left out. After an error it goes on where
    /// it stopped.
    pub async fn refresh(&mut self, objects: &Objects, streams: &[u32], partitions: u32) -> Result<(), StoreError> {
        for epoch in streams {
            for partition in 0..partitions {
                self.refresh_partition(objects, *epoch, partition).await?;
            }
            self.count_partitions(objects, *epoch, partitions).await?;
            let more: Vec<u32> =
                self.partitions.range((*epoch, partitions)..=(*epoch, u32::MAX)).map(|((_, partition), _)| *partition).collect();
            for partition in more {
                self.refresh_partition(objects, *epoch, partition).await?;
            }
        }
        Ok(())
    }

    /// Finds the partitions of a stream beyond `partitions`, once: numbers are dense.
    async fn count_partitions(&mut self, objects: &Objects, epoch: u32, partitions: u32) -> Result<(), StoreError> {
        if self.counted.contains(&epoch) {
            return Ok(());
        }
        let mut partition = partitions;
        while genesis(objects, epoch, partition).await?.is_some() {
            self.refresh_partition(objects, epoch, partition).await?;
            partition += 1;
        }
        self.counted.insert(epoch);
        Ok(())
    }

    async fn refresh_partition(&mut self, objects: &Objects, epoch: u32, partition: u32) -> Result<(), StoreError> {
        if !self.partitions.contains_key(&(epoch, partition)) {
            let Some(head) = genesis(objects, epoch, partition).await? else { return Ok(()) };
            self.start_at_indexes(objects, (epoch, partition), head).await?;
            self.catch_up(objects, epoch, partition).await?;
        }
        while let Some(start) = self.open_head(epoch, partition) {
            let Some(node) = get(objects, epoch, partition, start).await? else { return Ok(()) };
            self.take(epoch, partition, node);
        }
        Ok(())
    }

    /// Where the next node would start; `None` behind an end node.
    fn open_head(&self, epoch: u32, partition: u32) -> Option<u64> {
        self.partitions.get(&(epoch, partition)).filter(|chain| !chain.ended).map(|chain| chain.head)
    }

    /// Takes what the indexes of a partition say.
    async fn start_at_indexes(&mut self, objects: &Objects, (epoch, partition): (u32, u32), genesis: u64) -> Result<(), StoreError> {
        let mut chain = Partition { head: genesis, ..Partition::default() };
        let mut rows = Vec::new();
        while let Some((doc, more)) = index::read(objects, (epoch, partition), chain.indexed + 1, chain.head).await? {
            chain.indexed += 1;
            chain.head = doc.next;
            chain.received_max_us = chain.received_max_us.max(doc.received_max_us);
            rows.extend(more);
        }
        self.partitions.insert((epoch, partition), chain);
        rows.iter().for_each(|row| self.take_row(epoch, partition, row));
        Ok(())
    }

    /// Reads the nodes behind the indexes, many at once: the list only says what to fetch, the links decide.
    async fn catch_up(&mut self, objects: &Objects, epoch: u32, partition: u32) -> Result<(), StoreError> {
        let Some(head) = self.open_head(epoch, partition) else { return Ok(()) };
        let listed = match head.checked_sub(1) {
            Some(before) => objects.list_after(&key::nodes(epoch, partition), &key::node(epoch, partition, before)).await?,
            None => objects.list(&key::nodes(epoch, partition)).await?,
        };
        let starts: Vec<u64> = listed.iter().filter_map(|key| key::last_number(key)).collect();
        for starts in starts.chunks(INDEX_EVERY) {
            let mut ahead = BTreeMap::new();
            let wanted: Vec<NodeRef> = starts.iter().map(|start| (epoch, partition, *start)).collect();
            for ((_, _, start), node) in fetch(objects, wanted).await? {
                ahead.extend(node.map(|node| (start, node)));
            }
            while let Some(node) = self.open_head(epoch, partition).and_then(|start| ahead.remove(&start)) {
                self.take(epoch, partition, node);
            }
        }
        Ok(())
    }

    fn take(&mut self, epoch: u32, partition: u32, node: NodeDoc) {
        let mut points: BTreeMap<Window, u64> = BTreeMap::new();
        for (section, windows) in node.extents.iter().filter(|(section, _)| *section != SECTION_NONE) {
            for (window, extents) in windows {
                let Some(window) = window.parse().ok().and_then(Window::starting_at_s) else {
                    // The planner compares the points it finds with the node's total, so nothing vanishes silently.
                    tracing::error!(epoch, partition, start = node.start, section, "a node names a window that is none");
                    continue;
                };
                *points.entry(window).or_default() += extents.iter().map(|extent| extent.3).sum::<u64>();
            }
        }
        let windows = points.iter().map(|(window, points)| (window.start_s(), *points)).collect();
        let row: IndexRow = (node.start, node.next, node.kind, node.received_at_us.map(|(first, _)| first), windows);
        self.take_row(epoch, partition, &row);
        let chain = self.partitions.entry((epoch, partition)).or_default();
        chain.received_max_us = chain.received_max_us.max(node.received_at_us.map(|(_, max)| max));
        chain.pending.push((row, chain.received_max_us));
        let (at, node) = ((epoch, partition, node.start), Arc::new(node));
        for window in points.into_keys() {
            self.windows.entry(window).or_default().docs.insert(at, Arc::clone(&node));
        }
    }

    fn take_row(&mut self, epoch: u32, partition: u32, (start, next, kind, received_us, windows): &IndexRow) {
        for (window_s, points) in windows {
            let Some(window) = Window::starting_at_s(*window_s) else { continue };
            let nodes = self.windows.entry(window).or_default();
            nodes.refs.insert((epoch, partition, *start));
            nodes.points += points;
        }
        let chain = self.partitions.entry((epoch, partition)).or_default();
        chain.head = *next;
        chain.ended = *kind == NodeKind::End;
        if let Some(received_us) = received_us {
            // Holes are few, and those before the last record know their time.
            for (_, hole) in chain.holes.iter_mut().rev().take_while(|(_, hole)| hole.received_before_us.is_none()) {
                hole.received_before_us = Some(*received_us);
            }
        }
        if *kind == NodeKind::Hole {
            chain.holes.insert(*start, Hole { next: *next, received_before_us: None });
        }
    }

    /// Puts the indexes that are due; control's task.
    pub async fn put_indexes(&mut self, objects: &Objects) -> Result<(), StoreError> {
        for (place, chain) in &mut self.partitions {
            while chain.pending.len() >= INDEX_EVERY {
                let received_max_us = chain.pending[INDEX_EVERY - 1].1;
                let rows: Vec<IndexRow> = chain.pending[..INDEX_EVERY].iter().map(|(row, _)| row.clone()).collect();
                index::put(objects, *place, chain.indexed + 1, &rows, received_max_us).await?;
                chain.indexed += 1;
                chain.pending.drain(..INDEX_EVERY);
            }
        }
        Ok(())
    }

    /// Lets go of the nodes of a window that nothing is to be planned for.
    pub fn forget(&mut self, window: Window) {
        if let Some(nodes) = self.windows.get_mut(&window) {
            nodes.docs.clear();
        }
    }

    /// Reads the forgotten nodes of a window again; with a seal only those that start at or beyond its ends.
    pub async fn recall(&mut self, objects: &Objects, window: Window, beyond: Option<&SealDoc>) -> Result<(), StoreError> {
        let Some(nodes) = self.windows.get_mut(&window) else { return Ok(()) };
        let missing = nodes.refs.iter().filter(|at| !nodes.docs.contains_key(at));
        let missing: Vec<NodeRef> = missing.filter(|at| beyond.is_none_or(|seal| !is_below(seal, at))).copied().collect();
        for (at, node) in fetch(objects, missing).await? {
            // Nodes are never deleted.
            let node = node.ok_or_else(|| StoreError::NotFound(key::node(at.0, at.1, at.2)))?;
            nodes.docs.insert(at, Arc::new(node));
        }
        Ok(())
    }

    /// Whether no node of a window is forgotten.
    pub fn is_whole(&self, window: Window) -> bool {
        self.windows.get(&window).is_none_or(|nodes| nodes.docs.len() == nodes.refs.len())
    }

    /// Head of a partition's chain; `None` when it has no genesis.
    pub fn head(&self, epoch: u32, partition: u32) -> Option<u64> {
        self.partitions.get(&(epoch, partition)).map(|chain| chain.head)
    }

    /// Whether an end node stands at the head.
    pub fn ended(&self, epoch: u32, partition: u32) -> bool {
        self.partitions.get(&(epoch, partition)).is_some_and(|chain| chain.ended)
    }

    /// When the last record that a partition's chain holds was received, Unix milliseconds.
    pub fn last_received_ms(&self, epoch: u32, partition: u32) -> Option<i64> {
        Some(self.partitions.get(&(epoch, partition))?.received_max_us?.div_euclid(1_000))
    }

    /// Heads of all partitions: (epoch, partition, head).
    pub fn heads(&self) -> impl Iterator<Item = NodeRef> + '_ {
        self.partitions.iter().map(|((epoch, partition), chain)| (*epoch, *partition, chain.head))
    }

    /// Whether the chains have come as far as a seal asks; an ended partition counts as come.
    pub fn reached(&self, seal: &SealDoc) -> bool {
        seal.all_ends().all(|(epoch, partition, end)| {
            // A partition without a genesis has no records: it is reached only when the seal asks for none.
            self.partitions.get(&(epoch, partition)).map_or(end == 0, |chain| chain.ended || chain.head >= end)
        })
    }

    /// The nodes with extents of a window that are not forgotten, in order; with a seal only those that start below its ends (a partition that it
    /// doesn't name has none).
    pub fn nodes_of_window(&self, window: Window, below: Option<&SealDoc>) -> Vec<(NodeRef, &NodeDoc)> {
        let nodes = self.windows.get(&window).into_iter().flat_map(|nodes| &nodes.docs);
        nodes.filter(|(at, _)| below.is_none_or(|seal| is_below(seal, at))).map(|(at, node)| (*at, node.as_ref())).collect()
    }

    /// Offsets below a seal's ends that are lost and may have held points of its window: hole nodes, and what lay between the end of a stream
    /// and the seal's end in it (epoch, partition, start, next). A hole that ended long before the window began held none.
    pub fn holes(&self, below: &SealDoc) -> Vec<(u32, u32, u64, u64)> {
        let first_us = below.window.saturating_sub(AHEAD_S_MAX).saturating_mul(1_000_000);
        let mut holes = Vec::new();
        for (epoch, partition, end) in below.all_ends() {
            let Some(chain) = self.partitions.get(&(epoch, partition)) else { continue };
            let lost = chain.holes.range(..end).filter(|(_, hole)| hole.received_before_us.is_none_or(|before_us| before_us >= first_us));
            holes.extend(lost.map(|(start, hole)| (epoch, partition, *start, hole.next)));
            if chain.ended && chain.head < end {
                holes.push((epoch, partition, chain.head, end));
            }
        }
        holes
    }

    /// How many nodes have extents of a window: grows with every one.
    pub fn nodes_len(&self, window: Window) -> usize {
        self.windows.get(&window).map_or(0, |nodes| nodes.refs.len())
    }

    /// The windows with points, in order.
    pub fn windows(&self) -> Vec<Window> {
        self.windows.iter().filter(|(_, nodes)| nodes.points > 0).map(|(window, _)| *window).collect()
    }

    /// Points of a window in all nodes read.
    pub fn points(&self, window: Window) -> u64 {
        self.windows.get(&window).map_or(0, |nodes| nodes.points)
    }
}

fn is_below(seal: &SealDoc, (epoch, partition, start): &NodeRef) -> bool {
    seal.end(*epoch, *partition).is_some_and(|end| *start < end)
}

/// Reads nodes, many at once.
async fn fetch(objects: &Objects, wanted: Vec<NodeRef>) -> Result<Vec<(NodeRef, Option<NodeDoc>)>, StoreError> {
    let reads = stream::iter(wanted).map(|at| async move { Ok((at, get(objects, at.0, at.1, at.2).await?)) });
    reads.buffered(FETCH_AHEAD).try_collect().await
}

//! All nodes of all partitions, kept by whoever plans: each is read once, then only the heads are looked at.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use tailors_format::doc::{NodeDoc, NodeKind, NodeRef, SealDoc};
use tailors_format::key;
use tailors_model::Window;

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
    nodes: BTreeMap<u64, NodeDoc>,
    /// Greatest received_at of all nodes, Unix microseconds.
    received_max_us: Option<i64>,
}

impl Partition {
    /// When everything below an offset had been received, Unix microseconds: by then the next record was. `None` while there is none.
    fn received_before_us(&self, offset: u64) -> Option<i64> {
        self.nodes.range(offset..).find_map(|(_, node)| node.received_at_us).map(|(first_us, _)| first_us)
    }
}

/// An incremental copy of the chains.
#[derive(Clone, Default, Debug)]
pub struct ChainView {
    partitions: BTreeMap<(u32, u32), Partition>,
    by_window: BTreeMap<Window, BTreeSet<NodeRef>>,
    points: BTreeMap<Window, u64>,
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
        let mut ahead = BTreeMap::new();
        let first_look = !self.partitions.contains_key(&(epoch, partition));
        if first_look {
            let Some(head) = genesis(objects, epoch, partition).await? else { return Ok(()) };
            // The list only says what to fetch at once, the links decide.
            let starts: Vec<u64> =
                objects.list(&key::nodes(epoch, partition)).await?.iter().filter_map(|key| key::last_number(key)).collect();
            let fetches = stream::iter(starts).map(|start| async move { Ok((start, get(objects, epoch, partition, start).await?)) });
            let fetched: Vec<(u64, Option<NodeDoc>)> = fetches.buffered(FETCH_AHEAD).try_collect().await?;
            ahead.extend(fetched.into_iter().filter_map(|(start, node)| Some((start, node?))));
            self.partitions.insert((epoch, partition), Partition { head, ..Partition::default() });
        }
        loop {
            let Some(chain) = self.partitions.get(&(epoch, partition)).filter(|chain| !chain.ended) else { return Ok(()) };
            let start = chain.head;
            let node = match ahead.remove(&start) {
                Some(node) => node,
                None => match get(objects, epoch, partition, start).await? {
                    Some(node) => node,
                    None => return Ok(()),
                },
            };
            self.take(epoch, partition, node);
        }
    }

    fn take(&mut self, epoch: u32, partition: u32, node: NodeDoc) {
        for (section, windows) in node.extents.iter().filter(|(section, _)| *section != SECTION_NONE) {
            for (window, extents) in windows {
                let Some(window) = window.parse().ok().and_then(Window::starting_at_s) else {
                    // The planner compares the points it finds with the node's total, so nothing vanishes silently.
                    tracing::error!(epoch, partition, start = node.start, section, "a node names a window that is none");
                    continue;
                };
                self.by_window.entry(window).or_default().insert((epoch, partition, node.start));
                *self.points.entry(window).or_default() += extents.iter().map(|extent| extent.3).sum::<u64>();
            }
        }
        let chain = self.partitions.entry((epoch, partition)).or_default();
        chain.head = node.next;
        chain.ended = node.kind == NodeKind::End;
        chain.received_max_us = chain.received_max_us.max(node.received_at_us.map(|(_, max)| max));
        chain.nodes.insert(node.start, node);
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

    /// The nodes with extents of a window, in order; with a seal only those that start below its ends (a partition that it doesn't name has none).
    pub fn nodes_of_window(&self, window: Window, below: Option<&SealDoc>) -> Vec<(NodeRef, &NodeDoc)> {
        let nodes = self.by_window.get(&window).into_iter().flatten();
        nodes
            .filter(|(epoch, partition, start)| below.is_none_or(|seal| seal.end(*epoch, *partition).is_some_and(|end| *start < end)))
            .filter_map(|node| Some((*node, self.partitions.get(&(node.0, node.1))?.nodes.get(&node.2)?)))
            .collect()
    }

    /// Offsets below a seal's ends that are lost and may have held points of its window: hole nodes, and what lay between the end of a stream
    /// and the seal's end in it (epoch, partition, start, next). A hole that ended long before the window began held none.
    pub fn holes(&self, below: &SealDoc) -> Vec<(u32, u32, u64, u64)> {
        let first_us = below.window.saturating_sub(AHEAD_S_MAX).saturating_mul(1_000_000);
        let mut holes = Vec::new();
        for (epoch, partition, end) in below.all_ends() {
            let Some(chain) = self.partitions.get(&(epoch, partition)) else { continue };
            let lost = chain.nodes.range(..end).filter(|(_, node)| node.kind == NodeKind::Hole);
            let lost = lost.filter(|(_, node)| chain.received_before_us(node.next).is_none_or(|before_us| before_us >= first_us));
            holes.extend(lost.map(|(start, node)| (epoch, partition, *start, node.next)));
            if chain.ended && chain.head < end {
                holes.push((epoch, partition, chain.head, end));
            }
        }
        holes
    }

    /// How many nodes have extents of a window: grows with every one.
    pub fn nodes_len(&self, window: Window) -> usize {
        self.by_window.get(&window).map_or(0, BTreeSet::len)
    }

    /// The windows with points, in order.
    pub fn windows(&self) -> Vec<Window> {
        self.points.iter().filter(|(_, points)| **points > 0).map(|(window, _)| *window).collect()
    }

    /// Points of a window in all nodes read.
    pub fn points(&self, window: Window) -> u64 {
        self.points.get(&window).copied().unwrap_or(0)
    }
}
